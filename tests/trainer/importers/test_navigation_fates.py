"""Every shared file of a navigator is read, or refused with a reason that names the line or element.

The table stands in docs/import-data.md too.
"""

import numpy as np
import pytest

from rt_engine.errors import FileFormatError
from trainer.importers.pose_files import read_poses

SESSION = "localite/Session_20120925103137328"
REGISTRATIONS = f"{SESSION}/Registrations/LocatorRegistrations"

# Poses, of them tracked; the space's beginning.
READ = {
    "brainsight/dcmimage_brainsightcoord.txt": (18, 18, "Brainsight, LPS"),
    "brainsight/dcmimage_worldcoord.txt": (18, 18, "World (DICOM"),
    "brainsight/niiImage_brainsightcoord.txt": (101, 101, "Brainsight, LPS"),
    "brainsight/niiImage_niftialigned_q_coord_v14.txt": (3, 3, "NIfTI:Q:Aligned, RAS"),
    "brainsight/niiImage_niftialignedcoord.txt": (101, 101, "NIfTI:Aligned, RAS"),
    "brainsight/niiImage_niftialignedcoord_no_samples.txt": (7, 7, "NIfTI:Aligned, RAS"),
    "brainsight/niiImage_niftialignedcoord_no_targets.txt": (101, 101, "NIfTI:Aligned, RAS"),
    "brainsight/niiImage_nifticoord.txt": (101, 101, "NIfTI:Scanner, RAS"),
    "brainsight/niiImage_nifticoord_gridfolder.txt": (13, 13, "NIfTI:Scanner, RAS"),
    "brainsight/niiImage_nifticoord_largefile.txt": (1389, 1389, "NIfTI:Scanner, RAS"),
    "brainsight/niiImage_niifticoord_mixedtargets.txt": (16, 16, "NIfTI:Scanner, RAS"),
    f"{SESSION}/InstrumentMarkers/LPS_InstrumentMarker20120925123537421.xml": (4, 4, "Localite, brought from LPS"),
    f"{SESSION}/InstrumentMarkers/LPS_InstrumentMarker20120925124022687.xml": (4, 4, "Localite, brought from LPS"),
    f"{SESSION}/InstrumentMarkers/LPS_InstrumentMarker20120925130011296.xml": (4, 4, "Localite, brought from LPS"),
    f"{SESSION}/InstrumentMarkers/RAS_InstrumentMarker20170316160859032.xml": (6, 6, "Localite, RAS"),
    f"{SESSION}/InstrumentMarkers/RAS_InstrumentMarker20170403154022328.xml": (6, 6, "Localite, RAS"),
    f"{SESSION}/TMSTrigger/TriggerData20210409170557579.xml": (1052, 1052, "Localite, RAS"),
    f"{SESSION}/TMSTrigger/TriggerData20210409170817799.xml": (8, 8, "Localite, RAS"),
    f"{SESSION}/TMSTrigger/TriggerMarkers_Coil0_20210409170557579.xml": (1052, 0, "Localite, RAS"),
    f"{SESSION}/TMSTrigger/TriggerMarkers_Coil0_20210409170817799.xml": (8, 0, "Localite, RAS"),
    f"{SESSION}/TMSTrigger/TriggerMarkers_Coil1_20210409170557579.xml": (1052, 1052, "Localite, RAS"),
    f"{SESSION}/TMSTrigger/TriggerMarkers_Coil1_20210409170817799.xml": (8, 8, "Localite, RAS"),
    f"{SESSION}/TMSTrigger/no_pos_data_TriggerMarkers_Coil0_20200220155529299.xml": (960, 1, "Localite, RAS"),
    "ant/ioJson3DMarker_example_SimNIBS.mrk": (7, 7, "visor2, RAS"),
}

# What the reason names.
REFUSED = {
    "brainsight/dcmimage_niftialignedcoord.txt": "line 30: the left ear is right of the right one",
    "brainsight/niiImage_niftialignedcoord_empty.txt": "last table begins in line 7",
    **{
        f"{SESSION}/EntryTarget/EntryTarget20120925{number}.xml": "line 2: the element EntryTargetList"
        for number in ("115848265", "115855953", "115920968", "115930359")
    },
    **{
        f"{REGISTRATIONS}/BaseMarker20120925{number}.xml": "line 2: the element BaseMarkerList"
        for number in (
            "105020546", "105025765", "105215484", "105303984", "105318843", "105342281", "105342359",
        )
    },
    **{
        f"{REGISTRATIONS}/MixMarker20120925{number}.xml": "line 2: the element MixMarkerList"
        for number in (
            "105020546", "105025765", "105215484", "105342281", "105451390", "105502000", "105514406",
        )
    },
    f"{REGISTRATIONS}/Registration20120925110424375.xml": "line 1: the element LocReg",
    f"{REGISTRATIONS}/Selection20120925110424375.xml": "line 2: the element SelectionList",
    f"{REGISTRATIONS}/Transformation20120925110424375.xml": "the element Transformation",
    f"{REGISTRATIONS}/TransformationRMS20120925110424375.txt": "line 1: 'MRI Volume'",
    f"{SESSION}/Session.xml": "line 1: the element LocSessionState",
    **{
        f"{SESSION}/SessionProgress/Session20120925{number}.xml": "line 1: the element LocSessionState"
        for number in ("123537421", "124022687", "130011296")
    },
    **{
        f"{SESSION}/TMSTrigger/TriggerMarkers_Coil{coil}_20210409{number}.xml": "line 2: TriggerMarkerList has no"
        for coil in (0, 1)
        for number in ("152823690", "170640075")
    },
    **{
        f"{SESSION}/TMSTrigger/TriggerData20210409{number}.xml": "line 1: LocTMSTriggerData names 2 files, and none"
        for number in ("152823690", "170640075")
    },
    f"{SESSION}/UsedVolumes/Volumes20120925103137328.xml": "line 1: the element LocVolumeList",
    "softaxic/neuronav_coil_test.stmpx": "element stmp does not say in which space",
}  # fmt: skip


def test_every_shared_file_has_its_fate(shared_data):
    folder = shared_data("neuronavigation")
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.parent != folder}
    assert there == set(READ) | set(REFUSED)


@pytest.mark.parametrize("name", sorted(READ))
def test_it_is_read_in_mm_with_orthonormal_axes(shared_data, name):
    poses = read_poses([shared_data("neuronavigation") / name])
    n, tracked, space = READ[name]
    assert (len(poses), int(poses.tracked.sum())) == (n, tracked)
    assert poses.space.startswith(space)
    there = poses.pose[poses.tracked]
    axes = there[:, :3, :3]
    np.testing.assert_allclose(np.swapaxes(axes, 1, 2) @ axes, np.broadcast_to(np.eye(3), axes.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(axes), 1, atol=1e-12)
    assert (there[:, 3] == (0, 0, 0, 1)).all()
    distance_mm = np.linalg.norm(there[:, :3, 3], axis=1)
    assert ((distance_mm > 10) & (distance_mm < 500)).all()
    assert np.isnan(poses.pose[~poses.tracked]).all()
    assert all(reason for reason, there in zip(poses.missing, poses.tracked, strict=True) if not there)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_it_is_refused_with_the_line_or_element(shared_data, name):
    with pytest.raises(FileFormatError) as refusal:
        read_poses([shared_data("neuronavigation") / name])
    assert REFUSED[name] in str(refusal.value)


INTO_THE_HEAD = [
    "brainsight/niiImage_nifticoord_largefile.txt",
    "brainsight/niiImage_niifticoord_mixedtargets.txt",
    "brainsight/dcmimage_worldcoord.txt",
    f"{SESSION}/TMSTrigger/TriggerData20210409170557579.xml",
    f"{SESSION}/InstrumentMarkers/LPS_InstrumentMarker20120925123537421.xml",
    f"{SESSION}/InstrumentMarkers/RAS_InstrumentMarker20170316160859032.xml",
    "ant/ioJson3DMarker_example_SimNIBS.mrk",
]


@pytest.mark.parametrize("name", INTO_THE_HEAD)
def test_real_coils_point_into_the_head(shared_data, name):
    """The scanner's origin is near the head's middle, so our z points towards it; theirs does not."""
    pose = read_poses([shared_data("neuronavigation") / name]).pose
    inward = -(pose[:, :3, 2] * pose[:, :3, 3]).sum(axis=1) / np.linalg.norm(pose[:, :3, 3], axis=1)
    assert np.median(inward) > 0.8


def test_the_two_spaces_of_one_session_are_one_rigid_motion_apart(shared_data):
    """Brainsight's own space against the scanner's: the same samples, moved as one body with their axes."""
    folder = shared_data("neuronavigation") / "brainsight"
    own, scanner = (read_poses([folder / f"niiImage_{name}coord.txt"]).pose for name in ("brainsight", "nifti"))
    motion = scanner[0] @ np.linalg.inv(own[0])
    far = np.linalg.norm(scanner[0, :3, 3] - scanner[:, :3, 3], axis=1).max()
    error_mm = np.abs((motion @ own)[:, :3, 3] - scanner[:, :3, 3]).max()
    assert error_mm < 2e-3 * far  # three digits in the axes
    np.testing.assert_allclose((motion @ own)[:, :3, :3], scanner[:, :3, :3], atol=5e-3)


def test_world_coordinates_of_dicom_come_out_in_ras(shared_data):
    """Left stays left: the file's own left ear is at positive x, so its positions are LPS."""
    folder = shared_data("neuronavigation") / "brainsight"
    world = read_poses([folder / "dcmimage_worldcoord.txt"]).pose
    text = (folder / "dcmimage_worldcoord.txt").read_text().splitlines()[9].split("\t")
    np.testing.assert_allclose(world[0, :3, 3], np.array([float(x) for x in text[4:7]]) * (-1, -1, 1))

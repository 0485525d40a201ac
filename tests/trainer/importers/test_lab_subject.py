"""A subject from a laboratory's head: what it holds, and parts that do not fit together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rt_engine.errors import DataError
from rt_engine.field.placement import coil_pose
from rt_engine.field.subject_file import read_subject, write_subject
from tests.trainer.importers.lab_head import N_VERTICES, LabFiles, ball, cortex_of, hemisphere, subject_of, write_lab
from trainer.efield.head import TetraHead
from trainer.importers.freesurfer import Cortex
from trainer.importers.freesurfer_labels import read_area
from trainer.importers.lab_subject import LabSubject, lab_subject
from trainer.importers.simnibs_mesh import read_head


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> LabFiles:
    return write_lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def made(lab: LabFiles) -> LabSubject:
    return subject_of(lab)


@pytest.fixture(scope="module")
def parts(lab: LabFiles) -> tuple[TetraHead, Cortex, np.ndarray]:
    cortex = cortex_of(lab)
    return read_head(lab.mesh), cortex, read_area(cortex, [lab.ba4a, lab.ba4p])


def make(parts: tuple[TetraHead, Cortex, np.ndarray], **options: object) -> LabSubject:
    return lab_subject(*parts, **{"name": "S01", "notices": "made up for a test", **options})  # type: ignore[arg-type]


def test_the_mask_is_the_ribbon_of_the_area(made: LabSubject, parts: tuple[TetraHead, Cortex, np.ndarray]) -> None:
    _, cortex, in_area = parts
    subject = made.subject
    assert subject.box_shape == (64, 64, 64)
    middle = (cortex.white_mm + cortex.pial_mm) / 2
    off = np.linalg.norm(subject.voxel_mm[:, None] - middle[in_area][None], axis=2).min(axis=1)
    assert off.max() < 5  # half the ribbon, half the distance between two vertices
    corner = middle[cortex.triangles[in_area[cortex.triangles].sum(axis=1) >= 2]]
    area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1).sum() / 2
    assert subject.n_voxels == pytest.approx(3.0 * area, rel=0.05)


def test_the_box_is_centred_on_the_area(made: LabSubject) -> None:
    subject = made.subject
    low, high = subject.voxel.min(axis=0), subject.voxel.max(axis=0)
    assert np.abs(low + high + 1 - 64).max() <= 1
    assert made.n_cut == 0
    np.testing.assert_array_equal(subject.affine[:3, :3], np.eye(3))
    np.testing.assert_array_equal(subject.affine[:3, 3], np.round(subject.affine[:3, 3]))


def test_scalp_and_sphere_are_the_balls(made: LabSubject) -> None:
    subject = made.subject
    assert np.linalg.norm(subject.sphere_center_mm) < 3
    assert subject.scalp_radius_mm == pytest.approx(95, abs=2)
    assert subject.scalp is not None
    np.testing.assert_allclose(np.linalg.norm(subject.scalp.vertices, axis=1), 95, atol=0.1)
    # A patch around the motor cortex, far enough for both wings, and not the whole head.
    far = np.linalg.norm(subject.scalp.vertices - made.target_mm, axis=1).max()
    assert 90 < far < 150
    pose = coil_pose(subject, made.target_mm - subject.sphere_center_mm)
    # The coil's face is flat, the scalp is not: it stands on it with a gap, within a facet's height.
    assert np.linalg.norm(pose[:3, 3]) == pytest.approx(97, abs=1.5)


def test_the_file_is_read_again(tmp_path: Path, made: LabSubject) -> None:
    write_subject(tmp_path / "S.subject.h5", made.subject)
    again = read_subject(tmp_path / "S.subject.h5")
    np.testing.assert_array_equal(again.voxel, made.subject.voxel)
    assert (again.name, again.hemisphere, again.space) == ("S01", "left", made.subject.space)
    assert again.notices == "made up for a test"


def test_coils_aim_at_the_hand_knob_where_it_is_known(
    made: LabSubject, parts: tuple[TetraHead, Cortex, np.ndarray]
) -> None:
    assert np.linalg.norm(made.subject.voxel_mm - made.target_mm, axis=1).min() == 0
    knob = made.subject.voxel_mm[0] + 0.25
    np.testing.assert_array_equal(make(parts, hand_knob_mm=knob).target_mm, knob)
    with pytest.raises(DataError, match=r"hand knob at \[60.0, 0.0, 0.0\] mm lies \d+ mm from BA4"):
        make(parts, hand_knob_mm=np.array([60.0, 0.0, 0.0]))


def test_an_area_larger_than_the_box_is_refused_or_cut(
    made: LabSubject, parts: tuple[TetraHead, Cortex, np.ndarray]
) -> None:
    with pytest.raises(DataError, match=r"larger than the box of 48 mm: x \d+ mm.*voxels would be cut off.*larger box"):
        make(parts, box=48)
    cut = make(parts, box=48, allow_cut=True)
    assert cut.n_cut > 0
    assert cut.subject.n_voxels + cut.n_cut == made.subject.n_voxels
    larger = make(parts, box=80)
    assert larger.subject.n_voxels == made.subject.n_voxels
    np.testing.assert_array_equal(larger.subject.voxel_mm, made.subject.voxel_mm)
    for box in (0, 500):
        with pytest.raises(DataError, match="expected 8 to 128"):
            make(parts, box=box)


def test_voxels_beside_the_meshs_cortex_take_the_nearest_of_it(
    parts: tuple[TetraHead, Cortex, np.ndarray], made: LabSubject
) -> None:
    head, cortex, in_area = parts
    assert made.n_astray == 0
    np.testing.assert_array_equal(made.points_mm, made.subject.voxel_mm)
    # Higher up, the ribbon's crown leaves the brain's sphere of 80 mm.
    up = np.array([0.0, 0.0, 20.0])
    higher = replace(cortex, white_mm=cortex.white_mm + up, pial_mm=cortex.pial_mm + up)
    raised = make((head, higher, in_area))
    outside = np.linalg.norm(raised.subject.voxel_mm, axis=1) > 80
    assert raised.n_astray == pytest.approx(outside.sum(), rel=0.2)  # the mesh has facets
    assert 0 < raised.n_astray < 0.3 * raised.subject.n_voxels
    assert (np.linalg.norm(raised.points_mm, axis=1) < 80.01).all()
    with pytest.raises(DataError, match=r"\d+ of the \d+ voxels of BA4 lie outside .* tkRAS"):
        make((head, replace(higher, white_mm=higher.white_mm + up, pial_mm=higher.pial_mm + up), in_area))


def test_surfaces_on_the_wrong_side_of_the_mesh_are_refused(parts: tuple[TetraHead, Cortex, np.ndarray]) -> None:
    head, cortex, in_area = parts
    mirrored = replace(cortex, white_mm=cortex.white_mm * [-1, 1, 1], pial_mm=cortex.pial_mm * [-1, 1, 1])
    with pytest.raises(DataError, match="of the left hemisphere, but lie 35 mm to the right"):
        make((head, mirrored, in_area))
    right = make((head, replace(mirrored, hemisphere="right"), in_area))
    assert right.subject.hemisphere == "right"
    assert (right.subject.voxel_mm[:, 0] > 0).all()


def test_areas_that_are_no_ba4_are_refused(parts: tuple[TetraHead, Cortex, np.ndarray]) -> None:
    head, cortex, _ = parts
    crumb = np.zeros(N_VERTICES, bool)
    crumb[[100, 2000]] = True
    with pytest.raises(DataError, match="2 vertices of the area make no triangle"):
        make((head, cortex, crumb))
    crumb[cortex.triangles[7]] = True
    with pytest.raises(DataError, match="fills .* voxels of 1 mm"):
        make((head, cortex, crumb))


def test_a_head_without_cortex_and_a_subject_without_notices_are_refused(
    parts: tuple[TetraHead, Cortex, np.ndarray],
) -> None:
    head, cortex, in_area = parts
    bare = replace(head, tag=np.where(head.tag <= 2, 3, head.tag))
    with pytest.raises(DataError, match="no white matter"):
        make((bare, cortex, in_area))
    with pytest.raises(DataError, match="no notices"):
        make(parts, notices=" ")


def test_the_ball_is_what_it_claims() -> None:
    """The tests' own head: no tetrahedron is flat or turned inside out, and together they fill the ball."""
    mesh = ball()
    corner = mesh.node[mesh.tetra]
    volume = np.abs(np.linalg.det(corner[:, 1:] - corner[:, :1])) / 6
    assert volume.min() > 0.1
    assert volume.sum() == pytest.approx(4 / 3 * np.pi * 95**3, rel=0.02)
    white, pial, _ = hemisphere()
    np.testing.assert_allclose(np.linalg.norm(white - pial, axis=1), 3.0)
    assert np.linalg.norm(pial, axis=1).max() < 80

"""The scalp's patch: where the head ends, seen from inside, closed to a disc and facing outwards."""

from functools import cache

import numpy as np
import pytest

from rt_engine.errors import DataError
from rt_engine.field.surface import check_surface
from trainer.efield.head import VoxelHead
from trainer.head_models import scalp

CENTER_MM = np.array([1.0, -3.0, 2.0])
TOWARD_MM = np.array([-30.0, 10.0, 40.0])


@cache
def ellipsoid(step_mm: float = 2.0, *, below_mm: float = -200.0) -> VoxelHead:
    """Make a head with the half axes 70, 90 and 80 mm about `CENTER_MM`."""
    axis = np.arange(-104.0, 104.0, step_mm)
    place = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    label = np.where(np.linalg.norm((place - CENTER_MM) / (70, 90, 80), axis=-1) < 1, 5, 0).astype(np.uint8)
    affine = np.diag([step_mm] * 3 + [1.0])
    affine[:3, 3] = axis[0]
    kept = axis >= below_mm
    affine[2, 3] = axis[kept][0]
    return VoxelHead(label[:, :, kept], affine, "test", "ellipsoid")


def test_patch_lies_on_the_head_to_a_fraction_of_a_voxel() -> None:
    patch = scalp.scalp_patch(ellipsoid(), CENTER_MM, TOWARD_MM)
    check_surface(patch, "scalp")
    size = np.linalg.norm((patch.vertices - CENTER_MM) / (70, 90, 80), axis=1)
    # Where the head is parallel to the grid the labels know it to half a voxel only.
    np.testing.assert_allclose(size, 1.0, atol=1.0 / 70)
    assert np.abs(size - 1.0).mean() < 0.25 / 70
    middle = (patch.vertices[0] - CENTER_MM) / np.linalg.norm(patch.vertices[0] - CENTER_MM)
    toward = (TOWARD_MM - CENTER_MM) / np.linalg.norm(TOWARD_MM - CENTER_MM)
    np.testing.assert_allclose(middle, toward, atol=2e-3)


def test_patch_reaches_far_enough_for_the_coils_wings_and_stays_small() -> None:
    patch = scalp.scalp_patch(ellipsoid(), CENTER_MM, TOWARD_MM)
    border = patch.vertices[-6 * scalp.RINGS :]
    # Straight lines: along the scalp it is farther.
    assert np.linalg.norm(border - patch.vertices[0], axis=1).min() > 90
    assert patch.vertices.nbytes + patch.triangles.nbytes < 60_000


def test_patch_is_a_disc_whose_triangles_all_face_outwards() -> None:
    patch = scalp.scalp_patch(ellipsoid(), CENTER_MM, TOWARD_MM)
    corner = patch.vertices[patch.triangles].astype(float)
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    assert (((corner.mean(axis=1) - CENTER_MM) * normal).sum(axis=1) > 0).all()
    edges = np.sort(patch.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    pair, count = np.unique(edges, axis=0, return_counts=True)
    assert set(count) == {1, 2}
    assert (count == 1).sum() == 6 * scalp.RINGS
    # Euler: a disc.
    assert len(patch.vertices) - len(pair) + len(patch.triangles) == 1


def test_a_cavity_does_not_end_the_head() -> None:
    head = ellipsoid()
    hollow = head.label.copy()
    hollow[40:60, 40:60, 60:70] = 0
    found = scalp.scalp_patch(VoxelHead(hollow, head.affine, "test", "hollow"), CENTER_MM, TOWARD_MM)
    assert np.array_equal(found.vertices, scalp.scalp_patch(head, CENTER_MM, TOWARD_MM).vertices)


def test_a_head_that_is_cut_near_the_patch_is_refused() -> None:
    with pytest.raises(DataError, match="is cut there"):
        scalp.scalp_patch(ellipsoid(below_mm=-10.0), CENTER_MM, np.array([-60.0, 0.0, 0.0]))


def test_a_middle_outside_of_the_head_is_refused() -> None:
    with pytest.raises(DataError, match="has no scalp in the direction"):
        scalp.scalp_patch(ellipsoid(), np.array([300.0, 0.0, 0.0]), np.array([400.0, 0.0, 0.0]))

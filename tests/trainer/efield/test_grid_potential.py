"""The interpolated dA/dt of all voxels against the sum over dipoles."""

import numpy as np
import pytest

from rt_engine.field.coil import Coil, figure_of_eight
from trainer.efield import grid_potential
from trainer.efield.accuracy import random_pose
from trainer.efield.grid_potential import GridPotential
from trainer.efield.solver import dadt_at
from trainer.efield.sphere_head import sphere_head


def both(head, coil: Coil, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    center_mm = np.argwhere(head.label > 0) @ head.affine[:3, :3].T + head.affine[:3, 3]
    return GridPotential(head.label > 0, head.affine).dadt(coil, pose), dadt_at(center_mm, coil, pose)


@pytest.mark.parametrize("seed", range(3))
def test_interpolation_is_as_good_as_the_sum(seed):
    coil, pose = figure_of_eight(n_rings=2), random_pose(96.0, np.random.default_rng(seed))
    found, expected = both(sphere_head(3.0), coil, pose)
    error = np.linalg.norm(found - expected, axis=1)
    assert error.max() < 2e-5 * np.linalg.norm(expected, axis=1).max()
    assert np.sqrt((error**2).sum() / (expected**2).sum()) < 1e-5


def test_the_largest_blocks_stand_where_they_should():
    # A small, far source, so that blocks of all sizes are interpolated; a field that differs from place to place.
    coil = Coil("one", np.array([[0.0, 0, -30]]), np.array([[2e-3, 1e-3, 3e-3]]), 100.0)
    found, expected = both(
        sphere_head(1.6, radii_mm=(25, 40), tags=(1, 5)), coil, random_pose(60.0, np.random.default_rng(8))
    )
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_most_voxels_need_no_sum(monkeypatch):
    asked = []

    def counting(points_mm, *source):
        asked.append(len(points_mm))
        return np.zeros((len(points_mm), 3))

    monkeypatch.setattr(grid_potential, "vector_potential", counting)
    head = sphere_head(2.0)
    GridPotential(head.label > 0, head.affine).dadt(figure_of_eight(), random_pose(96.0, np.random.default_rng(0)))
    assert sum(asked) < 0.25 * (head.label > 0).sum()


def test_voxels_that_do_not_count_are_not_answered():
    wanted = np.zeros((5, 40, 9), bool)
    wanted[1, 2, 3] = wanted[4, 39, 8] = True
    coil, pose = figure_of_eight(n_rings=1), random_pose(90.0, np.random.default_rng(0))
    affine = np.diag([-2.0, 2.0, 2.0, 1.0])
    found = GridPotential(wanted, affine).dadt(coil, pose)
    np.testing.assert_allclose(found, dadt_at(np.array([[-2.0, 4, 6], [-8, 78, 16]]), coil, pose), rtol=1e-3)


def test_near_the_coil_the_sum_itself_is_taken():
    wanted = np.ones((8, 8, 8), bool)
    coil = Coil("one", np.array([[4.0, 4.0, -3.0]]), np.array([[0.0, 1e-3, 0.0]]), 100.0)
    index = np.argwhere(wanted) * 1.0
    found = GridPotential(wanted, np.eye(4)).dadt(coil, np.eye(4))
    np.testing.assert_array_equal(found, dadt_at(index, coil, np.eye(4)))

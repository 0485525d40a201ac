"""The figure of eight: its dipoles against its turns, against SimNIBS' file of the real coil, and its frame."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_engine.errors import DataError
from rt_engine.field.coil import Coil, check_pose, figure_of_eight, transform
from rt_engine.field.dipole_file import read_dipole_file
from rt_engine.field.sphere import sphere_field

MAGSTIM_CCD = Path(__file__).parents[4] / "shared" / "data" / "mesh_and_coil" / "Magstim_70mm_Fig8.ccd"


def cortex_points_mm() -> np.ndarray:
    """Make points at cortex depth under a coil that touches a sphere of 85 mm at (0, 0, 85)."""
    x, y = np.meshgrid(np.arange(-50, 51, 10.0), np.arange(-50, 51, 10.0))
    return np.concatenate(
        [np.stack([x.ravel(), y.ravel(), np.sqrt(r**2 - x.ravel() ** 2 - y.ravel() ** 2)], axis=1) for r in (71, 75)]
    )


def pose_on_top() -> np.ndarray:
    """Put the coil's face at (0, 0, 85), +z of the coil downwards, +y kept."""
    pose = np.diag([-1.0, 1.0, -1.0, 1.0])
    pose[2, 3] = 85
    return pose


def vector_potential_of_dipoles(points_mm: np.ndarray, coil: Coil) -> np.ndarray:
    """Compute A per ampere, (n, 3) T m / A: mu0 / (4 pi) m x d / |d|^3."""
    d = (points_mm[:, None] - coil.position_mm) * 1e-3
    return 1e-7 * (np.cross(coil.moment_am2_per_a, d) / np.linalg.norm(d, axis=2)[:, :, None] ** 3).sum(axis=1)


def vector_potential_of_turns(points_mm: np.ndarray) -> np.ndarray:
    """Integrate Biot-Savart's A along the turns themselves, (n, 3) T m / A."""
    angle = (np.arange(720) + 0.5) * 2 * np.pi / 720
    total = np.zeros_like(points_mm)
    for sign in (-1, 1):
        for radius in np.linspace(28, 44, 9):
            wire = np.stack([radius * np.cos(angle) + sign * 45, radius * np.sin(angle), np.full(720, -6.5)], axis=1)
            step = sign * radius * 2 * np.pi / 720 * np.stack([-np.sin(angle), np.cos(angle), 0 * angle], axis=1)
            distance = np.linalg.norm(points_mm[:, None] - wire, axis=2)
            total += 1e-7 * (step[None] / distance[:, :, None]).sum(axis=1)
    return total


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_dipoles_have_the_potential_of_the_turns():
    rng = np.random.default_rng(0)
    points_mm = np.column_stack([rng.uniform(-60, 60, (200, 2)), rng.uniform(15, 60, 200)])
    coil = figure_of_eight()
    assert relative(vector_potential_of_dipoles(points_mm, coil), vector_potential_of_turns(points_mm)) < 0.005


def test_a_wing_has_the_moment_of_its_turns_and_the_wings_cancel():
    coil = figure_of_eight()
    right = coil.position_mm[:, 0] > 0
    turns = np.pi * (np.linspace(28e-3, 44e-3, 9) ** 2).sum()
    np.testing.assert_allclose(coil.moment_am2_per_a[right].sum(axis=0), (0, 0, turns), rtol=1e-12)
    np.testing.assert_allclose(coil.moment_am2_per_a.sum(axis=0), 0, atol=1e-15)


@given(n_rings=st.integers(0, 8), n_turns=st.integers(1, 14))
def test_any_tiling_keeps_moment_and_second_moment(n_rings, n_turns):
    coil = figure_of_eight(n_rings=n_rings, n_turns=n_turns)
    assert len(coil.position_mm) == len(coil.moment_am2_per_a) == 2 * (1 + 4 * n_rings * (n_rings + 1))
    right = coil.position_mm[:, 0] > 0
    radius_mm = np.linspace(28, 44, n_turns) if n_turns > 1 else np.array([44.0])
    moment = coil.moment_am2_per_a[right, 2]
    np.testing.assert_allclose(moment.sum(), np.pi * (radius_mm**2).sum() * 1e-6, rtol=1e-9)
    if n_rings > 4:  # the disc in the middle, kept at radius 0, carries little of it
        r_squared = ((coil.position_mm[right] - (45, 0, -6.5)) ** 2).sum(axis=1)
        np.testing.assert_allclose((moment * r_squared).sum(), np.pi / 2 * (radius_mm**4).sum() * 1e-6, rtol=1e-3)


def test_the_coil_is_symmetric_about_both_axes():
    coil = figure_of_eight()
    for mirror, sign in (((-1, 1, 1), -1), ((1, -1, 1), 1)):
        mirrored = np.column_stack([coil.position_mm * mirror, sign * coil.moment_am2_per_a[:, 2]]).round(6)
        original = np.column_stack([coil.position_mm, coil.moment_am2_per_a[:, 2]]).round(6)
        assert {tuple(row + 0.0) for row in mirrored} == {tuple(row + 0.0) for row in original}


def test_windings_lie_behind_the_face_and_the_field_points_along_y():
    coil = figure_of_eight()
    assert (coil.position_mm[:, 2] == -6.5).all()
    field = sphere_field(np.array([[0.0, 0.0, 70.0]]), coil, pose_on_top(), 1e6, (0, 0, 0))[0]
    assert field[1] > 1.0
    np.testing.assert_allclose(field[[0, 2]], 0, atol=1e-9)


def test_positions_turn_and_move_with_the_pose_moments_only_turn():
    coil = Coil("one", np.array([[1.0, 2.0, 3.0]]), np.array([[0.0, 0.0, 1.0]]), 100.0)
    pose = np.array([[0.0, 0, 1, 10], [1, 0, 0, 20], [0, 1, 0, 30], [0, 0, 0, 1]])  # x -> y, y -> z, z -> x
    position_mm, moment = transform(coil, pose)
    np.testing.assert_array_equal(position_mm, [[13.0, 21.0, 32.0]])
    np.testing.assert_array_equal(moment, [[1.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    "pose",
    [
        np.eye(3),
        np.full((4, 4), np.nan),
        np.diag([-1.0, 1, 1, 1]),
        np.diag([1.01, 1, 1, 1]),
        np.eye(4) + np.eye(4, k=-3),
        np.zeros((4, 4)),
    ],
    ids=["3x3", "not tracked", "left-handed", "scaled", "transposed", "zeros"],
)
def test_a_pose_that_is_no_rigid_motion_is_refused(pose):
    with pytest.raises(DataError, match="pose"):
        check_pose(pose)


def test_a_pose_with_four_printed_digits_is_accepted():
    c, s = np.cos(0.7), np.sin(0.7)
    pose = np.array([[c, -s, 0, 1], [s, c, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])
    np.testing.assert_array_equal(check_pose(pose.round(4)), pose.round(4))


@pytest.mark.parametrize(
    "size",
    [
        {"n_turns": 0},
        {"n_rings": -1},
        {"inner_diameter_mm": 0.0},
        {"inner_diameter_mm": 90.0},
        {"wing_distance_mm": 80.0},
    ],
    ids=str,
)
def test_a_coil_that_cannot_be_is_refused(size):
    with pytest.raises(DataError, match="expected"):
        figure_of_eight(**size)


@pytest.mark.skipif(
    not MAGSTIM_CCD.exists(), reason="needs ../shared/data/mesh_and_coil, which is not in the repository"
)
def test_the_field_is_that_of_the_magstim_coil_of_simnibs():
    magstim = read_dipole_file(MAGSTIM_CCD, max_didt_a_per_us=171.0)
    found, expected = (
        sphere_field(cortex_points_mm(), coil, pose_on_top(), 1e6, (0, 0, 0)) for coil in (figure_of_eight(), magstim)
    )
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9999
    assert np.linalg.norm(found) / np.linalg.norm(expected) == pytest.approx(1, abs=0.01)
    assert relative(found, expected) < 0.01

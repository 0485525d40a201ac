"""The coil's potentials: those of dipoles, in their units, and the two that must make one and the same B."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_engine.field.coil import MU0_OVER_4PI, figure_of_eight, scalar_potential, transform, vector_potential

POSE = np.array([[0.0, 1, 0, -40], [1, 0, 0, -20], [0, 0, -1, 80], [0, 0, 0, 1]])


def head_points(n: int, seed: int = 0) -> np.ndarray:
    """Points up to 5 mm below the coil's face."""
    rng = np.random.default_rng(seed)
    return POSE[:3, 3] + np.stack([rng.uniform(-60, 60, n), rng.uniform(-60, 60, n), -rng.uniform(5, 80, n)], axis=1)


def test_the_vector_potential_is_the_sum_over_dipoles_one_by_one() -> None:
    position, moment = transform(figure_of_eight(), POSE)
    points = head_points(700)  # more than one block
    expected = np.zeros((700, 3))
    for d, m in zip(position * 1e-3, moment, strict=True):
        r = points * 1e-3 - d
        expected += MU0_OVER_4PI * np.cross(m, r) / np.linalg.norm(r, axis=1)[:, None] ** 3
    found = vector_potential(points, position, moment)
    np.testing.assert_allclose(found, expected, atol=1e-12 * np.abs(expected).max())


def test_the_scalar_potential_is_the_sum_over_dipoles_one_by_one() -> None:
    position, moment = transform(figure_of_eight(), POSE)
    points = head_points(700)
    expected = np.zeros(700)
    for d, m in zip(position * 1e-3, moment, strict=True):
        r = points * 1e-3 - d
        expected += MU0_OVER_4PI * (r @ m) / np.linalg.norm(r, axis=1) ** 3
    found = scalar_potential(points, position, moment)
    np.testing.assert_allclose(found, expected, atol=1e-12 * np.abs(expected).max())


def test_curl_of_the_one_is_minus_the_gradient_of_the_other() -> None:
    """Both are the coil's B, by central differences."""
    position, moment = transform(figure_of_eight(), POSE)
    points, step = head_points(50, 3), 0.05
    gradient, slope = np.empty((50, 3)), np.empty((50, 3, 3))
    for axis, along in enumerate(np.eye(3) * step):
        gradient[:, axis] = scalar_potential(points + along, position, moment) - scalar_potential(
            points - along, position, moment
        )
        slope[:, axis] = vector_potential(points + along, position, moment) - vector_potential(
            points - along, position, moment
        )
    curl = np.stack([slope[:, 1, 2] - slope[:, 2, 1], slope[:, 2, 0] - slope[:, 0, 2], slope[:, 0, 1] - slope[:, 1, 0]])
    np.testing.assert_allclose(curl.T, -gradient, atol=1e-5 * np.abs(gradient).max())


def test_under_the_middle_the_coil_alone_drives_current_along_plus_y() -> None:
    """-dA/dt of a 70 mm figure of eight 20 mm below its face is 2.0 V/m per A/us, along the coil's +y."""
    x, y, z = -vector_potential(np.array([[0.0, 0, 20]]), *transform(figure_of_eight(), np.eye(4)))[0] * 1e6
    assert abs(x) < 1e-9
    assert abs(z) < 1e-9
    assert 1.9 < y < 2.1


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
def test_moving_head_and_coil_together_changes_nothing(x: float, y: float, z: float) -> None:
    position, moment = transform(figure_of_eight(), POSE)
    points, shift = head_points(20), np.array([x, y, z])
    for potential in (vector_potential, scalar_potential):
        here = potential(points, position, moment)
        np.testing.assert_allclose(
            potential(points + shift, position + shift, moment), here, atol=1e-9 * np.abs(here).max()
        )


@pytest.mark.parametrize("potential", [vector_potential, scalar_potential])
def test_a_point_on_a_dipole_has_no_finite_potential(potential) -> None:
    position = np.array([[1.0, 2, 3], [4, 5, 6]])
    found = potential(position[:1], position, np.array([[1.0, 0, 0], [0, 1, 0]]))
    assert not np.isfinite(found).any()

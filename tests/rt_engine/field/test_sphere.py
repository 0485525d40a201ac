"""The closed-form field against physics: Maxwell's equations, a boundary-value solution, symmetry and reciprocity."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import sph_harm_y

from rt_engine.errors import DataError
from rt_engine.field.coil import Coil, figure_of_eight, transform
from rt_engine.field.sphere import MIN_GAP_MM, SphereField, sphere_field

ORIGIN = (0.0, 0.0, 0.0)
DIDT = 1e6


def rotation_about(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rotate about an axis, Rodrigues' formula."""
    x, y, z = axis / np.linalg.norm(axis)
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * skew + (1 - np.cos(angle)) * skew @ skew


def pose_at(direction: np.ndarray, angle: float, distance_mm: float) -> np.ndarray:
    """Put a coil's face on a sphere, tangentially, with the handle turned by an angle."""
    z = -direction / np.linalg.norm(direction)
    y = np.cross(z, (0.3, 0.5, -0.8))
    y = rotation_about(z, angle) @ (y / np.linalg.norm(y))
    pose = np.eye(4)
    pose[:3] = np.column_stack([np.cross(y, z), y, z, -z * distance_mm])
    return pose


def points_in(radius_mm: float, n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, 3))
    return points / np.linalg.norm(points, axis=1)[:, None] * radius_mm * rng.random((n, 1)) ** (1 / 3)


def random_dipoles(seed: int = 3, n: int = 7) -> Coil:
    """Make dipoles of any direction all around, 90 to 130 mm from the origin (in the frame of the identity pose)."""
    rng = np.random.default_rng(seed)
    position = rng.normal(size=(n, 3))
    position *= rng.uniform(90, 130, (n, 1)) / np.linalg.norm(position, axis=1)[:, None]
    return Coil("random", position, rng.normal(size=(n, 3)) * 1e-3, 100.0)


def dipole_b_field(points_mm: np.ndarray, coil: Coil, pose: np.ndarray) -> np.ndarray:
    """Compute B per ampere, (n, 3) T / A."""
    position_mm, m = transform(coil, pose)
    d = (points_mm[:, None] - position_mm) * 1e-3
    length = np.linalg.norm(d, axis=2)[..., None]
    return 1e-7 * (3 * d * (d * m).sum(axis=2)[..., None] / length**5 - m / length**3).sum(axis=1)


def curl(function, points_mm: np.ndarray, step_mm: float = 0.2) -> np.ndarray:
    """Differentiate centrally; per metre."""
    slope = np.empty((3, len(points_mm), 3))
    for axis in range(3):
        step = np.eye(3)[axis] * step_mm
        slope[axis] = (function(points_mm + step) - function(points_mm - step)) / (2e-3 * step_mm)
    return np.stack(
        [slope[1, :, 2] - slope[2, :, 1], slope[2, :, 0] - slope[0, :, 2], slope[0, :, 1] - slope[1, :, 0]], axis=1
    )


def field_by_boundary_values(
    points_mm: np.ndarray, coil: Coil, pose: np.ndarray, radius_mm: float, degree: int
) -> np.ndarray:
    """Solve the same problem another way: E = -dA/dt - grad phi with no current through the sphere's surface.

    A is the dipoles' vector potential; phi is harmonic inside, a sum of solid harmonics whose coefficients make the
    radial component of E vanish on the surface (after Eaton 1992, Med Biol Eng Comput 30:433). The gradient is
    numerical.
    """
    position_mm, moment = transform(coil, pose)

    def dadt(points: np.ndarray) -> np.ndarray:
        d = (points[:, None] - position_mm) * 1e-3
        return DIDT * 1e-7 * (np.cross(moment, d) / np.linalg.norm(d, axis=2)[..., None] ** 3).sum(axis=1)

    # Gauss-Legendre in cos(theta), equal steps in azimuth: exact up to degree 2 * degree.
    cosine, weight = np.polynomial.legendre.leggauss(degree + 1)
    theta, azimuth = (
        a.ravel()
        for a in np.meshgrid(np.arccos(cosine), np.arange(2 * degree + 2) * np.pi / (degree + 1), indexing="ij")
    )
    weight = np.repeat(weight, 2 * degree + 2) * np.pi / (degree + 1)
    normal = np.stack([np.sin(theta) * np.cos(azimuth), np.sin(theta) * np.sin(azimuth), np.cos(theta)], axis=1)
    radial = (dadt(normal * radius_mm) * normal).sum(axis=1)
    orders = [(n, m) for n in range(1, degree + 1) for m in range(n + 1)]
    coefficient = {
        (n, m): -(weight * radial * np.conj(sph_harm_y(n, m, theta, azimuth))).sum() * radius_mm * 1e-3 / n
        for n, m in orders
    }

    def phi(points: np.ndarray) -> np.ndarray:
        r = np.linalg.norm(points, axis=1)
        t, a = np.arccos(points[:, 2] / r), np.arctan2(points[:, 1], points[:, 0])
        total = np.zeros(len(points))
        for n, m in orders:
            # Real potential: orders m and -m are conjugate to each other.
            part = (coefficient[n, m] * sph_harm_y(n, m, t, a)).real * (r / radius_mm) ** n
            total += part if m == 0 else 2 * part
        return total

    step_mm = 0.1
    gradient = np.stack(
        [(phi(points_mm + step_mm * e) - phi(points_mm - step_mm * e)) / (2e-3 * step_mm) for e in np.eye(3)], axis=1
    )
    return -dadt(points_mm) - gradient


directions = st.tuples(*[st.floats(-1, 1)] * 3).map(np.array).filter(lambda v: np.linalg.norm(v) > 0.1)
angles = st.floats(-np.pi, np.pi)


@given(direction=directions, angle=angles)
@settings(deadline=None, max_examples=30)
def test_the_field_has_no_radial_component(direction, angle):
    points = points_in(70, 100)
    field = sphere_field(points, figure_of_eight(), pose_at(direction, angle, 85), DIDT, ORIGIN)
    outward = points / np.linalg.norm(points, axis=1)[:, None]
    radial = np.abs((field * outward).sum(axis=1))
    assert (radial <= 1e-12 * np.linalg.norm(field, axis=1).max()).all()


@given(direction=directions, angle=angles)
@settings(deadline=None, max_examples=20)
def test_curl_e_is_minus_the_change_of_b(direction, angle):
    points, pose, coil = points_in(70, 30), pose_at(direction, angle, 85), figure_of_eight()
    found = curl(lambda p: sphere_field(p, coil, pose, DIDT, ORIGIN), points)
    expected = -DIDT * dipole_b_field(points, coil, pose)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_curl_e_is_minus_the_change_of_b_for_dipoles_of_any_direction():
    points, coil = points_in(70, 50), random_dipoles()
    found = curl(lambda p: sphere_field(p, coil, np.eye(4), DIDT, ORIGIN), points)
    expected = -DIDT * dipole_b_field(points, coil, np.eye(4))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("radius_mm", [72.0, 80.0], ids=["small sphere", "large sphere"])
def test_agrees_with_the_boundary_value_solution_whatever_the_radius(radius_mm):
    points = points_in(65, 60)
    coil, pose = figure_of_eight(), pose_at(np.array([-0.4, -0.3, 0.8]), 0.6, 85)
    expected = field_by_boundary_values(points, coil, pose, radius_mm, degree=36)
    found = sphere_field(points, coil, pose, DIDT, ORIGIN)
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.linalg.norm(expected, axis=1).max())


def test_agrees_with_the_boundary_value_solution_for_dipoles_of_any_direction():
    points, coil = points_in(60, 60), random_dipoles()
    expected = field_by_boundary_values(points, coil, np.eye(4), 75.0, degree=36)
    found = sphere_field(points, coil, np.eye(4), DIDT, ORIGIN)
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.linalg.norm(expected, axis=1).max())


def test_is_reciprocal_to_the_magnetic_field_of_a_current_dipole():
    """E . q = -dm/dt . B, with B of the current dipole q by Sarvas 1987, eq. 25, one pair at a time."""
    coil = random_dipoles()
    rng = np.random.default_rng(5)
    for r_mm in points_in(70, 10):
        r0, q = r_mm * 1e-3, rng.normal(size=3)
        expected = 0.0
        for r_coil, m in zip(coil.position_mm * 1e-3, coil.moment_am2_per_a, strict=True):
            a_vec = r_coil - r0
            a, r = np.linalg.norm(a_vec), np.linalg.norm(r_coil)
            f = a * (r * a + r**2 - r0 @ r_coil)
            grad_f = (a**2 / r + a_vec @ r_coil / a + 2 * a + 2 * r) * r_coil - (a + 2 * r + a_vec @ r_coil / a) * r0
            b = 1e-7 / f**2 * (f * np.cross(q, r0) - np.cross(q, r0) @ r_coil * grad_f)
            expected -= DIDT * m @ b
        found = sphere_field(r_mm[None], coil, np.eye(4), DIDT, ORIGIN)[0] @ q
        assert found == pytest.approx(expected, rel=1e-9)


@given(direction=directions, angle=angles, axis=directions, turn=angles)
@settings(deadline=None, max_examples=30)
def test_turning_head_and_coil_together_turns_the_field(direction, angle, axis, turn):
    points, pose, rotation = points_in(70, 40), pose_at(direction, angle, 85), rotation_about(axis, turn)
    turned_pose = np.eye(4)
    turned_pose[:3] = rotation @ pose[:3]
    field = sphere_field(points, figure_of_eight(), pose, DIDT, ORIGIN)
    turned = sphere_field(points @ rotation.T, figure_of_eight(), turned_pose, DIDT, ORIGIN)
    np.testing.assert_allclose(turned, field @ rotation.T, atol=1e-9 * np.abs(field).max())


def test_moving_head_coil_and_centre_together_changes_nothing():
    points, pose, shift = points_in(70, 40), pose_at(np.array([0.0, 0.5, 1.0]), 0.3, 85), np.array([-1.3, -23.6, 10.9])
    moved = pose.copy()
    moved[:3, 3] += shift
    np.testing.assert_allclose(
        sphere_field(points + shift, figure_of_eight(), moved, DIDT, shift),
        sphere_field(points, figure_of_eight(), pose, DIDT, ORIGIN),
        rtol=1e-9,
    )


@given(factor=st.floats(-1e3, 1e3))
def test_the_field_is_proportional_to_the_change_of_current(factor):
    sphere, coil, pose = SphereField(points_in(70, 20), ORIGIN), random_dipoles(), np.eye(4)
    np.testing.assert_allclose(
        sphere.field(coil, pose, factor * DIDT), factor * sphere.field(coil, pose, DIDT), rtol=1e-12
    )


def test_the_field_of_two_sets_of_dipoles_is_the_sum_of_theirs():
    one, two = random_dipoles(1), random_dipoles(2)
    both = Coil(
        "both",
        np.concatenate([one.position_mm, two.position_mm]),
        np.concatenate([one.moment_am2_per_a, two.moment_am2_per_a]),
        100.0,
    )
    sphere = SphereField(points_in(70, 20), ORIGIN)
    expected = sum(sphere.field(coil, np.eye(4), DIDT) for coil in (one, two))
    np.testing.assert_allclose(sphere.field(both, np.eye(4), DIDT), expected, atol=1e-12 * np.abs(expected).max())


def test_there_is_no_field_at_the_centre_and_none_of_a_radial_dipole():
    radial = Coil("radial", np.array([[0.0, 0.0, 90.0]]), np.array([[0.0, 0.0, 1e-3]]), 100.0)
    tangential = Coil("tangential", radial.position_mm, np.array([[1e-3, 0.0, 0.0]]), 100.0)
    points = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 60.0], [30.0, 0.0, 0.0]])
    field = sphere_field(points, tangential, np.eye(4), DIDT, ORIGIN)
    np.testing.assert_array_equal(field[0], 0)
    assert np.abs(field[1:]).max() > 0
    # A dipole that points away from the centre makes an azimuthal field, none on its own axis.
    np.testing.assert_allclose(sphere_field(points, radial, np.eye(4), DIDT, ORIGIN)[:2], 0, atol=1e-15)


def test_many_points_give_what_each_gives_alone():
    points = points_in(74, 5000)
    coil, pose = figure_of_eight(), pose_at(np.array([-0.4, -0.3, 0.8]), 0.6, 85)
    field = sphere_field(points, coil, pose, DIDT, ORIGIN)
    assert field.shape == (5000, 3)
    for i in (0, 255, 256, 257, 4998, 4999):
        np.testing.assert_allclose(field[i], sphere_field(points[i : i + 1], coil, pose, DIDT, ORIGIN)[0], rtol=1e-9)


def test_magnitude_is_the_length_of_the_field():
    sphere, pose = SphereField(points_in(70, 300), ORIGIN), pose_at(np.array([0.2, 0.5, 1.0]), 0.3, 85)
    np.testing.assert_allclose(
        sphere.magnitude(figure_of_eight(), pose, DIDT) ** 2,
        (sphere.field(figure_of_eight(), pose, DIDT) ** 2).sum(axis=1),
    )


def test_no_points_give_no_field():
    assert sphere_field(np.zeros((0, 3)), random_dipoles(), np.eye(4), DIDT, ORIGIN).shape == (0, 3)


def dipole_at(distance_mm: float) -> Coil:
    return Coil("one", np.array([[0.0, 0.0, distance_mm]]), np.array([[1e-3, 0.0, 0.0]]), 100.0)


def test_a_coil_outside_by_just_the_gap_is_accepted():
    points = np.array([[0.0, 70.0, 0.0]])
    assert np.isfinite(sphere_field(points, dipole_at(70 + MIN_GAP_MM + 1e-6), np.eye(4), DIDT, ORIGIN)).all()


@pytest.mark.parametrize("distance_mm", [0.0, 30.0, 69.0, 70.0, 70 + MIN_GAP_MM - 1e-6])
def test_a_coil_in_or_near_the_sphere_of_the_points_is_refused(distance_mm):
    with pytest.raises(DataError, match="farther out"):
        sphere_field(np.array([[0.0, 70.0, 0.0]]), dipole_at(distance_mm), np.eye(4), DIDT, ORIGIN)


def test_a_pose_in_metres_is_refused():
    pose = pose_at(np.array([-0.4, -0.3, 0.8]), 0.6, 85)
    pose[:3, 3] *= 1e-3
    with pytest.raises(DataError, match="Is the pose in mm"):
        sphere_field(points_in(70, 10), figure_of_eight(), pose, DIDT, ORIGIN)


@pytest.mark.parametrize(
    ("points", "center", "didt", "message"),
    [
        (np.zeros(3), ORIGIN, DIDT, "shapes"),
        (np.zeros((2, 2)), ORIGIN, DIDT, "shapes"),
        (np.zeros((2, 3)), (0.0, 0.0), DIDT, "shapes"),
        (np.full((2, 3), np.nan), ORIGIN, DIDT, "not finite"),
        (np.zeros((2, 3)), (0.0, np.inf, 0.0), DIDT, "not finite"),
        (np.zeros((2, 3)), ORIGIN, np.nan, "dI/dt"),
    ],
)
def test_unusable_input_is_refused(points, center, didt, message):
    with pytest.raises(DataError, match=message):
        sphere_field(points, dipole_at(100.0), np.eye(4), didt, center)

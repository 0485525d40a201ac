"""TMS coils as sets of magnetic dipoles, and the frame that a coil pose refers to.

Coil frame (the convention of SimNIBS and its `matsimnibs`), in mm: the origin is the centre of the coil's face, the
side that touches the scalp; +z points from the coil into the head, so the windings lie at z < 0; +y prolongs the
handle, away from it, and is the direction of the induced E-field under the centre of a figure of eight while dI/dt is
positive; +x completes a right-handed frame, along the line between the two wings. A coil pose is the 4x4 matrix that
takes homogeneous coordinates in this frame to the head's space in mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError

POSE_TOLERANCE = 1e-3
"""How far a pose's axes may be from orthonormal: largest entry of |R^T R - 1| (navigators print four digits)."""

MU0_OVER_4PI = 1e-7
"""T m / A; mu0 / (4 pi), exact to 1e-9 since the SI of 2019."""

_BLOCK = 512  # points at a time: the pairs' scalars then stay in a core's cache

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Coil:
    """A coil as d magnetic dipoles in the coil frame.

    Attributes
    ----------
    name : str
        What the coil is.
    position_mm : numpy.ndarray
        (d, 3) float64, mm; where the dipoles are.
    moment_am2_per_a : numpy.ndarray
        (d, 3) float64, A m^2 per A of coil current; their moments. Times dI/dt in A/s they are dm/dt in A m^2/s, which
        is what induces the E-field.
    max_didt_a_per_us : float
        dI/dt at 100 % of the stimulator's output, at the pulse's start, A/us.
    """

    name: str
    position_mm: Floats
    moment_am2_per_a: Floats
    max_didt_a_per_us: float


def figure_of_eight(
    *,
    name: str = "figure of eight, 70 mm",
    n_turns: int = 9,
    inner_diameter_mm: float = 56.0,
    outer_diameter_mm: float = 88.0,
    wing_distance_mm: float = 90.0,
    depth_mm: float = 6.5,
    n_rings: int = 5,
    max_didt_a_per_us: float = 171.0,
) -> Coil:
    """Make a figure-of-eight coil; the defaults are the Magstim 70 mm double coil.

    Each wing is a set of concentric circular turns. A turn of radius R that carries the current I is equivalent to a
    sheet of magnetic dipoles with I per area over its disc, so a wing is a sheet with I N(r), N(r) being the number of
    turns that go around a point at distance r from the wing's centre. The sheet is cut into tiles of equal area (a disc
    and `n_rings` rings of 8 j tiles), and every tile becomes one dipole with the tile's moment. Rings sit at the radius
    that keeps the ring's second moment.

    Turns, diameters (of the wire's centre line) and distances: Thielscher & Kammer 2004, Clin Neurophysiol 115:1697;
    SimNIBS' dipole file of that coil has exactly this total moment and these centres. The largest dI/dt is what a
    capacitor at 2.8 kV gives on the coil's about 16.4 uH alone; cables lower it, so give your stimulator's own.

    Parameters
    ----------
    name : str
        Name to give to the coil.
    n_turns : int
        Turns per wing.
    inner_diameter_mm, outer_diameter_mm : float
        Diameters of the innermost and the outermost turn.
    wing_distance_mm : float
        Distance between the wings' centres.
    depth_mm : float
        How far the middle of the windings lies behind the coil's face.
    n_rings : int
        Rings of tiles per wing; there are 2 (1 + 4 n (n + 1)) dipoles.
    max_didt_a_per_us : float
        dI/dt at 100 % output.

    Returns
    -------
    Coil
        242 dipoles with the defaults. With positive dI/dt the E-field under the centre points along +y.

    Raises
    ------
    DataError
        A size or number that no coil has.
    """
    if n_turns < 1 or n_rings < 0:
        raise DataError(f"A wing of {n_turns} turns in {n_rings} rings of tiles; expected at least 1 turn and 0 rings.")
    if not 0 < inner_diameter_mm <= outer_diameter_mm <= wing_distance_mm:
        raise DataError(
            f"Turns of {inner_diameter_mm} to {outer_diameter_mm} mm on wings {wing_distance_mm} mm apart; expected "
            "0 < inner <= outer <= distance, else the wings would cut each other."
        )
    turn_radius_mm = np.linspace(outer_diameter_mm / 2, inner_diameter_mm / 2, n_turns)

    def cut(edge_mm: Floats, power: int) -> Floats:
        """Integrate N(r) 2 pi r^(power - 1) dr up to each edge."""
        reached = np.minimum(edge_mm[:, None], turn_radius_mm[None, :])
        integral: Floats = 2 * np.pi / power * (reached**power).sum(axis=1)
        return integral

    # Edges in the ratio 1 : 3 : 5 ..., so that ring j has 8 j times the area of the disc.
    edge_mm = np.concatenate(([0.0], outer_diameter_mm / 2 * np.arange(1, 2 * n_rings + 2, 2) / (2 * n_rings + 1)))
    ring_moment = np.diff(cut(edge_mm, 2))
    ring_radius_mm = np.sqrt(np.diff(cut(edge_mm, 4)) / ring_moment)
    ring_radius_mm[0] = 0.0

    tiles = [1] + [8 * j for j in range(1, n_rings + 1)]
    # Half a tile of turn keeps the dipoles symmetric about both axes.
    angle = np.concatenate([(np.arange(n) + 0.5) * 2 * np.pi / n for n in tiles])
    radius_mm = np.repeat(ring_radius_mm, tiles)
    moment_mm2 = np.repeat(ring_moment / tiles, tiles)

    wing_mm = np.stack([radius_mm * np.cos(angle), radius_mm * np.sin(angle), np.full_like(angle, -depth_mm)], axis=1)
    offset_mm = np.array([wing_distance_mm / 2, 0.0, 0.0])
    position_mm = np.concatenate([wing_mm - offset_mm, wing_mm + offset_mm])
    moment = np.zeros_like(position_mm)
    moment[:, 2] = np.concatenate([-moment_mm2, moment_mm2]) * 1e-6
    return Coil(name, position_mm, moment, max_didt_a_per_us)


def transform(coil: Coil, pose: Floats) -> tuple[Floats, Floats]:
    """Bring a coil's dipoles to where the coil is.

    Parameters
    ----------
    coil : Coil
        The coil, d dipoles.
    pose : numpy.ndarray
        (4, 4); coil frame to the head's space, mm.

    Returns
    -------
    position_mm : numpy.ndarray
        (d, 3) float64, mm, in the head's space.
    moment_am2_per_a : numpy.ndarray
        (d, 3) float64, A m^2 per A, in the head's space.

    Raises
    ------
    DataError
        The pose is no rigid motion.
    """
    pose = check_pose(pose)
    rotation = pose[:3, :3]
    return coil.position_mm @ rotation.T + pose[:3, 3], coil.moment_am2_per_a @ rotation.T


def vector_potential(points_mm: Floats, position_mm: Floats, moment_am2_per_a: Floats) -> Floats:
    """Compute the vector potential of magnetic dipoles, A = mu0 / (4 pi) sum of m x (r - d) / |r - d|^3.

    Per A of coil current A is in V s/m; per A/s it is dA/dt in V/m, and -dA/dt is the E-field that the coil
    alone induces. Jackson 1998, Classical Electrodynamics, eq. 5.55. With K_ij = |r_i - d_j|^-3 the sum is
    (K m)_i x r_i - (K (m x d))_i, two matrix products.

    Parameters
    ----------
    points_mm : numpy.ndarray
        (n, 3), mm; the points. One that lies on a dipole gets values that are not finite.
    position_mm : numpy.ndarray
        (d, 3), mm; the dipoles, in the points' space (`transform`).
    moment_am2_per_a : numpy.ndarray
        (d, 3), A m^2 per A; their moments.

    Returns
    -------
    numpy.ndarray
        (n, 3) float64, V/m per (A/s).
    """
    return potentials(points_mm, position_mm, moment_am2_per_a)[1]


def scalar_potential(points_mm: Floats, position_mm: Floats, moment_am2_per_a: Floats) -> Floats:
    """Compute the magnetic scalar potential of dipoles, psi = mu0 / (4 pi) sum of m . (r - d) / |r - d|^3.

    B = -grad psi wherever no current flows, so in the whole head. Jackson 1998, Classical Electrodynamics,
    eq. 5.96 ff. (there without mu0, for H).

    Parameters
    ----------
    points_mm, position_mm, moment_am2_per_a : numpy.ndarray
        As for `vector_potential`.

    Returns
    -------
    numpy.ndarray
        (n,) float64, T m per A.
    """
    return potentials(points_mm, position_mm, moment_am2_per_a)[0]


def potentials(points_mm: Floats, position_mm: Floats, moment_am2_per_a: Floats) -> tuple[Floats, Floats]:
    """Compute both potentials, which costs little more than one.

    Parameters
    ----------
    points_mm, position_mm, moment_am2_per_a : numpy.ndarray
        As for `vector_potential`.

    Returns
    -------
    scalar : numpy.ndarray
        (n,) float64, T m per A; as of `scalar_potential`.
    vector : numpy.ndarray
        (n, 3) float64, V/m per (A/s); as of `vector_potential`.
    """
    # Metres, and from the dipoles' middle: the two parts of a sum then are little larger than what is left of them.
    origin_mm = position_mm.mean(axis=0)
    r, d = (points_mm - origin_mm) * 1e-3, (position_mm - origin_mm) * 1e-3
    m = moment_am2_per_a
    summed = _over_cubed_distance(r, d, np.concatenate([m, np.cross(m, d), (m * d).sum(axis=1, keepdims=True)], axis=1))
    with np.errstate(invalid="ignore"):
        scalar: Floats = MU0_OVER_4PI * ((summed[:, :3] * r).sum(axis=1) - summed[:, 6])
        vector: Floats = MU0_OVER_4PI * (np.cross(summed[:, :3], r) - summed[:, 3:6])
    return scalar, vector


def _over_cubed_distance(r: Floats, d: Floats, value: Floats) -> Floats:
    """Sum value_j / |r_i - d_j|^3 over j: (n, 3) points, (d, 3) dipoles, (d, k) values give (n, k)."""
    summed = np.empty((len(r), value.shape[1]))
    d_squared = (d * d).sum(axis=1)
    for start in range(0, len(r), _BLOCK):
        part = r[start : start + _BLOCK]
        distance = part @ (-2.0 * d.T)
        distance += (part * part).sum(axis=1)[:, None]
        distance += d_squared
        # Rounding may leave a point on a dipole at less than no distance; infinity is what such a point deserves.
        np.maximum(distance, 0.0, out=distance)
        with np.errstate(divide="ignore", invalid="ignore"):
            distance *= np.sqrt(distance)
            np.reciprocal(distance, out=distance)
            summed[start : start + _BLOCK] = distance @ value
    return summed


def check_pose(pose: npt.ArrayLike) -> Floats:
    """Check that a coil pose is a rigid motion.

    Parameters
    ----------
    pose : array_like
        What should be a (4, 4) matrix.

    Returns
    -------
    numpy.ndarray
        The pose, (4, 4) float64.

    Raises
    ------
    DataError
        Wrong shape, not finite, axes not orthonormal or left-handed, last row not 0 0 0 1.
    """
    pose = np.asarray(pose, np.float64)
    if pose.shape != (4, 4) or not np.isfinite(pose).all():
        raise DataError(f"A coil pose must be a (4, 4) matrix of finite numbers; found {pose.shape}: {pose.tolist()}.")
    rotation = pose[:3, :3]
    if (
        np.abs(rotation.T @ rotation - np.eye(3)).max() > POSE_TOLERANCE
        or np.linalg.det(rotation) < 0
        or not np.array_equal(pose[3], (0, 0, 0, 1))
    ):
        raise DataError(
            f"The coil pose is no rigid motion: {pose.tolist()}. Expected orthonormal, right-handed axes and the last "
            "row 0 0 0 1; is it in another program's convention, or transposed?"
        )
    return pose

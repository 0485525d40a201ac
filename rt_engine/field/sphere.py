"""The E-field that a coil induces in a sphere, in closed form.

Exact for any conductor whose conductivity depends only on the distance from its centre: neither conductivities nor
radii enter, and the field has no radial component. The formula follows from the magnetic field of a current dipole in
such a sphere (Sarvas 1987, Phys Med Biol 32:11, eq. 25) by reciprocity (Heller & van Hulsteyn 1992, Biophys J 63:129).
With r the point, p the magnetic dipole, both from the centre, a = p - r and m' = dm/dt:

    F     = |a| (|p| |a| + p . a)
    alpha = |a|^2 / |p| + p . a / |a| + 2 |a| + 2 |p|
    beta  = |a| + 2 |p| + p . a / |a|
    E(r)  = -mu0 / (4 pi)  r x sum over dipoles [ m' / F - (alpha p . m' - beta r . m') p / F^2 ]

All that depends on the pair (point, dipole) is two scalars, so the sum is two matrix products.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError
from rt_engine.field.coil import MU0_OVER_4PI, Coil, transform

MIN_GAP_MM = 2.0
"""The least distance between the points' sphere and the nearest dipole, mm: nearer, the dipoles are not the coil."""

_BLOCK = 256  # points at a time: the pairs' scalars then stay in a core's cache

Floats = npt.NDArray[np.float64]


def sphere_field(points_mm: Floats, coil: Coil, pose: Floats, didt_a_per_s: float, center_mm: npt.ArrayLike) -> Floats:
    """Compute the E-field at points in a sphere for one placement of the coil.

    Parameters
    ----------
    points_mm : numpy.ndarray
        (n, 3), mm; the points.
    coil : Coil
        The coil.
    pose : numpy.ndarray
        (4, 4); coil frame to the points' space, mm.
    didt_a_per_s : float
        Rate of change of the coil's current, A/s.
    center_mm : array_like
        (3,), mm; centre of the sphere.

    Returns
    -------
    numpy.ndarray
        (n, 3) float64, V/m.

    Raises
    ------
    DataError
        Bad shapes or values, or a dipole not outside the smallest sphere about the centre that holds all points.
    """
    return SphereField(points_mm, center_mm).field(coil, pose, didt_a_per_s)


class SphereField:
    """The same for many placements: keeps what depends on the points only.

    Parameters
    ----------
    points_mm : numpy.ndarray
        (n, 3), mm; the points.
    center_mm : array_like
        (3,), mm; centre of the sphere.

    Raises
    ------
    DataError
        Bad shapes or values.
    """

    def __init__(self, points_mm: Floats, center_mm: npt.ArrayLike) -> None:
        points_mm = np.asarray(points_mm, np.float64)
        self.center_mm = np.asarray(center_mm, np.float64)
        if points_mm.ndim != 2 or points_mm.shape[1] != 3 or self.center_mm.shape != (3,):
            raise DataError(
                f"Points {points_mm.shape} and centre {self.center_mm.shape}; expected the shapes (n, 3) and (3,)."
            )
        if not (np.isfinite(points_mm).all() and np.isfinite(self.center_mm).all()):
            raise DataError("The points or the sphere's centre hold values that are not finite numbers.")
        # Metres from here on: the formula then gives V/m without further factors.
        self._r = (points_mm - self.center_mm) * 1e-3
        self._r_squared = (self._r**2).sum(axis=1)

    def field(self, coil: Coil, pose: Floats, didt_a_per_s: float) -> Floats:
        """Compute the E-field for one placement of the coil.

        Parameters
        ----------
        coil : Coil
            The coil.
        pose : numpy.ndarray
            (4, 4); coil frame to the points' space, mm.
        didt_a_per_s : float
            Rate of change of the coil's current, A/s.

        Returns
        -------
        numpy.ndarray
            (n, 3) float64, V/m.

        Raises
        ------
        DataError
            The pose or dI/dt is bad, or a dipole is not outside the smallest sphere that holds all points.
        """
        if not np.isfinite(didt_a_per_s):
            raise DataError(f"dI/dt is {didt_a_per_s}; expected a number of A/s.")
        position_mm, moment = transform(coil, pose)
        p = (position_mm - self.center_mm) * 1e-3
        p_length = np.linalg.norm(p, axis=1)
        self._check_gap(p_length)
        p_m = (p * moment).sum(axis=1)
        field = np.empty_like(self._r)
        for start in range(0, len(self._r), _BLOCK):
            part = slice(start, start + _BLOCK)
            r = self._r[part]
            p_r = r @ p.T
            p_a = p_length**2 - p_r
            a = np.sqrt(self._r_squared[part, None] + p_a - p_r)
            p_a_over_a = p_a / a
            f_inverse = 1 / (a * (p_length * a + p_a))
            beta = a + 2 * p_length + p_a_over_a
            alpha = a**2 / p_length + beta + a
            grad_m = (alpha * p_m - beta * (r @ moment.T)) * f_inverse**2
            field[part] = np.cross(r, f_inverse @ moment - grad_m @ p)
        field *= -MU0_OVER_4PI * didt_a_per_s
        return field

    def magnitude(self, coil: Coil, pose: Floats, didt_a_per_s: float) -> Floats:
        """Compute the magnitude of the E-field for one placement of the coil.

        Parameters
        ----------
        coil, pose, didt_a_per_s
            As for `field`.

        Returns
        -------
        numpy.ndarray
            (n,) float64, V/m.

        Raises
        ------
        DataError
            As for `field`.
        """
        magnitude: Floats = np.linalg.norm(self.field(coil, pose, didt_a_per_s), axis=1)
        return magnitude

    def _check_gap(self, p_length: Floats) -> None:
        """Refuse a placement with a dipole inside or near the points' sphere, where the formula does not hold."""
        outermost_mm = 1e3 * float(np.sqrt(self._r_squared.max(initial=0.0)))
        nearest_mm = 1e3 * float(p_length.min())
        if nearest_mm < outermost_mm + MIN_GAP_MM:
            raise DataError(
                f"The coil comes within {nearest_mm:.1f} mm of the sphere's centre, the points reach out to "
                f"{outermost_mm:.1f} mm; the closed form needs all dipoles at least {MIN_GAP_MM:g} mm farther out than "
                "any point. Is the pose in mm, and does the coil's +z axis point into the head?"
            )

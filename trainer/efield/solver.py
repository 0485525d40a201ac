"""What a finite-element solver offers, whatever its elements are, and what all of them share.

Quasi-static approximation (Thielscher, Opitz & Windhoff 2011, NeuroImage 54:234, eqs. 1-3): the coil's current induces
-dA/dt, charges at the tissues' borders add -grad phi, and no current is made or lost:

    E = -dA/dt - grad phi,    div(sigma grad phi) = -div(sigma dA/dt),    sigma E . n = 0 on the scalp

Everything is per unit of dI/dt: potentials in V per A/s, fields in V/m per A/s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError
from rt_engine.field.coil import Coil, transform, vector_potential

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Solution:
    """The potential for one placement of a coil.

    Attributes
    ----------
    coil : Coil
        The coil.
    pose : numpy.ndarray
        (4, 4) float64; coil frame to the head's space, mm.
    potential : numpy.ndarray
        (N,) float64, V per A/s; phi at the solver's nodes, mean 0.
    iterations : int
        Steps of conjugate gradients.
    residual : float
        Norm of what is left of the right-hand side, relative to it.
    """

    coil: Coil
    pose: Floats
    potential: Floats
    iterations: int
    residual: float


class FieldSolver(Protocol):
    """A head with its equations ready to solve.

    A solver is read-only once made: processes forked afterwards share its memory and may solve at the same time.
    """

    @property
    def description(self) -> str:
        """Method, head, resolution and conductivities in words."""

    def content_hash(self) -> str:
        """SHA-256 over all that a solution depends on besides coil and pose."""

    def solve(self, coil: Coil, pose: Floats, *, guess: Floats | None = None) -> Solution:
        """Solve for one placement.

        Parameters
        ----------
        coil : Coil
            The coil.
        pose : numpy.ndarray
            (4, 4); coil frame to the head's space, mm.
        guess : numpy.ndarray, optional
            (N,), V per A/s; a potential to start from, e.g. that of a neighbouring placement.

        Returns
        -------
        Solution
            The potential.

        Raises
        ------
        DataError
            The pose is no rigid motion, or a dipole of the coil lies in the head.
        """

    def field_at(self, points_mm: Floats, solution: Solution) -> Floats:
        """Evaluate the E-field of a solution.

        Parameters
        ----------
        points_mm : numpy.ndarray
            (n, 3), mm; points in the conductor.
        solution : Solution
            Of this solver.

        Returns
        -------
        numpy.ndarray
            (n, 3) float64, V/m per A/s.

        Raises
        ------
        DataError
            Points outside the conductor (how many is said), or bad shapes.
        """

    def solve_at(self, coil: Coil, pose: Floats, points_mm: Floats) -> Floats:
        """Solve for one placement and evaluate its E-field: `field_at(points_mm, solve(coil, pose))`."""

    def interior_points(self, n: int, seed: int) -> Floats:
        """Draw points evenly from the conductor's volume.

        Parameters
        ----------
        n : int
            How many.
        seed : int
            The same seed gives the same points.

        Returns
        -------
        numpy.ndarray
            (n, 3) float64, mm.
        """


def dadt_at(points_mm: Floats, coil: Coil, pose: Floats) -> Floats:
    """Compute what the coil alone induces, dA/dt (Thielscher & Kammer 2004, Clin Neurophysiol 115:1697).

    Parameters
    ----------
    points_mm : numpy.ndarray
        (n, 3), mm.
    coil : Coil
        The coil.
    pose : numpy.ndarray
        (4, 4); coil frame to the points' space, mm.

    Returns
    -------
    numpy.ndarray
        (n, 3) float64, V/m per A/s.
    """
    return vector_potential(points_mm, *transform(coil, pose))


def as_points(points_mm: npt.ArrayLike) -> Floats:
    """Check that points are (n, 3) finite numbers, and return them as float64; DataError if not."""
    points = np.asarray(points_mm, np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise DataError(f"Points of the shape {points.shape}; expected finite numbers of the shape (n, 3), mm.")
    return points


def refuse_outside(outside: npt.NDArray[np.bool_], points_mm: Floats, element: str) -> None:
    """Raise DataError if any of the points lies outside; say how many and where the first is."""
    if outside.any():
        first = points_mm[np.argmax(outside)].round(2).tolist()
        raise DataError(
            f"{int(outside.sum())} of {len(outside)} points lie in no {element}, the first at {first} mm. Are points "
            "and head in the same space, in mm?"
        )


def check_coil_outside(coil: Coil, pose: Floats, is_inside: Callable[[Floats], npt.NDArray[np.bool_]]) -> None:
    """Refuse a coil that cuts the head.

    Parameters
    ----------
    coil : Coil
        The coil.
    pose : numpy.ndarray
        (4, 4); coil frame to the head's space, mm.
    is_inside : callable
        Takes (n, 3) points in mm, says which lie in the conductor.

    Raises
    ------
    DataError
        A dipole lies in the conductor, where its field has no bounds; or the pose is no rigid motion.
    """
    position_mm, _ = transform(coil, pose)
    n_inside = int(is_inside(position_mm).sum())
    if n_inside:
        raise DataError(
            f"{n_inside} of the coil's {len(position_mm)} dipoles lie inside the head at this pose: {pose.tolist()}. "
            "Is the pose in mm and in the head's space, and does the coil's +z axis point into the head?"
        )

"""What a finite-element solver offers, whatever its elements are, and what all of them share.

Quasi-static approximation (Thielscher, Opitz & Windhoff 2011, NeuroImage 54:234, eqs. 1-3): the coil's current induces
-dA/dt, charges at the tissues' borders add -grad phi, and no current is made or lost:

    E = -dA/dt - grad phi,    div(sigma grad phi) = -div(sigma dA/dt),    sigma E . n = 0 on the scalp

Everything is per unit of dI/dt: potentials in V per A/s, fields in V/m per A/s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from rt_engine.field.coil import Coil

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

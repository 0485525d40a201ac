"""The closed-form sphere in the role of a finite-element solver: for heads without known tissues, and for tests."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError
from rt_engine.field.coil import Coil
from rt_engine.field.sphere import sphere_field
from trainer.efield.solver import Floats, Solution, as_points, refuse_outside


class SphereSolver:
    """A head that is a sphere; satisfies `FieldSolver`.

    Parameters
    ----------
    center_mm : array_like
        (3,), mm; centre of the sphere.
    radius_mm : float
        Radius of the scalp, mm.

    Raises
    ------
    DataError
        No such sphere.
    """

    def __init__(self, center_mm: npt.ArrayLike, radius_mm: float) -> None:
        self.center_mm = np.asarray(center_mm, np.float64)
        self.radius_mm = float(radius_mm)
        if self.center_mm.shape != (3,) or not np.isfinite([*self.center_mm, radius_mm]).all() or radius_mm <= 0:
            raise DataError(
                f"A sphere about {self.center_mm.tolist()} mm of {radius_mm} mm; expected three numbers, a radius > 0."
            )

    @property
    def description(self) -> str:
        """Method and head in words."""
        center = ", ".join(f"{x:g}" for x in self.center_mm)
        return f"closed form (Heller & van Hulsteyn 1992), sphere of {self.radius_mm:g} mm about ({center}) mm"

    def content_hash(self) -> str:
        """SHA-256 over centre and radius."""
        return hashlib.sha256(f"sphere {self.center_mm.tolist()} {self.radius_mm!r}".encode()).hexdigest()

    def solve(self, coil: Coil, pose: Floats, *, guess: Floats | None = None) -> Solution:
        """Keep coil and pose: there is no potential to solve for."""
        return Solution(coil, np.asarray(pose, np.float64), np.zeros(0), 0, 0.0)

    def field_at(self, points_mm: Floats, solution: Solution) -> Floats:
        """Evaluate the closed form, (n, 3) V/m per A/s."""
        points = as_points(points_mm)
        refuse_outside(np.linalg.norm(points - self.center_mm, axis=1) > self.radius_mm, points, "sphere")
        return sphere_field(points, solution.coil, solution.pose, 1.0, self.center_mm)

    def solve_at(self, coil: Coil, pose: Floats, points_mm: Floats) -> Floats:
        """Evaluate the closed form for one placement, (n, 3) V/m per A/s."""
        return self.field_at(points_mm, self.solve(coil, pose))

    def interior_points(self, n: int, seed: int) -> Floats:
        """Draw points evenly from the sphere, (n, 3) mm."""
        rng = np.random.default_rng(seed)
        direction = rng.normal(size=(n, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        return self.center_mm + self.radius_mm * rng.random((n, 1)) ** (1 / 3) * direction

"""The equations of finite elements solved: conjugate gradients, preconditioned by algebraic multigrid.

Made for the discretised div(sigma grad phi) of one connected conductor without fixed potentials: symmetric, positive
semi-definite, singular only in that a constant may be added to phi. The multigrid hierarchy (smoothed aggregation, by
pyamg) is kept in single precision: it only steers the iteration, which itself runs in double precision.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from rt_engine.errors import DataError

MAX_ITERATIONS = 500
"""Steps of conjugate gradients before giving up; heads take 15 to 40."""

COARSEST = 300
"""Unknowns below which the hierarchy ends, in a dense pseudo-inverse."""

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]


class Multigrid:
    """A singular symmetric system, ready to be solved for many right-hand sides.

    Parameters
    ----------
    matrix : scipy.sparse.csr_matrix
        (N, N) float64; rows sum to 0.
    tolerance : float
        Norm of the residual, relative to that of the right-hand side, at which to stop.

    Attributes
    ----------
    setup_s : float
        How long making the hierarchy took, s.

    Raises
    ------
    DataError
        pyamg is not installed.
    """

    def __init__(self, matrix: Any, tolerance: float) -> None:
        self.matrix = matrix
        self.tolerance = tolerance
        started = time.perf_counter()
        self._levels, self._coarsest, self._sweep = _hierarchy(matrix)
        self.setup_s = time.perf_counter() - started

    def solve(self, right: Floats, guess: Floats | None = None) -> tuple[Floats, int, float]:
        """Solve for one right-hand side (Hestenes & Stiefel 1952; Saad 2003, Iterative Methods, algorithm 9.1).

        Parameters
        ----------
        right : numpy.ndarray
            (N,) float64; sums to 0.
        guess : numpy.ndarray, optional
            (N,); where to start; zeros if not given.

        Returns
        -------
        x : numpy.ndarray
            (N,) float64, with mean 0.
        iterations : int
            Steps taken.
        residual : float
            Norm of the residual relative to that of `right`; 0 if `right` is zero.

        Raises
        ------
        DataError
            No convergence, a guess of another size, or values that are not finite.
        """
        if guess is not None and guess.shape != right.shape:
            raise DataError(f"The guess has {guess.shape} nodes, this head {right.shape}: it is another head's.")
        # Without this, rounding in the sum would be a source that no potential can balance.
        right = right - right.mean()
        norm = float(np.linalg.norm(right))
        if norm == 0.0:
            return np.zeros_like(right), 0, 0.0
        x = np.zeros_like(right) if guess is None else guess - guess.mean()
        left = right - self.matrix @ x if guess is not None else right
        direction = np.zeros_like(right)
        product, iterations = 1.0, 0
        while not (residual := float(np.linalg.norm(left)) / norm) <= self.tolerance:  # NaN is not small either
            if iterations == MAX_ITERATIONS or not np.isfinite(residual):
                raise DataError(
                    f"The solver left {residual:.1e} of the right-hand side after {iterations} steps; expected "
                    f"{self.tolerance:.1e}. Are there conductivities that differ by many orders of magnitude, or "
                    "elements of almost no volume?"
                )
            # Scaled to 1, because fields per A/s are too small for single precision.
            scale = residual * norm
            step = self._cycle((left / scale).astype(np.float32)).astype(np.float64) * scale
            step -= step.mean()
            previous, product = product, float(left @ step)
            direction = step if iterations == 0 else step + product / previous * direction
            image = self.matrix @ direction
            length = product / float(direction @ image)
            x = x + length * direction
            left = left - length * image
            iterations += 1
        return x - x.mean(), iterations, residual

    def _cycle(self, right: Singles) -> Singles:
        """Take one V-cycle from zero, smoothing by Gauss-Seidel: forwards on the way down, backwards on the way up.

        The two sweeps are each other's transpose, which keeps the cycle symmetric, as conjugate gradients need it. The
        first, from zero, needs the lower triangle only, and its residual is minus what the upper one makes of it.
        """
        path = []
        for level in self._levels:
            x = np.zeros_like(right)
            self._sweep(level.lower, x, right, sweep="forward")
            path.append((level, x, right))
            right = -(level.restriction @ (level.upper @ x))
        x = self._coarsest @ right
        for level, finer, finer_right in reversed(path):
            x = finer + level.prolongation @ x
            self._sweep(level.matrix, x, finer_right, sweep="backward")
        return x


@dataclass(frozen=True, eq=False)
class _Level:
    """One level of the hierarchy, all but the coarsest; csr matrices in single precision."""

    matrix: Any
    lower: Any  # with the diagonal
    upper: Any  # without
    restriction: Any
    prolongation: Any


def _hierarchy(matrix: Any) -> tuple[list[_Level], Singles, Callable[..., None]]:
    """Make the levels, the pseudo-inverse of the coarsest one's matrix, and fetch pyamg's Gauss-Seidel sweep."""
    try:
        import pyamg
        from pyamg.relaxation.relaxation import gauss_seidel
    except ImportError as error:
        raise DataError("Finite elements need pyamg, which is not installed. Install m2m-live[train].") from error
    single = sparse.csr_matrix((matrix.data.astype(np.float32), matrix.indices, matrix.indptr), shape=matrix.shape)
    # Scaled to 1, because matrices in SI units are small enough to lose digits in single precision.
    single.data /= np.float32(abs(single.diagonal()).max())
    with _fixed_random_numbers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = pyamg.smoothed_aggregation_solver(single, presmoother=None, postsmoother=None, max_coarse=COARSEST)
    levels = []
    for level in made.levels[:-1]:
        # pyamg itself goes over to double precision here and there.
        a, p, r = (sparse.csr_matrix(m, dtype=np.float32) for m in (level.A, level.P, level.R))
        levels.append(_Level(a, sparse.tril(a, format="csr"), sparse.triu(a, 1, format="csr"), r, p))
    coarsest = made.levels[-1].A.toarray().astype(np.float64)
    # A constant of any size is in the kernel up to single precision; only what stands above that is inverted.
    inverse = np.linalg.pinv(coarsest, rcond=1e-5, hermitian=True).astype(np.float32)
    return levels, inverse, gauss_seidel


@contextmanager
def _fixed_random_numbers() -> Iterator[None]:
    """Let pyamg, which estimates spectral radii from random vectors, draw the same ones every time."""
    state = np.random.get_state()  # noqa: NPY002 - it is what pyamg draws from
    np.random.seed(0)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002

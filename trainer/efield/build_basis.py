"""Makes a reduced basis: chooses a skeleton of placements, solves it, compresses it, and measures where it holds.

1. The candidates' magnetic potentials at sample points in the head (`fitted_potentials`) are the columns of a matrix;
   QR with pivoting takes one column after the other, always the one that those before fit worst (Golub & Van Loan,
   Matrix Computations, ch. 5.4.2). The first ones are the skeleton.
2. Only the skeleton is solved with the head's solver.
3. The candidates' fields, as the basis gives them, lie close to far fewer dimensions than the skeleton has: their
   principal components are stored.
4. The residual of the fit says how good a field is. How good, the skeleton itself tells: its first k placements are a
   basis for which all others are unseen, with known fields.

How a basis is evaluated is in `rt_engine.field.field_basis`.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg

from rt_engine.errors import DataError
from rt_engine.field.coil import Coil, check_pose
from rt_engine.field.reduced_basis import ReducedBasis, check_basis, fitted_potentials
from trainer.efield.solve_many import Progress, solve_many
from trainer.efield.solver import FieldSolver

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]

N_SAMPLES = 500
"""Points in the head where potentials are fitted: three times the rank, so that a misfit shows in the residual."""

N_VOXEL_SAMPLES = 200
"""Voxels of BA4, at most, where they are fitted too: what is wrong there is wrong in the field at once."""

SAMPLE_REACH_MM = 80.0
"""Sample points lie within this distance of the middle of the candidates: there the coil's field is not yet smooth, and
from there it reaches the motor cortex."""

SAMPLE_SEED = 20260101
"""Seed of the sample points: one head and one set of candidates always get the same."""

TRUNCATION = 1e-4
"""Largest relative error that leaving out components may add to a candidate's field: far below the basis' own."""

COVERED_RADIUS_MM = 10.0
"""A coil up to this far from a candidate's place is answered if its residual allows."""

MOST_ERROR = 0.01
"""Largest relative error of a field that is answered: the residual's limit is set to keep it."""

UNSEEN_FACTOR = 1.5
"""How much larger the quotient of error and residual is for unseen placements than within the skeleton: of 60 on the
default head the largest was 2.15, within its skeleton 1.47."""


def build_basis(
    solver: FieldSolver,
    coil: Coil,
    candidates: Floats,
    points_mm: Floats,
    rank: int = 150,
    *,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    jobs: int = 1,
    dtype: type[np.float16] | type[np.float32] = np.float16,
    coverage: str = "",
) -> ReducedBasis:
    """Make a reduced basis.

    Parameters
    ----------
    solver : FieldSolver
        The head.
    coil : Coil
        The coil.
    candidates : numpy.ndarray
        (n, 4, 4); the placements that the basis shall cover (`coverage.covered_poses`), mm.
    points_mm : numpy.ndarray
        (V, 3), mm; the voxels of BA4.
    rank : int
        Placements to solve.
    checkpoint : Path, optional
        File that keeps what is solved, so that a build that was cut off goes on (`solve_many`).
    progress : callable, optional
        Told of the placements that are solved.
    jobs : int
        Processes that solve at the same time.
    dtype : type
        Type of the stored components; float16 costs an error of 1.5e-4.
    coverage : str
        What the candidates cover, in words, to be kept with the method (`Coverage.description`).

    Returns
    -------
    ReducedBasis
        The same for the same head, coil and candidates, also after an interruption.

    Raises
    ------
    DataError
        Bad poses, fewer candidates than placements to solve, candidates far from the head, or what the solver refuses.
    """
    candidates = np.asarray(candidates, np.float64)
    if candidates.ndim != 3:
        raise DataError(f"The candidates have the shape {candidates.shape}; expected (n, 4, 4).")
    for pose in candidates:
        check_pose(pose)
    if not 1 <= rank <= len(candidates):
        raise DataError(f"{len(candidates)} candidates for a skeleton of {rank}; expected at least as many, and one.")
    points_mm = np.asarray(points_mm, np.float64)
    sample_mm = sample_points(solver, candidates, points_mm, rank)
    potential = np.stack([fitted_potentials(coil, pose, sample_mm) for pose in candidates], axis=1)
    # All candidates count alike, however far the coil is from the head: what is to be small is the relative residual.
    length = np.linalg.norm(potential, axis=0)
    potential /= length
    chosen = choose_skeleton(potential, rank)
    skeleton = candidates[chosen]
    log.info("skeleton of %d placements out of %d chosen", rank, len(candidates))

    field = solve_many(solver, coil, skeleton, points_mm, checkpoint=checkpoint, progress=progress, jobs=jobs)
    flat: Floats = field.reshape(rank, -1)
    # In the unit that the potentials were brought to.
    length = length[chosen]
    limit = residual_limit(potential[:, chosen], flat / length[:, None])
    coefficient, residual = fit(potential[:, chosen], potential)
    n_above = int((residual > limit).sum())
    if n_above:
        log.warning(
            "%d of %d candidates have a residual above the limit of %.2g and would be refused; a higher rank or a "
            "smaller coverage answers them",
            n_above, len(candidates), limit,
        )  # fmt: skip
    mixing, components = compress(flat, coefficient / length[:, None])
    scale = np.abs(components).max(axis=1)
    stored: Any = np.ascontiguousarray(components / scale[:, None], dtype)
    basis = ReducedBasis(
        coil=coil,
        skeleton_pose=skeleton,
        sample_mm=sample_mm,
        mixing=mixing.astype(np.float32),
        components=stored.reshape(-1, len(points_mm), 3),
        scale=scale.astype(np.float32),
        residual_limit=limit,
        covered_mm=candidates[:, :3, 3].astype(np.float32),
        covered_radius_mm=COVERED_RADIUS_MM,
        method="; ".join(filter(None, (solver.description, f"content {solver.content_hash()}", coverage))),
    )
    check_basis(basis)
    return basis


def sample_points(solver: FieldSolver, candidates: Floats, points_mm: Floats, rank: int) -> Floats:
    """Draw the points where potentials are fitted: in the part of the head under the candidates, and in BA4.

    Parameters
    ----------
    solver : FieldSolver
        The head.
    candidates : numpy.ndarray
        (n, 4, 4), mm.
    points_mm : numpy.ndarray
        (V, 3), mm; the voxels of BA4.
    rank : int
        Placements in the skeleton; there are at least three times as many points in the head.

    Returns
    -------
    numpy.ndarray
        (S, 3) float64, mm.

    Raises
    ------
    DataError
        The candidates are far from the head.
    """
    n = max(N_SAMPLES, 3 * rank)
    middle = candidates[:, :3, 3].mean(axis=0)
    drawn = solver.interior_points(40 * n, SAMPLE_SEED)
    near = drawn[np.linalg.norm(drawn - middle, axis=1) < SAMPLE_REACH_MM][:n]
    if len(near) < n:
        raise DataError(
            f"Only {len(near)} of {40 * n} points of the head lie within {SAMPLE_REACH_MM:g} mm of the middle of the "
            f"coil placements, {np.round(middle, 1).tolist()} mm; expected {n}. Are head and subject in the same space?"
        )
    return np.concatenate([near, points_mm[:: -(-len(points_mm) // N_VOXEL_SAMPLES)]])


def choose_skeleton(potential: Floats, rank: int) -> npt.NDArray[np.int64]:
    """Choose columns by QR with pivoting.

    Parameters
    ----------
    potential : numpy.ndarray
        (S, n); a candidate's potential in every column.
    rank : int
        How many to choose.

    Returns
    -------
    numpy.ndarray
        (rank,) int64; columns, in the order in which they were taken.
    """
    _, pivot = scipy.linalg.qr(potential, mode="r", pivoting=True)
    return np.asarray(pivot[:rank], np.int64)


def fit(skeleton: Floats, potential: Floats) -> tuple[Floats, Floats]:
    """Fit potentials by the skeleton's.

    Parameters
    ----------
    skeleton : numpy.ndarray
        (S, K).
    potential : numpy.ndarray
        (S, n); none is zero.

    Returns
    -------
    coefficient : numpy.ndarray
        (K, n) float64.
    residual : numpy.ndarray
        (n,) float64, relative.
    """
    coefficient: Any = np.linalg.lstsq(skeleton, potential, rcond=1e-10)[0]
    left_over = potential - skeleton @ coefficient
    misfit: Floats = np.linalg.norm(left_over, axis=0) / np.linalg.norm(potential, axis=0)
    return coefficient, misfit


def residual_limit(potential: Floats, field: Floats, *, most_error: float = MOST_ERROR) -> float:
    """Find the residual up to which fields can be trusted.

    Every placement of the skeleton is unseen for the basis of the k that were chosen before it. From many k come pairs
    of residual and error; the limit is where the straight line above all of them, and some more, reaches the allowed
    error.

    Parameters
    ----------
    potential : numpy.ndarray
        (S, K); the skeleton's potentials, in the order in which they were chosen.
    field : numpy.ndarray
        (K, 3 V); their E-fields.
    most_error : float
        Allowed relative error.

    Returns
    -------
    float
        The limit.
    """
    residual, error = residuals_and_errors(potential, field)
    ratio = error / np.maximum(residual, np.finfo(float).tiny)
    return float(most_error / (UNSEEN_FACTOR * ratio.max())) if len(ratio) else most_error


def residuals_and_errors(potential: Floats, field: Floats) -> tuple[Floats, Floats]:
    """Predict the later placements of a skeleton by the earlier ones.

    Parameters
    ----------
    potential, field : numpy.ndarray
        As for `residual_limit`.

    Returns
    -------
    residual, error : numpy.ndarray
        (pairs,) float64, relative.
    """
    rank = len(field)
    residual: list[Any] = []
    error: list[Any] = []
    for k in sorted({max(1, round(rank * share)) for share in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)} - {rank}):
        coefficient, misfit = fit(potential[:, :k], potential[:, k:])
        wrong = np.linalg.norm(coefficient.T @ field[:k] - field[k:], axis=1) / np.linalg.norm(field[k:], axis=1)
        residual.extend(misfit)
        error.extend(wrong)
    return np.array(residual), np.array(error)


def compress(field: Floats, coefficient: Floats, *, truncation: float = TRUNCATION) -> tuple[Floats, Floats]:
    """Find the few components that the candidates' fields are made of.

    Parameters
    ----------
    field : numpy.ndarray
        (K, 3 V); the skeleton's fields.
    coefficient : numpy.ndarray
        (K, n); candidates as combinations of the skeleton.
    truncation : float
        Largest relative error of a candidate's field.

    Returns
    -------
    mixing : numpy.ndarray
        (K, R) float64; `mixing @ components` is the skeleton's fields as far as candidates need them.
    components : numpy.ndarray
        (R, 3 V) float64, orthonormal.
    """
    orthonormal, triangle = np.linalg.qr(field.T)
    candidate: Any = triangle @ coefficient
    candidate = candidate / np.linalg.norm(candidate, axis=0)
    axis, _, _ = np.linalg.svd(candidate, full_matrices=False)
    # What is left of every candidate after the first R components, for R = 0, 1, ...
    left_over = np.sqrt(np.maximum(1 - np.cumsum((axis.T @ candidate) ** 2, axis=0), 0)).max(axis=1)
    n_components = min(int((left_over > truncation).sum()) + 1, len(left_over))
    return triangle.T @ axis[:, :n_components], (orthonormal @ axis[:, :n_components]).T

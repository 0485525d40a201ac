"""Many placements solved one after the other, or by several processes at once, and kept as they come."""

from __future__ import annotations

import hashlib
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError
from rt_engine.field.coil import Coil
from trainer.efield.field_checkpoint import FieldCheckpoint
from trainer.efield.solver import FieldSolver

Progress = Callable[[int, int], None]
"""Called with the number of placements that are done and that of all."""

Floats = npt.NDArray[np.float64]


def solve_many(
    solver: FieldSolver,
    coil: Coil,
    pose: Floats,
    points_mm: Floats,
    *,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    jobs: int = 1,
) -> Floats:
    """Solve for many placements.

    Parameters
    ----------
    solver : FieldSolver
        The head.
    coil : Coil
        The coil.
    pose : numpy.ndarray
        (n, 4, 4); coil frame to the head's space, mm.
    points_mm : numpy.ndarray
        (V, 3), mm; where the fields are wanted.
    checkpoint : Path, optional
        File that keeps what is solved; what it holds already is not solved again. Ctrl-C or a kill loses no more than
        the placements that were being solved.
    progress : callable, optional
        Told of the placements that are done.
    jobs : int
        Processes that solve at the same time. They are forked, so that they share the solver's memory; 1 where the
        system cannot fork.

    Returns
    -------
    numpy.ndarray
        (n, V, 3) float64, V/m per A/s; the same bits whatever the jobs and however often it was cut off.

    Raises
    ------
    DataError
        A placement cannot be solved, no jobs, or the checkpoint is of another computation.
    """
    if jobs < 1:
        raise DataError(f"{jobs} jobs; expected 1 or more.")
    field = np.empty((len(pose), len(points_mm), 3))
    store = (
        nullcontext()
        if checkpoint is None
        else FieldCheckpoint(checkpoint, key(solver, coil, points_mm), len(points_mm))
    )
    with store as kept:
        missing = []
        for row, one in enumerate(pose):
            known = None if kept is None else kept.get(one)
            if known is None:
                missing.append(row)
            else:
                field[row] = known
        done = len(pose) - len(missing)
        if progress is not None:
            progress(done, len(pose))
        solve = partial(_solve, solver, coil, points_mm)
        for row, found in zip(missing, _each(solve, pose[missing], jobs), strict=True):
            field[row] = found
            if kept is not None:
                kept.add(pose[row], found)
            done += 1
            if progress is not None:
                progress(done, len(pose))
    return field


def key(solver: FieldSolver, coil: Coil, points_mm: Floats) -> str:
    """Return the SHA-256 over all that fields depend on besides the pose, 64 hexadecimal digits."""
    digest = hashlib.sha256(solver.content_hash().encode())
    for array in (coil.position_mm, coil.moment_am2_per_a, points_mm):
        digest.update(str(array.shape).encode() + np.ascontiguousarray(array, "<f8").tobytes())
    return digest.hexdigest()


def _solve(solver: FieldSolver, coil: Coil, points_mm: Floats, pose: Floats) -> Floats:
    return solver.solve_at(coil, pose, points_mm)


_work: Callable[[Floats], Floats] | None = None
"""What a forked process does with a pose: inherited, since a solver is too large to be sent."""


def _each(solve: Callable[[Floats], Floats], pose: Floats, jobs: int) -> Iterator[Floats]:
    """Yield the fields in the poses' order."""
    global _work
    if jobs == 1 or len(pose) < 2 or "fork" not in multiprocessing.get_all_start_methods():
        yield from map(solve, pose)
        return
    _work = solve
    try:
        # Leaving the block ends the processes, whether all is done or Ctrl-C came.
        with multiprocessing.get_context("fork").Pool(min(jobs, len(pose)), _leave_interrupts_to_the_parent) as pool:
            yield from pool.imap(_forked, pose)
    finally:
        _work = None


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _forked(pose: Floats) -> Floats:
    assert _work is not None
    return _work(pose)

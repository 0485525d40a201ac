"""Figure: how far the reduced basis is from the direct solution, by the number of placements solved for it."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rt_engine.field.coil import Coil
from rt_engine.field.placement import Floats
from rt_engine.field.reduced_basis import fitted_potentials
from tools.figures.canvas import new_figure
from trainer.efield.build_basis import choose_skeleton, fit, sample_points
from trainer.efield.solve_many import Progress, solve_many
from trainer.efield.solver import FieldSolver

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RANKS: tuple[int, ...] = (10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 130, 140, 150)


def basis_error(
    solver: FieldSolver,
    coil: Coil,
    candidates: Floats,
    unseen: Floats,
    points_mm: Floats,
    title: str,
    *,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    ranks: tuple[int, ...] = RANKS,
) -> "Figure":
    """Draw residual and error over unseen placements for growing parts of one skeleton.

    The skeleton is taken in the order of its choice, so its first k placements are the basis of rank k. Nothing is
    compressed or rounded: what storing adds is in the basis' own figures.

    Parameters
    ----------
    solver
        The head.
    coil
        The coil.
    candidates
        (n, 4, 4), placements from which the skeleton is chosen, mm.
    unseen
        (m, 4, 4), placements to test, none of them a candidate, mm.
    points_mm
        (V, 3), voxels of BA4, mm.
    title
        What was solved, in a few words.
    checkpoint
        Keeps what is solved, also across calls.
    progress
        Told of the placements that are solved.
    ranks
        Where to measure, ascending.

    Returns
    -------
    matplotlib.figure.Figure
    """
    sample_mm = sample_points(solver, candidates, points_mm, ranks[-1])
    potential = np.stack([fitted_potentials(coil, pose, sample_mm) for pose in candidates], axis=1)
    length = np.linalg.norm(potential, axis=0)
    chosen = choose_skeleton(potential / length, ranks[-1])
    poses = np.concatenate([candidates[chosen], unseen])
    solved = solve_many(solver, coil, poses, points_mm, checkpoint=checkpoint, progress=progress).reshape(
        len(poses), -1
    )
    field, true = solved[: len(chosen)] / length[chosen, None], solved[len(chosen) :]
    test = np.stack([fitted_potentials(coil, pose, sample_mm) for pose in unseen], axis=1)
    skeleton = potential[:, chosen] / length[chosen]
    error, residual = np.empty((2, len(ranks), len(unseen)))
    for row, rank in enumerate(ranks):
        coefficient, residual[row] = fit(skeleton[:, :rank], test)
        wrong = np.linalg.norm(coefficient.T @ field[:rank] - true, axis=1)
        error[row] = wrong / np.linalg.norm(true, axis=1)

    figure = new_figure(6.6, 4.0)
    panel = figure.subplots()
    panel.fill_between(ranks, 100 * error.min(axis=1), 100 * error.max(axis=1), color="#1f77b4", alpha=0.2, linewidth=0)
    panel.semilogy(
        ranks, 100 * error.mean(axis=1), "o-", color="#1f77b4", label="error of the field, mean; band: range"
    )
    panel.semilogy(ranks, 100 * residual.mean(axis=1), "s--", color="#d62728", label="residual of the fit, mean")
    panel.axhline(1.0, color="grey", linewidth=0.8, linestyle=":")
    panel.axhline(0.3, color="grey", linewidth=0.8, linestyle=":")
    panel.text(ranks[0], 1.05, "largest error allowed", fontsize=7, color="grey")
    panel.text(ranks[0], 0.315, "mean error allowed", fontsize=7, color="grey")
    panel.set_xlabel("rank: placements solved", fontsize=9)
    panel.set_ylabel("relative difference from the direct solution (%)", fontsize=9)
    panel.set_title(f"{title}; {len(unseen)} unseen placements", fontsize=9)
    panel.grid(visible=True, which="both", alpha=0.25)
    panel.tick_params(labelsize=8)
    panel.legend(fontsize=8)
    return figure

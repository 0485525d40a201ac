"""How good the baselines are on stimulations they were not fitted to: the article's measures, coverage.

Every evaluation reports all baselines on the same folds, medians beside means, with random and with spatial-block
folds. The article's networks beside them: `trainer.evaluation`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2
from threadpoolctl import threadpool_limits

from trainer.baselines import DEFAULT_FLOOR_UV, KINDS, Kind, fit_regressor, predict_field
from trainer.fitting import Baseline
from trainer.folds import FoldKind, Folds, block_folds, random_folds
from trainer.metrics import center_of_gravity, cog_error_mm, nrmse, r_squared, skill
from trainer.preprocessing import TrainingSet
from trainer.uncertainty import ONE_SD, TWO_SD, fit_uncertainty

MEP_UV = 50.0
"""A muscle is active from this amplitude on (article, II.A)."""

INNER_FOLDS = 3
"""Of the search for hyperparameters within each fold."""

_TWO_SD_FACTOR = 1.96


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Estimates of each stimulation by models that were not fitted to it.

    Attributes
    ----------
    field : dict of str to numpy.ndarray
        Kind -> (n, V) float64.
    spread : numpy.ndarray
        (n, V), of the one kind whose coverage is checked.
    cog_mm, cog_cov_mm2 : numpy.ndarray
        (n, 3) and (n, 3, 3), of the same.
    """

    field: dict[str, NDArray[np.float64]]
    spread: NDArray[np.float64]
    cog_mm: NDArray[np.float64]
    cog_cov_mm2: NDArray[np.float64]


def validate(
    training: TrainingSet,
    kind: Kind,
    *,
    floor_uv: float = DEFAULT_FLOOR_UV,
    n_folds: int = 10,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Cross-validate all baselines, and the spread of one of them.

    Hyperparameters, scaling, components and spread are found anew within each fold.

    Parameters
    ----------
    training : TrainingSet
        From `trainer.preprocessing.prepare`.
    kind : str
        The baseline that will be exported; its coverage is checked.
    floor_uv : float
        Amplitudes below it count as equal to it, uV.
    n_folds : int
        Number of folds.
    seed : int
        Shuffles them.
    progress : callable, optional
        Called with folds done and folds in all.

    Returns
    -------
    dict
        As `docs/model-file.md` describes `m2m.validation`; JSON types only.
    """
    sets: dict[FoldKind, Folds | None] = {
        "random": random_folds(training, n_folds, seed),
        "blocks": block_folds(training, n_folds, seed),
    }
    total, done = sum(len(folds or ()) for folds in sets.values()), 0

    def one_done() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    report: dict[str, Any] = {
        "n_stimulations": len(training),
        "n_active": int(_n_active(training).astype(bool).sum()),
        "n_folds": n_folds,
        "seed": seed,
        "floor_uv": float(floor_uv),
    }
    with threadpool_limits(1):
        for name, folds in sets.items():
            if folds is None:
                report[name] = None
                continue
            held_out = predict_held_out(training, kind, folds, floor_uv=floor_uv, seed=seed, one_done=one_done)
            report[name] = {each: summarise(training, held_out.field, each) for each in KINDS}
            report[name]["coverage"] = coverage(
                training, held_out.field[kind], held_out.spread, held_out.cog_mm, held_out.cog_cov_mm2
            )
            if name == "random":
                report["by_active_muscles"] = by_active_muscles(training, held_out.field[kind])
    return report


def predict_held_out(
    training: TrainingSet,
    kind: Kind,
    folds: Folds,
    *,
    floor_uv: float,
    seed: int = 0,
    one_done: Callable[[], None] = lambda: None,
) -> HeldOut:
    """Estimate every stimulation by baselines fitted to the other folds; parameters as for `validate`."""
    n, v = training.field.shape
    held_out = HeldOut(
        field={each: np.full((n, v), np.nan) for each in KINDS},
        spread=np.full((n, v), np.nan),
        cog_mm=np.full((n, 3), np.nan),
        cog_cov_mm2=np.full((n, 3, 3), np.nan),
    )
    for fit, test in folds:
        part = training.rows(fit)
        y, x = part.amplitudes_uv, part.field
        for each in KINDS:
            regressor = fit_regressor(each, y, x, floor_uv=floor_uv, inner_folds=INNER_FOLDS, seed=seed)
            held_out.field[each][test] = predict_field(regressor, training.amplitudes_uv[test])
            if each == kind:
                spread = fit_uncertainty(regressor, y, x, part.voxel_mm, seed=seed)
                estimate = Baseline(kind, floor_uv, regressor, spread, part).predict(training.amplitudes_uv[test])
                held_out.spread[test] = estimate.spread
                held_out.cog_mm[test], held_out.cog_cov_mm2[test] = estimate.cog_mm, estimate.cog_cov_mm2
        one_done()
    return held_out


def summarise(training: TrainingSet, estimates: dict[str, NDArray[np.float64]], kind: str) -> dict[str, float]:
    """Return the article's measures of one baseline; ``_active`` leaves out pulses without any active muscle."""
    true, estimated = training.field, estimates[kind]
    measures = {
        "nrmse": nrmse(true, estimated),
        "r2": r_squared(true, estimated),
        "cog_error_mm": cog_error_mm(true, estimated, training.voxel_mm),
    }
    active = _n_active(training) > 0
    found: dict[str, float] = {}
    for name, values in measures.items():
        found[f"{name}_mean"] = float(values.mean())
        found[f"{name}_median"] = float(np.median(values))
        found[f"{name}_sem"] = float(values.std(ddof=1) / np.sqrt(len(values)))
        if active.any():
            found[f"{name}_mean_active"] = float(values[active].mean())
    found["skill"] = skill(true, estimated, estimates["mean-map"])
    return {name: round(value, 5) for name, value in found.items()}


def by_active_muscles(training: TrainingSet, estimated: NDArray[np.float64]) -> list[dict[str, float]]:
    """Return NRMSE and CoG error by the number of active muscles (article, Fig. 7)."""
    error, off = nrmse(training.field, estimated), cog_error_mm(training.field, estimated, training.voxel_mm)
    active = _n_active(training)
    return [
        {
            "active_muscles": int(count),
            "n": int((active == count).sum()),
            "nrmse_mean": round(float(error[active == count].mean()), 5),
            "cog_error_mm_mean": round(float(off[active == count].mean()), 5),
        }
        for count in np.unique(active)
    ]


def coverage(
    training: TrainingSet,
    field: NDArray[np.float64],
    spread: NDArray[np.float64],
    cog_mm: NDArray[np.float64],
    cog_cov_mm2: NDArray[np.float64],
) -> dict[str, float]:
    """Return which part of the truth lies within the stated spread.

    ``field_1sd`` and ``field_95``: voxels within 1 and 1.96 standard deviations (should be .683 and .95); ``cog_1sd``
    and ``cog_95``: centres of gravity within the ellipsoids that hold 68.27 % and 95 % of a normal distribution.
    """
    off_by = np.abs(training.field - field) / spread
    off = center_of_gravity(training.field, training.voxel_mm) - cog_mm
    distance = (off * np.linalg.solve(cog_cov_mm2, off[:, :, None])[:, :, 0]).sum(axis=1)
    found = {
        "field_1sd": (off_by <= 1.0).mean(),
        "field_95": (off_by <= _TWO_SD_FACTOR).mean(),
        "cog_1sd": (distance <= chi2.ppf(ONE_SD, 3)).mean(),
        "cog_95": (distance <= chi2.ppf(TWO_SD, 3)).mean(),
    }
    return {name: round(float(value), 4) for name, value in found.items()}


def _n_active(training: TrainingSet) -> NDArray[np.intp]:
    return (np.nan_to_num(training.amplitudes_uv) >= MEP_UV).sum(axis=1)

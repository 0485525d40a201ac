"""Figures of an evaluation: the article's measures per method, and by intensity, active muscles and strength of MEPs.

Every mean comes with its median and two error bars that the article and its authors' code call by one name: 1.96
standard errors of the mean over the folds (article, Table II), and over the stimulations (code).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from rt_engine.errors import DataError
from trainer.evaluation.results import NOT_TESTED, Evaluation
from trainer.metrics import cog_error_mm, nrmse, r_squared, skill
from trainer.validation import MEP_UV

MEASURES = ("nrmse", "r2", "cog_mm", "pearson2_positive")

MEAN_MAP = "mean-map"
"""The method that skill is measured against."""

WEAK_MEAN = 0.02
"""Mean of the normalised MEPs below which the article warns of its maps (III.C)."""

MANY_LEVELS = 10
"""More intensities than this are no levels of a protocol; they are grouped in steps of 10 % RMT."""

_95_PERCENT = 1.96


@dataclass(frozen=True, eq=False)
class Measures:
    """The article's measures of the t tested rows, in ascending order of the rows.

    Attributes
    ----------
    nrmse : numpy.ndarray
        (t,) float64, eq. 12.
    r2 : numpy.ndarray
        (t,) float64, eq. 13.
    cog_mm : numpy.ndarray
        (t,) float64, eq. 15, mm; NaN where the estimate is zero everywhere and has no centre.
    pearson2_positive : numpy.ndarray
        (t,) float64, what the authors' code calls R^2, see `pearson_squared_of_positive`.
    """

    nrmse: npt.NDArray[np.float64]
    r2: npt.NDArray[np.float64]
    cog_mm: npt.NDArray[np.float64]
    pearson2_positive: npt.NDArray[np.float64]


def measure(evaluation: Evaluation, kind: str, method: str) -> Measures:
    """Measure a method on every stimulation that it was tested on.

    Parameters
    ----------
    evaluation : Evaluation
        The held-out estimates.
    kind : str
        Kind of folds.
    method : str
        One of ``evaluation.field[kind]``.

    Returns
    -------
    Measures
    """
    true, estimated = evaluation.true(kind), evaluation.estimated(kind, method)
    return Measures(
        nrmse(true, estimated),
        r_squared(true, estimated),
        cog_error_mm(true, estimated, evaluation.training.voxel_mm),
        pearson_squared_of_positive(true, estimated),
    )


def pearson_squared_of_positive(
    true: npt.NDArray[np.float64], estimated: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Square the correlation of the positive voxels, paired as the authors' code pairs them.

    The k-th positive voxel of the estimate is paired with the k-th positive voxel of the truth, and the shorter list is
    filled with zeros. Where both have the same positive voxels, this is Pearson's squared correlation; where the
    estimate is zero somewhere, all voxels behind are paired with another voxel. It is reported for comparison with the
    article's released code only; the article's R^2 (eq. 13) is `trainer.metrics.r_squared`.

    Parameters
    ----------
    true, estimated : numpy.ndarray
        (n, V) fields.

    Returns
    -------
    numpy.ndarray
        (n,) float64 in [0, 1]; NaN where either is constant.
    """

    def paired(field: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        positive = np.maximum(field, 0.0)
        # A stable sort by "is not positive" moves the positive voxels to the front and keeps their order.
        return np.take_along_axis(positive, np.argsort(positive <= 0, axis=1, kind="stable"), axis=1)

    x, y = paired(true), paired(estimated)
    used = np.maximum((x > 0).sum(axis=1), (y > 0).sum(axis=1))[:, None]
    in_use = np.arange(x.shape[1]) < used
    with np.errstate(divide="ignore", invalid="ignore"):
        x = np.where(in_use, x - x.sum(axis=1, keepdims=True) / used, 0.0)
        y = np.where(in_use, y - y.sum(axis=1, keepdims=True) / used, 0.0)
        return (x * y).sum(axis=1) ** 2 / ((x**2).sum(axis=1) * (y**2).sum(axis=1))


def active_muscles(evaluation: Evaluation) -> npt.NDArray[np.intp]:
    """Return (n,) how many muscles answered with at least `MEP_UV`: the article's active muscles."""
    return (np.nan_to_num(evaluation.training.amplitudes_uv) >= MEP_UV).sum(axis=1)


def mep_mean_and_variance(evaluation: Evaluation) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return (n,) mean and (n,) variance of the normalised MEPs over the muscles (article, Fig. 5)."""
    meps = evaluation.article_meps
    return np.nanmean(meps, axis=1), np.nanvar(meps, axis=1)


def intensity_levels(evaluation: Evaluation) -> npt.NDArray[np.float64]:
    """Return (n,) intensity in % RMT, rounded to whole levels, or to 10 where it is no few levels; NaN if unknown."""
    intensity = evaluation.training.intensity_percent_rmt
    whole = np.round(intensity)
    return whole if len(np.unique(whole[np.isfinite(whole)])) <= MANY_LEVELS else np.round(intensity, -1)


def groups(evaluation: Evaluation, kind: str) -> Iterator[tuple[str, str, npt.NDArray[np.bool_]]]:
    """Yield what figures are given of: ``by``, ``level``, and which of the tested rows belong to it, (t,) bool.

    ``all``; ``intensity`` (Table III); ``active_muscles`` (Fig. 5c); ``mep_mean`` (below and from `WEAK_MEAN`,
    Fig. 5a).
    """
    rows = evaluation.tested(kind)
    yield "all", "", np.ones(len(rows), bool)
    intensity = intensity_levels(evaluation)[rows]
    for level in np.unique(intensity[np.isfinite(intensity)]):
        yield "intensity", f"{level:g}", intensity == level
    active = active_muscles(evaluation)[rows]
    for count in np.unique(active):
        yield "active_muscles", str(count), active == count
    weak = mep_mean_and_variance(evaluation)[0][rows] < WEAK_MEAN
    for level, member in ((f"<{WEAK_MEAN:g}", weak), (f">={WEAK_MEAN:g}", ~weak)):
        if member.any():
            yield "mep_mean", level, member


def summarise(
    evaluation: Evaluation, kind: str, measures: Measures, member: npt.NDArray[np.bool_] | None = None
) -> dict[str, float | int]:
    """Return means, medians and error bars of one method's measures.

    Parameters
    ----------
    evaluation : Evaluation
        What they were measured on.
    kind : str
        Kind of folds.
    measures : Measures
        From `measure`.
    member : numpy.ndarray, optional
        (t,) bool: only these of the tested rows.

    Returns
    -------
    dict
        ``stimulations`` and ``folds`` that hold any of them; per measure ``_mean`` and ``_median`` over stimulations,
        ``_sem196_folds`` (1.96 SEM of the folds' means; NaN for one fold) and ``_sem196_stimulations``;
        ``cog_undefined``: stimulations whose estimate is zero everywhere.
    """
    fold = evaluation.fold[kind][evaluation.tested(kind)]
    member = np.ones(len(fold), bool) if member is None else member
    found: dict[str, float | int] = {
        "stimulations": int(member.sum()),
        "folds": len(np.unique(fold[member])),
        "cog_undefined": int(np.isnan(measures.cog_mm[member]).sum()),
    }
    for name in MEASURES:
        values, of_fold = getattr(measures, name)[member], fold[member]
        # A map without a centre, or without any positive voxel, has no such number: it is counted, not averaged.
        values, of_fold = values[~np.isnan(values)], of_fold[~np.isnan(values)]
        means = np.array([values[of_fold == number].mean() for number in np.unique(of_fold)])
        found[f"{name}_mean"] = float(values.mean()) if len(values) else np.nan
        found[f"{name}_median"] = float(np.median(values)) if len(values) else np.nan
        found[f"{name}_sem196_folds"] = _sem196(means)
        found[f"{name}_sem196_stimulations"] = _sem196(values)
    return found


def table(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return the rows of ``figures.csv``: every method in both kinds of folds, by every group.

    Parameters
    ----------
    evaluation : Evaluation
        The held-out estimates.

    Returns
    -------
    list of dict
        ``data, folds_kind, method, by, level``, then what `summarise` gives, and ``skill`` against the mean map of the
        same rows.
    """
    rows: list[dict[str, Any]] = []
    for kind, by_method in evaluation.field.items():
        true = evaluation.true(kind)
        mean_map = evaluation.estimated(kind, MEAN_MAP) if MEAN_MAP in by_method else None
        for method in by_method:
            measures, estimated = measure(evaluation, kind, method), evaluation.estimated(kind, method)
            for by, level, member in groups(evaluation, kind):
                row: dict[str, Any] = {
                    "data": evaluation.name,
                    "folds_kind": kind,
                    "method": method,
                    "by": by,
                    "level": level,
                }
                row |= summarise(evaluation, kind, measures, member)
                row["skill"] = np.nan if mean_map is None else _skill(true[member], estimated[member], mean_map[member])
                rows.append(row)
    return rows


def mep_correlations(evaluation: Evaluation, kind: str, measures: Measures) -> dict[str, float]:
    """Return Spearman's rank correlation of NRMSE with mean and variance of the normalised MEPs (Fig. 5a, b).

    Negative: the error falls as the muscles answer more strongly. NaN where one of the two does not vary.
    """
    rows = evaluation.tested(kind)
    found = {}
    for name, values in zip(("mean", "variance"), mep_mean_and_variance(evaluation), strict=True):
        varies = np.ptp(values[rows]) > 0 and np.ptp(measures.nrmse) > 0
        found[f"nrmse_vs_mep_{name}"] = float(spearmanr(values[rows], measures.nrmse).statistic) if varies else np.nan
    return found


def forward_summary(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """Return how well MEPs were foretold from the held-out field: M2M-Net's beside a constant's.

    Returns
    -------
    dict
        Method -> ``rmse`` of the normalised MEPs, ``rmse_sem196_folds``, ``r2`` (1 - squared error / variance, over all
        muscles), ``skill`` (1 - MSE / MSE of the constant, where there is one). Missing amplitudes do not count.
    """
    found: dict[str, dict[str, float]] = {}
    for method, estimate in evaluation.forward_meps.items():
        rows = evaluation.tested("random")
        true, fold = evaluation.normalised_meps[rows], evaluation.fold["random"][rows]
        squared = (estimate[rows] - true) ** 2
        known = np.isfinite(true)  # of few tested rows, a muscle may have none
        around_mean = (true - np.where(known, true, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)) ** 2
        by_fold = np.array([np.sqrt(np.nanmean(squared[fold == number])) for number in np.unique(fold)])
        with np.errstate(divide="ignore", invalid="ignore"):  # one tested row has no variance to explain
            r2 = 1 - np.nansum(squared) / np.nansum(np.where(np.isnan(squared), np.nan, around_mean))
        found[method] = {
            "rmse": float(np.sqrt(np.nanmean(squared))),
            "rmse_sem196_folds": _sem196(by_fold),
            "r2": float(r2),
        }
    if "constant" in found:
        for figures in found.values():
            figures["skill"] = 1.0 - (figures["rmse"] / found["constant"]["rmse"]) ** 2
    return found


def headline(evaluation: Evaluation) -> dict[str, Any]:
    """Return the figures that `m2m evaluate --json` prints of a data set; JSON types but for NaN.

    Returns
    -------
    dict
        ``methods``: method -> kind of folds -> ``nrmse, nrmse_median, nrmse_sem`` (1.96 SEM over folds),
        ``nrmse_sem_stimulations, r2, r2_sem, r2_median, cog_mm, cog_mm_median, cog_undefined, pearson2_positive,
        skill``; ``by_intensity``: method -> kind of folds -> list (Table III); ``forward``; ``stimulations``,
        ``folds``, ``seconds``, ``notes``.
    """
    methods: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in evaluation.methods}
    by_intensity: dict[str, dict[str, list[dict[str, Any]]]] = {name: {} for name in evaluation.methods}
    for row in table(evaluation):
        kind, method = row["folds_kind"], row["method"]
        short = {
            "nrmse": row["nrmse_mean"],
            "nrmse_median": row["nrmse_median"],
            "nrmse_sem": row["nrmse_sem196_folds"],
            "nrmse_sem_stimulations": row["nrmse_sem196_stimulations"],
            "r2": row["r2_mean"],
            "r2_sem": row["r2_sem196_folds"],
            "r2_median": row["r2_median"],
            "cog_mm": row["cog_mm_mean"],
            "cog_mm_median": row["cog_mm_median"],
            "cog_undefined": row["cog_undefined"],
            "pearson2_positive": row["pearson2_positive_mean"],
            "skill": row["skill"],
        }
        if row["by"] == "all":
            methods[method][kind] = short
        elif row["by"] == "intensity":
            level = {"percent_rmt": float(row["level"]), "stimulations": row["stimulations"]}
            by_intensity[method].setdefault(kind, []).append(level | {k: short[k] for k in _OF_TABLE_III})
    return {
        "stimulations": len(evaluation.training),
        "folds": {kind: np.unique(fold[fold != NOT_TESTED]).tolist() for kind, fold in evaluation.fold.items()},
        "methods": methods,
        "by_intensity": by_intensity,
        "forward": forward_summary(evaluation),
        "seconds": evaluation.seconds,
        "notes": list(evaluation.notes),
    }


_OF_TABLE_III = ("nrmse", "nrmse_sem", "r2", "r2_sem")


def _sem196(values: npt.NDArray[np.float64]) -> float:
    return float(_95_PERCENT * values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan


def _skill(
    true: npt.NDArray[np.float64], estimated: npt.NDArray[np.float64], mean_map: npt.NDArray[np.float64]
) -> float:
    try:
        return skill(true, estimated, mean_map)
    except DataError:  # a group in which the mean map is perfect: nothing to gain
        return np.nan

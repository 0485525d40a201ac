"""What the report is written from: an evaluation, its figures counted once, and which model its pictures show.

Counts nothing itself: that is `trainer.evaluation.figures`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.architectures.settings import MODELS, TITLES
from trainer.evaluation.figures import MEAN_MAP, active_muscles, forward_summary, intensity_levels, table
from trainer.evaluation.results import Evaluation
from trainer.metrics import nrmse

BASELINE_TITLES = {
    MEAN_MAP: "Mean map",
    "knn": "k nearest neighbours",
    "ridge": "Ridge",
    "kernel-ridge": "Kernel ridge",
}

PREFERRED = "direct-variational"
"""The model that the article chose, and whose maps its Figs. 4 and 5 show."""

KIND_TITLES = {"random": "random folds", "blocks": "spatial blocks"}


@dataclass(frozen=True, eq=False)
class Material:
    """An evaluation with its figures.

    Attributes
    ----------
    evaluation : Evaluation
        Kinds of folds in which nothing was tested are left out.
    main : str
        Kind of folds that pictures show: ``random``, or what there is; empty if nothing was tested.
    chosen : str
        Method that Table III and Figs. 4 and 5 show; empty if there is none.
    summary : dict
        (kind of folds, method, by, level) -> row of `trainer.evaluation.figures.table`.
    nrmse : dict
        (kind of folds, method) -> (tested rows,) float64.
    forward : dict
        From `trainer.evaluation.figures.forward_summary`; empty without a forward model.
    active : numpy.ndarray
        (n,) number of active muscles.
    percent_rmt : numpy.ndarray
        (n,) float64, intensity in levels; NaN where unknown.
    """

    evaluation: Evaluation
    main: str
    chosen: str
    summary: dict[tuple[str, str, str, str], dict[str, Any]]
    nrmse: dict[tuple[str, str], npt.NDArray[np.float64]]
    forward: dict[str, dict[str, float]]
    active: npt.NDArray[np.intp]
    percent_rmt: npt.NDArray[np.float64]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of folds, in the report's order."""
        return tuple(self.evaluation.field)

    def methods(self, kind: str) -> tuple[str, ...]:
        """Return the methods that were tested in a kind of folds: baselines, then the models in the article's order."""
        return in_order(tuple(self.evaluation.field.get(kind, ())))

    def of(self, kind: str, method: str, by: str = "all", level: str = "") -> dict[str, Any] | None:
        """Return a method's figures of some of the stimulations; None where there are none."""
        return self.summary.get((kind, method, by, level))

    def levels(self, kind: str, method: str, by: str) -> list[str]:
        """Return the levels of a grouping, in the order of the figures."""
        return [level for k, m, b, level in self.summary if (k, m, b) == (kind, method, by)]

    @property
    def mean_map_is_there(self) -> bool:
        """Whether the mean map was tested in the main folds."""
        return (self.main, MEAN_MAP) in self.nrmse

    def best(self, methods: tuple[str, ...], kind: str | None = None) -> str:
        """Return the method with the smallest mean NRMSE; empty if none has one."""
        kind = self.main if kind is None else kind
        return _best(self.summary, methods, kind)

    def paired_difference(self, kind: str, method: str, other: str) -> tuple[float, float]:
        """Return the mean difference of two methods' NRMSE over the folds, and 1.96 SEM of it (NaN for one fold)."""
        fold = self.evaluation.fold[kind][self.evaluation.tested(kind)]
        off = self.nrmse[kind, method] - self.nrmse[kind, other]
        by_fold = np.array([off[fold == number].mean() for number in np.unique(fold)])
        spread = 1.96 * by_fold.std(ddof=1) / np.sqrt(len(by_fold)) if len(by_fold) > 1 else np.nan
        return float(by_fold.mean()), float(spread)


def gather(evaluation: Evaluation) -> Material:
    """Count all figures of an evaluation that the report needs.

    Parameters
    ----------
    evaluation : Evaluation
        Complete, or with anything missing.

    Returns
    -------
    Material
    """
    kinds = [
        k for k in ("random", "blocks", *evaluation.field) if evaluation.field.get(k) and len(evaluation.tested(k))
    ]
    kinds = list(dict.fromkeys(kinds))
    evaluation = replace(
        evaluation,
        fold={kind: evaluation.fold[kind] for kind in kinds},
        field={kind: evaluation.field[kind] for kind in kinds},
    )
    summary = {(r["folds_kind"], r["method"], r["by"], r["level"]): r for r in table(evaluation)}
    main = kinds[0] if kinds else ""
    return Material(
        evaluation=evaluation,
        main=main,
        chosen=_chosen(summary, tuple(evaluation.field.get(main, ())), main),
        summary=summary,
        nrmse={
            (kind, method): nrmse(evaluation.true(kind), evaluation.estimated(kind, method))
            for kind in kinds
            for method in evaluation.field[kind]
        },
        forward=forward_summary(evaluation) if "random" in kinds else {},
        active=active_muscles(evaluation),
        percent_rmt=intensity_levels(evaluation),
    )


def title_of(method: str) -> str:
    """Return how the report writes a method: the article's models with its letters."""
    if method in MODELS:
        return f"({'abcde'[MODELS.index(method)]}) {TITLES[method]}"
    return BASELINE_TITLES.get(method, method)


def is_baseline(method: str) -> bool:
    """Say whether a method is a yardstick and not a network."""
    return method in BASELINE_TITLES


def in_order(methods: tuple[str, ...]) -> tuple[str, ...]:
    """Return methods in the report's order: baselines, the article's models (a) to (e), others."""
    known = (*BASELINE_TITLES, *MODELS)
    return tuple(sorted(methods, key=lambda name: known.index(name) if name in known else len(known)))


def kind_title(kind: str) -> str:
    """Return how the report writes a kind of folds."""
    return KIND_TITLES.get(kind, f"folds “{kind}”")


def _chosen(summary: dict[tuple[str, str, str, str], dict[str, Any]], methods: tuple[str, ...], kind: str) -> str:
    if PREFERRED in methods:
        return PREFERRED
    networks = tuple(name for name in methods if not is_baseline(name))
    others = tuple(name for name in methods if name != MEAN_MAP)
    return _best(summary, networks or others or methods, kind)


def _best(summary: dict[tuple[str, str, str, str], dict[str, Any]], methods: tuple[str, ...], kind: str) -> str:
    known = [(float(row["nrmse_mean"]), name) for name in methods if (row := summary.get((kind, name, "all", "")))]
    known = [(value, name) for value, name in known if np.isfinite(value)]
    return min(known)[1] if known else ""

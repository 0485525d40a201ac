"""Tables of an evaluation as CSV files: one row per method and group, or one per stimulation."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rt_engine.atomic_file import written_whole
from trainer.evaluation.figures import MEASURES, active_muscles, measure, mep_mean_and_variance
from trainer.evaluation.results import Evaluation

DIGITS = 6
"""Significant digits of a number in a table."""


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with a heading; a number that does not exist is an empty cell.

    Parameters
    ----------
    path : Path
        Where to.
    rows : sequence of mapping
        Column -> value; columns are those of all rows, in the order of their first appearance.

    Raises
    ------
    DataError
        If the file cannot be written there.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with written_whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def stimulation_rows(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    """Yield a row per tested stimulation, kind of folds and method: what scatter and box plots are drawn from (Fig. 5).

    Parameters
    ----------
    evaluation : Evaluation
        The held-out estimates.

    Yields
    ------
    dict
        ``data, folds_kind, method``, ``stimulation`` (number in the data that were kept), ``fold``, ``intensity``,
        ``active_muscles``, ``mep_mean``, ``mep_variance``, then `figures.MEASURES`.
    """
    active = active_muscles(evaluation)
    mean, variance = mep_mean_and_variance(evaluation)
    intensity = evaluation.training.intensity_percent_rmt
    for kind, by_method in evaluation.field.items():
        rows = evaluation.tested(kind)
        for method in by_method:
            measures = measure(evaluation, kind, method)
            for k, row in enumerate(rows.tolist()):
                yield {
                    "data": evaluation.name,
                    "folds_kind": kind,
                    "method": method,
                    "stimulation": row,
                    "fold": int(evaluation.fold[kind][row]),
                    "intensity": float(intensity[row]),
                    "active_muscles": int(active[row]),
                    "mep_mean": float(mean[row]),
                    "mep_variance": float(variance[row]),
                    **{name: float(getattr(measures, name)[k]) for name in MEASURES},
                }


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}" if math.isfinite(value) else ""
    return "" if value is None else value

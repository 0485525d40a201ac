"""What the report says of how the networks were trained and tuned, and with which settings.

Reads `Evaluation.settings` as `trainer.evaluation.plan.assemble` writes them; whatever else stands there is listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from trainer.evaluation.report_material import in_order, title_of
from trainer.evaluation.report_page import html_table, number, paragraph

_APART = ("details", "tuning")
"""Settings that have tables of their own."""


def training_section(settings: Mapping[str, Any]) -> str:
    """Return HTML on training, tuning and all settings."""
    if not settings:
        return paragraph("The evaluation keeps no settings.")
    rest = {name: value for name, value in settings.items() if name not in _APART}
    return _table_epochs(settings) + _table_tuning(settings) + _table_settings(rest)


def stopped_by_limit(settings: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many trained stages ended at the most epochs allowed, not on the plateau, and of how many."""
    ends = [end for _, stages in _stages(settings) for _, ended in stages.values() for end in ended]
    return sum(end == "epochs" for end in ends), len(ends)


def loss_scale(settings: Mapping[str, Any]) -> str:
    """Return the networks' `loss_scale`, ``article`` or ``code``; empty if it is not known."""
    value: Any = settings
    for name in ("evaluation", "training", "architecture", "loss_scale"):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else ""


def _stages(settings: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, tuple[list[int], list[str]]]]]:
    """Yield method and stage -> (epochs, why they ended) of all its jobs."""
    details = settings.get("details")
    if not isinstance(details, Mapping):
        return
    for method in in_order(tuple(details)):
        found: dict[str, tuple[list[int], list[str]]] = {}
        jobs = details[method].values() if isinstance(details[method], Mapping) else ()
        for job in jobs:
            epochs = job.get("epochs") if isinstance(job, Mapping) else None
            for stage, count in epochs.items() if isinstance(epochs, Mapping) else ():
                counts, ended = found.setdefault(stage, ([], []))
                counts.append(int(count))
                ended.append(str(job.get("ended", {}).get(stage, "")))
        if found:
            yield method, found


def _table_epochs(settings: Mapping[str, Any]) -> str:
    rows = []
    for method, stages in _stages(settings):
        for stage, (counts, ended) in stages.items():
            low, high = min(counts), max(counts)
            rows.append(
                [
                    title_of(method),
                    stage,
                    str(len(counts)),
                    number(float(np.median(counts)), 0),
                    str(low) if low == high else f"{low} to {high}",
                    str(sum(end == "plateau" for end in ended)),
                    str(sum(end == "epochs" for end in ended)),
                ]
            )
    if not rows:
        return ""
    caption = (
        "How long the networks were trained, over all folds. The article trains until the loss no longer improves; a "
        "stage that ended at the most epochs allowed was still improving by that rule, and its model might yet "
        "become better."
    )
    columns = ["model", "stage", "trainings", "epochs, median", "range", "ended on the plateau", "at the most epochs"]
    return html_table(caption, columns, [("", rows)], text_columns=(1,))


def _table_tuning(settings: Mapping[str, Any]) -> str:
    found = settings.get("tuning")
    rows = [row for row in found if isinstance(row, Mapping)] if isinstance(found, Sequence) else []
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row))
    caption = (
        "Settings that were tried by an inner cross-validation on training stimulations only, and those chosen by "
        "the lowest NRMSE (article, II.F)."
    )
    columns = [name.replace("_", " ") for name in names]
    return html_table(caption, columns, [("", [[_value(row.get(name)) for name in names] for row in rows])])


def _table_settings(settings: Mapping[str, Any]) -> str:
    rows = [[name, text] for name, text in _flat("", settings)]
    if not rows:
        return ""
    caption = "All settings, seeds and versions of this run."
    return html_table(caption, ["setting", "value"], [("", rows)], text_columns=(1,), dense=True)


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield ``a.b`` for the entry b of a, and its value as text."""
    if isinstance(value, Mapping):
        for name in value:
            yield from _flat(f"{prefix}.{name}" if prefix else str(name), value[name])
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield prefix, ", ".join(_value(each) for each in value) or "none"
    else:
        yield prefix, _value(value)


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)

"""The report's tables: counts (article, Table I), all methods (II), by intensity (III), the forward model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.evaluation.figures import MEAN_MAP
from trainer.evaluation.report_material import Material, is_baseline, kind_title, title_of
from trainer.evaluation.report_page import Cell, bold, html_table, number, with_error
from trainer.evaluation.report_plots import forward_title


@dataclass(frozen=True)
class _Column:
    """A column of Table II: which figure, and whether larger (1) or smaller (-1) is better."""

    heading: str
    name: str
    sense: int
    error: str = ""
    digits: int = 3

    def text(self, row: dict[str, Any]) -> str:
        return with_error(row[self.name], row[self.error] if self.error else None, self.digits)


_TABLE_II = (
    _Column(Cell("NRMSE<br>mean ± 1.96 SEM"), "nrmse_mean", -1, "nrmse_sem196_folds"),
    _Column("median", "nrmse_median", -1),
    _Column(Cell("R²<br>mean ± 1.96 SEM"), "r2_mean", 1, "r2_sem196_folds"),
    _Column("median", "r2_median", 1),
    _Column(Cell("CoG error (mm)<br>mean ± 1.96 SEM"), "cog_mm_mean", -1, "cog_mm_sem196_folds", 2),
    _Column("median", "cog_mm_median", -1, digits=2),
    _Column("skill", "skill", 1),
)


def table_i(material: Material) -> str:
    """Return how many stimulations of each intensity were kept of those applied."""
    counts = material.evaluation.selection.counts
    kept, applied = sum(k for k, _ in counts.values()), sum(of for _, of in counts.values())
    columns = ["% of RMT", *(f"{level:g}" if np.isfinite(level) else "not known" for level in counts), "all"]
    row = ["kept / applied", *(f"{k}/{of}" for k, of in counts.values()), f"{kept}/{applied}"]
    caption = (
        "<b>Table I.</b> Stimulations kept after preprocessing, of those applied, by intensity in percent of the "
        "resting motor threshold (RMT)."
    )
    return html_table(caption, columns, [("", [row])])


def table_ii(material: Material) -> str:
    """Return every method's measures in both kinds of folds."""
    caption = (
        "<b>Table II.</b> All methods on the same held-out stimulations. Means and medians are over stimulations; ± "
        "is 1.96 standard errors of the mean over the folds, as in the article. NRMSE and CoG error: smaller is "
        "better; R² and skill: larger is better. Skill is 1 − MSE / MSE of the mean map, so the mean map has 0. The "
        "best value of each column is bold, among all methods of that kind of folds, baselines included."
    )
    groups = []
    for kind, heading, methods in _kind_groups(material):
        rows = {m: row for m in material.methods(kind) if (row := material.of(kind, m)) is not None}
        groups.append((heading, [[title_of(m), *_marked(rows, m)] for m in methods]))
    return html_table(caption, ["method", *(column.heading for column in _TABLE_II)], groups)


def table_ii_further(material: Material) -> str:
    """Return what stands beside Table II: the code's error bars and its R^2, and times."""
    caption = (
        "<b>Table II, continued.</b> The same means with the error bars of the authors' released code: 1.96 standard "
        "errors over the <em>stimulations</em>. “Code's R²” is what that code computes under the name R²: a squared "
        "Pearson correlation of the positive voxels, not the article's equation 13; it is given for comparison only. "
        "“No CoG” counts maps that are zero everywhere and have no centre. Time is that of training, summed over the "
        "folds of both kinds, on the machine that ran it."
    )
    columns = [
        "method",
        Cell("NRMSE<br>mean ± 1.96 SEM"),
        Cell("R²<br>mean ± 1.96 SEM"),
        Cell("CoG error (mm)<br>mean ± 1.96 SEM"),
        "code's R²",
        "no CoG",
        "time (s)",
    ]
    groups = []
    for kind, heading, methods in _kind_groups(material):
        rows = []
        for method in methods:
            r = material.of(kind, method)
            if r is None:
                continue
            rows.append(
                [
                    title_of(method),
                    with_error(r["nrmse_mean"], r["nrmse_sem196_stimulations"]),
                    with_error(r["r2_mean"], r["r2_sem196_stimulations"]),
                    with_error(r["cog_mm_mean"], r["cog_mm_sem196_stimulations"], 2),
                    number(r["pearson2_positive_mean"]),
                    str(r["cog_undefined"]),
                    number(material.evaluation.seconds.get(method), 0),
                ]
            )
        groups.append((heading, rows))
    return html_table(caption, columns, groups)


def table_iii(material: Material) -> str:
    """Return the chosen model's measures by intensity; nothing if no intensity is known."""
    method = material.chosen
    groups = []
    for kind in material.kinds:
        levels = material.levels(kind, method, "intensity")
        rows = []
        for level in levels:
            r = material.of(kind, method, "intensity", level)
            if r is None:
                continue
            mean_map = material.of(kind, MEAN_MAP, "intensity", level)
            rows.append(
                [
                    level,
                    str(r["stimulations"]),
                    with_error(r["nrmse_mean"], r["nrmse_sem196_folds"]),
                    with_error(r["r2_mean"], r["r2_sem196_folds"]),
                    with_error(r["cog_mm_mean"], r["cog_mm_sem196_folds"], 2),
                    number(r["skill"]),
                    number(mean_map["nrmse_mean"] if mean_map else None),
                ]
            )
        if rows:
            groups.append((_sentence_case(kind_title(kind)), rows))
    if not groups:
        return ""
    caption = (
        f"<b>Table III.</b> {title_of(method)} by stimulation intensity; ± is 1.96 standard errors of the mean over "
        "the folds that hold such stimulations. The last column is what the mean map reaches on the same "
        "stimulations: it tells how much of a difference between intensities lies in the fields and not in the model."
    )
    columns = ["% of RMT", "stimulations", "NRMSE", "R²", "CoG error (mm)", "skill", "NRMSE of the mean map"]
    return html_table(caption, columns, groups)


def table_active(material: Material) -> str:
    """Return the chosen model's measures by the number of active muscles."""
    method, kind = material.chosen, material.main
    rows = []
    for level in material.levels(kind, method, "active_muscles"):
        r = material.of(kind, method, "active_muscles", level)
        if r is None:
            continue
        mean_map = material.of(kind, MEAN_MAP, "active_muscles", level)
        rows.append(
            [
                level,
                str(r["stimulations"]),
                number(r["nrmse_mean"]),
                number(r["nrmse_median"]),
                number(r["r2_median"]),
                number(r["cog_mm_mean"], 2),
                number(mean_map["nrmse_mean"] if mean_map else None),
            ]
        )
    if not rows:
        return ""
    caption = f"{title_of(method)} by the number of active muscles, {kind_title(kind)}: the numbers behind Figure 5c."
    columns = [
        "active muscles",
        "stimulations",
        "NRMSE mean",
        "NRMSE median",
        "R² median",
        "CoG error (mm) mean",
        "NRMSE of the mean map",
    ]
    return html_table(caption, columns, [("", rows)])


def table_forward(material: Material) -> str:
    """Return the forward model's held-out error beside a constant's."""
    columns = ["forward model", Cell("RMSE<br>± 1.96 SEM"), "R²", "skill"]
    rows = [
        [
            forward_title(name),
            with_error(found["rmse"], found["rmse_sem196_folds"]),
            number(found["r2"]),
            number(found.get("skill")),
        ]
        for name, found in material.forward.items()
    ]
    caption = (
        "Held-out error of the normalised MEPs (each muscle's largest is 1) in the random folds, over all muscles; ± "
        "over the folds. R² is 1 − squared error / variance around each muscle's mean; skill is 1 − MSE / MSE of the "
        "constant."
    )
    return html_table(caption, columns, [("", rows)])


def _kind_groups(material: Material) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield kind of folds, heading, methods: the baselines, then the networks, of each kind."""
    for kind in material.kinds:
        methods = material.methods(kind)
        folds = len(np.unique(material.evaluation.fold[kind][material.evaluation.tested(kind)]))
        title = f"{folds} {kind_title(kind)}" if folds > 1 else f"1 fold of the {kind_title(kind)}"
        for what, wanted in (("baselines", True), ("the article's models", False)):
            some = tuple(m for m in methods if is_baseline(m) is wanted)
            if some:
                yield kind, f"{title}: {what}", some


def _marked(rows: dict[str, dict[str, Any]], method: str) -> list[str]:
    """Return the cells of one method; the best of all rows, as far as its digits show, are bold."""
    cells: list[str] = []
    for column in _TABLE_II:
        finite = [row[column.name] * column.sense for row in rows.values() if np.isfinite(row[column.name])]
        value, text = rows[method][column.name], column.text(rows[method])
        best = number(max(finite) * column.sense, column.digits) if len(finite) > 1 else ""
        cells.append(bold(text) if np.isfinite(value) and number(value, column.digits) == best else text)
    return cells


def _sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]

"""The report's pictures of maps: all methods on one stimulation (article, Fig. 3); best, average and worst (Fig. 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from trainer.evaluation.figures import MEAN_MAP
from trainer.evaluation.report_maps import Corner, MapPainter, axes_at, mark_estimated, mark_true, text_at
from trainer.evaluation.report_material import Material, is_baseline, title_of
from trainer.evaluation.report_page import new_figure, number
from trainer.metrics import cog_error_mm, nrmse, r_squared
from trainer.validation import MEP_UV

WIDTH_IN, EDGE_IN = 11.6, 0.10
COLUMNS = 3

FIELD_COLOURS = matplotlib.colormaps["viridis"]
ERROR_COLOURS = matplotlib.colormaps["magma"]

BARS_UV = (10.0, 10000.0)
"""Ends of the axis of MEPs, uV."""

ACTIVE, SILENT = "#1f77b4", "#9aa3ab"
"""Bars of muscles with an MEP of at least 50 uV, and of the others."""


@dataclass(frozen=True)
class Stimulation:
    """One stimulation and one method's estimate of it, in figures.

    Attributes
    ----------
    row : int
        Of the training set.
    nrmse, r2, cog_mm : float
        Its measures; NaN where undefined.
    """

    row: int
    nrmse: float
    r2: float
    cog_mm: float


def strong_row(material: Material) -> int | None:
    """Return the tested stimulation that most muscles answered most strongly: the largest median over the muscles.

    Returns
    -------
    int or None
        None if nothing was tested or no amplitude is known.
    """
    if not material.main:
        return None
    rows = material.evaluation.tested(material.main)
    meps = material.evaluation.article_meps[rows]
    known = np.isfinite(meps).any(axis=1)
    if not known.any():
        return None
    return int(rows[known][np.nanmedian(meps[known], axis=1).argmax()])


def extreme_rows(material: Material, method: str) -> dict[str, int]:
    """Return the stimulations with the smallest, the most average and the largest NRMSE of a method.

    Returns
    -------
    dict
        ``Best``, ``Average``, ``Worst`` -> row of the training set; empty if there is no finite NRMSE.
    """
    error = material.nrmse[material.main, method]
    rows = material.evaluation.tested(material.main)[np.isfinite(error)]
    error = error[np.isfinite(error)]
    if not len(error):
        return {}
    places = {"Best": error.argmin(), "Average": np.abs(error - error.mean()).argmin(), "Worst": error.argmax()}
    return {name: int(rows[place]) for name, place in places.items()}


def judged(material: Material, method: str, row: int) -> Stimulation:
    """Return the measures of one stimulation's estimate."""
    training = material.evaluation.training
    true = training.field[[row]]
    estimated = material.evaluation.field[material.main][method][[row]].astype(np.float64)
    return Stimulation(
        row,
        float(nrmse(true, estimated)[0]),
        float(r_squared(true, estimated)[0]),
        float(cog_error_mm(true, estimated, training.voxel_mm)[0]),
    )


def shown_methods(material: Material) -> tuple[str, ...]:
    """Return which methods Fig. 3 shows: the networks, the mean map and the best other baseline; or all baselines."""
    methods = material.methods(material.main)
    networks = tuple(name for name in methods if not is_baseline(name))
    baselines = tuple(name for name in methods if is_baseline(name))
    if not networks:
        return baselines
    best = material.best(tuple(name for name in baselines if name != MEAN_MAP))
    return networks + tuple(name for name in baselines if name in (MEAN_MAP, best))


def draw_side_by_side(material: Material, row: int) -> Figure:
    """Draw the truth and every method's estimate of one stimulation, all in the same colours (Fig. 3).

    Parameters
    ----------
    material : Material
        With at least one method.
    row : int
        The stimulation.

    Returns
    -------
    matplotlib.figure.Figure
    """
    evaluation = material.evaluation
    training = evaluation.training
    painter = MapPainter(training.voxel, training.affine)
    true = training.field[row]
    methods = shown_methods(material)
    estimates = {name: evaluation.field[material.main][name][row].astype(np.float64) for name in methods}
    high = _high(true, *estimates.values())
    cell_in = (WIDTH_IN - 2 * EDGE_IN) / COLUMNS
    cell_height = painter.height_in(cell_in)
    n_rows = -(-(len(methods) + 2) // COLUMNS)  # the truth, the methods and the legend
    figure = new_figure(WIDTH_IN, n_rows * cell_height + 2 * EDGE_IN)

    def place(k: int) -> tuple[float, float]:
        return EDGE_IN + (k % COLUMNS) * cell_in, EDGE_IN + (k // COLUMNS) * cell_height

    true_cog = painter.cog_mm(true)
    corner = painter.paint(figure, *place(0), cell_in, "Ground truth", true, high, FIELD_COLOURS, true_cog_mm=true_cog)
    _inset_bars(figure, corner, material, row)
    for k, name in enumerate(methods, start=1):
        values = estimates[name]
        corner = painter.paint(
            figure,
            *place(k),
            cell_in,
            title_of(name),
            values,
            high,
            FIELD_COLOURS,
            true_cog_mm=true_cog,
            estimated_cog_mm=painter.cog_mm(values),
        )
        _write_measures(figure, corner, judged(material, name, row))
    left, top = place(len(methods) + 1)
    _legend(figure, left + 0.5, top + 0.5, cell_in - 1.0, high, training.field_scale_v_per_m)
    return figure


def draw_extremes(material: Material, method: str, rows: dict[str, int]) -> Figure:
    """Draw MEPs, truth, estimate and error of a model's best, average and worst stimulation (Fig. 4).

    Parameters
    ----------
    material : Material
        The evaluation.
    method : str
        The model.
    rows : dict of str to int
        Column title -> stimulation, from `extreme_rows`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    evaluation = material.evaluation
    training = evaluation.training
    painter = MapPainter(training.voxel, training.affine)
    cell_in = (WIDTH_IN - 2 * EDGE_IN) / COLUMNS
    cell_height = painter.height_in(cell_in)
    head_in, bars_in = 0.50, 1.75
    figure = new_figure(WIDTH_IN, head_in + bars_in + 3 * cell_height + 2 * EDGE_IN)
    true = {name: training.field[row] for name, row in rows.items()}
    estimate = {name: evaluation.field[material.main][method][row].astype(np.float64) for name, row in rows.items()}
    error = {name: np.abs(true[name] - estimate[name]) for name in rows}
    error_high = _high(*error.values())
    volts = training.field_scale_v_per_m
    for k, (name, row) in enumerate(rows.items()):
        left = EDGE_IN + k * cell_in
        level = material.percent_rmt[row]
        active = int(material.active[row])
        facts = f"stimulation {row + 1}, {active} active muscle{'' if active == 1 else 's'}"
        if np.isfinite(level):
            facts += f", {level:g} % RMT"
        text_at(figure, left + 0.46, EDGE_IN, name, fontsize=13, fontweight="bold")
        text_at(figure, left + 0.46, EDGE_IN + 0.24, facts, fontsize=9, color="#44505c")
        bars = axes_at(figure, left + 0.46, EDGE_IN + head_in + 0.05, cell_in - 0.62, bars_in - 0.75)
        _bars(bars, material, row)
        top = EDGE_IN + head_in + bars_in
        high = _high(true[name], estimate[name])
        true_cog, estimated_cog = painter.cog_mm(true[name]), painter.cog_mm(estimate[name])
        corner = painter.paint(
            figure, left, top, cell_in, "Ground truth", true[name], high, FIELD_COLOURS, true_cog_mm=true_cog
        )
        _write(figure, corner, [f"peak {_with_volts(float(true[name].max()), volts)}"])
        _small_bar(figure, corner, high, FIELD_COLOURS, "field / largest")
        corner = painter.paint(
            figure,
            left,
            top + cell_height,
            cell_in,
            f"Estimate, {title_of(method)}",
            estimate[name],
            high,
            FIELD_COLOURS,
            true_cog_mm=true_cog,
            estimated_cog_mm=estimated_cog,
        )
        _write_measures(figure, corner, judged(material, method, row))
        _small_bar(figure, corner, high, FIELD_COLOURS, "field / largest")
        corner = painter.paint(
            figure, left, top + 2 * cell_height, cell_in, "Absolute error", error[name], error_high, ERROR_COLOURS
        )
        _write(figure, corner, [f"largest {_with_volts(float(error[name].max()), volts)}"])
        _small_bar(figure, corner, error_high, ERROR_COLOURS, "|error| / largest field")
    return figure


def _high(*maps: npt.NDArray[np.float64]) -> float:
    """Return the last colour's value: the largest of all maps, or 1 if they are zero."""
    high = max((float(np.nanmax(each)) for each in maps if np.isfinite(each).any()), default=0.0)
    return high if high > 0 else 1.0


def _with_volts(value: float, field_scale_v_per_m: float) -> str:
    return f"{value:.2f}\n= {value * field_scale_v_per_m:.3g} V/m"


def _bars(axes: Axes, material: Material, row: int) -> None:
    """Draw the amplitudes as standing bars on a logarithmic axis; a cross where one is missing."""
    muscles = material.evaluation.training.muscles
    amplitudes = material.evaluation.training.amplitudes_uv[row]
    low, high = BARS_UV
    shown = np.clip(np.nan_to_num(amplitudes), low, high) - low
    axes.set_yscale("log")
    axes.bar(np.arange(len(muscles)), shown, color=_bar_colours(material, row), width=0.75, bottom=low)
    for k in np.flatnonzero(np.isnan(amplitudes)).tolist():
        axes.text(k, low * 1.1, "×", ha="center", va="bottom", fontsize=8)
    axes.axhline(MEP_UV, color="#333333", linestyle=":", linewidth=1.2)
    axes.set_xticks(np.arange(len(muscles)), muscles, rotation=90, fontsize=7)
    axes.set_xlim(-0.6, len(muscles) - 0.4)
    axes.set_ylim(low, high)
    axes.set_yticks([10, 100, 1000, 10000], ["10", "100", "1k", "10k"])
    axes.set_ylabel("MEP (µV)", fontsize=8, labelpad=1.5)
    axes.tick_params(axis="y", labelsize=7.5, length=2.5, pad=1.5)
    axes.tick_params(axis="y", which="minor", length=1.5)
    axes.tick_params(axis="x", length=0, pad=2)
    _bare(axes)


def _inset_bars(figure: Figure, corner: Corner, material: Material, row: int) -> None:
    """Draw the normalised MEPs as lying bars in a cell's free corner."""
    muscles = material.evaluation.training.muscles
    meps = material.evaluation.article_meps[row]
    room_left, room_below = 0.36, 0.34
    axes = axes_at(
        figure,
        corner.left + room_left,
        corner.top + 0.02,
        max(corner.width - room_left - 0.05, 0.3),
        max(corner.height - room_below + BELOW_OF_CORNER_IN + 0.10, 0.3),
    )
    axes.barh(np.arange(len(muscles)), np.nan_to_num(meps), color=_bar_colours(material, row), height=0.72)
    for k in np.flatnonzero(np.isnan(meps)).tolist():
        axes.text(0.02, k, "×", ha="left", va="center", fontsize=7)
    axes.set_yticks(np.arange(len(muscles)), muscles, fontsize=6.5)
    axes.set_ylim(len(muscles) - 0.4, -0.6)
    axes.set_xlim(0, max(1.0, float(np.nanmax(meps, initial=0.0))))
    axes.set_xticks([0, 0.5, 1])
    axes.tick_params(axis="x", labelsize=7, length=2.5, pad=1.5)
    axes.tick_params(axis="y", length=0, pad=2)
    axes.set_xlabel("MEP / largest", fontsize=7.5, labelpad=1.0)
    _bare(axes)


BELOW_OF_CORNER_IN = 0.28
"""A cell's corner ends with its axial panel; its axis labels lie below, beside which the bars may reach."""


def _bar_colours(material: Material, row: int) -> list[str]:
    amplitudes = np.nan_to_num(material.evaluation.training.amplitudes_uv[row])
    return [ACTIVE if amplitude >= MEP_UV else SILENT for amplitude in amplitudes.tolist()]


def _bare(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _write_measures(figure: Figure, corner: Corner, found: Stimulation) -> None:
    lines = [f"NRMSE {number(found.nrmse)}", f"R² {number(found.r2)}", f"CoG error {number(found.cog_mm, 1)} mm"]
    _write(figure, corner, lines)


def _write(figure: Figure, corner: Corner, lines: list[str]) -> None:
    text_at(figure, corner.left, corner.top + 0.08, "\n".join(lines), fontsize=9.5, linespacing=1.35)


def _small_bar(figure: Figure, corner: Corner, high: float, colours: Any, label: str) -> None:
    axes = axes_at(figure, corner.left + 0.03, corner.top + corner.height - 0.36, max(corner.width - 0.1, 0.3), 0.10)
    bar = figure.colorbar(ScalarMappable(Normalize(0.0, high), colours), cax=axes, orientation="horizontal")
    bar.set_ticks([0.0, round(high / 2, 2), round(high, 2)] if high >= 0.02 else [0.0, high])
    bar.ax.tick_params(labelsize=7.5, length=2.5, pad=1.5)
    bar.set_label(label, fontsize=7.5, labelpad=1.5)


def _legend(
    figure: Figure, left_in: float, top_in: float, width_in: float, high: float, field_scale_v_per_m: float
) -> None:
    """Draw colour bar, marks and what the letters mean."""

    def to_volts(of_largest: Any) -> Any:
        return of_largest * field_scale_v_per_m

    def from_volts(v_per_m: Any) -> Any:
        return v_per_m / field_scale_v_per_m

    axes = axes_at(figure, left_in, top_in, width_in, 0.16)
    bar = figure.colorbar(ScalarMappable(Normalize(0.0, high), FIELD_COLOURS), cax=axes, orientation="horizontal")
    bar.set_label("E-field by the subject's largest", fontsize=9)
    bar.ax.tick_params(labelsize=8.5)
    volts = bar.ax.secondary_xaxis("top", functions=(to_volts, from_volts))
    volts.tick_params(labelsize=8.5)
    volts.set_xlabel("E-field magnitude (V/m)", fontsize=9)
    marks = axes_at(figure, left_in, top_in + 0.75, width_in, 1.75)
    marks.set_xlim(0, width_in)
    marks.set_ylim(1.75, 0)
    marks.axis("off")
    marks.add_patch(Rectangle((0.0, 0.02), 0.30, 0.56, color="#2d708e", linewidth=0))
    mark_true(marks, 0.15, 0.17)
    mark_estimated(marks, 0.15, 0.43)
    lines = [
        (0.17, 0.40, "centre of gravity, truth"),
        (0.43, 0.40, "centre of gravity, estimate"),
        (0.82, 0.0, "L left, R right; P posterior, A anterior;"),
        (1.02, 0.0, "I inferior, S superior (scanner space, RAS)"),
        (1.28, 0.0, "each pixel: largest value along the line of sight"),
        (1.54, 0.0, "bars: blue, MEP of at least 50 µV; grey, less"),
    ]
    for y, x, text in lines:
        marks.text(x, y, text, fontsize=9, va="center")

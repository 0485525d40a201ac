"""The report's statistics: NRMSE of all methods, and against the MEPs (article, Fig. 5); the forward model's error."""

from __future__ import annotations

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from trainer.evaluation.figures import MEAN_MAP, WEAK_MEAN, mep_mean_and_variance
from trainer.evaluation.report_material import Material, is_baseline, kind_title, title_of
from trainer.evaluation.report_page import new_figure

WIDTH_IN = 11.6

INTENSITY_COLOURS = matplotlib.colormaps["viridis"]
ACTIVATION_COLOURS = matplotlib.colormaps["cividis"]
MARKERS = "os^DvPX<>*"

BASELINE_COLOUR, NETWORK_COLOUR = "#b8c0c8", "#5aa0d2"
MEDIAN_COLOUR, MEAN_MAP_COLOUR = "#111111", "#d55e00"

WHISKERS = (5.0, 95.0)
"""Percentiles at which a box's whiskers end."""

FEWEST_FOR_A_BOX = 5
"""Fewer values are shown one by one."""

SHOWN_PERCENTILE = 99.5
"""Axes of NRMSE end a little above this percentile, where one outlier would flatten all the rest."""


def draw_all_methods(material: Material) -> Figure:
    """Draw the distribution of NRMSE of every method, in both kinds of folds.

    Parameters
    ----------
    material : Material
        With at least one method.

    Returns
    -------
    matplotlib.figure.Figure
    """
    methods = tuple(dict.fromkeys(m for kind in material.kinds for m in material.methods(kind)))
    kinds = material.kinds
    figure = new_figure(WIDTH_IN, 0.9 + 0.22 * (len(kinds) + 0.7) * len(methods))
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    step = len(kinds) + 0.7
    for k, kind in enumerate(kinds):
        for j, method in enumerate(methods):
            values = material.nrmse.get((kind, method))
            if values is None or not np.isfinite(values).any():
                continue
            colour = BASELINE_COLOUR if is_baseline(method) else NETWORK_COLOUR
            _box(axes, values, j * step + k, colour, vertical=False, hatch="////" if k else "")
    axes.set_yticks([j * step + (len(kinds) - 1) / 2 for j in range(len(methods))], [title_of(m) for m in methods])
    axes.set_ylim((len(methods) - 1) * step + len(kinds) - 0.1, -0.9)
    axes.set_xlim(0, _whiskers_high(list(material.nrmse.values())))
    axes.set_xlabel("NRMSE of a held-out stimulation (no unit; smaller is better)")
    axes.grid(axis="x", color="#dde2e6", linewidth=0.8)
    axes.set_axisbelow(True)
    reference = material.of(material.main, MEAN_MAP)
    if reference and np.isfinite(reference["nrmse_median"]):
        axes.axvline(reference["nrmse_median"], color=MEAN_MAP_COLOUR, linestyle="--", linewidth=1.2)
    patches = [
        Patch(facecolor="#e6e9ec", edgecolor="#333333", hatch="////" if k else "", label=kind_title(kind))
        for k, kind in enumerate(kinds)
    ]
    axes.legend(handles=patches, loc="lower right", fontsize=9, frameon=True)
    _bare(axes)
    return figure


def draw_against_meps(material: Material, method: str) -> Figure:
    """Draw NRMSE against mean and variance of the normalised MEPs, and by the number of active muscles (Fig. 5).

    Parameters
    ----------
    material : Material
        The evaluation.
    method : str
        Whose NRMSE.

    Returns
    -------
    matplotlib.figure.Figure
    """
    rows = material.evaluation.tested(material.main)
    error = material.nrmse[material.main, method]
    mean, variance = (values[rows] for values in mep_mean_and_variance(material.evaluation))
    high = _shown_high([error])
    figure = new_figure(WIDTH_IN, 9.6)
    figure.set_layout_engine("constrained")
    grid = figure.add_gridspec(2, 2)
    left, right, below = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1]), figure.add_subplot(grid[1, :])
    for axes, values, letter, name in ((left, mean, "a", "Mean"), (right, variance, "b", "Variance")):
        _scatter(axes, values, error, material.percent_rmt[rows], high)
        axes.set_xlabel(f"{name} of the normalised MEPs over the muscles (no unit)")
        axes.set_title(f"({letter})", loc="left", fontweight="bold")
    left.axvline(WEAK_MEAN, color="#333333", linestyle=":", linewidth=1.3)
    left.text(WEAK_MEAN, high * 0.995, f" {WEAK_MEAN:g}", va="top", ha="left", fontsize=8.5, color="#333333")
    left.set_ylabel("NRMSE (no unit)")
    if left.get_legend_handles_labels()[0]:
        right.legend(title="% RMT", fontsize=9, title_fontsize=9, loc="upper right", markerscale=1.6)
    _boxes_by_active(figure, below, material, method, rows, high)
    below.set_title("(c)", loc="left", fontweight="bold")
    return figure


def draw_forward(material: Material) -> Figure:
    """Draw the forward model's error of each muscle beside a constant's.

    Parameters
    ----------
    material : Material
        With a forward model.

    Returns
    -------
    matplotlib.figure.Figure
    """
    evaluation = material.evaluation
    rows = evaluation.tested("random")
    true = evaluation.normalised_meps[rows]
    muscles = evaluation.training.muscles
    figure = new_figure(WIDTH_IN, 3.4)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    names = list(evaluation.forward_meps)
    width = 0.8 / max(len(names), 1)
    for k, name in enumerate(names):
        squared = (evaluation.forward_meps[name][rows] - true) ** 2
        count = np.isfinite(squared).sum(axis=0)
        rmse = np.sqrt(np.where(count > 0, np.nansum(squared, axis=0) / np.maximum(count, 1), np.nan))
        colour = BASELINE_COLOUR if name == "constant" else NETWORK_COLOUR
        place = np.arange(len(muscles)) + (k - (len(names) - 1) / 2) * width
        axes.bar(
            place,
            np.nan_to_num(rmse),
            width,
            color=colour,
            edgecolor="#333333",
            linewidth=0.6,
            label=forward_title(name),
        )
    axes.set_xticks(np.arange(len(muscles)), muscles)
    axes.set_ylabel("RMSE of the normalised MEP (no unit)")
    axes.grid(axis="y", color="#dde2e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(fontsize=9, loc="upper right", ncols=2)
    axes.margins(x=0.01, y=0.18)
    _bare(axes)
    return figure


def forward_title(name: str) -> str:
    """Return how the report writes a forward model."""
    return {"m2m-net": "M2M-Net", "constant": "Constant (training mean)"}.get(name, name)


def _scatter(
    axes: Axes,
    values: npt.NDArray[np.float64],
    error: npt.NDArray[np.float64],
    percent_rmt: npt.NDArray[np.float64],
    high: float,
) -> None:
    usable = np.isfinite(values) & np.isfinite(error)
    levels = np.unique(percent_rmt[np.isfinite(percent_rmt)])
    places = np.linspace(0.0, 0.88, max(len(levels), 1))
    groups = [
        (f"{level:g}", percent_rmt == level, INTENSITY_COLOURS(x)) for level, x in zip(levels, places, strict=False)
    ]
    unknown = ~np.isfinite(percent_rmt)
    if unknown.any():
        groups.append(("not known", unknown, (0.6, 0.6, 0.6, 1.0)))
    for k, (label, member, colour) in enumerate(groups):
        shown = usable & member
        # What lies beyond the axis is drawn on its edge, so that no stimulation is missing from the picture.
        axes.plot(
            values[shown],
            np.minimum(error[shown], high),
            MARKERS[k % len(MARKERS)],
            markersize=4,
            alpha=0.75,
            color=colour,
            markeredgewidth=0,
            label=label,
            clip_on=False,
        )
    middle, median = _running_median(values[usable], error[usable])
    if len(middle) > 1:
        axes.plot(middle, median, "-", color="white", linewidth=4.5)
        axes.plot(middle, median, "-", color=MEDIAN_COLOUR, linewidth=2.0)
    axes.set_ylim(0, high)
    axes.set_xlim(left=0)
    axes.grid(color="#dde2e6", linewidth=0.8)
    axes.set_axisbelow(True)
    _bare(axes)


def _running_median(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return medians of x and y in up to 12 groups of equal numbers, at least 10 in each."""
    parts = np.array_split(np.argsort(x, kind="stable"), max(min(len(x) // 10, 12), 1))
    parts = [part for part in parts if len(part)]
    return np.array([np.median(x[part]) for part in parts]), np.array([np.median(y[part]) for part in parts])


def _boxes_by_active(
    figure: Figure, axes: Axes, material: Material, method: str, rows: npt.NDArray[np.intp], high: float
) -> None:
    error = material.nrmse[material.main, method]
    reference = material.nrmse.get((material.main, MEAN_MAP)) if method != MEAN_MAP else None
    active = material.active[rows]
    meps = np.where(
        material.evaluation.training.amplitudes_uv[rows] > 0, material.evaluation.article_meps[rows], np.nan
    )
    counts = np.unique(active)
    strength = {}
    for count in counts.tolist():
        of_active = np.sort(np.nan_to_num(meps[active == count]), axis=1)[:, ::-1][:, : max(count, 1)]
        strength[count] = float(of_active.mean())
    norm = Normalize(0.0, max([*strength.values(), 1e-6]))
    for count in counts.tolist():
        values = error[active == count]
        values = values[np.isfinite(values)]
        if not len(values):
            continue
        _box(axes, values, count, ACTIVATION_COLOURS(norm(strength[count])), vertical=True)
        axes.text(count, high * 1.01, str(len(values)), ha="center", va="bottom", fontsize=8.5, color="#44505c")
        if reference is not None:
            level = float(np.median(reference[active == count]))
            axes.plot([count - 0.42, count + 0.42], [level, level], color=MEAN_MAP_COLOUR, linewidth=2.0, zorder=4)
    axes.set_ylim(0, high)
    axes.set_xlim(counts.min() - 0.7, counts.max() + 0.7)
    axes.set_xticks(np.arange(counts.min(), counts.max() + 1))
    axes.set_xlabel("Active muscles (MEP of at least 50 µV); above: number of stimulations")
    axes.set_ylabel("NRMSE (no unit)")
    axes.grid(axis="y", color="#dde2e6", linewidth=0.8)
    axes.set_axisbelow(True)
    bar = figure.colorbar(ScalarMappable(norm, ACTIVATION_COLOURS), ax=axes, pad=0.01)
    bar.set_label("Mean normalised MEP of the active muscles", fontsize=9)
    _bare(axes)


def _box(
    axes: Axes,
    values: npt.NDArray[np.float64],
    place: float,
    colour: str | tuple[float, float, float, float],
    *,
    vertical: bool,
    hatch: str = "",
) -> None:
    """Draw quartiles, whiskers to `WHISKERS`, the median and a diamond at the mean; few values one by one."""
    values = values[np.isfinite(values)]
    if len(values) < FEWEST_FOR_A_BOX:
        places = np.full(len(values), place)
        x, y = (places, values) if vertical else (values, places)
        axes.plot(x, y, "o", color=colour, markeredgecolor="#333333", markersize=6)
        return
    p_low, q1, median, q3, p_high = np.percentile(values, [WHISKERS[0], 25, 50, 75, WHISKERS[1]]).tolist()

    # Drawn by hand: matplotlib's own box plot renames the argument that lays it down from version to version.
    def line(a: tuple[float, float], b: tuple[float, float], drawn: str, thick: float) -> None:
        (p0, v0), (p1, v1) = a, b
        x, y = ((p0, p1), (v0, v1)) if vertical else ((v0, v1), (p0, p1))
        axes.plot(x, y, color=drawn, linewidth=thick, zorder=3, solid_capstyle="butt")

    half, cap = 0.36, 0.15
    corner = (place - half, q1) if vertical else (q1, place - half)
    size = (2 * half, q3 - q1) if vertical else (q3 - q1, 2 * half)
    box = Rectangle(corner, *size, facecolor=colour, edgecolor="#333333", hatch=hatch, linewidth=0.9, zorder=2.5)
    axes.add_patch(box)
    for start, end in ((q1, p_low), (q3, p_high)):
        line((place, start), (place, end), "#333333", 0.9)
        line((place - cap, end), (place + cap, end), "#333333", 0.9)
    line((place - half, median), (place + half, median), MEDIAN_COLOUR, 2.2)
    mean = float(values.mean())
    at = (place, mean) if vertical else (mean, place)
    axes.plot(*at, "D", markerfacecolor="white", markeredgecolor="black", markersize=5, zorder=4)


def _shown_high(errors: list[npt.NDArray[np.float64]]) -> float:
    """Return where an axis of NRMSE ends: above `SHOWN_PERCENTILE` of each, at the largest value if that is near."""
    high = 0.0
    for values in errors:
        known = values[np.isfinite(values)]
        if len(known):
            percentile = float(np.percentile(known, SHOWN_PERCENTILE))
            largest = float(known.max())
            high = max(high, largest if largest < 1.25 * percentile else percentile)
    return high * 1.05 if high > 0 else 1.0


def _whiskers_high(errors: list[npt.NDArray[np.float64]]) -> float:
    """Return where an axis ends on which only boxes are drawn: above the longest whisker."""
    ends = [float(np.percentile(known, WHISKERS[1])) for values in errors if len(known := values[np.isfinite(values)])]
    high = max(ends, default=0.0)
    return high * 1.08 if high > 0 else 1.0


def _bare(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)

"""How the report draws a map of BA4: three maximum-intensity projections with centres of gravity, as the window does.

One map is a cell of three panels that share their axes (coronal, sagittal beside it, axial below) and a free corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rt_engine.field.projection import AXIS_ENDS, AXIS_NAMES, PLANE_AXES, Plane, make_projection
from trainer.metrics import center_of_gravity

LEFT_IN, RIGHT_IN, TITLE_IN, GAP_IN, BELOW_IN = 0.46, 0.10, 0.27, 0.15, 0.50
"""Room around and between the panels, inches: for labels on the left and below, and the title above."""

BORDER_MM = 3.0
"""Shown around the voxels of BA4."""

GROUND = "#eceff2"
TRUE_MARK, ESTIMATED_MARK = "#ffffff", "#ff7f0e"

_HIGHEST = 1.25
"""The panels' height by their width at most; a flatter region fills the width."""


@dataclass(frozen=True)
class Corner:
    """The free corner of a cell, inches from the figure's left and top."""

    left: float
    top: float
    width: float
    height: float


class MapPainter:
    """Draws maps of one geometry.

    Parameters
    ----------
    voxel : numpy.ndarray
        (V, 3) integer, indices into the box.
    affine : numpy.ndarray
        (4, 4) float64, box index to scanner space (RAS) in mm.
    """

    def __init__(self, voxel: npt.NDArray[np.integer[Any]], affine: npt.NDArray[np.float64]) -> None:
        planes: tuple[Plane, ...] = ("coronal", "sagittal", "axial")
        self._projections = {plane: make_projection(voxel, affine, plane) for plane in planes}
        self._voxel_mm = voxel @ affine[:3, :3].T + affine[:3, 3]
        coronal, axial = self._projections["coronal"], self._projections["axial"]
        low = np.array([*coronal.low_mm, axial.low_mm[1]])[[0, 2, 1]] - BORDER_MM
        high = np.array([*coronal.high_mm, axial.high_mm[1]])[[0, 2, 1]] + BORDER_MM
        self._limits = tuple(zip(low.tolist(), high.tolist(), strict=True))
        self._size_mm = (high - low).tolist()

    def height_in(self, width_in: float) -> float:
        """Return the height of a cell of some width, inches."""
        _, size_y, size_z = self._size_mm
        return TITLE_IN + GAP_IN + BELOW_IN + (size_y + size_z) * self._in_per_mm(width_in)

    def cog_mm(self, values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """Return the (3,) centre of gravity of (V,) values, mm; NaN where they are zero everywhere."""
        return center_of_gravity(values[None], self._voxel_mm)[0]

    def paint(
        self,
        figure: Figure,
        left_in: float,
        top_in: float,
        width_in: float,
        title: str,
        values: npt.NDArray[np.floating[Any]],
        high: float,
        colours: Colormap,
        *,
        true_cog_mm: npt.NDArray[np.float64] | None = None,
        estimated_cog_mm: npt.NDArray[np.float64] | None = None,
    ) -> Corner:
        """Draw one map.

        Parameters
        ----------
        figure : Figure
            Into this one.
        left_in, top_in, width_in : float
            Where the cell is, inches from the figure's left and top, and its width.
        title : str
            Above the panels.
        values : numpy.ndarray
            (V,) the map.
        high : float
            Value of the last colour; 0 is the first.
        colours : Colormap
            The colours.
        true_cog_mm, estimated_cog_mm : numpy.ndarray, optional
            (3,) centres of gravity to mark, mm; one that is NaN is not marked.

        Returns
        -------
        Corner
            What is free below the sagittal panel.
        """
        per_mm = self._in_per_mm(width_in)
        size_x, size_y, size_z = (size * per_mm for size in self._size_mm)
        left, top = left_in + LEFT_IN, top_in + TITLE_IN
        right, below = left + size_x + GAP_IN, top + size_z + GAP_IN
        places: dict[Plane, tuple[float, float, float, float]] = {
            "coronal": (left, top, size_x, size_z),
            "sagittal": (right, top, size_y, size_z),
            "axial": (left, below, size_x, size_y),
        }
        for plane, place in places.items():
            axes = axes_at(figure, *place)
            self._paint_plane(axes, plane, values, high, colours)
            _mark(axes, plane, true_cog_mm, estimated_cog_mm)
        text_at(figure, left, top_in + 0.04, title, fontsize=10.5, fontweight="bold")
        return Corner(right, below + 0.40, size_y, max(size_y - 0.05, 0.2))

    def _in_per_mm(self, width_in: float) -> float:
        size_x, size_y, size_z = self._size_mm
        room = width_in - LEFT_IN - GAP_IN - RIGHT_IN
        return min(room / (size_x + size_y), _HIGHEST * room / (size_y + size_z))

    def _paint_plane(
        self, axes: Axes, plane: Plane, values: npt.NDArray[np.floating[Any]], high: float, colours: Colormap
    ) -> None:
        projection = self._projections[plane]
        right, up = PLANE_AXES[plane]
        (x0, y0), (x1, y1) = projection.low_mm, projection.high_mm
        axes.set_facecolor(GROUND)
        picture = np.ma.masked_invalid(projection.project(values))
        axes.imshow(picture, extent=(x0, x1, y0, y1), cmap=colours, vmin=0.0, vmax=high, interpolation="nearest")
        axes.set_xlim(*self._limits[right])
        axes.set_ylim(*self._limits[up])
        axes.set_aspect("auto")  # the panel's own shape is to scale already
        axes.set_zorder(2 if plane == "sagittal" else 1)  # its first number may reach over the axial panel's corner
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        # Panels share axes with the one beside or below, which carries the numbers.
        axes.tick_params(
            labelsize=7.5, length=2.5, pad=1.5, labelbottom=plane != "coronal", labelleft=plane != "sagittal"
        )
        for spine in axes.spines.values():
            spine.set_color("#aab2ba")
        if plane != "coronal":
            axes.set_xlabel(f"{AXIS_NAMES[right]} (mm)", fontsize=8, labelpad=1.5)
        if plane != "sagittal":
            axes.set_ylabel(f"{AXIS_NAMES[up]} (mm)", fontsize=8, labelpad=1.0)
        halo = [patheffects.withStroke(linewidth=2.2, foreground=GROUND)]
        ends: dict[str, Any] = {"fontsize": 8, "fontweight": "bold", "color": "#1b1f24", "transform": axes.transAxes}
        ends["path_effects"] = halo
        axes.text(0.03, 0.5, AXIS_ENDS[right][0], ha="left", va="center", **ends)
        axes.text(0.97, 0.5, AXIS_ENDS[right][1], ha="right", va="center", **ends)
        axes.text(0.5, 0.03, AXIS_ENDS[up][0], ha="center", va="bottom", **ends)
        axes.text(0.5, 0.97, AXIS_ENDS[up][1], ha="center", va="top", **ends)


def axes_at(figure: Figure, left_in: float, top_in: float, width_in: float, height_in: float) -> Axes:
    """Return new axes at a place given in inches from the figure's left and top."""
    width, height = figure.get_size_inches().tolist()
    return figure.add_axes((left_in / width, 1.0 - (top_in + height_in) / height, width_in / width, height_in / height))


def text_at(figure: Figure, left_in: float, top_in: float, text: str, **how: Any) -> None:
    """Write text whose upper left corner is at a place given in inches from the figure's left and top."""
    width, height = figure.get_size_inches().tolist()
    figure.text(left_in / width, 1.0 - top_in / height, text, ha="left", va="top", **how)


def mark_true(axes: Axes, x: float, y: float) -> None:
    """Mark a true centre of gravity: a ring."""
    halo = [patheffects.withStroke(linewidth=3.6, foreground="black")]
    axes.plot(
        x,
        y,
        "o",
        markersize=9,
        markerfacecolor="none",
        color=TRUE_MARK,
        markeredgewidth=1.6,
        path_effects=halo,
        zorder=4,
    )


def mark_estimated(axes: Axes, x: float, y: float) -> None:
    """Mark an estimated centre of gravity: a cross."""
    halo = [patheffects.withStroke(linewidth=4.0, foreground="black")]
    axes.plot(x, y, "+", markersize=9, color=ESTIMATED_MARK, markeredgewidth=1.8, path_effects=halo, zorder=5)


def _mark(
    axes: Axes,
    plane: Plane,
    true_mm: npt.NDArray[np.float64] | None,
    estimated_mm: npt.NDArray[np.float64] | None,
) -> None:
    right, up = PLANE_AXES[plane]
    for mm, mark in ((true_mm, mark_true), (estimated_mm, mark_estimated)):
        if mm is not None and np.isfinite(mm).all():
            mark(axes, float(mm[right]), float(mm[up]))

"""Figure: the coil over the motor cortex, and the magnitude of the E-field on the cortex under it."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rt_engine.field.coil import Coil
from rt_engine.field.subject_file import Subject
from tools.figures.canvas import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

TURN_RADIUS_MM = np.linspace(28.0, 44.0, 9)
"""Turns of a wing of the 70 mm figure of eight, see `rt_engine.field.coil.figure_of_eight`."""

WING_MM = 45.0
"""Half of the distance between the wings' centres."""

HANDLE_MM = (-15.0, -125.0)
"""Where the handle begins and ends along the coil's y axis; drawn only."""

LIGHT = np.array([-0.3, -0.2, 0.93])
"""Where the light comes from, RAS."""


def coil_field(subject: Subject, coil: Coil, pose: Floats, vertex_field_v_per_m: Floats, title: str) -> "Figure":
    """Draw coil and cortex from above the coil, and the cortex alone.

    Parameters
    ----------
    subject
        Gives the cortex surface.
    coil
        The coil, for its name.
    pose
        (4, 4), where it is, mm.
    vertex_field_v_per_m
        (P,), magnitude at the surface's vertices, V/m.
    title
        What the field was computed with, and at which intensity.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    scale = Normalize(0.0, float(vertex_field_v_per_m.max()))
    corners = subject.vertices[subject.triangles].astype(np.float64)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    light = 0.55 + 0.45 * np.clip(normal @ (LIGHT / np.linalg.norm(LIGHT)), 0.0, 1.0)
    colour = colormaps["turbo"](scale(vertex_field_v_per_m[subject.triangles].mean(axis=1)))
    colour[:, :3] *= light[:, None]

    figure = new_figure(9.0, 4.6)
    panels = figure.subplots(1, 2)
    views = (
        ("from above the coil", *_view_along(pose[:3, 2])),
        ("from the left and behind", *_view_along(np.array([0.75, 0.45, -0.5]))),
    )
    if subject.hemisphere == "right":
        views = (views[0], ("from the right and behind", *_view_along(np.array([-0.75, 0.45, -0.5]))))
    for panel, (name, right, up, into) in zip(panels, views, strict=True):
        _draw_cortex(panel, corners, colour, right, up, into)
        for line, width in _coil_lines(pose):
            panel.plot(line @ right, line @ up, color="black", linewidth=width, alpha=0.75, solid_capstyle="round")
        panel.set_title(name, fontsize=9)
        panel.set_xlabel("across the view (mm)", fontsize=8)
        panel.set_ylabel("up the view (mm)", fontsize=8)
        panel.tick_params(labelsize=7)
        panel.set_aspect("equal")
    bar = figure.colorbar(ScalarMappable(scale, "turbo"), ax=panels, shrink=0.85)
    bar.set_label("|E| on the cortex (V/m)", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    figure.suptitle(f"{coil.name}; {title}", fontsize=9)
    return figure


def _view_along(into: Floats) -> tuple[Floats, Floats, Floats]:
    """Return right, up and into the picture, (3,) each, for looking along `into`; forwards (y) or up (z) is up."""
    into = into / np.linalg.norm(into)
    upright = np.array([0.0, 0.0, 1.0]) if abs(into[2]) < 0.6 else np.array([0.0, 1.0, 0.0])
    up = upright - (upright @ into) * into
    up /= np.linalg.norm(up)
    return np.cross(into, up), up, into


def _draw_cortex(panel: object, corners: Floats, colour: Floats, right: Floats, up: Floats, into: Floats) -> None:
    """Draw the triangles that face the viewer, the far ones first."""
    from matplotlib.collections import PolyCollection

    flat = np.stack([corners @ right, corners @ up], axis=2)
    first, second = flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
    facing = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] > 0.0
    order = np.argsort(-(corners.mean(axis=1) @ into))
    order = order[facing[order]]
    # Edges in the faces' colour close the hairlines between them.
    faces = PolyCollection(list(flat[order]), facecolors=colour[order], edgecolors=colour[order], linewidths=0.3)
    panel.add_collection(faces)  # type: ignore[attr-defined]
    panel.autoscale_view()  # type: ignore[attr-defined]


def _coil_lines(pose: Floats) -> list[tuple[Floats, float]]:
    """Return the windings and the handle as lines, (n, 3) mm, with their widths in points."""
    turn = np.linspace(0.0, 2.0 * np.pi, 91)
    lines = []
    for side in (-1.0, 1.0):
        for radius_mm in TURN_RADIUS_MM[::2]:
            x = side * WING_MM + radius_mm * np.cos(turn)
            lines.append((np.stack([x, radius_mm * np.sin(turn), np.zeros_like(turn)], axis=1), 0.9))
    lines.append((np.array([[0.0, HANDLE_MM[0], 0.0], [0.0, HANDLE_MM[1], 0.0]]), 5.0))
    return [(line @ pose[:3, :3].T + pose[:3, 3], width) for line, width in lines]

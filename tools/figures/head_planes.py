"""Figure: a voxel head in three planes, its tissues in colours, BA4 on top."""

from typing import TYPE_CHECKING

import numpy as np

from rt_engine.errors import DataError
from rt_engine.field.subject_file import Subject
from tools.figures.canvas import new_figure
from trainer.efield.head import (
    AIR,
    BLOOD,
    BONE,
    COMPACT_BONE,
    CSF,
    EYES,
    GREY_MATTER,
    MUSCLE,
    SCALP,
    SPONGY_BONE,
    TISSUE_NAME,
    WHITE_MATTER,
    VoxelHead,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOUR: dict[int, str] = {
    AIR: "#ffffff",
    WHITE_MATTER: "#f0e4c3",
    GREY_MATTER: "#9c8f88",
    CSF: "#7fb8de",
    BONE: "#d9d3a4",
    SCALP: "#e3a68c",
    EYES: "#4d9a8f",
    COMPACT_BONE: "#d9d3a4",
    SPONGY_BONE: "#c2b56a",
    BLOOD: "#b34747",
    MUSCLE: "#a75d5d",
}
"""By tissue tag; grey and white matter are told apart by lightness too."""

BA4_COLOUR = "#c0007a"

PLANES = (("sagittal", 0, 1, 2), ("coronal", 1, 0, 2), ("axial", 2, 0, 1))
"""Name, axis that is cut, axis to the right, axis upwards."""

AXIS = ("x, to the right", "y, forwards", "z, upwards")


def head_planes(head: VoxelHead, subject: Subject) -> "Figure":
    """Draw the planes through the middle of BA4.

    Parameters
    ----------
    head
        Labels; its axes along the subject's, in any order of index.
    subject
        Gives BA4, in the same space.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    DataError
        If the head's grid is turned against the axes.
    """
    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.patches import Patch

    direction = head.affine[:3, :3] / head.resolution_mm
    if np.abs(direction - np.eye(3)).max() > 1e-6:
        raise DataError(f"The head {head.name!r} has axes turned against its space; expected them along x, y, z.")
    origin_mm, step_mm = head.affine[:3, 3], head.resolution_mm
    center_mm = np.median(subject.voxel_mm, axis=0)
    tags = np.unique(head.label)
    names = [int(tag) for tag in tags if tag != AIR]
    colours = ListedColormap([COLOUR[tag] for tag in range(len(COLOUR))])
    norm = BoundaryNorm(np.arange(len(COLOUR) + 1) - 0.5, len(COLOUR))

    figure = new_figure(9.2, 4.0)
    size = np.array(head.label.shape)
    panels = figure.subplots(1, 3, width_ratios=[int(size[across]) for _, _, across, _ in PLANES])
    for panel, (plane, cut, across, up) in zip(panels, PLANES, strict=True):
        index = int(np.rint((center_mm[cut] - origin_mm[cut]) / step_mm))
        cut_mm = origin_mm[cut] + index * step_mm
        low = origin_mm - step_mm / 2.0
        high = low + step_mm * size
        panel.imshow(
            np.take(head.label, index, axis=cut).T,
            origin="lower",
            extent=(low[across], high[across], low[up], high[up]),
            cmap=colours,
            norm=norm,
            interpolation="nearest",
        )
        near = np.abs(subject.voxel_mm[:, cut] - cut_mm) <= max(step_mm, 1.0) / 2.0
        ba4 = subject.voxel_mm[near]
        panel.plot(ba4[:, across], ba4[:, up], "s", color=BA4_COLOUR, markersize=0.9, markeredgewidth=0.0)
        panel.set_title(f"{plane}, {'xyz'[cut]} = {cut_mm:.0f} mm", fontsize=9)
        panel.set_xlabel(f"{AXIS[across]} (mm)", fontsize=8)
        panel.set_ylabel(f"{AXIS[up]} (mm)", fontsize=8)
        panel.tick_params(labelsize=7)
        panel.set_aspect("equal")
    patches = [Patch(facecolor=COLOUR[tag], edgecolor="grey", linewidth=0.4, label=TISSUE_NAME[tag]) for tag in names]
    patches.append(Patch(facecolor=BA4_COLOUR, label="BA4"))
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), fontsize=8, frameon=False)
    return figure

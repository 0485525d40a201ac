"""Layered spheres as head models: the heads for which the E-field is known in closed form."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError
from trainer.efield.head import BONE, GREY_MATTER, SCALP, VoxelHead

SPHERE_RADII_MM = (78.0, 86.0, 92.0)
"""Outer radii of brain, skull and scalp of the sphere that the solvers are checked on."""

SPHERE_TAGS = (GREY_MATTER, BONE, SCALP)
"""The tissues of those layers."""


def sphere_head(
    resolution_mm: float,
    *,
    radii_mm: Sequence[float] = SPHERE_RADII_MM,
    tags: Sequence[int] = SPHERE_TAGS,
    center_mm: npt.ArrayLike = (0.0, 0.0, 0.0),
) -> VoxelHead:
    """Make a head of concentric spheres; a voxel has the tissue that its centre lies in.

    Parameters
    ----------
    resolution_mm : float
        Edge of a voxel, mm.
    radii_mm : sequence of float
        Outer radius of every layer, from the innermost out, mm.
    tags : sequence of int
        Tissue tag of every layer.
    center_mm : array_like
        (3,), mm; the spheres' centre, which is a voxel's corner.

    Returns
    -------
    VoxelHead
        The spheres in the smallest grid that holds them.

    Raises
    ------
    DataError
        Radii that do not grow, another number of tags, or voxels larger than the inner sphere.
    """
    radius_mm = np.asarray(radii_mm, np.float64)
    center = np.asarray(center_mm, np.float64)
    if (
        radius_mm.ndim != 1
        or len(tags) != len(radius_mm)
        or not len(tags)
        or (np.diff(radius_mm, prepend=0) <= 0).any()
    ):
        raise DataError(f"Radii {list(radii_mm)} mm with tags {list(tags)}; expected growing radii, one tag for each.")
    if not 0 < resolution_mm <= radius_mm[0]:
        raise DataError(f"Voxels of {resolution_mm} mm; expected more than 0 and at most the inner radius.")
    half = int(np.ceil(radius_mm[-1] / resolution_mm))
    axis_mm = (np.arange(-half, half) + 0.5) * resolution_mm
    distance_mm = np.sqrt(axis_mm[:, None, None] ** 2 + axis_mm[:, None] ** 2 + axis_mm**2)
    label = np.append(np.asarray(tags, np.uint8), np.uint8(0))[np.searchsorted(radius_mm, distance_mm)]
    affine = np.diag([resolution_mm] * 3 + [1.0])
    affine[:3, 3] = center + axis_mm[0]
    layers = ", ".join(f"{r:g}" for r in radius_mm)
    return VoxelHead(label, affine, "sphere", f"sphere with layers to {layers} mm")

"""The scalp around the motor cortex as a small surface, from a head's tissue labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from rt_engine.errors import DataError
from rt_engine.field.surface import Surface
from trainer.efield.head import AIR, VoxelHead

Floats = npt.NDArray[np.float64]

PATCH_DEG = 84.0
"""How far the patch reaches from its middle, seen from the sphere's centre: about 120 mm along the scalp."""

RINGS = 20
"""Rings of vertices, ring j with 6 j of them: one every 6 mm or so."""

SMOOTHING_SD_MM = 2.0
"""The labels' staircase is smoothed by a Gaussian of this SD; a head's curvature changes by less than 0.1 mm."""

_STEP_MM = 0.25
_FARTHEST_MM = 250.0


def scalp_patch(head: VoxelHead, center_mm: Floats, toward_mm: Floats) -> Surface:
    """Take the outer surface of a head around the place above a point, seen from the head's middle.

    Rays leave `center_mm` in all directions of a cap; each gives the vertex where it leaves the head for the last time.
    What lies behind an overhang (an ear's back) is not seen, and no coil would touch it.

    Parameters
    ----------
    head : VoxelHead
        The head.
    center_mm : numpy.ndarray
        (3,), mm; centre of the subject's sphere.
    toward_mm : numpy.ndarray
        (3,), mm; the point that the patch's middle lies above: the hand knob.

    Returns
    -------
    Surface
        1,261 vertices and 2,400 triangles, rounded to 0.1 mm.

    Raises
    ------
    DataError
        A ray does not meet the head, or leaves the labels' grid while still in it: the head is cut there.
    """
    direction = cap_directions(toward_mm - center_mm)
    distance_mm = _last_exit(head, center_mm, direction)
    vertices = center_mm + distance_mm[:, None] * direction
    # A tenth of a millimetre hides the last bits in which machines differ.
    return Surface(np.round(vertices, 1).astype(np.float32), cap_triangles())


def cap_directions(middle: Floats) -> Floats:
    """Return unit vectors on rings about `middle`, (1 + 3 R (R + 1), 3) float64 for R `RINGS`."""
    z = middle / np.linalg.norm(middle)
    x = np.cross([0.0, 1.0, 0.0], z)
    x /= np.linalg.norm(x)
    y = np.cross(z, x)
    rings = [z[None]]
    for j in range(1, RINGS + 1):
        polar = np.deg2rad(PATCH_DEG) * j / RINGS
        turn = 2 * np.pi * np.arange(6 * j) / (6 * j)
        around = np.cos(turn)[:, None] * x + np.sin(turn)[:, None] * y
        rings.append(np.cos(polar) * z + np.sin(polar) * around)
    return np.concatenate(rings)


def cap_triangles() -> npt.NDArray[np.int32]:
    """Join the vertices of `cap_directions`, counter-clockwise seen from outside, (6 R^2, 3) int32."""
    triangles = []
    for j in range(1, RINGS + 1):
        outer, inner = 1 + 3 * j * (j - 1), 1 + 3 * (j - 1) * (j - 2)
        n_outer, n_inner = 6 * j, max(6 * (j - 1), 1)
        for side in range(6):
            for k in range(j):
                a, b = outer + (side * j + k) % n_outer, outer + (side * j + k + 1) % n_outer
                # Ring 0 is one vertex, whatever the side.
                c = inner + (side * (j - 1) + k) % n_inner if j > 1 else 0
                triangles.append((a, b, c))
                if k < j - 1:
                    triangles.append((c, b, inner + (side * (j - 1) + k + 1) % n_inner))
    return np.array(triangles, np.int32)


def _last_exit(head: VoxelHead, center_mm: Floats, direction: Floats) -> Floats:
    tissue = (head.label != AIR).astype(np.float32)
    # Beyond the grid the head goes on as at its border: a cut shows as a ray that never leaves.
    tissue = ndimage.gaussian_filter(tissue, SMOOTHING_SD_MM / head.resolution_mm, mode="nearest", truncate=3.0)
    to_index = np.linalg.inv(head.affine)
    along_mm = np.arange(0.0, _FARTHEST_MM, _STEP_MM)
    start = to_index[:3, :3] @ center_mm + to_index[:3, 3]
    found = np.empty(len(direction))
    for i, way in enumerate(direction @ to_index[:3, :3].T):
        index = start[:, None] + way[:, None] * along_mm
        value = ndimage.map_coordinates(tissue, index, order=1, mode="nearest")
        last = np.flatnonzero(value >= 0.5)
        if not len(last) or last[-1] + 1 == len(value):
            raise DataError(
                f"From {np.round(center_mm, 1).tolist()} mm the head {head.name!r} has no scalp in the direction "
                f"{np.round(direction[i], 2).tolist()}: it is cut there, or the point lies outside of it. The head "
                "must be whole within 120 mm of the motor cortex."
            )
        k = int(last[-1])
        found[i] = along_mm[k] + _STEP_MM * (value[k] - 0.5) / (value[k] - value[k + 1])
    return found

"""Which tetrahedron of a mesh a point lies in, and where in it: for the fields that a file gives on a mesh."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

Floats = npt.NDArray[np.float64]

_TOLERANCE = 1e-6
"""How negative a barycentric coordinate may be, so that no point falls between two tetrahedra."""

_PAIRS_AT_ONCE = 1_000_000
"""Pairs of point and tetrahedron that are tested together; bounds the memory."""


def locate(
    node_mm: Floats, tetrahedron: npt.NDArray[np.integer], points_mm: Floats
) -> tuple[npt.NDArray[np.int64], Floats]:
    """Find the tetrahedra that hold points.

    Parameters
    ----------
    node_mm : numpy.ndarray
        (N, 3) float64, mm; the nodes.
    tetrahedron : numpy.ndarray
        (T, 4) integers; each tetrahedron's nodes.
    points_mm : numpy.ndarray
        (n, 3) float64, mm; the points.

    Returns
    -------
    index : numpy.ndarray
        (n,) int64; the tetrahedron, the first in the mesh's order where a point lies on a shared face; -1 for points
        outside the mesh.
    weight : numpy.ndarray
        (n, 4) float64; barycentric coordinates, the corners' shares in a linear function; NaN outside.
    """
    index = np.full(len(points_mm), -1, np.int64)
    weight = np.full((len(points_mm), 4), np.nan)
    if not len(points_mm) or not len(tetrahedron):
        return index, weight
    low, high = points_mm.min(axis=0), points_mm.max(axis=0)
    # Only what reaches into the points' box; a node's side of the box is told once per node, not per corner.
    beyond = np.stack([*(node_mm < low - 1e-9).T, *(node_mm > high + 1e-9).T])
    near = np.flatnonzero(~np.any([side[tetrahedron].all(axis=1) for side in beyond], axis=0))
    tree = cKDTree(points_mm)
    pairs_per_cell = max(1, len(points_mm) // 64)
    step = max(1, _PAIRS_AT_ONCE // pairs_per_cell)
    # From the last to the first, so that the first of several stays.
    for start in reversed(range(0, len(near), step)):
        cell = near[start : start + step]
        corner = node_mm[tetrahedron[cell]]
        center = corner.mean(axis=1)
        radius = np.linalg.norm(corner - center[:, None], axis=2).max(axis=1)
        found = tree.query_ball_point(center, radius + 1e-9, return_sorted=True)
        count = np.array([len(points) for points in found])
        if not count.sum():
            continue
        point = np.concatenate([np.asarray(points, np.int64) for points in found if len(points)])
        owner = np.repeat(np.arange(len(cell)), count)
        share = _barycentric(corner[owner], points_mm[point])
        inside = share.min(axis=1) >= -_TOLERANCE
        # numpy keeps the last of equal indices, and here the first tetrahedron must win.
        chosen = np.flatnonzero(inside)[::-1]
        index[point[chosen]] = cell[owner[chosen]]
        weight[point[chosen]] = share[chosen]
    return index, weight


def _barycentric(corner: Floats, point: Floats) -> Floats:
    """Compute barycentric coordinates of points, each in its tetrahedron (n, 4, 3); NaN where that is flat."""
    edges = np.swapaxes(corner[:, 1:] - corner[:, :1], 1, 2)
    size = np.abs(edges).max(axis=(1, 2))
    flat = np.abs(np.linalg.det(edges)) <= 1e-12 * size**3
    edges[flat] = np.eye(3)
    share = np.linalg.solve(edges, (point - corner[:, 0])[:, :, None])[:, :, 0]
    share[flat] = -1.0
    return np.column_stack([1 - share.sum(axis=1), share])

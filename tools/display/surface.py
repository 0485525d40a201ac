"""The cortex as a picture: shade baked into its vertices, and the map carried from voxels to the surface.

The light is fixed in scanner space and computed once per geometry, so that turning the view costs nothing and the
colours of the map stay those of the colour bar.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

REACH_VOXELS = 1.0
"""A vertex shows the map in full if a voxel of BA4 lies within this many voxel sizes of it ..."""

FADE_VOXELS = 0.8
"""... and none of it this much farther out."""

EDGE_CUTS = 2
"""How often triangles at the edge of BA4 are cut into four."""

NEIGHBOURS = 6
"""Voxels that a vertex takes its value from, weighted by distance."""

_LIGHT = np.array([0.25, 0.35, 0.9])
"""From above, a little from the front and the side (x is mirrored for a left hemisphere): sulci stay readable."""

_AMBIENT, _DIFFUSE = 0.45, 0.55


@dataclass(frozen=True, eq=False)
class SurfaceMapping:
    """How a map in voxels becomes values on vertices.

    Attributes
    ----------
    vertex
        (n,) integer, the vertices that show the map.
    voxel
        (n, k) integer, the voxels that each takes its value from.
    weight
        (n, k) float32, rows sum to 1.
    share
        (n,) float32 in (0, 1], how much of the map is seen there: it fades out at the edge of BA4.
    """

    vertex: NDArray[np.intp]
    voxel: NDArray[np.intp]
    weight: NDArray[np.float32]
    share: NDArray[np.float32]

    def values(self, field: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return the value of each vertex in `vertex`, (n,) float32, for a map (V,)."""
        values: NDArray[np.float32] = np.einsum("nk,nk->n", field[self.voxel], self.weight).astype(np.float32)
        return values


def map_to_surface(
    voxel_mm: NDArray[np.float64], vertices: NDArray[np.floating[Any]], size_mm: float
) -> SurfaceMapping:
    """Find the vertices in BA4 and the voxels they take their values from.

    Parameters
    ----------
    voxel_mm
        (V, 3) float64, centres of the voxels, mm.
    vertices
        (P, 3) float, mm.
    size_mm
        Edge of a voxel.
    """
    k = min(NEIGHBOURS, len(voxel_mm))
    distance, index = cKDTree(voxel_mm).query(vertices.astype(np.float64), k=k)
    distance, index = distance.reshape(len(vertices), k), index.reshape(len(vertices), k)
    outside = np.maximum(distance[:, 0] / size_mm - REACH_VOXELS, 0.0)
    vertex = np.flatnonzero(outside < FADE_VOXELS)
    weight = np.exp(-0.5 * (distance[vertex] / size_mm) ** 2)
    weight /= weight.sum(axis=1, keepdims=True)
    share = 1.0 - outside[vertex] / FADE_VOXELS
    return SurfaceMapping(vertex, index[vertex], weight.astype(np.float32), share.astype(np.float32))


def subdivide(
    points: NDArray[np.floating[Any]], triangles: NDArray[np.integer[Any]], chosen: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Cut chosen triangles into four at the middles of their edges, and their neighbours so that no gap opens.

    Parameters
    ----------
    points
        (P, k) float: per vertex its place, and whatever else is to be interpolated.
    triangles
        (T, 3) integer.
    chosen
        (T,) bool.

    Returns
    -------
    points : numpy.ndarray
        (P + number of cut edges, k) float64, the old ones first.
    triangles : numpy.ndarray
        (T', 3) int32, turning as the old ones do.
    """
    edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]], axis=2).astype(np.int64)
    key = edges[..., 0] * len(points) + edges[..., 1]
    cut = np.unique(key[chosen])
    is_cut = np.isin(key, cut)
    middle = len(points) + np.searchsorted(cut, key)
    first, second = np.divmod(cut, len(points))
    finer = np.concatenate([points, (points[first] + points[second]) / 2.0])

    made = []
    corner, count = np.arange(3), is_cut.sum(axis=1)
    for n_cut, pattern in _CUT_PATTERNS.items():
        of_kind = count == n_cut
        # Turned so that the cut edges come first: a-b, then b-c.
        turn = np.argmax(is_cut[of_kind] & ~np.roll(is_cut[of_kind], 1, axis=1), axis=1)
        order = (corner + turn[:, None]) % 3
        vertex = np.take_along_axis(triangles[of_kind].astype(np.int64), order, axis=1)
        halves = np.take_along_axis(middle[of_kind], order, axis=1)
        made += [np.concatenate([vertex, halves], axis=1)[:, list(part)] for part in pattern]
    return finer.astype(np.float64), np.concatenate(made).astype(np.int32)


_A, _B, _C, _AB, _BC, _CA = range(6)
_CUT_PATTERNS = {
    0: ((_A, _B, _C),),
    1: ((_A, _AB, _C), (_AB, _B, _C)),
    2: ((_A, _AB, _C), (_AB, _B, _BC), (_AB, _BC, _C)),
    3: ((_A, _AB, _CA), (_AB, _B, _BC), (_CA, _BC, _C), (_AB, _BC, _CA)),
}
"""Number of cut edges -> the triangles that take the place of one."""


def vertex_normals(vertices: NDArray[np.floating[Any]], triangles: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Return unit normals of the vertices, (P, 3) float64, averages of the triangles' weighted by area.

    Parameters
    ----------
    vertices
        (P, 3) float, mm.
    triangles
        (T, 3) integer, counter-clockwise seen from outside.
    """
    a, b, c = (vertices[triangles[:, i]].astype(np.float64) for i in range(3))
    across = np.cross(b - a, c - a)
    normals = np.zeros((len(vertices), 3))
    for i in range(3):
        np.add.at(normals, triangles[:, i], across)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return normals / np.where(length > 0.0, length, 1.0)


def convexity(
    vertices: NDArray[np.floating[Any]], triangles: NDArray[np.integer[Any]], rounds: int = 8
) -> NDArray[np.float64]:
    """Return how far each vertex stands out, (P,) float64 in [-1, 1]: 1 on crowns of gyri, -1 in sulci.

    Distance along the normal to the average of its neighbours, smoothed over the surface.
    """
    points: NDArray[np.float64] = vertices.astype(np.float64)
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    edges = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)
    count = np.maximum(np.bincount(edges[:, 0], minlength=len(points)), 1)[:, None]

    def mean_of_neighbours(values: NDArray[np.float64]) -> NDArray[np.float64]:
        total = np.zeros_like(values)
        np.add.at(total, edges[:, 0], values[edges[:, 1]])
        return total / count

    normals = vertex_normals(points, triangles)
    out = ((points - mean_of_neighbours(points)) * normals).sum(axis=1, keepdims=True)
    for _ in range(rounds):
        out = 0.5 * (out + mean_of_neighbours(out))
    spread = float(np.sqrt(np.mean(out**2))) or 1.0
    return np.asarray(np.tanh(out[:, 0] / spread))


def shade(
    vertices: NDArray[np.floating[Any]], triangles: NDArray[np.integer[Any]], left: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Bake light into the vertices.

    Parameters
    ----------
    vertices
        (P, 3) float, mm.
    triangles
        (T, 3) integer.
    left
        Whether this is a left hemisphere, which is lit from its own side.

    Returns
    -------
    grey : numpy.ndarray
        (P,) float32 in [0, 1], the bare cortex: crowns light, sulci dark.
    light : numpy.ndarray
        (P,) float32 in [0, 1], light alone, to be laid on the map's colours.
    """
    direction = _LIGHT * np.array([-1.0 if left else 1.0, 1.0, 1.0])
    lit = np.clip(vertex_normals(vertices, triangles) @ (direction / np.linalg.norm(direction)), 0.0, 1.0)
    light = _AMBIENT + _DIFFUSE * lit
    grey = light * (0.55 + 0.17 * convexity(vertices, triangles))
    return grey.astype(np.float32), light.astype(np.float32)


@dataclass(frozen=True, eq=False)
class Picture:
    """A cortex ready to be drawn.

    Attributes
    ----------
    vertices
        (P, 3) float32, mm.
    triangles
        (T, 3) int32.
    grey
        (P,) float32 in [0, 1], the bare cortex.
    light
        (P,) float32 in [0, 1], what the light does to the map's colours.
    mapping
        From voxels to vertices.
    """

    vertices: NDArray[np.float32]
    triangles: NDArray[np.int32]
    grey: NDArray[np.float32]
    light: NDArray[np.float32]
    mapping: SurfaceMapping


def make_picture(
    vertices: NDArray[np.floating[Any]],
    triangles: NDArray[np.integer[Any]],
    voxel_mm: NDArray[np.float64],
    size_mm: float,
    left: bool,
) -> Picture:
    """Prepare a cortex for drawing; at the edge of BA4 the surface is made finer, so that the edge is no saw.

    Parameters
    ----------
    vertices, triangles
        (P, 3) float in mm and (T, 3) integer.
    voxel_mm, size_mm
        (V, 3) centres of BA4's voxels and their edge, mm.
    left
        Whether this is a left hemisphere.
    """
    grey, light = shade(vertices, triangles, left)
    points = np.column_stack([vertices, grey, light]).astype(np.float64)
    finer = triangles.astype(np.int32)
    for _ in range(EDGE_CUTS):
        mapping = map_to_surface(voxel_mm, points[:, :3], size_mm)
        share = np.zeros(len(points))
        share[mapping.vertex] = mapping.share
        of_corners = share[finer]
        points, finer = subdivide(points, finer, of_corners.min(axis=1) < of_corners.max(axis=1))
    return Picture(
        vertices=points[:, :3].astype(np.float32),
        triangles=finer,
        grey=points[:, 3].astype(np.float32),
        light=points[:, 4].astype(np.float32),
        mapping=map_to_surface(voxel_mm, points[:, :3], size_mm),
    )

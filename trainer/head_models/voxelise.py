"""Which voxels a closed surface encloses, and balls to grow and shrink what was found. Knows no anatomy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from rt_engine.errors import DataError

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_OFF_VERTEX_MM = (1.2345e-4, 2.3456e-4)
"""Columns are shifted by this much: a line through a vertex or along an edge would be counted twice, or not at all."""

_PAIRS = 4_000_000
"""Columns per block, times triangles: some 200 MB of working memory."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Voxels along the axes of the space.

    Attributes
    ----------
    origin_mm : tuple of float
        Centre of the first voxel, mm.
    shape : tuple of int
        Voxels along x, y, z.
    step_mm : float
        Edge of a voxel, mm.
    """

    origin_mm: tuple[float, float, float]
    shape: tuple[int, int, int]
    step_mm: float = 1.0

    @property
    def affine(self) -> Floats:
        """(4, 4) float64; index to the voxel's centre in mm."""
        affine = np.diag([self.step_mm] * 3 + [1.0])
        affine[:3, 3] = self.origin_mm
        return affine

    def axis_mm(self, axis: int) -> Floats:
        """Return the voxel centres along one axis, (n,) float64, mm."""
        return self.origin_mm[axis] + self.step_mm * np.arange(self.shape[axis], dtype=np.float64)


def inside(vertices_mm: Floats, triangles: npt.NDArray[np.int32], grid: Grid, name: str) -> Mask:
    """Mark the voxels whose centre a closed surface encloses.

    Along every column of the grid the surface's crossings are counted with their sign, which gives the winding number:
    where a surface overlaps itself, as averages of folded surfaces do, the overlap is inside as it should be.

    Parameters
    ----------
    vertices_mm : numpy.ndarray
        (P, 3), mm.
    triangles : numpy.ndarray
        (T, 3); corners, all counter-clockwise or all clockwise.
    grid : Grid
        Where to look.
    name : str
        What the surface is, for the message.

    Returns
    -------
    numpy.ndarray
        `grid.shape` bool.

    Raises
    ------
    DataError
        The surface is not closed, or its triangles disagree about what is outside.
    """
    check_closed(triangles, name)
    scaled = (vertices_mm - np.array(grid.origin_mm)) / grid.step_mm
    scaled[:, :2] += np.array(_OFF_VERTEX_MM) / grid.step_mm
    nx, ny, nz = grid.shape
    crossing = np.zeros((nx, ny, nz + 1), np.int32)
    corner = scaled[triangles]
    low = np.maximum(np.ceil(corner[..., :2].min(axis=1)).astype(int), 0)
    high = np.minimum(np.floor(corner[..., :2].max(axis=1)).astype(int) + 1, (nx, ny))
    n_columns = np.prod(np.maximum(high - low, 0), axis=1)
    used = np.flatnonzero(n_columns)
    block = np.cumsum(n_columns[used]) // _PAIRS
    for part in (used[block == i] for i in np.unique(block)):
        _count_crossings(crossing, corner[part], low[part], high[part], n_columns[part])
    winding = np.cumsum(crossing[..., :nz], axis=2)
    return winding != 0


def _count_crossings(
    crossing: npt.NDArray[np.int32],
    corner: Floats,
    low: npt.NDArray[np.int_],
    high: npt.NDArray[np.int_],
    n_columns: npt.NDArray[np.int_],
) -> None:
    """Add every triangle's crossings with the columns under it, to the first voxel centre above each crossing."""
    triangle = np.repeat(np.arange(len(corner)), n_columns)
    within = np.arange(n_columns.sum()) - np.repeat(np.cumsum(n_columns) - n_columns, n_columns)
    width = (high - low)[triangle, 1]
    i, j = low[triangle, 0] + within // width, low[triangle, 1] + within % width
    a, b, c = (corner[:, k] for k in range(3))
    ab, ac = b - a, c - a
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        from_a = np.stack([i, j], axis=1) - a[triangle, :2]
        v = (from_a[:, 0] * ac[triangle, 1] - from_a[:, 1] * ac[triangle, 0]) / area[triangle]
        w = (ab[triangle, 0] * from_a[:, 1] - ab[triangle, 1] * from_a[:, 0]) / area[triangle]
    hit = (v >= 0) & (w >= 0) & (v + w <= 1)
    triangle, i, j, v, w = triangle[hit], i[hit], j[hit], v[hit], w[hit]
    height = a[triangle, 2] + v * ab[triangle, 2] + w * ac[triangle, 2]
    k = np.clip(np.ceil(height), 0, crossing.shape[2] - 1).astype(int)
    np.add.at(crossing, (i, j, k), np.sign(area[triangle]).astype(np.int32))


def check_closed(triangles: npt.NDArray[np.int32], name: str) -> None:
    """Check that every edge joins two triangles that run along it in opposite directions.

    Raises
    ------
    DataError
        The surface has a border, or is not oriented alike everywhere.
    """
    directed = triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).astype(np.int64)
    key = np.sort(directed[:, 0] << 32 | directed[:, 1])
    reverse = np.sort(directed[:, 1] << 32 | directed[:, 0])
    if len(key) != len(np.unique(key)) or not np.array_equal(key, reverse):
        n_open = len(np.setxor1d(key, reverse)) // 2
        raise DataError(
            f"The surface {name!r} is not closed: {n_open} of its {len(triangles) * 3 // 2} edges do not join two "
            "triangles of the same orientation. Expected a closed surface, as segmentation programs write them."
        )


def ball_distance(mask: Mask, grid: Grid) -> npt.NDArray[np.float32]:
    """Compute the signed distance to a mask's border, `grid.shape` float32, mm: negative inside."""
    outside = ndimage.distance_transform_edt(~mask).astype(np.float32)
    within = ndimage.distance_transform_edt(mask).astype(np.float32)
    # Half a voxel: the border lies between two centres.
    return (np.where(mask, 0.5 - within, outside - 0.5) * grid.step_mm).astype(np.float32)


def largest_part(mask: Mask) -> Mask:
    """Return the largest face-connected part of a mask, empty if it is empty."""
    part, n = ndimage.label(mask)
    if n <= 1:
        return mask.copy()
    size = np.bincount(part.ravel())
    size[0] = 0
    return part == int(size.argmax())


def coarsen(label: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[np.uint8]:
    """Give every cube of `factor`^3 voxels the label that most of them have; on a draw the lower one but air.

    Parameters
    ----------
    label : numpy.ndarray
        (nx, ny, nz) uint8, every side a multiple of `factor`.
    factor : int
        Voxels to join along each axis.

    Returns
    -------
    numpy.ndarray
        (nx / factor, ...) uint8.
    """
    if factor == 1:
        return label
    cells = [n for size in label.shape for n in (size // factor, factor)]
    blocks = label.reshape(cells)
    tags = np.unique(label)
    # Air last: a draw between tissue and air is tissue.
    tags = np.append(tags[tags != 0], np.uint8(0))
    votes = np.stack([(blocks == tag).sum(axis=(1, 3, 5)) for tag in tags])
    return tags[votes.argmax(axis=0)].astype(np.uint8)

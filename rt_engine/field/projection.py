"""Maximum-intensity projections of a map onto the three planes of scanner space.

The pixels stand in scanner space (RAS: x to the right, y to the front, z up), whatever the box's own axes are, so that
an oblique box is shown the right way round too. What each pixel looks through is found once per geometry.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Plane = Literal["sagittal", "coronal", "axial"]

PLANE_AXES: dict[Plane, tuple[int, int]] = {"sagittal": (1, 2), "coronal": (0, 2), "axial": (0, 1)}
"""Plane -> axes of scanner space that run to the right and up in its picture."""

AXIS_ENDS: tuple[tuple[str, str], ...] = (("L", "R"), ("P", "A"), ("I", "S"))
"""Axis of scanner space -> letters at its low and its high end."""

AXIS_NAMES = ("x", "y", "z")

ELLIPSE_95 = 5.991464547107979
"""95 % quantile of chi-squared with 2 degrees of freedom: the squared radius, in SD, that holds 95 % in a plane."""

_OFFSETS = (-1.0 / 3.0, 0.0, 1.0 / 3.0)
"""Where a voxel is sampled along each of its axes, so that an oblique box leaves no holes."""


@dataclass(frozen=True, eq=False)
class Projection:
    """How a map becomes one picture.

    Attributes
    ----------
    plane
        Which plane.
    shape
        Rows (up) and columns (right) of the picture.
    low_mm, high_mm
        Outer edges of the picture along its two axes, (right, up).
    n_voxels
        Voxels of the geometry (V).
    """

    plane: Plane
    shape: tuple[int, int]
    low_mm: tuple[float, float]
    high_mm: tuple[float, float]
    n_voxels: int
    _voxel: NDArray[np.intp]
    _starts: NDArray[np.intp]
    _pixel: NDArray[np.intp]

    def project(self, values: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Project a map.

        Parameters
        ----------
        values
            (V,) float.

        Returns
        -------
        numpy.ndarray
            (rows, columns) float32, row 0 at the top; NaN where no voxel lies behind the pixel. Where some of the
            voxels behind it are NaN, the maximum of the others.
        """
        picture = np.full(self.shape[0] * self.shape[1], np.nan, dtype=np.float32)
        picture[self._pixel] = np.fmax.reduceat(values[self._voxel].astype(np.float32), self._starts)
        return picture.reshape(self.shape)[::-1]


def make_projection(voxel: NDArray[np.integer[Any]], affine: NDArray[np.float64], plane: Plane) -> Projection:
    """Find out which voxels lie behind which pixel.

    Parameters
    ----------
    voxel
        (V, 3) integer, indices into the box.
    affine
        (4, 4) float64, box index to scanner space in mm.
    plane
        Which plane.
    """
    axes = list(PLANE_AXES[plane])
    size = float(np.linalg.norm(affine[:3, :3], axis=0).min())
    center = voxel @ affine[:3, :3].T + affine[:3, 3]
    offsets = np.stack(np.meshgrid(_OFFSETS, _OFFSETS, _OFFSETS, indexing="ij"), axis=-1).reshape(-1, 3)
    shifts = offsets @ affine[:3, :3].T
    anchor = center[:, axes].min(axis=0)

    points = (center[:, None, :] + shifts)[:, :, axes]
    index = np.floor((points - anchor) / size + 0.5).astype(np.int64)
    origin = index.min(axis=(0, 1))
    index -= origin
    columns, rows = (index.max(axis=(0, 1)) + 1).tolist()
    low = anchor + (origin - 0.5) * size

    flat = index[..., 1] * columns + index[..., 0]
    pairs = np.unique(flat * len(voxel) + np.arange(len(voxel))[:, None])
    pixel_of_pair, voxel_of_pair = np.divmod(pairs, len(voxel))
    pixel, starts = np.unique(pixel_of_pair, return_index=True)
    return Projection(
        plane=plane,
        shape=(rows, columns),
        low_mm=(float(low[0]), float(low[1])),
        high_mm=(float(low[0] + columns * size), float(low[1] + rows * size)),
        n_voxels=len(voxel),
        _voxel=voxel_of_pair,
        _starts=starts,
        _pixel=pixel,
    )


def covariance_ellipse(cov_mm2: NDArray[np.float64], plane: Plane) -> tuple[float, float, float] | None:
    """Return the ellipse that holds 95 % of a normal distribution's marginal in a plane.

    Parameters
    ----------
    cov_mm2
        (3, 3) float64.
    plane
        Which plane.

    Returns
    -------
    tuple or None
        Semi-axes (larger, smaller) in mm and the angle of the larger one, degrees counter-clockwise from the
        picture's right; None if the covariance is no covariance.
    """
    axes = PLANE_AXES[plane]
    block = cov_mm2[np.ix_(axes, axes)]
    if not np.isfinite(block).all():
        return None
    values, vectors = np.linalg.eigh((block + block.T) / 2.0)
    if values[0] < -1e-9 * max(values[1], 1e-12):
        return None
    small, large = np.sqrt(np.maximum(values, 0.0) * ELLIPSE_95)
    angle = float(np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1])))
    return float(large), float(small), angle

"""The voxels of BA4 in their box: where their centres are, and what makes such a grid valid.

Subjects, data sets and models all carry the same three: `voxel`, `affine`, `box_shape`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError


def voxel_centers_mm(voxel: npt.NDArray[np.int16], affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Compute the voxels' centres.

    Parameters
    ----------
    voxel : numpy.ndarray
        (V, 3) int16 indices in the box.
    affine : numpy.ndarray
        (4, 4) float64, index to mm.

    Returns
    -------
    numpy.ndarray
        (V, 3) float64, mm.
    """
    centers: npt.NDArray[np.float64] = voxel.astype(np.float64) @ affine[:3, :3].T + affine[:3, 3]
    return centers


def check_grid(voxel: npt.NDArray[Any], affine: npt.NDArray[Any], box_shape: tuple[int, ...]) -> None:
    """Check that voxels, affine and box agree.

    Parameters
    ----------
    voxel : numpy.ndarray
        Must be (V, 3) int16, V at least 1, inside the box, each voxel once, in lexicographic (C) order.
    affine : numpy.ndarray
        Must be (4, 4) float64, finite, invertible, last row 0 0 0 1.
    box_shape : tuple of int
        Must be three positive numbers.

    Raises
    ------
    DataError
        The first thing that is wrong: what was found, what was expected.
    """
    # An index is kept as int16, so a box cannot be wider than that.
    if len(box_shape) != 3 or not all(0 < n <= 2**15 for n in box_shape):
        raise DataError(f"box_shape is {tuple(box_shape)}; expected three numbers between 1 and 32768.")
    if affine.dtype != np.float64 or affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise DataError(f"affine is {affine.dtype} {affine.shape}; expected a finite float64 (4, 4) matrix.")
    if not np.array_equal(affine[3], (0, 0, 0, 1)) or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise DataError(f"affine is no invertible matrix with the last row 0 0 0 1: {affine.tolist()}.")
    if voxel.dtype != np.int16 or voxel.ndim != 2 or voxel.shape[1] != 3 or not len(voxel):
        raise DataError(f"voxel is {voxel.dtype} {voxel.shape}; expected int16 (V, 3) with at least one voxel.")
    if (voxel < 0).any() or (voxel >= np.asarray(box_shape)).any():
        raise DataError(f"Some voxels lie outside the box of {tuple(box_shape)}; indices count from 0.")
    flat = np.ravel_multi_index(tuple(voxel.T.astype(np.int64)), tuple(box_shape))
    if (np.diff(flat) <= 0).any():
        raise DataError("The voxels are not in lexicographic (C) order, each one once; sort them.")

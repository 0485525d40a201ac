"""The grids of the networks and their cells: what the decoder's plan and the encoder's have in common. Numpy only."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rt_engine.errors import DataError

Shape = tuple[int, int, int]

NEIGHBOURS = np.array(list(np.ndindex(3, 3, 3))) - 1
"""(27, 3): the cells that a 3^3 kernel reads, relative to its output, in the order of the kernel's weights."""


def checked_grids(voxel: NDArray[Any], box_shape: Shape) -> tuple[NDArray[np.int64], Shape, Shape]:
    """Check a mask and its box.

    Parameters
    ----------
    voxel : numpy.ndarray
        (V, 3) int, indices of the mask's voxels in the box.
    box_shape : tuple of int
        Voxels of the box.

    Returns
    -------
    voxel : numpy.ndarray
        (V, 3) int64.
    half_shape, latent_shape : tuple of int
        Cells of the grids of half and of a quarter of the box per axis.

    Raises
    ------
    DataError
        If the box cannot be halved twice, or the mask is empty or leaves it.
    """
    voxel = np.array(voxel, dtype=np.int64)
    if any(side % 4 or side < 4 for side in box_shape):
        raise DataError(f"the box has {box_shape} voxels; the networks need sides that are multiples of 4")
    if voxel.ndim != 2 or voxel.shape[1:] != (3,) or not len(voxel):
        raise DataError(f"expected the mask's voxels as (V, 3) indices with V > 0; got {voxel.shape}")
    if (voxel < 0).any() or (voxel >= box_shape).any():
        raise DataError(f"the mask's voxels leave the box of {box_shape}")
    half_shape = (box_shape[0] // 2, box_shape[1] // 2, box_shape[2] // 2)
    return voxel, half_shape, (half_shape[0] // 2, half_shape[1] // 2, half_shape[2] // 2)


def look_up(values: NDArray[np.int64], cells: NDArray[np.int64], shape: Shape, outside: int) -> NDArray[np.int64]:
    """Return the value of each cell (..., 3) from those of all cells of a grid; `outside` where it is not in it."""
    padded = np.pad(values.reshape(shape), 1, constant_values=outside)
    clipped = np.clip(cells + 1, 0, np.array(shape) + 1)
    return padded[tuple(np.moveaxis(clipped, -1, 0))]


def rows_of(wanted: NDArray[np.int64], known: NDArray[np.int64], shape: Shape) -> NDArray[np.int64]:
    """Return the row in `known` (n, 3) of each wanted cell (..., 3); n where it is outside the grid or not known."""
    number = np.full(int(np.prod(shape)), len(known))
    number[np.ravel_multi_index(tuple(known.T), shape)] = np.arange(len(known))
    return look_up(number, wanted, shape, len(known))

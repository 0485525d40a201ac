"""Which cells of the encoder's grids BA4 reaches, and what each convolution reads there. Numpy only.

The field is zero outside BA4, so far from it every activation is what a zero field gives. That background depends on
where the grid's faces are alone: a convolution's zero padding is seen by the outermost cells. Cells whose numbers are
the same for that reason form a class. Near BA4 are the cells that a voxel of it reaches: through 3^3 taps and a pooling
to half the box, again to a quarter of it, and through the last 3^3 taps.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.architectures.grid_cells import NEIGHBOURS, Shape, checked_grids, look_up, rows_of

CHILDREN = np.array(list(np.ndindex(2, 2, 2)))
"""(8, 3): the cells that a pooling takes the largest of, relative to the first."""

PATCH = np.array(list(np.ndindex(4, 4, 4))) - 1
"""(64, 3): what the taps of eight children read together, relative to the first child."""


def patch_kernels() -> NDArray[np.float64]:
    """Return the (8 * 64, 27) matrix of zeros and ones from a kernel's 27 taps to each child's weights of the patch."""
    reads = CHILDREN[:, None, None] + NEIGHBOURS[None, None] == PATCH[None, :, None]
    return reads.all(axis=-1).reshape(8 * 64, 27).astype(np.float64)


@dataclass(frozen=True, eq=False)
class EncoderCells:
    """The cells near a mask, and the classes of the others.

    Attributes
    ----------
    box_shape, half_shape, latent_shape : tuple of int
        Voxels of the box, of half and of a quarter of it per axis.
    n_voxels : int
        Voxels of the mask (V).
    half : numpy.ndarray
        (H, 3) int64, cells of the half grid, after the first pooling, that the mask reaches, in C order.
    coarse : numpy.ndarray
        (C, 3) int64, cells of the latent grid, after the second pooling, that it reaches, in C order.
    patch : numpy.ndarray
        (H, 64) int64, the voxels that each of `half` is made from, as numbers in the mask; V where there is none.
    reader : numpy.ndarray
        (27, H) int64, output of the second convolution that reads a cell of `half` by each tap, as child * C + row in
        `coarse`; 8 * C where that lies outside the grid.
    child_class : numpy.ndarray
        (8, C) int64, class of each child of `coarse` in the second convolution's background.
    class_taps : numpy.ndarray
        (classes, 27) bool, taps of the second convolution that lie inside the half grid.
    coarse_class : numpy.ndarray
        (C,) int64, class of `coarse` in the second pooling's background.
    class_children : numpy.ndarray
        (pooled classes, 8) int64, the classes that each takes the largest of.
    latent_reader : numpy.ndarray
        (27, C) int64, cell of the latent grid that reads each of `coarse` by each tap; the grid's size where that lies
        outside.
    latent_class : numpy.ndarray
        (cells of the latent grid,) int64, class of each cell in the last convolution's background.
    latent_class_taps : numpy.ndarray
        (latent classes, 27) int64, pooled class that each tap reads; the number of pooled classes outside the grid.
    """

    box_shape: Shape
    half_shape: Shape
    latent_shape: Shape
    n_voxels: int
    half: NDArray[np.int64]
    coarse: NDArray[np.int64]
    patch: NDArray[np.int64]
    reader: NDArray[np.int64]
    child_class: NDArray[np.int64]
    class_taps: NDArray[np.bool_]
    coarse_class: NDArray[np.int64]
    class_children: NDArray[np.int64]
    latent_reader: NDArray[np.int64]
    latent_class: NDArray[np.int64]
    latent_class_taps: NDArray[np.int64]


def encoder_cells(voxel: NDArray[Any], box_shape: Shape) -> EncoderCells:
    """Find the cells that a mask reaches.

    Parameters
    ----------
    voxel : numpy.ndarray
        (V, 3) int, indices of the mask's voxels in the box, each once.
    box_shape : tuple of int
        Voxels of the box; multiples of 4.

    Raises
    ------
    DataError
        If the box cannot be halved twice, or the mask is empty or leaves it.
    """
    voxel, half_shape, latent_shape = checked_grids(voxel, box_shape)
    half = _pooled(_around(voxel, box_shape), half_shape)
    coarse = _pooled(_around(half, half_shape), latent_shape)
    children = 2 * coarse[None] + CHILDREN[:, None]  # (8, C, 3)
    class_taps, half_class = _classes(_all_inside(half_shape))
    latent_cells = np.array(list(np.ndindex(*latent_shape)))
    classes_of_children = half_class.reshape(half_shape)[tuple((2 * latent_cells[:, None] + CHILDREN[None]).T)].T
    class_children, pooled_class = _classes(classes_of_children)
    read = latent_cells[:, None] + NEIGHBOURS[None]
    latent_class_taps, latent_class = _classes(look_up(pooled_class, read, latent_shape, len(class_children)))
    return EncoderCells(
        box_shape=box_shape,
        half_shape=half_shape,
        latent_shape=latent_shape,
        n_voxels=len(voxel),
        half=half,
        coarse=coarse,
        patch=rows_of(2 * half[:, None] + PATCH[None], voxel, box_shape),
        reader=rows_of(half[None] - NEIGHBOURS[:, None], children.reshape(-1, 3), half_shape),
        child_class=half_class[np.ravel_multi_index(tuple(np.moveaxis(children, -1, 0)), half_shape)],
        class_taps=class_taps,
        coarse_class=pooled_class[np.ravel_multi_index(tuple(coarse.T), latent_shape)],
        class_children=class_children,
        latent_reader=rows_of(coarse[None] - NEIGHBOURS[:, None], latent_cells, latent_shape),
        latent_class=latent_class,
        latent_class_taps=latent_class_taps,
    )


def _around(cells: NDArray[np.int64], shape: Shape) -> NDArray[np.int64]:
    """Cells of the grid that read some cells by a 3^3 kernel, with repeats."""
    around = (cells[:, None] + NEIGHBOURS[None]).reshape(-1, 3)
    return around[((around >= 0) & (around < shape)).all(axis=1)]


def _pooled(cells: NDArray[np.int64], shape: Shape) -> NDArray[np.int64]:
    """Cells of a pooled grid that some cells go into, each once, in C order."""
    reached = np.zeros(shape, dtype=bool)
    reached[tuple((cells // 2).T)] = True
    return np.argwhere(reached)


def _all_inside(shape: Shape) -> NDArray[np.bool_]:
    """(cells, 27): whether each tap of each cell of a grid lies inside."""
    read = np.array(list(np.ndindex(*shape)))[:, None] + NEIGHBOURS[None]
    return ((read >= 0) & (read < shape)).all(axis=-1)


def _classes(rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Different rows of a matrix, and which of them each row is."""
    number = np.zeros(len(rows), dtype=np.int64)
    for column in rows.T:  # tens of times faster than `unique` on whole rows
        number = np.unique(number * (int(column.max()) + 1) + column, return_inverse=True)[1]
    return rows[np.unique(number, return_index=True)[1]], number

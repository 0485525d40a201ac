"""Which cells of each grid of the decoder BA4 needs, and which of them each convolution reads. Numpy only.

The decoder convolves on the latent grid (a quarter of the box per axis), upsamples to half the box, convolves,
upsamples to the box, convolves. Only BA4's voxels are wanted, so only some cells of each grid are needed. Nearest
upsampling before a 3-tap convolution is, per axis, a 2-tap convolution on the coarse grid: output p = 2q reads q-1 and
q, p = 2q+1 reads q and q+1. In three dimensions: 8 parity classes of 8 coarse taps each (`docs/masked-decoder.md`).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.architectures.grid_cells import NEIGHBOURS, Shape, checked_grids, rows_of

UPSAMPLING = 2
TAPS = 3
PARITIES = np.array(list(np.ndindex(2, 2, 2)))
"""(8, 3): parity of an output's index per axis; also, of a coarse tap: the lower or the upper of the two it reads."""

KERNEL_OF_TAP = np.array(
    [
        [[1, 0, 0], [0, 1, 1]],  # p = 2q: w(-1) on q-1; w(0) + w(1) on q
        [[1, 1, 0], [0, 0, 1]],  # p = 2q+1: w(-1) + w(0) on q; w(1) on q+1
    ]
)
"""(2, 2, 3): parity, coarse tap, tap of the 3-tap kernel: which of its weights that coarse tap sums."""


def parity_kernels() -> NDArray[np.float64]:
    """Return the (64, 27) matrix of zeros and ones from a kernel's 27 taps to 8 parities x 8 coarse taps.

    Rows run over parity and coarse tap, columns over the kernel's taps, all in C order of (x, y, z).
    """
    one = KERNEL_OF_TAP
    three = np.einsum("adi,bej,cfk->abcdefijk", one, one, one)
    return three.reshape(64, 27).astype(np.float64)


@dataclass(frozen=True, eq=False)
class UpsampledReads:
    """What an upsampling followed by a 3^3 convolution reads, for some outputs.

    Attributes
    ----------
    parity : numpy.ndarray
        (n_out,) int64 in 0..7, class of each output.
    tap : numpy.ndarray
        (n_out, 8) int64, row of the coarse cell that each coarse tap reads; `n_in` where it lies outside the grid and
        reads zero.
    n_in : int
        Number of coarse cells.
    """

    parity: NDArray[np.int64]
    tap: NDArray[np.int64]
    n_in: int

    @cached_property
    def reader(self) -> NDArray[np.int64]:
        """(8, 8, n_in): the one output that reads a coarse cell by parity and coarse tap; n_out if there is none."""
        n_out = len(self.parity)
        found = np.full((8, 8, self.n_in + 1), n_out)
        found[self.parity[:, None], np.arange(8)[None, :], self.tap] = np.arange(n_out)[:, None]
        return found[:, :, : self.n_in]


@dataclass(frozen=True, eq=False)
class PlainReads:
    """What a 3^3 convolution without upsampling reads, for some outputs.

    Attributes
    ----------
    tap : numpy.ndarray
        (n_out, 27) int64, row of the cell that each tap reads; `n_in` where it lies outside the grid.
    n_in : int
        Number of cells that are read.
    """

    tap: NDArray[np.int64]
    n_in: int

    @cached_property
    def reader(self) -> NDArray[np.int64]:
        """(27, n_in): output that reads a cell by a tap; n_out if none."""
        n_out = len(self.tap)
        found = np.full((27, self.n_in + 1), n_out)
        found[np.arange(27)[None, :], self.tap] = np.arange(n_out)[:, None]
        return found[:, : self.n_in]


@dataclass(frozen=True, eq=False)
class NeededCells:
    """The cells of the decoder's grids that a mask needs.

    Attributes
    ----------
    box_shape, half_shape, latent_shape : tuple of int
        Voxels of the box, of half and of a quarter of it per axis.
    voxel : numpy.ndarray
        (V, 3) int64, the mask, in its own order.
    half : numpy.ndarray
        (H, 3) int64, cells of the half grid that the voxels read, sorted by parity class, then in C order.
    coarse : numpy.ndarray
        (C, 3) int64, cells of the latent grid at which the first convolution is needed, in C order.
    latent : numpy.ndarray
        (L,) int64, flat index in the latent grid of the cells that those read, rising.
    last : UpsampledReads
        How the voxels read `half`.
    second : UpsampledReads
        How `half` reads `coarse`.
    first : PlainReads
        How `coarse` reads `latent`.
    """

    box_shape: Shape
    half_shape: Shape
    latent_shape: Shape
    voxel: NDArray[np.int64]
    half: NDArray[np.int64]
    coarse: NDArray[np.int64]
    latent: NDArray[np.int64]
    last: UpsampledReads
    second: UpsampledReads
    first: PlainReads


def needed_cells(voxel: NDArray[Any], box_shape: Shape, *, final_kernel: int = 3) -> NeededCells:
    """Find the cells that a mask needs.

    Parameters
    ----------
    voxel : numpy.ndarray
        (V, 3) int, indices of the mask's voxels in the box, each once.
    box_shape : tuple of int
        Voxels of the box; multiples of 4.
    final_kernel : int
        Side of the last convolution's kernel, 3 or 1. With 1, a voxel still lists 8 taps, of which it reads one.

    Raises
    ------
    DataError
        If the box cannot be halved twice, or the mask is empty or leaves it.
    """
    voxel, half_shape, latent_shape = checked_grids(voxel, box_shape)
    half = _read_by(voxel, half_shape) if final_kernel == TAPS else np.unique(voxel // UPSAMPLING, axis=0)
    half = half[np.argsort(parity_class(half), kind="stable")]
    coarse = _read_by(half, latent_shape)
    around = (coarse[:, None] + NEIGHBOURS[None]).reshape(-1, 3)
    inside = ((around >= 0) & (around < latent_shape)).all(axis=1)
    read = np.unique(around[inside], axis=0)
    latent = np.ravel_multi_index(tuple(read.T), latent_shape)
    tap = rows_of(coarse[:, None] + NEIGHBOURS[None], read, latent_shape)
    return NeededCells(
        box_shape=box_shape,
        half_shape=half_shape,
        latent_shape=latent_shape,
        voxel=voxel,
        half=half,
        coarse=coarse,
        latent=latent,
        last=upsampled_reads(voxel, half, half_shape),
        second=upsampled_reads(half, coarse, latent_shape),
        first=PlainReads(tap, len(read)),
    )


def parity_class(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the class in 0..7 of each of (n, 3) cells."""
    return (cells % 2) @ np.array([4, 2, 1])


def _coarse_taps(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n, 8, 3): coarse cells that each output's taps read, inside the grid or not."""
    lowest = (cells - 1) // UPSAMPLING  # p = 2q -> q-1; p = 2q+1 -> q
    return lowest[:, None] + PARITIES[None]


def _read_by(cells: NDArray[np.int64], shape: Shape) -> NDArray[np.int64]:
    """Coarse cells that some outputs read, each once, in C order."""
    read = _coarse_taps(cells).reshape(-1, 3)
    return np.unique(read[((read >= 0) & (read < shape)).all(axis=1)], axis=0)


def upsampled_reads(cells: NDArray[np.int64], coarse: NDArray[np.int64], shape: Shape) -> UpsampledReads:
    """Find what (n, 3) outputs read of some (n_in, 3) cells of the coarse grid, whose shape is `shape`."""
    return UpsampledReads(parity_class(cells), rows_of(_coarse_taps(cells), coarse, shape), len(coarse))

"""The second convolution with half of the products: what outputs of one coarse cell share is made once. Numpy only.

Nearest upsampling before a 3-tap convolution gives, per axis, two outputs of a coarse cell q, with
d[j] = x[j+1] - x[j] and s = w(-1) + w(0) + w(1):

- output 2q   = w(-1) x[q-1] + (w(0) + w(1)) x[q] = s x[q] - w(-1) d[q-1],
- output 2q+1 = (w(-1) + w(0)) x[q] + w(1) x[q+1] = s x[q] + w(1) d[q].

So three products do, where four were needed, since both outputs use s x[q] (Karatsuba's trick). In three dimensions an
output is the sum of 8 *terms*: per axis the cell itself with kernel s, or a difference with the kernel of the output's
parity. A term belongs to a *row* (a cell or one of its differences along some axes) and to one of 27 kernels, and is
shared by up to 8 *readers*, the outputs that add it up. For the default mask there are 7,085 terms instead of 14,384
taps. Exact algebra; the rounding differs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.architectures.needed_cells import NeededCells, UpsampledReads

AXES = 3

_ONE_AXIS = np.array([[1, 1, 1], [-1, 0, 0], [0, 0, 1]])
"""(3, 3): the kernels s, of an even output's difference, of an odd one's, from w(-1), w(0), w(1)."""


def term_kernels() -> NDArray[np.float64]:
    """Return the (27, 27) matrix from a 3^3 kernel's taps to the 27 kernels of terms, both in C order of (x, y, z)."""
    one = _ONE_AXIS
    return np.einsum("ai,bj,ck->abcijk", one, one, one).reshape(27, 27).astype(np.float64)


@dataclass(frozen=True, eq=False)
class TermPlan:
    """Terms of the second convolution, sorted by kernel.

    Attributes
    ----------
    n_cells : int
        Coarse cells; row `n_cells` is zero and stands for all that lie outside the grid.
    parents : numpy.ndarray
        (D, 2) int32: row ``n_cells + 1 + k`` is the first parent's row minus the second's; parents come first.
    row, kernel : numpy.ndarray
        (T,) int32, of each term; kernels rise.
    first : numpy.ndarray
        (T + 1,) int32, where each term's readers begin in `reader`.
    reader : numpy.ndarray
        (8 * n_out,) int32, outputs.
    """

    n_cells: int
    parents: NDArray[np.int32]
    row: NDArray[np.int32]
    kernel: NDArray[np.int32]
    first: NDArray[np.int32]
    reader: NDArray[np.int32]

    @property
    def n_rows(self) -> int:
        """Cells, the zero row and the differences."""
        return self.n_cells + 1 + len(self.parents)


class _Rows:
    """Numbers the rows, and makes a difference's parents before itself."""

    def __init__(self, cells: NDArray[np.int64]) -> None:
        self._cell = {tuple(cell): k for k, cell in enumerate(cells.tolist())}
        self._difference: dict[tuple[tuple[int, ...], int], int] = {}
        self.parents: list[tuple[int, int]] = []

    def number(self, cell: tuple[int, ...], axes: int) -> int:
        """Return the row of a cell's difference along the axes from `axes` (a mask of bits, bit k for axis k)."""
        if not axes:
            return self._cell.get(cell, len(self._cell))
        known = self._difference.get((cell, axes))
        if known is not None:
            return known
        axis = axes.bit_length() - 1
        next_cell = tuple(index + (k == axis) for k, index in enumerate(cell))
        left = axes & ~(1 << axis)
        self.parents.append((self.number(next_cell, left), self.number(cell, left)))
        # Not before: its parents, which come first, may have been made meanwhile.
        made = len(self._cell) + len(self.parents)
        self._difference[cell, axes] = made
        return made


def term_plan(cells: NeededCells) -> TermPlan:
    """Make the plan of a mask's second convolution.

    Parameters
    ----------
    cells : NeededCells
        What the mask needs; readers are numbered as `cells.half`.
    """
    rows = _Rows(cells.coarse)
    readers: dict[tuple[int, int], list[int]] = {}
    for output, cell in enumerate(cells.half.tolist()):
        for axes in range(2**AXES):
            kernel, place = 0, []
            for axis, index in enumerate(cell):
                differs, parity = axes >> axis & 1, index % 2
                # An even output's difference lies before its coarse cell, an odd one's behind it.
                place.append(index // 2 - (1 - parity) * differs)
                kernel = 3 * kernel + (1 + parity) * differs
            readers.setdefault((kernel, rows.number(tuple(place), axes)), []).append(output)
    terms = sorted(readers)
    counts = [len(readers[term]) for term in terms]
    return TermPlan(
        n_cells=len(cells.coarse),
        parents=np.array(rows.parents, np.int32).reshape(-1, 2),
        row=np.array([row for _, row in terms], np.int32),
        kernel=np.array([kernel for kernel, _ in terms], np.int32),
        first=np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        reader=np.concatenate([readers[term] for term in terms]).astype(np.int32),
    )


@dataclass(frozen=True, eq=False)
class LastPlan:
    """What the voxels read of the half grid, by voxel and by cell.

    Attributes
    ----------
    cell, combination : numpy.ndarray
        (V, 8) int32: the cell of each tap, -1 outside the grid; parity and tap, 0..63.
    first : numpy.ndarray
        (H + 1,) int32, where each cell's reads begin in the following two.
    read_by, read_with : numpy.ndarray
        (k,) int32, voxel and combination of each read, sorted by cell.
    """

    cell: NDArray[np.int32]
    combination: NDArray[np.int32]
    first: NDArray[np.int32]
    read_by: NDArray[np.int32]
    read_with: NDArray[np.int32]


def last_plan(reads: UpsampledReads) -> LastPlan:
    """Make the plan of the last convolution, with the taps' zeros left out."""
    combination = reads.parity[:, None] * 8 + np.arange(8)[None, :]
    cell = np.where(reads.tap == reads.n_in, -1, reads.tap)
    order = np.argsort(cell, axis=None, kind="stable")
    order = order[np.count_nonzero(cell < 0) :]
    by_cell = cell.reshape(-1)[order]
    return LastPlan(
        cell=np.ascontiguousarray(cell, np.int32),
        combination=np.ascontiguousarray(combination, np.int32),
        first=np.searchsorted(by_cell, np.arange(reads.n_in + 1)).astype(np.int32),
        read_by=(order // 8).astype(np.int32),
        read_with=combination.reshape(-1)[order].astype(np.int32),
    )

"""The decoder's three convolutions, computed only where BA4 needs them: exact algebra, no approximation.

Activations are matrices whose rows are cells times stimulations (cell-major), with channels as columns, so that what
is gathered lies in one piece and each parity class is one matrix product. The classes of the half grid are filled up to
one size: their products are then one batch, and nothing is cut or joined. The trainable weights stay the original 3^3
kernels. The algebra is derived in `docs/masked-decoder.md`; which cells, in `needed_cells`.
"""

from functools import cache

import numpy as np
import tensorflow as tf

from trainer.architectures.needed_cells import NeededCells, parity_kernels
from trainer.architectures.row_gather import GatherPlan, batched_plan, gather_plan, gather_rows


class MaskedConvolutions:
    """The plans of one mask, for any batch size.

    Parameters
    ----------
    cells : NeededCells
        What the mask needs.
    """

    def __init__(self, cells: NeededCells) -> None:
        self.cells = cells
        bounds = np.searchsorted(cells.second.parity, np.arange(9))
        largest = int(np.diff(bounds).max())
        # Where each cell of the half grid stands: in its class's part, from its beginning.
        slot = cells.second.parity * largest + np.arange(len(cells.half)) - bounds[cells.second.parity]
        self._slots = 8 * largest
        second = np.full((self._slots, 8), cells.second.n_in)
        second[slot] = cells.second.tap
        self._second_plan = cache(lambda batch: batched_plan(second, cells.second.n_in, batch))
        by_tap = second.reshape(8, largest, 8).transpose(0, 2, 1)
        self._second_back = gather_plan(by_tap, cells.second.n_in)
        grid = int(np.prod(cells.latent_shape))
        flat = np.append(cells.latent, grid)  # what lies outside reads zeros
        self._first_plan = gather_plan(flat[cells.first.tap], grid)
        combination = cells.last.parity[:, None] * 8 + np.arange(8)[None, :]
        outside = cells.last.tap == cells.last.n_in
        row = combination * self._slots + np.append(slot, 0)[cells.last.tap]
        self._last_plan = gather_plan(np.where(outside, 64 * self._slots, row), 64 * self._slots)
        self._half = np.zeros(self._slots, np.int32)  # what fills a class up is some cell or other, which nobody reads
        self._half[slot] = np.ravel_multi_index(tuple(cells.half.T), cells.half_shape)

    def first(self, latent: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        """Convolve the latent grid at the cells that are needed.

        Parameters
        ----------
        latent : tf.Tensor
            (batch, cells of the latent grid) in C order.
        kernel : tf.Tensor
            (3, 3, 3, 1, f).
        bias : tf.Tensor
            (f,).

        Returns
        -------
        tf.Tensor
            (C * batch, f).
        """
        batch = latent.shape[0]
        taps = gather_rows(tf.transpose(latent), self._first_plan)
        taps = tf.reshape(taps, (-1, 27, batch))
        columns = tf.reshape(tf.transpose(taps, (0, 2, 1)), (-1, 27))
        return tf.matmul(columns, tf.transpose(tf.reshape(kernel, (27, -1))), transpose_b=True) + bias

    def second(self, rows: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, batch: int) -> tf.Tensor:
        """Upsample and convolve at the cells of the half grid that are needed.

        Parameters
        ----------
        rows : tf.Tensor
            (C * batch, c).
        kernel : tf.Tensor
            (3, 3, 3, c, f).
        bias : tf.Tensor
            (f,).
        batch : int
            Stimulations.

        Returns
        -------
        tf.Tensor
            (slots * batch, f): the needed cells class by class, each class filled up to the largest's size.
        """
        c, f = kernel.shape[3:]
        # Weights as (outputs, inputs): on the CPU both the product and its gradients are then up to five times faster.
        # Reshaped after the transposition, since TensorFlow would otherwise fold it into the product again.
        folded = tf.reshape(tf.transpose(tf.reshape(_folded(kernel), (8, 8, c, f)), (0, 3, 1, 2)), (8, f, 8 * c))
        products = _class_products(rows, folded, self._second_plan(batch), self._second_back, batch)
        return tf.reshape(products, (-1, f)) + bias

    def last(self, rows: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, batch: int) -> tf.Tensor:
        """Upsample and convolve to one channel at BA4's voxels.

        Parameters
        ----------
        rows : tf.Tensor
            (slots * batch, c), as `second` gives them.
        kernel : tf.Tensor
            (3, 3, 3, c, 1) or (1, 1, 1, c, 1).
        bias : tf.Tensor
            (1,).
        batch : int
            Stimulations.

        Returns
        -------
        tf.Tensor
            (batch, V).
        """
        folded = folded_kernel(kernel)
        # One channel comes out, so the product comes first: what is then gathered is 32 times less.
        products = tf.reshape(tf.matmul(folded, rows, transpose_b=True), (-1, batch))
        taps = tf.reshape(gather_rows(products, self._last_plan), (-1, 8, batch))
        return tf.transpose(tf.reduce_sum(taps, axis=1) + bias)

    def half_rows(self, grid: tf.Tensor) -> tf.Tensor:
        """Take the needed cells out of a full half grid.

        Parameters
        ----------
        grid : tf.Tensor
            (batch, x, y, z, c), the whole half grid.

        Returns
        -------
        tf.Tensor
            (slots * batch, c), in the order of `second`.
        """
        batch, c = grid.shape[0], grid.shape[-1]
        cells = tf.reshape(tf.transpose(grid, (1, 2, 3, 0, 4)), (-1, batch * c))
        return tf.reshape(tf.gather(cells, self._half), (-1, c))


def _class_products(rows: tf.Tensor, folded: tf.Tensor, plan: GatherPlan, back: GatherPlan, batch: int) -> tf.Tensor:
    """Gather the taps of each output and multiply them with their class's weights.

    Parameters
    ----------
    rows : tf.Tensor
        (cells * batch, c).
    folded : tf.Tensor
        (8, f, 8 * c), weights by class.
    plan : GatherPlan
        Rows in the order class, output, stimulation, tap.
    back : GatherPlan
        Cells in the order class, tap, output. The gradient is made in that order: what goes back to a cell is then
        `batch` rows in one piece, which are added up three times faster than single ones.
    batch : int
        Stimulations.

    Returns
    -------
    tf.Tensor
        (8, outputs * batch, f).
    """
    c, f = rows.shape[-1], folded.shape[1]

    @tf.custom_gradient
    def multiplied(rows: tf.Tensor, folded: tf.Tensor) -> tuple[tf.Tensor, object]:
        padded = tf.pad(rows, [[0, 1], [0, 0]]) if plan.needs_zeros else rows
        taps = tf.reshape(tf.gather(padded, plan.index), (8, -1, 8 * c))

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            by_tap = tf.transpose(tf.reshape(folded, (8, f, 8, c)), (0, 2, 1, 3))
            parts = tf.matmul(upstream[:, None], by_tap)  # (class, tap, output * stimulation, c)
            cells = tf.raw_ops.SparseSegmentSumWithNumSegments(
                data=tf.reshape(parts, (-1, batch * c)),
                indices=back.source,
                segment_ids=back.segment,
                num_segments=back.n_rows,
            )
            return tf.reshape(cells, (-1, c)), tf.matmul(upstream, taps, transpose_a=True)

        return tf.matmul(taps, folded, transpose_b=True), gradient

    return multiplied(rows, folded)


def folded_kernel(kernel: tf.Tensor) -> tf.Tensor:
    """(64, c): a 3^3 or 1^3 kernel to one channel, (.., .., .., c, 1), by 8 parities x 8 coarse taps."""
    if kernel.shape[0] == 1:
        kernel = tf.pad(kernel, [[1, 1], [1, 1], [1, 1], [0, 0], [0, 0]])
    return tf.reshape(_folded(kernel), (64, -1))


def _folded(kernel: tf.Tensor) -> tf.Tensor:
    """(64, c * f): the kernel's 27 taps summed to 8 parities x 8 coarse taps."""
    matrix = tf.constant(parity_kernels(), kernel.dtype)
    return tf.matmul(matrix, tf.reshape(kernel, (27, -1)))

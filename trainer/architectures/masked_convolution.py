"""The decoder's three convolutions, computed only where BA4 needs them: exact algebra, no approximation.

Activations are matrices whose rows are cells times stimulations (cell-major), with channels as columns, so that what
is gathered lies in one piece and each parity class is one matrix product. The trainable weights stay the original 3^3
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
        self._classes = list(zip(bounds[:-1], bounds[1:], strict=True))
        self._second_plan = cache(lambda batch: batched_plan(cells.second.tap, cells.second.n_in, batch))
        grid = int(np.prod(cells.latent_shape))
        flat = np.append(cells.latent, grid)  # what lies outside reads zeros
        self._first_plan = gather_plan(flat[cells.first.tap], grid)
        n_half = len(cells.half)
        combination = cells.last.parity[:, None] * 8 + np.arange(8)[None, :]
        row = combination * n_half + cells.last.tap
        self._last_plan = gather_plan(np.where(cells.last.tap < n_half, row, 64 * n_half), 64 * n_half)
        self._half_plan = gather_plan(np.ravel_multi_index(tuple(cells.half.T), cells.half_shape), 0)

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
            (H * batch, f).
        """
        c, f = kernel.shape[3:]
        # Weights as (outputs, inputs): on the CPU both the product and its gradients are then up to five times faster.
        folded = tf.transpose(tf.reshape(_folded(kernel), (8, 8 * c, f)), (0, 2, 1))
        plan: GatherPlan = self._second_plan(batch)
        taps = tf.reshape(gather_rows(rows, plan), (-1, 8 * c))
        sizes = [(end - begin) * batch for begin, end in self._classes]
        classes = [k for k in range(8) if sizes[k]]
        parts = tf.split(taps, [sizes[k] for k in classes])
        products = [tf.matmul(part, folded[k], transpose_b=True) for k, part in zip(classes, parts, strict=True)]
        return tf.concat(products, axis=0) + bias

    def last(self, rows: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, batch: int) -> tf.Tensor:
        """Upsample and convolve to one channel at BA4's voxels.

        Parameters
        ----------
        rows : tf.Tensor
            (H * batch, c).
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
        c = kernel.shape[3]
        if kernel.shape[0] == 1:
            kernel = tf.pad(kernel, [[1, 1], [1, 1], [1, 1], [0, 0], [0, 0]])
        folded = tf.reshape(_folded(kernel), (64, c))
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
            (H * batch, c).
        """
        batch, c = grid.shape[0], grid.shape[-1]
        cells = tf.reshape(tf.transpose(grid, (1, 2, 3, 0, 4)), (-1, batch * c))
        return tf.reshape(tf.gather(cells, self._half_plan.index), (-1, c))


def _folded(kernel: tf.Tensor) -> tf.Tensor:
    """(64, c * f): the kernel's 27 taps summed to 8 parities x 8 coarse taps."""
    matrix = tf.constant(parity_kernels(), kernel.dtype)
    return tf.matmul(matrix, tf.reshape(kernel, (27, -1)))

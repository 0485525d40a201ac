"""The encoder's convolutions, computed only near BA4: exact algebra, no approximation.

Far from BA4 the activations are those of a zero field. They depend on the weights and on the grid's faces, so they are
computed once per step for each class of cells (`encoder_cells`), without a batch. Near BA4, a convolution is that
background plus the kernel applied to how much its input differs from the background: the difference is zero elsewhere,
so each tap needs the cells near BA4 alone. That holds at the faces too, where a tap is missing in both.

Activations are matrices whose rows are cells times stimulations (cell-major), with channels as columns. A ReLU comes
after its pooling, not before: the largest of eight is the same, on an eighth of the numbers. Where several of the eight
are equal, they share the gradient (`encoders.max_pool` says why).
"""

from functools import cache
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from trainer.architectures.encoder_cells import PATCH, EncoderCells, patch_kernels
from trainer.architectures.row_gather import GatherPlan, gather_plan, gather_rows

CHUNK_BYTES = 2**21
"""What is gathered at once for the second convolution's gradients: what a core's own cache holds. On two virtual x86-64
cores that halves their time."""

TAP_GROUPS = 3
"""Parts of the second convolution's products that are made and summed one after the other: a third of the memory, and
blocks below 32 MiB, which the C library keeps instead of asking the system for fresh pages each time."""


class MaskedEncoder:
    """The plans of one mask, for any batch size.

    Parameters
    ----------
    cells : EncoderCells
        The cells near the mask.
    """

    def __init__(self, cells: EncoderCells) -> None:
        self.cells = cells
        self._patch = cells.patch.reshape(-1).astype(np.int32)
        self._n_half, self._n_coarse = len(cells.half), len(cells.coarse)
        self._second_plans = [gather_plan(taps, 8 * self._n_coarse) for taps in np.split(cells.reader, TAP_GROUPS)]
        self._second_rows = cache(lambda batch: _rows_of(cells.reader, 8 * self._n_coarse, batch))
        n_classes, n_pooled = len(cells.class_taps), len(cells.class_children)
        self._child_plan = gather_plan(cells.child_class, n_classes)
        self._class_plan = gather_plan(cells.class_children, n_classes)
        self._coarse_plan = gather_plan(cells.coarse_class, n_pooled)
        n_latent = int(np.prod(cells.latent_shape))
        self._near_plan = gather_plan(cells.latent_reader, n_latent)
        outside = cells.latent_class_taps == n_pooled
        product = np.arange(27)[None, :] * n_pooled + cells.latent_class_taps
        self._far_plan = gather_plan(np.where(outside, 27 * n_pooled, product), 27 * n_pooled)
        self._latent_plan = gather_plan(cells.latent_class, len(cells.latent_class_taps))

    def __call__(
        self,
        x: tf.Tensor,
        kernel1: tf.Tensor,
        bias1: tf.Tensor,
        kernel2: tf.Tensor,
        bias2: tf.Tensor,
        kernel3: tf.Tensor,
        bias3: tf.Tensor,
    ) -> tf.Tensor:
        """Encode.

        Parameters
        ----------
        x : tf.Tensor
            (batch, V).
        kernel1, bias1, kernel2, bias2, kernel3, bias3 : tf.Tensor
            (3, 3, 3, 1, f), (f,), (3, 3, 3, f, g), (g,), (3, 3, 3, g, 1) or (1, 1, 1, g, 1), (1,).

        Returns
        -------
        tf.Tensor
            (batch, cells of the latent grid).
        """
        batch = x.shape[0]
        if kernel3.shape[0] == 1:
            kernel3 = tf.pad(kernel3, [[1, 1], [1, 1], [1, 1], [0, 0], [0, 0]])
        rows = self._first(x, kernel1, bias1)
        far1 = tf.nn.relu(bias1)
        far2 = self._second_background(far1, kernel2, bias2)
        rows = self._second(rows - far1, kernel2, far2, batch)
        far3 = self._pooled_background(far2)
        rows -= tf.reshape(gather_rows(far3, self._coarse_plan), (self._n_coarse, 1, -1))
        return self._last(rows, far3, tf.reshape(kernel3, (27, -1)), bias3, batch)

    def _first(self, x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        """(H * batch, f): first convolution, ReLU and pooling near the mask."""
        filters = kernel.shape[-1]
        voxels = tf.pad(tf.transpose(x), [[0, 1], [0, 0]])
        patches = tf.reshape(tf.gather(voxels, self._patch), (self._n_half, len(PATCH), x.shape[0]))
        patches = tf.reshape(tf.transpose(patches, (0, 2, 1)), (1, -1, len(PATCH)))
        weights = tf.matmul(tf.constant(patch_kernels(), kernel.dtype), tf.reshape(kernel, (27, filters)))
        children = tf.matmul(patches, tf.reshape(weights, (8, -1, filters)))
        return tf.nn.relu(_largest(children) + bias)

    def _second(self, difference: tf.Tensor, kernel: tf.Tensor, background: tf.Tensor, batch: int) -> tf.Tensor:
        """(C, batch, g): second convolution, ReLU and pooling near the mask, of (H * batch, f) differences."""
        filters = kernel.shape[-1]
        near = self._spread(difference, tf.reshape(kernel, (27, *kernel.shape[3:])), batch)
        near = tf.reshape(near, (8, self._n_coarse, batch, filters))
        far = tf.reshape(gather_rows(background, self._child_plan), (8, self._n_coarse, 1, filters))
        return tf.nn.relu(_largest(near + far))

    def _spread(self, difference: tf.Tensor, kernel: tf.Tensor, batch: int) -> tf.Tensor:
        """(8 * C, batch * g): each cell's difference times each tap, summed where it is read.

        The product comes before the sum, so that nothing is multiplied by zeros.
        """
        n_out, n_half = 8 * self._n_coarse, self._n_half
        c, g = kernel.shape[1:]
        rows = self._second_rows(batch)
        step = max(1, CHUNK_BYTES // (batch * 27 * g * difference.dtype.size))

        @tf.custom_gradient
        def spread(difference: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Any]:
            parts: list[tf.Tensor] = []
            for plan, taps in zip(self._second_plans, tf.split(kernel, TAP_GROUPS), strict=True):
                with tf.control_dependencies(parts):
                    products = tf.matmul(difference[None], taps)
                products = tf.reshape(products, (len(plan.index), batch * g))
                parts = [tf.add_n([*parts, _sum_rows(products, plan)])]

            def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                upstream = tf.reshape(upstream, (n_out * batch, g))
                if any(plan.needs_zeros for plan in self._second_plans):
                    upstream = tf.pad(upstream, [[0, 1], [0, 0]])
                flat = tf.reshape(tf.transpose(kernel, (0, 2, 1)), (27 * g, c))
                to_difference: list[tf.Tensor] = []
                to_kernel: list[tf.Tensor] = []
                for k in range(0, n_half * batch, step * batch):
                    # One after the other, so that the next chunk finds its memory in the cache, where this one was.
                    with tf.control_dependencies([*to_difference[-1:], *to_kernel[-1:]]):
                        read = tf.gather(upstream, rows[k * 27 : (k + step * batch) * 27])
                        read = tf.reshape(read, (-1, 27 * g))
                    to_difference.append(tf.matmul(read, flat))
                    product = tf.matmul(difference[k : k + step * batch], read, transpose_a=True)
                    to_kernel = [tf.add_n([*to_kernel, product])]
                to_kernel = tf.transpose(tf.reshape(to_kernel[0], (c, 27, g)), (1, 0, 2))
                return tf.concat(to_difference, axis=0), to_kernel

            return parts[0], gradient

        return spread(difference, kernel)

    def _second_background(self, far: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        """(classes, g): what the second convolution gives far from the mask, before the ReLU."""
        taps = tf.matmul(far[None, None], tf.reshape(kernel, (27, *kernel.shape[3:])))[:, 0]
        return tf.matmul(tf.constant(self.cells.class_taps, kernel.dtype), taps) + bias

    def _pooled_background(self, background: tf.Tensor) -> tf.Tensor:
        """(pooled classes, g): the same after pooling and ReLU."""
        children = tf.reshape(gather_rows(background, self._class_plan), (-1, 8, background.shape[-1]))
        return tf.nn.relu(_largest(tf.transpose(children, (1, 0, 2))))

    def _last(
        self, difference: tf.Tensor, background: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, batch: int
    ) -> tf.Tensor:
        """(batch, cells): last convolution and ReLU of the latent grid, of (C, batch, g) differences."""
        rows = tf.reshape(difference, (-1, kernel.shape[-1]))
        products = tf.reshape(tf.matmul(kernel, rows, transpose_b=True), (27 * self._n_coarse, batch))
        near = sum_rows(products, self._near_plan)
        far = tf.reshape(tf.matmul(kernel, background, transpose_b=True), (-1, 1))
        far = tf.reshape(gather_rows(far, self._far_plan), (-1, 27))
        far = gather_rows(tf.reduce_sum(far, axis=1, keepdims=True), self._latent_plan)
        return tf.transpose(tf.nn.relu(near + far + bias))


def _rows_of(reader: NDArray[np.int64], n_out: int, batch: int) -> NDArray[np.int32]:
    """(H * batch * 27,) int32: rows of the outputs times stimulations that read each cell; the last for none."""
    output = reader.T[:, None, :]
    row = np.where(output < n_out, output * batch + np.arange(batch)[None, :, None], n_out * batch)
    return row.reshape(-1).astype(np.int32)


def _sum_rows(matrix: tf.Tensor, plan: GatherPlan) -> tf.Tensor:
    """Do what `sum_rows` does, without a gradient."""
    return tf.raw_ops.SparseSegmentSumWithNumSegments(
        data=matrix, indices=plan.source, segment_ids=plan.segment, num_segments=plan.n_rows
    )


def sum_rows(matrix: tf.Tensor, plan: GatherPlan) -> tf.Tensor:
    """Sum rows where a plan takes them from: the transpose of `gather_rows`.

    Parameters
    ----------
    matrix : tf.Tensor
        (n_out, c).
    plan : GatherPlan
        Its `n_rows` rows come out.

    Returns
    -------
    tf.Tensor
        (n_rows, c).
    """

    @tf.custom_gradient
    def summed(rows: tf.Tensor) -> tuple[tf.Tensor, Any]:
        return _sum_rows(rows, plan), lambda upstream: gather_rows(upstream, plan)

    return summed(matrix)


@tf.custom_gradient
def _largest(children: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """Largest of (8, ...) along the first axis; equal ones share the gradient."""
    largest = tf.reduce_max(children, axis=0)

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        equal = tf.cast(children == largest[None], upstream.dtype)
        return equal * (upstream / tf.reduce_sum(equal, axis=0))[None]

    return largest, gradient

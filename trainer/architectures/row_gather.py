"""Rows of a matrix, gathered by a fixed plan, with a gradient that is as fast.

TensorFlow's own gradient of `tf.gather` adds row by row without order (`UnsortedSegmentSum`), which on a CPU costs
several times the gather. The plan is known beforehand, so its transpose is sorted once and summed by
`SparseSegmentSum`, which reads the gradient's rows in place, in a fixed order: the same bits each time.
"""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class GatherPlan:
    """Which row each output takes, and its transpose.

    Attributes
    ----------
    index : numpy.ndarray
        (n_out,) int32, row that each output takes; `n_rows` takes zeros.
    n_rows : int
        Rows of the matrix.
    source : numpy.ndarray
        (k,) int32, outputs that take a row at all, sorted by that row.
    segment : numpy.ndarray
        (k,) int32, the rows that they take, rising.
    """

    index: NDArray[np.int32]
    n_rows: int
    source: NDArray[np.int32]
    segment: NDArray[np.int32]

    @property
    def needs_zeros(self) -> bool:
        """Whether an output takes zeros."""
        return len(self.source) < len(self.index)


def gather_plan(index: NDArray[np.integer], n_rows: int) -> GatherPlan:
    """Make a plan.

    Parameters
    ----------
    index : numpy.ndarray
        Any shape, int in 0..n_rows; it is flattened in C order. `n_rows` takes zeros.
    n_rows : int
        Rows of the matrix.
    """
    flat = np.asarray(index).reshape(-1)
    order = np.argsort(flat, kind="stable")
    order = order[: np.count_nonzero(flat < n_rows)]
    return GatherPlan(flat.astype(np.int32), n_rows, order.astype(np.int32), flat[order].astype(np.int32))


def batched_plan(index: NDArray[np.integer], n_cells: int, batch: int) -> GatherPlan:
    """Make a plan for a matrix whose rows are cells times stimulations, in that order.

    Parameters
    ----------
    index : numpy.ndarray
        (n_out, n_taps) int in 0..n_cells; `n_cells` takes zeros.
    n_cells : int
        Cells of the matrix.
    batch : int
        Stimulations.

    Returns
    -------
    GatherPlan
        Of outputs in the order (n_out, batch, n_taps).
    """
    cells = np.asarray(index)[:, None, :]
    row = cells * batch + np.arange(batch)[None, :, None]
    return gather_plan(np.where(cells < n_cells, row, n_cells * batch), n_cells * batch)


def gather_rows(matrix: tf.Tensor, plan: GatherPlan) -> tf.Tensor:
    """Take rows by a plan.

    Parameters
    ----------
    matrix : tf.Tensor
        (n_rows, c).
    plan : GatherPlan
        Which rows.

    Returns
    -------
    tf.Tensor
        (n_out, c).
    """

    @tf.custom_gradient
    def taken(rows: tf.Tensor) -> tuple[tf.Tensor, object]:
        padded = tf.pad(rows, [[0, 1], [0, 0]]) if plan.needs_zeros else rows

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            return tf.raw_ops.SparseSegmentSumWithNumSegments(
                data=upstream, indices=plan.source, segment_ids=plan.segment, num_segments=plan.n_rows
            )

        return tf.gather(padded, plan.index), gradient

    return taken(matrix)

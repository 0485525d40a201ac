"""The masked decoder by the compiled library, as one operation that TensorFlow can differentiate.

The same maps and gradients as `masked_convolution`'s but for rounding; in float32, on the CPU, without batch norm. Rows
are cells times stimulations (cell-major), with channels as columns, as there.
"""

import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from trainer.architectures.masked_convolution import folded_kernel
from trainer.architectures.native_library import NativeLibrary
from trainer.architectures.needed_cells import NeededCells
from trainer.architectures.term_plan import last_plan, term_kernels, term_plan

Floats = NDArray[np.float32]

TAPS = 27
FILLED = 32
"""The first convolution's taps, and to how many the library wants them filled up."""

CHANNELS = (64, 32)
"""Those that the library is compiled for: of the first two convolutions."""


class NativeDecoder:
    """The plans of one mask, for any batch size.

    Parameters
    ----------
    cells : NeededCells
        What the mask needs.
    library : NativeLibrary
        The compiled functions.
    """

    def __init__(self, cells: NeededCells, library: NativeLibrary) -> None:
        self._library = library
        self._n_latent = int(np.prod(cells.latent_shape))
        # A tap that reads outside the grid has the number that follows the last cell's.
        self._taps = np.ascontiguousarray(np.append(cells.latent, -1)[cells.first.tap], np.int32)
        self._terms = term_plan(cells)
        self._n_half = len(cells.half)
        self._last = last_plan(cells.last)
        # Kept from step to step: new memory of this size would cost as much as what is done in it. One call at a time.
        self._rooms = cache(lambda batch: _zeroed((2, self._terms.n_rows, batch * CHANNELS[0])))
        self._one_at_a_time = threading.Lock()
        self._filled = 0  # which forward way's rows are still there

    def unbounded(self, latent: tf.Tensor, kernels: list[tf.Tensor], biases: list[tf.Tensor]) -> tf.Tensor:
        """Decode.

        Parameters
        ----------
        latent : tf.Tensor
            (batch, cells of the latent grid) float32 in C order.
        kernels, biases : list of tf.Tensor
            Of the three convolutions, as Keras holds them.

        Returns
        -------
        tf.Tensor
            (batch, V) float32, before the bounded ReLU.
        """
        first, second, last = kernels
        weights = (
            tf.pad(tf.reshape(first, (TAPS, CHANNELS[0])), [[0, FILLED - TAPS], [0, 0]]),
            tf.reshape(
                tf.matmul(tf.constant(term_kernels(), tf.float32), tf.reshape(second, (TAPS, -1))), (TAPS, *CHANNELS)
            ),
            folded_kernel(last),
        )
        batch = latent.shape[0]

        @tf.custom_gradient
        def decoded(*inputs: tf.Tensor) -> tuple[tf.Tensor, Any]:
            kinds = [tf.float32] * 3 + [tf.int64]
            field, coarse, half, ticket = _in_numpy(self._forward, inputs, kinds)

            def gradient(upstream: tf.Tensor) -> list[tf.Tensor]:
                latent, w1, _, w2, _, w3, _ = inputs
                turned = [tf.transpose(w1), tf.transpose(w2, (0, 2, 1)), w3]
                given = [latent, *turned, coarse, half, ticket, tf.transpose(upstream)]
                slopes = _in_numpy(self._backward, given, [tf.float32] * len(inputs))
                return [tf.ensure_shape(slope, value.shape) for slope, value in zip(slopes, inputs, strict=True)]

            return tf.ensure_shape(field, (batch, len(self._last.cell))), gradient

        each = [tensor for pair in zip(weights, biases, strict=True) for tensor in pair]
        return decoded(tf.transpose(latent), *each)

    def _forward(
        self, latent: Floats, w1: Floats, b1: Floats, w2: Floats, b2: Floats, w3: Floats, b3: Floats
    ) -> tuple[Floats, Floats, Floats, np.int64]:
        """Return the field (batch, V), and what the backward way needs: (C, batch * 64), (H * batch, 32), a ticket."""
        batch, terms, last = latent.shape[1], self._terms, self._last
        coarse, half = _aligned((terms.n_cells, batch * CHANNELS[0])), _aligned((self._n_half * batch, CHANNELS[1]))
        self._library.call("m2m_first", latent, self._taps, w1, b1, terms.n_cells, batch, coarse)
        with self._one_at_a_time:
            self._filled += 1
            ticket = np.int64(self._filled)
            rows = self._rooms(batch)[0]
            rows[: terms.n_cells] = coarse
            self._difference("m2m_differences", rows)
            plan = (terms.row, terms.kernel, terms.first, terms.reader, len(terms.row))
            self._library.call("m2m_second", rows, w2, b2, *plan, self._n_half, batch, half)
        n_voxels, n_taps = last.cell.shape
        field = np.empty((batch, n_voxels), np.float32)
        self._library.call("m2m_last", half, w3, b3, last.cell, last.combination, n_voxels, n_taps, batch, field)
        return field, coarse, half, ticket

    def _backward(
        self,
        latent: Floats,
        w1: Floats,
        w2: Floats,
        w3: Floats,
        coarse: Floats,
        half: Floats,
        ticket: np.int64,
        upstream: Floats,
    ) -> tuple[Floats, ...]:
        """Return the gradients of the inputs of `_forward`; w1 (64, 32) and w2 (27, 32, 64) are transposed."""
        batch, terms, last = latent.shape[1], self._terms, self._last
        d_half, d_w3 = _aligned(half.shape), np.zeros_like(w3)
        d_b1, d_b2 = (np.zeros(n, np.float32) for n in CHANNELS)
        reads = (last.first, last.read_by, last.read_with, self._n_half, batch)
        self._library.call("m2m_last_back", half, w3, *reads, upstream, d_half, d_w3, d_b2)
        d_w2, d_w1 = np.zeros((TAPS, *CHANNELS), np.float32), np.zeros((CHANNELS[0], FILLED), np.float32)
        d_latent = np.zeros_like(latent)
        with self._one_at_a_time:
            rows, d_rows = self._rooms(batch)
            if self._filled != int(ticket):  # another forward way has been since
                self._filled = 0
                rows[: terms.n_cells] = coarse
                self._difference("m2m_differences", rows)
            d_rows[:] = 0.0
            plan = (terms.row, terms.kernel, terms.first, terms.reader, len(terms.row), batch)
            self._library.call("m2m_second_back", rows, w2, *plan, d_half, d_rows, d_w2)
            self._difference("m2m_differences_back", d_rows)
            given = (latent, self._taps, coarse, w1, terms.n_cells, batch)
            self._library.call("m2m_first_back", *given, d_rows, d_latent, d_w1, d_b1)
        d_b3 = upstream.sum(keepdims=True, dtype=np.float64).reshape(1).astype(np.float32)
        return d_latent, np.ascontiguousarray(d_w1.T), d_b1, d_w2, d_b2, d_w3, d_b3

    def _difference(self, function: str, rows: Floats) -> None:
        parents = self._terms.parents
        self._library.call(function, rows, self._terms.n_cells + 1, parents, len(parents), rows.shape[1])


def _in_numpy(function: Callable[..., Any], inputs: Sequence[tf.Tensor], kinds: list[tf.DType]) -> list[tf.Tensor]:
    """Call a function of arrays that depends on nothing else, within a graph or outside."""
    if tf.executing_eagerly():  # where `numpy_function` copies its inputs, and NumPy 2 warns of how
        return [tf.constant(result) for result in function(*(tensor.numpy() for tensor in inputs))]
    return list(tf.numpy_function(function, list(inputs), kinds, stateful=False))


def _aligned(shape: tuple[int, ...]) -> Floats:
    """Return room that begins where a cache line does: vectors would else be read from two lines each."""
    n, line = int(np.prod(shape)), 64 // 4
    room = np.empty(n + line, np.float32)
    begin = -(room.ctypes.data // 4) % line
    return room[begin : begin + n].reshape(shape)


def _zeroed(shape: tuple[int, ...]) -> Floats:
    room = _aligned(shape)
    room[:] = 0.0
    return room

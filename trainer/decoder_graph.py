"""The decoder of the article's networks as ONNX nodes: masked, as model files have it, and dense, to compare with.

The masked form (`docs/masked-decoder.md`) computes what BA4 needs and nothing else. The second convolution gathers its
eight coarse taps first and then takes one matrix product per parity class; the last one, with its single channel,
multiplies first, all 64 pairs of parity and tap at once, and then gathers numbers instead of rows. Of the orders tried
in ONNX Runtime at batch 1 this is the fastest; gathering rows for the last one, too, makes all of it two thirds slower.

Knows numpy arrays of weights and no TensorFlow.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.architectures.needed_cells import TAPS, NeededCells, PlainReads, UpsampledReads, parity_kernels
from trainer.graph_nodes import Nodes

Weights = NDArray[Any]
Affine = tuple[Weights, Weights]
"""Factor and summand of every channel: what batch norm is once it was trained."""

NEIGHBOURS = TAPS**3


@dataclass(frozen=True, eq=False)
class DecoderWeights:
    """The decoder's trained numbers.

    Attributes
    ----------
    kernels : tuple of numpy.ndarray
        Three, of shape (3, 3, 3, inputs, outputs); the last may be (1, 1, 1, inputs, 1).
    biases : tuple of numpy.ndarray
        Three, (outputs,).
    norms : tuple of Affine
        What follows the first and the second convolution's ReLU; empty if nothing does.
    """

    kernels: tuple[Weights, ...]
    biases: tuple[Weights, ...]
    norms: tuple[Affine, ...] = ()


def masked_decoder(g: Nodes, latent: str, weights: DecoderWeights, cells: NeededCells) -> str:
    """Add the masked decoder.

    Parameters
    ----------
    g
        Nodes to add to.
    latent
        Name of (n, L) float32: the latent grid at `cells.latent`.
    weights
        The numbers.
    cells
        What the mask needs.

    Returns
    -------
    str
        Name of (n, V) float32 in [0, 1], in the mask's order.
    """
    norms: tuple[Affine | None, ...] = (*weights.norms, None, None)
    rows = _relu(g, plain_convolution(g, latent, cells.first, weights.kernels[0]), weights.biases[0])
    rows = affine(g, rows, norms[0])
    rows = _relu(g, upsampled_convolution(g, rows, cells.second, weights.kernels[1]), weights.biases[1])
    rows = affine(g, rows, norms[1])
    raw = upsampled_to_one(g, rows, cells.last, weights.kernels[2])
    return _bounded(g, raw, weights.biases[2])


def dense_decoder(g: Nodes, grid: str, weights: DecoderWeights) -> str:
    """Add the decoder as published: three convolutions over the whole box.

    Parameters
    ----------
    g
        Nodes to add to.
    grid
        Name of (n, 1, x, y, z) float32, the whole latent grid.
    weights
        The numbers.

    Returns
    -------
    str
        Name of (n, 1, X, Y, Z) float32 in [0, 1], the whole box.
    """
    twice = g.constant([1.0, 1.0, 2.0, 2.0, 2.0], np.float32)
    x = grid
    for k, (kernel, bias) in enumerate(zip(weights.kernels, weights.biases, strict=True)):
        side = kernel.shape[0]
        taken = g.constant(np.moveaxis(kernel, (3, 4), (1, 0)), np.float32)
        x = g.add("Conv", x, taken, g.constant(bias, np.float32), kernel_shape=[side] * 3, pads=[side // 2] * 6)
        if k == 2:
            break
        x = g.add("Relu", x)
        x = g.add(
            "Resize",
            x,
            "",
            twice,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        if weights.norms:
            factor, summand = (g.constant(part.reshape(1, -1, 1, 1, 1), np.float32) for part in weights.norms[k])
            x = g.add("Add", g.add("Mul", x, factor), summand)
    return g.add("Clip", x, g.constant(0.0, np.float32), g.constant(1.0, np.float32))


def plain_convolution(g: Nodes, values: str, reads: PlainReads, kernel: Weights) -> str:
    """Convolve one channel without upsampling: name of (n, n_out, outputs) from that of (n, n_in)."""
    outside = bool((reads.tap == reads.n_in).any())
    if outside:
        values = g.add("Pad", values, g.constant([0, 0, 0, 1], np.int64))
    taps = g.add("Gather", values, g.constant(reads.tap, np.int32), axis=1)
    return g.add("MatMul", taps, g.constant(kernel.reshape(NEIGHBOURS, -1), np.float32))


def upsampled_convolution(g: Nodes, rows: str, reads: UpsampledReads, kernel: Weights) -> str:
    """Upsample and convolve: name of (n, n_out, outputs) from that of (n, n_in, inputs).

    The outputs must be in the order of their parity class.
    """
    rows = _with_zero_row(g, rows, reads)
    inputs, outputs = kernel.shape[3:]
    folded = fold(kernel).reshape(8, 8 * inputs, outputs)
    products = []
    for parity in range(8):
        tap = reads.tap[reads.parity == parity]
        if not len(tap):
            continue
        taps = g.add("Gather", rows, g.constant(tap, np.int32), axis=1)
        wide = g.add("Reshape", taps, g.constant([0, len(tap), 8 * inputs], np.int64))
        products.append(g.add("MatMul", wide, g.constant(folded[parity], np.float32)))
    return g.add("Concat", *products, axis=1)


def upsampled_to_one(g: Nodes, rows: str, reads: UpsampledReads, kernel: Weights) -> str:
    """Upsample and convolve to one channel: name of (n, n_out) from that of (n, n_in, inputs). Outputs in any order."""
    n_out = len(reads.parity)
    if kernel.shape[0] == 1:
        # It reads the cell that an output lies in: the upper of two taps if even, the lower if odd.
        own = reads.tap[np.arange(n_out), 7 - reads.parity]
        single = g.add("MatMul", rows, g.constant(kernel.reshape(-1, 1), np.float32))
        flat = g.add("Reshape", single, g.constant([0, reads.n_in], np.int64))
        return g.add("Gather", flat, g.constant(own, np.int32), axis=1)
    rows = _with_zero_row(g, rows, reads)
    folded = fold(kernel).reshape(64, -1).T
    products = g.add("MatMul", rows, g.constant(folded, np.float32))
    flat = g.add("Reshape", products, g.constant([0, -1], np.int64))
    number = reads.tap * 64 + reads.parity[:, None] * 8 + np.arange(8)
    # GatherElements moves single numbers faster than Gather, but wants its indices once per stimulation.
    n = g.add("Slice", g.add("Shape", flat), g.constant([0], np.int64), g.constant([1], np.int64))
    each = g.add("Concat", n, g.constant([8 * n_out], np.int64), axis=0)
    index = g.add("Expand", g.constant(number.T.reshape(1, -1), np.int32), each)
    taken = g.add("GatherElements", flat, index, axis=1)
    summands = g.add("Reshape", taken, g.constant([0, 8, n_out], np.int64))
    return g.add("ReduceSum", summands, g.constant([1], np.int64), keepdims=0)


def fold(kernel: Weights) -> NDArray[np.float64]:
    """Return (8, 8, inputs, outputs): the 27 taps of a kernel as those of 8 parity classes on the coarse grid."""
    taps = kernel.astype(np.float64).reshape(NEIGHBOURS, -1)
    return (parity_kernels() @ taps).reshape(8, 8, *kernel.shape[3:])


def affine(g: Nodes, rows: str, norm: Affine | None) -> str:
    """Scale and shift every channel.

    Before the zero rows beyond the border are added, which is why a shift cannot be part of the next layer's bias.
    """
    if norm is None:
        return rows
    factor, summand = (g.constant(part, np.float32) for part in norm)
    return g.add("Add", g.add("Mul", rows, factor), summand)


def _relu(g: Nodes, rows: str, bias: Weights) -> str:
    return g.add("Relu", g.add("Add", rows, g.constant(bias, np.float32)))


def _bounded(g: Nodes, raw: str, bias: Weights) -> str:
    shifted = g.add("Add", raw, g.constant(bias, np.float32))
    return g.add("Clip", shifted, g.constant(0.0, np.float32), g.constant(1.0, np.float32))


def _with_zero_row(g: Nodes, rows: str, reads: UpsampledReads) -> str:
    """Append a row of zeros where some output reads beyond the grid."""
    if not (reads.tap == reads.n_in).any():
        return rows
    return g.add("Pad", rows, g.constant([0, 0, 0, 0, 1, 0], np.int64))

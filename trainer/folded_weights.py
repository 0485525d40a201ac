"""A network's weights as plain arrays, with everything folded that is linear: what an exported graph is made of.

The variational models' mapper is linear up to the latent vector, so all of it, the latent mean and the dense layer to
the latent grid are one matrix. Batch norm is a factor and a summand per channel once it was trained; a transposed
convolution of stride 1 is a convolution with the kernel turned around.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.architectures.grid_cells import Shape
from trainer.architectures.needed_cells import NeededCells
from trainer.decoder_graph import Affine, DecoderWeights, Weights

if TYPE_CHECKING:
    from trainer.architectures.family import InverseNetwork

Dense = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Kernel (inputs, outputs) and bias (outputs,)."""


@dataclass(frozen=True, eq=False)
class Convolution:
    """An upsampling by 2, a 3^3 convolution, ReLU, and what batch norm makes of it.

    Attributes
    ----------
    kernel : numpy.ndarray
        (3, 3, 3, inputs, outputs).
    bias : numpy.ndarray
        (outputs,).
    norm : Affine or None
        Factor and summand.
    """

    kernel: Weights
    bias: Weights
    norm: Affine | None


@dataclass(frozen=True, eq=False)
class FoldedWeights:
    """What maps scaled MEPs to a field.

    Attributes
    ----------
    dense : tuple of Dense
        Layers with ReLU: one from the muscles to all cells of the latent grid, or three to the first small grid.
    start : tuple of int or None
        Shape of that small grid.
    convolutions : tuple of Convolution
        From there to the latent grid; empty without a small grid.
    decoder : DecoderWeights
        From there to the field.
    """

    dense: tuple[Dense, ...]
    start: Shape | None
    convolutions: tuple[Convolution, ...]
    decoder: DecoderWeights


def folded_weights(network: "InverseNetwork") -> FoldedWeights:
    """Take a network's weights out of Keras and fold what is linear; the latent vector is its mean."""
    decoder = DecoderWeights(
        kernels=tuple(_numbers(layer.kernel) for layer in network.decoder.convolutions),
        biases=tuple(_numbers(layer.bias) for layer in network.decoder.convolutions),
        norms=tuple(_affine(norm) for norm in network.decoder.norms),
    )
    layers = [_dense(layer) for layer in network.mapper.layers]
    if "expansion" not in network.blocks:
        norms: list[Affine | None] = [_affine(norm) for norm in network.mapper.norms]
        norms = norms or [None] * len(network.mapper.convolutions)
        convolutions = [
            Convolution(_turned(_numbers(layer.kernel)), _numbers(layer.bias), norm)
            for layer, norm in zip(network.mapper.convolutions, norms, strict=True)
        ]
        return FoldedWeights(tuple(layers), network.mapper.start, tuple(convolutions), decoder)
    if network.stages[-1].variational:
        layers.append(_dense(network.blocks["sampling"].mean))
    layers.append(_dense(network.blocks["expansion"]))
    kernel, bias = layers[0]
    for factor, summand in layers[1:]:
        kernel, bias = kernel @ factor, bias @ factor + summand
    return FoldedWeights(((kernel, bias),), None, (), decoder)


def _numbers(variable: Any) -> NDArray[np.float64]:
    return np.asarray(variable.numpy(), dtype=np.float64)


def _dense(layer: Any) -> Dense:
    return _numbers(layer.kernel), _numbers(layer.bias)


def _affine(norm: Any) -> Affine:
    """Batch norm with its moving statistics."""
    factor = _numbers(norm.gamma) / np.sqrt(_numbers(norm.moving_variance) + norm.epsilon)
    return factor, _numbers(norm.beta) - _numbers(norm.moving_mean) * factor


def _turned(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kernel of the convolution that a transposed one of stride 1 is: Keras keeps it as (..., out, in), and flipped."""
    return np.ascontiguousarray(kernel[::-1, ::-1, ::-1].swapaxes(3, 4))


def random_weights(n_muscles: int, cells: NeededCells, *, latent: int = 16, seed: int = 0) -> FoldedWeights:
    """Make a variational network's weights at random, without Keras, to measure a graph by.

    Kernels after Glorot, as a fresh network has them, with biases that keep the field inside (0, 1), where no clipping
    hides a difference.

    Parameters
    ----------
    n_muscles : int
        Length of the MEP vector.
    cells : NeededCells
        Of the mask.
    latent : int
        Length of the latent vector.
    seed : int
        Of the numbers.
    """
    rng = np.random.default_rng(seed)
    kernels = tuple(_glorot(rng, shape) for shape in ((3, 3, 3, 1, 64), (3, 3, 3, 64, 32), (3, 3, 3, 32, 1)))
    biases = (rng.normal(0.0, 0.1, 64), rng.normal(0.0, 0.1, 32), np.array([0.5]))
    n_cells = int(np.prod(cells.latent_shape))
    entry = _glorot(rng, (n_muscles, latent)) @ _glorot(rng, (latent, n_cells))
    return FoldedWeights(((entry, rng.normal(0.0, 0.1, n_cells)),), None, (), DecoderWeights(kernels, biases))


def _glorot(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    field = int(np.prod(shape[:-2]))
    limit = np.sqrt(6.0 / (field * (shape[-2] + shape[-1])))
    return rng.uniform(-limit, limit, shape)

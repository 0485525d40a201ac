"""The ONNX graph of one of the article's networks: from microvolts to field, spread and centre of gravity.

Amplitudes, spread and centre of gravity are float64; the network is float32, as it was trained. What is linear is
folded (`trainer.folded_weights`), the decoder is the masked one (`trainer.decoder_graph`), the latent vector its mean:
there are no random nodes. The layout of inputs and outputs is in `docs/model-file.md`.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from trainer.architectures.needed_cells import NeededCells, parity_class, upsampled_reads
from trainer.decoder_graph import (
    affine,
    dense_decoder,
    masked_decoder,
    upsampled_convolution,
    upsampled_to_one,
)
from trainer.folded_weights import FoldedWeights
from trainer.graph_nodes import Nodes, axes
from trainer.graph_parts import (
    all_valid,
    as_model,
    carried,
    filled_in,
    given_amplitudes,
    proto_of,
    value,
    write_center_of_gravity,
    write_spread,
)
from trainer.network_data import MepScaling, log_floor_uv
from trainer.network_spread import SOFT_LEVEL, NetworkSpread


def build_network_graph(
    weights: FoldedWeights,
    cells: NeededCells,
    scaling: MepScaling,
    spread: NetworkSpread,
    voxel_mm: NDArray[np.float64],
) -> onnx.ModelProto:
    """Build the graph of a model file, without metadata.

    Parameters
    ----------
    weights : FoldedWeights
        The network's.
    cells : NeededCells
        What the mask needs.
    scaling : MepScaling
        From amplitudes to the network's input.
    spread : NetworkSpread
        How far its maps may be off.
    voxel_mm : numpy.ndarray
        (V, 3), mm.
    """
    g = Nodes()
    g.constant(scaling.scale_uv, np.float32, "scale_uv")
    every = all_valid(g)
    z, open_covariance = _scaled_amplitudes(g, scaling, every)
    single = network_nodes(g, g.add("Cast", z, to=TensorProto.FLOAT), weights, cells)
    g.add("Identity", single, name="field")
    field = g.add("Cast", single, to=TensorProto.DOUBLE)

    error_scale = _error_scale(g, spread, z, field)
    open_scores, open_voxels = _left_open(g, spread, open_covariance, every)
    write_spread(g, error_scale, spread.voxel_variance, open_voxels)
    write_center_of_gravity(
        g,
        field,
        error_scale,
        open_scores,
        voxel_mm=voxel_mm,
        components=spread.components,
        score_factor=spread.score_factor,
    )
    return as_model(g, len(scaling.scale_uv), len(cells.voxel))


def network_nodes(g: Nodes, meps: str, weights: FoldedWeights, cells: NeededCells) -> str:
    """Add the network in its masked form: name of (n, V) float32 from that of (n, m) float32 scaled amplitudes."""
    if weights.start is None:
        ((kernel, bias),) = weights.dense
        latent = _dense(g, meps, kernel[:, cells.latent], bias[cells.latent])
    else:
        latent = _convolutional_mapper(g, meps, weights, cells)
    return masked_decoder(g, latent, weights.decoder, cells)


def masked_network(weights: FoldedWeights, cells: NeededCells) -> onnx.ModelProto:
    """Build the bare network in its masked form: `meps` (n, m) to `field` (n, V), float32."""
    g = Nodes()
    g.add("Identity", network_nodes(g, "meps", weights, cells), name="field")
    return _bare(g, weights, ["n", len(cells.voxel)])


def dense_network(weights: FoldedWeights, cells: NeededCells) -> onnx.ModelProto:
    """Build the bare network as published: `meps` (n, m) to `field` (n, 1, X, Y, Z), float32, all of the box.

    For a variational model. Its linear layers are folded here too: what differs from `masked_network` is the decoder.
    """
    g = Nodes()
    ((kernel, bias),) = weights.dense
    grid = g.add("Reshape", _dense(g, "meps", kernel, bias), g.constant([0, 1, *cells.latent_shape], np.int64))
    g.add("Identity", dense_decoder(g, grid, weights.decoder), name="field")
    return _bare(g, weights, ["n", 1, *cells.box_shape])


def _bare(g: Nodes, weights: FoldedWeights, shape: list[int | str]) -> onnx.ModelProto:
    ends = (value("meps", TensorProto.FLOAT, ["n", len(weights.dense[0][0])]), value("field", TensorProto.FLOAT, shape))
    return proto_of(onnx.helper.make_graph(g.nodes, "network", [ends[0]], [ends[1]], initializer=g.constants))


def _scaled_amplitudes(g: Nodes, scaling: MepScaling, every: str) -> tuple[str, str]:
    """Scale as `trainer.network_data.scaled`; fill in missing muscles. Returns names of (n, m) and of (n, m, m)."""
    settings = scaling.settings
    given, scale = given_amplitudes(g)
    if settings.mep_scale == "log":
        floor = g.constant(log_floor_uv(settings))
        above = g.add("Log", g.add("Div", g.add("Max", given, floor), floor))
        z = g.add("Div", above, g.add("Log", g.add("Div", scale, floor)))
    else:
        if settings.small_meps == "zero":
            small = g.add("Less", given, g.constant(settings.floor_uv))
            given = g.add("Where", small, g.constant(0.0), given)
        z = g.add("Div", given, scale)
    mean = g.constant(scaling.mean)
    filled, open_covariance = filled_in(g, g.add("Sub", z, mean), scaling.covariance, every)
    # What was given is taken as it was: subtracting and adding the mean would change its last bits.
    return g.add("Where", "valid", z, g.add("Add", filled, mean)), open_covariance


def _dense(g: Nodes, rows: str, kernel: NDArray[np.float64], bias: NDArray[np.float64]) -> str:
    product = g.add("MatMul", rows, g.constant(kernel, np.float32))
    return g.add("Relu", g.add("Add", product, g.constant(bias, np.float32)))


def _convolutional_mapper(g: Nodes, meps: str, weights: FoldedWeights, cells: NeededCells) -> str:
    """Name of (n, L) float32, the latent grid where it is needed. The small grids are computed whole."""
    assert weights.start is not None
    rows = meps
    for kernel, bias in weights.dense:
        rows = _dense(g, rows, kernel, bias)
    shape = weights.start
    rows = g.add("Reshape", rows, g.constant([0, int(np.prod(shape)), -1], np.int64))
    known = np.array(list(np.ndindex(shape)))
    for convolution in weights.convolutions[:-1]:
        finer = (2 * shape[0], 2 * shape[1], 2 * shape[2])
        wanted = np.array(list(np.ndindex(finer)))
        wanted = wanted[np.argsort(parity_class(wanted), kind="stable")]
        raw = upsampled_convolution(g, rows, upsampled_reads(wanted, known, shape), convolution.kernel)
        rows = affine(g, _activated(g, raw, convolution.bias), convolution.norm)
        shape, known = finer, wanted
    last = weights.convolutions[-1]
    wanted = np.array(np.unravel_index(cells.latent, cells.latent_shape)).T
    raw = upsampled_to_one(g, rows, upsampled_reads(wanted, known, shape), last.kernel)
    return affine(g, _activated(g, raw, last.bias), last.norm)


def _activated(g: Nodes, raw: str, bias: NDArray[np.float64]) -> str:
    return g.add("Relu", g.add("Add", raw, g.constant(bias, np.float32)))


def _error_scale(g: Nodes, spread: NetworkSpread, z: str, field: str) -> str:
    """Return the name of (n, 1), `NetworkSpread.scale`."""
    level = g.constant(SOFT_LEVEL)
    positive = g.add("Max", z, g.constant(0.0))
    raised = g.add("Add", positive, level)
    active = g.add("ReduceSum", g.add("Div", positive, raised), axes(g, 1), keepdims=1)
    mean = g.add("ReduceMean", field, axes=[1], keepdims=1)
    power = g.add("ReduceMean", g.add("Mul", field, field), axes=[1], keepdims=1)
    told = g.add("Concat", z, g.add("Log", raised), active, mean, g.add("Sqrt", power), axis=1)
    centred = g.add("Sub", told, g.constant(spread.feature_mean))
    product = g.add("MatMul", g.add("Div", centred, g.constant(spread.feature_sd)), g.constant(spread.weights[:, None]))
    shifted = g.add("Add", product, g.constant(spread.offset))
    return g.add("Exp", g.add("Clip", shifted, g.constant(spread.low), g.constant(spread.high)))


def _left_open(g: Nodes, spread: NetworkSpread, open_covariance: str, every: str) -> tuple[str, str]:
    """Return names of what missing muscles leave open: (n, r, r) along the components, (n, V) of the voxels."""
    n_scores = len(spread.components)
    components = g.constant(spread.components)
    complete = Nodes(g)
    zeros = [complete.constant(np.zeros(shape)) for shape in ((1, n_scores, n_scores), (1, 1))]
    gaps = Nodes(g)
    slope = gaps.constant(spread.slope[None])
    open_scores, open_voxels = g.choose(
        every, (complete, zeros), (gaps, carried(gaps, slope, open_covariance, components))
    )
    return open_scores, open_voxels

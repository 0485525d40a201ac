"""What the graphs of all model files share: their ends, the amplitudes, missing muscles, spread and centre of gravity.

The layout of inputs and outputs is in `docs/model-file.md`. What lies between, the estimate itself, is in
`trainer.graph` for the baselines and in `trainer.network_graph` for the article's networks.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from trainer.graph_nodes import Nodes, axes, outer, transposed

OPSET = 17
IR_VERSION = 8
"""Both old enough for ONNX Runtime 1.20, the oldest that the engine allows."""


def all_valid(g: Nodes) -> str:
    """Return the name of whether no amplitude is missing."""
    flags = g.add("Cast", "valid", to=TensorProto.DOUBLE)
    return g.add("Greater", g.add("ReduceMin", flags, keepdims=0), g.constant(0.5))


def given_amplitudes(g: Nodes) -> tuple[str, str]:
    """Write the output `mep_normalised`; return names of (n, m) amplitudes, 0 where missing, and of the (m,) scale, uV.

    Both are float64.
    """
    scale = g.add("Cast", "scale_uv", to=TensorProto.DOUBLE)
    # Chosen, not multiplied by the flag: a missing amplitude may be NaN.
    given = g.add("Where", "valid", g.add("Cast", "amplitudes_uv", to=TensorProto.DOUBLE), g.constant(0.0))
    normalised = g.add("Clip", g.add("Div", given, scale), g.constant(0.0), g.constant(1.0))
    g.add("Cast", normalised, name="mep_normalised", to=TensorProto.FLOAT)
    return given, scale


def filled_in(g: Nodes, z: str, covariance: NDArray[np.float64], every: str) -> tuple[str, str]:
    """Fill in missing muscles. Returns names of (n, m) and of their covariance given the valid ones, (n, m, m).

    The mean and covariance come by conditioning on one valid muscle after another (the update of a Kalman filter
    without noise), since ONNX has no solver for linear systems. Nothing is computed where none is missing.

    Parameters
    ----------
    z
        Name of (n, m) float64, centred amplitudes on the scale that `covariance` is of.
    covariance
        (m, m), of a training set.
    every
        Name of whether no amplitude is missing.
    """
    m = len(covariance)
    complete = Nodes(g)
    nothing = (complete, [z, complete.constant(np.zeros((1, m, m)))])
    gaps = Nodes(g)
    flags = gaps.add("Cast", "valid", to=TensorProto.DOUBLE)
    mean = gaps.constant(np.zeros((1, m)))
    spread = gaps.constant(covariance[None])
    for k in range(m):
        place, index = gaps.constant(k, np.int64), gaps.constant([k], np.int64)
        column = gaps.add("Gather", spread, place, axis=2)  # (n, m)
        variance = gaps.add("Gather", column, index, axis=1)  # (n, 1)
        gain = gaps.add("Mul", gaps.add("Div", column, variance), gaps.add("Gather", flags, index, axis=1))
        surprise = gaps.add("Sub", gaps.add("Gather", z, index, axis=1), gaps.add("Gather", mean, index, axis=1))
        mean = gaps.add("Add", mean, gaps.add("Mul", gain, surprise))
        spread = gaps.add("Sub", spread, outer(gaps, gain, column))
    missing = gaps.add("Sub", gaps.constant(1.0), flags)
    left = gaps.add("Mul", spread, outer(gaps, missing, missing))
    filled, open_covariance = g.choose(every, nothing, (gaps, [gaps.add("Where", "valid", z, mean), left]))
    return filled, open_covariance


def carried(gaps: Nodes, slope: str, open_covariance: str, components: str) -> list[str]:
    """Carry a covariance of amplitudes on: names of that of the scores, (n, r, r), and of the voxels' variance, (n, V).

    Parameters
    ----------
    gaps
        Nodes to add to.
    slope
        Name of (n or 1, r, m), derivative of the scores by the amplitudes.
    open_covariance
        Name of (n, m, m).
    components
        Name of (r, V).
    """
    open_scores = gaps.add("MatMul", gaps.add("MatMul", slope, open_covariance), transposed(gaps, slope))
    projected = gaps.add("Mul", gaps.add("MatMul", open_scores, components), components)
    summed = gaps.add("ReduceSum", projected, axes(gaps, 1), keepdims=0)
    return [open_scores, gaps.add("Max", summed, gaps.constant(0.0))]


def write_spread(g: Nodes, error_scale: str, voxel_variance: NDArray[np.float64], open_voxels: str) -> None:
    """Write the output `spread`: root of a scale (n, 1) times a variance (V,), plus a variance (n or 1, V)."""
    known = g.add("Mul", error_scale, g.constant(voxel_variance))
    g.add("Cast", g.add("Sqrt", g.add("Add", known, open_voxels)), name="spread", to=TensorProto.FLOAT)


def write_center_of_gravity(
    g: Nodes,
    field: str,
    error_scale: str,
    open_scores: str,
    *,
    voxel_mm: NDArray[np.float64],
    components: NDArray[np.float64],
    score_factor: NDArray[np.float64],
) -> None:
    """Write eq. 14 of the article, and its covariance by the delta method; see `trainer.uncertainty.cog_and_lever`.

    Parameters
    ----------
    g
        Nodes to add to.
    field, error_scale, open_scores
        Names of (n, V), (n, 1) and (n or 1, r, r), float64.
    voxel_mm
        (V, 3), mm.
    components
        (r, V).
    score_factor
        (r, r), as in `Uncertainty`.
    """
    empty = g.add("Not", g.add("Greater", g.add("ReduceSum", field, axes(g, 1), keepdims=1), g.constant(0.0)))
    weight = g.add("Where", empty, g.constant(1.0), field)
    total = g.add("ReduceSum", weight, axes(g, 1), keepdims=1)
    cog = g.add("Div", g.add("MatMul", weight, g.constant(voxel_mm)), total, name="cog_mm")

    sums = g.constant(components.sum(axis=1)[None, None])
    pulled = g.add("Mul", g.add("Unsqueeze", cog, axes(g, 2)), sums)
    moved = g.add("Sub", g.constant((voxel_mm.T @ components.T)[None]), pulled)
    lever = g.add("Div", moved, g.add("Unsqueeze", total, axes(g, 2)))
    errors = g.add(
        "Mul", g.add("Unsqueeze", error_scale, axes(g, 2)), g.constant((score_factor @ score_factor.T)[None])
    )
    inner = g.add("MatMul", lever, g.add("Add", errors, open_scores))
    covariance = g.add("MatMul", inner, transposed(g, lever))
    # Symmetric to the last bit, whatever order the sums were taken in.
    twice = g.add("Add", covariance, transposed(g, covariance))
    g.add("Mul", twice, g.constant(0.5), name="cog_cov_mm2")


def as_model(g: Nodes, n_muscles: int, n_voxels: int) -> onnx.ModelProto:
    """Make a model of nodes that computed all outputs of a model file."""
    m, v = n_muscles, n_voxels
    graph = helper.make_graph(
        g.nodes,
        "m2m",
        [
            value("amplitudes_uv", TensorProto.FLOAT, ["n", m]),
            value("valid", TensorProto.BOOL, ["n", m]),
            value("scale_uv", TensorProto.FLOAT, [m]),
        ],
        [
            value("mep_normalised", TensorProto.FLOAT, ["n", m]),
            value("field", TensorProto.FLOAT, ["n", v]),
            value("spread", TensorProto.FLOAT, ["n", v]),
            value("cog_mm", TensorProto.DOUBLE, ["n", 3]),
            value("cog_cov_mm2", TensorProto.DOUBLE, ["n", 3, 3]),
        ],
        initializer=g.constants,
    )
    return proto_of(graph)


def proto_of(graph: onnx.GraphProto) -> onnx.ModelProto:
    """Make a model of a graph, of the versions that the engine's oldest ONNX Runtime reads."""
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="m2m-live"
    )


def value(name: str, dtype: int, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    """Describe one input or output."""
    return helper.make_tensor_value_info(name, dtype, list(shape))

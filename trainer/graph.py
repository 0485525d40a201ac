"""The ONNX graph of a baseline: from microvolts to field, spread and centre of gravity.

All inner arithmetic is float64: in float32 the kernel's sums over a thousand stimulations differ from scikit-learn's
own prediction by 4e-6 with the shipped model's alpha of 1, and by 1.5e-4 with an alpha of 0.03. There are no random
nodes. The layout of inputs and outputs is in `docs/model-file.md`.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

from trainer.fitting import Baseline

OPSET = 17
IR_VERSION = 8
"""Both old enough for ONNX Runtime 1.20, the oldest that the engine allows."""


class _Nodes:
    """Collects nodes and constants, naming values that nobody outside refers to.

    Parameters
    ----------
    around
        The nodes of the graph that this one is a branch of: constants go there, and names do not repeat.
    """

    def __init__(self, around: "_Nodes | None" = None) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = around.constants if around else []
        self._count: Iterator[int] = around._count if around else itertools.count()

    def constant(self, value: ArrayLike, dtype: type = np.float64, name: str = "") -> str:
        """Add a constant and return its name."""
        name = name or f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=dtype, order="C"), name))
        return name

    def add(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        name = name or f"{operator.lower()}{next(self._count)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def choose(self, condition: str, then: "_Branch", otherwise: "_Branch") -> list[str]:
        """Add an `If` of two branches with as many float64 outputs each, and return the outputs' names."""
        graphs = []
        for (inner, outputs), name in ((then, "then"), (otherwise, "otherwise")):
            ends = [inner.add("Identity", output) for output in outputs]
            values = [helper.make_tensor_value_info(end, TensorProto.DOUBLE, None) for end in ends]
            graphs.append(helper.make_graph(inner.nodes, name, [], values))
        names = [f"if{next(self._count)}" for _ in then[1]]
        self.nodes.append(helper.make_node("If", [condition], names, then_branch=graphs[0], else_branch=graphs[1]))
        return names


_Branch = tuple[_Nodes, list[str]]
"""Nodes of a branch, and the names of its outputs."""


def build_graph(baseline: Baseline) -> onnx.ModelProto:
    """Build the graph, without metadata.

    Parameters
    ----------
    baseline : Baseline
        What it must compute: the same as `Baseline.predict`.
    """
    g = _Nodes()
    m, v = len(baseline.training.muscles), baseline.training.field.shape[1]
    scale = baseline.regressor.regressor_.named_steps["log"].scale_uv_
    g.constant(scale, np.float32, "scale_uv")

    flags = g.add("Cast", "valid", to=TensorProto.DOUBLE)
    all_valid = g.add("Greater", g.add("ReduceMin", flags, keepdims=0), g.constant(0.5))
    z, open_covariance = _standardised_amplitudes(g, baseline, all_valid)
    features, scores = _regression(g, baseline, z)
    components = g.constant(baseline.regressor.transformer_.components_)
    raw = g.add("Add", g.add("MatMul", scores, components), g.constant(baseline.regressor.transformer_.mean_))
    field = g.add("Clip", raw, g.constant(0.0), g.constant(1.0))
    g.add("Cast", field, name="field", to=TensorProto.FLOAT)

    error_scale = _error_scale(g, baseline, features)
    open_scores, open_voxels = _left_open(g, baseline, all_valid, (z, features, scores), open_covariance, components)
    _spread(g, baseline, error_scale, open_voxels)
    _center_of_gravity(g, baseline, field, error_scale, open_scores)

    def value(name: str, dtype: int, shape: list[int | str]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, dtype, shape)

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
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="m2m-live"
    )


def _standardised_amplitudes(g: _Nodes, baseline: Baseline, all_valid: str) -> tuple[str, str]:
    """Floor, log10, standardise; then fill in missing muscles. Returns names of (n, m) and of (n, m, m).

    A missing muscle's mean and covariance given the valid ones come by conditioning on one valid muscle after another
    (the update of a Kalman filter without noise), since ONNX has no solver for linear systems.
    """
    steps = baseline.regressor.regressor_.named_steps
    m = len(baseline.training.muscles)
    floor = g.constant(baseline.floor_uv)
    scale = g.add("Cast", "scale_uv", to=TensorProto.DOUBLE)
    # Chosen, not multiplied by the flag: a missing amplitude may be NaN.
    given = g.add("Where", "valid", g.add("Cast", "amplitudes_uv", to=TensorProto.DOUBLE), g.constant(0.0))
    normalised = g.add("Clip", g.add("Div", given, scale), g.constant(0.0), g.constant(1.0))
    g.add("Cast", normalised, name="mep_normalised", to=TensorProto.FLOAT)

    logarithm = g.add("Log", g.add("Div", g.add("Max", given, floor), scale))
    log10 = g.add("Mul", logarithm, g.constant(1.0 / math.log(10.0)))
    centred = g.add("Sub", log10, g.constant(steps["standard"].mean_))
    z = g.add("Div", centred, g.constant(steps["standard"].scale_))

    complete = _Nodes(g)
    nothing = (complete, [z, complete.constant(np.zeros((1, m, m)))])
    gaps = _Nodes(g)
    flags = gaps.add("Cast", "valid", to=TensorProto.DOUBLE)
    mean = gaps.constant(np.zeros((1, m)))
    covariance = gaps.constant(steps["missing"].covariance_[None])
    for k in range(m):
        place, index = gaps.constant(k, np.int64), gaps.constant([k], np.int64)
        column = gaps.add("Gather", covariance, place, axis=2)  # (n, m)
        variance = gaps.add("Gather", column, index, axis=1)  # (n, 1)
        gain = gaps.add("Mul", gaps.add("Div", column, variance), gaps.add("Gather", flags, index, axis=1))
        surprise = gaps.add("Sub", gaps.add("Gather", z, index, axis=1), gaps.add("Gather", mean, index, axis=1))
        mean = gaps.add("Add", mean, gaps.add("Mul", gain, surprise))
        covariance = gaps.add("Sub", covariance, _outer(gaps, gain, column))
    missing = gaps.add("Sub", gaps.constant(1.0), flags)
    left = gaps.add("Mul", covariance, _outer(gaps, missing, missing))
    filled, open_covariance = g.choose(all_valid, nothing, (gaps, [gaps.add("Where", "valid", z, mean), left]))
    return filled, open_covariance


def _regression(g: _Nodes, baseline: Baseline, z: str) -> tuple[str, str]:
    """Return names of features (n, F) and scores (n, r)."""
    model = baseline.linear_map
    weights = g.constant(model.weights)
    if model.centers is None:
        return z, g.add("Add", g.add("MatMul", z, weights), g.constant(model.offset))
    across = g.add("MatMul", z, g.constant(model.centers.T))
    own = g.add("ReduceSum", g.add("Mul", z, z), _axes(g, 1), keepdims=1)
    squared = g.add("Add", own, g.constant((model.centers**2).sum(axis=1)[None]))
    distance = g.add("Max", g.add("Sub", squared, g.add("Mul", across, g.constant(2.0))), g.constant(0.0))
    kernel = g.add("Exp", g.add("Mul", distance, g.constant(-model.gamma)))
    return kernel, g.add("MatMul", kernel, weights)


def _left_open(
    g: _Nodes,
    baseline: Baseline,
    all_valid: str,
    regression: tuple[str, str, str],
    open_covariance: str,
    components: str,
) -> tuple[str, str]:
    """Return names of what missing muscles leave open: covariance of the scores (n, r, r), variance of voxels (n, V).

    To first order, by the regression's derivative; `regression` names z, features and scores. Nothing is computed
    where no muscle is missing, which is nearly always.
    """
    model, (z, kernel, scores) = baseline.linear_map, regression
    n_scores = model.weights.shape[1]
    complete = _Nodes(g)
    zeros = [complete.constant(np.zeros(shape)) for shape in ((1, n_scores, n_scores), (1, 1))]
    gaps = _Nodes(g)
    if model.centers is None:
        slope = gaps.constant(model.weights.T[None])
    else:
        # d k(z, c) / dz = -2 gamma (z - c) k(z, c), summed over the centres c with their weights.
        away = _outer(gaps, scores, z)
        weighted = gaps.add("Mul", gaps.add("Unsqueeze", kernel, _axes(g, 1)), gaps.constant(model.weights.T))
        towards = gaps.add("MatMul", weighted, gaps.constant(model.centers))
        slope = gaps.add("Mul", gaps.add("Sub", away, towards), gaps.constant(-2.0 * model.gamma))
    open_scores = gaps.add("MatMul", gaps.add("MatMul", slope, open_covariance), _transposed(gaps, slope))
    projected = gaps.add("Mul", gaps.add("MatMul", open_scores, components), components)
    summed = gaps.add("ReduceSum", projected, _axes(g, 1), keepdims=0)
    open_voxels = gaps.add("Max", summed, gaps.constant(0.0))
    scores_open, voxels_open = g.choose(all_valid, (complete, zeros), (gaps, [open_scores, open_voxels]))
    return scores_open, voxels_open


def _error_scale(g: _Nodes, baseline: Baseline, features: str) -> str:
    """Return the name of (n, 1), `Uncertainty.scale`."""
    u = baseline.uncertainty
    log_error = g.add("MatMul", features, g.constant(u.log_error_weights[:, None]))
    shifted = g.add("Add", log_error, g.constant(u.log_error_offset))
    held = g.add("Clip", shifted, g.constant(u.log_error_low), g.constant(u.log_error_high))
    known = g.add("MatMul", features, g.constant(u.known))
    norm = g.add("ReduceSum", g.add("Mul", known, known), _axes(g, 1), keepdims=1)
    if u.noise == 0.0:
        novelty = g.add("Add", norm, g.constant(1.0))
    else:
        unknown = g.add("Max", g.add("Sub", g.constant(1.0), norm), g.constant(0.0))
        novelty = g.add("Add", g.add("Div", unknown, g.constant(u.noise)), g.constant(1.0))
    return g.add("Mul", g.add("Exp", held), novelty)


def _spread(g: _Nodes, baseline: Baseline, error_scale: str, open_voxels: str) -> None:
    known = g.add("Mul", error_scale, g.constant(baseline.uncertainty.voxel_variance))
    g.add("Cast", g.add("Sqrt", g.add("Add", known, open_voxels)), name="spread", to=TensorProto.FLOAT)


def _center_of_gravity(g: _Nodes, baseline: Baseline, field: str, error_scale: str, open_scores: str) -> None:
    """Eq. 14 of the article, and its covariance by the delta method; see `trainer.uncertainty.cog_and_lever`."""
    voxel_mm, components = baseline.training.voxel_mm, baseline.regressor.transformer_.components_
    empty = g.add("Not", g.add("Greater", g.add("ReduceSum", field, _axes(g, 1), keepdims=1), g.constant(0.0)))
    weight = g.add("Where", empty, g.constant(1.0), field)
    total = g.add("ReduceSum", weight, _axes(g, 1), keepdims=1)
    cog = g.add("Div", g.add("MatMul", weight, g.constant(voxel_mm)), total, name="cog_mm")

    sums = g.constant(components.sum(axis=1)[None, None])
    pulled = g.add("Mul", g.add("Unsqueeze", cog, _axes(g, 2)), sums)
    moved = g.add("Sub", g.constant((voxel_mm.T @ components.T)[None]), pulled)
    lever = g.add("Div", moved, g.add("Unsqueeze", total, _axes(g, 2)))
    factor = baseline.uncertainty.score_factor
    errors = g.add("Mul", g.add("Unsqueeze", error_scale, _axes(g, 2)), g.constant((factor @ factor.T)[None]))
    inner = g.add("MatMul", lever, g.add("Add", errors, open_scores))
    covariance = g.add("MatMul", inner, _transposed(g, lever))
    # Symmetric to the last bit, whatever order the sums were taken in.
    twice = g.add("Add", covariance, _transposed(g, covariance))
    g.add("Mul", twice, g.constant(0.5), name="cog_cov_mm2")


def _outer(g: _Nodes, left: str, right: str) -> str:
    """Return the name of the outer products (n, a, b) of (n, a) and (n, b)."""
    return g.add("Mul", g.add("Unsqueeze", left, _axes(g, 2)), g.add("Unsqueeze", right, _axes(g, 1)))


def _transposed(g: _Nodes, name: str) -> str:
    return g.add("Transpose", name, perm=[0, 2, 1])


def _axes(g: _Nodes, axis: int) -> str:
    name = f"axis{axis}"
    if all(constant.name != name for constant in g.constants):
        g.constant([axis], np.int64, name)
    return name

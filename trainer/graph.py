"""The ONNX graph of a baseline: from microvolts to field, spread and centre of gravity.

All inner arithmetic is float64: in float32 the kernel's sums over a thousand stimulations differ from scikit-learn's
own prediction by 4e-6 with the shipped model's alpha of 1, and by 1.5e-4 with an alpha of 0.03. There are no random
nodes. The layout of inputs and outputs is in `docs/model-file.md`.
"""

import math

import numpy as np
import onnx
from onnx import TensorProto

from trainer.fitting import Baseline
from trainer.graph_nodes import Nodes, axes, outer
from trainer.graph_parts import (
    all_valid,
    as_model,
    carried,
    filled_in,
    given_amplitudes,
    write_center_of_gravity,
    write_spread,
)


def build_graph(baseline: Baseline) -> onnx.ModelProto:
    """Build the graph, without metadata.

    Parameters
    ----------
    baseline : Baseline
        What it must compute: the same as `Baseline.predict`.
    """
    g = Nodes()
    training = baseline.training
    scale = baseline.regressor.regressor_.named_steps["log"].scale_uv_
    g.constant(scale, np.float32, "scale_uv")

    every = all_valid(g)
    z, open_covariance = _standardised_amplitudes(g, baseline, every)
    features, scores = _regression(g, baseline, z)
    components = g.constant(baseline.regressor.transformer_.components_)
    raw = g.add("Add", g.add("MatMul", scores, components), g.constant(baseline.regressor.transformer_.mean_))
    field = g.add("Clip", raw, g.constant(0.0), g.constant(1.0))
    g.add("Cast", field, name="field", to=TensorProto.FLOAT)

    error_scale = _error_scale(g, baseline, features)
    open_scores, open_voxels = _left_open(g, baseline, every, (z, features, scores), open_covariance, components)
    write_spread(g, error_scale, baseline.uncertainty.voxel_variance, open_voxels)
    write_center_of_gravity(
        g,
        field,
        error_scale,
        open_scores,
        voxel_mm=training.voxel_mm,
        components=baseline.regressor.transformer_.components_,
        score_factor=baseline.uncertainty.score_factor,
    )
    return as_model(g, len(training.muscles), training.field.shape[1])


def _standardised_amplitudes(g: Nodes, baseline: Baseline, every: str) -> tuple[str, str]:
    """Floor, log10, standardise; then fill in missing muscles. Returns names of (n, m) and of (n, m, m)."""
    steps = baseline.regressor.regressor_.named_steps
    floor = g.constant(baseline.floor_uv)
    given, scale = given_amplitudes(g)
    logarithm = g.add("Log", g.add("Div", g.add("Max", given, floor), scale))
    log10 = g.add("Mul", logarithm, g.constant(1.0 / math.log(10.0)))
    centred = g.add("Sub", log10, g.constant(steps["standard"].mean_))
    z = g.add("Div", centred, g.constant(steps["standard"].scale_))
    return filled_in(g, z, steps["missing"].covariance_, every)


def _regression(g: Nodes, baseline: Baseline, z: str) -> tuple[str, str]:
    """Return names of features (n, F) and scores (n, r)."""
    model = baseline.linear_map
    weights = g.constant(model.weights)
    if model.centers is None:
        return z, g.add("Add", g.add("MatMul", z, weights), g.constant(model.offset))
    across = g.add("MatMul", z, g.constant(model.centers.T))
    own = g.add("ReduceSum", g.add("Mul", z, z), axes(g, 1), keepdims=1)
    squared = g.add("Add", own, g.constant((model.centers**2).sum(axis=1)[None]))
    distance = g.add("Max", g.add("Sub", squared, g.add("Mul", across, g.constant(2.0))), g.constant(0.0))
    kernel = g.add("Exp", g.add("Mul", distance, g.constant(-model.gamma)))
    return kernel, g.add("MatMul", kernel, weights)


def _left_open(
    g: Nodes,
    baseline: Baseline,
    every: str,
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
    complete = Nodes(g)
    zeros = [complete.constant(np.zeros(shape)) for shape in ((1, n_scores, n_scores), (1, 1))]
    gaps = Nodes(g)
    if model.centers is None:
        slope = gaps.constant(model.weights.T[None])
    else:
        # d k(z, c) / dz = -2 gamma (z - c) k(z, c), summed over the centres c with their weights.
        away = outer(gaps, scores, z)
        weighted = gaps.add("Mul", gaps.add("Unsqueeze", kernel, axes(g, 1)), gaps.constant(model.weights.T))
        towards = gaps.add("MatMul", weighted, gaps.constant(model.centers))
        slope = gaps.add("Mul", gaps.add("Sub", away, towards), gaps.constant(-2.0 * model.gamma))
    scores_open, voxels_open = g.choose(
        every, (complete, zeros), (gaps, carried(gaps, slope, open_covariance, components))
    )
    return scores_open, voxels_open


def _error_scale(g: Nodes, baseline: Baseline, features: str) -> str:
    """Return the name of (n, 1), `Uncertainty.scale`."""
    u = baseline.uncertainty
    log_error = g.add("MatMul", features, g.constant(u.log_error_weights[:, None]))
    shifted = g.add("Add", log_error, g.constant(u.log_error_offset))
    held = g.add("Clip", shifted, g.constant(u.log_error_low), g.constant(u.log_error_high))
    known = g.add("MatMul", features, g.constant(u.known))
    norm = g.add("ReduceSum", g.add("Mul", known, known), axes(g, 1), keepdims=1)
    if u.noise == 0.0:
        novelty = g.add("Add", norm, g.constant(1.0))
    else:
        unknown = g.add("Max", g.add("Sub", g.constant(1.0), norm), g.constant(0.0))
        novelty = g.add("Add", g.add("Div", unknown, g.constant(u.noise)), g.constant(1.0))
    return g.add("Mul", g.add("Exp", held), novelty)

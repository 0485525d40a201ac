"""Write one of the article's networks as a model file, and check it against Keras before anyone can use it.

The layout of the file is in `docs/model-file.md`; `rt_engine.model_file` reads it. The check runs the network in its
dense form, as published, and asks for the same field to 1e-5; spread and centre of gravity are compared with numpy's.
"""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from rt_engine.atomic_file import written_whole
from rt_engine.model_file import OUTPUTS, open_model
from rt_engine.onnx_session import open_session
from trainer.export import (
    COG_TOLERANCE_MM,
    EXTREME_UV,
    RELATIVE_TOLERANCE,
    TOLERANCE,
    bundle_bytes,
    bundle_metadata,
    compare,
)
from trainer.folded_weights import folded_weights
from trainer.network_data import MepScaling, log_floor_uv, scaled
from trainer.network_graph import build_network_graph
from trainer.network_spread import NetworkSpread, conditioned, fit_spread

if TYPE_CHECKING:
    from trainer.trained_network import TrainedNetwork

CHUNK = 64
"""Stimulations at once: covariances of all muscles and components are kept for each."""

DENSE_ROWS = 24
"""Inputs that the dense form is asked for; one takes half a second. The masked form, equal to it, is asked for all."""


def export_network(
    path: str | Path,
    trained: "TrainedNetwork",
    *,
    name: str,
    validation: dict[str, Any] | None = None,
    data_sha256: str = "",
    created: str = "",
) -> str:
    """Write a model file. The same network gives the same bytes.

    Parameters
    ----------
    path : str or Path
        Where to write; a file already there is replaced in one step, and only by one that passed its check.
    trained : TrainedNetwork
        What to write.
    name : str
        For people.
    validation : dict, optional
        Figures on held-out data, JSON types only.
    data_sha256 : str
        SHA-256 of the data set's file.
    created : str
        ISO 8601; left empty, the file does not depend on when it was made.

    Returns
    -------
    str
        SHA-256 of the file's bytes.

    Raises
    ------
    ModelError
        If the exported graph differs from Keras' dense form by more than `TOLERANCE`.
    DataError
        If the file cannot be written there, or no spread can be learned.
    """
    path = Path(path)
    network, scaling, training = trained.network, trained.scaling, trained.training
    spread = spread_of(trained)
    model = build_network_graph(folded_weights(network), network.decoder.cells, scaling, spread, training.voxel_mm)
    properties = bundle_metadata(
        training,
        kind=network.model,
        name=name,
        field_scale_v_per_m=float(training.field_scale_v_per_m * trained.field_factor),
        floor_uv=log_floor_uv(scaling.settings),
        scale_uv=scaling.scale_uv,
        validation=validation or {},
        data_sha256=data_sha256,
        created=created,
    )
    about = {"architecture": network.settings, "preprocessing": scaling.settings, "fitting": trained.fitting}
    properties["m2m.network"] = json.dumps(msgspec.to_builtins(about), sort_keys=True)
    properties["m2m.spread"] = json.dumps(spread.told(), sort_keys=True)
    content = bundle_bytes(model, properties)
    with written_whole(path) as temporary:
        temporary.write_bytes(content)
        check_network_export(temporary, trained, spread)
    return hashlib.sha256(content).hexdigest()


def spread_of(trained: "TrainedNetwork") -> NetworkSpread:
    """Learn a network's spread from the stimulations that were kept apart in its training, and from those it saw.

    Raises
    ------
    DataError
        As `fit_spread`.
    """
    parts = (trained.training, trained.validation)
    z = np.concatenate([trained.scaling.transform(part.amplitudes_uv) for part in parts])
    field = np.concatenate([part.field for part in parts]) / trained.field_factor
    held_out = np.arange(len(z)) >= len(trained.training)
    with threadpool_limits(1):  # the same bits for any number of processors
        return fit_spread(trained.network.predict, trained.scaling, z, field, held_out, trained.training.voxel_mm)


def check_network_export(path: str | Path, trained: "TrainedNetwork", spread: NetworkSpread) -> float:
    """Compare a model file with the network it was made of.

    On stimulations of the data set, on random and on extreme amplitudes, with and without missing muscles; a few of
    them also one at a time, as the engine asks. Beyond a muscle's scale, the tolerance of the field grows with the
    amplitude, as rounding does.

    Returns
    -------
    float
        Largest difference of the field from the dense form, at amplitudes within the scales.

    Raises
    ------
    ModelError
        If an output differs by more than its tolerance.
    """
    amplitudes = _probes(trained)
    usable = ~np.isnan(amplitudes)
    session, _, _ = open_session(Path(path).read_bytes(), provider="cpu")
    feed = {"amplitudes_uv": amplitudes.astype(np.float32), "valid": usable}
    parts = [
        session.run(list(OUTPUTS), {key: values[k : k + CHUNK] for key, values in feed.items()})
        for k in range(0, len(amplitudes), CHUNK)
    ]
    found = {key: np.concatenate(part) for key, part in zip(OUTPUTS, zip(*parts, strict=True), strict=True)}

    z, left_open = reference_amplitudes(trained.scaling, amplitudes)
    size = np.maximum(np.abs(z).max(axis=1, keepdims=True), 1.0)
    field = found["field"].astype(np.float64)
    compare("field", field, _predicted(trained, z, "masked"), TOLERANCE * size, reference="Keras'")
    some = np.linspace(0, len(z) - 1, DENSE_ROWS).astype(int)
    dense = _predicted(trained, z[some], "dense")
    compare("field", field[some], dense, TOLERANCE * size[some], reference="Keras' dense form's")

    for k in range(0, len(z), CHUNK):
        rows = slice(k, k + CHUNK)
        wanted = spread.of(z[rows], left_open[rows], field[rows], trained.training.voxel_mm)
        _compare_spread({key: values[rows] for key, values in found.items()}, wanted)

    model = open_model(path, provider="cpu")
    for row, expected in zip(some, dense, strict=True):
        one = model.predict(amplitudes[row], usable[row])
        compare("field of one pulse", one.field, expected, TOLERANCE * size[row], reference="Keras' dense form's")
    usual = size[some, 0] == 1.0
    return float(np.abs(field[some] - dense)[usual].max(initial=0.0))


def reference_amplitudes(
    scaling: MepScaling, amplitudes_uv: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what the graph should make of amplitudes (n, m): scaled and filled in, and what is left open (n, m, m)."""
    return conditioned(scaling, scaled(amplitudes_uv, scaling.scale_uv, scaling.settings))


def _compare_spread(found: dict[str, NDArray[Any]], wanted: tuple[NDArray[np.float64], ...]) -> None:
    """Both were computed from the graph's own field, so that they differ by rounding only."""
    spread, cog, covariance = wanted
    compare("spread", found["spread"], spread, RELATIVE_TOLERANCE * (1.0 + spread), reference="numpy's")
    compare("cog_mm", found["cog_mm"], cog, COG_TOLERANCE_MM, reference="numpy's")
    size = np.abs(covariance).max(axis=(1, 2), keepdims=True)
    compare("cog_cov_mm2", found["cog_cov_mm2"], covariance, RELATIVE_TOLERANCE * size, reference="numpy's")


def _predicted(trained: "TrainedNetwork", z: NDArray[np.float64], form: Any) -> NDArray[np.float64]:
    """Return Keras' own prediction in one of its forms; the network keeps the form it had."""
    network = trained.network
    before = network.form
    try:
        network.form = form
        return network.predict(z).astype(np.float64)
    finally:
        network.form = before


def _probes(trained: "TrainedNetwork") -> NDArray[np.float64]:
    """Return (k, m) amplitudes to compare on, uV, NaN where missing."""
    kept = trained.validation if len(trained.validation) else trained.training
    known = kept.amplitudes_uv[:150]
    m = known.shape[1]
    rng = np.random.default_rng(0)
    scale = trained.scaling.scale_uv
    inside = scale * rng.random((60, m))
    anything = 10.0 ** rng.uniform(-1.0, np.log10(EXTREME_UV), (40, m))
    corners = np.where(rng.random((20, m)) < 0.5, 0.0, scale)
    floor = trained.scaling.settings.floor_uv
    extreme = np.array([[0.0] * m, [floor] * m, [EXTREME_UV] * m, [np.nan] * m])
    part = np.concatenate([known[:60], inside[:30], anything[:10], corners[:10]])
    part = np.where(rng.random(part.shape) < rng.random((len(part), 1)), np.nan, part)
    alone = np.where(np.eye(m, dtype=bool), known[0], np.nan)
    together = np.concatenate([known, inside, anything, corners, extreme, part, alone])
    return together.astype(np.float32).astype(np.float64)

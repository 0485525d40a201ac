"""Write a baseline as a model file, and check it against scikit-learn before anyone can use it.

The layout of the file is in `docs/model-file.md`; `rt_engine.model_file` reads it.
"""

import base64
import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from rt_engine.atomic_file import written_whole
from rt_engine.errors import ModelError
from rt_engine.model_file import DIGEST_PREFIX, MODEL_VERSION, OUTPUTS, digest_of, open_model
from rt_engine.onnx_session import open_session
from trainer.fitting import CHUNK, Baseline
from trainer.graph import build_graph
from trainer.preprocessing import TrainingSet

TOLERANCE = 1e-5
"""Largest difference allowed between the exported field and scikit-learn's own, in units of the field's scale."""

COG_TOLERANCE_MM = 1e-6
RELATIVE_TOLERANCE = 1e-6
"""Of spread and covariance: sums in another order, no more."""

EXTREME_UV = 1e5
"""Ten times what any muscle gives: the graph must stay finite there and agree with scikit-learn still."""


def export_model(
    path: str | Path,
    baseline: Baseline,
    *,
    name: str,
    validation: dict[str, Any] | None = None,
    data_sha256: str = "",
    created: str = "",
) -> str:
    """Write a model file. The same baseline gives the same bytes.

    Parameters
    ----------
    path : str or Path
        Where to write; a file already there is replaced in one step, and only by one that passed its check.
    baseline : Baseline
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
        If the exported graph differs from scikit-learn's own prediction by more than `TOLERANCE`.
    DataError
        If the file cannot be written there.
    """
    path = Path(path)
    model = build_graph(baseline)
    properties = bundle_metadata(
        baseline.training,
        kind=baseline.kind,
        name=name,
        field_scale_v_per_m=baseline.training.field_scale_v_per_m,
        floor_uv=float(baseline.floor_uv),
        scale_uv=baseline.regressor.regressor_.named_steps["log"].scale_uv_,
        validation=validation or {},
        data_sha256=data_sha256,
        created=created,
    )
    content = bundle_bytes(model, properties)
    with written_whole(path) as temporary:
        temporary.write_bytes(content)
        check_export(temporary, baseline)
    return hashlib.sha256(content).hexdigest()


def check_export(path: str | Path, baseline: Baseline) -> float:
    """Compare a model file with the baseline it was made of.

    On the training set, on random and on extreme amplitudes, with and without missing muscles; a few of them also one
    at a time, as the engine asks.

    Returns
    -------
    float
        Largest difference of the field.

    Raises
    ------
    ModelError
        If an output differs by more than its tolerance.
    """
    amplitudes = probe_amplitudes(baseline)
    expected = baseline.predict(amplitudes)
    session, _, _ = open_session(Path(path).read_bytes(), provider="cpu")
    usable = ~np.isnan(amplitudes)
    feed = {"amplitudes_uv": amplitudes.astype(np.float32), "valid": usable}
    parts = [
        session.run(list(OUTPUTS), {name: values[k : k + CHUNK] for name, values in feed.items()})
        for k in range(0, len(amplitudes), CHUNK)
    ]
    found = {name: np.concatenate(part) for name, part in zip(OUTPUTS, zip(*parts, strict=True), strict=True)}
    worst = compare("field", found["field"], expected.field, TOLERANCE)
    compare("spread", found["spread"], expected.spread, TOLERANCE + RELATIVE_TOLERANCE * expected.spread)
    compare("cog_mm", found["cog_mm"], expected.cog_mm, COG_TOLERANCE_MM)
    size = np.abs(expected.cog_cov_mm2).max(axis=(1, 2), keepdims=True)
    compare("cog_cov_mm2", found["cog_cov_mm2"], expected.cog_cov_mm2, RELATIVE_TOLERANCE * size)

    model = open_model(path, provider="cpu")
    for row in np.linspace(0, len(amplitudes) - 1, 20).astype(int):
        one = model.predict(amplitudes[row], usable[row])
        worst = max(worst, compare("field of one pulse", one.field, expected.field[row], TOLERANCE))
    return worst


def probe_amplitudes(baseline: Baseline) -> NDArray[np.float64]:
    """Return (k, m) amplitudes to compare two forms of a model on, uV, NaN where missing."""
    known = baseline.training.amplitudes_uv
    m = known.shape[1]
    rng = np.random.default_rng(0)
    anything = 10.0 ** rng.uniform(-1.0, np.log10(EXTREME_UV), (200, m))
    corners = np.where(rng.random((50, m)) < 0.5, 0.0, EXTREME_UV)
    extreme = np.array([[0.0] * m, [baseline.floor_uv] * m, [EXTREME_UV] * m, [np.nan] * m])
    full = np.concatenate([known, anything, corners, extreme])
    part = np.concatenate([known[:200], anything, corners])
    part = np.where(rng.random(part.shape) < rng.random((len(part), 1)), np.nan, part)
    alone = np.where(np.eye(m, dtype=bool), known[0], np.nan)
    return np.concatenate([full, part, alone]).astype(np.float32).astype(np.float64)


def compare(
    what: str,
    found: NDArray[Any],
    expected: NDArray[Any],
    tolerance: NDArray[np.float64] | float,
    *,
    reference: str = "scikit-learn's",
) -> float:
    """Return the largest difference between an exported model's output and its reference.

    Raises
    ------
    ModelError
        If one is larger than its tolerance, or no number.
    """
    difference = np.abs(found - expected)
    if not (difference <= tolerance).all():  # also where it is NaN
        raise ModelError(
            f"the exported model's {what} differs from {reference} by {difference.max():.2g}; "
            f"allowed is {np.max(tolerance):.2g}. No file was written; please report this."
        )
    return float(difference.max())


def bundle_metadata(
    training: TrainingSet,
    *,
    kind: str,
    name: str,
    field_scale_v_per_m: float,
    floor_uv: float,
    scale_uv: NDArray[np.float64],
    validation: dict[str, Any],
    data_sha256: str,
    created: str,
) -> dict[str, str]:
    """Return the metadata of a model file, as `docs/model-file.md` lists them, with an empty digest."""
    voxel = training.voxel.astype("<i2").tobytes()
    return {
        "m2m.format_version": str(MODEL_VERSION),
        "m2m.kind": kind,
        "m2m.name": name,
        "m2m.muscles": json.dumps(list(training.muscles)),
        "m2m.box_shape": json.dumps(list(training.box_shape)),
        "m2m.voxel": base64.b64encode(zlib.compress(voxel, 9)).decode(),
        "m2m.affine": json.dumps(training.affine.tolist()),
        "m2m.field_scale_v_per_m": repr(field_scale_v_per_m),
        "m2m.floor_uv": repr(floor_uv),
        "m2m.scale_uv": json.dumps(scale_uv.tolist()),
        "m2m.n_stimulations": str(len(training)),
        "m2m.validation": json.dumps(validation, sort_keys=True, allow_nan=False),
        "m2m.data_sha256": data_sha256,
        "m2m.subject_sha256": training.subject_sha256,
        "m2m.created": created,
        "m2m.digest": DIGEST_PREFIX.decode() + "0" * 64,
    }


def bundle_bytes(model: onnx.ModelProto, properties: dict[str, str]) -> bytes:
    """Return the bytes of a model file: the graph with its metadata, checked by ONNX, and the digest over all of it."""
    onnx.helper.set_model_props(model, properties)
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString(deterministic=True)
    digest = digest_of(content)
    return content.replace(DIGEST_PREFIX + b"0" * 64, DIGEST_PREFIX + digest.encode())

"""The layout of `trials.h5`: one row of fixed size per trial, and the digest that stands in each row.

What writes it is `rt_engine.edges.session_store`, what reads it `rt_engine.trials_file`. Neither file nor HDF5 here.

Nothing in a row has a variable length: HDF5 keeps such data apart from the row, without a checksum, where a crash could
part the two. Texts are cut off at their field's size, and end with ``...`` then.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rt_engine.engine import PulseResult

TRIALS_FORMAT = "m2m-trials"
"""Root attribute `format` of the file."""

TRIALS_VERSION = 1
"""Version of the layout: what this software writes, and the newest that it reads."""

DATASET = "trials"
"""The one dataset."""

STAGES = ("transport", "wait", "extract", "infer", "field", "publish")
"""Order of `stages_us`; a stage that is not in the list is not kept."""

SOURCES = ("ttl", "marker", "artefact")
"""Order of `offset_ms`."""

TEXT = "S192"
"""Reasons, joined by ``|``."""

RATE_MARGIN = 0.02
"""A sweep may be longer by so much than the nominal rate says; the sample clock believes 1 %."""

Row = NDArray[np.void]
"""(1,) of the type that `TrialsLayout.dtype` gives."""


@dataclass(frozen=True)
class TrialsLayout:
    """What makes the rows of one file.

    Parameters
    ----------
    session
        Identity of the session.
    muscles
        Names, in the order of all muscle axes.
    n_samples
        Samples of the longest sweep that a row holds.
    n_voxels
        Voxels of the model that the session began with.
    """

    session: str
    muscles: tuple[str, ...]
    n_samples: int
    n_voxels: int

    @property
    def fields(self) -> list[tuple[str, Any, tuple[int, ...], str]]:
        """Name, dtype, shape and unit of each field of a row, in their order."""
        m, s, v = len(self.muscles), self.n_samples, self.n_voxels
        return [
            ("row", "<i8", (), "1"),
            ("pulse", "<i8", (), "1"),
            ("valid", "u1", (), "1"),
            ("reasons", TEXT, (), ""),
            ("doubts", TEXT, (), ""),
            ("trigger_source", "S16", (), ""),
            ("t_raw", "<f8", (), "s"),
            ("t", "<f8", (), "s"),
            ("t_uncertainty", "<f8", (), "s"),
            ("offset_ms", "<f8", (len(SOURCES),), "ms"),
            ("pulse_index", "<f8", (), "samples"),
            ("first_index", "<i8", (), "samples"),
            ("rate_hz", "<f8", (), "Hz"),
            ("n_samples", "<i4", (), "samples"),
            ("sweep_uv", "<f4", (m, s), "uV"),
            ("status", "<u2", (m,), "1"),
            ("mep_uv", "<f4", (m,), "uV"),
            ("onset_ms", "<f4", (m,), "ms"),
            ("peak_ms", "<f4", (m, 2), "ms"),
            ("baseline_rms_uv", "<f4", (m,), "uV"),
            ("control_uv", "<f4", (m,), "uV"),
            ("pose_t", "<f8", (), "s"),
            ("pose_tracked", "u1", (), "1"),
            ("pose", "<f8", (4, 4), "mm"),
            ("intensity_t", "<f8", (), "s"),
            ("intensity_percent_mso", "<f8", (), "%"),
            ("model_sha256", "S64", (), ""),
            ("gain", "<f4", (m,), "1"),
            ("mep_normalised", "<f4", (m,), "1"),
            ("n_voxels", "<i4", (), "1"),
            ("field", "<f4", (v,), "1"),
            ("spread", "<f4", (v,), "1"),
            ("scale_v_per_m", "<f8", (), "V/m"),
            ("cog_mm", "<f8", (3,), "mm"),
            ("cog_cov_mm2", "<f8", (3, 3), "mm^2"),
            ("map_sha256", "S64", (), ""),
            ("confidence", "S16", (), ""),
            ("confidence_reasons", TEXT, (), ""),
            ("computed_field_v_per_m", "<f4", (v,), "V/m"),
            ("computed_residual", "<f8", (), "1"),
            ("computed_reason", TEXT, (), ""),
            ("stages_us", "<f4", (len(STAGES),), "us"),
            ("sha256", "u1", (32,), "1"),
        ]

    @property
    def dtype(self) -> np.dtype[np.void]:
        """Type of a row: the fields one after the other, without padding."""
        return np.dtype([(name, kind, shape) for name, kind, shape, _ in self.fields])

    def digest(self, row: Row) -> bytes:
        """Return the SHA-256 of a row, in which whatever the row's meaning hangs on takes part too.

        Parameters
        ----------
        row
            (1,) of `dtype`; its last field, the digest, is left out.

        Returns
        -------
        bytes
            32.
        """
        head = [TRIALS_FORMAT, TRIALS_VERSION, self.session, list(self.muscles), self.n_samples, self.n_voxels]
        found = hashlib.sha256(json.dumps(head).encode())
        found.update(row.view(np.uint8)[:-32].tobytes())
        return found.digest()


def sweep_capacity(sweep_ms: Sequence[float], nominal_rate_hz: float) -> int:
    """Return how many samples the longest sweep can have.

    Parameters
    ----------
    sweep_ms
        Begin and end relative to the pulse.
    nominal_rate_hz
        Of the EMG stream.
    """
    return math.ceil((sweep_ms[1] - sweep_ms[0]) / 1000.0 * nominal_rate_hz * (1.0 + RATE_MARGIN)) + 4


def fill_row(row: Row, result: PulseResult, layout: TrialsLayout, number: int, model_sha256: str = "") -> None:
    """Write one result into a row.

    Parameters
    ----------
    row
        (1,) of the layout's type; all of it is overwritten.
    result
        Of the engine, valid or not.
    layout
        Of the file.
    number
        Of the row in the file, from 0.
    model_sha256
        Of the model that was asked; empty takes the one that the result names.
    """
    trial, meps, estimate = result.trial, result.meps, result.map
    into = row[0]
    for name, kind, _, _ in layout.fields:
        into[name] = np.nan if np.dtype(kind).kind == "f" else b"" if np.dtype(kind).kind == "S" else 0
    into["row"], into["pulse"], into["valid"] = number, trial.pulse_id, trial.valid
    into["reasons"], into["trigger_source"] = joined(trial.reasons), trial.trigger_source.encode()
    into["doubts"] = joined(trial.doubts)
    into["t_raw"], into["t"], into["t_uncertainty"] = trial.t_raw, trial.t, trial.t_uncertainty
    into["pulse_index"], into["first_index"], into["rate_hz"] = trial.pulse_index, trial.first_index, trial.rate_hz
    into["offset_ms"] = [trial.offsets_ms.get(source, math.nan) for source in SOURCES]
    n = trial.sweep_uv.shape[1]
    kept = min(n, layout.n_samples)
    into["n_samples"] = n
    into["sweep_uv"][:, :kept] = trial.sweep_uv[:, :kept]
    if trial.pose is not None:
        into["pose_t"], into["pose_tracked"] = trial.pose.t, trial.pose.tracked
        if trial.pose.tracked:
            into["pose"] = trial.pose.matrix
    if trial.intensity is not None:
        into["intensity_t"], into["intensity_percent_mso"] = trial.intensity.t, trial.intensity.percent_mso
    if meps is not None:
        into["status"], into["mep_uv"] = meps.status, meps.amplitude_uv
        into["onset_ms"], into["peak_ms"] = meps.onset_ms, meps.peak_ms
        into["baseline_rms_uv"], into["control_uv"] = meps.baseline_rms_uv, meps.control_uv
    into["model_sha256"] = (model_sha256 or result.model_sha256).encode()
    into["gain"] = result.gains or 1.0
    into["confidence"] = estimate.confidence.encode() if estimate else b"low"
    into["confidence_reasons"] = joined(estimate.confidence_reasons if estimate else trial.reasons)
    if estimate is not None:
        into["mep_normalised"], into["scale_v_per_m"] = estimate.mep_normalised, estimate.scale_v_per_m
        into["cog_mm"], into["cog_cov_mm2"] = estimate.cog_mm, estimate.cog_cov_mm2
        into["n_voxels"] = estimate.field.size
        if estimate.field.size == layout.n_voxels:  # else of a model with other voxels: its digest has to do
            into["field"], into["spread"] = estimate.field, estimate.spread
        into["map_sha256"] = map_sha256(estimate.field).encode()
    if result.computed is not None:
        into["computed_reason"] = joined((result.computed.reason,))
        if result.computed.residual is not None:
            into["computed_residual"] = result.computed.residual
        field = result.computed.field_v_per_m
        if field is not None and field.size == layout.n_voxels:
            into["computed_field_v_per_m"] = field
    into["stages_us"] = [result.stages_us.get(stage, math.nan) for stage in STAGES]
    into["sha256"] = np.frombuffer(layout.digest(row), dtype=np.uint8)


def map_sha256(field: NDArray[np.float32]) -> str:
    """Return the SHA-256 of a map, hex.

    Parameters
    ----------
    field
        (V,) float32.
    """
    return hashlib.sha256(np.ascontiguousarray(field, dtype="<f4").tobytes()).hexdigest()


def joined(words: Sequence[str]) -> bytes:
    """Return words as a row holds them: joined by ``|``, cut off at the field's size."""
    text, size = "|".join(words).encode(), np.dtype(TEXT).itemsize
    return text if len(text) <= size else text[: size - 3] + b"..."

"""Recognises a file of the project, or an XDF file, by its content and says what it holds. Changes nothing.

`m2m inspect` prints what is returned here.
"""

import logging
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rt_engine.edges.foreign_files import read_foreign_stimulation_set, read_foreign_subject, try_foreign_hdf5
from rt_engine.edges.session_store import TRIALS_FILE
from rt_engine.edges.xdf_source import XdfStream, read_streams
from rt_engine.errors import FileFormatError
from rt_engine.field.stimulation_file import STIMULATION_KIND
from rt_engine.field.subject_file import Subject, file_sha256
from rt_engine.mep import MepStatus
from rt_engine.model_file import read_model_info
from rt_engine.record_events import RECORD_TYPE, Result, Start, Stop, parse_event
from rt_engine.settings import load_settings
from rt_engine.trials_file import is_trials_file, read_trials
from tools.session_folder import read_log

CLOCK_RESET_S = 1.0
"""A clock offset that jumps by more than this between two measurements is a new clock, not drift."""

HDF5_SEARCH_BYTES = 64 * 1024
"""The root group's attributes, and so the kind of a file of ours, stand at its begin."""


@dataclass(frozen=True)
class Inspection:
    """What a file holds.

    Attributes
    ----------
    kind
        ``subject``, ``stimulations``, ``trained network``, ``training checkpoint``, ``model``, ``recording``,
        ``trials``, ``session folder`` or ``settings``.
    path
        The file or folder.
    facts
        Name -> value, in the order to be read; units in the names.
    tables
        Name -> rows with equal keys: streams of a recording, muscles of a data set or model.
    """

    kind: str
    path: Path
    facts: dict[str, Any]
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return all of it as one object; the tables under their names."""
        return {"kind": self.kind, "path": str(self.path), **self.facts, **self.tables}


def inspect_path(path: Path) -> Inspection:
    """Recognise a file or folder and read it wholly, which checks it too.

    Parameters
    ----------
    path
        A subject, stimulation, model, XDF or settings file, or the folder of a session.

    Raises
    ------
    M2MError
        If it is none of these, is damaged, or was written by a newer version.
    """
    if path.is_dir():
        return _session_folder(path)
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise FileFormatError(f"{path} cannot be read: {error.strerror}. Check the path.") from error
    return _reader(path, head)(path)


def _reader(path: Path, head: bytes) -> Callable[[Path], Inspection]:
    if head.startswith(b"m2m-hdf5"):
        return _hdf5_reader(path)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        if is_trials_file(path):
            from tools.inspection_session import inspect_trials  # which needs this module

            return inspect_trials
        raise FileFormatError(
            f"{path} is an HDF5 file of another program; expected a subject, stimulation or trials file of m2m."
        )
    if head.startswith(b"XDF:"):
        return _recording
    # An ONNX file has no magic number: it begins with field 1 (ir_version, a small varint) of a protobuf message.
    if head[:1] == b"\x08" or path.suffix == ".onnx":
        return _model
    if path.suffix == ".toml" or _is_toml(path):
        return _settings
    raise FileFormatError(
        f"{path} begins with {head[:8]!r} and is nothing that m2m knows. Known are subject and stimulation files "
        "(HDF5), models (ONNX), recordings (XDF), settings (TOML) and session folders; a damaged one may be "
        "unrecognisable."
    )


def _is_toml(path: Path) -> bool:
    try:
        return bool(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return False


def _hdf5_reader(path: Path) -> Callable[[Path], Inspection]:
    # The kind is looked for in the bytes, for HDF5 must not open a file before its reader has checked the digest.
    with path.open("rb") as file:
        begin = file.read(HDF5_SEARCH_BYTES)
    if b"m2m-network" in begin or b"m2m-training-checkpoint" in begin:
        # Not before: it needs the extra `train`, as whoever trains has it.
        from tools.inspection_training import inspect_checkpoint, inspect_network

        try_foreign_hdf5(path)
        return inspect_network if b"m2m-network" in begin else inspect_checkpoint
    return _stimulations if STIMULATION_KIND.encode() in begin else _subject


def _subject(path: Path) -> Inspection:
    subject = read_foreign_subject(path)
    low, high = subject.voxel_mm.min(axis=0), subject.voxel_mm.max(axis=0)
    return Inspection(
        "subject",
        path,
        {
            "name": subject.name,
            "space": subject.space,
            "hemisphere": subject.hemisphere,
            "box_shape": list(subject.box_shape),
            "n_voxels": subject.n_voxels,
            "voxels_from_mm": _rounded(low),
            "voxels_to_mm": _rounded(high),
            "n_vertices": len(subject.vertices),
            "n_triangles": len(subject.triangles),
            "n_scalp_vertices": None if subject.scalp is None else len(subject.scalp.vertices),
            **_basis(subject),
            "sphere_center_mm": _rounded(subject.sphere_center_mm),
            "scalp_radius_mm": round(subject.scalp_radius_mm, 2),
            "sha256": file_sha256(path),
            "notices": subject.notices.strip(),
        },
    )


def _basis(subject: Subject) -> dict[str, Any]:
    basis = subject.basis
    if basis is None:
        return {"basis": None}
    return {
        "basis": basis.method,
        "basis_coil": basis.coil.name,
        "basis_rank": basis.rank,
        "basis_components": basis.n_components,
        "basis_residual_limit": _number(basis.residual_limit, 5),
        "basis_coil_from_mm": _rounded(basis.covered_mm.min(axis=0)),
        "basis_coil_to_mm": _rounded(basis.covered_mm.max(axis=0)),
        "basis_covered_radius_mm": basis.covered_radius_mm,
    }


def _stimulations(path: Path) -> Inspection:
    data = read_foreign_stimulation_set(path)
    no_mep = (data.status & np.uint16(MepStatus.NO_MEP)) != 0
    rows = [
        {
            "muscle": muscle,
            "median_uv": _number(np.nanmedian(data.mep_uv[:, m]), 1),
            "max_uv": _number(np.nanmax(data.mep_uv[:, m]), 1),
            "no_mep_percent": round(100.0 * float(no_mep[:, m].mean()), 1),
            "not_measured": int(np.isnan(data.mep_uv[:, m]).sum()),
        }
        for m, muscle in enumerate(data.muscles)
    ]
    return Inspection(
        "stimulations",
        path,
        {
            "source": data.source,
            "n_pulses": data.n_pulses,
            "n_muscles": data.n_muscles,
            "n_voxels": data.n_voxels,
            "intensities_percent_rmt": _distinct(data.intensity_percent_rmt),
            "n_tracked": int(np.isfinite(data.pose).all(axis=(1, 2)).sum()),
            "max_field_v_per_m": _number(data.field_v_per_m.max(), 1),
            "simulated": data.truth is not None,
            "subject_sha256": data.subject_sha256,
            "sha256": file_sha256(path),
        },
        {"muscles": rows},
    )


def _model(path: Path) -> Inspection:
    info = read_model_info(path)
    rows = [
        {"muscle": muscle, "scale_uv": round(float(scale), 1)}
        for muscle, scale in zip(info.muscles, info.scale_uv, strict=True)
    ]
    return Inspection(
        "model",
        path,
        {
            "name": info.name,
            "model_kind": info.kind,
            "format_version": info.format_version,
            "created": info.created,
            "n_voxels": info.n_voxels,
            "box_shape": list(info.box_shape),
            "field_scale_v_per_m": round(info.field_scale_v_per_m, 2),
            "floor_uv": info.floor_uv,
            "n_stimulations": info.n_stimulations,
            "validation": info.validation,
            "data_sha256": info.data_sha256,
            "subject_sha256": info.subject_sha256,
            "sha256": info.sha256,
        },
        {"muscles": rows, "scores": _scores(info.validation)},
    )


def _scores(validation: dict[str, Any]) -> list[dict[str, Any]]:
    """Pick from a model's validation what tells how good it is: means over held-out stimulations, by kind of fold."""
    keys = {"nrmse": "nrmse_mean", "r2": "r2_mean", "cog_error_mm": "cog_error_mm_mean", "skill": "skill"}
    return [
        {"folds": folds, "model": name} | {shown: scores[key] for shown, key in keys.items()}
        for folds, models in validation.items()
        if isinstance(models, dict)
        for name, scores in models.items()
        if isinstance(scores, dict) and set(keys.values()) <= set(scores)
    ]


def _recording(path: Path) -> Inspection:
    with _heard("pyxdf") as complaints, _heard("rt_engine.edges.xdf_chunks") as cut_off:
        streams = read_streams(path)
    complaints += cut_off
    if not streams:
        why = "; ".join(complaints) or "it is empty"
        raise FileFormatError(f"{path} is an XDF file without a single stream that can be read ({why}).")
    rows = [_stream_row(stream) for stream in streams]
    return Inspection(
        "recording",
        path,
        {
            "bytes": path.stat().st_size,
            "n_streams": len(streams),
            "n_samples": sum(row["samples"] for row in rows),
            "clock_resets": max((row["clock_resets"] for row in rows), default=0),
            "complaints": complaints,
            "engine_sessions": [_engine_session(stream) for stream in streams if stream.type == RECORD_TYPE],
        },
        {"streams": rows},
    )


@contextmanager
def _heard(logger_name: str) -> Iterator[list[str]]:
    """Collect the warnings and errors of a logger instead of letting them by: pyxdf tells of damage that way."""
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger, collector = logging.getLogger(logger_name), Collector(logging.WARNING)
    logger.addHandler(collector)
    propagates, logger.propagate = logger.propagate, False
    try:
        yield messages
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagates


def _engine_session(record: XdfStream) -> dict[str, Any]:
    """Sum up what an engine wrote into the recording of its session."""
    events = [parse_event(row[0]) for row in record.values]
    start = next((event for event in events if isinstance(event, Start)), None)
    stop = next((event for event in events if isinstance(event, Stop)), None)
    results = [event for event in events if isinstance(event, Result)]
    return {
        "session": start.session if start else "",
        "model_sha256": start.model_sha256 if start else "",
        "pulses_served": sum(result.valid for result in results),
        "pulses_invalid": sum(not result.valid for result in results),
        "closed": stop is not None,
        "sha256_meps": stop.sha256_meps if stop else "",
        "sha256_maps": stop.sha256_maps if stop else "",
    }


def _stream_row(stream: XdfStream) -> dict[str, Any]:
    effective = effective_rate_hz(stream.stamps) if stream.rate_hz > 0.0 else None
    return {
        "name": stream.name,
        "type": stream.type,
        "source_id": stream.source_id,
        "host": stream.hostname,
        "format": stream.channel_format,
        "channels": len(stream.labels),
        "labels": stream.labels,
        "units": stream.units,
        "nominal_rate_hz": stream.rate_hz,
        "effective_rate_hz": _number(effective, 3),
        "samples": int(stream.stamps.size),
        "duration_s": _number(duration_s(stream.stamps), 3),
        "clock_resets": clock_resets(stream.clock_offsets),
    }


def clock_resets(offsets: NDArray[np.float64]) -> int:
    """Count how often a stream's clock began anew during a recording.

    Parameters
    ----------
    offsets
        (n,) the clock offsets that LabRecorder measured, s, in their order in the file.
    """
    return int((np.abs(np.diff(offsets)) > CLOCK_RESET_S).sum())


def duration_s(stamps: NDArray[np.float64]) -> float | None:
    """Return the time from the first sample to the last, s; jumps of the clock backwards count as nothing.

    Parameters
    ----------
    stamps
        (n,) raw stamps, s.

    Returns
    -------
    float or None
        None for a stream without samples.
    """
    if stamps.size == 0:
        return None
    steps = np.diff(stamps)
    return float(steps[steps > 0.0].sum())


def effective_rate_hz(stamps: NDArray[np.float64]) -> float | None:
    """Return the rate at which samples came, Hz, pauses and jumps of the clock left out.

    Parameters
    ----------
    stamps
        (n,) raw stamps of a regular stream, s.

    Returns
    -------
    float or None
        None where there are fewer than two samples.
    """
    steps = np.diff(stamps)
    steps = steps[steps >= 0.0]
    if steps.size == 0 or steps.sum() == 0.0:
        return None
    # Stamps of one chunk may coincide, so that the typical step is the mean and not the median.
    steps = steps[steps <= 20.0 * steps.mean()]
    return float(1.0 / steps.mean())


def _session_folder(path: Path) -> Inspection:
    recordings = sorted(path.glob("*.xdf"))
    if not recordings and not (path / "session.toml").is_file():
        raise FileFormatError(
            f"{path} is a folder without session.toml and without an XDF file; expected the folder of a session."
        )
    facts: dict[str, Any] = {}
    if (path / "session.toml").is_file():
        facts["session"] = _toml(path / "session.toml")
    if (path / "log.jsonl").is_file():
        log = read_log(path)
        if log.broken:
            raise FileFormatError(f"{path / 'log.jsonl'}, line {log.broken[0]}, is no event in JSON")
        facts["n_log_entries"] = len(log.entries)
    if (path / TRIALS_FILE).is_file():
        trials = read_trials(path / TRIALS_FILE)
        facts["n_trials"], facts["trials_closed"] = len(trials.rows), trials.closed
    rows: list[dict[str, Any]] = []
    for recording in recordings:
        rows += [row | {"file": recording.name} for row in _recording(recording).tables["streams"]]
    facts["files"] = {file.name: file.stat().st_size for file in sorted(path.iterdir()) if file.is_file()}
    return Inspection("session folder", path, facts, {"streams": rows})


def _settings(path: Path) -> Inspection:
    settings = load_settings(path)
    streams, trigger = settings.streams, settings.trigger
    return Inspection(
        "settings",
        path,
        {
            "version": settings.version,
            "emg": str(streams.emg),
            "pulses_from": f"{trigger.source} ({trigger.ttl_label if trigger.source == 'ttl' else streams.markers})",
            "pose": str(streams.pose),
            "intensity": str(streams.intensity),
            "window_ms": list(settings.mep.window_ms),
            "floor_uv": settings.mep.floor_uv,
            "model": settings.model.path,
            "model_exists": Path(settings.model.path).is_file() if settings.model.path else None,
            "subject": settings.model.subject,
            "publish": settings.publish.address,
            "record_folder": settings.record.folder,
        },
    )


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is damaged: {error}") from error


def _distinct(values: NDArray[np.float32]) -> list[float] | None:
    """Return the distinct values where there are few, else their range."""
    finite = np.unique(np.round(values[np.isfinite(values)].astype(np.float64), 1))
    if finite.size == 0:
        return None
    return [float(v) for v in (finite if finite.size <= 8 else finite[[0, -1]])]


def _rounded(values: NDArray[Any]) -> list[float]:
    return [round(float(v), 2) for v in values]


def _number(value: Any, digits: int) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), digits)

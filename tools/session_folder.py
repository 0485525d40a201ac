"""Reads a session's folder: `session.toml`, `log.jsonl`, and a list of what is in `trials.h5`. Changes nothing."""

import json
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rt_engine.edges.session_store import (
    LOG_FILE,
    RECORDING_FILE,
    SESSION_FILE,
    SESSION_FORMAT,
    SESSION_VERSION,
    TRIALS_FILE,
)
from rt_engine.errors import FileFormatError, RecordingError
from rt_engine.settings import Settings, parse_settings
from rt_engine.trials_file import read_trials


@dataclass(frozen=True)
class SessionLog:
    """What `log.jsonl` holds.

    Attributes
    ----------
    entries
        One per whole line.
    broken
        Numbers of lines that are no JSON object, from 1; the last one only if it ends with a line feed.
    cut_off
        Whether the last line is not whole, as a crash of the computer can leave it.
    """

    entries: list[dict[str, Any]] = field(default_factory=list)
    broken: list[int] = field(default_factory=list)
    cut_off: bool = False

    @property
    def last_state(self) -> str:
        """State that the session entered last; empty if none is told."""
        return next((str(e.get("state", "")) for e in reversed(self.entries) if e["event"] == "state"), "")

    @property
    def last_reason(self) -> str:
        """Why it entered it."""
        return next((str(e.get("reason", "")) for e in reversed(self.entries) if e["event"] == "state"), "")

    @property
    def last_s(self) -> float:
        """LSL time of the last entry, s; minus infinity if there is none."""
        times = [e["lsl_s"] for e in self.entries if isinstance(e.get("lsl_s"), int | float)]
        return float(max(times, default=float("-inf")))


def read_session_table(folder: Path) -> dict[str, Any]:
    """Read `session.toml`.

    Raises
    ------
    FileFormatError
        If there is none, it is damaged, or of a newer version.
    """
    path = folder / SESSION_FILE
    if not path.is_file():
        raise FileFormatError(f"{folder} holds no {SESSION_FILE}; expected the folder of a session")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is damaged: {error}") from error
    if table.get("format") != SESSION_FORMAT:
        raise FileFormatError(f"{path} says format = {table.get('format')!r}; expected {SESSION_FORMAT!r}")
    version = table.get("version")
    if not isinstance(version, int) or version > SESSION_VERSION:
        raise FileFormatError(
            f"{path} has version {version}; this software reads up to {SESSION_VERSION}. If it is newer, update m2m"
        )
    return table


def frozen_settings(folder: Path) -> Settings | None:
    """Return the settings with which a session ran; None if the folder is none of a session.

    Raises
    ------
    FileFormatError, SettingsError
        If session.toml is damaged, newer, or holds settings that cannot be.
    """
    if not (folder / SESSION_FILE).is_file():
        return None
    settings = read_session_table(folder).get("settings")
    if not isinstance(settings, dict):
        raise FileFormatError(f"{folder / SESSION_FILE} is damaged: it has no table [settings]")
    return parse_settings(settings)


def read_log(folder: Path) -> SessionLog:
    """Read `log.jsonl`; a line that cannot be read does not hide the others.

    Raises
    ------
    FileFormatError
        If there is none.
    """
    path = folder / LOG_FILE
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise FileFormatError(f"cannot read {path}: {error.strerror}") from error
    *lines, rest = raw.split(b"\n")
    log = SessionLog(cut_off=bool(rest))
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            if not isinstance(entry.get("event"), str):
                raise ValueError
            log.entries.append(entry)
        except (ValueError, AttributeError, RecursionError):  # JSON's and UTF-8's errors are ValueErrors
            log.broken.append(number)
    return log


def recording_in(path: Path) -> Path:
    """Return the XDF file that is meant by a path: the file itself, or that of a session's folder.

    Raises
    ------
    RecordingError
        If the folder holds none.
    """
    if not path.is_dir():
        return path
    if not (path / RECORDING_FILE).is_file():
        raise RecordingError(f"{path} is a folder without {RECORDING_FILE}; expected an XDF file or a session's folder")
    return path / RECORDING_FILE


def marked_pulses(log: SessionLog) -> set[int]:
    """Return the pulses that are marked in the end, by the commands in the log."""
    marked: set[int] = set()
    for entry in log.entries:
        if entry["event"] == "command" and entry.get("ok") and entry.get("command") in ("mark", "unmark"):
            pulse = (entry.get("detail") or {}).get("pulse")
            if isinstance(pulse, int):
                (marked.add if entry["command"] == "mark" else marked.discard)(pulse)
    return marked


def list_trials(folder: Path) -> tuple[str, list[dict[str, Any]]]:
    """List the trials of a session.

    Parameters
    ----------
    folder
        Of the session.

    Returns
    -------
    session
        Its identity.
    rows
        One per trial, in the order in which they were served: ``pulse``; ``s`` since the first valid one; ``valid``,
        ``reasons``; ``largest_uv`` with its ``muscle``; ``cog_mm``; ``intensity_percent_mso``; ``pose_tracked``;
        ``confidence`` with ``confidence_reasons``; ``marked``. None where nothing was measured.

    Raises
    ------
    FileFormatError
        If the trials cannot be read, or are damaged.
    """
    trials = read_trials(folder / TRIALS_FILE)
    marked = marked_pulses(read_log(folder)) if (folder / LOG_FILE).is_file() else set()
    valid = trials.rows[trials.rows["valid"] == 1]
    begin = float(valid["t"][0]) if len(valid) else None
    listed = [_listed(row, trials.layout.muscles, begin, marked) for row in trials.rows]
    return trials.layout.session, listed


def _listed(row: Any, muscles: tuple[str, ...], begin: float | None, marked: set[int]) -> dict[str, Any]:
    amplitudes = row["mep_uv"]
    measured = bool(np.isfinite(amplitudes).any())
    largest = int(np.nanargmax(amplitudes)) if measured else 0
    return {
        "pulse": int(row["pulse"]),
        "s": _number(float(row["t"]) - begin) if begin is not None else None,
        "valid": bool(row["valid"]),
        "reasons": _words(row["reasons"]),
        "largest_uv": float(amplitudes[largest]) if measured else None,
        "muscle": muscles[largest] if measured else "",
        "cog_mm": row["cog_mm"].tolist() if np.isfinite(row["cog_mm"]).all() else None,
        "intensity_percent_mso": _number(float(row["intensity_percent_mso"])),
        "pose_tracked": bool(row["pose_tracked"]),
        "confidence": row["confidence"].decode(),
        "confidence_reasons": _words(row["confidence_reasons"]),
        "marked": int(row["pulse"]) in marked,
    }


def _words(joined: bytes) -> list[str]:
    return [word for word in joined.decode().split("|") if word]


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None

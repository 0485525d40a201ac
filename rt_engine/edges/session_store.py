"""One session's folder: `session.toml`, `trials.h5` and `log.jsonl`; LabRecorder's `recording.xdf` lies beside them.

What a killed process leaves can be read. `session.toml` is written whole or not at all. Each line of `log.jsonl` is one
write. `trials.h5` is in HDF5's single-writer-multiple-reader mode: its metadata carry checksums and are written in an
order in which the file is whole at any moment; a trial is one chunk of its own, written and flushed before `add`
returns, with a digest in it. So at most the trial in flight is lost. What was flushed is with the operating system: a
power failure is another matter, see docs/session-folder.md.
"""

import os
import platform
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import msgspec
import numpy as np
import tomli_w

from rt_engine.atomic_file import written_whole
from rt_engine.edges.clock_offset import now_s
from rt_engine.engine import PulseResult
from rt_engine.errors import DataError, RecordingError
from rt_engine.messages import SessionHeader
from rt_engine.settings import Settings
from rt_engine.trials_layout import (
    DATASET,
    SOURCES,
    STAGES,
    TRIALS_FORMAT,
    TRIALS_VERSION,
    TrialsLayout,
    fill_row,
    sweep_capacity,
)

SESSION_FILE, TRIALS_FILE, LOG_FILE, RECORDING_FILE = "session.toml", "trials.h5", "log.jsonl", "recording.xdf"

SESSION_FORMAT = "m2m-session"
SESSION_VERSION = 1
"""Of the layout of session.toml, and of the folder."""

KEEP_FREE_MB = 4.0
"""With less free disk space no trial is added: what is open, LabRecorder's file too, must still be closed."""


class SessionStore:
    """What is kept of one session, as it happens.

    Parameters
    ----------
    folder
        Of the session; it is made, and must not hold another one.
    min_free_mb
        With less free disk space the session is refused.

    Raises
    ------
    RecordingError
        If the folder holds a session, cannot be made or written to, or the disk is too full.
    """

    def __init__(self, folder: Path, *, min_free_mb: float = 0.0) -> None:
        self.folder = folder
        self.n_trials = 0
        self._layout: TrialsLayout | None = None
        self._file: Any = None
        self._broken = ""
        taken = [name for name in (SESSION_FILE, TRIALS_FILE, LOG_FILE) if (folder / name).exists()]
        if taken:
            raise RecordingError(
                f"{folder} holds a session already ({', '.join(taken)}); sessions are never overwritten: give another "
                "folder"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            free_mb = shutil.disk_usage(folder).free / 1e6
            if free_mb < max(min_free_mb, KEEP_FREE_MB):
                raise RecordingError(
                    f"{free_mb:.0f} MB are free in {folder}; expected at least {max(min_free_mb, KEEP_FREE_MB):.0f} MB "
                    "(record.min_free_mb). Make room or record elsewhere"
                )
            as_it_is = getattr(os, "O_BINARY", 0)  # Windows would make two characters of a line's end
            self._log = os.open(folder / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | as_it_is, 0o644)
        except OSError as error:
            raise RecordingError(f"cannot keep a session in {folder}: {error.strerror}") from error
        _lock(self._log)

    def begin(self, session: SessionHeader, settings: Settings, n_voxels: int) -> None:
        """Write session.toml and make trials.h5.

        Parameters
        ----------
        session
            As it was announced: muscles, streams, model, versions.
        settings
            Of the session.
        n_voxels
            Of the model's map.

        Raises
        ------
        RecordingError
            If a file cannot be written.
        """
        try:
            with written_whole(self.folder / SESSION_FILE) as temporary:
                temporary.write_text(tomli_w.dumps(_session_table(session, settings)), encoding="utf-8")
        except (DataError, OSError) as error:
            raise RecordingError(f"cannot keep the session in {self.folder}: {error}") from error
        self._layout = TrialsLayout(
            session.session,
            tuple(session.muscles),
            sweep_capacity(session.sweep_ms, session.nominal_rate_hz),
            n_voxels,
        )
        try:
            self._create(self._layout)
        except (DataError, OSError, RuntimeError, ValueError) as error:
            raise RecordingError(f"cannot make {self.folder / TRIALS_FILE}: {_words(error)}") from error

    def add(self, result: PulseResult, *, model_sha256: str = "") -> None:
        """Append one trial, valid or not; when this returns, a kill of the process cannot lose it.

        Parameters
        ----------
        result
            Of the engine.
        model_sha256
            Of the model that was asked; empty takes the one that the result names.

        Raises
        ------
        RecordingError
            If it cannot be written, as when the disk is full. All trials before stay readable.
        """
        if self._layout is None or self._file is None:
            raise RecordingError("the session's store has not begun, or is closed")
        path = self.folder / TRIALS_FILE
        if self._broken:
            raise RecordingError(self._broken)
        try:
            free_mb = shutil.disk_usage(self.folder).free / 1e6
            if free_mb < KEEP_FREE_MB:  # before HDF5 notices, so that the file can be closed
                raise OSError(f"{free_mb:.1f} MB are free")
            fill_row(self._row, result, self._layout, self.n_trials, model_sha256)
            self._append()
        except (OSError, RuntimeError, ValueError) as error:
            self._broken = (
                f"trial {self.n_trials} (pulse {result.trial.pulse_id}) cannot be written to {path}: {_words(error)}. "
                f"Is the disk full? The {self.n_trials} trials before it can be read"
            )
            raise RecordingError(self._broken) from error
        self.n_trials += 1

    def log(self, event: str, **fields: Any) -> None:
        """Write one line to log.jsonl: the time in UTC, on the LSL clock in s, the event and its fields.

        Parameters
        ----------
        event
            What happened, e.g. ``state``.
        fields
            Numbers, texts, lists, mappings; a number that is not finite becomes null.

        Raises
        ------
        RecordingError
            If it cannot be written.
        """
        line = {"utc": datetime.now(UTC).isoformat(timespec="microseconds"), "lsl_s": now_s(), "event": event, **fields}
        raw = msgspec.json.encode(line, enc_hook=str) + b"\n"
        try:
            written = os.write(self._log, raw)
        except OSError as error:
            raise RecordingError(f"cannot write to {self.folder / LOG_FILE}: {error.strerror}") from error
        if written < len(raw):
            raise RecordingError(f"cannot write to {self.folder / LOG_FILE}: the disk is full")

    def close(self) -> None:
        """Close the files; again does nothing.

        Raises
        ------
        RecordingError
            If trials.h5 cannot be closed; what was added can be read all the same.
        """
        file, self._file = self._file, None
        try:
            if file is not None:
                file.close()
        except (OSError, RuntimeError, ValueError) as error:
            raise RecordingError(f"cannot close {self.folder / TRIALS_FILE}: {_words(error)}") from error
        finally:
            log, self._log = self._log, -1
            if log >= 0:
                os.close(log)

    def _create(self, layout: TrialsLayout) -> None:
        """Make an empty file, whole or not at all, whose structure does not change any more; open it for trials."""
        path, dtype = self.folder / TRIALS_FILE, layout.dtype
        with written_whole(path) as temporary, h5py.File(temporary, "w", libver="latest") as file:
            dataset = file.create_dataset(DATASET, (0,), maxshape=(None,), dtype=dtype, chunks=(1,))
            file.attrs["format"] = np.bytes_(TRIALS_FORMAT)
            file.attrs["version"] = np.int64(TRIALS_VERSION)
            file.attrs["session"] = np.bytes_(layout.session)
            file.attrs["muscles"] = _names(layout.muscles)
            dataset.attrs["units"] = _names(f"{name}: {unit}" for name, _, _, unit in layout.fields)
            dataset.attrs["offset_sources"] = _names(SOURCES)
            dataset.attrs["stages"] = _names(STAGES)
        # No chunk cache: a trial goes to the file at once, and the memory stays what it is.
        self._file = h5py.File(path, "r+", libver="latest", rdcc_nbytes=0)
        self._file.swmr_mode = True
        self._row = np.zeros(1, dtype)
        self._dataset = self._file[DATASET].id
        self._row_type = h5py.h5t.py_create(dtype)
        self._row_space = h5py.h5s.create_simple((1,))

    def _append(self) -> None:
        # The chunk before the extent: HDF5 orders them so in the file too, and the digest tells if it does not.
        self._dataset.set_extent((self.n_trials + 1,))
        place = self._dataset.get_space()
        place.select_hyperslab((self.n_trials,), (1,))
        self._dataset.write(self._row_space, place, self._row, self._row_type)
        self._file.flush()


def session_runs(folder: Path) -> bool:
    """Whether an engine still writes to a session's folder: it holds a lock on the log, which ends with its process.

    Windows needs none, since it lets nobody replace a file that is open.
    """
    try:
        handle = os.open(folder / LOG_FILE, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _lock(handle)
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    """Lock a file; return False only if another process has done so."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # Windows, or a file system without locks
        return True
    return True


def _words(error: Exception) -> str:
    """Return what went wrong without HDF5's own words, which fill half a page."""
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)


def _names(names: Any) -> Any:
    return np.array([str(name).encode() for name in names])


def _session_table(session: SessionHeader, settings: Settings) -> dict[str, Any]:
    """Return what session.toml holds."""
    told = msgspec.to_builtins(session)
    kept = ("session", "started_at", "trigger_source", "nominal_rate_hz", "muscles", "sweep_ms")
    return {
        "format": SESSION_FORMAT,
        "version": SESSION_VERSION,
        **{key: told[key] for key in kept},
        "files": {"trials": TRIALS_FILE, "log": LOG_FILE, "recording": RECORDING_FILE},
        "computer": {"name": platform.node(), "system": platform.platform()},
        "versions": told["versions"],
        "model": told["model"],
        "streams": told["streams"],
        "settings": msgspec.to_builtins(settings),
    }

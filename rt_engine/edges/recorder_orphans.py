"""LabRecorders that an engine left behind when it died: found at the next start, named, and stopped.

Each LabRecorder that an engine starts has a note in a folder of the user's own, with the process numbers of both. A
note says nothing by itself, since numbers are used again: a process is taken for that LabRecorder only if its command
line says so and names the very file. LabRecorder ends by itself when its engine is gone; one that does is waited for.
"""

import contextlib
import json
import logging
import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

CLOSING_S = 6.0
"""LabRecorder takes up to 5 s to close its file."""

TERMINATE_S = 1.0
LOOK_S = 0.05


@dataclass(frozen=True)
class Orphan:
    """A LabRecorder whose engine has died.

    Attributes
    ----------
    pid
        Of LabRecorder.
    path
        The file that it records to.
    note
        Where that is written.
    """

    pid: int
    path: str
    note: Path


def remember(pid: int, path: Path) -> Path | None:
    """Note that this process has started a LabRecorder; returns the note, or None where none can be written."""
    note = _folder() / f"labrecorder-{pid}.json"
    content = {"pid": pid, "path": str(path), "engine": os.getpid(), "engine_command": _command(os.getpid())}
    try:
        note.parent.mkdir(mode=0o700, exist_ok=True)
        if not _ours(note.parent):
            log.warning("%s belongs to somebody else: a LabRecorder left behind could not be found", note.parent)
            return None
        note.write_text(json.dumps(content), encoding="utf-8")
    except OSError as error:
        log.warning("cannot note LabRecorder's process in %s: %s", note.parent, error.strerror)
        return None
    return note


def forget(note: Path | None) -> None:
    """Remove a note: that LabRecorder has ended."""
    if note is not None:
        with contextlib.suppress(OSError):
            note.unlink()


def orphans() -> list[Orphan]:
    """Return the LabRecorders whose engines are gone; notes of processes that have ended are removed."""
    found = []
    folder = _folder()
    if not folder.is_dir() or not _ours(folder):
        return []
    for note in sorted(folder.glob("labrecorder-*.json")):
        try:
            told = json.loads(note.read_text(encoding="utf-8"))
            pid, path, engine, command = told["pid"], told["path"], told["engine"], told["engine_command"]
        except (OSError, ValueError, KeyError, TypeError):
            forget(note)  # half-written: its engine died at that moment, before it recorded anything
            continue
        if not (isinstance(pid, int) and pid > 1 and isinstance(path, str) and _is_labrecorder(pid, path)):
            forget(note)
        elif not (isinstance(engine, int) and command and _command(engine) == command):
            found.append(Orphan(pid, path, note))
    return found


def stop(orphan: Orphan) -> bool:
    """Wait until a LabRecorder has closed its file; end it if it does not. Returns whether it ended by itself."""
    if _gone_within(orphan, CLOSING_S):
        forget(orphan.note)
        return True
    for number in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(orphan.pid, number)
        if _gone_within(orphan, TERMINATE_S):
            break
    forget(orphan.note)
    return False


def _gone_within(orphan: Orphan, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while _is_labrecorder(orphan.pid, orphan.path):
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_S)
    return True


def _is_labrecorder(pid: int, path: str) -> bool:
    command = _command(pid)
    return "LabRecorder" in command and path in command


def _folder() -> Path:
    owner = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    return Path(tempfile.gettempdir()) / f"m2m-live-{owner}"


def _ours(folder: Path) -> bool:
    """Whether nobody else can have written in it: names in a folder that all may write to can be taken by anyone."""
    if not hasattr(os, "getuid"):
        return True
    status = folder.lstat()
    return status.st_uid == os.getuid() and not folder.is_symlink() and not status.st_mode & 0o022


def _command(pid: int) -> str:
    """Return the command line of a process; empty if there is none, or the system does not say."""
    proc = Path("/proc")
    if (proc / "self").exists():
        try:
            return (proc / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            return ""
    if os.name != "posix":
        return ""
    said = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return said.stdout.strip()

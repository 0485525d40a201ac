"""Reads a file in a child process: parsers in native code can crash on damaged bytes, and the damage may be on purpose.

A crash, a hang or an exit of the child is an error with a message here, and nothing more.
"""

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from rt_engine.errors import FileFormatError, M2MError

TIMEOUT_S = 120.0
"""No file of ours takes a tenth of it; a parser that runs in circles ends here."""

REFUSED = 3
"""Exit code of a child that found why the file cannot be used."""


def read_in_child(reader: Callable[[Path], bytes], path: Path, timeout_s: float = TIMEOUT_S) -> bytes:
    """Call a reader in a process of its own.

    Parameters
    ----------
    reader
        A function of a module, which returns what it read as bytes; its errors of the kind `M2MError` come back as
        `FileFormatError` with the same words.
    path
        Handed to it.
    timeout_s
        How long it may take.

    Returns
    -------
    bytes
        What the reader returned.

    Raises
    ------
    FileFormatError
        If the reader refused the file, crashed, or did not end.
    """
    command = [sys.executable, "-c", "from rt_engine.guarded_read import child; child()"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        ended = subprocess.run(
            [*command, reader.__module__, reader.__name__, str(path)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise FileFormatError(f"{path} cannot be read: its reader did not end within {timeout_s:g} s") from error
    if ended.returncode == 0:
        return ended.stdout
    said = ended.stderr.decode(errors="replace").strip()
    if ended.returncode == REFUSED:
        raise FileFormatError(said)
    how = _signal_name(ended.returncode) or (said.splitlines() or ["no word"])[-1]
    raise FileFormatError(f"{path} is damaged: reading it ended its reader ({how})")


def child() -> None:
    """Do the child's part: call the function named on the command line, write what it gives to stdout."""
    module, name, path = sys.argv[1:]
    try:
        found: bytes = getattr(importlib.import_module(module), name)(Path(path))
    except M2MError as error:
        sys.stderr.write(str(error))
        sys.exit(REFUSED)
    sys.stdout.buffer.write(found)
    sys.stdout.buffer.flush()


def _signal_name(code: int) -> str:
    try:
        return signal.Signals(-code).name if code < 0 else ""
    except ValueError:
        return f"signal {-code}"

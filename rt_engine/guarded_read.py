"""Reads a file in a child process: parsers in native code can crash on damaged bytes, and the damage may be on purpose.

A crash, a hang, a flood of memory or an exit of the child is an error with a message here, and nothing more. It is no
prison: the child has the rights of whoever started it, but for the limits below.
"""

import contextlib
import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from rt_engine.errors import DataError, FileFormatError, M2MError, ModelError

TIMEOUT_S = 120.0
"""A parser that waits for something ends here; one that runs in circles, sooner."""

MEMORY_MB = 4096
"""What the child may take beside eight times the file's size, which compression may save."""

SLOWEST_MB_PER_S = 20.0
"""What a large file is granted, beside `TIMEOUT_S`."""

CPU_S = 30
"""Processor time that no file of ours takes a tenth of: a parser that runs in circles ends here, also where others keep
the machine busy."""

NICENESS = 5
"""Of the child: a session that is running goes first."""

REFUSED = 3
"""Exit code of a child that found why the file cannot be used."""

_PASSED_ON: dict[str, type[M2MError]] = {"DataError": DataError, "ModelError": ModelError}
"""Errors that stay what they were; all others are `FileFormatError`."""

_MARK = "m2m-refused:"
"""Begins what the child says of it; native code may have written to stderr before."""


def read_in_child(
    reader: Callable[[Path], object], path: Path, timeout_s: float = TIMEOUT_S, cpu_s: int = CPU_S
) -> bytes:
    """Call a reader in a process of its own.

    Parameters
    ----------
    reader
        A function of a module; its errors of the kind `M2MError` come back as what they are.
    path
        Handed to it.
    timeout_s, cpu_s
        How long it may take, and how much of the processor's time, beside what a large file is granted.

    Returns
    -------
    bytes
        What the reader returned; empty if that was anything but bytes.

    Raises
    ------
    FileFormatError
        If the reader crashed, took too much memory, or did not end.
    M2MError
        If the reader refused the file: as it said.
    """
    size_mb = path.stat().st_size / 1e6 if path.is_file() else 0.0
    timeout_s += size_mb / SLOWEST_MB_PER_S
    cpu_s += round(size_mb / SLOWEST_MB_PER_S)
    memory_mb = MEMORY_MB + round(8 * size_mb)
    # -P: no module is taken from the folder that happens to be the current one.
    command = [sys.executable, "-P", "-c", "from rt_engine.guarded_read import child; child()"]
    command += [str(memory_mb), str(cpu_s)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",  # each thread would reserve memory, and none is needed
    }
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
        kind, _, words = said.rpartition(_MARK)[2].partition(":")
        raise _PASSED_ON.get(kind, FileFormatError)(words)
    if _signal_name(ended.returncode) == "SIGXCPU":
        raise FileFormatError(f"{path} cannot be read: its reader did not end within {cpu_s} s of processor time")
    how = _signal_name(ended.returncode) or (said.splitlines() or ["no word"])[-1]
    raise FileFormatError(f"{path} is damaged: reading it ended its reader ({how})")


def child() -> None:
    """Do the child's part: call the function named on the command line, write what it gives to stdout."""
    memory_mb, cpu_s, module, name, path = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever waits for us, and ends us in turn
    result = os.dup(1)
    os.dup2(2, 1)  # what native code may write to stdout is no part of the result
    _limit(int(memory_mb) * 1_000_000, int(cpu_s))
    try:
        found: object = getattr(importlib.import_module(module), name)(Path(path))
    except MemoryError:
        _refuse(FileFormatError(f"{path} cannot be read: that takes more than {memory_mb} MB of memory"))
    except M2MError as error:
        _refuse(error)
    else:
        with open(result, "wb") as stdout:
            stdout.write(found if isinstance(found, bytes) else b"")


def _refuse(error: M2MError) -> NoReturn:
    sys.stderr.write(f"{_MARK}{type(error).__name__}:{error}")
    sys.exit(REFUSED)


def _limit(memory_bytes: int, cpu_s: int) -> None:
    """Take no more than this, write no file, leave no core, give way; where the system knows such limits."""
    with contextlib.suppress(AttributeError, OSError):
        # A model that is swapped in while pulses come would else be tried at the session's own raised priority.
        os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
    with contextlib.suppress(ImportError):
        import resource

        for limit, soft, hard in (
            (resource.RLIMIT_AS, memory_bytes, memory_bytes),
            (resource.RLIMIT_CPU, cpu_s, cpu_s + 5),  # with one limit, it would be another signal that does not say why
            (resource.RLIMIT_CORE, 0, 0),
            (resource.RLIMIT_FSIZE, 0, 0),
        ):
            with contextlib.suppress(ValueError, OSError):  # what is already lower stays
                resource.setrlimit(limit, (soft, hard))


def _signal_name(code: int) -> str:
    try:
        return signal.Signals(-code).name if code < 0 else ""
    except ValueError:
        return f"signal {-code}"

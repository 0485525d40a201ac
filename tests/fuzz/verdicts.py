"""What becomes of many spoilt files: read in child processes, in batches."""

import json
from collections.abc import Callable
from pathlib import Path

from rt_engine.errors import FileFormatError, M2MError
from rt_engine.field.stimulation_file import read_stimulation_set
from rt_engine.guarded_read import read_in_child
from rt_engine.model_file import open_model

FEW = 16
"""Files that are read in 3 s, or one of them does not end: HDF5 has been seen to run in circles."""


def verdicts(read_all: Callable[[Path], bytes], paths: list[Path], scratch: Path) -> dict[str, str]:
    """Read files in one child process; where that ends badly, in two, and so on until it is known which file does it.

    Parameters
    ----------
    read_all
        `open_models` or `read_stimulations`.
    paths
        The files.
    scratch
        A file that may be written, to tell the child which.

    Returns
    -------
    dict of str to str
        Name of the file -> ``opened``, or the error's type and words. ``refused in a child`` begins what is not an
        error of Python but the end of the child.
    """
    scratch.write_text("\n".join(map(str, paths)))
    try:
        return json.loads(read_in_child(read_all, scratch, cpu_s=10 if len(paths) > FEW else 3))
    except FileFormatError as error:
        if len(paths) == 1:
            return {paths[0].name: f"refused in a child: {error}"}
    half = len(paths) // 2
    return {**verdicts(read_all, paths[:half], scratch), **verdicts(read_all, paths[half:], scratch)}


def open_models(listed: Path) -> bytes:
    """Do the child's part for models."""
    return _each(listed, lambda path: open_model(path, provider="cpu"))


def read_stimulations(listed: Path) -> bytes:
    """Do the child's part for stimulation sets, which are HDF5."""
    return _each(listed, read_stimulation_set)


def _each(listed: Path, read: Callable[[Path], object]) -> bytes:
    paths = [Path(line) for line in listed.read_text().splitlines()]
    return json.dumps({path.name: _verdict(read, path) for path in paths}).encode()


def _verdict(read: Callable[[Path], object], path: Path) -> str:
    try:
        read(path)
    except M2MError as error:
        return f"M2MError: {error}"
    except MemoryError:
        raise
    except Exception as error:  # that is what the test looks for
        return f"{type(error).__name__}: {error}"
    return "opened"

"""Opens files that others may have made: a child process opens each one first, since their parsers are native code.

HDF5 and ONNX Runtime are C and C++, and can crash, hang or fill the memory on damaged or ill-meant bytes. A digest
finds damage and not intent: whoever makes a file can also give it a digest. If the child gets through, so will we.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from rt_engine.errors import ModelError
from rt_engine.field.stimulation_file import StimulationSet, read_stimulation_set
from rt_engine.field.subject_file import Subject, read_subject
from rt_engine.guarded_read import read_in_child
from rt_engine.model_file import Model, open_model, read_model_info
from rt_engine.onnx_session import Provider

SLAB_BYTES = 1 << 26
"""Of a large dataset read in one go while it is only being tried."""


def open_foreign_model(path: Path, *, provider: Provider = "auto", threads: int = 1, sha256: str = "") -> Model:
    """Open a model file that others may have made.

    In this order: its digest is checked and its metadata are parsed, in Python; ONNX Runtime opens it and computes it
    twice in a child process; ONNX Runtime opens these very bytes here.

    Parameters
    ----------
    path, provider, threads
        As `rt_engine.model_file.open_model` takes them.
    sha256
        SHA-256 that the file must have; empty takes what is there.

    Raises
    ------
    FileFormatError
        If the file is no model or damaged, or the child crashed, hung or ran out of memory on it.
    ModelError
        If ONNX Runtime refuses the model, it is another than `sha256` says, or it was changed meanwhile.
    """
    found = read_model_info(path).sha256
    if sha256 and found != sha256:
        raise ModelError(f"{path} has the SHA-256 {found}; expected {sha256}. It is another model: name the right one")
    if read_in_child(_try_model, path.absolute()).decode(errors="replace") != found:
        raise ModelError(f"{path} was changed while it was read: try again when its writer has finished")
    return open_model(path, provider=provider, threads=threads, sha256=found)


def read_foreign_subject(path: Path) -> Subject:
    """Read a subject file that others may have made.

    Raises
    ------
    FileFormatError
        If it is no subject file or damaged, or the child crashed, hung or ran out of memory on it.
    """
    read_in_child(read_subject, path.absolute())
    return read_subject(path)


def read_foreign_stimulation_set(path: Path) -> StimulationSet:
    """Read a stimulation file that others may have made.

    Raises
    ------
    FileFormatError
        As `read_foreign_subject`.
    """
    read_in_child(read_stimulation_set, path.absolute())
    return read_stimulation_set(path)


def try_foreign_hdf5(path: Path) -> None:
    """See whether an HDF5 file of any program can be opened and read to its end.

    What h5py can refuse with an exception is left to whoever reads the file then; this is about what it cannot.

    Raises
    ------
    FileFormatError
        If a child process crashed, hung or ran out of memory on it.
    """
    read_in_child(_try_hdf5, path.absolute())


def _try_model(path: Path) -> bytes:
    return open_model(path, provider="cpu").info.sha256.encode()


def _try_hdf5(path: Path) -> None:
    try:
        with h5py.File(path, "r") as file:
            file.visititems(_try_item)
    except MemoryError:
        raise
    except Exception:  # h5py raises whatever damaged bytes lead it to, and will again
        return


def _try_item(name: str, item: Any) -> None:
    for key in _attribute_names(item):
        _try_read(item.attrs, key)
    if not isinstance(item, h5py.Dataset):
        return
    if not item.shape:
        _try_read(item, ())
        return
    row = max(float(np.prod(item.shape[1:], dtype=float)) * item.dtype.itemsize, 1.0)
    step = max(int(SLAB_BYTES / row), 1)
    for begin in range(0, item.shape[0], step):
        if not _try_read(item, slice(begin, begin + step)):
            return


def _attribute_names(item: Any) -> list[str]:
    try:
        return list(item.attrs)
    except MemoryError:
        raise
    except Exception:  # see `_try_hdf5`
        return []


def _try_read(place: Any, key: Any) -> bool:
    try:
        place[key]
    except MemoryError:
        raise
    except Exception:  # see `_try_hdf5`
        return False
    return True

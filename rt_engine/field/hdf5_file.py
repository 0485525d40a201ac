"""One way to write and to read the project's HDF5 files: whole, versioned, and with a digest of their content.

A file holds attributes (numbers, texts, small arrays) and arrays. Three root attributes belong to this layer:
`format` (which kind of file), `version` (of that kind's layout) and `digest` (SHA-256 of all the rest, see
`content_digest`). What the attributes and arrays mean is the business of `subject_file` and `stimulation_file`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError, FileFormatError

Array: TypeAlias = npt.NDArray[Any]
Attribute: TypeAlias = str | int | float | Array

_OWN_ATTRIBUTES = ("format", "version", "digest")

# What h5py and HDF5 raise on damaged content; which one depends on where the damage is.
_DAMAGE = (
    OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, OverflowError, MemoryError, IndexError,
)  # fmt: skip


def content_digest(attributes: Mapping[str, Attribute], arrays: Mapping[str, Array]) -> str:
    """Compute the digest that a file carries of its own content.

    SHA-256 over, for every attribute and then for every array, each in the order of its name: kind (`attribute` or
    `array`), name, dtype and shape as text, each ended by a line feed; then the bytes, little-endian, C order. A text
    is its UTF-8 bytes with dtype `text` and the number of bytes as its shape.

    Parameters
    ----------
    attributes : mapping of str to str, int, float or array
        All root attributes but `format`, `version` and `digest`.
    arrays : mapping of str to array
        All datasets by their path, without leading slash.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for kind, values in (("attribute", attributes), ("array", arrays)):
        for name in sorted(values):
            value = values[name]
            if isinstance(value, str):
                raw = value.encode()
                dtype, shape = "text", str(len(raw))
            else:
                array = np.asarray(value)
                array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(array.shape)
                raw = array.tobytes()
                dtype, shape = array.dtype.str.replace(">", "<"), "x".join(map(str, array.shape))
            digest.update(f"{kind}\n{name}\n{dtype}\n{shape}\n".encode())
            digest.update(raw)
    return digest.hexdigest()


def write_hdf5(
    path: str | Path, *, kind: str, version: int, attributes: Mapping[str, Attribute], arrays: Mapping[str, Array]
) -> str:
    """Write a file in one step: a reader sees the old file or the whole new one, never a part.

    The same content gives the same bytes (no times are stored).

    Parameters
    ----------
    path : str or Path
        Where to write; its folder must exist. A file already there is replaced.
    kind : str
        What the file is, e.g. `"m2m-subject"`.
    version : int
        Version of that kind's layout.
    attributes : mapping of str to str, int, float or array
        Root attributes.
    arrays : mapping of str to array
        Datasets; a slash in a name makes a group.

    Returns
    -------
    str
        SHA-256 of the file's bytes, 64 hexadecimal digits.

    Raises
    ------
    DataError
        The file cannot be written there.
    """
    path = Path(path)
    # Through one conversion here, so that the digest is of what h5py will hand back.
    attributes = {name: v if isinstance(v, str) else np.asarray(v) for name, v in attributes.items()}
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        with h5py.File(temporary, "w", libver=("earliest", "v110"), track_order=False) as file:
            file.attrs["format"] = kind
            file.attrs["version"] = np.int64(version)
            file.attrs["digest"] = content_digest(attributes, arrays)
            for name in sorted(attributes):
                file.attrs[name] = attributes[name]
            for name in sorted(arrays):
                array = np.ascontiguousarray(arrays[name])
                # A dataset without elements cannot be chunked, hence not compressed.
                packed = {"compression": "gzip", "compression_opts": 6, "shuffle": True} if array.size else {}
                file.create_dataset(name, data=array, track_times=False, **packed)
        sha256 = hashlib.sha256(Path(temporary).read_bytes()).hexdigest()
        os.chmod(temporary, 0o644)  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(
            f"Cannot write {path}: {error}. Check that the folder exists and that you may write there."
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
    return sha256


def read_hdf5(path: str | Path, *, kind: str, version: int) -> tuple[dict[str, Attribute], dict[str, Array]]:
    """Read a file that `write_hdf5` wrote, wholly and checked against its digest.

    Parameters
    ----------
    path : str or Path
        The file.
    kind : str
        What it must be.
    version : int
        Newest version of the layout that the caller knows.

    Returns
    -------
    attributes : dict of str to str or array
        Root attributes but `format`, `version` and `digest`; numbers come as 0-dimensional arrays.
    arrays : dict of str to array
        All datasets by their path, without leading slash.

    Raises
    ------
    FileFormatError
        No such file, not HDF5, truncated, another kind, a newer version, or content that its digest contradicts.
    """
    path = Path(path)
    if not path.is_file():
        raise FileFormatError(f"There is no file {path}; expected a file of kind {kind!r}. Check the path.")
    attributes: dict[str, Attribute] = {}
    arrays: dict[str, Array] = {}
    try:
        with h5py.File(path, "r") as file:
            _check_kind(path, file.attrs, kind, version)
            digest = _text(file.attrs["digest"])
            for name in file.attrs:
                if name not in _OWN_ATTRIBUTES:
                    value = file.attrs[name]
                    attributes[name] = _text(value) if isinstance(value, (str, bytes)) else np.asarray(value)

            def collect(name: str, item: object) -> None:
                if isinstance(item, h5py.Dataset):
                    arrays[name] = np.asarray(item[()])

            file.visititems(collect)
        found = content_digest(attributes, arrays)
    except _DAMAGE as error:
        raise FileFormatError(
            f"{path} cannot be read as HDF5 ({error}); it is damaged, truncated or of another kind. Expected a file of "
            f"kind {kind!r}: make or copy it again."
        ) from error
    if found != digest:
        raise FileFormatError(
            f"{path} is damaged: its content has the digest {found[:12]}..., but it was written with {digest[:12]}... "
            "Make or copy it again."
        )
    return attributes, arrays


def _check_kind(path: Path, attrs: h5py.AttributeManager, kind: str, version: int) -> None:
    if "format" not in attrs or _text(attrs["format"]) != kind:
        found = f"kind {_text(attrs['format'])!r}" if "format" in attrs else "an HDF5 file of another program"
        raise FileFormatError(f"{path} is {found}; expected kind {kind!r}. Give the right file.")
    found_version = int(attrs["version"])
    if found_version > version:
        raise FileFormatError(
            f"{path} has version {found_version} of the layout of {kind!r}; this software reads up to {version}. "
            "Update m2m-live."
        )
    if found_version < 1:
        raise FileFormatError(f"{path} claims version {found_version} of {kind!r}; versions start at 1. Make it again.")


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)

"""One way to write and to read the project's HDF5 files: whole, versioned, and checked before they are opened.

A file holds attributes (numbers, texts, small arrays) and arrays (datasets). Two root attributes belong to this layout:
`format` (which kind of file) and `version` (of that kind's layout). What the others mean is the business of
`subject_file` and `stimulation_file`.

In front of the HDF5 data, in HDF5's user block, which every HDF5 reader skips, stands one line of text: a mark, the
number of bytes that follow the block, and their SHA-256. It is checked first, because the HDF5 library itself can crash
the whole process on damaged bytes, and because it cannot notice a changed number.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
import numpy.typing as npt

from rt_engine.atomic_file import written_whole
from rt_engine.errors import FileFormatError

Array: TypeAlias = npt.NDArray[Any]
Attribute: TypeAlias = str | int | float | Array

USER_BLOCK = 512
"""Bytes in front of the HDF5 data; the least that HDF5 allows."""

_HEADER = "m2m-hdf5 bytes={size} sha256={sha256}\n"
_HEADER_PATTERN = re.compile(rb"m2m-hdf5 bytes=(\d{1,18}) sha256=([0-9a-f]{64})\n\0*")

_OWN_ATTRIBUTES = ("format", "version")

# What h5py raises on content that is not as expected; which one depends on where.
_UNEXPECTED = (
    OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, OverflowError, MemoryError, IndexError,
)  # fmt: skip


def write_hdf5(
    path: str | Path,
    *,
    kind: str,
    version: int,
    attributes: Mapping[str, Attribute],
    arrays: Mapping[str, Array],
    compressed: bool = True,
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
    compressed : bool
        Whether the datasets are; for files that are written often.

    Returns
    -------
    str
        SHA-256 of the whole file, 64 hexadecimal digits.

    Raises
    ------
    DataError
        The file cannot be written there.
    """
    with written_whole(path) as temporary:
        with h5py.File(temporary, "w", libver=("earliest", "v110"), userblock_size=USER_BLOCK) as file:
            file.attrs["format"] = kind
            file.attrs["version"] = np.int64(version)
            for name in sorted(attributes):
                file.attrs[name] = attributes[name]
            for name in sorted(arrays):
                array = np.ascontiguousarray(arrays[name])
                # A dataset without elements cannot be chunked, hence not compressed.
                packed = {"compression": "gzip", "compression_opts": 6, "shuffle": True}
                packed = packed if compressed and array.size else {}
                file.create_dataset(name, data=array, track_times=False, **packed)
        sha256 = _write_header(temporary)
    return sha256


def read_hdf5(path: str | Path, *, kind: str, version: int) -> tuple[dict[str, Attribute], dict[str, Array]]:
    """Read a file that `write_hdf5` wrote, wholly, after checking that its bytes are the ones that were written.

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
        Root attributes but `format` and `version`; numbers come as 0-dimensional arrays.
    arrays : dict of str to array
        All datasets by their path, without leading slash.

    Raises
    ------
    FileFormatError
        No such file, not such a file, truncated, damaged, another kind, or a newer version.
    """
    path = Path(path)
    _check_bytes(path, kind)
    attributes: dict[str, Attribute] = {}
    arrays: dict[str, Array] = {}
    try:
        with h5py.File(path, "r") as file:
            _check_kind(path, file.attrs, kind, version)
            for name in file.attrs:
                if name not in _OWN_ATTRIBUTES:
                    value = file.attrs[name]
                    attributes[name] = value if isinstance(value, str) else np.asarray(value)

            def collect(name: str, item: object) -> None:
                if isinstance(item, h5py.Dataset):
                    arrays[name] = np.asarray(item[()])

            file.visititems(collect)
    except _UNEXPECTED as error:
        raise FileFormatError(f"{path} cannot be read as HDF5 ({error}). Make it again.") from error
    return attributes, arrays


def _write_header(path: Path) -> str:
    """Fill in the user block; return the SHA-256 of the whole file."""
    with path.open("r+b") as file:
        file.seek(USER_BLOCK)
        body = file.read()
        header = _HEADER.format(size=len(body), sha256=hashlib.sha256(body).hexdigest()).encode()
        header = header.ljust(USER_BLOCK, b"\0")
        file.seek(0)
        file.write(header)
    return hashlib.sha256(header + body).hexdigest()


def _check_bytes(path: Path, kind: str) -> None:
    """Check the user block's line against the bytes that follow it."""
    if not path.is_file():
        raise FileFormatError(f"There is no file {path}; expected a file of kind {kind!r}. Check the path.")
    try:
        with path.open("rb") as file:
            block = file.read(USER_BLOCK)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell() - len(block)
    except OSError as error:
        raise FileFormatError(f"Cannot read {path}: {error}. Check its permissions.") from error
    header = _HEADER_PATTERN.fullmatch(block)
    if len(block) < USER_BLOCK or header is None:
        raise FileFormatError(
            f"{path} does not begin as files of m2m-live do: it is of another program, damaged, or truncated to "
            f"{len(block) + size} bytes. Expected a file of kind {kind!r}: give the right file, or make it again."
        )
    if size != int(header[1]):
        raise FileFormatError(
            f"{path} is truncated or damaged: {size} bytes follow its header, which announces {int(header[1])}. "
            "Make or copy it again."
        )
    if sha256 != header[2].decode():
        raise FileFormatError(
            f"{path} is damaged, or was changed by another program: its content has the SHA-256 {sha256[:12]}..., its "
            f"header says {header[2].decode()[:12]}... Make or copy it again."
        )


def _check_kind(path: Path, attrs: h5py.AttributeManager, kind: str, version: int) -> None:
    found_kind, found_version = str(attrs["format"]), int(attrs["version"])
    if found_kind != kind:
        raise FileFormatError(f"{path} is of kind {found_kind!r}; expected kind {kind!r}. Give the right file.")
    if found_version > version:
        raise FileFormatError(
            f"{path} has version {found_version} of the layout of {kind!r}; this software reads up to {version}. "
            "Update m2m-live."
        )

"""MATLAB files of versions 4 to 7, read with scipy after a look at their structure.

scipy's reader is compiled and trusts the numbers in a file: a damaged one can crash the whole process. So everything
that it will rely on is checked first (MathWorks, MAT-File Format, level 5): types, sizes, and that numbers fill their
dimensions. Variables of kinds that no data here have (sparse, objects, functions) are passed over. Version 7.3 is HDF5
and not read here.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rt_engine.errors import FileFormatError
from trainer.importers.wild_text import read_bytes

_HEADER = 128
_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
_SIZE = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
"""Bytes of the types of numbers: miINT8 ... miUINT64; 8, 10 and 11 are reserved."""

_TEXT = {1: 1, 2: 1, 4: 2, 16: 1, 17: 2, 18: 4}
"""Bytes of the types that texts are kept in."""

_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMERIC = range(6, 16)
_COMPLEX = 0x0800
_DEEPEST = 40
_LARGEST_BYTES = 2**31

_Element = tuple[int, memoryview]


class _UnknownKind(Exception):
    """A variable of a kind that is passed over."""


def read_mat(path: str | Path, *, simple: bool = False) -> dict[str, Any]:
    """Read the variables of a file: numbers, texts, cells and structures.

    Parameters
    ----------
    path : str or Path
        The file.
    simple : bool
        Whether structures become objects with attributes, and dimensions of 1 are left out.

    Returns
    -------
    dict of str to array or object
        Variables by name.

    Raises
    ------
    FileFormatError
        No such file, no MATLAB file, truncated or damaged.
    """
    from scipy.io import loadmat

    data = read_bytes(path)
    names: list[str] | None = None
    try:
        if 0 not in data[:4]:  # those of version 4 begin with a number that has a zero byte
            if data[124:128] not in (b"\x00\x01IM", b"\x01\x00MI"):
                raise ValueError("it does not begin as one")
            names = _readable(memoryview(data)[_HEADER:], "<" if data[126:128] == b"IM" else ">")
            if not names:
                return {}
        content = loadmat(path, squeeze_me=simple, struct_as_record=not simple, variable_names=names)
    except Exception as error:  # scipy raises whatever damaged bytes lead it to
        raise FileFormatError(f"{path} cannot be read as a MATLAB file ({error}). Copy it or save it again.") from error
    return {name: value for name, value in content.items() if not name.startswith("__")}


def _readable(data: memoryview, order: str) -> list[str]:
    """Check all variables; return the names of those that can be read."""
    names = []
    for kind, content in _elements(data, order):
        if kind == _COMPRESSED:
            inner = list(_elements(memoryview(_unpacked(content)), order))
            if len(inner) != 1:
                raise ValueError(f"a compressed element holds {len(inner)} others; expected 1")
            kind, content = inner[0]
        if kind != _MATRIX:
            raise ValueError(f"it has an element of type {kind} where a variable should be")
        try:
            names.append(_check_matrix(content, order, 0))
        except _UnknownKind:
            continue
    return names


def _elements(data: memoryview, order: str) -> Iterator[_Element]:
    """Give the elements in a stretch of bytes: type and content; all must end where the stretch ends."""
    place = 0
    while place < len(data):
        if len(data) - place < 8:
            raise ValueError("it ends within the tag of an element")
        kind, size = struct.unpack_from(f"{order}II", data, place)
        if kind >> 16:  # a small element: type and size share four bytes, and so many at most follow
            kind, size = kind & 0xFFFF, kind >> 16
            if size > 4:
                raise ValueError(f"it has a small element of type {kind} with {size} bytes")
            yield kind, data[place + 4 : place + 4 + size]
            place += 8
            continue
        end = place + 8 + size
        if end > len(data):
            raise ValueError(f"an element of {size} bytes does not end within it")
        yield kind, data[place + 8 : end]
        # Compressed ones are the only ones that are not filled up to eight bytes.
        place = end if kind == _COMPRESSED else end + -size % 8


def _check_matrix(data: memoryview, order: str, depth: int) -> str:
    """Check one array of any kind, with all that is in it; return its name."""
    if depth > _DEEPEST:
        raise ValueError(f"it has more than {_DEEPEST} levels of cells and structures")
    if not len(data) and depth:
        return ""  # nothing in a cell or field
    parts = list(_elements(data, order))
    if not parts or (parts[0][0], len(parts[0][1])) != (_UINT32, 8):
        raise ValueError("a variable does not begin with its flags")
    flags = struct.unpack_from(f"{order}I", parts[0][1])[0]
    what, rest = flags & 0xFF, parts[3:]
    if what not in (_CELL, _STRUCT, _CHAR, *_NUMERIC):
        raise _UnknownKind
    if len(parts) < 3:
        raise ValueError("a variable has no dimensions or no name")
    if parts[1][0] != _INT32 or len(parts[1][1]) < 8 or len(parts[1][1]) % 4 or len(parts[1][1]) > 4 * 32:
        raise ValueError("a variable's dimensions are damaged")
    dims = struct.unpack_from(f"{order}{len(parts[1][1]) // 4}i", parts[1][1])
    count = math.prod(dims)
    if min(dims) < 0 or count > _LARGEST_BYTES:
        raise ValueError(f"a variable has the dimensions {dims}")
    if parts[2][0] != _INT8:
        raise ValueError(f"a variable's name has the type {parts[2][0]}")
    name = bytes(parts[2][1]).decode("latin-1")
    if what in _NUMERIC:
        _check_numbers(rest, count, 2 if flags & _COMPLEX else 1)
    elif what == _CHAR:
        if len(rest) != 1 or rest[0][0] not in _TEXT or len(rest[0][1]) % _TEXT[rest[0][0]]:
            raise ValueError(f"the text {name!r} is damaged")
    elif what == _CELL:
        _check_members(rest, count, order, depth)
    else:
        _check_members(rest[2:], count * _n_fields(rest, order), order, depth)
    return name


def _check_numbers(parts: list[_Element], count: int, n_parts: int) -> None:
    if len(parts) != n_parts:
        raise ValueError(f"an array of numbers has {len(parts)} parts; expected {n_parts}")
    for kind, content in parts:
        if kind not in _SIZE:
            raise ValueError(f"it has numbers of type {kind}")
        if len(content) != count * _SIZE[kind]:
            raise ValueError(f"{len(content)} bytes of numbers do not fill {count} of {_SIZE[kind]} bytes")


def _n_fields(parts: list[_Element], order: str) -> int:
    """Return how many fields a structure has."""
    if len(parts) < 2 or (parts[0][0], len(parts[0][1])) != (_INT32, 4) or parts[1][0] != _INT8:
        raise ValueError("the names of a structure's fields are damaged")
    length = struct.unpack_from(f"{order}i", parts[0][1])[0]
    if length < 1 or len(parts[1][1]) % length:
        raise ValueError("the names of a structure's fields are damaged")
    n_fields: int = len(parts[1][1]) // length
    return n_fields


def _check_members(parts: list[_Element], count: int, order: str, depth: int) -> None:
    if len(parts) != count or any(kind != _MATRIX for kind, _ in parts):
        raise ValueError(f"a cell or structure has {len(parts)} members; expected {count}")
    for _, content in parts:
        _check_matrix(content, order, depth + 1)


def _unpacked(data: memoryview) -> bytes:
    unpack = zlib.decompressobj()
    found = unpack.decompress(data, _LARGEST_BYTES)
    if not unpack.eof:
        raise ValueError("a compressed element is truncated, or larger than 2 GiB")
    return found

"""Opens an HDF5 file that was never closed, without changing it: the first bytes are shown to HDF5 as if it had been.

A file in SWMR mode says in its superblock that somebody writes to it, until it is closed. HDF5 opens it in SWMR mode
only, and there it asks a hundred times again for whatever does not fit its checksum, waiting twice as long each time:
for damaged files that is for ever. So HDF5 is shown a superblock that says "closed", and ends where the file ends.
The format: https://docs.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html (II.A, superblock version 2 and 3).
"""

import io
import struct
from pathlib import Path
from typing import IO

from rt_engine.errors import FileFormatError

SIGNATURE = b"\x89HDF\r\n\x1a\n"

_SUPERBLOCK = struct.Struct("<8sBBBB4QI")
"""Signature, version, size of offsets, size of lengths, flags; base, extension, end of file, root; checksum."""

_SWMR_VERSION = 3


class Superblock:
    """The first bytes of an HDF5 file.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    FileFormatError
        If the file cannot be read, is not HDF5 of this kind, or these bytes are damaged.
    """

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                raw = file.read(_SUPERBLOCK.size)
            self.size = path.stat().st_size
        except OSError as error:
            raise FileFormatError(f"cannot read {path}: {error.strerror}") from error
        if raw[:8] != SIGNATURE:
            raise FileFormatError(f"{path} begins with {raw[:8]!r} and is no HDF5 file")
        if len(raw) < _SUPERBLOCK.size:
            raise FileFormatError(f"{path} is cut off after {len(raw)} bytes")
        _, version, offsets, lengths, self._flags, base, self._extension, _, self._root, checksum = _SUPERBLOCK.unpack(
            raw
        )
        if version != _SWMR_VERSION:
            raise FileFormatError(f"{path} is HDF5 with a superblock of version {version}; expected {_SWMR_VERSION}")
        if checksum != lookup3(raw[:-4]) or (offsets, lengths, base) != (8, 8, 0):
            raise FileFormatError(f"{path} is damaged in its first {_SUPERBLOCK.size} bytes")

    @property
    def closed(self) -> bool:
        """Whether the file was closed."""
        return bool(self._flags == 0)

    def as_closed(self) -> bytes:
        """Return what these bytes would be if the file had been closed now."""
        head = _SUPERBLOCK.pack(
            SIGNATURE, _SWMR_VERSION, 8, 8, 0, 0, self._extension, self.size, self._root, 0
        )[:-4]  # fmt: skip
        return head + struct.pack("<I", lookup3(head))


class AsClosed(io.RawIOBase):
    """A file for h5py, whose first bytes are others. Nothing can be written.

    Parameters
    ----------
    file
        Open for reading; the caller closes it.
    superblock
        Of the same file.
    """

    def __init__(self, file: IO[bytes], superblock: Superblock) -> None:
        self._file = file
        self._head = superblock.as_closed()
        self._size = superblock.size

    def readable(self) -> bool:
        """Say so."""
        return True

    def seekable(self) -> bool:
        """Say so."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read at the current place."""
        begin = self._file.tell()
        data = bytearray(self._file.read(min(len(buffer), max(self._size - begin, 0))))
        shown = self._head[begin : begin + len(data)]
        data[: len(shown)] = shown
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; the end is the one that the superblock tells of."""
        if whence == io.SEEK_END:
            offset, whence = self._size + offset, io.SEEK_SET
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the current place."""
        return self._file.tell()


def lookup3(data: bytes) -> int:
    """Return the checksum that HDF5 puts behind its metadata: Bob Jenkins' lookup3 (hashlittle, start value 0).

    Parameters
    ----------
    data
        What stands before the checksum.
    """
    a = b = c = (0xDEADBEEF + len(data)) & 0xFFFFFFFF
    while len(data) > 12:
        x, y, z = struct.unpack_from("<3I", data)
        a, b, c = _mix((a + x) & 0xFFFFFFFF, (b + y) & 0xFFFFFFFF, (c + z) & 0xFFFFFFFF)
        data = data[12:]
    if not data:
        return c
    x, y, z = struct.unpack("<3I", data.ljust(12, b"\0"))
    return _final((a + x) & 0xFFFFFFFF, (b + y) & 0xFFFFFFFF, (c + z) & 0xFFFFFFFF)


def _turn(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (32 - bits))) & 0xFFFFFFFF


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    for bits in (4, 6, 8, 16, 19, 4):
        a = ((a - c) & 0xFFFFFFFF) ^ _turn(c, bits)
        c = (c + b) & 0xFFFFFFFF
        a, b, c = b, c, a
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    for bits in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _turn(b, bits)) & 0xFFFFFFFF
        a, b, c = b, c, a
    # Seven steps turn the three once more than they began: what was c stands where b does.
    return b

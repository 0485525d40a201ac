"""A file that keeps solved fields as they come, so that a long computation that was cut off goes on where it was.

One record per solved placement, appended and flushed to the disk: the pose, the field, and the SHA-256 over both and
the file's key. The key names everything else that the fields depend on. A record that a crash or a full disk cut short
is cut off when the file is opened again.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError, FileFormatError

log = logging.getLogger(__name__)

_MAGIC = b"m2m-fields 1\n"
_DIGEST_BYTES = 32
_POSE_BYTES = 16 * 8

Floats = npt.NDArray[np.float64]


class FieldCheckpoint:
    """Solved fields on the disk; use it in a `with` block.

    Parameters
    ----------
    path : Path
        The file; made where there is none.
    key : str
        SHA-256, 64 hexadecimal digits, over all that the fields depend on besides the pose: head, coil, points.
    n_points : int
        Points that every field is given at.

    Raises
    ------
    FileFormatError
        The file is not such a file, or of another head, coil or set of points.
    DataError
        The file cannot be read or written.
    """

    def __init__(self, path: Path, key: str, n_points: int) -> None:
        self._path = path
        self._head = _MAGIC + key.encode() + b"\n"
        self._shape = (n_points, 3)
        self._fields: dict[bytes, Floats] = {}
        try:
            self._file = path.open("r+b" if path.exists() else "w+b")
        except OSError as error:
            raise DataError(f"Cannot write {path}: {error}. Give another place for the solved fields.") from error
        try:
            self._read()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> FieldCheckpoint:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file; what was added stays."""
        self._file.close()

    def __len__(self) -> int:
        """Return the number of fields that are kept."""
        return len(self._fields)

    def get(self, pose: Floats) -> Floats | None:
        """Return a placement's field, (n_points, 3) V/m per A/s, or None where it is not solved yet."""
        return self._fields.get(_pose_bytes(pose))

    def add(self, pose: Floats, field: Floats) -> None:
        """Keep a placement's field; it is on the disk when this returns.

        Parameters
        ----------
        pose : numpy.ndarray
            (4, 4) float64.
        field : numpy.ndarray
            (n_points, 3) float64, V/m per A/s.

        Raises
        ------
        DataError
            The disk is full.
        """
        field = np.ascontiguousarray(field, "<f8").reshape(self._shape)
        content = _pose_bytes(pose) + field.tobytes()
        try:
            self._file.write(content + self._digest(content))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise DataError(f"Cannot write {self._path}: {error}. Make room and start again: it goes on.") from error
        self._fields[_pose_bytes(pose)] = field

    def _digest(self, content: bytes) -> bytes:
        return hashlib.sha256(self._head + content).digest()

    def _read(self) -> None:
        head = self._file.read(len(self._head))
        if not head or self._head.startswith(head) and head != self._head:  # new, or cut off while it was made
            self._file.seek(0)
            self._file.truncate()
            self._file.write(self._head)
            self._file.flush()
            return
        if not head.startswith(_MAGIC):
            raise FileFormatError(f"{self._path} holds no solved fields; delete it, or give another place for them.")
        if head != self._head:
            raise FileFormatError(
                f"{self._path} holds fields of another head, coil or set of points, or of other conductivities. Delete "
                "it, or give another place for the new ones."
            )
        size = _POSE_BYTES + 8 * self._shape[0] * self._shape[1]
        good = self._file.tell()
        while len(record := self._file.read(size + _DIGEST_BYTES)) == size + _DIGEST_BYTES:
            content = record[:size]
            if self._digest(content) != record[size:]:
                break
            self._fields[content[:_POSE_BYTES]] = np.frombuffer(content, "<f8", offset=_POSE_BYTES).reshape(self._shape)
            good = self._file.tell()
        self._file.seek(0, os.SEEK_END)
        if self._file.tell() > good:
            log.warning(
                "%s: the last %d bytes are no whole record and are cut off", self._path, self._file.tell() - good
            )
            self._file.truncate(good)
        self._file.seek(good)


def _pose_bytes(pose: Floats) -> bytes:
    return np.ascontiguousarray(pose, "<f8").tobytes()

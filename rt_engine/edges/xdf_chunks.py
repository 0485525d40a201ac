"""The whole chunks of an XDF file, which a killed recorder or a full disk can leave cut off at any byte.

pyxdf refuses a file that ends inside some kinds of chunk; where it ends inside others, it gives a last sample with
channels of the one before; and it believes any number of samples that a damaged chunk claims, until memory is full. So
it is given whole chunks only, whose lengths have been looked at.
The format: https://github.com/sccn/xdf/wiki/Specifications.
"""

import io
import logging
import re
import struct
from pathlib import Path
from typing import IO
from xml.sax.saxutils import unescape

from rt_engine.errors import FileFormatError

log = logging.getLogger(__name__)

MAGIC = b"XDF:"
TAGS = range(1, 7)
"""File header, stream header, samples, clock offset, boundary, stream footer."""
HEADER_TAG = 2
SAMPLES_TAG = 3
BOUNDARY = bytes.fromhex("43a546dccbf5410fb30ed5467383cbe4")
"""Stands in each boundary chunk, which LabRecorder writes every ten seconds."""
_COUNT_FORMATS = {1: "<B", 4: "<I", 8: "<Q"}


def open_whole_chunks(path: Path) -> io.BufferedReader:
    """Open an XDF file up to the end of its last whole chunk.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    io.BufferedReader
        At its beginning; the caller closes it.

    Raises
    ------
    FileFormatError
        If the file cannot be read, is not XDF, or is damaged before its end.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise FileFormatError(f"cannot read {path}: {error.strerror}") from error
    try:
        size = path.stat().st_size
        end = _end_of_whole_chunks(path, file, size)
    except BaseException:
        file.close()
        raise
    if end < size:
        log.warning("%s is cut off inside a chunk; its last %d bytes are left out", path, size - end)
    file.seek(0)
    return io.BufferedReader(_Head(file, end), 1 << 20)


def streams_with_samples(path: Path) -> set[str]:
    """Return the names of the streams of which a file holds samples so far; it may still be being written."""
    return SampleWatch(path).look()


class SampleWatch:
    """Watches a file that is being written for samples.

    Parameters
    ----------
    path
        The file, there or not yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begin = len(MAGIC)
        self._names: dict[int, str] = {}

    def look(self) -> set[str]:
        """Return the names of the streams with samples in the whole chunks written since the last look."""
        found: set[str] = set()
        if not self._path.exists():
            return found
        with self._path.open("rb") as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(self._begin)
            while self._begin < size and (end := _chunk_end(file, size)) is not None:
                file.seek(self._begin)
                head = file.read(16)
                at, _ = _count(head) or (0, 0)
                tag, number = struct.unpack_from("<HI", head[at:].ljust(6, b"\0"))
                if tag == HEADER_TAG:
                    file.seek(self._begin)
                    name = re.search(rb"<name>(.*?)</name>", file.read(end - self._begin), re.DOTALL)
                    self._names |= {number: unescape(name[1].decode(errors="replace"))} if name else {}
                elif tag == SAMPLES_TAG and number in self._names:
                    found.add(self._names[number])
                self._begin = file.seek(end)
        return found


def _end_of_whole_chunks(path: Path, file: IO[bytes], size: int) -> int:
    magic = file.read(len(MAGIC))
    if magic != MAGIC:
        raise FileFormatError(f"{path} is not an XDF recording (it begins with {magic!r}, expected {MAGIC!r})")
    begin = len(MAGIC)
    while begin < size:
        end = _chunk_end(file, size)
        if end is None:
            # Nothing whole after it: the recording ends here. Else pieces are missing, and nobody could tell which.
            if _has_boundary_after(file, begin):
                raise FileFormatError(
                    f"{path} is damaged: what stands at byte {begin} is no chunk of an XDF file, and there is more "
                    "after it. If it is a copy, copy it again"
                )
            return begin
        begin = file.seek(end)
    return begin


def _chunk_end(file: IO[bytes], size: int) -> int | None:
    """Return where the chunk ends that begins here; None if it is not whole, or no chunk at all."""
    begin = file.tell()
    head = file.read(32)
    length = _count(head)
    if length is None:
        return None
    content, n_content = length
    end = begin + content + n_content
    if end > size or n_content < 2:
        return None
    (tag,) = struct.unpack_from("<H", head, content)
    if tag not in TAGS:
        return None
    if tag == SAMPLES_TAG:
        # After tag and stream id comes the number of samples, each of which takes two bytes at least.
        n_samples = _count(head[content + 6 :])
        if n_samples is None or 2 * n_samples[1] > n_content:
            return None
    return end


def _count(raw: bytes) -> tuple[int, int] | None:
    """Read a number that is preceded by its own size: how many bytes both take, and the number."""
    form = _COUNT_FORMATS.get(raw[0]) if raw else None
    if form is None or len(raw) < 1 + struct.calcsize(form):
        return None
    return 1 + struct.calcsize(form), int(struct.unpack_from(form, raw, 1)[0])


def _has_boundary_after(file: IO[bytes], begin: int) -> bool:
    file.seek(begin)
    tail = b""
    while block := file.read(1 << 20):
        if BOUNDARY in tail + block:
            return True
        tail = block[-len(BOUNDARY) :]
    return False


class _Head(io.RawIOBase):
    """The bytes of a file before `end`."""

    def __init__(self, file: IO[bytes], end: int) -> None:
        self._file = file
        self._end = end

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._file.read(max(0, min(len(buffer), self._end - self._file.tell())))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            offset, whence = self._end + offset, io.SEEK_SET
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()

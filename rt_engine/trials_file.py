"""Reads `trials.h5`, which a session wrote trial by trial and may have been killed at, and believes nothing of it.

A row counts if its digest fits, whatever state the file is in; what does not fit is named and never returned. HDF5 is
native code and opens the file in a child process only. What is in a row: `rt_engine.trials_layout`.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from rt_engine.errors import FileFormatError
from rt_engine.guarded_read import read_in_child
from rt_engine.hdf5_superblock import AsClosed, Superblock
from rt_engine.trials_layout import DATASET, TRIALS_FORMAT, TRIALS_VERSION, TrialsLayout

HEAD_BYTES = 64 * 1024
"""The root group's attributes stand at the begin of the file."""

MOST_ROWS = 1_000_000
"""Two months of five pulses per second, day and night."""

ATTEMPTS = 3
"""How often a file is read that was not closed, until it is whole."""

LARGEST_ROW = 1 << 28
"""Bytes. A thousand muscles and a whole head of voxels take less."""

# What h5py raises on content that is not as expected; which one depends on where.
_UNEXPECTED = (
    OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, OverflowError, MemoryError, IndexError,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Trials:
    """What a file of trials holds.

    Attributes
    ----------
    path
        The file.
    layout
        Session, muscles and sizes.
    rows
        (n,) of `layout.dtype`: every whole trial, in the order in which they were served.
    n_rows
        Rows that the file says it has.
    damaged
        Numbers of the rows that are not whole; none of `rows` is among them.
    closed
        Whether the file was closed. That of a killed session was not, and other programs need SWMR mode to open it.
    """

    path: Path
    layout: TrialsLayout
    rows: NDArray[np.void] = field(repr=False)
    n_rows: int
    damaged: tuple[int, ...]
    closed: bool

    @property
    def torn(self) -> bool:
        """Whether only the last row is not whole: that of the trial in flight when the process or the disk ended."""
        return self.damaged == (self.n_rows - 1,)

    @property
    def damage(self) -> str:
        """What is damaged, in words; empty if nothing is, or if only the last row is torn."""
        if not self.damaged or self.torn:
            return ""
        first, last = self.damaged[0], self.damaged[-1]
        which = f"rows {first} to {last}" if len(self.damaged) == last - first + 1 > 1 else f"row {first} and others"
        which = which if len(self.damaged) > 1 else f"row {first}"
        cut = " (the file is cut off there)" if last == self.n_rows - 1 == first + len(self.damaged) - 1 else ""
        return f"{self.path} is damaged: {len(self.damaged)} of its {self.n_rows} trials are not whole, {which}{cut}"


def is_trials_file(path: Path) -> bool:
    """Whether a file says in its first bytes that it holds trials; HDF5 is not asked."""
    with path.open("rb") as file:
        return TRIALS_FORMAT.encode() in file.read(HEAD_BYTES)


def read_trials(path: Path, *, salvage: bool = False) -> Trials:
    """Read the trials of a session, also of one that was killed or is still running.

    Parameters
    ----------
    path
        The file.
    salvage
        Return the whole trials of a file in which others are damaged, instead of refusing it.

    Raises
    ------
    FileFormatError
        If it cannot be read, is another file, of a newer version, or damaged.
    """
    for _ in range(ATTEMPTS):
        trials = _read(path)
        if trials.closed or not trials.damage:
            break  # else it may be that an engine was writing at this very moment
    if trials.damage and not salvage:
        raise FileFormatError(f"{trials.damage}. If it is a copy, copy it again")
    return trials


def _read(path: Path) -> Trials:
    closed = Superblock(path).closed
    raw = read_in_child(read_in_process, path)
    head, _, body = raw.partition(b"\n")
    told = json.loads(head)
    layout = TrialsLayout(told["session"], tuple(told["muscles"]), told["n_samples"], told["n_voxels"])
    rows = np.frombuffer(body, dtype=layout.dtype)
    return Trials(path, layout, rows, told["n_rows"], tuple(told["damaged"]), closed)


def read_in_process(path: Path) -> bytes:
    """Read the whole rows in this process, which damaged HDF5 can crash: `read_trials` has it done in a child.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    bytes
        One line of JSON (`session`, `muscles`, `n_samples`, `n_voxels`, `n_rows`, `damaged`), then the whole rows.

    Raises
    ------
    FileFormatError
        As `read_trials`, damaged rows apart.
    """
    superblock = Superblock(path)
    size = superblock.size
    try:
        with path.open("rb") as raw, h5py.File(AsClosed(raw, superblock), "r") as file:
            layout = _layout(path, file)
            dataset = file[DATASET]
            n_rows, dtype = int(dataset.shape[0]), layout.dtype
            # No more than the file can hold, whatever it says; rows are not compressed.
            n_asked = min(n_rows, size // dtype.itemsize + 1)
            rows, read = _read_rows(dataset, np.zeros(n_asked, dtype))
    except _UNEXPECTED as error:
        raise FileFormatError(f"{path} is damaged, HDF5 cannot read it: {_first_line(error)}") from error
    if n_rows > MOST_ROWS:
        raise FileFormatError(f"{path} is damaged: it says that it has {n_rows} trials, and has {size} bytes")
    kept = [number in read and _whole(layout, number, rows[number : number + 1]) for number in range(n_asked)]
    damaged = [number for number in range(n_rows) if number >= n_asked or not kept[number]]
    told = {
        "session": layout.session,
        "muscles": layout.muscles,
        "n_samples": layout.n_samples,
        "n_voxels": layout.n_voxels,
        "n_rows": n_rows,
        "damaged": damaged,
    }
    return json.dumps(told).encode() + b"\n" + rows[kept].tobytes()


def _layout(path: Path, file: Any) -> TrialsLayout:
    kind = bytes(file.attrs.get("format", b""))
    if kind != TRIALS_FORMAT.encode():
        raise FileFormatError(f"{path} is HDF5 of another kind ({kind!r}); expected the trials of a session")
    version = int(file.attrs["version"])
    if version > TRIALS_VERSION:
        raise FileFormatError(
            f"{path} has version {version} of its layout, newer than this software's {TRIALS_VERSION}: update m2m"
        )
    if not isinstance(file.get(DATASET, getlink=True), h5py.HardLink):  # a link can lead into any other file
        raise FileFormatError(f"{path} is damaged: it has no dataset {DATASET!r} of its own")
    dataset = file[DATASET]
    found = dataset.dtype
    if dataset.ndim != 1 or dataset.external or dataset.is_virtual or dataset.chunks != (1,) or found.names is None:
        raise FileFormatError(f"{path} is damaged: its dataset {DATASET!r} is not laid out as trials are")
    muscles = tuple(bytes(name).decode() for name in file.attrs["muscles"])
    layout = TrialsLayout(
        bytes(file.attrs["session"]).decode(), muscles, found["sweep_uv"].shape[1], found["field"].shape[0]
    )
    if found.itemsize > LARGEST_ROW or found != layout.dtype:
        raise FileFormatError(f"{path} is damaged: its rows are not those of version {version} of the layout")
    return layout


def _read_rows(dataset: Any, rows: NDArray[np.void]) -> tuple[NDArray[np.void], set[int]]:
    """Read into `rows` what can be read; return it with the numbers of the rows that could be."""
    everything = range(len(rows))
    try:
        dataset.read_direct(rows, np.s_[: len(rows)])
        return rows, set(everything)
    except _UNEXPECTED:  # one after the other, then
        return rows, {number for number in everything if _read_row(dataset, number, rows)}


def _read_row(dataset: Any, number: int, rows: NDArray[np.void]) -> bool:
    try:
        dataset.read_direct(rows, np.s_[number : number + 1], np.s_[number : number + 1])
    except _UNEXPECTED:
        return False
    return True


def _whole(layout: TrialsLayout, number: int, row: NDArray[np.void]) -> bool:
    told: bytes = row[0]["sha256"].tobytes()
    return bool(row[0]["row"] == number) and told == layout.digest(row)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

"""Tables of MEP amplitudes: CSV of any separator, HDF5, or Brainsight's own EMG columns; always uV inside.

A unit is never guessed: it stands in the column's name (`FDI_uV`, `ADM (mV)`), in the file, or is given.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError, FileFormatError
from rt_engine.muscles import ARTICLE_MUSCLES
from trainer.importers.brainsight import read_brainsight
from trainer.importers.number_arrays import Arrays, load_arrays, texts
from trainer.importers.pose_table import PoseTable
from trainer.importers.wild_text import parse_number, read_lines

Floats = npt.NDArray[np.float64]

UV_PER_UNIT: dict[str, float] = {
    "uv": 1.0, "µv": 1.0, "μv": 1.0, "microvolt": 1.0, "microvolts": 1.0,
    "mv": 1e3, "millivolt": 1e3, "millivolts": 1e3,
    "v": 1e6, "volt": 1e6, "volts": 1e6,
}  # fmt: skip
"""Units in lower case; both code points of mu."""

KNOWN_MUSCLES = frozenset(name.lower() for name in (*ARTICLE_MUSCLES, "APB", "ADP", "AbDM", "FPB", "FDP", "TA", "BB"))
"""Names that are taken for a muscle's column without being told, in lower case."""

LEAST_MAXIMUM_UV, LARGEST_UV = 5.0, 1e5
"""A table whose largest MEP is below 5 uV, or that has one of 100 mV, is in another unit than it says."""

_WITH_UNIT = re.compile(
    r"(?P<muscle>.+?)\s*[ _.\-(\[]\s*(?P<unit>uV|µV|μV|mV|V|microvolts?|millivolts?|volts?)\s*[)\]]?", re.IGNORECASE
)
_PREFIX = re.compile(r"(amp|amplitude|mep|ptp|p2p|pp)[ _.\-]+", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class MepTable:
    """MEP amplitudes of n stimulations in m muscles.

    Attributes
    ----------
    muscles : tuple of str
        The m muscles, each once.
    mep_uv : numpy.ndarray
        (n, m) float64, uV; NaN where there is none.
    row : tuple of str
        Where each stimulation stands in the file, in words.
    source : str
        Where the table comes from.
    column : mapping of str to tuple of str
        The other columns, as text.
    """

    muscles: tuple[str, ...]
    mep_uv: Floats
    row: tuple[str, ...]
    source: str
    column: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.row)


def read_mep_table(path: str | Path, *, unit: str | None = None, muscles: Sequence[str] | None = None) -> MepTable:
    """Read a table of MEP amplitudes.

    Parameters
    ----------
    path : str or Path
        `.csv`, `.tsv` or `.txt` with a line of column names; a Brainsight text export; `.h5` or `.hdf5` with `mep_uv`
        (n, m), `muscles`, and any further datasets of n values to join by.
    unit : str, optional
        Unit of the amplitudes where the columns' names do not say it: uV, mV or V.
    muscles : sequence of str, optional
        The columns that are amplitudes: their names, or patterns such as `amp_*`, where the muscle's name is what the
        star stands for; of a Brainsight export the names of its channels in order. Default: columns with a unit in
        their name, and known muscles.

    Returns
    -------
    MepTable

    Raises
    ------
    FileFormatError
        No such table, or a line that is not as it should be; the message names the line.
    DataError
        No unit, two units, unknown columns, or amplitudes that the unit cannot have.
    """
    path = Path(path)
    factor = None if unit is None else _factor(unit, "--unit")
    if path.suffix.lower() in (".h5", ".hdf5"):
        table = _from_arrays(path, load_arrays(path), factor, muscles)
    else:
        lines = read_lines(path)
        if next((line for line in lines if line.strip()), "").startswith("# Version"):
            table = own_amplitudes(read_brainsight(path), muscles)
        else:
            table = _from_csv(path, lines, factor, muscles)
    check_amplitudes(table.mep_uv, table.source)
    return table


def own_amplitudes(poses: PoseTable, muscles: Sequence[str] | None = None) -> MepTable:
    """Take the amplitudes that a navigator's own EMG gave, with the poses' rows; exactly 0 is missing.

    Parameters
    ----------
    poses : PoseTable
        With amplitudes.
    muscles : sequence of str, optional
        Names for the channels, in their order.

    Returns
    -------
    MepTable

    Raises
    ------
    DataError
        There are no amplitudes, or another number of names than channels.
    """
    if not poses.muscles:
        raise DataError(
            f"{poses.source} has no amplitudes of its own EMG (no column 'EMG Peak-to-peak ...'). Give a table of them."
        )
    names = tuple(muscles) if muscles else poses.muscles
    if len(names) != len(poses.muscles) or len(set(names)) != len(names):
        raise DataError(
            f"{poses.source} has {len(poses.muscles)} EMG channels ({', '.join(poses.muscles)}); the muscles given are "
            f"{', '.join(names)}. Give one name per channel, each once."
        )
    rows = tuple(f"{number}" for number in range(1, len(poses) + 1))
    # No amplifier gives exactly 0: programs write it where nothing was measured.
    mep_uv = np.where(poses.mep_uv == 0, np.nan, poses.mep_uv)
    return MepTable(names, mep_uv, rows, poses.source, {**poses.column, "name": poses.label})


def check_amplitudes(mep_uv: Floats, source: str) -> None:
    """Check that amplitudes can be MEPs in uV.

    Raises
    ------
    DataError
        There is none; one is negative or infinite; or they are so small or large that the unit must be another.
    """
    known = mep_uv[~np.isnan(mep_uv)]
    if not known.size:
        raise DataError(f"{source} holds no amplitude at all. Give the table with the MEPs.")
    if known.min() < 0 or not np.isfinite(known).all():
        raise DataError(
            f"{source} holds the amplitude {known.min():g} uV; expected 0 or more (peak to peak). Are these "
            "logarithms, z-scores, or differences from a baseline?"
        )
    if known.max() < LEAST_MAXIMUM_UV or known.max() >= LARGEST_UV:
        raise DataError(
            f"The largest amplitude in {source} is {known.max():.4g} uV; expected {LEAST_MAXIMUM_UV:g} to "
            f"{LARGEST_UV:g} uV. Is the unit another one (V, mV), or are the amplitudes normalised? State it."
        )


def uv_per_unit(unit: str) -> float:
    """Return how many uV a unit has; DataError if it is none."""
    return _factor(unit, "the unit")


def _factor(unit: str, where: str) -> float:
    factor = UV_PER_UNIT.get(unit.strip().lower())
    if factor is None:
        raise DataError(f"{where} is {unit!r}; expected uV, mV or V.")
    return factor


def _from_csv(path: Path, lines: list[str], factor: float | None, muscles: Sequence[str] | None) -> MepTable:
    rows = [(n, line) for n, line in enumerate(lines, start=1) if line.strip() and not line.lstrip().startswith("#")]
    if len(rows) < 2:
        raise FileFormatError(f"{path}: {len(rows)} lines with text; expected column names and at least one row.")
    separator = max("\t;,", key=rows[0][1].count)
    names = [name.strip() for name in _cells(path, *rows[0], separator)]
    while names and not names[-1]:
        names.pop()
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise FileFormatError(f"{path}, line {rows[0][0]}: the column {twice[0]!r} stands there twice; rename one.")
    chosen = _chosen(path, names, factor, muscles)
    cells_of = []
    for number, line in rows[1:]:
        cells = _cells(path, number, line, separator)
        while len(cells) > len(names) and not cells[-1].strip():
            cells.pop()
        if len(cells) != len(names):
            raise FileFormatError(
                f"{path}, line {number}: {len(cells)} columns; expected {len(names)}, as line {rows[0][0]} names. Is "
                "the file truncated, or are decimal commas not told from separators?"
            )
        cells_of.append((number, cells))
    mep_uv = np.empty((len(cells_of), len(chosen)))
    for row, (number, cells) in enumerate(cells_of):
        for column, (name, _, scale) in enumerate(chosen):
            mep_uv[row, column] = _amplitude(f"{path}, line {number}", name, cells[names.index(name)]) * scale
    used = {name for name, _, _ in chosen}
    return MepTable(
        muscles=tuple(muscle for _, muscle, _ in chosen),
        mep_uv=mep_uv,
        row=tuple(f"line {number}" for number, _ in cells_of),
        source=path.name,
        column={
            name: tuple(cells[place].strip() for _, cells in cells_of)
            for place, name in enumerate(names)
            if name and name not in used
        },
    )


def _cells(path: Path, number: int, line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator, strict=True))
    except csv.Error as error:
        raise FileFormatError(f"{path}, line {number}: not a line of separated values ({error}).") from error


def _amplitude(where: str, column: str, text: str) -> float:
    try:
        value = parse_number(text)
    except ValueError as error:
        raise FileFormatError(
            f"{where}, column {column!r}: expected an amplitude or nothing; found {text!r}."
        ) from error
    if value < 0:
        raise FileFormatError(f"{where}, column {column!r}: the amplitude is {value:g}; expected 0 or more.")
    return value


def _chosen(
    path: Path, names: list[str], factor: float | None, muscles: Sequence[str] | None
) -> list[tuple[str, str, float]]:
    """Return the amplitude columns: their names, the muscles' names, uV per unit."""
    found: list[tuple[str, str, float]] = []
    for name in names:
        match = _WITH_UNIT.fullmatch(name)
        bare = match["muscle"] if match else name
        stated = _factor(match["unit"], name) if match else None
        muscle = _PREFIX.sub("", bare, count=1) or bare
        if muscles is None:
            if not (match or muscle.lower() in KNOWN_MUSCLES and (bare == muscle or _PREFIX.match(bare))):
                continue
        else:
            wanted = next((each for each in muscles if _fits(each, name, bare)), None)
            if wanted is None:
                continue
            muscle = _starred(wanted, bare) if "*" in wanted else muscle
        if stated is None and factor is None:
            raise DataError(
                f"{path}: the unit of the column {name!r} is not stated. Rename it to {name + '_uV'!r} (or _mV, _V), "
                "or give --unit."
            )
        if stated is not None and factor is not None and stated != factor:
            raise DataError(f"{path}: the column {name!r} states its unit, and --unit another one. Give one of them.")
        found.append((name, muscle, stated or factor or 1.0))
    for each in muscles or ():
        if not any(_fits(each, name, _bare(name)) for name in names):
            raise DataError(f"{path}: no column fits {each!r}; its columns are {', '.join(names)}.")
    given = [muscle for _, muscle, _ in found]
    twice = sorted({muscle for muscle in given if given.count(muscle) > 1})
    if twice:
        raise DataError(f"{path}: two columns are amplitudes of {twice[0]!r}; name the right one with --muscles.")
    if not found:
        raise DataError(
            f"{path}: no column is known to be a muscle's amplitude; its columns are {', '.join(names)}. Name them "
            "with --muscles, or with their unit, e.g. FDI_uV."
        )
    return found


def _bare(name: str) -> str:
    match = _WITH_UNIT.fullmatch(name)
    return match["muscle"] if match else name


def _fits(wanted: str, name: str, bare: str) -> bool:
    if "*" in wanted:
        return fnmatchcase(name.lower(), wanted.lower()) or fnmatchcase(bare.lower(), wanted.lower())
    return wanted.lower() in (name.lower(), bare.lower(), _PREFIX.sub("", bare, count=1).lower())


def _starred(pattern: str, bare: str) -> str:
    """Return what the star of a pattern stands for."""
    head, _, tail = pattern.partition("*")
    inner = bare[len(head) :] if bare.lower().startswith(head.lower()) else bare
    return inner[: -len(tail)] if tail and inner.lower().endswith(tail.lower()) else inner or bare


def _from_arrays(path: Path, arrays: Arrays, factor: float | None, muscles: Sequence[str] | None) -> MepTable:
    if "mep_uv" in arrays:
        if factor not in (None, 1.0):
            raise DataError(f"{path}: mep_uv states its unit, and --unit another one. Give one of them.")
        mep, scale = arrays["mep_uv"], 1.0
    elif "mep" in arrays and factor is not None:
        mep, scale = arrays["mep"], factor
    else:
        raise FileFormatError(
            f"{path}: no dataset 'mep_uv' (n, m), nor 'mep' with --unit; it has {', '.join(sorted(arrays)) or 'none'}."
        )
    names = tuple(muscles) if muscles else texts(arrays.get("muscles"))
    if mep.ndim != 2 or mep.dtype.kind not in "fiu" or len(names) != mep.shape[1] or len(set(names)) != len(names):
        raise FileFormatError(
            f"{path}: the amplitudes are {mep.dtype} {mep.shape} for the muscles {list(names)}; expected numbers "
            "(n, m) and m names, each once."
        )
    columns = {
        name: tuple(str(value.decode() if isinstance(value, bytes) else value) for value in array.tolist())
        for name, array in arrays.items()
        if array.shape == (len(mep),) and name != "muscles"
    }
    rows = tuple(f"row {number}" for number in range(1, len(mep) + 1))
    return MepTable(names, mep.astype(np.float64) * scale, rows, path.name, columns)

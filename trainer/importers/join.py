"""Which row of one table belongs to which row of another: by order, a key column, a name, an index or the time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError
from trainer.importers.wild_text import MISSING_WORDS, parse_number

TIME_TOLERANCE_S = 0.5
"""Two clock readings farther apart are not of the same pulse: pulses come seconds apart."""

DAY_S = 86400.0

LONGEST_S = 1e8
"""A clock beyond this (three years) counts from 1970 and has a date."""


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two tables, as far as joining needs it.

    Attributes
    ----------
    source : str
        Where it comes from.
    row : tuple of str
        Where each row stands, in words.
    column : mapping of str to tuple of str
        Columns to join by.
    label : tuple of str
        The rows' names; empty if they have none.
    time_s : numpy.ndarray
        (n,) float64, s; NaN if unknown; empty if the table has no clock.
    """

    source: str
    row: tuple[str, ...]
    column: Mapping[str, tuple[str, ...]]
    label: tuple[str, ...]
    time_s: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True)
class Match:
    """A row of the left table, one of the right, or both; and why they cannot be used, if so."""

    left: int | None
    right: int | None
    refused: str = ""


def join(
    left: Side, right: Side, by: str, *, tolerance_s: float = TIME_TOLERANCE_S, offset_s: float = 0.0
) -> list[Match]:
    """Match the rows of two tables.

    Parameters
    ----------
    left, right : Side
        Poses or fields, and amplitudes.
    by : str
        `order` (both must have as many rows), `index` (a column `Index`, else rows counted from 1), `name`, `time`, or
        the name of a column in both; `A=B` where the columns are called differently, left one first.
    tolerance_s : float
        Largest difference of two times, s.
    offset_s : float
        What to add to the right table's times, s.

    Returns
    -------
    list of Match
        Every row of both tables once: matched, or refused with the reason.

    Raises
    ------
    DataError
        The numbers of rows differ (by order), or a table has no such column or no times.
    """
    if by == "order":
        if len(left) != len(right):
            raise DataError(
                f"{left.source} has {len(left)} rows, {right.source} {len(right)}: they cannot be matched by order. "
                "Give a column that both have (--by)."
            )
        return [Match(row, row) for row in range(len(left))]
    if by == "time":
        return _by_time(left, right, tolerance_s, offset_s)
    left_name, _, right_name = by.partition("=")
    return _by_key(_keys(left, left_name.strip()), _keys(right, (right_name or left_name).strip()), by)


def column_of(side: Side, name: str) -> tuple[str, ...] | None:
    """Return a column by its name, whatever its case; None if there is none."""
    return next((cells for each, cells in side.column.items() if each.strip().lower() == name.lower()), None)


def _keys(side: Side, name: str) -> list[str]:
    cells = column_of(side, name)
    if cells is None and name.lower() in ("name", "label") and side.label:
        cells = side.label
    if cells is None and name.lower() in ("name", "label"):
        cells = next((c for each in ("Sample Name", "sample", "name", "label") if (c := column_of(side, each))), None)
    if cells is None and name.lower() == "index":
        cells = tuple(str(number) for number in range(1, len(side) + 1))
    if cells is None:
        raise DataError(
            f"{side.source} has no column {name!r}; it has {', '.join(side.column) or 'none'}. Give one of them (--by, "
            "as LEFT=RIGHT where the two tables call it differently)."
        )
    return [_plain(cell) for cell in cells]


def _plain(cell: str) -> str:
    """Return a key as it compares: 7, 7.0 and 07 are the same, and so are two spellings of nothing."""
    cell = cell.strip()
    if cell.lower() in MISSING_WORDS:
        return ""
    try:
        return f"{parse_number(cell):.12g}"
    except ValueError:
        return cell


def _by_key(left: list[str], right: list[str], by: str) -> list[Match]:
    count_left, count_right = Counter(left), Counter(right)
    row_of = {key: row for row, key in enumerate(right)}
    matches = []
    used = set()
    for row, key in enumerate(left):
        if not key:
            matches.append(Match(row, None, f"no {by}"))
        elif count_left[key] > 1 or count_right[key] > 1:
            matches.append(Match(row, None, f"{by} {key!r} stands there more than once"))
        elif key not in row_of:
            matches.append(Match(row, None, f"no MEPs with {by} {key!r}"))
        else:
            used.add(row_of[key])
            matches.append(Match(row, row_of[key]))
    for row, key in enumerate(right):
        if row not in used:
            if not key:
                reason = f"no {by}"
            elif count_left[key] > 1 or count_right[key] > 1:
                reason = f"{by} {key!r} stands there more than once"
            else:
                reason = f"no pose or field with {by} {key!r}"
            matches.append(Match(None, row, reason))
    return matches


def _by_time(left: Side, right: Side, tolerance_s: float, offset_s: float) -> list[Match]:
    left_s, right_s = _times(left), _times(right) + offset_s
    if not np.isfinite(left_s).any() or not np.isfinite(right_s).any():
        raise DataError(f"{left.source} or {right.source} has no times at all; join by another column (--by).")
    left_s, right_s = _on_one_clock(left_s, right_s)
    near = np.abs(left_s[:, None] - right_s[None, :]) <= tolerance_s  # NaN is near nothing
    matches, used = [], set()
    for row in range(len(left)):
        there = np.flatnonzero(near[row])
        if not np.isfinite(left_s[row]):
            matches.append(Match(row, None, "no time"))
        elif not len(there):
            gap_s = np.nanmin(np.abs(right_s - left_s[row]))
            matches.append(Match(row, None, f"no MEPs within {tolerance_s:g} s (the nearest are {gap_s:.3g} s off)"))
        elif len(there) > 1 or near[:, there[0]].sum() > 1:
            matches.append(Match(row, None, f"more than one pulse within {tolerance_s:g} s"))
        else:
            used.add(int(there[0]))
            matches.append(Match(row, int(there[0])))
    matches += [Match(None, row, "no pose or field at that time") for row in range(len(right)) if row not in used]
    return matches


def _on_one_clock(
    left_s: npt.NDArray[np.float64], right_s: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Leave out the date where only one of the two tables has it."""
    dated = [bool(np.nanmin(each) > LONGEST_S) for each in (left_s, right_s)]
    if dated[0] != dated[1]:
        return (left_s % DAY_S, right_s) if dated[0] else (left_s, right_s % DAY_S)
    return left_s, right_s


def _times(side: Side) -> npt.NDArray[np.float64]:
    """Return a table's times: its clock, or columns Date and Time, or seconds in a column time or time_s."""
    if len(side.time_s):
        return side.time_s
    time = next((c for name in ("time_s", "time", "t", "t_s") if (c := column_of(side, name)) is not None), None)
    if time is None:
        raise DataError(f"{side.source} has no column time_s or Time; it has {', '.join(side.column) or 'none'}.")
    date = column_of(side, "date") or ("",) * len(time)
    return np.array([_seconds(day, cell) for day, cell in zip(date, time, strict=True)])


def _seconds(date: str, cell: str) -> float:
    try:
        return parse_number(cell)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(
            f"{date.strip() or '1970-01-01'} {cell.strip()}" if " " not in cell and "T" not in cell else cell.strip()
        )
    except ValueError:
        return float("nan")
    return (moment.replace(tzinfo=None) - datetime(1970, 1, 1)).total_seconds()

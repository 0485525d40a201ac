"""Brainsight's text export, all versions: poses, stimulator output and EMG amplitudes of samples or targets.

A file is a header of `# key: value` lines and several tables, each with a `#` line of tab-separated column names, which
differ by version. `Loc. X/Y/Z` is the position in mm, `m0n0 m0n1 m0n2` the coil's x axis, `m1..` y, `m2..` z. That
frame has z out of the head and x to the other side, so it differs from ours by diag(-1, 1, -1). `(null)` is missing.

The coordinate systems, after Brainsight's makers (quoted in SimNIBS' documentation of its own reader) and the shared
files: `NIfTI:*` are the image's own RAS mm; `Brainsight` is mm from the voxel at the image's right-anterior-inferior
corner, x to the left, y backward, z up (LPS); `World` is the one of images that are no NIfTI: for DICOM that is LPS,
which nothing but the file's own landmarks tells.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np

from rt_engine.atomic_file import written_whole
from rt_engine.errors import DataError, FileFormatError
from trainer.importers.pose_table import Floats, PoseTable, no_pose, pose_from, rigid_pose, without_misplaced
from trainer.importers.wild_text import MISSING_WORDS, parse_number, read_lines

TO_COIL_FRAME = np.diag([-1.0, 1.0, -1.0, 1.0])
"""Brainsight's coil axes to ours, and back: x to the other wing, z into the head."""

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

TableName = Literal["samples", "targets"]

_LOCATION = ("Loc. X", "Loc. Y", "Loc. Z")
_AXES = tuple(f"m{axis}n{component}" for axis in range(3) for component in range(3))
_TABLE_OF = {"Sample Name": "samples", "Target Name": "targets", "Planned Landmark Name": "landmarks"}
_POWER = ("Stim. Power A", "Stim. Power")
_PEAK_TO_PEAK = re.compile(r"EMG Peak-to-peak (\d+)")
_NIFTI = re.compile(r"NIfTI(:[A-Za-z])?:(Aligned|Scanner|MNI-152|Talairach|Other)", re.IGNORECASE)


@dataclass
class _Table:
    """One table: the line of its header, its columns, and its rows with their lines."""

    line: int
    columns: list[str]
    rows: list[tuple[int, list[str]]] = field(default_factory=list)


def read_brainsight(path: str | Path, table: TableName | None = None) -> PoseTable:
    """Read the samples (pulses) or targets of a Brainsight text export.

    Parameters
    ----------
    path : str or Path
        The file.
    table : {"samples", "targets"}, optional
        Which table; default the samples, or the targets where there are no samples.

    Returns
    -------
    PoseTable
        Positions in the stated space; `World` brought to RAS where the file's landmarks show that it is LPS. Amplitudes
        of `EMG Peak-to-peak n` in uV, as the header says, under the names `EMG n`. `time_s` counts from 1970 in the
        laboratory's local time.

    Raises
    ------
    FileFormatError
        The file is no such export, or one of its lines cannot be what it should be; the message names the line.
    """
    lines = read_lines(path)
    header, tables = _parse(path, lines)
    system = _coordinate_system(path, header)
    found = next(
        (tables[name] for name in ([table] if table else ["samples", "targets"]) if _has_rows(tables, name)), None
    )
    if found is None:
        wanted = table or "samples nor targets"
        last = max((each.line for each in tables.values()), default=len(lines))
        raise FileFormatError(
            f"{path} has no {wanted}: its last table begins in line {last}, and none has rows of that kind. Export the "
            "samples (or targets) of the session."
        )
    space, axes, flip = _space(path, system, tables.get("landmarks"))
    rows = [dict(zip(found.columns, cells, strict=True)) for _, cells in found.rows]
    pose = np.empty((len(rows), 4, 4))
    reasons = []
    for number, ((line, _), row) in enumerate(zip(found.rows, rows, strict=True)):
        pose[number], reason = _pose(f"{path}, line {line}", row)
        reasons.append(reason)
    pose, missing = without_misplaced(pose, reasons, [f"{path}, line {line}" for line, _ in found.rows])
    channels = sorted(int(match[1]) for name in found.columns if (match := _PEAK_TO_PEAK.fullmatch(name)))
    power = next((name for name in _POWER if name in found.columns), None)

    def numbers(column: str) -> list[float]:
        return [
            _number(f"{path}, line {line}", column, row[column])
            for (line, _), row in zip(found.rows, rows, strict=True)
        ]

    kept = [name for name in found.columns if not name.startswith("EMG Data") and name not in (*_LOCATION, *_AXES)]
    return PoseTable(
        label=tuple(row[found.columns[0]] for row in rows),
        pose=flip @ pose,
        missing=missing,
        time_s=np.array([_time_s(row.get("Date", ""), row.get("Time", "")) for row in rows]),
        space=space,
        source=f"Brainsight {header.get('created by', (0, ''))[1].removeprefix('Brainsight').strip()} text export "
        f"{Path(path).name}",
        axes=axes,
        origin_known=system != "Brainsight",
        percent_mso=np.array(numbers(power)) if power else np.full(len(rows), np.nan),
        muscles=tuple(f"EMG {channel}" for channel in channels),
        mep_uv=np.array([numbers(f"EMG Peak-to-peak {channel}") for channel in channels])
        .reshape(len(channels), len(rows))
        .T,
        column={name: tuple(row[name] for row in rows) for name in kept},
    )


def write_brainsight(
    path: str | Path, label: Sequence[str], pose: Floats, *, coordinate_system: str = "NIfTI:Scanner"
) -> None:
    """Write poses as a Brainsight text file with a table of targets, which Brainsight imports.

    Parameters
    ----------
    path : str or Path
        Where to write; a file already there is replaced in one step.
    label : sequence of str
        The n targets' names.
    pose : numpy.ndarray
        (n, 4, 4); coil frame (ours) to RAS mm of that coordinate system; all NaN is written as `(null)`.
    coordinate_system : str
        One of Brainsight's `NIfTI:...`: those are the RAS ones.

    Raises
    ------
    DataError
        A name or pose that cannot be written, another coordinate system, or the file cannot be written there.
    """
    if not _NIFTI.fullmatch(coordinate_system):
        raise DataError(f"The coordinate system is {coordinate_system!r}; expected one of NIfTI, e.g. 'NIfTI:Scanner'.")
    if len(label) != len(pose):
        raise DataError(f"There are {len(label)} names and {len(pose)} poses; expected as many.")
    lines = [
        "# Version: 12",
        f"# Coordinate system: {coordinate_system}",
        "# Created by: m2m-live",
        "# Units: millimetres, degrees, milliseconds, and microvolts",
        "# Encoding: UTF-8",
        "# Notes: Each column is delimited by a tab. Each value within a column is delimited by a semicolon.",
        "# " + "\t".join(("Target Name", *_LOCATION, *_AXES)),
    ]
    for name, each in zip(label, np.asarray(pose, np.float64), strict=True):
        if not name.strip() or name != name.strip() or name.startswith("#") or re.search(r"[\t\n\r\0]", name):
            raise DataError(
                f"The name {name!r} cannot stand in a Brainsight file: expected some text without tabs, line breaks, "
                "spaces at its ends or a leading '#'."
            )
        if np.isnan(each).all():
            lines.append("\t".join([name, *["(null)"] * 12]))
            continue
        theirs = rigid_pose(each, f"the pose of {name!r}") @ TO_COIL_FRAME
        # Enough digits that a point 1 m from the coil moves by less than 1e-6 mm.
        cells = [f"{value:.7f}" for value in theirs[:3, 3]] + [f"{value:.10f}" for value in theirs[:3, :3].T.ravel()]
        lines.append("\t".join([name, *cells]))
    with written_whole(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _parse(path: str | Path, lines: list[str]) -> tuple[dict[str, tuple[int, str]], dict[str, _Table]]:
    """Split a file into its header, {key in lower case: (line, value)}, and its tables by kind."""
    header: dict[str, tuple[int, str]] = {}
    tables: dict[str, _Table] = {}
    current: _Table | None = None
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        if text.startswith("#"):
            cells = [cell.strip() for cell in text[1:].split("\t")]
            if len(cells) == 1:
                key, colon, value = cells[0].partition(":")
                if colon and current is None:
                    header[key.strip().lower()] = (number, value.strip())
                continue
            current = _Table(number, cells)
            kind = _TABLE_OF.get(cells[0], f"other {number}")
            if kind in tables:
                raise FileFormatError(
                    f"{path}, line {number}: a second table {cells[0]!r}; the first begins in line "
                    f"{tables[kind].line}. Are these several exports in one file? Give one."
                )
            if kind in ("samples", "targets"):
                _check_columns(f"{path}, line {number}", cells)
            tables[kind] = current
            continue
        if current is None:
            raise FileFormatError(
                f"{path}, line {number}: {text[:40]!r} stands before any table; a Brainsight text export begins with "
                "'# Version: ...'. Is it another program's file?"
            )
        cells = text.split("\t")
        if len(cells) == len(current.columns) + 1 and not cells[-1].strip():
            cells.pop()  # a tab at the line's end, as spreadsheets leave it
        if len(cells) != len(current.columns):
            raise FileFormatError(
                f"{path}, line {number}: {len(cells)} columns; expected {len(current.columns)}, as line {current.line} "
                "names. Is the file truncated, or are its tabs lost? Export it again."
            )
        current.rows.append((number, [cell.strip() for cell in cells]))
    if "version" not in header:
        raise FileFormatError(f"{path}, line 1: no '# Version: ...' in the header; expected a Brainsight text export.")
    line, units = header.get("units", (0, "millimetres, microvolts"))
    if "millimet" not in units.lower() or "microvolt" not in units.lower():
        raise FileFormatError(f"{path}, line {line}: the units are {units!r}; expected millimetres and microvolts.")
    return header, tables


def _check_columns(where: str, columns: list[str]) -> None:
    for name in (*_LOCATION, *_AXES):
        if columns.count(name) != 1:
            raise FileFormatError(
                f"{where}: the column {name!r} stands there {columns.count(name)} times; expected once. Export all "
                "columns again."
            )


def _has_rows(tables: dict[str, _Table], name: str) -> bool:
    return name in tables and bool(tables[name].rows)


def _coordinate_system(path: str | Path, header: dict[str, tuple[int, str]]) -> str:
    if "coordinate system" not in header:
        raise FileFormatError(f"{path}, line 1: no '# Coordinate system: ...' in the header; positions mean nothing.")
    line, system = header["coordinate system"]
    if system not in ("Brainsight", "World") and not _NIFTI.fullmatch(system):
        raise FileFormatError(
            f"{path}, line {line}: the coordinate system is {system!r}; expected NIfTI:..., World or Brainsight. "
            "Export in NIfTI:Scanner or NIfTI:Aligned."
        )
    return system


def _space(path: str | Path, system: str, landmarks: _Table | None) -> tuple[str, str, Floats]:
    """Return the space's name, its axes, and what takes its mm to those in the table."""
    if system == "Brainsight":
        return (
            "Brainsight, LPS: mm from the image's right-anterior-inferior corner, x left, y backward, z up",
            "LPS",
            np.eye(4),
        )
    axes, where = _axes_by_landmarks(landmarks)
    if system == "World":
        if axes == "LPS":
            return "World (DICOM's patient coordinates), brought from LPS to RAS", "RAS", LPS_TO_RAS
        return f"World, {axes or 'axes not stated'}", axes, np.eye(4)
    if axes == "LPS":
        raise FileFormatError(
            f"{path}, {where}: the left ear is right of the right one, and the nose behind both: these positions are "
            f"LPS, but {system} is RAS. Left and right would be swapped. Was the header edited? Export again."
        )
    return f"{system}, RAS", "RAS", np.eye(4)


def _axes_by_landmarks(landmarks: _Table | None) -> tuple[str, str]:
    """Tell RAS from LPS by the ears and the nose on the image; nothing if they are not there or disagree."""
    found: dict[str, Floats] = {}
    line = 0
    for number, cells in landmarks.rows if landmarks else []:
        row = dict(zip(landmarks.columns if landmarks else [], cells, strict=True))
        try:
            found[cells[0].lower()] = np.array([parse_number(row.get(name, "")) for name in _LOCATION])
        except ValueError:
            continue
        line = number if cells[0].lower() == "lpa" else line
    if not {"lpa", "rpa", "nasion"} <= found.keys():
        return "", ""
    right = found["rpa"][0] - found["lpa"][0]
    front = found["nasion"][1] - (found["rpa"][1] + found["lpa"][1]) / 2
    if right > 0 and front > 0:
        return "RAS", f"line {line}"
    return ("LPS", f"line {line}") if right < 0 and front < 0 else ("", "")


def _pose(where: str, row: dict[str, str]) -> tuple[Floats, str]:
    """Return a row's pose, and why there is none."""
    values = {name: _number(where, name, row[name]) for name in (*_LOCATION, *_AXES)}
    absent = [name for name, value in values.items() if np.isnan(value)]
    if absent:
        return no_pose(), f"{', '.join(absent[:3])}{' ...' if len(absent) > 3 else ''} (null)"
    axes = np.array([values[name] for name in _AXES]).reshape(3, 3).T
    if not axes.any():
        return no_pose(), "axes are zeros"
    position_mm = np.array([values[name] for name in _LOCATION])
    return rigid_pose(pose_from(axes, position_mm) @ TO_COIL_FRAME, where, position=False), ""


def _number(where: str, column: str, text: str) -> float:
    try:
        return parse_number(text)
    except ValueError as error:
        raise FileFormatError(f"{where}, column {column!r}: expected a number or (null); found {text!r}.") from error


def _time_s(date: str, time: str) -> float:
    if date.lower() in MISSING_WORDS or time.lower() in MISSING_WORDS:
        return float("nan")
    try:
        moment = datetime.fromisoformat(f"{date} {time.replace(',', '.')}")
    except ValueError:
        return float("nan")
    return (moment.replace(tzinfo=None) - datetime(1970, 1, 1)).total_seconds()

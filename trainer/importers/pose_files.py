"""One door to all files with coil poses: which reader a file needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rt_engine.errors import DataError, FileFormatError
from trainer.importers.brainsight import TableName, read_brainsight
from trainer.importers.localite import read_localite
from trainer.importers.matsimnibs import read_matsimnibs
from trainer.importers.pose_table import Floats, PoseTable, merged_coils, rigid_pose
from trainer.importers.wild_text import read_lines


def read_poses(paths: Sequence[str | Path], *, table: TableName | None = None) -> PoseTable:
    """Read coil poses from one or more files.

    Parameters
    ----------
    paths : sequence of str or Path
        Brainsight text, Localite XML, matsimnibs (.mat, .npy, .csv, .txt, .json) or visor2 (.mrk). Several Localite
        TriggerMarkers with the same times are the coils of one recording and are merged; else the files' rows follow
        one another.
    table : {"samples", "targets"}, optional
        Which table of a Brainsight export.

    Returns
    -------
    PoseTable

    Raises
    ------
    FileFormatError
        A file that is none of these, or a line or element of it that cannot be used.
    DataError
        Files that do not go together.
    """
    tables = [_read(Path(path), table) for path in paths]
    if len(tables) == 1:
        return tables[0]
    if not tables:
        raise DataError("No file with poses was given.")
    same_times = all(np.array_equal(each.time_s, tables[0].time_s) for each in tables)
    if same_times and all("recordingTime" in each.column for each in tables):
        return merged_coils(tables)
    return _one_after_another(tables)


def read_transform(path: str | Path) -> Floats:
    """Read a rigid motion from a text file of four lines of four numbers.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    numpy.ndarray
        (4, 4) float64.

    Raises
    ------
    FileFormatError
        No such file, other numbers, or no rigid motion.
    """
    rows = []
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                rows.append([float(cell) for cell in line.replace(",", " ").replace(";", " ").split()])
            except ValueError as error:
                raise FileFormatError(f"{path}, line {number}: expected four numbers; found {line[:60]!r}.") from error
    if [len(row) for row in rows] != [4, 4, 4, 4]:
        raise FileFormatError(f"{path}: {len(rows)} lines with numbers; expected four lines of four.")
    return rigid_pose(np.array(rows), str(path), position=False)


def _read(path: Path, table: TableName | None) -> PoseTable:
    kind = path.suffix.lower()
    if kind == ".xml":
        return read_localite(path)
    if kind == ".stmpx":
        raise FileFormatError(
            f"{path}: Softaxic's element stmp does not say in which space its positions are; expected "
            "poses in a stated space. Import them in SimNIBS and give the matsimnibs."
        )
    if kind in (".mat", ".npy", ".csv", ".json", ".mrk"):
        return read_matsimnibs(path)
    if kind != ".txt":
        raise FileFormatError(
            f"{path} ends with {kind!r}; expected .txt (Brainsight), .xml (Localite), .mat, .npy, .csv, .json or .mrk."
        )
    lines = [line for line in read_lines(path) if line.strip()]
    first = next((line for line in lines if not line.startswith("#")), "")
    # Four numbers are a matrix's row; all else must be what Brainsight writes, and its reader says what is not.
    if lines and lines[0].startswith("# Version"):
        first = ""
    numbers = first.replace(",", " ").replace(";", " ").split()
    if len(numbers) in (4, 16) and all(_is_number(cell) for cell in numbers):
        return read_matsimnibs(path)
    return read_brainsight(path, table)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _one_after_another(tables: list[PoseTable]) -> PoseTable:
    first = tables[0]
    for other in tables[1:]:
        if (other.space, other.muscles) != (first.space, first.muscles):
            raise DataError(
                f"{first.source} is in {first.space} with the channels {list(first.muscles)}, {other.source} in "
                f"{other.space} with {list(other.muscles)}; expected one space and the same channels."
            )
    shared = [name for name in first.column if all(name in other.column for other in tables)]
    return replace(
        first,
        label=tuple(label for table in tables for label in table.label),
        pose=np.concatenate([table.pose for table in tables]),
        missing=tuple(reason for table in tables for reason in table.missing),
        time_s=np.concatenate([table.time_s for table in tables]),
        source=" + ".join(table.source for table in tables),
        percent_mso=np.concatenate([table.percent_mso for table in tables]),
        didt_a_per_us=np.concatenate([table.didt_a_per_us for table in tables]),
        mep_uv=np.concatenate([table.mep_uv for table in tables]),
        column={name: tuple(cell for table in tables for cell in table.column[name]) for name in shared},
    )

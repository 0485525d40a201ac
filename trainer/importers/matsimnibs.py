"""Coil poses in SimNIBS' own convention, which is ours: `matsimnibs` matrices in .mat, .npy, .csv, .txt or .json.

Also the markers of ANT's visor2 (`.mrk`), whose JSON says that it uses the same convention and mm.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from rt_engine.edges.foreign_files import try_foreign_hdf5
from rt_engine.errors import FileFormatError
from trainer.importers.mat_file import read_mat
from trainer.importers.pose_table import Floats, PoseTable, no_pose, rigid_pose, without_misplaced
from trainer.importers.wild_text import parse_number, read_bytes, read_lines

SPACE = "SimNIBS, RAS of the head model's image"

_A_PER_US = 1e-6  # SimNIBS keeps dI/dt in A/s


def read_matsimnibs(path: str | Path) -> PoseTable:
    """Read coil poses in SimNIBS' convention.

    Parameters
    ----------
    path : str or Path
        `.mat`: a session, a TMSLIST, or a variable `matsimnibs` (4, 4), (4, 4, n) or (n, 4, 4), of MATLAB 5 to 7.3;
        `.npy`: such an array; `.csv`, `.txt`: matrices below one another with four numbers a line, or one matrix of
        sixteen numbers a line, row by row; `.json`: a matrix, a list of matrices, or either under `matsimnibs`;
        `.mrk`: visor2's markers.

    Returns
    -------
    PoseTable
        A matrix of NaN, of zeros or the identity is no pose.

    Raises
    ------
    FileFormatError
        Another kind of file, or a matrix that is no coil pose; the message names it.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind == ".mrk":
        return _visor(path)
    readers = {".mat": _mat, ".npy": _npy, ".csv": _text, ".txt": _text, ".json": _json}
    if kind not in readers:
        raise FileFormatError(f"{path} ends with {kind!r}; expected .mat, .npy, .csv, .txt, .json or .mrk.")
    found = list(readers[kind](path))
    if not found:
        raise FileFormatError(f"{path} holds no coil pose: expected a 4 x 4 matrix, in .mat files named matsimnibs.")
    return _table(path, found, SPACE)


_Found = tuple[str, str, Any, float]
"""Name, where in the file, matrix, dI/dt in A/us."""


def _table(path: Path, found: list[_Found], space: str) -> PoseTable:
    places = [f"{path}, {where}" for _, where, _, _ in found]
    read = [_pose(where, matrix) for where, (_, _, matrix, _) in zip(places, found, strict=True)]
    pose, missing = without_misplaced(np.array([pose for pose, _ in read]), [reason for _, reason in read], places)
    return PoseTable(
        label=tuple(name for name, _, _, _ in found),
        pose=pose,
        missing=missing,
        time_s=np.full(len(found), np.nan),
        space=space,
        source=f"matsimnibs {path.name}",
        didt_a_per_us=np.array([didt for _, _, _, didt in found]),
        column={"index": tuple(str(number) for number in range(1, len(found) + 1))},
    )


def _pose(where: str, matrix: Any) -> tuple[Floats, str]:
    try:
        pose = np.asarray(matrix, np.float64)
    except (TypeError, ValueError) as error:
        raise FileFormatError(f"{where}: expected a 4 x 4 matrix of numbers; found {str(matrix)[:60]!r}.") from error
    if pose.shape == (4, 4) and (np.isnan(pose).all() or not pose.any() or np.array_equal(pose, np.eye(4))):
        return no_pose(), "no pose (NaN, zeros or the identity)"
    return rigid_pose(pose, where, position=False), ""


def _stacked(path: Path, array: Floats, what: str) -> Iterator[_Found]:
    """Give the matrices of an array (4, 4), (n, 4, 4) or (4, 4, n)."""
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or 4 not in array.shape:
        raise FileFormatError(f"{path}: {what} has the shape {array.shape}; expected (4, 4), (n, 4, 4) or (4, 4, n).")
    first = array.shape[1:] == (4, 4)
    last = array.shape[:2] == (4, 4)
    if first and last:
        # Four matrices: the last row of each tells which axis counts them.
        first = not np.allclose(np.moveaxis(array, 2, 0)[:, 3], (0, 0, 0, 1))
    if not first and not last:
        raise FileFormatError(f"{path}: {what} has the shape {array.shape}; expected (4, 4), (n, 4, 4) or (4, 4, n).")
    if not first:
        array = np.moveaxis(array, 2, 0)
    for number, matrix in enumerate(array, start=1):
        yield str(number), f"{what} {number}", matrix, np.nan


def _npy(path: Path) -> Iterator[_Found]:
    data = read_bytes(path)
    try:
        array = np.load(BytesIO(data), allow_pickle=False)
    except Exception as error:  # NumPy raises whatever damaged bytes lead it to
        raise FileFormatError(
            f"{path} cannot be read as a NumPy array ({error}). Save it again with numpy.save."
        ) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise FileFormatError(
            f"{path} holds {getattr(array, 'dtype', 'several arrays')}; expected one array of numbers."
        )
    yield from _stacked(path, array.astype(np.float64), "matrix")


def _text(path: Path) -> Iterator[_Found]:
    rows: list[tuple[int, list[float]]] = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip() or line.lstrip().startswith(("#", "%")):
            continue
        cells = line.replace("\t", ";").split(";") if ";" in line or "\t" in line else None
        if cells is None:
            cells = line.split(",") if "," in line else line.split()
        while cells and not cells[-1].strip():
            cells.pop()
        try:
            rows.append((number, [parse_number(cell) for cell in cells]))
        except ValueError as error:
            raise FileFormatError(f"{path}, line {number}: {error}; expected 4 or 16 numbers.") from error
        if len(cells) not in (4, 16):
            raise FileFormatError(f"{path}, line {number}: {len(cells)} numbers; expected 4 or 16.")
    widths = {len(values) for _, values in rows}
    if widths == {16}:
        for count, (place, values) in enumerate(rows, start=1):
            yield str(count), f"line {place}", np.reshape(values, (4, 4)), np.nan
    elif widths == {4}:
        if len(rows) % 4:
            raise FileFormatError(f"{path}, line {rows[-1][0]}: {len(rows)} rows of 4 numbers; expected 4 per matrix.")
        for first in range(0, len(rows), 4):
            block = rows[first : first + 4]
            yield str(first // 4 + 1), f"line {block[0][0]}", np.array([values for _, values in block]), np.nan
    elif rows:
        raise FileFormatError(f"{path}: some lines have 4 numbers, others 16; expected one of them.")


def _json(path: Path) -> Iterator[_Found]:
    content = _json_content(path)
    if isinstance(content, dict):
        if "matsimnibs" not in content:
            raise FileFormatError(f"{path}: no key 'matsimnibs'; found {sorted(content)[:8]}.")
        content = content["matsimnibs"]
    try:
        array = np.array(content, np.float64)
    except (TypeError, ValueError) as error:
        raise FileFormatError(f"{path}: expected a 4 x 4 matrix of numbers, or a list of them.") from error
    yield from _stacked(path, array, "matrix")


def _json_content(path: Path) -> Any:
    try:
        return json.loads("\n".join(read_lines(path)))
    except (json.JSONDecodeError, RecursionError) as error:
        raise FileFormatError(f"{path} cannot be read as JSON ({error}). Is it truncated?") from error


def _mat(path: Path) -> Iterator[_Found]:
    read_bytes(path)
    if h5py.is_hdf5(path):
        yield from _mat_73(path)
        return
    for name, value in read_mat(path, simple=True).items():
        yield from _mat_value(path, name, value)


def _mat_value(path: Path, name: str, value: Any, depth: int = 0) -> Iterator[_Found]:
    """Look for matrices named matsimnibs in a variable, its fields and cells."""
    if depth > 12:
        return
    if name == "matsimnibs" and isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        yield from _stacked(path, value.astype(np.float64), "matsimnibs")
    elif hasattr(value, "_fieldnames"):
        matrix = getattr(value, "matsimnibs", None)
        if isinstance(matrix, np.ndarray) and matrix.shape == (4, 4):
            label = getattr(value, "name", "")
            didt = getattr(value, "didt", np.nan)
            known = isinstance(didt, int | float) and 0 < didt < np.inf
            didt = float(didt) * _A_PER_US if known else np.nan
            yield label if isinstance(label, str) and label else name, f"{name}.matsimnibs", matrix, didt
            return
        for field in value._fieldnames:
            yield from _mat_value(path, field, getattr(value, field), depth + 1)
    elif isinstance(value, np.ndarray) and value.dtype == object:
        for number, item in enumerate(value.ravel().tolist(), start=1):
            yield from _mat_value(path, f"{name}({number})", item, depth + 1)


def _mat_73(path: Path) -> Iterator[_Found]:
    found: list[Floats] = []

    def collect(name: str, item: object) -> None:
        if name.rsplit("/")[-1] == "matsimnibs" and isinstance(item, h5py.Dataset) and item.dtype.kind in "fiu":
            # MATLAB stores its columns first, so HDF5 shows the axes in reverse.
            found.append(np.asarray(item[()], np.float64).T)

    try_foreign_hdf5(path)
    try:
        with h5py.File(path, "r") as file:
            file.visititems(collect)
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise FileFormatError(f"{path} cannot be read as a MATLAB 7.3 file ({error}). Save it again.") from error
    for array in found:
        yield from _stacked(path, array, "matsimnibs")


def _visor(path: Path) -> PoseTable:
    content = _json_content(path)
    found: list[_Found] = []
    try:
        for number, marker in enumerate(content["TargetMarkers"], start=1):
            target = marker["CoilTarget"]
            where = f"TargetMarkers {number}"
            for key, expected in (
                ("PositionalUnit", "mm"),
                ("CoilAxesConvention", "simnibs"),
                ("CoordinateSystem", "ASSOCIATED_IMAGE"),
            ):
                if target[key] != expected:
                    raise FileFormatError(f"{path}, {where}: {key} is {target[key]!r}; expected {expected!r}.")
            found.append((target["Name"] or str(number), where, target["CoilPose"]["RigidTransformMatrix4x4"], np.nan))
    except (KeyError, TypeError) as error:
        raise FileFormatError(
            f"{path}: not as visor2 writes its markers: {error} is missing or of another kind."
        ) from error
    if not found:
        raise FileFormatError(f"{path}: TargetMarkers is empty.")
    return _table(path, found, "visor2, RAS of the associated image")

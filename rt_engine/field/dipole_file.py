"""Coils from SimNIBS' files: `.ccd` (text, all dipoles) and the dipole elements of `.tcd` (JSON, SimNIBS 4).

A `.ccd` has comment lines (`#`), of which one may carry `;key=value;...`, a line with the number of dipoles, and one
line per dipole: x y z in m, mx my mz in A m^2 per A of coil current, in the coil frame of `rt_engine.field.coil`.
`dIdtmax` is in A/us. A `.tcd` has positions in mm, moments in A m^2 per A and `maxdIdt` in A/s; its arrays are lists,
or float64 bytes, compressed by zlib and written in base64.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from rt_engine.errors import FileFormatError
from rt_engine.field.coil import Coil, Floats

MAX_EXTENT_M = 1.0
"""No part of a coil is farther from its face's centre than this; a larger number is not in metres."""

DIDT_RANGE_A_PER_US = (0.1, 5000.0)
"""Largest dI/dt that stimulators reach, with a wide margin; a number outside has another unit."""

_MAX_BYTES = 256 * 2**20


def read_dipole_file(path: str | Path, *, name: str | None = None, max_didt_a_per_us: float | None = None) -> Coil:
    """Read a coil.

    Parameters
    ----------
    path : str or Path
        A `.ccd` or `.tcd` file; which one it is, its content decides.
    name : str, optional
        Name to give to the coil instead of the file's.
    max_didt_a_per_us : float, optional
        dI/dt at 100 % of the stimulator's output, A/us, instead of the file's. Needed where the file has none.

    Returns
    -------
    Coil
        The coil.

    Raises
    ------
    FileFormatError
        The file cannot be read, is no coil file, is cut short, or has values that no coil has; the line or element is
        named. Or neither the file nor the caller says how fast the current may change.
    """
    path = Path(path)
    text = _read_text(path)
    if text.lstrip().startswith("{"):
        position_mm, moment, own_name, own_didt = _parse_tcd(path, text)
    else:
        position_mm, moment, own_name, own_didt = _parse_ccd(path, text)
    didt = max_didt_a_per_us if max_didt_a_per_us is not None else own_didt
    if didt is None:
        raise FileFormatError(
            f"{path} does not say the largest dI/dt (dIdtmax), which the stimulator's output is counted in. Give it as "
            "max_didt_a_per_us, from the stimulator's and the coil's data sheet."
        )
    low, high = DIDT_RANGE_A_PER_US
    if not low <= didt <= high:
        raise FileFormatError(f"The largest dI/dt of {path} is {didt:g} A/us; expected {low:g} to {high:g} A/us.")
    if np.abs(position_mm).max() > MAX_EXTENT_M * 1e3:
        raise FileFormatError(
            f"{path} has a dipole {np.abs(position_mm).max():g} mm from the coil's centre; expected at most "
            f"{MAX_EXTENT_M * 1e3:g} mm. Positions are in metres in a .ccd, in mm in a .tcd."
        )
    if not moment.any():
        raise FileFormatError(f"All {len(moment)} dipoles of {path} have the moment 0: such a coil makes no field.")
    return Coil(name or own_name or path.stem, position_mm, moment, float(didt))


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise FileFormatError(f"{path} is larger than {_MAX_BYTES // 2**20} MiB: that is no coil's dipoles.")
        content = path.read_bytes()
    except OSError as error:
        raise FileFormatError(f"Cannot read {path}: {error}. Check the name.") from error
    if b"\0" in content:
        raise FileFormatError(
            f"{path} is no text; expected a .ccd or .tcd file. A field on a grid (.nii) has no dipoles."
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")  # never fails; only names can be affected


def _parse_ccd(path: Path, text: str) -> tuple[Floats, Floats, str | None, float | None]:
    announced: tuple[int, int] | None = None
    rows: list[list[float]] = []
    header: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        where = f"{path}, line {number}"
        words = line.split()
        if not words:
            continue
        if words[0].startswith("#"):
            header |= _header_pairs(line)
        elif announced is None:
            announced = (_count(where, words), number)
        else:
            rows.append(_dipole(where, words))
    if announced is None:
        raise FileFormatError(
            f"{path} holds comments only or nothing; expected the number of dipoles, then one per line."
        )
    if len(rows) != announced[0] or not rows:
        raise FileFormatError(
            f"{path} announces {announced[0]} dipoles in line {announced[1]} and has {len(rows)}. It is cut short or "
            "was changed by hand; copy it anew."
        )
    values = np.array(rows)
    didt = header.get("didtmax")
    return values[:, :3] * 1e3, values[:, 3:], _named(header.get("coilname")), _header_didt(path, didt)


def _header_pairs(line: str) -> dict[str, str]:
    """Take `key=value` out of a comment line; keys in lower case."""
    pairs = (part.split("=", 1) for part in line.lstrip("# ").split(";") if "=" in part)
    return {key.strip().lower(): value.strip() for key, value in pairs}


def _header_didt(path: Path, value: str | None) -> float | None:
    if _named(value) is None or value is None:
        return None
    try:
        return float(value)
    except ValueError as error:
        raise FileFormatError(f"dIdtmax in the header of {path} is {value!r}; expected a number of A/us.") from error


def _named(value: Any) -> str | None:
    """Drop what stands for no name."""
    return value if isinstance(value, str) and value.strip().lower() not in ("", "none") else None


def _count(where: str, words: list[str]) -> int:
    if len(words) != 1 or not re.fullmatch(r"\d{1,9}", words[0]):
        raise FileFormatError(
            f"{where}: found {' '.join(words)[:60]!r}; expected the number of dipoles, alone in its line, before them."
        )
    return int(words[0])


def _dipole(where: str, words: list[str]) -> list[float]:
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if len(values) != 6 or not all(math.isfinite(value) for value in values):
        raise FileFormatError(
            f"{where}: found {' '.join(words)[:80]!r}; expected six numbers, x y z in m and mx my mz in A m^2, with "
            "points for decimals and blanks between."
        )
    return values


def _parse_tcd(path: Path, text: str) -> tuple[Floats, Floats, str | None, float | None]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} begins as JSON (.tcd) but cannot be read as such: {error}.") from error
    elements = content.get("coilElementList")
    if not isinstance(elements, list) or not elements:
        raise FileFormatError(f"{path} has no coilElementList; expected SimNIBS' .tcd with at least one element.")
    positions, moments = [], []
    for number, element in enumerate(elements):
        where = f"{path}, coilElementList[{number}]"
        if not isinstance(element, dict) or element.get("type") != 1:
            kind = element.get("type") if isinstance(element, dict) else None
            raise FileFormatError(
                f"{where} is of type {kind!r}; only dipoles (type 1) are read, no wires (2) nor fields on a grid (3). "
                "Use a dipole model of the coil (.ccd)."
            )
        _refuse_deformed(where, element, content)
        position, moment = _vectors(where, element, "points"), _vectors(where, element, "values")
        if len(position) != len(moment):
            raise FileFormatError(
                f"{where} has {len(position)} points and {len(moment)} values; expected as many of both."
            )
        positions.append(position)
        moments.append(moment)
    return np.concatenate(positions), np.concatenate(moments), _named(content.get("name")), _tcd_didt(path, content)


def _refuse_deformed(where: str, element: dict[str, Any], content: dict[str, Any]) -> None:
    """Refuse an element that is moved by a deformation: its points do not stand where they are written."""
    for index in element.get("deformations") or ():
        try:
            deformation = content["deformList"][index]
            reach = deformation if "initial" in deformation else content["deformRangeList"][deformation["deformRange"]]
            moved = float(reach["initial"]) != 0.0
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise FileFormatError(f"{where} names deformation {index!r}, which the file lacks.") from error
        if moved:
            raise FileFormatError(f"{where} is moved by a deformation; save the coil in SimNIBS with it applied.")


def _vectors(where: str, element: dict[str, Any], key: str) -> Floats:
    """Read one array of (n, 3) numbers."""
    value = element.get(key)
    try:
        if isinstance(value, str):
            unpacker = zlib.decompressobj()
            raw = unpacker.decompress(base64.b64decode(value, validate=True), _MAX_BYTES)
            if not unpacker.eof:
                raise ValueError("it is cut short")
            array = np.frombuffer(raw, "<f8").astype(np.float64).reshape(-1, 3)
        else:
            array = np.asarray(value, np.float64)
    except (ValueError, TypeError, OverflowError, binascii.Error, zlib.error) as error:
        raise FileFormatError(f"{where}: {key} cannot be read ({error}); expected n x 3 numbers.") from error
    if array.ndim != 2 or array.shape[1] != 3 or not len(array) or not np.isfinite(array).all():
        raise FileFormatError(
            f"{where}: {key} has the shape {array.shape}; expected finite numbers, n x 3, n at least 1."
        )
    return array


def _tcd_didt(path: Path, content: dict[str, Any]) -> float | None:
    """Find the largest dI/dt, A/us; elements with stimulators of their own are not one coil with one current."""
    stimulators = content.get("stimulatorList") or []
    if not isinstance(stimulators, list) or not all(isinstance(stimulator, dict) for stimulator in stimulators):
        raise FileFormatError(f"{path}: stimulatorList is no list of stimulators.")
    index, *others = [element.get("stimulator") for element in content["coilElementList"]]
    if any(other != index for other in others):
        raise FileFormatError(f"{path}: its elements are driven by several stimulators; expected one current for all.")
    if index is None:
        return None
    if not isinstance(index, int) or not 0 <= index < len(stimulators):
        raise FileFormatError(f"{path}: its elements name stimulator {index!r}; there are {len(stimulators)}.")
    didt = stimulators[index].get("maxdIdt")
    if didt is None:
        return None
    if isinstance(didt, bool) or not isinstance(didt, (int, float)) or not abs(didt) < 1e12:
        raise FileFormatError(f"{path}: maxdIdt is {str(didt)[:40]!r}; expected a number of A/s.")
    return didt * 1e-6

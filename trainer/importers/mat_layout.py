"""The MATLAB files that the article's authors' public code reads (GitHub, akbar-navid/TMS-EMG).

What that code says, and no more:

- One file per stimulation with a variable `box_matrix_E` (subjects 2 and 3) or `zone` (subject 1): the field's
  magnitude in the 64^3 box. Files are taken by the number in their names; those of discarded stimulations are missing.
- One file with the MEPs of all, (n, m): `MEPampNormAll`, `MEPampNormAll_MBY` or `MD_RMT_110_120_130_140`, its rows in
  the order of the files above.
- One file with the mask of BA4, (64, 64, 64): `mask` or `logical_mask`.

It does not say the field's unit (its outliers are below 4e-4, the article's below 10 mV/m), the MEPs' unit (the names
suggest normalised ones), the muscles' names, nor where the box lies. These must be given, and are never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
import numpy.typing as npt

from rt_engine.edges.foreign_files import try_foreign_hdf5
from rt_engine.errors import DataError, FileFormatError
from trainer.importers.arrays import ArrayData, magnitude
from trainer.importers.mat_file import read_mat
from trainer.importers.mep_table import uv_per_unit
from trainer.importers.pose_table import Floats
from trainer.importers.wild_text import read_bytes

NAMES: dict[str, tuple[str, ...]] = {
    "field": ("box_matrix_E", "zone"),
    "mep": ("MEPampNormAll", "MEPampNormAll_MBY", "MD_RMT_110_120_130_140"),
    "mask": ("logical_mask", "mask"),
}
"""Variables that the authors' code reads; others can be named instead."""

NORMALISED = "normalised"


@dataclass(frozen=True, eq=False)
class MatLayout:
    """What the files do not say.

    Attributes
    ----------
    affine : numpy.ndarray
        (4, 4) float64; voxel index in the box to mm.
    muscles : tuple of str
        The columns of the MEPs.
    mep_unit : str
        uV, mV, V, or normalised (0 to 1 per muscle).
    maximum_uv : tuple of float
        The amplitude that 1 stands for, per muscle, uV; only with normalised ones.
    field_v_per_m : float
        How many V/m the field's unit is.
    names : mapping of str to str
        Variables to take instead: of `field`, `mep`, `mask`.
    """

    affine: Floats
    muscles: tuple[str, ...]
    mep_unit: str
    field_v_per_m: float
    maximum_uv: tuple[float, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)


def read_mat_layout(paths: Sequence[str | Path], layout: MatLayout) -> ArrayData:
    """Read the authors' files.

    Parameters
    ----------
    paths : sequence of str or Path
        Files and folders, whose `.mat` files are taken; MATLAB 5 to 7.3.
    layout : MatLayout
        What the files do not say.

    Returns
    -------
    ArrayData
        The voxels are those of the mask.

    Raises
    ------
    FileFormatError
        A file that cannot be read, or a variable of another shape.
    DataError
        Mask, MEPs or fields are missing or disagree in number, or what the files do not say was not given.
    """
    if not np.isfinite(layout.field_v_per_m) or layout.field_v_per_m <= 0:
        raise DataError(f"The field's unit is {layout.field_v_per_m} V/m; expected a positive number.")
    unknown = sorted(set(layout.names) - set(NAMES))
    if unknown:
        raise DataError(f"There is no variable of the kind {unknown[0]!r}; expected {', '.join(NAMES)}.")
    found: dict[str, list[tuple[Path, npt.NDArray[Any]]]] = {kind: [] for kind in NAMES}
    for path in _files(paths):
        variables = _variables(path)
        known = 0
        for kind, names in NAMES.items():
            wanted = (layout.names[kind],) if kind in layout.names else names
            for name in wanted:
                if name in variables:
                    found[kind].append((path, variables[name]))
                    known += 1
        if not known:
            raise FileFormatError(
                f"{path} has the variables {', '.join(sorted(variables)) or 'none'}; expected one of "
                f"{', '.join(name for names in NAMES.values() for name in names)}. Name another with --mat-variable."
            )
    for kind in ("mask", "mep"):
        if len(found[kind]) != 1:
            raise DataError(
                f"{len(found[kind])} of the files have a variable {' or '.join(NAMES[kind])}; expected one. Give the "
                f"file with it, or its name: --mat-variable {kind}=NAME."
            )
    if not found["field"]:
        raise DataError(f"No file has a field ({' or '.join(NAMES['field'])}); name it: --mat-variable field=NAME.")
    mask_path, mask = found["mask"][0]
    if mask.ndim != 3 or not mask.any():
        raise FileFormatError(
            f"{mask_path}: the mask is {mask.shape} with {int(mask.sum())} voxels; expected a 3D one."
        )
    inside = mask != 0
    fields = np.concatenate([_field(path, array, inside) for path, array in found["field"]])
    mep_uv = _meps(*found["mep"][0], layout, len(fields))
    return ArrayData(
        field_v_per_m=fields * np.float32(layout.field_v_per_m),
        voxel=np.argwhere(inside).astype(np.int16),
        affine=np.asarray(layout.affine, np.float64),
        box_shape=cast("tuple[int, int, int]", inside.shape),
        mep_uv=mep_uv,
        muscles=layout.muscles,
        intensity=np.full(len(fields), np.nan),
        pose=np.full((len(fields), 4, 4), np.nan),
        source=f"MATLAB files {found['field'][0][0].name} to {found['field'][-1][0].name}, {found['mep'][0][0].name}",
    )


def _files(paths: Sequence[str | Path]) -> list[Path]:
    files: list[Path] = []
    groups = [[path for path in map(Path, paths) if not path.is_dir()]]
    for path in map(Path, paths):
        if path.is_dir():
            groups.append(list(path.glob("*.mat")))
            if not groups[-1]:
                raise DataError(f"The folder {path} has no .mat file.")
    for inside in groups:
        # 2 before 10, and equal numbers by name; MEPs and mask may lie among them.
        files += sorted(inside, key=lambda each: (*_numbers_of(each.stem), each.name))
    return files


def _numbers_of(stem: str) -> tuple[int, ...]:
    # Only the last number counts stimulations; those before it name the subject.
    numbers = re.findall(r"\d{1,15}", stem)
    return (int(numbers[-1]),) if numbers else (-1,)


def _variables(path: Path) -> dict[str, npt.NDArray[Any]]:
    read_bytes(path)
    if not h5py.is_hdf5(path):
        every = read_mat(path)
    else:
        try_foreign_hdf5(path)
        try:
            with h5py.File(path, "r") as file:
                # MATLAB stores its first axis fastest, so HDF5 shows the axes in reverse.
                every = {name: np.asarray(item[()]).T for name, item in file.items() if isinstance(item, h5py.Dataset)}
        except Exception as error:  # h5py raises whatever damaged bytes lead it to
            raise FileFormatError(f"{path} cannot be read as MATLAB 7.3 ({error}). Copy or save it again.") from error
    return {
        name: value for name, value in every.items() if isinstance(value, np.ndarray) and value.dtype.kind in "fiub"
    }


def _field(path: Path, array: npt.NDArray[Any], inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Return the magnitudes on the mask, (1 or n, V)."""
    shape = array.shape
    if array.ndim == 3:
        array = array[None]
    elif array.ndim == 4 and array.shape[1:] != inside.shape and array.shape[:3] == inside.shape:
        array = np.moveaxis(array, 3, 0)
    if array.ndim != 4 or array.shape[1:] != inside.shape:
        raise FileFormatError(f"{path}: the field is {shape}; expected {inside.shape}, as the mask, or n of them.")
    return magnitude(path, "the field", array[:, inside])


def _meps(path: Path, array: npt.NDArray[Any], layout: MatLayout, n: int) -> Floats:
    if array.shape != (n, len(layout.muscles)):
        raise FileFormatError(
            f"{path}: the MEPs are {array.shape}; there are {n} fields, and {len(layout.muscles)} muscles were named: "
            f"expected ({n}, {len(layout.muscles)}). Leave out the fields of stimulations without MEPs."
        )
    values = array.astype(np.float64)
    if layout.mep_unit.lower() != NORMALISED:
        return values * uv_per_unit(layout.mep_unit)
    if len(layout.maximum_uv) != len(layout.muscles) or not all(0 < value < np.inf for value in layout.maximum_uv):
        raise DataError(
            f"Normalised MEPs of {len(layout.muscles)} muscles need as many maxima in uV; found "
            f"{list(layout.maximum_uv)}. Give --maximum-uv."
        )
    if np.nanmax(values, initial=0) > 1:
        raise FileFormatError(f"{path}: an amplitude is {np.nanmax(values):g}; normalised ones are at most 1.")
    return values * np.array(layout.maximum_uv)

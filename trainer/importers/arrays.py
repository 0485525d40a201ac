"""Plain arrays with everything in one file, `.npz` or HDF5: the simplest way to bring one's own data.

| name | shape | what |
|---|---|---|
| `field_v_per_m` | (n, V), or (n, V, 3) | the E-field on the voxels, V/m |
| `voxel` | (V, 3) | the voxels' indices in the box |
| `affine` or `origin` | (4, 4) or (3,) | index to mm; or the first voxel's centre, mm, of 1 mm voxels |
| `mep_uv` | (n, m) | amplitudes, uV; NaN where missing |
| `muscles` | (m,) | names |
| `intensity` | (n,) | by default % of the resting motor threshold; optional |
| `pose` | (n, 4, 4) | SimNIBS' convention, mm; NaN where not tracked; optional |
| `box_shape` | (3,) | optional; default 64 each, or what the voxels need |
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from rt_engine.errors import FileFormatError
from rt_engine.field.voxel_grid import check_grid
from trainer.importers.number_arrays import Arrays, load_arrays, texts
from trainer.importers.pose_table import Floats, no_pose, rigid_pose

BOX = 64
"""Voxels of the box along each axis, if the file does not say."""


@dataclass(frozen=True, eq=False)
class ArrayData:
    """Fields and amplitudes that already belong together: n stimulations, V voxels, m muscles.

    Attributes
    ----------
    field_v_per_m : numpy.ndarray
        (n, V) float32, V/m; magnitude; NaN where unknown.
    voxel : numpy.ndarray
        (V, 3) int16, in lexicographic order.
    affine : numpy.ndarray
        (4, 4) float64, index to mm.
    box_shape : tuple of int
        Voxels of the box.
    mep_uv : numpy.ndarray
        (n, m) float64, uV; NaN where missing.
    muscles : tuple of str
        The m muscles.
    intensity : numpy.ndarray
        (n,) float64; NaN if unknown.
    pose : numpy.ndarray
        (n, 4, 4) float64; NaN where unknown.
    source : str
        Where the data come from.
    """

    field_v_per_m: npt.NDArray[np.float32]
    voxel: npt.NDArray[np.int16]
    affine: Floats
    box_shape: tuple[int, int, int]
    mep_uv: Floats
    muscles: tuple[str, ...]
    intensity: Floats
    pose: Floats
    source: str

    def __len__(self) -> int:
        return len(self.field_v_per_m)


def read_arrays(path: str | Path) -> ArrayData:
    """Read plain arrays; see the module for their names.

    Parameters
    ----------
    path : str or Path
        `.npz`, `.h5` or `.hdf5`.

    Returns
    -------
    ArrayData

    Raises
    ------
    FileFormatError
        An array is missing, of another shape or kind, or holds what it cannot; the message names it.
    """
    path = Path(path)
    arrays = load_arrays(path)
    field = magnitude(path, "field_v_per_m", _numbers(path, arrays, "field_v_per_m", (2, 3)))
    mep_uv = _numbers(path, arrays, "mep_uv", (2,)).astype(np.float64)
    n = len(field)
    muscles = texts(arrays.get("muscles"))
    if len(mep_uv) != n or mep_uv.shape[1] != len(muscles):
        raise FileFormatError(
            f"{path}: field_v_per_m has {n} stimulations, mep_uv is {mep_uv.shape}, and muscles names {len(muscles)}; "
            "expected mep_uv (n, m) with the same n, and m muscles."
        )
    affine = _affine(path, arrays)
    voxel, box_shape, order = ordered_voxels(path, _numbers(path, arrays, "voxel", (2,)), arrays.get("box_shape"))
    if field.shape[1] != len(voxel):
        raise FileFormatError(
            f"{path}: field_v_per_m has {field.shape[1]} voxels, voxel {len(voxel)}; expected as many."
        )
    try:
        check_grid(voxel, affine, box_shape)
    except Exception as error:
        raise FileFormatError(f"{path}: {error}") from error
    intensity, pose = np.full(n, np.nan), np.full((n, 4, 4), np.nan)
    if "intensity" in arrays:
        intensity = _numbers(path, arrays, "intensity", (1,)).astype(np.float64)
    if "pose" in arrays:
        pose = _poses(path, _numbers(path, arrays, "pose", (3,)))
    for name, array in (("intensity", intensity), ("pose", pose)):
        if len(array) != n:
            raise FileFormatError(f"{path}: {name} has {len(array)} stimulations, field_v_per_m {n}; expected as many.")
    return ArrayData(field[:, order], voxel, affine, box_shape, mep_uv, muscles, intensity, pose, f"arrays {path.name}")


def magnitude(path: str | Path, name: str, field: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return field magnitudes (n, V) float32 of magnitudes or vectors; FileFormatError if they cannot be that."""
    if field.ndim == 3:
        if field.shape[2] != 3:
            raise FileFormatError(f"{path}: {name} is {field.shape}; expected (n, V) magnitudes or (n, V, 3) vectors.")
        field = np.linalg.norm(field.astype(np.float64), axis=2)
    if (field < 0).any() or np.isinf(field).any():
        raise FileFormatError(
            f"{path}: {name} holds {field[(field < 0) | np.isinf(field)][0]:g}; expected magnitudes of 0 or more. "
            "Is it one component of a vector?"
        )
    return field.astype(np.float32)


def ordered_voxels(
    path: str | Path, voxel: npt.NDArray[Any], box_shape: npt.NDArray[Any] | None
) -> tuple[npt.NDArray[np.int16], tuple[int, int, int], npt.NDArray[np.intp]]:
    """Return the voxels in lexicographic order, their box, and the order that the fields must follow."""
    if voxel.shape[1:] != (3,) or not len(voxel) or (voxel != np.floor(voxel)).any():
        raise FileFormatError(f"{path}: voxel is {voxel.dtype} {voxel.shape}; expected whole numbers (V, 3).")
    if voxel.min() < 0 or voxel.max() >= 2**15:
        raise FileFormatError(
            f"{path}: voxel holds {voxel.min():g} to {voxel.max():g}; expected indices that count from 0, not mm."
        )
    needed = voxel.max(axis=0).astype(int) + 1
    shape = np.maximum(needed, BOX) if box_shape is None else np.asarray(box_shape).ravel()
    if shape.shape != (3,) or (shape < needed).any():
        raise FileFormatError(f"{path}: box_shape is {shape.tolist()}; the voxels need {needed.tolist()}.")
    order = np.lexsort(voxel.T[::-1])
    box = cast("tuple[int, int, int]", tuple(int(size) for size in shape))
    return voxel[order].astype(np.int16), box, order


def _numbers(path: Path, arrays: Arrays, name: str, dimensions: tuple[int, ...]) -> npt.NDArray[Any]:
    if name not in arrays:
        raise FileFormatError(f"{path} has no array {name!r}; it has {', '.join(sorted(arrays)) or 'none'}.")
    array = arrays[name]
    if array.dtype.kind not in "fiu" or array.ndim not in dimensions:
        raise FileFormatError(
            f"{path}: {name} is {array.dtype} {array.shape}; expected numbers in {' or '.join(map(str, dimensions))} "
            "dimensions."
        )
    return array


def _affine(path: Path, arrays: Arrays) -> Floats:
    if ("affine" in arrays) == ("origin" in arrays):
        raise FileFormatError(
            f"{path} has {'both' if 'affine' in arrays else 'neither'} affine and origin; expected one."
        )
    if "affine" in arrays:
        return _numbers(path, arrays, "affine", (2,)).astype(np.float64)
    origin = _numbers(path, arrays, "origin", (1,)).astype(np.float64)
    if origin.shape != (3,):
        raise FileFormatError(f"{path}: origin is {origin.shape}; expected (3,), mm.")
    affine = np.eye(4)
    affine[:3, 3] = origin
    return affine


def _poses(path: Path, pose: npt.NDArray[Any]) -> Floats:
    if pose.shape[1:] != (4, 4):
        raise FileFormatError(f"{path}: pose is {pose.shape}; expected (n, 4, 4).")
    return np.array(
        [
            no_pose() if np.isnan(each).all() else rigid_pose(each, f"{path}, pose {number}")
            for number, each in enumerate(pose, start=1)
        ]
    ).reshape(-1, 4, 4)

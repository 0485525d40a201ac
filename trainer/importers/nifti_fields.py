"""E-fields as NIfTI volumes, SimNIBS' `subject_volumes`: `*_E.nii.gz` with three components, or `*_magnE.nii.gz`.

Interpolated linearly between the volume's voxels, vectors before their magnitude is taken. SimNIBS writes 0 outside of
the mesh, others NaN; a voxel of BA4 with nothing else around it takes the nearest that has a field, and is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from rt_engine.errors import DataError, FileFormatError
from rt_engine.field.subject_file import Subject
from trainer.importers.field_table import FieldTable, check_outside, make_field_table
from trainer.importers.freesurfer import nibabel_module

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]

COARSEST_MM = 4.0
"""Largest edge of a volume's voxels: coarser ones cannot resolve the cortex."""


def read_field_volumes(
    paths: Sequence[str | Path], subject: Subject, *, progress: Progress | None = None
) -> FieldTable:
    """Read E-fields from NIfTI volumes, one coil position each.

    Parameters
    ----------
    paths : sequence of str or Path
        Volumes (x, y, z, 3), (x, y, z, 1, 3) of vectors or (x, y, z) of magnitudes, V/m.
    subject : Subject
        On whose voxels the fields are wanted; in the scanner space of the volumes.
    progress : callable, optional
        Called with files done and in all.

    Returns
    -------
    FieldTable
        One row per file, in the order given, labelled by the file's name without its ending.

    Raises
    ------
    FileFormatError
        A file is missing, damaged, truncated, or no NIfTI.
    DataError
        No file is given, the shape or the space is not as expected, values are no E-fields in V/m, or too many voxels
        lie outside.
    """
    if not paths:
        raise DataError("No volumes with fields were given; expected one NIfTI file per coil position.")
    rows = np.empty((len(paths), subject.n_voxels))
    n_outside = 0
    for i, path in enumerate(map(Path, paths)):
        values, affine = _read_volume(path, subject)
        rows[i], n = _sample(values, affine, subject, path)
        n_outside = max(n_outside, n)
        if progress is not None:
            progress(i + 1, len(paths))
    return make_field_table(
        subject,
        rows,
        tuple(_stem(Path(path)) for path in paths),
        f"{len(paths)} NIfTI volumes, interpolated linearly, the first {Path(paths[0]).name}",
        n_outside=n_outside,
    )


def _read_volume(path: Path, subject: Subject) -> tuple[Floats, Floats]:
    """Read the part of a volume around BA4: (x, y, z, c) values with c 1 or 3, and that part's affine."""
    if not path.is_file():
        raise FileFormatError(f"There is no file {path}; expected a NIfTI volume. Check the path.")
    nibabel = nibabel_module()
    try:
        image = nibabel.load(path)
        shape = tuple(image.shape)
        affine = np.asarray(image.affine, np.float64)
        codes = [int(image.header[f"{form}form_code"]) for form in ("s", "q")]
        unit = image.header.get_xyzt_units()[0]
        expected = len(shape) == 3 or shape[3:] in ((1,), (3,), (1, 3))
        usable = expected and bool(np.isfinite(affine).all()) and abs(np.linalg.det(affine[:3, :3])) > 1e-9
        first, last = _part_of(shape, affine, subject) if usable else (np.zeros(3, int), np.ones(3, int))
        part = tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
        values = np.asarray(image.dataobj[part], np.float64) if usable else None
    except Exception as error:  # whatever nibabel, gzip and zlib trip over in a damaged file
        raise FileFormatError(
            f"{path} cannot be read as a NIfTI volume ({type(error).__name__}: {error}). It is truncated, damaged, or "
            "of another kind: copy or export it again."
        ) from error
    if not expected:
        raise DataError(f"{path} has the shape {shape}; expected (x, y, z, 3) for vectors or (x, y, z) for magnitudes.")
    if not any(codes) or values is None:
        raise DataError(
            f"{path} does not say where its voxels are (no sform, no qform). Expected a volume in scanner space, as "
            "SimNIBS' subject_volumes are."
        )
    edge = float(np.linalg.norm(affine[:3, :3], axis=0).max())
    if unit not in ("mm", "unknown") or edge > COARSEST_MM or edge < 0.05:
        raise DataError(
            f"The voxels of {path} are up to {edge:.3g} wide, and the header's unit is {unit}; expected mm, and at "
            f"most {COARSEST_MM:g} of them."
        )
    shifted = affine.copy()
    shifted[:3, 3] += affine[:3, :3] @ first
    return values.reshape(*values.shape[:3], -1), shifted


def _part_of(shape: tuple[int, ...], affine: Floats, subject: Subject) -> tuple[Integers, Integers]:
    """Find the part of a volume around the subject's voxels: first index, and one past the last; never empty."""
    to_index = np.linalg.inv(affine)
    index = subject.voxel_mm @ to_index[:3, :3].T + to_index[:3, 3]
    size = np.array(shape[:3])
    first = np.clip(np.floor(index.min(axis=0)).astype(int) - 1, 0, size - 1)
    last = np.clip(np.ceil(index.max(axis=0)).astype(int) + 2, first + 1, size)
    return first, last


def _sample(values: Floats, affine: Floats, subject: Subject, path: Path) -> tuple[Floats, int]:
    """Interpolate one volume at the subject's voxels: magnitudes (V,), and how many took the nearest."""
    to_index = np.linalg.inv(affine)
    index = subject.voxel_mm @ to_index[:3, :3].T + to_index[:3, 3]
    there: npt.NDArray[np.bool_] = np.all(np.isfinite(values) & (values != 0).any(axis=3, keepdims=True), axis=3)
    filled = np.where(there[..., None], values, 0.0)
    parts = np.stack([_linear(filled[..., c], index) for c in range(values.shape[3])], axis=1)
    share = _linear(there.astype(np.float64), index)
    has_field = share > 0.5
    if not has_field.any():
        check_outside(subject, np.full(subject.n_voxels, np.inf), 0.0, path, _corners(there.shape, affine))
    # What lies beside the mesh is unknown, not 0: weigh what is known only.
    parts[has_field] /= share[has_field, None]
    magnitude: Floats = parts[:, 0] if values.shape[3] == 1 else np.linalg.norm(parts, axis=1)
    distance_mm, nearest = cKDTree(subject.voxel_mm[has_field]).query(subject.voxel_mm)
    n_outside = check_outside(subject, distance_mm, 0.0, path, _corners(there.shape, affine))
    return magnitude[has_field][nearest], n_outside


def _linear(volume: Floats, index: Floats) -> Floats:
    return map_coordinates(volume, index.T, order=1, mode="constant", cval=0.0)


def _corners(shape: tuple[int, ...], affine: Floats) -> Floats:
    corner = np.array(np.meshgrid(*[(0, n - 1) for n in shape])).reshape(3, -1).T
    return corner @ affine[:3, :3].T + affine[:3, 3]


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")

"""E-fields that others computed, on a subject's voxels of BA4: one row per coil position.

What all importers of fields make and what they all check; where the values come from is the business of
`simnibs_fields` and `nifti_fields`, what MEPs belong to them that of `join`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError
from rt_engine.field.subject_file import Subject

Floats = npt.NDArray[np.float64]

LARGEST_V_PER_M = 3000.0
"""No stimulator makes more in a head; a larger value is in another unit (mV/m, V/m per A/us times 1e6)."""

OUTSIDE_SHARE = 0.05
"""Largest share of the voxels that may lie outside of what a file gives; they get the nearest value."""


@dataclass(frozen=True, eq=False)
class FieldTable:
    """E-fields on the voxels of BA4, n coil positions, V voxels.

    Attributes
    ----------
    field_v_per_m : numpy.ndarray
        (n, V) float32, V/m; magnitude at `subject.voxel_mm`, for the dI/dt that the simulation was run with.
    label : tuple of str
        n names: the file of each, or its number in the file, counted from 1.
    pose : numpy.ndarray
        (n, 4, 4) float64; coil frame to the subject's space, mm; all NaN where the file does not say it.
    source : str
        File, program and interpolation, in words.
    didt_a_per_s : numpy.ndarray or None
        (n,) float64, A/s; dI/dt that the fields are for; None where the file does not say it.
    n_outside : int
        Voxels that lie outside of what the file gives, and have the nearest value.
    """

    field_v_per_m: npt.NDArray[np.float32]
    label: tuple[str, ...]
    pose: Floats
    source: str
    didt_a_per_s: Floats | None = None
    n_outside: int = 0


def make_field_table(
    subject: Subject,
    magnitude: npt.NDArray[np.floating],
    label: tuple[str, ...],
    source: str,
    *,
    pose: Floats | None = None,
    didt_a_per_s: Floats | None = None,
    n_outside: int = 0,
) -> FieldTable:
    """Make a table after checking that the values can be E-fields in V/m.

    Parameters
    ----------
    subject : Subject
        The subject.
    magnitude : numpy.ndarray
        (n, V), V/m.
    label, source, pose, didt_a_per_s, n_outside
        As in `FieldTable`.

    Returns
    -------
    FieldTable
        The table.

    Raises
    ------
    DataError
        Wrong shapes, a label twice, values that are not finite, negative, all zero, or too large for V/m.
    """
    n, n_voxels = len(label), subject.n_voxels
    if magnitude.shape != (n, n_voxels) or not n:
        raise DataError(f"The fields have the shape {magnitude.shape}; expected ({n}, {n_voxels}) with n at least 1.")
    if len(set(label)) < n:
        twice = next(name for name in label if label.count(name) > 1)
        raise DataError(f"The coil position {twice!r} occurs {label.count(twice)} times; give each file once.")
    for name, row in zip(label, magnitude, strict=True):
        wrong = int((~np.isfinite(row)).sum())
        if wrong:
            raise DataError(f"The field of {name!r} has {wrong} values that are not finite numbers. Compute it again.")
        if row.min() < 0:
            raise DataError(
                f"The field of {name!r} has negative values (down to {row.min():.3g} V/m), so it is no magnitude. Give "
                "the vectors (E) or their magnitude (magnE, normE), not a component or the normal."
            )
        if not row.any():
            raise DataError(
                f"The field of {name!r} is zero on all voxels of BA4: the simulation was not run or not finished. Run "
                "it, or leave it out."
            )
        if row.max() > LARGEST_V_PER_M:
            raise DataError(
                f"The field of {name!r} reaches {row.max():.4g}; in V/m no coil makes more than {LARGEST_V_PER_M:g}. "
                "Is it in mV/m? Expected V/m, as SimNIBS writes it."
            )
    return FieldTable(
        field_v_per_m=np.ascontiguousarray(magnitude, np.float32),
        label=label,
        pose=np.full((n, 4, 4), np.nan) if pose is None else pose,
        source=source,
        didt_a_per_s=didt_a_per_s,
        n_outside=n_outside,
    )


def check_outside(subject: Subject, distance_mm: Floats, limit_mm: float, path: object, what_mm: Floats) -> int:
    """Count the voxels that a file's values do not reach, and refuse too many.

    Parameters
    ----------
    subject : Subject
        The subject.
    distance_mm : numpy.ndarray
        (V,) float64, mm; from every voxel to the nearest value.
    limit_mm : float
        Up to here a voxel counts as reached, mm.
    path : object
        The file, for the message.
    what_mm : numpy.ndarray
        (n, 3), mm; where the file has values, for the message.

    Returns
    -------
    int
        How many are not reached.

    Raises
    ------
    DataError
        More than `OUTSIDE_SHARE` of them.
    """
    n_outside = int((~(distance_mm <= limit_mm)).sum())
    if n_outside > OUTSIDE_SHARE * subject.n_voxels:
        nearest = float(np.min(distance_mm, initial=np.inf))
        raise DataError(
            f"{n_outside} of the {subject.n_voxels} voxels of BA4 lie outside of where {path} gives a field (farther "
            f"than {limit_mm:g} mm from its values; the nearest voxel {nearest:.1f} mm). BA4 reaches over "
            f"{_box(subject.voxel_mm)} mm, the file over {_box(what_mm)}: expected the same space and mm, and a region "
            f"that holds BA4 of {subject.name!r}."
        )
    return n_outside


def _box(points_mm: Floats) -> str:
    if not len(points_mm):
        return "nothing"
    low, high = points_mm.min(axis=0), points_mm.max(axis=0)
    return " x ".join(f"{a:.4g}..{b:.4g}" for a, b in zip(low, high, strict=True))

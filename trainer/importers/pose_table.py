"""Coil poses as read from a laboratory's file: one row per pulse or target, with what else the file says about it.

All readers of poses give this, in the project's convention: coil frame to mm, as `rt_engine.field.coil` defines it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError, FileFormatError

Floats = npt.NDArray[np.float64]

AXES_TOLERANCE = 5e-3
"""How far axes in a file may be from orthonormal, largest entry of |R^T R - 1|: Brainsight before version 12 prints
three digits, which alone makes up to 3e-3."""

LARGEST_AXIS = 1e6
"""Beyond any unit that axes could be scaled by; squares of it still are numbers."""

NEAREST_MM, FARTHEST_MM = 1.0, 1000.0
"""A coil's distance from the origin of a head's space: less is a position in metres, more one in micrometres."""


@dataclass(frozen=True, eq=False)
class PoseTable:
    """n coil poses with their names.

    Attributes
    ----------
    label : tuple of str
        Names, as the file gives them; not always unique.
    pose : numpy.ndarray
        (n, 4, 4) float64; coil frame to mm; exactly orthonormal; all NaN where there is none.
    missing : tuple of str
        Why there is no pose; empty where there is one.
    time_s : numpy.ndarray
        (n,) float64, s, by the file's own clock; NaN if unknown.
    space : str
        The space of the positions, in the file's words, with its axes.
    source : str
        Where the table comes from.
    axes : str
        `"RAS"`, `"LPS"`, or empty if the file does not tell.
    origin_known : bool
        Whether the space's origin is that of the image's own coordinates in mm; not so for Brainsight's.
    percent_mso : numpy.ndarray
        (n,) float64, % of the stimulator's maximum output; NaN if unknown.
    didt_a_per_us : numpy.ndarray
        (n,) float64, A/us; NaN if unknown.
    didt_measured : bool
        Whether that is the stimulator's own reading, and not what a simulation was run with.
    muscles : tuple of str
        Names of the m EMG channels that the file has amplitudes of; often none.
    mep_uv : numpy.ndarray
        (n, m) float64, uV; NaN where there is none.
    column : mapping of str to tuple of str
        Everything else, as text, to join by.
    """

    label: tuple[str, ...]
    pose: Floats
    missing: tuple[str, ...]
    time_s: Floats
    space: str
    source: str
    axes: str = "RAS"
    origin_known: bool = True
    percent_mso: Floats = field(default_factory=lambda: np.empty(0))
    didt_a_per_us: Floats = field(default_factory=lambda: np.empty(0))
    didt_measured: bool = False
    muscles: tuple[str, ...] = ()
    mep_uv: Floats = field(default_factory=lambda: np.empty((0, 0)))
    column: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Fill in what is unknown, so that every array has its n rows."""
        n = len(self.label)
        for name in ("percent_mso", "didt_a_per_us"):
            if len(getattr(self, name)) != n:
                object.__setattr__(self, name, np.full(n, np.nan))
        if self.mep_uv.shape != (n, len(self.muscles)):
            object.__setattr__(self, "mep_uv", np.full((n, len(self.muscles)), np.nan))

    def __len__(self) -> int:
        return len(self.label)

    @property
    def tracked(self) -> npt.NDArray[np.bool_]:
        """(n,) bool; where there is a pose."""
        return np.array([not reason for reason in self.missing], bool)

    def moved(self, transform: Floats, space: str) -> PoseTable:
        """Return the table in another space.

        Parameters
        ----------
        transform : numpy.ndarray
            (4, 4); this table's mm to the other space's; a rigid motion.
        space : str
            The other space.

        Returns
        -------
        PoseTable

        Raises
        ------
        DataError
            The transform is no rigid motion: it would stretch or mirror the coil.
        """
        transform = rigid_pose(transform, "the transform", position=False)
        return replace(self, pose=transform @ self.pose, space=space, axes="RAS", origin_known=True)


def pose_from(axes: Floats, position_mm: Floats) -> Floats:
    """Put three axes (columns) and a position together, (4, 4) float64."""
    pose = np.eye(4)
    pose[:3, :3] = axes
    pose[:3, 3] = position_mm
    return pose


def no_pose() -> Floats:
    """Return the pose of a coil that was not tracked: (4, 4), all NaN."""
    return np.full((4, 4), np.nan)


def rigid_pose(matrix: npt.ArrayLike, where: str, *, position: bool = True) -> Floats:
    """Check that a matrix from a file is a coil pose, and make its axes exactly orthonormal.

    Parameters
    ----------
    matrix : array_like
        What should be (4, 4): coil frame to mm.
    where : str
        The line or element that it stands in, for the error.
    position : bool
        Whether to check that the position can be a coil's on a head, in mm.

    Returns
    -------
    numpy.ndarray
        (4, 4) float64; the nearest rotation, the same position.

    Raises
    ------
    FileFormatError
        Wrong shape, not finite, transposed, scaled, sheared, left-handed, or in other units.
    """
    pose = np.asarray(matrix, np.float64)
    if pose.shape != (4, 4) or not np.isfinite(pose).all():
        raise FileFormatError(f"{where}: expected a 4 x 4 matrix of finite numbers; found {pose.tolist()}.")
    if not np.allclose(pose[3], (0, 0, 0, 1), atol=1e-9):
        if np.allclose(pose[:, 3], (0, 0, 0, 1), atol=1e-9):
            raise FileFormatError(f"{where}: the matrix is transposed: its last column is 0 0 0 1. Transpose it.")
        raise FileFormatError(f"{where}: the matrix's last row is {pose[3].tolist()}; expected 0 0 0 1.")
    axes = pose[:3, :3]
    if np.abs(axes).max() > LARGEST_AXIS:
        raise FileFormatError(
            f"{where}: an axis has the entry {axes[np.abs(axes) > LARGEST_AXIS][0]:g}; expected -1 to 1."
        )
    length = np.linalg.norm(axes, axis=0)
    if np.abs(axes.T @ axes - np.eye(3)).max() > AXES_TOLERANCE:
        if length.min() > 0 and np.abs(axes.T @ axes / length.mean() ** 2 - np.eye(3)).max() < AXES_TOLERANCE:
            raise FileFormatError(
                f"{where}: the axes have the length {length.mean():g}; expected 1. Is the matrix scaled (mixed units)?"
            )
        raise FileFormatError(
            f"{where}: the axes are not orthonormal: lengths {np.round(length, 4).tolist()}, largest |R^T R - 1| "
            f"{np.abs(axes.T @ axes - np.eye(3)).max():.3g}; expected at most {AXES_TOLERANCE:g}. A coil cannot be "
            "sheared: is this another transformation, or a damaged row?"
        )
    if np.linalg.det(axes) < 0:
        raise FileFormatError(
            f"{where}: the axes are left-handed; expected right-handed ones. Is one axis mirrored (LPS and RAS mixed)?"
        )
    if position and (problem := _misplaced(pose)):
        raise FileFormatError(f"{where}: {problem}")
    left, _, right = np.linalg.svd(axes)
    return pose_from(left @ right, pose[:3, 3])


def without_misplaced(pose: Floats, missing: Sequence[str], where: Sequence[str]) -> tuple[Floats, tuple[str, ...]]:
    """Take out the poses of coils that are nowhere near a head: pulses are given beside the head, too.

    Parameters
    ----------
    pose : numpy.ndarray
        (n, 4, 4), mm; NaN where there is none.
    missing : sequence of str
        Why there is none, n texts.
    where : sequence of str
        The lines or elements, for the error.

    Returns
    -------
    pose : numpy.ndarray
        The same, NaN where the coil cannot have been on a head.
    missing : tuple of str
        With the reason there.

    Raises
    ------
    FileFormatError
        All poses are like that: the file is in other units than mm.
    """
    problems = ["" if reason else _misplaced(each) for each, reason in zip(pose, missing, strict=True)]
    there = [row for row, reason in enumerate(missing) if not reason]
    if there and all(problems[row] for row in there):
        raise FileFormatError(f"{where[there[0]]}: {problems[there[0]]}")
    pose = pose.copy()
    pose[[bool(problem) for problem in problems]] = np.nan
    return pose, tuple(problem or reason for problem, reason in zip(problems, missing, strict=True))


def _misplaced(pose: Floats) -> str:
    """Say why a pose's position cannot be a coil's on a head, in mm."""
    distance_mm = float(np.linalg.norm(pose[:3, 3]))
    if NEAREST_MM <= distance_mm <= FARTHEST_MM:
        return ""
    near = distance_mm < NEAREST_MM
    guess = "Are positions in metres" if near else "Was it beside the head, or are positions in micrometres"
    return (
        f"the coil is {distance_mm:g} mm from the origin; expected {NEAREST_MM:g} to {FARTHEST_MM:g} mm. {guess}? Give "
        "them in mm."
    )


def merged_coils(tables: Sequence[PoseTable]) -> PoseTable:
    """Merge the tables of several coils that a navigator kept of the same pulses.

    Parameters
    ----------
    tables : sequence of PoseTable
        One per coil; the same number of rows, at the same times.

    Returns
    -------
    PoseTable
        Each pulse with the pose of the one coil that was tracked.

    Raises
    ------
    DataError
        The tables are not of the same pulses.
    """
    first = tables[0]
    for other in tables[1:]:
        if not np.array_equal(other.time_s, first.time_s, equal_nan=True):
            raise DataError(
                f"{first.source} has {len(first)} pulses, {other.source} {len(other)}, or at other times: they are not "
                "of the same pulses. Give the files of one recording."
            )
        if other.space != first.space:
            raise DataError(f"{first.source} is in {first.space}, {other.source} in {other.space}; expected one space.")
    tracked = np.array([table.tracked for table in tables])
    chosen = tracked.argmax(axis=0)
    count = tracked.sum(axis=0)
    rows = np.arange(len(first))
    pose = np.stack([table.pose for table in tables])[chosen, rows]
    pose[count != 1] = np.nan
    missing = [tables[coil].missing[row] for row, coil in enumerate(chosen)]
    for row in np.flatnonzero(count > 1):
        missing[row] = "more than one coil was tracked; give one coil's file"
    return replace(
        first,
        pose=pose,
        missing=tuple(missing),
        source=" + ".join(table.source for table in tables),
        percent_mso=np.stack([table.percent_mso for table in tables])[chosen, rows],
        didt_a_per_us=np.stack([table.didt_a_per_us for table in tables])[chosen, rows],
    )

"""The E-fields of imported coil poses, by the subject's reduced basis or the closed form, row by row with refusals."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError
from rt_engine.field.coil import Coil, figure_of_eight
from rt_engine.field.reduced_basis import ReducedBasis
from rt_engine.field.sphere import SphereField
from rt_engine.field.subject_file import Subject
from trainer.importers.pose_table import Floats, PoseTable

Progress = Callable[[int, int], None]

FieldKind = Literal["finite-elements", "sphere"]


@dataclass(frozen=True, eq=False)
class PlacedFields:
    """Fields of n placements on V voxels.

    Attributes
    ----------
    field_v_per_m : numpy.ndarray
        (n, V) float32, V/m; magnitude; NaN where refused.
    residual : numpy.ndarray
        (n,) float64; of the basis' fit; NaN for the sphere.
    refused : tuple of str
        Why there is no field; empty where there is one.
    """

    field_v_per_m: npt.NDArray[np.float32]
    residual: Floats
    refused: tuple[str, ...]


def field_coil(subject: Subject, kind: FieldKind) -> Coil:
    """Return the coil whose fields are computed.

    Raises
    ------
    DataError
        The subject has no basis, and finite elements were wanted.
    """
    if kind == "sphere":
        return figure_of_eight()
    if subject.basis is None:
        raise DataError(
            f"The subject {subject.name!r} has no reduced basis, so no finite-element field can be computed from "
            "poses. Build one with m2m subject build, give fields (--fields), or accept the closed form of a sphere "
            "(--field sphere)."
        )
    return subject.basis.coil


def place_fields(
    subject: Subject, kind: FieldKind, pose: Floats, didt_a_per_s: Floats, progress: Progress | None = None
) -> PlacedFields:
    """Compute the field magnitudes of placements; what cannot be answered is refused, row by row.

    Parameters
    ----------
    subject : Subject
        Gives the voxels, and the basis or the sphere.
    kind : {"finite-elements", "sphere"}
        Which of the two.
    pose : numpy.ndarray
        (n, 4, 4); coil frame to the subject's space, mm.
    didt_a_per_s : numpy.ndarray
        (n,), A/s.
    progress : callable, optional
        Told of the fields that are done.

    Returns
    -------
    PlacedFields

    Raises
    ------
    DataError
        The subject has no basis.
    """
    coil = field_coil(subject, kind)
    n = len(pose)
    refused = [_off_the_head(subject, each) for each in pose]
    field = np.full((n, subject.n_voxels), np.nan, np.float32)
    residual = np.full(n, np.nan)
    rows = [row for row in range(n) if not refused[row]]
    if kind == "sphere":
        sphere = SphereField(subject.voxel_mm, subject.sphere_center_mm)
        for done, row in enumerate(rows, start=1):
            try:
                field[row] = sphere.magnitude(coil, pose[row], float(didt_a_per_s[row]))
            except DataError as error:
                refused[row] = str(error)
            if progress:
                progress(done, len(rows))
    elif rows:
        from rt_engine.field.field_basis import FieldBasis

        assert subject.basis is not None
        answer = FieldBasis(subject.basis).fields(pose[rows], didt_a_per_s[rows], progress)
        field[rows] = answer.magnitude_v_per_m
        residual[rows] = answer.residual
        for row, outside in zip(rows, answer.refused, strict=True):
            if outside:
                refused[row] = _uncovered(subject.basis, pose[row], float(residual[row]))
    return PlacedFields(field, residual, tuple(refused))


def check_space(table: PoseTable, subject: Subject, *, assume_same: bool) -> None:
    """Check that poses can be in the subject's space.

    Parameters
    ----------
    table : PoseTable
        The poses.
    subject : Subject
        The subject.
    assume_same : bool
        Whether the user says that the two spaces are the same.

    Raises
    ------
    DataError
        They cannot, or one is a template's and the other is not said to be.
    """
    if not table.origin_known or table.axes != "RAS":
        raise DataError(
            f"{table.source} is in {table.space}; the subject {subject.name!r} is in {subject.space}. Export the poses "
            "in NIfTI coordinates of the image that the subject was made from, or give --transform."
        )
    if _is_template(table.space) != _is_template(subject.space) and not assume_same:
        raise DataError(
            f"{table.source} is in {table.space}; the subject {subject.name!r} is in {subject.space}. One is a "
            "template's space and the other is not, so the coil would stand elsewhere. Give the person's own subject "
            "file (m2m subject import), a --transform, or --assume-same-space if they are the same."
        )


def _is_template(space: str) -> bool:
    # Not within a word: SimNIBS is none.
    return re.search(r"(?<![a-z])(mni|talairach|fsaverage)", space.lower()) is not None


def _uncovered(basis: ReducedBasis, pose: Floats, residual: float) -> str:
    nearest_mm = float(np.linalg.norm(basis.covered_mm - pose[:3, 3], axis=1).min())
    return (
        f"outside the basis' coverage: residual {residual:.3g}, limit {basis.residual_limit:.3g}; {nearest_mm:.1f} mm "
        f"from the nearest covered place, limit {basis.covered_radius_mm:g} mm"
    )


def _off_the_head(subject: Subject, pose: Floats) -> str:
    """Say what is wrong with a coil that cannot be on the head."""
    to_center = subject.sphere_center_mm - pose[:3, 3]
    distance_mm = float(np.linalg.norm(to_center))
    if distance_mm > 2.5 * subject.scalp_radius_mm:
        return f"the coil is {distance_mm:.0f} mm from the head's centre; is the pose in another space?"
    if float(pose[:3, 2] @ to_center) <= 0:
        return "the coil's +z axis points away from the head; are the axes in another convention?"
    return ""

"""Where the simulated subject's E-fields come from: the subject's finite-element basis, or the closed-form sphere.

Both give the magnitude of the field at the voxels of BA4 for any number of placements, and a placement alone gets the
same bits as among others.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from rt_engine.errors import SettingsError
from rt_engine.field.coil import Coil, figure_of_eight
from rt_engine.field.field_basis import FieldBasis
from rt_engine.field.placement import Floats
from rt_engine.field.reduced_basis import ReducedBasis
from rt_engine.field.sphere import SphereField
from rt_engine.field.subject_file import Subject

Progress = Callable[[int, int], None]
"""Called with the number of fields that are done and that of all."""

FieldKind = Literal["finite-elements", "sphere"]

FIELD_THREADS = 4
"""Threads that compute fields on the sphere, at most; their number does not change the results."""


@dataclass(frozen=True, eq=False)
class Fields:
    """Fields of n placements at V voxels.

    Attributes
    ----------
    magnitude_v_per_m
        (n, V) float32, V/m; NaN where refused.
    residual
        (n,) float64, what the basis leaves of the coil's vector potential, as a share of it; 0 on the sphere.
    refused
        (n,) bool, whether the placement lies outside what the source can answer.
    """

    magnitude_v_per_m: NDArray[np.float32]
    residual: Floats
    refused: NDArray[np.bool_]


class FieldSource(Protocol):
    """What gives the fields of one subject and one coil."""

    @property
    def kind(self) -> FieldKind:
        """Which of the two it is."""
        ...

    @property
    def coil(self) -> Coil:
        """The coil whose fields these are."""
        ...

    @property
    def head(self) -> Subject:
        """The subject as the coil stands on it: for the sphere, without scalp."""
        ...

    def fields(self, pose: Floats, didt_a_per_s: Floats, progress: Progress | None = None) -> Fields:
        """Compute the field magnitudes of many placements.

        Parameters
        ----------
        pose
            (n, 4, 4), coil frame to the subject's space, mm.
        didt_a_per_s
            (n,), rate of change of the coil's current, A/s.
        progress
            Told of the fields that are done.

        Returns
        -------
        Fields
        """
        ...


class SphereSource:
    """Fields in the sphere that stands for the head; answers every placement outside it.

    Parameters
    ----------
    subject
        Gives voxels and sphere.
    """

    kind: FieldKind = "sphere"

    def __init__(self, subject: Subject) -> None:
        self.coil = figure_of_eight()
        # The real scalp bulges and dents where the sphere does not: the distance to the cortex would be wrong.
        self.head = replace(subject, scalp=None)
        self._sphere = SphereField(subject.voxel_mm, subject.sphere_center_mm)
        self._n_voxels = subject.n_voxels

    def fields(self, pose: Floats, didt_a_per_s: Floats, progress: Progress | None = None) -> Fields:
        """Compute field magnitudes, see `FieldSource.fields`."""
        magnitude = np.empty((len(pose), self._n_voxels), np.float32)

        def compute(row: int) -> None:
            magnitude[row] = self._sphere.magnitude(self.coil, pose[row], float(didt_a_per_s[row]))

        with ThreadPoolExecutor(min(FIELD_THREADS, os.cpu_count() or 1)) as pool:
            for done, _ in enumerate(pool.map(compute, range(len(pose))), start=1):
                if progress is not None:
                    progress(done, len(pose))
        return Fields(magnitude, np.zeros(len(pose)), np.zeros(len(pose), bool))


class BasisSource:
    """Fields by finite elements, evaluated in the subject's reduced basis; refuses what the basis does not cover.

    Parameters
    ----------
    subject
        Gives the scalp.
    basis
        The subject's.
    """

    kind: FieldKind = "finite-elements"

    def __init__(self, subject: Subject, basis: ReducedBasis) -> None:
        self.coil = basis.coil
        self.head = subject
        self._basis = FieldBasis(basis)

    def fields(self, pose: Floats, didt_a_per_s: Floats, progress: Progress | None = None) -> Fields:
        """Compute field magnitudes, see `FieldSource.fields`."""
        found = self._basis.fields(pose, didt_a_per_s, progress)
        return Fields(found.magnitude_v_per_m, found.residual, found.refused)


def make_field_source(subject: Subject, wanted: Literal["auto"] | FieldKind) -> FieldSource:
    """Choose where a subject's fields come from.

    Parameters
    ----------
    subject
        Whose fields.
    wanted
        ``auto`` takes finite elements where the subject has a basis, else the sphere.

    Returns
    -------
    FieldSource

    Raises
    ------
    SettingsError
        If finite elements are wanted and the subject has no basis.
    """
    if wanted == "sphere" or (wanted == "auto" and subject.basis is None):
        return SphereSource(subject)
    if subject.basis is None:
        raise SettingsError(
            f"field is 'finite-elements', but the subject {subject.name!r} has no E-field basis; build one with "
            "`m2m subject build`, or set field to 'sphere' or 'auto'"
        )
    return BasisSource(subject, subject.basis)


def covered_fields(
    source: FieldSource,
    pose: Floats,
    didt_a_per_s: Floats,
    describe: Callable[[int], str],
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Compute the field magnitudes of placements that must all be answered.

    Parameters
    ----------
    source, pose, didt_a_per_s, progress
        As for `FieldSource.fields`.
    describe
        Says of a row of `pose` which placement it is, for the error's text.

    Returns
    -------
    numpy.ndarray
        (n, V) float32, V/m.

    Raises
    ------
    SettingsError
        If a placement is refused: which, how many more, and what to do.
    """
    found = source.fields(pose, didt_a_per_s, progress)
    rows = np.flatnonzero(found.refused)
    if rows.size:
        first = int(rows[0])
        others = f", and so do {rows.size - 1} more of {len(pose)}" if rows.size > 1 else ""
        raise SettingsError(
            f"{describe(first)}, with the coil at {np.round(pose[first, :3, 3], 1).tolist()} mm, lies outside what the "
            f"subject's E-field basis covers (residual {found.residual[first]:.2g}){others}; make the grid and its "
            "jitter smaller (protocol.grid_points, grid_spacing_mm, cluster_sd_mm, position_jitter_mm, "
            "tilt_jitter_deg, rotation_jitter_deg, navigation_error_mm), build the subject with a wider coverage, or "
            "set field to 'sphere'"
        )
    return found.magnitude_v_per_m

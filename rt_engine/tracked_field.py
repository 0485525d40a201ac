"""The E-field of the tracked coil at a pulse, computed from the subject's reduced basis, beside the model's estimate.

The estimate comes from muscles and knows nothing of the coil; this comes from the coil and knows nothing of muscles.
Their agreement says whether both can be right. Nothing of it flows back into the estimate.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rt_engine.companions import CoilPose, StimulatorIntensity
from rt_engine.cortical_map import CorticalMap
from rt_engine.errors import CoverageError, DataError, SettingsError
from rt_engine.field.field_basis import FieldBasis
from rt_engine.field.reduced_basis import ReducedBasis
from rt_engine.field.subject_file import Subject
from rt_engine.model_file import ModelInfo

NO_POSE = "no_pose"
"""Reason: no stream told where the coil was, or the last pose was too old."""

NOT_TRACKED = "not_tracked"
"""Reason: the navigation did not see the coil."""

BAD_POSE = "bad_pose"
"""Reason: what the navigation sent is no rigid motion."""

NO_INTENSITY = "no_intensity"
"""Reason: the stimulator's output is not known, or is zero."""

NOT_COVERED = "not_covered"
"""Reason: the placement is outside what the subject's basis answers; the residual says how far."""

NO_BASIS = "no_basis"
"""Reason: no subject is named, or its file holds no basis."""

OTHER_VOXELS = "other_voxels"
"""Reason: the model's voxels are not the subject's."""

KEPT = 16
"""Fields kept: more pulses than this do not wait for samples of one sweep."""

SAME_MM = 1e-3
"""Voxel centres this close are the same; files keep affines as float64."""


@dataclass(frozen=True)
class Agreement:
    """How the estimate agrees with the computed field.

    Attributes
    ----------
    correlation
        Pearson's, over the voxels of BA4; None where one of the two is the same everywhere.
    nrmse
        Root of the squared difference by the squared norm of the computed field (article, eq. 12).
    cog_distance_mm
        Between the two centres of gravity, mm (article, eq. 15).
    """

    correlation: float | None
    nrmse: float
    cog_distance_mm: float


@dataclass(frozen=True, eq=False)
class ComputedField:
    """The E-field of one pulse as the coil's pose and the stimulator's output make it, or why there is none.

    Attributes
    ----------
    field_v_per_m
        (V,) float32, magnitude on the model's voxels, V/m; None where there is none. Read-only.
    residual
        What the basis leaves of the coil's field, relative; also known where the placement is not covered.
    reason
        Why there is none; empty if there is one.
    agreement
        With the estimate of the same pulse; None before `TrackedField.beside` has looked.
    """

    field_v_per_m: NDArray[np.float32] | None
    residual: float | None = None
    reason: str = ""
    agreement: Agreement | None = None


@dataclass(frozen=True, eq=False)
class _Prepared:
    computed: ComputedField
    norm: float
    """sqrt(sum of squares)."""
    centred: NDArray[np.float32]
    """(V,), without its mean and of length 1; zeros where the field is the same everywhere."""
    cog_mm: NDArray[np.float64]


class TrackedField:
    """Computes the fields of tracked coils; keeps those of the last few placements.

    A pulse waits for its last sample for 50 ms: `prepare` computes its field meanwhile, and what is asked for then is
    found. The field of a pose has the same bits whether or not it was prepared.

    Parameters
    ----------
    basis
        Of the subject, or the reason why there is none (`NO_BASIS`, `OTHER_VOXELS`).
    voxel_mm
        (V, 3) float64, centres of the model's voxels, mm.
    max_didt_a_per_us
        dI/dt at 100 % of the stimulator's output, A/us; None for what the stimulator's stream tells with each
        intensity, else for that of the basis' coil.
    notice
        One line for the user, or None.

    Raises
    ------
    DataError
        If the basis contradicts itself.
    """

    def __init__(
        self,
        basis: ReducedBasis | str,
        voxel_mm: NDArray[np.float64],
        *,
        max_didt_a_per_us: float | None = None,
        notice: str | None = None,
    ) -> None:
        self.notice = notice
        self._off = "" if isinstance(basis, ReducedBasis) else basis
        self._basis: FieldBasis | None = None
        self._max_didt_a_per_us = max_didt_a_per_us or 0.0
        self._streams_didt = max_didt_a_per_us is None
        if isinstance(basis, ReducedBasis):
            self._basis = FieldBasis(basis)
            self._max_didt_a_per_us = max_didt_a_per_us or basis.coil.max_didt_a_per_us
        self._voxel_mm = np.ascontiguousarray(voxel_mm, dtype=np.float64)
        self._kept: OrderedDict[tuple[bytes, float], _Prepared] = OrderedDict()
        self._estimate = np.empty(len(self._voxel_mm), dtype=np.float32)

    @property
    def off(self) -> str:
        """Why there are no computed fields in this session; empty if there are."""
        return self._off

    def prepare(self, pose: CoilPose | None, intensity: StimulatorIntensity | None) -> bool:
        """Compute a field that will be asked for, unless it is there.

        Returns
        -------
        bool
            Whether something was computed.
        """
        if self._why_not(pose, intensity) or pose is None or intensity is None:
            return False
        if self._key(pose, intensity) in self._kept:
            return False
        self._prepared(pose, intensity)
        return True

    def field_of(self, pose: CoilPose | None, intensity: StimulatorIntensity | None) -> ComputedField:
        """Return the field of a coil, or why there is none.

        Parameters
        ----------
        pose, intensity
            What held at the time of the pulse, or None.
        """
        why_not = self._why_not(pose, intensity)
        if why_not or pose is None or intensity is None:
            return ComputedField(None, reason=why_not)
        return self._prepared(pose, intensity).computed

    def beside(
        self, estimate: CorticalMap, pose: CoilPose | None, intensity: StimulatorIntensity | None
    ) -> ComputedField:
        """Return the field of a coil, and how the estimate of the same pulse agrees with it.

        Parameters
        ----------
        estimate
            On the same voxels.
        pose, intensity
            What held at the time of the pulse, or None.
        """
        why_not = self._why_not(pose, intensity)
        if why_not or pose is None or intensity is None:
            return ComputedField(None, reason=why_not)
        prepared = self._prepared(pose, intensity)
        if prepared.computed.reason:
            return prepared.computed
        return replace(prepared.computed, agreement=self._agreement(estimate, prepared))

    def _why_not(self, pose: CoilPose | None, intensity: StimulatorIntensity | None) -> str:
        if self._off:
            return self._off
        if pose is None:
            return NO_POSE
        if not pose.tracked:
            return NOT_TRACKED
        if intensity is None or not 0.0 < intensity.percent_mso < float("inf"):
            return NO_INTENSITY
        return ""

    def _prepared(self, pose: CoilPose, intensity: StimulatorIntensity) -> _Prepared:
        key = self._key(pose, intensity)
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found
        if len(self._kept) >= KEPT:
            self._kept.popitem(last=False)
        self._kept[key] = made = self._compute(pose, key[1])
        return made

    def _key(self, pose: CoilPose, intensity: StimulatorIntensity) -> tuple[bytes, float]:
        """Return what a field depends on: the pose, and dI/dt in A/s."""
        didt_a_per_us = self._max_didt_a_per_us * intensity.percent_mso / 100.0
        if self._streams_didt and intensity.didt_a_per_us is not None:
            didt_a_per_us = intensity.didt_a_per_us
        return pose.matrix.tobytes(), 1e6 * didt_a_per_us

    def _compute(self, pose: CoilPose, didt_a_per_s: float) -> _Prepared:
        if self._basis is None:
            return _nothing(self._off, None)
        try:
            found = self._basis.field(pose.matrix, didt_a_per_s)
        except CoverageError as error:
            return _nothing(NOT_COVERED, float(error.residual))
        except DataError:
            return _nothing(BAD_POSE, None)
        field = found.magnitude_v_per_m
        field.flags.writeable = False
        exact = field.astype(np.float64)
        centred = exact - exact.mean()
        length, norm = _dot(centred, centred) ** 0.5, _dot(exact, exact) ** 0.5
        return _Prepared(
            ComputedField(field, found.residual),
            norm,
            (centred / length if length > 0.0 else np.zeros_like(centred)).astype(np.float32),
            np.einsum("v,vx->x", exact, self._voxel_mm) / exact.sum() if norm > 0.0 else np.full(3, np.nan),
        )

    def _agreement(self, estimate: CorticalMap, prepared: _Prepared) -> Agreement | None:
        field = prepared.computed.field_v_per_m
        if field is None or prepared.norm == 0.0:
            return None
        estimated = np.multiply(estimate.field, np.float32(estimate.scale_v_per_m), out=self._estimate)
        along = _dot(prepared.centred, estimated)
        mean = float(estimated.mean())
        squares = _dot(estimated, estimated)
        spread = squares - mean * mean * len(estimated)
        estimated -= field
        correlation = None
        # Below, the estimate is hardly more than one value everywhere; `centred` is zero where the computed field is.
        if spread > 1e-4 * squares and prepared.centred.any():
            correlation = min(max(along / spread**0.5, -1.0), 1.0)
        distance = prepared.cog_mm - estimate.cog_mm
        return Agreement(
            correlation=correlation,
            nrmse=_dot(estimated, estimated) ** 0.5 / prepared.norm,
            cog_distance_mm=_dot(distance, distance) ** 0.5,
        )


def make_tracked_field(
    subject: Subject | None, model: ModelInfo, *, coil: str = "", max_didt_a_per_us: float = 0.0
) -> TrackedField:
    """Join a subject's basis to a model's voxels; where that cannot be, the result says why for every pulse.

    Parameters
    ----------
    subject
        Whose basis; None if no subject is named.
    model
        Whose voxels.
    coil
        Name of the coil in use, to be checked against the basis'; empty takes the basis' coil.
    max_didt_a_per_us
        dI/dt at 100 % of the stimulator's output, A/us; 0 takes what the stimulator's stream tells, else that of the
        basis' coil.

    Raises
    ------
    SettingsError
        If the basis is of another coil: its fields would be wrong, and nobody would see it.
    """
    basis: ReducedBasis | str = NO_BASIS
    notice = None
    if subject is not None and subject.basis is not None:
        basis = subject.basis
        if coil and coil != basis.coil.name:
            raise SettingsError(
                f"coil.name is {coil!r}, but the E-field basis of the subject {subject.name!r} is of the coil "
                f"{basis.coil.name!r}. Build the subject with the coil in use (m2m subject build --coil), or correct "
                "the settings"
            )
        if not _same_voxels(subject, model):
            basis = OTHER_VOXELS
            notice = (
                f"the model {model.name!r} maps {model.n_voxels} voxels that are not those of the subject "
                f"{subject.name!r} ({subject.n_voxels}): the tracked coil's own E-field is not computed. Name the "
                "subject that the model was made for"
            )
    return TrackedField(basis, model.voxel_mm, max_didt_a_per_us=max_didt_a_per_us or None, notice=notice)


def _same_voxels(subject: Subject, model: ModelInfo) -> bool:
    return len(subject.voxel) == model.n_voxels and bool(np.abs(subject.voxel_mm - model.voxel_mm).max() <= SAME_MM)


def _dot(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Sum of the products; unlike BLAS, the same bits for any number of threads."""
    return float(np.einsum("v,v->", one, other))


def _nothing(reason: str, residual: float | None) -> _Prepared:
    return _Prepared(ComputedField(None, residual, reason), 0.0, np.empty(0, np.float32), np.full(3, np.nan))

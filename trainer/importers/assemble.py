"""From what was read to a stimulation data set: rows matched, intensities worked out, fields computed or scaled.

Every row of both tables ends up in the data set or in the report with the reason why not.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError
from rt_engine.field.stimulation_file import StimulationSet, check_stimulation_set
from rt_engine.field.subject_file import Subject
from rt_engine.mep import MepStatus
from trainer.importers.arrays import ArrayData
from trainer.importers.field_table import FieldTable
from trainer.importers.intensity import Intensities, column_intensities, given_intensities
from trainer.importers.join import Match, Side, column_of, join
from trainer.importers.mep_table import MepTable, check_amplitudes
from trainer.importers.placed_fields import FieldKind, Progress, field_coil, place_fields
from trainer.importers.pose_table import Floats, PoseTable

FLOOR_UV = 50.0
"""Amplitudes below get the status NO_MEP and stay as they are (article, II.A)."""

LONGEST_SOURCE = 4000
"""Characters that are kept of where a data set comes from."""


@dataclass(frozen=True)
class ImportRules:
    """How tables are joined and intensities read.

    Attributes
    ----------
    by : str
        As for `join`.
    time_tolerance_s, time_offset_s : float
        As for `join`.
    intensity_column : str or None
        Column of either table with the intensity.
    intensity_unit : str or None
        What it gives: percent-mso, percent-rmt or a-per-us.
    intensity : float or None
        The same for all pulses, in that unit.
    rmt_percent_mso : float or None
        Resting motor threshold, % of the stimulator's output.
    max_didt_a_per_us : float or None
        dI/dt at 100 % output; default the coil's.
    fields_didt_a_per_us : float or None
        dI/dt that given fields are for, where their file does not say it.
    field_kind : {"finite-elements", "sphere"}
        How fields are computed from poses.
    """

    by: str = "order"
    time_tolerance_s: float = 0.5
    time_offset_s: float = 0.0
    intensity_column: str | None = None
    intensity_unit: str | None = None
    intensity: float | None = None
    rmt_percent_mso: float | None = None
    max_didt_a_per_us: float | None = None
    fields_didt_a_per_us: float | None = None
    field_kind: FieldKind = "finite-elements"


@dataclass(frozen=True)
class ReportRow:
    """What became of a row.

    Attributes
    ----------
    stimulus, amplitude : str
        Where it stands in the table of poses or fields, and in that of MEPs; empty if in neither.
    label : str
        Its name.
    imported : bool
        Whether it is in the data set.
    reason : str
        Why not.
    residual : float
        Of the basis' fit; NaN without.
    """

    stimulus: str
    label: str
    amplitude: str
    imported: bool
    reason: str = ""
    residual: float = float("nan")


@dataclass(frozen=True, eq=False)
class Imported:
    """The data set, if any row came through, and the report.

    Attributes
    ----------
    data : StimulationSet or None
        None where every row was refused.
    rows : tuple of ReportRow
        Every row of both tables.
    notes : tuple of str
        What the user should know about all of them.
    """

    data: StimulationSet | None
    rows: tuple[ReportRow, ...]
    notes: tuple[str, ...]

    @property
    def reasons(self) -> list[tuple[str, int]]:
        """Reasons of refusal and how often, the most frequent first; numbers in them are left out."""
        return Counter(_kind_of(row.reason) for row in self.rows if not row.imported).most_common()


def import_tables(
    subject: Subject,
    subject_sha256: str,
    poses: PoseTable | None,
    fields: FieldTable | None,
    meps: MepTable,
    rules: ImportRules,
    progress: Progress | None = None,
) -> Imported:
    """Join poses or fields with MEPs.

    Parameters
    ----------
    subject : Subject
        Whose voxels the fields are on.
    subject_sha256 : str
        SHA-256 of its file.
    poses : PoseTable or None
        In the subject's space.
    fields : FieldTable or None
        Given fields; else they are computed from the poses. With both, row for row of the same pulses.
    meps : MepTable
        The amplitudes.
    rules : ImportRules
        How.
    progress : callable, optional
        Told of the fields that are done.

    Returns
    -------
    Imported

    Raises
    ------
    DataError
        The tables cannot be joined, intensities cannot be, or neither poses nor fields are there.
    """
    check_amplitudes(meps.mep_uv, meps.source)
    left, pose, missing = _left(poses, fields)
    right = Side(meps.source, meps.row, meps.column, (), np.empty(0))
    matches = join(left, right, rules.by, tolerance_s=rules.time_tolerance_s, offset_s=rules.time_offset_s)
    pairs = [match for match in matches if not match.refused]
    rows_left = np.array([match.left for match in pairs], np.intp)
    rows_right = np.array([match.right for match in pairs], np.intp)
    coil = field_coil(subject, rules.field_kind) if fields is None else None
    intensities = _intensities(left, right, poses, rows_left, rows_right, rules, fields).completed(
        rmt_percent_mso=rules.rmt_percent_mso,
        max_didt_a_per_us=rules.max_didt_a_per_us or (coil.max_didt_a_per_us if coil else None),
    )
    notes: list[str] = []
    refused = [""] * len(pairs)
    residual = np.full(len(pairs), np.nan)
    if fields is not None:
        field = _scaled(fields, rows_left, intensities, rules, notes)
    else:
        for row, match in enumerate(pairs):
            if missing[match.left or 0]:
                refused[row] = missing[match.left or 0]
            elif not np.isfinite(intensities.didt_a_per_us[row]):
                refused[row] = "no intensity, so no dI/dt (--intensity-column, --intensity, --rmt-percent-mso)"
        usable = np.array([row for row, reason in enumerate(refused) if not reason], np.intp)
        placed = place_fields(
            subject, rules.field_kind, pose[rows_left[usable]], 1e6 * intensities.didt_a_per_us[usable], progress
        )
        field = np.full((len(pairs), subject.n_voxels), np.nan, np.float32)
        field[usable] = placed.field_v_per_m
        residual[usable] = placed.residual
        for row, reason in zip(usable.tolist(), placed.refused, strict=True):
            refused[row] = reason
        notes.append(_method(subject, rules, coil.name if coil else ""))
    report = _report(matches, left, right, refused, residual)
    kept = np.array([row for row, reason in enumerate(refused) if not reason], np.intp)
    if not len(kept):
        return Imported(None, report, tuple(notes))
    data = _stimulation_set(
        muscles=meps.muscles,
        mep_uv=meps.mep_uv[rows_right[kept]],
        field=field[kept],
        pose=pose[rows_left[kept]],
        intensities=_rows(intensities, kept),
        voxel=subject.voxel,
        affine=subject.affine,
        box_shape=subject.box_shape,
        source="; ".join(
            [f"imported: {left.source}" + (f" with {poses.source}" if fields and poses else ""), meps.source, *notes]
        ),
        subject_sha256=subject_sha256,
    )
    return Imported(data, report, tuple(notes))


def import_arrays(arrays: ArrayData, subject: Subject | None, subject_sha256: str, rules: ImportRules) -> Imported:
    """Make a data set of arrays that already belong together.

    Parameters
    ----------
    arrays : ArrayData
        Fields and amplitudes.
    subject : Subject or None
        If given, the arrays must be on its voxels.
    subject_sha256 : str
        SHA-256 of its file.
    rules : ImportRules
        Of it the intensities; without a unit those of the arrays are % of the resting motor threshold.

    Returns
    -------
    Imported

    Raises
    ------
    DataError
        The voxels are not the subject's, or values that cannot be.
    """
    check_amplitudes(arrays.mep_uv, arrays.source)
    if subject is not None and not (
        np.array_equal(arrays.voxel, subject.voxel) and np.allclose(arrays.affine, subject.affine, atol=1e-6)
    ):
        raise DataError(
            f"{arrays.source} has {len(arrays.voxel)} voxels, the subject {subject.name!r} {subject.n_voxels}, or they "
            "lie elsewhere. Compute the fields on the subject's voxels, or leave out --subject."
        )
    n = len(arrays)
    values = arrays.intensity if rules.intensity is None else np.full(n, rules.intensity)
    intensities = given_intensities(values, rules.intensity_unit or "percent-rmt").completed(
        rmt_percent_mso=rules.rmt_percent_mso, max_didt_a_per_us=rules.max_didt_a_per_us
    )
    refused = [
        "the field holds values that are not finite numbers" if not np.isfinite(row).all() else ""
        for row in arrays.field_v_per_m
    ]
    report = tuple(
        ReportRow(str(row), str(row), str(row), not reason, reason) for row, reason in enumerate(refused, start=1)
    )
    notes = _unit_note(arrays.field_v_per_m)
    kept = np.array([row for row, reason in enumerate(refused) if not reason], np.intp)
    if not len(kept):
        return Imported(None, report, tuple(notes))
    data = _stimulation_set(
        muscles=arrays.muscles,
        mep_uv=arrays.mep_uv[kept],
        field=arrays.field_v_per_m[kept],
        pose=arrays.pose[kept],
        intensities=_rows(intensities, kept),
        voxel=arrays.voxel,
        affine=arrays.affine,
        box_shape=subject.box_shape if subject is not None else arrays.box_shape,
        source=f"imported: {arrays.source}",
        subject_sha256=subject_sha256,
    )
    return Imported(data, report, tuple(notes))


def _left(poses: PoseTable | None, fields: FieldTable | None) -> tuple[Side, Floats, list[str]]:
    """Return the table that amplitudes are joined to, its poses, and why a row has none."""
    if fields is not None and poses is not None and len(fields.label) != len(poses):
        raise DataError(
            f"{fields.source} has {len(fields.label)} fields, {poses.source} {len(poses)} poses; expected one field "
            "per pose, in the same order."
        )
    if poses is not None:
        rows = tuple(str(number) for number in range(1, len(poses) + 1))
        pose = poses.pose
        if fields is not None:
            pose = np.where(np.isnan(pose), fields.pose, pose)
        side = Side(fields.source if fields else poses.source, rows, poses.column, poses.label, poses.time_s)
        return side, pose, list(poses.missing)
    if fields is None:
        raise DataError(
            "Neither poses nor fields were given, so there is nothing to learn from. Give --poses or --fields."
        )
    rows = tuple(str(number) for number in range(1, len(fields.label) + 1))
    column = {"name": fields.label}
    return Side(fields.source, rows, column, fields.label, np.full(len(rows), np.nan)), fields.pose, [""] * len(rows)


def _intensities(
    left: Side,
    right: Side,
    poses: PoseTable | None,
    rows_left: npt.NDArray[np.intp],
    rows_right: npt.NDArray[np.intp],
    rules: ImportRules,
    fields: FieldTable | None,
) -> Intensities:
    """Return the intensities of the matched pairs: what the user names, else what the navigator wrote."""
    n = len(rows_left)
    if rules.intensity is not None:
        if rules.intensity_unit is None:
            raise DataError("--intensity needs --intensity-unit: percent-mso, percent-rmt or a-per-us.")
        return given_intensities(np.full(n, rules.intensity), rules.intensity_unit)
    if rules.intensity_column is not None:
        for side, rows in ((right, rows_right), (left, rows_left)):
            cells = column_of(side, rules.intensity_column)
            if cells is not None:
                every = column_intensities(cells, rules.intensity_column, rules.intensity_unit)
                return _rows(every, rows)
        raise DataError(
            f"Neither table has a column {rules.intensity_column!r}; they have "
            f"{', '.join((*right.column, *left.column))}."
        )
    nothing = np.full(n, np.nan)
    if poses is None:
        return Intensities(nothing, nothing, nothing)
    percent_mso = given_intensities(poses.percent_mso, "percent-mso").percent_mso
    didt = nothing
    # What a SimNIBS session says is the dI/dt of the simulation; with fields at hand it is not that of the pulse.
    if fields is None or poses.didt_measured:
        didt = given_intensities(poses.didt_a_per_us, "a-per-us").didt_a_per_us[rows_left]
    return Intensities(percent_mso[rows_left], nothing, didt)


def _rows(every: Intensities, rows: npt.NDArray[np.intp]) -> Intensities:
    return Intensities(every.percent_mso[rows], every.percent_rmt[rows], every.didt_a_per_us[rows])


def _scaled(
    fields: FieldTable,
    rows: npt.NDArray[np.intp],
    intensities: Intensities,
    rules: ImportRules,
    notes: list[str],
) -> npt.NDArray[np.float32]:
    """Return given fields for the pulses' own dI/dt, where both are known; else as they are."""
    field = fields.field_v_per_m[rows]
    if rules.fields_didt_a_per_us is not None:
        simulated = np.full(len(rows), rules.fields_didt_a_per_us)
    elif fields.didt_a_per_s is not None:
        simulated = fields.didt_a_per_s[rows] * 1e-6
    else:
        simulated = np.full(len(rows), np.nan)
    factor = intensities.didt_a_per_us / simulated
    known = np.isfinite(factor) & (factor > 0)
    if known.any() and not known.all():
        raise DataError(
            f"dI/dt of pulse and field are known for {known.sum()} of {len(rows)} rows only, so the fields would be on "
            "two scales. Give the intensity of every pulse, or of none."
        )
    if known.all() and len(rows):
        notes.append("fields scaled to each pulse's dI/dt")
        return np.asarray(field * factor[:, None], np.float32)
    notes.append("fields taken as they are (dI/dt of the pulses, or of the simulation, is not known)")
    return field


def _unit_note(field: npt.NDArray[np.float32]) -> list[str]:
    largest = float(np.nanmax(field, initial=0.0))
    if 5 <= largest <= 2000:
        return []
    return [f"the largest field is {largest:.3g} V/m, which no pulse above threshold makes: check the unit"]


def _report(
    matches: list[Match], left: Side, right: Side, refused: list[str], residual: Floats
) -> tuple[ReportRow, ...]:
    report = []
    pair = 0
    for match in matches:
        reason, left_over = match.refused, float("nan")
        if not reason:
            reason, left_over = refused[pair], float(residual[pair])
            pair += 1
        report.append(
            ReportRow(
                stimulus="" if match.left is None else left.row[match.left],
                label="" if match.left is None or not left.label else left.label[match.left],
                amplitude="" if match.right is None else right.row[match.right],
                imported=not reason,
                reason=reason,
                residual=left_over,
            )
        )
    return tuple(report)


def _method(subject: Subject, rules: ImportRules, coil: str) -> str:
    if rules.field_kind == "sphere":
        return f"fields of a sphere in closed form, {coil}"
    assert subject.basis is not None
    return f"fields by the subject's reduced basis, {coil}: {subject.basis.method}"


def _kind_of(reason: str) -> str:
    """Leave out what differs from row to row, so that reasons can be counted."""
    return re.sub(r"'[^']*'|-?\d+(\.\d+)?(e[+-]?\d+)?", "...", reason)


def _stimulation_set(
    *,
    muscles: tuple[str, ...],
    mep_uv: Floats,
    field: npt.NDArray[np.float32],
    pose: Floats,
    intensities: Intensities,
    voxel: npt.NDArray[np.int16],
    affine: Floats,
    box_shape: tuple[int, int, int],
    source: str,
    subject_sha256: str,
) -> StimulationSet:
    with np.errstate(invalid="ignore"):
        status = np.where(mep_uv < FLOOR_UV, int(MepStatus.NO_MEP), 0)
    status[np.isnan(mep_uv)] = int(MepStatus.SAMPLES_MISSING)
    data = StimulationSet(
        muscles=muscles,
        mep_uv=mep_uv.astype(np.float32),
        status=status.astype(np.uint16),
        field_v_per_m=np.ascontiguousarray(field, np.float32),
        voxel=voxel,
        affine=affine,
        box_shape=box_shape,
        pose=np.asarray(pose, np.float64),
        intensity_percent_rmt=intensities.percent_rmt.astype(np.float32),
        intensity_percent_mso=intensities.percent_mso.astype(np.float32),
        t_pulse=np.full(len(mep_uv), np.nan),  # a navigator's clock is not LSL's
        # HDF5 keeps at most 64 KiB here, and thousands of files may have been given.
        source=source if len(source) <= LONGEST_SOURCE else f"{source[:LONGEST_SOURCE]} ...",
        subject_sha256=subject_sha256,
    )
    check_stimulation_set(data)
    return data

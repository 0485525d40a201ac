"""`m2m dataset`: stimulation data sets from what laboratories have."""

import csv
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from rt_engine.errors import DataError, M2MError
from tools.commands.options import JsonOption
from tools.console import console, emit_json

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Import stimulation data sets from what laboratories have."
)


@app.callback()
def _group() -> None:
    """Import stimulation data sets from what laboratories have."""


MOST_REASONS = 12
"""Reasons shown on the screen; the report has them all."""


@app.command("import")
def import_dataset(
    out: Annotated[Path, typer.Argument(help="Data set to write (*.stim.h5).")],
    subject: Annotated[
        Path | None, typer.Option("--subject", help="Subject file (*.subject.h5). Default: the demo's.")
    ] = None,
    poses: Annotated[
        list[Path] | None,
        typer.Option(
            "--poses",
            "-p",
            help="Coil poses: Brainsight text, Localite XML, matsimnibs (.mat, .npy, .csv, .txt, .json), visor2 .mrk. "
            "Repeatable.",
        ),
    ] = None,
    fields: Annotated[
        list[Path] | None,
        typer.Option(
            "--fields",
            "-f",
            help="E-fields: SimNIBS many-simulation HDF5, or one .msh or NIfTI per position. Repeatable. Without it "
            "they are computed from the poses.",
        ),
    ] = None,
    meps: Annotated[
        Path | None,
        typer.Option("--meps", "-m", help="Table of MEPs: CSV, HDF5, Brainsight text. Default: the poses' own EMG."),
    ] = None,
    arrays: Annotated[
        Path | None, typer.Option("--arrays", help="Everything in one .npz or HDF5; see docs/import-data.md.")
    ] = None,
    mat: Annotated[
        list[Path] | None, typer.Option("--mat", help="The article's authors' .mat files or their folder. Repeatable.")
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            "--by", help="How MEPs are matched: order, index, name, time, or a column in both; A=B if its names differ."
        ),
    ] = "order",
    unit: Annotated[
        str | None, typer.Option("--unit", help="Unit of the MEPs where columns do not say it: uV, mV, V; normalised.")
    ] = None,
    muscles: Annotated[
        str | None,
        typer.Option(
            "--muscles", help="Amplitude columns or patterns, e.g. 'amp_*'; else the channels' names in order."
        ),
    ] = None,
    intensity_column: Annotated[
        str | None, typer.Option("--intensity-column", help="Column of either table with the intensity.")
    ] = None,
    intensity_unit: Annotated[
        str | None, typer.Option("--intensity-unit", help="percent-mso, percent-rmt or a-per-us.")
    ] = None,
    intensity: Annotated[float | None, typer.Option("--intensity", help="One intensity for all pulses.")] = None,
    rmt_percent_mso: Annotated[
        float | None, typer.Option("--rmt-percent-mso", help="Resting motor threshold, % of the maximum output.")
    ] = None,
    max_didt: Annotated[
        float | None, typer.Option("--max-didt", help="dI/dt at 100 % output, A/us. Default: the coil's.")
    ] = None,
    fields_didt: Annotated[
        float | None,
        typer.Option("--fields-didt", help="dI/dt that the given fields are for, A/us (SimNIBS' default is 1)."),
    ] = None,
    field: Annotated[
        str,
        typer.Option("--field", help="Fields from poses: finite-elements (the subject's basis), or sphere."),
    ] = "finite-elements",
    table: Annotated[
        str | None, typer.Option("--table", help="Of a Brainsight export: samples or targets. Default: samples.")
    ] = None,
    transform: Annotated[
        Path | None, typer.Option("--transform", help="4 x 4 text: the poses' mm to the subject's. A rigid motion.")
    ] = None,
    assume_same_space: Annotated[
        bool, typer.Option("--assume-same-space", help="Poses and subject are in one space, whatever they are called.")
    ] = False,
    time_tolerance_s: Annotated[float, typer.Option(help="With --by time: largest difference of two clocks, s.")] = 0.5,
    time_offset_s: Annotated[float, typer.Option(help="With --by time: what to add to the MEPs' times, s.")] = 0.0,
    mesh: Annotated[
        Path | None, typer.Option("--mesh", help="With SimNIBS' HDF5: the head mesh, if the file has no points.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="With SimNIBS' HDF5: name of the array, where several fit.")
    ] = None,
    roi: Annotated[
        list[int] | None,
        typer.Option("--roi", help="With SimNIBS' HDF5: tissue tag that was its roi, if unclear. Repeatable."),
    ] = None,
    origin: Annotated[
        str | None, typer.Option("--origin", help="With --mat: centre of the box's first voxel, mm, as X,Y,Z.")
    ] = None,
    field_unit: Annotated[
        float | None, typer.Option("--field-unit", help="With --mat: V/m that 1 in the field's files means.")
    ] = None,
    maximum_uv: Annotated[
        str | None, typer.Option("--maximum-uv", help="With normalised MEPs: uV that 1 means, per muscle: 5200,900,...")
    ] = None,
    mat_variable: Annotated[
        list[str] | None,
        typer.Option("--mat-variable", help="With --mat: field=NAME, mep=NAME or mask=NAME. Repeatable."),
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Write what became of every row (CSV).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Join E-fields or coil poses with MEPs into a data set that models are fitted on.

    Brainsight with its own EMG:  m2m dataset import OUT.stim.h5 --subject S.subject.h5 --poses export.txt --muscles
    FDI,ADM --max-didt 171

    Localite and a table:  m2m dataset import OUT.stim.h5 --subject S.subject.h5 --poses TriggerData1.xml --meps
    meps.csv --by index=trial

    SimNIBS fields:  m2m dataset import OUT.stim.h5 --subject S.subject.h5 --fields simulations.hdf5 --meps meps.csv

    Nothing is written unless a row comes through; --report says row by row what was refused and why. A unit, a space
    or an intensity is never guessed.
    """
    _check_choice("--field", field, ("finite-elements", "sphere"))
    _check_choice("--table", table, (None, "samples", "targets"))
    _check_folder("OUT", out)
    if report is not None:
        _check_folder("--report", report)
    from trainer.importers.assemble import ImportRules

    rules = ImportRules(
        by=by,
        time_tolerance_s=time_tolerance_s,
        time_offset_s=time_offset_s,
        intensity_column=intensity_column,
        intensity_unit=intensity_unit,
        intensity=intensity,
        rmt_percent_mso=rmt_percent_mso,
        max_didt_a_per_us=max_didt,
        fields_didt_a_per_us=fields_didt,
        field_kind="sphere" if field == "sphere" else "finite-elements",
    )
    inputs = _Inputs(
        subject=subject,
        poses=poses or [],
        fields=fields or [],
        meps=meps,
        muscles=_names(muscles),
        unit=unit,
        table=table,
        transform=transform,
        assume_same_space=assume_same_space,
        mesh=mesh,
        dataset=dataset,
        roi=roi,
    )
    if arrays is not None or mat:
        if poses or fields or meps or (arrays and mat):
            raise DataError("--arrays and --mat bring fields and MEPs together; give one of them, and no other input.")
        imported = (
            _from_arrays(inputs, arrays, rules)
            if arrays
            else _from_mat(inputs, mat or [], rules, origin, field_unit, _numbers(maximum_uv), mat_variable or [])
        )
    else:
        imported = _from_tables(inputs, rules)
    if report is not None:
        _write_report(report, imported.rows)
    _show(imported)
    if imported.data is None:
        raise DataError(
            f"None of {len(imported.rows)} rows came through, so {out} was not written. The reasons stand above"
            + (f" and in {report}." if report else "; --report FILE.csv gives them row by row.")
        )
    from rt_engine.field.stimulation_file import write_stimulation_set

    sha256 = write_stimulation_set(out, imported.data)
    data = imported.data
    console.print(f"{data.n_pulses} pulses x {data.n_muscles} muscles in {out}", soft_wrap=True)
    if as_json:
        emit_json(
            {
                "path": out,
                "sha256": sha256,
                "imported": data.n_pulses,
                "refused": sum(not row.imported for row in imported.rows),
                "reasons": dict(imported.reasons),
                "muscles": list(data.muscles),
                "voxels": data.n_voxels,
                "missing_amplitudes": int(np.isnan(data.mep_uv).sum()),
                "below_50_uv": int((data.mep_uv < 50).sum()),
                "notes": list(imported.notes),
                "report": report,
            }
        )


@dataclass(frozen=True)
class _Inputs:
    """The files, as the command line names them."""

    subject: Path | None
    poses: list[Path]
    fields: list[Path]
    meps: Path | None
    muscles: list[str] | None
    unit: str | None
    table: Any
    transform: Path | None
    assume_same_space: bool
    mesh: Path | None
    dataset: str | None
    roi: list[int] | None


def _from_tables(inputs: _Inputs, rules: Any) -> Any:
    from trainer.importers.assemble import import_tables
    from trainer.importers.field_files import read_fields
    from trainer.importers.mep_table import own_amplitudes, read_mep_table
    from trainer.importers.placed_fields import check_space
    from trainer.importers.pose_files import read_poses, read_transform

    if not inputs.poses and not inputs.fields:
        raise DataError(
            "Neither --poses nor --fields was given"
            + (f", and {inputs.meps.name} alone has no coil axes or fields" if inputs.meps else "")
            + ". Without an E-field there is nothing to learn from. Give one of them."
        )
    anatomy, sha256 = _subject(inputs.subject)
    poses = read_poses(inputs.poses, table=inputs.table) if inputs.poses else None
    if poses is not None:
        if inputs.transform is not None:
            poses = poses.moved(read_transform(inputs.transform), anatomy.space)
        check_space(poses, anatomy, assume_same=inputs.assume_same_space)
    if inputs.meps is not None:
        table = read_mep_table(inputs.meps, unit=inputs.unit, muscles=inputs.muscles)
    elif poses is not None and poses.muscles:
        table = own_amplitudes(poses, inputs.muscles)
    else:
        raise DataError("No MEPs: --meps was not given, and the poses' file has no amplitudes of its own EMG.")
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("E-fields", total=None)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        fields = (
            read_fields(inputs.fields, anatomy, mesh=inputs.mesh, dataset=inputs.dataset, roi=inputs.roi, progress=show)
            if inputs.fields
            else None
        )
        return import_tables(anatomy, sha256, poses, fields, table, rules, show)


def _from_arrays(inputs: _Inputs, path: Path, rules: Any) -> Any:
    from trainer.importers.arrays import read_arrays
    from trainer.importers.assemble import import_arrays

    data = read_arrays(path)
    anatomy, sha256 = _subject(inputs.subject) if inputs.subject else (None, "")
    return import_arrays(data, anatomy, sha256, rules)


def _from_mat(
    inputs: _Inputs,
    paths: list[Path],
    rules: Any,
    origin: str | None,
    field_unit: float | None,
    maximum_uv: list[float],
    names: list[str],
) -> Any:
    from trainer.importers.assemble import import_arrays
    from trainer.importers.mat_layout import MatLayout, read_mat_layout

    lacking = [
        option
        for option, given in (
            ("--muscles", inputs.muscles),
            ("--unit (uV, mV, V or normalised)", inputs.unit),
            ("--field-unit", field_unit),
            ("--origin or --subject", origin or inputs.subject),
        )
        if not given
    ]
    if lacking or inputs.muscles is None or inputs.unit is None or field_unit is None:
        raise DataError(f"The authors' .mat files do not say {', '.join(lacking)}; give them.")
    anatomy, sha256 = _subject(inputs.subject) if inputs.subject else (None, "")
    if anatomy is not None:
        affine = anatomy.affine
    else:
        affine = np.eye(4)
        place = _numbers(origin)
        if len(place) != 3:
            raise DataError(f"--origin is {origin!r}; expected three numbers, X,Y,Z in mm.")
        affine[:3, 3] = place
    variables = dict(_pair(name) for name in names)
    layout = MatLayout(affine, tuple(inputs.muscles), inputs.unit, field_unit, tuple(maximum_uv), variables)
    return import_arrays(read_mat_layout(paths, layout), anatomy, sha256, rules)


def _subject(path: Path | None) -> Any:
    from rt_engine.edges.foreign_files import read_foreign_subject
    from rt_engine.field.subject_file import file_sha256

    chosen = path or Path(str(files("configs") / "demo" / "default.subject.h5"))
    return read_foreign_subject(chosen), file_sha256(chosen)


def _show(imported: Any) -> None:
    n_refused = sum(not row.imported for row in imported.rows)
    console.print(f"{len(imported.rows)} rows: {len(imported.rows) - n_refused} imported, {n_refused} refused")
    table = Table()
    table.add_column("rows", justify="right")
    table.add_column("what became of them")
    if len(imported.rows) > n_refused:
        table.add_row(str(len(imported.rows) - n_refused), "imported")
    for reason, count in imported.reasons[:MOST_REASONS]:
        table.add_row(str(count), f"refused: {escape(reason)}")
    if len(imported.reasons) > MOST_REASONS:
        table.add_row("", f"and {len(imported.reasons) - MOST_REASONS} other reasons; see --report")
    console.print(table)
    for note in imported.notes:
        console.print(f"Note: {note}", markup=False, soft_wrap=True)


def _write_report(path: Path, rows: Any) -> None:
    from rt_engine.atomic_file import written_whole

    with written_whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["stimulus", "label", "amplitude", "outcome", "reason", "residual"])
        for row in rows:
            outcome = "imported" if row.imported else "refused"
            residual = "" if np.isnan(row.residual) else f"{row.residual:.6g}"
            writer.writerow([row.stimulus, row.label, row.amplitude, outcome, row.reason, residual])


def _check_choice(option: str, value: str | None, choices: tuple[str | None, ...]) -> None:
    if value not in choices:
        raise M2MError(f"{option} is {value!r}; expected {' or '.join(choice for choice in choices if choice)}.")


def _check_folder(what: str, path: Path) -> None:
    """Say now, and not when all is computed, that a file cannot be written."""
    if not path.absolute().parent.is_dir():
        raise M2MError(f"{what} {path}: there is no folder {path.absolute().parent}; make it first.")
    if path.is_dir():
        raise M2MError(f"{what} {path} is a folder; give the name of a file.")


def _names(text: str | None) -> list[str] | None:
    return [name.strip() for name in text.split(",") if name.strip()] if text else None


def _numbers(text: str | None) -> list[float]:
    try:
        return [float(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise DataError(f"{text!r}: expected numbers with commas between them.") from error


def _pair(text: str) -> tuple[str, str]:
    kind, equals, name = text.partition("=")
    if not equals or not name:
        raise DataError(f"--mat-variable is {text!r}; expected field=NAME, mep=NAME or mask=NAME.")
    return kind.strip(), name.strip()

"""`m2m fit-baseline`: a baseline model from a stimulation data set."""

from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from rt_engine.edges.foreign_files import read_foreign_stimulation_set
from rt_engine.errors import M2MError
from rt_engine.field.subject_file import file_sha256
from tools.commands.options import JsonOption
from tools.console import console, emit_json
from trainer.baselines import DEFAULT_FLOOR_UV
from trainer.export import export_model
from trainer.fitting import EXPORTABLE
from trainer.fitting import fit_baseline as fit
from trainer.folds import FoldKind
from trainer.preprocessing import prepare
from trainer.validation import validate


def fit_baseline(
    data: Annotated[Path, typer.Argument(help="Stimulation data set (*.stim.h5).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Model file to write (*.onnx).")],
    kind: Annotated[str, typer.Option(help=f"{' or '.join(EXPORTABLE)}.")] = "kernel-ridge",
    name: Annotated[str | None, typer.Option(help="Name of the model. Default: the kind and the data set's.")] = None,
    floor_uv: Annotated[float, typer.Option("--floor", help="Amplitudes below count as equal to it, uV.")] = (
        DEFAULT_FLOOR_UV
    ),
    folds: Annotated[int, typer.Option(min=2, max=20, help="Folds of the validation.")] = 10,
    seed: Annotated[int, typer.Option(help="Shuffles the folds.")] = 0,
    validated: Annotated[
        bool, typer.Option("--validate/--no-validate", help="Cross-validate all baselines first (minutes).")
    ] = True,
    created: Annotated[
        str, typer.Option(help="Date to write into the file (ISO 8601). Without it, the same data give the same file.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Fit a baseline model: principal components of the field, regressed on the logarithm of the MEP amplitudes.

    Cross-validates the mean map, nearest neighbours, ridge and kernel ridge on the same folds, fits the chosen one to
    all stimulations, and writes it as one ONNX file after checking that it computes what scikit-learn computes.
    """
    result = fit_and_export(
        data,
        out,
        kind=kind,
        name=name or f"{kind} on {data.name.removesuffix('.h5').removesuffix('.stim')}",
        floor_uv=floor_uv,
        folds=folds if validated else 0,
        seed=seed,
        created=created,
    )
    if as_json:
        emit_json(result)


def fit_and_export(
    data: Path,
    out: Path,
    *,
    kind: str,
    name: str,
    floor_uv: float = DEFAULT_FLOOR_UV,
    folds: int = 10,
    seed: int = 0,
    created: str = "",
) -> dict[str, Any]:
    """Do what `m2m fit-baseline` does, and return what it prints as JSON; 0 folds skip the validation."""
    if kind not in EXPORTABLE:
        raise M2MError(f"--kind is {kind!r}; expected {' or '.join(EXPORTABLE)}")
    if not out.absolute().parent.is_dir():
        raise M2MError(f"--out {out}: there is no folder {out.absolute().parent}; make it first")
    training = prepare(read_foreign_stimulation_set(data), floor_uv=floor_uv)
    for note in training.notes:
        console.print(note)
    validation: dict[str, Any] = {}
    if folds:
        columns = (TextColumn("validation, folds"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("folds", total=None)
            validation = validate(
                training,
                kind,
                floor_uv=floor_uv,
                n_folds=folds,
                seed=seed,
                progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
        for which in get_args(FoldKind):
            if validation[which]:
                console.print(_table(validation[which], which, folds, kind))
    with console.status("fitting to all stimulations"):
        baseline = fit(training, kind, floor_uv=floor_uv, seed=seed)
    with console.status("writing and checking the file"):
        sha256 = export_model(
            out, baseline, name=name, validation=validation, data_sha256=file_sha256(data), created=created
        )
    console.print(
        f"{kind} model of {len(training)} stimulations x {len(training.muscles)} muscles: {out}", soft_wrap=True
    )
    return {
        "model": str(out),
        "sha256": sha256,
        "kind": kind,
        "n_stimulations": len(training),
        "muscles": list(training.muscles),
        "hyperparameters": baseline.hyperparameters,
        "notes": list(training.notes),
        "validation": validation,
    }


def _table(figures: dict[str, Any], which: FoldKind, folds: int, kind: str) -> Table:
    named = {"random": "random, stratified by intensity", "blocks": "by place of the coil"}[which]
    covered = figures["coverage"]
    table = Table(
        title=f"{folds} folds, {named}",
        caption=f"truth within 1 SD / 95 % of {kind}'s spread: field {covered['field_1sd']:.1%} / "
        f"{covered['field_95']:.1%}, CoG {covered['cog_1sd']:.1%} / {covered['cog_95']:.1%}",
    )
    table.add_column("baseline", no_wrap=True)
    for heading in ("NRMSE", "median", "R2", "median", "CoG err. mm", "median", "skill"):
        table.add_column(heading, justify="right")
    for each, row in figures.items():
        if each == "coverage":
            continue
        cells = [f"{row[f'{measure}_{part}']:.3f}" for measure in ("nrmse", "r2") for part in ("mean", "median")]
        cells += [f"{row[f'cog_error_mm_{part}']:.2f}" for part in ("mean", "median")]
        table.add_row(each, *cells, f"{row['skill']:.3f}")
    return table

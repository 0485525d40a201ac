"""`m2m evaluate`: the article's models and the baselines, judged on stimulations that they were not fitted to."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from rt_engine.errors import SettingsError
from tools.commands.options import JsonOption
from tools.console import console, emit_json
from tools.evaluation_progress import ProgressWatch
from trainer.architectures.settings import MODELS
from trainer.evaluation.evaluate import evaluate as run_evaluation
from trainer.evaluation.evaluate import write_outputs
from trainer.evaluation.figures import headline
from trainer.evaluation.plan import EvaluationSettings, chosen_models
from trainer.evaluation.tuning import candidates
from trainer.folds import FoldKind
from trainer.training_settings import TrainingSettings, training_settings

FOLDS_IN_WORDS: dict[str, str] = {"random": "random, stratified by intensity", "blocks": "by place of the coil"}


def evaluate(
    data: Annotated[list[Path], typer.Argument(help="Stimulation data sets (*.stim.h5), one subject each.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for report, tables and finished jobs; the same goes on there.")
    ],
    models: Annotated[
        list[str] | None,
        typer.Option(help=f"all (default), none, or some of {', '.join(MODELS)}; the baselines always."),
    ] = None,
    folds: Annotated[int, typer.Option(help="Folds of each kind.")] = 10,
    only: Annotated[list[str] | None, typer.Option(help="Only this kind of folds: random or blocks.")] = None,
    fold_subset: Annotated[
        str | None, typer.Option(help="Run only these folds, counted from 0, as 0,1; named in every result.")
    ] = None,
    forward: Annotated[
        bool, typer.Option("--forward/--no-forward", help="Train the forward model M2M-Net too (random folds).")
    ] = True,
    epochs: Annotated[int | None, typer.Option(help="Most epochs per stage; short for --set fitting.epochs=N.")] = None,
    settings: Annotated[
        Path | None, typer.Option("--settings", "-s", help="Settings of the networks (TOML), as of m2m train.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override one setting, as KEY=VALUE, e.g. latent=8. Repeatable.")
    ] = None,
    tune: Annotated[
        list[str] | None,
        typer.Option(
            help="Choose a setting first, as KEY=VALUE,VALUE, e.g. latent=8,16,32. Repeatable: all combinations."
        ),
    ] = None,
    tune_folds: Annotated[int, typer.Option(min=2, help="Inner folds of --tune.")] = 10,
    tune_every_fold: Annotated[
        bool, typer.Option("--tune-every-fold", help="Choose anew in every fold, not once in the first as the article.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Makes the folds, and is every method's.")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes of this machine, one job each. Default: one per processor.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a running dask scheduler, tcp://HOST:PORT, instead of own workers.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Cross-validate the article's models and the baselines on the same folds, and write a report.

    Folds are random with their share of every intensity, and beside it by place of the coil, since neighbouring
    placements in training and test flatter every method. Finished jobs stay in the folder: after Ctrl-C or a crash the
    same command goes on. The figures do not depend on the number of workers.
    """
    words = [*(overrides or []), *([f"fitting.epochs={epochs}"] if epochs is not None else [])]

    def with_overrides(more: Sequence[str]) -> TrainingSettings:
        return training_settings(settings, [*words, *more])

    asked = EvaluationSettings(
        models=chosen_models(models or ["all"]),
        forward=forward,
        n_folds=folds,
        kinds=cast("tuple[FoldKind, ...]", tuple(only or get_args(FoldKind))),
        fold_subset=_numbers(fold_subset),
        seed=seed,
        training=with_overrides(()),
    )
    tried = candidates(tune, with_overrides) if tune else []
    with ProgressWatch() as watch:
        evaluations = run_evaluation(
            data,
            asked,
            out,
            workers=os.cpu_count() or 1 if workers is None else workers,
            scheduler=scheduler,
            watch=watch,
            tried=tried,
            tune_folds=tune_folds,
            tune_every_fold=tune_every_fold,
        )
    with console.status("writing tables and report"):
        written = write_outputs(evaluations, out)
    found = {evaluation.name: headline(evaluation) for evaluation in evaluations}
    for name, figures in found.items():
        _show(name, figures)
    for row in evaluations[0].settings["tuning"]:
        if row["chosen"]:
            values = ", ".join(f"{key} = {row[key]}" for key in tried[0].values)
            console.print(f"chosen for {row['method']}: {values} (validation NRMSE {row['nrmse']:.3f})")
    for path in written:
        console.print(str(path), soft_wrap=True)
    if as_json:
        emit_json(_json(found, written, evaluations[0].settings["tuning"]))


def _cell(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"  # one fold has no error bar over folds


def _numbers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError as error:
        raise SettingsError(f"--fold-subset is {text!r}; expected numbers with commas between, such as 0,1") from error


def _json(found: dict[str, dict[str, Any]], written: list[Path], tuning: list[dict[str, Any]]) -> dict[str, Any]:
    """Put the first data set's figures on top, where there is mostly just one, and all under ``data``."""
    first = next(iter(found.values()))
    return {
        "data": found,
        "methods": first["methods"],
        "forward": first["forward"],
        "folds": first["folds"],
        "notes": first["notes"],
        "tuning": tuning,
        "files": [str(path) for path in written],
    }


def _show(name: str, figures: dict[str, Any]) -> None:
    for kind, numbers in figures["folds"].items():
        table = Table(
            title=f"{name}: {len(numbers)} folds, {FOLDS_IN_WORDS[kind]}",
            caption="±: 1.96 standard errors of the mean over the folds",
            box=SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            pad_edge=False,
            show_edge=False,
        )
        table.add_column("method", no_wrap=True)
        for heading in ("NRMSE", "±", "median", "R2", "±", "median", "CoG mm", "skill"):
            table.add_column(heading, justify="right", no_wrap=True)
        for method, by_kind in figures["methods"].items():
            row = by_kind[kind]
            shown = ("nrmse", "nrmse_sem", "nrmse_median", "r2", "r2_sem", "r2_median", "cog_mm", "skill")
            table.add_row(method, *(_cell(row[measure], 2 if measure == "cog_mm" else 3) for measure in shown))
        console.print(table)
        console.print()
    for method, row in figures["forward"].items():
        console.print(f"{method}: held-out MEPs off by {row['rmse']:.3f} of the muscle's largest, R2 {row['r2']:.3f}")
    for note in figures["notes"]:
        console.print(note)

"""`m2m train`: one of the article's models from a stimulation data set."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import numpy as np
import typer
from rich.table import Table

from rt_engine.edges.foreign_files import read_foreign_stimulation_set
from rt_engine.errors import M2MError
from rt_engine.field.subject_file import file_sha256
from tools.commands.options import JsonOption
from tools.console import console, emit_json
from tools.training_progress import TrainingProgress, duration
from trainer.architectures.settings import MODELS, TITLES, Form, ModelName
from trainer.metrics import cog_error_mm, nrmse, r_squared, skill
from trainer.network_data import Selection, prepare_for_networks, select_stimulations
from trainer.tensorflow_setup import set_up_tensorflow
from trainer.training_settings import TrainingSettings, training_settings

if TYPE_CHECKING:
    from trainer.trained_network import TrainedNetwork

EXIT_INTERRUPTED = 130
"""As `tools.cli` has it."""

MODEL_NAME = "model.onnx"
"""The model file in the folder of a training."""


def train(
    data: Annotated[Path, typer.Argument(help="Stimulation data set (*.stim.h5).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for checkpoint, network and model file.")],
    model: Annotated[str, typer.Option("--model", "-m", help=f"One of {', '.join(MODELS)}.")] = "direct-variational",
    settings: Annotated[
        Path | None, typer.Option("--settings", "-s", help="Settings (TOML), as configs/article-training.toml.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override one setting, as KEY=VALUE; e.g. --set mep_scale=linear. Repeatable."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Most epochs per stage; --set fitting.epochs=N.")] = None,
    batch: Annotated[int | None, typer.Option(help="Stimulations per step; --set fitting.batch_size=N.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes the run repeatable; --set fitting.seed=N.")] = None,
    form: Annotated[str, typer.Option(help="masked, or dense as published: the same, many times slower.")] = "masked",
    threads: Annotated[int, typer.Option(min=0, help="Threads of TensorFlow; 0: as many as processors.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the folder's checkpoint.")] = False,
    tensorboard: Annotated[Path | None, typer.Option(help="Folder for TensorBoard's logs.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the model. Default: the model's and the data set's.")
    ] = None,
    export: Annotated[bool, typer.Option("--export/--no-export", help="Write the model file too.")] = True,
    created: Annotated[
        str,
        typer.Option(help="Date to write into the model file (ISO 8601). Without it, the file does not depend on it."),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Train one of the article's models, and write it as a model file.

    Ctrl-C stops after the step that is being taken and keeps all of them; the same command with --resume goes on, to
    the weights that an uninterrupted training gives. A second Ctrl-C ends at once, and loses the epoch begun.
    """
    known = _one_of("--model", model, MODELS)
    shape = _one_of("--form", form, get_args(Form))
    short = {"epochs": epochs, "batch_size": batch, "seed": seed}
    words = [*(overrides or []), *(f"fitting.{key}={value}" for key, value in short.items() if value is not None)]
    chosen = training_settings(settings, words)
    result = train_and_export(
        data,
        out,
        model=cast("ModelName", known),
        settings=chosen,
        form=cast("Form", shape),
        threads=threads,
        resume=resume,
        log_dir=tensorboard,
        name=name or f"{TITLES[cast('ModelName', known)]} on {data.name.removesuffix('.h5').removesuffix('.stim')}",
        export=export,
        created=created,
    )
    if as_json:
        emit_json(result)
    if result["stopped"]:
        raise typer.Exit(EXIT_INTERRUPTED)


def train_and_export(
    data: Path,
    out: Path,
    *,
    model: ModelName,
    settings: TrainingSettings,
    form: Form = "masked",
    threads: int = 0,
    resume: bool = False,
    log_dir: Path | None = None,
    name: str,
    export: bool = True,
    created: str = "",
) -> dict[str, Any]:
    """Do what `m2m train` does, and return what it prints as JSON."""
    training = prepare_for_networks(read_foreign_stimulation_set(data), settings.preprocessing)
    selection = select_stimulations(training, settings.preprocessing)
    for note in selection.notes:
        console.print(note)
    console.print(_chosen(selection))
    set_up_tensorflow(threads)
    # Not before: TensorFlow reads its settings when it is imported.
    from trainer.network_fitting import TrainingStopped
    from trainer.trained_network import train_network

    result: dict[str, Any] = {"model": model, "form": form, "folder": str(out), "stopped": False}
    try:
        with _stop_on_ctrl_c() as stop, TrainingProgress() as progress:
            trained = train_network(
                training,
                model,
                architecture=settings.architecture,
                preprocessing=settings.preprocessing,
                fitting=settings.fitting,
                form=form,
                folder=out,
                resume=resume,
                told=progress.told,
                stepped=progress.stepped,
                stop=stop,
                log_dir=log_dir,
            )
    except TrainingStopped as stopped:
        console.print(f"{stopped}. The same command with --resume goes on.", soft_wrap=True)
        return result | {"stopped": True}
    validation = validation_figures(trained)
    history = trained.history
    _show(trained, validation)
    sha256 = None
    if export:
        with console.status("writing and checking the model file"):
            sha256 = _export(out / MODEL_NAME, trained, name, validation, file_sha256(data), created)
        console.print(f"model file: {out / MODEL_NAME}", soft_wrap=True)
    return result | {
        "model_file": str(out / MODEL_NAME) if export else None,
        "sha256": sha256,
        "n_stimulations": len(trained.training),
        "n_validation": len(trained.validation),
        "muscles": list(training.muscles),
        "stimulations": {f"{level:g}": list(numbers) for level, numbers in selection.counts.items()},
        "epochs": {stage: sum(report.stage == stage for report in history.epochs) for stage in history.ended},
        "ended": history.ended,
        "loss": history.epochs[-1].loss,
        "seconds": round(history.seconds, 3),
        "validation": validation,
        "notes": list(selection.notes),
    }


def validation_figures(trained: "TrainedNetwork") -> dict[str, float] | None:
    """Return the article's measures on the stimulations set apart, beside the mean map's; None if there are none."""
    rows = trained.validation
    if not len(rows):
        return None
    estimated = trained.predict(rows.amplitudes_uv)
    mean_map = trained.training.field.mean(axis=0)
    figures: dict[str, Any] = {
        "nrmse": np.mean(nrmse(rows.field, estimated)),
        "nrmse_median": np.median(nrmse(rows.field, estimated)),
        "nrmse_mean_map": np.mean(nrmse(rows.field, np.tile(mean_map, (len(rows), 1)))),
        "r2": np.mean(r_squared(rows.field, estimated)),
        "cog_error_mm": np.mean(cog_error_mm(rows.field, estimated, rows.voxel_mm)),
        "skill": skill(rows.field, estimated, mean_map),
    }
    return {key: round(float(value), 5) for key, value in figures.items()}


def _export(
    path: Path,
    trained: "TrainedNetwork",
    name: str,
    validation: dict[str, float] | None,
    data_sha256: str,
    created: str,
) -> str:
    """Write the model file; returns its SHA-256."""
    from trainer.network_export import export_network

    figures = {} if validation is None else {"set_apart": validation}
    return export_network(path, trained, name=name, validation=figures, data_sha256=data_sha256, created=created)


def _one_of(option: str, given: str, known: tuple[str, ...]) -> str:
    if given not in known:
        raise M2MError(f"{option} is {given!r}; expected one of {', '.join(known)}")
    return given


@contextmanager
def _stop_on_ctrl_c() -> Iterator[Callable[[], bool]]:
    """Give what says whether Ctrl-C was pressed; a second one interrupts at once."""
    pressed = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(number, signal.default_int_handler)
        console.print("Stopping after this step; a second Ctrl-C ends at once.")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: pressed
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _chosen(selection: Selection) -> Table:
    """Return Table I of the article for this data set."""
    table = Table(title="stimulations chosen / applied, by % of RMT")
    for level in selection.counts:
        table.add_column(f"{level:g}" if level == level else "unknown", justify="right")
    table.add_row(*(f"{chosen}/{applied}" for chosen, applied in selection.counts.values()))
    return table


def _show(trained: "TrainedNetwork", validation: dict[str, float] | None) -> None:
    history = trained.history
    ended = ", ".join(
        f"{stage} {sum(report.stage == stage for report in history.epochs)} epochs "
        + ("(plateau)" if why == "plateau" else "(the most allowed)")
        for stage, why in history.ended.items()
    )
    console.print(f"trained on {len(trained.training)} stimulations in {duration(history.seconds)}: {ended}")
    if validation is None:
        console.print("no stimulations were set apart, so nothing is known of its error")
        return
    console.print(
        f"on {len(trained.validation)} stimulations set apart: NRMSE {validation['nrmse']:.3f} (mean map "
        f"{validation['nrmse_mean_map']:.3f}), R2 {validation['r2']:.3f}, CoG error "
        f"{validation['cog_error_mm']:.2f} mm, skill {validation['skill']:.3f}",
        soft_wrap=True,
    )

"""`m2m build-demo`: rebuild the subject and the model that the demo ships."""

import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from rt_engine.errors import M2MError
from rt_engine.field.subject_file import read_subject
from tools.commands.fit_baseline import fit_and_export
from tools.commands.options import JsonOption
from tools.console import console, emit_json

STIMULATIONS = 1200
"""As many as the article's subjects had, about (II.A)."""

SEED = 1_000_000
"""Of the training session; far from the small seeds that a user gives a demo, which would be tested on its own data."""

MAX_BYTES = 6_000_000
"""The repository carries the files."""


def build_demo(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder. Default: configs/demo of this installation.")
    ] = None,
    stimulations: Annotated[int, typer.Option(min=50, help="Stimulations to fit the model to.")] = STIMULATIONS,
    seed: Annotated[int, typer.Option(help="Of the simulated training session.")] = SEED,
    keep_data: Annotated[
        Path | None, typer.Option("--keep-data", help="Keep the simulated data set here (*.stim.h5).")
    ] = None,
    folds: Annotated[int, typer.Option(min=0, max=20, help="Folds of the validation; 0 leaves it out.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Rebuild the demo's subject and model: anatomy, simulated stimulations with EMG, kernel ridge. Takes minutes.

    The amplitudes are measured in simulated EMG, as the engine measures them live, noise and artefact included.
    """
    from drivers.simulated.dataset import write_dataset
    from trainer.anatomy import build_default_subject

    folder = out or Path(str(files("configs") / "demo"))
    if not folder.is_dir():
        raise M2MError(f"--out {folder}: there is no such folder; make it first")
    subject_path, model_path = folder / "default.subject.h5", folder / "kernel-ridge.onnx"
    with console.status("anatomy"):
        subject_sha256 = build_default_subject(subject_path)
    console.print(f"subject: {subject_path}", soft_wrap=True)
    with tempfile.TemporaryDirectory() as scratch:
        # The same file gives the same name, hence the same model, wherever it lies.
        data_path = keep_data or Path(scratch) / "demo.stim.h5"
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("simulated stimulations", total=stimulations)
            write_dataset(
                data_path,
                stimulations,
                seed,
                lambda done, _: progress.update(task, completed=done),
                subject=read_subject(subject_path),
                subject_sha256=subject_sha256,
                with_emg=True,
            )
        result = fit_and_export(
            data_path, model_path, kind="kernel-ridge", name="kernel ridge, simulated demo subject", folds=folds
        )
    size = subject_path.stat().st_size + model_path.stat().st_size
    console.print(f"subject and model together: {size / 1e6:.2f} MB")
    if size > MAX_BYTES:
        raise M2MError(
            f"subject and model have {size} bytes together; the repository takes {MAX_BYTES}. Use fewer --stimulations."
        )
    if as_json:
        emit_json({"subject": subject_path, "subject_sha256": subject_sha256, "bytes": size, **result})

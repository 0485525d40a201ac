"""`m2m build-demo`: rebuild the subject and the model that the demo ships.

The subject has the default head's scalp and its E-field's basis; the model is fitted to stimulations simulated on that.
"""

import shutil
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rt_engine.atomic_file import written_whole
from rt_engine.errors import M2MError
from rt_engine.field.subject_file import read_subject
from tools.commands.fit_baseline import fit_and_export
from tools.commands.options import JsonOption
from tools.console import console, emit_json

STIMULATIONS = 1200
"""As many as the article's subjects had, about (II.A)."""

SEED = 1_000_000
"""Of the training session; far from the small seeds that a user gives a demo, which would be tested on its own data."""

SUBJECT, MODEL = "default.subject.h5", "kernel-ridge.onnx"

MAX_BYTES = 6_000_000
"""The repository carries both files."""

MAX_SUBJECT_BYTES = 5_000_000

RESOLUTION_MM = 2
"""Of the head's voxels: minutes of solving. 1 mm, which is more accurate, takes about an hour."""

RANK = 150
"""Placements solved for the basis."""


def build_demo(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder. Default: configs/demo of this installation.")
    ] = None,
    stimulations: Annotated[int, typer.Option(min=50, help="Stimulations to fit the model to.")] = STIMULATIONS,
    seed: Annotated[int, typer.Option(help="Of the simulated training session.")] = SEED,
    keep_data: Annotated[
        Path | None, typer.Option("--keep-data", help="Keep the simulated data set here (*.stim.h5).")
    ] = None,
    resolution_mm: Annotated[
        int, typer.Option("--resolution-mm", min=1, max=2, help="Edge of the head's voxels.")
    ] = RESOLUTION_MM,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Processes that solve at the same time.")] = 1,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Keeps head and solved placements, as for `m2m subject build`.")
    ] = None,
    folds: Annotated[int, typer.Option(min=0, max=20, help="Folds of the validation; 0 leaves it out.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Rebuild the demo's subject and model: head, E-field basis, simulated stimulations with EMG, kernel ridge.

    The first call solves for the basis and takes a quarter of an hour; later ones find it in the cache. The amplitudes
    are measured in simulated EMG, as the engine measures them live, noise and artefact included.
    """
    from drivers.simulated.dataset import write_dataset
    from rt_engine.field.coil import figure_of_eight
    from tools.commands.subject import default_cache
    from trainer.head_models.build import Cache, build_subject, default_recipe

    folder = out or Path(str(files("configs") / "demo"))
    if not folder.is_dir():
        raise M2MError(f"--out {folder}: there is no such folder; make it first")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with tempfile.TemporaryDirectory() as scratch:
        subject_path, model_path = Path(scratch) / SUBJECT, Path(scratch) / MODEL
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("looking into the cache", total=None)
            built = build_subject(
                default_recipe(),
                subject_path,
                Cache(cache or default_cache()),
                resolution_mm=resolution_mm,
                coil=figure_of_eight(),
                rank=RANK,
                jobs=jobs,
                progress=lambda done, total: progress.update(task, completed=done, total=total),
                stage=lambda words: progress.update(task, description=words),
            )
        # The same file gives the same name, hence the same model, wherever it lies.
        data_path = keep_data or Path(scratch) / "demo.stim.h5"
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("simulated stimulations", total=stimulations)
            write_dataset(
                data_path,
                stimulations,
                seed,
                lambda done, _: progress.update(task, completed=done),
                subject=read_subject(subject_path),
                subject_sha256=built.sha256,
                with_emg=True,
            )
        result = fit_and_export(
            data_path, model_path, kind="kernel-ridge", name="kernel ridge, simulated demo subject", folds=folds
        )
        subject_bytes, model_bytes = (path.stat().st_size for path in (subject_path, model_path))
        if subject_bytes > MAX_SUBJECT_BYTES or subject_bytes + model_bytes > MAX_BYTES:
            raise M2MError(
                f"the subject has {subject_bytes} bytes and the model {model_bytes}; the repository takes "
                f"{MAX_SUBJECT_BYTES} of the subject and {MAX_BYTES} of both. Use fewer --stimulations."
            )
        # Only now that both are good: a model belongs to the subject that it was made with.
        for path in (subject_path, model_path):
            with written_whole(folder / path.name) as temporary:
                shutil.copyfile(path, temporary)
    size = subject_bytes + model_bytes
    console.print(f"subject and model in {folder}: {size / 1e6:.2f} MB", soft_wrap=True)
    if as_json:
        made = {"subject": folder / SUBJECT, "subject_sha256": built.sha256, "subject_cached": built.cached}
        emit_json({**made, "bytes": size, **built.summary, **result, "model": folder / MODEL})

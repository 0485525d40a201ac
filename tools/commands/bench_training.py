"""`m2m bench training`: how much faster, and with how much less memory, the masked network trains."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated, cast, get_args

import typer
from rich.table import Table

from rt_engine.errors import M2MError
from tools.commands.options import JsonOption
from tools.console import console, emit_json


def bench_training(
    subject: Annotated[
        Path | None, typer.Option("--subject", help="Subject file. Default: the one that ships with the demo.")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Stimulations per step.")] = 8,
    dense_steps: Annotated[int, typer.Option("--dense-steps", min=1, help="Dense steps to time.")] = 3,
    masked_steps: Annotated[int, typer.Option("--masked-steps", min=1, help="Masked steps to time.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights, data and noise.")] = 0,
    onednn: Annotated[
        str, typer.Option("--onednn", help="TensorFlow's oneDNN kernels: on, off, or auto, as it decides itself.")
    ] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Time a training step of Direct Variational, published against masked, and compare memory and gradients.

    Each form is a process of its own with one TensorFlow thread. A minute or two, nearly all of it for the dense form.
    """
    import msgspec

    from rt_engine.edges.foreign_files import read_foreign_subject
    from tools.bench.training import OneDnn, measure_training

    if onednn not in get_args(OneDnn):
        raise M2MError(f"--onednn is {onednn!r}; expected auto, on or off")

    anatomy = read_foreign_subject(subject or Path(str(files("configs") / "demo" / "default.subject.h5")))
    with console.status("Starting ...") as status:
        figures = measure_training(
            anatomy.voxel,
            anatomy.box_shape,
            batch=batch,
            dense_steps=dense_steps,
            masked_steps=masked_steps,
            seed=seed,
            onednn=cast("OneDnn", onednn),
            told=lambda form: status.update(f"Taking {form} steps ..."),
        )
    table = Table(
        title=f"{anatomy.name}: {figures.voxels} voxels, batch {figures.batch}",
        caption=f"medians, oneDNN {'on' if figures.onednn else 'off'}, masked decoder "
        f"{'compiled' if figures.compiled else 'not compiled'}; "
        f"gradients equal to {figures.max_grad_rel_diff:.1g} of their size",
    )
    for heading in ("", "dense", "masked", "ratio"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    table.add_row("step, ms", f"{figures.dense_ms:.0f}", f"{figures.masked_ms:.1f}", f"{figures.ratio:.0f}")
    cpu = (f"{figures.dense_cpu_ms:.0f}", f"{figures.masked_cpu_ms:.1f}", f"{figures.cpu_ratio:.0f}")
    table.add_row("of it, processor time, ms", *cpu)
    own = (f"{figures.dense_mb:.0f}", f"{figures.masked_mb:.0f}", f"{figures.memory_ratio:.1f}")
    table.add_row("peak memory of the steps, MB", *own)
    whole = (f"{figures.dense_peak_mb:.0f}", f"{figures.masked_peak_mb:.0f}", f"{figures.process_memory_ratio:.1f}")
    table.add_row("of the whole process, MB", *whole)
    console.print(table)
    if as_json:
        emit_json(msgspec.to_builtins(figures))

"""`m2m bench inference`: how much faster the masked network runs than the published one."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from rt_engine.errors import M2MError
from rt_engine.onnx_session import Provider
from tools.commands.options import JsonOption
from tools.console import console, emit_json


def bench_inference(
    subject: Annotated[
        Path | None, typer.Option("--subject", help="Subject file. Default: the one that ships with the demo.")
    ] = None,
    repeats: Annotated[
        int, typer.Option("--repeats", "-n", min=1, help="Runs of the dense network per number of threads.")
    ] = 15,
    threads: Annotated[
        list[int] | None, typer.Option("--threads", min=1, help="Threads of both. Repeatable. Default: 1 and 2.")
    ] = None,
    provider: Annotated[str, typer.Option("--provider", help="auto (CUDA if it works), cpu or cuda.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random weights.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Time the published network against the masked one: ONNX Runtime, one map at a time, equal threads, in one run.

    Both have the same random weights; the mask is the subject's. Half a minute.
    """
    import msgspec

    from rt_engine.edges.foreign_files import read_foreign_subject
    from tools.bench.inference import measure_inference

    if provider not in ("auto", "cpu", "cuda"):
        raise M2MError(f"--provider is {provider!r}; expected auto, cpu or cuda")
    anatomy = read_foreign_subject(subject or Path(str(files("configs") / "demo" / "default.subject.h5")))
    columns = (TextColumn("dense runs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("dense runs", total=None)
        figures = measure_inference(
            anatomy.voxel,
            anatomy.box_shape,
            repeats=repeats,
            threads=tuple(threads or (1, 2)),
            provider=cast(Provider, provider),
            seed=seed,
            told=lambda done, of: progress.update(task, completed=done, total=of),
        )
    table = Table(
        title=f"{anatomy.name}: {figures.voxels} voxels, {figures.provider}",
        caption=f"medians at batch 1; maps equal to {figures.max_abs_diff:.1g}; "
        f"{figures.dense_multiply_adds / 1e6:.0f} M and {figures.masked_multiply_adds / 1e6:.0f} M multiply-adds",
    )
    for heading in ("threads", "dense, ms", "masked, ms", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    for timing in figures.threads:
        table.add_row(str(timing.threads), f"{timing.dense_ms:.1f}", f"{timing.masked_ms:.2f}", f"{timing.ratio:.0f}")
    if figures.notice:
        console.print(figures.notice)
    console.print(table)
    if as_json:
        emit_json(msgspec.to_builtins(figures))

"""`m2m bench replay`: hours of EMG through the core, as fast as it can."""

from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tools.commands.options import JsonOption, ModelOption, SetOption, SettingsOption
from tools.console import console, emit_json


def bench_replay(
    settings: SettingsOption = None,
    model: ModelOption = None,
    hours: Annotated[
        float, typer.Option("--hours", min=0.01, max=24.0, help="Length of the EMG. An hour needs 0.5 GB of memory.")
    ] = 2.0,
    block: Annotated[int, typer.Option("--block", min=1, help="Samples per block.")] = 64,
    jitter_ms: Annotated[
        float, typer.Option("--jitter-ms", min=0.0, max=10.0, help="Jitter of the stamps, SD, in packets of 8.")
    ] = 0.0,
    compared_s: Annotated[
        float, typer.Option("--compared", min=1.0, help="Seconds that are replayed in blocks of 1, 7, 64 and 4096.")
    ] = 300.0,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay made-up EMG at full speed: how many times real time, and whether all block sizes give the same bits.

    A pulse every five seconds, poses at 20 Hz. Two hours take about a minute.
    """
    import msgspec

    from tools.bench.replay import measure_replay
    from tools.chosen_settings import chosen_settings

    chosen = chosen_settings(settings, overrides, model)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console, transient=True
    ) as progress:
        task = progress.add_task("making the EMG", total=None)
        figures = measure_replay(
            chosen,
            hours=hours,
            block=block,
            jitter_ms=jitter_ms,
            compared_s=compared_s,
            told=lambda stage, done, of: progress.update(task, description=stage, completed=done, total=of),
        )
    console.print(
        f"{figures.seconds:.0f} s of EMG in blocks of {figures.block}: [bold]{figures.times_real_time:.0f} times real "
        f"time[/] ({figures.times_real_time_cpu:.0f} by the processor's time); {figures.served} of {figures.pulses} "
        "pulses served",
        soft_wrap=True,
    )
    same = "the same amplitudes and maps, to the bit" if figures.identical else "[bold red]not the same[/]"
    console.print(f"The first {figures.compared_s:.0f} s in blocks of 1, 7, 64 and 4096 samples: {same}")
    if as_json:
        emit_json(msgspec.to_builtins(figures))

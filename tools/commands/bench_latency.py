"""`m2m bench latency`: from the last needed sample to the map in a subscriber's hands, beside what is possible."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from rt_engine.errors import M2MError
from tools.commands.options import JsonOption
from tools.console import console, emit_json

if TYPE_CHECKING:
    from tools.bench.latency_figures import BlockFigures, LatencyFigures, Leg

DEFAULT_BLOCKS = (2, 8, 27)
FASTEST_HZ = 10.0
"""More pulses per second than this would have one's sweep reach into the next one's baseline."""

PEER_PULSES = 100


def bench_latency(
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="Model file of engine and floor. Default: the demo's.")
    ] = None,
    pulses: Annotated[int, typer.Option("--pulses", "-n", min=10, help="Pulses per block size.")] = 1000,
    rate_hz: Annotated[float, typer.Option("--rate", min=0.1, help="Pulses per second.")] = 5.0,
    blocks: Annotated[
        list[int] | None,
        typer.Option(
            "--blocks", "-b", min=1, max=400, help="Samples that the amplifier sends at once. Repeatable. [2, 8, 27]"
        ),
    ] = None,
    peer: Annotated[
        bool, typer.Option("--peer/--no-peer", help="Measure what a user would write today, too: mne-lsl and Keras.")
    ] = True,
    rehearsed_floor: Annotated[
        bool, typer.Option("--rehearsed-floor", help="Measure a floor that rehearses as the engine does, too.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Time the engine against the floor and against a peer: real LSL streams, each part a process of its own.

    The floor is bare pylsl, the same model and bare ZeroMQ; the peer is mne-lsl's EpochsStream, Keras' predict of the
    dense network and ZeroMQ, at one pulse per second. Half an hour with the default numbers; run nothing else.
    """
    from tools.bench.latency import LatencyBench, LatencyOptions
    from tools.chosen_settings import chosen_settings

    if rate_hz > FASTEST_HZ:
        raise M2MError(f"--rate is {rate_hz:g}; expected at most {FASTEST_HZ:g} pulses per second")
    options = LatencyOptions(
        settings=chosen_settings(None, None, model),
        shipped=model is None,
        pulses=pulses,
        rate_hz=rate_hz,
        blocks=tuple(blocks or DEFAULT_BLOCKS),
        peer_pulses=min(pulses, PEER_PULSES) if peer else 0,
        rehearsed_floor=rehearsed_floor,
    )
    if model is None:
        console.print("No --model given: the demo's own (kernel ridge) serves engine and floor.")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # Twice a second: the bar must not take from those that are measured.
    with Progress(*columns, console=console, transient=True, refresh_per_second=2) as progress:
        task = progress.add_task("starting", total=None)
        bench = LatencyBench(
            options,
            say=lambda words: progress.console.print(escape(words), soft_wrap=True),
            told=lambda words, done, of: progress.update(task, description=words, completed=done, total=of),
        )
        figures = bench.run()
    _show(figures)
    if as_json:
        emit_json(figures.as_json())


def _show(figures: "LatencyFigures") -> None:
    shipped = ", the demo's" if figures.model["shipped"] else ""
    for block in figures.blocks:
        console.print(_table(block))
        if not block.same_maps:
            console.print("[bold red]The floor's maps are not the engine's[/]: the two did not do the same work.")
    worst = Table(title="Worst over block sizes", show_header=False, title_justify="left")
    worst.add_row("served, lost", f"{figures.served} of {figures.pulses}, {figures.lost}")
    worst.add_row("p50, p99, largest", f"{_ms(figures.p50_ms)}, {_ms(figures.p99_ms)}, {_ms(figures.max_ms)} ms")
    worst.add_row("p50, p99 by the floor's", f"{_ms(figures.p50_over_floor)}, {_ms(figures.p99_over_floor)}")
    if figures.p50_over_floor_rehearsed is not None:
        over = (figures.p50_over_floor_rehearsed, figures.p99_over_floor_rehearsed)
        worst.add_row("by the rehearsing floor's", ", ".join(_ms(value) for value in over))
    worst.add_row("peer's p50 by ours", _ms(figures.peer_over_ours))
    worst.add_row("share of a core between pulses", _percent(figures.cpu_share))
    worst.add_row("memory after the first pulses", f"+{_ms(figures.rss_growth_mb)} MB")
    console.print(worst)
    about = (
        f"Model: {figures.model['name']} ({figures.model['kind']}{shipped}). Peer: {figures.peer}. {figures.machine}."
    )
    console.print(escape(about), soft_wrap=True)


def _table(block: "BlockFigures") -> Table:
    table = Table(title=f"Blocks of {block.block} samples: p50 / p99, ms", title_justify="left")
    table.add_column("", no_wrap=True)
    legs: dict[str, Leg | None] = {
        "engine": block.engine,
        "floor": block.floor,
        "rehearsing floor": block.floor_rehearsed,
        "peer": block.peer,
    }
    there = {name: leg for name, leg in legs.items() if leg is not None}
    for name in there:
        table.add_column(name, justify="right", no_wrap=True)
    for stage in block.engine.stages_ms:
        row = [leg.stages_ms[stage] for leg in there.values()]
        table.add_row(stage, *(f"{_ms(cell['p50'])} / {_ms(cell['p99'])}" for cell in row))
    table.add_row("[bold]all[/]", *(f"[bold]{_ms(leg.p50_ms)} / {_ms(leg.p99_ms)}[/]" for leg in there.values()))
    table.add_row("largest", *(_ms(leg.max_ms) for leg in there.values()))
    table.add_row("served, invalid, lost", *(f"{leg.served}, {leg.invalid}, {leg.lost}" for leg in there.values()))
    table.add_row("share of a core between pulses", *(_percent(leg.cpu_share) for leg in there.values()))
    table.add_row("with the pulses", *(_percent(leg.cpu_share_all) for leg in there.values()))
    table.add_row("memory, MB", *(f"{_ms(leg.rss_mb)} (+{_ms(leg.rss_growth_mb)})" for leg in there.values()))
    table.add_row("processors the host took", *(_percent(leg.processor_stolen_pct, 0.01) for leg in there.values()))
    return table


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _percent(value: float | None, unit: float = 1.0) -> str:
    return "-" if value is None else f"{100.0 * unit * value:.1f} %"

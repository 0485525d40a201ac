"""`m2m demo`: the main job on a simulated subject."""

import importlib.util
import os
import sys
import tempfile
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from rt_engine.errors import M2MError
from rt_engine.model_file import read_model_info
from rt_engine.session import new_session_id
from tools.commands.options import JsonOption, ModelOption
from tools.console import console, emit_json
from tools.demo.orchestra import Demo, DemoOptions
from tools.demo.score import DemoScore


def demo(
    pulses: Annotated[int, typer.Option("--pulses", "-n", min=1, help="How many pulses.")] = 60,
    seed: Annotated[int, typer.Option(help="Same seed, same session, to the sample.")] = 1,
    interval_s: Annotated[float, typer.Option("--interval", min=0.2, help="Mean time between two pulses, s.")] = 1.0,
    headless: Annotated[bool, typer.Option("--headless", help="Without the window.")] = False,
    screenshot: Annotated[Path | None, typer.Option(help="Save a picture of the window (PNG) here.")] = None,
    close: Annotated[bool, typer.Option("--exit", help="Close the window at the end.")] = False,
    record: Annotated[bool, typer.Option("--record/--no-record", help="Record the session to XDF.")] = True,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for recording and truth; default: sessions/demo-...")
    ] = None,
    trigger: Annotated[str, typer.Option(help="Where pulses come from: ttl or marker.")] = "ttl",
    block: Annotated[int, typer.Option(min=1, max=400, help="Samples per block that the amplifier sends.")] = 8,
    address: Annotated[
        str, typer.Option(help="Where the engine publishes; port * takes a free one.")
    ] = "tcp://127.0.0.1:*",
    model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """See the main job: a simulated subject, the engine and the live window, each a process of its own.

    The simulated subject feeds real LSL streams; the engine measures every pulse, estimates the stimulated cortex and
    publishes it; LabRecorder records. At the end the results are compared with what the simulator knows to be true.
    """
    if trigger not in ("ttl", "marker"):
        raise M2MError(f"--trigger is {trigger!r}; expected ttl or marker")
    if model is not None:
        _check_model(model)
    window = not headless and _window_possible()
    if screenshot and not window:
        raise M2MError("--screenshot needs the window; there is none without a screen, or with --headless")
    folder = out or Path("sessions") / f"demo-{new_session_id()}"
    if (folder / "recording.xdf").exists() or (folder / "truth.stim.h5").exists():
        raise M2MError(f"{folder} holds a demo already; give another folder with --out")
    with tempfile.TemporaryDirectory() as scratch:
        where = folder if record or out else Path(scratch)
        where.mkdir(parents=True, exist_ok=True)
        options = DemoOptions(
            pulses=pulses,
            seed=seed,
            interval_s=interval_s,
            folder=where.resolve(),
            record=record,
            window=window,
            screenshot=screenshot.resolve() if screenshot else None,
            trigger=trigger,
            block_samples=block,
            address=address,
            model=model.resolve() if model else None,
        )
        result, trouble = _play(options, close)
    if as_json:
        emit_json(asdict(result))
    if result.pulses_lost:
        raise M2MError(f"{result.pulses_lost} of {result.pulses_sent} pulses were neither served nor given a reason")
    if trouble:
        raise M2MError(trouble)


def _play(options: DemoOptions, close: bool) -> tuple[DemoScore, str]:
    """Run the demo; return its figures, and what went wrong with the window."""
    columns = (TextColumn("pulses"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("pulses", total=options.pulses)
        player = Demo(
            options,
            say=lambda words: progress.console.print(words, soft_wrap=True),
            progress=lambda done: progress.update(task, completed=done),
        )
        result = player.run()
    console.print(_table(result))
    if result.recording:
        console.print(f"Recorded to {result.recording}; play it with: m2m replay {result.recording}", soft_wrap=True)
    trouble = f"the window failed: {player.window.complaint()}" if player.window and player.window.failed else ""
    if player.window and player.window.running:
        if not close:
            console.print("The window stays until you close it.")
            while player.window.running:
                try:
                    player.window.wait_for(lambda event: False, 3600.0)
                except M2MError:
                    continue
        player.close(with_window=True)
    if options.screenshot and not options.screenshot.exists() and not trouble:
        trouble = f"no picture came to {options.screenshot}: the window was closed before the pulses were drawn"
    return result, trouble


def _check_model(path: Path) -> None:
    """Check that a model is of the demo's subject: its maps are compared with that subject's fields."""
    from rt_engine.field.subject_file import read_subject

    info = read_model_info(path)
    subject = read_subject(Path(str(files("configs") / "demo" / "default.subject.h5")))
    if not np.array_equal(info.voxel, subject.voxel):
        raise M2MError(
            f"{path} maps {info.n_voxels} voxels of another subject; the demo's has {subject.n_voxels}. Train a model "
            "on stimulations of the demo's subject: m2m simulate dataset, then m2m train or m2m fit-baseline"
        )


def _window_possible() -> bool:
    """Whether a window can be shown; says why if it cannot."""
    if importlib.util.find_spec("PySide6") is None:
        console.print("Without the window: Qt is not installed (pip install 'm2m-live[display]').")
        return False
    has_screen = sys.platform != "linux" or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    )
    if not has_screen:
        console.print("Without the window: there is no screen (neither DISPLAY nor WAYLAND_DISPLAY is set).")
    return has_screen


def _table(result: DemoScore) -> Table:
    table = Table(title="What came of it", show_header=False, title_justify="left")
    table.add_row(
        "pulses",
        f"{result.pulses_sent} sent, {result.pulses_served} served, {result.pulses_invalid} invalid, "
        f"{result.pulses_lost} lost",
    )
    table.add_row("last sample to map in hands", _milliseconds(result.latency_ms))
    table.add_row("of it, in the engine", _milliseconds(result.engine_ms))
    for name, quantiles in result.stages_ms.items():
        table.add_row(f"    {name}", _milliseconds(quantiles))
    if result.processor_stolen_pct:
        table.add_row("processors' time the host took", f"{result.processor_stolen_pct:.1f} %")
    table.add_row("amplitudes against those sent", f"{_number(result.mep_error_pct, '.2g')} % at most")
    table.add_row("    against noise-free MEPs", f"{_number(result.mep_noise_free_error_pct, '.1f')} % (median)")
    table.add_row(
        "map against the true field",
        f"NRMSE {_number(result.nrmse, '.3f')} (mean map: {_number(result.nrmse_mean_map, '.3f')}), "
        f"CoG off by {_number(result.cog_error_mm, '.1f')} mm",
    )
    table.add_row("maps with low confidence", str(result.n_low_confidence))
    return table


def _milliseconds(quantiles: dict[str, float | None]) -> str:
    return ", ".join(f"{name} {_number(value, '.2f')} ms" for name, value in quantiles.items())


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)

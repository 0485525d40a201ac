"""`m2m replay`: a recording through the same core again."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from rt_engine.errors import SettingsError
from tools.commands.options import JsonOption, ModelOption, SetOption, SettingsOption
from tools.commands.run import pulse_line
from tools.console import console, emit_json
from tools.replay_session import ReplaySession, replay_settings
from tools.session_folder import recording_in


def replay(
    file: Annotated[Path, typer.Argument(help="The recording (XDF), or a session's folder.")],
    speed: Annotated[
        str, typer.Option(help="1 for real time, 2 for twice as fast ..., or max for as fast as possible.")
    ] = "1",
    settings: SettingsOption = None,
    model: ModelOption = None,
    block: Annotated[int, typer.Option(min=1, help="Samples per block; results do not depend on it.")] = 200,
    publish: Annotated[
        bool | None,
        typer.Option("--publish/--no-publish", help="Publish for `m2m display`; by default unless the speed is max."),
    ] = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a recording through the same engine again.

    A recording made by `m2m run --record` gives the same amplitudes and maps to the bit as the live session did, at any
    speed and block size. Settings and model are those of the live session unless others are given; a recording made by
    other software takes the given settings, or the demo's.
    """
    file = recording_in(file)
    recording, chosen = replay_settings(file, settings, overrides, model)
    paced = None if speed == "max" else _positive(speed)
    address = chosen.publish.address if (paced is not None if publish is None else publish) else None
    session = ReplaySession(recording, chosen, block_samples=block, speed=paced, address=address)
    if session.notice:
        console.print(f"[yellow]{escape(session.notice)}[/]", soft_wrap=True)
    if address:
        console.print(f"Publishing at {session.address}", soft_wrap=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(f"replaying {file.name}", total=recording.samples.shape[0])
        for n_samples, results in session.run():
            progress.update(task, completed=n_samples)
            for result in results:
                if paced is not None or not result.trial.valid:
                    progress.console.print(pulse_line(result), soft_wrap=True)
    summary = session.summary
    console.print(
        f"{summary.pulses_served} pulses served, {summary.pulses_invalid} invalid; {summary.speed:.0f} times real time",
        soft_wrap=True,
    )
    if summary.identical is not None:
        console.print(
            "The same amplitudes and maps as live, to the bit."
            if summary.identical
            else "[bold red]Not the same as live[/]: another model, provider or settings, or missing samples.",
            soft_wrap=True,
        )
    if as_json:
        emit_json(msgspec.to_builtins(summary))


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise SettingsError(f"--speed is {text!r}; expected a positive number or max")
    return value

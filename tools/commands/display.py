"""`m2m display`: the live window."""

from pathlib import Path
from typing import Annotated

import typer

from rt_engine.edges.curve_keys import client_keys
from rt_engine.errors import M2MError
from tools.commands.options import JsonOption, OwnKeyOption, ServerKeyOption
from tools.console import emit_json


def display(
    address: Annotated[
        str, typer.Option(help="Where the engine publishes (ZeroMQ endpoint).")
    ] = "tcp://127.0.0.1:5556",
    screenshot: Annotated[
        Path | None, typer.Option(help="Save a picture of the window (PNG) here, once --after-pulses have been drawn.")
    ] = None,
    after_pulses: Annotated[int, typer.Option(min=1, help="How many pulses to wait for before the screenshot.")] = 1,
    close: Annotated[
        bool, typer.Option("--exit", help="Close after the screenshot (or that many pulses), or when the session ends.")
    ] = False,
    full_screen: Annotated[bool, typer.Option("--full-screen", help="Fill the screen.")] = False,
    size: Annotated[str, typer.Option(help="Width x height of the window in pixels.")] = "1600x1000",
    zoom: Annotated[float, typer.Option(min=0.5, max=4.0, help="Enlarge everything, for a screen far away.")] = 1.0,
    key: OwnKeyOption = None,
    server_key: ServerKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show sweeps, MEPs and the BA4 map of a running engine, live.

    A separate process that only listens: it can be started, closed and started again at any moment, and waits for an
    engine that is not there yet. Keys: S saves a screenshot, F shows field or spread, L changes the amplitude axis,
    R resets the view, F11 fills the screen, Q quits.
    """
    from tools.display.run import run_display

    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise M2MError(f"--size {size!r} is no size; expected e.g. 1600x1000")
    summary = run_display(
        address,
        screenshot=screenshot,
        after_pulses=after_pulses,
        close=close,
        full_screen=full_screen,
        size=(int(width), int(height)),
        zoom=zoom,
        keys=client_keys(key, server_key),
    )
    if as_json:
        emit_json(summary.as_dict())

"""`m2m doctor`: what is well and what is wrong, and what to do about it."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from rt_engine.errors import M2MError
from rt_engine.model_file import Model
from rt_engine.settings import Settings
from tools.chosen_settings import chosen_settings
from tools.console import console, emit_json
from tools.doctor import check_computer
from tools.doctor_check import Check, Level
from tools.doctor_pulses import PulseTimes, check_pulses, listen_for_pulses
from tools.doctor_streams import SeenStream, check_session, look

STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}


def doctor(
    settings: Annotated[
        Path | None,
        typer.Option("--settings", "-s", help="Check the streams against these settings (TOML).", dir_okay=False),
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="Check the muscles against this model.", dir_okay=False)
    ] = None,
    wait_s: Annotated[float, typer.Option("--wait", min=0.0, help="How long to look for LSL streams, s.")] = 2.0,
    listen_s: Annotated[float, typer.Option("--listen", min=0.0, help="How long to measure their rates, s.")] = 2.0,
    pulses: Annotated[
        int, typer.Option("--pulses", min=0, help="Wait for so many test pulses and compare trigger and artefact.")
    ] = 0,
    pulses_wait_s: Annotated[
        float, typer.Option("--pulses-wait", min=1.0, help="How long to wait for them, s.")
    ] = 60.0,
    strict: Annotated[bool, typer.Option("--strict", help="End with 1 after a warning too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, as the last line.")] = False,
) -> None:
    """Check this computer and the LSL streams on the network.

    Says which liblsl and which ONNX Runtime provider are in use, whether recording and publishing would work, which
    streams there are and what is wrong with each; with `--settings` or `--model` also whether a session would find its
    streams and muscles, and with `--pulses` how far trigger and artefact of test pulses lie apart. Ends with 1 if
    something would stop a session, with `--strict` also after a warning.
    """
    chosen = chosen_settings(settings, None, model)
    checks, opened = check_computer(chosen)
    console.print("[bold]This computer[/]")
    for check in checks:
        _print(check)
    console.print(f"\n[bold]Looking for LSL streams[/] for {wait_s:g} s ...")
    streams = look(wait_s, listen_s)
    session = check_session(streams, chosen, opened) if settings or model or pulses else []
    for stream in streams:
        _print_stream(stream)
    if not streams:
        console.print("  none")
    if session:
        console.print("\n[bold]A session with these settings[/]")
        for check in session:
            _print(check)
    times: list[PulseTimes] = []
    if pulses:
        console.print(f"\n[bold]Test pulses[/]: give {pulses} pulses within {pulses_wait_s:g} s ...")
        triggers, times = _test_pulses(chosen, opened, session, pulses, pulses_wait_s)
        for check in triggers:
            _print(check)
        session += triggers
    everything = [*checks, *(check for stream in streams for check in stream.checks), *session]
    failed = sum(check.level is Level.FAIL for check in everything)
    warned = sum(check.level is Level.WARN for check in everything)
    console.print(f"\n{failed} failed, {warned} warnings")
    if as_json:
        emit_json(
            {
                "ok": failed == 0,
                "failed": failed,
                "warnings": warned,
                "computer": [asdict(check) for check in checks],
                "streams": [stream.as_json() for stream in streams],
                "session": [asdict(check) for check in session],
                "pulses": [asdict(each) for each in times],
            }
        )
    if failed or (strict and warned):
        raise typer.Exit(1)


def _test_pulses(
    settings: Settings, model: Model | None, session: list[Check], n: int, wait_s: float
) -> tuple[list[Check], list[PulseTimes]]:
    if model is None or any(check.level is Level.FAIL for check in session):
        text = "not measured: a session with these settings would not start"
        return [Check("Trigger and artefact", Level.WARN, text, "mend what failed first")], []
    try:
        times = listen_for_pulses(settings, model, n, wait_s, lambda found: console.print(f"  pulse {found}"))
    except M2MError as error:
        return [Check("Trigger and artefact", Level.FAIL, str(error), "mend that, and try again")], []
    return check_pulses(times, n, settings), times


def _print(check: Check, indent: str = "  ") -> None:
    style = STYLES[check.level]
    console.print(f"{indent}[{style}]{check.level:4}[/] {escape(check.name)}: {escape(check.text)}", soft_wrap=True)
    if check.advice:
        console.print(f"{indent}     -> {escape(check.advice)}", soft_wrap=True)


def _print_stream(stream: SeenStream) -> None:
    rate = f"{stream.nominal_rate_hz:g} Hz" if stream.nominal_rate_hz else "events"
    if stream.effective_rate_hz is not None:
        rate += f" (measured {stream.effective_rate_hz:.2f}, jitter {stream.jitter_ms or 0.0:.2f} ms)"
    units = sorted(set(stream.units) - {""})
    heading = f"{stream.name or '(no name)'}, type {stream.type or '(none)'}, source_id {stream.source_id or '(none)'}"
    console.print(f"  [bold]{escape(heading)}[/]", soft_wrap=True)
    details = [f"on {stream.host}", f"{stream.channels} channels", rate]
    if stream.clock_offset_ms is not None:
        details.append(f"clock offset {stream.clock_offset_ms:.3f} ms, known to {stream.clock_uncertainty_ms:.3f}")
    console.print(f"       {escape(', '.join(details))}", soft_wrap=True)
    if any(stream.labels):
        console.print(f"       labels {escape(', '.join(stream.labels))}; units {escape(', '.join(units) or 'none')}")
    for check in stream.checks:
        _print(check, indent="       ")

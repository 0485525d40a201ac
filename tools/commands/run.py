"""`m2m run`: a live session."""

import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import msgspec
import typer
from rich.markup import escape

from rt_engine.edges.process_priority import raise_priority
from rt_engine.engine import PulseResult
from rt_engine.health import State
from rt_engine.session import Session, new_session_id
from tools.chosen_settings import chosen_settings
from tools.commands.options import JsonOption, ModelOption, SetOption, SettingsOption
from tools.console import console, emit_json

STATE_STYLE = {
    State.RUNNING: "bold green",
    State.READY: "green",
    State.DEGRADED: "bold yellow",
    State.FAILED: "bold red",
}


def run(
    settings: SettingsOption = None,
    model: ModelOption = None,
    record: Annotated[bool, typer.Option("--record", "-r", help="Record all streams to XDF.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="XDF file to record to; default: FOLDER/SESSION/recording.xdf."),
    ] = None,
    overrides: SetOption = None,
    events: Annotated[
        bool, typer.Option("--events", help="Write state changes as JSON lines, for programs that wait for them.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Map each TMS pulse of a live EMG stream, until Ctrl-C.

    Listens to the streams that the settings name, measures each pulse's MEPs, estimates the stimulated cortex, and
    publishes all of it for `m2m display`.
    """
    chosen = chosen_settings(settings, overrides, model)
    session_id = new_session_id()
    recording = out or (Path(chosen.record.folder) / session_id / "recording.xdf" if record else None)

    def on_state(state: State, reason: str) -> None:
        if state == State.READY:
            raise_priority()  # only now: LabRecorder has been started before, and is in no hurry
        console.print(f"[{STATE_STYLE.get(state, 'cyan')}]{state}[/] {escape(reason)}", soft_wrap=True)
        if events:
            emit_json(
                {"event": "state", "state": str(state), "reason": reason, "address": session.address}
                | {"control_address": session.control_address}
            )

    session = Session(
        chosen,
        session_id=session_id,
        recording=recording,
        on_state=on_state,
        on_result=lambda result: console.print(pulse_line(result), soft_wrap=True),
    )
    takes = f", taking commands at {session.control_address}" if session.control_address else ""
    console.print(f"Session {session_id}, publishing at {session.address}{takes}; Ctrl-C ends it.", soft_wrap=True)
    _stop_on_signals(session)
    summary = session.run()
    console.print(
        f"{summary.pulses_served} pulses served, {summary.pulses_invalid} invalid"
        + (f"; recorded to {summary.recording}" if summary.recording else ""),
        soft_wrap=True,
    )
    if as_json:
        emit_json(msgspec.to_builtins(summary))


def pulse_line(result: PulseResult) -> str:
    """Return one line about a pulse, for people."""
    trial, meps, estimate = result.trial, result.meps, result.map
    if meps is None or estimate is None:
        return f"[yellow]pulse {trial.pulse_id}: invalid ({', '.join(trial.reasons)})[/]"
    finite = [(float(a), i) for i, a in enumerate(meps.amplitude_uv) if a == a]
    largest = max(finite, default=(float("nan"), 0))[0]
    x, y, z = estimate.cog_mm
    doubt = (
        f" [yellow]low confidence: {', '.join(estimate.confidence_reasons)}[/]" if estimate.confidence_reasons else ""
    )
    spent = result.stages_us.get("extract", 0.0) + result.stages_us.get("infer", 0.0)
    return (
        f"pulse {trial.pulse_id}: largest MEP {largest:.0f} uV, CoG ({x:.1f}, {y:.1f}, {z:.1f}) mm, "
        f"{spent / 1e3:.1f} ms{doubt}"
    )


def _stop_on_signals(session: Session) -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        session.stop()
        # A second Ctrl-C ends at once, for whoever does not want to wait for the file to be closed.
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def hang_up(number: int, frame: FrameType | None) -> None:
        console.quiet = True  # the terminal is gone, and writing to it would be an error
        session.stop()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # ignored under nohup
        signal.signal(signal.SIGHUP, hang_up)

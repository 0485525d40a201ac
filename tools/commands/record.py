"""`m2m record`: the raw streams of a session to XDF, without an engine."""

import signal
import threading
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from rt_engine.edges.lsl_inlets import describe, resolve, seen_streams
from rt_engine.edges.recorder import Recorder
from rt_engine.errors import RecordingError
from rt_engine.session import new_session_id
from rt_engine.session_recording import stop_orphans
from rt_engine.settings import Settings, StreamQuery
from tools.chosen_settings import chosen_settings
from tools.commands.options import JsonOption, SetOption, SettingsOption
from tools.console import console, emit_json


def record(
    out: Annotated[
        Path | None, typer.Argument(help="XDF file; default: FOLDER/SESSION/recording.xdf.", dir_okay=False)
    ] = None,
    settings: SettingsOption = None,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Record every stream on the network, not only the settings'.")
    ] = False,
    seconds: Annotated[float | None, typer.Option("--seconds", min=0.1, help="End after this long.")] = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record the streams of a session to XDF, until Ctrl-C.

    LabRecorder does the recording, in a process of its own. `m2m replay` plays the file.
    """
    chosen = chosen_settings(settings, overrides)
    path = out or Path(chosen.record.folder) / new_session_id() / "recording.xdf"
    recorder = Recorder(path, chosen.record.min_free_mb)
    streams = _all_streams() if everything else _settings_streams(chosen)
    for stream in streams:
        console.print(f"recording {escape(str(stream))}", soft_wrap=True)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    for told in stop_orphans(ended.is_set):
        console.print(f"[yellow]{escape(told)}[/]", soft_wrap=True)
    recorder.start(streams, ended.is_set)
    begin = time.monotonic()
    console.print(f"Recording to {path}; Ctrl-C ends it.", soft_wrap=True)
    try:
        with console.status("recording") as status:
            while not ended.wait(0.5):
                elapsed = time.monotonic() - begin
                status.update(f"recording for {elapsed:.0f} s, {_megabytes(path):.1f} MB")
                if not recorder.running:
                    raise RecordingError(f"LabRecorder has ended by itself; what it wrote to {path} can be read")
                if seconds is not None and elapsed >= seconds:
                    break
    finally:
        console.print("Closing the file ...")
        recorder.stop()
    duration = time.monotonic() - begin
    console.print(f"{path}: {_megabytes(path):.1f} MB in {duration:.0f} s", soft_wrap=True)
    if as_json:
        emit_json({"recording": str(path), "streams": [str(stream) for stream in streams], "seconds": duration})


def _settings_streams(settings: Settings) -> list[StreamQuery]:
    wanted = settings.streams
    roles = {"emg": wanted.emg, "markers": wanted.markers, "pose": wanted.pose, "intensity": wanted.intensity}
    queries = {role: query for role, query in roles.items() if query or role == "emg"}
    found = resolve(queries, wanted.resolve_timeout_s) or {}
    return [StreamQuery(name=i.name(), type=i.type(), source_id=i.source_id()) for i in found.values()]


def _all_streams() -> list[StreamQuery]:
    streams = [describe(info, "any") for info in seen_streams(2.0)]
    if not streams:
        raise RecordingError("no LSL stream is on the network; start the amplifier's LSL app first")
    return [StreamQuery(name=s.name, type=s.type, source_id=s.source_id) for s in streams]


def _megabytes(path: Path) -> float:
    return path.stat().st_size / 1e6 if path.exists() else 0.0

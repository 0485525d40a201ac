"""`m2m simulate`: the simulated subject as live LSL streams, or as a stimulation data set."""

import logging
import os
import sys
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Table
from typer.core import TyperGroup

from drivers.simulated.settings import SimulatedSubjectSettings, settings_from
from rt_engine.edges.foreign_files import read_foreign_subject
from rt_engine.errors import SettingsError
from rt_engine.field.subject_file import Subject, file_sha256
from tools.console import console, emit_json


class StreamByDefault(TyperGroup):
    """A group that streams where no command is named: `m2m simulate --fault drift` is `m2m simulate stream ...`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command's name in front of options that are not the group's own."""
        if args and args[0].startswith("-") and args[0] not in ("--help", "-h"):
            args = ["stream", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    cls=StreamByDefault,
    help="Simulated subject: live LSL streams, or a data set.",
)

SubjectOption = Annotated[
    Path | None, typer.Option("--subject", help="Subject file. Default: the one that ships with the demo.")
]
SettingsOption = Annotated[
    Path | None, typer.Option("--settings", "-s", help="Settings of the simulated subject (TOML).", dir_okay=False)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override one setting, as KEY=VALUE; e.g. --set emg.hum_hz=60. Repeatable."),
]
SeedOption = Annotated[int | None, typer.Option(help="Seed of the session: placements, variability, noise.")]
SubjectSeedOption = Annotated[int | None, typer.Option(help="Seed of the person: patches, thresholds, electrodes.")]
FieldOption = Annotated[
    str | None,
    typer.Option(help="E-field: auto (finite elements where the subject has their basis), finite-elements or sphere."),
]
PulsesOption = Annotated[int | None, typer.Option("--pulses", "-n", help="Number of pulses.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Write the results as JSON, the last line of the output.")]


@app.command()
def stream(
    pulses: PulsesOption = None,
    seed: SeedOption = None,
    subject_seed: SubjectSeedOption = None,
    subject: SubjectOption = None,
    truth: Annotated[Path | None, typer.Option(help="Write what was sent to this data set (*.stim.h5).")] = None,
    field: FieldOption = None,
    interval_s: Annotated[float | None, typer.Option(help="Mean time between two pulses.")] = None,
    interval_jitter_share: Annotated[
        float | None, typer.Option(help="Largest deviation from it, as a share of it.")
    ] = None,
    lead_in_s: Annotated[float | None, typer.Option(help="Baseline before the first pulse.")] = None,
    tail_s: Annotated[float | None, typer.Option(help="EMG after the last pulse.")] = None,
    block_samples: Annotated[int | None, typer.Option(help="EMG samples per push.")] = None,
    marker_delay_ms: Annotated[
        float | None, typer.Option(help="How much later than the pulse its marker is sent; its stamp stays true.")
    ] = None,
    muscles: Annotated[str | None, typer.Option(help="Muscles with a channel, in order, e.g. FDI,ADM,ECR.")] = None,
    labels: Annotated[str | None, typer.Option(help="Their channels' labels, where they are not the names.")] = None,
    unit: Annotated[str | None, typer.Option(help="Unit of the EMG: microvolts, uV, mV or V.")] = None,
    source_id: Annotated[str | None, typer.Option(help="Start of the streams' source_id.")] = None,
    settings: SettingsOption = None,
    overrides: SetOption = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            "--fault",
            help="What shall go wrong, as NAME or NAME:key=value,...; e.g. lost:pulse=2,samples=16. Repeatable.",
        ),
    ] = None,
    list_faults: Annotated[
        bool, typer.Option("--list-faults", help="Say which faults there are, with their defaults, and end.")
    ] = False,
    await_start: Annotated[
        bool,
        typer.Option(
            "--await-start",
            help="Send baseline until the line 'start' comes on stdin; after the last pulse go on until 'stop', the "
            "end of stdin, or --tail-s where it is given.",
        ),
    ] = False,
    json_events: Annotated[
        bool, typer.Option("--json-events", help="Write events (ready, pulse, done) as lines of JSON.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Feed a simulated session to LSL at the pace of the clock: EMG with trigger channel, markers, coil pose, output.

    Ctrl-C ends it cleanly: a pulse that has begun is sent in full, and the truth of all pulses sent so far is written.
    """
    from drivers.simulated.dataset import sent_set
    from drivers.simulated.lsl_feed import FeedControl, SubjectFeed
    from drivers.simulated.process_control import listen, stop_on_signals
    from drivers.simulated.session import make_session
    from rt_engine.field.stimulation_file import write_stimulation_set

    if list_faults:
        _tell_faults(as_json)
        return
    given = {
        "seed": seed,
        "subject_seed": subject_seed,
        "field": field,
        "faults": fault,
        "muscles": _names(muscles),
        "channel_labels": _names(labels),
        "protocol.pulses": pulses,
        "protocol.interval_s": interval_s,
        "protocol.interval_jitter_share": interval_jitter_share,
        "protocol.lead_in_s": lead_in_s,
        "protocol.tail_s": tail_s,
        "emg.unit": unit,
        "feed.block_samples": block_samples,
        "feed.marker_delay_ms": marker_delay_ms,
        "feed.source_id": source_id,
    }
    chosen = chosen_session(settings, overrides, given)
    anatomy, sha256 = given_subject(subject)
    if truth is not None and not truth.absolute().parent.is_dir():
        # Said now, and not when the session is over.
        raise SettingsError(f"--truth {truth}: there is no folder {truth.absolute().parent}; make it first")
    session = make_session(anatomy, chosen)
    control = FeedControl()
    if not await_start:
        control.start.set()
    if not await_start or tail_s is not None:
        control.release.set()
    with stop_on_signals(control):
        feed = SubjectFeed(session, _Events().write if json_events else _tell)
        if await_start:
            listen(control)
        try:
            feed.run(control)
        finally:
            if truth is not None:
                write_stimulation_set(truth, sent_set(session, feed.sent_pulses, sha256))
    result = {
        "pulses_sent": len(feed.sent_pulses),
        "path": truth,
        "rmt_percent_mso": session.calibration.rmt_percent_mso,
    }
    if json_events:
        _Events().write({"event": "done", **result})
    elif as_json:
        emit_json(result)
    console.print(f"{len(feed.sent_pulses)} of {session.n_pulses} pulses sent." + (f" Truth: {truth}" if truth else ""))


@app.command()
def dataset(
    out: Annotated[Path, typer.Argument(help="Data set to write (*.stim.h5).")],
    pulses: PulsesOption = 1200,
    seed: SeedOption = None,
    subject_seed: SubjectSeedOption = None,
    subject: SubjectOption = None,
    emg: Annotated[
        bool,
        typer.Option("--emg/--no-emg", help="Measure the MEPs in simulated EMG, as a live session sends it."),
    ] = False,
    field: FieldOption = None,
    settings: SettingsOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a data set of simulated stimulations, without streaming them.

    Prints the figures by which the simulated muscles are compared with the literature.
    """
    import msgspec

    from drivers.simulated.dataset import offline_set
    from drivers.simulated.figures import measure_figures
    from drivers.simulated.session import make_session
    from rt_engine.field.stimulation_file import write_stimulation_set

    given = {"seed": seed, "subject_seed": subject_seed, "field": field, "protocol.pulses": pulses}
    chosen = chosen_session(settings, overrides, given)
    anatomy, subject_sha256 = given_subject(subject)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("E-fields", total=chosen.protocol.pulses)
        session = make_session(anatomy, chosen, lambda done, _: progress.update(task, completed=done))
    data = offline_set(session, subject_sha256, with_emg=emg)
    sha256 = write_stimulation_set(out, data)
    figures = msgspec.to_builtins(measure_figures(session, data))
    console.print(f"{data.n_pulses} pulses x {data.n_muscles} muscles in {out}", soft_wrap=True)
    for name, value in figures.items():
        console.print(f"  {name.replace('_', ' ')}: {value:.3g}")
    if as_json:
        emit_json({"path": out, "pulses": data.n_pulses, "emg": emg, "sha256": sha256, "figures": figures})


def _tell_faults(as_json: bool) -> None:
    from drivers.simulated.faults import FAULTS, parameters, spelled_out, summary

    table = Table("fault, with its defaults", "what it does")
    for kind in FAULTS.values():
        table.add_row(spelled_out(kind()), summary(kind))
    console.print(table)
    if as_json:
        known = {name: {"what": summary(kind), "defaults": parameters(kind)} for name, kind in FAULTS.items()}
        emit_json({"faults": known})


class _Events:
    """Writes events to stdout; a reader that has gone must not end the session."""

    def write(self, event: dict[str, Any]) -> None:
        try:
            emit_json(event)
        except BrokenPipeError:
            # Python would complain again when it flushes at its end.
            sys.stdout = open(os.devnull, "w")
            logging.getLogger(__name__).warning("nobody reads the events any more")


def _tell(event: dict[str, Any]) -> None:
    if event["event"] == "ready":
        console.print("Streams: " + ", ".join(stream["name"] for stream in event["streams"].values()))
    elif event["event"] == "pulse":
        logging.getLogger(__name__).info("pulse %d at sample %d", event["n"], event["sample"])


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",")]


def given_subject(path: Path | None) -> tuple[Subject, str]:
    """Read a subject, by default the one that ships; return it and its file's SHA-256."""
    chosen = path or Path(str(files("configs") / "demo" / "default.subject.h5"))
    return read_foreign_subject(chosen), file_sha256(chosen)


def chosen_session(path: Path | None, overrides: list[str] | None, given: dict[str, Any]) -> SimulatedSubjectSettings:
    """Return the file's settings, with --set and then the options on top."""
    raw: dict[str, Any] = {}
    if path is not None:
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise SettingsError(f"{path} cannot be read as TOML: {error}") from error
    for override in overrides or []:
        key, equals, text = override.partition("=")
        if not equals:
            raise SettingsError(f"--set {override!r}: expected KEY=VALUE, such as emg.hum_hz=60")
        _put(raw, key.strip(), _value(text.strip()))
    for key, value in given.items():
        if value is not None:
            _put(raw, key, value)
    return settings_from(raw)


def _put(raw: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        raw = raw.setdefault(parent, {})
        if not isinstance(raw, dict):
            raise SettingsError(f"{key!r}: {parent!r} has no keys below it")
    raw[last] = value


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # also numbers of thousands of digits, and brackets within brackets
        return text  # a bare word, which a shell user would not want to quote twice

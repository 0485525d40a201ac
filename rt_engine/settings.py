"""Settings of a session: typed, validated, read from TOML.

A key that does not exist is an error that names the nearest one that does. The paths of
model and subject are relative to the settings file.
"""

import difflib
import math
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from rt_engine.errors import SettingsError
from rt_engine.estimator import DEFAULT_POLICY, Use
from rt_engine.latency_budget import DEFAULT_BUDGET_MS, STAGES, TOTAL
from rt_engine.mep import MepCriteria, MepStatus
from rt_engine.trial_assembler import SweepSettings
from rt_engine.trigger_sources import TriggerRules

SETTINGS_VERSION = 1
"""Version of the settings' schema."""

MAX_BYTES = 1024 * 1024
"""A larger file is no settings and is refused unread."""

Positive = Annotated[float, msgspec.Meta(gt=0.0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0.0)]


class StreamQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Which LSL stream: each field that is not empty must match, and exactly one stream may."""

    name: str = ""
    type: str = ""
    source_id: str = ""

    def __bool__(self) -> bool:
        return bool(self.name or self.type or self.source_id)

    def __str__(self) -> str:
        stated = {"name": self.name, "type": self.type, "source_id": self.source_id}
        return " and ".join(f"{key}={value!r}" for key, value in stated.items() if value) or "nothing"


class EmgStream(StreamQuery, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The EMG stream and what its metadata leave open."""

    type: str = "EMG"
    unit: str = ""
    """Unit of channels whose metadata state none: microvolts, mV or V."""
    channels: dict[str, str] = {}
    """Channel label -> muscle, for amplifiers whose channels cannot be named."""


class Streams(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The LSL streams of a session. `emg` is needed; the others are left out by leaving them empty."""

    emg: EmgStream = EmgStream()
    markers: StreamQuery = StreamQuery()
    pose: StreamQuery = StreamQuery()
    intensity: StreamQuery = StreamQuery()
    resolve_timeout_s: Positive = 10.0
    stall_s: Positive = 0.5
    """Without a sample for this long the session is DEGRADED."""


class Trigger(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Where pulses come from."""

    source: Literal["ttl", "marker", "artefact"] = "ttl"
    ttl_label: str = "TTL"
    ttl_threshold: float = 0.5
    """In the trigger channel's own unit."""
    ttl_active: Literal["high", "low"] = "high"
    """Whether a pulse is a rising or a falling edge."""
    marker_labels: list[str] = []
    """Markers that are pulses; empty takes every marker."""
    refractory_ms: NotNegative = 0.2
    """A source that tells of two pulses closer than this has told of one twice."""
    max_disagreement_ms: Positive = 5.0
    """Where two sources tell of a pulse, times further apart than this are a disagreement."""
    artefact_uv: Positive = 500.0
    """Step from one sample to the next that is a stimulus artefact; see `rt_engine.artefact_detector`."""
    artefact_channels: Annotated[int, msgspec.Meta(ge=1)] = 3
    artefact_refractory_ms: Positive = 100.0
    compare_artefact: bool = False
    """Look for artefacts also where another source makes the trials."""


class Mep(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """How MEPs are measured; see `rt_engine.mep`."""

    window_ms: tuple[float, float] = (10.0, 50.0)
    muscle_window_ms: dict[str, tuple[float, float]] = {}
    """Muscles with a window of their own, such as those of the leg."""
    baseline_ms: tuple[float, float] = (-100.0, -5.0)
    floor_uv: NotNegative = 50.0
    preactivation_rms_uv: Positive = 50.0
    saturation_uv: NotNegative = 0.0
    status: dict[str, Use] = {}
    """Status -> use, mark or reject; the others do as `rt_engine.estimator.DEFAULT_POLICY` says."""


class Timing(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Gaps, waiting, and how much is kept."""

    gap_ms: Positive = 20.0
    expire_s: Positive = 1.0
    ring_s: Annotated[float, msgspec.Meta(ge=1.0, le=600.0)] = 10.0
    pose_max_age_s: Positive = 0.5
    budget_ms: dict[str, Positive] = msgspec.field(default_factory=lambda: dict(DEFAULT_BUDGET_MS))
    """Latency that a stage may take, and ``engine`` all of them; over it the session is DEGRADED."""


class ModelChoice(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The model, and where it runs."""

    path: str = ""
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    subject: str = ""
    """Subject file whose cortex the display shows; empty shows voxels only."""


class CoilChoice(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The stimulating coil, for the tracked coil's own E-field."""

    name: str = ""
    """Name of the coil in use, checked against that of the subject's E-field basis; empty takes the basis' coil."""
    max_didt_a_per_us: NotNegative = 0.0
    """dI/dt at 100 % of the stimulator's output, A/us; 0 takes what the stimulator's stream tells with each intensity
    (channel ``didt_a_per_us``), else what the subject file says of the coil."""


class Publish(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Where results are published and commands are taken."""

    address: str = "tcp://127.0.0.1:5556"
    control_address: str = "tcp://127.0.0.1:5557"
    """Where commands are taken; empty takes none."""
    curve_secret: str = ""
    """File with the engine's own CURVE keys; empty lets only this machine in."""
    curve_clients: str = ""
    """Folder with the public CURVE keys of those who are let in."""
    health_period_s: Positive = 0.5


class Record(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Recording by LabRecorder."""

    folder: str = "sessions"
    min_free_mb: NotNegative = 1000.0
    """With less free disk space a recording is not started."""
    low_free_mb: NotNegative = 300.0
    """With less free disk space the session is DEGRADED while it records."""


class Settings(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """All settings of a session."""

    version: Annotated[int, msgspec.Meta(ge=1)] = SETTINGS_VERSION
    streams: Streams = Streams()
    trigger: Trigger = Trigger()
    mep: Mep = Mep()
    timing: Timing = Timing()
    model: ModelChoice = ModelChoice()
    coil: CoilChoice = CoilChoice()
    publish: Publish = Publish()
    record: Record = Record()

    def criteria(self, muscles: tuple[str, ...]) -> MepCriteria:
        """Return how MEPs of these muscles are measured.

        Raises
        ------
        SettingsError
            If a muscle with a window of its own is not among them.
        """
        own = self.mep.muscle_window_ms
        _refuse_unknown(own, muscles, "mep.muscle_window_ms", "muscle of the model")
        return MepCriteria(
            window_ms=tuple(own.get(muscle, self.mep.window_ms) for muscle in muscles),
            baseline_ms=self.mep.baseline_ms,
            floor_uv=self.mep.floor_uv,
            preactivation_rms_uv=self.mep.preactivation_rms_uv,
            saturation_uv=self.mep.saturation_uv,
        )

    def sweep(self, muscles: tuple[str, ...]) -> SweepSettings:
        """Return what makes a sweep for these muscles."""
        windows = self.criteria(muscles).window_ms
        return SweepSettings(
            start_ms=min(self.mep.baseline_ms[0], 0.0),
            end_ms=max(end for _, end in windows),
            window_start_ms=min(begin for begin, _ in windows),
            gap_ms=self.timing.gap_ms,
            ring_s=self.timing.ring_s,
            expire_s=self.timing.expire_s,
            pose_max_age_s=self.timing.pose_max_age_s,
        )

    def trigger_rules(self) -> TriggerRules:
        """Return how pulses are found and compared."""
        trigger = self.trigger
        return TriggerRules(
            source=trigger.source,
            refractory_ms=trigger.refractory_ms,
            max_disagreement_ms=trigger.max_disagreement_ms,
            artefact_uv=trigger.artefact_uv,
            artefact_channels=trigger.artefact_channels,
            artefact_refractory_ms=trigger.artefact_refractory_ms,
            compare_artefact=trigger.compare_artefact,
        )

    def policy(self) -> dict[MepStatus, Use]:
        """Return what each status does."""
        return {MepStatus[name]: use for name, use in self.mep.status.items()}


def load_settings(path: str | os.PathLike[str]) -> Settings:
    """Read and check a settings file.

    Parameters
    ----------
    path
        A TOML file. The paths of model and subject are relative to its folder; the result has them absolute.

    Raises
    ------
    SettingsError
        If the file cannot be read, is not TOML, has an unknown key, or a value that cannot be.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SettingsError(f"{path} has {path.stat().st_size} bytes; expected settings of at most {MAX_BYTES}")
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"there is no settings file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the settings file {path} cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or brackets within brackets, too
        raise SettingsError(f"{path} is not TOML: {error}") from error
    try:
        settings = parse_settings(raw)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error
    model, publish = settings.model, settings.publish
    return msgspec.structs.replace(
        settings,
        model=msgspec.structs.replace(model, path=_beside(path, model.path), subject=_beside(path, model.subject)),
        publish=msgspec.structs.replace(
            publish,
            curve_secret=_beside(path, publish.curve_secret),
            curve_clients=_beside(path, publish.curve_clients),
        ),
    )


def parse_settings(raw: dict[str, Any]) -> Settings:
    """Check settings that are already a dictionary, such as those kept in a recording.

    Raises
    ------
    SettingsError
        As `load_settings`.
    """
    version = raw.get("version", SETTINGS_VERSION)
    if isinstance(version, int) and version > SETTINGS_VERSION:
        raise SettingsError(f"settings version {version} is newer than this software's {SETTINGS_VERSION}; update m2m")
    try:
        settings = msgspec.convert(raw, Settings)
    except msgspec.ValidationError as error:
        raise SettingsError(explain_validation(str(error), Settings)) from error
    except UnicodeEncodeError as error:
        raise SettingsError(f"a text in the settings is not Unicode: {error}") from error
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    refuse_infinite("", msgspec.to_builtins(settings))
    mep = settings.mep
    own = {f"mep.muscle_window_ms.{muscle}": window for muscle, window in mep.muscle_window_ms.items()}
    for name, (begin, end) in {"mep.window_ms": mep.window_ms, **own}.items():
        if not 0.0 <= begin < end <= 1000.0:
            raise SettingsError(f"{name} is [{begin}, {end}]; expected 0 <= begin < end <= 1000 ms")
    begin, end = mep.baseline_ms
    if not (-5000.0 <= begin < end <= 0.0):
        raise SettingsError(f"mep.baseline_ms is [{begin}, {end}]; expected -5000 <= begin < end <= 0 ms")
    latest = max([mep.window_ms[1], *(end for _, end in mep.muscle_window_ms.values())])
    if (latest - mep.baseline_ms[0]) / 1000.0 > settings.timing.ring_s / 2:
        raise SettingsError(
            f"a sweep of {latest - mep.baseline_ms[0]:g} ms needs timing.ring_s of at least twice that; "
            f"it is {settings.timing.ring_s:g} s"
        )
    known = [flag.name or "" for flag in DEFAULT_POLICY]
    _refuse_unknown(mep.status, tuple(known), "mep.status", "status")
    _refuse_unknown(settings.timing.budget_ms, (*STAGES, TOTAL), "timing.budget_ms", "stage")
    if not settings.trigger.ttl_label.strip():
        raise SettingsError("trigger.ttl_label is empty; expected the trigger channel's label, e.g. 'TTL'")
    if settings.trigger.source == "marker" and not settings.streams.markers:
        raise SettingsError('trigger.source is "marker", but streams.markers names no stream: set its name or type')
    publish = settings.publish
    for key, address in {
        "publish.address": publish.address,
        "publish.control_address": publish.control_address,
    }.items():
        if address == "" and key == "publish.control_address":
            continue
        if not re.fullmatch(r"(tcp://(\[[^\]\s]+\]|[^:\s]+):(\d+|\*)|ipc://.+|inproc://.+)", address):
            raise SettingsError(f"{key} is {address!r}; expected e.g. 'tcp://127.0.0.1:5556'")


def refuse_infinite(key: str, value: Any) -> None:
    """Refuse nan and inf, which TOML can write, but no key can use and JSON in a recording cannot hold.

    Raises
    ------
    SettingsError
        Naming the key.
    """
    if isinstance(value, dict):
        for name, inner in value.items():
            refuse_infinite(f"{key}.{name}" if key else name, inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            refuse_infinite(key, inner)
    elif isinstance(value, float) and not math.isfinite(value):
        raise SettingsError(f"{key} is {value}; expected a finite number")


def _refuse_unknown(given: dict[str, Any], known: tuple[str, ...], where: str, what: str) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise SettingsError(f"{where}: {name!r} is no {what}{hint}")


def explain_validation(message: str, root: type[msgspec.Struct]) -> str:
    """Turn msgspec's message about an unknown field into one that names the nearest known.

    Parameters
    ----------
    message : str
        Of `msgspec.ValidationError`; one about something else is returned almost as it is.
    root : type
        The settings that were being read.
    """
    found = re.match(r"Object contains unknown field `(?P<key>[^`]*)`(?: - at `\$\.?(?P<where>[^`]*)`)?", message)
    if found is None:
        return message.replace(" - at `$.", " - at `")
    where = found["where"] or ""
    kind: Any = root
    for part in filter(None, where.split(".")):
        kind = next(f.type for f in msgspec.structs.fields(kind) if f.encode_name == part)
    known = [f.encode_name for f in msgspec.structs.fields(kind)]
    near = difflib.get_close_matches(found["key"], known, n=1, cutoff=0.0)
    key = f"{where}.{found['key']}" if where else found["key"]
    prefix = f"{where}." if where else ""
    return f"unknown key {key!r}; did you mean {prefix + near[0]!r}? Known here: {', '.join(known)}"


def _beside(settings_path: Path, path: str) -> str:
    return str((settings_path.parent / path).resolve()) if path else ""

"""Which LSL streams are on the network, and what is wrong with each: in general and for one session's settings.

It subscribes to every stream for a moment, like any other listener, and sends nothing.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rt_engine.channels import MICROVOLTS_PER_UNIT, check_baseline
from rt_engine.edges.lsl_inlets import Inlet, SampleInlet, matches, seen_streams
from rt_engine.engine_setup import build_engine
from rt_engine.errors import M2MError, StreamError
from rt_engine.model_file import Model
from rt_engine.pulse import MARKER
from rt_engine.settings import Settings, StreamQuery
from tools.doctor_check import Check, Level

ROUND_S = 1.0
"""One search; LSL answers within a few hundred ms. Short, so that Ctrl-C is noticed."""

OPEN_TIMEOUT_S = 5.0
RATE_TOLERANCE = 0.01
"""A stream may miss its nominal rate by 1 % before it is reported; clocks of amplifiers are a hundred times better."""

UNCERTAIN_MS = 1.0
"""A clock offset that is less certain than two samples at 2 kHz is worth a word."""

GAP_S = 0.02
"""A step of the stamps against the rate that means lost samples; smaller ones are jitter."""

MOST_AT_ONCE = 16


@dataclass
class SeenStream:
    """A stream on the network.

    Attributes
    ----------
    name, type, source_id, host
        As the stream says.
    channels
        How many.
    labels, units
        Per channel; empty texts where the metadata have none.
    nominal_rate_hz
        0 for events.
    effective_rate_hz
        Measured, by a line through the stamps; None for events and where too little came.
    jitter_ms
        Of the stamps around that line, one standard deviation.
    gaps
        Places where samples are missing.
    clock_offset_ms, clock_uncertainty_ms
        From the stream's clock to ours, and the most by which that may be wrong; None if the stream does not answer.
    roles
        What the session's settings use it for.
    checks
        What is wrong with it.
    """

    name: str
    type: str
    source_id: str
    host: str
    channels: int
    nominal_rate_hz: float
    labels: list[str] = field(default_factory=list)
    units: list[str] = field(default_factory=list)
    effective_rate_hz: float | None = None
    jitter_ms: float | None = None
    gaps: int = 0
    clock_offset_ms: float | None = None
    clock_uncertainty_ms: float | None = None
    roles: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    info: Any = field(default=None, repr=False)
    samples: NDArray[np.float32] | None = field(default=None, repr=False)

    def as_json(self) -> dict[str, Any]:
        """Return what can be said in JSON."""
        shown = {name: value for name, value in vars(self).items() if name not in ("info", "samples", "checks")}
        return shown | {"checks": [asdict(check) for check in self.checks]}

    def say(self, level: Level, text: str, advice: str) -> None:
        """Note something that is wrong with it."""
        self.checks.append(Check(self.name or "(no name)", level, text, advice))


def look(wait_s: float, listen_s: float) -> list[SeenStream]:
    """Find all streams and listen to each for a moment.

    Parameters
    ----------
    wait_s
        How long to look for streams.
    listen_s
        How long to listen to them, all at once.

    Returns
    -------
    list of SeenStream
        By type and name, with what is wrong with each whatever it is used for.
    """
    found: dict[str, Any] = {}
    deadline = time.monotonic() + wait_s
    while (left := deadline - time.monotonic()) > 0.0:
        for info in seen_streams(min(ROUND_S, left)):
            found[info.uid()] = info
    streams = [
        SeenStream(
            name=info.name(),
            type=info.type(),
            source_id=info.source_id(),
            host=info.hostname(),
            channels=info.channel_count(),
            nominal_rate_hz=info.nominal_srate(),
            info=info,
        )
        for info in found.values()
    ]
    streams.sort(key=lambda stream: (stream.type, stream.name, stream.source_id))
    if streams:
        with ThreadPoolExecutor(min(MOST_AT_ONCE, len(streams))) as pool:
            list(pool.map(lambda stream: _listen(stream, listen_s), streams))
    for stream in streams:
        _check_alone(stream)
    _check_doubles(streams)
    return streams


def _listen(stream: SeenStream, listen_s: float) -> None:
    regular = stream.nominal_rate_hz > 0.0
    inlet = (SampleInlet if regular else Inlet)(stream.info, stream.type or "unnamed")
    try:
        inlet.open(OPEN_TIMEOUT_S)
        stream.labels, stream.units = inlet.labels, inlet.units
        if isinstance(inlet, SampleInlet):
            _measure_rate(stream, inlet, listen_s)
        inlet.wait_for_clock(OPEN_TIMEOUT_S)  # measured while we listened
        stream.clock_offset_ms = 1000.0 * inlet.clock.offset_s
        stream.clock_uncertainty_ms = 1000.0 * inlet.clock.uncertainty_s
    except StreamError as error:
        stream.say(Level.FAIL, str(error), "see whether its program still runs, and whether a firewall is in the way")
    finally:
        inlet.close()


def _measure_rate(stream: SeenStream, inlet: SampleInlet, listen_s: float) -> None:
    blocks: list[NDArray[np.float32]] = []
    stamps: list[NDArray[np.float64]] = []
    deadline = time.monotonic() + listen_s
    while (left := deadline - time.monotonic()) > 0.0:
        block, times = inlet.pull(min(0.1, left))
        blocks.append(block)
        stamps.append(times)
    all_stamps = np.concatenate(stamps) if stamps else np.empty(0)
    if all_stamps.size:
        stream.samples = np.concatenate([block for block in blocks if len(block)])
    if all_stamps.size > 1 and all_stamps[-1] > all_stamps[0]:
        judge_stamps(stream, all_stamps)


def judge_stamps(stream: SeenStream, stamps: NDArray[np.float64]) -> None:
    """Work out rate, jitter and gaps of a stream from the stamps of consecutive samples, s."""
    index = np.arange(stamps.size, dtype=np.float64)
    missing = np.diff(stamps) - 1.0 / stream.nominal_rate_hz > GAP_S
    stream.gaps = int(np.count_nonzero(missing))
    # The rate of what was sent: a gap's own time does not count.
    lost_s = np.concatenate(([0.0], np.cumsum(np.where(missing, np.diff(stamps) - 1.0 / stream.nominal_rate_hz, 0.0))))
    whole = stamps - lost_s
    period, begin = np.polyfit(index - index.mean(), whole - whole[0], 1)
    if period > 0.0:
        stream.effective_rate_hz = float(1.0 / period)
        stream.jitter_ms = float(1e3 * np.std(whole - whole[0] - begin - period * (index - index.mean())))


def _check_alone(stream: SeenStream) -> None:
    if not stream.source_id:
        stream.say(
            Level.WARN,
            "has no source_id, so it cannot be found again after an interruption",
            "set a source_id in the software that makes the stream",
        )
    if stream.clock_offset_ms is None:
        return  # nothing more is known of a stream that does not answer
    if stream.clock_uncertainty_ms is not None and stream.clock_uncertainty_ms > UNCERTAIN_MS:
        stream.say(
            Level.WARN,
            f"its clock offset is known to {stream.clock_uncertainty_ms:.1f} ms only",
            "use a cable and not a wireless network; with a trigger channel in the EMG stream it does not matter",
        )
    if stream.nominal_rate_hz > 0.0:
        _check_rate(stream)
        if not any(stream.labels):
            stream.say(
                Level.WARN,
                f"its {stream.channels} channels have no labels",
                "name the channels in the amplifier's software (desc/channels/channel/label)",
            )
    if stream.type.upper() == "EMG":
        unitless = [label or f"no. {i + 1}" for i, label in enumerate(stream.labels) if not stream.units[i]]
        if unitless:
            stream.say(
                Level.WARN,
                f"no unit is stated for {_some(unitless)}",
                "set streams.emg.unit in the settings (microvolts, mV or V)",
            )


def _check_rate(stream: SeenStream) -> None:
    rate, nominal = stream.effective_rate_hz, stream.nominal_rate_hz
    if rate is None:
        stream.say(Level.FAIL, "is open but sends nothing", "start the measurement in the amplifier's software")
    elif abs(rate / nominal - 1.0) > RATE_TOLERANCE:
        stream.say(
            Level.WARN,
            f"states {nominal:g} Hz but sends {rate:.1f} Hz",
            "samples are lost on the way, or the amplifier is set to another rate",
        )
    if stream.gaps:
        stream.say(
            Level.WARN,
            f"samples are missing in {stream.gaps} places",
            "look at the amplifier's connection: trials that touch a gap are invalid",
        )


def _check_doubles(streams: list[SeenStream]) -> None:
    for stream in streams:
        same = [s for s in streams if stream.source_id and s.source_id == stream.source_id and s.name == stream.name]
        if len(same) > 1:
            stream.say(
                Level.WARN,
                f"there are {len(same)} streams of this name and source_id, on {_some(sorted({s.host for s in same}))}",
                "stop the other program, or give each stream a source_id of its own",
            )


def check_session(streams: list[SeenStream], settings: Settings, model: Model | None) -> list[Check]:
    """Say whether a session with these settings would find its streams, and whether they fit the model.

    Parameters
    ----------
    streams
        As `look` returned them; their roles are filled in.
    settings
        Those of the session.
    model
        Its model; None leaves out what needs one.

    Returns
    -------
    list of Check
        One per role.
    """
    wanted: dict[str, StreamQuery] = {"EMG": settings.streams.emg}
    if settings.trigger.source == MARKER:
        wanted["marker"] = settings.streams.markers
    wanted |= {"pose": settings.streams.pose, "intensity": settings.streams.intensity}
    checks = []
    for role, query in wanted.items():
        if not query:
            continue
        found = [stream for stream in streams if matches(stream.info, query)]
        for stream in found:
            stream.roles.append(role)
        checks.append(_check_role(role, query, found))
        if role == "EMG" and len(found) == 1 and model is not None and found[0].clock_offset_ms is not None:
            checks.append(_check_muscles(found[0], settings, model))
    return checks


def _check_role(role: str, query: StreamQuery, found: list[SeenStream]) -> Check:
    name = f"Session's {role} stream"
    if not found:
        advice = "start the program that makes it, or change the settings; a firewall may be in the way"
        return Check(name, Level.FAIL, f"no stream with {query}", advice)
    if len(found) > 1:
        which = _some([f"{stream.name!r} on {stream.host} ({stream.source_id or 'no source_id'})" for stream in found])
        advice = "set source_id in the settings, or stop the others"
        return Check(name, Level.FAIL, f"{len(found)} streams match {query}: {which}", advice)
    if not found[0].source_id:
        advice = "set a source_id in the software that makes the stream: a session refuses one without"
        return Check(name, Level.FAIL, f"{found[0].name!r} has no source_id", advice)
    return Check(name, Level.OK, f"{found[0].name!r} on {found[0].host}, source_id {found[0].source_id}")


def _check_muscles(stream: SeenStream, settings: Settings, model: Model) -> Check:
    name = "Muscles and units"
    try:
        parts = build_engine(settings, model, stream.labels, stream.units, stream.nominal_rate_hz)
        channels = parts.channels
        if stream.samples is not None:
            scaled = stream.samples[:, channels.columns].astype(np.float64) * channels.scale_to_uv
            check_baseline(scaled, channels.muscles)
    except M2MError as error:
        return Check(name, Level.FAIL, str(error), "change the settings, or the channels in the amplifier's software")
    units = sorted({stream.units[c] or settings.streams.emg.unit for c in channels.columns})
    known = {unit: MICROVOLTS_PER_UNIT[unit.lower()] for unit in units}
    scales = ", ".join(f"1 {unit} = {factor:g} uV" for unit, factor in known.items())
    return Check(name, Level.OK, f"all {len(channels.muscles)} muscles of the model are there; {scales}")


def _some(items: list[str], most: int = 6) -> str:
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")

"""What the status bar says, as words and tones: the engine, the last pulse, its map, and what went missing.

Pure; `status_view` paints it.
"""

from dataclasses import dataclass
from pathlib import PurePath

from rt_engine.messages import HealthHeader
from tools.display.picture_age import PictureAges
from tools.display.state import DisplayState
from tools.display.words import Tone, bytes_text, confidence_reason, invalid_reason, state_tone, trigger_words

LOW_DISK_BYTES = 2e9
"""Free space below which the window warns."""

STAGES = ("transport", "wait", "extract", "infer", "field", "publish")
"""In the order in which a pulse passes them."""


@dataclass(frozen=True)
class Sign:
    """A word that is seen from afar, and the line below it.

    Attributes
    ----------
    label
        What it is about.
    word
        Few letters.
    detail
        One line; may be empty.
    tone
        How serious it is.
    """

    label: str
    word: str
    detail: str
    tone: Tone


@dataclass(frozen=True)
class Figure:
    """A figure at the foot of the window."""

    label: str
    value: str
    tone: Tone = "good"
    """``good`` is shown in plain text."""


def engine_sign(state: DisplayState, now: float) -> Sign:
    """Say how the engine is, or that there is none."""
    connection = state.connection(now)
    if connection.kind == "waiting":
        return Sign("Engine", "WAITING", connection.text, "bad" if state.link in ("not m2m", "shut") else "calm")
    if connection.kind == "stale":
        return Sign("Engine", "CONNECTION LOST", connection.text, "bad")
    if state.health is None:
        return Sign("Engine", "CONNECTED", "Waiting for the engine's first health message", "calm")
    reason = state.health.reason
    if connection.kind == "ended":
        reason = f"{reason}. {connection.text}" if reason else connection.text
    elif not reason:
        reason = connection.text if state.session is not None else "Waiting for the description of the session"
    return Sign("Engine", state.health.state, reason, state_tone(state.health.state))


def pulse_sign(state: DisplayState) -> Sign:
    """Say which pulse came last and whether it counts."""
    trial = state.trial
    if trial is None:
        return Sign("Last pulse", "none yet", "", "calm")
    header = trial.header
    parts = [trigger_words(header.trigger_source)]
    if header.intensity_percent_mso is not None:
        parts.append(f"{header.intensity_percent_mso:.0f} % MSO")
    parts.append("coil tracked" if header.pose_tracked else "coil not tracked")
    if not header.valid:
        return Sign("Last pulse", f"{header.pulse} INVALID", invalid_reason(header.reasons), "bad")
    return Sign("Last pulse", f"{header.pulse}", ", ".join(parts), "good")


def confidence_sign(state: DisplayState, now: float) -> Sign:
    """Say how far the map can be trusted, and why not further."""
    shown = state.map
    if shown is None:
        return Sign("Confidence", "–", "no map yet", "calm")
    header = shown.header
    if state.map_standing(now).kind == "old":
        return Sign("Confidence", "–", f"old map, of pulse {header.pulse}", "calm")
    if header.confidence == "ok":
        return Sign("Confidence", "OK", f"map of pulse {header.pulse}", "good")
    word = "LOW" if header.confidence == "low" else header.confidence.upper()
    return Sign("Confidence", word, confidence_reason(header.confidence_reasons) or "no reason given", "warn")


def age_sign(ages: PictureAges, old: bool) -> Sign:
    """Say how old the map was when it was painted, unless the map is old by now."""
    age = ages.latest
    if age is not None and old:
        return Sign("Pulse to picture", "–", f"old map, of pulse {age.pulse}", "calm")
    if age is None:
        return Sign("Pulse to picture", "–", ages.why_none, "calm")
    window = age.since_pulse_ms - age.since_needed_ms
    detail = f"{window:.0f} ms window + {age.since_needed_ms:.0f} ms"
    return Sign("Pulse to picture", f"{age.since_pulse_ms:.0f} ms", detail, "good")


def figures(state: DisplayState) -> list[Figure]:
    """Return the figures at the foot of the window."""
    health, counters = state.health, state.counters
    shown: list[Figure] = [Figure("Engine time, last map", _stages_text(state), "good")]
    if health is None:
        shown += [Figure(label, "–", "calm") for label in ("Sample rate", "Gaps", "Pulses", "Recording")]
    else:
        rate = "–" if health.effective_rate_hz is None else f"{health.effective_rate_hz:,.2f} Hz"
        shown.append(Figure("Sample rate", rate, "calm" if health.effective_rate_hz is None else "good"))
        shown.append(Figure("Gaps", str(health.n_gaps), "warn" if health.n_gaps else "good"))
        pulses = health.pulses
        invalid = pulses.get("invalid", 0)
        text = f"{pulses.get('served', 0)} served, {invalid} invalid"
        if pulses.get("pending"):
            text += f", {pulses['pending']} pending"
        shown.append(Figure("Pulses", text, "warn" if invalid else "good"))
        shown.append(_recording(health.recording, health.disk_free_bytes))
        shown.insert(1, _engine_quantiles(health))
    lost = f"lost {counters.lost}, skipped {counters.superseded}, unreadable {counters.malformed}"
    tone: Tone = "warn" if counters.lost or counters.malformed else "good"
    if counters.out_of_order:
        lost += f", late {counters.out_of_order}"
    overflows = health.drops.get("subscriber_overflows", 0) if health is not None else 0
    if overflows:  # this window or another one
        lost, tone = f"{lost}; engine: a window fell behind {overflows} x", "warn"
    shown.append(Figure("Messages not shown", lost, tone))
    return shown


def session_line(state: DisplayState) -> str:
    """Name the session, its model and its subject."""
    session = state.session
    if session is None:
        return ""
    provider = session.model.provider.removesuffix("ExecutionProvider")
    parts = [f"session {session.session}", f"model {session.model.name} ({provider})"]
    if state.geometry is not None:
        header = state.geometry.header
        parts += [header.subject, f"{header.hemisphere} hemisphere" if header.hemisphere else ""]
    return "    ".join(part for part in parts if part)


def _stages_text(state: DisplayState) -> str:
    shown = state.map
    if shown is None or not shown.header.stages_us:
        return "–"
    stages = dict(sorted(shown.header.stages_us.items(), key=lambda stage: _stage_order(stage[0])))
    each = ", ".join(f"{name} {us / 1000.0:.1f}" for name, us in stages.items())
    return f"{sum(stages.values()) / 1000.0:.1f} ms ({each})"


def _stage_order(name: str) -> int:
    return STAGES.index(name) if name in STAGES else len(STAGES)


def _engine_quantiles(health: HealthHeader) -> Figure:
    known = health.latency_ms.get("engine", {})
    if not {"p50", "p99"} <= known.keys():
        return Figure("Engine p50 / p99", "–", "calm")
    return Figure("Engine p50 / p99", f"{known['p50']:.1f} / {known['p99']:.1f} ms")


def _recording(recording: str, disk_free_bytes: int | None) -> Figure:
    if recording == "off":
        return Figure("Recording", "OFF", "calm")
    text = PurePath(recording).name
    if disk_free_bytes is None:
        return Figure("Recording", text)
    low = disk_free_bytes < LOW_DISK_BYTES
    return Figure("Recording", f"{text}, {bytes_text(disk_free_bytes)} free", "warn" if low else "good")

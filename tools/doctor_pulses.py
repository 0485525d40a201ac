"""How far apart the trigger, the stimulus artefact and the marker of test pulses lie, measured by the engine itself.

The session's own core is fed with its streams for a while; nothing is mapped for anybody, published or recorded.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from rt_engine.edges.clock_offset import now_s
from rt_engine.edges.lsl_inlets import EventInlet, Inlet, SampleInlet, resolve
from rt_engine.engine import PulseResult
from rt_engine.engine_setup import build_engine
from rt_engine.model_file import Model
from rt_engine.pulse import ARTEFACT, MARKER, Pulse
from rt_engine.sample_block import SampleBlock
from rt_engine.settings import Settings
from tools.doctor_check import Check, Level

PULL_TIMEOUT_S = 0.05
CLOCK_TIMEOUT_S = 5.0

APART_MS, SPREAD_MS = 1.0, 1.0
"""Sources further apart than this, or whose distance changes by more, are worth a word: two samples at 2 kHz."""


@dataclass(frozen=True)
class PulseTimes:
    """One test pulse.

    Attributes
    ----------
    source
        ``ttl``, ``marker`` or ``artefact``: what told of it.
    t_pulse
        When, s, LSL clock.
    offsets_ms
        Other source that saw it -> how much later, ms.
    reasons
        Why a session could not have used it; empty if it could.
    """

    source: str
    t_pulse: float
    offsets_ms: dict[str, float]
    reasons: tuple[str, ...]


def listen_for_pulses(
    settings: Settings,
    model: Model,
    n: int,
    wait_s: float,
    told: Callable[[int], None] = lambda found: None,
) -> list[PulseTimes]:
    """Wait for test pulses.

    Parameters
    ----------
    settings
        Of the session; artefacts are looked for whatever they say.
    model
        Its model, for the muscles.
    n
        How many pulses.
    wait_s
        How long to wait for them.
    told
        Called with the number of pulses whenever there is one more.

    Returns
    -------
    list of PulseTimes
        At most `n`.

    Raises
    ------
    M2MError
        If a stream is not there, or does not fit the model.
    """
    trigger = msgspec.structs.replace(settings.trigger, compare_artefact=True)
    settings = msgspec.structs.replace(settings, trigger=trigger)
    queries = {"emg": settings.streams.emg, "markers": settings.streams.markers}
    found = resolve({role: query for role, query in queries.items() if query}, settings.streams.resolve_timeout_s) or {}
    emg = SampleInlet(found["emg"], "emg")
    markers = EventInlet(found["markers"], "markers") if "markers" in found else None
    inlets: list[Inlet] = [emg, *([markers] if markers else [])]
    times: list[PulseTimes] = []
    try:
        for inlet in inlets:
            inlet.open(settings.streams.resolve_timeout_s)
        for inlet in inlets:
            inlet.wait_for_clock(CLOCK_TIMEOUT_S)
        engine = build_engine(settings, model, emg.labels, emg.units, emg.info.nominal_srate()).engine
        deadline = time.monotonic() + wait_s
        while len(times) < n and time.monotonic() < deadline:
            asked_at = now_s()
            samples, stamps = emg.pull(PULL_TIMEOUT_S)
            results: list[PulseResult] = []
            for values, stamp in markers.pull() if markers else []:
                label = values[0] if isinstance(values[0], str) else f"{values[0]:g}"
                if markers is None or (trigger.marker_labels and label not in trigger.marker_labels):
                    continue
                pulse = Pulse(stamp, markers.clock.offset_s, markers.clock.uncertainty_s, label)
                results += (engine.feed_pulse if trigger.source == MARKER else engine.feed_reference)(pulse)
            if stamps.size:
                results += engine.feed_samples(
                    SampleBlock(samples, stamps, emg.clock.offset_s, emg.clock.uncertainty_s)
                )
            results += engine.feed_time(asked_at)
            for trial in (result.trial for result in results):
                times.append(PulseTimes(trial.trigger_source, trial.t, dict(trial.offsets_ms), trial.reasons))
                told(len(times))
    finally:
        for inlet in inlets:
            inlet.close()
    return times[:n]


def check_pulses(times: list[PulseTimes], n: int, settings: Settings) -> list[Check]:
    """Judge test pulses.

    Parameters
    ----------
    times
        As `listen_for_pulses` returned them.
    n
        How many were asked for.
    settings
        Of the session.
    """
    source = settings.trigger.source
    if not times:
        text = f"none came from the session's trigger source ({source})"
        advice = "give pulses while this waits; check the trigger's cable, trigger.source and its threshold"
        return [Check("Test pulses", Level.FAIL, text, advice)]
    refused = [each for each in times if each.reasons]
    text = f"{len(times)} of {n} by {source}"
    if refused:
        reasons = ", ".join(sorted({reason for each in refused for reason in each.reasons}))
        checks = [
            Check("Test pulses", Level.WARN, f"{text}, {len(refused)} not usable: {reasons}", "see docs, MEPs: reasons")
        ]
    elif len(times) < n:
        checks = [Check("Test pulses", Level.WARN, text, "give more pulses, or a longer --pulses-wait")]
    else:
        checks = [Check("Test pulses", Level.OK, text)]
    seen = {other for each in times for other in each.offsets_ms}
    if source != ARTEFACT:
        seen.add(ARTEFACT)
    return [*checks, *(_check_source(times, other, settings) for other in sorted(seen))]


def _check_source(times: list[PulseTimes], other: str, settings: Settings) -> Check:
    trigger = settings.trigger
    name = f"{trigger.source} and {other}"
    offsets = [each.offsets_ms[other] for each in times if other in each.offsets_ms]
    if not offsets:
        text = f"no step of {trigger.artefact_uv:g} uV in {trigger.artefact_channels} channels near a pulse"
        advice = (
            "set trigger.artefact_uv lower if the artefact is smaller; where the amplifier blanks it, none can be seen"
        )
        return Check(name, Level.WARN, text, advice)
    middle, spread = statistics.median(offsets), max(offsets) - min(offsets)
    text = f"{other} {abs(middle):.2f} ms {'later' if middle >= 0 else 'earlier'} (median of {len(offsets)})"
    text += f", within {spread:.2f} ms"
    absent = len(times) - len(offsets)
    if absent:
        text += f"; {absent} without"
    if abs(middle) > trigger.max_disagreement_ms:
        advice = (
            "the two do not tell of the same pulse: check the trigger's cable and polarity, and the stimulator's delay"
        )
        return Check(name, Level.FAIL, text, advice)
    if abs(middle) > APART_MS or spread > SPREAD_MS or absent:
        advice = (
            "take the trigger channel of the EMG stream where there is one; a constant delay is the device's, one that "
            "changes comes from its clock or the network"
        )
        return Check(name, Level.WARN, text, advice)
    return Check(name, Level.OK, text)

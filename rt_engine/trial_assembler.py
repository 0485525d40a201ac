"""Cuts trials out of the stream: waits for each pulse's last sample, and says so when it does not come.

Deterministic: results depend on the samples, their stamps and the sample count at which each pulse was fed, and not on
how the samples were cut into blocks. Blocks are cut further at the knots of the sample clock, at triggers, and where a
suspicion about the stamps ends, so that between two cuts nothing changes but the number of samples.
"""

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rt_engine.channels import ChannelMap
from rt_engine.companions import CoilPose, History, StimulatorIntensity
from rt_engine.mep import INDEX_TOLERANCE, window_indices
from rt_engine.pulse import MARKER, UNKNOWN_S, Pulse
from rt_engine.sample_block import SampleBlock
from rt_engine.sample_clock import SampleClock
from rt_engine.sample_ring import SampleRing
from rt_engine.stamp_watch import UNSETTLED_S, StampWatch, Verdict
from rt_engine.stream_breaks import break_note, kind_of_break, late_note, whole_stamps
from rt_engine.stream_notes import StreamNote
from rt_engine.trial import (
    AHEAD,
    BEFORE_STREAM,
    CLOCK_STEP,
    DUPLICATE,
    EARLY_STAMPS,
    EXPIRED,
    GAP,
    NO_TIME,
    TIME_UNCERTAIN,
    TOO_LATE,
    TOO_MANY,
    Trial,
)
from rt_engine.trigger_references import TriggerReferences
from rt_engine.trigger_sources import StreamTriggers, TriggerRules

MAX_PENDING = 256
"""More pulses than this cannot wait at once: at 50 ms each that would be 5 kHz."""

MAX_AHEAD_S = 60.0
"""A marker further ahead of the newest sample is in another clock, such as that of Unix; no backlog is that long."""

CLOCK_SET_S = 5.0
"""So long after its stamps stepped back, a stream's clock offset may be old: LSL measures it every two seconds."""

LEAST_OFFSET_STEP_S = 1e-3
"""A clock offset that changes by more, and by more than its uncertainty, is another clock's: the line begins anew."""

_NOTES_KEPT = 256
_MARKERS_KEPT = 64


@dataclass(frozen=True)
class SweepSettings:
    """What of the stream makes a sweep, and when waiting for it ends.

    Parameters
    ----------
    start_ms, end_ms
        Begin (negative) and end of the sweep relative to the pulse, both included.
    window_start_ms
        Earliest begin of a muscle's window: without samples from there on a trial is not valid.
    gap_ms
        Stamps further than this from their line are always looked into, and a marker's time that is less certain than
        this places no pulse.
    ring_s
        Seconds of EMG kept.
    expire_s
        How long after its last needed sample was due a pulse is given up.
    pose_max_age_s, intensity_max_age_s
        How old a pose or an intensity may be at the pulse.
    """

    start_ms: float = -100.0
    end_ms: float = 50.0
    window_start_ms: float = 10.0
    gap_ms: float = 20.0
    ring_s: float = 10.0
    expire_s: float = 1.0
    pose_max_age_s: float = 0.5
    intensity_max_age_s: float = 3600.0


@dataclass
class _Pending:
    pulse_id: int
    source: str
    pulse: Pulse
    index: float | None
    """Known for pulses seen in the stream; for markers it follows the clock's fit."""
    told_at: int = 0
    """Number of samples by which a marker was told of."""


class TrialAssembler:
    """Samples and pulses in, trials out.

    Parameters
    ----------
    channels
        Where muscles and trigger are.
    nominal_rate_hz
        Sample rate that the stream states.
    sweep
        What makes a sweep.
    rules
        How pulses are found and compared.
    """

    def __init__(
        self,
        channels: ChannelMap,
        nominal_rate_hz: float,
        sweep: SweepSettings,
        rules: TriggerRules | None = None,
    ) -> None:
        self.channels = channels
        self.clock = SampleClock(nominal_rate_hz)
        self.breaks = {GAP: 0, DUPLICATE: 0, CLOCK_STEP: 0}
        """How often the stream broke, by kind."""
        self.n_pulses = 0
        self.n_doubles = 0
        """Markers that told of a pulse again."""
        self._sweep = sweep
        self._rules = rules or TriggerRules()
        self._gap_s = sweep.gap_ms / 1000.0
        self._kept = math.ceil(sweep.ring_s * nominal_rate_hz)
        # A few more, so that what is too late does not depend on how far a block reaches beyond a trial.
        self._ring = SampleRing(self._kept + self.clock.knot_every, len(channels.muscles))
        self._scale = channels.scale_to_uv[:, None]
        self._watch = StampWatch(nominal_rate_hz, self._gap_s, self.clock.knot_every)
        self._triggers = StreamTriggers(channels, nominal_rate_hz, self._rules)
        self.references = TriggerReferences(nominal_rate_hz, self._rules.refractory_ms / 1000.0)
        """What the sources said that do not make the trials."""
        self._pending: list[_Pending] = []
        self._quiet_until = 0.0
        self._markers: deque[float] = deque(maxlen=_MARKERS_KEPT)
        self._notes: deque[StreamNote] = deque(maxlen=_NOTES_KEPT)
        self._segment_start = 0
        self._segment_kind = BEFORE_STREAM  # what a trial touches that begins before the segment
        self._knot_start = 0
        self._clock_offset = math.nan
        self._clock_uncertainty = 0.0
        self._clock_set_until: int | None = None  # the clock was set, and until then its offset may be an old one
        self._last_whole = (0, math.nan)  # index and stamp of the last sample whose stamp was a number
        self._poses: History[CoilPose] = History()
        self._intensities: History[StimulatorIntensity] = History()

    @property
    def n_samples(self) -> int:
        """Number of samples fed so far."""
        return self._ring.end

    @property
    def n_pending(self) -> int:
        """Number of pulses that wait for samples."""
        return len(self._pending)

    @property
    def n_gaps(self) -> int:
        """How often the stream broke, of whatever kind."""
        return sum(self.breaks.values())

    @property
    def smallest_gap_ms(self) -> float:
        """The smallest loss of samples that the stamps can show now."""
        return self._watch.threshold_s * 1000.0

    def take_notes(self) -> list[StreamNote]:
        """Return what has happened beside the trials since the last call."""
        notes = list(self._notes)
        self._notes.clear()
        return notes

    def feed_pose(self, pose: CoilPose, known_from: int | None = None) -> None:
        """Take note of a coil pose; a replay says after how many samples it came."""
        self._poses.add(pose, self._ring.end if known_from is None else known_from)

    def feed_intensity(self, intensity: StimulatorIntensity, known_from: int | None = None) -> None:
        """Take note of the stimulator's setting; a replay says after how many samples it came."""
        self._intensities.add(intensity, self._ring.end if known_from is None else known_from)

    def waiting_companions(self, at_most: int) -> list[tuple[CoilPose | None, StimulatorIntensity | None]]:
        """Return pose and intensity of the first pulses that wait, as their trials would have them if they came now."""
        return [
            self._companions(self._pulse_time(pending, self._index(pending)), self._uncertainty(pending))
            for pending in self._pending[:at_most]
        ]

    def feed_pulse(self, pulse: Pulse) -> list[Trial]:
        """Take in a marker's pulse; its trial comes at once if all its samples are there."""
        if not pulse.has_time:
            # It stands where it was told of, so that what is said of it are numbers.
            now = self.clock.time_of(self._ring.end) if self.clock.known else 0.0
            stand_in = Pulse(0.0, now, UNKNOWN_S, pulse.label)
            return [self._invalid(_Pending(self._next_id(), MARKER, stand_in, None), NO_TIME)]
        if any(abs(pulse.t_raw - t_raw) < self._rules.refractory_ms / 1000.0 for t_raw in self._markers):
            self.n_doubles += 1
            text = f"the marker {pulse.label!r} came again: still one pulse"
            self._notes.append(StreamNote("double_marker", self._ring.end, 0.0, text))
            return []
        self._markers.append(pulse.t_raw)
        refused = self._enlist(_Pending(self._next_id(), MARKER, pulse, None, self._ring.end)) + self._refuse_ahead()
        return refused + self._complete(self._ring.end)

    def feed_reference(self, pulse: Pulse) -> list[Trial]:
        """Take note of a marker where another source makes the trials: it is compared with the pulses."""
        # A time that is less certain than a gap says nothing about another source's.
        if pulse.has_time and math.hypot(pulse.clock_uncertainty, self._clock_uncertainty) <= self._gap_s:
            self.references.add(MARKER, index=None, t=pulse.t, known_at=self._ring.end)
        return []

    def feed_samples(self, block: SampleBlock) -> list[Trial]:
        """Take in samples.

        Returns
        -------
        list of Trial
            Those that became complete or impossible, in an order that does not depend on chunking.
        """
        n = block.samples.shape[0]
        if n == 0:
            return []
        self._take_offset(block)
        first, every = self._ring.end, self.clock.knot_every
        raw, self._last_whole = whole_stamps(block.stamps, first, self._last_whole, self.clock.nominal_rate_hz)
        # Columns are picked once, so that the ring holds muscles only and in the model's order.
        muscles = block.samples[:, self.channels.columns]
        found = deque(self._triggers.find(block.samples, muscles))
        trials: list[Trial] = []
        begin = 0
        while begin < n:
            index = first + begin
            since_knot = (index - self._knot_start) % every
            if since_knot == 0 and self._watch.suspect_from is None:
                trials += self._take_knot(index, float(raw[begin]))
            here: list[str] = []
            while found and found[0][0] == begin:
                here.append(found.popleft()[1])
            end = min(n, begin + every - since_knot, *((found[0][0],) if found else ()))
            end = begin + self._watch.scan(index, raw[begin:end])
            self._ring.append(muscles[begin:end])
            for source in here:
                trials += self._take_trigger(source, index, float(raw[begin]))
            verdict = self._watch.verdict
            if verdict is not None:
                trials += self._judge(verdict, index)
            elif self._pending:
                trials += self._complete(index)
            begin = end
        return trials

    def feed_time(self, t: float) -> list[Trial]:
        """Give up pulses whose samples are overdue at the time `t` (s, engine's clock)."""
        overdue = self._sweep.end_ms / 1000.0 + self._sweep.expire_s
        late = [p for p in self._pending if p.pulse.t + overdue < t]
        # Those held wait for what the next stamps say; if no sample comes, nobody will know.
        unknown = [p for p in late if self._held(p) and p.pulse.t + overdue + UNSETTLED_S < t]
        expired = [p for p in late if not self._held(p)]
        return self._give_up(unknown, GAP) + self._give_up(expired, EXPIRED)

    def finish(self) -> list[Trial]:
        """Give up all pulses that still wait: no more samples will come."""
        # Whether samples were lost in the sweep of those that are held nobody will know.
        trials = self._give_up([p for p in self._pending if self._held(p)], GAP)
        return trials + self._give_up(list(self._pending), EXPIRED)

    # -- what comes in -----------------------------------------------------------------------------------------------

    def _next_id(self) -> int:
        self.n_pulses += 1
        return self.n_pulses - 1

    def _enlist(self, pending: _Pending) -> list[Trial]:
        if len(self._pending) >= MAX_PENDING:
            return [self._invalid(pending, TOO_MANY)]
        self._pending.append(pending)
        return []

    def _take_trigger(self, source: str, index: int, t_raw: float) -> list[Trial]:
        """Take in a pulse that was seen in the stream itself, at the sample `index`."""
        if source != self._rules.source:
            self.references.add(source, index=float(index), t=math.nan, known_at=index)
            return []
        # Before the first stamp that is a number there is no time; the sample's index is enough.
        t_raw = t_raw if math.isfinite(t_raw) else 0.0
        pulse = Pulse(t_raw, self._clock_offset, self._clock_uncertainty, source.upper())
        return self._enlist(_Pending(self._next_id(), source, pulse, float(index)))

    def _take_offset(self, block: SampleBlock) -> None:
        """Begin a new line through the stamps where the stream's clock has been set; the samples are whole."""
        error = self._clock_uncertainty + block.clock_uncertainty
        largest = min(max(LEAST_OFFSET_STEP_S, error), self._gap_s)
        learnt = block.clock_uncertainty < UNKNOWN_S <= self._clock_uncertainty
        if learnt or not abs(block.clock_offset - self._clock_offset) <= largest:
            self.clock.restart()
            self._knot_start = self._ring.end
            self._clock_set_until = None
        self._clock_offset = block.clock_offset
        self._clock_uncertainty = block.clock_uncertainty

    def _take_knot(self, index: int, stamp: float) -> list[Trial]:
        self._watch.add_knot(index, stamp)
        self.clock.add_knot(index, stamp + self._clock_offset)
        if self.references.waiting() and self.clock.known:
            for source, at in self.references.forget(index, self.clock.index_of):
                text = f"{source} told of a pulse that {self._rules.source}, which makes the trials, did not see"
                self._notes.append(StreamNote("unmatched_trigger", round(at), 0.0, text))
        return self._refuse_ahead()

    # -- breaks in the stream ----------------------------------------------------------------------------------------

    def _judge(self, verdict: Verdict, since: int) -> list[Trial]:
        """Serve the trials that waited for the end of a suspicion, which came with the newest sample."""
        now = self._ring.end - 1
        kind = kind_of_break(verdict, self._ring, self.clock.nominal_rate_hz, now) if verdict.broken else ""
        # Where the clock was set back a time was twice: what was told of since may be meant by the line to come.
        told_by = verdict.begin if kind == CLOCK_STEP else now + 1
        trials = self._complete(since, (verdict.begin, verdict.noticed, told_by))
        if verdict.broken:
            trials += self._break_at(verdict, kind, now)
        elif verdict.begin >= self._quiet_until:  # in a jittering stream they would be thousands
            self._notes.append(late_note(verdict, now))
            self._quiet_until = verdict.begin + self.clock.nominal_rate_hz
        return trials + self._complete(now)

    def _break_at(self, verdict: Verdict, kind: str, now: int) -> list[Trial]:
        """Begin a new segment: trials that reach over its border can never be whole."""
        rate = self.clock.nominal_rate_hz
        self.breaks[kind] += 1
        self._notes.append(break_note(kind, verdict, rate))
        torn = [p for p in self._pending if self._before(p, verdict.begin) and self._first_last(p)[0] < verdict.start]
        for pending in torn:
            self._pending.remove(pending)
        trials = [self._invalid(pending, kind, self._index(pending), now) for pending in torn]
        self._segment_start = self._knot_start = verdict.start
        self._segment_kind = kind
        self.clock.restart()
        knots = range(verdict.start, now + 1, self.clock.knot_every)
        for index, stamp in zip(knots, self._watch.stamps(verdict.start, now)[:: self.clock.knot_every], strict=True):
            self.clock.add_knot(index, float(stamp) + self._clock_offset)
        if kind == CLOCK_STEP:
            self._clock_set_until = verdict.start + math.ceil(CLOCK_SET_S * rate)
        return trials

    def _before(self, pending: _Pending, border: int) -> bool:
        """Whether a pulse belongs to what comes before a border; by the old clock, for one that has only a time."""
        if pending.index is not None:
            return True
        return self.clock.known and self.clock.index_of(pending.pulse.t) < border

    def _held(self, pending: _Pending) -> bool:
        """Whether all samples of a trial are there and some in doubt, or its time may be by the line to come."""
        begin, _, told_by = self._doubt
        if begin == self._ring.end or not self.clock.known:
            return False
        return pending.told_at > told_by or begin <= self._first_last(pending)[1] < self._ring.end

    @property
    def _doubt(self) -> tuple[int, int, int]:
        """First sample whose stamp is in doubt, that at which the doubt arose, and by when markers are beyond it."""
        begin, end = self._watch.suspect_from, self._ring.end
        return (end, end, end) if begin is None else (begin, self._watch.suspect_since, begin)

    # -- what goes out -----------------------------------------------------------------------------------------------

    def _index(self, pending: _Pending) -> float:
        return self.clock.index_of(pending.pulse.t) if pending.index is None else pending.index

    def _first_last(self, pending: _Pending) -> tuple[int, int]:
        window = (self._sweep.start_ms, self._sweep.end_ms)
        return window_indices(self._index(pending), window, self.clock.rate_hz)

    def _complete(self, since: int, doubt: tuple[int, int, int] | None = None) -> list[Trial]:
        """Serve the pulses whose last sample is in, in the order in which those came.

        Where there is a doubt about the stamps, those must wait that it concerns, unless they were complete before it.
        """
        if not self.clock.known:
            return []
        begin, noticed, told_by = doubt or self._doubt
        ready: list[tuple[int, int, _Pending]] = []
        for pending in self._pending:
            last = self._first_last(pending)[1]
            beyond = last < begin and pending.told_at <= told_by
            if last < self._ring.end and (beyond or max(last, since) < noticed):
                ready.append((max(last, since), pending.pulse_id, pending))
        trials = []
        for known_by, _, pending in sorted(ready, key=lambda entry: entry[:2]):
            self._pending.remove(pending)
            trials.append(self._cut_out(pending, known_by))
        return trials

    def _cut_out(self, pending: _Pending, known_by: int) -> Trial:
        """Make the trial of a pulse whose samples are there; what came after the sample `known_by` has no part."""
        index = self._index(pending)
        rate = self.clock.rate_hz
        first, last = self._first_last(pending)
        if pending.index is None:
            guessed = self._clock_set_until is not None and last < self._clock_set_until
            if guessed or self._uncertainty(pending) > self._gap_s:
                return self._invalid(pending, TIME_UNCERTAIN, index, known_by)
        if first < self._segment_start:
            if self._segment_start > 0:
                return self._invalid(pending, self._segment_kind, index, known_by)
            needed = math.ceil(index + self._sweep.window_start_ms * rate / 1000.0 - INDEX_TOLERANCE)
            if needed < 0:
                return self._invalid(pending, BEFORE_STREAM, index, known_by)
            first = 0
        if first < known_by + 1 - self._kept:
            return self._invalid(pending, TOO_LATE, index, known_by)
        sweep = self._ring.read(first, last).T.astype(np.float64) * self._scale
        return self._trial(pending, index, first, sweep, (), known_by)

    def _refuse_ahead(self) -> list[Trial]:
        """Give up markers that no sample will reach; they would wait for ever, and take the place of others."""
        if not self._pending or not self.clock.known:
            return []
        limit = self._ring.end + MAX_AHEAD_S * self.clock.rate_hz
        return self._give_up([p for p in self._pending if self._index(p) > limit], AHEAD)

    def _give_up(self, given_up: list[_Pending], reason: str) -> list[Trial]:
        for pending in given_up:
            self._pending.remove(pending)
        return [self._invalid(pending, reason) for pending in given_up]

    def _invalid(self, pending: _Pending, reason: str, index: float = math.nan, known_by: int | None = None) -> Trial:
        empty = np.empty((len(self.channels.muscles), 0), dtype=np.float64)
        return self._trial(pending, index, 0, empty, (reason,), self._ring.end if known_by is None else known_by)

    def _trial(
        self,
        pending: _Pending,
        index: float,
        first: int,
        sweep: NDArray[np.float64],
        reasons: tuple[str, ...],
        known_by: int,
    ) -> Trial:
        t, uncertainty = self._pulse_time(pending, index), self._uncertainty(pending)
        pose, intensity = self._companions(t, uncertainty, known_by)
        offsets, doubts = self._compare(pending, index, known_by)
        if not reasons and not self._watch.knows_scatter(first):
            doubts += (EARLY_STAMPS,)
        return Trial(
            pulse_id=pending.pulse_id,
            trigger_source=pending.source,
            t_raw=pending.pulse.t_raw,
            t=t,
            t_uncertainty=uncertainty,
            pulse_index=index,
            first_index=first,
            sweep_uv=sweep,
            rate_hz=self.clock.rate_hz,
            reasons=reasons,
            pose=pose,
            intensity=intensity,
            offsets_ms=offsets,
            doubts=doubts,
        )

    def _compare(self, pending: _Pending, index: float, known_by: int) -> tuple[dict[str, float], tuple[str, ...]]:
        """Return what the other trigger sources say of a pulse, and the doubts that follow."""
        doubts: tuple[str, ...] = ()
        offsets: dict[str, float] = {}
        if math.isfinite(index) and self.references.counts:
            offsets, doubts, note = self.references.compare(
                index, known_by, self.clock, self._rules.max_disagreement_ms, f"pulse {pending.pulse_id}"
            )
            self._notes.extend(note)
        if pending.index is None and self._clock_set_until is not None:
            doubts += (CLOCK_STEP,)
        return offsets, doubts

    def _uncertainty(self, pending: _Pending) -> float:
        """Return one SD of a pulse's time, s."""
        if pending.index is not None:
            # It lies between two samples: uniform over one period.
            return math.hypot(1.0 / (self.clock.rate_hz * math.sqrt(12.0)), self._clock_uncertainty)
        return math.hypot(pending.pulse.clock_uncertainty, self._clock_uncertainty, self.clock.jitter_s)

    def _pulse_time(self, pending: _Pending, index: float) -> float:
        placed = pending.index is not None and self.clock.known and math.isfinite(index)
        return self.clock.time_of(index) if placed else pending.pulse.t

    def _companions(
        self, t: float, uncertainty: float, known_by: float = math.inf
    ) -> tuple[CoilPose | None, StimulatorIntensity | None]:
        """Return what held at a time; nothing where the time is not known well enough to say."""
        pose = intensity = None
        if uncertainty <= self._sweep.pose_max_age_s:
            pose = self._poses.at(t, self._sweep.pose_max_age_s, known_by)
        if uncertainty <= self._sweep.intensity_max_age_s:
            intensity = self._intensities.at(t, self._sweep.intensity_max_age_s, known_by)
        return pose, intensity

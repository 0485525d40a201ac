"""Cuts trials out of the stream: waits for each pulse's last sample, and says so when it does not come.

Deterministic: results depend on the samples, their stamps and the sample count at which each pulse was fed, and not on
how the samples were cut into blocks. Blocks are cut further at the knots of the sample clock, at gaps and at trigger
edges, so that between two cuts nothing changes but the number of samples.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rt_engine.channels import ChannelMap
from rt_engine.companions import CoilPose, History, StimulatorIntensity
from rt_engine.mep import INDEX_TOLERANCE, window_indices
from rt_engine.pulse import MARKER, TTL, UNKNOWN_S, Pulse
from rt_engine.sample_block import SampleBlock
from rt_engine.sample_clock import SampleClock
from rt_engine.sample_ring import SampleRing
from rt_engine.trial import AHEAD, BEFORE_STREAM, EXPIRED, GAP, NO_TIME, TIME_UNCERTAIN, TOO_LATE, TOO_MANY, Trial

MAX_PENDING = 256
"""More pulses than this cannot wait at once: at 50 ms each that would be 5 kHz."""

MAX_AHEAD_S = 60.0
"""A marker further ahead of the newest sample is in another clock, such as that of Unix; no backlog is that long."""


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
        A jump of the stamps by more than this, forwards or backwards, is a gap.
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
    """Known for TTL pulses; for markers it follows the clock's fit."""


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
    """

    def __init__(self, channels: ChannelMap, nominal_rate_hz: float, sweep: SweepSettings) -> None:
        self.channels = channels
        self.clock = SampleClock(nominal_rate_hz)
        self.n_gaps = 0
        self.n_pulses = 0
        self._sweep = sweep
        self._ring = SampleRing(math.ceil(sweep.ring_s * nominal_rate_hz), len(channels.muscles))
        self._scale = channels.scale_to_uv[:, None]
        self._pending: list[_Pending] = []
        self._segment_start = 0
        self._knot_start = 0
        self._clock_offset = math.nan
        self._last_stamp = math.nan
        self._last_whole = (0, math.nan)  # index and stamp of the last sample whose stamp was a number
        self._ttl_high: bool | None = None
        self._clock_uncertainty = 0.0
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

    def feed_pose(self, pose: CoilPose) -> None:
        """Take note of a coil pose."""
        self._poses.add(pose)

    def feed_intensity(self, intensity: StimulatorIntensity) -> None:
        """Take note of the stimulator's setting."""
        self._intensities.add(intensity)

    def waiting_companions(self) -> list[tuple[CoilPose | None, StimulatorIntensity | None]]:
        """Return the pose and the intensity of each pulse that waits, as its trial would have them if it came now."""
        return [self._companions(self._pulse_time(pending, self._index(pending))) for pending in self._pending]

    def feed_pulse(self, pulse: Pulse) -> list[Trial]:
        """Take in a marker's pulse; its trial comes at once if all its samples are there."""
        if not pulse.has_time:
            # It stands where it was told of, so that what is said of it are numbers.
            now = self.clock.time_of(self._ring.end) if self.clock.known else 0.0
            stand_in = Pulse(0.0, now, UNKNOWN_S, pulse.label)
            return [self._invalid(_Pending(self._next_id(), MARKER, stand_in, None), NO_TIME)]
        refused = self._enlist(_Pending(self._next_id(), MARKER, pulse, None)) + self._refuse_ahead()
        return refused + self._complete(self._ring.end)

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
        raw = self._whole_stamps(block.stamps)
        stamps = raw + block.clock_offset
        gaps = self._find_gaps(raw)
        edges = self._find_edges(block.samples)
        trials: list[Trial] = []
        first_index = self._ring.end
        for begin, end in self._cuts(n, gaps, edges):
            index = first_index + begin
            if begin in gaps:
                trials += self._break_at(index)
            if (index - self._knot_start) % self.clock.knot_every == 0:
                self.clock.add_knot(index, float(stamps[begin]))
                trials += self._refuse_ahead()
            # Columns are picked per block, so that the ring holds muscles only and in the model's order.
            self._ring.append(block.samples[begin:end, self.channels.columns])
            if begin in edges:
                # Before the first stamp that is a number there is no time; the sample's index is enough.
                t_raw = float(raw[begin]) if math.isfinite(raw[begin]) else 0.0
                pulse = Pulse(t_raw, block.clock_offset, block.clock_uncertainty, "TTL")
                trials += self._enlist(_Pending(self._next_id(), TTL, pulse, float(index)))
            if self._pending:
                trials += self._complete(index)
        return trials

    def feed_time(self, t: float) -> list[Trial]:
        """Give up pulses whose samples are overdue at the time `t` (s, engine's clock)."""
        overdue = self._sweep.end_ms / 1000.0 + self._sweep.expire_s
        return self._give_up([p for p in self._pending if p.pulse.t + overdue < t], EXPIRED)

    def finish(self) -> list[Trial]:
        """Give up all pulses that still wait: no more samples will come."""
        return self._give_up(list(self._pending), EXPIRED)

    def _next_id(self) -> int:
        self.n_pulses += 1
        return self.n_pulses - 1

    def _enlist(self, pending: _Pending) -> list[Trial]:
        if len(self._pending) >= MAX_PENDING:
            return [self._invalid(pending, TOO_MANY)]
        self._pending.append(pending)
        return []

    def _cuts(self, n: int, gaps: list[int], edges: list[int]) -> list[tuple[int, int]]:
        """Cut `n` samples at gaps, trigger edges and knots, which count from where the clock began."""
        cuts: list[int] = []
        start = self._knot_start - self._ring.end
        borders = [*gaps, n]
        begin = 0
        for border in borders:
            every = self.clock.knot_every
            first_knot = begin + (start - begin) % every
            cuts += [begin, *range(first_knot, border, every)]
            begin = start = border
        borders = sorted({*cuts, *edges, n})
        return list(zip(borders[:-1], borders[1:], strict=True))

    def _take_offset(self, block: SampleBlock) -> None:
        """Begin a new line through the stamps where the stream's clock has been set; the samples are whole."""
        if abs(block.clock_offset - self._clock_offset) > self._sweep.gap_ms / 1000.0:
            self.clock.restart()
            self._knot_start = self._ring.end
        self._clock_offset = block.clock_offset
        self._clock_uncertainty = block.clock_uncertainty

    def _whole_stamps(self, stamps: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where a stamp is no number, put what the nominal rate makes of the last one before it that was."""
        whole = np.isfinite(stamps)
        known_index, known_stamp = self._last_whole
        if whole.any():
            last = int(np.flatnonzero(whole)[-1])
            self._last_whole = (self._ring.end + last, float(stamps[last]))
        if whole.all():
            return stamps
        place = np.arange(len(stamps))
        source = np.maximum.accumulate(np.where(whole, place, -1))
        index = np.where(source >= 0, source, known_index - self._ring.end)
        stamp = np.where(source >= 0, stamps[source], known_stamp)
        filled: NDArray[np.float64] = stamp + (place - index) / self.clock.nominal_rate_hz
        return filled

    def _find_gaps(self, stamps: NDArray[np.float64]) -> list[int]:
        steps = np.diff(stamps, prepend=self._last_stamp)
        self._last_stamp = float(stamps[-1])
        # NaN (the very first step) compares false, as it should.
        jumps = np.abs(steps - 1.0 / self.clock.nominal_rate_hz) > self._sweep.gap_ms / 1000.0
        return [int(i) for i in np.flatnonzero(jumps)]

    def _find_edges(self, samples: NDArray[np.float32]) -> list[int]:
        column = self.channels.ttl_column
        if column is None:
            return []
        level = samples[:, column]
        known = np.flatnonzero(np.isfinite(level))  # a sample that is not a number says nothing about the level
        if known.size == 0:
            return []
        high = level[known] > self.channels.ttl_threshold
        # The very first sample has no predecessor: if it is high, its edge lies before the stream.
        before = bool(high[0]) if self._ttl_high is None else self._ttl_high
        rising = high & ~np.concatenate(([before], high[:-1]))
        self._ttl_high = bool(high[-1])
        return [int(i) for i in known[rising]]

    def _break_at(self, index: int) -> list[Trial]:
        """Begin a new segment: trials that reach over its border can never be whole."""
        self.n_gaps += 1
        torn = [p for p in self._pending if self._placed(p) and self._first_last(p)[0] < index]
        trials = self._give_up(torn, GAP)
        self._segment_start = self._knot_start = index
        self.clock.restart()
        return trials

    def _placed(self, pending: _Pending) -> bool:
        if pending.index is not None:
            return True
        # A pulse after the border by the old segment's clock belongs to the new one.
        return self.clock.known and self.clock.index_of(pending.pulse.t) < self._ring.end

    def _index(self, pending: _Pending) -> float:
        return self.clock.index_of(pending.pulse.t) if pending.index is None else pending.index

    def _first_last(self, pending: _Pending) -> tuple[int, int]:
        window = (self._sweep.start_ms, self._sweep.end_ms)
        return window_indices(self._index(pending), window, self.clock.rate_hz)

    def _complete(self, since: int) -> list[Trial]:
        """Serve the pulses whose last sample is in, in the order in which those samples came."""
        if not self.clock.known:
            return []
        ready: list[tuple[int, int, _Pending]] = []
        for pending in self._pending:
            last = self._first_last(pending)[1]
            if last < self._ring.end:
                ready.append((max(last, since), pending.pulse_id, pending))
        trials = []
        for _, _, pending in sorted(ready, key=lambda entry: entry[:2]):
            self._pending.remove(pending)
            trials.append(self._cut_out(pending))
        return trials

    def _cut_out(self, pending: _Pending) -> Trial:
        index = self._index(pending)
        rate = self.clock.rate_hz
        first, last = self._first_last(pending)
        if pending.index is None and self.clock.jitter_s > self._sweep.gap_ms / 1000.0:
            return self._invalid(pending, TIME_UNCERTAIN, index)
        if first < self._segment_start:
            if self._segment_start > 0:
                return self._invalid(pending, GAP, index)
            needed = math.ceil(index + self._sweep.window_start_ms * rate / 1000.0 - INDEX_TOLERANCE)
            if needed < 0:
                return self._invalid(pending, BEFORE_STREAM, index)
            first = 0
        if first < self._ring.start:
            return self._invalid(pending, TOO_LATE, index)
        sweep = self._ring.read(first, last).T.astype(np.float64) * self._scale
        return self._trial(pending, index, first, sweep, ())

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

    def _invalid(self, pending: _Pending, reason: str, index: float = math.nan) -> Trial:
        empty = np.empty((len(self.channels.muscles), 0), dtype=np.float64)
        return self._trial(pending, index, 0, empty, (reason,))

    def _trial(
        self, pending: _Pending, index: float, first: int, sweep: NDArray[np.float64], reasons: tuple[str, ...]
    ) -> Trial:
        t = self._pulse_time(pending, index)
        if pending.source == TTL:
            # The edge lies between two samples: uniform over one period.
            uncertainty = math.hypot(1.0 / (self.clock.rate_hz * math.sqrt(12.0)), self._clock_uncertainty)
        else:
            uncertainty = math.hypot(pending.pulse.clock_uncertainty, self._clock_uncertainty, self.clock.jitter_s)
        pose, intensity = self._companions(t)
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
        )

    def _pulse_time(self, pending: _Pending, index: float) -> float:
        if pending.source == TTL and self.clock.known and math.isfinite(index):
            return self.clock.time_of(index)
        return pending.pulse.t

    def _companions(self, t: float) -> tuple[CoilPose | None, StimulatorIntensity | None]:
        pose = self._poses.at(t, self._sweep.pose_max_age_s)
        return pose, self._intensities.at(t, self._sweep.intensity_max_age_s)

"""Feeds a recording to an engine, just as the live session fed it. Owns no clock; the caller paces."""

from bisect import bisect_right
from collections.abc import Callable, Iterator

from rt_engine.edges.xdf_source import Recording
from rt_engine.engine import Engine, PulseResult
from rt_engine.errors import RecordingError
from rt_engine.record_events import (
    Calibrated,
    Input,
    IntensityFed,
    ModelSwapped,
    PoseFed,
    PulseFed,
    ReferenceFed,
    TimeFed,
)
from rt_engine.sample_block import SampleBlock

MAX_BLOCK_S = 0.25
"""Longer blocks are cut: coil poses come with their block, and only the newest few hundred are kept."""


def replay(
    recording: Recording,
    engine: Engine,
    block_samples: int = 200,
    swap: Callable[[ModelSwapped], None] | None = None,
) -> Iterator[tuple[int, list[PulseResult]]]:
    """Feed a recording to an engine.

    Parameters
    ----------
    recording
        What to feed.
    engine
        Fresh, with the recording's channels.
    block_samples
        Samples per block; results do not depend on it.
    swap
        Gives the engine another model where the live session did (`Engine.swap`).

    Yields
    ------
    n_samples
        How many samples have been fed.
    results
        What came out since the last time.

    Raises
    ------
    RecordingError
        If the live session changed its model and there is no `swap`.
    """
    n_end = recording.samples.shape[0]
    offsets = sorted(recording.offsets, key=lambda offset: offset.n)  # as they are, but in damaged files
    offset_from = [offset.n for offset in offsets]
    every = max(1, min(block_samples, int(MAX_BLOCK_S * recording.rate_hz)))
    companions = _Companions(recording, engine)
    waiting = _Inputs(recording.inputs, engine, swap)
    begin = 0
    while True:
        results = waiting.feed_until(begin if begin < n_end else None)
        if begin >= n_end:
            results += engine.finish()
            yield engine.n_samples, results
            return
        held = bisect_right(offset_from, begin)
        next_offset = offset_from[held] if held < len(offset_from) else n_end
        end = min(begin - begin % every + every, next_offset, waiting.next_cut(n_end), n_end)
        waiting.feed_companions(end)
        offset = offsets[max(held - 1, 0)]
        stamps = recording.stamps[begin:end]
        companions.feed_until(float(stamps[-1]) + offset.offset)
        block = SampleBlock(recording.samples[begin:end], stamps, offset.offset, offset.uncertainty)
        results += engine.feed_samples(block)
        yield engine.n_samples, results
        begin = end


class _Inputs:
    """What was fed beside samples, in the order in which that was done.

    Poses and intensities need no cut between blocks: each says after how many samples it came.
    """

    def __init__(self, inputs: list[Input], engine: Engine, swap: Callable[[ModelSwapped], None] | None) -> None:
        self._inputs = inputs
        self._engine = engine
        self._swap = swap
        self._at = 0
        self._cuts = iter([event.n for event in inputs if not isinstance(event, PoseFed | IntensityFed)])
        self._next_cut = next(self._cuts, None)

    def feed_until(self, n: int | None) -> list[PulseResult]:
        """Feed what came after up to `n` samples; None feeds all that is left."""
        results: list[PulseResult] = []
        while self._at < len(self._inputs) and (n is None or self._inputs[self._at].n <= n):
            results += self._feed(self._inputs[self._at])
            self._at += 1
        while self._next_cut is not None and n is not None and self._next_cut <= n:
            self._next_cut = next(self._cuts, None)
        return results

    def next_cut(self, otherwise: int) -> int:
        """Return after how many samples something comes that needs a cut."""
        return otherwise if self._next_cut is None else self._next_cut

    def feed_companions(self, end: int) -> None:
        """Feed the poses and intensities that come before the sample `end`, until something else does."""
        while self._at < len(self._inputs):
            event = self._inputs[self._at]
            if event.n >= end or not isinstance(event, PoseFed | IntensityFed):
                return
            self._feed(event)
            self._at += 1

    def _feed(self, event: Input) -> list[PulseResult]:
        engine = self._engine
        if isinstance(event, PulseFed):
            return engine.feed_pulse(event.fed)
        if isinstance(event, ReferenceFed):
            return engine.feed_reference(event.fed)
        if isinstance(event, TimeFed):
            return engine.feed_time(event.t)
        if isinstance(event, PoseFed):
            engine.feed_pose(event.fed, event.n)
        elif isinstance(event, IntensityFed):
            engine.feed_intensity(event.fed, event.n)
        elif isinstance(event, Calibrated):
            engine.set_gains(event.gains)
        elif self._swap is not None:
            self._swap(event)
        else:
            raise RecordingError(
                f"the live session took another model after {event.n} samples ({event.path}, SHA-256 {event.sha256}), "
                "which this replay was not given"
            )
        return []


class _Companions:
    """Hands poses and intensities over when the samples have reached their time, where no record says when that was."""

    def __init__(self, recording: Recording, engine: Engine) -> None:
        self._engine = engine
        self._poses = iter(recording.poses)
        self._intensities = iter(recording.intensities)
        self._pose = next(self._poses, None)
        self._intensity = next(self._intensities, None)

    def feed_until(self, t: float) -> None:
        while self._pose is not None and self._pose.t <= t:
            self._engine.feed_pose(self._pose, 0)
            self._pose = next(self._poses, None)
        while self._intensity is not None and self._intensity.t <= t:
            self._engine.feed_intensity(self._intensity, 0)
            self._intensity = next(self._intensities, None)

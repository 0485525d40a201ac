"""Feeds a recording to an engine, just as the live session fed it. Owns no clock; the caller paces."""

from bisect import bisect_right
from collections.abc import Iterator

from rt_engine.edges.xdf_source import Recording
from rt_engine.engine import Engine, PulseResult
from rt_engine.record_events import PulseFed
from rt_engine.sample_block import SampleBlock

MAX_BLOCK_S = 0.25
"""Longer blocks are cut: coil poses come with their block, and only the newest few hundred are kept."""


def replay(recording: Recording, engine: Engine, block_samples: int = 200) -> Iterator[tuple[int, list[PulseResult]]]:
    """Feed a recording to an engine.

    Parameters
    ----------
    recording
        What to feed.
    engine
        Fresh, with the recording's channels.
    block_samples
        Samples per block; results do not depend on it.

    Yields
    ------
    n_samples
        How many samples have been fed.
    results
        What came out since the last time.
    """
    n_end = recording.samples.shape[0]
    offset_from = [offset.n for offset in recording.offsets]
    fed = [(event.n, event) for event in recording.inputs]
    every = max(1, min(block_samples, int(MAX_BLOCK_S * recording.rate_hz)))
    cuts = {*range(0, n_end, every), n_end, *offset_from, *(n for n, _ in fed)}
    edges = sorted(cut for cut in cuts if 0 <= cut <= n_end)
    companions = _Companions(recording, engine)
    waiting = iter(fed)
    following = next(waiting, None)
    for begin, end in zip(edges, [*edges[1:], None], strict=True):
        results: list[PulseResult] = []
        while following is not None and (following[0] <= begin or end is None):
            event = following[1]
            if isinstance(event, PulseFed):
                results += engine.feed_pulse(event.fed)
            else:
                results += engine.feed_time(event.t)
            following = next(waiting, None)
        if end is not None:
            held = recording.offsets[max(bisect_right(offset_from, begin) - 1, 0)]
            stamps = recording.stamps[begin:end]
            companions.feed_until(float(stamps[-1]) + held.offset)
            block = SampleBlock(recording.samples[begin:end], stamps, held.offset, held.uncertainty)
            results += engine.feed_samples(block)
        else:
            results += engine.finish()
        yield engine.n_samples, results


class _Companions:
    """Hands poses and intensities over when the samples have reached their time."""

    def __init__(self, recording: Recording, engine: Engine) -> None:
        self._engine = engine
        self._poses = iter(recording.poses)
        self._intensities = iter(recording.intensities)
        self._pose = next(self._poses, None)
        self._intensity = next(self._intensities, None)

    def feed_until(self, t: float) -> None:
        while self._pose is not None and self._pose.t <= t:
            self._engine.feed_pose(self._pose)
            self._pose = next(self._poses, None)
        while self._intensity is not None and self._intensity.t <= t:
            self._engine.feed_intensity(self._intensity)
            self._intensity = next(self._intensities, None)

"""A replay gives an engine what the live session gave it, at the same samples, whatever the block size."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from rt_engine.companions import CoilPose, StimulatorIntensity
from rt_engine.edges.xdf_source import Recording
from rt_engine.engine import PulseResult
from rt_engine.errors import RecordingError
from rt_engine.pulse import Pulse
from rt_engine.record_events import (
    Calibrated,
    Input,
    IntensityFed,
    ModelSwapped,
    Offset,
    PoseFed,
    PulseFed,
    ReferenceFed,
    TimeFed,
)
from rt_engine.replay import replay
from rt_engine.sample_block import SampleBlock

RATE_HZ = 2000.0
T0 = 5000.0
N = 12_000
INPUTS: list[Input] = [
    PulseFed(n=0, t_raw=T0 + 1.0, offset=1e-5, uncertainty=1e-4, label="TMS"),
    PulseFed(n=4017, t_raw=T0 + 2.0, offset=1e-5, uncertainty=1e-4),
    PulseFed(n=4017, t_raw=T0 + 2.002, offset=1e-5, uncertainty=1e-4),
    PulseFed(n=7000, t_raw=T0 + 60.0, offset=1e-5, uncertainty=1e-4),
    TimeFed(n=9001, t=T0 + 70.0),
    PulseFed(n=11_990, t_raw=T0 + 4.5, offset=0.0, uncertainty=1e-4),
    PulseFed(n=N, t_raw=T0 + 5.99, offset=0.0, uncertainty=1e-4),
]
OFFSETS = [
    Offset(n=0, offset=0.0, uncertainty=1e-4),
    Offset(n=3011, offset=2e-4, uncertainty=2e-4),
    Offset(n=8000, offset=-1e-4, uncertainty=5e-5),
]


@pytest.fixture(scope="module")
def recording(emg: Callable[..., Any]) -> Recording:
    stream = emg(N, [500, 3005, 3010, 9000, 11_950], ppm=50.0, jitter_s=2e-4, gaps=[(6000, 0.4)])
    poses = [CoilPose(T0 + 0.002 * k, np.eye(4) * k) for k in range(4000)]
    return Recording(
        path=Path("none.xdf"),
        labels=[],
        units=[],
        rate_hz=RATE_HZ,
        samples=stream.samples,
        stamps=stream.stamps,
        offsets=OFFSETS,
        inputs=INPUTS,
        poses=poses,
        intensities=[StimulatorIntensity(T0 + k, 40.0 + k) for k in range(5)],
        settings=None,
        model_sha256="",
        stop=None,
    )


def _live(engine: Any, recording: Recording, block: int) -> list[PulseResult]:
    """Do as a session does: what came, then a block; a new offset holds from the next block on."""
    results: list[PulseResult] = []
    at = {offset.n: offset for offset in recording.offsets}
    held = at[0]
    edges = sorted({*range(0, N, block), *at, *(event.n for event in recording.inputs), N})
    for begin, end in zip(edges, [*edges[1:], N], strict=True):
        for event in recording.inputs:
            if event.n == begin:
                results += _feed(engine, event)
        held = at.get(begin, held)
        samples, stamps = recording.samples[begin:end], recording.stamps[begin:end]
        results += engine.feed_samples(SampleBlock(samples, stamps, held.offset, held.uncertainty))
    return results + engine.finish()


def _feed(engine: Any, event: Input) -> list[PulseResult]:
    if isinstance(event, PulseFed):
        return engine.feed_pulse(event.fed)
    if isinstance(event, ReferenceFed):
        return engine.feed_reference(event.fed)
    if isinstance(event, TimeFed):
        return engine.feed_time(event.t)
    if isinstance(event, PoseFed):
        engine.feed_pose(event.fed)
    elif isinstance(event, IntensityFed):
        engine.feed_intensity(event.fed)
    elif isinstance(event, Calibrated):
        engine.set_gains(event.gains)
    return []


def _replayed(engine: Any, recording: Recording, block: int) -> list[PulseResult]:
    return [result for _, results in replay(recording, engine, block) for result in results]


# Shrinking would play the recording thousands of times to find a simpler block size.
@settings(max_examples=40, phases=[phase for phase in Phase if phase != Phase.shrink])
@given(live_block=st.integers(8, 3000), block=st.integers(4, 20_000))
def test_a_replay_gives_the_bits_of_the_live_session(
    live_block: int, block: int, recording: Recording, new_engine: Callable[..., Any], bits: Callable[..., Any]
) -> None:
    told = replace(recording, poses=[], intensities=[])
    live = _live(new_engine(), told, live_block)
    assert bits(_replayed(new_engine(), told, block)) == bits(live)


POSES = st.builds(
    lambda n, index, x: PoseFed.of(n, CoilPose(T0 + index / RATE_HZ, np.eye(4) + x)),
    st.integers(0, N),
    st.integers(0, N),
    st.integers(0, 3),
)
INTENSITIES = st.builds(
    lambda n, index, x: IntensityFed.of(n, StimulatorIntensity(T0 + index / RATE_HZ, x)),
    st.integers(0, N),
    st.integers(0, N),
    st.floats(0.0, 100.0),
)
REFERENCES = st.builds(
    lambda n, index: ReferenceFed.of(n, Pulse(T0 + index / RATE_HZ, 0.0, 1e-4)),
    st.integers(0, N),
    st.sampled_from([500, 3005, 3030, 9000, 9100]),
)
GAINS = st.builds(Calibrated, n=st.integers(0, N), gains=st.lists(st.floats(0.5, 2.0), min_size=3, max_size=3))


@settings(max_examples=40, phases=[phase for phase in Phase if phase != Phase.shrink])
@given(
    more=st.lists(st.one_of(POSES, INTENSITIES, REFERENCES, GAINS), max_size=20),
    live_block=st.integers(64, 3000),
    block=st.integers(7, 20_000),
)
def test_what_came_late_live_comes_as_late_in_a_replay(
    more: list[Input],
    live_block: int,
    block: int,
    recording: Recording,
    new_engine: Callable[..., Any],
    bits: Callable[..., Any],
) -> None:
    """Poses, intensities, references and gains, at any moment and however old."""
    inputs = sorted([*INPUTS, *more], key=lambda event: event.n)
    given_recording = replace(recording, inputs=inputs, poses=[], intensities=[])
    live = _live(new_engine(), given_recording, live_block)
    again = _replayed(new_engine(), given_recording, block)
    assert bits(again) == bits(live)


def test_a_pose_that_came_after_its_trial_is_not_the_trials(
    recording: Recording, new_engine: Callable[..., Any]
) -> None:
    """The pulse at sample 500 is served at sample 600; both poses are of a moment before the pulse."""
    for n, expected in ((601, 0.0), (600, 1.0)):
        inputs = [PoseFed.of(0, CoilPose(T0 + 0.2, np.eye(4))), PoseFed.of(n, CoilPose(T0 + 0.24, np.eye(4) + 1.0))]
        early = replace(recording, inputs=inputs, poses=[], intensities=[])
        for block in (1, 64, 5000):
            first = _replayed(new_engine(), early, block)[0]
            assert first.trial.pulse_index == 500.0
            assert first.trial.pose.matrix[0, 1] == expected


@settings(max_examples=20, phases=[phase for phase in Phase if phase != Phase.shrink])
@given(order=st.permutations(INPUTS), counts=st.lists(st.integers(-5, N + 500), min_size=3, max_size=3))
def test_a_record_in_disorder_ends_and_loses_no_pulse(
    order: list[Input], counts: list[int], recording: Recording, new_engine: Callable[..., Any]
) -> None:
    """No live session writes such a thing; a damaged file may hold it."""
    offsets = [Offset(n=n, offset=1e-5 * n, uncertainty=1e-4) for n in counts]
    results = _replayed(new_engine(), replace(recording, inputs=order, offsets=offsets), 500)
    assert sorted(r.trial.pulse_id for r in results) == list(range(11))


def test_another_model_is_asked_for_where_the_live_session_took_it(
    recording: Recording, new_engine: Callable[..., Any]
) -> None:
    swapped = ModelSwapped(n=2000, path="other.onnx", sha256="00")
    changed = replace(recording, inputs=[swapped])
    asked: list[tuple[int, ModelSwapped]] = []
    engine = new_engine()
    for _ in replay(changed, engine, 300, lambda event: asked.append((engine.n_samples, event))):
        pass
    assert asked == [(2000, swapped)]
    with pytest.raises(RecordingError, match="another model after 2000 samples"):
        _replayed(new_engine(), changed, 300)


def test_what_comes_out_is_what_the_inputs_say(recording: Recording, new_engine: Callable[..., Any]) -> None:
    results = _replayed(new_engine(), recording, 200)
    assert sorted(r.trial.pulse_id for r in results) == list(range(11))
    reasons = [r.trial.reasons for r in results if r.trial.reasons]
    assert reasons == [("expired",), ("expired",), ("expired",)], "the far one, and the two at the end"
    assert {r.trial.trigger_source for r in results} == {"ttl", "marker"}


@pytest.mark.parametrize("block", [1, 7, 200, 1_000_000])
def test_poses_do_not_depend_on_the_block_size(
    block: int, recording: Recording, new_engine: Callable[..., Any]
) -> None:
    """4000 poses, more than are kept: in one large block the early ones must not be pushed out by the later."""
    short = replace(
        recording, inputs=[], samples=recording.samples[:4000], stamps=recording.stamps[:4000], offsets=OFFSETS[:1]
    )
    results = _replayed(new_engine(), short, block)
    for result in results:
        pose = result.trial.pose
        assert pose is not None
        assert 0.0 <= result.trial.t - pose.t < 0.002 + 1e-9
        assert result.trial.intensity is not None


def test_how_far_a_replay_is_can_be_followed(recording: Recording, new_engine: Callable[..., Any]) -> None:
    seen = [n for n, _ in replay(recording, new_engine(), 500)]
    assert seen == sorted(seen)
    assert seen[-1] == N
    assert max(np.diff(seen)) <= 500


def test_an_empty_recording_replays_to_nothing(recording: Recording, new_engine: Callable[..., Any]) -> None:
    empty = replace(recording, inputs=[], samples=recording.samples[:0], stamps=recording.stamps[:0])
    assert _replayed(new_engine(), empty, 200) == []


def test_a_marker_without_a_time_is_the_invalid_trial_that_it_was_live(
    recording: Recording, new_engine: Callable[..., Any], bits: Callable[..., Any]
) -> None:
    bad = [PulseFed.of(100, Pulse(t)) for t in (float("nan"), float("inf"), 1e308)]
    told = replace(recording, inputs=bad, poses=[], intensities=[])
    results = _replayed(new_engine(), told, 200)
    assert [r.trial.reasons for r in results if r.trial.trigger_source == "marker"] == [("no_time",)] * 3
    assert bits(results) == bits(_live(new_engine(), told, 77))

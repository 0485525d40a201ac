"""The same input gives the same bits, however it is cut into blocks: the promise that a replay rests on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rt_engine import trial_assembler
from rt_engine.engine import PulseResult
from rt_engine.pulse import Pulse
from rt_engine.sample_block import SampleBlock

RATE_HZ = 2000.0
T0 = 5000.0
N = 1500


@dataclass(frozen=True)
class Input:
    """All that an engine consumes, but for the cutting."""

    pulses: list[int] = field(default_factory=list)
    gaps: list[tuple[int, float]] = field(default_factory=list)
    ppm: float = 0.0
    jitter_s: float = 0.0
    bad: list[tuple[int, int, float]] = field(default_factory=list)
    no_stamp: list[tuple[int, int]] = field(default_factory=list)
    markers: list[tuple[int, float]] = field(default_factory=list)
    """After how many samples, and the sample index that it tells of."""
    offsets: list[tuple[int, float]] = field(default_factory=list)
    """From which sample on, and the clock offset."""
    times: list[tuple[int, float]] = field(default_factory=list)
    """After how many samples, and how many seconds past their end."""
    noisy_trigger: int = 0
    """Seed of a trigger channel that floats; 0 for a sound one."""


INDEX = st.integers(0, N - 1)
INPUTS = st.builds(
    Input,
    pulses=st.lists(INDEX, max_size=6),
    gaps=st.lists(st.tuples(INDEX.filter(bool), st.sampled_from([0.05, -0.05, 3.0, -3.0])), max_size=3),
    ppm=st.floats(-200.0, 200.0),
    jitter_s=st.sampled_from([0.0, 1e-4, 2e-3]),
    bad=st.lists(st.tuples(INDEX, st.integers(0, 3), st.sampled_from([np.nan, np.inf, -1e30])), max_size=4),
    no_stamp=st.lists(st.tuples(INDEX, st.integers(1, 300)), max_size=2),
    markers=st.lists(st.tuples(st.integers(0, N), st.floats(-300.0, N + 300.0)), max_size=6),
    offsets=st.lists(st.tuples(INDEX, st.sampled_from([0.0, 1e-4, -2e-4, 0.5])), max_size=3),
    times=st.lists(st.tuples(st.integers(0, N), st.floats(-1.0, 3.0)), max_size=2),
    noisy_trigger=st.sampled_from([0, 0, 0, 1, 2]),
)
CUTS = st.one_of(
    st.sets(st.integers(1, N - 1), max_size=30),
    st.integers(1, 400).map(lambda every: set(range(every, N, every))),
)


def _feed(engine: Any, stream: Any, given_input: Input, cuts: set[int]) -> list[PulseResult]:
    held = dict([(0, 0.0), *given_input.offsets])
    events = [(n, 0, i, value) for i, (n, value) in enumerate(given_input.markers)]
    events += [(n, 1, i, value) for i, (n, value) in enumerate(given_input.times)]
    edges = sorted({0, stream.n, *cuts, *held, *(n for n, *_ in events)})
    results: list[PulseResult] = []
    offset = 0.0
    for begin, end in zip(edges, [*edges[1:], stream.n], strict=True):
        for n, kind, _, value in sorted(events):
            if n == begin and kind == 0:
                results += engine.feed_pulse(Pulse(T0 + value / RATE_HZ, 1e-5, 1e-4))
            elif n == begin:
                results += engine.feed_time(T0 + begin / RATE_HZ + value)
        offset = held.get(begin, offset)
        block = SampleBlock(stream.samples[begin:end], stream.stamps[begin:end], offset, abs(offset) + 1e-5)
        results += engine.feed_samples(block)
    return results + engine.finish()


def _stream(emg: Callable[..., Any], given_input: Input) -> Any:
    stream = emg(N, given_input.pulses, gaps=given_input.gaps, ppm=given_input.ppm, jitter_s=given_input.jitter_s)
    if given_input.noisy_trigger:
        stream.samples[:, -1] = np.random.default_rng(given_input.noisy_trigger).uniform(0.0, 1.0, N)
    for index, channel, value in given_input.bad:
        stream.samples[index, channel] = value
    for begin, n in given_input.no_stamp:
        stream.stamps[begin : begin + n] = np.nan
    return stream


@given(given_input=INPUTS, cuts=CUTS)
@example(given_input=Input(pulses=[50, 1000]), cuts=set(range(1, N)))
@example(given_input=Input(noisy_trigger=1), cuts=set(range(1, N)))
def test_any_cutting_gives_the_same_bits(
    given_input: Input,
    cuts: set[int],
    emg: Callable[..., Any],
    new_engine: Callable[..., Any],
    bits: Callable[..., list[Any]],
) -> None:
    stream = _stream(emg, given_input)
    one_block, cut = new_engine(), new_engine()
    with pytest.MonkeyPatch.context() as patch:
        # So few that a floating trigger channel brings more pulses than may wait.
        patch.setattr(trial_assembler, "MAX_PENDING", 8)
        expected = bits(_feed(one_block, stream, given_input, set()))
        observed = bits(_feed(cut, stream, given_input, cuts))
    assert [result[0] for result in observed] == [result[0] for result in expected]
    assert observed == expected
    assert sorted(result[0] for result in expected) == list(range(one_block.assembler.n_pulses))
    assert cut.assembler.n_gaps == one_block.assembler.n_gaps
    assert cut.assembler.clock.rate_hz == one_block.assembler.clock.rate_hz


def test_a_long_session_gives_the_same_bits_in_blocks_of_8_as_in_one(
    emg: Callable[..., Any],
    new_engine: Callable[..., Any],
    play: Callable[..., list[PulseResult]],
    bits: Callable[..., list[Any]],
) -> None:
    """50 s with drift and jitter, in which the fit and its window move on."""
    n = 100_000
    pulses = list(range(500, n - 200, 9973))
    stream = emg(n, pulses, ppm=120.0, jitter_s=3e-4)
    markers = [(i - i % 8, Pulse(T0 + i * (1.0 + 120e-6) / RATE_HZ)) for i in pulses]
    live = play(new_engine(), stream, cuts=range(0, n, 8), markers=markers)
    replayed = play(new_engine(), stream, cuts=range(0, n, 20_000), markers=markers)
    assert len(live) == 2 * len(pulses)
    assert all(r.trial.valid for r in live)
    assert bits(replayed) == bits(live)

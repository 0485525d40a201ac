"""The same input gives the same bits, however it is cut into blocks: the promise that a replay rests on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rt_engine import trial_assembler
from rt_engine.engine import PulseResult
from rt_engine.pulse import Pulse
from rt_engine.sample_block import SampleBlock
from rt_engine.trigger_sources import TriggerRules

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
    lost: list[tuple[int, int]] = field(default_factory=list)
    """From which sample on, and how many."""
    repeated: list[tuple[int, int]] = field(default_factory=list)
    """Before which sample, and how many of those before it come again."""
    late: list[tuple[int, int, float]] = field(default_factory=list)
    """From which sample on, for how many, and by how many seconds."""
    references: list[tuple[int, float]] = field(default_factory=list)
    """As `markers`, of a source that is only compared."""
    source: str = "ttl"
    """What makes the trials."""


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
LONG_N = 6000
LONG_INDEX = st.integers(0, LONG_N - 1)
LONG_INPUTS = st.builds(
    Input,
    pulses=st.lists(LONG_INDEX, min_size=2, max_size=8),
    gaps=st.lists(st.tuples(LONG_INDEX.filter(bool), st.sampled_from([0.002, -0.003, 0.4])), max_size=1),
    ppm=st.floats(-200.0, 200.0),
    jitter_s=st.sampled_from([0.0, 1e-4, 2e-3]),
    no_stamp=st.lists(st.tuples(LONG_INDEX, st.integers(1, 300)), max_size=1),
    markers=st.lists(st.tuples(LONG_INDEX, st.floats(0.0, LONG_N)), max_size=5),
    offsets=st.lists(st.tuples(LONG_INDEX, st.sampled_from([1e-4, 0.003, 0.5])), max_size=2),
    times=st.lists(st.tuples(LONG_INDEX, st.floats(-1.0, 5.0)), max_size=2),
    lost=st.lists(st.tuples(LONG_INDEX, st.integers(1, 40)), max_size=2),
    repeated=st.lists(st.tuples(LONG_INDEX, st.integers(1, 40)), max_size=2),
    late=st.lists(st.tuples(LONG_INDEX, st.integers(1, 200), st.floats(0.001, 0.3)), max_size=2),
    references=st.lists(st.tuples(LONG_INDEX, st.floats(0.0, LONG_N)), max_size=5),
    noisy_trigger=st.sampled_from([0, 0, 0, 0, 1]),
    source=st.sampled_from(["ttl", "marker", "artefact"]),
)
CUTS = st.one_of(
    st.sets(st.integers(1, N - 1), max_size=30),
    st.integers(1, 400).map(lambda every: set(range(every, N, every))),
)


def _feed(engine: Any, stream: Any, given_input: Input, cuts: set[int]) -> list[PulseResult]:
    held = dict([(0, 0.0), *given_input.offsets])
    events = [(n, 0, i, value) for i, (n, value) in enumerate(given_input.markers)]
    events += [(n, 1, i, value) for i, (n, value) in enumerate(given_input.times)]
    events += [(n, 2, i, value) for i, (n, value) in enumerate(given_input.references)]
    events = [(min(n, stream.n), *event) for n, *event in events]
    edges = sorted({0, stream.n, *(n for n in (*cuts, *held, *(n for n, *_ in events)) if n < stream.n)})
    results: list[PulseResult] = []
    offset = 0.0
    for begin, end in zip(edges, [*edges[1:], stream.n], strict=True):
        for n, kind, _, value in sorted(events):
            if n == begin and kind == 0:
                results += engine.feed_pulse(Pulse(T0 + value / RATE_HZ, 1e-5, 1e-4))
            elif n == begin and kind == 1:
                results += engine.feed_time(T0 + begin / RATE_HZ + value)
            elif n == begin:
                results += engine.feed_reference(Pulse(T0 + value / RATE_HZ, 1e-5, 1e-4))
        offset = held.get(begin, offset)
        block = SampleBlock(stream.samples[begin:end], stream.stamps[begin:end], offset, abs(offset) + 1e-5)
        results += engine.feed_samples(block)
    return results + engine.finish()


def _stream(emg: Callable[..., Any], given_input: Input, n_samples: int = N) -> Any:
    pulses = given_input.pulses
    stream = emg(n_samples, pulses, gaps=given_input.gaps, ppm=given_input.ppm, jitter_s=given_input.jitter_s)
    if given_input.noisy_trigger:
        stream.samples[:, -1] = np.random.default_rng(given_input.noisy_trigger).uniform(0.0, 1.0, n_samples)
    stream.samples[[index + 1 for index in pulses if index + 1 < n_samples], :-1] += 900.0
    for index, channel, value in given_input.bad:
        stream.samples[index, channel] = value
    for begin, n in given_input.no_stamp:
        stream.stamps[begin : begin + n] = np.nan
    for begin, n, seconds in given_input.late:
        stream.stamps[begin : begin + n] += seconds
    kept = np.arange(n_samples)
    for begin, n in given_input.lost:
        kept = kept[(kept < begin) | (kept >= begin + n)]
    for begin, n in given_input.repeated:
        place = min(begin, len(kept))
        kept = np.insert(kept, place, kept[max(place - n, 0) : place])
    return type(stream)(stream.samples[kept], stream.stamps[kept])


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


@settings(max_examples=25)
@given(given_input=LONG_INPUTS)
@pytest.mark.parametrize("every", [7, 64, 4096])
def test_blocks_of_any_size_give_the_same_bits_whatever_happens_to_the_stream(
    every: int,
    given_input: Input,
    emg: Callable[..., Any],
    new_engine: Callable[..., Any],
    bits: Callable[..., list[Any]],
) -> None:
    stream = _stream(emg, given_input, LONG_N)
    rules = TriggerRules(source=given_input.source, compare_artefact=True)
    one_block, cut = new_engine(rules=rules), new_engine(rules=rules)
    expected = bits(_feed(one_block, stream, given_input, set()))
    observed = bits(_feed(cut, stream, given_input, set(range(every, stream.n, every))))
    assert observed == expected
    assert cut.assembler.breaks == one_block.assembler.breaks
    assert cut.assembler.take_notes() == one_block.assembler.take_notes()
    assert cut.assembler.references.counts == one_block.assembler.references.counts


def test_sample_by_sample_gives_the_same_bits_too(
    emg: Callable[..., Any], new_engine: Callable[..., Any], bits: Callable[..., list[Any]]
) -> None:
    given_input = Input(
        pulses=[700, 2500, 3100, 3600, 4200, 5000, 5600],
        ppm=80.0,
        jitter_s=1e-4,
        lost=[(3130, 16)],
        repeated=[(4230, 9)],
        late=[(2480, 40, 0.03), (5650, 8, 0.02)],
        markers=[(2600, 2500.0), (3700, 3620.0), (5700, 5600.0)],
        references=[(2500, 2503.0), (5000, 5040.0)],
    )
    stream = _stream(emg, given_input, LONG_N)
    expected = _feed(new_engine(), stream, given_input, set())
    observed = _feed(new_engine(), stream, given_input, set(range(1, stream.n)))
    assert bits(observed) == bits(expected)
    told = [
        r.trial.reasons for r in sorted(expected, key=lambda r: r.trial.pulse_id) if r.trial.trigger_source == "ttl"
    ]
    assert told == [(), (), ("gap",), (), ("duplicate",), (), ()]


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

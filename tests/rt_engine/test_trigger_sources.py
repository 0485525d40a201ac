"""Pulses from the trigger channel, from markers and from the artefact; where two tell of one, they are compared."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rt_engine.artefact_detector import ArtefactDetector
from rt_engine.channels import match_channels
from rt_engine.engine import PulseResult
from rt_engine.errors import StreamError
from rt_engine.pulse import UNKNOWN_S, Pulse
from rt_engine.trigger_sources import TriggerChannel, TriggerRules

RATE_HZ = 2000.0
T0 = 5000.0
ARTEFACT = TriggerRules(source="artefact")

Emg = Callable[..., Any]
NewEngine = Callable[..., Any]
Play = Callable[..., list[PulseResult]]


def _with_artefacts(stream: Any, indices: list[int], uv: float = 1500.0, channels: int = 3) -> Any:
    """Add a ringing of 400 Hz that dies away within 5 ms, of another sign in each muscle."""
    ms = np.arange(10) * 1000.0 / RATE_HZ
    ringing = uv * np.exp(-ms / 0.8) * np.cos(2.0 * np.pi * 0.4 * ms)
    for index in indices:
        for channel in range(channels):
            stream.samples[index : index + 10, channel] += (-1.0) ** channel * ringing[: stream.n - index]
    return stream


def _marker(index: float, late_ms: float = 0.0) -> Pulse:
    return Pulse(T0 + index / RATE_HZ + late_ms / 1000.0, 0.0, 1e-4)


# -- the artefact ----------------------------------------------------------------------------------------------------


def test_the_artefact_gives_the_sample_of_the_pulse(emg: Emg, new_engine: NewEngine, play: Play) -> None:
    indices = [1000, 2500, 3700]
    results = play(new_engine(rules=ARTEFACT), _with_artefacts(emg(5000, indices), indices))
    assert [r.trial.pulse_index for r in results] == indices
    assert [r.trial.trigger_source for r in results] == ["artefact"] * 3
    assert all(r.trial.valid for r in results)
    assert results[0].trial.t == pytest.approx(T0 + 0.5, abs=1e-6)
    assert results[0].trial.t_uncertainty == pytest.approx(1.0 / (RATE_HZ * math.sqrt(12.0)), rel=1e-3)
    assert results[0].trial.index_uncertainty == pytest.approx(1.0 / math.sqrt(12.0), rel=1e-3)


def test_meps_as_steep_as_an_artefact_are_none_since_they_follow_one(
    emg: Emg, new_engine: NewEngine, play: Play
) -> None:
    indices = [1000, 2500]
    stream = _with_artefacts(emg(4000, indices, amplitude_uv=20_000.0), indices)
    results = play(new_engine(rules=ARTEFACT), stream)
    assert [r.trial.pulse_index for r in results] == indices


def test_a_step_in_too_few_muscles_is_no_artefact(emg: Emg, new_engine: NewEngine, play: Play) -> None:
    """An electrode that is touched."""
    assert play(new_engine(rules=ARTEFACT), _with_artefacts(emg(4000), [1000, 2500], channels=2)) == []


def test_the_ringing_of_an_artefact_is_no_second_pulse(emg: Emg, new_engine: NewEngine, play: Play) -> None:
    stream = _with_artefacts(emg(4000), [1000, 1030, 2000], uv=20_000.0)
    found = [r.trial.pulse_index for r in play(new_engine(rules=ARTEFACT), stream)]
    assert found == [1000, 2000], "nor is what comes within the refractory time"
    short = TriggerRules(source="artefact", artefact_refractory_ms=12.0)
    found = [r.trial.pulse_index for r in play(new_engine(rules=short), stream)]
    assert found == [1000, 1030, 2000]


@settings(max_examples=50)
@given(
    indices=st.lists(st.integers(0, 2999), max_size=20),
    bad=st.lists(
        st.tuples(st.integers(0, 2999), st.integers(0, 2), st.sampled_from([np.nan, np.inf, 3e38])), max_size=5
    ),
    cuts=st.lists(st.integers(1, 2999), max_size=30),
)
def test_artefacts_are_found_however_the_samples_come(
    indices: list[int], bad: list[tuple[int, int, float]], cuts: list[int], emg: Emg
) -> None:
    samples = _with_artefacts(emg(3000), indices).samples[:, :3]
    for index, channel, value in bad:
        samples[index, channel] = value
    scale = np.ones(3)
    whole = ArtefactDetector(500.0, 2, 40, scale).find(samples).tolist()
    detector = ArtefactDetector(500.0, 2, 40, scale)
    borders = sorted({0, *cuts, 3000})
    pieces: list[int] = []
    for begin, end in zip(borders[:-1], borders[1:], strict=True):
        pieces += (begin + detector.find(samples[begin:end])).tolist()
    assert pieces == whole
    assert all(b - a >= 40 for a, b in zip(whole[:-1], whole[1:], strict=True))


def test_the_threshold_is_in_microvolts_whatever_the_unit(emg: Emg) -> None:
    samples = _with_artefacts(emg(2000), [1000]).samples[:, :3]
    mixed = (samples.astype(np.float64) * [1.0, 1e-3, 1e-6]).astype(np.float32)
    found = ArtefactDetector(500.0, 3, 40, np.array([1.0, 1e3, 1e6])).find(mixed)
    assert found.tolist() == [1000]


# -- the trigger channel ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([5, 5, 0, 0, 5, 0], [2, 5]),
        ([0, 0, 5, 0], [3]),
        ([5, math.nan, 0, math.nan, 5, 0], [2, 5]),
        ([5, 0.5, 0.4], [2]),
    ],
)
@pytest.mark.parametrize("block", [1, 2, 100])
def test_a_trigger_that_is_low_during_the_pulse(levels: list[float], expected: list[int], block: int) -> None:
    channel = TriggerChannel(0, 0.5, active_low=True)
    samples = np.array(levels, dtype=np.float32)[:, None]
    found: list[int] = []
    for begin in range(0, len(levels), block):
        found += (begin + channel.find(samples[begin : begin + block])).tolist()
    assert found == expected


def test_edges_closer_than_the_refractory_time_are_one_pulse(emg: Emg, new_engine: NewEngine, play: Play) -> None:
    """A contact that bounces."""
    stream = emg(4000, [1000, 3000])
    stream.samples[[1003, 1004, 1006], -1] = 1.0
    assert len(play(new_engine(), stream)) == 4
    for cuts in ((), range(0, 4000, 1), range(0, 4000, 7)):
        results = play(new_engine(rules=TriggerRules(refractory_ms=10.0)), stream, cuts=cuts)
        assert [r.trial.pulse_index for r in results] == [1000, 3000]


def test_a_trigger_channel_that_is_only_compared_may_be_missing() -> None:
    channels = match_channels(["FDI"], ["uV"], ["FDI"], ttl_label="TTL", ttl_needed=False)
    assert channels.ttl_column is None
    channels = match_channels(["FDI", "ttl"], ["uV", "au"], ["FDI"], ttl_label="TTL", ttl_needed=False)
    assert channels.ttl_column == 1
    with pytest.raises(StreamError, match="no channel for TTL"):
        match_channels(["FDI"], ["uV"], ["FDI"], ttl_label="TTL")


# -- two sources and more --------------------------------------------------------------------------------------------


def test_the_offset_between_all_sources_is_measured_for_every_pulse(
    emg: Emg, new_engine: NewEngine, play: Play
) -> None:
    indices = [2000, 3000, 4200]
    stream = _with_artefacts(emg(5000, indices), [index + 1 for index in indices])
    engine = new_engine(rules=TriggerRules(compare_artefact=True))
    results = []
    for begin in range(0, 5000, 50):
        for index in indices:
            if begin == index:
                results += engine.feed_reference(_marker(index, late_ms=3.0))
        results += engine.feed_samples(stream.block(begin, begin + 50))
    assert [r.trial.trigger_source for r in results] == ["ttl"] * 3
    for result in results:
        assert result.trial.offsets_ms == pytest.approx({"artefact": 0.5, "marker": 3.0}, abs=1e-3)
        assert result.trial.doubts == ()
    counts = engine.assembler.references.counts
    assert {source: (c.seen, c.matched, c.unmatched) for source, c in counts.items()} == {
        "artefact": (3, 3, 0),
        "marker": (3, 3, 0),
    }


@pytest.mark.parametrize("source", ["ttl", "marker", "artefact"])
def test_whichever_makes_the_trials_the_others_are_compared_with_it(
    source: str, emg: Emg, new_engine: NewEngine
) -> None:
    at = {"ttl": 1000, "artefact": 1002, "marker": 1007}
    stream = _with_artefacts(emg(2000, [at["ttl"]]), [at["artefact"]])
    engine = new_engine(rules=TriggerRules(source=source, compare_artefact=True))
    marker = _marker(at["marker"])
    results = engine.feed_pulse(marker) if source == "marker" else engine.feed_reference(marker)
    results += engine.feed_samples(stream.block(0, 2000))
    (result,) = results
    assert result.trial.trigger_source == source
    others = {other: (index - at[source]) * 1000.0 / RATE_HZ for other, index in at.items() if other != source}
    assert result.trial.offsets_ms == pytest.approx(others, abs=1e-3)


def test_a_disagreement_lowers_the_confidence_and_is_told(emg: Emg, new_engine: NewEngine) -> None:
    engine = new_engine(rules=TriggerRules(max_disagreement_ms=5.0))
    stream = emg(4000, [1000, 3000])
    engine.feed_reference(_marker(1000, late_ms=4.9))
    engine.feed_reference(_marker(3000, late_ms=-12.0))
    agreed, apart = engine.feed_samples(stream.block(0, 4000))
    assert agreed.map.confidence_reasons == ("early_stamps",)
    assert apart.trial.valid
    assert apart.trial.offsets_ms == pytest.approx({"marker": -12.0}, abs=1e-3)
    assert apart.map.confidence == "low"
    assert "trigger_disagreement" in apart.map.confidence_reasons
    (note,) = engine.assembler.take_notes()
    assert (note.kind, note.index) == ("trigger_disagreement", 3000)
    assert note.ms == pytest.approx(-12.0, abs=1e-3)
    assert "marker says -12.0 ms" in note.text


def test_a_pulse_that_another_source_misses_is_served_and_marked(emg: Emg, new_engine: NewEngine) -> None:
    """The other source must have seen one before: else it may not be there at all."""
    engine = new_engine()
    stream = emg(8000, [1000, 3000, 5000, 7000])
    for index in (3000, 7000):
        engine.feed_reference(_marker(index))
    results = engine.feed_samples(stream.block(0, 8000))
    assert [r.trial.doubts for r in results] == [("early_stamps",), (), ("trigger_unconfirmed",), ()]
    assert all(r.trial.valid for r in results)


def test_the_silence_of_a_source_that_sees_few_pulses_says_nothing(emg: Emg, new_engine: NewEngine) -> None:
    """A marker stream for the blocks of an experiment, one of which began with a pulse."""
    engine = new_engine()
    pulses = list(range(1000, 12_000, 1000))
    engine.feed_reference(_marker(2000, late_ms=20.0))
    results = engine.feed_samples(emg(13_000, pulses).block(0, 13_000))
    unconfirmed = [r.trial.pulse_index for r in results if "trigger_unconfirmed" in r.trial.doubts]
    assert unconfirmed == [3000.0]


def test_a_pulse_that_only_the_other_source_sees_is_told_of(emg: Emg, new_engine: NewEngine, play: Play) -> None:
    """A missing marker: the trigger channel has its pulse."""
    engine = new_engine(rules=TriggerRules(source="marker"))
    stream = emg(10_000, [1000, 3000])
    (result,) = play(engine, stream, cuts=range(0, 10_000, 500), markers=[(1000, _marker(1000))])
    assert result.trial.offsets_ms == pytest.approx({"ttl": 0.0}, abs=1e-3)
    assert engine.assembler.references.counts["ttl"].unmatched == 1
    (note,) = engine.assembler.take_notes()
    assert (note.kind, note.index) == ("unmatched_trigger", 3000)


def test_paired_pulses_are_matched_one_to_one(emg: Emg, new_engine: NewEngine) -> None:
    """2 ms apart, and each marker 1.5 ms late: nearer to the other pulse than it should be."""
    engine = new_engine()
    for index in (1000, 1004):
        engine.feed_reference(_marker(index, late_ms=1.5))
    results = engine.feed_samples(emg(2000, [1000, 1004]).block(0, 2000))
    assert len(results) == 2
    matched = sorted(r.trial.offsets_ms["marker"] for r in results)
    assert engine.assembler.references.counts["marker"].matched == 2
    assert matched == pytest.approx([1.5, 1.5], abs=1e-3)


def test_a_reference_that_comes_twice_or_without_a_time_counts_once_or_not_at_all(
    emg: Emg, new_engine: NewEngine
) -> None:
    engine = new_engine()
    for pulse in (_marker(1000), _marker(1000), Pulse(math.nan), Pulse(T0 + 0.5, 0.0, UNKNOWN_S)):
        assert engine.feed_reference(pulse) == []
    (result,) = engine.feed_samples(emg(2000, [1000]).block(0, 2000))
    assert result.trial.offsets_ms == pytest.approx({"marker": 0.0}, abs=1e-3)
    assert engine.assembler.references.counts["marker"].seen == 1


def test_a_reference_told_of_after_the_trial_is_too_late_for_it(emg: Emg, new_engine: NewEngine) -> None:
    engine = new_engine()
    stream = emg(12_000, [1000])
    (result,) = engine.feed_samples(stream.block(0, 1200))
    assert result.trial.offsets_ms == {}
    engine.feed_reference(_marker(1000))
    engine.feed_samples(stream.block(1200, 12_000))
    assert engine.assembler.references.counts["marker"].unmatched == 1

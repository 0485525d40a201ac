"""A trial that touches a gap is delivered as invalid; those beside it are fine, and nothing is interpolated."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_engine.companions import CoilPose
from rt_engine.engine import PulseResult
from rt_engine.pulse import UNKNOWN_S, Pulse
from rt_engine.sample_block import SampleBlock
from rt_engine.trial_assembler import SweepSettings

RATE_HZ = 2000.0
T0 = 5000.0

Emg = Callable[..., Any]
NewEngine = Callable[..., Any]
Play = Callable[..., list[PulseResult]]


@pytest.mark.parametrize(
    ("jump_s", "reason"),
    [
        (0.5, "gap"),
        (0.021, "gap"),
        (0.0005, "gap"),
        (1e6, "gap"),
        (-0.021, "clock_step"),
        (-0.5, "clock_step"),
        (-3000.0, "clock_step"),
    ],
)
def test_pulses_near_a_break_are_invalid_and_the_others_are_not(
    jump_s: float, reason: str, emg: Emg, new_engine: NewEngine, play: Play
) -> None:
    """It is before sample 3000; sweeps reach from 200 samples before the pulse to 100 after it."""
    pulses = [1000, 2899, 2905, 2950, 3000, 3100, 3199, 3203, 4000]
    engine = new_engine()
    results = play(engine, emg(6000, pulses, gaps=[(3000, jump_s)]))
    reasons = {int(r.trial.pulse_id): r.trial.reasons for r in results}
    touched = [index for i, index in enumerate(pulses) if reasons[i] == (reason,)]
    assert touched == [2905, 2950, 3000, 3100, 3199]
    assert all(reasons[i] == () for i, index in enumerate(pulses) if index not in touched)
    assert engine.assembler.breaks == {"gap": 0, "duplicate": 0, "clock_step": 0} | {reason: 1}
    (note,) = engine.assembler.take_notes()
    assert (note.kind, note.index) == (reason, 3000)
    assert note.ms == pytest.approx(jump_s * 1000.0, rel=1e-3)


def test_markers_on_both_sides_of_a_gap_find_their_samples(emg: Emg, new_engine: NewEngine, play: Play) -> None:
    stream = emg(5000, [1000, 3000], gaps=[(2000, 0.5)])
    markers = [(1000, Pulse(T0 + 0.5)), (3000, Pulse(T0 + 1.5 + 0.5))]
    before, after = play(new_engine(ttl=False), stream, markers=markers)
    assert before.trial.pulse_index == pytest.approx(1000.0, abs=1e-3)
    assert after.trial.pulse_index == pytest.approx(3000.0, abs=1e-3)
    for result, index in ((before, 1000), (after, 3000)):
        window = stream.samples[index + 20 : index + 101, 0]
        assert result.meps.amplitude_uv[0] == np.float32(window.max() - window.min())


def test_a_marker_inside_the_hole_is_invalid_with_the_gap_as_its_reason(
    emg: Emg, new_engine: NewEngine, play: Play
) -> None:
    stream = emg(5000, gaps=[(2000, 0.5)])
    in_the_hole = Pulse(T0 + 1.0 + 0.25)
    for fed_at in (1000, 1990, 2000, 2500):
        (result,) = play(new_engine(ttl=False), stream, markers=[(fed_at, in_the_hole)])
        assert result.trial.reasons == ("gap",), f"marker fed after {fed_at} samples"


def test_a_marker_that_waits_for_samples_after_the_gap_is_served_with_them(
    emg: Emg, new_engine: NewEngine, play: Play
) -> None:
    stream = emg(5000, [3000], gaps=[(2000, 0.5)])
    (result,) = play(new_engine(ttl=False), stream, markers=[(1000, Pulse(T0 + 1.5 + 0.5))])
    assert result.trial.valid
    assert result.trial.pulse_index == pytest.approx(3000.0, abs=1e-3)


def test_after_a_step_back_markers_are_not_placed_by_an_offset_that_may_be_old(
    emg: Emg, new_engine: NewEngine, play: Play
) -> None:
    """For five seconds LSL may not have measured the clock anew; later the trial is served, with the doubt named."""
    n, step_s = 20_000, 0.5
    stream = emg(n, [3100, 18_000], gaps=[(2000, -step_s)])
    markers = [(1990, Pulse(T0 + 3100 / RATE_HZ - step_s)), (18_000, Pulse(T0 + 18_000 / RATE_HZ - step_s))]
    soon, later = play(new_engine(ttl=False), stream, cuts=range(0, n, 500), markers=markers)
    assert soon.trial.reasons == ("time_uncertain",)
    assert later.trial.valid
    assert later.trial.pulse_index == pytest.approx(18_000.0, abs=1e-3)
    assert later.trial.doubts == ("clock_step",)
    assert "clock_step" in later.map.confidence_reasons


@pytest.mark.parametrize("told_at", [2250, 2400])
def test_a_marker_whose_time_was_twice_does_not_get_the_samples_of_the_first(
    emg: Emg, new_engine: NewEngine, play: Play, told_at: int
) -> None:
    """It is told of right after the step, when nobody knows yet that its time will not come back."""
    stream = emg(6000, [2240], gaps=[(2000, -0.18)])
    (result,) = play(new_engine(ttl=False), stream, markers=[(told_at, Pulse(T0 + 2240 / RATE_HZ - 0.18))])
    assert result.trial.reasons in (("clock_step",), ("time_uncertain",))


def test_a_late_marker_beside_late_stamps_or_lost_samples_is_served_when_that_is_known(
    emg: Emg, new_engine: NewEngine, play: Play
) -> None:
    stream = emg(6000, [3000], gaps=[(3600, 0.1)])
    (result,) = play(new_engine(ttl=False), stream, markers=[(3650, Pulse(T0 + 3000 / RATE_HZ))])
    assert result.trial.valid
    assert result.trial.pulse_index == pytest.approx(3000.0, abs=1e-3)


def test_after_a_step_back_markers_are_placed_again_once_the_offset_is_known(emg: Emg, new_engine: NewEngine) -> None:
    """The stamps' clock is set back by 0.3 s, and 2 s later its offset is measured."""
    n, step_s, set_at, known_at = 20_000, 0.3, 6000, 10_000
    stream = emg(n, [9000, 12_000], gaps=[(set_at, -step_s)])
    engine = new_engine(ttl=False)
    results = []
    for begin in range(0, n, 500):
        for index in (9000, 12_000):
            if index == begin:
                results += engine.feed_pulse(Pulse(T0 + index / RATE_HZ))
        part = slice(begin, begin + 500)
        offset = step_s if begin >= known_at else 0.0
        results += engine.feed_samples(SampleBlock(stream.samples[part], stream.stamps[part], offset))
    before, after = results
    assert before.trial.reasons == ("time_uncertain",), "by the old offset it would be 600 samples off"
    assert after.trial.valid
    assert after.trial.pulse_index == pytest.approx(12_000.0, abs=1e-3)
    assert after.trial.doubts == ()


def test_while_an_offset_is_unknown_markers_have_no_place_and_triggers_have(emg: Emg, new_engine: NewEngine) -> None:
    stream = emg(6000, [1000, 3000, 5000])
    engine = new_engine()
    engine.feed_pose(CoilPose(T0 + 1.4, np.eye(4)))
    results = []
    for begin in range(0, 6000, 500):
        unknown = 2000 <= begin < 4000
        if begin in (1000, 3000, 5000):
            results += engine.feed_pulse(Pulse(T0 + begin / RATE_HZ, 0.0, 1e-4))
        part = slice(begin, begin + 500)
        uncertainty = UNKNOWN_S if unknown else 1e-4
        results += engine.feed_samples(SampleBlock(stream.samples[part], stream.stamps[part], 0.0, uncertainty))
    reasons = {"ttl": [], "marker": []}
    for result in results:
        reasons[result.trial.trigger_source].append(result.trial.reasons)
    assert reasons == {"ttl": [(), (), ()], "marker": [(), ("time_uncertain",), ()]}
    in_between = next(r.trial for r in results if r.trial.pulse_index == 3000.0 and r.trial.valid)
    assert in_between.t_uncertainty >= UNKNOWN_S
    assert in_between.pose is None, "which pose held then nobody can say"


def test_jitter_of_stamps_is_no_gap(emg: Emg, new_engine: NewEngine, play: Play) -> None:
    engine = new_engine()
    results = play(engine, emg(20_000, range(1000, 19_000, 1000), jitter_s=9e-3))
    assert engine.assembler.n_gaps == 0
    assert all(r.trial.valid for r in results)


def test_in_the_first_second_only_jumps_above_the_setting_are_gaps_and_trials_say_so(
    emg: Emg, new_engine: NewEngine, play: Play
) -> None:
    """How far the stamps scatter is not known yet."""
    stream = emg(4000, [1000, 3000], gaps=[(950, 0.005)])
    early, later = play(new_engine(), stream)
    assert early.trial.valid
    assert early.trial.doubts == ("early_stamps",)
    assert early.map.confidence == "low"
    assert later.trial.doubts == ()
    strict, _ = play(new_engine(sweep=SweepSettings(gap_ms=2.0)), stream)
    assert strict.trial.reasons == ("gap",)
    assert strict.trial.doubts == ()


def test_stamps_that_are_no_numbers_do_not_hide_a_gap(emg: Emg, new_engine: NewEngine, play: Play) -> None:
    stream = emg(4000, [2000], gaps=[(2030, 0.3)])
    stream.stamps[2028:2035] = math.nan
    engine = new_engine()
    (result,) = play(engine, stream)
    assert result.trial.reasons == ("gap",)
    assert engine.assembler.n_gaps == 1


def test_stamps_that_are_no_numbers_are_no_gap_by_themselves(emg: Emg, new_engine: NewEngine, play: Play) -> None:
    stream = emg(6000, [2000, 4000])
    stream.stamps[1000:3000] = math.nan
    engine = new_engine()
    results = play(engine, stream)
    assert engine.assembler.n_gaps == 0
    assert [r.trial.valid for r in results] == [True, True]


def test_a_gap_as_long_as_the_ring_leaves_the_engine_well(emg: Emg, new_engine: NewEngine, play: Play) -> None:
    stream = emg(9000, [1000, 8000], gaps=[(5000, 60.0)])
    results = play(new_engine(sweep=SweepSettings(ring_s=1.0)), stream, cuts=range(0, 9000, 50))
    assert [r.trial.valid for r in results] == [True, True]


def test_many_gaps_leave_nothing_valid_between_them(emg: Emg, new_engine: NewEngine, play: Play) -> None:
    gaps = [(i, 0.1) for i in range(1000, 2000, 250)]
    engine = new_engine()
    results = play(engine, emg(4000, range(1020, 1900, 100), gaps=gaps))
    assert {r.trial.reasons for r in results} == {("gap",)}
    assert engine.assembler.n_gaps >= 1


@given(gap=st.integers(1, 3999), pulse=st.integers(0, 3899), jump_s=st.sampled_from([0.05, -0.05, 2.0, -2.0]))
def test_a_valid_trial_holds_consecutive_samples_and_none_from_across_the_gap(
    gap: int, pulse: int, jump_s: float, emg: Emg, new_engine: NewEngine, play: Play
) -> None:
    stream = emg(5000, [pulse], gaps=[(gap, jump_s)])
    results = play(new_engine(), stream)
    assert len(results) == (1 if pulse > 0 else 0), "a trigger that is high at the first sample rose before it"
    for result in results:
        first, last = max(pulse - 200, 0), pulse + 100
        touches = first < gap <= last or (pulse - 200 < gap <= pulse)
        assert result.trial.valid != touches
        if result.trial.valid:
            expected = stream.samples[first : last + 1, :3].T.astype(np.float64)
            np.testing.assert_array_equal(result.trial.sweep_uv, expected)


def test_a_step_of_the_clock_offset_does_not_misplace_the_markers_after_it(emg: Emg, new_engine: NewEngine) -> None:
    """The amplifier's computer sets its clock: no sample is lost, but a stamp means another time from then on."""
    step_s = 0.4
    n, changed = 60_000, 30_000
    stream = emg(n, [20_000, 31_000, 50_000])
    engine = new_engine(ttl=False)
    results = []
    for begin in range(0, n, 500):
        offset = 0.0 if begin < changed else step_s
        for index in (20_000, 31_000, 50_000):
            if index == begin:
                results += engine.feed_pulse(Pulse(T0 + index / RATE_HZ + offset))
        block = SampleBlock(stream.samples[begin : begin + 500], stream.stamps[begin : begin + 500], offset)
        results += engine.feed_samples(block)
    assert [r.trial.valid for r in results] == [True, True, True]
    for result, index in zip(results, (20_000, 31_000, 50_000), strict=True):
        assert result.trial.pulse_index == pytest.approx(index, abs=0.25)
    assert engine.assembler.n_gaps == 0


BLOCKS = [1, 7, 64, 4096]


def _picked(stream: Any, kept: Any) -> Any:
    return type(stream)(stream.samples[kept], stream.stamps[kept])


@pytest.mark.parametrize("block", [7, 4096])
@pytest.mark.parametrize("lost", [1, 2, 16])
@pytest.mark.parametrize("after_ms", [-90.0, 25.0, 49.0])
def test_a_few_samples_lost_anywhere_in_the_sweep_make_the_trial_invalid(
    after_ms: float, lost: int, block: int, emg: Emg, new_engine: NewEngine, play: Play
) -> None:
    """Half a millisecond is enough where stamps are regular; the pulses beside it are served."""
    pulses = [3000, 5000, 7000]
    at = 5000 + round(after_ms * RATE_HZ / 1000.0)
    stream = emg(8000, pulses, ppm=60.0)
    stream = _picked(stream, np.delete(np.arange(8000), slice(at, at + lost)))
    results = play(new_engine(), stream, cuts=range(0, stream.n, block))
    assert [r.trial.reasons for r in results] == [(), ("gap",), ()]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("jitter_ms", [0.2, 1.0])
def test_a_lost_packet_is_found_though_stamps_jitter(
    jitter_ms: float, block: int, emg: Emg, new_engine: NewEngine, play: Play
) -> None:
    """The MEP lies behind the hole: by the stamps of the samples before it would have come 6 ms too early."""
    pulses = [13_000, 15_000, 17_000]
    stream = emg(20_000, pulses)
    late = np.random.default_rng(5).normal(0.0, jitter_ms / 1000.0, 2500)
    stream.stamps[:] += np.repeat(late, 8)
    stream = _picked(stream, np.delete(np.arange(20_000), slice(15_008, 15_020)))
    results = play(new_engine(), stream, cuts=range(0, stream.n, block))
    assert [r.trial.reasons for r in results] == [(), ("gap",), ()]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("begin", [4950, 5040, 5095])
def test_one_late_block_is_no_gap_and_its_trial_is_the_same(
    begin: int, block: int, emg: Emg, new_engine: NewEngine, play: Play
) -> None:
    stream = emg(8000, [3000, 5000])
    (_, usual) = play(new_engine(), stream)
    stream.stamps[begin : begin + 8] += 0.03
    engine = new_engine()
    (_, result) = play(engine, stream, cuts=range(0, stream.n, block))
    assert result.trial.valid
    assert result.meps.amplitude_uv.tobytes() == usual.meps.amplitude_uv.tobytes()
    assert engine.assembler.n_gaps == 0
    assert [note.kind for note in engine.assembler.take_notes()] == ["late_stamps"]


def test_a_trial_waits_while_its_last_stamps_are_in_doubt_and_no_longer(emg: Emg, new_engine: NewEngine) -> None:
    stream = emg(8000, [5000])
    stream.stamps[5096:5112] += 0.03
    engine = new_engine()
    assert engine.feed_samples(stream.block(0, 5112)) == []
    (result,) = engine.feed_samples(stream.block(5112, 5113))
    assert result.trial.valid


def test_a_trial_whose_stream_stops_while_its_stamps_are_in_doubt_is_not_served_as_whole(
    emg: Emg, new_engine: NewEngine
) -> None:
    stream = emg(8000, [5000])
    stream.stamps[5050:] += 0.03
    engine = new_engine()
    assert engine.feed_samples(stream.block(0, 5200)) == []
    assert engine.feed_time(T0 + 2.5 + 1.2) == []
    (result,) = engine.feed_time(T0 + 2.5 + 4.0)
    assert result.trial.reasons == ("gap",)
    engine = new_engine()
    engine.feed_samples(stream.block(0, 5200))
    (result,) = engine.finish()
    assert result.trial.reasons == ("gap",)


@pytest.mark.parametrize("block", [7, 4096])
@pytest.mark.parametrize(("repeated", "behind"), [(1, 0), (8, 0), (27, 0), (16, 16), (55, 0)])
def test_a_block_that_comes_twice_makes_the_trial_invalid_with_its_own_reason(
    repeated: int, behind: int, block: int, emg: Emg, new_engine: NewEngine, play: Play
) -> None:
    """At once, or behind the block that follows it (`behind`)."""
    stream = emg(9000, [3000, 5000, 7000])
    at = 5060
    kept = np.insert(np.arange(9000), at, np.arange(at - behind - repeated, at - behind))
    engine = new_engine()
    results = play(engine, _picked(stream, kept), cuts=range(0, len(kept), block))
    assert [r.trial.reasons for r in results] == [(), ("duplicate",), ()]
    assert engine.assembler.breaks == {"gap": 0, "duplicate": 1, "clock_step": 0}
    (note,) = engine.assembler.take_notes()
    assert note.kind == "duplicate"
    assert f"about {repeated} EMG samples" in note.text


def test_a_trigger_that_comes_twice_in_a_repeated_block_gives_no_valid_trial(
    emg: Emg, new_engine: NewEngine, play: Play
) -> None:
    stream = emg(9000, [3000, 5000, 7000])
    kept = np.insert(np.arange(9000), 5060, np.arange(4960, 5060))
    results = play(new_engine(), _picked(stream, kept))
    assert [r.trial.reasons for r in results] == [(), ("duplicate",), ("duplicate",), ()]


def test_a_block_that_comes_twice_with_new_stamps_is_found_by_its_samples(
    emg: Emg, new_engine: NewEngine, play: Play
) -> None:
    """A driver that stamps as it sends: the copy's stamps lie between those of its neighbours, all a little apart."""
    stream = emg(9000, [3000, 5000, 7000])
    kept = np.insert(np.arange(9000), 5060, np.arange(5044, 5060))
    doubled = _picked(stream, kept)
    doubled.stamps[5060:5076] += 3e-4
    results = play(new_engine(), doubled)
    assert [r.trial.reasons for r in results] == [(), ("duplicate",), ()]


def test_markers_find_their_samples_after_a_block_has_come_twice(emg: Emg, new_engine: NewEngine, play: Play) -> None:
    stream = emg(12_000, [9000])
    kept = np.insert(np.arange(12_000), 5060, np.arange(5020, 5060))
    marker = Pulse(T0 + 9000 / RATE_HZ)
    (result,) = play(new_engine(ttl=False), _picked(stream, kept), cuts=range(0, 12_000, 500), markers=[(9000, marker)])
    assert result.trial.valid
    assert result.trial.pulse_index == pytest.approx(9040.0, abs=1e-3)


@pytest.mark.parametrize("lost", [0, 30])
def test_a_marker_told_of_while_the_stamps_are_in_doubt_finds_its_samples(
    lost: int, emg: Emg, new_engine: NewEngine, play: Play
) -> None:
    """Whether samples were lost (then it belongs to what comes after) or stamps were only late."""
    pulse = 5150
    stream = emg(9000, [pulse])
    if lost:
        stream = _picked(stream, np.delete(np.arange(9000), slice(5000, 5000 + lost)))
    else:
        stream.stamps[5000:5100] += 0.015
    marker = Pulse(T0 + pulse / RATE_HZ)
    for told_at in (5050, 5150, 5300, 6000):
        (result,) = play(new_engine(ttl=False), stream, cuts=range(0, stream.n, 50), markers=[(told_at, marker)])
        expected = ("gap",) if lost else ()
        assert result.trial.reasons == expected, told_at
    marker = Pulse(T0 + 5300 / RATE_HZ)
    (result,) = play(new_engine(ttl=False), stream, cuts=range(0, stream.n, 50), markers=[(5060, marker)])
    assert result.trial.valid
    assert result.trial.pulse_index == pytest.approx(5300.0 - lost, abs=1e-2)

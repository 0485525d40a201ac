"""Pulses told of by a marker stream: before, with or after their samples, each is accounted for and rightly placed."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_engine.engine import PulseResult
from rt_engine.mep import status_text
from rt_engine.pulse import UNKNOWN_S, Pulse
from rt_engine.trial_assembler import MAX_PENDING, SweepSettings

RATE_HZ = 2000.0
T0 = 5000.0


def _marker(index: float, **kwargs: Any) -> Pulse:
    return Pulse(T0 + index / RATE_HZ, **kwargs)


def _same_measurement(a: PulseResult, b: PulseResult) -> bool:
    return (
        a.trial.valid
        and b.trial.valid
        and a.meps is not None
        and b.meps is not None
        and a.trial.sweep_uv.tobytes() == b.trial.sweep_uv.tobytes()
        and a.meps.amplitude_uv.tobytes() == b.meps.amplitude_uv.tobytes()
    )


def test_a_marker_gives_the_same_amplitudes_as_the_trigger_channel(
    emg: Callable[..., Any], new_engine: Callable[..., Any], play: Callable[..., list[PulseResult]]
) -> None:
    stream = emg(4000, [1000, 2000])
    ttl = play(new_engine(), stream)
    marker = play(new_engine(ttl=False), stream, markers=[(n, _marker(n)) for n in (1000, 2000)])
    assert len(ttl) == len(marker) == 2
    for a, b in zip(ttl, marker, strict=True):
        assert _same_measurement(a, b)
        assert (a.trial.trigger_source, b.trial.trigger_source) == ("ttl", "marker")
        assert a.trial.t == pytest.approx(b.trial.t, abs=1e-6)


@given(fed_at=st.integers(1, 4000))
def test_it_does_not_matter_when_the_marker_arrives(
    fed_at: int, emg: Callable[..., Any], new_engine: Callable[..., Any], play: Callable[..., list[PulseResult]]
) -> None:
    """Even 0.75 s before its samples, or 0.6 s after the last of them."""
    stream = emg(4000, [1500, 2700])
    pulses = [_marker(1500), _marker(2700)]
    results = play(new_engine(ttl=False), stream, markers=[(fed_at, pulse) for pulse in pulses])
    usual = play(new_engine(ttl=False), stream, markers=[(1500, pulses[0]), (2700, pulses[1])])
    assert [r.trial.pulse_id for r in results] == [0, 1]
    assert all(_same_measurement(a, b) for a, b in zip(results, usual, strict=True))


def test_a_marker_fed_before_the_first_sample_waits_for_its_samples(
    emg: Callable[..., Any], new_engine: Callable[..., Any]
) -> None:
    stream = emg(2000, [1000])
    engine = new_engine(ttl=False)
    assert engine.feed_pulse(_marker(1000)) == []
    assert engine.assembler.n_pending == 1
    (result,) = engine.feed_samples(stream.block(0, 2000))
    assert result.trial.valid


def test_the_trial_comes_with_its_last_sample_and_not_later(
    emg: Callable[..., Any], new_engine: Callable[..., Any]
) -> None:
    stream = emg(2000, [1000])
    engine = new_engine(ttl=False)
    engine.feed_pulse(_marker(1000))
    assert engine.feed_samples(stream.block(0, 1100)) == []
    (result,) = engine.feed_samples(stream.block(1100, 1101))
    assert result.trial.valid
    assert result.trial.sweep_uv.shape == (3, 301)


def test_two_pulses_2_ms_apart_are_both_served(
    emg: Callable[..., Any], new_engine: Callable[..., Any], play: Callable[..., list[PulseResult]]
) -> None:
    stream = emg(2000, [1000])
    first, second = play(new_engine(ttl=False), stream, markers=[(1000, _marker(1000)), (1004, _marker(1004))])
    assert first.trial.valid
    assert second.trial.valid
    assert (first.trial.pulse_id, second.trial.pulse_id) == (0, 1)
    assert second.trial.first_index - first.trial.first_index == 4


@pytest.mark.parametrize("again_at", [1000, 1010, 3000])
def test_a_marker_that_comes_twice_is_one_pulse(
    again_at: int, emg: Callable[..., Any], new_engine: Callable[..., Any], play: Callable[..., list[PulseResult]]
) -> None:
    """Also where the second comes long after the trial has been served."""
    stream = emg(4000, [1000, 2000])
    engine = new_engine(ttl=False)
    markers = [(1000, _marker(1000)), (again_at, _marker(1000)), (2000, _marker(2000))]
    results = play(engine, stream, markers=sorted(markers, key=lambda marker: marker[0]))
    assert [r.trial.pulse_id for r in results] == [0, 1]
    assert all(r.trial.valid for r in results)
    assert engine.assembler.n_doubles == 1
    assert [note.kind for note in engine.assembler.take_notes()] == ["double_marker"]
    assert engine.assembler.take_notes() == []


@pytest.mark.parametrize("ms", [0.0, 40.0, 99.5])
def test_a_pulse_in_the_first_100_ms_has_amplitudes_and_says_that_its_baseline_is_short(
    ms: float, emg: Callable[..., Any], new_engine: Callable[..., Any], play: Callable[..., list[PulseResult]]
) -> None:
    index = round(ms * RATE_HZ / 1000.0)
    stream = emg(2000, [index], amplitude_uv=2000.0)
    (result,) = play(new_engine(ttl=False), stream, markers=[(0, _marker(index))])
    assert result.trial.valid
    assert result.trial.first_index == 0
    assert result.trial.sweep_start_ms == pytest.approx(-ms, abs=0.01)
    window = stream.samples[index + 20 : index + 101, 0]
    assert result.meps.amplitude_uv[0] == np.float32(window.max() - window.min())
    assert "BASELINE_SHORT" in status_text(int(result.meps.status[0]))
    assert result.map is not None


@pytest.mark.parametrize(("ms_before", "reasons"), [(9.0, ()), (10.5, ("before_stream",)), (5e3, ("before_stream",))])
def test_a_pulse_before_the_stream_is_served_only_if_the_window_is_in_it(
    ms_before: float,
    reasons: tuple[str, ...],
    emg: Callable[..., Any],
    new_engine: Callable[..., Any],
    play: Callable[..., list[PulseResult]],
) -> None:
    marker = _marker(-ms_before * RATE_HZ / 1000.0)
    (result,) = play(new_engine(ttl=False), emg(2000), markers=[(0, marker)])
    assert result.trial.reasons == reasons
    (late,) = play(new_engine(ttl=False), emg(2000), markers=[(1500, marker)])
    assert late.trial.reasons == reasons


def test_a_marker_whose_samples_have_left_the_ring_is_too_late(
    emg: Callable[..., Any], new_engine: Callable[..., Any], play: Callable[..., list[PulseResult]]
) -> None:
    stream = emg(6000, [1000, 3000])
    engine = new_engine(ttl=False, sweep=SweepSettings(ring_s=2.0))
    late, in_time = play(engine, stream, markers=[(6000, _marker(1000)), (6000, _marker(3000))])
    assert late.trial.reasons == ("too_late",)
    assert late.meps is None
    assert late.map is None
    assert late.trial.sweep_uv.shape == (3, 0)
    assert in_time.trial.valid


def test_pulses_of_a_stopped_stream_expire(emg: Callable[..., Any], new_engine: Callable[..., Any]) -> None:
    stream = emg(2000)
    engine = new_engine(ttl=False)
    engine.feed_samples(stream.block(0, 2000))
    engine.feed_pulse(_marker(1990))
    due = T0 + 1990 / RATE_HZ + 0.050 + 1.0
    assert engine.feed_time(due - 0.001) == []
    (result,) = engine.feed_time(due + 0.001)
    assert result.trial.reasons == ("expired",)
    assert engine.feed_time(due + 10.0) == []
    assert (engine.n_valid, engine.n_invalid, engine.assembler.n_pending) == (0, 1, 0)


def test_what_still_waits_at_the_end_comes_back(emg: Callable[..., Any], new_engine: Callable[..., Any]) -> None:
    engine = new_engine(ttl=False)
    engine.feed_samples(emg(2000).block(0, 2000))
    for index in (1950, 1960):
        engine.feed_pulse(_marker(index))
    assert [r.trial.reasons for r in engine.finish()] == [("expired",), ("expired",)]
    assert engine.finish() == []


@pytest.mark.parametrize("fed_at", [0, 1000])
@pytest.mark.parametrize(("t", "apart_s"), [(1.7e9, 1.0), (1.7e12, 1.0), (1e299, 1e290)])
def test_markers_in_another_clock_are_refused_and_do_not_stand_in_the_way(
    fed_at: int,
    t: float,
    apart_s: float,
    emg: Callable[..., Any],
    new_engine: Callable[..., Any],
    play: Callable[..., Any],
) -> None:
    """Unix seconds or milliseconds instead of LSL's time: no sample will ever reach such a pulse."""
    stream = emg(4000, [2000])
    markers = [(fed_at, Pulse(t + i * apart_s)) for i in range(MAX_PENDING)] + [(2000, _marker(2000))]
    engine = new_engine(ttl=False)
    *refused, good = play(engine, stream, markers=markers, finish=False)
    assert {r.trial.reasons for r in refused} == {("ahead_of_stream",)}
    assert len(refused) == MAX_PENDING
    assert good.trial.valid
    assert engine.assembler.n_pending == 0


def test_a_marker_a_while_ahead_of_a_backlog_of_samples_waits_for_them(
    emg: Callable[..., Any], new_engine: Callable[..., Any], play: Callable[..., list[PulseResult]]
) -> None:
    n = 60_000
    stream = emg(n, [59_000])
    (result,) = play(new_engine(ttl=False), stream, cuts=range(0, n, 1000), markers=[(1000, _marker(59_000))])
    assert result.trial.valid


def test_a_burst_of_markers_is_accounted_for_pulse_by_pulse(
    emg: Callable[..., Any], new_engine: Callable[..., Any], play: Callable[..., list[PulseResult]]
) -> None:
    stream = emg(4000)
    markers = [(1000, _marker(1000 + i)) for i in range(300)]
    results = play(new_engine(ttl=False), stream, markers=markers)
    assert sorted(r.trial.pulse_id for r in results) == list(range(300))
    refused = [r for r in results if r.trial.reasons == ("too_many_pending",)]
    assert len(refused) == 300 - MAX_PENDING
    assert all(r.trial.valid for r in results if r not in refused)
    spread_out = [(1000 + i, _marker(1000 + i)) for i in range(300)]
    assert all(r.trial.valid for r in play(new_engine(ttl=False), stream, markers=spread_out))


@pytest.mark.parametrize("ppm", [-200.0, 200.0])
@pytest.mark.parametrize("jitter_s", [0.0, 5e-4])
def test_markers_find_their_sample_through_drift_and_jitter(
    ppm: float,
    jitter_s: float,
    emg: Callable[..., Any],
    new_engine: Callable[..., Any],
    play: Callable[..., list[PulseResult]],
) -> None:
    """One minute: at 200 ppm the nominal rate would be 24 samples off."""
    n = 120_000
    stream = emg(n, ppm=ppm, jitter_s=jitter_s, seed=4)
    true = [5000, 60_000, 119_000]
    markers = [(i, Pulse(T0 + i * (1.0 + ppm * 1e-6) / RATE_HZ)) for i in true]
    results = play(new_engine(ttl=False), stream, cuts=range(0, n, 1000), markers=markers)
    for result, index in zip(results, true, strict=True):
        assert result.trial.pulse_index == pytest.approx(index, abs=0.25)
        window = stream.samples[index + 20 : index + 101, 0]
        assert result.meps.amplitude_uv[0] == np.float32(window.max() - window.min())


@pytest.mark.parametrize("true_rate_hz", [2148.148, 1925.926])
def test_in_a_stream_that_states_a_wrong_rate_markers_are_not_placed_by_guess(
    true_rate_hz: float, emg: Callable[..., Any], new_engine: Callable[..., Any], play: Callable[..., Any]
) -> None:
    """An amplifier's true rate of 2148.148 Hz, say, stated as 2000: after a minute the marker would be a second off."""
    n, index = 60_000, 50_000
    stream = emg(n, [index], rate_hz=true_rate_hz)
    marker = Pulse(T0 + index / true_rate_hz)
    (told,) = play(new_engine(ttl=False), stream, cuts=range(0, n, 500), markers=[(index, marker)])
    assert told.trial.reasons == ("time_uncertain",)
    (seen,) = play(new_engine(), stream)
    assert seen.trial.valid, "the trigger channel needs no clock"
    assert seen.trial.pulse_index == index


def test_the_clock_offsets_of_both_streams_are_used(emg: Callable[..., Any], new_engine: Callable[..., Any]) -> None:
    from rt_engine.sample_block import SampleBlock

    stream = emg(2000, [1000])
    engine = new_engine(ttl=False)
    marker = Pulse(T0 + 0.5 + 70.0, clock_offset=-70.0 + 3.0, clock_uncertainty=3e-4)
    engine.feed_pulse(marker)
    (result,) = engine.feed_samples(SampleBlock(stream.samples, stream.stamps, 3.0, 4e-4))
    assert result.trial.pulse_index == pytest.approx(1000.0, abs=1e-3)
    assert result.trial.t_raw == marker.t_raw
    assert result.trial.t == marker.t
    assert result.trial.t_uncertainty == pytest.approx(5e-4, rel=1e-6)


@pytest.mark.parametrize(
    ("t_raw", "offset"), [(math.nan, 0.0), (math.inf, 0.0), (1.0, math.nan), (1.0, -math.inf), (1e308, 1e308)]
)
def test_a_marker_without_a_time_is_an_invalid_trial_and_the_others_are_served(
    t_raw: float, offset: float, emg: Callable[..., Any], new_engine: Callable[..., Any], play: Callable[..., Any]
) -> None:
    stream = emg(4000, [1000, 3000])
    markers = [(1000, Pulse(T0 + 0.5)), (2000, Pulse(t_raw, offset, label="x")), (3000, Pulse(T0 + 1.5))]
    results = {r.trial.pulse_id: r for r in play(new_engine(ttl=False), stream, markers=markers)}
    assert [results[k].trial.reasons for k in range(3)] == [(), ("no_time",), ()]
    lost = results[1].trial
    assert lost.t == pytest.approx(T0 + 1.0, abs=1e-3), "when it was told of"
    assert math.isfinite(lost.t_raw)
    assert lost.t_uncertainty == UNKNOWN_S


def test_a_marker_without_a_time_before_the_first_sample_is_served_too(new_engine: Callable[..., Any]) -> None:
    (result,) = new_engine(ttl=False).feed_pulse(Pulse(math.nan))
    assert result.trial.reasons == ("no_time",)
    assert math.isfinite(result.trial.t)

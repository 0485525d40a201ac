"""The sample clock finds the true rate and offset of a stream whose stamps drift, jitter and come late."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_engine.sample_clock import KNOTS_FOR_RATE, SampleClock

RATE_HZ = 2000.0
EVERY = 83


def _clock(stamps: np.ndarray, first: int = 0) -> SampleClock:
    clock = SampleClock(RATE_HZ)
    for k, stamp in enumerate(stamps):
        clock.add_knot(first + k * EVERY, float(stamp))
    return clock


def _true_times(n_knots: int, ppm: float, t0: float = 3.6e5) -> np.ndarray:
    return t0 + np.arange(n_knots) * EVERY * (1.0 + ppm * 1e-6) / RATE_HZ


@given(ppm=st.floats(-200.0, 200.0), seed=st.integers(0, 2**16))
def test_a_drifting_rate_is_found_through_jittered_stamps(ppm: float, seed: int) -> None:
    true = _true_times(600, ppm)
    jitter = np.random.default_rng(seed).normal(0.0, 0.5e-3, 600)
    clock = _clock(true + jitter)
    assert (RATE_HZ / clock.rate_hz - 1.0) * 1e6 == pytest.approx(ppm, abs=20.0)
    # A sample's worth of jitter on 600 stamps leaves 2 / sqrt(600) = 0.08 samples (SD) at the line's end; 6 SD pass.
    assert clock.index_of(true[-1]) == pytest.approx(599 * EVERY, abs=0.5)
    assert clock.jitter_s == pytest.approx(0.5e-3, rel=0.3)


@given(ppm=st.floats(-200.0, 200.0), late=st.sets(st.integers(0, 599), max_size=120), delay_s=st.floats(0.005, 0.5))
def test_late_chunks_do_not_bend_the_fit(ppm: float, late: set[int], delay_s: float) -> None:
    true = _true_times(600, ppm)
    stamps = true.copy()
    stamps[sorted(late)] += delay_s
    clock = _clock(stamps)
    assert clock.index_of(true[300]) == pytest.approx(300 * EVERY, abs=0.25)
    assert clock.index_of(true[-1]) == pytest.approx(599 * EVERY, abs=0.25)


@given(
    ppm=st.floats(-200.0, 200.0),
    n_knots=st.integers(1, 200),
    seconds=st.floats(-100.0, 100.0),
    jitter_s=st.floats(0.0, 1e-3),
)
def test_index_and_time_are_inverse_to_each_other(ppm: float, n_knots: int, seconds: float, jitter_s: float) -> None:
    jitter = np.random.default_rng(n_knots).uniform(-jitter_s, jitter_s, n_knots)
    clock = _clock(_true_times(n_knots, ppm) + jitter)
    t = 3.6e5 + seconds
    assert clock.time_of(clock.index_of(t)) == pytest.approx(t, abs=1e-9)


def test_one_stamp_is_enough_to_place_a_pulse_at_the_nominal_rate() -> None:
    clock = SampleClock(RATE_HZ)
    assert not clock.known
    clock.add_knot(700, 12.5)
    assert clock.known
    assert clock.rate_hz == RATE_HZ
    assert clock.index_of(12.5 + 0.05) == pytest.approx(800.0)


def test_the_rate_stays_nominal_until_there_are_knots_enough_to_fit_it() -> None:
    true = _true_times(KNOTS_FOR_RATE, 150.0)
    assert _clock(true[:-1]).rate_hz == RATE_HZ
    assert (RATE_HZ / _clock(true).rate_hz - 1.0) * 1e6 == pytest.approx(150.0, abs=0.1)


def test_a_rate_that_cannot_be_is_not_believed() -> None:
    clock = _clock(_true_times(100, 30_000.0))
    assert clock.rate_hz == RATE_HZ
    assert clock.jitter_s > 0.01, "the misfit must show"


def test_a_restart_forgets_the_offset_and_keeps_the_rate() -> None:
    clock = _clock(_true_times(100, 150.0))
    rate_hz = clock.rate_hz
    clock.restart()
    assert not clock.known
    assert math.isnan(clock.index_of(3.6e5))
    clock.add_knot(50_000, 9.0)
    assert clock.rate_hz == rate_hz
    assert clock.time_of(50_000) == 9.0


def test_a_restart_does_not_claim_that_there_is_no_jitter() -> None:
    clock = _clock(_true_times(100, 0.0) + np.random.default_rng(1).normal(0.0, 1e-3, 100))
    before = clock.jitter_s
    assert before > 5e-4
    clock.restart()
    clock.add_knot(50_000, 9.0)
    assert clock.jitter_s == before
    for k in range(1, 30):
        clock.add_knot(50_000 + k * EVERY, 9.0 + k * EVERY / RATE_HZ)
    assert clock.jitter_s < 1e-4, "with knots enough it is what they say"


@pytest.mark.parametrize("stamp", [math.nan, math.inf, -math.inf])
def test_a_stamp_that_is_no_time_is_passed_over(stamp: float) -> None:
    with_it, without = _clock(_true_times(30, 0.0)), _clock(_true_times(30, 0.0))
    with_it.add_knot(30 * EVERY, stamp)
    assert with_it.index_of(3.6e5) == without.index_of(3.6e5)
    nothing = SampleClock(RATE_HZ)
    nothing.add_knot(0, stamp)
    assert not nothing.known


def test_only_the_last_seconds_count() -> None:
    """Half a minute after the amplifier's clock has changed its speed, the fit follows the new one."""
    old = _true_times(2000, -200.0)
    new = old[-1] + np.arange(1, 801) * EVERY * (1.0 + 200e-6) / RATE_HZ
    clock = _clock(np.concatenate((old, new)))
    assert (RATE_HZ / clock.rate_hz - 1.0) * 1e6 == pytest.approx(200.0, abs=0.1)

"""A clock offset is believed only while it can be: not after a restart, not while stamps lie in the future."""

import logging

import pylsl
import pytest

from rt_engine.edges import clock_offset
from rt_engine.edges.clock_offset import AHEAD_S, LEARNT_BLOCKS, ClockOffset, now_s
from rt_engine.pulse import UNKNOWN_S


class Source:
    """An inlet of which the tests say what liblsl measures."""

    def __init__(self) -> None:
        self.answer: tuple[float, float] | None = (0.25, 1e-4)
        self.was_reset = False

    def was_clock_reset(self) -> bool:
        was_reset, self.was_reset = self.was_reset, False
        return was_reset


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Source:
    fake = Source()

    def query(inlet: Source, timeout_s: float) -> tuple[float, float]:
        if inlet.answer is None:
            raise TimeoutError
        return inlet.answer

    monkeypatch.setattr(clock_offset, "query_offset", query)
    return fake


@pytest.fixture
def clock(source: Source) -> ClockOffset:
    clock = ClockOffset(source, "EMG")  # type: ignore[arg-type]
    clock.warm_up(1.0)
    assert not clock.poll(100.0)
    return clock


def test_it_is_asked_for_on_a_schedule(clock: ClockOffset, source: Source) -> None:
    source.answer = (0.2501, 1e-4)
    assert not clock.poll(100.5), "not yet"
    assert clock.poll(101.1)
    assert (clock.offset_s, clock.uncertainty_s) == (0.2501, 1e-4)
    assert clock.n_resets == 0


def test_after_a_restart_it_is_unknown_until_it_is_measured_anew(clock: ClockOffset, source: Source) -> None:
    source.was_reset, source.answer = True, None
    assert clock.poll(100.2), "at once, whatever the schedule"
    assert not clock.known
    assert clock.uncertainty_s == UNKNOWN_S
    assert not clock.poll(100.3), "still unknown: nothing has changed"
    source.answer = (7.5, 2e-4)
    assert clock.poll(100.4)
    assert (clock.offset_s, clock.uncertainty_s) == (7.5, 2e-4)
    assert clock.n_resets == 1


def test_a_jump_beyond_the_uncertainty_is_noticed(
    clock: ClockOffset, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    source.answer = (0.75, 1e-4)
    with caplog.at_level(logging.WARNING):
        assert clock.poll(102.0)
    assert clock.n_resets == 1
    assert "'EMG' was set: its offset changed by 500.0 ms" in caplog.text
    source.answer = (0.7503, 4e-4)
    assert clock.poll(104.0)
    assert clock.n_resets == 1, "that was noise"


def test_stamps_in_the_future_take_the_belief_away_while_they_last(clock: ClockOffset) -> None:
    now = 500.0
    for _ in range(LEARNT_BLOCKS):
        assert not clock.check(now - 0.25 - 0.002, now)
    assert clock.check(now - 0.25 + 0.2, now)
    assert not clock.known
    assert not clock.poll(now), "the offset is what it was"
    assert not clock.known, "and not believed all the same"
    assert clock.check(now - 0.25 - 0.001, now)
    assert clock.known


def test_a_driver_that_always_stamps_ahead_is_believed(clock: ClockOffset) -> None:
    now = 500.0
    for k in range(LEARNT_BLOCKS + 50):
        clock.check(now + k - 0.25 + 0.1, now + k)
    assert clock.known
    assert clock.check(now - 0.25 + 0.1 + 3.0 * AHEAD_S, now), "further than it usually does"
    assert not clock.known


@pytest.mark.parametrize("stamp", [float("nan"), float("inf")])
def test_a_stamp_that_is_no_time_says_nothing(clock: ClockOffset, stamp: float) -> None:
    assert not clock.check(stamp, 500.0)
    assert clock.known


def test_a_real_stream_on_this_machine_has_a_small_offset(unique: str) -> None:
    info = pylsl.StreamInfo(unique, "EMG", 1, 1000.0, pylsl.cf_float32, unique)
    outlet = pylsl.StreamOutlet(info)
    (found,) = pylsl.resolve_byprop("name", unique, timeout=10.0)
    inlet = pylsl.StreamInlet(found)
    inlet.open_stream(10.0)
    clock = ClockOffset(inlet, unique)
    clock.begin()
    clock.warm_up(10.0)
    assert clock.known
    assert abs(clock.offset_s) < 0.01
    assert not clock.check(now_s(), now_s())
    inlet.close_stream()
    del outlet

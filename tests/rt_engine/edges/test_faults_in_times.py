"""Faults of clocks and markers, sent by the simulated subject through real streams: what the user gets for each."""

from collections.abc import Callable, Iterator

import pytest

from tests.rt_engine.edges.conftest import wait_until
from tests.rt_engine.edges.fault_session import FaultySubject, Hearing

LONG_AFTER, LATE, EARLY, TWICE, NO_MARKER, NO_TIME, SHIFTED, PLAIN, LAST = range(9)
"""Pulses of the session with faults of its markers."""

MARKER_FAULTS = (
    f"marker-late:pulse={LONG_AFTER},ms=2600",
    f"marker-late:pulse={LATE},ms=700",
    f"marker-early:pulse={EARLY},ms=100",
    f"marker-double:pulse={TWICE},ms=60",
    f"marker-missing:pulse={NO_MARKER}",
    f"marker-nan:pulse={NO_TIME}",
    f"marker-shifted:pulse={SHIFTED},ms=6",
)

FORWARDS, WITHIN, BACK = 1, 3, 6
STEPS = (
    f"step:pulse={FORWARDS},at_ms=-120,ms=250",
    f"step:pulse={WITHIN},at_ms=20,ms=40",
    f"step:pulse={BACK},at_ms=-120,ms=-180",
)
"""Between two sweeps, in the middle of one, and backwards."""

MARKER = {"trigger": {"source": "marker"}}
SESSIONS: dict[str, tuple[Callable[[], FaultySubject], dict, int]] = {
    "markers": (lambda: FaultySubject(*MARKER_FAULTS, pulses=9), MARKER | {"timing": {"ring_s": 2.0}}, 8),
    "drift": (lambda: FaultySubject("drift:ppm=2000", "jitter:ms=1", pulses=8), MARKER, 8),
    "jitter": (lambda: FaultySubject("jitter:ms=3", "stamps-late:pulse=2", pulses=6), {}, 6),
    "step, marker": (lambda: FaultySubject(*STEPS, pulses=8), MARKER, 8),
    "step back, marker": (lambda: FaultySubject("step:pulse=1,at_ms=-120,ms=-180", pulses=4), MARKER, 4),
    "no marker, ttl": (lambda: FaultySubject("marker-missing:pulse=2", pulses=4), {}, 4),
    "no ttl, marker": (lambda: FaultySubject("ttl-missing:pulse=2", pulses=4), MARKER, 4),
    "unseen by marker": (lambda: FaultySubject("marker-missing:pulse=2", pulses=5), MARKER, 4),
    "unseen by ttl": (lambda: FaultySubject("ttl-missing:pulse=2", pulses=5), {}, 4),
    "step, ttl": (lambda: FaultySubject(*STEPS, pulses=8), {}, 8),
}
"""Subject, settings and number of trials of each session; all run at the same time."""

UNSEEN = ("unseen by marker", "unseen by ttl")


@pytest.fixture(scope="module")
def heard() -> Iterator[dict[str, Hearing]]:
    hearings = {name: Hearing(subject(), **tables) for name, (subject, tables, _) in SESSIONS.items()}
    try:
        for hearing in hearings.values():
            hearing.launch()
        for hearing in hearings.values():
            hearing.ready()
        for name in UNSEEN:
            # It is told as soon as nobody can claim the pulse any more, two seconds after it.
            wait_until(lambda h=hearings[name]: h.notes() or h.running.error, "the note on a pulse that was not seen")
        yield {name: hearing.finish(SESSIONS[name][2]) for name, hearing in hearings.items()}
    finally:
        for hearing in hearings.values():
            hearing.close()


@pytest.mark.parametrize("pulse", [LATE, EARLY, TWICE, PLAIN, LAST])
def test_a_marker_before_or_after_its_samples_gives_the_right_trial(heard, pulse: int) -> None:
    heard["markers"].assert_right(pulse)
    assert heard["markers"].of(pulse)[0].trigger_source == "marker"


def test_a_marker_long_after_its_samples_is_said_to_be_too_late(heard) -> None:
    heard["markers"].assert_invalid(LONG_AFTER, "too_late")


def test_a_marker_without_a_time_is_delivered_as_such(heard) -> None:
    lost = [header for header, _ in heard["markers"].trials if header.reasons == ["no_time"]]
    assert len(lost) == 1
    assert not lost[0].valid


def test_a_marker_sent_twice_is_one_pulse(heard) -> None:
    assert len(heard["markers"].all_of(TWICE)) == 1
    assert heard["markers"].notes()["double_marker"] == 1


@pytest.mark.parametrize("session", UNSEEN)
def test_a_pulse_that_only_the_other_source_saw_is_told_in_health(heard, session: str) -> None:
    hearing = heard[session]
    for pulse in (0, 1, 3, 4):
        hearing.assert_right(pulse)
    assert not hearing.all_of(2)
    assert hearing.notes() == {"unmatched_trigger": 1}


def test_a_marker_at_another_time_than_the_trigger_is_said_to_be(heard) -> None:
    hearing = heard["markers"]
    told = [
        (header, hearing.sent[SHIFTED].t_pulse - header.t_pulse_raw)
        for header, _ in hearing.trials
        if "trigger_disagreement" in header.confidence_reasons
    ]
    ((header, earlier_s),) = told
    assert earlier_s == pytest.approx(-6e-3, abs=1e-4)
    assert header.offsets_ms["ttl"] == pytest.approx(-6.0, abs=0.6)
    assert header.confidence == "low"


@pytest.mark.parametrize(("session", "other"), [("no marker, ttl", "marker"), ("no ttl, marker", "ttl")])
def test_a_pulse_that_the_other_source_did_not_see_is_said_to_be_unconfirmed(heard, session: str, other: str) -> None:
    hearing = heard[session]
    for pulse in range(4):
        hearing.assert_right(pulse)
        header, _ = hearing.of(pulse)
        assert ("trigger_unconfirmed" in hearing.map_of(pulse)[0].confidence_reasons) is (pulse == 2)
        assert (other in header.offsets_ms) is (pulse != 2)


@pytest.mark.parametrize("pulse", range(8))
def test_drift_and_jitter_leave_marker_pulses_right(heard, pulse: int) -> None:
    heard["drift"].assert_right(pulse)


@pytest.mark.parametrize("pulse", range(6))
def test_jitter_and_late_stamps_leave_trigger_channel_pulses_right(heard, pulse: int) -> None:
    heard["jitter"].assert_right(pulse)


def test_the_rate_that_a_drifting_amplifier_has_is_told(heard) -> None:
    assert heard["drift"].trials[-1][0].rate_hz == pytest.approx(2000.0 / 1.002, rel=5e-4)


@pytest.mark.parametrize("source", ["marker", "ttl"])
@pytest.mark.parametrize("pulse", range(8))
def test_a_step_of_the_clock_gives_no_wrong_trial(heard, source: str, pulse: int) -> None:
    session = heard[f"step, {source}"]
    header, _ = session.of(pulse)
    if pulse == WITHIN:
        session.assert_invalid(pulse, "gap")
    elif source == "ttl" or header.valid or pulse < FORWARDS:
        session.assert_right(pulse)
    else:  # a stamp in the future, or a time that was twice, says nothing of a marker's sample
        assert header.reasons in (["time_uncertain"], ["clock_step"])


@pytest.mark.parametrize("pulse", range(4))
def test_a_marker_whose_time_was_twice_never_gets_the_samples_of_the_first(heard, pulse: int) -> None:
    session = heard["step back, marker"]
    header, _ = session.of(pulse)
    if header.valid or pulse == 0:
        session.assert_right(pulse)
    else:
        assert header.reasons in (["time_uncertain"], ["clock_step"])

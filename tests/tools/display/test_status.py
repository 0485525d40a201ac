"""What the status bar says."""

import pytest
from fake_engine import FakeSession

from rt_engine.messages import decode
from tools.display.picture_age import PictureAges, on_this_machine
from tools.display.state import DisplayState
from tools.display.status import age_sign, confidence_sign, engine_sign, figures, pulse_sign, session_line

ADDRESS = "tcp://127.0.0.1:5556"
NOW = 100.0


def make_state(**options: object) -> tuple[DisplayState, FakeSession]:
    state = DisplayState(ADDRESS, NOW)

    def feed(frames: list[bytes]) -> None:
        header, arrays = decode(frames)
        state.receive(header, arrays, NOW)

    return state, FakeSession(feed, **options)  # type: ignore[arg-type]


def figure(state: DisplayState, label: str) -> tuple[str, str]:
    (found,) = [(f.value, f.tone) for f in figures(state) if f.label == label]
    return found


def test_the_engines_state_comes_with_its_reason_and_tone() -> None:
    state, session = make_state()
    assert engine_sign(state, NOW).word == "WAITING"
    session.greet()
    assert engine_sign(state, NOW).word == "CONNECTED"
    for word, reason, tone in (
        ("RESOLVING", "looking for the EMG stream", "calm"),
        ("READY", "", "good"),
        ("DEGRADED", "the EMG stream is lost", "warn"),
        ("FAILED", "the model cannot be read", "bad"),
    ):
        session.send_health(word, reason)
        sign = engine_sign(state, NOW)
        assert (sign.word, sign.tone) == (word, tone)
        assert reason in sign.detail
    lost = engine_sign(DisplayState(ADDRESS, 0.0), NOW)
    assert (lost.word, ADDRESS in lost.detail) == ("WAITING", True)


def test_a_silent_engine_is_said_in_red_whatever_it_said_last() -> None:
    state, session = make_state()
    session.greet()
    session.send_health("RUNNING")
    sign = engine_sign(state, NOW + 7.0)
    assert (sign.word, sign.tone) == ("CONNECTION LOST", "bad")
    assert "7 s" in sign.detail


def test_the_last_pulse_says_how_it_came_and_whether_it_counts() -> None:
    state, session = make_state()
    session.greet()
    assert pulse_sign(state).word == "none yet"
    session.send_pulse()
    assert pulse_sign(state).word == "0"
    assert pulse_sign(state).detail == "TTL, 61 % MSO, coil tracked"
    session.send_pulse(reasons=["too_late"])
    sign = pulse_sign(state)
    assert (sign.word, sign.detail, sign.tone) == ("1 INVALID", "it was reported too late", "bad")


def test_low_confidence_says_why_and_an_old_map_has_none() -> None:
    state, session = make_state()
    session.greet()
    session.send_health()
    assert confidence_sign(state, NOW).detail == "no map yet"
    session.send_pulse()
    assert confidence_sign(state, NOW).word == "OK"
    session.send_pulse(confidence_reasons=["no_active_muscle", "preactivated:FDI"])
    sign = confidence_sign(state, NOW)
    assert (sign.word, sign.tone) == ("LOW", "warn")
    assert sign.detail == "no active muscle; pre-activated: FDI"
    session.send_pulse(reasons=["gap"])
    assert confidence_sign(state, NOW).detail == "old map, of pulse 1"


def test_the_figures_at_the_foot() -> None:
    state, session = make_state()
    assert figure(state, "Sample rate") == ("–", "calm")
    session.greet()
    session.send_pulse()
    session.send_pulse(reasons=["gap"])
    session.send_health(n_gaps=1, disk_free_bytes=1_000_000_000)
    assert figure(state, "Engine time, last map")[0].startswith("2.6 ms (transport 0.3")
    assert figure(state, "Engine p50 / p99") == ("2.6 / 4.1 ms", "good")
    assert figure(state, "Sample rate") == ("2,000.04 Hz", "good")
    assert figure(state, "Gaps") == ("1", "warn")
    assert figure(state, "Pulses") == ("1 served, 1 invalid", "warn")
    assert figure(state, "Recording") == ("recording.xdf, 1.0 GB free", "warn")
    session.send_health(recording="off")
    assert figure(state, "Recording") == ("OFF", "calm")


def test_what_is_not_shown_is_counted_where_it_can_be_seen() -> None:
    state, session = make_state()
    session.greet()
    session.send_pulse()
    session.send_pulse(skip=2)
    state.receive_malformed("no header")
    assert figure(state, "Messages not shown") == ("lost 2, skipped 2, unreadable 1", "warn")
    session.send_health(drops={"subscriber_overflows": 3})
    text, tone = figure(state, "Messages not shown")
    assert (text, tone) == ("lost 2, skipped 2, unreadable 1; engine: a window fell behind 3 x", "warn")


def test_the_session_is_named_with_model_and_subject() -> None:
    state, session = make_state()
    assert session_line(state) == ""
    session.greet()
    assert session_line(state).split("    ") == [
        "session fake-1",
        "model demo kernel ridge (CPU)",
        "default subject",
        "left hemisphere",
    ]


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("tcp://127.0.0.1:5556", True),
        ("tcp://localhost:5556", True),
        ("tcp://[::1]:5556", True),
        ("ipc:///tmp/m2m", True),
        ("tcp://192.168.1.20:5556", False),
        ("tcp://127.example.org:5556", False),
    ],
)
def test_which_addresses_are_this_machine(address: str, here: bool) -> None:
    assert on_this_machine(address) is here


def test_the_age_of_a_picture_is_counted_from_the_pulse_and_from_the_end_of_its_window(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    state, session = make_state()
    session.greet()
    session.send_health(t=NOW)
    session.send_pulse()
    assert state.map is not None
    ages = PictureAges(ADDRESS)
    ages.painted(state, 0, state.map.header.t_pulse + 0.062)
    assert ages.latest is not None
    assert ages.latest.since_pulse_ms == pytest.approx(62.0)
    assert ages.latest.since_needed_ms == pytest.approx(12.0)
    assert age_sign(ages, old=False).word == "62 ms"
    assert age_sign(ages, old=False).detail == "50 ms window + 12 ms"
    assert age_sign(ages, old=True).detail == "old map, of pulse 0"
    assert ages.quantiles_ms() == pytest.approx({"p50": 12.0, "p99": 12.0, "max": 12.0})


@pytest.mark.parametrize(
    ("address", "replay", "clock_s", "why"),
    [
        (ADDRESS, True, NOW, "not in a replay"),
        (ADDRESS, False, NOW + 900.0, "the engine has another clock"),
        ("tcp://192.168.1.20:5556", False, NOW, "the engine has another clock"),
    ],
)
def test_there_is_no_age_where_clocks_cannot_be_compared(address: str, replay: bool, clock_s: float, why: str) -> None:
    state, session = make_state(replay=replay)
    session.greet()
    session.send_health(t=clock_s)
    session.send_pulse()
    ages = PictureAges(address)
    ages.painted(state, 0, NOW)
    assert ages.latest is None
    assert age_sign(ages, old=False).detail == why
    assert ages.quantiles_ms() is None

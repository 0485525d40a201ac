"""The schedule of the live feed, on a clock that the tests own and outlets that only take notes."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.simulated.dataset import offline_set, sent_set
from drivers.simulated.emg import FRAME_SAMPLES
from drivers.simulated.lsl_feed import HEAD_START_S, LINGER_SAMPLES, FeedControl, SubjectFeed
from drivers.simulated.session import SimulatedSession
from drivers.simulated.streams import Outlets
from rt_engine.field.stimulation_file import read_stimulation_set, write_stimulation_set
from tests.drivers.conftest import changed

RATE = 2000.0


@dataclass
class Desk:
    """Clock, outlets and notes of one run; `at` maps a time to what happens then."""

    now: float = 100.0
    late: float = 0.0
    emg: list[tuple[float, np.ndarray, list[float]]] = field(default_factory=list)
    markers: list[tuple[float, float]] = field(default_factory=list)
    poses: list[tuple[float, list[float], float]] = field(default_factory=list)
    outputs: list[tuple[float, list[float], float]] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    events: list[dict] = field(default_factory=list)
    at: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.now += seconds + self.late
        while self.at and self.at[0][0] <= self.now:
            self.at.pop(0)[1]()

    def outlets(self) -> Outlets:
        desk = self

        class Emg:
            def push_chunk(self, samples: np.ndarray, stamps: list[float]) -> None:
                desk.emg.append((desk.now, samples.copy(), stamps))
                desk.order.append("emg")

        class Markers:
            def push_sample(self, values: list[str], stamp: float) -> None:
                assert values == ["TMS"]
                desk.markers.append((desk.now, stamp))
                desk.order.append("marker")

        class Poses:
            def push_sample(self, values: list[float], stamp: float) -> None:
                desk.poses.append((desk.now, values, stamp))

        class Outputs:
            def push_sample(self, values: list[float], stamp: float) -> None:
                desk.outputs.append((desk.now, values, stamp))

        return Outlets(Emg(), Markers(), Poses(), Outputs())

    @property
    def samples(self) -> np.ndarray:
        return np.concatenate([samples for _, samples, _ in self.emg])

    @property
    def stamps(self) -> np.ndarray:
        return np.concatenate([stamps for _, _, stamps in self.emg])


def run(
    session: SimulatedSession,
    desk: Desk | None = None,
    control: FeedControl | None = None,
    faults: tuple[str, ...] = (),
    **feed: object,
) -> tuple[Desk, SubjectFeed]:
    session = replace(session, settings=msgspec.structs.replace(changed(session.settings, feed=feed), faults=faults))
    desk = desk or Desk()
    if control is None:
        control = FeedControl()
        control.start.set()
        control.release.set()
    feed_ = SubjectFeed(session, desk.events.append, outlets=desk.outlets(), clock=lambda: desk.now, sleep=desk.sleep)
    feed_.run(control)
    return desk, feed_


def session_samples(session: SimulatedSession) -> np.ndarray:
    frames = -(-session.n_samples // FRAME_SAMPLES)
    emg = session.emg()
    return np.concatenate([emg.frame(index) for index in range(frames)])[: session.n_samples]


@settings(max_examples=12)
@given(block=st.one_of(st.sampled_from([1, 2, 8, 27, 400]), st.integers(1, 400)))
def test_any_block_size_sends_the_same_bits(session: SimulatedSession, block: int) -> None:
    desk, feed = run(session, block_samples=block)
    assert desk.samples.tobytes() == session_samples(session).tobytes()
    assert {len(samples) for _, samples, _ in desk.emg[:-1]} <= {block}
    assert len(feed.sent_pulses) == session.n_pulses


def test_stamps_are_those_of_a_perfect_clock_however_late_the_pushes_are(session: SimulatedSession) -> None:
    desk, _ = run(session, Desk(late=0.0031))
    assert np.array_equal(desk.stamps, 100.0 + HEAD_START_S + np.arange(session.n_samples) / RATE)
    delay = np.array([now - stamps[-1] for now, _, stamps in desk.emg])
    # Late by one oversleeping, never more: the schedule is absolute, so nothing adds up.
    assert delay.min() >= 0.0
    assert delay.max() < 0.0032


def test_no_sample_is_sent_before_its_time(session: SimulatedSession) -> None:
    desk, _ = run(session, block_samples=27)
    assert all(now >= stamps[-1] for now, _, stamps in desk.emg)


def test_markers_carry_the_stamp_of_the_pulse_sample_and_come_before_its_block(session: SimulatedSession) -> None:
    desk, feed = run(session, block_samples=8)
    pulses = np.array([pulse.sample for pulse in feed.sent_pulses])
    assert [stamp for _, stamp in desk.markers] == desk.stamps[pulses].tolist()
    begin = np.cumsum([0] + [len(samples) for _, samples, _ in desk.emg])
    for (now, stamp), pulse in zip(desk.markers, pulses, strict=True):
        assert now == pytest.approx(stamp, abs=1e-9)
        block = int(np.searchsorted(begin, pulse, side="right")) - 1
        assert desk.emg[block][0] >= now


@pytest.mark.parametrize("delay_ms", [3.7, 250.0])
def test_late_markers_keep_their_stamp(session: SimulatedSession, delay_ms: float) -> None:
    desk, feed = run(session, marker_delay_ms=delay_ms)
    assert [stamp for _, stamp in desk.markers] == [pulse.t_pulse for pulse in feed.sent_pulses]
    np.testing.assert_allclose([now - stamp for now, stamp in desk.markers], delay_ms / 1000.0, atol=1e-6)


def test_trigger_channel_rises_at_the_pulses(session: SimulatedSession) -> None:
    desk, feed = run(session)
    rises = np.flatnonzero(np.diff(desk.samples[:, -1], prepend=0.0) > 0)
    assert rises.tolist() == [pulse.sample for pulse in feed.sent_pulses] == session.train.sample.tolist()


def test_truth_is_what_was_sent(session: SimulatedSession) -> None:
    desk, feed = run(session, block_samples=27)
    for pulse in feed.sent_pulses:
        window = desk.samples[pulse.sample + 20 : pulse.sample + 101, :-1].astype(np.float64)
        assert pulse.mep_sent_uv == tuple(window.max(axis=0) - window.min(axis=0))
        assert pulse.t_pulse == desk.stamps[pulse.sample]
        pushed = next(now for now, _, stamps in desk.emg if stamps[-1] >= desk.stamps[pulse.sample + 100])
        assert pulse.pushed_at == pushed
    assert [event["n"] for event in desk.events[1:]] == list(range(session.n_pulses))
    assert [event["pushed_at"] for event in desk.events[1:]] == [pulse.pushed_at for pulse in feed.sent_pulses]


def test_live_and_offline_amplitudes_are_the_same(session: SimulatedSession) -> None:
    _, feed = run(session)
    sent = np.array([pulse.mep_sent_uv for pulse in feed.sent_pulses])
    assert np.array_equal(sent, offline_set(session, with_emg=True).truth.mep_sent_uv)


@pytest.mark.parametrize(("unit", "uv"), [("mV", 1e3), ("V", 1e6)])
def test_truth_is_in_microvolts_whatever_the_stream_is_in(session: SimulatedSession, unit: str, uv: float) -> None:
    scaled = replace(session, settings=changed(session.settings, emg={"unit": unit}))
    desk, feed = run(scaled)
    first = feed.sent_pulses[0]
    window = desk.samples[first.sample + 20 : first.sample + 101, :-1].astype(np.float64)
    np.testing.assert_allclose(first.mep_sent_uv, np.ptp(window, axis=0) * uv, rtol=1e-12)
    np.testing.assert_allclose(first.mep_sent_uv, offline_set(session, with_emg=True).mep_uv[0], rtol=1e-3)


def test_pose_is_sent_twenty_times_a_second_and_is_the_pulses_own_when_it_happens(session: SimulatedSession) -> None:
    desk, feed = run(session)
    stamps = np.array([stamp for _, _, stamp in desk.poses])
    np.testing.assert_allclose(np.diff(stamps), 0.05, atol=1e-9)
    for pulse in feed.sent_pulses:
        last = int(np.searchsorted(stamps, pulse.t_pulse, side="right")) - 1
        values = desk.poses[last][1]
        assert values[16] == 1.0
        assert values[:16] == session.protocol.pose[pulse.pulse].ravel().tolist()


def test_output_is_sent_when_it_changes_and_every_second(session: SimulatedSession) -> None:
    desk, feed = run(session)
    stamps = np.array([stamp for _, _, stamp in desk.outputs])
    values = np.array([values for _, values, _ in desk.outputs])
    assert np.diff(stamps).max() <= 1.01
    for pulse in feed.sent_pulses:
        last = int(np.searchsorted(stamps, pulse.t_pulse, side="right")) - 1
        assert values[last, 0] == session.percent_mso[pulse.pulse]
    np.testing.assert_allclose(values[:, 1], values[:, 0] / 100.0 * session.coil.max_didt_a_per_us)


def test_session_waits_for_its_start_and_is_then_the_same(session: SimulatedSession) -> None:
    control = FeedControl()
    desk = Desk(at=[(101.0, control.start.set), (105.0, control.stop.set)])
    desk, feed = run(session, desk, control)
    origin = feed.sent_pulses[0].sample - int(session.train.sample[0])
    # One second of waiting, the frames made ahead, and the one that joins.
    assert 0.9 * RATE < origin < 1.0 * RATE + 3 * FRAME_SAMPLES
    assert desk.samples[:origin, -1].max() == 0.0
    assert desk.samples[:origin, :-1].std() > 1.0
    sent = desk.samples[origin : origin + session.n_samples]
    assert sent.tobytes() == session_samples(session).tobytes()
    assert np.array_equal(desk.stamps, desk.stamps[0] + np.arange(len(desk.stamps)) / RATE)
    # Held: baseline went on after the session until the stop.
    assert desk.now > 105.0
    assert len(desk.samples) > origin + session.n_samples
    assert len(feed.sent_pulses) == session.n_pulses


def test_session_ends_after_its_tail_once_it_is_released(session: SimulatedSession) -> None:
    control = FeedControl()
    control.start.set()
    desk = Desk(at=[(100.3, control.release.set)])
    desk, feed = run(session, desk, control)
    assert len(desk.samples) == session.n_samples
    assert len(feed.sent_pulses) == session.n_pulses


def test_released_before_its_start_it_ends(session: SimulatedSession) -> None:
    control = FeedControl()
    desk = Desk(at=[(100.5, control.release.set)])
    desk, feed = run(session, desk, control)
    assert feed.sent_pulses == []
    assert 0.4 * RATE < len(desk.samples) < 0.6 * RATE


@settings(max_examples=30)
@given(after=st.floats(0.0, 2.3))
def test_stopped_at_any_moment_a_pulse_is_sent_in_full_or_not_at_all(session: SimulatedSession, after: float) -> None:
    control = FeedControl()
    control.start.set()
    control.release.set()
    desk, feed = run(session, Desk(at=[(100.0 + after, control.stop.set)]), control)
    rises = np.flatnonzero(np.diff(desk.samples[:, -1], prepend=0.0) > 0).tolist() if desk.emg else []
    assert rises == [pulse.sample for pulse in feed.sent_pulses]
    assert [stamp for _, stamp in desk.markers] == [pulse.t_pulse for pulse in feed.sent_pulses]
    assert desk.now <= max(100.0 + after, 100.0 + HEAD_START_S) + (101 + LINGER_SAMPLES + 8) / RATE


def test_stop_in_a_burst_of_pulses_sends_all_that_have_begun(simulate: Callable[..., SimulatedSession]) -> None:
    burst = simulate(pulses=5, seed=3, protocol={"interval_s": 0.002, "interval_jitter_share": 0.0})
    control = FeedControl()
    control.start.set()
    control.release.set()
    desk, feed = run(burst, Desk(at=[(100.0 + HEAD_START_S + 0.201, control.stop.set)]), control)
    rises = np.flatnonzero(np.diff(desk.samples[:, -1], prepend=0.0) > 0).tolist()
    assert rises == [pulse.sample for pulse in feed.sent_pulses]
    assert len(feed.sent_pulses) == len(desk.markers) >= 1


def test_sent_pulses_become_a_data_set(session: SimulatedSession, tmp_path) -> None:
    control = FeedControl()
    control.start.set()
    control.release.set()
    desk, feed = run(session, Desk(at=[(101.0, control.stop.set)]), control)
    n = len(feed.sent_pulses)
    assert 0 < n < session.n_pulses
    write_stimulation_set(tmp_path / "sent.stim.h5", sent_set(session, feed.sent_pulses, "0" * 64))
    data = read_stimulation_set(tmp_path / "sent.stim.h5")
    assert data.truth is not None
    assert data.muscles == session.settings.muscles
    assert np.array_equal(data.field_v_per_m, session.field_v_per_m[:n])
    assert np.array_equal(data.truth.mep_noise_free_uv, session.mep_noise_free_uv[:n])
    assert data.truth.mep_sent_uv.tolist() == [list(pulse.mep_sent_uv) for pulse in feed.sent_pulses]
    assert data.truth.pulse_sample.tolist() == session.train.sample[:n].tolist()
    assert data.t_pulse.tolist() == [stamp for _, stamp in desk.markers]


def test_session_stopped_before_its_first_pulse_leaves_a_readable_file(session: SimulatedSession, tmp_path) -> None:
    write_stimulation_set(tmp_path / "none.stim.h5", sent_set(session, []))
    assert read_stimulation_set(tmp_path / "none.stim.h5").n_pulses == 0

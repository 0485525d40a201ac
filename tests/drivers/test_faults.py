"""The simulated subject's faults: what is sent with them, how they are written, and that they hang on no block size."""

import msgspec
import numpy as np
import pytest

from drivers.simulated.dataset import offline_set
from drivers.simulated.faults import FAULTS, Faults, parse_fault, spelled_out, summary
from drivers.simulated.session import SimulatedSession
from drivers.simulated.settings import ProtocolSettings, SimulatedSubjectSettings
from drivers.simulated.streams import emg_layout
from rt_engine.errors import SettingsError
from tests.drivers.test_lsl_feed import RATE, Desk, run, session_samples

OPEN_STREAMS = ("twin", "restart")
"""These open LSL streams; tests of live sessions have them."""

MOVE_PULSES = ("burst", "paired", "early-pulse")
ONLY_TOLD = ("renamed", "wrong-unit")
"""These change what metadata say and no sample."""


@pytest.fixture(scope="module")
def samples(session: SimulatedSession) -> np.ndarray:
    return session_samples(session)


def sent(desk: Desk) -> tuple[bytes, ...]:
    """Return what left the subject, whatever the blocks."""
    times = [np.array(part) for part in ([s for _, s in desk.markers], [s for _, _, s in desk.poses])]
    poses = np.array([values for _, values, _ in desk.poses])
    return tuple(part.tobytes() for part in (desk.samples, desk.stamps, *times, poses))


@pytest.fixture(scope="module")
def plain(session: SimulatedSession) -> Desk:
    return run(session)[0]


@pytest.mark.parametrize("name", [name for name in FAULTS if name not in OPEN_STREAMS])
def test_a_fault_changes_what_is_sent_and_is_the_same_for_all_blocks(simulate, session, plain, name: str) -> None:
    faulty = simulate(seed=3, faults=(name,)) if name in MOVE_PULSES else session
    one, other = (run(faulty, faults=(name,), block_samples=block)[0] for block in (27, 400))
    assert sent(one) == sent(other)
    handed_over = [[round(now, 3) for now, _ in desk.markers] for desk in (one, plain)]
    assert (sent(one) == sent(plain) and handed_over[0] == handed_over[1]) is (name in ONLY_TOLD)


@pytest.mark.parametrize(
    "text", ["wrong-unit:says=", "lost:pulse=3", "nan:channel=FDI,at_ms=-3.5", "twin:source_id=same"]
)
def test_what_is_spelled_out_is_the_same_fault(text: str) -> None:
    assert parse_fault(spelled_out(parse_fault(text))) == parse_fault(text)


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_says_what_it_does_and_is_read_as_it_is_spelled_out(name: str) -> None:
    assert 20 < len(summary(FAULTS[name])) < 120
    fault = FAULTS[name]()
    assert parse_fault(spelled_out(fault)) == fault == parse_fault(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dirft", "did you mean 'drift'"),
        ("", "there is no fault ''"),
        ("lost:sample=3", "did you mean 'samples'"),
        ("lost:samples=0", "samples"),
        ("lost:samples", "not KEY=VALUE"),
        ("drift:ppm=fast", "ppm"),
        ("marker-missing:pulse=6", "pulses 0 to 5"),
        ("nan:channel=Toe", "no channel 'Toe'; the stream has FDI"),
        ("missing:channel=Toe", "no channel 'Toe'"),
        ("burst:pulse=4,count=3", "need 7 pulses; the session has 6"),
    ],
)
def test_a_fault_that_cannot_be_is_refused_with_what_could(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Faults(SimulatedSubjectSettings(faults=(text,), protocol=ProtocolSettings(pulses=6)))


def test_lost_samples_are_not_sent_and_the_others_keep_their_stamps(session, samples) -> None:
    desk, feed = run(session, faults=("lost:pulse=2,at_ms=20,samples=16",))
    first = feed.sent_pulses[2].sample + 40
    assert np.array_equal(desk.samples, np.delete(samples, slice(first, first + 16), axis=0))
    index = np.delete(np.arange(session.n_samples), slice(first, first + 16))
    assert np.array_equal(desk.stamps, desk.stamps[0] + index / RATE)
    told = [event["faults"] for event in desk.events if event["event"] == "pulse"]
    assert told == [[], [], ["lost"], [], [], []]
    assert desk.events[0]["faults"] == ["lost:pulse=2,at_ms=20.0,samples=16"]


def test_duplicated_samples_follow_their_first_sending(session, samples) -> None:
    desk, feed = run(session, faults=("duplicated:pulse=1,at_ms=20,samples=20",))
    first = feed.sent_pulses[1].sample + 40
    again = np.concatenate([samples[: first + 20], samples[first : first + 20], samples[first + 20 :]])
    assert np.array_equal(desk.samples, again)


def test_the_truth_is_that_of_the_samples_with_their_faults(session) -> None:
    faults = ("nan:pulse=1,channel=FDI", "saturated:pulse=2,uv=40", "flat:pulse=3,channel=ADM,uv=5000")
    desk, feed = run(session, faults=faults)
    fdi, adm = (session.settings.muscles.index(name) for name in ("FDI", "ADM"))
    for pulse in feed.sent_pulses:
        window = desk.samples[pulse.sample + 20 : pulse.sample + 101, :-1].astype(np.float64)
        np.testing.assert_array_equal(pulse.mep_sent_uv, window.max(axis=0) - window.min(axis=0))
    whole = np.array([pulse.mep_sent_uv for pulse in feed.sent_pulses])
    assert np.argwhere(np.isnan(whole)).tolist() == [[1, fdi]]
    assert whole[2].max() <= 80.0
    assert whole[3, adm] == 0.0


def test_drift_slows_everything_that_the_amplifier_and_the_pulses_do(session) -> None:
    desk, feed = run(session, faults=("drift:ppm=5000",))
    np.testing.assert_allclose(np.diff(desk.stamps), 1.005 / RATE, rtol=1e-6)
    assert [stamp for _, stamp in desk.markers] == [desk.stamps[pulse.sample] for pulse in feed.sent_pulses]
    assert all(now >= stamps[-1] for now, _, stamps in desk.emg)


@pytest.mark.parametrize(("streams", "markers"), [("all", 0.25), ("emg", 0.0)])
def test_a_step_moves_the_stamps_of_its_streams(session, streams: str, markers: float) -> None:
    desk, feed = run(session, faults=(f"step:pulse=2,at_ms=-50,ms=250,streams={streams}",))
    steps = np.round(np.diff(desk.stamps) * RATE)
    jump = feed.sent_pulses[2].sample - 100
    assert np.flatnonzero(steps != 1).tolist() == [jump - 1]
    assert steps[jump - 1] == 501
    expected = [pulse.t_pulse + markers * (pulse.pulse >= 2) for pulse in feed.sent_pulses]
    np.testing.assert_allclose([stamp for _, stamp in desk.markers], expected, atol=1e-9)


def test_jitter_is_bounded_and_has_its_sd(session) -> None:
    desk, _ = run(session, faults=("jitter:ms=2,samples=1",))
    error_ms = (desk.stamps - desk.stamps[0] - np.arange(session.n_samples) / RATE) * 1e3
    assert 1.8 < error_ms.std() < 2.2
    assert np.ptp(error_ms) <= 16.0


def test_markers_come_late_early_twice_never_or_without_a_time(simulate) -> None:
    faults = (
        *("marker-late:pulse=0,ms=400", "marker-early:pulse=1,ms=60", "marker-double:pulse=2,ms=5"),
        *("marker-missing:pulse=3", "marker-nan:pulse=4", "marker-shifted:pulse=5,ms=-8"),
    )
    desk, feed = run(simulate(seed=3, faults=faults, protocol={"interval_jitter_share": 0.0}), faults=faults)
    times = [pulse.t_pulse for pulse in feed.sent_pulses]
    told = [(now - times[0], stamp - times[0]) for now, stamp in desk.markers]
    gap = times[1] - times[0]
    expected = [
        *((gap - 0.06, gap), (0.4, 0.0), (2 * gap, 2 * gap), (2 * gap + 0.005, 2 * gap)),
        *((4 * gap, np.nan), (5 * gap, 5 * gap - 0.008)),
    ]
    np.testing.assert_allclose(told, expected, atol=1e-4)
    assert len(feed.sent_pulses) == 6


def test_bursts_and_pairs_move_the_pulses(simulate) -> None:
    plain = simulate(8).train.sample
    burst = simulate(8, faults=("burst:pulse=1,count=4,interval_ms=20",)).train.sample
    assert np.diff(burst[1:5]).tolist() == [40, 40, 40]
    assert np.array_equal(burst[:2], plain[:2])
    assert np.array_equal(np.diff(burst[4:]), np.diff(plain[4:]))
    assert np.diff(simulate(8, faults=("paired:pulse=3",)).train.sample)[3] == 4
    early = simulate(8, faults=("early-pulse:after_ms=40",)).train.sample
    assert early[0] == 80
    assert np.array_equal(np.diff(early), np.diff(plain))


@pytest.mark.parametrize(("how", "seen"), [("untracked", 0.0), ("nan", 1.0), ("silent", None)])
def test_a_lost_coil_is_told_or_nothing_is(session, how: str, seen: float | None) -> None:
    desk, feed = run(session, faults=(f"pose-lost:pulse=2,at_ms=-100,for_ms=200,how={how}",))
    t = feed.sent_pulses[2].t_pulse
    during = [values for _, values, stamp in desk.poses if t - 0.1 <= stamp < t + 0.1]
    assert len(desk.poses) == len(run(session)[0].poses) - (4 if seen is None else 0)
    assert [values[16] for values in during] == [] if seen is None else [seen] * 4
    assert all(np.isnan(values[:16]).all() for values in during) is (how == "nan") or seen is None


def test_several_faults_act_one_after_the_other(session, samples) -> None:
    desk, feed = run(session, faults=("lost:pulse=2,samples=16", "duplicated:pulse=3,samples=16", "jitter:ms=1"))
    assert len(desk.samples) == len(samples)
    assert len(feed.sent_pulses) == session.n_pulses


def test_faults_of_the_channels_are_in_the_layout(session) -> None:
    plain = emg_layout(session.settings)

    def layout(text: str):
        return parse_fault(text).layout(plain)

    assert layout("renamed:channel=FDI,to=Ch 3").labels[0] == "Ch 3"
    assert "FDI" not in layout("missing").labels
    assert sorted(layout("reordered").labels) == sorted(plain.labels)
    assert layout("reordered").columns != plain.columns
    assert layout("extra:place=3").labels[3] == "AUX"
    assert set(layout("wrong-unit:says=mV").units) == {"mV", "au"}


def test_an_extra_channel_is_a_saw_tooth_and_the_others_stay(session, samples) -> None:
    desk, feed = run(session, faults=("extra:place=0", "reordered"))
    layout = Faults(msgspec.structs.replace(session.settings, faults=("extra:place=0", "reordered"))).layout(
        emg_layout(session.settings)
    )
    for place, column in enumerate(layout.columns):
        if column >= 0:
            assert np.array_equal(desk.samples[:, place], samples[:, column])
        else:
            assert np.ptp(desk.samples[:, place]) == 990.0
    assert len(feed.sent_pulses) == session.n_pulses


def test_a_data_set_cannot_have_faults(simulate) -> None:
    with pytest.raises(SettingsError, match="faults belong to a live stream; leave drift:ppm=100.0 out"):
        offline_set(simulate(seed=3, faults=("drift",)))


def test_the_command_lists_them_and_names_the_nearest(m2m) -> None:
    listed = m2m("simulate", "--list-faults", "--json")
    assert listed.code == 0
    assert list(listed.json["faults"]) == list(FAULTS)
    assert all(name in listed.err for name in FAULTS)
    refused = m2m("simulate", "--fault", "dubled")
    assert refused.code == 1
    assert "did you mean 'duplicated'" in refused.err

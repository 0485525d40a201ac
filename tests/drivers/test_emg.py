"""The simulated EMG: amplitudes, latencies, noise without seams, artefact, trigger, units."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import firwin, lfilter, welch

from drivers.simulated.electrodes import make_electrodes
from drivers.simulated.emg import FRAME_SAMPLES, EmgSource, PulseTrain
from drivers.simulated.mep_waveform import TIME_MS, WAVEFORM_SAMPLES, WINDOW, mep_shapes
from drivers.simulated.session import SimulatedSession
from drivers.simulated.settings import EmgSettings, SimulatedSubjectSettings
from rt_engine.muscles import ARTICLE_MUSCLES
from tests.drivers.conftest import QUIET, changed

M = len(ARTICLE_MUSCLES)


def train(*samples: int, mep_uv: np.ndarray | None = None, preactivated: bool = False) -> PulseTrain:
    n = len(samples)
    silent = np.zeros((n, M, WAVEFORM_SAMPLES))
    return PulseTrain(
        np.array(samples, np.int64),
        silent if mep_uv is None else mep_uv,
        np.full(n, 100.0),
        np.full((n, M), preactivated),
    )


def source(pulses: PulseTrain, **options: object) -> EmgSource:
    settings = SimulatedSubjectSettings(**options)
    return EmgSource(settings, make_electrodes(settings.emg, 0.0, 0), pulses)


def whole(emg: EmgSource, frames: int) -> np.ndarray:
    return np.concatenate([emg.frame(index) for index in range(frames)])


@given(seed=st.integers(0, 2**40), pulse=st.integers(0, 10**6))
def test_every_mep_has_peak_to_peak_one_inside_its_window_and_nothing_outside(seed: int, pulse: int) -> None:
    shapes = mep_shapes(np.linspace(16.0, 24.0, M), seed, pulse)
    np.testing.assert_allclose(np.ptp(shapes[:, WINDOW], axis=1), 1.0)
    assert np.abs(shapes[:, : WINDOW.start]).max() < 0.01
    assert np.abs(shapes[:, WINDOW.stop :]).max() < 0.01


def test_meps_begin_at_the_latency_of_their_muscle() -> None:
    onset_ms = make_electrodes(EmgSettings(), 0.0, 0).onset_ms
    hand, forearm = ARTICLE_MUSCLES.index("FDI"), ARTICLE_MUSCLES.index("ECR")
    assert 22.0 <= onset_ms[hand] <= 24.0
    assert 16.0 <= onset_ms[forearm] <= 18.0
    shapes = np.stack([mep_shapes(onset_ms, 0, pulse) for pulse in range(200)])
    begin = TIME_MS[(np.abs(shapes) > 0.01).argmax(axis=2)]
    # The first motor unit can be a small one, so the median over trials may lie a little later.
    assert np.abs(np.median(begin, axis=0) - onset_ms).max() < 1.5


def test_noise_free_samples_have_the_amplitude_that_is_wanted(quiet_session: SimulatedSession) -> None:
    emg = quiet_session.emg()
    samples = whole(emg, -(-quiet_session.n_samples // FRAME_SAMPLES))
    for pulse, begin in enumerate(quiet_session.train.sample):
        window = samples[begin + WINDOW.start : begin + WINDOW.stop, :-1].astype(np.float64)
        np.testing.assert_allclose(np.ptp(window, axis=0), quiet_session.mep_noise_free_uv[pulse], rtol=1e-5, atol=1e-4)


def test_a_pulse_on_the_edge_of_a_frame_is_whole() -> None:
    mep = np.arange(1.0, 1.0 + M * WAVEFORM_SAMPLES).reshape(1, M, WAVEFORM_SAMPLES) / 10.0
    for begin in (0, FRAME_SAMPLES - 1, FRAME_SAMPLES, 2 * FRAME_SAMPLES - 60):
        samples = whole(source(train(begin, mep_uv=mep), emg=QUIET), 3)
        expected = np.zeros((3 * FRAME_SAMPLES, M))
        expected[begin : begin + WAVEFORM_SAMPLES] = mep[0].T
        np.testing.assert_allclose(samples[:, :-1], expected, rtol=1e-6)
        assert np.flatnonzero(samples[:, -1]).tolist() == [begin, begin + 1]


def test_meps_of_two_pulses_in_a_row_add_up() -> None:
    mep = np.random.default_rng(0).normal(0.0, 100.0, (2, M, WAVEFORM_SAMPLES))
    samples = whole(source(train(396, 400, mep_uv=mep), emg=QUIET), 2)
    expected = np.zeros((800, M))
    expected[396 : 396 + WAVEFORM_SAMPLES] += mep[0].T
    expected[400 : 400 + WAVEFORM_SAMPLES] += mep[1].T
    np.testing.assert_allclose(samples[:, :-1], expected, rtol=1e-5, atol=1e-4)
    assert np.flatnonzero(samples[:, -1]).tolist() == [396, 397, 400, 401]


def test_frames_can_be_made_in_any_order(session: SimulatedSession) -> None:
    straight = [session.emg().frame(index) for index in range(5)]
    jumping = session.emg()
    for index in (3, 0, 4, 1, 2):
        assert np.array_equal(jumping.frame(index), straight[index])


def test_noise_is_one_filtered_signal_without_seams() -> None:
    emg = EmgSettings(noise_rms_uv=(1.0, 1.0), hum_uv=0.0)
    made = source(train(10**6), emg=emg)
    samples = whole(made, 6)[:, :-1].T
    white = np.concatenate([made._white(index) for index in range(-1, 6)], axis=1)
    taps = firwin(FRAME_SAMPLES + 1, emg.band_hz, pass_zero=False, fs=2000.0)
    expected = lfilter(taps / np.linalg.norm(taps), 1.0, white, axis=1)[:, FRAME_SAMPLES:]
    np.testing.assert_allclose(samples, expected, atol=1e-6)


def test_noise_has_its_rms_and_its_band() -> None:
    settings = SimulatedSubjectSettings(emg=EmgSettings(hum_uv=0.0))
    electrodes = make_electrodes(settings.emg, 0.0, 0)
    samples = whole(source(train(10**6), emg=settings.emg), 200)[:, :-1]
    np.testing.assert_allclose(samples.std(axis=0), electrodes.noise_rms_uv, rtol=0.03)
    assert (electrodes.noise_rms_uv >= 2.0).all()
    assert (electrodes.noise_rms_uv <= 6.0).all()
    frequency, power = welch(samples[:, 0], 2000.0, nperseg=2000)
    inside = power[(frequency > 30) & (frequency < 440)].mean()
    assert power[frequency < 10].mean() < 0.01 * inside
    assert power[frequency > 480].mean() < 0.01 * inside


@pytest.mark.parametrize("hum_hz", [50, 60])
def test_hum_is_a_sine_across_all_frames(hum_hz: int) -> None:
    emg = msgspec.structs.replace(QUIET, hum_uv=4.0, hum_hz=hum_hz)
    samples = whole(source(train(10**6), emg=emg), 10)[:, 0]
    spectrum = np.abs(np.fft.rfft(samples)) / len(samples) * 2
    frequency = np.fft.rfftfreq(len(samples), 1 / 2000.0)
    assert frequency[spectrum.argmax()] == hum_hz
    assert spectrum.max() == pytest.approx(np.abs(samples).max(), rel=0.01)
    assert spectrum[frequency != hum_hz].max() < 1e-4 * spectrum.max()


def test_artefact_is_large_at_the_pulse_and_over_before_the_window() -> None:
    emg = msgspec.structs.replace(QUIET, artefact_uv=3000.0, artefact_leak_uv=0.5)
    samples = np.abs(whole(source(train(100), emg=emg), 1)[:, :-1])
    assert (samples[:100] == 0.0).all()
    assert (samples[100:106].max(axis=0) > 300.0).all()
    assert samples[100 + WINDOW.start :].max() < 5.0


def test_artefact_can_leak_into_the_window() -> None:
    emg = msgspec.structs.replace(QUIET, artefact_leak_uv=100.0)
    settings = SimulatedSubjectSettings(emg=emg)
    samples = whole(source(train(100), emg=emg), 1)[:, :-1]
    gain = make_electrodes(settings.emg, 0.0, 0).artefact_gain
    np.testing.assert_allclose(samples[100 + WINDOW.start], 100.0 * gain, rtol=1e-5)
    np.testing.assert_allclose(samples[100 + WINDOW.start + 16], 100.0 * gain / np.e, rtol=1e-5)


@pytest.mark.parametrize(("unit", "uv"), [("microvolts", 1.0), ("uV", 1.0), ("mV", 1e3), ("V", 1e6)])
def test_unit_scales_the_samples_but_not_the_trigger(unit: str, uv: float) -> None:
    settings = EmgSettings(unit=unit)
    scaled = source(train(30), emg=settings).frame(0)
    plain = source(train(30)).frame(0)
    np.testing.assert_allclose(scaled[:, :-1].astype(np.float64) * uv, plain[:, :-1], rtol=1e-6)
    assert np.array_equal(scaled[:, -1], plain[:, -1])


def test_order_of_the_muscles_permutes_the_channels(simulate: Callable[..., SimulatedSession]) -> None:
    full, part = simulate(seed=3), simulate(seed=3, muscles=("ECR", "FDI"))
    ecr, fdi = ARTICLE_MUSCLES.index("ECR"), ARTICLE_MUSCLES.index("FDI")
    assert np.array_equal(part.mep_noise_free_uv, full.mep_noise_free_uv[:, [ecr, fdi]])
    assert np.array_equal(part.emg().frame(2), full.emg().frame(2)[:, [ecr, fdi, -1]])


def test_amplifier_clips_and_a_loose_electrode_is_flat() -> None:
    mep = np.full((1, M, WAVEFORM_SAMPLES), 9e4)
    emg = EmgSettings(range_uv=5000.0, flat_muscles=("ADM",))
    samples = source(train(50, mep_uv=mep), emg=emg).frame(0)
    adm = ARTICLE_MUSCLES.index("ADM")
    assert samples[60, 0] == 5000.0
    assert (samples[:, adm] == 0.0).all()


def test_muscle_that_is_not_at_rest_shows_before_the_pulse() -> None:
    rest = whole(source(train(600)), 3)[:, :-1]
    active = whole(source(train(600, preactivated=True)), 3)[:, :-1]
    baseline = slice(400, 590)
    assert (rest[baseline].std(axis=0) < 10.0).all()
    assert (active[baseline].std(axis=0) > 50.0).all()
    assert np.array_equal(rest[:190], active[:190])


def test_waiting_changes_nothing_of_the_session_and_leaves_no_seam() -> None:
    emg = EmgSettings(noise_rms_uv=(1.0, 1.0), hum_uv=0.0)
    made = source(train(10**6), emg=emg)
    waited = [made.waiting_frame(0), made.waiting_frame(1), made.transition_frame(2), made.frame(0)]
    assert np.array_equal(waited[-1], source(train(10**6), emg=emg).frame(0))
    white = [np.zeros((M, FRAME_SAMPLES)), made._waiting_white(0), made._waiting_white(1), made._white(-1)]
    taps = firwin(FRAME_SAMPLES + 1, emg.band_hz, pass_zero=False, fs=2000.0)
    expected = lfilter(taps / np.linalg.norm(taps), 1.0, np.concatenate([*white, made._white(0)], axis=1), axis=1)
    np.testing.assert_allclose(np.concatenate(waited)[:, :-1].T, expected[:, FRAME_SAMPLES:], atol=1e-6)


def test_same_seed_same_bits_and_another_seed_others(simulate: Callable[..., SimulatedSession]) -> None:
    first, again, other = (simulate(seed=seed).emg().frame(1) for seed in (3, 3, 4))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_crosstalk_brings_the_neighbour_at_zero_lag(simulate: Callable[..., SimulatedSession]) -> None:
    from drivers.simulated.settings import CortexSettings

    clean, mixed = simulate(seed=3), simulate(seed=3, cortex=CortexSettings(crosstalk=0.1))
    ecr, brd, edc, fcr = (ARTICLE_MUSCLES.index(name) for name in ("ECR", "BRD", "EDC", "FCR"))
    own = clean.train.mep_uv
    np.testing.assert_allclose(mixed.train.mep_uv[:, brd], own[:, brd] + 0.1 * (own[:, ecr] + own[:, fcr]))
    np.testing.assert_allclose(mixed.train.mep_uv[:, ecr], own[:, ecr] + 0.1 * (own[:, edc] + own[:, brd]))
    np.testing.assert_allclose(mixed.mep_noise_free_uv, np.ptp(mixed.train.mep_uv[:, :, WINDOW], axis=2))


def test_settings_of_the_feed_are_no_part_of_the_session(session: SimulatedSession) -> None:
    other = changed(session.settings, feed={"block_samples": 27, "source_id": "other"})
    emg = EmgSource(other, session.electrodes, session.train)
    assert np.array_equal(emg.frame(1), session.emg().frame(1))

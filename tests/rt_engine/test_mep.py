"""Amplitude, latency and status of MEPs in sweeps whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rt_engine.mep import MepCriteria, MepStatus, MepVector, measure_meps, status_text

RATE_HZ = 2000.0
PULSE = 200
"""Index of the pulse in a sweep from -100 to 50 ms at 2 kHz."""
N = 301
ARTICLE = MepCriteria(window_ms=((10.0, 50.0),))


def _sweep(*, noise_uv: float = 2.0, seed: int = 0, offset_uv: float = 0.0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(offset_uv, noise_uv, (1, N))


def _with_mep(amplitude_uv: float = 500.0, *, at_ms: float = 20.0, noise_uv: float = 2.0) -> NDArray[np.float64]:
    """Add a sine of 12 ms that begins at `at_ms`."""
    sweep = _sweep(noise_uv=noise_uv)
    begin = PULSE + round(at_ms * RATE_HZ / 1000.0)
    shape = 0.5 * amplitude_uv * np.sin(np.linspace(0.0, 2.0 * np.pi, 25))
    sweep[0, begin : begin + 25] += shape[: N - begin]
    return sweep


def _measure(sweep: NDArray[np.float64], criteria: MepCriteria = ARTICLE, pulse_index: float = PULSE) -> MepVector:
    return measure_meps(sweep, 0, pulse_index, RATE_HZ, criteria)


def _status(meps: MepVector) -> str:
    return status_text(int(meps.status[0]))


def test_a_clean_mep_is_ok_and_its_amplitude_is_max_minus_min() -> None:
    sweep = _with_mep()
    meps = _measure(sweep)
    window = sweep[0, PULSE + 20 : PULSE + 101]
    assert meps.amplitude_uv[0] == np.float32(window.max() - window.min())
    assert _status(meps) == "OK"
    assert meps.amplitude_uv.dtype == np.float32
    assert meps.status.dtype == np.uint16


def test_both_ends_of_the_window_count_and_nothing_beyond() -> None:
    for inside in (20, 100):
        sweep = np.zeros((1, N))
        sweep[0, PULSE + inside] = 300.0
        assert _measure(sweep).amplitude_uv[0] == 300.0
    sweep = np.zeros((1, N))
    sweep[0, PULSE + 19] = 300.0
    assert _measure(sweep).amplitude_uv[0] == 0.0


@given(
    seed=st.integers(0, 999),
    spikes=st.lists(st.tuples(st.integers(0, N - 1), st.floats(-5000.0, 5000.0)), max_size=10),
    offset_uv=st.floats(-1e4, 1e4),
    factor=st.floats(0.01, 100.0),
)
def test_amplitude_is_blind_to_offset_and_follows_scale(
    seed: int, spikes: list[tuple[int, float]], offset_uv: float, factor: float
) -> None:
    sweep = _sweep(noise_uv=20.0, seed=seed)
    for index, value in spikes:
        sweep[0, index] = value
    window = sweep[0, PULSE + 20 : PULSE + 101]
    amplitude = float(_measure(sweep).amplitude_uv[0])
    assert amplitude == pytest.approx(window.max() - window.min(), rel=1e-6)
    assert float(_measure(sweep + offset_uv).amplitude_uv[0]) == pytest.approx(amplitude, rel=1e-5, abs=1e-6)
    assert float(_measure(sweep * factor).amplitude_uv[0]) == pytest.approx(amplitude * factor, rel=1e-5, abs=1e-6)
    assert float(_measure(-sweep).amplitude_uv[0]) == amplitude


@given(seed=st.integers(0, 999), wobble=st.floats(-0.2, 0.2))
def test_where_in_its_sample_the_pulse_fell_changes_no_amplitude(seed: int, wobble: float) -> None:
    sweep = _sweep(noise_uv=100.0, seed=seed)
    assert _measure(sweep, pulse_index=PULSE + wobble).amplitude_uv[0] == _measure(sweep).amplitude_uv[0]


def test_peaks_and_onset_are_times_after_the_pulse() -> None:
    meps = _measure(_with_mep(500.0, at_ms=20.0, noise_uv=0.5))
    assert meps.peak_ms[0, 0] == pytest.approx(23.0, abs=0.51)  # maximum of the sine at a quarter of 12 ms
    assert meps.peak_ms[0, 1] == pytest.approx(29.0, abs=0.51)
    assert meps.onset_ms[0] == pytest.approx(20.5, abs=0.51)
    shifted = _measure(_with_mep(500.0, at_ms=20.0, noise_uv=0.5), pulse_index=PULSE + 0.2)
    assert shifted.peak_ms[0, 0] == pytest.approx(meps.peak_ms[0, 0] - 0.1, abs=1e-4)


def test_onset_needs_more_than_one_sample_above_the_threshold() -> None:
    sweep = _with_mep(500.0, at_ms=20.0, noise_uv=0.5)
    sweep[0, PULSE + 24] += 400.0  # one lonely spike at 12 ms
    assert _measure(sweep).onset_ms[0] == pytest.approx(20.5, abs=0.51)


def test_no_onset_is_invented_where_there_is_no_mep() -> None:
    assert np.isnan(_measure(_sweep()).onset_ms[0])
    small = _measure(_with_mep(30.0, noise_uv=0.5))
    assert _status(small) == "NO_MEP"
    assert np.isnan(small.onset_ms[0]), "far above its noise, but below the floor"


def test_below_the_floor_is_a_status_and_the_amplitude_stays() -> None:
    meps = _measure(_sweep(noise_uv=2.0))
    assert _status(meps) == "NO_MEP"
    assert 5.0 < meps.amplitude_uv[0] < 30.0


@pytest.mark.parametrize(("amplitude_uv", "status"), [(49.999, "NO_MEP"), (50.0, "OK"), (50.001, "OK")])
def test_the_floor_itself_is_a_mep(amplitude_uv: float, status: str) -> None:
    sweep = _sweep(noise_uv=0.1)
    sweep[0, PULSE + 60 : PULSE + 62] = (amplitude_uv - 20.0, -20.0)
    assert _status(_measure(sweep)) == status


def test_a_tense_muscle_is_preactivated_whatever_its_offset() -> None:
    sweep = _sweep(noise_uv=60.0, offset_uv=3000.0)
    sweep[0, PULSE:] = _with_mep()[0, PULSE:] + 3000.0
    meps = _measure(sweep)
    assert _status(meps) == "PREACTIVATED"
    assert meps.baseline_rms_uv[0] == pytest.approx(60.0, rel=0.15)


def test_a_resting_muscle_with_an_offset_is_not_preactivated() -> None:
    assert _status(_measure(_with_mep() + 3000.0)) == "OK"


def test_baseline_ends_before_the_pulse_so_the_artefact_is_no_preactivation() -> None:
    sweep = _with_mep()
    sweep[0, PULSE - 9 : PULSE + 10] += 5000.0  # from -4.5 ms on
    assert _status(_measure(sweep)) == "OK"
    assert _measure(sweep).baseline_rms_uv[0] == pytest.approx(2.0, rel=0.2)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_clipped_mep_is_saturated(sign: float) -> None:
    sweep = sign * np.clip(_with_mep(2000.0), -600.0, 600.0)
    assert _status(_measure(sweep)) == "SATURATED"


def test_a_peak_of_two_equal_samples_is_not_saturated() -> None:
    sweep = np.round(_with_mep(2000.0) / 5.0) * 5.0  # an amplifier with 5 uV per bit
    assert _status(_measure(sweep)) == "OK"


@pytest.mark.parametrize(
    ("rate_hz", "stuck", "expected"),
    [
        (2000.0, 4, "OK"),
        (2000.0, 5, "SATURATED"),
        (2000.7, 5, "SATURATED"),
        (10_000.0, 20, "OK"),
        (10_000.0, 21, "SATURATED"),
        (1000.0, 2, "OK"),
        (1000.0, 3, "SATURATED"),
        (500.0, 2, "OK"),
        (500.0, 3, "SATURATED"),
    ],
)
def test_how_long_a_signal_is_stuck_is_a_duration_whatever_the_rate(rate_hz: float, stuck: int, expected: str) -> None:
    """At 10 kHz five equal samples are half a millisecond: the top of a slow wave in a coarse converter."""
    pulse = round(0.1 * rate_hz)
    n = round(0.16 * rate_hz)
    sweep = np.random.default_rng(3).normal(0.0, 2.0, (1, n))
    begin = pulse + round(0.025 * rate_hz)
    sweep[0, begin : begin + stuck] = 900.0
    sweep[0, begin + stuck : begin + stuck + 3] = [400.0, -700.0, -300.0]
    meps = measure_meps(sweep, 0, float(pulse), rate_hz, ARTICLE)
    assert _status(meps) == expected


def test_a_known_range_makes_one_sample_enough() -> None:
    criteria = replace(ARTICLE, saturation_uv=900.0)
    assert _status(_measure(_with_mep(2000.0), criteria)) == "SATURATED"
    assert _status(_measure(_with_mep(1000.0), criteria)) == "OK"


def test_a_dead_channel_is_flat_and_has_no_mep() -> None:
    meps = _measure(np.full((1, N), 3.25))
    assert _status(meps) == "NO_MEP|FLAT"
    assert meps.amplitude_uv[0] == 0.0


def test_an_amplifier_stuck_at_its_rail_is_flat() -> None:
    sweep = _sweep()
    sweep[0, PULSE:] = 5000.0
    assert "FLAT" in _status(_measure(sweep))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [20, 60, 100])
def test_one_bad_sample_in_the_window_leaves_no_amplitude(value: float, at: int) -> None:
    sweep = _with_mep()
    sweep[0, PULSE + at] = value
    meps = _measure(sweep)
    assert _status(meps) == "SAMPLES_MISSING"
    for figure in (meps.amplitude_uv, meps.onset_ms, meps.peak_ms, meps.baseline_rms_uv, meps.control_uv):
        assert np.isnan(figure).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_bad_sample_between_baseline_and_window_does_no_harm(value: float) -> None:
    sweep = _with_mep()
    sweep[0, PULSE] = value
    assert _status(_measure(sweep)) == "OK"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_bad_sample_in_the_baseline_costs_the_baseline_only(value: float) -> None:
    sweep = _with_mep()
    amplitude = _measure(sweep).amplitude_uv[0]
    sweep[0, 50:150] = value
    meps = _measure(sweep)
    assert _status(meps) == "BASELINE_SHORT"
    assert meps.amplitude_uv[0] == amplitude
    assert np.isnan(meps.baseline_rms_uv[0])
    assert np.isnan(meps.control_uv[0])


def test_values_too_large_for_an_amplitude_leave_none() -> None:
    """A garbled channel of V, taken times 1e6, can leave the range of float32."""
    sweep = _with_mep()
    sweep[0, PULSE + 60] = 1e42
    meps = _measure(sweep)
    assert "SAMPLES_MISSING" in _status(meps)
    assert np.isnan(meps.amplitude_uv[0])


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e42])
def test_a_bad_sample_in_the_mirrored_window_costs_the_control_only(value: float) -> None:
    sweep = _with_mep()
    sweep[0, PULSE - 100 : PULSE - 20] = value
    meps = _measure(sweep, replace(ARTICLE, baseline_ms=(-100.0, -51.0)))
    assert _status(meps) == "OK"
    assert np.isfinite(meps.baseline_rms_uv[0])
    assert np.isnan(meps.control_uv[0])


def test_muscles_are_judged_one_by_one() -> None:
    sweep = np.concatenate((_with_mep(), np.full((1, N), np.nan), np.zeros((1, N)), _sweep()))
    meps = _measure(sweep, MepCriteria(window_ms=((10.0, 50.0),) * 4))
    assert [status_text(int(s)) for s in meps.status] == [
        "OK",
        "SAMPLES_MISSING|BASELINE_SHORT",
        "NO_MEP|FLAT",
        "NO_MEP",
    ]
    alone = _measure(_with_mep())
    for whole, single in zip(vars(meps).values(), vars(alone).values(), strict=True):
        np.testing.assert_array_equal(whole[0], single[0])


def test_a_decaying_artefact_that_makes_the_extreme_is_marked() -> None:
    sweep = _sweep()
    after = np.arange(N - PULSE)
    sweep[0, PULSE:] += 3000.0 * np.exp(-after / 12.0)
    assert _status(_measure(sweep)) == "ARTEFACT"


def test_an_artefact_smaller_than_the_mep_is_not_marked() -> None:
    sweep = _with_mep(2000.0)
    after = np.arange(N - PULSE)
    sweep[0, PULSE:] += 1000.0 * np.exp(-after / 12.0)
    assert _status(_measure(sweep)) == "OK"


@pytest.mark.parametrize("offset_uv", [4000.0, -4000.0])
def test_an_offset_makes_no_artefact_and_moves_no_onset(offset_uv: float) -> None:
    plain, shifted = _measure(_with_mep()), _measure(_with_mep() + offset_uv)
    assert _status(shifted) == "OK"
    assert shifted.onset_ms[0] == plain.onset_ms[0]
    np.testing.assert_array_equal(shifted.peak_ms, plain.peak_ms)
    assert shifted.baseline_rms_uv[0] == pytest.approx(plain.baseline_rms_uv[0])


@pytest.mark.parametrize(("kept_ms", "rms_known"), [(100.0, True), (60.0, True), (20.0, False), (0.0, False)])
def test_a_short_baseline_is_a_status_and_the_amplitude_stays(kept_ms: float, rms_known: bool) -> None:
    sweep = _with_mep()
    first = PULSE - round(kept_ms * RATE_HZ / 1000.0)
    meps = measure_meps(sweep[:, first:], first, PULSE, RATE_HZ, ARTICLE)
    assert _status(meps) == ("OK" if kept_ms == 100.0 else "BASELINE_SHORT")
    assert meps.amplitude_uv[0] == _measure(sweep).amplitude_uv[0]
    assert np.isfinite(meps.baseline_rms_uv[0]) == rms_known
    # The mirrored window reaches from -50 to -10 ms.
    assert np.isfinite(meps.control_uv[0]) == (kept_ms >= 50.0)


def test_control_is_the_same_measure_on_the_mirrored_window() -> None:
    sweep = _with_mep()
    sweep[0, PULSE - 100] += 70.0  # -50 ms
    sweep[0, PULSE - 20] -= 50.0  # -10 ms
    sweep[0, PULSE - 101] += 900.0
    sweep[0, PULSE - 19] += 900.0
    mirrored = sweep[0, PULSE - 100 : PULSE - 19]
    assert _measure(sweep).control_uv[0] == np.float32(mirrored.max() - mirrored.min())


def test_each_muscle_can_have_its_own_window() -> None:
    """A leg muscle answers later: its MEP lies outside of the hand's window."""
    late = _with_mep(500.0, at_ms=36.0)
    criteria = MepCriteria(window_ms=((10.0, 35.0), (25.0, 50.0)))
    assert criteria.last_needed_ms == 50.0
    meps = _measure(np.concatenate((late, late)), criteria)
    assert [status_text(int(s)) for s in meps.status] == ["NO_MEP", "OK"]
    assert meps.peak_ms[1, 0] == pytest.approx(39.0, abs=0.51)


@given(flags=st.sets(st.sampled_from([flag for flag in MepStatus if flag])))
def test_a_status_is_written_with_all_its_flags(flags: set[MepStatus]) -> None:
    text = status_text(sum(flags))
    assert set(text.split("|")) == ({flag.name for flag in flags} or {"OK"})


@example(bad=[(PULSE + 50, 3e38), (PULSE + 60, -3e38)], pulse=float(PULSE), kept=PULSE)
@given(
    bad=st.lists(
        st.tuples(st.integers(0, N - 1), st.sampled_from([np.nan, np.inf, -np.inf, 3e38, -3e38, 0.0])), max_size=40
    ),
    pulse=st.floats(PULSE - 0.3, PULSE + 0.3),
    kept=st.integers(0, PULSE),
)
def test_no_sweep_makes_the_measurement_fail_or_an_unmarked_bad_amplitude(
    bad: list[tuple[int, float]], pulse: float, kept: int
) -> None:
    sweep = np.concatenate((_with_mep(), _sweep()))
    sweep = np.pad(sweep, ((0, 0), (0, 2)), mode="edge")
    for index, value in bad:
        sweep[0, index] = value
    first = PULSE - kept
    meps = measure_meps(sweep[:, first:], first, pulse, RATE_HZ, MepCriteria(window_ms=((10.0, 50.0),) * 2))
    missing = (meps.status & MepStatus.SAMPLES_MISSING.value) != 0
    np.testing.assert_array_equal(np.isnan(meps.amplitude_uv), missing)
    assert np.isfinite(meps.amplitude_uv[~missing]).all()
    assert not missing[1]


def test_the_sweep_itself_is_left_alone() -> None:
    sweep = _with_mep()
    sweep[0, PULSE + 60] = np.nan
    kept = sweep.copy()
    _measure(sweep)
    np.testing.assert_array_equal(sweep, kept)

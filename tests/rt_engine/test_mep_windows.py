"""A window holds the samples inside it, both ends included, and none outside."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_engine.mep import INDEX_TOLERANCE, window_indices

INDEX = st.floats(0.0, 1e9)
RATE = st.floats(500.0, 50_000.0)


@pytest.mark.parametrize(
    ("pulse_index", "expected"),
    [
        (1000.0, (1020, 1100)),
        (1000.24, (1020, 1100)),  # known no better than the tolerance: the same samples
        (999.76, (1020, 1100)),
        (1000.3, (1021, 1100)),  # the sample at 9.85 ms lies before the window
        (1000.5, (1021, 1100)),
        (999.7, (1020, 1099)),
        (1000.76, (1021, 1101)),
    ],
)
def test_the_window_of_the_article_at_2_khz(pulse_index: float, expected: tuple[int, int]) -> None:
    assert window_indices(pulse_index, (10.0, 50.0), 2000.0) == expected


def test_the_fitted_rate_decides_and_not_the_nominal_one() -> None:
    assert window_indices(0.0, (10.0, 50.0), 1990.0) == (20, 99)
    assert window_indices(0.0, (10.0, 50.0), 2020.0) == (20, 101)


@given(pulse_index=INDEX, begin=st.floats(-5000.0, 1000.0), length=st.floats(1.0, 1000.0), rate_hz=RATE)
def test_all_samples_of_a_window_and_no_others(pulse_index: float, begin: float, length: float, rate_hz: float) -> None:
    first, last = window_indices(pulse_index, (begin, begin + length), rate_hz)
    low = pulse_index + begin * rate_hz / 1000.0 - INDEX_TOLERANCE
    high = pulse_index + (begin + length) * rate_hz / 1000.0 + INDEX_TOLERANCE
    rounding = 1e-6  # indices up to 1e9 leave this much of a double
    assert low - rounding <= first < low + 1.0 + rounding
    assert high - 1.0 - rounding < last <= high + rounding


@given(index=st.integers(0, 10**9), wobble=st.floats(-0.2, 0.2))
def test_the_jitter_of_a_fit_moves_no_sample_in_or_out(index: int, wobble: float) -> None:
    """At 2 kHz all window edges of the article fall on samples, so a pulse is known well enough within 0.25."""
    assert window_indices(index + wobble, (10.0, 50.0), 2000.0) == (index + 20, index + 100)


@given(pulse_index=INDEX, end=st.floats(1.0, 999.0), more=st.floats(0.0, 500.0), rate_hz=RATE)
def test_a_window_inside_another_uses_no_sample_outside_it(
    pulse_index: float, end: float, more: float, rate_hz: float
) -> None:
    """A sweep is cut by the widest window: each muscle's own must then lie in it."""
    inner = window_indices(pulse_index, (end / 2.0, end), rate_hz)
    outer = window_indices(pulse_index, (min(end / 2.0, 0.5), end + more), rate_hz)
    assert outer[0] <= inner[0]
    assert inner[1] <= outer[1]
    assert all(isinstance(edge, int) and math.isfinite(edge) for edge in (*inner, *outer))

"""Round numbers for scales."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.display.scales import decade_ticks, linear_ticks, nice_ceil, nice_floor

positive = st.floats(1e-12, 1e30)


def leading(value: float) -> float:
    return round(value / 10.0 ** math.floor(math.log10(value) + 1e-9), 6)


@given(positive)
def test_nice_numbers_are_1_2_5_and_next_to_the_value(value: float) -> None:
    above, below = nice_ceil(value), nice_floor(value)
    assert below <= value * (1 + 1e-8)
    assert value * (1 - 1e-8) <= above
    assert above <= 2.5001 * value
    assert below >= value / 2.5001
    assert leading(above) in (1.0, 2.0, 5.0, 10.0)
    assert leading(below) in (1.0, 2.0, 5.0, 10.0)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 10))
def test_ticks_are_few_and_inside(low: float, span: float, at_most: int) -> None:
    ticks = linear_ticks(low, low + span, at_most)
    assert len(ticks) <= at_most + 1
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in ticks)
    assert ticks == sorted(ticks)


def test_ticks_are_round() -> None:
    assert linear_ticks(-10.0, 60.0, 5) == [0.0, 20.0, 40.0, 60.0]
    assert linear_ticks(0.0, 1.0, 5) == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert linear_ticks(5.0, 5.0, 5) == []
    assert decade_ticks(10.0, 10_000.0) == [10.0, 100.0, 1000.0, 10_000.0]

"""Latencies: quantiles of the latest, maximum of all."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_engine.health import KEPT, LatencyStatistics, State


@given(microseconds=st.lists(st.floats(0.0, 1e6), min_size=1, max_size=50))
def test_quantiles_are_in_milliseconds(microseconds: list[float]) -> None:
    latency = LatencyStatistics()
    for value in microseconds:
        latency.add("infer", value)
    found = latency.quantiles_ms()["infer"]
    assert found["max"] == max(microseconds) / 1e3
    p50, p99 = np.quantile(np.array(microseconds) / 1e3, [0.5, 0.99])
    assert found["p50"] == pytest.approx(p50)
    assert found["p99"] == pytest.approx(p99)


def test_the_maximum_is_never_forgotten_and_the_quantiles_are_of_the_latest() -> None:
    latency = LatencyStatistics()
    latency.add("publish", 9e6)
    for _ in range(KEPT + 10):
        latency.add("publish", 2000.0)
    assert latency.quantiles_ms()["publish"] == {"p50": 2.0, "p99": 2.0, "max": 9000.0}


def test_stages_are_kept_apart_and_none_is_invented() -> None:
    latency = LatencyStatistics()
    assert latency.quantiles_ms() == {}
    latency.add("a", 1000.0)
    latency.add("b", 3000.0)
    assert {stage: q["p50"] for stage, q in latency.quantiles_ms().items()} == {"a": 1.0, "b": 3.0}


def test_states_are_words_on_the_wire() -> None:
    assert [str(s) for s in State] == ["RESOLVING", "WARMING", "READY", "RUNNING", "DEGRADED", "STOPPED", "FAILED"]

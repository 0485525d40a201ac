"""The latency budget: who is over it is named, and believed to be in time again only after enough pulses."""

import pytest

from rt_engine.errors import SettingsError
from rt_engine.latency_budget import PULSES_TO_RECOVER, LatencyBudget
from rt_engine.settings import parse_settings

QUICK = {"wait": 200.0, "extract": 300.0, "infer": 500.0}
"""Microseconds."""


def test_pulses_in_time_are_no_trouble():
    budget = LatencyBudget({"infer": 1.0, "engine": 3.0})
    budget.take(QUICK, 1000.0)
    assert (budget.trouble, budget.n_over) == ("", 0)


def test_the_stage_that_took_too_long_is_named():
    budget = LatencyBudget({"infer": 1.0, "engine": 30.0})
    budget.take({**QUICK, "infer": 2500.0}, 3000.0)
    assert budget.trouble == "over the latency budget: infer took 2.5 ms of 1 ms"


def test_where_only_the_whole_is_over_the_slowest_stage_is_named():
    budget = LatencyBudget({"engine": 3.0})
    budget.take({"transport": 9000.0, "wait": 2500.0, "infer": 600.0}, 3100.0)
    assert budget.trouble == "over the latency budget: engine took 3.1 ms of 3 ms, most of it wait (2.5 ms)"


def test_it_is_in_time_again_after_enough_pulses_in_a_row():
    budget = LatencyBudget({"engine": 3.0})
    budget.take(QUICK, 5000.0)
    told = budget.trouble
    for _ in range(PULSES_TO_RECOVER - 1):
        budget.take(QUICK, 1000.0)
    budget.take(QUICK, 7000.0)
    assert budget.trouble == told, "the same trouble in other numbers is not said again"
    for _ in range(PULSES_TO_RECOVER):
        assert budget.trouble
        budget.take(QUICK, 1000.0)
    assert (budget.trouble, budget.n_over) == ("", 2)


def test_without_a_budget_nothing_is_too_slow():
    budget = LatencyBudget({})
    budget.take(QUICK, 1e9)
    assert budget.trouble == ""


def test_a_stage_that_does_not_exist_is_no_budget():
    with pytest.raises(SettingsError, match=r"timing\.budget_ms: 'inferr' is no stage; did you mean 'infer'"):
        parse_settings({"timing": {"budget_ms": {"inferr": 3.0}}})

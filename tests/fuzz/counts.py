"""How many examples: few in every run of the tests, ten thousand with `make fuzz`."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rt_engine.errors import M2MError

COUNTS = [500, pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(1800)])]
"""Examples per subject."""


def in_words(error: M2MError) -> bool:
    """Check that an error says something."""
    assert str(error).strip()
    return True


def for_each_seed(n: int, check: Callable[[Random], None]) -> None:
    """Call a check with `n` random generators; one that fails is found again by its seed, which hypothesis prints."""

    @settings(max_examples=n, database=None)
    @given(seed=st.integers(0, 2**64 - 1))
    def each(seed: int) -> None:
        check(Random(seed))

    each()

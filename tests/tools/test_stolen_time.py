"""Time that a virtual machine's host takes away is counted as Linux counts it, or not claimed at all."""

from pathlib import Path

import pytest

from tools.demo.stolen_time import StolenTime

BEFORE = "cpu  100 0 50 800 20 0 10 20 7 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n"


def test_the_share_is_that_of_the_time_since(tmp_path: Path) -> None:
    source = tmp_path / "stat"
    source.write_text(BEFORE)
    stolen = StolenTime(source)
    # 100 ticks have passed, 5 of them stolen; guest time (the last two) is part of user time and not counted again.
    source.write_text("cpu  140 0 60 840 20 0 15 25 47 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    assert stolen.percent() == pytest.approx(5.0)


@pytest.mark.parametrize("text", ["", "cpu  1 2 3 4\n", "cpux 1 2 3 4 5 6 7 8\n", "cpu  1 2 3 4 5 6 7 x\n"])
def test_what_does_not_say_it_claims_nothing(tmp_path: Path, text: str) -> None:
    source = tmp_path / "stat"
    source.write_text(text)
    assert StolenTime(source).percent() is None


def test_where_nothing_is_counted_nothing_is_claimed(tmp_path: Path) -> None:
    assert StolenTime(tmp_path / "none").percent() is None
    source = tmp_path / "stat"
    source.write_text(BEFORE)
    assert StolenTime(source).percent() is None  # no time has passed

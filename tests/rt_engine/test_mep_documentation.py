"""`docs/mep.md` says of each status and each reason what the code does."""

from pathlib import Path

import pytest

from rt_engine import cortical_map, trial
from rt_engine.estimator import DEFAULT_POLICY
from rt_engine.mep import MepStatus

DOCS = Path(__file__).resolve().parents[2] / "docs" / "mep.md"


@pytest.fixture(scope="module")
def rows() -> list[list[str]]:
    """All table rows, as lists of cells."""
    lines = DOCS.read_text(encoding="utf-8").splitlines()
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def test_each_status_is_defined_and_its_default_is_the_codes(rows: list[list[str]]) -> None:
    for status, use in DEFAULT_POLICY.items():
        said = [cells[1] for cells in rows if cells[0] == status.name]
        assert len(said) == 2, f"{status.name} stands in the table of statuses and in that of what they do"
        assert said[1] == use
    assert set(DEFAULT_POLICY) == set(MepStatus)


def test_each_reason_of_an_invalid_trial_is_explained(rows: list[list[str]]) -> None:
    reasons = {value for name, value in vars(trial).items() if name.isupper()}
    assert len(reasons) >= 5
    assert reasons <= {cells[0] for cells in rows}


def test_each_reason_of_a_low_confidence_is_named() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for reason in (cortical_map.NO_ACTIVE_MUSCLE, cortical_map.ONE_ACTIVE_MUSCLE, cortical_map.WEAK_RESPONSE):
        assert f"`{reason}`" in text

"""The page on faults: every fault of the simulated subject is on it, and every test that it names exists."""

import re

import pytest

from drivers.simulated.faults import FAULTS, parse_fault
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")


def test_every_test_that_the_page_names_exists() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    written = {name for source in sources for name in re.findall(r"^(?:async )?def (test_\w+)", source, re.MULTILINE)}
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert named - written == set()
    assert len(named) > 30


def test_every_fault_of_the_simulated_subject_is_on_the_page() -> None:
    told = set(re.findall(r"`([a-z-]+)(?::[^`]*)?`", PAGE))
    assert set(FAULTS) - told == set()


@pytest.mark.parametrize("line", [line for line in PAGE.splitlines() if line.startswith("| ") and "`test_" in line])
def test_every_line_has_an_outcome_and_faults_that_can_be_injected(line: str) -> None:
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert all(cell for place, cell in enumerate(cells) if place != 1)
    if len(cells) == 4:
        for text in re.findall(r"`([^`]+)`", cells[1]):
            parse_fault(text)


def test_every_command_on_the_page_has_faults_that_can_be_injected() -> None:
    texts = re.findall(r"--fault (\S+)", PAGE)
    assert len(texts) > 2
    for text in texts:
        parse_fault(text)

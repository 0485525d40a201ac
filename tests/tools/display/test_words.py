"""What the window says, in words."""

import pytest

from rt_engine import trial
from rt_engine.mep import MepStatus, status_text
from tools.display.words import (
    amplitude_text,
    bytes_text,
    confidence_reason,
    duration_text,
    invalid_reason,
    minus,
    readable,
    state_tone,
    status_words,
)

REASONS = [value for name, value in vars(trial).items() if name.isupper() and isinstance(value, str)]


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_of_the_engine_has_words_of_its_own(reason: str) -> None:
    assert invalid_reason([reason]) != readable(reason)
    assert "_" not in invalid_reason([reason])


def test_an_unknown_or_absent_reason_is_still_said() -> None:
    assert invalid_reason(["coil_too_far", trial.GAP]) == "coil too far, samples are missing in the sweep"
    assert invalid_reason([]) == "no reason given"


@pytest.mark.parametrize("flag", [flag for flag in MepStatus if flag])
def test_every_status_of_the_engine_has_words(flag: MepStatus) -> None:
    words, _ = status_words(status_text(flag))
    assert words
    assert "_" not in words
    assert words.upper() != flag.name or flag in (MepStatus.SATURATED, MepStatus.FLAT, MepStatus.ARTEFACT)


def test_the_gravest_of_several_statuses_comes_first_and_gives_the_tone() -> None:
    assert status_words("NO_MEP|PREACTIVATED|FLAT") == ("flat, pre-activated, no MEP", "bad")
    assert status_words("OK") == ("OK", "good")
    assert status_words("SOMETHING_NEW") == ("something new", "warn")
    assert status_words("") == ("no status", "warn")


def test_reasons_of_low_confidence_stand_together_by_cause() -> None:
    reasons = ["one_active_muscle", "preactivated:FDI", "preactivated:ADM", "flat:ECR"]
    assert confidence_reason(reasons) == "one active muscle; pre-activated: FDI, ADM; flat: ECR"


@pytest.mark.parametrize(
    ("uv", "text"),
    [(4783.2, "4,783 µV"), (9.97, "10 µV"), (3.14, "3.1 µV"), (float("nan"), "–")],
)
def test_an_amplitude_has_its_unit_and_a_missing_one_is_a_dash(uv: float, text: str) -> None:
    assert amplitude_text(uv) == text


def test_durations_and_sizes_have_their_natural_units() -> None:
    assert [duration_text(s) for s in (3.2, 89.4, 90.0, 5399.0, 7200.0)] == ["3 s", "89 s", "2 min", "90 min", "2 h"]
    assert [bytes_text(n) for n in (81.3e9, 250e6)] == ["81.3 GB", "250 MB"]


def test_negative_numbers_have_a_minus_and_no_hyphen() -> None:
    assert minus("-35.7") == "\N{MINUS SIGN}35.7"


def test_an_unknown_state_is_worth_a_look() -> None:
    assert state_tone("RUNNING") == "good"
    assert state_tone("HOVERING") == "warn"

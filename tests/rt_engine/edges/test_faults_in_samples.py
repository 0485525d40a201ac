"""Faults of the EMG's samples, sent by the simulated subject through real streams: what the user gets for each."""

from collections.abc import Iterator

import numpy as np
import pytest

from tests.rt_engine.edges.fault_session import FaultySubject, Hearing

PLAIN, LOST, LOST_FEW, LOST_TWO, TWICE, NAN, CLIPPED, FLAT, NO_COIL, BETWEEN, AFTER, PAIRED, SECOND, LAST = range(14)
"""The pulses of the session, by what strikes them."""

FAULTS = (
    f"lost:pulse={LOST},at_ms=20,samples=60",
    f"lost:pulse={LOST_FEW},at_ms=22,samples=30",
    f"lost:pulse={LOST_TWO},at_ms=25,samples=2",
    f"duplicated:pulse={TWICE},at_ms=12,samples=36",
    f"nan:pulse={NAN},channel=FDI,at_ms=30",
    f"saturated:pulse={CLIPPED},channel=FDI,uv=40",
    f"flat:pulse={FLAT},channel=FDI",
    f"pose-lost:pulse={NO_COIL},at_ms=-700,for_ms=720",
    f"lost:pulse={BETWEEN},at_ms=120,samples=60",
    f"paired:pulse={PAIRED},interval_ms=2",
)
FDI = "FDI"


@pytest.fixture(scope="module")
def heard() -> Iterator[Hearing]:
    hearing = Hearing(FaultySubject(*FAULTS, pulses=14))
    try:
        yield hearing.launch().ready().finish(14)
    finally:
        hearing.close()


def test_pulses_that_no_fault_strikes_are_right(heard) -> None:
    for pulse in (PLAIN, BETWEEN, AFTER, LAST):
        heard.assert_right(pulse)
        header, _ = heard.of(pulse)
        assert header.trigger_source == "ttl"
        assert header.pose_tracked
    assert len(heard.trials) == 14


def test_lost_samples_make_the_trial_invalid(heard) -> None:
    heard.assert_invalid(LOST, "gap")


@pytest.mark.parametrize("pulse", [LOST_FEW, LOST_TWO])
def test_a_few_lost_samples_make_the_trial_invalid_too(heard, pulse: int) -> None:
    heard.assert_invalid(pulse, "gap")


def test_samples_sent_twice_make_the_trial_invalid(heard) -> None:
    heard.assert_invalid(TWICE, "duplicate")


def test_a_sample_that_is_no_number_costs_its_muscle(heard) -> None:
    heard.assert_right(NAN)  # NaN as the truth is
    assert status(heard, NAN)[FDI] == "SAMPLES_MISSING"
    assert "samples_missing:FDI" in heard.map_of(NAN)[0].confidence_reasons


def test_a_clipped_muscle_is_said_to_be(heard) -> None:
    heard.assert_right(CLIPPED)
    assert "SATURATED" in status(heard, CLIPPED)[FDI].split("|")
    assert "saturated:FDI" in heard.map_of(CLIPPED)[0].confidence_reasons


def test_a_flat_channel_does_not_go_to_the_model(heard) -> None:
    heard.assert_right(FLAT)
    assert "FLAT" in status(heard, FLAT)[FDI].split("|")
    header, arrays = heard.map_of(FLAT)
    assert "flat:FDI" in header.confidence_reasons
    assert np.isfinite(arrays["field"]).all()


def test_a_coil_that_is_not_seen_is_said_to_be(heard) -> None:
    heard.assert_right(NO_COIL)
    header, arrays = heard.of(NO_COIL)
    assert not header.pose_tracked
    assert np.isnan(arrays["pose"]).all()


def test_both_pulses_of_a_pair_are_served(heard) -> None:
    first, second = heard.of(PAIRED)[0], heard.of(SECOND)[0]
    assert second.pulse == first.pulse + 1
    heard.assert_right(PAIRED)
    heard.assert_right(SECOND)


def status(heard: Hearing, pulse: int) -> dict[str, str]:
    return dict(zip(heard.subject.settings.muscles, heard.of(pulse)[0].status, strict=True))

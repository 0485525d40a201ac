"""Faults of whole streams, sent by the simulated subject through real streams: what the user gets for each."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from drivers.simulated.settings import EmgSettings
from rt_engine.errors import StreamError
from rt_engine.health import State
from tests.rt_engine.edges.conftest import wait_until
from tests.rt_engine.edges.fault_session import FaultySubject, Hearing

ONLY_EMG: dict[str, Any] = {"markers": {}, "pose": {}, "intensity": {}}


def by_name(subject: FaultySubject) -> dict[str, Any]:
    """Ask for the EMG stream by its name alone."""
    return ONLY_EMG | {"emg": {"name": subject.identities["emg"]["name"]}}


def by_source_id(subject: FaultySubject) -> dict[str, Any]:
    return ONLY_EMG | {"emg": {"source_id": subject.identities["emg"]["source_id"]}}


def subject_in(unit: str, says: str) -> FaultySubject:
    return FaultySubject(f"wrong-unit:says={says}", emg=EmgSettings(unit=unit), block_samples=80)


REFUSED: dict[str, tuple[Callable[[], FaultySubject], str]] = {
    "twin, other source_id": (lambda: FaultySubject("twin"), r"2 streams match the emg stream .*-twin"),
    "twin, same source_id": (lambda: FaultySubject("twin:source_id=same"), "2 streams match the emg stream"),
    "renamed and missing": (
        lambda: FaultySubject("renamed:channel=FDI,to=Ch 3", "missing:channel=BRD"),
        "no channel for FDI, BRD; its channels are Ch 3",
    ),
    "model of other muscles": (lambda: FaultySubject(muscles=("FDI", "ADM")), "no channel for 3DI, 3Lum, EI"),
    "uV said to be V": (lambda: subject_in("uV", "V"), "SD of .* uV.*unit"),
    "mV said to be uV": (lambda: subject_in("mV", "uV"), "SD of .* uV.*unit"),
    "no unit": (lambda: subject_in("uV", ""), "states no unit; set streams.emg.unit"),
}
"""What no session may begin with, and what it says then."""


@pytest.fixture(scope="module")
def refused() -> Iterator[dict[str, Hearing]]:
    hearings = {}
    for name, (make, _) in REFUSED.items():
        subject = make()
        hearings[name] = Hearing(subject, streams=by_name(subject))
    try:
        yield {name: hearing.launch() for name, hearing in hearings.items()}
    finally:
        for hearing in hearings.values():
            hearing.close()


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_right_is_refused_before_the_start_with_what_is_wrong(refused, name: str) -> None:
    with pytest.raises(StreamError, match=REFUSED[name][1]):
        refused[name].ready()
    (failed, *_) = wait_until(lambda: refused[name].running.states(State.FAILED), "the message that says so")
    assert failed.reason
    assert not refused[name].running.of("map")


BURST = 60
OTHER_CHANNELS, IN_FULL_FLIGHT = "other channels", "in full flight"
RESTARTED = ("same source_id", "other source_id, asked for by name")


def other_channels() -> Hearing:
    faults = ("reordered", "extra:place=2", "renamed:channel=ADM,to=Ch 7", f"burst:pulse=1,count={BURST},interval_ms=2")
    subject = FaultySubject(*faults, pulses=BURST + 2)
    emg = {"source_id": subject.identities["emg"]["source_id"], "channels": {"Ch 7": "ADM"}}
    return Hearing(subject, streams=ONLY_EMG | {"emg": emg})


def in_full_flight() -> Hearing:
    """Let pulses come before, while and after the session begins to count samples: one is in its first 100 ms."""
    subject = FaultySubject("burst:count=200,interval_ms=60", pulses=200)
    subject.start()
    return Hearing(subject, streams=by_source_id(subject))


def restarting(name: str) -> Hearing:
    source_id = name.partition(" ")[0]
    subject = FaultySubject(f"restart:pulse=2,at_ms=-200,for_ms=300,source_id={source_id}", pulses=60, interval_s=0.4)
    return Hearing(subject, streams=by_source_id(subject) if source_id == "same" else by_name(subject))


@pytest.fixture(scope="module")
def heard() -> Iterator[dict[str, Hearing]]:
    """Run all sessions at the same time, each until what is to be seen has come."""
    hearings = {OTHER_CHANNELS: other_channels(), IN_FULL_FLIGHT: in_full_flight()}
    hearings |= {name: restarting(name) for name in RESTARTED}
    try:
        for hearing in hearings.values():
            hearing.launch()
        for hearing in hearings.values():
            hearing.ready()
        hearings[OTHER_CHANNELS].finish(BURST + 2)
        hearings[IN_FULL_FLIGHT].stop_after(3)
        for name in RESTARTED:
            running = hearings[name].running
            wait_until(lambda r=running: r.states(State.DEGRADED) or r.error, "DEGRADED")
            wait_until(lambda r=running: r.of("health")[-1][0].state == State.RUNNING or r.error, "RUNNING again")
            hearings[name].stop_after(len(running.of("trial")) + 2)
        yield hearings
    finally:
        for hearing in hearings.values():
            hearing.close()


def test_channels_in_another_order_others_between_them_and_a_burst_are_served(heard) -> None:
    for pulse in range(BURST + 2):
        heard[OTHER_CHANNELS].assert_right(pulse)
    assert len(heard[OTHER_CHANNELS].trials) == BURST + 2


def test_a_pulse_in_the_first_100_ms_is_right_or_before_the_stream(heard) -> None:
    hearing = heard[IN_FULL_FLIGHT]
    for pulse in hearing.served():
        header, _ = hearing.of(pulse)
        if header.reasons not in (["before_stream"], ["expired"]):  # the latter at the end
            hearing.assert_right(pulse)
    first = next(header for header, _ in hearing.trials if header.valid)
    assert all("BASELINE_SHORT" in text for text in first.status)
    assert first.sweep_start_ms > -100.0


@pytest.mark.parametrize("name", RESTARTED)
def test_a_stream_that_starts_again_is_found_again_and_its_pulses_are_right(heard, name: str) -> None:
    hearing = heard[name]
    (closed,), (opened,) = hearing.subject.told("closed"), hearing.subject.told("opened")
    assert (opened["source_id"] == hearing.subject.identities["emg"]["source_id"]) is name.startswith("same")
    served = hearing.served()
    assert served[:2] == [0, 1]
    for pulse in served:
        header, _ = hearing.of(pulse)
        if closed["sample"] - 101 < hearing.sent[pulse].sample < opened["sample"] + 200:
            assert header.reasons in (["gap"], ["expired"])
        elif header.valid or pulse in (0, 1, *served[-3:-1]):
            hearing.assert_right(pulse)
        else:
            assert header.reasons in (["gap"], ["expired"])  # the first after the return, the last before the end
    degraded = hearing.running.states(State.DEGRADED)
    assert "emg stream" in degraded[0].reason
    assert "lost" in degraded[0].reason

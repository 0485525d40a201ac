"""Two engines at once: on one port the second is refused, on two ports both serve; the first never notices."""

from collections.abc import Iterator

import numpy as np
import pytest

from rt_engine.errors import M2MError
from rt_engine.session import Session
from tests.rt_engine.edges.conftest import RunningSession, wait_until
from tests.rt_engine.edges.fault_session import FaultySubject, Hearing, settings_for


@pytest.fixture
def subject() -> Iterator[FaultySubject]:
    subject = FaultySubject(pulses=3)
    yield subject
    subject.close()


def test_a_second_engine_on_the_same_port_is_refused_and_the_first_goes_on(subject) -> None:
    first = Hearing(subject)
    other = None
    try:
        first.launch()
        with pytest.raises(M2MError, match="already in use|taken"):
            Session(settings_for(subject, publish={"address": first.running.session.address}))
        other = RunningSession(Session(settings_for(subject)))
        other.launch()
        wait_until(lambda: other.states("READY") or other.error, "the other engine's READY")
        first.ready().finish(3)
        trials = other.wait_for_trials(3)
        for pulse in range(3):
            first.assert_right(pulse)
            np.testing.assert_array_equal(trials[pulse][1]["mep_uv"], first.of(pulse)[1]["mep_uv"])
        maps = [[arrays["field"].tobytes() for _, arrays in session.of("map")] for session in (other, first.running)]
        assert maps[0] == maps[1]
        assert len(maps[0]) == 3
    finally:
        first.close()
        if other:
            other.close()

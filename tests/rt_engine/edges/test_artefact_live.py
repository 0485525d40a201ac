"""The stimulus artefact makes the trials, through real streams: the same samples and amplitudes as by the trigger."""

import numpy as np
import pytest

from tests.rt_engine.edges.fault_session import FaultySubject, Hearing

N_PULSES = 4


@pytest.fixture(scope="module")
def heard():
    hearing = Hearing(FaultySubject(pulses=N_PULSES, lead_in_s=1.5), trigger={"source": "artefact"})
    try:
        hearing.launch().ready()
        yield hearing.finish(N_PULSES)
    finally:
        hearing.close()


def test_each_artefact_gives_the_trial_of_its_pulse(heard: Hearing) -> None:
    assert [header.trigger_source for header, _ in heard.trials] == ["artefact"] * N_PULSES
    for (header, arrays), sent in zip(heard.trials, heard.sent, strict=True):
        assert header.valid, header.reasons
        assert header.t_pulse == pytest.approx(sent.t_pulse, abs=6e-4)
        np.testing.assert_allclose(arrays["mep_uv"], np.array(sent.mep_sent_uv), rtol=1e-5)
    assert len(heard.maps) == N_PULSES


def test_trigger_channel_and_markers_are_compared_with_it(heard: Hearing) -> None:
    for header, _ in heard.trials:
        assert header.offsets_ms.keys() == {"ttl", "marker"}
        assert header.offsets_ms["ttl"] == pytest.approx(0.0, abs=1e-9)
        assert header.offsets_ms["marker"] == pytest.approx(0.0, abs=1.0)
        assert "trigger_disagreement" not in header.confidence_reasons

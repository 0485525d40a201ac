"""Faults at random, several in one session: whatever they are, no trial is wrong and none is lost in silence."""

import random
from collections.abc import Iterator

import numpy as np
import pytest

from tests.rt_engine.edges.conftest import wait_until
from tests.rt_engine.edges.fault_session import FaultySubject, Hearing

pytestmark = pytest.mark.long

PULSES = 14
AT_ONCE = 4
REASONS = {"gap", "duplicate", "clock_step", "time_uncertain", "too_late", "no_time", "expired"}


def some_faults(draw: random.Random) -> list[str]:
    """Draw faults of one session: some that last, and one per pulse."""
    lasting = [
        f"drift:ppm={draw.uniform(-1000, 1000):.0f}",
        f"jitter:ms={draw.choice((0.05, 0.5, 2.0))},samples={draw.choice((1, 8, 20))}",
        "reordered",
        "extra:place=3",
    ]
    faults = [fault for fault in lasting if draw.random() < 0.5]
    for pulse in range(1, PULSES, 2):
        at_ms = round(draw.uniform(-150, 80), 1)
        faults.append(
            draw.choice(
                (
                    f"lost:pulse={pulse},at_ms={at_ms},samples={draw.choice((1, 2, 8, 27, 150))}",
                    f"duplicated:pulse={pulse},at_ms={at_ms},samples={draw.choice((1, 8, 27, 150))}",
                    f"stamps-late:pulse={pulse},at_ms={at_ms},ms={draw.uniform(1, 30):.0f},for_ms={at_ms + 160}",
                    f"nan:pulse={pulse},at_ms={at_ms},for_ms={draw.choice((0.5, 10, 60))}",
                    f"saturated:pulse={pulse},channel=ADM",
                    f"flat:pulse={pulse},channel=FDI",
                    f"marker-late:pulse={pulse},ms={draw.uniform(1, 900):.1f}",
                    f"marker-early:pulse={pulse},ms={draw.uniform(1, 90):.1f}",
                    f"marker-double:pulse={pulse},ms={draw.uniform(0, 90):.1f}",
                    f"marker-missing:pulse={pulse}",
                    f"marker-nan:pulse={pulse}",
                    f"ttl-missing:pulse={pulse}",
                    f"pose-lost:pulse={pulse}",
                )
            )
        )
    return faults


@pytest.fixture(params=range(6))
def heard(request: pytest.FixtureRequest) -> Iterator[list[Hearing]]:
    hearings = []
    for number in range(AT_ONCE):
        draw = random.Random(1000 * request.param + number)
        subject = FaultySubject(
            *some_faults(draw), pulses=PULSES, block_samples=draw.choice((8, 16, 27, 64)), lead_in_s=1.5
        )
        source = draw.choice(("ttl", "marker"))
        hearings.append(Hearing(subject, trigger={"source": source}))
    try:
        for hearing in hearings:
            hearing.launch()
        for hearing in hearings:
            hearing.ready()
        for hearing in hearings:
            hearing.subject.wait_until_sent()
            health = hearing.running
            n = health.of("health")[-1][0].n_samples
            # As long as a source may still claim a pulse, and the stamps may still be in doubt.
            wait_until(lambda h=health, n=n: h.error or h.of("health")[-1][0].n_samples > n + 6000, "the last notes")
            hearing.stop_after(0)
        yield hearings
    finally:
        for hearing in hearings:
            hearing.close()


def test_no_trial_is_wrong_and_none_is_lost_in_silence(heard) -> None:
    for hearing in heard:
        faults = hearing.subject.settings.faults
        source = hearing.running.session.settings.trigger.source
        missing = [n for n in range(PULSES) if f"{source}-missing:pulse={n}" in faults]
        nameless = [n for n in range(PULSES) if source == "marker" and f"marker-nan:pulse={n}" in faults]
        repeated = 0
        for pulse in set(range(PULSES)) - set(missing) - set(nameless):
            (header, arrays), *again = hearing.all_of(pulse)
            # A repeated trigger is a pulse in repeated samples.
            assert all(other.reasons == ["duplicate"] for other, _ in again), f"pulse {pulse} of {faults}"
            repeated += len(again)
            if header.valid:
                np.testing.assert_allclose(
                    arrays["mep_uv"], hearing.sent[pulse].mep_sent_uv, rtol=1e-5, err_msg=f"pulse {pulse} of {faults}"
                )
            else:
                assert set(header.reasons) <= REASONS, f"pulse {pulse} of {faults}"
        assert len(hearing.trials) == PULSES - len(missing) + repeated, faults
        assert any(header.valid for header, _ in hearing.trials), faults
        assert sum(header.reasons == ["no_time"] for header, _ in hearing.trials) == len(nameless), faults
        if missing:
            assert hearing.notes().get("unmatched_trigger", 0) >= len(missing), faults
        assert [header.pulse for header, _ in hearing.maps] == [h.pulse for h, _ in hearing.trials if h.valid], faults

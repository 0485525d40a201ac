"""A subscriber of a live session that never reads: every pulse is served all the same, and health tells of it."""

import os
import tempfile
from collections.abc import Iterator

import pytest
import zmq

from rt_engine.edges import publisher


@pytest.fixture
def short_folder() -> Iterator[str]:
    """Give a folder for a socket's name, which pytest's own folders are too long for."""
    with tempfile.TemporaryDirectory(prefix="m2m-") as folder:
        yield folder


@pytest.mark.skipif(os.name != "posix", reason="no ipc sockets here, whose small buffers are soon full")
def test_a_subscriber_that_never_reads_costs_no_pulse_and_is_counted_in_health(
    amplifier, short_folder, live, monkeypatch
) -> None:
    monkeypatch.setattr(publisher, "HIGH_WATER_MARK", 16)
    source = amplifier()
    running = live(source, publish={"address": f"ipc://{short_folder}/engine"})
    idle = zmq.Context.instance().socket(zmq.SUB)
    idle.setsockopt(zmq.RCVHWM, 1)
    idle.subscribe(b"")
    idle.connect(running.session.address)
    try:
        running.start()

        def fallen_behind() -> bool:
            return running.of("health")[-1][0].drops.get("subscriber_overflows", 0) > 0

        fired = 0
        while not fallen_behind():
            assert fired < 200, "queues without end"
            source.pulse()
            fired += 1
            running.wait_for_trials(fired)
        for _ in range(3):
            source.pulse()
            fired += 1
            running.wait_for_trials(fired)
        assert [header.valid for header, _ in running.of("trial")] == [True] * fired
        assert [header.seq for header, _ in running.of("map")] == list(range(fired)), "who reads loses nothing"
    finally:
        idle.close(0)

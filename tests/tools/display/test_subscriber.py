"""The socket, against a real publisher, without Qt."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq
from fake_engine import FakeEngine

from rt_engine.edges.curve_keys import ClientKeys, client_keys, make_key_pair, server_keys
from rt_engine.edges.publisher import HIGH_WATER_MARK, Publisher
from rt_engine.errors import SettingsError
from rt_engine.messages import HealthHeader, TrialHeader
from rt_engine.settings import Publish
from tools.display.state import DisplayState
from tools.display.subscriber import Subscriber


class Listening:
    """A subscriber and its state, polled until something holds."""

    def __init__(self, address: str, keys: ClientKeys | None = None) -> None:
        self.state = DisplayState(address, time.monotonic())
        self.subscriber = Subscriber(address, self.state, keys)

    def until(self, condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
        poller = zmq.Poller()
        poller.register(self.subscriber.fd, zmq.POLLIN)
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, "timed out"
            # The descriptor wakes for messages only; the monitor of the connection has none.
            poller.poll(20)
            self.subscriber.poll(time.monotonic())


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with FakeEngine() as made:
        yield made


@pytest.fixture
def listening(engine: FakeEngine) -> Iterator[Listening]:
    made = Listening(engine.address)
    engine.wait_for_subscriber()
    yield made
    made.subscriber.close()


def test_it_hears_all_that_is_published(engine: FakeEngine, listening: Listening) -> None:
    engine.send_health()
    for _ in range(20):
        engine.send_pulse()
    state = listening.state
    listening.until(lambda: state.pulses_received == 20)
    assert state.session is not None
    assert state.geometry is not None
    assert state.maps_received == 20
    assert (state.counters.lost, state.counters.malformed) == (0, 0)
    assert state.link == "connected"


@pytest.mark.parametrize(
    "frames",
    [
        (b"trial",),
        (b"trial", b"{not json"),
        (b"trial", b"{}"),
        (b"weather", b"{}"),
        (b"health", b'{"schema":"m2m/99","topic":"health","state":"RUNNING","t":1.0}'),
        (b"\xff\xfe", b"\x00"),
        (b"", b""),
    ],
)
def test_what_cannot_be_read_is_counted_and_said(
    engine: FakeEngine, listening: Listening, frames: tuple[bytes, ...]
) -> None:
    engine.sink(list(frames))
    engine.send_pulse()
    state = listening.state
    listening.until(lambda: state.pulses_received == 1)
    assert state.counters.malformed == 1
    assert state.last_malformed


def test_an_engine_that_comes_back_is_found_and_its_new_session_seen(engine: FakeEngine, listening: Listening) -> None:
    engine.send_pulse()
    state = listening.state
    listening.until(lambda: state.pulses_received == 1)
    engine.close()
    listening.until(lambda: state.link == "connecting")
    with FakeEngine(engine.address, session="fake-2") as second:
        # Polled on: a socket subscribes again only while it is looked at, and its connection may end a moment later.
        listening.until(lambda: bool(second.socket.poll(0)))
        second.greet_subscribers()
        second.send_pulse()
        listening.until(lambda: state.pulses_received == 2)
    assert state.sessions_seen == 2
    assert state.counters.lost == 0


def hear_no_engine(port: int, answer: Callable[[], None]) -> None:
    listening = Listening(f"tcp://127.0.0.1:{port}")
    try:
        answer()
        listening.until(lambda: listening.state.link == "not m2m")
        assert "is none" in listening.state.connection(time.monotonic()).text
    finally:
        listening.subscriber.close()


def test_a_web_server_at_the_address_is_told_apart_from_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60.0)

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(64)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n" + b" " * 64)

        hear_no_engine(server.getsockname()[1], answer)


def test_a_zeromq_socket_that_publishes_nothing_is_no_engine() -> None:
    context = zmq.Context()
    server = context.socket(zmq.REP)
    try:
        hear_no_engine(server.bind_to_random_port("tcp://127.0.0.1"), lambda: None)
    finally:
        server.close()
        context.term()


@pytest.mark.parametrize("address", ["5556", "tcp://", "http://127.0.0.1:5556", ""])
def test_what_is_no_address_is_refused_by_name(address: str) -> None:
    with pytest.raises(SettingsError, match="is no address"):
        Subscriber(address, DisplayState(address, 0.0))


def test_with_its_key_it_hears_an_engine_that_asks_for_one_and_without_it_says_why_not(tmp_path: Path) -> None:
    make_key_pair(tmp_path, "engine")
    make_key_pair(tmp_path / "clients", "ann")
    make_key_pair(tmp_path, "eve")
    secret = str(tmp_path / "engine.key_secret")
    keys = server_keys(Publish(curve_secret=secret, curve_clients=str(tmp_path / "clients")))
    publisher = Publisher("tcp://127.0.0.1:*", "s", keys)
    listeners = {
        name: Listening(publisher.address, client_keys(path, tmp_path / "engine.key") if path else None)
        for name, path in {
            "ann": tmp_path / "clients" / "ann.key_secret",
            "eve": tmp_path / "eve.key_secret",
            "nobody": None,
        }.items()
    }
    try:

        def hears() -> bool:
            publisher.send(HealthHeader(state="READY", t=1.0))
            return listeners["ann"].state.health is not None

        listeners["ann"].until(hears)
        listeners["eve"].until(lambda: listeners["eve"].state.link == "shut")
        assert "does not know this window's key" in listeners["eve"].state.connection(time.monotonic()).text
        listeners["nobody"].until(lambda: listeners["nobody"].state.link == "not m2m")
        assert "asks for a key" in listeners["nobody"].state.connection(time.monotonic()).text
        assert listeners["eve"].state.health is None
        assert listeners["nobody"].state.health is None
    finally:
        for each in listeners.values():
            each.subscriber.close()
        publisher.close()


def test_a_window_that_was_held_up_shows_the_latest_pulse_and_how_many_it_missed() -> None:
    publisher = Publisher("tcp://127.0.0.1:*", "s")
    listening = Listening(publisher.address)
    state = listening.state
    arrays = {
        name: (np.zeros(shape, np.float32), "uV")
        for name, shape in {"sweep_uv": (2, 100_000), "mep_uv": (2,), "onset_ms": (2,)}.items()
    }

    def send(pulse: int) -> None:
        header = TrialHeader(
            pulse=pulse, t_pulse_raw=0.0, t_pulse=0.0, t_uncertainty=0.0, trigger_source="ttl", valid=True,
            status=["OK", "OK"], sweep_start_ms=-5.0, rate_hz=2000.0,
        )  # fmt: skip
        publisher.send(header, arrays)

    try:

        def connected() -> bool:
            send(0)
            return state.pulses_received > 0

        listening.until(connected)
        n, before = 0, state.pulses_received
        while publisher.n_overflows == 0:  # held up: nothing is polled
            n += 1
            send(n)
            assert n < 50 * HIGH_WATER_MARK, "the queue of a window that does not read has an end"
        last = n + 5
        for pulse in range(n + 1, last + 1):
            send(pulse)

        def latest() -> bool:  # once it reads again, there is room again
            publisher.serve_subscribers()
            send(last + 1)
            return state.trial is not None and state.trial.header.pulse == last + 1

        listening.until(latest)
        counters = state.counters
        assert counters.lost > 0
        assert counters.superseded > 0
        assert state.pulses_received - before + counters.lost >= last, "each was shown, skipped or counted as lost"
    finally:
        listening.subscriber.close()
        publisher.close()

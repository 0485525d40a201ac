"""The socket, against a real publisher, without Qt."""

import socket
import time
from collections.abc import Callable, Iterator

import pytest
import zmq
from fake_engine import FakeEngine

from rt_engine.errors import SettingsError
from tools.display.state import DisplayState
from tools.display.subscriber import Subscriber


class Listening:
    """A subscriber and its state, polled until something holds."""

    def __init__(self, address: str) -> None:
        self.state = DisplayState(address, time.monotonic())
        self.subscriber = Subscriber(address, self.state)

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

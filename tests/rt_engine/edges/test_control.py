"""The control socket: known commands reach the session, all else gets its answer, and nobody can hold up the loop."""

import json
import threading
from collections.abc import Callable, Iterator
from socket import AF_INET6, create_server
from typing import Any

import pytest
import zmq

from rt_engine.control_messages import Calibrate, Mark, Reply, SwapModel, Unmark, encode_control, parse_reply
from rt_engine.edges.control import AT_MOST_PER_POLL, FRAMES_PER_POLL, MAX_MESSAGE_BYTES, QUEUED, ControlSocket
from rt_engine.edges.control_client import ControlClient, NoAnswer
from rt_engine.errors import ControlError, M2MError, SettingsError

Until = Callable[..., Any]


@pytest.fixture
def control() -> Iterator[ControlSocket]:
    made = ControlSocket("tcp://127.0.0.1:*", session="s1")
    yield made
    made.close()


@pytest.fixture
def connect(control: ControlSocket) -> Iterator[Callable[[int], "zmq.Socket[bytes]"]]:
    made = []

    def make(kind: int = zmq.DEALER) -> "zmq.Socket[bytes]":
        made.append(zmq.Context.instance().socket(kind))
        made[-1].setsockopt(zmq.IMMEDIATE, 1)
        made[-1].connect(control.address)
        return made[-1]

    yield make
    for socket in made:
        socket.close(0)


def taken(control: ControlSocket, until: Until) -> list[Any]:
    return until(control.poll, "a request")


def answer(control: ControlSocket, socket: "zmq.Socket[bytes]", until: Until) -> Reply:
    """Let the engine's side turn until the client has its answer; no request may reach the session meanwhile."""
    until(lambda: control.poll() == [] and socket.poll(0), "an answer")
    return parse_reply(socket.recv_multipart()[-1])


@pytest.mark.parametrize("kind", [zmq.REQ, zmq.DEALER])
@pytest.mark.parametrize(
    "command",
    [
        Mark(pulse=3, reason="the subject moved", id="7"),
        Unmark(pulse=3),
        SwapModel(path="/models/a.onnx", sha256="0" * 64),
        Calibrate(gains={"FDI": 1.5, "ADM": 0.5}),
    ],
)
def test_a_command_arrives_and_its_answer_goes_back(control, connect, until, kind, command) -> None:
    socket = connect(kind)
    socket.send(encode_control(command))
    ((caller, received),) = taken(control, until)
    assert received == command
    control.reply(caller, Reply(ok=True, detail={"n": 1}))
    until(lambda: socket.poll(0), "the answer")
    told = json.loads(socket.recv_multipart()[-1])
    assert told == {
        "schema": "m2m/1",
        "ok": True,
        "error": "",
        "command": json.loads(encode_control(command))["command"],
        "id": command.id,
        "session": "s1",
        "detail": {"n": 1},
    }


def test_two_clients_get_their_own_answers(control, connect, until) -> None:
    sockets = {name: connect() for name in ("a", "b")}
    for name, socket in sockets.items():
        socket.send(encode_control(Unmark(pulse=1, id=name)))
    requests: list[Any] = []
    until(lambda: requests.extend(control.poll()) or len(requests) == 2, "both requests")
    for caller, command in reversed(requests):
        control.reply(caller, Reply(ok=True, detail={"for": command.id}))
    for name, socket in sockets.items():
        until(lambda s=socket: s.poll(0), "the answer")
        assert parse_reply(socket.recv_multipart()[-1]).detail == {"for": name}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "cannot be read"),
        (b"hello", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[" * 5000, "cannot be read"),
        (b"{}", "missing required field `command`"),
        (b'{"command":"shutdown"}', "unknown command 'shutdown'; known are mark, unmark, swap_model, calibrate"),
        (b'{"command":"mark","pulse":1}', "mark: Object missing required field `reason`"),
        (b'{"command":"mark","pulse":1,"reason":""}', "length >= 1"),
        (b'{"command":"mark","pulse":-1,"reason":"x"}', ">= 0 - at `pulse`"),
        (b'{"command":"mark","pulse":1e3,"reason":"x"}', "mark"),
        (b'{"command":"mark","pulse":9999999999,"reason":"x"}', "<= 2147483647"),
        (b'{"command":"mark","pulse":1,"reason":"a\\nb"}', "cannot be printed"),
        (b'{"command":"mark","pulse":1,"reason":"\\u001b[2J"}', "cannot be printed"),
        (b'{"command":"mark","pulse":1,"reson":"x"}', "unknown key 'reson'; did you mean 'reason'"),
        (b'{"command":"mark","pulse":1,"reason":"%s"}' % (b"x" * 501), "length <= 500"),
        (b'{"command":"swap_model","path":""}', "length >= 1"),
        (b'{"command":"swap_model","path":"a\\u0000.onnx"}', "cannot be printed"),
        (b'{"command":"swap_model","path":"a","sha256":"ABC"}', "at `sha256`"),
        (b'{"command":"calibrate","gains":{}}', "length >= 1"),
        (b'{"command":"calibrate","gains":{"FDI":0}}', "0.05"),
        (b'{"command":"calibrate","gains":{"FDI":21}}', "20.0"),
        (b'{"command":"calibrate","gains":{"FDI":null}}', "got `null`"),
        (b'{"command":"calibrate","gains":{"FDI":NaN}}', "cannot be read"),
        (b'{"command":"mark","schema":"m2m/9","pulse":1,"reason":"x"}', "update the older side"),
        (b" " * 20_000, "expected at most 16384"),
    ],
)
def test_what_is_no_command_gets_its_reason_and_does_not_reach_the_session(
    control, connect, until, content, says
) -> None:
    socket = connect()
    socket.send(content)
    reply = answer(control, socket, until)
    assert not reply.ok
    assert says in reply.error
    assert control.n_refused == 1
    socket.send(encode_control(Mark(pulse=1, reason="well")))
    assert len(taken(control, until)) == 1, "the socket works as before"


def test_a_refused_request_gets_its_own_id_back(control, connect, until) -> None:
    socket = connect()
    socket.send(b'{"command":"mark","id":"42","pulse":"one","reason":"x"}')
    assert answer(control, socket, until).id == "42"


@pytest.mark.parametrize("n_frames", [2, 3, 200])
@pytest.mark.parametrize("kind", [zmq.REQ, zmq.DEALER])
def test_a_request_of_many_frames_is_refused_whole(control, connect, until, kind, n_frames) -> None:
    socket = connect(kind)
    socket.send_multipart([encode_control(Mark(pulse=1, reason="x"))] * n_frames)
    assert "more than one frame" in answer(control, socket, until).error
    socket.send(encode_control(Mark(pulse=2, reason="y")))
    ((_, command),) = taken(control, until)
    assert command.pulse == 2, "no frame of the first is taken for a request of its own"


def test_a_message_of_very_many_frames_is_read_in_small_pieces(control, connect, until) -> None:
    socket = connect()
    socket.send_multipart([b"x"] * (10 * FRAMES_PER_POLL))
    socket.send(encode_control(Unmark(pulse=5)))
    turns = 0

    def turn() -> list[Any]:
        nonlocal turns
        turns += 1
        return control.poll()

    until(lambda: control._bound.socket.poll(0), "the first message")
    ((_, command),) = until(turn, "the second")
    assert command.pulse == 5
    assert turns >= 10, "each turn reads a bounded number of frames"
    assert "more than one frame" in answer(control, socket, until).error


def test_a_frame_beyond_all_measure_costs_the_client_its_connection_and_nobody_else(control, connect, until) -> None:
    rude, polite = connect(), connect()
    rude.send(b"x" * (MAX_MESSAGE_BYTES + 1))
    polite.send(encode_control(Unmark(pulse=1)))
    assert len(taken(control, until)) == 1


def test_a_flood_is_taken_in_small_portions(control, connect, until) -> None:
    socket = connect()
    until(lambda: socket.poll(0, zmq.POLLOUT), "the connection")
    for n in range(3 * AT_MOST_PER_POLL):
        socket.send(encode_control(Unmark(pulse=n)))
    seen: list[int] = []

    def turn() -> bool:
        portion = control.poll()
        assert len(portion) <= AT_MOST_PER_POLL
        seen.extend(command.pulse for _, command in portion)
        return len(seen) == 3 * AT_MOST_PER_POLL

    until(turn, "all requests")
    assert seen == list(range(3 * AT_MOST_PER_POLL))


def test_a_client_that_never_reads_loses_its_answers_and_stops_nobody(control, connect, until) -> None:
    deaf, other = connect(), connect()
    deaf.send(encode_control(Unmark(pulse=0)))
    ((caller, _),) = taken(control, until)
    long = Reply(ok=True, detail={"text": "x" * 1_000_000})
    n = 4 * QUEUED + 1000  # what the queues of both sides hold, and what the network between them may
    for _ in range(n):
        control.reply(caller, long)
        if control.n_unanswered > QUEUED:
            break
    assert control.n_unanswered > QUEUED, "answers were dropped, not kept"
    other.send(encode_control(Unmark(pulse=1)))
    ((caller, _),) = taken(control, until)
    control.reply(caller, Reply(ok=True))
    assert until(lambda: other.poll(0), "the answer")


def test_an_answer_to_a_client_that_has_gone_is_counted(control, connect, until) -> None:
    socket = connect()
    socket.send(encode_control(Unmark(pulse=0)))
    ((caller, _),) = taken(control, until)
    socket.close(0)

    def send() -> int:
        control.poll()
        control.reply(caller, Reply(ok=True))
        return control.n_unanswered

    until(send, "the engine to notice that nobody is there")


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:5557", "tcp://*:5557", "tcp://10.0.0.7:5557"])
def test_the_network_gives_no_commands_without_keys(address: str) -> None:
    with pytest.raises(SettingsError, match=r"publish\.control_address.*m2m keys"):
        ControlSocket(address)


def test_an_address_that_is_taken_is_a_clear_error(control: ControlSocket) -> None:
    with pytest.raises(M2MError, match=r"cannot listen at.*publish\.control_address"):
        ControlSocket(control.address)


def test_loopback_may_be_that_of_ipv6(until) -> None:
    try:
        create_server(("::1", 0), family=AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    control = ControlSocket("tcp://[::1]:*")
    answered: list[Reply] = []
    try:
        with ControlClient(control.address) as client:
            asking = threading.Thread(target=lambda: answered.append(client.ask(Unmark(pulse=1), timeout_s=60.0)))
            asking.start()
            ((caller, _),) = taken(control, until)
            control.reply(caller, Reply(ok=True))
            asking.join()
    finally:
        control.close()
    assert answered[0].ok


def test_a_client_says_that_nobody_is_there() -> None:
    with ControlClient("tcp://127.0.0.1:1") as client, pytest.raises(NoAnswer, match="nobody listens there"):
        client.ask(Unmark(pulse=1), timeout_s=0.1)


def test_a_client_says_that_it_does_not_know_what_became_of_its_command(control: ControlSocket) -> None:
    with ControlClient(control.address) as client:
        with pytest.raises(NoAnswer, match="did not answer 'unmark' within 0.3 s. It may still do it"):
            client.ask(Unmark(pulse=1), timeout_s=0.3)
        assert len(control.poll()) == 1


def test_a_client_refuses_what_is_no_address() -> None:
    with pytest.raises(SettingsError, match="is no address of an engine"):
        ControlClient("127.0.0.1")


def test_what_answers_otherwise_is_no_engine() -> None:
    for content in (b"", b"{}", b'{"ok":1}', b"\xff", b"[" * 3000):
        with pytest.raises(ControlError, match="no engine of m2m-live"):
            parse_reply(content)
    with pytest.raises(ControlError, match="update the older side"):
        parse_reply(b'{"ok":true,"schema":"m2m/2"}')

"""Mutated commands: the parser and a real socket answer each with a reason, or take it for what it says."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import zmq

from rt_engine.control_messages import (
    Calibrate,
    Mark,
    Reply,
    SwapModel,
    Unmark,
    encode_control,
    parse_reply,
    parse_request,
)
from rt_engine.edges.control import ControlSocket
from rt_engine.errors import ControlError
from tests.fuzz.counts import COUNTS, for_each_seed, in_words
from tests.fuzz.mutations import spoil_bytes, spoil_tree

COMMANDS = [
    Mark(pulse=3, reason="the subject spoke", id="7"),
    Unmark(pulse=3, reason="a mistake"),
    SwapModel(path="/models/today.onnx", sha256="0" * 64),
    Calibrate(gains={"FDI": 1.5, "ADM": 0.5}, id="x"),
]
REQUESTS = [encode_control(command) for command in COMMANDS]
REPLY = encode_control(Reply(ok=True, command="mark", id="7", session="s", detail={"pulse": 3}))


def spoil_json(content: bytes, random: Random) -> bytes:
    if random.random() < 0.5:
        return spoil_bytes(content, random)
    return json.dumps(spoil_tree(json.loads(content), random)).encode()


@pytest.mark.parametrize("n", COUNTS)
def test_a_mutated_request_is_a_command_or_is_refused(n: int) -> None:
    refused = 0

    def check(random: Random) -> None:
        nonlocal refused
        try:
            command = parse_request(spoil_json(random.choice(REQUESTS), random))
        except ControlError as error:
            reason, request_id = str(error), error.request_id
        else:
            assert parse_request(encode_control(command)) == command
            return
        refused += 1
        assert reason.isprintable(), "it can be shown and logged"
        assert len(request_id) <= 64

    for_each_seed(n, check)
    assert refused > n // 4


@pytest.mark.parametrize("n", COUNTS)
def test_a_mutated_reply_is_one_or_is_refused(n: int) -> None:
    def check(random: Random) -> None:
        try:
            parse_reply(spoil_json(REPLY, random))
        except ControlError as error:
            in_words(error)

    for_each_seed(n, check)


@pytest.mark.parametrize("n", COUNTS)
def test_a_socket_answers_each_of_many_mutated_requests(n: int) -> None:
    control = ControlSocket("tcp://127.0.0.1:*", session="s")
    client = zmq.Context.instance().socket(zmq.DEALER)
    client.connect(control.address)
    taken = 0

    def check(random: Random) -> None:
        nonlocal taken
        frames = [b""] if random.random() < 0.5 else []
        frames += [spoil_json(random.choice(REQUESTS), random) for _ in range(random.choice((1, 1, 1, 2, 5)))]
        client.send_multipart(frames)
        answered = until_answered(control, client)
        taken += answered is not None
        assert answered is None or answered.ok
        assert client.poll(0) == 0, "one answer each"

    try:
        for_each_seed(n, check)
        assert control.n_unanswered == 0
        assert control.n_refused + taken >= n
    finally:
        client.close(0)
        control.close()


def until_answered(control: ControlSocket, client: "zmq.Socket[bytes]") -> Reply | None:
    """Turn the engine's loop until the client has its answer; None if that was a refusal."""
    wait: Callable[[], Any] = lambda: control._bound.socket.poll(1)  # noqa: E731
    for _ in range(60_000):
        for caller, _ in control.poll():
            control.reply(caller, Reply(ok=True))
        if client.poll(0):
            reply = parse_reply(client.recv_multipart()[-1])
            return reply if reply.ok else None
        wait()
    raise AssertionError("no answer")

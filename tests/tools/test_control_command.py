"""`m2m control` and `m2m keys` as a shell sees them: what is sent, what is printed, how they end."""

import os
import threading
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rt_engine.control_messages import Calibrate, Mark, Reply, SwapModel, Unmark
from rt_engine.edges.control import ControlSocket
from rt_engine.edges.curve_keys import server_keys
from rt_engine.model_file import read_model_info
from rt_engine.settings import Publish
from tests.conftest import Ended

MODEL = Path(str(files("configs") / "demo" / "kernel-ridge.onnx"))
M2M = Callable[..., Ended]


class Session:
    """Answers whatever comes with one reply, as a session would from its loop."""

    def __init__(self, control: ControlSocket, reply: Reply) -> None:
        self.control = control
        self.seen: list[Any] = []
        self._reply = reply
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.wait(0.002):
            for caller, command in self.control.poll():
                self.seen.append(command)
                self.control.reply(caller, self._reply)

    def close(self) -> None:
        self._end.set()
        self._thread.join()
        self.control.close()


@pytest.fixture
def session() -> Iterator[Callable[..., Session]]:
    made: list[Session] = []

    def make(reply: Reply | None = None, publish: Publish | None = None) -> Session:
        keys = server_keys(publish) if publish else None
        made.append(Session(ControlSocket("tcp://127.0.0.1:*", keys, session="s"), reply or Reply(ok=True)))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["mark", "12", "--reason", "subject spoke"], Mark(pulse=12, reason="subject spoke")),
        (["unmark", "12"], Unmark(pulse=12)),
        (["calibrate", "FDI=1.5", "a=b=2"], Calibrate(gains={"FDI": 1.5, "a=b": 2.0})),
        (["swap", "elsewhere/a.onnx", "--remote"], SwapModel(path=str(Path("elsewhere/a.onnx")))),
    ],
)
def test_a_command_is_sent_and_what_was_done_is_told(m2m: M2M, session, words, command) -> None:
    running = session(Reply(ok=True, detail={"gains": {"FDI": 1.5}, "n": 3}))
    ended = m2m("control", *words, "--address", running.control.address, "--json")
    assert ended.code == 0
    (seen,) = running.seen
    assert {**msgspec.to_builtins(seen), "id": ""} == msgspec.to_builtins(command)
    assert ended.json == {
        "ok": True,
        "error": "",
        "command": msgspec.to_builtins(command)["command"],
        "session": "s",
        "detail": {"gains": {"FDI": 1.5}, "n": 3},
    }
    assert "done" in ended.err
    assert "gains FDI=1.5" in ended.err


def test_a_model_is_read_first_and_sent_with_its_digest(m2m: M2M, session, monkeypatch) -> None:
    running = session()
    monkeypatch.chdir(MODEL.parent)
    ended = m2m("control", "swap", MODEL.name, "--address", running.control.address)
    assert ended.code == 0
    (command,) = running.seen
    assert command.path == str(MODEL.resolve())
    assert command.sha256 == read_model_info(MODEL).sha256


def test_what_is_no_model_is_not_sent(m2m: M2M, session, tmp_path) -> None:
    running = session()
    (tmp_path / "a.onnx").write_bytes(b"nonsense")
    ended = m2m("control", "swap", tmp_path / "a.onnx", "--address", running.control.address)
    assert ended.code == 1
    assert "this is not a model of m2m-live" in ended.err
    assert running.seen == []


def test_a_refusal_ends_with_1_and_says_why(m2m: M2M, session) -> None:
    running = session(Reply(ok=False, error="there is no pulse 99"))
    ended = m2m("control", "mark", "99", "-r", "x", "--address", running.control.address, "--json")
    assert ended.code == 1
    assert "there is no pulse 99" in ended.err
    assert not ended.json["ok"]


def test_no_answer_ends_with_3(m2m: M2M) -> None:
    ended = m2m("control", "unmark", "1", "--address", "tcp://127.0.0.1:1", "--timeout", "0.2", "--json")
    assert ended.code == 3
    assert "nobody listens there" in ended.err
    assert not ended.json["ok"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["calibrate", "FDI"], "expected MUSCLE=GAIN"),
        (["calibrate", "=1"], "expected MUSCLE=GAIN"),
        (["calibrate", "FDI=one"], "expected MUSCLE=GAIN"),
        (["calibrate", "FDI=1", "FDI=2"], "named twice"),
        (["calibrate", "FDI=100"], "<= 20.0"),
        (["calibrate", "FDI=nan"], "calibrate"),
        (["mark", "1", "--reason", ""], "length >= 1"),
        (["mark", "1", "--reason", "two\nlines"], "cannot be printed"),
        (["unmark", "1", "--key", "ann.key_secret"], "needs two files"),
        (["unmark", "1", "--address", "127.0.0.1:5557"], "is no address of an engine"),
    ],
)
def test_what_cannot_be_is_refused_before_it_is_sent(m2m: M2M, words, says) -> None:
    ended = m2m("control", *words)
    assert ended.code == 1
    assert says in ended.err


@pytest.mark.parametrize("words", [["mark", "1"], ["mark", "-1", "-r", "x"], ["calibrate"], ["shutdown"]])
def test_wrong_usage_ends_with_2(m2m: M2M, words) -> None:
    assert m2m("control", *words).code == 2


def test_keys_are_made_and_let_a_client_in(m2m: M2M, session, tmp_path) -> None:
    made = m2m("keys", "engine", "--folder", tmp_path, "--json")
    assert made.code == 0
    assert "keep it to yourself" in made.err
    assert m2m("keys", "ann", "-f", tmp_path / "clients").code == 0
    publish = Publish(curve_secret=made.json["secret"], curve_clients=str(tmp_path / "clients"))
    running = session(publish=publish)
    words = ["--address", running.control.address, "--server-key", made.json["public"], "--timeout", "30"]
    assert m2m("control", "unmark", "1", *words, "--key", tmp_path / "clients" / "ann.key_secret").code == 0
    stranger = m2m("control", "unmark", "1", *words, "--key", made.json["secret"])
    assert stranger.code == 3
    assert "does not know this client's key" in stranger.err
    again = m2m("keys", "engine", "--folder", tmp_path)
    assert again.code == 1
    assert "never replaced" in again.err
    if os.name == "posix":
        assert Path(made.json["secret"]).stat().st_mode & 0o077 == 0

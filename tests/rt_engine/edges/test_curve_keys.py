"""CURVE keys: who shows a known one gets in, who shows none or another gets nothing, and keys do not get about."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from rt_engine.control_messages import Calibrate, Reply, Unmark, encode_control
from rt_engine.edges.control import ControlSocket
from rt_engine.edges.control_client import ControlClient, NoAnswer
from rt_engine.edges.curve_keys import ClientKeys, CurveKeys, client_keys, make_key_pair, server_keys
from rt_engine.edges.publisher import Publisher
from rt_engine.errors import SettingsError
from rt_engine.messages import HealthHeader, decode
from rt_engine.settings import Publish

Until = Callable[..., Any]


class Laboratory:
    """An engine's keys and those of some people."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_key_pair(folder, "engine")
        for name in ("ann", "eve"):
            make_key_pair(folder, name)
        self.clients = folder / "clients"
        self.clients.mkdir()
        self.let_in("ann")

    def let_in(self, name: str) -> None:
        (self.clients / f"{name}.key").write_bytes((self.folder / f"{name}.key").read_bytes())

    def engine(self) -> CurveKeys:
        keys = server_keys(
            Publish(curve_secret=str(self.folder / "engine.key_secret"), curve_clients=str(self.clients))
        )
        assert keys is not None
        return keys

    def client(self, name: str, server: str = "engine") -> ClientKeys:
        keys = client_keys(self.folder / f"{name}.key_secret", self.folder / f"{server}.key")
        assert keys is not None
        return keys


@pytest.fixture
def lab(tmp_path: Path) -> Laboratory:
    return Laboratory(tmp_path)


@pytest.fixture
def publisher(lab: Laboratory) -> Iterator[Publisher]:
    made = Publisher("tcp://127.0.0.1:*", "s", lab.engine())
    yield made
    made.close()


@pytest.fixture
def listen(publisher: Publisher) -> Iterator[Callable[..., tuple[Any, Any]]]:
    made: list[Any] = []

    def make(keys: ClientKeys | None) -> tuple[Any, Any]:
        socket = zmq.Context.instance().socket(zmq.SUB)
        monitor = socket.get_monitor_socket(
            zmq.Event.HANDSHAKE_SUCCEEDED
            | zmq.Event.HANDSHAKE_FAILED_AUTH
            | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
            | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
        )
        socket.subscribe(b"")
        socket.setsockopt(zmq.HANDSHAKE_IVL, 1000)  # else an engine without a guard is waited for half a minute
        if keys:
            keys.secure(socket)
        socket.connect(publisher.address)
        made.append((socket, monitor))
        return made[-1]

    yield make
    for socket, monitor in made:
        socket.disable_monitor()
        monitor.close(0)
        socket.close(0)


def test_who_shows_a_known_key_gets_messages(lab, publisher, listen, until) -> None:
    socket, _ = listen(lab.client("ann"))
    until(lambda: publisher._socket.poll(0), "the subscription")
    publisher.send(HealthHeader(state="READY", t=1.0))
    until(lambda: socket.poll(0), "the message")
    assert decode(socket.recv_multipart())[0].state == "READY"


@pytest.mark.parametrize(
    "keys",
    [
        lambda lab: lab.client("eve"),
        lambda lab: None,
        lambda lab: lab.client("ann", server="eve"),
    ],
    ids=["unknown", "none", "for another engine"],
)
def test_who_shows_another_key_or_none_gets_nothing(lab, publisher, listen, until, keys) -> None:
    good, _ = listen(lab.client("ann"))
    bad, monitor = listen(keys(lab))
    until(lambda: monitor.poll(0), "the handshake")
    until(lambda: publisher._socket.poll(0), "the good one's subscription")
    for n in range(20):
        publisher.send(HealthHeader(state="READY", t=float(n)))
        publisher.serve_subscribers()
    for _ in range(20):
        until(lambda: good.poll(0), "the message")
        good.recv_multipart()
    assert not bad.poll(0)
    assert recv_monitor_message(monitor)["event"] != zmq.Event.HANDSHAKE_SUCCEEDED


def test_a_client_is_let_in_and_kept_out_while_the_engine_runs(lab, publisher, listen, until) -> None:
    lab.let_in("eve")
    socket, _ = listen(lab.client("eve"))
    until(lambda: publisher._socket.poll(0), "the subscription of a client that has come later")
    (lab.clients / "ann.key").unlink()
    _, monitor = listen(lab.client("ann"))
    until(lambda: monitor.poll(0), "the handshake")
    assert lab.engine().knows(lab.client("eve").public)
    assert not lab.engine().knows(lab.client("ann").public)
    assert socket is not None


def test_nobody_gets_in_when_the_guard_at_the_door_is_gone(lab, publisher, listen, until) -> None:
    """ZeroMQ's own default would be to let everybody in."""
    publisher._bound._guard.stop()
    publisher._bound._guard = None
    socket, monitor = listen(lab.client("eve"))
    until(lambda: monitor.poll(0), "the handshake")
    assert recv_monitor_message(monitor)["event"] != zmq.Event.HANDSHAKE_SUCCEEDED
    assert not publisher._socket.poll(0)
    assert not socket.poll(0)


def test_commands_need_a_known_key_too(lab, until) -> None:
    control = ControlSocket("tcp://*:*", lab.engine(), session="s")
    address = control.address.replace("0.0.0.0", "127.0.0.1")
    try:
        for keys, why in [
            (lab.client("eve"), "does not know this client's key"),
            (None, "the engine asks for a key"),
            (lab.client("ann", server="eve"), "has another key than the file of --server-key says"),
        ]:
            with ControlClient(address, keys) as client, pytest.raises(NoAnswer, match=why):
                client.ask(Unmark(pulse=1), timeout_s=30.0)
            assert control.poll() == []
        with zmq.Context() as context, context.socket(zmq.REQ) as socket:
            lab.client("ann").secure(socket)
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(address)
            socket.send(encode_control(Unmark(pulse=1)))
            ((caller, command),) = until(control.poll, "the command")
            control.reply(caller, Reply(ok=True))
            assert command == Unmark(pulse=1)
            until(lambda: socket.poll(0), "the answer")
    finally:
        control.close()


def test_a_session_with_keys_publishes_to_and_obeys_only_those_it_knows(lab, amplifier, live, until) -> None:
    """As two machines would: on all interfaces, with the keys that the settings name."""
    publish = {
        "address": "tcp://*:*",
        "control_address": "tcp://*:*",
        "curve_secret": str(lab.folder / "engine.key_secret"),
        "curve_clients": str(lab.clients),
    }
    running = live(amplifier(), publish=publish)  # its own subscriber shows no key
    session = running.session
    published, control = (each.replace("0.0.0.0", "127.0.0.1") for each in (session.address, session.control_address))
    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.subscribe(b"health")
    lab.client("ann").secure(socket)
    socket.connect(published)
    try:
        running.launch()

        def ready() -> bool:
            assert not running.error
            return bool(socket.poll(0)) and decode(socket.recv_multipart())[0].state == "READY"

        until(ready, "READY")
        with ControlClient(control, lab.client("ann")) as client:
            assert client.ask(Calibrate(gains={"FDI": 1.5}), timeout_s=30.0).detail["gains"]["FDI"] == 1.5
        with ControlClient(control, lab.client("eve")) as client, pytest.raises(NoAnswer, match="does not know"):
            client.ask(Calibrate(gains={"FDI": 1.0}), timeout_s=30.0)
        assert running.of("health") == []
    finally:
        socket.close(0)
        context.term()


def test_a_client_with_keys_says_that_the_engine_has_none(lab) -> None:
    control = ControlSocket("tcp://127.0.0.1:*")
    try:
        with (
            ControlClient(control.address, lab.client("ann")) as client,
            pytest.raises(NoAnswer, match="or asks for none"),
        ):
            client.ask(Unmark(pulse=1), timeout_s=30.0)
    finally:
        control.close()


@pytest.mark.skipif(os.name != "posix", reason="files have no mode here")
def test_new_keys_are_their_owners_alone(tmp_path) -> None:
    made = make_key_pair(tmp_path / "new" / "keys", "engine")
    assert [path.name for path in made] == ["engine.key", "engine.key_secret"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o600}
    assert stat.S_IMODE((tmp_path / "new" / "keys").stat().st_mode) == 0o700
    assert sorted(path.name for path in (tmp_path / "new" / "keys").iterdir()) == ["engine.key", "engine.key_secret"]


@pytest.mark.parametrize("left", ["engine.key", "engine.key_secret"])
def test_keys_are_never_replaced(tmp_path, left) -> None:
    (tmp_path / left).write_text("precious")
    with pytest.raises(SettingsError, match=r"is there already, and a key is never replaced"):
        make_key_pair(tmp_path, "engine")
    assert [path.name for path in tmp_path.iterdir()] == [left]
    assert (tmp_path / left).read_text() == "precious"


@pytest.mark.parametrize("name", ["", ".", "../up", "a/b", "a b", "ä", "x\0"])
def test_a_name_that_could_lead_elsewhere_is_refused(tmp_path, name) -> None:
    with pytest.raises(SettingsError, match="is no name for a key"):
        make_key_pair(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_settings_without_keys_have_none() -> None:
    assert server_keys(Publish()) is None
    assert client_keys(None, None) is None


def test_half_a_set_of_keys_is_refused(lab) -> None:
    secret = str(lab.folder / "engine.key_secret")
    with pytest.raises(SettingsError, match=r"needs publish\.curve_clients"):
        server_keys(Publish(curve_secret=secret))
    with pytest.raises(SettingsError, match=r"publish\.curve_secret names no key"):
        server_keys(Publish(curve_clients=str(lab.clients)))
    for own, server in ((lab.folder / "ann.key_secret", None), (None, lab.folder / "engine.key")):
        with pytest.raises(SettingsError, match="needs two files"):
            client_keys(own, server)


def test_a_folder_that_lets_nobody_in_is_refused(lab) -> None:
    (lab.clients / "ann.key").unlink()
    with pytest.raises(SettingsError, match="nobody would be let in"):
        lab.engine()
    lab.clients.rmdir()
    with pytest.raises(SettingsError, match="there is no folder"):
        lab.engine()


def test_a_secret_that_others_may_read_is_refused(lab) -> None:
    if os.name != "posix":
        pytest.skip("files have no mode here")
    (lab.folder / "engine.key_secret").chmod(0o640)
    with pytest.raises(SettingsError, match="other users may read the secret key .* chmod 600"):
        lab.engine()


def test_a_folder_to_which_everybody_may_add_keys_is_refused(lab) -> None:
    if os.name != "posix":
        pytest.skip("files have no mode here")
    lab.clients.chmod(0o777)
    with pytest.raises(SettingsError, match="every user may let others in.*chmod o-w"):
        lab.engine()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "holds no CURVE key"),
        (b"\x00\xff\xfe", "holds no CURVE key"),
        (b'public-key = "short"', "damaged key"),
        (b'public-key = ""', "damaged key"),
        (b'public-key = "' + b"\xff" * 40 + b'"', "damaged key"),
        (b"public-key", "holds no CURVE key"),
        (b"#" * 100_000, "larger than"),
    ],
)
def test_a_file_that_is_no_key_is_named(lab, content, says) -> None:
    (lab.clients / "broken.key").write_bytes(content)
    with pytest.raises(SettingsError, match=says) as caught:
        lab.engine()
    assert "broken.key" in str(caught.value)


def test_keys_that_do_not_belong_together_are_refused(lab) -> None:
    path = lab.folder / "engine.key_secret"
    public, other = ((lab.folder / f"{name}.key").read_text().split('"')[1] for name in ("engine", "eve"))
    path.write_text(path.read_text().replace(public, other))
    with pytest.raises(SettingsError, match="do not belong together"):
        lab.engine()
    path.write_text(path.read_text().replace(path.read_text().split('"')[3], ""))
    with pytest.raises(SettingsError, match="damaged key"):
        lab.engine()
    with pytest.raises(SettingsError, match="holds a public key only"):
        client_keys(lab.folder / "ann.key", lab.folder / "engine.key")
    with pytest.raises(SettingsError, match="cannot read the key file"):
        client_keys(lab.folder / "absent.key_secret", lab.folder / "engine.key")


def test_no_secret_key_is_shown_by_accident(lab) -> None:
    keys = lab.engine(), lab.client("ann")
    assert not any(each.secret.decode() in repr(each) for each in keys)

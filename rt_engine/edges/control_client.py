"""The other end of the control socket: sends one command to a running session and waits for its answer."""

import time
import uuid
from types import TracebackType

import msgspec
import zmq
from zmq.utils.monitor import recv_monitor_message

from rt_engine.control_messages import Command, Reply, command_name, encode_control, parse_reply
from rt_engine.edges.curve_keys import ClientKeys
from rt_engine.edges.handshake import HANDSHAKE_EVENTS, HANDSHAKE_FAILURES, why_not_connected
from rt_engine.errors import ControlError, SettingsError
from rt_engine.messages import MAX_FRAME_BYTES

DEFAULT_TIMEOUT_S = 10.0
"""To answer `swap_model`, an engine opens the model first."""

POLL_MS = 50


class NoAnswer(ControlError):
    """Nobody answered in time; whether the command was carried out is not known."""


class ControlClient:
    """Asks a session for something.

    Parameters
    ----------
    address
        Of the control socket, e.g. ``tcp://127.0.0.1:5557``.
    keys
        The client's CURVE keys, for an engine that has some.

    Raises
    ------
    SettingsError
        If the address is none.
    """

    def __init__(self, address: str, keys: ClientKeys | None = None) -> None:
        self.address = address
        self._has_keys = keys is not None
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        self._socket.setsockopt(zmq.IPV6, "[" in address)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)  # nothing is kept for an engine that is not there
        self._monitor = self._socket.get_monitor_socket(HANDSHAKE_EVENTS)
        self._events: set[int] = set()
        if keys:
            keys.secure(self._socket)
        try:
            self._socket.connect(address)
        except zmq.ZMQError as error:
            self.close()
            raise SettingsError(
                f"{address!r} is no address of an engine ({error}); expected one like tcp://127.0.0.1:5557"
            ) from error

    def __enter__(self) -> "ControlClient":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def ask(self, command: Command, timeout_s: float = DEFAULT_TIMEOUT_S) -> Reply:
        """Send a command and wait for what the session says to it.

        Parameters
        ----------
        command
            Its `id` is filled in if it is empty.
        timeout_s
            How long to wait for a connection and the answer, together.

        Returns
        -------
        Reply
            `ok` says whether it was done, `error` why not.

        Raises
        ------
        NoAnswer
            If nobody answers in time.
        ControlError
            If what answers is no engine.
        """
        asked = command if command.id else msgspec.structs.replace(command, id=uuid.uuid4().hex[:16])
        deadline = time.monotonic() + timeout_s
        # Only once the engine has greeted us: before, a command would wait in a queue and be carried out at some time.
        if not self._wait(zmq.POLLOUT, deadline):
            why = why_not_connected(self._events, self._has_keys)
            raise NoAnswer(f"no engine answers at {self.address}: {why}")
        self._socket.send_multipart([b"", encode_control(asked)], zmq.NOBLOCK)
        while self._wait(zmq.POLLIN, deadline):
            frames = self._socket.recv_multipart(zmq.NOBLOCK)
            reply = parse_reply(frames[-1])
            if reply.id == asked.id:  # else a late answer to an earlier question
                return reply
        raise NoAnswer(
            f"the engine at {self.address} did not answer {command_name(command)!r} within {timeout_s:g} s. It may "
            "still do it: look at its record before you ask again"
        )

    def close(self) -> None:
        """Close the socket."""
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close()
        self._context.term()

    def _wait(self, wanted: int, deadline: float) -> bool:
        while not self._socket.poll(POLL_MS, wanted):
            while self._monitor.poll(0):
                self._events.add(recv_monitor_message(self._monitor)["event"])
            if time.monotonic() > deadline or self._events & HANDSHAKE_FAILURES:
                return False
        return True

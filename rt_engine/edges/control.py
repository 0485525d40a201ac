"""The control socket: takes commands of a few known kinds and answers each one. Never waits, and nobody can make it.

A ROUTER socket, for clients with a REQ or DEALER socket. What a request means is for the session to say; here it is
received, parsed and answered.
"""

import logging
from dataclasses import dataclass

import zmq

from rt_engine.control_messages import MAX_REQUEST_BYTES, Command, Reply, command_name, encode_control, parse_request
from rt_engine.edges.bound_socket import BoundSocket
from rt_engine.edges.curve_keys import CurveKeys
from rt_engine.errors import ControlError

log = logging.getLogger(__name__)

AT_MOST_PER_POLL = 8
"""Requests looked at in one go: a flood of them costs the loop a fraction of a millisecond per turn."""

MOST_FRAMES = 3
"""Of a request: client, perhaps an empty delimiter, content."""

FRAMES_PER_POLL = 64

QUEUED = 16
"""Requests, and replies, that wait per client; of a client that does not read, further replies are dropped."""

MAX_MESSAGE_BYTES = 4 * MAX_REQUEST_BYTES
"""Of a longer frame ZeroMQ itself cuts the connection; shorter ones that are too long still get an answer."""

LINGER_MS = 200
"""How long closing waits for replies on their way."""


@dataclass(frozen=True)
class Caller:
    """Who asked, and for what: needed to answer.

    Attributes
    ----------
    envelope
        Frames in front of the reply.
    command
        Name of the command.
    request_id
        Chosen by the client.
    """

    envelope: tuple[bytes, ...]
    command: str
    request_id: str


class ControlSocket:
    """Receives commands and answers them.

    Parameters
    ----------
    address
        Loopback TCP (port ``*`` picks a free one) or, with keys, any TCP address.
    keys
        The engine's CURVE keys, or None.
    session
        Identity of the session, put into every reply.

    Attributes
    ----------
    address
        Where the socket really is.
    n_refused
        Requests that could not be understood.
    n_unanswered
        Replies that found nobody: the client has gone, or does not read.

    Raises
    ------
    SettingsError
        If the address is none, or public without keys.
    M2MError
        If it is taken.
    """

    def __init__(self, address: str, keys: CurveKeys | None = None, *, session: str = "") -> None:
        self.session = session
        self.n_refused = 0
        self.n_unanswered = 0
        self._skipping = False
        options: dict[int, int] = {
            zmq.RCVHWM: QUEUED,
            zmq.SNDHWM: QUEUED,
            zmq.MAXMSGSIZE: MAX_MESSAGE_BYTES,
            zmq.LINGER: LINGER_MS,
            zmq.ROUTER_MANDATORY: 1,  # a reply that reaches nobody is an error that can be counted
        }
        self._bound = BoundSocket(zmq.ROUTER, address, keys, options, "publish.control_address")
        self.address = self._bound.address

    def poll(self) -> list[tuple[Caller, Command]]:
        """Take what has come, at most `AT_MOST_PER_POLL` requests. Never waits.

        Returns
        -------
        list of (Caller, command)
            Each must be answered with `reply`. Requests that cannot be understood have been answered already and are
            not among them.
        """
        taken: list[tuple[Caller, Command]] = []
        frames_left = FRAMES_PER_POLL
        for _ in range(AT_MOST_PER_POLL):
            frames, used = self._receive(frames_left)
            frames_left -= used
            if frames is None:
                break
            begin = 2 if frames[1] == b"" and len(frames) > 2 else 1  # REQ sends an empty frame first, DEALER need not
            envelope = tuple(frames[:begin])
            try:
                if len(frames) != begin + 1:
                    raise ControlError("the request has more than one frame; expected one JSON object")
                command = parse_request(frames[begin])
            except ControlError as error:
                self._refuse(envelope, error)
                continue
            taken.append((Caller(envelope, command_name(command), command.id), command))
        return taken

    def reply(self, caller: Caller, reply: Reply) -> None:
        """Answer a request; `command`, `id` and `session` of the reply are filled in. Never waits.

        Parameters
        ----------
        caller
            As `poll` returned it.
        reply
            What was done, or why not.
        """
        reply.command, reply.id = caller.command, caller.request_id
        self._send(caller.envelope, reply)

    def close(self) -> None:
        """Close the socket; replies on their way are waited for, but not for long."""
        self._bound.close()

    def _receive(self, frames_left: int) -> tuple[list[bytes] | None, int]:
        """Return the first frames of the next request and how many were read; None if there is none yet.

        Frames beyond what a request may have are read and forgotten, not more than `frames_left` in one turn: a message
        of a million frames must not hold up the loop.
        """
        if not self._skipping and frames_left <= MOST_FRAMES:  # a request is taken whole
            return None, 0
        socket = self._bound.socket
        frames: list[bytes] = []
        for used in range(1, frames_left + 1):
            try:
                frame = socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return None, used
            more = bool(socket.getsockopt(zmq.RCVMORE))
            if self._skipping:
                self._skipping = more
                continue
            frames.append(frame)
            if not more:
                return frames, used
            if len(frames) > MOST_FRAMES:
                self._skipping = True
                return frames, used
        return None, frames_left

    def _refuse(self, envelope: tuple[bytes, ...], error: ControlError) -> None:
        self.n_refused += 1
        log.info("a control request was refused: %s", error)
        self._send(envelope, Reply(ok=False, error=str(error), id=error.request_id))

    def _send(self, envelope: tuple[bytes, ...], reply: Reply) -> None:
        reply.session = self.session
        try:
            self._bound.socket.send_multipart([*envelope, encode_control(reply)], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise
            self.n_unanswered += 1

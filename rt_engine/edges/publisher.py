"""The ZeroMQ publisher: one XPUB socket; a late subscriber at once gets the last `session` and `geometry`."""

import zmq

from rt_engine.edges.bound_socket import BoundSocket
from rt_engine.edges.curve_keys import CurveKeys
from rt_engine.messages import Arrays, Header, encode

KEPT_TOPICS = ("session", "geometry")
"""Sent again to every new subscriber."""

HIGH_WATER_MARK = 64
"""Messages kept per subscriber; one that does not read loses the newest and costs nothing more."""

LINGER_MS = 500
"""How long closing waits for messages on their way."""

MAX_REQUEST_BYTES = 1024
"""Of a subscription; whoever sends a longer one is cut off by ZeroMQ."""

AT_MOST_PER_CALL = 64
"""Subscriptions served in one go, so that a flood of them does not hold up the loop."""


class Publisher:
    """Sends messages to whoever listens. Never waits.

    Parameters
    ----------
    address
        Loopback TCP (port ``*`` picks a free one), ``ipc://`` or ``inproc://``; with keys, any TCP address.
    session
        Identity of the session, put into every header.
    keys
        The engine's CURVE keys: then only clients whose key is known get messages.

    Attributes
    ----------
    address
        Where it really publishes.
    n_overflows
        How often a subscriber's queue was full, so that it began to lose messages. How many it lost its own holes in
        `seq` tell; ZeroMQ counts no further until it reads again.

    Raises
    ------
    SettingsError
        If the address is none, or is one that other machines reach and there are no keys.
    M2MError
        If it is taken.
    """

    def __init__(self, address: str, session: str, keys: CurveKeys | None = None) -> None:
        self.session = session
        self._seq: dict[str, int] = {}
        self._kept: dict[str, list[bytes]] = {}
        options: dict[int, int] = {
            zmq.XPUB_VERBOSE: 1,
            zmq.XPUB_NODROP: 1,  # a full queue is an error first, so that it can be counted
            zmq.SNDHWM: HIGH_WATER_MARK,
            zmq.LINGER: LINGER_MS,
            zmq.MAXMSGSIZE: MAX_REQUEST_BYTES,
        }
        self._bound = BoundSocket(zmq.XPUB, address, keys, options, "publish.address")
        self._socket = self._bound.socket
        self.address = self._bound.address
        self.n_overflows = 0

    def send(self, header: Header, arrays: Arrays | None = None) -> None:
        """Send one message; `seq` and `session` of its header are filled in."""
        header.session = self.session
        header.seq = self._seq.get(header.topic, 0)
        self._seq[header.topic] = header.seq + 1
        frames = encode(header, arrays)
        if header.topic in KEPT_TOPICS:
            self._kept[header.topic] = frames
        self._send(frames)

    def serve_subscribers(self) -> None:
        """Give new subscribers what they need to understand the rest. Call often; returns at once."""
        for _ in range(AT_MOST_PER_CALL):
            if not self._socket.poll(0, zmq.POLLIN):
                return
            request = self._socket.recv(zmq.NOBLOCK)
            if request[:1] == b"\x01":  # a subscription; 0 would be its end
                wanted = request[1:].decode(errors="replace")
                for topic, frames in self._kept.items():
                    if topic.startswith(wanted):
                        self._send(frames)

    def close(self) -> None:
        """Close the socket."""
        self._bound.close()

    def _send(self, frames: list[bytes]) -> None:
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
            return
        except zmq.Again:
            # It may only look full: what subscribers have read since, ZeroMQ learns when it is asked for events.
            self._socket.getsockopt(zmq.EVENTS)
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            self.n_overflows += 1
            # Those with room get it all the same; the holes in `seq` tell the one without.
            self._socket.setsockopt(zmq.XPUB_NODROP, 0)
            try:
                self._socket.send_multipart(frames, zmq.NOBLOCK)
            finally:
                self._socket.setsockopt(zmq.XPUB_NODROP, 1)

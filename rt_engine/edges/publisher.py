"""The ZeroMQ publisher: one XPUB socket; a late subscriber at once gets the last `session` and `geometry`."""

import ipaddress
import re

import zmq

from rt_engine.errors import M2MError, SettingsError
from rt_engine.messages import Arrays, Header, encode

KEPT_TOPICS = ("session", "geometry")
"""Sent again to every new subscriber."""

HIGH_WATER_MARK = 64
"""Messages kept per subscriber; one that does not read loses the newest and costs nothing more."""

LINGER_MS = 500
"""How long closing waits for messages on their way."""


class Publisher:
    """Sends messages to whoever listens. Never waits.

    Parameters
    ----------
    address
        Loopback TCP (port ``*`` picks a free one), ``ipc://`` or ``inproc://``.
    session
        Identity of the session, put into every header.

    Raises
    ------
    SettingsError
        If the address is not one that only this machine reaches.
    M2MError
        If it is taken.
    """

    def __init__(self, address: str, session: str) -> None:
        refuse_public(address)
        self.session = session
        self._seq: dict[str, int] = {}
        self._kept: dict[str, list[bytes]] = {}
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.XPUB)
        self._socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._socket.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
        self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        try:
            self._socket.bind(address)
        except zmq.ZMQError as error:
            self._socket.close(0)
            raise M2MError(
                f"cannot publish at {address}: {error.strerror}. If another engine runs, stop it or give this one "
                "another publish.address"
            ) from error
        self.address: str = self._socket.getsockopt(zmq.LAST_ENDPOINT).decode().rstrip("\0")

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
        while self._socket.poll(0, zmq.POLLIN):
            request = self._socket.recv(zmq.NOBLOCK)
            if request[:1] == b"\x01":  # a subscription; 0 would be its end
                wanted = request[1:].decode(errors="replace")
                for topic, frames in self._kept.items():
                    if topic.startswith(wanted):
                        self._send(frames)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _send(self, frames: list[bytes]) -> None:
        # XPUB drops for a subscriber whose queue is full; the holes in `seq` tell that subscriber.
        self._socket.send_multipart(frames, zmq.NOBLOCK)


def refuse_public(address: str) -> None:
    """Refuse an address that other machines could reach: there is no authentication yet.

    Raises
    ------
    SettingsError
        If the address is not loopback, ``ipc://`` or ``inproc://``.
    """
    found = re.fullmatch(r"tcp://(?P<host>\[.+\]|[^:]+):(\d+|\*)", address)
    if found is None:
        if re.match(r"(ipc|inproc)://.", address):
            return
        raise SettingsError(f"cannot publish at {address!r}; expected e.g. 'tcp://127.0.0.1:5556'")
    host = found["host"].strip("[]")
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        raise SettingsError(
            f"publishing at {address} would be open to the network without authentication; use 'tcp://127.0.0.1:PORT'"
        )

"""The socket: receives what the engine publishes, without ever waiting, and feeds it to a `DisplayState`.

No thread and no Qt: whoever owns it calls `poll` when the file descriptor wakes, and now and then in any case.
"""

from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from rt_engine.edges.curve_keys import ClientKeys
from rt_engine.errors import DataError, SettingsError
from rt_engine.messages import MAX_FRAME_BYTES, decode
from tools.display.state import DisplayState

AT_MOST_PER_POLL = 500
"""Messages taken in one go, so that a flood leaves time to draw."""

QUEUE = 1000
"""Messages that ZeroMQ keeps for a window that is busy; beyond, they are lost and seen as holes."""

_WATCHED = (
    zmq.Event.HANDSHAKE_SUCCEEDED
    | zmq.Event.HANDSHAKE_FAILED_AUTH
    | zmq.Event.CONNECTED
    | zmq.Event.CLOSED
    | zmq.Event.DISCONNECTED
)


class Subscriber:
    """A SUB socket that feeds a `DisplayState`.

    Parameters
    ----------
    address
        ZeroMQ endpoint of the engine, e.g. ``tcp://127.0.0.1:5556``.
    state
        What to feed.
    keys
        CURVE keys, for an engine that asks for some.

    Raises
    ------
    SettingsError
        If the address is none.
    """

    def __init__(self, address: str, state: DisplayState, keys: ClientKeys | None = None) -> None:
        self._state = state
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, QUEUE)
        self._socket.setsockopt(zmq.IPV6, "[" in address)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        # An engine that comes back is found within a second.
        self._socket.setsockopt(zmq.RECONNECT_IVL, 100)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        # Else an engine that vanished without a word (cable, power) would be waited for without end.
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, 1000)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 5000)
        self._monitor: Any = self._socket.get_monitor_socket(_WATCHED)
        self._greeted = False
        if keys:
            keys.secure(self._socket)
        try:
            self._socket.connect(address)
        except zmq.ZMQError as error:
            self.close()
            raise SettingsError(
                f"{address!r} is no address of an engine ({error}); expected one like tcp://127.0.0.1:5556"
            ) from error

    @property
    def fd(self) -> int:
        """File descriptor that wakes when something may have come (edge-triggered: then poll until it gives 0)."""
        return int(self._socket.getsockopt(zmq.FD))

    def poll(self, now: float) -> int:
        """Take what has come.

        Parameters
        ----------
        now
            Monotonic time, s.

        Returns
        -------
        int
            Number of messages taken, at most `AT_MOST_PER_POLL`; if that many, more may wait.
        """
        self._poll_monitor()
        for taken in range(AT_MOST_PER_POLL):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return taken
            try:
                header, arrays = decode(frames)
                self._state.receive(header, arrays, now)
            except DataError as error:
                self._state.receive_malformed(str(error))
        return AT_MOST_PER_POLL

    def _poll_monitor(self) -> None:
        while self._monitor.poll(0):
            match recv_monitor_message(self._monitor)["event"]:
                case zmq.Event.CONNECTED:
                    self._greeted = False
                case zmq.Event.HANDSHAKE_SUCCEEDED:
                    self._greeted = True
                    self._state.link = "connected"
                case zmq.Event.HANDSHAKE_FAILED_AUTH:
                    self._state.link = "shut"
                case zmq.Event.CLOSED if self._state.link != "shut":
                    self._state.link = "connecting"
                case zmq.Event.DISCONNECTED if self._state.link != "shut":
                    # Whoever answers, but not with ZeroMQ's greeting of a publisher, is no engine.
                    self._state.link = "connecting" if self._greeted else "not m2m"

    def close(self) -> None:
        """Close the socket; what waits in it is dropped."""
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close()
        self._context.term()

"""The demo's own subscriber: takes every message as it comes and stamps its arrival."""

from dataclasses import dataclass, field

import numpy as np
import zmq
from numpy.typing import NDArray

from rt_engine.edges.clock_offset import now_s
from rt_engine.messages import HealthHeader, MapHeader, TrialHeader, decode


@dataclass(eq=False)
class ReceivedPulse:
    """All that came about one pulse.

    Attributes
    ----------
    trial
        Header, or None as long as it has not come.
    mep_uv
        (muscles,) float32.
    map
        Header, or None for an invalid pulse.
    field
        (V,) float32.
    cog_mm
        (3,) float64.
    received_at
        When the map was in our hands, s, LSL clock.
    """

    trial: TrialHeader | None = None
    mep_uv: NDArray[np.float32] | None = field(default=None, repr=False)
    map: MapHeader | None = None
    field: NDArray[np.float32] | None = None
    cog_mm: NDArray[np.float64] | None = None
    received_at: float = float("nan")


class Listener:
    """Subscribes to an engine.

    Parameters
    ----------
    address
        Where the engine publishes.
    """

    def __init__(self, address: str) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        # Nothing may be lost here: the demo accounts for every pulse.
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(address)
        self.pulses: dict[int, ReceivedPulse] = {}
        self.order: list[int] = []
        self.health: HealthHeader | None = None

    @property
    def n_trials(self) -> int:
        """Number of trials received, valid or not."""
        return sum(pulse.trial is not None for pulse in self.pulses.values())

    def take(self, timeout_ms: int) -> bool:
        """Take one message; return whether there was one within `timeout_ms`."""
        if not self._socket.poll(timeout_ms):
            return False
        frames = self._socket.recv_multipart()
        received_at = now_s()
        header, arrays = decode(frames)
        if isinstance(header, HealthHeader):
            self.health = header
        elif isinstance(header, MapHeader):
            pulse = self.pulses.setdefault(header.pulse, ReceivedPulse())
            pulse.map, pulse.field, pulse.cog_mm = header, arrays["field"], arrays["cog_mm"]
            pulse.received_at = received_at
            self.order.append(header.pulse)
        elif isinstance(header, TrialHeader):
            pulse = self.pulses.setdefault(header.pulse, ReceivedPulse())
            pulse.trial, pulse.mep_uv = header, arrays["mep_uv"]
        return True

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

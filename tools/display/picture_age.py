"""How old a map is when it can be seen: from the pulse, and from the last sample that the map needed.

The engine's LSL clock and `time.monotonic` are one clock on Linux, so that both ends can be compared where engine and
window run on one machine. Elsewhere there is no age, rather than a wrong one.
"""

import ipaddress
import sys
from collections import deque
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np

from tools.display.state import DisplayState

AGES_KEPT = 10_000


def on_this_machine(address: str) -> bool:
    """Return whether an endpoint lies on this machine."""
    if address.startswith(("ipc://", "inproc://")):
        return True
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def window_end_ms(state: DisplayState) -> float | None:
    """Return the end of the latest MEP window: before it, no map can be."""
    if state.session is None or not state.session.window_ms:
        return None
    return max(window[1] for window in state.session.window_ms)


@dataclass(frozen=True)
class PictureAge:
    """Age of one map as it was painted, ms.

    Attributes
    ----------
    pulse
        Whose map.
    since_pulse_ms
        From the pulse.
    since_needed_ms
        From the last sample that was needed: what remains for machines to answer for.
    """

    pulse: int
    since_pulse_ms: float
    since_needed_ms: float


class PictureAges:
    """Ages of the maps painted so far.

    Parameters
    ----------
    address
        Where the engine is.

    Attributes
    ----------
    latest
        Age of the map painted last, or None.
    why_none
        Why there is none.
    """

    def __init__(self, address: str) -> None:
        self._comparable = sys.platform == "linux" and on_this_machine(address)
        self.latest: PictureAge | None = None
        self.why_none = "no map yet"
        self._since_needed_ms: deque[float] = deque(maxlen=AGES_KEPT)

    def painted(self, state: DisplayState, pulse: int, now: float) -> None:
        """Note that the map of a pulse has been painted at monotonic time `now`."""
        shown, end_ms = state.map, window_end_ms(state)
        if shown is None or shown.header.pulse != pulse:
            return
        # A replay's pulses lie in another time: nothing became available when they happened.
        if shown.header.t_available is None:
            self.latest, self.why_none = None, "not in a replay"
            return
        if not (self._comparable and state.same_clock) or end_ms is None:
            self.latest, self.why_none = None, "the engine has another clock"
            return
        age_ms = (now - shown.header.t_pulse) * 1000.0
        self.latest = PictureAge(pulse, age_ms, age_ms - end_ms)
        self._since_needed_ms.append(age_ms - end_ms)

    def reset(self) -> None:
        """Forget the latest: a new session begins. The quantiles go on."""
        self.latest, self.why_none = None, "no map yet"

    def quantiles_ms(self) -> dict[str, float] | None:
        """Return p50, p99 and max of `since_needed_ms`, or None if there is no age."""
        if not self._since_needed_ms:
            return None
        ages = np.array(self._since_needed_ms)
        p50, p99 = np.quantile(ages, [0.5, 0.99])
        return {"p50": float(p50), "p99": float(p99), "max": float(ages.max())}

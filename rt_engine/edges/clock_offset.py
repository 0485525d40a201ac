"""The offset between a stream's clock and ours, with its uncertainty.

Raw stamps are pulled and corrected here, not by LSL's post-processing, which discards the originals and refreshes a
marker stream's offset only every 50 samples.
"""

import contextlib
import ctypes
import math
from typing import Any

from pylsl import StreamInlet, local_clock
from pylsl.lib import lib
from pylsl.util import TimeoutError as LslTimeoutError
from pylsl.util import handle_error

QUERY_PERIOD_S = 1.0
"""liblsl measures in the background every two seconds; asking more often tells nothing new."""


def now_s() -> float:
    """Return the time of this machine's LSL clock, s; all its processes share it."""
    return float(local_clock())


def query_offset(inlet: StreamInlet, timeout_s: float) -> tuple[float, float]:
    """Ask for the clock offset of a stream.

    Parameters
    ----------
    inlet
        An open inlet.
    timeout_s
        How long to wait for a first estimate, which takes liblsl about 0.6 s; later ones are there at once.

    Returns
    -------
    offset
        What to add to the stream's stamps to reach our clock, s.
    uncertainty
        Upper bound on its error (half the round trip), s.

    Raises
    ------
    TimeoutError
        If there is no estimate yet.
    """
    # pylsl wraps only the short form of this function, which keeps the uncertainty to itself.
    function = lib.lsl_time_correction_ex
    function.restype = ctypes.c_double
    remote, uncertainty, error = ctypes.c_double(), ctypes.c_double(), ctypes.c_int()
    offset = function(
        inlet.obj, ctypes.byref(remote), ctypes.byref(uncertainty), ctypes.c_double(timeout_s), ctypes.byref(error)
    )
    try:
        handle_error(error)
    except LslTimeoutError as late:
        raise TimeoutError("no clock offset yet") from late
    return float(offset), float(uncertainty.value)


class ClockOffset:
    """The current clock offset of one stream, asked for on a schedule and never in a way that waits.

    Parameters
    ----------
    inlet
        An open inlet.
    """

    def __init__(self, inlet: StreamInlet) -> None:
        self._inlet: Any = inlet
        self._next_query = -math.inf
        self.offset_s = 0.0
        self.uncertainty_s = 0.0

    def begin(self) -> None:
        """Let liblsl begin to measure, without waiting for it."""
        with contextlib.suppress(TimeoutError):
            query_offset(self._inlet, 0.0)

    def warm_up(self, timeout_s: float) -> None:
        """Wait for the first estimate.

        Raises
        ------
        TimeoutError
            If it does not come.
        """
        self.offset_s, self.uncertainty_s = query_offset(self._inlet, timeout_s)

    def poll(self, now: float) -> bool:
        """Ask again if it is time to; return whether the offset has changed."""
        if now < self._next_query:
            return False
        self._next_query = now + QUERY_PERIOD_S
        try:
            offset, uncertainty = query_offset(self._inlet, 0.0)
        except TimeoutError:
            return False  # after a reconnection the old estimate serves until there is a new one
        changed = (offset, uncertainty) != (self.offset_s, self.uncertainty_s)
        self.offset_s, self.uncertainty_s = offset, uncertainty
        return changed

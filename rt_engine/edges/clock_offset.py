"""The offset between a stream's clock and ours, with its uncertainty.

Raw stamps are pulled and corrected here, not by LSL's post-processing, which discards the originals and refreshes a
marker stream's offset only every 50 samples.
"""

import contextlib
import ctypes
import logging
import math
from typing import Any

from pylsl import StreamInlet, local_clock
from pylsl.lib import lib
from pylsl.util import TimeoutError as LslTimeoutError
from pylsl.util import handle_error

from rt_engine.pulse import UNKNOWN_S

log = logging.getLogger(__name__)

QUERY_PERIOD_S = 1.0
"""liblsl measures in the background every two seconds; asking more often tells nothing new."""

UNKNOWN_QUERY_PERIOD_S = 0.05
"""While there is no estimate, each pulse of a marker stream waits for one in vain."""

LEAST_STEP_S = 1e-3
"""A change of the offset below is noise whatever the uncertainties say."""

AHEAD_S = 0.01
"""A stamp so far in the future is no noise of a clock."""

LEARNT_BLOCKS = 20
MOST_USUAL_LEAD_S = 0.25
"""How far ahead the stamps of a careless driver may be from the beginning: a block's length."""


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
    offset, uncertainty, _ = _query(inlet, timeout_s)
    return offset, uncertainty


def query_answer(inlet: StreamInlet) -> float:
    """Return when a stream's source last answered, in its own clock, s: the same as before if it did not since.

    Raises
    ------
    TimeoutError
        If it never did.
    """
    return _query(inlet, 0.0)[2]


def _query(inlet: StreamInlet, timeout_s: float) -> tuple[float, float, float]:
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
    return float(offset), float(uncertainty.value), float(remote.value)


class ClockOffset:
    """The current clock offset of one stream, asked for on a schedule and never in a way that waits.

    An offset that is not known (any more) has the uncertainty `UNKNOWN_S`: after the stream has come back, until it is
    measured anew; and as long as stamps lie in the future by it, since then one of the clocks was set meanwhile.

    Parameters
    ----------
    inlet
        An open inlet.
    name
        Of the stream, for the log.
    """

    def __init__(self, inlet: StreamInlet, name: str = "") -> None:
        self._inlet: Any = inlet
        self._name = name
        self._next_query = -math.inf
        self._measured_s = 0.0
        self._ahead = False
        self._usual_lead_s = 0.0
        self._n_checked = 0
        self.offset_s = 0.0
        self.n_resets = 0
        """How often the offset turned out to be another clock's than before."""

    @property
    def uncertainty_s(self) -> float:
        """Upper bound on the error of `offset_s`; `UNKNOWN_S` if nothing is known."""
        return UNKNOWN_S if self._ahead else self._measured_s

    @property
    def known(self) -> bool:
        """Whether the offset can be believed."""
        return self.uncertainty_s < UNKNOWN_S

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
        self.offset_s, self._measured_s = query_offset(self._inlet, timeout_s)

    def poll(self, now: float) -> bool:
        """Ask again if it is time to; return whether the offset or what is known of it has changed."""
        before = (self.offset_s, self.uncertainty_s)
        if bool(self._inlet.was_clock_reset()):
            # The source was started again, perhaps on another computer: what was measured says nothing.
            self._reset("its source came back")
            self._next_query = now
        if now < self._next_query:
            return before != (self.offset_s, self.uncertainty_s)
        self._next_query = now + (QUERY_PERIOD_S if self._measured_s < UNKNOWN_S else UNKNOWN_QUERY_PERIOD_S)
        try:
            offset, uncertainty = query_offset(self._inlet, 0.0)
        except TimeoutError:
            return before != (self.offset_s, self.uncertainty_s)
        step = offset - self.offset_s
        if self._measured_s < UNKNOWN_S and abs(step) > max(LEAST_STEP_S, uncertainty + self._measured_s):
            self.n_resets += 1
            log.warning("the clock of the stream %r was set: its offset changed by %.1f ms", self._name, step * 1e3)
        self.offset_s, self._measured_s = offset, uncertainty
        return before != (self.offset_s, self.uncertainty_s)

    def check(self, newest_stamp: float, now: float) -> bool:
        """Look whether a stamp that has just come lies in the future; return whether what is known has changed.

        Some drivers stamp a block with times to come. How far ahead they usually are is learnt first.

        Parameters
        ----------
        newest_stamp
            Raw, s.
        now
            Our clock, s.
        """
        lead = newest_stamp + self.offset_s - now
        if not math.isfinite(lead):
            return False
        if self._n_checked < LEARNT_BLOCKS:
            self._n_checked += 1
            self._usual_lead_s = max(self._usual_lead_s, min(lead, MOST_USUAL_LEAD_S))
        ahead = lead > self._usual_lead_s + AHEAD_S + min(self._measured_s, AHEAD_S)
        if ahead == self._ahead:
            return False
        if ahead:
            self.n_resets += 1
            log.warning("stamps of the stream %r lie %.1f ms in the future: a clock was set", self._name, lead * 1e3)
        self._ahead = ahead
        return True

    def _reset(self, why: str) -> None:
        self.n_resets += 1
        self._measured_s = UNKNOWN_S
        log.warning("the clock offset of the stream %r is unknown until it is measured anew: %s", self._name, why)

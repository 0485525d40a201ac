"""A TMS pulse, as one of the trigger sources told of it."""

import math
from dataclasses import dataclass

TTL = "ttl"
"""Trigger source: a channel inside the EMG stream; the pulse is a sample index, with no clock between."""

MARKER = "marker"
"""Trigger source: an LSL marker stream; the pulse is a time in another clock."""

ARTEFACT = "artefact"
"""Trigger source: the stimulus artefact in the EMG channels; the pulse is the sample in which it begins."""

LARGEST_S = 1e300
"""Times beyond cannot be turned into a sample index without leaving the range of a double."""

UNKNOWN_S = 1e6
"""Uncertainty of a time or a clock offset of which nothing is known; a finite number, since JSON has no other."""


@dataclass(frozen=True)
class Pulse:
    """One pulse of a marker stream, handed to `Engine.feed_pulse`.

    Parameters
    ----------
    t_raw
        Time stamp as the marker stream gave it, s.
    clock_offset
        What to add to `t_raw` to reach the engine's clock, s.
    clock_uncertainty
        One standard deviation of `clock_offset`, s.
    label
        Text of the marker.
    """

    t_raw: float
    clock_offset: float = 0.0
    clock_uncertainty: float = 0.0
    label: str = ""

    @property
    def t(self) -> float:
        """Time of the pulse in the engine's clock, s."""
        return self.t_raw + self.clock_offset

    @property
    def has_time(self) -> bool:
        """Whether that is a time at all; a marker without one can be told of, and not be placed."""
        return math.isfinite(self.t) and abs(self.t) < LARGEST_S

"""A TMS pulse, as one of the trigger sources told of it."""

import math
from dataclasses import dataclass

TTL = "ttl"
"""Trigger source: a channel inside the EMG stream; the pulse is a sample index, with no clock between."""

MARKER = "marker"
"""Trigger source: an LSL marker stream; the pulse is a time in another clock."""


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

    def __post_init__(self) -> None:
        if not (math.isfinite(self.t_raw) and math.isfinite(self.clock_offset)):
            # A marker without a usable time cannot be placed; the caller reports it.
            raise ValueError(f"a pulse needs a finite time, got {self.t_raw} + {self.clock_offset}")

    @property
    def t(self) -> float:
        """Time of the pulse in the engine's clock, s."""
        return self.t_raw + self.clock_offset

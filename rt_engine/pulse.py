"""A TMS pulse, as one of the trigger sources told of it."""

from dataclasses import dataclass

from rt_engine.errors import DataError

TTL = "ttl"
"""Trigger source: a channel inside the EMG stream; the pulse is a sample index, with no clock between."""

MARKER = "marker"
"""Trigger source: an LSL marker stream; the pulse is a time in another clock."""

LARGEST_S = 1e300
"""Times beyond cannot be turned into a sample index without leaving the range of a double."""


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

    Raises
    ------
    DataError
        If that makes no finite time: such a marker cannot be placed.
    """

    t_raw: float
    clock_offset: float = 0.0
    clock_uncertainty: float = 0.0
    label: str = ""

    def __post_init__(self) -> None:
        if not abs(self.t) < LARGEST_S:  # NaN compares false too
            raise DataError(f"a pulse needs a finite time; its marker's is {self.t_raw} + {self.clock_offset} s")

    @property
    def t(self) -> float:
        """Time of the pulse in the engine's clock, s."""
        return self.t_raw + self.clock_offset

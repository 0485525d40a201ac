"""What other streams say about the moment of a pulse: the coil's pose and the stimulator's intensity."""

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray


class Timed(Protocol):
    """Something with a time."""

    @property
    def t(self) -> float:
        """Time in the engine's clock, s."""
        ...


@dataclass(frozen=True, eq=False)
class CoilPose:
    """Where the coil was.

    Parameters
    ----------
    t
        Time in the engine's clock, s.
    matrix
        (4, 4) float64, coil to scanner space, mm.
    tracked
        False if the navigation did not see the coil; then `matrix` says nothing.
    """

    t: float
    matrix: NDArray[np.float64]
    tracked: bool = True


@dataclass(frozen=True)
class StimulatorIntensity:
    """What the stimulator was set to.

    Parameters
    ----------
    t
        Time in the engine's clock, s.
    percent_mso
        Percent of the maximum stimulator output.
    """

    t: float
    percent_mso: float


T = TypeVar("T", bound=Timed)


class History(Generic[T]):
    """The last entries of a slow stream, asked for by time.

    The entry that held at a given time is the same whether or not later ones have arrived meanwhile; so a trial gets
    the same pose live and in a replay.

    Parameters
    ----------
    length
        Number of entries kept.
    """

    def __init__(self, length: int = 512) -> None:
        self._entries: deque[T] = deque(maxlen=length)

    def add(self, entry: T) -> None:
        """Add an entry; one that is older than the newest is put in its place in time."""
        if self._entries and entry.t < self._entries[-1].t:
            ordered = sorted([*self._entries, entry], key=lambda held: held.t)
            self._entries = deque(ordered, maxlen=self._entries.maxlen)
        else:
            self._entries.append(entry)

    def at(self, t: float, max_age_s: float) -> T | None:
        """Return the newest entry at or before `t` that is at most `max_age_s` old, or None."""
        i = bisect_right(self._entries, t, key=lambda held: held.t)
        if i == 0 or t - self._entries[i - 1].t > max_age_s:
            return None
        return self._entries[i - 1]

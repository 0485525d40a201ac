"""What other streams say about the moment of a pulse: the coil's pose and the stimulator's intensity."""

import math
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
    didt_a_per_us
        dI/dt of the coil's current at that output, A/us; None where the stimulator does not tell.
    """

    t: float
    percent_mso: float
    didt_a_per_us: float | None = None


T = TypeVar("T", bound=Timed)


class History(Generic[T]):
    """The last entries of a slow stream, asked for by time.

    The entry that held at a given time is the same whether or not later ones have arrived meanwhile, and those are left
    out that came when the trial had been served; so a trial gets the same pose live and in a replay.

    Parameters
    ----------
    length
        Number of entries kept.
    """

    def __init__(self, length: int = 2048) -> None:
        self._entries: deque[_Held[T]] = deque(maxlen=length)

    def add(self, entry: T, known_from: int = 0) -> None:
        """Add an entry; one that is older than the newest is put in its place in time, one without a time is left out.

        Parameters
        ----------
        entry
            To add.
        known_from
            Number of samples of the EMG stream that came before it.
        """
        if not math.isfinite(entry.t):
            return
        held = _Held(entry.t, known_from, entry)
        if self._entries and entry.t < self._entries[-1].t:
            ordered = sorted([*self._entries, held], key=lambda other: other.t)
            self._entries = deque(ordered, maxlen=self._entries.maxlen)
        else:
            self._entries.append(held)

    def at(self, t: float, max_age_s: float, known_by: float = math.inf) -> T | None:
        """Return the newest entry at or before `t` that is at most `max_age_s` old and came by `known_by`, or None."""
        i = bisect_right(self._entries, t, key=lambda held: held.t)
        while i > 0 and self._entries[i - 1].known_from > known_by:
            i -= 1
        if i == 0 or t - self._entries[i - 1].t > max_age_s:
            return None
        return self._entries[i - 1].entry


@dataclass(frozen=True)
class _Held(Generic[T]):
    t: float
    known_from: int
    entry: T

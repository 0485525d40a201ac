"""What the other trigger sources say of a pulse: who else saw it, and how much later.

Each event of a source that does not make the trials (an edge of the trigger channel, a marker, an artefact) is kept for
a while and belongs to the pulse that is served next within `NEAR_MS` of it. What no pulse asks for is counted.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from rt_engine.sample_clock import SampleClock
from rt_engine.stream_notes import StreamNote
from rt_engine.trial import TRIGGER_DISAGREEMENT, TRIGGER_UNCONFIRMED

NEAR_MS = 50.0
"""An event further from a pulse belongs to another."""

KEPT_S = 2.0
"""How long an event waits for its pulse; a marker that makes trials may be told of late."""

_MOST = 512


@dataclass(frozen=True)
class _Event:
    index: float | None
    """In the EMG stream; None for one that has only a time."""
    t: float
    known_at: int
    """Number of the sample by which it was known."""


@dataclass
class ReferenceCounts:
    """How often a source told of something, and how often that was a pulse that was served.

    Attributes
    ----------
    seen, matched, unmatched
        Events; those that belong to a pulse; those that no pulse asked for.
    missed
        Pulses without an event, since the first that had one.
    """

    seen: int = 0
    matched: int = 0
    unmatched: int = 0
    missed: int = 0


class TriggerReferences:
    """Events of the sources that are compared.

    Parameters
    ----------
    rate_hz
        Of the EMG stream.
    refractory_s
        Two events of a source that are closer are one told of twice.
    """

    def __init__(self, rate_hz: float, refractory_s: float) -> None:
        self.counts: dict[str, ReferenceCounts] = {}
        self._events: dict[str, deque[_Event]] = {}
        self._rate_hz = rate_hz
        self._refractory_s = refractory_s

    def add(self, source: str, *, index: float | None, t: float, known_at: int) -> None:
        """Take note of an event.

        Parameters
        ----------
        source
            ``ttl``, ``marker`` or ``artefact``.
        index, t
            Where it is: a sample of the EMG stream, or else a time in the engine's clock, s.
        known_at
            Number of the sample by which it was known.
        """
        events = self._events.setdefault(source, deque(maxlen=_MOST))
        counts = self.counts.setdefault(source, ReferenceCounts())
        if index is None and any(abs(event.t - t) < self._refractory_s for event in events):
            return
        counts.seen += 1
        counts.unmatched += len(events) == _MOST
        events.append(_Event(index, t, known_at))

    def match(
        self, pulse_index: float, by: float, rate_hz: float, index_of: Callable[[float], float]
    ) -> dict[str, float]:
        """Return how much later each source saw a pulse, ms; the events are then taken.

        Parameters
        ----------
        pulse_index
            Of the pulse in the EMG stream.
        by
            Only events that were known by this sample count, so that blocks do not matter.
        rate_hz
            Effective sample rate.
        index_of
            Turns a time into an index.
        """
        offsets: dict[str, float] = {}
        for source, events in self._events.items():
            best, nearest = None, NEAR_MS
            for event in events:
                index = index_of(event.t) if event.index is None else event.index
                offset = (index - pulse_index) * 1000.0 / rate_hz
                if event.known_at <= by and abs(offset) < nearest:
                    best, nearest, offsets[source] = event, abs(offset), offset
            if best is not None:
                events.remove(best)
                self.counts[source].matched += 1
        return offsets

    def compare(
        self, pulse_index: float, by: float, clock: SampleClock, apart_ms: float, what: str
    ) -> tuple[dict[str, float], tuple[str, ...], list[StreamNote]]:
        """Match a pulse, and say what is to be doubted about it.

        Parameters
        ----------
        pulse_index, by
            See `match`.
        clock
            Of the EMG stream.
        apart_ms
            Offsets beyond are a disagreement.
        what
            Names the pulse in notes.

        Returns
        -------
        offsets_ms
            See `match`.
        doubts
            See `Trial.doubts`.
        notes
            What there is to be told.
        """
        offsets = self.match(pulse_index, by, clock.rate_hz, clock.index_of)
        doubts: tuple[str, ...] = ()
        notes = []
        apart = {source: ms for source, ms in offsets.items() if abs(ms) > apart_ms}
        if apart:
            doubts += (TRIGGER_DISAGREEMENT,)
            said = ", ".join(f"{source} says {ms:+.1f} ms" for source, ms in apart.items())
            largest = max(apart.values(), key=abs)
            text = f"{what}: other triggers put it at another time, {said}"
            notes.append(StreamNote(TRIGGER_DISAGREEMENT, round(pulse_index), largest, text))
        # A source that sees few of the pulses tells of other things, and says nothing by its silence.
        silent = [counts for source, counts in self.counts.items() if counts.matched and source not in offsets]
        if any(counts.matched > counts.missed for counts in silent):
            doubts += (TRIGGER_UNCONFIRMED,)
        for counts in silent:
            counts.missed += 1
        return offsets, doubts, notes

    def forget(self, index: int, index_of: Callable[[float], float]) -> list[tuple[str, float]]:
        """Drop events that have waited too long at sample `index`; return their sources and indices."""
        dropped = []
        limit = index - KEPT_S * self._rate_hz
        for source, events in self._events.items():
            while events:
                at = index_of(events[0].t) if events[0].index is None else events[0].index
                # A time that a new clock makes a sample far ahead goes by when it was told.
                if max(events[0].known_at, min(at, index)) >= limit:
                    break
                events.popleft()
                self.counts[source].unmatched += 1
                dropped.append((source, at))
        return dropped

    def waiting(self) -> bool:
        """Whether there is anything to forget."""
        return any(self._events.values())

"""What the window knows: the latest of everything, what was lost on the way, and whether it may still be believed.

Pure: messages and times come in, nothing here reads a clock or a socket. Trials and maps are latest-only; what was
replaced before it could be drawn is counted, apart from what never arrived.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rt_engine.errors import DataError
from rt_engine.messages import GeometryHeader, Header, HealthHeader, MapHeader, SessionHeader, TrialHeader
from tools.display.received import (
    ReceivedGeometry,
    ReceivedMap,
    ReceivedTrial,
    received_geometry,
    received_map,
    received_trial,
)
from tools.display.words import duration_text, invalid_reason

STALE_AFTER_S = 2.0
"""Health comes twice a second; after this long without it the engine counts as lost."""

MAP_DUE_S = 0.5
"""A valid trial's map follows at once; after this long the map before it is old."""

SAME_CLOCK_S = 0.5
"""A health message's own time may lie this far back; else the engine reads another clock."""

PULSES_KEPT = 50
"""Pulses in the list of the last ones."""

_ENDED = ("STOPPED", "FAILED")
_REPEATED = ("session", "geometry")
"""Topics that the engine sends again to each new subscriber, under their old number."""

Link = Literal["connecting", "connected", "not m2m", "shut"]
"""The transport below the messages: no one there yet, someone there, someone there who speaks otherwise (or asks for a
key), an engine that does not know this window's key."""


@dataclass(frozen=True)
class Connection:
    """How the window stands to the engine.

    Attributes
    ----------
    kind
        ``waiting`` (nothing heard yet), ``live``, ``stale`` (it fell silent), ``ended`` (it said that it stops).
    text
        That in words.
    """

    kind: Literal["waiting", "live", "stale", "ended"]
    text: str


@dataclass(frozen=True)
class MapStanding:
    """Whether the map on the screen belongs to the last pulse.

    Attributes
    ----------
    kind
        ``none``, ``current``, or ``old`` (then it is drawn grey).
    text
        That in words, for the map's caption.
    """

    kind: Literal["none", "current", "old"]
    text: str


@dataclass
class PulseRow:
    """One line in the list of the last pulses."""

    pulse: int
    valid: bool
    reason: str
    """Why it is not valid; empty if it is."""
    muscle: str
    """The muscle with the largest amplitude; empty if none was measured."""
    mep_uv: float
    """Its amplitude; NaN if none was measured."""
    confidence: str = ""
    """Of its map: ``ok`` or ``low``; empty while there is none."""


@dataclass
class Counters:
    """What the window received and what it did not show."""

    received: int = 0
    lost: int = 0
    """Holes in the messages' numbers: sent, never arrived (or unreadable)."""
    superseded: int = 0
    """Trials and maps replaced by newer ones before they could be drawn."""
    malformed: int = 0
    """Messages that cannot be read."""
    out_of_order: int = 0
    """Trials, maps and health older than one already here; ignored."""


class DisplayState:
    """The latest of everything.

    Parameters
    ----------
    address
        Where the engine is expected, for the texts.
    now
        Monotonic time, s.

    Attributes
    ----------
    session, geometry, trial, map, health
        The latest of each, or None.
    sessions_seen
        Grows with each new session: what was shown before belongs to another.
    counters
        Since the window was opened.
    last_malformed
        What was wrong with the last unreadable message.
    link
        What the socket reports.
    """

    def __init__(self, address: str, now: float) -> None:
        self.address = address
        self.counters = Counters()
        self.last_malformed = ""
        self.link: Link = "connecting"
        self.sessions_seen = 0
        self.maps_received = 0
        self.pulses_received = 0
        self._waiting_since = now
        self._session_id: str | None = None
        self._reset(now)

    def _reset(self, now: float) -> None:
        self.session: SessionHeader | None = None
        self.geometry: ReceivedGeometry | None = None
        self.trial: ReceivedTrial | None = None
        self.map: ReceivedMap | None = None
        self.health: HealthHeader | None = None
        self.pulses: deque[PulseRow] = deque(maxlen=PULSES_KEPT)
        self.same_clock = False
        self._trial_at = now
        self._map_at = now
        self._health_at = now
        self._seq: dict[str, int] = {}
        self._trial_waits = False
        self._map_waits = False

    def receive(self, header: Header, arrays: Mapping[str, NDArray[Any]], now: float) -> None:
        """Take in a decoded message.

        Parameters
        ----------
        header, arrays
            As `rt_engine.messages.decode` returns them.
        now
            Monotonic time, s.

        Raises
        ------
        DataError
            If the arrays are not those of the topic; the message then changes nothing that is shown.
        """
        self.counters.received += 1
        if header.session != self._session_id:
            self._session_id = header.session
            self.sessions_seen += 1
            self._reset(now)
        if not self._in_order(header):
            self.counters.out_of_order += 1
            return
        match header:
            case SessionHeader():
                self._receive_session(header)
            case GeometryHeader():
                self._receive_geometry(received_geometry(header, arrays))
            case TrialHeader():
                self._receive_trial(received_trial(header, arrays), now)
            case MapHeader():
                self._receive_map(received_map(header, arrays), now)
            case HealthHeader():
                self.health = header
                self._health_at = now
                self.same_clock |= -0.01 <= now - header.t <= SAME_CLOCK_S

    def receive_malformed(self, why: str) -> None:
        """Count a message that cannot be read."""
        self.counters.malformed += 1
        self.last_malformed = why

    def mark_drawn(self) -> None:
        """Note that the latest trial and map have been drawn."""
        self._trial_waits = False
        self._map_waits = False

    @property
    def waits_to_be_drawn(self) -> bool:
        """Whether a trial or map has come since `mark_drawn`."""
        return self._trial_waits or self._map_waits

    def connection(self, now: float) -> Connection:
        """Say how the window stands to the engine at time `now`."""
        if self._session_id is None:
            waited = duration_text(now - self._waiting_since)
            what = {
                "connecting": f"Waiting for an engine at {self.address}",
                "connected": f"Waiting for the first message from {self.address}",
                "not m2m": f"Waiting for an engine: what answers at {self.address} is none, or asks for a key",
                "shut": f"The engine at {self.address} does not know this window's key: let it in, then open it again",
            }[self.link]
            return Connection("waiting", f"{what} ({waited})")
        if self.health is not None and self.health.state in _ENDED:
            return Connection("ended", f"This session has ended. Waiting for the next one at {self.address}")
        silent = now - self._health_at
        if silent > STALE_AFTER_S:
            return Connection("stale", f"No sign of life from the engine at {self.address} for {duration_text(silent)}")
        return Connection("live", f"Connected to {self.address}")

    def map_standing(self, now: float) -> MapStanding:
        """Say whether the map belongs to the last pulse, and if not, why it is still shown."""
        trial, shown = self.trial, self.map
        if shown is None:
            if trial is not None and not trial.header.valid:
                why = invalid_reason(trial.header.reasons)
                return MapStanding("none", f"No map: pulse {trial.header.pulse} is invalid ({why})")
            return MapStanding("none", "No map yet")
        why = self._why_old(shown, now)
        if why:
            return MapStanding("old", f"OLD: map of pulse {shown.header.pulse} ({why})")
        age = duration_text(max(now - self._map_at, 0.0))
        return MapStanding("current", f"Map of pulse {shown.header.pulse}, {age} ago")

    def _why_old(self, shown: ReceivedMap, now: float) -> str:
        kind = self.connection(now).kind
        if kind == "stale":
            return "connection lost"
        if kind == "ended":
            return "session ended"
        if self.trial is None or self.trial.header.pulse <= shown.header.pulse or self.map_is_due(now):
            return ""
        what = "has no map" if self.trial.header.valid else "is invalid"
        return f"pulse {self.trial.header.pulse} {what}"

    def map_is_due(self, now: float) -> bool:
        """Return whether the last trial's map has not come, but may at any moment."""
        if self.trial is None or not self.trial.header.valid:
            return False
        has_map = self.map is not None and self.map.header.pulse >= self.trial.header.pulse
        return not has_map and now - self._trial_at <= MAP_DUE_S

    def muscle_name(self, index: int) -> str:
        """Return a muscle's name, or its number while the session is not known."""
        if self.session is not None and index < len(self.session.muscles):
            return self.session.muscles[index]
        return f"#{index + 1}"

    def _in_order(self, header: Header) -> bool:
        last = self._seq.get(header.topic)
        if last is not None and header.seq <= last:
            return header.topic in _REPEATED
        if last is not None:
            self.counters.lost += header.seq - last - 1
        self._seq[header.topic] = header.seq
        return True

    def _receive_session(self, header: SessionHeader) -> None:
        n = len(header.muscles)
        if len(header.window_ms) != n or any(len(window) != 2 for window in header.window_ms):
            raise DataError(f"the session has {n} muscles, but its window_ms is {header.window_ms}")
        begin_end = header.sweep_ms
        if len(begin_end) != 2 or not begin_end[0] < begin_end[1]:
            raise DataError(f"the session's sweep_ms is {begin_end}; expected its begin and its end")
        self.session = header
        if self.trial is not None and self.trial.n_muscles != n:
            self.trial = None

    def _receive_geometry(self, geometry: ReceivedGeometry) -> None:
        self.geometry = geometry
        if self.map is not None and len(self.map.field) != geometry.n_voxels:
            self.map = None

    def _receive_trial(self, trial: ReceivedTrial, now: float) -> None:
        if self.session is not None and trial.n_muscles != len(self.session.muscles):
            raise DataError(
                f"the trial of pulse {trial.header.pulse} has {trial.n_muscles} muscles, "
                f"the session {len(self.session.muscles)}"
            )
        self.counters.superseded += self._trial_waits
        self.pulses_received += 1
        self.trial = trial
        self._trial_at = now
        self._trial_waits = True
        self.pulses.appendleft(self._row(trial))

    def _receive_map(self, received: ReceivedMap, now: float) -> None:
        if self.geometry is not None and len(received.field) != self.geometry.n_voxels:
            raise DataError(
                f"the map of pulse {received.header.pulse} has {len(received.field)} voxels, "
                f"the geometry {self.geometry.n_voxels}"
            )
        self.counters.superseded += self._map_waits
        self.maps_received += 1
        self.map = received
        self._map_at = now
        self._map_waits = True
        for row in self.pulses:
            if row.pulse == received.header.pulse:
                row.confidence = received.header.confidence

    def _row(self, trial: ReceivedTrial) -> PulseRow:
        header = trial.header
        muscle, largest = "", float("nan")
        if header.valid and np.isfinite(trial.mep_uv).any():
            index = int(np.nanargmax(trial.mep_uv))
            muscle, largest = self.muscle_name(index), float(trial.mep_uv[index])
        reason = "" if header.valid else invalid_reason(header.reasons)
        row = PulseRow(header.pulse, header.valid, reason, muscle, largest)
        if self.map is not None and self.map.header.pulse == header.pulse:  # the engine sends the map first
            row.confidence = self.map.header.confidence
        return row

"""The streams of a session: finds them, opens them, and keeps them in hand by their role."""

import logging
from collections.abc import Callable

from rt_engine.edges.lsl_inlets import EventInlet, Inlet, SampleInlet, resolve
from rt_engine.errors import M2MError
from rt_engine.messages import StreamDescription
from rt_engine.pulse import MARKER
from rt_engine.settings import Settings, StreamQuery

log = logging.getLogger(__name__)


class SessionStreams:
    """The inlets of a session.

    Parameters
    ----------
    settings
        Of the session.
    cancelled
        Asked while something is waited for; if it says yes, waiting ends.
    """

    def __init__(self, settings: Settings, cancelled: Callable[[], bool]) -> None:
        self._settings = settings
        self._cancelled = cancelled
        self._emg: SampleInlet | None = None
        self.events: dict[str, EventInlet] = {}
        self._only_recorded: list[StreamQuery] = []

    @property
    def wanted(self) -> dict[str, StreamQuery]:
        """Role of each stream that the session needs -> what to look for."""
        streams = self._settings.streams
        roles = {"emg": streams.emg, "markers": streams.markers, "pose": streams.pose, "intensity": streams.intensity}
        return {role: query for role, query in roles.items() if query or role == "emg"}

    @property
    def emg(self) -> SampleInlet:
        """The EMG stream.

        Raises
        ------
        M2MError
            If there is none yet.
        """
        if self._emg is None:
            raise M2MError("the session has no EMG stream yet")
        return self._emg

    @emg.setter
    def emg(self, inlet: SampleInlet) -> None:
        self._emg = inlet

    @property
    def inlets(self) -> list[Inlet]:
        """All inlets, the EMG stream's first."""
        return [*([self._emg] if self._emg else []), *self.events.values()]

    @property
    def descriptions(self) -> list[StreamDescription]:
        """What the wire says of the streams."""
        return [inlet.description for inlet in self.inlets]

    @property
    def recorded(self) -> list[StreamQuery]:
        """Which streams a recording must hold."""
        return [*(inlet.query for inlet in self.inlets), *self._only_recorded]

    def resolve(self) -> bool:
        """Find exactly one stream for each role; return False if that was cancelled.

        Raises
        ------
        StreamError
            See `rt_engine.edges.lsl_inlets.resolve`.
        """
        found = resolve(self.wanted, self._settings.streams.resolve_timeout_s, self._cancelled)
        if found is None:
            return False
        self._emg = SampleInlet(found.pop("emg"), "emg")
        if self._settings.trigger.source != MARKER and "markers" in found:
            info = found.pop("markers")  # worth keeping also where pulses come from the trigger channel
            self._only_recorded.append(StreamQuery(name=info.name(), type=info.type(), source_id=info.source_id()))
        self.events = {role: EventInlet(info, role) for role, info in found.items()}
        return True

    def open(self) -> None:
        """Open all streams and wait for their clock offsets.

        Raises
        ------
        StreamError
            If one does not answer in time.
        """
        timeout = self._settings.streams.resolve_timeout_s
        for inlet in self.inlets:
            inlet.open(timeout)
        for inlet in self.inlets:  # all streams measure theirs at the same time
            inlet.wait_for_clock(timeout)

    def flush(self) -> None:
        """Drop all that has piled up, and log how much that was."""
        log.info("flushed before the start: %s samples", {inlet.role: inlet.flush() for inlet in self.inlets})

    def close(self) -> None:
        """Let all streams go."""
        for inlet in self.inlets:
            inlet.close()

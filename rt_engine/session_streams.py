"""The streams of a session: finds them, opens them, and finds a lost one again.

A stream that is lost degrades the session at once. It is looked for until it is back; until then its role is empty. It
is taken again only with the very channels that it had, so that no channel can stand for another muscle than before.
"""

import itertools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rt_engine.edges.clock_offset import now_s
from rt_engine.edges.lsl_inlets import TEXT, EventInlet, Inlet, SampleInlet, StreamLostError, resolve
from rt_engine.edges.pose_sample import POSE_CHANNELS
from rt_engine.edges.stream_search import Before, StreamSearch
from rt_engine.errors import M2MError, StreamError
from rt_engine.messages import StreamDescription
from rt_engine.pulse import MARKER
from rt_engine.settings import Settings, StreamQuery

log = logging.getLogger(__name__)

SILENT_SEARCH_S = 3.0
"""A stream that is silent for so long may have been started again elsewhere, with a connection that never ended."""

SAMPLES_OF_SILENCE = 5.0
"""A slow stream that states a rate may be late by so many samples before it counts as silent."""

HANGS_AFTER = 15
"""liblsl asks each source for its clock every two seconds, and once a second it is looked whether it has answered. One
that is connected and does not answer for so many looks hangs."""

CONSEQUENCE = {
    "emg": "no pulse can be served",
    "pose": "trials have no coil pose",
    "intensity": "trials keep the last intensity that was told",
}


@dataclass(frozen=True)
class StreamChange:
    """A stream was lost, or is back.

    Attributes
    ----------
    role, name, source_id
        Of the stream, as it is from now on.
    t
        When, s, LSL clock.
    outage_s
        How long it was away; None when it was lost.
    text
        The same for people.
    """

    role: str
    name: str
    source_id: str
    t: float
    outage_s: float | None
    text: str


Search: TypeAlias = StreamSearch[SampleInlet] | StreamSearch[EventInlet]


@dataclass
class _Outage:
    inlet: Inlet
    since: float
    search: Search
    waited: bool = False
    """For the recording."""


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
        self._outages: dict[str, _Outage] = {}
        self._heard_at: dict[str, float] = {}
        self._silent: set[str] = set()
        self._taken_as: dict[str, str] = {}
        self._changes: list[StreamChange] = []
        self._silent_search: StreamSearch[SampleInlet] | None = None
        self.recorded_again: Callable[[str, float], bool] = lambda name, lost_at: True
        """Asked whether a stream of this name, lost at this time (s, LSL clock), is in the recording again."""
        self._old_searches: list[Search] = []

    @property
    def wanted(self) -> dict[str, StreamQuery]:
        """Role of each stream that the session needs -> what to look for."""
        streams = self._settings.streams
        roles = {"emg": streams.emg, "markers": streams.markers, "pose": streams.pose, "intensity": streams.intensity}
        return {role: query for role, query in roles.items() if query or role == "emg"}

    @property
    def emg(self) -> SampleInlet:
        """The EMG stream; while it is lost, what it was.

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
        """All inlets of streams that are there, the EMG stream's first."""
        emg = [self._emg] if self._emg and "emg" not in self._outages else []
        return [*emg, *self.events.values()]

    @property
    def descriptions(self) -> list[StreamDescription]:
        """What the wire says of the streams."""
        return [inlet.description for inlet in self.inlets]

    @property
    def recorded(self) -> list[StreamQuery]:
        """Which streams a recording must hold."""
        return [inlet.query for inlet in self.inlets]

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
        self.events = {role: EventInlet(info, role) for role, info in found.items()}
        return True

    def open(self) -> None:
        """Open all streams and wait for their clock offsets.

        Raises
        ------
        StreamError
            If one does not answer in time, or holds something else than its role says.
        """
        timeout = self._settings.streams.resolve_timeout_s
        for inlet in self.inlets:
            inlet.open(timeout, self._cancelled)
            _check_kind(inlet)
        for inlet in self.inlets:  # all streams measure theirs at the same time
            if not self._cancelled():
                inlet.wait_for_clock(timeout, self._cancelled)

    @property
    def queues(self) -> dict[str, int]:
        """How many samples and events wait to be taken."""
        return {"samples" if inlet.role == "emg" else inlet.role: inlet.n_waiting for inlet in self.inlets}

    def flush(self) -> None:
        """Drop the EMG samples that have piled up, and log how many they were."""
        log.info("flushed before the start: %d EMG samples", self.emg.flush())

    def pull(self, timeout_s: float, at_least: int = 1) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Take EMG samples as `SampleInlet.pull` does; none while the stream is lost."""
        outage = self._outages.get("emg")
        if outage is None:
            try:
                return self.emg.pull(timeout_s, at_least)
            except StreamLostError as error:
                outage = self._lose(self.emg, error)
        outage.search.wait(timeout_s)
        return np.empty((0, 0), dtype=np.float32), np.empty(0, dtype=np.float64)

    def pull_events(self) -> Iterator[tuple[EventInlet, list[str | float], float]]:
        """Take what the other streams have said, without waiting: inlet, values, raw stamp in s."""
        for inlet in list(self.events.values()):
            try:
                told = inlet.pull()
            except StreamLostError as error:
                self._lose(inlet, error)
                continue
            self._watch_silence(inlet, bool(told))
            for values, stamp in told:
                yield inlet, values, stamp

    def _watch_silence(self, inlet: EventInlet, spoke: bool) -> None:
        """Find out whether a stream that states a rate has nothing to say, though it was asked."""
        rate_hz = inlet.info.nominal_srate()
        if rate_hz <= 0.0:
            return
        now = now_s()
        if spoke or inlet.role not in self._heard_at:
            self._heard_at[inlet.role] = now
        silence_s = now - self._heard_at[inlet.role]
        if silence_s > max(self._settings.streams.stall_s, SAMPLES_OF_SILENCE / rate_hz):
            self._silent.add(inlet.role)
        else:
            self._silent.discard(inlet.role)

    def poll_clocks(self, now: float) -> list[Inlet]:
        """Ask for clock offsets if it is time to; return the inlets whose offset has changed."""
        changed = []
        for inlet in self.inlets:
            try:
                if inlet.poll_clock(now):
                    changed.append(inlet)
            except StreamLostError as error:
                self._lose(inlet, error)
        return changed

    def look_after(self, silence_s: float) -> list[StreamChange]:
        """Take streams that were found again; return what has changed since the last call.

        Parameters
        ----------
        silence_s
            For how long no EMG sample has come.
        """
        for role, outage in list(self._outages.items()):
            found = outage.search.take()
            if found is not None and not self._waits_for_recording(outage, *found):
                self._take_again(role, outage, *found)
        self._search_while_silent(silence_s)
        changes, self._changes = self._changes, []
        return changes

    @property
    def emg_is_lost(self) -> bool:
        """Whether the EMG stream is away."""
        return "emg" in self._outages

    @property
    def troubles(self) -> list[str]:
        """What is wrong with streams, for people; empty if nothing is."""
        texts = []
        for role, outage in self._outages.items():
            consequence = CONSEQUENCE.get(role) or self._consequence_of_markers()
            texts.append(f"the {role} stream {outage.inlet.query.name!r} is lost, {consequence}: {outage.search.why}")
        texts += [
            f"the {inlet.role} stream {inlet.query.name!r} is connected and does not answer: its program hangs"
            for inlet in self.inlets
            if inlet.n_unanswered >= HANGS_AFTER
        ]
        for role in sorted(self._silent & self.events.keys()):
            consequence = CONSEQUENCE.get(role) or self._consequence_of_markers()
            texts.append(f"the {role} stream {self.events[role].query.name!r} is silent, {consequence}")
        return texts

    @property
    def taken_as(self) -> dict[str, str]:
        """Role of each stream that came back under another source_id -> what there is to be said of it."""
        return self._taken_as

    def close(self) -> None:
        """Let all streams go, and end all searches."""
        searches = [*(outage.search for outage in self._outages.values()), *self._old_searches]
        searches += [self._silent_search] if self._silent_search else []
        for search in searches:
            search.cancel()
        for inlet in self.inlets:
            inlet.close()
        for search in searches:
            search.join()

    def _consequence_of_markers(self) -> str:
        if self._settings.trigger.source == MARKER:
            return "no pulse is seen"
        return "pulses have no second source"

    def _lose(self, inlet: Inlet, error: StreamLostError) -> _Outage:
        log.warning("%s", error)
        role = inlet.role
        if role == "emg":
            if self._silent_search is not None:
                self._retire(self._silent_search)
                self._silent_search = None
            search: Search = StreamSearch(SampleInlet, role, self._before(inlet))
        else:
            del self.events[role]
            self._heard_at.pop(role, None)
            search = StreamSearch(EventInlet, role, self._before(inlet))
        inlet.close()
        self._outages[role] = outage = _Outage(inlet, now_s(), search)
        self._tell(inlet, outage.since, None, str(error))
        return outage

    def _before(self, inlet: Inlet, alive: bool = False) -> Before:
        info = inlet.info
        return Before(
            query=self.wanted[inlet.role],
            name=info.name(),
            type=info.type(),
            source_id=info.source_id(),
            hostname=info.hostname(),
            uid=inlet.uid,
            alive=alive,
        )

    def _waits_for_recording(self, outage: _Outage, inlet: Inlet, why: str) -> bool:
        """Whether an EMG stream is back that is not in the recording yet; LabRecorder follows no other source_id."""
        if inlet.role != "emg" or why or _unlike(outage.inlet, inlet):
            return False
        if not self.recorded_again(inlet.query.name, outage.since):
            outage.waited = True
            outage.search.why = "it is back, and not in the recording yet"
        elif outage.waited:
            inlet.flush()  # what was sent before may not be in the recording
            outage.waited = False
        return outage.waited

    def _take_again(self, role: str, outage: _Outage, inlet: Any, why: str) -> None:
        unlike = _unlike(outage.inlet, inlet)
        if unlike:
            outage.search.refuse(f"it came back {unlike}, so it is not taken: undo that, or start a new session")
            return
        outage.search.release()
        self._old_searches.append(outage.search)
        del self._outages[role]
        now = now_s()
        away_s = now - outage.since
        if why:
            self._taken_as[role] = why
        text = f"the {role} stream {inlet.query.name!r} is back after {away_s:.1f} s" + (f": {why}" if why else "")
        self._tell(inlet, now, away_s, text)
        if role == "emg":
            self._emg = inlet
        else:
            self.events[role] = inlet

    def _search_while_silent(self, silence_s: float) -> None:
        if "emg" in self._outages:
            return
        search = self._silent_search
        if silence_s < SILENT_SEARCH_S:
            if search is not None:
                self._retire(search)
                self._silent_search = None
            return
        if search is None:
            self._silent_search = StreamSearch(SampleInlet, "emg", self._before(self.emg, alive=True))
        elif search.take() is not None:
            self._silent_search = None
            silent = self.emg
            log.warning("the EMG stream %r was started again elsewhere", silent.query.name)
            silent.close()
            self._outages["emg"] = outage = _Outage(silent, now_s() - silence_s, search)
            self._tell(silent, outage.since, None, f"the emg stream {silent.query.name!r} fell silent")

    def _retire(self, search: Search) -> None:
        search.cancel()
        self._old_searches.append(search)

    def _tell(self, inlet: Inlet, t: float, outage_s: float | None, text: str) -> None:
        query = inlet.query
        self._changes.append(StreamChange(inlet.role, query.name, query.source_id, t, outage_s, text))


def _check_kind(inlet: Inlet) -> None:
    """Refuse a stream that cannot be what its role says; nothing of it could ever be used."""
    text, n = inlet.info.channel_format() == TEXT, inlet.info.channel_count()
    if inlet.role == "pose" and (text or n != POSE_CHANNELS):
        what = "texts" if text else f"{n} numbers"
        raise StreamError(
            f"the pose stream {inlet.query.name!r} sends {what} per sample; expected {POSE_CHANNELS}: a 4 x 4 matrix "
            "row by row, coil to scanner space in mm, then 1 if the coil is tracked, else 0"
        )
    if inlet.role == "intensity" and text:
        raise StreamError(
            f"the intensity stream {inlet.query.name!r} sends texts; expected percent of the stimulator's maximum"
        )


def _unlike(before: Inlet, after: Inlet) -> str:
    """Say in what a stream that came back differs from what it was; empty if in nothing that matters."""
    was, now = before.info, after.info
    if now.channel_count() != was.channel_count():
        return f"with {now.channel_count()} channels instead of {was.channel_count()}"
    if now.nominal_srate() != was.nominal_srate():
        return f"at {now.nominal_srate():g} Hz instead of {was.nominal_srate():g}"
    for what, old, new in (("label", before.labels, after.labels), ("unit", before.units, after.units)):
        for number, pair in enumerate(itertools.zip_longest(old, new), start=1):
            if pair[0] != pair[1]:
                return f"with channel {number} under the {what} {pair[1]!r} instead of {pair[0]!r}"
    return ""

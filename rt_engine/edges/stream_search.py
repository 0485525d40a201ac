"""Looks for a stream that was lost, in a thread of its own, and opens it anew.

The rules of who may take a lost stream's place stand in `successor`. Whether the channels are still the same is for the
session to say: it takes an inlet over, or refuses it.
"""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pylsl

from rt_engine.edges.lsl_inlets import Inlet, matches, seen_streams
from rt_engine.errors import StreamError
from rt_engine.settings import StreamQuery

log = logging.getLogger(__name__)

ROUND_S = 1.0
"""How long each look at the network takes."""

ROUNDS_ALONE = 3
"""A stream under another source_id must be the only one that matches in so many looks: the right one may yet come."""

OPEN_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Before:
    """What is known of the stream that was lost.

    Attributes
    ----------
    query
        What the settings ask for.
    name, type, source_id, hostname, uid
        As the stream said; `uid` is new with each start of its source.
    alive
        Whether it is still connected and only silent; then it is no successor of itself.
    """

    query: StreamQuery
    name: str
    type: str
    source_id: str
    hostname: str
    uid: str
    alive: bool = False


def successor(
    before: Before, seen: Sequence[pylsl.StreamInfo], refused: frozenset[str] = frozenset()
) -> tuple[pylsl.StreamInfo | None, str]:
    """Say which stream may take the place of one that was lost.

    Parameters
    ----------
    before
        The lost stream.
    seen
        All streams on the network.
    refused
        uids of streams that were looked at and are not it.

    Returns
    -------
    stream
        The only one under the same source_id; else the only one that the settings ask for, if it has the same name and
        type and is on the same computer; else None.
    why
        Why none is, for people; or, of one under another source_id, that it is. Empty if all is as it was.
    """
    others = [info for info in seen if not (before.alive and info.uid() == before.uid)]
    same = [info for info in others if info.source_id() == before.source_id and info.name() == before.name]
    if len(same) > 1:
        return None, f"{len(same)} streams answer under its source_id {before.source_id!r}: stop all but one"
    if same:
        return (None, "") if same[0].uid() in refused else (same[0], "")
    if before.alive:
        return None, ""
    asked_for = [info for info in others if matches(info, before.query)]
    if not asked_for:
        near = [info for info in others if (info.name(), info.type()) == (before.name, before.type)]
        hint = (
            f"; a stream of its name has source_id {near[0].source_id()!r}, which the settings do not ask for"
            if near
            else ""
        )
        return None, f"no stream answers under its source_id {before.source_id!r}{hint}"
    if len(asked_for) > 1:
        listed = ", ".join(repr(info.source_id()) for info in asked_for)
        return None, f"{len(asked_for)} others match ({listed}), so none is taken: start it under its own source_id"
    (only,) = asked_for
    if only.uid() in refused:
        return None, ""
    was = (before.name, before.type, before.hostname)
    if (only.name(), only.type(), only.hostname()) != was:
        return None, (
            f"a stream {only.name()!r} on {only.hostname()} also matches but is another one "
            f"(it was {before.name!r} on {before.hostname}), so it is not taken: start a new session to use it"
        )
    return only, f"it came back under the source_id {only.source_id()!r}, it was {before.source_id!r}"


I = TypeVar("I", bound=Inlet)  # noqa: E741


class StreamSearch(Generic[I]):
    """A search for one lost stream; it goes on until it is ended.

    Parameters
    ----------
    kind
        Class of the inlet.
    role
        Of the stream.
    before
        What was lost.
    """

    def __init__(self, kind: type[I], role: str, before: Before) -> None:
        self.before = before
        self.why = "it is looked for"
        self._kind = kind
        self._role = role
        self._refused: frozenset[str] = frozenset()
        self._end = threading.Event()
        self._handed_over = threading.Event()
        self._found: tuple[I, str] | None = None
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=f"search for {role}", daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait until something is found, or has failed."""
        return self._handed_over.wait(timeout_s)

    def take(self) -> tuple[I, str] | None:
        """Return an open inlet whose clock is known, with what is to be said of it; None if there is none yet.

        Raises
        ------
        Exception
            What the search itself stumbled over, if it did.
        """
        if not self._handed_over.is_set():
            return None
        if self._failure is not None:
            raise self._failure
        return self._found

    def refuse(self, why: str) -> None:
        """Say that what was found is not it, and look further."""
        if self._found is None:
            return
        inlet, self._found = self._found[0], None
        self._refused |= {inlet.uid}
        inlet.close()
        self.why = why
        self._handed_over.clear()

    def cancel(self) -> None:
        """Let the search end by itself; what it found and nobody took is closed."""
        self._end.set()

    def join(self, timeout_s: float = 3.0) -> None:
        """Wait for the end of a search that has been cancelled."""
        self._thread.join(timeout_s)

    def release(self) -> None:
        """End the search after its inlet has been taken over."""
        self._found = None
        self._end.set()

    def _run(self) -> None:
        try:
            alone: dict[str, int] = {}
            while not self._end.is_set():
                if self._handed_over.is_set():
                    self._end.wait(ROUND_S)
                    continue
                info, why = successor(self.before, seen_streams(ROUND_S), self._refused)
                if info is None:
                    alone.clear()
                    self.why = why or self.why
                    continue
                if why:
                    alone[info.uid()] = alone.get(info.uid(), 0) + 1
                    if alone[info.uid()] < ROUNDS_ALONE:
                        continue
                self._open(info, why)
        except Exception as error:  # the session's loop raises it
            self._failure = error
            self._handed_over.set()
        finally:
            if self._found is not None:
                self._found[0].close()

    def _open(self, info: pylsl.StreamInfo, why: str) -> None:
        try:
            inlet: Any = self._kind(info, self._role)
        except RuntimeError as error:  # pylsl's, of a stream that has gone meanwhile
            log.info("looking further for the %s stream: %s", self._role, error)
            return
        try:
            inlet.open(OPEN_TIMEOUT_S, self._end.is_set)
            inlet.wait_for_clock(OPEN_TIMEOUT_S, self._end.is_set)
        except StreamError as error:
            log.info("looking further for the %s stream: %s", self._role, error)
            inlet.close()
            return
        if self._end.is_set():
            inlet.close()
            return
        self._found = (inlet, why)
        self._handed_over.set()

"""LSL inlets: exactly one stream per role, raw stamps, numpy in hand."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping

import numpy as np
import pylsl
from numpy.typing import NDArray
from pylsl.util import LostError
from pylsl.util import TimeoutError as LslTimeoutError

from rt_engine.edges.clock_offset import ClockOffset, query_answer
from rt_engine.errors import StreamError
from rt_engine.messages import StreamDescription
from rt_engine.settings import StreamQuery

log = logging.getLogger(__name__)

RESOLVE_ROUND_S = 1.0
"""LSL answers within a few hundred ms; a second stream that also matches must get the time to show itself."""

BUFFER_S = 60
"""What an inlet holds if nobody pulls, s."""

TEXT: int = pylsl.cf_string
"""Channel format of streams of texts."""

ANSWER_PERIOD_S = 1.0
"""How often it is looked whether a source has answered; liblsl asks it every two seconds."""

SLICE_S = 0.5
"""How long liblsl may wait at a stretch: bounds how late an end of the session is noticed."""


class StreamLostError(StreamError):
    """The source of an open stream is gone: its program ended, or its computer closed the connection."""


def describe(info: pylsl.StreamInfo, role: str) -> StreamDescription:
    """Return what the wire says of a stream."""
    return StreamDescription(
        role=role,
        name=info.name(),
        type=info.type(),
        source_id=info.source_id(),
        hostname=info.hostname(),
        nominal_rate_hz=info.nominal_srate(),
        n_channels=info.channel_count(),
    )


def seen_streams(wait_s: float = RESOLVE_ROUND_S) -> list[pylsl.StreamInfo]:
    """Return all streams that answer within `wait_s`."""
    return list(pylsl.resolve_streams(wait_time=wait_s))


def matches(info: pylsl.StreamInfo, query: StreamQuery) -> bool:
    """Whether a stream is what the query asks for."""
    return (
        (not query.name or info.name() == query.name)
        and (not query.type or info.type() == query.type)
        and (not query.source_id or info.source_id() == query.source_id)
    )


def resolve(
    queries: Mapping[str, StreamQuery], timeout_s: float, cancelled: Callable[[], bool] = lambda: False
) -> dict[str, pylsl.StreamInfo] | None:
    """Find exactly one stream for each role.

    Parameters
    ----------
    queries
        Role (for messages: ``emg``, ``markers`` ...) -> what to look for.
    timeout_s
        How long to look.
    cancelled
        Asked between rounds; if it says yes, the search ends.

    Returns
    -------
    dict or None
        Role -> stream; None if the search was cancelled.

    Raises
    ------
    StreamError
        If for a role none or more than one matches, or the one that does has no source_id.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        seen = seen_streams(min(RESOLVE_ROUND_S, timeout_s))
        found = {role: [info for info in seen if matches(info, query)] for role, query in queries.items()}
        if cancelled():
            return None
        if all(found.values()) or time.monotonic() >= deadline:
            return {role: _the_one(role, queries[role], found[role], seen, timeout_s) for role in queries}


def _the_one(
    role: str, query: StreamQuery, found: list[pylsl.StreamInfo], seen: list[pylsl.StreamInfo], timeout_s: float
) -> pylsl.StreamInfo:
    if not found:
        others = "; ".join(f"{i.name()!r} (type {i.type()!r}, source_id {i.source_id()!r})" for i in seen) or "none"
        raise StreamError(
            f"no {role} stream with {query} within {timeout_s:g} s; streams on the network: {others}. "
            "Check that the amplifier's LSL app is running and that the settings name it"
        )
    if len(found) > 1:
        which = "; ".join(f"{i.name()!r} on {i.hostname()}, source_id {i.source_id()!r}" for i in found)
        raise StreamError(
            f"{len(found)} streams match the {role} stream ({query}): {which}. "
            "Set source_id in the settings, or stop the others"
        )
    if not found[0].source_id():
        raise StreamError(
            f"the {role} stream {found[0].name()!r} has no source_id, so it could not be found again after an "
            "interruption; set one in the software that makes the stream"
        )
    return found[0]


class Inlet:
    """One open stream.

    liblsl's own recovery stays off: it goes over to whatever appears under the same source_id without a word, also if
    that has its channels in another order.

    Parameters
    ----------
    info
        As resolved.
    role
        For messages.

    Attributes
    ----------
    labels, units
        Of the channels, once the stream is open; empty strings where its metadata have none.
    n_unanswered
        How often in a row its source had not answered since it was last looked. Not a time: when we are held up
        ourselves, nobody is to blame.
    """

    def __init__(self, info: pylsl.StreamInfo, role: str) -> None:
        self.role = role
        self.query = StreamQuery(name=info.name(), type=info.type(), source_id=info.source_id())
        self._inlet = pylsl.StreamInlet(info, max_buflen=BUFFER_S, recover=False, as_numpy=True)
        self.clock = ClockOffset(self._inlet, info.name())
        self.info: pylsl.StreamInfo = info
        self.n_unanswered = 0
        self._answer = math.nan
        self._next_answer = -math.inf
        self.labels: list[str] = []
        self.units: list[str] = []

    def open(self, timeout_s: float, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Subscribe, fetch the full description, and begin to measure the clock offset.

        Parameters
        ----------
        timeout_s
            How long to wait for an answer.
        cancelled
            Asked twice a second; if it says yes, waiting ends, and the stream is not open.

        Raises
        ------
        StreamError
            If the stream does not answer in time.
        """

        def ask(slice_s: float) -> None:
            try:
                self.info = self._inlet.info(timeout=slice_s)
                self._inlet.open_stream(timeout=slice_s)
                self.labels = _texts(self.info.get_channel_labels(), self.info.channel_count())
                self.units = _texts(self.info.get_channel_units(), self.info.channel_count())
            except LslTimeoutError as late:
                raise TimeoutError from late

        self._insist(ask, timeout_s, cancelled)
        if not cancelled():
            self.clock.begin()

    def wait_for_clock(self, timeout_s: float, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Wait for the first clock offset.

        Raises
        ------
        StreamError
            If it does not come in time.
        """
        self._insist(self.clock.warm_up, timeout_s, cancelled)

    def poll_clock(self, now: float) -> bool:
        """Ask for the clock offset if it is time to; return whether it has changed.

        Raises
        ------
        StreamLostError
            If the stream is gone.
        """
        try:
            if now >= self._next_answer:
                self._next_answer = now + ANSWER_PERIOD_S
                self._look_for_answer()
            return self.clock.poll(now)
        except LostError as error:
            raise self._lost() from error

    def _look_for_answer(self) -> None:
        with contextlib.suppress(TimeoutError):  # none yet; the stream has just been opened
            answer = query_answer(self._inlet)
            self.n_unanswered = self.n_unanswered + 1 if answer == self._answer else 0
            self._answer = answer

    def _insist(self, ask: Callable[[float], None], timeout_s: float, cancelled: Callable[[], bool]) -> None:
        """Ask in slices until there is an answer."""
        deadline = time.monotonic() + timeout_s
        while not cancelled():
            try:
                ask(min(SLICE_S, timeout_s))
                return
            except LostError as error:
                raise self._lost() from error
            except TimeoutError as error:
                if time.monotonic() >= deadline:
                    raise StreamError(
                        f"the {self.role} stream {self.query.name!r} was seen but does not answer within "
                        f"{timeout_s:g} s: check the firewall and that its source still runs"
                    ) from error

    def _lost(self) -> StreamLostError:
        return StreamLostError(f"the {self.role} stream {self.query.name!r} is lost: its source has gone")

    @property
    def uid(self) -> str:
        """Identity of this very run of the stream's source."""
        return str(self.info.uid())

    @property
    def description(self) -> StreamDescription:
        """What the wire says of this stream."""
        return describe(self.info, self.role)

    @property
    def n_waiting(self) -> int:
        """How many samples have come and have not been taken."""
        return int(self._inlet.samples_available())

    def flush(self) -> int:
        """Drop all that waits and return how many samples that were."""
        return int(self._inlet.flush())

    def close(self) -> None:
        """Let the stream go."""
        self._inlet.close_stream()


class SampleInlet(Inlet):
    """A stream of numbers at a regular rate."""

    MAX_SAMPLES = 4096

    def pull(self, timeout_s: float, at_least: int = 1) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Wait until at least so many samples are there or the time is over, then take all that are.

        Returns
        -------
        samples
            (n, channels) float32, in the stream's own units; n can be 0.
        stamps
            (n,) float64, raw, s.

        Raises
        ------
        StreamLostError
            If the stream is gone.
        """
        try:
            samples, stamps = self._inlet.pull_chunk(
                timeout=timeout_s, max_samples=self.MAX_SAMPLES, min_samples=at_least, as_numpy=True
            )
        except LostError as error:
            raise self._lost() from error
        return samples.astype(np.float32, copy=False), stamps


class EventInlet(Inlet):
    """A stream of single events: text markers, coil poses, stimulator settings."""

    def pull(self) -> list[tuple[list[str | float], float]]:
        """Take all events that wait, without waiting: (values, raw stamp in s).

        Raises
        ------
        StreamLostError
            If the stream is gone.
        """
        try:
            values, stamps = self._inlet.pull_chunk(timeout=0.0, max_samples=64, as_numpy=True)
        except LostError as error:
            raise self._lost() from error
        events = []
        for row, stamp in zip(values, stamps, strict=True):
            decoded = [v.decode(errors="replace") if isinstance(v, bytes) else float(v) for v in row.tolist()]
            events.append((decoded, float(stamp)))
        return events


def _texts(given: list[str | None] | None, n: int) -> list[str]:
    texts = [text or "" for text in (given or [])]
    return texts if len(texts) == n else [""] * n

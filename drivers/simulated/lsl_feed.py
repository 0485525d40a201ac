"""The live feed: a simulated session sent through LSL at the pace of the clock.

Everything has its place on one absolute schedule: sample i of the EMG belongs to t0 + i / 2000, and a block is pushed
when its last sample's time has passed. So nothing drifts, and after a stall the feed catches up at once. Markers go out
when their pulse happens, hence usually before the block that holds the pulse's sample.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pylsl
from numpy.typing import NDArray

from drivers.simulated.calibration import didt_a_per_s
from drivers.simulated.coil_track import output_at
from drivers.simulated.dataset import SentPulse, sent_amplitudes_uv
from drivers.simulated.delivery import Delivery, Event
from drivers.simulated.emg import FRAME_SAMPLES
from drivers.simulated.fault import Marker
from drivers.simulated.mep_waveform import WINDOW
from drivers.simulated.session import SimulatedSession
from drivers.simulated.settings import SAMPLE_RATE_HZ
from drivers.simulated.streams import Outlets

STIMULATOR_PERIOD_S = 1.0
"""The stimulator's output is sent at least this often."""

HEAD_START_S = 0.05
"""Time between the call and the first sample."""

LINGER_SAMPLES = 200
"""EMG that is still sent after an early stop, so that the last MEP reaches its readers before the outlets close."""

KEPT_FRAMES = 6
"""Frames kept, ahead of the sample being sent and behind it for the MEP windows."""

TRACKED = 1.0
"""Last value of every pose: the simulated navigation never loses the coil."""

FAR = 1 << 62
"""Index of a sample that is never reached: the end of a stream without planned end."""


@dataclass
class FeedControl:
    """What the outside tells the feed; all may be set from other threads and from signal handlers.

    Attributes
    ----------
    start
        The session begins; until then only baseline EMG is sent. Set from the beginning unless one waits.
    release
        Nobody needs the stream after the session any more: it may end, at once if the session has not been started.
    stop
        End at once: no further pulse, but a pulse that has begun is sent in full.
    """

    start: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)


class SubjectFeed:
    """Sends one session; the streams exist from construction on.

    Parameters
    ----------
    session
        What is sent.
    on_event
        Called with each event, a dict with the key ``event``: ``ready`` (``streams``: by role, name, type and
        source_id; ``faults``: spelled out), ``pulse`` (``n``, ``sample``, ``pushed_at``, and which ``faults`` strike
        its sweep), and ``closed`` and ``opened`` as `Delivery` tells them.
    outlets
        Where to send; default the session's own LSL outlets.
    clock, sleep
        Time in seconds, and how to let it pass; other ones than LSL's and the system's are for tests.

    Attributes
    ----------
    sent_pulses : list of SentPulse
        The pulses that have been sent in full so far.
    """

    def __init__(
        self,
        session: SimulatedSession,
        on_event: Callable[[Event], None] | None = None,
        *,
        outlets: Outlets | None = None,
        clock: Callable[[], float] = pylsl.local_clock,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.sent_pulses: list[SentPulse] = []
        self._session = session
        self._feed = session.settings.feed
        self._on_event = on_event or (lambda event: None)
        self._delivery = Delivery(session.settings, self._on_event, outlets)
        self._clock = clock
        self._sleep = sleep
        self._track = session.track()
        self._t0 = 0.0
        self._sent = 0  # samples sent, hence index of the next one
        self._made = 0  # samples made
        self._frames: deque[tuple[int, NDArray[np.float32]]] = deque(maxlen=KEPT_FRAMES)
        self._origin: int | None = None  # index of the session's first sample, once it is known
        self._pulse_sample = np.empty(0, np.int64)  # in the stream, once the origin is known
        self._markers: list[Marker] = []  # to come, in the order in which they are due
        self._announced: set[int] = set()  # pulses of which a marker has been sent
        self._n_poses = 0
        self._stimulator_due = 0
        self._stimulator_percent = np.nan

    def run(self, control: FeedControl) -> list[SentPulse]:
        """Send the session.

        Parameters
        ----------
        control
            Ends the waiting, the streaming after the session, or everything.

        Returns
        -------
        list of SentPulse
            `sent_pulses`.
        """
        source = self._frame_source(control)
        self._make_ahead(source)
        self._t0 = self._clock() + HEAD_START_S
        self._on_event(self._delivery.ready())
        stopped_end: int | None = None
        while True:
            if control.stop.is_set() and stopped_end is None:
                stopped_end = self._stopped_end()
            end = self._planned_end(control) if stopped_end is None else stopped_end
            if self._sent >= end:
                break
            self._send_block(min(self._sent + self._feed.block_samples, end), end)
            self._make_ahead(source)
        self._send_markers_left()
        return self.sent_pulses

    def _frame_source(self, control: FeedControl) -> Iterator[NDArray[np.float32]]:
        """Yield the stream's frames: baseline until the start, then the session, then baseline for ever."""
        emg = self._session.emg()
        waiting = 0
        while not control.start.is_set():
            yield emg.waiting_frame(waiting)
            waiting += 1
        if waiting:
            yield emg.transition_frame(waiting)
        self._origin = self._made
        self._pulse_sample = self._session.train.sample + self._origin
        self._markers = self._delivery.begin(self._pulse_sample)
        index = 0
        while True:
            yield emg.frame(index)
            index += 1

    def _make_ahead(self, source: Iterator[NDArray[np.float32]]) -> None:
        """Make the frames that the next blocks need, while there is time."""
        while self._made < self._sent + FRAME_SAMPLES:
            frame = next(source)
            self._frames.append((self._made, frame))
            self._made += FRAME_SAMPLES

    def _planned_end(self, control: FeedControl) -> int:
        """Return the index after the last sample as things are now."""
        if not control.release.is_set():
            return FAR
        if self._origin is None:
            return FAR if control.start.is_set() else self._sent
        return self._origin + self._session.n_samples

    def _stopped_end(self) -> int:
        """Return the index after the last sample of an early stop: pulses that have begun are sent in full."""
        end = self._sent
        for pulse, sample in enumerate(self._pulse_sample.tolist()):
            if pulse not in self._announced and sample >= end:
                return min(end + LINGER_SAMPLES, sample)
            end = max(end, sample + WINDOW.stop)
        return end + LINGER_SAMPLES

    def _send_block(self, last: int, end: int) -> None:
        """Send the samples up to `last` (excluded) when their time has come, and before them what is due earlier."""
        due = self._time(last - 1)
        self._send_stimulator()
        self._send_markers_and_poses(due, end)
        self._wait_until(due)
        pushed_at = self._clock()
        self._delivery.emg(self._sent, last, self._samples, self._t0)
        self._sent = last
        self._note_complete_pulses(pushed_at)

    def _send_markers_and_poses(self, until: float, end: int) -> None:
        while True:
            pose_due = self._t0 + self._n_poses / self._feed.pose_rate_hz
            marker = self._next_marker(end)
            marker_due = np.inf if marker is None else self._t0 + marker.due_s
            if min(pose_due, marker_due) > until:
                return
            if marker is not None and marker_due <= pose_due:
                self._send_marker(marker)
            else:
                self._send_pose(pose_due)

    def _next_marker(self, end: int) -> Marker | None:
        # A pulse beyond an early end will not happen.
        return next((marker for marker in self._markers if self._pulse_sample[marker.pulse] < end), None)

    def _send_marker(self, marker: Marker) -> None:
        self._wait_until(self._t0 + marker.due_s)
        self._delivery.marker(marker, self._t0)
        self._markers.remove(marker)
        self._announced.add(marker.pulse)

    def _send_markers_left(self) -> None:
        """Send the markers whose delay reaches beyond the last sample."""
        while (marker := self._next_marker(self._sent)) is not None:
            self._send_marker(marker)

    def _send_pose(self, due: float) -> None:
        time_s = self._n_poses / self._feed.pose_rate_hz
        since_origin = -1.0 if self._origin is None else time_s * SAMPLE_RATE_HZ - self._origin
        self._wait_until(due)
        self._delivery.pose([*self._track.pose_at(since_origin).ravel().tolist(), TRACKED], time_s, self._t0)
        self._n_poses += 1

    def _send_stimulator(self) -> None:
        since_origin = -1 if self._origin is None else self._sent - self._origin
        percent = output_at(self._session.percent_mso, self._session.train.sample, since_origin)
        if percent == self._stimulator_percent and self._sent < self._stimulator_due:
            return
        didt_a_per_us = didt_a_per_s(self._session.coil, percent) * 1e-6
        self._delivery.stimulator([percent, didt_a_per_us], self._sent, self._t0)
        self._stimulator_percent = percent
        self._stimulator_due = self._sent + round(STIMULATOR_PERIOD_S * SAMPLE_RATE_HZ)

    def _note_complete_pulses(self, pushed_at: float) -> None:
        while len(self.sent_pulses) < len(self._pulse_sample):
            pulse = len(self.sent_pulses)
            sample = int(self._pulse_sample[pulse])
            if sample + WINDOW.stop > self._sent:
                return
            first = sample + WINDOW.start
            window = self._delivery.values(first, self._samples(first, sample + WINDOW.stop))
            amplitudes = tuple(sent_amplitudes_uv(window, self._session.settings.emg.unit).tolist())
            self.sent_pulses.append(SentPulse(pulse, sample, amplitudes, self._time(sample), pushed_at))
            struck = self._delivery.faults.touching(pulse, self._delivery.scene)
            told = {"n": pulse, "sample": sample, "pushed_at": pushed_at, "faults": struck}
            self._on_event({"event": "pulse", **told})

    def _samples(self, begin: int, end: int) -> NDArray[np.float32]:
        parts = [
            frame[max(begin - start, 0) : end - start]
            for start, frame in self._frames
            if start < end and begin < start + FRAME_SAMPLES
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _time(self, sample: int) -> float:
        """Return the LSL time of a sample of the stream."""
        return self._t0 + sample / self._delivery.rate_hz

    def _wait_until(self, due: float) -> None:
        while (left := due - self._clock()) > 0.0:
            self._sleep(left)

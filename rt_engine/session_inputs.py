"""What a session feeds to the core, and the same as events for the record: a replay feeds just that."""

import math
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from rt_engine.channels import ChannelMap, check_baseline
from rt_engine.edges.clock_offset import now_s
from rt_engine.edges.intensity_sample import parse_intensity
from rt_engine.edges.lsl_inlets import EventInlet
from rt_engine.edges.pose_sample import parse_pose
from rt_engine.engine import Engine, PulseResult
from rt_engine.errors import StreamError
from rt_engine.pulse import MARKER, Pulse
from rt_engine.record_events import (
    Event,
    IntensityFed,
    Offset,
    PoseFed,
    PulseFed,
    ReferenceFed,
    Start,
    StreamBack,
    StreamLost,
    TimeFed,
)
from rt_engine.sample_block import SampleBlock
from rt_engine.session_streams import SessionStreams, StreamChange
from rt_engine.settings import Settings

BASELINE_CHECK_S = 0.5
"""How much signal is looked at before the start and after an outage, to catch a wrong unit."""


class SessionInputs:
    """Feeds an engine, and notes what it was fed.

    Parameters
    ----------
    settings, session_id
        Of the session.
    streams
        Where samples and events come from.
    engine
        What is fed.
    note
        Takes the events for the record.

    Attributes
    ----------
    trouble
        What is wrong with the signal, for people; empty if nothing is.
    """

    def __init__(
        self,
        settings: Settings,
        session_id: str,
        streams: SessionStreams,
        engine: Engine,
        note: Callable[[Event], None],
    ) -> None:
        self._settings = settings
        self._session_id = session_id
        self._streams = streams
        self._engine = engine
        self._note = note
        self.trouble = ""
        self._emg_back: StreamChange | None = None
        self._unchecked: list[NDArray[np.float32]] | None = None
        self._held: dict[str, tuple[EventInlet, list[str | float], float]] = {}

    def feed_samples(
        self, samples: NDArray[np.float32], stamps: NDArray[np.float64]
    ) -> tuple[list[PulseResult], SampleBlock]:
        """Feed EMG samples with their raw stamps; returns what came of them, and the block that they made."""
        clock = self._streams.emg.clock
        if self._engine.n_samples == 0:
            self._note_start(float(stamps[0]))
        elif self._emg_back:
            self._note_return(self._emg_back, float(stamps[0]))
            self._unchecked, self.trouble = [], ""
        self._emg_back = None
        if self._unchecked is not None:
            self._check_again(samples, self._unchecked)
        if clock.check(float(stamps[-1]), now_s()):
            self.note_offset()
        block = SampleBlock(samples, stamps, clock.offset_s, clock.uncertainty_s)
        return self._engine.feed_samples(block), block

    def hold_events(self) -> set[str]:
        """Take what the other streams say before the session begins, and return the roles of those that said something.

        A stimulator tells its setting when it is changed, and perhaps never again. So the last setting and the last
        pose are fed when the session begins; markers of pulses before are not.
        """
        heard = set()
        for inlet, values, stamp in self._streams.pull_events():
            heard.add(inlet.role)
            if inlet.role != "markers":
                self._held[inlet.role] = (inlet, values, stamp)
        return heard

    def begin(self) -> None:
        """Feed what was held; from now on everything counts."""
        self.hold_events()
        for held in self._held.values():
            self._feed_companion(*held)
        self._held.clear()

    def feed_events(self) -> list[PulseResult]:
        """Feed what the other streams have said meanwhile."""
        results: list[PulseResult] = []
        for inlet, values, stamp in self._streams.pull_events():
            if inlet.role == "markers":
                results += self._feed_marker(inlet, values[0], stamp)
            else:
                self._feed_companion(inlet, values, stamp)
        return results

    def expire(self, t: float) -> list[PulseResult]:
        """Give up pulses whose samples were overdue at `t`, s, LSL clock."""
        engine = self._engine
        results = engine.feed_time(t) if engine.assembler.n_pending else []
        if results:
            self._note(TimeFed(n=engine.n_samples, t=t))
        return results

    def note_offset(self) -> None:
        """Note that the EMG stream's clock offset has changed."""
        if self._engine.n_samples:
            clock = self._streams.emg.clock
            self._note(Offset(n=self._engine.n_samples, offset=clock.offset_s, uncertainty=clock.uncertainty_s))

    def note_change(self, change: StreamChange) -> None:
        """Note that a stream was lost, or is back; of the EMG stream, with its first sample."""
        if change.outage_s is None:
            n = self._engine.n_samples
            self._note(StreamLost(n=n, t=change.t, role=change.role, name=change.name, reason=change.text))
        elif change.role == "emg":
            self._emg_back = change
        else:
            self._note_return(change, None)

    def _check_again(self, samples: NDArray[np.float32], before: list[NDArray[np.float32]]) -> None:
        """Look at the first signal after the EMG stream came back, as before the start: its labels may be wrong now."""
        before.append(samples)
        assembler = self._engine.assembler
        if sum(len(block) for block in before) < BASELINE_CHECK_S * assembler.clock.nominal_rate_hz:
            return
        self._unchecked = None
        try:
            check_signal(before, assembler.channels)
        except StreamError as error:
            self.trouble = f"since the EMG stream is back: {error}"

    def _feed_companion(self, inlet: EventInlet, values: list[str | float], stamp: float) -> None:
        engine, t = self._engine, stamp + inlet.clock.offset_s
        if inlet.role == "pose":
            pose = parse_pose(values, t)
            if pose:
                self._note(PoseFed.of(engine.n_samples, pose))
                engine.feed_pose(pose)
            return
        intensity = parse_intensity(values, inlet.labels, t)
        if intensity:
            self._note(IntensityFed.of(engine.n_samples, intensity))
            engine.feed_intensity(intensity)

    def _feed_marker(self, inlet: EventInlet, value: str | float, stamp: float) -> list[PulseResult]:
        label = value if isinstance(value, str) else f"{value:g}"
        trigger, engine = self._settings.trigger, self._engine
        if trigger.marker_labels and label not in trigger.marker_labels:
            return []
        pulse = Pulse(stamp, inlet.clock.offset_s, inlet.clock.uncertainty_s, label)
        if trigger.source == MARKER:
            self._note(PulseFed.of(engine.n_samples, pulse))
            return engine.feed_pulse(pulse)
        self._note(ReferenceFed.of(engine.n_samples, pulse))
        return engine.feed_reference(pulse)

    def _note_start(self, first_stamp: float) -> None:
        names = {role: inlet.query.name for role, inlet in self._streams.events.items()}
        clock = self._streams.emg.clock
        self._note(
            Start(
                session=self._session_id,
                settings=msgspec.to_builtins(self._settings),
                model_sha256=self._engine.model_sha256,
                emg=self._streams.emg.query.name,
                markers=names.get("markers", ""),
                pose=names.get("pose", ""),
                intensity=names.get("intensity", ""),
                first_stamp=first_stamp,
                offset=clock.offset_s,
                uncertainty=clock.uncertainty_s,
            )
        )

    def _note_return(self, change: StreamChange, first_stamp: float | None) -> None:
        self._note(
            StreamBack(
                n=self._engine.n_samples,
                t=change.t,
                role=change.role,
                name=change.name,
                source_id=change.source_id,
                outage_s=change.outage_s or 0.0,
                reason=change.text,
                first_stamp=first_stamp,
            )
        )
        if change.role == "emg":
            self.note_offset()


def check_signal(blocks: Sequence[NDArray[np.float32]], channels: ChannelMap) -> None:
    """Look whether samples of a subject at rest can be EMG in the unit that the stream states.

    Parameters
    ----------
    blocks
        Each (n, channels) float32, as they came.
    channels
        Of the session.

    Raises
    ------
    StreamError
        If they cannot; see `check_baseline`.
    """
    samples = np.concatenate(blocks)[:, channels.columns].astype(np.float64) * channels.scale_to_uv
    check_baseline(samples, channels.muscles)


def transport_s(result: PulseResult, block: SampleBlock | None, n_samples: int, pulled_at: float) -> float:
    """Return how long the last needed sample of a result took from its own stamp into our hands.

    Parameters
    ----------
    result
        Of the engine.
    block
        The one whose samples completed it, if samples did.
    n_samples
        How many had been fed with it.
    pulled_at
        When they came, s, LSL clock.

    Returns
    -------
    float
        Seconds; NaN if no sample was waited for.
    """
    if block is None or not result.trial.valid:
        return math.nan
    last_needed = result.trial.first_index + result.trial.sweep_uv.shape[1] - 1
    in_block = last_needed - (n_samples - len(block.stamps))
    if in_block < 0:
        return math.nan
    return pulled_at - float(block.stamps[in_block]) - block.clock_offset

"""What the core consumed and what it made of it, as events that stand in the recording beside the raw streams.

LabRecorder has inlets, a start and a clock of its own. A replay needs to know with which sample the engine began, when
each clock offset came, and after how many samples each marker, pose, intensity and command arrived; these events say
so, in JSON, one per sample. Doubles are written so that reading gives the same bits; JSON has no number for a time that
is none, which stands as null.
"""

import math
from typing import Any, TypeAlias

import msgspec
import numpy as np

from rt_engine.companions import CoilPose, StimulatorIntensity
from rt_engine.errors import FileFormatError
from rt_engine.pulse import Pulse

RECORD_TYPE = "m2m-engine"
"""LSL type of the stream."""

RECORD_VERSION = 2
"""2 added poses, intensities, reference pulses, commands and offsets between triggers; records of 1 are still read."""


class Start(msgspec.Struct, tag="start", tag_field="event", kw_only=True, frozen=True):
    """The engine begins: `first_stamp` is the raw stamp of the first EMG sample that it took in."""

    version: int = RECORD_VERSION
    session: str
    settings: dict[str, Any]
    model_sha256: str
    emg: str
    markers: str
    pose: str
    intensity: str
    """Names of the streams; empty for one that was not there."""
    first_stamp: float
    offset: float
    uncertainty: float
    """Clock offset of the EMG stream."""


class Offset(msgspec.Struct, tag="offset", tag_field="event", kw_only=True, frozen=True):
    """The EMG stream's clock offset from sample `n` on."""

    n: int
    offset: float
    uncertainty: float


class _MarkerFed(msgspec.Struct, tag_field="event", kw_only=True, frozen=True):
    n: int
    t_raw: float | None
    """None for a marker whose time is not a number or infinite."""
    offset: float
    uncertainty: float
    label: str = ""

    @property
    def fed(self) -> Pulse:
        """What the engine was given."""
        return Pulse(_number(self.t_raw), self.offset, self.uncertainty, self.label)


class PulseFed(_MarkerFed, tag="pulse", kw_only=True, frozen=True):
    """A marker's pulse was fed after `n` samples (`Engine.feed_pulse`)."""

    @classmethod
    def of(cls, n: int, pulse: Pulse) -> "PulseFed":
        """Return the event of a pulse fed after `n` samples."""
        return cls(n=n, **_marker_fields(pulse))


class ReferenceFed(_MarkerFed, tag="reference", kw_only=True, frozen=True):
    """A marker that is not the source of the pulses was fed after `n` samples (`Engine.feed_reference`)."""

    @classmethod
    def of(cls, n: int, pulse: Pulse) -> "ReferenceFed":
        """Return the event of a reference fed after `n` samples."""
        return cls(n=n, **_marker_fields(pulse))


def _marker_fields(pulse: Pulse) -> dict[str, Any]:
    return {
        "t_raw": pulse.t_raw if pulse.has_time else None,
        "offset": pulse.clock_offset if pulse.has_time else 0.0,
        "uncertainty": pulse.clock_uncertainty,
        "label": pulse.label,
    }


class TimeFed(msgspec.Struct, tag="time", tag_field="event", kw_only=True, frozen=True):
    """The time `t` was fed after `n` samples, and a pulse expired by it."""

    n: int
    t: float


class PoseFed(msgspec.Struct, tag="pose", tag_field="event", kw_only=True, frozen=True):
    """A coil pose was fed after `n` samples: whether a trial has it depends on which came first."""

    n: int
    t: float | None
    """In the engine's clock, s; None if that was no finite time."""
    matrix: list[float] | None
    """The 16 numbers row by row, mm; None for a coil out of sight."""

    @classmethod
    def of(cls, n: int, pose: CoilPose) -> "PoseFed":
        """Return the event of a pose fed after `n` samples."""
        seen = pose.tracked and bool(np.isfinite(pose.matrix).all())
        return cls(n=n, t=_or_none(pose.t), matrix=pose.matrix.ravel().tolist() if seen else None)

    @property
    def fed(self) -> CoilPose:
        """What the engine was given; a coil out of sight has a matrix of NaN."""
        matrix = np.full((4, 4), np.nan) if self.matrix is None else np.array(self.matrix, dtype=np.float64)
        if matrix.size != 16:
            raise FileFormatError(f"the engine's record holds a pose of {matrix.size} numbers; expected 16")
        return CoilPose(_number(self.t), matrix.reshape(4, 4), self.matrix is not None)


class IntensityFed(msgspec.Struct, tag="intensity", tag_field="event", kw_only=True, frozen=True):
    """The stimulator's setting was fed after `n` samples."""

    n: int
    t: float | None
    percent_mso: float | None
    didt_a_per_us: float | None = None

    @classmethod
    def of(cls, n: int, intensity: StimulatorIntensity) -> "IntensityFed":
        """Return the event of an intensity fed after `n` samples."""
        percent, didt = _or_none(intensity.percent_mso), intensity.didt_a_per_us
        return cls(n=n, t=_or_none(intensity.t), percent_mso=percent, didt_a_per_us=didt)

    @property
    def fed(self) -> StimulatorIntensity:
        """What the engine was given."""
        return StimulatorIntensity(_number(self.t), _number(self.percent_mso), self.didt_a_per_us)


class ModelSwapped(msgspec.Struct, tag="swap", tag_field="event", kw_only=True, frozen=True):
    """From the first trial served after `n` samples on, another model makes the maps."""

    n: int
    path: str
    sha256: str


class Calibrated(msgspec.Struct, tag="calibrate", tag_field="event", kw_only=True, frozen=True):
    """From the first trial served after `n` samples on, amplitudes are multiplied before the model sees them."""

    n: int
    gains: list[float]
    """Per muscle, in the model's order."""


class Marked(msgspec.Struct, tag="mark", tag_field="event", kw_only=True, frozen=True):
    """Somebody marked a pulse, or took the mark back; results do not change by it."""

    pulse: int
    reason: str
    unmark: bool = False


class StateEntered(msgspec.Struct, tag="state", tag_field="event", kw_only=True, frozen=True):
    """The session came into a state after `n` samples; results do not change by it."""

    n: int
    t: float
    """In the engine's clock, s."""
    state: str
    reason: str


class StreamLost(msgspec.Struct, tag="lost", tag_field="event", kw_only=True, frozen=True):
    """A stream was lost after `n` samples."""

    n: int
    t: float
    role: str
    name: str
    reason: str


class StreamBack(msgspec.Struct, tag="back", tag_field="event", kw_only=True, frozen=True):
    """A lost stream is taken again after `n` samples."""

    n: int
    t: float
    role: str
    name: str
    source_id: str
    outage_s: float
    reason: str
    first_stamp: float | None = None
    """Of the EMG stream, the raw stamp of sample `n`: what was sent before it, LabRecorder may have and we have not."""


class Result(msgspec.Struct, tag="result", tag_field="event", kw_only=True, frozen=True):
    """What the engine decided about one pulse."""

    pulse: int
    t_pulse: float
    valid: bool
    reasons: list[str] = []
    mep_uv: list[float | None] = []
    status: list[int] = []
    cog_mm: list[float] = []
    confidence: str = "low"
    confidence_reasons: list[str] = []
    trigger_source: str = ""
    offsets_ms: dict[str, float] = {}
    """Other trigger sources that saw the pulse -> how much later than `t_pulse`, ms."""


class Stop(msgspec.Struct, tag="stop", tag_field="event", kw_only=True, frozen=True):
    """The engine ends after `n` samples."""

    n: int
    sha256_meps: str = ""
    sha256_maps: str = ""


Input: TypeAlias = PulseFed | ReferenceFed | TimeFed | PoseFed | IntensityFed | ModelSwapped | Calibrated
"""What is fed beside samples, and changes results."""

Event: TypeAlias = Start | Offset | Input | Marked | StateEntered | StreamLost | StreamBack | Result | Stop

_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def parse_event(text: str) -> Event:
    """Parse one event.

    Raises
    ------
    FileFormatError
        If it is none, or the first of a record of a newer version than this software knows.
    """
    try:
        event = _decoder.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise FileFormatError(f"the engine's record holds an event that cannot be read: {error}") from error
    if isinstance(event, Start) and event.version > RECORD_VERSION:
        raise FileFormatError(
            f"the engine's record has version {event.version}, newer than this software's {RECORD_VERSION}; update m2m"
        )
    return event


def _or_none(value: float) -> float | None:
    """Return what JSON can hold."""
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else value

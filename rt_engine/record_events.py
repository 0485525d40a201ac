"""What the core consumed and what it made of it, as events that stand in the recording beside the raw streams.

LabRecorder has inlets, a start and a clock of its own. A replay needs to know with which sample the engine began, when
each clock offset came, and after how many samples each marker arrived; these events say so, in JSON, one per sample.
Doubles are written so that reading gives the same bits.
"""

from typing import Any, TypeAlias

import msgspec

from rt_engine.errors import FileFormatError

RECORD_TYPE = "m2m-engine"
"""LSL type of the stream."""

RECORD_VERSION = 1


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


class PulseFed(msgspec.Struct, tag="pulse", tag_field="event", kw_only=True, frozen=True):
    """A marker's pulse was fed after `n` samples."""

    n: int
    t_raw: float
    offset: float
    uncertainty: float
    label: str = ""


class TimeFed(msgspec.Struct, tag="time", tag_field="event", kw_only=True, frozen=True):
    """The time `t` was fed after `n` samples, and a pulse expired by it."""

    n: int
    t: float


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


class Stop(msgspec.Struct, tag="stop", tag_field="event", kw_only=True, frozen=True):
    """The engine ends after `n` samples."""

    n: int
    sha256_meps: str = ""
    sha256_maps: str = ""


Event: TypeAlias = Start | Offset | PulseFed | TimeFed | Result | Stop

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

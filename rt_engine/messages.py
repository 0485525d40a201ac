"""The messages on the wire: typed headers, their arrays, and how both become ZeroMQ frames.

Frames are `topic | header (JSON, UTF-8) | one frame per array, in the header's order`. Arrays are raw, little-endian,
C-contiguous. This module makes and parses frames and owns no socket; `rt_engine.edges.publisher` sends them. A reader
must ignore unknown keys; a change that breaks readers raises the number in `SCHEMA`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from rt_engine.errors import DataError

SCHEMA = "m2m/1"
"""Name and version of the wire format, in every header."""

MAX_FRAME_BYTES = 64 * 1024 * 1024
"""Upper bound on one frame; larger ones are refused unread."""


MAX_HEADER_BYTES = 1024 * 1024
"""Upper bound on a header: no message of ours has a hundredth of it, and parsing more would hold up a reader."""

MAX_DIMENSIONS = 8
"""Of an array."""


class ArraySpec(msgspec.Struct, frozen=True):
    """One array of a message: its frame stands at the same place after the header."""

    name: str
    dtype: str
    """numpy's name with byte order, e.g. ``<f4``."""
    shape: list[int]
    unit: str
    """``uV``, ``ms``, ``mm``, ``V/m``, or ``1`` for a number without unit."""


class Header(msgspec.Struct, kw_only=True):
    """What every message carries."""

    schema: str = SCHEMA
    topic: str
    seq: int = 0
    """Counts the messages of a topic from 0 without holes: a hole seen by a reader is a message it has lost. `session`
    and `geometry` come again, with the number they had, whenever somebody subscribes."""
    session: str = ""
    """Identity of the session, new for each start of the engine."""
    arrays: list[ArraySpec] = []


class StreamDescription(msgspec.Struct, kw_only=True):
    """An LSL stream that the session listens to."""

    role: str
    """``emg``, ``markers``, ``pose`` or ``intensity``."""
    name: str
    type: str
    source_id: str
    hostname: str
    nominal_rate_hz: float
    n_channels: int


class ModelDescription(msgspec.Struct, kw_only=True):
    """The model that turns amplitudes into maps."""

    name: str
    kind: str
    sha256: str
    muscles: list[str]
    field_scale_v_per_m: float
    provider: str
    """ONNX Runtime's execution provider that the session really got."""


class SessionHeader(Header, kw_only=True):
    """Sent at the start and to every new subscriber: what the session is. No arrays."""

    topic: str = "session"
    started_at: str
    """UTC, ISO 8601."""
    muscles: list[str]
    """Order of the muscle axis in all arrays."""
    amplitude_unit: str = "uV"
    window_ms: list[list[float]]
    """(muscles, 2): begin and end of each muscle's MEP window after the pulse."""
    sweep_ms: list[float]
    """Begin and end of the published sweep relative to the pulse."""
    floor_uv: float
    nominal_rate_hz: float
    trigger_source: str
    streams: list[StreamDescription] = []
    model: ModelDescription
    versions: dict[str, str] = {}
    replay: bool = False
    """True if a recording is played; then no stream is live."""


class GeometryHeader(Header, kw_only=True):
    """Where the voxels of every map are.

    Arrays: ``voxel`` (V, 3) int16, indices into the box; ``affine`` (4, 4) float64, box index to scanner space in mm;
    optionally ``vertices`` (P, 3) float32 in mm and ``triangles`` (T, 3) int32 of the cortex.
    """

    topic: str = "geometry"
    subject: str
    space: str
    """Name of the scanner space and its axes, e.g. ``MNI152, RAS: x right, y anterior, z superior``."""
    hemisphere: str
    box_shape: list[int]
    n_voxels: int


class PulseHeader(Header, kw_only=True):
    """What the messages about one pulse share."""

    pulse: int
    """Identity of the pulse within the session, counted from 0 in the order of arrival."""
    t_pulse_raw: float
    """Time of the pulse in the clock of the stream that told of it, s."""
    t_pulse: float
    """Time of the pulse in the engine's LSL clock, s."""
    t_uncertainty: float
    """One standard deviation of `t_pulse`, s."""
    trigger_source: str
    """``ttl``, ``marker`` or ``artefact``."""
    offsets_ms: dict[str, float] = {}
    """Other trigger sources that saw the pulse -> how much later than `t_pulse`, ms."""
    t_available: float | None = None
    """When the last needed sample was in the engine's hands, s, engine's LSL clock; absent in a replay."""
    t_sent: float | None = None
    """When this message was handed to ZeroMQ, s, engine's LSL clock; absent in a replay."""
    stages_us: dict[str, float] = {}
    """Time spent per stage on the way to this message, microseconds: ``transport`` from the last needed sample's own
    stamp to the engine's hands, ``wait``, ``extract``, ``infer``, ``field`` (the tracked coil's own), ``publish``."""
    model_sha256: str = ""
    gains: list[float] = []
    """What each muscle's amplitude was multiplied by before the model saw it (``calibrate``); empty if nothing was. The
    amplitudes in `trial` are as measured."""
    confidence: str = "ok"
    """``ok`` or ``low``."""
    confidence_reasons: list[str] = []


class TrialHeader(PulseHeader, kw_only=True):
    """One pulse and what the muscles did, valid or not.

    Arrays: ``sweep_uv`` (muscles, samples) float32; ``mep_uv`` (muscles,) float32; ``onset_ms`` (muscles,) float32, NaN
    where none was found; ``peak_ms`` (muscles, 2) float32, times of maximum and minimum; ``baseline_rms_uv`` (muscles,)
    float32; ``control_uv`` (muscles,) float32, the same peak-to-peak before the pulse; ``pose`` (4, 4) float64, coil to
    scanner space in mm, NaN where the coil is not tracked. The arrays of an invalid trial hold NaN where nothing was
    measured.
    """

    topic: str = "trial"
    valid: bool
    reasons: list[str] = []
    """Why the trial is not valid: ``gap``, ``duplicate``, ``clock_step``, ``expired``, ``before_stream``,
    ``ahead_of_stream``, ``too_late``, ``time_uncertain``, ``no_time``, ``too_many_pending``."""
    status: list[str] = []
    """Per muscle, flags joined by ``|``, or ``OK``."""
    sweep_start_ms: float
    """Time of the first sample of the sweep relative to the pulse."""
    rate_hz: float
    """Effective sample rate."""
    pose_tracked: bool = False
    intensity_percent_mso: float | None = None
    """Stimulator output, percent of the maximum; absent if no stimulator stream is there."""


class FieldAgreement(msgspec.Struct, kw_only=True):
    """How the estimated field agrees with the one computed from the tracked coil, over the voxels of BA4."""

    correlation: float | None = None
    """Pearson's; absent where one of the two is the same everywhere."""
    nrmse: float
    """Root of the squared difference by the squared norm of the computed field (article, eq. 12)."""
    cog_distance_mm: float
    """Between the two centres of gravity (article, eq. 15)."""


class MapHeader(PulseHeader, kw_only=True):
    """The estimated field of one pulse, and beside it the one computed from the tracked coil.

    Arrays: ``field`` (V,) float32 in [0, 1], in geometry order; ``spread`` (V,) float32, one standard deviation of
    `field`; ``cog_mm`` (3,) float64; ``cog_cov_mm2`` (3, 3) float64; ``mep_normalised`` (muscles,) float32; where
    `computed_field_reason` is empty also ``computed_field`` (V,) float32 in V/m, in geometry order.
    """

    topic: str = "map"
    scale_v_per_m: float
    """What 1.0 in `field` stands for."""
    computed_field_reason: str = "no_basis"
    """Why there is no ``computed_field``: ``no_pose``, ``not_tracked``, ``bad_pose``, ``no_intensity``, ``not_covered``
    (outside what the subject's E-field basis answers), ``no_basis``, ``other_voxels``; empty if there is one."""
    computed_field_residual: float | None = None
    """What the basis leaves of the coil's field, relative; also told where the placement is not covered."""
    computed_field_agreement: FieldAgreement | None = None


class HealthHeader(Header, kw_only=True):
    """Twice a second: how the session is. No arrays."""

    topic: str = "health"
    state: str
    """``RESOLVING``, ``WARMING``, ``READY``, ``RUNNING``, ``DEGRADED``, ``STOPPED`` or ``FAILED``."""
    reason: str = ""
    t: float
    """The engine's LSL clock, s."""
    effective_rate_hz: float | None = None
    jitter_ms: float | None = None
    n_samples: int = 0
    n_gaps: int = 0
    """Places where samples were lost or came twice, or the stamps stepped back."""
    smallest_gap_ms: float | None = None
    """The smallest loss of samples that the stamps, jittering as they do, can show."""
    notes: dict[str, int] = {}
    """Counts since the start of what was noticed beside the trials: ``gap``, ``duplicate``, ``clock_step``,
    ``late_stamps``, ``double_marker``, ``trigger_disagreement``, and ``unmatched_trigger``: another source told of a
    pulse that the one which makes the trials did not see."""
    pulses: dict[str, int] = {}
    """Counts: ``seen``, ``served``, ``invalid``, ``pending``."""
    clock_offset_s: dict[str, float] = {}
    clock_uncertainty_s: dict[str, float] = {}
    recording: str = "off"
    """``off``, or the path of the recording."""
    disk_free_bytes: int | None = None
    """Where the recording is; absent if there is none."""
    trials_stored: int | None = None
    """In the session's folder; absent if there is none."""
    queues: dict[str, int] = {}
    """What waits in the engine: ``samples`` and the events of each other stream, by its role, not yet taken."""
    drops: dict[str, int] = {}
    """Counts since the start: ``subscriber_overflows`` (how often a subscriber that does not read began to lose
    messages), ``refused_requests`` and ``unanswered_replies`` of the control socket."""
    latency_ms: dict[str, dict[str, float]] = {}
    """Per stage, and ``engine`` for the engine's share as a whole, ``p50``, ``p99`` and ``max`` since the start."""
    budget_ms: dict[str, float] = {}
    """What each stage may take; over it the session is DEGRADED."""
    pulses_over_budget: int = 0


HEADERS: dict[str, type[Header]] = {
    "session": SessionHeader,
    "geometry": GeometryHeader,
    "trial": TrialHeader,
    "map": MapHeader,
    "health": HealthHeader,
}
"""Topic -> type of its header."""

_encoder = msgspec.json.Encoder()
_decoders: dict[str, msgspec.json.Decoder[Any]] = {topic: msgspec.json.Decoder(kind) for topic, kind in HEADERS.items()}
H = TypeVar("H", bound=Header)

Arrays = Mapping[str, tuple[NDArray[Any], str]]
"""Name -> (array, unit), in the order in which they are sent."""


def encode(header: Header, arrays: Arrays | None = None) -> list[bytes]:
    """Make the frames of one message.

    Parameters
    ----------
    header
        Its `arrays` are filled in from `arrays`.
    arrays
        Name -> (array, unit). Arrays are sent little-endian and C-contiguous.

    Returns
    -------
    list of bytes
        Topic, header, one frame per array.
    """
    frames: list[bytes] = []
    specs: list[ArraySpec] = []
    for name, (array, unit) in (arrays or {}).items():
        sent = np.ascontiguousarray(array)
        sent = sent.astype(sent.dtype.newbyteorder("<"), copy=False)
        specs.append(ArraySpec(name=name, dtype=sent.dtype.str, shape=list(sent.shape), unit=unit))
        frames.append(sent.tobytes())
    header.arrays = specs
    return [header.topic.encode(), _encoder.encode(header), *frames]


def decode(frames: Sequence[bytes]) -> tuple[Header, dict[str, NDArray[Any]]]:
    """Parse the frames of one message, trusting nothing.

    Parameters
    ----------
    frames
        Topic, header, one frame per array.

    Returns
    -------
    header
        Of the type that belongs to the topic.
    arrays
        Name -> read-only array.

    Raises
    ------
    DataError
        If the topic is unknown, the header does not fit its type or another schema, or a frame's size is not what the
        header says.
    """
    if len(frames) < 2:
        raise DataError(f"a message has at least 2 frames (topic, header); got {len(frames)}")
    topic = bytes(frames[0]).decode(errors="replace")
    if topic not in _decoders:
        raise DataError(f"unknown topic {topic!r}; known are {', '.join(HEADERS)}")
    if max(len(frame) for frame in frames) > MAX_FRAME_BYTES:
        raise DataError(f"a frame of topic {topic!r} is larger than {MAX_FRAME_BYTES} bytes")
    if len(frames[1]) > MAX_HEADER_BYTES:
        raise DataError(f"the header of a {topic!r} message is larger than {MAX_HEADER_BYTES} bytes")
    try:
        header: Header = _decoders[topic].decode(frames[1])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"the header of a {topic!r} message cannot be read: {error}") from error
    if header.schema != SCHEMA:
        raise DataError(f"the message speaks {header.schema!r}, this reader {SCHEMA!r}: update the older side")
    if header.topic != topic:
        raise DataError(f"a message under the topic {topic!r} has a header of {header.topic!r}")
    if len(header.arrays) != len(frames) - 2:
        raise DataError(f"a {topic!r} message names {len(header.arrays)} arrays and brings {len(frames) - 2}")
    arrays: dict[str, NDArray[Any]] = {}
    for spec, frame in zip(header.arrays, frames[2:], strict=True):
        if spec.name in arrays:
            raise DataError(f"a {topic!r} message brings more than one array {spec.name!r}")
        arrays[spec.name] = _parse_array(topic, spec, frame)
    return header, arrays


def _parse_array(topic: str, spec: ArraySpec, frame: bytes) -> NDArray[Any]:
    if len(spec.dtype) != 3 or spec.dtype[0] not in "<|" or spec.dtype[1] not in "fiub" or spec.dtype[2] not in "1248":
        raise DataError(f"array {spec.name!r} of {topic!r} has dtype {spec.dtype!r}; expected e.g. '<f4'")
    try:
        dtype = np.dtype(spec.dtype)
    except TypeError as error:
        raise DataError(f"array {spec.name!r} of {topic!r} has the unknown dtype {spec.dtype!r}") from error
    if len(spec.shape) > MAX_DIMENSIONS:
        n = len(spec.shape)
        raise DataError(f"array {spec.name!r} of {topic!r} has {n} dimensions; expected at most {MAX_DIMENSIONS}")
    size = dtype.itemsize
    for length in spec.shape:
        if length < 0:
            raise DataError(f"array {spec.name!r} of {topic!r} has shape {spec.shape}")
        size *= length
    if size != len(frame):
        raise DataError(
            f"array {spec.name!r} of {topic!r} should have {size} bytes ({spec.dtype}, {spec.shape}), has {len(frame)}"
        )
    try:
        return np.frombuffer(frame, dtype=dtype).reshape(spec.shape)
    except ValueError as error:  # more dimensions than numpy has, or an empty array with a side beyond its range
        raise DataError(f"array {spec.name!r} of {topic!r} has a shape that cannot be: {error}") from error


def json_schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema of each topic's header, generated from the types above."""
    return {topic: msgspec.json.schema(kind) for topic, kind in HEADERS.items()}

"""Recordings: reads an XDF file into what the engine consumed, or would have.

Loaded without pyxdf's clock synchronisation and dejittering, since the engine works on raw stamps. A recording of ours
holds the engine's record (`engine_record`), which says with which sample the engine began, when each clock offset came
and after how many samples each marker was fed. Any other recording is read by the rules of a live session: offsets hold
from when they were measured, markers come when their time has come.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyxdf
from numpy.typing import NDArray

from rt_engine.companions import CoilPose, StimulatorIntensity
from rt_engine.edges.intensity_sample import parse_intensity
from rt_engine.edges.pose_sample import parse_pose
from rt_engine.edges.xdf_chunks import open_whole_chunks
from rt_engine.errors import FileFormatError, RecordingError
from rt_engine.pulse import MARKER, Pulse
from rt_engine.record_events import (
    RECORD_TYPE,
    Event,
    Input,
    Marked,
    Offset,
    PulseFed,
    ReferenceFed,
    Start,
    Stop,
    StreamBack,
    parse_event,
)
from rt_engine.settings import Settings, StreamQuery

log = logging.getLogger(__name__)

CLOCK_SET_BACK_S = 1.0
"""Stamps that step back by more are in a clock that was set meanwhile."""


@dataclass(frozen=True, eq=False)
class XdfStream:
    """One stream of a recording.

    Attributes
    ----------
    name, type, source_id, hostname
        As the stream said.
    rate_hz
        Nominal; 0 for events.
    channel_format
        LSL's name, such as ``float32``.
    labels, units
        Per channel; empty strings where the metadata have none.
    values
        (n, channels) numbers, or a list of lists of str.
    stamps
        (n,) float64, raw, s.
    clock_times, clock_offsets
        When LabRecorder measured the stream's clock offset, and what it was, s.
    """

    name: str
    type: str
    source_id: str
    hostname: str
    rate_hz: float
    channel_format: str
    labels: list[str]
    units: list[str]
    values: Any = field(repr=False)
    stamps: NDArray[np.float64] = field(repr=False)
    clock_times: NDArray[np.float64] = field(repr=False)
    clock_offsets: NDArray[np.float64] = field(repr=False)

    def offset_at(self, stamps: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the offset that held at each raw stamp: the last one measured, or the first for earlier stamps.

        LabRecorder stamps a measurement in the stream's own clock, as the samples are. Where that clock was set back,
        both begin again; the parts between are matched in their order, or by their times if some have no measurement.
        """
        held = np.zeros_like(stamps)
        if self.clock_times.size == 0 or stamps.size == 0:
            return held
        measured, asked = _parts(self.clock_times), _parts(stamps)
        for k, part in enumerate(asked):
            own = k
            if len(measured) != len(asked):
                middle = float(np.median(stamps[part]))
                own = min(range(len(measured)), key=lambda i: _distance(middle, self.clock_times[measured[i]]))
            times, offsets = self.clock_times[measured[own]], self.clock_offsets[measured[own]]
            at = np.searchsorted(times, stamps[part], side="right") - 1
            held[part] = offsets[np.maximum(at, 0)]
        return held


@dataclass(frozen=True, eq=False)
class Recording:
    """What an engine is to be fed.

    Attributes
    ----------
    path
        The file.
    labels, units, rate_hz
        Of the EMG stream.
    samples
        (n, channels) float32, from the engine's first sample to its last.
    stamps
        (n,) float64, raw, s.
    offsets
        From sample `n` on, this clock offset and uncertainty; the first entry is for sample 0.
    inputs
        What was fed beside samples, in that order, each with the number of samples before it.
    poses, intensities
        Ordered by time, where no record says when they were fed; they come when the samples have reached their time.
    settings
        Those of the live session, or None.
    model_sha256
        Of the model of the live session, or empty.
    stop
        The live session's last word, or None (it was killed, or there was none).
    marks
        Marks set on pulses and taken back, in that order.
    """

    path: Path
    labels: list[str]
    units: list[str]
    rate_hz: float
    samples: NDArray[np.float32] = field(repr=False)
    stamps: NDArray[np.float64] = field(repr=False)
    offsets: list[Offset] = field(repr=False)
    inputs: list[Input] = field(repr=False)
    poses: list[CoilPose] = field(repr=False)
    intensities: list[StimulatorIntensity] = field(repr=False)
    settings: dict[str, Any] | None = field(repr=False)
    model_sha256: str
    stop: Stop | None
    marks: list[Marked] = field(repr=False, default_factory=list)

    @property
    def duration_s(self) -> float:
        """Length of the EMG, s."""
        return float(self.samples.shape[0] / self.rate_hz)


def read_streams(path: Path) -> list[XdfStream]:
    """Read all streams of an XDF file, with raw stamps.

    Raises
    ------
    FileFormatError
        If the file is not XDF or nothing in it can be read.
    """
    with open_whole_chunks(path) as file, _left_out_by_pyxdf() as left_out:
        try:
            streams, _ = pyxdf.load_xdf(
                file, synchronize_clocks=False, dejitter_timestamps=False, handle_clock_resets=False
            )
            found = [_stream(stream) for stream in streams]
        except Exception as error:  # pyxdf raises whatever the damaged bytes provoke
            raise FileFormatError(f"{path} is a damaged XDF recording: {type(error).__name__}: {error}") from error
    if left_out:  # pulses after the gap would be counted, and named, as others than they were
        raise FileFormatError(
            f"{path} is a damaged XDF recording: pieces of it cannot be read ({left_out[0]}). If it is a copy, copy it "
            "again"
        )
    return found


@contextmanager
def _left_out_by_pyxdf() -> Iterator[list[str]]:
    """Collect what pyxdf says where it skips pieces of a file; its tracebacks, which it logs, are kept from people."""
    left_out: list[str] = []

    def heard(record: logging.LogRecord) -> bool:
        record.exc_info = None
        if "scanning forward" in record.getMessage():
            left_out.append(record.getMessage())
        return True

    logger = logging.getLogger("pyxdf.pyxdf")
    logger.addFilter(heard)
    try:
        yield left_out
    finally:
        logger.removeFilter(heard)


def find_streams(path: Path) -> tuple[list[XdfStream], list[Event]]:
    """Read a recording's streams, the engine's record apart.

    Returns
    -------
    streams
        All but the record.
    events
        The record; empty if there is none.

    Raises
    ------
    FileFormatError
        If the file cannot be read.
    RecordingError
        If it holds more than one engine's record.
    """
    streams = read_streams(path)
    records = [stream for stream in streams if stream.type == RECORD_TYPE]
    if len(records) > 1:
        names = ", ".join(stream.name for stream in records)
        raise RecordingError(f"{path} holds the records of {len(records)} engines ({names}); expected at most one")
    events = [parse_event(str(row[0])) for record in records for row in record.values]
    return [stream for stream in streams if stream.type != RECORD_TYPE], events


def load_recording(path: Path, settings: Settings | None = None, *, as_recorded: bool = False) -> Recording:
    """Read a recording into what an engine is to be fed.

    Parameters
    ----------
    path
        The XDF file.
    settings
        Where to find the streams in a recording without an engine's record; those of the record go first.
    as_recorded
        Leave the engine's record aside, to play the raw streams as if nobody had listened; then `settings` hold.

    Raises
    ------
    FileFormatError
        If the file is damaged.
    RecordingError
        If a stream is missing or ambiguous, or the recording begins after the engine did.
    """
    streams, events = find_streams(path)
    start = next((event for event in events if isinstance(event, Start)), None)
    if start is not None and not as_recorded:
        return _as_consumed(path, streams, events, start)
    return _as_recorded(path, streams, settings or Settings())


def _as_consumed(path: Path, streams: list[XdfStream], events: list[Event], start: Start) -> Recording:
    emg = _pick(path, streams, "EMG", StreamQuery(name=start.emg))
    stop = next((event for event in events if isinstance(event, Stop)), None)
    taken = _taken(path, emg, events, start)
    n = taken.size
    if stop is not None and stop.n > n:
        log.warning("%s ends %d samples before the engine did; the last pulses may differ", path, stop.n - n)
    taken = taken[: min(n, stop.n) if stop is not None else n]
    # Since version 2 the record says when each pose came.
    told = start.version >= 2
    poses = [s for s in streams if not told and start.pose and s.name == start.pose]
    intensities = [s for s in streams if not told and start.intensity and s.name == start.intensity]
    return Recording(
        path=path,
        labels=emg.labels,
        units=emg.units,
        rate_hz=emg.rate_hz,
        samples=np.asarray(emg.values[_slice(taken)], dtype=np.float32),
        stamps=emg.stamps[_slice(taken)],
        offsets=[
            Offset(n=0, offset=start.offset, uncertainty=start.uncertainty),
            *(event for event in events if isinstance(event, Offset)),
        ],
        inputs=[event for event in events if isinstance(event, Input)],
        poses=_poses(poses),
        intensities=_intensities(intensities),
        settings=start.settings,
        model_sha256=start.model_sha256,
        stop=stop,
        marks=[event for event in events if isinstance(event, Marked)],
    )


def _taken(path: Path, emg: XdfStream, events: list[Event], start: Start) -> NDArray[np.int64]:
    """Return which of the recorded samples the engine took: from its first one, and from each return of the stream."""
    returns = [event for event in events if isinstance(event, StreamBack) and event.first_stamp is not None]
    parts: list[NDArray[np.int64]] = []
    searched = 0
    begins = [(0, start.first_stamp), *((event.n, event.first_stamp) for event in returns)]
    for (n, stamp), following in zip(begins, [*begins[1:], None], strict=True):
        at = np.flatnonzero(emg.stamps[searched:] == stamp)
        if at.size == 0 and n == 0:
            raise RecordingError(
                f"{path} does not hold the engine's first sample (stamp {stamp!r}): LabRecorder began later "
                "than the engine, so the session cannot be repeated from it"
            )
        if at.size == 0:
            # The file may end before; else another program's stream came back, which LabRecorder did not follow.
            log.warning("%s does not hold what the engine took after sample %d, when the EMG stream was back", path, n)
            break
        first = searched + int(at[0])
        searched = emg.stamps.size if following is None else min(first + following[0] - n, emg.stamps.size)
        parts.append(np.arange(first, searched))
    return np.concatenate(parts)


def _slice(taken: NDArray[np.int64]) -> NDArray[np.int64] | slice:
    """Return indices as a slice where they have no hole: then nothing is copied."""
    if taken.size and int(taken[-1]) - int(taken[0]) == taken.size - 1:
        return slice(int(taken[0]), int(taken[-1]) + 1)
    return taken


def _as_recorded(path: Path, streams: list[XdfStream], settings: Settings) -> Recording:
    emg = _pick(path, streams, "EMG", settings.streams.emg)
    if emg.rate_hz <= 0.0 or emg.channel_format == "string":
        raise RecordingError(f"the stream {emg.name!r} of {path} is no regular stream of numbers and cannot be EMG")
    if emg.stamps.size == 0:
        raise RecordingError(f"the EMG stream {emg.name!r} of {path} holds no sample")
    offset = emg.offset_at(emg.stamps)
    changes = np.flatnonzero(np.diff(offset, prepend=np.nan) != 0.0)
    inputs: list[Input] = []
    if settings.trigger.source == MARKER:
        markers = _pick(path, streams, "marker", settings.streams.markers)
        inputs = _marker_inputs(PulseFed, markers, emg.stamps + offset, settings.trigger.marker_labels)
    elif settings.streams.markers:
        found = [s for s in streams if _matches(s, settings.streams.markers)]
        if len(found) == 1:  # it is only compared: none is no error
            inputs = _marker_inputs(ReferenceFed, found[0], emg.stamps + offset, settings.trigger.marker_labels)
    optional = {
        role: [s for s in streams if query and _matches(s, query)]
        for role, query in (("pose", settings.streams.pose), ("intensity", settings.streams.intensity))
    }
    return Recording(
        path=path,
        labels=emg.labels,
        units=emg.units,
        rate_hz=emg.rate_hz,
        samples=np.asarray(emg.values, dtype=np.float32),
        stamps=emg.stamps,
        offsets=[Offset(n=int(i), offset=float(offset[i]), uncertainty=0.0) for i in changes],
        inputs=inputs,
        poses=_poses(optional["pose"]),
        intensities=_intensities(optional["intensity"]),
        settings=None,
        model_sha256="",
        stop=None,
    )


def _marker_inputs(
    kind: type[PulseFed | ReferenceFed], markers: XdfStream, sample_times: NDArray[np.float64], labels: list[str]
) -> list[Input]:
    offset = markers.offset_at(markers.stamps)
    if markers.channel_format == "string":
        texts = [str(row[0]) for row in markers.values]
    else:
        texts = [f"{row[0]:g}" for row in np.asarray(markers.values)]
    # A marker is fed when the stream has reached its time; running maximum, since stamps may jitter backwards.
    reached = np.searchsorted(np.fmax.accumulate(sample_times), markers.stamps + offset)
    fed = [
        kind.of(int(n), Pulse(float(t), float(o), 0.0, text))
        for n, t, o, text in zip(reached, markers.stamps, offset, texts, strict=True)
        if not labels or text in labels
    ]
    return list(sorted(fed, key=lambda pulse: pulse.n))


def _pick(path: Path, streams: list[XdfStream], role: str, query: StreamQuery) -> XdfStream:
    found = [stream for stream in streams if _matches(stream, query)]
    if len(found) != 1:
        names = "; ".join(f"{s.name!r} (type {s.type!r}, source_id {s.source_id!r})" for s in streams) or "none"
        raise RecordingError(
            f"{path} holds {len(found)} {role} streams with {query}; expected exactly one. Its streams: {names}. "
            "Name the right one in the settings"
        )
    return found[0]


def _matches(stream: XdfStream, query: StreamQuery) -> bool:
    return (
        (not query.name or stream.name == query.name)
        and (not query.type or stream.type == query.type)
        and (not query.source_id or stream.source_id == query.source_id)
    )


def _poses(streams: list[XdfStream]) -> list[CoilPose]:
    poses = []
    for stream in streams:
        for values, t in _timed(stream):
            pose = parse_pose(values, t)
            if pose is not None:
                poses.append(pose)
    return sorted(poses, key=lambda pose: pose.t)


def _intensities(streams: list[XdfStream]) -> list[StimulatorIntensity]:
    found = [parse_intensity(values, stream.labels, t) for stream in streams for values, t in _timed(stream)]
    return sorted((intensity for intensity in found if intensity), key=lambda intensity: intensity.t)


def _timed(stream: XdfStream) -> list[tuple[list[float], float]]:
    times = stream.stamps + stream.offset_at(stream.stamps)
    return [(list(map(float, row)), float(t)) for row, t in zip(stream.values, times, strict=True)]


def _stream(raw: dict[str, Any]) -> XdfStream:
    info = raw["info"]
    n_channels = int(info["channel_count"][0])
    channels = _channels(info.get("desc"), n_channels)
    return XdfStream(
        name=_text(info, "name"),
        type=_text(info, "type"),
        source_id=_text(info, "source_id"),
        hostname=_text(info, "hostname"),
        rate_hz=float(info["nominal_srate"][0]),
        channel_format=_text(info, "channel_format"),
        labels=[_text(channel, "label") for channel in channels],
        units=[_text(channel, "unit") for channel in channels],
        values=raw["time_series"],
        stamps=np.asarray(raw["time_stamps"], dtype=np.float64),
        clock_times=np.asarray(raw.get("clock_times", []), dtype=np.float64),
        clock_offsets=np.asarray(raw.get("clock_values", []), dtype=np.float64),
    )


def _channels(desc: Any, n_channels: int) -> list[dict[str, Any]]:
    """Return one dictionary per channel; empty ones where the description has none or another number of them."""
    nothing: list[dict[str, Any]] = [{} for _ in range(n_channels)]
    try:
        channels = desc[0]["channels"][0]["channel"]
    except (KeyError, IndexError, TypeError):
        return nothing
    return [c or {} for c in channels] if len(channels) == n_channels else nothing


def _parts(stamps: NDArray[np.float64]) -> list[slice]:
    """Cut where a clock was set back; small steps back are jitter."""
    borders = [0, *(np.flatnonzero(np.diff(stamps) < -CLOCK_SET_BACK_S) + 1).tolist(), len(stamps)]
    return [slice(a, b) for a, b in zip(borders[:-1], borders[1:], strict=True)]


def _distance(t: float, times: NDArray[np.float64]) -> float:
    """From a time to the span of others; 0 inside it."""
    return max(float(times[0]) - t, t - float(times[-1]), 0.0)


def _text(info: dict[str, Any], key: str) -> str:
    value = info.get(key)
    return str(value[0]) if value and value[0] is not None else ""

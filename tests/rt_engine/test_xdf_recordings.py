"""Recordings: ours give back what the engine consumed, others what it would have, and damage is named."""

import contextlib
import logging
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rt_engine.companions import CoilPose, StimulatorIntensity
from rt_engine.edges.xdf_source import XdfStream, load_recording, read_streams
from rt_engine.engine import PulseResult
from rt_engine.errors import FileFormatError, M2MError, RecordingError
from rt_engine.pulse import Pulse
from rt_engine.record_events import (
    RECORD_VERSION,
    Calibrated,
    IntensityFed,
    Marked,
    ModelSwapped,
    Offset,
    PoseFed,
    PulseFed,
    ReferenceFed,
    Start,
    Stop,
    StreamBack,
    TimeFed,
)
from rt_engine.replay import replay
from rt_engine.sample_block import SampleBlock
from rt_engine.settings import Settings, parse_settings

RATE_HZ = 2000.0
T0 = 5000.0
N = 3000
FIRST = 400
"""LabRecorder began this many samples before the engine."""
EMG_OFFSET = -4000.0
"""From the clock of the amplifier's computer to the recorder's, s."""
MARKER_OFFSET = 70.0
MARKER_T = T0 + EMG_OFFSET - MARKER_OFFSET
"""The EMG's first moment in the clock of the markers' computer."""
LABELS = ["FDI", "ADM", "ECR", "TTL"]
BOUNDARY = bytes.fromhex("43a546dccbf5410fb30ed5467383cbe4")
MARKERS: dict[str, Any] = {"trigger": {"source": "marker"}, "streams": {"markers": {"type": "Markers"}}}


def _chunk(tag: int, content: bytes) -> bytes:
    return struct.pack("<BIH", 4, len(content) + 2, tag) + content


def _header(
    number: int, name: str, kind: str, rate_hz: float, form: str, labels: Sequence[str], units: Sequence[str]
) -> bytes:
    channels = "".join(
        f"<channel><label>{label}</label><unit>{unit}</unit></channel>"
        for label, unit in zip(labels, units, strict=True)
    )
    xml = (
        f"<?xml version='1.0'?><info><name>{name}</name><type>{kind}</type><channel_count>{len(labels)}</channel_count>"
        f"<nominal_srate>{rate_hz}</nominal_srate><channel_format>{form}</channel_format><source_id>{name}-id</source_id>"
        f"<hostname>here</hostname><desc><channels>{channels}</channels></desc></info>"
    )
    return _chunk(2, struct.pack("<I", number) + xml.encode())


def _samples(number: int, stamps: Sequence[float], values: Sequence[bytes]) -> bytes:
    body = b"".join(struct.pack("<Bd", 8, t) + value for t, value in zip(stamps, values, strict=True))
    return _chunk(3, struct.pack("<IBI", number, 4, len(stamps)) + body)


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<BI", 4, len(raw)) + raw


def _offset(number: int, time: float, value: float) -> bytes:
    return _chunk(4, struct.pack("<Idd", number, time, value))


@pytest.fixture(scope="module")
def stream(emg: Callable[..., Any]) -> Any:
    return emg(N, [100, 900, 2000, 2800], ppm=40.0, jitter_s=1e-4)


EVENTS = [
    Offset(n=700, offset=2e-4, uncertainty=3e-5),
    PulseFed(n=1000, t_raw=T0 + 0.8, offset=1e-5, uncertainty=1e-4, label="TMS"),
    PulseFed(n=1000, t_raw=T0 + 99.0, offset=1e-5, uncertainty=1e-4, label="TMS"),
    TimeFed(n=1500, t=T0 + 110.0),
]


def _xdf(
    stream: Any,
    *,
    record: bool = True,
    stop: bool = True,
    first_stamp: float | None = None,
    version: int = RECORD_VERSION,
    told: Sequence[Any] = EVENTS,
    poses: bool = False,
) -> bytes:
    """Write what LabRecorder would have, in chunks of 250 samples with boundaries between."""
    start = Start(
        version=version, session="s", settings=msgspec.to_builtins(Settings()), model_sha256="cd", emg="EMG",
        markers="Markers", pose="Pose" if poses else "", intensity="",
        first_stamp=float(stream.stamps[FIRST]) if first_stamp is None else first_stamp, offset=0.0, uncertainty=1e-4,
    )  # fmt: skip
    events: list[Any] = [start, *told, *([Stop(n=N - FIRST - 50, sha256_meps="ef")] if stop else [])]
    pieces = [
        b"XDF:",
        _chunk(1, b"<?xml version='1.0'?><info><version>1.0</version></info>"),
        _header(1, "EMG", "EMG", RATE_HZ, "float32", LABELS, ["uV", "uV", "uV", "au"]),
        _header(2, "Markers", "Markers", 0.0, "string", ["m"], [""]),
    ]
    if poses:
        pieces.append(_header(4, "Pose", "CoilPose", 0.0, "double64", [f"m{k}" for k in range(17)], [""] * 17))
        pieces.append(_samples(4, [T0 + 0.3], [np.array([*range(16), 1.0], dtype="<f8").tobytes()]))
    if record:
        pieces.append(_header(3, "m2m", "m2m-engine", 0.0, "string", ["event"], [""]))
    for begin in range(0, N, 250):
        values = [row.astype("<f4").tobytes() for row in stream.samples[begin : begin + 250]]
        pieces.append(_samples(1, stream.stamps[begin : begin + 250], values))
        if begin == 500:
            pieces.append(_samples(2, [MARKER_T + 0.25, MARKER_T + 0.7], [_text("TMS"), _text("pause")]))
            # Measurements are stamped in the streams' own clocks.
            pieces += [_offset(1, T0 + 0.3, EMG_OFFSET), _offset(2, MARKER_T + 0.3, MARKER_OFFSET)]
        if begin == 750 and record:
            texts = [_text(msgspec.json.encode(event).decode()) for event in events]
            pieces.append(_samples(3, [T0 + 1.0] * len(texts), texts))
        if begin % 1000 == 750:
            pieces += [_offset(1, T0 + begin / RATE_HZ, EMG_OFFSET + 2e-4), _chunk(5, BOUNDARY)]
    pieces.append(_chunk(6, struct.pack("<I", 1) + b"<?xml version='1.0'?><info><sample_count>1</sample_count></info>"))
    return b"".join(pieces)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], Path]:
    folder = tmp_path_factory.mktemp("xdf")

    def write(content: bytes) -> Path:
        path = folder / "recording.xdf"
        path.write_bytes(content)
        return path

    return write


def test_our_recording_gives_back_what_the_engine_consumed(stream: Any, file: Callable[[bytes], Path]) -> None:
    recording = load_recording(file(_xdf(stream)))
    n = N - FIRST - 50
    np.testing.assert_array_equal(recording.samples, stream.samples[FIRST : FIRST + n])
    np.testing.assert_array_equal(recording.stamps, stream.stamps[FIRST : FIRST + n])
    assert recording.offsets == [Offset(n=0, offset=0.0, uncertainty=1e-4), EVENTS[0]]
    assert recording.inputs == EVENTS[1:]
    assert (recording.labels, recording.units) == (LABELS, ["uV", "uV", "uV", "au"])
    assert (recording.model_sha256, recording.rate_hz) == ("cd", RATE_HZ)
    assert recording.stop is not None
    assert recording.stop.sha256_meps == "ef"
    assert parse_settings(recording.settings) == Settings()
    assert recording.duration_s == n / RATE_HZ


def test_a_record_of_version_1_has_its_poses_from_their_stream(stream: Any, file: Callable[[bytes], Path]) -> None:
    recording = load_recording(file(_xdf(stream, version=1, poses=True)))
    (pose,) = recording.poses
    assert pose.t == T0 + 0.3
    np.testing.assert_array_equal(pose.matrix.ravel(), np.arange(16.0))
    assert recording.inputs == EVENTS[1:]


def test_since_version_2_the_record_says_when_each_pose_came(stream: Any, file: Callable[[bytes], Path]) -> None:
    told = [
        PoseFed.of(10, CoilPose(T0 + 0.2, np.eye(4))),
        IntensityFed.of(10, StimulatorIntensity(T0 + 0.2, 55.0)),
        ReferenceFed.of(700, Pulse(T0 + 0.5, 1e-5, 1e-4, "TMS")),
        Calibrated(n=800, gains=[1.0, 2.0, 0.5]),
        Marked(pulse=0, reason="coil moved"),
        ModelSwapped(n=900, path="/other.onnx", sha256="ab"),
        Marked(pulse=0, reason="", unmark=True),
    ]
    recording = load_recording(file(_xdf(stream, told=told, poses=True)))
    assert recording.inputs == [event for event in told if not isinstance(event, Marked)]
    assert recording.marks == [event for event in told if isinstance(event, Marked)]
    assert recording.poses == []
    assert recording.intensities == []


def test_what_came_while_the_engine_had_lost_the_stream_is_left_out(stream: Any, file: Callable[[bytes], Path]) -> None:
    """LabRecorder was quicker to find the stream again: it has 60 samples more."""
    back = StreamBack(
        n=800, t=T0 + 1.0, role="emg", name="EMG", source_id="EMG-id", outage_s=0.1, reason="",
        first_stamp=float(stream.stamps[FIRST + 860]),
    )  # fmt: skip
    other = StreamBack(n=300, t=T0, role="pose", name="Pose", source_id="", outage_s=1.0, reason="")
    recording = load_recording(file(_xdf(stream, told=[other, back])))
    taken = np.r_[FIRST : FIRST + 800, FIRST + 860 : N][: N - FIRST - 50]
    np.testing.assert_array_equal(recording.stamps, stream.stamps[taken])
    np.testing.assert_array_equal(recording.samples, stream.samples[taken])


def test_where_labrecorder_lost_the_stream_for_good_the_rest_is_left_out_with_a_warning(
    stream: Any, file: Callable[[bytes], Path], caplog: pytest.LogCaptureFixture
) -> None:
    back = StreamBack(
        n=800, t=T0 + 1.0, role="emg", name="EMG", source_id="other", outage_s=0.1, reason="", first_stamp=T0 + 50.0
    )
    with caplog.at_level(logging.WARNING):
        recording = load_recording(file(_xdf(stream, told=[back])))
    assert "does not hold what the engine took after sample 800" in caplog.text
    np.testing.assert_array_equal(recording.stamps, stream.stamps[FIRST : FIRST + 800])


def test_markers_of_another_recording_are_compared_where_the_trigger_channel_makes_the_trials(
    stream: Any, file: Callable[[bytes], Path]
) -> None:
    given = parse_settings({"streams": {"markers": {"type": "Markers"}}})
    recording = load_recording(file(_xdf(stream, record=False)), given)
    assert [type(event) for event in recording.inputs] == [ReferenceFed, ReferenceFed]
    nothing = parse_settings({"streams": {"markers": {"type": "none of these"}}})
    assert load_recording(file(_xdf(stream, record=False)), nothing).inputs == []


def test_a_replay_from_the_file_has_the_bits_of_direct_feeding(
    stream: Any, file: Callable[[bytes], Path], new_engine: Callable[..., Any], bits: Callable[..., Any]
) -> None:
    recording = load_recording(file(_xdf(stream)))
    replayed = [r for _, results in replay(recording, new_engine(), 33) for r in results]
    engine, direct = new_engine(), []
    end = N - 50
    for begin, stop, offset, uncertainty in (
        (FIRST, FIRST + 700, 0.0, 1e-4),
        (FIRST + 700, FIRST + 1000, 2e-4, 3e-5),
        (FIRST + 1000, FIRST + 1500, 2e-4, 3e-5),
        (FIRST + 1500, end, 2e-4, 3e-5),
    ):
        for event in EVENTS[1:]:
            if event.n == begin - FIRST and isinstance(event, PulseFed):
                direct += engine.feed_pulse(Pulse(event.t_raw, event.offset, event.uncertainty, event.label))
            elif event.n == begin - FIRST:
                direct += engine.feed_time(event.t)
        direct += engine.feed_samples(
            SampleBlock(stream.samples[begin:stop], stream.stamps[begin:stop], offset, uncertainty)
        )
    direct += engine.finish()
    assert bits(replayed) == bits(direct)
    assert len(direct) == 5, "three of the trigger channel, two markers"


def test_after_an_engines_death_its_recording_is_read_to_the_end(stream: Any, file: Callable[[bytes], Path]) -> None:
    recording = load_recording(file(_xdf(stream, stop=False)))
    assert recording.stop is None
    assert len(recording.samples) == N - FIRST


def test_a_recording_that_began_after_the_engine_is_refused(stream: Any, file: Callable[[bytes], Path]) -> None:
    with pytest.raises(RecordingError, match="does not hold the engine's first sample"):
        load_recording(file(_xdf(stream, first_stamp=T0 - 1.0)))


def test_another_recording_is_read_by_the_rules_of_a_live_session(stream: Any, file: Callable[[bytes], Path]) -> None:
    recording = load_recording(file(_xdf(stream, record=False)), parse_settings(MARKERS))
    assert len(recording.samples) == N
    assert (recording.settings, recording.stop) == (None, None)
    # Measured at 0.3, 0.375 and 0.875 s; the first holds before it too.
    assert [o.offset for o in recording.offsets] == [EMG_OFFSET, EMG_OFFSET + 2e-4]
    assert recording.offsets[0].n == 0
    assert recording.offsets[1].n == np.flatnonzero(stream.stamps >= T0 + 0.375)[0]
    first, second = recording.inputs
    assert (first.label, first.t_raw, first.offset) == ("TMS", MARKER_T + 0.25, MARKER_OFFSET)
    # The marker comes when the samples have reached its time, both in the recorder's clock.
    assert first.n == np.flatnonzero(stream.stamps >= T0 + 0.25 - 1e-9)[0]
    assert second.label == "pause"


def test_markers_of_another_recording_find_their_samples(
    stream: Any, file: Callable[[bytes], Path], new_engine: Callable[..., Any]
) -> None:
    recording = load_recording(file(_xdf(stream, record=False)), parse_settings(MARKERS))
    first, second = [r for _, results in replay(recording, new_engine(ttl=False)) for r in results]
    assert first.trial.pulse_index == pytest.approx(500.0, abs=0.25)
    # The amplifier's offset was found to be 0.2 ms larger meanwhile, so this one lies 0.4 samples earlier, and drifted.
    assert second.trial.pulse_index == pytest.approx(1400.0 - 0.2, abs=0.3)


def _timed(stamps: Any, clock_times: Any, clock_offsets: Any) -> XdfStream:
    return XdfStream(
        name="", type="", source_id="", hostname="", rate_hz=0.0, channel_format="string", labels=[], units=[],
        values=[], stamps=np.array(stamps, dtype=np.float64), clock_times=np.array(clock_times, dtype=np.float64),
        clock_offsets=np.array(clock_offsets, dtype=np.float64),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("stamps", "times", "offsets", "expected"),
    [
        ([1.0, 2.0], [], [], [0.0, 0.0]),
        ([], [1.0], [9.0], []),
        ([1.0, 5.0, 5.1, 9.0], [5.0, 7.0], [70.0, 80.0], [70.0, 70.0, 70.0, 80.0]),
        # The computer was started anew: its clock begins again at 10 s, and the first part knows nothing of it.
        ([900.0, 950.0, 10.0, 40.0], [901.0, 949.0, 12.0, 39.0], [1.0, 2.0, 801.0, 802.0], [1.0, 2.0, 801.0, 802.0]),
        # So short before the second start that the first part has no measurement: the nearest serves.
        ([900.0, 10.0, 40.0], [12.0, 39.0], [801.0, 802.0], [802.0, 801.0, 802.0]),
        ([900.0, 920.0, 10.0, 12.0], [901.0, 919.0], [1.0, 2.0], [1.0, 2.0, 1.0, 1.0]),
    ],
)
def test_a_sample_takes_the_offset_that_held(stamps: Any, times: Any, offsets: Any, expected: Any) -> None:
    timed = _timed(stamps, times, offsets)
    np.testing.assert_array_equal(timed.offset_at(timed.stamps), expected)


def test_only_markers_that_are_pulses_are_fed(stream: Any, file: Callable[[bytes], Path]) -> None:
    chosen = parse_settings({**MARKERS, "trigger": {"source": "marker", "marker_labels": ["TMS"]}})
    recording = load_recording(file(_xdf(stream, record=False)), chosen)
    assert [event.label for event in recording.inputs] == ["TMS"]


def test_without_markers_chosen_none_are_fed(stream: Any, file: Callable[[bytes], Path]) -> None:
    assert load_recording(file(_xdf(stream, record=False))).inputs == []


def test_our_recording_can_be_read_as_if_nobody_had_listened(stream: Any, file: Callable[[bytes], Path]) -> None:
    recording = load_recording(file(_xdf(stream)), as_recorded=True)
    assert len(recording.samples) == N


def test_a_stream_that_is_not_there_is_named_with_those_that_are(stream: Any, file: Callable[[bytes], Path]) -> None:
    query = parse_settings({"streams": {"emg": {"name": "Delsys"}}})
    with pytest.raises(RecordingError, match=r"0 EMG streams with name='Delsys' .* Its streams: 'EMG' \(type 'EMG'"):
        load_recording(file(_xdf(stream, record=False)), query)


def test_markers_cannot_be_emg(stream: Any, file: Callable[[bytes], Path]) -> None:
    query = parse_settings({"streams": {"emg": {"name": "Markers", "type": ""}}})
    with pytest.raises(RecordingError, match="no regular stream of numbers"):
        load_recording(file(_xdf(stream, record=False)), query)


def test_a_file_cut_off_at_any_byte_gives_a_shorter_recording_of_the_same_samples(
    stream: Any, file: Callable[[bytes], Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Every byte of the small chunks, and some of the large ones of samples."""
    whole = _xdf(stream)
    headers = whole.index(struct.pack("<H", 3) + struct.pack("<I", 1)) - 5
    small = [
        i for begin in (headers, whole.index(b"TMS") - 40, whole.index(BOUNDARY)) for i in range(begin, begin + 80)
    ]
    second_samples = whole.index(struct.pack("<HI", 3, 1), headers + 10)
    cuts = sorted({*small, *range(headers, len(whole), 211), len(whole) - 1, len(whole)})
    lengths = []
    for cut in cuts:
        caplog.clear()
        try:
            recording = load_recording(file(whole[:cut]))
        except RecordingError:
            assert cut < second_samples, "refused although a chunk of EMG is whole"
            continue
        n = len(recording.samples)
        begin = 0 if recording.settings is None else FIRST
        np.testing.assert_array_equal(recording.samples, stream.samples[begin : begin + n])
        np.testing.assert_array_equal(recording.stamps, stream.stamps[begin : begin + n])
        lengths.append(n)
    assert max(lengths) == N - FIRST - 50
    assert len(set(lengths)) > 8


def test_a_cut_off_file_says_how_much_is_missing(
    stream: Any, file: Callable[[bytes], Path], caplog: pytest.LogCaptureFixture
) -> None:
    whole = _xdf(stream)
    with caplog.at_level(logging.WARNING):
        load_recording(file(whole[:-10]))
    assert "is cut off inside a chunk; its last" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        load_recording(file(whole))
    assert "cut off" not in caplog.text


@pytest.mark.parametrize("tail", [b"\0" * 5000, b"\xff" * 300, b"garbage"])
def test_a_tail_of_garbage_after_a_power_cut_is_left_out(
    tail: bytes, stream: Any, file: Callable[[bytes], Path]
) -> None:
    assert len(load_recording(file(_xdf(stream) + tail)).samples) == N - FIRST - 50


def test_damage_in_the_middle_is_named_with_its_place(stream: Any, file: Callable[[bytes], Path]) -> None:
    content = bytearray(_xdf(stream))
    at = content.index(_chunk(5, BOUNDARY))
    content[at] = 0
    with pytest.raises(FileFormatError, match=f"damaged: what stands at byte {at} .* copy it again"):
        load_recording(file(bytes(content)))


def test_a_chunk_that_claims_more_samples_than_it_has_bytes_is_refused_before_memory_is_full(
    stream: Any, file: Callable[[bytes], Path]
) -> None:
    content = bytearray(_xdf(stream))
    at = content.index(struct.pack("<HIBI", 3, 2, 4, 2))  # tag, stream of markers, two samples
    content[at + 7 : at + 11] = b"\xff\xff\xff\x7f"
    with pytest.raises(FileFormatError, match="damaged"):
        load_recording(file(bytes(content)))


@settings(max_examples=60)
@given(edits=st.lists(st.tuples(st.floats(0.0, 1.0, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_bytes_do_no_more_than_be_refused(
    edits: list[tuple[float, int]], stream: Any, file: Callable[[bytes], Path]
) -> None:
    content = bytearray(_xdf(stream))
    headers = content.index(struct.pack("<HI", 3, 1))
    for place, value in edits:
        # Most of the file is samples, in which any bytes are numbers: half of the edits go to the headers.
        content[int(place * (headers if value % 2 else len(content)))] = value
    with contextlib.suppress(M2MError):
        load_recording(file(bytes(content)))


@pytest.mark.parametrize("content", [b"", b"XDF", b"XDF:", b"PK\x03\x04", b"XDF:" + b"\xff" * 40])
def test_what_is_no_recording_is_refused(content: bytes, file: Callable[[bytes], Path]) -> None:
    with pytest.raises((FileFormatError, RecordingError)):
        load_recording(file(content))


def test_a_file_that_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.xdf", tmp_path):
        with pytest.raises(FileFormatError, match="cannot read"):
            load_recording(path)


class TestPublicExamples:
    """Files of the XDF project: other writers, clock resets, streams without a sample."""

    def test_minimal(self, shared_data: Callable[[str], Path]) -> None:
        path = shared_data("xdf_examples") / "minimal.xdf"
        numbers, texts = read_streams(path)
        assert (numbers.name, numbers.rate_hz, numbers.channel_format) == ("SendDataC", 10.0, "int16")
        np.testing.assert_allclose(numbers.stamps, 5.1 + 0.1 * np.arange(9))
        assert numbers.values[0].tolist() == [192, 255, 238]
        np.testing.assert_allclose(numbers.clock_offsets, -0.1)
        assert [row[0] for row in texts.values][1:3] == ["Hello", "World"]
        with pytest.raises(RecordingError, match="holds 0 EMG streams"):
            load_recording(path)

    def test_clock_resets(self, shared_data: Callable[[str], Path]) -> None:
        path = shared_data("xdf_examples") / "clock_resets.xdf"
        recording = load_recording(path, parse_settings({"streams": {"emg": {"type": "EEG"}}}))
        assert recording.samples.shape == (27815, 8)
        steps = np.diff(recording.stamps)
        assert np.count_nonzero(np.abs(steps) > 1.0) >= 1, "the reset is in the raw stamps, which nobody smoothed"
        offset = np.zeros(len(steps) + 1)
        for held in recording.offsets:
            offset[held.n :] = held.offset
        corrected = recording.stamps + offset
        assert np.diff(corrected).min() > 0.0, "in the recorder's clock, time never runs back"
        assert corrected[-1] - corrected[0] == pytest.approx(573.0, abs=1.0)
        markers = parse_settings({**MARKERS, "streams": {"emg": {"type": "EEG"}, "markers": {"type": "Markers"}}})
        assert len(load_recording(path, markers).inputs) == 175

    def test_empty_streams(self, shared_data: Callable[[str], Path]) -> None:
        path = shared_data("xdf_examples") / "empty_streams.xdf"
        assert sorted(len(stream.stamps) for stream in read_streams(path)) == [0, 0, 1, 10]
        empty = {"name": "Empty data stream: test stream 0 counter", "type": ""}
        with pytest.raises(RecordingError, match="holds no sample"):
            load_recording(path, parse_settings({"streams": {"emg": empty}}))

    def test_cut_off_at_many_bytes(self, shared_data: Callable[[str], Path], tmp_path: Path) -> None:
        for name in ("minimal.xdf", "empty_streams.xdf"):
            content = (shared_data("xdf_examples") / name).read_bytes()
            path = tmp_path / name
            shutil.copyfile(shared_data("xdf_examples") / name, path)
            whole = sum(len(stream.stamps) for stream in read_streams(path))
            found = []
            for cut in range(4, len(content), 13):
                path.write_bytes(content[:cut])
                found.append(sum(len(stream.stamps) for stream in read_streams(path)))
            assert found == sorted(found), f"{name}: more bytes never give fewer samples"
            assert max(found) <= whole


def test_results_carry_over(stream: Any, file: Callable[[bytes], Path], new_engine: Callable[..., Any]) -> None:
    """The replay of a recording cut off in the middle has the trials that it can have, and no other."""
    whole = _xdf(stream)
    cut = load_recording(file(whole[: len(whole) * 2 // 3]))
    results: list[PulseResult] = [r for _, rs in replay(cut, new_engine()) for r in rs]
    assert sorted(r.trial.pulse_id for r in results) == list(range(len(results)))

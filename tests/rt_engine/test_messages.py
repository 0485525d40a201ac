"""Messages survive the wire unchanged, and nothing that comes over it can do more than be refused."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rt_engine.errors import DataError
from rt_engine.messages import (
    HEADERS,
    MAX_FRAME_BYTES,
    MAX_HEADER_BYTES,
    SCHEMA,
    GeometryHeader,
    Header,
    HealthHeader,
    MapHeader,
    ModelDescription,
    SessionHeader,
    StreamDescription,
    TrialHeader,
    decode,
    encode,
    json_schemas,
)

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.text(max_size=20)
COUNTS = st.integers(0, 2**53)
PULSE = {
    "pulse": COUNTS,
    "t_pulse_raw": NUMBERS,
    "t_pulse": NUMBERS,
    "t_uncertainty": NUMBERS,
    "trigger_source": st.sampled_from(["ttl", "marker"]),
    "t_available": st.none() | NUMBERS,
    "stages_us": st.dictionaries(NAMES, NUMBERS, max_size=4),
    "confidence_reasons": st.lists(NAMES, max_size=3),
}
HEADER = st.one_of(
    st.builds(HealthHeader, state=NAMES, t=NUMBERS, seq=COUNTS, pulses=st.dictionaries(NAMES, COUNTS)),
    st.builds(
        TrialHeader, **PULSE, valid=st.booleans(), status=st.lists(NAMES), sweep_start_ms=NUMBERS, rate_hz=NUMBERS
    ),
    st.builds(MapHeader, **PULSE, scale_v_per_m=NUMBERS, session=NAMES),
    st.builds(
        GeometryHeader, subject=NAMES, space=NAMES, hemisphere=NAMES, box_shape=st.lists(COUNTS), n_voxels=COUNTS
    ),
    st.builds(
        SessionHeader,
        started_at=NAMES,
        muscles=st.lists(NAMES),
        window_ms=st.lists(st.lists(NUMBERS, min_size=2, max_size=2)),
        sweep_ms=st.lists(NUMBERS, min_size=2, max_size=2),
        floor_uv=NUMBERS,
        nominal_rate_hz=NUMBERS,
        trigger_source=NAMES,
        streams=st.lists(
            st.builds(
                StreamDescription,
                role=NAMES, name=NAMES, type=NAMES, source_id=NAMES, hostname=NAMES,
                nominal_rate_hz=NUMBERS, n_channels=st.integers(0, 99),
            ),
            max_size=2,
        ),
        model=st.builds(
            ModelDescription,
            name=NAMES, kind=NAMES, sha256=NAMES, muscles=st.lists(NAMES), field_scale_v_per_m=NUMBERS, provider=NAMES,
        ),
    ),
)  # fmt: skip
DTYPES = st.sampled_from(["<f4", "<f8", "<i2", "<i4", "<i8", "|u1", "|b1", ">f4", ">i8"])
ARRAYS = st.dictionaries(
    NAMES,
    st.tuples(DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_side=0, max_side=5))), NAMES),
    max_size=4,
)


@given(header=HEADER, arrays=ARRAYS)
def test_what_is_sent_is_what_is_read(header: Header, arrays: dict[str, tuple[np.ndarray, str]]) -> None:
    frames = encode(header, arrays)
    read, read_arrays = decode(frames)
    assert read == header
    assert frames[0] == header.topic.encode()
    assert [spec.unit for spec in read.arrays] == [unit for _, unit in arrays.values()]
    assert list(read_arrays) == list(arrays)
    for name, (array, _) in arrays.items():
        assert read_arrays[name].dtype == array.dtype.newbyteorder("<")
        np.testing.assert_array_equal(read_arrays[name], array)  # NaN equals NaN here
        assert read_arrays[name].dtype.byteorder in "<|="


@pytest.mark.parametrize("view", [slice(None, None, 2), slice(None, None, -1)])
def test_an_array_that_is_not_contiguous_is_sent_right(view: slice) -> None:
    array = np.arange(12.0).reshape(6, 2)[view].T
    _, arrays = decode(encode(HealthHeader(state="READY", t=0.0), {"a": (array, "1")}))
    np.testing.assert_array_equal(arrays["a"], array)


def test_arrays_that_were_read_cannot_be_changed() -> None:
    _, arrays = decode(encode(HealthHeader(state="READY", t=0.0), {"a": (np.zeros(3), "1")}))
    with pytest.raises(ValueError, match="read-only"):
        arrays["a"][0] = 1.0


def test_keys_that_a_reader_does_not_know_are_ignored() -> None:
    topic, header = encode(HealthHeader(state="READY", t=1.0))
    newer = json.dumps({**json.loads(header), "mood": {"bright": [1, None]}}).encode()
    assert decode([topic, newer])[0] == HealthHeader(state="READY", t=1.0)


def test_another_schema_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"speaks 'm2m/2', this reader 'm2m/1': update"):
        decode(encode(HealthHeader(schema="m2m/2", state="READY", t=1.0)))


@given(frames=st.lists(st.binary(max_size=200), max_size=4))
def test_random_bytes_are_refused(frames: list[bytes]) -> None:
    with pytest.raises(DataError):
        decode(frames)


@given(topic=st.sampled_from(sorted(HEADERS)), header=st.binary(max_size=200), more=st.lists(st.binary(), max_size=2))
@example(topic="health", header=b'{"x":' + b"[" * 200_000, more=[])
@example(topic="health", header=b'{"x":' * 200_000, more=[])
@example(topic="health", header=b"\xff\xfe{}", more=[])
@example(topic="health", header=b"", more=[])
def test_a_garbled_header_is_refused(topic: str, header: bytes, more: list[bytes]) -> None:
    with pytest.raises(DataError, match="header"):
        decode([topic.encode(), header, *more])


def _health(*specs: Any, **other: Any) -> bytes:
    return json.dumps({"topic": "health", "state": "READY", "t": 1.0, "arrays": specs, **other}).encode()


def _spec(dtype: Any = "<f4", shape: Any = (1,), name: str = "a") -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": shape, "unit": "1"}


SHAPES = st.lists(st.one_of(st.integers(-3, 8), st.sampled_from([2**31, 2**62, 2**63, 2**64, 10**30])), max_size=70)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(dtype=DTYPES | st.text(max_size=6) | ANY_JSON, shape=SHAPES | ANY_JSON, frame=st.binary(max_size=64))
@example(dtype="<f4", shape=[0, 2**63], frame=b"")
@example(dtype="<f4", shape=[0, 2**62, 2**62], frame=b"")
@example(dtype="<f4", shape=[1] * 70, frame=b"1234")
@example(dtype="|O8", shape=[1], frame=b"12345678")
@example(dtype="O", shape=[1], frame=b"12345678")
@example(dtype="|V8", shape=[1], frame=b"12345678")
@example(dtype="<f,", shape=[1], frame=b"1234")
@example(dtype="<f0", shape=[1], frame=b"")
@example(dtype=">f4", shape=[1], frame=b"1234")
@example(dtype="<f4", shape=[-1], frame=b"")
@example(dtype="<f4", shape=[-1, -1], frame=b"1234")
def test_an_array_is_either_what_its_header_says_or_refused(dtype: Any, shape: Any, frame: bytes) -> None:
    try:
        _, arrays = decode([b"health", _health(_spec(dtype, shape)), frame])
    except DataError:
        return
    assert arrays["a"].shape == tuple(shape)
    assert arrays["a"].dtype.str == np.dtype(dtype).str
    assert arrays["a"].dtype.kind in "fiub"
    assert arrays["a"].tobytes() == frame


@pytest.mark.parametrize("size", [0, 3, 5, 8])
def test_a_frame_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(DataError, match=rf"should have 4 bytes .* has {size}"):
        decode([b"health", _health(_spec()), b"x" * size])


@pytest.mark.parametrize("n_frames", [0, 2])
def test_more_or_fewer_frames_than_arrays_are_refused(n_frames: int) -> None:
    with pytest.raises(DataError, match=f"names 1 arrays and brings {n_frames}"):
        decode([b"health", _health(_spec()), *[b"1234"] * n_frames])


def test_two_arrays_of_one_name_are_refused() -> None:
    with pytest.raises(DataError, match="more than one array 'a'"):
        decode([b"health", _health(_spec(), _spec()), b"1234", b"5678"])


def test_a_header_of_another_topic_than_its_frame_says_is_refused() -> None:
    with pytest.raises(DataError, match="'health'.*'map'"):
        decode([b"health", _health(topic="map")])


def test_an_unknown_topic_is_refused() -> None:
    with pytest.raises(DataError, match=r"unknown topic 'weather'; known are session, geometry"):
        decode([b"weather", _health()])


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_frames_are_refused(n: int) -> None:
    with pytest.raises(DataError, match=f"at least 2 frames .* got {n}"):
        decode([b"health"][:n])


def test_a_header_too_large_is_refused_unread() -> None:
    with pytest.raises(DataError, match="header of a 'health' message is larger than"):
        decode([b"health", b" " * (MAX_HEADER_BYTES + 1)])


def test_a_shape_of_very_many_numbers_is_refused_before_they_are_multiplied() -> None:
    with pytest.raises(DataError, match="has 20000 dimensions"):
        decode([b"health", _health(_spec(shape=[10**18] * 20_000)), b""])


def test_a_frame_too_large_is_refused_unread() -> None:
    with pytest.raises(DataError, match="larger than"):
        decode([b"health", b" " * (MAX_FRAME_BYTES + 1)])


@pytest.mark.parametrize("value", ["null", "NaN", "Infinity", '"1"', "[]"])
def test_a_number_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        decode([b"health", b'{"topic":"health","state":"READY","t":%s}' % value.encode()])


def test_the_schemas_cover_every_topic_and_name_the_wire_format() -> None:
    schemas = json_schemas()
    assert set(schemas) == {"session", "geometry", "trial", "map", "health"}
    for topic, schema in schemas.items():
        kind = HEADERS[topic]
        properties = schema["$defs"][kind.__name__]["properties"]
        assert set(properties) == {f.encode_name for f in msgspec.structs.fields(kind)}
        assert properties["schema"]["default"] == SCHEMA
        assert properties["topic"]["default"] == topic

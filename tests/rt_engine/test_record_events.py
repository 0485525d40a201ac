"""The engine's record comes back to the bit, and what is no record of ours is refused."""

import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rt_engine.companions import CoilPose, StimulatorIntensity
from rt_engine.errors import FileFormatError
from rt_engine.pulse import Pulse
from rt_engine.record_events import (
    RECORD_VERSION,
    Calibrated,
    Event,
    IntensityFed,
    Marked,
    ModelSwapped,
    Offset,
    PoseFed,
    PulseFed,
    ReferenceFed,
    Result,
    Start,
    Stop,
    TimeFed,
    parse_event,
)

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
COUNTS = st.integers(0, 2**53)
EVENTS = st.one_of(
    st.builds(Offset, n=COUNTS, offset=NUMBERS, uncertainty=NUMBERS),
    st.builds(PulseFed, n=COUNTS, t_raw=NUMBERS, offset=NUMBERS, uncertainty=NUMBERS, label=st.text()),
    st.builds(ReferenceFed, n=COUNTS, t_raw=st.none() | NUMBERS, offset=NUMBERS, uncertainty=NUMBERS),
    st.builds(PoseFed, n=COUNTS, t=st.none() | NUMBERS, matrix=st.none() | st.lists(NUMBERS, min_size=16, max_size=16)),
    st.builds(IntensityFed, n=COUNTS, t=st.none() | NUMBERS, percent_mso=st.none() | NUMBERS),
    st.builds(ModelSwapped, n=COUNTS, path=st.text(), sha256=st.text()),
    st.builds(Calibrated, n=COUNTS, gains=st.lists(NUMBERS)),
    st.builds(Marked, pulse=COUNTS, reason=st.text(), unmark=st.booleans()),
    st.builds(TimeFed, n=COUNTS, t=NUMBERS),
    st.builds(
        Result,
        pulse=COUNTS,
        t_pulse=NUMBERS,
        valid=st.booleans(),
        reasons=st.lists(st.text()),
        mep_uv=st.lists(st.none() | NUMBERS),
        status=st.lists(COUNTS),
        cog_mm=st.lists(NUMBERS),
        offsets_ms=st.dictionaries(st.text(), NUMBERS),
    ),
    st.builds(Stop, n=COUNTS, sha256_meps=st.text(), sha256_maps=st.text()),
    st.builds(
        Start,
        session=st.text(),
        settings=st.dictionaries(st.text(), NUMBERS | st.text()),
        model_sha256=st.text(),
        emg=st.text(),
        markers=st.text(),
        pose=st.text(),
        intensity=st.text(),
        first_stamp=NUMBERS,
        offset=NUMBERS,
        uncertainty=NUMBERS,
    ),
)


def _text(event: Any) -> str:
    return msgspec.json.encode(event).decode()


@given(event=EVENTS)
def test_an_event_comes_back_to_the_bit(event: Event) -> None:
    read = parse_event(_text(event))
    assert type(read) is type(event)
    assert read == event
    assert _text(read) == _text(event)


@given(text=st.text(max_size=80))
@example(text="")
@example(text="{}")
@example(text="3.5")
@example(text='{"event": "weather"}')
@example(text='{"event": "time", "n": 1, "t": null}')
@example(text='{"event": "time", "x": ' + "[" * 200_000)
def test_what_is_no_event_is_refused(text: str) -> None:
    with pytest.raises(FileFormatError, match="cannot be read"):
        parse_event(text)


def test_keys_of_a_later_minor_change_are_ignored() -> None:
    assert parse_event('{"event": "time", "n": 1, "t": 2.0, "weather": "fine"}') == TimeFed(n=1, t=2.0)


def test_a_record_of_a_newer_version_asks_for_an_update() -> None:
    start = Start(
        session="s", settings={}, model_sha256="", emg="e", markers="", pose="", intensity="",
        first_stamp=1.0, offset=0.0, uncertainty=0.0,
    )  # fmt: skip
    newer = {**json.loads(_text(start)), "version": RECORD_VERSION + 1}
    with pytest.raises(FileFormatError, match="newer than this software's 2; update m2m"):
        parse_event(json.dumps(newer))


TIMES = st.floats(allow_infinity=True, allow_nan=True)


@given(n=COUNTS, t=TIMES, offset=NUMBERS, label=st.text())
def test_a_marker_is_fed_again_as_it_was(n: int, t: float, offset: float, label: str) -> None:
    pulse = Pulse(t, offset, 1e-4, label)
    for kind in (PulseFed, ReferenceFed):
        event = parse_event(_text(kind.of(n, pulse)))
        assert isinstance(event, kind)
        assert event.n == n
        assert event.fed == pulse if pulse.has_time else math.isnan(event.fed.t_raw)
        assert event.fed.label == label


@given(n=COUNTS, t=TIMES, numbers=st.lists(TIMES, min_size=16, max_size=16), tracked=st.booleans())
def test_a_pose_is_fed_again_as_it_was(n: int, t: float, numbers: list[float], tracked: bool) -> None:
    event = parse_event(_text(PoseFed.of(n, CoilPose(t, np.array(numbers).reshape(4, 4), tracked))))
    assert isinstance(event, PoseFed)
    assert event.n == n
    assert event.fed.t == t if math.isfinite(t) else math.isnan(event.fed.t)
    assert event.fed.tracked == (tracked and all(map(math.isfinite, numbers)))
    if event.fed.tracked:
        assert event.fed.matrix.ravel().tolist() == numbers
    else:
        assert np.isnan(event.fed.matrix).all()


@given(n=COUNTS, t=TIMES, percent=TIMES)
def test_an_intensity_is_fed_again_as_it_was(n: int, t: float, percent: float) -> None:
    event = parse_event(_text(IntensityFed.of(n, StimulatorIntensity(t, percent))))
    assert isinstance(event, IntensityFed)
    assert event.fed.percent_mso == percent if math.isfinite(percent) else math.isnan(event.fed.percent_mso)
    assert event.fed.t == t if math.isfinite(t) else math.isnan(event.fed.t)


def test_a_pose_of_another_size_is_refused() -> None:
    with pytest.raises(FileFormatError, match="15 numbers; expected 16"):
        _ = PoseFed(n=0, t=1.0, matrix=[0.0] * 15).fed


def test_events_of_a_record_of_version_1_are_read() -> None:
    old = {"event": "result", "pulse": 3, "t_pulse": 1.5, "valid": True, "mep_uv": [60.0], "status": [0]}
    read = parse_event(json.dumps(old))
    assert isinstance(read, Result)
    assert read.offsets_ms == {}
    pulse = parse_event('{"event":"pulse","n":5,"t_raw":2.5,"offset":0.5,"uncertainty":1e-4,"label":"x"}')
    assert isinstance(pulse, PulseFed)
    assert pulse.fed == Pulse(2.5, 0.5, 1e-4, "x")

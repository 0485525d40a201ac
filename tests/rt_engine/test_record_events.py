"""The engine's record comes back to the bit, and what is no record of ours is refused."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rt_engine.errors import FileFormatError
from rt_engine.record_events import RECORD_VERSION, Event, Offset, PulseFed, Result, Start, Stop, TimeFed, parse_event

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
COUNTS = st.integers(0, 2**53)
EVENTS = st.one_of(
    st.builds(Offset, n=COUNTS, offset=NUMBERS, uncertainty=NUMBERS),
    st.builds(PulseFed, n=COUNTS, t_raw=NUMBERS, offset=NUMBERS, uncertainty=NUMBERS, label=st.text()),
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
    with pytest.raises(FileFormatError, match="newer than this software's 1; update m2m"):
        parse_event(json.dumps(newer))

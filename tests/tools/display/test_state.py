"""What the window knows: latest, lost, late, old."""

import numpy as np
import pytest
from fake_engine import FakeSession
from hypothesis import given
from hypothesis import strategies as st

from rt_engine.errors import DataError
from rt_engine.messages import HealthHeader, SessionHeader, decode
from tools.display.state import MAP_DUE_S, STALE_AFTER_S, DisplayState

ADDRESS = "tcp://127.0.0.1:5556"


class World:
    """A state that a fake session feeds, at times that the test sets."""

    def __init__(self, **options: object) -> None:
        self.now = 100.0
        self.state = DisplayState(ADDRESS, self.now)
        self.session = FakeSession(self.feed, **options)  # type: ignore[arg-type]

    def feed(self, frames: list[bytes]) -> None:
        header, arrays = decode(frames)
        self.state.receive(header, arrays, self.now)

    def start(self) -> None:
        self.session.greet()
        self.session.send_health()


@pytest.fixture
def world() -> World:
    made = World()
    made.start()
    return made


def test_before_anything_is_heard_it_says_what_it_waits_for_and_where() -> None:
    state = DisplayState(ADDRESS, 10.0)
    waiting = state.connection(13.0)
    assert waiting.kind == "waiting"
    assert ADDRESS in waiting.text
    assert "3 s" in waiting.text
    state.link = "connected"
    assert "first message from" in state.connection(13.0).text
    state.link = "not m2m"
    assert "is none" in state.connection(13.0).text


def test_silence_of_two_seconds_is_a_lost_connection_and_a_word_ends_it(world: World) -> None:
    world.now += STALE_AFTER_S
    assert world.state.connection(world.now).kind == "live"
    world.now += 0.1
    lost = world.state.connection(world.now)
    assert (lost.kind, ADDRESS in lost.text) == ("stale", True)
    world.session.send_health()
    assert world.state.connection(world.now).kind == "live"


@pytest.mark.parametrize("last_word", ["STOPPED", "FAILED"])
def test_a_session_that_said_goodbye_is_not_lost(world: World, last_word: str) -> None:
    world.session.send_health(last_word)
    world.now += 60.0
    assert world.state.connection(world.now).kind == "ended"


def test_the_latest_is_kept_and_what_nobody_saw_is_counted(world: World) -> None:
    for _ in range(3):
        world.session.send_pulse()
    assert world.state.waits_to_be_drawn
    assert world.state.trial is not None
    assert world.state.trial.header.pulse == 2
    assert world.state.counters.superseded == 4  # two trials, two maps
    world.state.mark_drawn()
    assert not world.state.waits_to_be_drawn
    world.session.send_pulse()
    assert world.state.counters.superseded == 4
    assert world.state.counters.lost == 0


def test_every_pulse_is_in_the_list_also_those_nobody_saw(world: World) -> None:
    world.session.send_pulse(peak=0)
    world.session.send_pulse(reasons=["gap"])
    world.session.send_pulse(confidence_reasons=["one_active_muscle"])
    newest, invalid, first = world.state.pulses
    assert [row.pulse for row in (newest, invalid, first)] == [2, 1, 0]
    assert not invalid.valid
    assert invalid.reason == "samples are missing in the sweep"
    assert (newest.confidence, invalid.confidence, first.confidence) == ("low", "", "ok")
    assert first.muscle in world.session.muscles
    assert first.mep_uv > 50.0


def test_a_map_after_its_trial_counts_for_it_as_well(world: World) -> None:
    world.session.send_pulse(with_map=False)
    assert world.state.pulses[0].confidence == ""
    held: list[list[bytes]] = []
    world.session.sink = held.append
    world.session.n_pulses = 0
    world.session.send_pulse()
    world.feed(held[0])
    assert world.state.pulses[0].confidence == "ok"


def test_holes_in_the_numbers_are_lost_messages_each_topic_for_itself(world: World) -> None:
    world.session.send_pulse()
    world.session.send_pulse(skip=3)
    world.session.send_health()
    assert world.state.counters.lost == 3


def test_joining_late_is_no_loss() -> None:
    world = World()
    held: list[list[bytes]] = []
    world.session.sink = held.append
    for _ in range(5):
        world.session.send_pulse()
    world.session.sink = world.feed
    world.start()
    world.session.send_pulse()
    assert world.state.counters.lost == 0
    assert world.state.trial is not None


def test_what_comes_twice_or_late_is_ignored_but_a_new_greeting_is_not(world: World) -> None:
    held: list[list[bytes]] = []
    world.session.sink = held.append
    world.session.send_pulse()
    world.session.send_pulse()
    for frames in held:
        world.feed(frames)
    world.feed(held[0])
    world.feed(held[1])
    assert world.state.counters.out_of_order == 2
    assert world.state.trial is not None
    assert world.state.trial.header.pulse == 1
    world.session.sink = world.feed
    world.session.greet()
    assert world.state.counters.out_of_order == 2
    assert world.state.trial.header.pulse == 1


def test_a_new_session_begins_with_nothing_of_the_old_one(world: World) -> None:
    world.session.send_pulse()
    other = FakeSession(world.feed, session="fake-2", muscles=("FDI", "ADM"))
    other.send_health("RESOLVING", "waiting for the EMG stream")
    state = world.state
    assert (state.session, state.geometry, state.trial, state.map, len(state.pulses)) == (None, None, None, None, 0)
    assert state.sessions_seen == 2
    other.greet()
    other.send_pulse()
    assert state.session is not None
    assert state.session.muscles == ["FDI", "ADM"]
    assert state.counters.lost == 0


def test_a_map_is_current_until_the_next_pulse_says_otherwise(world: World) -> None:
    assert world.state.map_standing(world.now).kind == "none"
    world.session.send_pulse()
    world.now += 1.6
    standing = world.state.map_standing(world.now)
    assert (standing.kind, standing.text) == ("current", "Map of pulse 0, 2 s ago")
    world.session.send_pulse(reasons=["gap"])
    standing = world.state.map_standing(world.now)
    assert standing.kind == "old"
    assert "map of pulse 0" in standing.text
    assert "pulse 1 is invalid" in standing.text
    world.session.send_pulse()
    assert world.state.map_standing(world.now).kind == "current"


def test_a_map_that_does_not_come_makes_the_one_before_old_after_a_moment(world: World) -> None:
    world.session.send_pulse()
    world.session.send_pulse(with_map=False)
    assert world.state.map_is_due(world.now)
    assert world.state.map_standing(world.now).kind == "current"
    world.now += MAP_DUE_S + 0.01
    assert not world.state.map_is_due(world.now)
    assert world.state.map_standing(world.now).text == "OLD: map of pulse 0 (pulse 1 has no map)"


def test_a_map_is_old_when_the_engine_is_gone(world: World) -> None:
    world.session.send_pulse()
    world.now += STALE_AFTER_S + 0.1
    assert world.state.map_standing(world.now).text == "OLD: map of pulse 0 (connection lost)"
    world.session.send_health("STOPPED")
    assert world.state.map_standing(world.now).text == "OLD: map of pulse 0 (session ended)"


def test_an_invalid_first_pulse_says_why_there_is_no_map(world: World) -> None:
    world.session.send_pulse(reasons=["before_stream"])
    standing = world.state.map_standing(world.now)
    assert standing.kind == "none"
    assert "pulse 0 is invalid (it lies before the first sample)" in standing.text


def test_a_map_of_another_geometry_is_refused_and_changes_nothing(world: World) -> None:
    world.session.send_pulse()
    before = world.state.map
    world.session.voxel_mm = world.session.voxel_mm[:-1]
    with pytest.raises(DataError, match="voxels"):
        world.session.send_pulse()
    assert world.state.map is before


def test_a_new_geometry_drops_a_map_that_does_not_fit_it(world: World) -> None:
    world.session.send_pulse()
    world.session.geometry = world.session.geometry | {"voxel": world.session.geometry["voxel"][:-5]}
    world.session.send_geometry()
    assert world.state.map is None
    assert world.state.geometry is not None


def test_a_trial_of_other_muscles_is_refused(world: World) -> None:
    world.session.muscles = ("FDI",)
    with pytest.raises(DataError, match="1 muscles, the session 15"):
        world.session.send_pulse()
    assert world.state.trial is None


@pytest.mark.parametrize(
    ("name", "value"), [("window_ms", [[10.0, 50.0]]), ("window_ms", [[10.0]] * 15), ("sweep_ms", [60.0, 60.0])]
)
def test_a_session_that_contradicts_itself_is_refused(world: World, name: str, value: object) -> None:
    header = world.state.session
    assert header is not None
    changed = SessionHeader(**{n: getattr(header, n) for n in header.__struct_fields__} | {name: value})
    with pytest.raises(DataError, match=name):
        world.state.receive(changed, {}, world.now)
    assert world.state.session is header


def test_one_clock_is_recognised_by_health_that_is_no_older_than_a_moment() -> None:
    state = DisplayState(ADDRESS, 0.0)
    state.receive(HealthHeader(state="RUNNING", t=5000.0, session="a"), {}, 100.0)
    assert not state.same_clock
    state.receive(HealthHeader(state="RUNNING", t=100.4, session="a", seq=1), {}, 100.5)
    assert state.same_clock


STEPS = ("pulse", "invalid", "mapless", "health", "greet", "new", "drawn")


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 3)), max_size=25))
def test_every_message_is_accounted_for(steps: list[tuple[str, int]]) -> None:
    sheet = {"voxel": np.argwhere(np.ones((2, 2, 2))).astype(np.int16), "affine": np.eye(4)}
    world = World(geometry=sheet, muscles=("FDI", "ADM"))
    world.start()
    sent = drawn = skipped = 0
    for step, skip in steps:
        state = world.state
        if step == "pulse":
            world.session.send_pulse(skip=skip)
            sent, skipped = sent + 2, skipped + (skip if world.session.n_pulses > 1 else 0)
        elif step == "invalid":
            world.session.send_pulse(reasons=["gap"])
            sent += 1
        elif step == "mapless":
            world.session.send_pulse(with_map=False)
            sent += 1
        elif step == "health":
            world.session.send_health()
        elif step == "greet":
            world.session.greet()
        elif step == "new":
            waiting = state._trial_waits + state._map_waits
            drawn += waiting  # a session that ends takes what waits with it
            world.session = FakeSession(
                world.feed, session=f"s{state.sessions_seen}", geometry=sheet, muscles=("FDI", "ADM")
            )
            world.start()
        else:
            drawn += state._trial_waits + state._map_waits
            state.mark_drawn()
    counters = world.state.counters
    still = world.state._trial_waits + world.state._map_waits
    assert drawn + still + counters.superseded == sent
    assert counters.lost == skipped
    assert counters.malformed == counters.out_of_order == 0

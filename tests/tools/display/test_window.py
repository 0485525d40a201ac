"""The window in this process, painted into memory, fed by a fake engine over a real socket."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_engine import FakeEngine

pytest.importorskip("PySide6", reason="Qt is not installed: the extra [display]")

from PySide6.QtCore import Qt
from PySide6.QtGui import QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QWidget

from tools.display import theme
from tools.display.colours import ColourScale, lookup_table
from tools.display.picture_age import PictureAges
from tools.display.screen import OpenGL
from tools.display.state import STALE_AFTER_S, DisplayState
from tools.display.subscriber import AT_MOST_PER_POLL, Subscriber
from tools.display.window import DisplayWindow

WaitUntil = Callable[..., None]
pytestmark = pytest.mark.usefixtures("no_hidden_error")


class Live:
    """A window, the engine it listens to, and a clock that the test puts forward."""

    def __init__(self, wait_until: WaitUntil, **options: Any) -> None:
        self.wait_until = wait_until
        # The clock stands unless the test puts it forward: on a slow computer nothing gets old by itself.
        self.started = time.monotonic()
        self.ahead_s = 0.0
        self.engine = FakeEngine(**options)
        self.state = DisplayState(self.engine.address, self.now())
        self.ages = PictureAges(self.engine.address)
        subscriber = Subscriber(self.engine.address, self.state)
        self.window = DisplayWindow(self.state, subscriber, self.ages, OpenGL("Not in this test."), self.now)
        self.window.resize(1600, 1000)
        self.window.show()

    def now(self) -> float:
        return self.started + self.ahead_s

    def start(self) -> None:
        # The window's socket subscribes when the window polls it: a blocking wait here would never see it.
        self.wait_until(lambda: bool(self.engine.socket.poll(0)))
        self.engine.greet_subscribers()
        self.engine.send_health()
        self.wait_until(lambda: self.state.geometry is not None and self.state.health is not None)

    def pulse(self, **options: Any) -> None:
        """Send a pulse and wait until it can be seen."""
        number = self.engine.n_pulses
        self.engine.send_pulse(**options)
        self.wait_until(
            lambda: (
                self.state.trial is not None
                and self.state.trial.header.pulse == number
                and not self.state.waits_to_be_drawn
                and (self.state.map is None or self.window.painted_pulse == self.state.map.header.pulse)
            )
        )

    def close(self) -> None:
        self.window.close()
        self.engine.close()


@pytest.fixture
def live(wait_until: WaitUntil) -> Iterator[Live]:
    made = Live(wait_until)
    yield made
    made.close()


def said(view: QWidget) -> str:
    return view.accessibleDescription()


def pixels(widget: QWidget) -> np.ndarray:
    """Return what a widget shows, (rows, columns, 3) uint8."""
    image = widget.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
    data = np.frombuffer(image.constBits(), dtype=np.uint8).reshape(image.height(), image.bytesPerLine())
    return data[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()


def count(picture: np.ndarray, table: np.ndarray) -> int:
    """Return how many pixels have one of the colours (n, 3)."""
    weights = np.array([65536, 256, 1])
    return int(np.isin(picture.astype(int) @ weights, table.astype(int) @ weights).sum())


def hex_colour(text: str) -> np.ndarray:
    return np.array([[int(text[i : i + 2], 16) for i in (1, 3, 5)]])


def test_before_an_engine_is_there_it_waits_and_says_where(live: Live) -> None:
    live.engine.close()
    live.window.tick()
    assert "WAITING" in said(live.window.head)
    assert live.engine.address in said(live.window.head)
    assert "no pulse yet" in said(live.window.sweeps)


def test_a_pulse_is_seen_everywhere(live: Live) -> None:
    live.start()
    live.pulse(peak=10, status={"FDI": "PREACTIVATED"})
    window = live.window
    assert "Engine: RUNNING" in said(window.head)
    assert "Last pulse: 0 TTL, 61 % MSO, coil tracked" in said(window.head)
    assert "Confidence: OK" in said(window.head)
    assert "FDI" in said(window.sweeps)
    assert "pre-activated" in said(window.sweeps)
    assert "floor 50 µV" in said(window.bars)
    assert "E-field, normalised (1 = 98.5 V/m)" in said(window.projections)
    assert "mm" in said(window.projections)
    assert said(window.pulses).startswith("0 valid")
    assert "2,000.04 Hz" in said(window.foot)
    assert "[S] screenshot" in said(window.foot)
    assert window.projections.caption.startswith("Map of pulse 0")


def test_the_map_is_painted_in_the_colours_of_its_bar_from_lowest_to_highest(live: Live) -> None:
    live.start()
    # One voxel in the middle at 1, else a ramp.
    live.pulse(peak=10)
    shown = live.state.map
    assert shown is not None
    picture = pixels(live.window.projections)
    table = lookup_table(theme.FIELD_COLOURS)
    assert count(picture, table[:40]) > 500
    assert count(picture, table[200:]) > 500
    # Most of it is the colour bar's neighbour: the voxels themselves, each some pixels wide.
    assert count(picture, table) > 20_000


def test_an_invalid_pulse_is_said_everywhere_and_the_map_before_it_turns_grey(live: Live) -> None:
    live.start()
    live.pulse(peak=10)
    live.pulse(reasons=["gap"])
    window = live.window
    assert "Last pulse: 1 INVALID samples are missing in the sweep" in said(window.head)
    assert "pulse 1 INVALID: samples are missing in the sweep" in said(window.sweeps)
    assert "INVALID" in window.bars.caption
    assert said(window.pulses).startswith("1 INVALID: samples are missing in the sweep")
    assert "Confidence: – old map, of pulse 0" in said(window.head)
    assert window.projections.standing.text == "OLD: map of pulse 0 (pulse 1 is invalid)"
    picture = pixels(window.projections)
    assert count(picture, lookup_table(theme.FIELD_COLOURS)[60:]) == 0
    assert count(picture, ColourScale(old=True).table) > 20_000
    assert count(picture, hex_colour(theme.ORANGE)) > 5_000  # the band that says so
    live.pulse(peak=10)
    assert window.projections.standing.kind == "current"
    assert count(pixels(window.projections), lookup_table(theme.FIELD_COLOURS)[60:]) > 5_000


def test_low_confidence_is_said_with_its_reasons(live: Live) -> None:
    live.start()
    live.pulse(confidence_reasons=["no_active_muscle"])
    assert "Confidence: LOW no active muscle" in said(live.window.head)
    assert "low confidence" in said(live.window.pulses)


def test_a_silent_engine_turns_the_head_red_and_the_map_grey(live: Live) -> None:
    live.start()
    live.pulse(peak=10)
    live.ahead_s = STALE_AFTER_S + 5.0
    live.window.tick()
    assert "CONNECTION LOST" in said(live.window.head)
    assert live.engine.address in said(live.window.head)
    assert "connection lost" in live.window.projections.standing.text
    assert count(pixels(live.window.head), hex_colour(theme.TONES["bad"])) > 500
    live.engine.send_health()
    live.wait_until(lambda: "CONNECTION LOST" not in said(live.window.head))


def test_a_new_session_starts_with_empty_panels(live: Live, wait_until: WaitUntil) -> None:
    live.start()
    live.pulse()
    live.engine.close()
    live.engine = FakeEngine(live.engine.address, session="fake-2", muscles=("FDI", "ADM", "APB"), replay=True)
    live.start()
    wait_until(lambda: live.window.sweeps.caption == "")
    window = live.window
    assert "REPLAY" in said(window.head)
    assert said(window.sweeps) == "no pulse yet"
    assert window.projections.caption == "No map yet"
    assert said(window.pulses) == ""
    assert "session fake-2" in said(window.foot)
    live.pulse()
    assert "APB" in said(window.sweeps)
    wait_until(lambda: "not in a replay" in said(window.head))  # the age is told after the painting


def test_unreadable_messages_are_counted_and_told_and_change_nothing(live: Live, wait_until: WaitUntil) -> None:
    live.start()
    live.pulse()
    before = said(live.window.sweeps)
    live.engine.sink([b"trial", b"{not json"])
    live.engine.voxel_mm = live.engine.voxel_mm[:-1]
    live.engine.send_pulse()  # its map has a voxel too few
    wait_until(lambda: "unreadable 2" in said(live.window.foot))
    assert "Unreadable message" in said(live.window.foot)
    assert live.window.isVisible()
    assert before.startswith("pulse 0")


def test_lost_and_skipped_messages_are_counted_apart(live: Live, wait_until: WaitUntil) -> None:
    live.start()
    for _ in range(AT_MOST_PER_POLL):  # twice as many messages as are taken in one go
        live.engine.send_pulse(skip=0)
    live.engine.send_pulse(skip=2)
    last = live.engine.n_pulses - 1
    state, counters = live.state, live.state.counters
    # The last pulse's map can be painted before its trial has come.
    wait_until(
        lambda: live.window.painted_pulse == last and state.pulses_received == last + 1 and not state.waits_to_be_drawn
    )
    assert counters.lost == 2
    assert 0 < counters.superseded < 2 * live.engine.n_pulses
    assert f"lost 2, skipped {counters.superseded}, unreadable 0" in said(live.window.foot)


def press(window: DisplayWindow, key: Qt.Key) -> None:
    window.activateWindow()
    assert QTest.qWaitForWindowActive(window, 60_000)
    QTest.keyClick(window, key)


def test_f_changes_between_field_and_spread_with_colours_of_its_own(live: Live) -> None:
    live.start()
    live.pulse(peak=10)
    press(live.window, Qt.Key.Key_F)
    assert "Spread (1 SD), normalised (1 = 98.5 V/m)" in said(live.window.projections)
    assert live.window.projections.scale.high == pytest.approx(0.2)  # the spread here is at most 0.13
    picture = pixels(live.window.projections)
    assert count(picture, lookup_table(theme.SPREAD_COLOURS)[60:]) > 5_000
    press(live.window, Qt.Key.Key_F)
    assert "E-field" in said(live.window.projections)


def test_c_changes_between_the_estimate_and_the_coils_own_field(live: Live) -> None:
    live.start()
    live.pulse(peak=10)
    assert "Coil's own field: r 0.87 CoG 4.2 mm off, NRMSE 0.31" in said(live.window.head)
    estimate, aged = pixels(live.window.projections), len(live.ages._since_needed_ms)
    press(live.window, Qt.Key.Key_C)
    assert "Coil's E-field, normalised (1 = 98.5 V/m)" in said(live.window.projections)
    assert live.window.projections.title == "The coil's own field"
    computed = pixels(live.window.projections)
    assert not np.array_equal(computed, estimate)
    assert len(live.ages._since_needed_ms) == aged, "another view of a map is no new picture of a pulse"
    live.pulse(computed_reason="not_covered")
    assert "Outside the basis' coverage" in said(live.window.projections)
    colours = lookup_table(theme.FIELD_COLOURS)[60:]
    assert count(pixels(live.window.projections), colours) < count(computed, colours) - 5_000, "only the bar is left"
    press(live.window, Qt.Key.Key_C)
    assert live.window.projections.title == "BA4 map"


def test_l_changes_the_axis_of_the_bars(live: Live) -> None:
    live.start()
    live.pulse(peak=10)
    logarithmic = pixels(live.window.bars)
    press(live.window, Qt.Key.Key_L)
    assert "linear axis" in said(live.window.bars)
    largest = max(float(uv) for uv in live.state.trial.mep_uv) if live.state.trial else 0.0
    assert live.window.bars.high_uv >= largest
    assert not np.array_equal(pixels(live.window.bars), logarithmic)


def test_bars_are_as_long_as_their_amplitude_says(live: Live) -> None:
    live.start()
    live.pulse(peak=10)
    press(live.window, Qt.Key.Key_L)
    assert live.state.trial is not None
    sky = (pixels(live.window.bars) == hex_colour(theme.SKY)[0]).all(axis=2)
    rows = [np.flatnonzero(row) for row in sky if row.any()]
    left = min(row[0] for row in rows)
    lengths = sorted({int(row[-1] - left + 1) for row in rows})
    uv = [float(v) for v in live.state.trial.mep_uv if v >= 50.0]
    assert max(lengths) / min(lengths) == pytest.approx(max(uv) / min(uv), rel=0.15)


def test_the_linear_axis_only_grows_until_r_resets_it(live: Live) -> None:
    live.start()
    press(live.window, Qt.Key.Key_L)
    live.pulse(peak=10, strength=3.0)
    high = live.window.bars.high_uv
    live.pulse(peak=10, strength=0.05)
    assert live.window.bars.high_uv == high
    press(live.window, Qt.Key.Key_R)
    assert live.window.bars.high_uv < high


def test_s_saves_a_screenshot_whole_or_not_at_all(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live.start()
    live.pulse()
    monkeypatch.chdir(tmp_path)
    press(live.window, Qt.Key.Key_S)
    (saved,) = tmp_path.iterdir()  # and no half-written file beside it
    assert saved.name.endswith("-pulse0.png")
    assert QImage(str(saved)).size().toTuple() == (1600, 1000)
    live.wait_until(lambda: f"Saved {saved}" in said(live.window.foot))
    assert live.window.save_screenshot(tmp_path / "nowhere" / "x.png") is None
    live.wait_until(lambda: "Check that the folder exists" in said(live.window.foot))


def test_without_opengl_the_panel_says_what_is_missing_and_the_rest_works(live: Live) -> None:
    live.start()
    live.pulse()
    assert "No 3D view" in said(live.window.cortex)
    assert "Not in this test." in said(live.window.cortex)
    assert live.window.painted_pulse == 0


def test_q_closes_the_window_and_lets_go_of_the_engine(live: Live) -> None:
    live.start()
    press(live.window, Qt.Key.Key_Q)
    assert not live.window.isVisible()
    live.window.tick()  # whatever still comes finds a closed window
    live.window.poll()


SMALL = {"voxel": np.array([[1, 2, 3]], np.int16), "affine": np.eye(4)}


@pytest.mark.parametrize("n_muscles", [1, 2, 7, 21, 40])
def test_any_number_of_muscles_finds_its_place(wait_until: WaitUntil, n_muscles: int) -> None:
    live = Live(wait_until, geometry=SMALL, muscles=tuple(f"M{i}" for i in range(n_muscles)))
    try:
        live.start()
        live.pulse()
        assert pixels(live.window.sweeps).std() > 5.0
        assert f"M{n_muscles - 1} " in said(live.window.sweeps)
    finally:
        live.close()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -1.0, 0.0])
def test_no_value_can_break_the_painting(wait_until: WaitUntil, value: float) -> None:
    live = Live(wait_until, geometry=SMALL | {"voxel": np.argwhere(np.ones((3, 3, 3))).astype(np.int16)})
    original = live.engine.map_arrays

    def spoilt(center: Any, strength: float = 1.0) -> Any:
        arrays = dict(original(center, strength))
        return {name: (np.full_like(array, value), unit) for name, (array, unit) in arrays.items()}

    def all_the_same(amplitude: np.ndarray) -> np.ndarray:
        return np.full((len(amplitude), 321), value, dtype=np.float32)

    try:
        live.engine.map_arrays = spoilt  # type: ignore[method-assign]
        live.start()
        live.pulse()
        live.window.toggle_quantity()
        live.window.toggle_logarithmic()
        with np.errstate(invalid="ignore", over="ignore"):
            live.engine._sweeps = all_the_same  # type: ignore[method-assign]
            live.pulse()
        assert pixels(live.window).std() > 5.0
    finally:
        live.close()

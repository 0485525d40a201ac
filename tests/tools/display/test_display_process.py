"""`m2m display` as a process of its own, under an X server and without a screen, and the pictures it saves."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from fake_engine import FakeEngine, shipped_geometry

pytest.importorskip("PySide6", reason="Qt is not installed: the extra [display]")

from PySide6.QtGui import QImage

from tools.display import theme
from tools.display.colours import ColourScale, lookup_table

StartWindow = Callable[..., "subprocess.Popen[str]"]
ROOT = Path(__file__).resolve().parents[3]

PATIENCE_S = 240.0
"""How long to wait for what must come; a limit for a broken program, not a figure."""

# Where the panels are in a window of 1600 x 1000, as (top, bottom, left, right).
SWEEPS, BARS = (100, 545, 10, 555), (560, 915, 10, 555)
MAP, CORTEX, PULSES = (100, 915, 565, 1145), (130, 545, 1160, 1590), (600, 915, 1155, 1590)


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with FakeEngine(geometry=shipped_geometry()) as made:
        yield made


def end_of(process: "subprocess.Popen[str]", alive: FakeEngine | None) -> dict[str, Any]:
    """Wait for a window that closes by itself, with an engine that stays alive; return the JSON it ends with."""
    while True:
        try:
            out, errors = process.communicate(timeout=0.3)
            break
        except subprocess.TimeoutExpired:
            if alive is not None:
                alive.send_health()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    result: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    return result


def read_picture(path: Path) -> np.ndarray:
    image = QImage(str(path)).convertToFormat(QImage.Format.Format_RGB888)
    assert image.size().toTuple() == (1600, 1000)
    data = np.frombuffer(image.constBits(), dtype=np.uint8).reshape(1000, image.bytesPerLine())
    return data[:, :4800].reshape(1000, 1600, 3).copy()


def part(picture: np.ndarray, panel: tuple[int, int, int, int]) -> np.ndarray:
    top, bottom, left, right = panel
    return picture[top:bottom, left:right]


def count(picture: np.ndarray, table: np.ndarray) -> int:
    weights = np.array([65536, 256, 1])
    return int(np.isin(picture.astype(int) @ weights, table.astype(int) @ weights).sum())


def coloured(picture: np.ndarray) -> int:
    """Return how many pixels are far from grey."""
    return int((np.ptp(picture.astype(int), axis=2) > 60).sum())


def hex_colour(text: str) -> np.ndarray:
    return np.array([[int(text[i : i + 2], 16) for i in (1, 3, 5)]])


def play(engine: FakeEngine, *pulses: dict[str, Any]) -> None:
    engine.wait_for_subscriber()
    engine.send_health()
    for options in pulses:
        engine.send_pulse(**options)


def test_a_screenshot_shows_all_panels_with_the_cortex_in_3d(
    engine: FakeEngine, start_window: StartWindow, x_display: str, tmp_path: Path
) -> None:
    path = tmp_path / "window.png"
    words = ("--address", engine.address, "--screenshot", str(path), "--after-pulses", "3", "--exit", "--json")
    window = start_window(*words, display=x_display)
    play(engine, {}, {}, {"peak": 2000})
    result = end_of(window, engine)
    assert result["opengl"] is True
    assert result["pulses_received"] == result["maps_received"] == 3
    assert (result["lost"], result["malformed"], result["sessions"]) == (0, 0, 1)
    assert result["screenshot"] == str(path)
    assert [file.name for file in tmp_path.iterdir()] == ["window.png"]

    picture = read_picture(path)
    table = lookup_table(theme.FIELD_COLOURS)
    assert count(part(picture, MAP), table) > 20_000
    assert count(part(picture, MAP), table[200:]) > 1_000
    assert coloured(part(picture, CORTEX)) > 3_000
    grey = part(picture, CORTEX)
    assert ((np.ptp(grey.astype(int), axis=2) < 8) & (grey[:, :, 0] > 90)).sum() > 20_000
    assert count(part(picture, BARS), hex_colour(theme.SKY)) > 5_000
    assert count(part(picture, SWEEPS), hex_colour(theme.TRACE)) > 200
    assert count(part(picture, SWEEPS), hex_colour(theme.WINDOW_SHADE)) > 10_000
    assert part(picture, PULSES).std() > 10.0


def test_a_screenshot_after_an_invalid_pulse_has_no_colour_in_its_map(
    engine: FakeEngine, start_window: StartWindow, x_display: str, tmp_path: Path
) -> None:
    path = tmp_path / "invalid.png"
    words = ("--address", engine.address, "--screenshot", str(path), "--after-pulses", "2", "--exit", "--json")
    window = start_window(*words, display=x_display)
    play(engine, {"peak": 2000}, {"reasons": ["gap"]})
    result = end_of(window, engine)
    assert (result["pulses_received"], result["maps_received"]) == (2, 1)
    picture = read_picture(path)
    assert count(part(picture, MAP), lookup_table(theme.FIELD_COLOURS)[60:]) == 0
    assert count(part(picture, MAP), ColourScale(old=True).table) > 20_000
    assert count(part(picture, MAP), hex_colour(theme.ORANGE)) > 5_000
    assert coloured(part(picture, CORTEX)) < 1_500  # the letters of the axes
    assert count(part(picture, SWEEPS), hex_colour(theme.RED)) > 200


def test_without_a_screen_it_takes_screenshots_all_the_same(
    engine: FakeEngine, start_window: StartWindow, tmp_path: Path
) -> None:
    path = tmp_path / "offscreen.png"
    words = ("--address", engine.address, "--screenshot", str(path), "--exit", "--json")
    window = start_window(*words, display=None, platform="offscreen")
    play(engine, {"peak": 2000})
    result = end_of(window, engine)
    assert result["opengl"] is False
    picture = read_picture(path)
    assert count(part(picture, MAP), lookup_table(theme.FIELD_COLOURS)) > 20_000
    assert part(picture, CORTEX).std() > 5.0  # the text that says what is missing


def test_it_outlives_its_engine_and_shows_the_next_one(
    engine: FakeEngine, start_window: StartWindow, tmp_path: Path
) -> None:
    path = tmp_path / "second.png"
    words = ("--address", engine.address, "--screenshot", str(path), "--after-pulses", "3", "--exit", "--json")
    window = start_window(*words, display=None, platform="offscreen")
    play(engine, {}, {})
    engine.socket.setsockopt(zmq.LINGER, 30_000)  # what is on its way still arrives
    engine.close()
    with FakeEngine(engine.address, session="fake-2") as second:
        play(second, {})
        result = end_of(window, second)
    assert result["sessions"] == 2
    assert result["pulses_received"] == 3
    assert result["malformed"] == 0
    assert path.exists()


def test_the_end_of_the_session_closes_it_when_asked_to(engine: FakeEngine, start_window: StartWindow) -> None:
    words = ("--address", engine.address, "--after-pulses", "1000", "--exit", "--json")
    window = start_window(*words, display=None, platform="offscreen")
    play(engine, {})
    engine.send_health("STOPPED", "asked to")
    assert end_of(window, None)["pulses_received"] == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_closes_it_in_order(engine: FakeEngine, start_window: StartWindow, number: signal.Signals) -> None:
    window = start_window("--address", engine.address, "--json", display=None, platform="offscreen")
    play(engine, {})
    window.send_signal(number)
    assert end_of(window, engine)["sessions"] <= 1


def failure_of(process: "subprocess.Popen[str]") -> str:
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "Traceback" not in errors
    return " ".join(errors.split())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere there always is a screen")
def test_without_a_screen_it_says_so_instead_of_aborting(start_window: StartWindow) -> None:
    assert "there is no screen" in failure_of(start_window(display=None))


def test_a_screenshot_into_nowhere_is_an_error_in_words(
    engine: FakeEngine, start_window: StartWindow, tmp_path: Path
) -> None:
    path = tmp_path / "nowhere" / "window.png"
    words = ("--address", engine.address, "--screenshot", str(path), "--exit")
    window = start_window(*words, display=None, platform="offscreen")
    play(engine, {})
    assert "Check that the folder exists" in failure_of(window)


@pytest.mark.parametrize(
    ("words", "told"),
    [(("--address", "5556"), "is no address"), (("--size", "big"), "is no size; expected e.g. 1600x1000")],
)
def test_wrong_options_are_errors_in_words(start_window: StartWindow, words: tuple[str, ...], told: str) -> None:
    assert told in failure_of(start_window(*words, display=None, platform="offscreen"))


def test_without_qt_the_command_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['PySide6'] = sys.modules['pyqtgraph'] = None\n"
        "from tools.cli import main\n"
        "main(['display'])"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 1
    assert "m2m-live[display]" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr

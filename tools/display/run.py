"""Runs the live window in this process until it is closed."""

import logging
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rt_engine.edges.curve_keys import ClientKeys
from rt_engine.errors import M2MError
from tools.display.picture_age import PictureAges
from tools.display.screen import check_packages, check_screen, find_opengl
from tools.display.state import DisplayState
from tools.display.subscriber import Subscriber

if TYPE_CHECKING:
    from tools.display.window import DisplayWindow

DEFAULT_ADDRESS = "tcp://127.0.0.1:5556"
DEFAULT_SIZE = (1600, 1000)

SIGNAL_MS = 100
"""A signal (Ctrl-C) is looked for this often."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DisplaySummary:
    """What a window has seen, when it closes.

    Attributes
    ----------
    pulses_received, maps_received
        Trials (valid or not) and maps that came.
    lost, superseded, malformed, out_of_order
        Messages that never came; trials and maps replaced before they were drawn; unreadable ones; late ones.
    sessions
        How many sessions were seen.
    picture_ms
        p50, p99 and max from the last needed sample to the painted map; None where clocks cannot be compared.
    opengl
        Whether there was a 3D view.
    screenshot
        Where it was saved, or None.
    """

    pulses_received: int
    maps_received: int
    lost: int
    superseded: int
    malformed: int
    out_of_order: int
    sessions: int
    picture_ms: dict[str, float] | None
    opengl: bool
    screenshot: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON wants it."""
        return asdict(self)


def run_display(
    address: str = DEFAULT_ADDRESS,
    *,
    screenshot: Path | None = None,
    after_pulses: int = 1,
    close: bool = False,
    full_screen: bool = False,
    size: tuple[int, int] = DEFAULT_SIZE,
    zoom: float = 1.0,
    keys: ClientKeys | None = None,
) -> DisplaySummary:
    """Show the live window; returns when it has been closed.

    Parameters
    ----------
    address
        ZeroMQ endpoint of the engine.
    screenshot
        Save a picture of the window here, once `after_pulses` pulses have come and the last one has been painted.
    after_pulses
        See `screenshot`.
    close
        Close the window after the screenshot; without one, after that many pulses. The end of the session closes it
        too, after a screenshot of what there is.
    full_screen
        Fill the screen.
    size
        Width and height of the window, pixels.
    zoom
        Enlarges everything, for a screen far away.
    keys
        CURVE keys, for an engine that asks for some.

    Raises
    ------
    M2MError
        If Qt is not installed, there is no screen, the address is none, or the screenshot cannot be written.
    """
    asked_to_close: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _frame: asked_to_close.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        return _run(address, keys, screenshot, after_pulses, close, full_screen, size, zoom, asked_to_close)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _run(
    address: str,
    keys: ClientKeys | None,
    screenshot: Path | None,
    after_pulses: int,
    close: bool,
    full_screen: bool,
    size: tuple[int, int],
    zoom: float,
    asked_to_close: list[int],
) -> DisplaySummary:
    check_packages()
    check_screen()
    if zoom != 1.0:
        os.environ["QT_SCALE_FACTOR"] = f"{zoom:g}"
    state = DisplayState(address, time.monotonic())
    subscriber = Subscriber(address, state, keys)
    ages = PictureAges(address)

    from PySide6.QtCore import QTimer, QtMsgType, qInstallMessageHandler
    from PySide6.QtWidgets import QApplication

    from tools.display.screenshot import save_screenshot
    from tools.display.window import DisplayWindow

    def to_log(kind: QtMsgType, _context: Any, text: str) -> None:
        grave = kind in (QtMsgType.QtCriticalMsg, QtMsgType.QtFatalMsg)
        logger.log(logging.ERROR if grave else logging.DEBUG, "Qt: %s", text)

    qInstallMessageHandler(to_log)
    app = QApplication.instance() or QApplication(["m2m display"])
    opengl = find_opengl()
    window = DisplayWindow(state, subscriber, ages, opengl)
    window.resize(*size)
    saved: list[Path] = []
    failed: list[BaseException] = []

    def finish(error: BaseException | None = None) -> None:
        if error is not None:
            failed.append(error)
        window.close()
        app.quit()

    def look_for_signal() -> None:
        if asked_to_close:
            finish()

    def after_drawing() -> None:
        wanted = screenshot is not None and not saved
        if failed or not (wanted or close):
            return
        ended = close and state.connection(time.monotonic()).kind == "ended"
        if not (ended or (state.pulses_received >= after_pulses and _last_pulse_painted(window))):
            return
        if wanted and screenshot is not None:
            try:
                saved.append(save_screenshot(window, screenshot))
            except M2MError as error:
                finish(error)
                return
            window.notify(f"Saved {screenshot}")
        if close:
            finish()

    def on_error(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
        finish(error)

    window.drawn.connect(after_drawing)
    # Python sees a signal only when Qt calls it, and this is also where one that came before the loop is seen.
    looks = QTimer()
    looks.timeout.connect(look_for_signal)
    looks.start(SIGNAL_MS)
    hook, sys.excepthook = sys.excepthook, on_error
    try:
        if full_screen:
            window.showFullScreen()
        else:
            window.show()
        app.exec()
    finally:
        sys.excepthook = hook
        looks.stop()
        window.close()
        qInstallMessageHandler(None)
    if failed:
        raise failed[0]
    counters = state.counters
    return DisplaySummary(
        pulses_received=state.pulses_received,
        maps_received=state.maps_received,
        lost=counters.lost,
        superseded=counters.superseded,
        malformed=counters.malformed,
        out_of_order=counters.out_of_order,
        sessions=state.sessions_seen,
        picture_ms=ages.quantiles_ms(),
        opengl=not opengl.problem,
        screenshot=str(saved[0]) if saved else None,
    )


def _last_pulse_painted(window: "DisplayWindow") -> bool:
    state = window.state
    if state.waits_to_be_drawn:
        return False
    if state.map is not None and state.geometry is not None and window.painted_pulse != state.map.header.pulse:
        return False
    # The map comes before its trial; a trial without one shows that none is to be waited for, unless it is quite new.
    return state.trial is not None and not state.map_is_due(time.monotonic())

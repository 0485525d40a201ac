"""The window: draws the latest of what a `DisplayState` knows, at most 30 times a second."""

import logging
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
from PySide6.QtCore import QSocketNotifier, Qt, QTimer, Signal
from PySide6.QtGui import QCloseEvent, QKeySequence, QShortcut
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from rt_engine.errors import M2MError
from tools.display import theme
from tools.display.bars_view import BarsView
from tools.display.coil_field import coil_sign, coil_view
from tools.display.colours import ColourScale, Quantity, spread_high
from tools.display.cortex_view import CortexView
from tools.display.picture_age import PictureAges
from tools.display.projections_view import ProjectionsView
from tools.display.pulses_view import PulsesView
from tools.display.received import ReceivedMap
from tools.display.screen import OpenGL
from tools.display.screenshot import save_screenshot, screenshot_name
from tools.display.state import DisplayState
from tools.display.status import age_sign, confidence_sign, engine_sign, figures, pulse_sign, session_line
from tools.display.status_view import FootBar, HeadBar
from tools.display.subscriber import AT_MOST_PER_POLL, Subscriber
from tools.display.sweeps_view import SweepsView

logger = logging.getLogger(__name__)

FRAME_S = 1.0 / 30.0
"""Shortest time between two drawings."""

TICK_MS = 100
"""Ages, silence and notices are looked at this often."""

NOTICE_S = 6.0
"""A notice stays this long."""


class DisplayWindow(QWidget):
    """The live window.

    Parameters
    ----------
    state
        What is known; fed by `subscriber`.
    subscriber
        The socket; the window polls and closes it.
    ages
        Where the age of each painted map goes.
    opengl
        Whether there can be a 3D view.
    now
        Monotonic clock, s; on Linux the clock of LSL.
    """

    drawn = Signal()
    """After each drawing, and after each map that has been painted."""

    def __init__(
        self,
        state: DisplayState,
        subscriber: Subscriber,
        ages: PictureAges,
        opengl: OpenGL,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.state = state
        self.ages = ages
        self.painted_pulse: int | None = None
        self._subscriber = subscriber
        self._now = now
        self._closed = False
        self._session_number = -1
        self._shown: dict[str, object] = {}
        self._quantity: Quantity = "field"
        self._largest_spread = 0.0
        self._notice, self._notice_until = "", 0.0
        self._drawn_at = -1.0
        self._cortex_waits: tuple[ReceivedMap | None, ColourScale] | None = None

        self.head, self.foot = HeadBar(), FootBar()
        self.sweeps, self.bars = SweepsView(), BarsView()
        self.projections, self.cortex = ProjectionsView(), CortexView(opengl)
        self.pulses = PulsesView()
        self.projections.painted.connect(self._map_painted)
        self._lay_out()
        self._bind_keys()
        self.setWindowTitle("m2m-live")
        self.setStyleSheet(f"DisplayWindow {{ background: {theme.BACKGROUND}; }}")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)

        self._frame_timer = QTimer(self, singleShot=True)
        self._frame_timer.timeout.connect(self.draw)
        self._tick_timer = QTimer(self)
        self._tick_timer.timeout.connect(self.tick)
        self._tick_timer.start(TICK_MS)
        self._notifier = QSocketNotifier(subscriber.fd, QSocketNotifier.Type.Read, self)
        self._notifier.activated.connect(self.poll)
        self.draw()

    def _lay_out(self) -> None:
        columns = QHBoxLayout()
        columns.setSpacing(8)
        for stretch, parts in (
            (35, ((self.sweeps, 55), (self.bars, 45))),
            (37, ((self.projections, 1),)),
            (28, ((self.cortex, 56), (self.pulses, 44))),
        ):
            column = QVBoxLayout()
            column.setSpacing(8)
            for view, share in parts:
                column.addWidget(view, share)
            columns.addLayout(column, stretch)
        box = QVBoxLayout(self)
        box.setContentsMargins(8, 0, 8, 0)
        box.setSpacing(0)
        box.addWidget(self.head)
        box.addLayout(columns, 1)
        box.addWidget(self.foot)
        self.setMinimumSize(1200, 750)

    def _bind_keys(self) -> None:
        for key, act in (
            ("S", self.save_screenshot),
            ("F", self.toggle_quantity),
            ("C", self.toggle_coil_field),
            ("L", self.toggle_logarithmic),
            ("R", self.reset_view),
            ("F11", self.toggle_full_screen),
            ("Q", self.close),
        ):
            QShortcut(QKeySequence(key), self).activated.connect(act)

    def poll(self) -> None:
        """Take what the engine has sent, and draw it when the last drawing is long enough ago."""
        if self._closed:
            return
        if self._subscriber.poll(self._now()) == AT_MOST_PER_POLL:
            QTimer.singleShot(0, self.poll)
        if self.state.waits_to_be_drawn and not self._frame_timer.isActive():
            wait = self._drawn_at + FRAME_S - self._now()
            if wait <= 0.0:
                self.draw()
            else:
                self._frame_timer.start(int(np.ceil(wait * 1000.0)))

    def tick(self) -> None:
        """Poll, and let ages and silence be seen."""
        self.poll()
        if not self._closed and not self._frame_timer.isActive():
            self.draw()

    def draw(self) -> None:
        """Take what has come, and bring every view up to it."""
        now = self._now()
        self._subscriber.poll(now)
        state = self.state
        new_session = state.sessions_seen != self._session_number
        if new_session:
            self._session_number = state.sessions_seen
            self._shown = {}
            self._largest_spread = 0.0
            self.painted_pulse = None
            self.ages.reset()
        if self._changed("session", state.session):
            self._draw_session()
        if self._changed("geometry", state.geometry):
            self.projections.set_geometry(state.geometry)
            self._shown.pop("map", None)
        if self._changed("trial", state.trial):
            self.sweeps.set_trial(state.trial)
            self.bars.set_trial(state.trial)
        if self._changed("pulses", (state.pulses_received, state.maps_received, state.sessions_seen)):
            self.pulses.set_rows(state.pulses)
        current = state.connection(now).kind == "live"
        self.sweeps.set_old(not current)
        self.bars.set_old(not current)
        self._draw_map(now)
        self._draw_status(now)
        self._drawn_at = now
        state.mark_drawn()
        self.drawn.emit()

    def _changed(self, what: str, value: object) -> bool:
        if what in self._shown and (
            self._shown[what] is value or (isinstance(value, tuple) and self._shown[what] == value)
        ):
            return False
        self._shown[what] = value
        return True

    def _draw_session(self) -> None:
        session = self.state.session
        if session is None:
            self.sweeps.set_session([], [], (-10.0, 60.0))
            self.bars.set_session([], 50.0)
        else:
            self.sweeps.set_session(session.muscles, session.window_ms, session.sweep_ms)
            self.bars.set_session(session.muscles, session.floor_uv)
        self._shown.pop("trial", None)

    def _draw_map(self, now: float) -> None:
        standing = self.state.map_standing(now)
        shown = self.state.map if self.state.geometry is not None else None
        if shown is not None:
            finite = shown.spread[np.isfinite(shown.spread)]
            self._largest_spread = max(self._largest_spread, float(finite.max(initial=0.0)))
        high = spread_high(self._largest_spread) if self._quantity == "spread" else 1.0
        scale = ColourScale(self._quantity, high, old=standing.kind == "old")
        if self._changed("map", shown) | self._changed("scale", (scale,)):
            if shown is not None and self.state.geometry is not None and self._quantity == "coil":
                shown = coil_view(shown, self.state.geometry)
            self.projections.set_map(shown, scale)
            if self._quantity == "coil" and shown is not None and shown.computed_v_per_m is None:
                shown = None  # on the cortex, nothing is not to look like no field
            # The 3D view is the slowest by far (without a graphics card): the rest does not wait for it.
            self._cortex_waits = (shown, scale)
            QTimer.singleShot(0, self._draw_cortex)
        self.projections.set_standing(standing)

    def _draw_cortex(self) -> None:
        if self._closed or self._cortex_waits is None:
            return
        (shown, scale), self._cortex_waits = self._cortex_waits, None
        if self._changed("cortex geometry", self.state.geometry):
            self.cortex.set_geometry(self.state.geometry)
        self.cortex.set_map(shown, scale)

    def _draw_status(self, now: float) -> None:
        state = self.state
        age = age_sign(self.ages, old=state.map_standing(now).kind == "old")
        signs = (engine_sign(state, now), pulse_sign(state), confidence_sign(state, now), coil_sign(state, now), age)
        self.head.set_signs(signs, replay=state.session is not None and state.session.replay)
        notice = self._notice if now < self._notice_until else ""
        if not notice and state.last_malformed:
            notice = f"Unreadable message: {state.last_malformed}"
        self.foot.set_figures(figures(state), session_line(state), notice)

    def _map_painted(self, pulse: int) -> None:
        self.painted_pulse = pulse
        self.ages.painted(self.state, pulse, self._now())
        # Not from within the painting of another widget.
        QTimer.singleShot(0, self._after_painting)

    def _after_painting(self) -> None:
        if not self._closed:
            # Painting may have taken long: what came meanwhile is taken first, else it would look like silence.
            self._subscriber.poll(self._now())
            self._draw_status(self._now())
            self.drawn.emit()

    def save_screenshot(self, path: Path | None = None) -> Path | None:
        """Save a screenshot, by default into the working directory; tell where, or why not."""
        if path is None:
            pulse = self.state.trial.header.pulse if self.state.trial is not None else None
            path = Path.cwd() / screenshot_name(pulse, datetime.now())
        try:
            save_screenshot(self, path)
        except M2MError as error:
            logger.error("%s", error)
            self.notify(str(error))
            return None
        self.notify(f"Saved {path}")
        return path

    def notify(self, text: str) -> None:
        """Show a notice at the foot for a few seconds."""
        self._notice, self._notice_until = text, self._now() + NOTICE_S
        QTimer.singleShot(0, self.tick)

    def toggle_quantity(self) -> None:
        """Show the spread in place of the field, or the field again."""
        self._quantity = "field" if self._quantity == "spread" else "spread"
        self.draw()

    def toggle_coil_field(self) -> None:
        """Show the field computed from the tracked coil in place of the estimate, or the estimate again."""
        self._quantity = "field" if self._quantity == "coil" else "coil"
        self.draw()

    def toggle_logarithmic(self) -> None:
        """Change the axis of the amplitudes."""
        self.bars.set_logarithmic(not self.bars.logarithmic)

    def reset_view(self) -> None:
        """Look at the cortex as at the start, and fit the scales to what is shown."""
        self._largest_spread = 0.0
        self.cortex.reset_view()
        self.bars.reset_axis()
        self.draw()

    def toggle_full_screen(self) -> None:
        """Fill the screen, or stop doing so."""
        self.setWindowState(self.windowState() ^ Qt.WindowState.WindowFullScreen)

    def closeEvent(self, event: QCloseEvent) -> None:
        """Let go of the socket."""
        self._closed = True
        self._tick_timer.stop()
        self._frame_timer.stop()
        self._notifier.setEnabled(False)
        self._subscriber.close()
        super().closeEvent(event)

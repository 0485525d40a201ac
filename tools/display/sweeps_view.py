"""The EMG of all muscles around the last pulse, each with its MEP window, its own scale and its status."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QLineF, QPointF, QRectF
from PySide6.QtGui import QColor, QPainter, QPen

from tools.display import theme
from tools.display.paint import CENTER, RIGHT, Panel, draw_text, line, text_width
from tools.display.received import ReceivedTrial
from tools.display.scales import linear_ticks, nice_ceil, nice_floor
from tools.display.words import amplitude_text, invalid_reason, minus, status_words

SHOWN_BEFORE_MS = 10.0
"""The display starts this long before the pulse, whatever the sweep holds; a baseline needs no more room."""

SMALLEST_RANGE_UV = 100.0
"""Half of the vertical range of a muscle at rest, so that noise looks like noise."""

AXIS_PX = 40.0
"""Room for the time axis."""

LABEL_PX = 21.0
"""Room for a muscle's name and amplitude above its trace."""


class SweepsView(Panel):
    """The EMG sweeps of one trial in a grid, down the columns in the order of the muscles."""

    def __init__(self) -> None:
        super().__init__("EMG sweeps")
        self._muscles: list[str] = []
        self._window_ms: list[tuple[float, float]] = []
        self._trial: ReceivedTrial | None = None
        self._range_ms = (-SHOWN_BEFORE_MS, 60.0)
        self._old = False

    def set_session(
        self, muscles: Sequence[str], window_ms: Sequence[Sequence[float]], sweep_ms: Sequence[float]
    ) -> None:
        """Say which muscles there are, with each one's MEP window and the sweep's extent, ms after the pulse."""
        self._muscles = list(muscles)
        self._window_ms = [(begin, end) for begin, end in window_ms]
        begin_ms, end_ms = sweep_ms
        self._range_ms = (max(begin_ms, -SHOWN_BEFORE_MS) if end_ms > 0.0 else begin_ms, end_ms)
        self._trial = None
        self._describe()

    def set_trial(self, trial: ReceivedTrial | None) -> None:
        """Show a trial."""
        self._trial = trial
        self._describe()

    def set_old(self, old: bool) -> None:
        """Draw the sweeps as not current."""
        if old != self._old:
            self._old = old
            self.update()

    def _describe(self) -> None:
        trial = self._trial
        if trial is None:
            self.set_caption("")
            text = "no pulse yet"
        elif not trial.header.valid:
            reason = invalid_reason(trial.header.reasons)
            self.set_caption(f"Pulse {trial.header.pulse} INVALID", theme.RED)
            text = f"pulse {trial.header.pulse} INVALID: {reason}"
        else:
            self.set_caption(f"Pulse {trial.header.pulse}")
            told = [
                f"{name} {amplitude_text(float(uv))} {status_words(status)[0]}"
                for name, uv, status in zip(self._muscles, trial.mep_uv, trial.header.status, strict=False)
            ]
            text = f"pulse {trial.header.pulse}: " + "; ".join(told)
        self.setAccessibleDescription(text)
        self.update()

    def paint_content(self, painter: QPainter, rect: QRectF) -> None:
        """Paint the grid, its time axes and, for an invalid trial, why there is nothing to see."""
        n = len(self._muscles)
        if n == 0:
            draw_text(painter, rect, "No session yet", colour=theme.TEXT_DIM, align=CENTER)
            return
        columns = max(1, math.ceil(n / 5)) if n <= 20 else math.ceil(n / 8)
        rows = math.ceil(n / columns)
        gap = 14.0
        width = (rect.width() - gap * (columns - 1)) / columns
        height = (rect.height() - AXIS_PX) / rows
        for index in range(n):
            column, row = divmod(index, rows)
            cell = QRectF(rect.left() + column * (width + gap), rect.top() + row * height, width, height - 4.0)
            self._paint_muscle(painter, cell, index)
        for column in range(columns):
            filled = min(n - column * rows, rows)
            if filled > 0:
                left, top = rect.left() + column * (width + gap), rect.top() + filled * height - 4.0
                self._paint_axis(painter, QRectF(left, top, width, AXIS_PX))
        trial = self._trial
        if trial is not None and not trial.header.valid:
            self._paint_invalid(painter, rect, trial)

    def _x(self, cell: QRectF, ms: float) -> float:
        low, high = self._range_ms
        return cell.left() + (ms - low) / (high - low) * cell.width()

    def _paint_muscle(self, painter: QPainter, cell: QRectF, index: int) -> None:
        low, high = self._range_ms
        begin, end = self._window_ms[index]
        plot = cell.adjusted(0.0, LABEL_PX, 0.0, 0.0)
        x0, x1 = self._x(plot, max(begin, low)), self._x(plot, min(end, high))
        painter.fillRect(QRectF(x0, plot.top(), x1 - x0, plot.height()), QColor(theme.WINDOW_SHADE))
        x_pulse = self._x(plot, 0.0)
        line(painter, QPointF(x_pulse, plot.top()), QPointF(x_pulse, plot.bottom()), theme.PULSE_LINE, 1.0, dashed=True)

        label = QRectF(cell.left(), cell.top(), cell.width(), LABEL_PX)
        draw_text(painter, label, self._muscles[index], bold=True)
        trial = self._trial
        if trial is None or not trial.header.valid:
            return
        sweep = trial.sweep_uv[index]
        half_uv = self._half_range(sweep, trial, (begin, end))
        self._paint_trace(painter, plot, sweep, trial, half_uv)
        self._paint_onset(painter, plot, float(trial.onset_ms[index]))
        self._paint_scale(painter, plot, half_uv)
        words, tone = status_words(trial.header.status[index])
        uv = float(trial.mep_uv[index])
        colour = theme.TEXT_DIM if self._old or tone == "calm" else theme.TEXT
        draw_text(painter, label, amplitude_text(uv), colour=colour, align=RIGHT)
        if tone != "good":
            width = min(text_width(words, theme.SMALL_PX) + 8.0, plot.width())
            status = QRectF(plot.right() - width, plot.top(), width, 18.0)
            painter.fillRect(status, QColor(theme.PANEL))
            draw_text(painter, status, words, colour=theme.TONES[tone], size_px=theme.SMALL_PX, align=CENTER)

    def _half_range(self, sweep: NDArray[np.floating], trial: ReceivedTrial, window: tuple[float, float]) -> float:
        # The artefact is larger than any MEP and says nothing: the scale follows the MEP window.
        ms = trial.header.sweep_start_ms + np.arange(len(sweep)) * 1000.0 / trial.header.rate_hz
        inside = sweep[(ms >= window[0]) & (ms <= window[1]) & np.isfinite(sweep)]
        largest = float(np.abs(inside).max()) if inside.size else 0.0
        return nice_ceil(max(largest * 1.05, SMALLEST_RANGE_UV))

    def _paint_trace(
        self, painter: QPainter, cell: QRectF, sweep: NDArray[np.floating], trial: ReceivedTrial, half_uv: float
    ) -> None:
        low, high = self._range_ms
        ms = trial.header.sweep_start_ms + np.arange(len(sweep)) * 1000.0 / trial.header.rate_hz
        shown = (ms >= low) & (ms <= high)
        x = cell.left() + (ms - low) / (high - low) * cell.width()
        middle, half_height = cell.center().y(), cell.height() / 2.0 - 1.0
        y = middle - sweep.astype(np.float64) / half_uv * half_height
        painter.save()
        painter.setClipRect(cell)
        painter.setPen(QPen(QColor(theme.TRACE_OLD if self._old else theme.TRACE), 1.5))
        good = shown & np.isfinite(y)
        for run in np.split(np.flatnonzero(good), np.flatnonzero(np.diff(np.flatnonzero(good)) > 1) + 1):
            # Beyond the cell only the direction matters; unbounded coordinates make the painter slow.
            clipped = np.clip(y[run], cell.top() - 50.0, cell.bottom() + 50.0).tolist()
            points = [QPointF(right, down) for right, down in zip(x[run].tolist(), clipped, strict=True)]
            # Single lines: Qt's stroker takes five times as long for a polyline of this width.
            painter.drawLines([QLineF(a, b) for a, b in pairwise(points)])
        painter.restore()

    def _paint_onset(self, painter: QPainter, plot: QRectF, onset_ms: float) -> None:
        low, high = self._range_ms
        if low <= onset_ms <= high:  # never for NaN: no onset was found
            x = self._x(plot, onset_ms)
            line(painter, QPointF(x, plot.bottom() - 10.0), QPointF(x, plot.bottom()), theme.SKY, 2.5)

    def _paint_scale(self, painter: QPainter, cell: QRectF, half_uv: float) -> None:
        value = nice_floor(half_uv * 0.75)
        length = value / half_uv * (cell.height() / 2.0 - 1.0)
        x, bottom = cell.left() + 2.0, cell.bottom() - 2.0
        text = f"{value / 1000.0:g} mV" if value >= 1000.0 else f"{value:g} µV"
        # At the left only the artefact can lie below it, never an MEP.
        where = QRectF(x + 3.0, bottom - 16.0, text_width(text, theme.SMALL_PX) + 6.0, 16.0)
        painter.fillRect(where, QColor(theme.PANEL))
        draw_text(painter, where, text, colour=theme.YELLOW, size_px=theme.SMALL_PX, align=CENTER)
        line(painter, QPointF(x, bottom), QPointF(x, bottom - length), theme.YELLOW, 2.5)

    def _paint_axis(self, painter: QPainter, rect: QRectF) -> None:
        low, high = self._range_ms
        line(painter, rect.topLeft(), rect.topRight(), theme.GRID)
        for tick in linear_ticks(low, high, 5):
            x = self._x(rect, tick)
            line(painter, QPointF(x, rect.top()), QPointF(x, rect.top() + 4.0), theme.TEXT_DIM)
            text = minus(f"{tick:g}")
            half = text_width(text, theme.SMALL_PX) / 2.0 + 1.0
            x = min(max(x, rect.left() + half), rect.right() - half)
            where = QRectF(x - half, rect.top() + 4.0, 2.0 * half, 16.0)
            draw_text(painter, where, text, colour=theme.TEXT_DIM, size_px=theme.SMALL_PX, align=CENTER)
        where = QRectF(rect.left(), rect.top() + 20.0, rect.width(), 17.0)
        draw_text(painter, where, "ms after the pulse", colour=theme.TEXT_DIM, size_px=theme.SMALL_PX, align=CENTER)

    def _paint_invalid(self, painter: QPainter, rect: QRectF, trial: ReceivedTrial) -> None:
        box = QRectF(rect.left(), rect.center().y() - 48.0, rect.width(), 96.0)
        painter.fillRect(box, QColor(theme.BACKGROUND))
        text = f"Pulse {trial.header.pulse} is INVALID"
        draw_text(painter, box.adjusted(0, 8, 0, -44), text, colour=theme.RED, size_px=26, bold=True, align=CENTER)
        why = invalid_reason(trial.header.reasons)
        draw_text(painter, box.adjusted(0, 50, 0, -10), why, size_px=theme.LARGE_PX, align=CENTER)

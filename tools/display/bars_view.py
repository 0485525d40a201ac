"""The MEP amplitude of every muscle as a bar, with the floor below which a response counts as none."""

import math

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QBrush, QColor, QPainter, QPen

from tools.display import theme
from tools.display.paint import CENTER, RIGHT, Panel, draw_text, line, text_width
from tools.display.received import ReceivedTrial
from tools.display.scales import decade_ticks, linear_ticks, nice_ceil
from tools.display.words import amplitude_text, invalid_reason, status_words

LOG_LOW_UV = 10.0
"""Left end of the logarithmic axis: below lies only noise."""

LOG_HIGH_UV = 10_000.0
"""Its right end, unless an amplitude exceeds it."""

LINEAR_HIGH_UV = 500.0
"""Smallest right end of the linear axis."""

AXIS_PX = 42.0


class BarsView(Panel):
    """MEP amplitudes of one trial."""

    def __init__(self) -> None:
        super().__init__("MEP amplitude")
        self.logarithmic = True
        self._muscles: list[str] = []
        self._floor_uv = 50.0
        self._trial: ReceivedTrial | None = None
        self._old = False
        self._largest_uv = 0.0
        self._describe()

    def set_session(self, muscles: list[str], floor_uv: float) -> None:
        """Say which muscles there are and below which amplitude a response counts as none."""
        self._muscles, self._floor_uv = list(muscles), floor_uv
        self._trial = None
        self._largest_uv = 0.0
        self._describe()

    def set_trial(self, trial: ReceivedTrial | None) -> None:
        """Show a trial."""
        self._trial = trial
        if trial is not None and trial.header.valid:
            # The axis only grows within a session: bars of successive pulses can be compared by eye.
            finite = [float(uv) for uv in trial.mep_uv if math.isfinite(uv)]
            self._largest_uv = max([self._largest_uv, *finite])
        self._describe()

    def set_old(self, old: bool) -> None:
        """Draw the bars as not current."""
        if old != self._old:
            self._old = old
            self.update()

    def set_logarithmic(self, logarithmic: bool) -> None:
        """Choose the axis."""
        self.logarithmic = logarithmic
        self._describe()

    def reset_axis(self) -> None:
        """Fit the linear axis to the trial shown."""
        self._largest_uv = 0.0
        self.set_trial(self._trial)

    @property
    def high_uv(self) -> float:
        """Right end of the axis."""
        if self.logarithmic:
            return max(LOG_HIGH_UV, 10.0 ** math.ceil(math.log10(max(self._largest_uv, 1.0))))
        return nice_ceil(max(self._largest_uv, LINEAR_HIGH_UV))

    def _describe(self) -> None:
        axis = "logarithmic" if self.logarithmic else "linear"
        trial = self._trial
        if trial is not None and not trial.header.valid:
            self.set_caption(f"Pulse {trial.header.pulse} INVALID", theme.RED)
        else:
            self.set_caption(f"{axis} axis [L]")
        self.setAccessibleDescription(f"{axis} axis, floor {self._floor_uv:g} µV")
        self.update()

    def _x(self, plot: QRectF, uv: float) -> float:
        if self.logarithmic:
            low, high = math.log10(LOG_LOW_UV), math.log10(self.high_uv)
            part = (math.log10(max(uv, LOG_LOW_UV)) - low) / (high - low)
        else:
            part = uv / self.high_uv
        return plot.left() + min(max(part, 0.0), 1.0) * plot.width()

    def paint_content(self, painter: QPainter, rect: QRectF) -> None:
        """Paint axis, floor and bars."""
        if not self._muscles:
            draw_text(painter, rect, "No session yet", colour=theme.TEXT_DIM, align=CENTER)
            return
        names_px = max(text_width(name, theme.NORMAL_PX, bold=True) for name in self._muscles) + 10.0
        values_px = 84.0
        plot = rect.adjusted(names_px, 0.0, -values_px, -AXIS_PX)
        self._paint_axis(painter, plot)
        height = plot.height() / len(self._muscles)
        floor_x = self._x(plot, self._floor_uv)
        for index, name in enumerate(self._muscles):
            row = QRectF(rect.left(), plot.top() + index * height, rect.width(), height)
            draw_text(painter, QRectF(row.left(), row.top(), names_px, height), name, bold=True)
            line(painter, QPointF(floor_x, row.top()), QPointF(floor_x, row.bottom()), theme.YELLOW, 1.0)
            self._paint_bar(painter, row, plot, index)
        trial = self._trial
        if trial is not None and not trial.header.valid:
            text = invalid_reason(trial.header.reasons)
            middle = QRectF(plot.left(), plot.center().y() - 18.0, plot.width(), 36.0)
            painter.fillRect(middle, QColor(theme.BACKGROUND))
            draw_text(painter, middle, text, colour=theme.RED, size_px=theme.LARGE_PX, bold=True, align=CENTER)

    def _paint_axis(self, painter: QPainter, plot: QRectF) -> None:
        ticks = decade_ticks(LOG_LOW_UV, self.high_uv) if self.logarithmic else linear_ticks(0.0, self.high_uv, 5)
        top = plot.bottom() + 4.0
        for tick in ticks:
            x = self._x(plot, tick)
            line(painter, QPointF(x, plot.top()), QPointF(x, top), theme.GRID)
            where = QRectF(x - 40.0, top, 80.0, 17.0)
            draw_text(painter, where, f"{tick:,.0f}", colour=theme.TEXT_DIM, size_px=theme.SMALL_PX, align=CENTER)
        x = self._x(plot, self._floor_uv)
        line(painter, QPointF(x, plot.bottom()), QPointF(x, top + 20.0), theme.YELLOW, 1.5)
        text = f"floor {self._floor_uv:g} µV"
        half = text_width(text, theme.SMALL_PX) / 2.0 + 2.0
        where = QRectF(max(x - half, plot.left()), top + 18.0, 2.0 * half, 18.0)
        draw_text(painter, where, text, colour=theme.YELLOW, size_px=theme.SMALL_PX, align=CENTER)
        where = QRectF(where.right() + 12.0, top + 18.0, plot.right() - where.right() - 12.0, 18.0)
        draw_text(painter, where, "µV peak to peak", colour=theme.TEXT_DIM, size_px=theme.SMALL_PX, align=RIGHT)

    def _paint_bar(self, painter: QPainter, row: QRectF, plot: QRectF, index: int) -> None:
        trial = self._trial
        if trial is None or not trial.header.valid:
            return
        uv = float(trial.mep_uv[index])
        words, tone = status_words(trial.header.status[index])
        bar = QRectF(plot.left(), row.top() + row.height() * 0.14, 0.0, row.height() * 0.72)
        if math.isfinite(uv):
            bar.setRight(self._x(plot, uv))
            colour = QColor(theme.TRACE_OLD)
            if not self._old and uv >= self._floor_uv:
                colour = QColor(theme.SKY if tone in ("good", "calm") else theme.TONES[tone])
            hatched = tone in ("warn", "bad")
            painter.fillRect(bar, QBrush(colour, Qt.BrushStyle.BDiagPattern if hatched else Qt.BrushStyle.SolidPattern))
            if hatched:
                painter.setPen(QPen(colour, 1.0))
                painter.setBrush(Qt.BrushStyle.NoBrush)
                painter.drawRect(bar)
        value = QRectF(plot.right() + 6.0, row.top(), row.right() - plot.right() - 6.0, row.height())
        draw_text(painter, value, amplitude_text(uv), colour=theme.TEXT_DIM if self._old else theme.TEXT, align=RIGHT)
        line_x = self._x(plot, self._floor_uv)
        if bar.right() > line_x:  # the floor is to be seen on the bars too
            line(painter, QPointF(line_x, bar.top()), QPointF(line_x, bar.bottom()), theme.PANEL, 1.0)
        if tone != "good":
            width = text_width(words, theme.SMALL_PX) + 8.0
            beside = QRectF(min(bar.right() + 5.0, plot.right() - width), row.top() + 2.0, width, row.height() - 4.0)
            painter.fillRect(beside, QColor(theme.PANEL))
            draw_text(painter, beside, words, colour=theme.TONES[tone], size_px=theme.SMALL_PX, align=CENTER)

"""The bars at the window's head and foot: signs to be seen from afar, and figures to be read from near."""

from collections.abc import Sequence

from PySide6.QtCore import QPointF, QRectF
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QWidget

from tools.display import theme
from tools.display.paint import RIGHT, draw_chip, draw_text, line, text_width
from tools.display.status import Figure, Sign

HEAD_PX = 96
FOOT_PX = 78
KEYS = (
    "[S] screenshot   [F] field / spread   [C] coil's own field   [L] log / linear   [R] reset view   "
    "[F11] full screen   [Q] quit"
)


class HeadBar(QWidget):
    """Engine, last pulse, confidence, the coil's own field, age of the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(HEAD_PX)
        self.signs: list[Sign] = []
        self.replay = False

    def set_signs(self, signs: Sequence[Sign], replay: bool) -> None:
        """Show these signs; the first stands at the left, with most room."""
        if list(signs) != self.signs or replay != self.replay:
            self.signs, self.replay = list(signs), replay
            told = "; ".join(f"{sign.label}: {sign.word} {sign.detail}".strip() for sign in signs)
            self.setAccessibleDescription(told + ("; REPLAY" if replay else ""))
            self.setToolTip(told.replace("; ", "\n"))
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the signs side by side."""
        with QPainter(self) as painter:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            self._paint(painter)

    def _paint(self, painter: QPainter) -> None:
        lost = bool(self.signs) and self.signs[0].tone == "bad"
        painter.fillRect(self.rect(), QColor("#431d15" if lost else theme.BACKGROUND))
        if not self.signs:
            return
        parts = (0.26, 0.2, 0.22, 0.175, 0.145)
        left = 12.0
        for index, (sign, part) in enumerate(zip(self.signs, parts, strict=False)):
            width = part * (self.width() - 12.0)
            rect = QRectF(left, 6.0, width - 18.0, self.height() - 10.0)
            if index:
                line(painter, QPointF(left - 12.0, 14.0), QPointF(left - 12.0, self.height() - 14.0), theme.PANEL_EDGE)
            self._paint_sign(painter, rect, sign, first=index == 0)
            left += width

    def _paint_sign(self, painter: QPainter, rect: QRectF, sign: Sign, first: bool) -> None:
        colour = theme.TONES[sign.tone]
        label = QRectF(rect.left(), rect.top(), rect.width(), 18.0)
        draw_text(painter, label, sign.label, colour=theme.TEXT_DIM, size_px=theme.SMALL_PX)
        middle = rect.top() + 39.0
        if first or sign.tone in ("warn", "bad"):
            right = draw_chip(painter, rect.left(), middle, sign.word, colour, 24)
            if first and self.replay:
                draw_chip(painter, right + 12.0, middle, "REPLAY", theme.PURPLE, 24)
        else:
            word = QRectF(rect.left(), middle - 22.0, rect.width(), 44.0)
            plain = theme.TEXT_DIM if sign.tone == "calm" else theme.TEXT
            draw_text(painter, word, sign.word, colour=plain, size_px=theme.HUGE_PX, bold=True)
        detail = QRectF(rect.left(), rect.top() + 62.0, rect.width(), 22.0)
        draw_text(painter, detail, sign.detail)


class FootBar(QWidget):
    """Figures, the session's name, the keys."""

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(FOOT_PX)
        self.figures: list[Figure] = []
        self.session_line = ""
        self.notice = ""

    def set_figures(self, figures: Sequence[Figure], session_line: str, notice: str) -> None:
        """Show these figures, and below them the session's name or a notice, and the keys."""
        if (list(figures), session_line, notice) != (self.figures, self.session_line, self.notice):
            self.figures, self.session_line, self.notice = list(figures), session_line, notice
            told = [f"{figure.label}: {figure.value}" for figure in figures]
            self.setAccessibleDescription("; ".join([*told, session_line, notice, KEYS]))
            self.setToolTip("\n".join([*told, session_line]))
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the figures side by side, each as wide as it needs."""
        with QPainter(self) as painter:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            self._paint(painter)

    def _paint(self, painter: QPainter) -> None:
        painter.fillRect(self.rect(), QColor(theme.BACKGROUND))
        width = self.width() - 24.0
        needs = [max(text_width(f.value, theme.NORMAL_PX), text_width(f.label, theme.SMALL_PX)) for f in self.figures]
        spare = (width - sum(needs)) / max(len(needs) - 1, 1)
        squeeze = 1.0 if spare >= 14.0 else (width - 14.0 * (len(needs) - 1)) / max(sum(needs), 1.0)
        left = 12.0
        for figure, need in zip(self.figures, needs, strict=True):
            room = need * squeeze
            label, value = QRectF(left, 4.0, room, 18.0), QRectF(left, 21.0, room, 22.0)
            draw_text(painter, label, figure.label, colour=theme.TEXT_DIM, size_px=theme.SMALL_PX)
            colour = theme.TEXT if figure.tone == "good" else theme.TONES[figure.tone]
            draw_text(painter, value, figure.value, colour=colour)
            left += room + max(min(spare, 60.0), 14.0)
        keys_px = text_width(KEYS, theme.SMALL_PX) + 4.0
        low = QRectF(12.0, 50.0, width, 20.0)
        line(painter, QPointF(12.0, 47.0), QPointF(self.width() - 12.0, 47.0), theme.PANEL_EDGE)
        draw_text(painter, low, KEYS, colour=theme.TEXT_DIM, size_px=theme.SMALL_PX, align=RIGHT)
        said, colour = (self.notice, theme.YELLOW) if self.notice else (self.session_line, theme.TEXT_DIM)
        draw_text(painter, low.adjusted(0, 0, -keys_px - 16.0, 0), said, colour=colour, size_px=theme.SMALL_PX)

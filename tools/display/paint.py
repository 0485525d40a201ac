"""What every panel of the window is made of: a framed ground with a title and a caption, and text in a few sizes."""

from functools import cache

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QWidget

from tools.display import theme

TITLE_PX = 34.0
"""Height of a panel's title row."""

MARGIN_PX = 12.0

LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
CENTER = Qt.AlignmentFlag.AlignCenter


@cache
def font(size_px: int, bold: bool = False) -> QFont:
    """Return the window's typeface."""
    made = QFont()
    made.setFamilies(theme.FONT_FAMILIES)
    made.setPixelSize(size_px)
    if bold:
        made.setWeight(QFont.Weight.DemiBold)
    return made


@cache
def _metrics(size_px: int, bold: bool) -> QFontMetricsF:
    return QFontMetricsF(font(size_px, bold))


def text_width(text: str, size_px: int, bold: bool = False) -> float:
    """Return the width of a text in pixels."""
    return _metrics(size_px, bold).horizontalAdvance(text)


def draw_text(
    painter: QPainter,
    rect: QRectF,
    text: str,
    *,
    colour: str = theme.TEXT,
    size_px: int = theme.NORMAL_PX,
    bold: bool = False,
    align: Qt.AlignmentFlag = LEFT,
) -> None:
    """Draw one line of text inside a rectangle, cut with an ellipsis where it does not fit."""
    painter.setFont(font(size_px, bold))
    painter.setPen(QColor(colour))
    fitting = _metrics(size_px, bold).elidedText(text, Qt.TextElideMode.ElideRight, rect.width() + 0.5)
    painter.drawText(rect, align, fitting)


def draw_chip(painter: QPainter, left: float, middle: float, text: str, colour: str, size_px: int) -> float:
    """Draw a text on a ground of its own.

    Parameters
    ----------
    painter
        Where.
    left, middle
        Left edge and vertical middle, pixels.
    text, colour, size_px
        What.

    Returns
    -------
    float
        The right edge.
    """
    width = text_width(text, size_px, bold=True) + size_px * 1.1
    rect = QRectF(left, middle - size_px * 0.85, width, size_px * 1.7)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(colour))
    painter.drawRoundedRect(rect, 5.0, 5.0)
    draw_text(painter, rect, text, colour=theme.INK_ON_TONE, size_px=size_px, bold=True, align=CENTER)
    return rect.right()


def line(painter: QPainter, a: QPointF, b: QPointF, colour: str, width: float = 1.0, dashed: bool = False) -> None:
    """Draw a line."""
    pen = QPen(QColor(colour), width)
    if dashed:
        pen.setStyle(Qt.PenStyle.DashLine)
    painter.setPen(pen)
    painter.drawLine(a, b)


class Panel(QWidget):
    """A framed ground with a title at its left and a caption at its right.

    Parameters
    ----------
    title
        What the panel shows.
    """

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title
        self.caption = ""
        self.caption_colour = theme.TEXT_DIM
        self.setAccessibleName(title)

    def set_caption(self, text: str, colour: str = theme.TEXT_DIM) -> None:
        """Say at the right of the title what is shown just now."""
        if (text, colour) != (self.caption, self.caption_colour):
            self.caption, self.caption_colour = text, colour
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint ground, title, caption and content."""
        with QPainter(self) as painter:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(QPen(QColor(theme.PANEL_EDGE), 1.0))
            painter.setBrush(QColor(theme.PANEL))
            painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), 6.0, 6.0)
            inner = QRectF(self.rect()).adjusted(MARGIN_PX, 4.0, -MARGIN_PX, -MARGIN_PX)
            title = QRectF(inner.left(), inner.top(), inner.width(), TITLE_PX)
            draw_text(painter, title, self.title, size_px=theme.LARGE_PX, bold=True)
            taken = text_width(self.title, theme.LARGE_PX, bold=True) + 16.0
            draw_text(painter, title.adjusted(taken, 0, 0, 0), self.caption, colour=self.caption_colour, align=RIGHT)
            self.paint_content(painter, inner.adjusted(0, TITLE_PX, 0, 0))

    def paint_content(self, painter: QPainter, rect: QRectF) -> None:
        """Paint what the panel shows into `rect`; panels made of widgets leave it."""

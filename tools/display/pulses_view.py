"""The list of the last pulses: which, valid or why not, and the muscle that answered most."""

from collections.abc import Sequence

from PySide6.QtCore import QRectF
from PySide6.QtGui import QColor, QPainter

from tools.display import theme
from tools.display.paint import CENTER, RIGHT, Panel, draw_text
from tools.display.state import PulseRow
from tools.display.words import amplitude_text

ROW_PX = 26.0


def result_text(row: PulseRow) -> tuple[str, str]:
    """Return what became of a pulse, and the colour of that text."""
    if not row.valid:
        return f"INVALID: {row.reason}", theme.RED
    if row.confidence == "low":
        return "low confidence", theme.ORANGE
    if row.confidence == "ok":
        return "valid", theme.GREEN
    return "valid, no map yet", theme.TEXT_DIM


class PulsesView(Panel):
    """The last pulses, the newest on top."""

    def __init__(self) -> None:
        super().__init__("Last pulses")
        self._rows: list[PulseRow] = []

    def set_rows(self, rows: Sequence[PulseRow]) -> None:
        """Show these pulses, the newest first."""
        self._rows = list(rows)
        self.setAccessibleDescription(
            "; ".join(f"{r.pulse} {result_text(r)[0]} {r.muscle}".strip() for r in self._rows)
        )
        self.update()

    def paint_content(self, painter: QPainter, rect: QRectF) -> None:
        """Paint as many rows as fit."""
        if not self._rows:
            draw_text(painter, rect, "No pulse yet", colour=theme.TEXT_DIM, align=CENTER)
            return
        columns = (0.0, 64.0, rect.width() - 176.0, rect.width() - 92.0, rect.width())

        def cell(row_top: float, column: int) -> QRectF:
            left, right = columns[column], columns[column + 1]
            return QRectF(rect.left() + left, row_top, right - left - 8.0, ROW_PX)

        for column, name in enumerate(("Pulse", "Result", "Largest", "MEP")):
            align = RIGHT if column == 3 else None
            where = cell(rect.top(), column)
            if align is None:
                draw_text(painter, where, name, colour=theme.TEXT_DIM, size_px=theme.SMALL_PX)
            else:
                draw_text(painter, where, name, colour=theme.TEXT_DIM, size_px=theme.SMALL_PX, align=align)
        top = rect.top() + ROW_PX
        for index, row in enumerate(self._rows):
            if top + ROW_PX > rect.bottom() + 1.0:
                break
            if index == 0:
                painter.fillRect(QRectF(rect.left() - 4, top, rect.width() + 8, ROW_PX), QColor(theme.PANEL_EDGE))
            text, colour = result_text(row)
            draw_text(painter, cell(top, 0), str(row.pulse), bold=index == 0)
            where = cell(top, 1)
            if not row.valid:
                where.setRight(rect.right())
            draw_text(painter, where, text, colour=colour)
            if row.valid:
                draw_text(painter, cell(top, 2), row.muscle, bold=True)
                draw_text(painter, cell(top, 3).adjusted(-12, 0, 0, 0), amplitude_text(row.mep_uv), align=RIGHT)
            top += ROW_PX

"""The BA4 map: three maximum-intensity projections in scanner space, the centre of gravity, and the colour bar."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPointF, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QImage, QPainter, QPaintEvent, QPen, QTransform

from rt_engine.field.projection import (
    AXIS_ENDS,
    AXIS_NAMES,
    PLANE_AXES,
    Plane,
    Projection,
    covariance_ellipse,
    make_projection,
)
from tools.display import theme
from tools.display.colours import ColourScale, Quantity
from tools.display.paint import CENTER, RIGHT, Panel, draw_text, line
from tools.display.received import ReceivedGeometry, ReceivedMap
from tools.display.scales import linear_ticks
from tools.display.state import MapStanding
from tools.display.words import computed_field_reason, minus

PLANES: tuple[Plane, ...] = ("sagittal", "coronal", "axial")
AXIS_LEFT_PX, AXIS_BOTTOM_PX = 54.0, 40.0
PLANE_TITLE_PX = 26.0
GAP_PX = 10.0
BAND_PX = 30.0
"""Room for the band that says that a map is old."""

SCALE_PX = 92.0
"""Room for the colour bar and its labels."""

TITLES: dict[Quantity, str] = {"field": "BA4 map", "spread": "BA4 map: spread", "coil": "The coil's own field"}

SCALE_WORDS: dict[Quantity, str] = {
    "field": "E-field",
    "spread": "Spread (1 SD)",
    "coil": "Coil's E-field",
}

UNKNOWN_GREY = 58
"""BA4 before there is a map, of 255."""

BORDER_MM = 3.0
"""Shown around the voxels of BA4."""


class ProjectionsView(Panel):
    """A map seen from three sides."""

    painted = Signal(int)
    """A newly shown map's pulse, once it has been painted."""

    def __init__(self) -> None:
        super().__init__(TITLES["field"])
        self.scale = ColourScale()
        self.standing = MapStanding("none", "")
        self._geometry: ReceivedGeometry | None = None
        self._projections: dict[Plane, Projection] = {}
        self._pictures: dict[Plane, QImage] = {}
        self._bar = QImage()
        self._map: ReceivedMap | None = None
        self._unpainted: int | None = None

    def set_geometry(self, geometry: ReceivedGeometry | None) -> None:
        """Say where the voxels are."""
        self._geometry = geometry
        self._projections = {}
        if geometry is not None:
            for plane in PLANES:
                self._projections[plane] = make_projection(geometry.voxel, geometry.affine, plane)
        self.set_map(None, self.scale)

    def set_map(self, shown: ReceivedMap | None, scale: ColourScale) -> None:
        """Show a map in the colours of a scale."""
        # Another view of the same map is no new map: its age has been told.
        if shown is not None and (self._map is None or shown.header is not self._map.header):
            self._unpainted = shown.header.pulse
        self._map, self.scale, self.title = shown, scale, TITLES[scale.quantity]
        values = None
        if shown is not None:
            values = shown.spread if scale.quantity == "spread" else shown.field
            if not np.isfinite(values).any():
                values = None
        self._pictures = {plane: _image(p, values, scale) for plane, p in self._projections.items()}
        table = np.ascontiguousarray(scale.table)
        self._bar = QImage(table.data, 256, 1, 3 * 256, QImage.Format.Format_RGB888).copy()
        self.setAccessibleDescription("; ".join([self.scale_text, self.peak_text(), *self.cog_lines()]))
        self.update()

    def set_standing(self, standing: MapStanding) -> None:
        """Say whether the map belongs to the last pulse."""
        if standing != self.standing:
            self.standing = standing
            self.set_caption("" if standing.kind == "old" else standing.text)
            self.update()

    @property
    def scale_text(self) -> str:
        """What the colour bar measures."""
        volts = f"{self._map.header.scale_v_per_m:.4g} V/m" if self._map is not None else "? V/m"
        return f"{SCALE_WORDS[self.scale.quantity]}, normalised (1 = {volts})"

    def peak_text(self) -> str:
        """Return the map's largest value."""
        shown = self._map
        if shown is None:
            return ""
        values = shown.spread if self.scale.quantity == "spread" else shown.field
        if not np.isfinite(values).any():
            reason = computed_field_reason(shown.header.computed_field_reason)
            return reason.capitalize() if self.scale.quantity == "coil" else "Peak not known"
        peak = float(np.nanmax(values))
        return f"Peak {peak:.2f} = {peak * shown.header.scale_v_per_m:.0f} V/m"

    def cog_lines(self) -> list[str]:
        """Return where the CoG is, one line per axis; none if it is not known."""
        shown = self._map
        if shown is None or not np.isfinite(shown.cog_mm).all():
            return []
        sd = np.sqrt(np.maximum(np.diag(shown.cog_cov_mm2), 0.0))
        errors = [f" \u00b1 {error:.1f}" if math.isfinite(error) else "" for error in sd.tolist()]
        return [
            f"{name} {minus(f'{value:.1f}')}{error} mm"
            for name, value, error in zip(AXIS_NAMES, shown.cog_mm.tolist(), errors, strict=True)
        ]

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint, and tell once that a new map can be seen."""
        super().paintEvent(event)
        if self._unpainted is not None:
            pulse, self._unpainted = self._unpainted, None
            self.painted.emit(pulse)

    def paint_content(self, painter: QPainter, rect: QRectF) -> None:
        """Paint the three planes, to one scale and edge to edge, the CoG in figures, and the colour bar below."""
        if not self._projections:
            draw_text(painter, rect, "No geometry yet", colour=theme.TEXT_DIM, align=CENTER)
            return
        if self.standing.kind == "old":
            band = QRectF(rect.left(), rect.top(), rect.width(), BAND_PX)
            painter.fillRect(band, QColor(theme.ORANGE))
            text = self.standing.text
            draw_text(painter, band, text, colour=theme.INK_ON_TONE, size_px=theme.LARGE_PX, bold=True, align=CENTER)
        rect = rect.adjusted(0.0, BAND_PX, 0.0, 0.0)
        extents = {plane: self._extent(self._projections[plane]) for plane in PLANES}
        x_mm, z_mm = extents["coronal"][2] - extents["coronal"][0], extents["coronal"][3] - extents["coronal"][1]
        y_mm = extents["sagittal"][2] - extents["sagittal"][0]
        room_x = rect.width() - 2.0 * AXIS_LEFT_PX - GAP_PX
        room_y = rect.height() - SCALE_PX - 2.0 * (PLANE_TITLE_PX + AXIS_BOTTOM_PX)
        px_per_mm = max(min(room_x / (x_mm + y_mm), room_y / (z_mm + y_mm)), 0.1)
        spare_x = room_x - (x_mm + y_mm) * px_per_mm
        spare_y = room_y - (z_mm + y_mm) * px_per_mm
        left = rect.left() + AXIS_LEFT_PX + spare_x / 2.0
        top = rect.top() + PLANE_TITLE_PX + spare_y / 3.0
        right = left + x_mm * px_per_mm + GAP_PX + AXIS_LEFT_PX
        below = top + z_mm * px_per_mm + AXIS_BOTTOM_PX + PLANE_TITLE_PX + spare_y / 3.0
        corners: dict[Plane, tuple[float, float]] = {
            "coronal": (left, top),
            "sagittal": (right, top),
            "axial": (left, below),
        }
        for plane, (x, y) in corners.items():
            x0, y0, x1, y1 = extents[plane]
            frame = QRectF(x, y, (x1 - x0) * px_per_mm, (y1 - y0) * px_per_mm)
            self._paint_plane(painter, frame, plane, px_per_mm)
        facts = QRectF(right - AXIS_LEFT_PX + 8.0, below, rect.right() - right + AXIS_LEFT_PX - 8.0, y_mm * px_per_mm)
        self._paint_facts(painter, facts)
        self._paint_scale(painter, QRectF(rect.left(), rect.bottom() - SCALE_PX, rect.width(), SCALE_PX))

    @staticmethod
    def _extent(projection: Projection) -> tuple[float, float, float, float]:
        (x0, y0), (x1, y1) = projection.low_mm, projection.high_mm
        return x0 - BORDER_MM, y0 - BORDER_MM, x1 + BORDER_MM, y1 + BORDER_MM

    def _paint_plane(self, painter: QPainter, frame: QRectF, plane: Plane, px_per_mm: float) -> None:
        projection = self._projections[plane]
        x0, y0, x1, y1 = self._extent(projection)
        painter.fillRect(frame, QColor(theme.BACKGROUND))

        def at(x_mm: float, y_mm: float) -> QPointF:
            return QPointF(frame.left() + (x_mm - x0) * px_per_mm, frame.bottom() - (y_mm - y0) * px_per_mm)

        (left, low), (right, high) = projection.low_mm, projection.high_mm
        target = QRectF(at(left, high), at(right, low))
        painter.drawImage(target, self._pictures[plane])
        title = QRectF(frame.left(), frame.top() - PLANE_TITLE_PX, frame.width(), PLANE_TITLE_PX)
        draw_text(painter, title, plane.capitalize(), bold=True)
        self._paint_axes(painter, frame, plane, at, (x0, y0, x1, y1))
        if self._map is not None:
            self._paint_cog(painter, frame, plane, at, px_per_mm)

    def _paint_axes(
        self, painter: QPainter, frame: QRectF, plane: Plane, at: Any, extent: tuple[float, float, float, float]
    ) -> None:
        right, up = PLANE_AXES[plane]
        x0, y0, x1, y1 = extent
        painter.setPen(QPen(QColor(theme.GRID), 1.0))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(frame)
        for tick in linear_ticks(x0, x1, 4):
            p = at(tick, y0)
            line(painter, p, p + QPointF(0, 4), theme.TEXT_DIM)
            where = QRectF(p.x() - 24, p.y() + 4, 48, 16)
            draw_text(painter, where, minus(f"{tick:g}"), colour=theme.TEXT_DIM, size_px=theme.SMALL_PX, align=CENTER)
        for tick in linear_ticks(y0, y1, 4):
            p = at(x0, tick)
            line(painter, p, p - QPointF(4, 0), theme.TEXT_DIM)
            where = QRectF(p.x() - 46, p.y() - 8, 40, 16)
            draw_text(painter, where, minus(f"{tick:g}"), colour=theme.TEXT_DIM, size_px=theme.SMALL_PX, align=RIGHT)
        below = QRectF(frame.left(), frame.bottom() + 19, frame.width(), 17)
        x_name, y_name = f"{AXIS_NAMES[right]} (mm)", f"{AXIS_NAMES[up]} (mm)"
        draw_text(painter, below, x_name, colour=theme.TEXT_DIM, size_px=theme.SMALL_PX, align=CENTER)
        painter.save()
        painter.translate(frame.left() - AXIS_LEFT_PX + 8, frame.center().y())
        painter.rotate(-90.0)
        along = QRectF(-frame.height() / 2.0, -9.0, frame.height(), 18.0)
        draw_text(painter, along, y_name, colour=theme.TEXT_DIM, size_px=theme.SMALL_PX, align=CENTER)
        painter.restore()
        middle = frame.center()
        for text, x, y in (
            (AXIS_ENDS[right][0], frame.left() + 11, middle.y()),
            (AXIS_ENDS[right][1], frame.right() - 11, middle.y()),
            (AXIS_ENDS[up][1], middle.x(), frame.top() + 11),
            (AXIS_ENDS[up][0], middle.x(), frame.bottom() - 11),
        ):
            box = QRectF(x - 9, y - 10, 18, 20)
            painter.fillRect(box, QColor(16, 19, 23, 190))
            draw_text(painter, box, text, colour=theme.ORANGE, bold=True, align=CENTER)

    def _paint_cog(self, painter: QPainter, frame: QRectF, plane: Plane, at: Any, px_per_mm: float) -> None:
        shown = self._map
        if shown is None or not np.isfinite(shown.cog_mm).all():
            return
        right, up = PLANE_AXES[plane]
        center = at(float(shown.cog_mm[right]), float(shown.cog_mm[up]))
        painter.save()
        painter.setClipRect(frame)
        ellipse = covariance_ellipse(shown.cog_cov_mm2, plane)
        for colour, width in ((theme.COG_HALO, 5.0), (theme.COG, 2.0)):
            painter.setPen(QPen(QColor(colour), width))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            arm = 9.0
            painter.drawLine(center - QPointF(arm, 0), center + QPointF(arm, 0))
            painter.drawLine(center - QPointF(0, arm), center + QPointF(0, arm))
            if ellipse is not None:
                large, small, angle = ellipse
                painter.save()
                painter.setTransform(QTransform().translate(center.x(), center.y()).rotate(-angle), combine=True)
                painter.drawEllipse(QPointF(0, 0), large * px_per_mm, small * px_per_mm)
                painter.restore()
        painter.restore()

    def _paint_facts(self, painter: QPainter, rect: QRectF) -> None:
        top = rect.top() - PLANE_TITLE_PX
        draw_text(painter, QRectF(rect.left(), top, rect.width(), PLANE_TITLE_PX), "Centre of gravity", bold=True)
        top += PLANE_TITLE_PX
        colour = theme.TEXT_DIM if self.scale.old else theme.TEXT
        for text in self.cog_lines() or ["not known"]:
            where = QRectF(rect.left(), top, rect.width(), 28.0)
            draw_text(painter, where, text, colour=colour, size_px=theme.LARGE_PX)
            top += 28.0
        space = self._geometry.header.space.partition(":")[0] if self._geometry is not None else ""
        made = "from pose and intensity" if self.scale.quantity == "coil" else "\u00b1 1 SD; ellipse: 95 %"
        for text in (made, "each pixel: maximum", f"in {space}"):
            where = QRectF(rect.left(), top, rect.width(), 20.0)
            draw_text(painter, where, text, colour=theme.TEXT_DIM, size_px=theme.SMALL_PX)
            top += 20.0
        draw_text(painter, QRectF(rect.left(), top + 4.0, rect.width(), 24.0), self.peak_text(), colour=colour)

    def _paint_scale(self, painter: QPainter, rect: QRectF) -> None:
        head = QRectF(rect.left(), rect.top(), rect.width(), 24.0)
        draw_text(painter, head, self.scale_text, bold=True)
        keys = "[F] spread  [C] coil"
        draw_text(painter, head, keys, colour=theme.TEXT_DIM, size_px=theme.SMALL_PX, align=RIGHT)
        bar = QRectF(rect.left() + 28.0, head.bottom() + 4.0, rect.width() - 56.0, 22.0)
        painter.drawImage(bar, self._bar)
        painter.setPen(QPen(QColor(theme.GRID), 1.0))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(bar)
        volts = self._map.header.scale_v_per_m if self._map is not None else math.nan
        for tick in linear_ticks(0.0, self.scale.high, 5):
            x = bar.left() + tick / self.scale.high * bar.width()
            line(painter, QPointF(x, bar.bottom()), QPointF(x, bar.bottom() + 4.0), theme.TEXT_DIM)
            draw_text(painter, QRectF(x - 40.0, bar.bottom() + 5.0, 80.0, 18.0), f"{tick:.3g}", align=CENTER)
            if math.isfinite(volts):
                where = QRectF(x - 40.0, bar.bottom() + 23.0, 80.0, 18.0)
                text = f"{tick * volts:.3g}" if x < bar.right() - 1.0 else f"{tick * volts:.3g} V/m"
                draw_text(painter, where, text, colour=theme.TEXT_DIM, size_px=theme.SMALL_PX, align=CENTER)


def _image(projection: Projection, values: NDArray[np.floating[Any]] | None, scale: ColourScale) -> QImage:
    if values is None:
        picture = projection.project(np.zeros(projection.n_voxels))
        rgb = np.full((*picture.shape, 3), UNKNOWN_GREY, dtype=np.uint8)
    else:
        picture = projection.project(values)
        rgb = scale.rgb(picture)
    alpha = np.where(np.isnan(picture), 0, 255).astype(np.uint8)
    rgba = np.ascontiguousarray(np.dstack([rgb, alpha]))
    rows, columns = picture.shape
    image = QImage(rgba.data, columns, rows, 4 * columns, QImage.Format.Format_RGBA8888)
    # A copy, since the array goes; premultiplied, since the painter would convert it each time.
    return image.convertToFormat(QImage.Format.Format_ARGB32_Premultiplied)

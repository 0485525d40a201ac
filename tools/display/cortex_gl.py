"""The cortex in three dimensions, drawn with OpenGL: the bare surface in grey, BA4 in the colours of the map.

Imported only where OpenGL has been found to work (`screen.opengl_problem`).
"""

import numpy as np
import pyqtgraph.opengl as gl  # type: ignore[import-untyped]
from numpy.typing import NDArray
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen, QResizeEvent, QSurfaceFormat, QVector3D
from PySide6.QtWidgets import QWidget

from rt_engine.field.projection import AXIS_ENDS
from tools.display import theme
from tools.display.colours import ColourScale
from tools.display.paint import CENTER, LEFT, draw_text
from tools.display.received import ReceivedGeometry, ReceivedMap
from tools.display.surface import Picture, make_picture

COG_RADIUS_MM = 2.0
FIELD_OF_VIEW_DEG = 32.0
ELEVATION_DEG = 42.0
BEHIND_DEG = 28.0
"""The view comes from the side and this much from behind: BA4 is the front wall of the central sulcus."""

UNKNOWN_GREY = 0.32
"""BA4 before there is a map."""


class _Overlay(QWidget):
    """What lies on top of the 3D view.

    A widget of its own, since what is painted into an OpenGL widget with QPainter is missing in `QWidget.grab`.
    """

    def __init__(self, view: "CortexGL") -> None:
        super().__init__(view)
        self._view = view
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setAttribute(Qt.WidgetAttribute.WA_NoSystemBackground)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint what the view says."""
        with QPainter(self) as painter:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            self._view.paint_overlay(painter)


class CortexGL(gl.GLViewWidget):
    """Cortex, map and CoG; turned with the mouse.

    Parameters
    ----------
    software
        Whether the processor draws in place of a graphics card: then the picture is coarser, but there in time.
    """

    _overlay: _Overlay | None = None  # the base class's __init__ calls `update` already

    def __init__(self, software: bool) -> None:
        super().__init__()
        self._overlay = _Overlay(self)
        wanted = QSurfaceFormat(self.format())
        wanted.setSamples(1 if software else 4)
        self.setFormat(wanted)
        self.setBackgroundColor(theme.PANEL)
        # Keys belong to the window.
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._geometry: ReceivedGeometry | None = None
        self._surface: gl.GLMeshItem | None = None
        self._points: gl.GLScatterPlotItem | None = None
        self._picture: Picture | None = None
        self._center = np.zeros(3)
        self._extent_mm = 60.0
        self._cog_mm: NDArray[np.float64] | None = None
        ball = gl.MeshData.sphere(rows=12, cols=16, radius=COG_RADIUS_MM)
        up = ball.vertexes()[:, 2] / COG_RADIUS_MM
        ball.setVertexColors(np.repeat((0.8 + 0.2 * up)[:, None], 4, axis=1).astype(np.float32).clip(0.0, 1.0))
        self._ball = gl.GLMeshItem(meshdata=ball, smooth=True, computeNormals=False)
        self._ball.setVisible(False)
        self.addItem(self._ball)
        self.reset_view()

    def set_geometry(self, geometry: ReceivedGeometry | None) -> None:
        """Take the cortex of a new geometry; without a surface, BA4's voxels stand as points."""
        for item in (self._surface, self._points):
            if item is not None:
                self.removeItem(item)
        self._surface = self._points = self._picture = None
        self._geometry = geometry
        if geometry is not None:
            voxel_mm = geometry.voxel_mm
            self._center = voxel_mm.mean(axis=0)
            self._extent_mm = float(np.ptp(voxel_mm, axis=0).max())
            if geometry.has_surface:
                size = float(np.linalg.norm(geometry.affine[:3, :3], axis=0).mean())
                left = geometry.header.hemisphere != "right"
                self._picture = make_picture(geometry.vertices, geometry.triangles, voxel_mm, size, left)
                self._surface = gl.GLMeshItem(smooth=True, computeNormals=False)
                self.addItem(self._surface)
            else:
                self._points = gl.GLScatterPlotItem(pos=voxel_mm.astype(np.float32), size=1.0, pxMode=False)
                self._points.setGLOptions("opaque")
                self.addItem(self._points)
        self.reset_view()
        self.set_map(None, ColourScale())

    def set_map(self, shown: ReceivedMap | None, scale: ColourScale) -> None:
        """Show a map in the colours of a scale."""
        values = None
        if shown is not None:
            values = shown.spread if scale.quantity == "spread" else shown.field
        if self._surface is not None and self._picture is not None:
            picture = self._picture
            colours = np.ones((len(picture.grey), 4), dtype=np.float32)
            colours[:, :3] = picture.grey[:, None]
            vertex, share = picture.mapping.vertex, picture.mapping.share[:, None]
            base = np.full((len(vertex), 3), UNKNOWN_GREY)
            if values is not None:
                base = scale.rgb(picture.mapping.values(values)) / 255.0
            # Only a hint of shade: a colour must still be found on the colour bar.
            base = base * (0.72 + 0.28 * picture.light[vertex])[:, None]
            colours[vertex, :3] = share * base + (1.0 - share) * picture.grey[vertex, None]
            mesh = gl.MeshData(
                vertexes=picture.vertices, faces=picture.triangles.astype(np.uint32), vertexColors=colours
            )
            self._surface.setMeshData(meshdata=mesh)
        elif self._points is not None and self._geometry is not None:
            rgba = np.ones((self._geometry.n_voxels, 4), dtype=np.float32)
            rgba[:, :3] = UNKNOWN_GREY if values is None else scale.rgb(values) / 255.0
            self._points.setData(color=rgba)
        known = shown is not None and bool(np.isfinite(shown.cog_mm).all())
        self._cog_mm = shown.cog_mm if shown is not None and known else None
        self._ball.setVisible(known)
        if self._cog_mm is not None:
            self._ball.resetTransform()
            self._ball.translate(*self._cog_mm.tolist())
        self.update()

    def reset_view(self) -> None:
        """Look at BA4 from the side, from above and a little from behind."""
        right = self._geometry is not None and self._geometry.header.hemisphere == "right"
        self.setCameraParams(
            center=QVector3D(*self._center.tolist()),
            distance=self._extent_mm * 2.4,
            fov=FIELD_OF_VIEW_DEG,
            elevation=ELEVATION_DEG,
            azimuth=360.0 - BEHIND_DEG if right else 180.0 + BEHIND_DEG,
        )
        self.update()

    def update(self) -> None:
        """Ask for a new picture, of what lies on top too."""
        super().update()
        if self._overlay is not None:
            self._overlay.update()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keep what lies on top as large as the picture."""
        super().resizeEvent(event)
        if self._overlay is not None:
            self._overlay.resize(self.size())

    def paint_overlay(self, painter: QPainter) -> None:
        """Paint the axes and where the CoG is."""
        if self._geometry is not None:
            self._paint_axes(painter)
            self._paint_cog(painter)

    def _paint_axes(self, painter: QPainter) -> None:
        view = self.viewMatrix()
        center, length = QPointF(62.0, self.height() - 62.0), 34.0
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(16, 19, 23, 190))
        painter.drawEllipse(center, 58.0, 58.0)
        arms = []
        for axis, (low, high) in enumerate(AXIS_ENDS):
            unit = QVector3D(*(1.0 if i == axis else 0.0 for i in range(3)))
            seen = view.mapVector(unit)
            arms += [(seen.z(), seen, high, theme.ORANGE), (-seen.z(), -seen, low, theme.TEXT_DIM)]
        for _, seen, letter, colour in sorted(arms, key=lambda arm: arm[0]):
            tip = center + QPointF(seen.x(), -seen.y()) * length
            painter.setPen(QPen(QColor(colour), 2.5 if colour == theme.ORANGE else 1.0))
            painter.drawLine(center, tip)
            where = center + QPointF(seen.x(), -seen.y()) * (length + 12.0)
            box = QRectF(where.x() - 10, where.y() - 10, 20, 20)
            draw_text(painter, box, letter, colour=colour, bold=colour == theme.ORANGE, align=CENTER)

    def _paint_cog(self, painter: QPainter) -> None:
        if self._cog_mm is None:
            return
        viewport = self.getViewport()
        clip = self.projectionMatrix(viewport, viewport) * self.viewMatrix()
        seen = clip.map(QVector3D(*self._cog_mm.tolist()))
        x, y = (seen.x() + 1.0) / 2.0 * self.width(), (1.0 - seen.y()) / 2.0 * self.height()
        painter.setBrush(Qt.BrushStyle.NoBrush)
        for colour, width in ((theme.COG_HALO, 4.5), (theme.COG, 2.0)):
            painter.setPen(QPen(QColor(colour), width))
            painter.drawEllipse(QPointF(x, y), 13.0, 13.0)
        box = QRectF(x + 18, y - 11, 46, 22)
        painter.fillRect(box, QColor(16, 19, 23, 190))
        draw_text(painter, box.adjusted(5, 0, 0, 0), "CoG", bold=True, align=LEFT)

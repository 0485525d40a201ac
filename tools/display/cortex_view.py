"""The panel of the 3D view; where OpenGL cannot start, it says what is missing instead."""

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel, QVBoxLayout

from tools.display import theme
from tools.display.colours import ColourScale
from tools.display.paint import MARGIN_PX, TITLE_PX, Panel
from tools.display.received import ReceivedGeometry, ReceivedMap
from tools.display.screen import OpenGL

if TYPE_CHECKING:
    from tools.display.cortex_gl import CortexGL as CortexWidget

HELP = "drag: turn   wheel: zoom   [R] reset"


class CortexView(Panel):
    """The cortex in three dimensions.

    Parameters
    ----------
    opengl
        Whether there is OpenGL, and if not, why.
    """

    def __init__(self, opengl: OpenGL) -> None:
        super().__init__("Cortex")
        self._gl: CortexWidget | None = None
        box = QVBoxLayout(self)
        margin = int(MARGIN_PX)
        box.setContentsMargins(margin, int(TITLE_PX) + 6, margin, margin)
        if not opengl.problem:
            from tools.display import cortex_gl  # only here: its import needs OpenGL

            self._gl = cortex_gl.CortexGL(opengl.software)
            box.addWidget(self._gl)
            self.set_caption(HELP)
            self.setAccessibleDescription("3D view, no geometry yet")
        else:
            told = QLabel(f"No 3D view\n\n{opengl.problem}\n\nEverything else works without it.")
            told.setWordWrap(True)
            told.setAlignment(Qt.AlignmentFlag.AlignCenter)
            told.setStyleSheet(f"background: {theme.PANEL}; color: {theme.TEXT_DIM};")
            box.addWidget(told)
            self.setAccessibleDescription(told.text())

    def set_geometry(self, geometry: ReceivedGeometry | None) -> None:
        """Take the cortex of a new geometry."""
        if self._gl is None:
            return
        self._gl.set_geometry(geometry)
        if geometry is None:
            told = "3D view, no geometry yet"
        else:
            shown = "cortex surface" if geometry.has_surface else "BA4 voxels (the engine sent no surface)"
            told = f"3D view of {geometry.header.subject}, {geometry.header.hemisphere} hemisphere, {shown}"
        self.setAccessibleDescription(told)

    def set_map(self, shown: ReceivedMap | None, scale: ColourScale) -> None:
        """Show a map in the colours of a scale."""
        if self._gl is None:
            return
        self._gl.set_map(shown, scale)
        if scale.old and shown is not None:
            self.set_caption(f"OLD map, of pulse {shown.header.pulse}", theme.ORANGE)
        else:
            self.set_caption(HELP)

    def reset_view(self) -> None:
        """Look at BA4 as at the start."""
        if self._gl is not None:
            self._gl.reset_view()

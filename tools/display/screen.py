"""Is there a screen, is there Qt, is there OpenGL? Asked first, since Qt's own answer is to abort the process."""

import ctypes
import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from rt_engine.errors import M2MError

INSTALL = "pip install 'm2m-live[display]'"
DEBIAN_LIBRARIES = (
    "sudo apt-get install libegl1 libgl1 libdbus-1-3 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1"
)
XCB_PLUGIN = Path("Qt", "plugins", "platforms", "libqxcb.so")


def check_packages() -> None:
    """Make sure that Qt and pyqtgraph can be imported.

    Raises
    ------
    M2MError
        If they cannot; says what to install.
    """
    missing = [name for name in ("PySide6", "pyqtgraph") if importlib.util.find_spec(name) is None]
    if missing:
        raise M2MError(f"the live window needs {' and '.join(missing)}; install m2m-live[display]: {INSTALL}")
    try:
        importlib.import_module("PySide6.QtWidgets")
        importlib.import_module("PySide6.QtOpenGLWidgets")
    except ImportError as error:
        raise M2MError(f"Qt cannot be loaded ({error}); on Debian or Ubuntu: {DEBIAN_LIBRARIES}") from error
    _refuse_qt_that_destroys_none()


def _refuse_qt_that_destroys_none() -> None:
    # PySide6 6.12.0 counts on the immortal None of Python 3.12: on 3.11 each call of a method without a result takes a
    # reference from None, and after some thousand calls the interpreter aborts.
    import PySide6
    from PySide6.QtCore import QSize

    size, before = QSize(), sys.getrefcount(None)
    for _ in range(50):
        size.setWidth(1)
    if before - sys.getrefcount(None) > 25:
        raise M2MError(
            f"PySide6 {PySide6.__version__} corrupts Python {sys.version_info[0]}.{sys.version_info[1]} (it miscounts "
            "None) and would abort the window; install another: pip install 'PySide6-Essentials<6.12'"
        )


def check_screen() -> None:
    """Make sure that Qt will find a screen (Linux; elsewhere there always is one).

    Raises
    ------
    M2MError
        If there is none, it does not answer, or a library to talk to it is missing.
    """
    if not sys.platform.startswith("linux") or os.environ.get("QT_QPA_PLATFORM", "xcb").split(":")[0] != "xcb":
        return
    display = os.environ.get("DISPLAY", "")
    if not display:
        if os.environ.get("WAYLAND_DISPLAY") and "QT_QPA_PLATFORM" not in os.environ:
            return
        raise M2MError(
            "there is no screen: neither DISPLAY nor WAYLAND_DISPLAY is set. Start the window on a desktop (or with "
            "ssh -X), or set QT_QPA_PLATFORM=offscreen to take a screenshot without a screen (then without the 3D view)"
        )
    _load_xcb_plugin()
    problem = _x_server_problem()
    if problem:
        raise M2MError(f"the screen DISPLAY={display!r} {problem}. Start the window on a desktop or with ssh -X")


def _load_xcb_plugin() -> None:
    spec = importlib.util.find_spec("PySide6")
    if spec is None or spec.origin is None:
        return
    plugin = Path(spec.origin).with_name(XCB_PLUGIN.parts[0]).joinpath(*XCB_PLUGIN.parts[1:])
    if not plugin.exists():  # a Qt of the system's own: its packages bring their libraries
        return
    try:
        ctypes.CDLL(str(plugin))
    except OSError as error:
        raise M2MError(f"Qt cannot talk to the screen ({error}); on Debian or Ubuntu: {DEBIAN_LIBRARIES}") from error


def _x_server_problem() -> str | None:
    try:
        xcb = ctypes.CDLL("libxcb.so.1")
    except OSError:
        return None
    xcb.xcb_connect.restype = ctypes.c_void_p
    xcb.xcb_connection_has_error.argtypes = [ctypes.c_void_p]
    xcb.xcb_disconnect.argtypes = [ctypes.c_void_p]
    connection = xcb.xcb_connect(None, None)
    problem = xcb.xcb_connection_has_error(connection)
    xcb.xcb_disconnect(connection)
    return "does not answer" if problem else None


@dataclass(frozen=True)
class OpenGL:
    """What is known about OpenGL on this screen.

    Attributes
    ----------
    problem
        Why the 3D view cannot start; empty if it can.
    software
        Whether the processor draws in place of a graphics card.
    """

    problem: str = ""
    software: bool = False


def find_opengl() -> OpenGL:
    """Try OpenGL out. Needs a running QGuiApplication."""
    if importlib.util.find_spec("OpenGL") is None:
        return OpenGL(f"The package PyOpenGL is not installed: {INSTALL}")
    from PySide6.QtGui import QGuiApplication, QOffscreenSurface, QOpenGLContext

    context, surface = QOpenGLContext(), QOffscreenSurface()
    surface.create()
    if not context.create() or not context.makeCurrent(surface):
        return OpenGL(
            f"OpenGL cannot start on this screen (Qt platform {QGuiApplication.platformName()!r}). Needed: OpenGL 2.1 "
            "or newer; on Debian or Ubuntu the packages libgl1, libegl1 and libgl1-mesa-dri."
        )
    version = context.format().version()
    try:
        from OpenGL.GL import GL_RENDERER, glGetString  # type: ignore[import-untyped]

        renderer = (glGetString(GL_RENDERER) or b"").decode(errors="replace")
    except Exception as error:  # PyOpenGL looks for its libraries here and has many ways to fail
        return OpenGL(f"PyOpenGL cannot use the OpenGL of this screen: {error}")
    finally:
        context.doneCurrent()
    if version < (2, 1):
        return OpenGL(f"OpenGL 2.1 or newer is needed; this screen has {version[0]}.{version[1]}.")
    return OpenGL(software=any(name in renderer.lower() for name in ("llvmpipe", "softpipe", "swrast")))

"""No screen, no Qt, no OpenGL: said in words before Qt can abort."""

import sys
from typing import Any

import pytest

from rt_engine.errors import M2MError
from tools.display import screen


@pytest.fixture
def no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("missing", ["PySide6", "pyqtgraph"])
def test_without_qt_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(M2MError, match=rf"needs {missing}.*m2m-live\[display\]"):
        screen.check_packages()


def test_the_installed_qt_is_usable(qt_app: Any) -> None:
    screen.check_packages()


def test_a_qt_that_miscounts_none_is_refused_before_it_aborts(qt_app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([5000, 4950])
    monkeypatch.setattr(sys, "getrefcount", lambda _: next(counts))
    with pytest.raises(M2MError, match="miscounts None"):
        screen.check_packages()


@pytest.mark.usefixtures("no_screen")
def test_without_a_screen_it_says_so_and_what_to_do() -> None:
    with pytest.raises(M2MError, match="neither DISPLAY nor WAYLAND_DISPLAY.*QT_QPA_PLATFORM=offscreen"):
        screen.check_screen()


@pytest.mark.usefixtures("no_screen")
def test_a_screen_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch, qt_app: Any) -> None:
    monkeypatch.setenv("DISPLAY", ":98765")
    with pytest.raises(M2MError, match="DISPLAY=':98765' does not answer"):
        screen.check_screen()


@pytest.mark.usefixtures("no_screen")
@pytest.mark.parametrize(("name", "value"), [("WAYLAND_DISPLAY", "wayland-0"), ("QT_QPA_PLATFORM", "offscreen")])
def test_other_screens_are_left_to_qt(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    screen.check_screen()


@pytest.mark.usefixtures("no_screen")
def test_a_screen_that_answers_is_fine(monkeypatch: pytest.MonkeyPatch, x_display: str) -> None:
    monkeypatch.setenv("DISPLAY", x_display)
    screen.check_screen()


def test_without_pyopengl_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "OpenGL", None)
    assert "PyOpenGL is not installed" in screen.find_opengl().problem


def test_where_opengl_cannot_start_the_reason_names_what_is_needed(qt_app: Any) -> None:
    problem = screen.find_opengl().problem
    assert "OpenGL 2.1 or newer" in problem
    assert "offscreen" in problem

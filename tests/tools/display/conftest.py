"""What the window's tests share: a fake engine, Qt without a screen, an X server without a screen."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

# So that the tests here can say `from fake_engine import FakeEngine`.
sys.path.insert(0, str(Path(__file__).parent))

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def qt_app() -> Any:
    """Start Qt in this process, painting into memory, wherever the tests run."""
    widgets = pytest.importorskip("PySide6.QtWidgets", reason="Qt is not installed: the extra [display]")
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    return widgets.QApplication.instance() or widgets.QApplication(["tests"])


@pytest.fixture
def no_hidden_error() -> Iterator[None]:
    """Fail if something was raised where Qt called Python: Qt would print it and go on."""
    seen: list[BaseException] = []

    def note(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
        seen.append(error)

    before, sys.excepthook = sys.excepthook, note
    try:
        yield
    finally:
        sys.excepthook = before
    if seen:
        raise seen[0]


@pytest.fixture
def wait_until(qt_app: Any) -> Callable[..., None]:
    """Let Qt work until a condition holds."""
    from PySide6.QtCore import QEventLoop, QTimer

    def wait(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
        loop = QEventLoop()
        looks, end = QTimer(), QTimer(singleShot=True)
        looks.timeout.connect(lambda: loop.quit() if condition() else None)
        end.timeout.connect(loop.quit)
        looks.start(5)
        end.start(int(timeout_s * 1000.0))
        loop.exec()
        looks.stop()
        assert condition()

    return wait


@pytest.fixture(scope="session")
def x_display() -> Iterator[str]:
    """Start a screen in memory, with OpenGL in software; return its DISPLAY."""
    program = shutil.which("Xvfb")
    if program is None:
        pytest.skip("Xvfb is not installed: the window cannot be shown without a screen (Debian package xvfb)")
    reading, writing = os.pipe()
    # With -displayfd the server picks a free number and tells it when it is ready.
    server = subprocess.Popen(
        [program, "-displayfd", str(writing), "-screen", "0", "1700x1100x24", "-nolisten", "tcp"],
        pass_fds=[writing],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    try:
        with os.fdopen(reading) as told:
            number = told.readline().strip()
        assert number, "Xvfb did not start"
        yield f":{number}"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def start_window() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start `m2m display` as a process; ends those that a test leaves behind."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, display: str | None, platform: str | None = None) -> "subprocess.Popen[str]":
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
            environment.pop(name, None)
        if display is not None:
            environment["DISPLAY"] = display
        if platform is not None:
            environment["QT_QPA_PLATFORM"] = platform
        process = subprocess.Popen(
            [sys.executable, "-m", "tools.display", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()

"""Processes of the `m2m` command, as a user starts them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 240.0


class Command:
    """One `m2m` process with its output in files, so that it can be looked at while it runs."""

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        self._out, self._err = folder / "out", folder / "err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tools.cli", *arguments],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def out(self) -> str:
        """All that was written to stdout so far."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """All that was written to stderr so far."""
        return self._err.read_text()

    @property
    def json(self) -> dict[str, Any]:
        """The object in the last line of stdout."""
        return json.loads(self.out.splitlines()[-1])

    def say(self, line: str) -> None:
        """Write a line to the process."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def wait_for(self, text: str) -> None:
        """Wait until the process has written a text."""
        deadline = time.monotonic() + TIMEOUT_S
        while text not in self.out + self.err:
            assert self.process.poll() is None, f"ended without {text!r}: {self.err}"
            assert time.monotonic() < deadline, f"no {text!r} in {TIMEOUT_S:g} s: {self.err}"
            time.sleep(0.02)

    def end(self) -> int:
        """Wait for the end and return the exit code."""
        return self.process.wait(TIMEOUT_S)


@pytest.fixture
def wait_until() -> Callable[[Callable[[], bool], str], None]:
    """Wait for a condition, which is looked at ten times a second."""

    def wait(condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline, f"waited {TIMEOUT_S:g} s in vain for {what}"
            time.sleep(0.1)

    return wait


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Command]]:
    """Start `m2m` with arguments."""
    made: list[Command] = []

    def run(*arguments: object) -> Command:
        made.append(Command(tmp_path_factory.mktemp("m2m"), [str(argument) for argument in arguments]))
        return made[-1]

    yield run
    for command in made:
        if command.process.poll() is None:
            command.process.kill()
        command.process.wait()
        if command.process.stdin:
            command.process.stdin.close()


@pytest.fixture(scope="session")
def left_sessions(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Give what four sessions left: two killed, one ended, one on a full disk; see `tests.tools.sessions`."""
    from tests.tools.sessions import leave_sessions

    return leave_sessions(tmp_path_factory.mktemp("left"))


@pytest.fixture(scope="session")
def virtual_screen() -> Iterator[str]:
    """Start a screen of 1600 x 1000 that nobody sees; gives its name for DISPLAY."""
    reader, writer = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writer), "-screen", "0", "1600x1000x24", "-nolisten", "tcp"],
        pass_fds=[writer],
        stderr=subprocess.DEVNULL,
    )
    os.close(writer)
    with os.fdopen(reader) as said:  # Xvfb picks a free number and writes it once it is ready
        number = said.readline().strip()
    assert number, "Xvfb did not start"
    yield f":{number}"
    server.terminate()
    server.wait()

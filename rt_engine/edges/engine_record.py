"""The engine's record as an LSL stream, so that one XDF file holds what came in and what was decided."""

import msgspec
import pylsl

from rt_engine.record_events import RECORD_TYPE, Event


class EngineRecord:
    """The outlet that the events leave by.

    Parameters
    ----------
    session
        Identity of the session, part of the stream's source_id.
    """

    def __init__(self, session: str) -> None:
        self.name = f"m2m-engine-{session}"
        info = pylsl.StreamInfo(self.name, RECORD_TYPE, 1, pylsl.IRREGULAR_RATE, pylsl.cf_string, self.name)
        info.set_channel_labels(["event"])
        self._outlet = pylsl.StreamOutlet(info)

    @property
    def heard(self) -> bool:
        """Whether somebody takes the events; who comes later misses those before."""
        return bool(self._outlet.have_consumers())

    def push(self, event: Event) -> None:
        """Send one event, stamped now."""
        self._outlet.push_sample([msgspec.json.encode(event).decode()])

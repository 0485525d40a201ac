"""What leaves the simulated subject: samples, markers, poses and output on their way to the outlets, with faults."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.simulated.fault import Indices, Marker, Outage, Scene
from drivers.simulated.faults import Faults, shown
from drivers.simulated.settings import SAMPLE_RATE_HZ, UV_PER_UNIT, SimulatedSubjectSettings
from drivers.simulated.streams import MARKER, Outlets, emg_layout, open_outlet, open_outlets, stream_identities

Event = dict[str, Any]

Samples = Callable[[int, int], NDArray[np.float32]]
"""Gives the samples from a place up to another, excluded: (n, muscles and trigger)."""


class Delivery:
    """Sends what the feed has made, or what its faults make of it.

    Parameters
    ----------
    settings
        Of the session.
    on_event
        Told when a stream closes (``closed``: ``stream``, ``sample``) and opens again (``opened``, with ``source_id``).
    outlets
        Where to send; default the session's own LSL outlets.

    Attributes
    ----------
    scene : Scene
        What the faults know of the session.
    rate_hz : float
        Samples that the amplifier really takes in a second.
    """

    def __init__(
        self, settings: SimulatedSubjectSettings, on_event: Callable[[Event], None], outlets: Outlets | None = None
    ) -> None:
        self.faults = Faults(settings)
        self.rate_hz = SAMPLE_RATE_HZ / self.faults.slowed
        self._settings = settings
        self._on_event = on_event
        self._layout = self.faults.layout(emg_layout(settings))
        self._outlets = open_outlets(settings, self._layout) if outlets is None else outlets
        self._twins = [open_outlet("emg", settings.feed, self._layout, suffix) for suffix in self.faults.twins]
        self._uv_per_unit = UV_PER_UNIT[settings.emg.unit]
        self._to_come: list[Outage] = []
        self._away: list[Outage] = []
        self.scene = Scene(settings.seed, settings.labels, self._uv_per_unit, np.empty(0, np.int64))

    def ready(self) -> Event:
        """Return the event that says which streams there are and what will go wrong with them."""
        streams = stream_identities(self._settings.feed)
        for number, suffix in enumerate(self.faults.twins):
            streams[f"twin-{number}"] = streams["emg"] | {"source_id": streams["emg"]["source_id"] + suffix}
        return {"event": "ready", "streams": streams, "faults": self.faults.told}

    def begin(self, pulse_sample: Indices) -> list[Marker]:
        """Take note of where the pulses are, and return the markers in the order in which they are handed over."""
        self.scene = dataclasses.replace(self.scene, pulse_sample=pulse_sample)
        self._to_come = self.faults.outages(self.scene)
        delay_s = self._settings.feed.marker_delay_ms / 1000.0
        times = (pulse_sample / self.rate_hz).tolist()
        true = [Marker(pulse, time_s + delay_s, time_s) for pulse, time_s in enumerate(times)]
        sent = [changed for marker in true for changed in self.faults.markers(marker, self.scene)]
        return sorted(sent, key=lambda marker: marker.due_s)

    def values(self, first: int, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what is sent in place of these samples, the first of which is `first`; channels in their own order."""
        return self.faults.values(first, samples, self.scene)

    def emg(self, first: int, last: int, samples: Samples, t0: float) -> None:
        """Send the EMG from `first` up to `last`, excluded.

        Parameters
        ----------
        first, last
            Places in the stream.
        samples
            Gives these samples, and those before them.
        t0
            LSL time of the stream's first sample, s.
        """
        index = self.faults.order(first, last, self.scene)
        lost = [(o.begin, o.end) for o in (*self._to_come, *self._away) if o.role == "emg"]
        for begin, end in lost:
            index = index[(index < begin) | (index >= end)]
        returns = self._until(last)
        before = index < min((outage.end for outage in returns), default=0)
        self._push(index[before], samples, t0)
        self._close(last)
        self._open(returns)
        self._push(index[~before], samples, t0)

    def close(self) -> None:
        """Close all streams, which else live as long as somebody holds this."""
        self._outlets = Outlets(*(_Nobody() for _ in dataclasses.fields(Outlets)))
        self._twins = []

    def _push(self, index: Indices, samples: Samples, t0: float) -> None:
        if index.size == 0:
            return
        begin = int(index.min())
        made = self.values(begin, samples(begin, int(index.max()) + 1))[index - begin]
        block = np.ascontiguousarray(shown(self._layout, made, index, self._uv_per_unit))
        stamps = (t0 + index / self.rate_hz + self.faults.stamp_error_s("emg", index, self.scene)).tolist()
        for outlet in (self._outlets.emg, *self._twins):
            outlet.push_chunk(block, stamps)

    def marker(self, marker: Marker, t0: float) -> None:
        """Send a marker."""
        sample = self.scene.pulse_sample[marker.pulse : marker.pulse + 1]
        error_s = float(self.faults.stamp_error_s("markers", sample, self.scene)[0])
        self._outlets.markers.push_sample([MARKER], t0 + marker.stamp_s + error_s)

    def pose(self, values: list[float], time_s: float, t0: float) -> None:
        """Send a pose of the time `time_s` after the stream's first sample."""
        index = time_s * self.rate_hz
        changed = self.faults.pose(index, values, self.scene)
        if changed is not None:
            error_s = float(self.faults.stamp_error_s("pose", np.array([index]), self.scene)[0])
            self._outlets.pose.push_sample(changed, t0 + time_s + error_s)

    def stimulator(self, values: list[float], sample: int, t0: float) -> None:
        """Send the stimulator's output at a place of the stream."""
        error_s = float(self.faults.stamp_error_s("intensity", np.array([sample]), self.scene)[0])
        self._outlets.stimulator.push_sample(values, t0 + sample / self.rate_hz + error_s)

    def _until(self, last: int) -> list[Outage]:
        """Return the outages that are over before `last`."""
        return [outage for outage in (*self._away, *self._to_come) if outage.end < last]

    def _close(self, last: int) -> None:
        for outage in [outage for outage in self._to_come if outage.begin < last]:
            self._to_come.remove(outage)
            self._away.append(outage)
            self._put(outage.role, _Nobody())  # LSL closes an outlet that nobody holds any more
            self._on_event({"event": "closed", "stream": outage.role, "sample": outage.begin})

    def _open(self, outages: list[Outage]) -> None:
        for outage in outages:
            self._away.remove(outage)
            self._put(outage.role, open_outlet(outage.role, self._settings.feed, self._layout, outage.suffix))
            source_id = stream_identities(self._settings.feed)[outage.role]["source_id"] + outage.suffix
            opened = {"event": "opened", "stream": outage.role, "sample": outage.end, "source_id": source_id}
            self._on_event(opened)

    def _put(self, role: str, outlet: Any) -> None:
        self._outlets = dataclasses.replace(self._outlets, **{"stimulator" if role == "intensity" else role: outlet})


class _Nobody:
    """Takes what is sent while a stream is closed."""

    def push_sample(self, values: list[Any], stamp: float) -> None:
        pass

    def push_chunk(self, samples: NDArray[np.float32], stamps: list[float]) -> None:
        pass

"""What a fault of the simulated subject is: places in the feed where it may change what is sent, and nothing else.

Every fault is a pure function of its parameters, the session's seed and the sample's index, so it strikes the same
samples whatever the blocks in which they are sent. The faults themselves are in the modules `*_faults`, their list in
`faults`.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from drivers.simulated.settings import SAMPLE_RATE_HZ
from rt_engine.errors import SettingsError

Indices = NDArray[np.int64]
"""Places in the EMG stream, counted in samples from its first one."""

Places = Indices | NDArray[np.floating]
"""The same where they may lie between two samples, as those of poses do."""

SWEEP_SAMPLES = (-200, 101)
"""Begin and end of a sweep relative to its pulse, -100 to 50 ms: what a fault touches if it strikes in there."""

EXTRA = -1
"""Stands in `EmgLayout.columns` for a channel that no muscle has."""


def samples_of(ms: float) -> int:
    """Return a time in samples."""
    return round(ms * SAMPLE_RATE_HZ / 1000.0)


@dataclass(frozen=True, eq=False)
class Scene:
    """What a fault may know of the session that it strikes.

    Attributes
    ----------
    seed
        Of the session.
    labels
        Labels of the muscles' channels as they would be without faults; the trigger channel comes behind them.
    uv_per_unit
        Microvolts in one unit of the samples.
    pulse_sample
        (n,) int64, where in the stream the pulses are; empty until the session has begun.
    """

    seed: int
    labels: tuple[str, ...]
    uv_per_unit: float
    pulse_sample: Indices


@dataclass(frozen=True)
class EmgLayout:
    """The channels of the EMG stream, and what its metadata say of them.

    Attributes
    ----------
    labels, units, kinds
        Of each channel.
    columns
        Which of the samples' own columns each channel shows; `EXTRA` for one that is none of them.
    """

    labels: tuple[str, ...]
    units: tuple[str, ...]
    kinds: tuple[str, ...]
    columns: tuple[int, ...]

    @property
    def faithful(self) -> bool:
        """Whether the channels are the samples' columns in their order."""
        return self.columns == tuple(range(len(self.columns)))

    def picked(self, order: list[int]) -> "EmgLayout":
        """Return the channels with these places, in this order."""
        return EmgLayout(
            labels=tuple(self.labels[i] for i in order),
            units=tuple(self.units[i] for i in order),
            kinds=tuple(self.kinds[i] for i in order),
            columns=tuple(self.columns[i] for i in order),
        )

    def with_channel(self, place: int, label: str, unit: str, kind: str, column: int) -> "EmgLayout":
        """Return the channels with one more at `place`."""
        return EmgLayout(
            labels=(*self.labels[:place], label, *self.labels[place:]),
            units=(*self.units[:place], unit, *self.units[place:]),
            kinds=(*self.kinds[:place], kind, *self.kinds[place:]),
            columns=(*self.columns[:place], column, *self.columns[place:]),
        )


@dataclass(frozen=True)
class Marker:
    """One marker on its way.

    Attributes
    ----------
    pulse
        Number of its pulse.
    due_s, stamp_s
        When it is handed over, and what its stamp says; seconds after the stream's first sample.
    """

    pulse: int
    due_s: float
    stamp_s: float

    def moved(self, *, due_s: float = 0.0, stamp_s: float = 0.0) -> "Marker":
        """Return it handed over later, or stamped later, by this many seconds."""
        return replace(self, due_s=self.due_s + due_s, stamp_s=self.stamp_s + stamp_s)


@dataclass(frozen=True)
class Outage:
    """A stream that closes and opens again.

    Attributes
    ----------
    role
        ``emg``, ``markers``, ``pose`` or ``intensity``.
    begin, end
        First sample that is not sent, and the first that is sent again.
    suffix
        What is added to the source_id then.
    """

    role: str
    begin: int
    end: int
    suffix: str


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault; as it stands here it changes nothing. The docstring's first line is its help."""

    name: ClassVar[str] = ""

    def check(self, labels: tuple[str, ...], n_pulses: int) -> None:
        """Refuse parameters that this session cannot have.

        Raises
        ------
        SettingsError
            Naming the fault and what it could have had.
        """

    def moved(self, pulse_sample: Indices) -> Indices:
        """Return when the pulses are given instead; samples from the session's start."""
        return pulse_sample

    def layout(self, layout: EmgLayout) -> EmgLayout:
        """Return the channels that the EMG stream has instead."""
        return layout

    def twins(self) -> tuple[str, ...]:
        """Return what is added to the source_id of each further EMG stream that sends the same."""
        return ()

    def slowed(self) -> float:
        """Return by which factor the amplifier's sample period is longer than it should be."""
        return 1.0

    def stamp_error_s(self, role: str, index: Places, scene: Scene) -> NDArray[np.float64]:
        """Return by how much the stamps of a stream lie at these places; (n,), s."""
        return np.zeros(len(index))

    def values(self, first: int, samples: NDArray[np.float32], scene: Scene) -> NDArray[np.float32]:
        """Return what is sent instead of these samples (n, muscles and trigger), the first of which is `first`."""
        return samples

    def order(self, index: Indices, scene: Scene) -> Indices:
        """Return which samples are sent, and in which order, when it is the turn of these."""
        return index

    def markers(self, marker: Marker, scene: Scene) -> list[Marker]:
        """Return what is sent instead of one marker."""
        return [marker]

    def pose(self, index: float, values: list[float], scene: Scene) -> list[float] | None:
        """Return what is sent instead of a pose (16 numbers and whether it is tracked); None for nothing."""
        return values

    def outages(self, scene: Scene) -> list[Outage]:
        """Return when streams close and open again."""
        return []

    def touches(self, pulse: int, scene: Scene) -> bool:
        """Whether it strikes a pulse, or samples of its sweep."""
        return False


class PulseFault(Fault, frozen=True, kw_only=True):
    """A fault that strikes at one pulse, or at every one."""

    pulse: int | None = None
    """Number of the pulse, from 0; without it every pulse is struck."""

    def check(self, labels: tuple[str, ...], n_pulses: int) -> None:
        """Refuse a pulse that the session does not have."""
        if self.pulse is not None and not 0 <= self.pulse < n_pulses:
            raise SettingsError(
                f"fault {self.name}: pulse={self.pulse}, but the session has the pulses 0 to {n_pulses - 1}"
            )

    def strikes(self, pulse: int) -> bool:
        """Whether this pulse is meant."""
        return self.pulse is None or self.pulse == pulse

    def touches(self, pulse: int, scene: Scene) -> bool:
        """Whether this pulse is meant."""
        return self.strikes(pulse)


class PlacedFault(PulseFault, frozen=True, kw_only=True):
    """A fault that strikes samples at pulses, or some time before or after them."""

    at_ms: float = 0.0
    """When it begins, relative to the pulse."""

    def length_samples(self) -> int:
        """Return how long it lasts each time."""
        return 1

    def spans(self, scene: Scene) -> Indices:
        """Return the places that it strikes, (n, 2): begin and end of each."""
        return _spans(self, scene)

    def touches(self, pulse: int, scene: Scene) -> bool:
        """Whether it strikes samples of a pulse's sweep."""
        begin, end = int(scene.pulse_sample[pulse]) + np.array(SWEEP_SAMPLES)
        spans = self.spans(scene)
        return bool(((spans[:, 0] < end) & (begin < spans[:, 1])).any())


@lru_cache(maxsize=64)  # asked for with every block
def _spans(fault: PlacedFault, scene: Scene) -> Indices:
    struck = scene.pulse_sample if fault.pulse is None else scene.pulse_sample[fault.pulse : fault.pulse + 1]
    begin = struck + samples_of(fault.at_ms)
    return np.stack([begin, begin + fault.length_samples()], axis=1)


def inside(places: Places, spans: Indices) -> NDArray[np.bool_]:
    """Return which of the places, (n,), lie within one of the spans, (k, 2)."""
    found = np.zeros(len(places), np.bool_)
    if len(places) == 0:
        return found
    near = spans[(spans[:, 0] <= places.max()) & (spans[:, 1] > places.min())]
    for begin, end in near.tolist():
        found |= (places >= begin) & (places < end)
    return found

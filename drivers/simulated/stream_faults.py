"""Faults of whole streams: closed and opened again, there twice, other channels or units, a coil that is not seen."""

import math
from dataclasses import replace
from typing import Annotated, Literal

import msgspec
import numpy as np

from drivers.simulated.fault import EXTRA, EmgLayout, Fault, Outage, PlacedFault, Scene, inside, samples_of
from drivers.simulated.random_streams import Purpose, random_stream
from drivers.simulated.sample_faults import require_channel

RESTARTED, TWIN = "-restarted", "-twin"
"""What is added to a source_id that shall be another one."""


class Restart(PlacedFault, frozen=True, kw_only=True):
    """A stream closes and opens again `for_ms` later, under the same or under another source_id."""

    name = "restart"
    pulse: int | None = 1
    at_ms: float = -1500.0
    for_ms: Annotated[float, msgspec.Meta(gt=0.0, le=3.6e6)] = 500.0
    stream: Literal["emg", "markers", "pose", "intensity", "all"] = "emg"
    source_id: Literal["same", "other"] = "same"

    def length_samples(self) -> int:
        """Return how long the stream is away."""
        return max(1, samples_of(self.for_ms))

    def outages(self, scene: Scene) -> list[Outage]:
        """Return when."""
        roles = ("emg", "markers", "pose", "intensity") if self.stream == "all" else (self.stream,)
        suffix = RESTARTED if self.source_id == "other" else ""
        return [Outage(role, begin, end, suffix) for begin, end in self.spans(scene).tolist() for role in roles]


class Twin(Fault, frozen=True, kw_only=True):
    """A second EMG stream of the same name and type, under the same or under another source_id."""

    name = "twin"
    source_id: Literal["same", "other"] = "other"

    def twins(self) -> tuple[str, ...]:
        """Return the one."""
        return (TWIN if self.source_id == "other" else "",)


class LabelFault(Fault, frozen=True, kw_only=True):
    """A fault that needs a channel's name."""

    channel: str = "FDI"

    def check(self, labels: tuple[str, ...], n_pulses: int) -> None:
        """Refuse a channel that is not there."""
        require_channel(self.name, self.channel, labels)


class Renamed(LabelFault, frozen=True, kw_only=True):
    """A channel has another label, `to`."""

    name = "renamed"
    to: str = "EMG 1"

    def layout(self, layout: EmgLayout) -> EmgLayout:
        """Rename it."""
        return replace(layout, labels=tuple(self.to if label == self.channel else label for label in layout.labels))


class Missing(LabelFault, frozen=True, kw_only=True):
    """A channel is not there."""

    name = "missing"

    def layout(self, layout: EmgLayout) -> EmgLayout:
        """Leave it out."""
        return layout.picked([i for i, label in enumerate(layout.labels) if label != self.channel])


class Reordered(Fault, frozen=True, kw_only=True):
    """All channels, the trigger too, stand in another order, drawn by the seed."""

    name = "reordered"
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0

    def layout(self, layout: EmgLayout) -> EmgLayout:
        """Shuffle them."""
        order = random_stream(self.seed, Purpose.FAULT).permutation(len(layout.labels)).tolist()
        return layout.picked(order)


class Extra(Fault, frozen=True, kw_only=True):
    """There is one more channel, `label`, at `place`: a saw-tooth of 1 mV that belongs to no muscle."""

    name = "extra"
    label: str = "AUX"
    place: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0

    def layout(self, layout: EmgLayout) -> EmgLayout:
        """Put it in."""
        return layout.with_channel(min(self.place, len(layout.labels)), self.label, layout.units[0], "AUX", EXTRA)


class WrongUnit(Fault, frozen=True, kw_only=True):
    """The metadata say that the EMG is in `says` (nothing: no unit at all); the samples are in what they were."""

    name = "wrong-unit"
    says: str = "V"

    def layout(self, layout: EmgLayout) -> EmgLayout:
        """Say so for the muscles' channels."""
        pairs = zip(layout.kinds, layout.units, strict=True)
        return replace(layout, units=tuple(self.says if kind == "EMG" else unit for kind, unit in pairs))


class PoseLost(PlacedFault, frozen=True, kw_only=True):
    """The navigation does not see the coil: poses say so, are NaN, or do not come at all."""

    name = "pose-lost"
    at_ms: float = -600.0
    for_ms: Annotated[float, msgspec.Meta(gt=0.0, le=3.6e6)] = 700.0
    how: Literal["untracked", "nan", "silent"] = "untracked"

    def length_samples(self) -> int:
        """Return how long."""
        return max(1, samples_of(self.for_ms))

    def pose(self, index: float, values: list[float], scene: Scene) -> list[float] | None:
        """Lose the coil."""
        if not inside(np.array([index]), self.spans(scene))[0]:
            return values
        if self.how == "silent":
            return None
        if self.how == "nan":
            return [*(math.nan for _ in values[:-1]), 1.0]
        return [*values[:-1], 0.0]

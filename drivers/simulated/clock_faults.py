"""Faults of the clocks: the amplifier's crystal drifts, a computer's clock is set, stamps jitter."""

from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from drivers.simulated.emg import FRAME_SAMPLES
from drivers.simulated.fault import Fault, PlacedFault, Places, Scene, inside, samples_of
from drivers.simulated.random_streams import Purpose, random_stream

LARGEST_JITTER_SD = 4.0
"""Jitter is cut there, so that its bound is known."""


class Drift(Fault, frozen=True, kw_only=True):
    """The amplifier's crystal runs slow (or, below 0, fast): its samples are `ppm` millionths longer."""

    name = "drift"
    ppm: Annotated[float, msgspec.Meta(ge=-20000.0, le=20000.0)] = 100.0

    def slowed(self) -> float:
        """Return the factor."""
        return 1.0 + self.ppm * 1e-6


class ClockStep(PlacedFault, frozen=True, kw_only=True):
    """The clock of the stamps is set forward (or back) once: of all streams, or of the EMG or the markers alone."""

    name = "step"
    pulse: int | None = 1
    at_ms: float = -200.0
    ms: Annotated[float, msgspec.Meta(ge=-3.6e6, le=3.6e6)] = 250.0
    streams: Literal["all", "emg", "markers"] = "all"

    def stamp_error_s(self, role: str, index: Places, scene: Scene) -> NDArray[np.float64]:
        """Return the step for all that comes after it."""
        if self.streams not in ("all", role):
            return np.zeros(len(index))
        steps = np.zeros(len(index))
        for begin in self.spans(scene)[:, 0].tolist():
            steps += np.where(index >= begin, self.ms / 1000.0, 0.0)
        return steps


class Jitter(Fault, frozen=True, kw_only=True):
    """The EMG's stamps jitter: normal with SD `ms`, the same within each packet of `samples`."""

    name = "jitter"
    ms: Annotated[float, msgspec.Meta(gt=0.0, le=1000.0)] = 2.0
    samples: Annotated[int, msgspec.Meta(ge=1, le=FRAME_SAMPLES)] = 8

    def stamp_error_s(self, role: str, index: Places, scene: Scene) -> NDArray[np.float64]:
        """Return an error for each packet, drawn by the packet's number alone."""
        if role != "emg":
            return np.zeros(len(index))
        packet = np.asarray(index, np.int64) // self.samples
        error = np.empty(len(index))
        for frame in np.unique(packet // FRAME_SAMPLES):
            here = packet // FRAME_SAMPLES == frame
            drawn = random_stream(scene.seed, Purpose.FAULT, int(frame)).standard_normal(FRAME_SAMPLES)
            error[here] = drawn[packet[here] % FRAME_SAMPLES]
        return np.clip(error, -LARGEST_JITTER_SD, LARGEST_JITTER_SD) * self.ms / 1000.0


class LateSender(PlacedFault, frozen=True, kw_only=True):
    """For `for_ms` the EMG's stamps are `ms` late, as when the sender was held up and stamped on its return."""

    name = "stamps-late"
    pulse: int | None = 1
    at_ms: float = -60.0
    ms: Annotated[float, msgspec.Meta(gt=0.0, le=1000.0)] = 8.0
    for_ms: Annotated[float, msgspec.Meta(gt=0.0, le=60000.0)] = 40.0

    def length_samples(self) -> int:
        """Return how long it lasts."""
        return max(1, samples_of(self.for_ms))

    def stamp_error_s(self, role: str, index: Places, scene: Scene) -> NDArray[np.float64]:
        """Return the delay where it holds."""
        if role != "emg":
            return np.zeros(len(index))
        return np.where(inside(index, self.spans(scene)), self.ms / 1000.0, 0.0)

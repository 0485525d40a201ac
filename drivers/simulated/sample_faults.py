"""Faults of the samples: lost, sent twice, not a number, clipped, flat; and a trigger that stays low."""

from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from drivers.simulated.emg import FRAME_SAMPLES
from drivers.simulated.fault import Indices, PlacedFault, Scene, inside, samples_of
from rt_engine.errors import SettingsError


class Lost(PlacedFault, frozen=True, kw_only=True):
    """`samples` of the EMG are never sent; the stamps of the others stay true."""

    name = "lost"
    at_ms: float = 20.0
    samples: Annotated[int, msgspec.Meta(ge=1, le=200000)] = 16

    def length_samples(self) -> int:
        """Return how many."""
        return self.samples

    def order(self, index: Indices, scene: Scene) -> Indices:
        """Leave them out."""
        return index[~inside(index, self.spans(scene))]


class Duplicated(PlacedFault, frozen=True, kw_only=True):
    """`samples` of the EMG are sent twice with the same stamps, the second time behind the first."""

    name = "duplicated"
    at_ms: float = 20.0
    samples: Annotated[int, msgspec.Meta(ge=1, le=FRAME_SAMPLES)] = 16

    def length_samples(self) -> int:
        """Return how many."""
        return self.samples

    def order(self, index: Indices, scene: Scene) -> Indices:
        """Put each span once more behind its last sample."""
        spans = self.spans(scene)
        for begin, end in spans[np.isin(spans[:, 1] - 1, index)].tolist():
            place = np.flatnonzero(index == end - 1)
            if place.size:
                index = np.insert(index, int(place[-1]) + 1, np.arange(begin, end))
        return index


class ChannelFault(PlacedFault, frozen=True, kw_only=True):
    """A fault of one channel's samples, or of all muscles' where no channel is named."""

    channel: str = ""
    """Label of the channel, as it is without other faults."""
    for_ms: Annotated[float, msgspec.Meta(gt=0.0, le=3.6e6)] = 0.5

    def check(self, labels: tuple[str, ...], n_pulses: int) -> None:
        """Refuse a channel that is not there."""
        PlacedFault.check(self, labels, n_pulses)
        require_channel(self.name, self.channel, labels)

    def length_samples(self) -> int:
        """Return how long it lasts."""
        return max(1, samples_of(self.for_ms))

    def values(self, first: int, samples: NDArray[np.float32], scene: Scene) -> NDArray[np.float32]:
        """Change the struck samples of the channel."""
        struck = inside(np.arange(first, first + len(samples)), self.spans(scene))
        if not struck.any():
            return samples
        changed = samples.copy()
        first_column = scene.labels.index(self.channel) if self.channel else 0
        columns = slice(first_column, first_column + 1 if self.channel else len(scene.labels))
        changed[struck, columns] = self.instead(changed[struck, columns], scene)
        return changed

    def instead(self, samples: NDArray[np.float32], scene: Scene) -> NDArray[np.float32]:
        """Return what the struck samples become."""
        return samples


class NotANumber(ChannelFault, frozen=True, kw_only=True):
    """Samples are NaN, as some amplifiers send for an electrode that is off."""

    name = "nan"
    at_ms: float = 30.0

    def instead(self, samples: NDArray[np.float32], scene: Scene) -> NDArray[np.float32]:
        """Return NaN."""
        return np.full_like(samples, np.nan)


class Saturated(ChannelFault, frozen=True, kw_only=True):
    """The amplifier clips at `uv` microvolts on both sides."""

    name = "saturated"
    at_ms: float = 10.0
    for_ms: Annotated[float, msgspec.Meta(gt=0.0, le=3.6e6)] = 40.5
    uv: Annotated[float, msgspec.Meta(gt=0.0, le=1e6)] = 40.0

    def instead(self, samples: NDArray[np.float32], scene: Scene) -> NDArray[np.float32]:
        """Return the clipped samples."""
        limit = np.float32(self.uv / scene.uv_per_unit)
        return np.clip(samples, -limit, limit)


class Flat(ChannelFault, frozen=True, kw_only=True):
    """A channel is flat at `uv` microvolts: the electrode is off, or the amplifier at its rail."""

    name = "flat"
    at_ms: float = -150.0
    for_ms: Annotated[float, msgspec.Meta(gt=0.0, le=3.6e6)] = 250.0
    uv: Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)] = 0.0

    def instead(self, samples: NDArray[np.float32], scene: Scene) -> NDArray[np.float32]:
        """Return one value."""
        return np.full_like(samples, self.uv / scene.uv_per_unit)


class TriggerMissing(PlacedFault, frozen=True, kw_only=True):
    """The trigger channel stays low at a pulse; its marker is sent."""

    name = "ttl-missing"
    at_ms: float = -10.0

    def length_samples(self) -> int:
        """Return as long as the trigger may be high."""
        return samples_of(20.0)

    def values(self, first: int, samples: NDArray[np.float32], scene: Scene) -> NDArray[np.float32]:
        """Put the trigger down."""
        struck = inside(np.arange(first, first + len(samples)), self.spans(scene))
        if not struck.any():
            return samples
        changed = samples.copy()
        changed[struck, -1] = 0.0
        return changed


def require_channel(name: str, channel: str, labels: tuple[str, ...]) -> None:
    """Refuse a channel that the stream does not have.

    Raises
    ------
    SettingsError
        With the channels that there are.
    """
    if channel and channel not in labels:
        raise SettingsError(f"fault {name}: there is no channel {channel!r}; the stream has {', '.join(labels)}")

"""Faults of the markers and of the pulses' times: late, early, twice, missing, without a time; bursts and pairs."""

import math
from typing import Annotated

import msgspec

from drivers.simulated.fault import Fault, Indices, Marker, PulseFault, Scene, samples_of
from drivers.simulated.settings import SAMPLE_RATE_HZ
from rt_engine.errors import SettingsError


class MarkerFault(PulseFault, frozen=True, kw_only=True):
    """A fault of a pulse's marker."""

    def markers(self, marker: Marker, scene: Scene) -> list[Marker]:
        """Change the markers of the pulses that are meant."""
        return self.instead(marker) if self.strikes(marker.pulse) else [marker]

    def instead(self, marker: Marker) -> list[Marker]:
        """Return what is sent instead of a marker that is struck."""
        return [marker]


class MarkerLate(MarkerFault, frozen=True, kw_only=True):
    """The marker is handed over `ms` after its pulse, long after its samples; its stamp stays true."""

    name = "marker-late"
    ms: Annotated[float, msgspec.Meta(gt=0.0, le=600000.0)] = 400.0

    def instead(self, marker: Marker) -> list[Marker]:
        """Send it later."""
        return [marker.moved(due_s=self.ms / 1000.0)]


class MarkerEarly(MarkerFault, frozen=True, kw_only=True):
    """The marker is handed over `ms` before its samples, as where the EMG is slow; its stamp stays true."""

    name = "marker-early"
    ms: Annotated[float, msgspec.Meta(gt=0.0, le=2000.0)] = 60.0

    def instead(self, marker: Marker) -> list[Marker]:
        """Send it before its time."""
        return [marker.moved(due_s=-self.ms / 1000.0)]


class MarkerDouble(MarkerFault, frozen=True, kw_only=True):
    """The marker is sent twice, the second time `ms` later; `stamp_ms` is between their stamps."""

    name = "marker-double"
    ms: Annotated[float, msgspec.Meta(ge=0.0, le=60000.0)] = 5.0
    stamp_ms: Annotated[float, msgspec.Meta(ge=0.0, le=60000.0)] = 0.0

    def instead(self, marker: Marker) -> list[Marker]:
        """Send it again."""
        return [marker, marker.moved(due_s=self.ms / 1000.0, stamp_s=self.stamp_ms / 1000.0)]


class MarkerMissing(MarkerFault, frozen=True, kw_only=True):
    """The marker is not sent; the trigger channel rises all the same."""

    name = "marker-missing"

    def instead(self, marker: Marker) -> list[Marker]:
        """Send nothing."""
        return []


class MarkerWithoutTime(MarkerFault, frozen=True, kw_only=True):
    """The marker's stamp is NaN."""

    name = "marker-nan"

    def instead(self, marker: Marker) -> list[Marker]:
        """Take its stamp away."""
        return [marker.moved(stamp_s=math.nan)]


class MarkerShifted(MarkerFault, frozen=True, kw_only=True):
    """The marker's stamp is `ms` after its pulse (or before it), as from a clock that is not set."""

    name = "marker-shifted"
    ms: Annotated[float, msgspec.Meta(ge=-3.6e6, le=3.6e6)] = 8.0

    def instead(self, marker: Marker) -> list[Marker]:
        """Move its stamp."""
        return [marker.moved(stamp_s=self.ms / 1000.0)]


class Burst(Fault, frozen=True, kw_only=True):
    """`count` pulses follow each other every `interval_ms`, beginning with pulse number `pulse`."""

    name = "burst"
    pulse: Annotated[int, msgspec.Meta(ge=0)] = 0
    count: Annotated[int, msgspec.Meta(ge=2, le=10000)] = 5
    interval_ms: Annotated[float, msgspec.Meta(ge=1000.0 / SAMPLE_RATE_HZ, le=60000.0)] = 20.0

    def check(self, labels: tuple[str, ...], n_pulses: int) -> None:
        """Refuse more pulses than there are."""
        if self.pulse + self.count > n_pulses:
            raise SettingsError(
                f"fault {self.name}: pulse={self.pulse} and count={self.count} need {self.pulse + self.count} pulses; "
                f"the session has {n_pulses}"
            )

    def moved(self, pulse_sample: Indices) -> Indices:
        """Move the pulses of the burst, and those after it as much earlier."""
        moved = pulse_sample.copy()
        first, last = self.pulse, self.pulse + self.count - 1
        for n in range(1, self.count):
            moved[first + n] = moved[first] + max(n, round(n * self.interval_ms * SAMPLE_RATE_HZ / 1000.0))
        moved[last + 1 :] += moved[last] - pulse_sample[last]
        return moved


class Paired(Burst, frozen=True, kw_only=True):
    """Paired pulse: pulse number `pulse` is followed by the next one `interval_ms` later."""

    name = "paired"
    count: Annotated[int, msgspec.Meta(ge=2, le=2)] = 2
    interval_ms: Annotated[float, msgspec.Meta(ge=1000.0 / SAMPLE_RATE_HZ, le=60000.0)] = 2.0


class EarlyPulse(Fault, frozen=True, kw_only=True):
    """The first pulse comes `after_ms` after the session's first sample, before there is a baseline."""

    name = "early-pulse"
    after_ms: Annotated[float, msgspec.Meta(ge=0.0, le=100.0)] = 40.0

    def moved(self, pulse_sample: Indices) -> Indices:
        """Move all pulses, so that the intervals stay."""
        return pulse_sample - pulse_sample[0] + samples_of(self.after_ms)

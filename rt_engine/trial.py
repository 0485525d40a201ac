"""A trial: one pulse and the EMG around it."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rt_engine.companions import CoilPose, StimulatorIntensity

GAP = "gap"
"""Reason: samples are missing somewhere in the sweep."""

DUPLICATE = "duplicate"
"""Reason: samples in the sweep came twice."""

CLOCK_STEP = "clock_step"
"""Reason: the stamps step back somewhere in the sweep and no sample came twice: the stream's clock was set."""

EXPIRED = "expired"
"""Reason: the samples after the pulse did not arrive in time."""

BEFORE_STREAM = "before_stream"
"""Reason: the pulse lies before the first sample."""

TOO_LATE = "too_late"
"""Reason: the pulse was told of when its samples had already left the ring."""

AHEAD = "ahead_of_stream"
"""Reason: the pulse is told to come so long after the newest sample that its time must be in another clock."""

TIME_UNCERTAIN = "time_uncertain"
"""Reason: a marker's time says little about its sample: the stamps do not fit the stream's rate, or an offset between
clocks is not known (again)."""

NO_TIME = "no_time"
"""Reason: the marker's time is no number, or none that a clock can show."""

TOO_MANY = "too_many_pending"
"""Reason: more pulses wait than can be real."""

TRIGGER_DISAGREEMENT = "trigger_disagreement"
"""Doubt: another trigger source puts the pulse at another time."""

TRIGGER_UNCONFIRMED = "trigger_unconfirmed"
"""Doubt: another trigger source, which has seen most pulses, did not see this one by the time of its last sample."""

EARLY_STAMPS = "early_stamps"
"""Doubt: how much the stamps jitter was not known yet, so that a small loss of samples would not be seen."""


@dataclass(frozen=True, eq=False)
class Trial:
    """One pulse with its sweep, valid or not.

    Attributes
    ----------
    pulse_id
        Counts pulses from 0 in the order of arrival.
    trigger_source
        ``ttl``, ``marker`` or ``artefact``.
    t_raw, t, t_uncertainty
        Time of the pulse in its own stream's clock, in the engine's clock, and one SD of the latter, s.
    pulse_index
        Fractional index of the pulse in the EMG stream; NaN if it could not be placed.
    first_index
        Index of the sweep's first sample.
    sweep_uv
        (muscles, samples) float64, microvolts; (muscles, 0) if the trial is not valid.
    rate_hz
        Effective sample rate.
    reasons
        Why the trial is not valid; empty if it is.
    pose, intensity
        What held at the time of the pulse, or None.
    offsets_ms
        Other trigger sources that saw the pulse -> how much later than `t`, ms.
    doubts
        Why it is to be taken with caution although it is valid: `TRIGGER_DISAGREEMENT`, `TRIGGER_UNCONFIRMED`,
        `CLOCK_STEP`, `EARLY_STAMPS`.
    """

    pulse_id: int
    trigger_source: str
    t_raw: float
    t: float
    t_uncertainty: float
    pulse_index: float
    first_index: int
    sweep_uv: NDArray[np.float64] = field(repr=False)
    rate_hz: float
    reasons: tuple[str, ...] = ()
    pose: CoilPose | None = None
    intensity: StimulatorIntensity | None = None
    offsets_ms: dict[str, float] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether amplitudes can be measured in it."""
        return not self.reasons

    @property
    def index_uncertainty(self) -> float:
        """One SD of `pulse_index`, samples."""
        return self.t_uncertainty * self.rate_hz

    @property
    def sweep_start_ms(self) -> float:
        """Time of the sweep's first sample relative to the pulse."""
        if not np.isfinite(self.pulse_index):
            return 0.0
        return (self.first_index - self.pulse_index) * 1000.0 / self.rate_hz

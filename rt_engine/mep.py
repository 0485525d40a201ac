"""Motor evoked potentials: what is measured in a sweep, and what each muscle's status says.

Amplitude is max - min inside the window after the pulse, in microvolts, on the unfiltered signal (article, II.A). An
amplitude below the floor is a status, never a zero: what to make of it is the model's business.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

INDEX_TOLERANCE = 0.25
"""Samples. A window edge this close to a sample counts as on it: a pulse time is never known better than that."""

PLATEAU_SAMPLES = 5
"""Consecutive samples stuck at the extreme value that make a muscle SATURATED."""

ARTEFACT_MS = 1.0
"""An extreme this early in the window, while the signal decays from the pulse, is the artefact's."""

ONSET_SDS = 5.0
"""Onset: the demeaned, rectified sweep exceeds this many standard deviations of its own baseline ..."""

ONSET_SAMPLES_MS = 1.0
"""... and stays there this long."""

MIN_BASELINE_MS = 20.0
"""A baseline shorter than this gives no standard deviation worth the name."""


class MepStatus(enum.IntFlag):
    """What is to be known about one muscle in one trial; several can hold at once."""

    OK = 0
    NO_MEP = 1
    """Amplitude below the floor."""
    PREACTIVATED = 2
    """The muscle was not at rest before the pulse."""
    SATURATED = 4
    """The amplifier's range was reached."""
    FLAT = 8
    """All samples are equal: nothing is connected."""
    SAMPLES_MISSING = 16
    """A sample inside the window is missing or not a number; there is no amplitude."""
    ARTEFACT = 32
    """The stimulus artefact reaches into the window and makes its extreme."""
    BASELINE_SHORT = 64
    """There was no full baseline before the pulse; the amplitude stays valid."""


def status_text(status: int) -> str:
    """Return the flags' names joined by ``|``, or ``OK``."""
    return "|".join(flag.name or "" for flag in MepStatus if flag and status & flag) or "OK"


@dataclass(frozen=True)
class MepCriteria:
    """How MEPs are measured.

    Parameters
    ----------
    window_ms
        (muscles, 2) begin and end after the pulse, both included.
    baseline_ms
        Begin and end relative to the pulse (negative).
    floor_uv
        Amplitudes below get the status NO_MEP.
    preactivation_rms_uv
        A baseline RMS from here on gets the status PREACTIVATED (VETA rejects at 50 uV).
    saturation_uv
        Absolute value from which on a sample is SATURATED; 0 finds plateaus only.
    """

    window_ms: tuple[tuple[float, float], ...]
    baseline_ms: tuple[float, float] = (-100.0, -5.0)
    floor_uv: float = 50.0
    preactivation_rms_uv: float = 50.0
    saturation_uv: float = 0.0

    @property
    def last_needed_ms(self) -> float:
        """End of the latest window."""
        return max(end for _, end in self.window_ms)


@dataclass(frozen=True, eq=False)
class MepVector:
    """The muscles' answer to one pulse.

    Attributes
    ----------
    amplitude_uv
        (muscles,) float32, NaN where samples are missing.
    status
        (muscles,) uint16, flags of `MepStatus`.
    onset_ms
        (muscles,) float32, NaN where none was found.
    peak_ms
        (muscles, 2) float32, times of maximum and of minimum.
    baseline_rms_uv
        (muscles,) float32, NaN without baseline.
    control_uv
        (muscles,) float32, the same peak-to-peak on the window mirrored before the pulse, NaN without baseline; over
        many trials it gives the rate of false MEPs.
    """

    amplitude_uv: NDArray[np.float32]
    status: NDArray[np.uint16]
    onset_ms: NDArray[np.float32] = field(repr=False)
    peak_ms: NDArray[np.float32] = field(repr=False)
    baseline_rms_uv: NDArray[np.float32] = field(repr=False)
    control_uv: NDArray[np.float32] = field(repr=False)


def window_indices(pulse_index: float, window_ms: tuple[float, float], rate_hz: float) -> tuple[int, int]:
    """Return the first and last sample of a window, both included.

    Parameters
    ----------
    pulse_index
        Fractional index of the pulse.
    window_ms
        Begin and end relative to the pulse.
    rate_hz
        Effective sample rate.

    Notes
    -----
    First by ceil and last by floor of the fitted index, so that no sample outside the window is used; an edge within
    `INDEX_TOLERANCE` of a sample counts as on it, since else the jitter of a fit would move whole samples in and out.
    """
    first = int(np.ceil(pulse_index + window_ms[0] * rate_hz / 1000.0 - INDEX_TOLERANCE))
    last = int(np.floor(pulse_index + window_ms[1] * rate_hz / 1000.0 + INDEX_TOLERANCE))
    return first, last


def measure_meps(
    sweep_uv: NDArray[np.float64], first_index: int, pulse_index: float, rate_hz: float, criteria: MepCriteria
) -> MepVector:
    """Measure each muscle's MEP in one sweep.

    Parameters
    ----------
    sweep_uv
        (muscles, samples) float64, microvolts; must reach to the end of the latest window.
    first_index
        Index of the sweep's first sample, on the scale of `pulse_index`.
    pulse_index
        Fractional index of the pulse.
    rate_hz
        Effective sample rate.
    criteria
        Windows and thresholds.

    Returns
    -------
    MepVector
    """
    n_muscles = sweep_uv.shape[0]
    amplitude = np.full(n_muscles, np.nan, dtype=np.float32)
    status = np.zeros(n_muscles, dtype=np.uint16)
    onset = np.full(n_muscles, np.nan, dtype=np.float32)
    peak = np.full((n_muscles, 2), np.nan, dtype=np.float32)
    baseline_rms = np.full(n_muscles, np.nan, dtype=np.float32)
    control = np.full(n_muscles, np.nan, dtype=np.float32)

    base_first, base_last = window_indices(pulse_index, criteria.baseline_ms, rate_hz)
    baseline_full = base_first >= first_index
    base = sweep_uv[:, max(base_first - first_index, 0) : max(base_last - first_index + 1, 0)]
    base_enough = base.shape[1] >= MIN_BASELINE_MS * rate_hz / 1000.0

    for muscle, window_ms in enumerate(criteria.window_ms):
        first, last = window_indices(pulse_index, window_ms, rate_hz)
        window = sweep_uv[muscle, first - first_index : last - first_index + 1]
        flags = MepStatus.OK if baseline_full else MepStatus.BASELINE_SHORT
        if not np.isfinite(window).all():
            status[muscle] = flags | MepStatus.SAMPLES_MISSING
            continue
        i_max, i_min = int(np.argmax(window)), int(np.argmin(window))
        high, low = float(window[i_max]), float(window[i_min])
        amplitude[muscle] = high - low
        peak[muscle] = [(first + i - pulse_index) * 1000.0 / rate_hz for i in (i_max, i_min)]
        if amplitude[muscle] < criteria.floor_uv:
            flags |= MepStatus.NO_MEP
        if high == low:
            flags |= MepStatus.FLAT
        elif _saturated(window, high, low, criteria):
            flags |= MepStatus.SATURATED

        own = base[muscle]
        mean = 0.0
        if base_enough and np.isfinite(own).all():
            mean = float(own.mean())
            sd = float(own.std())
            baseline_rms[muscle] = sd
            if sd >= criteria.preactivation_rms_uv:
                flags |= MepStatus.PREACTIVATED
            control[muscle] = _mirrored(sweep_uv[muscle], first_index, pulse_index, window_ms, rate_hz)
            if not flags & (MepStatus.NO_MEP | MepStatus.FLAT):
                onset[muscle] = _onset_ms(window - mean, first, pulse_index, sd, rate_hz)
        else:
            flags |= MepStatus.BASELINE_SHORT
        if not flags & (MepStatus.NO_MEP | MepStatus.FLAT) and _artefact(window - mean, rate_hz):
            flags |= MepStatus.ARTEFACT
        status[muscle] = flags
    return MepVector(amplitude, status, onset, peak, baseline_rms, control)


def _saturated(window: NDArray[np.float64], high: float, low: float, criteria: MepCriteria) -> bool:
    if criteria.saturation_uv > 0.0 and max(high, -low) >= criteria.saturation_uv:
        return True
    return high - low >= criteria.floor_uv and (
        _longest_run(window == high) >= PLATEAU_SAMPLES or _longest_run(window == low) >= PLATEAU_SAMPLES
    )


def _longest_run(mask: NDArray[np.bool_]) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _mirrored(
    sweep: NDArray[np.float64], first_index: int, pulse_index: float, window_ms: Sequence[float], rate_hz: float
) -> float:
    first, last = window_indices(pulse_index, (-window_ms[1], -window_ms[0]), rate_hz)
    if first < first_index:
        return float("nan")
    window = sweep[first - first_index : last - first_index + 1]
    return float(window.max() - window.min())


def _onset_ms(window: NDArray[np.float64], first: int, pulse_index: float, sd: float, rate_hz: float) -> float:
    """First time from which the rectified signal stays above its baseline's threshold."""
    stay = max(1, round(ONSET_SAMPLES_MS * rate_hz / 1000.0))
    above = np.abs(window) > ONSET_SDS * sd
    if above.size < stay:
        return float("nan")
    run = np.lib.stride_tricks.sliding_window_view(above, stay).all(axis=1)
    if not run.any():
        return float("nan")
    return (first + int(np.argmax(run)) - pulse_index) * 1000.0 / rate_hz


def _artefact(window: NDArray[np.float64], rate_hz: float) -> bool:
    """Whether the largest deflection stands at the very beginning of the window, decaying from the pulse."""
    early = max(1, round(ARTEFACT_MS * rate_hz / 1000.0))
    rectified = np.abs(window)
    return int(np.argmax(rectified)) < early

"""Motor evoked potentials: what is measured in a sweep, and what each muscle's status says.

Amplitude is max - min inside the window after the pulse, in microvolts, on the unfiltered signal (article, II.A). An
amplitude below the floor is a status, never a zero: what to make of it is the model's business.
"""

import enum
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

INDEX_TOLERANCE = 0.25
"""Samples. A window edge this close to a sample counts as on it: a pulse time is never known better than that."""

PLATEAU_MS = 2.0
"""An extreme value that lasts this long, from the first sample that has it to the last, makes a muscle SATURATED ..."""

PLATEAU_SAMPLES = 3
"""... if so many samples have it: at low rates two can be equal by chance."""

ARTEFACT_MS = 1.0
"""An extreme this early in the window, while the signal decays from the pulse, is the artefact's."""

ONSET_SDS = 5.0
"""Onset: the demeaned, rectified sweep exceeds this many standard deviations of its own baseline ..."""

ONSET_SAMPLES_MS = 1.0
"""... and stays there this long."""

MIN_BASELINE_MS = 20.0
"""A baseline shorter than this gives no standard deviation worth the name."""

LARGEST_UV = 1e12
"""Microvolts. No amplifier gives a million volts: such a sample is garbled, and as good as missing."""


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
    """A sample inside the window is missing, not a number or garbled; there is no amplitude."""
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
    result = MepVector(
        amplitude_uv=np.full(n_muscles, np.nan, dtype=np.float32),
        status=np.zeros(n_muscles, dtype=np.uint16),
        onset_ms=np.full(n_muscles, np.nan, dtype=np.float32),
        peak_ms=np.full((n_muscles, 2), np.nan, dtype=np.float32),
        baseline_rms_uv=np.full(n_muscles, np.nan, dtype=np.float32),
        control_uv=np.full(n_muscles, np.nan, dtype=np.float32),
    )
    # Muscles that share a window are measured together; usually that is all of them.
    for window_ms in dict.fromkeys(criteria.window_ms):
        rows = np.array([i for i, own in enumerate(criteria.window_ms) if own == window_ms], dtype=np.intp)
        _measure(result, rows, sweep_uv[rows], window_ms, first_index, pulse_index, rate_hz, criteria)
    return result


def _measure(
    result: MepVector,
    rows: NDArray[np.intp],
    sweep: NDArray[np.float64],
    window_ms: tuple[float, float],
    first_index: int,
    pulse_index: float,
    rate_hz: float,
    criteria: MepCriteria,
) -> None:
    """Measure the muscles `rows`, whose sweeps are given and whose window is the same, into `result`."""
    ms = 1000.0 / rate_hz
    first, last = window_indices(pulse_index, window_ms, rate_hz)
    window = sweep[:, first - first_index : last - first_index + 1]
    whole = _all_numbers(window)
    # Muscles without a whole window are measured as zeros, and their figures are not taken.
    window = np.where(whole[:, None], window, 0.0)
    high, low = window.max(axis=1), window.min(axis=1)
    amplitude = high - low
    quiet = amplitude < criteria.floor_uv
    flat = high == low
    stuck_for = max(PLATEAU_SAMPLES, math.ceil(PLATEAU_MS / ms - INDEX_TOLERANCE) + 1)
    saturated = np.logical_not(flat) & _saturated(window, high, low, stuck_for, criteria)

    base_first, base_last = window_indices(pulse_index, criteria.baseline_ms, rate_hz)
    base = sweep[:, max(base_first - first_index, 0) : max(base_last - first_index + 1, 0)]
    has_base = _all_numbers(base) & (base.shape[1] >= MIN_BASELINE_MS / ms)
    base = np.where(has_base[:, None], base, 0.0) if base.size else np.zeros((len(rows), 1))
    mean, sd = base.mean(axis=1), base.std(axis=1)
    active = sd >= criteria.preactivation_rms_uv
    short = ~has_base | (base_first < first_index)

    centred = np.abs(window - mean[:, None])
    early = max(1, round(ARTEFACT_MS / ms))
    artefact = ~quiet & ~flat & (centred.argmax(axis=1) < early)

    status = np.where(short, MepStatus.BASELINE_SHORT.value, 0)
    for flag, holds in (
        (MepStatus.NO_MEP, quiet),
        (MepStatus.FLAT, flat),
        (MepStatus.SATURATED, saturated),
        (MepStatus.PREACTIVATED, active & has_base),
        (MepStatus.ARTEFACT, artefact),
    ):
        status |= np.where(holds & whole, flag.value, 0)
    status |= np.where(whole, 0, MepStatus.SAMPLES_MISSING.value)

    measured = rows[whole]
    result.status[rows] = status
    result.amplitude_uv[measured] = amplitude[whole]
    result.peak_ms[measured, 0] = (first + window.argmax(axis=1)[whole] - pulse_index) * ms
    result.peak_ms[measured, 1] = (first + window.argmin(axis=1)[whole] - pulse_index) * ms
    with_base = whole & has_base
    result.baseline_rms_uv[rows[with_base]] = sd[with_base]
    result.control_uv[rows[with_base]] = _mirrored(sweep, first_index, pulse_index, window_ms, rate_hz)[with_base]
    responding = with_base & ~quiet & ~flat
    onset = _onset_samples(centred > ONSET_SDS * sd[:, None], max(1, round(ONSET_SAMPLES_MS / ms)))
    result.onset_ms[rows[responding]] = (first + onset[responding] - pulse_index) * ms


def _saturated(
    window: NDArray[np.float64],
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    stuck_for: int,
    criteria: MepCriteria,
) -> NDArray[np.bool_]:
    """Whether the amplifier's range was reached: by its known value, or by so many samples stuck at an extreme."""
    plateau = _has_run(window == high[:, None], stuck_for) | _has_run(window == low[:, None], stuck_for)
    stuck: NDArray[np.bool_] = np.logical_and(plateau, high - low >= criteria.floor_uv)
    if criteria.saturation_uv > 0.0:
        stuck = np.logical_or(stuck, np.maximum(high, -low) >= criteria.saturation_uv)
    return stuck


def _has_run(mask: NDArray[np.bool_], length: int) -> NDArray[np.bool_]:
    """Whether each row has so many consecutive true values."""
    if mask.shape[1] < length or not mask.any(axis=0).sum() >= length:
        return np.zeros(len(mask), dtype=np.bool_)
    run = mask[:, : mask.shape[1] - length + 1].copy()
    for shift in range(1, length):
        run &= mask[:, shift : shift + run.shape[1]]
    found: NDArray[np.bool_] = np.any(run, axis=1)
    return found


def _mirrored(
    sweep: NDArray[np.float64],
    first_index: int,
    pulse_index: float,
    window_ms: tuple[float, float],
    rate_hz: float,
) -> NDArray[np.float64]:
    """Peak-to-peak on the window mirrored before the pulse; NaN where the sweep has not all its samples."""
    first, last = window_indices(pulse_index, (-window_ms[1], -window_ms[0]), rate_hz)
    if first < first_index:
        return np.full(len(sweep), np.nan)
    window = sweep[:, first - first_index : last - first_index + 1]
    whole = _all_numbers(window)
    window = np.where(whole[:, None], window, 0.0)
    return np.where(whole, window.max(axis=1) - window.min(axis=1), np.nan)


def _all_numbers(sweep: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether all samples of each row are numbers that an amplifier can give; NaN compares false."""
    usable: NDArray[np.bool_] = np.all(np.abs(sweep) < LARGEST_UV, axis=1)
    return usable


def _onset_samples(above: NDArray[np.bool_], stay: int) -> NDArray[np.float64]:
    """First sample of the window from which `above` holds for `stay` samples; NaN where it never does."""
    if above.shape[1] < stay:
        return np.full(len(above), np.nan)
    run = above[:, : above.shape[1] - stay + 1].copy()
    for shift in range(1, stay):
        run &= above[:, shift : shift + run.shape[1]]
    return np.where(run.any(axis=1), run.argmax(axis=1), np.nan)

"""What a break in the stream was, and the stamps between the numbers: rules that need no state."""

import math

import numpy as np
from numpy.typing import NDArray

from rt_engine.sample_ring import SampleRing
from rt_engine.stamp_watch import Verdict
from rt_engine.stream_notes import StreamNote
from rt_engine.trial import CLOCK_STEP, DUPLICATE, GAP

LARGEST_STAMP_S = 1e12
"""Thirty thousand years; a stamp beyond is none, and would cost the line through the others its digits."""

LONGEST_REPEAT_S = 1.0
"""Samples that came twice are looked for this far back."""

_REPEATED = 2
"""Samples in a row that must equal earlier ones in all channels."""


def whole_stamps(
    stamps: NDArray[np.float64], first: int, last_whole: tuple[int, float], rate_hz: float
) -> tuple[NDArray[np.float64], tuple[int, float]]:
    """Where a stamp is no number, put what the nominal rate makes of the last one before it that was.

    Parameters
    ----------
    stamps
        (n,) float64, raw, s.
    first
        Index of the first of them.
    last_whole
        Index and stamp of the last sample before them whose stamp was a number; NaN for none.
    rate_hz
        Nominal.

    Returns
    -------
    stamps
        (n,) float64; NaN before the first that is a number.
    last_whole
        To be given next time.
    """
    whole = np.abs(stamps) < LARGEST_STAMP_S  # NaN compares false
    if whole.all():
        return stamps, (first + len(stamps) - 1, float(stamps[-1]))
    known_index, known_stamp = last_whole
    if whole.any():
        last = int(np.flatnonzero(whole)[-1])
        last_whole = (first + last, float(stamps[last]))
    place = np.arange(len(stamps))
    source = np.maximum.accumulate(np.where(whole, place, -1))
    index = np.where(source >= 0, source, known_index - first)
    stamp = np.where(source >= 0, stamps[source], known_stamp)
    filled: NDArray[np.float64] = stamp + (place - index) / rate_hz
    return filled, last_whole


def kind_of_break(verdict: Verdict, ring: SampleRing, rate_hz: float, now: int) -> str:
    """Return what a break was: stamps that run ahead mean samples lost; others, samples repeated or a clock set back.

    Parameters
    ----------
    verdict
        Of the watch.
    ring
        Holds the samples.
    rate_hz
        Nominal.
    now
        The newest sample.
    """
    if verdict.shift_s > 0.0:
        return GAP
    # Twice the shift, since a packet may be repeated after the next one.
    back = min(math.ceil(min(-2.0 * verdict.shift_s, LONGEST_REPEAT_S) * rate_hz) + 8, verdict.begin - ring.start)
    if back <= 0 or verdict.begin + _REPEATED - 1 > now:
        return CLOCK_STEP
    samples = ring.read(verdict.begin - back, verdict.begin + _REPEATED - 1)
    for lag in range(1, back + 1):
        n = min(lag, _REPEATED)
        if np.array_equal(samples[back : back + n], samples[back - lag : back - lag + n], equal_nan=True):
            return DUPLICATE
    return CLOCK_STEP


def break_note(kind: str, verdict: Verdict, rate_hz: float) -> StreamNote:
    """Say what a break was."""
    ms, samples = verdict.shift_s * 1000.0, round(abs(verdict.shift_s) * rate_hz)
    text = {
        GAP: f"about {samples} EMG samples ({ms:.1f} ms) are missing before sample {verdict.begin}",
        DUPLICATE: f"about {samples} EMG samples ({-ms:.1f} ms) came twice at sample {verdict.begin}",
        CLOCK_STEP: f"the EMG's time stamps stepped back by {-ms:.1f} ms at sample {verdict.begin}",
    }[kind]
    return StreamNote(kind, verdict.begin, ms, text)


def late_note(verdict: Verdict, now: int) -> StreamNote:
    """Say that stamps were off for a while, and nothing was lost."""
    text = f"the stamps of the EMG samples {verdict.begin} to {now - 1} were off their line; no sample is missing"
    return StreamNote("late_stamps", verdict.begin, 0.0, text)

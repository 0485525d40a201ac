"""From time to sample index: a robust line through the stream's own time stamps.

2 kHz is nominal; the amplifier's crystal and the LSL clock drift apart, and stamps jitter with the operating system.
The clock keeps one stamp every `knot_every` samples ("knots") over a sliding window and fits index -> time. Since knots
sit at fixed indices, the fit after n samples does not depend on how those samples were cut into blocks.
"""

import math

import numpy as np
from numpy.typing import NDArray

KNOT_EVERY = 83
"""Samples from one knot to the next: a prime that meets packets of 8, 16, 50, 64 or 100 samples at all of their phases,
and not at their first sample alone, which would hide how far the others jitter."""

KNOTS_FOR_RATE = 20
"""Knots needed before the rate is fitted; until then it is the nominal one and only the offset is estimated."""

MAX_RATE_DEVIATION = 0.01
"""A fitted rate further than this from the nominal one (relative) is not believed; the nominal one is used."""

_MAD_TO_SD = 1.4826  # of a normal distribution


class SampleClock:
    """Maps pulse times to fractional sample indices, and back.

    Parameters
    ----------
    nominal_rate_hz
        Sample rate that the stream states.
    knot_every
        Distance between two knots, samples.
    window_s
        Length of the sliding window, s.
    """

    def __init__(self, nominal_rate_hz: float, *, knot_every: int = KNOT_EVERY, window_s: float = 30.0) -> None:
        self.nominal_rate_hz = nominal_rate_hz
        self.knot_every = knot_every
        n_knots = max(KNOTS_FOR_RATE, math.ceil(window_s * nominal_rate_hz / knot_every))
        self._index = np.zeros(n_knots)
        self._stamp = np.zeros(n_knots)
        self._n = 0
        self._anchor_index = 0.0
        self._anchor_t = math.nan
        self._period = 1.0 / nominal_rate_hz
        self._jitter = 0.0
        self._jitter_before = 0.0  # of the time before the last restart
        self._stale = False  # knots have come that the line does not know yet

    @property
    def known(self) -> bool:
        """Whether a first stamp has been seen."""
        return self._n > 0

    @property
    def rate_hz(self) -> float:
        """Effective sample rate."""
        self._refresh()
        return 1.0 / self._period

    @property
    def jitter_s(self) -> float:
        """Robust standard deviation of the stamps around the fit, s."""
        self._refresh()
        return self._jitter

    def restart(self) -> None:
        """Forget all knots: after a gap, index and time have another relation. Period and jitter stay as they were."""
        self._refresh()
        self._jitter_before = self._jitter
        self._n = 0
        self._anchor_t = math.nan

    def add_knot(self, index: int, stamp: float) -> None:
        """Take in the stamp of one sample; the line is fitted again when somebody asks for it.

        Parameters
        ----------
        index
            Absolute index of the sample.
        stamp
            Its time in the engine's clock, s; one that is not finite is passed over.
        """
        if not math.isfinite(stamp):
            return
        place = self._n % len(self._index)
        self._index[place], self._stamp[place] = index, stamp
        self._n += 1
        self._stale = True

    def index_of(self, t: float) -> float:
        """Return the fractional sample index of the time `t` (s, engine's clock)."""
        self._refresh()
        return self._anchor_index + (t - self._anchor_t) / self._period

    def time_of(self, index: float) -> float:
        """Return the time (s, engine's clock) of a fractional sample index."""
        self._refresh()
        return self._anchor_t + (index - self._anchor_index) * self._period

    def _refresh(self) -> None:
        """Fit if knots have come since. The result depends on the knots alone, not on when it is asked for."""
        if not self._stale:
            return
        self._stale = False
        n, newest = min(self._n, len(self._index)), (self._n - 1) % len(self._index)
        # Centre first: seconds since boot times samples since start would cost digits.
        index0, stamp0 = self._index[newest], self._stamp[newest]
        x, y = self._index[:n] - index0, self._stamp[:n] - stamp0
        nominal = 1.0 / self.nominal_rate_hz
        period = self._period if n < KNOTS_FOR_RATE else trimmed_slope(x, y, nominal)
        if abs(period / nominal - 1.0) > MAX_RATE_DEVIATION:
            period = nominal
        offset = median(y - period * x)
        jitter = _MAD_TO_SD * median(np.abs(y - period * x - offset))
        # A few knots after a restart would say that there is none.
        self._jitter = jitter if n >= KNOTS_FOR_RATE else max(jitter, self._jitter_before)
        self._period = period
        self._anchor_index = float(index0)
        self._anchor_t = float(stamp0) + offset


def trimmed_slope(x: NDArray[np.float64], y: NDArray[np.float64], nominal: float) -> float:
    """Slope by least squares, twice, the second time without knots far from the first line.

    Stamps are late rather than early when the sender was held up, so outliers are trimmed by the median absolute
    deviation around a line of nominal slope before they can bend the fit.
    """
    residual = y - nominal * x
    for _ in range(2):
        deviation = np.abs(residual - median(residual))
        # The floor keeps perfectly regular stamps (deviation 0) from being trimmed to nothing.
        keep = deviation <= 4.0 * _MAD_TO_SD * median(deviation) + 1e-9
        xk, yk = x[keep], y[keep]
        n = len(xk)
        xm = xk - xk.sum() / n
        slope = float(xm @ (yk - yk.sum() / n)) / float(xm @ xm)
        residual = y - slope * x
    return slope


def median(values: NDArray[np.float64]) -> float:
    """Return the median; several times faster than numpy's on a few hundred finite values."""
    ordered = np.sort(values)
    middle = len(ordered) // 2
    return float(ordered[middle]) if len(ordered) % 2 else 0.5 * float(ordered[middle - 1] + ordered[middle])

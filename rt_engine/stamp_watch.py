"""Tells lost and repeated samples from late stamps: a watch over the stream's raw stamps, sample by sample.

A sample lost or sent twice moves all stamps after it against the line through those before it, for good. A sender that
was held up moves them too, but they come back. So a stamp far from the line is a *suspicion*, and what follows decides:
the stamps return to the line (nothing was lost), or they settle beside it (a *break*: from here on another line holds).
Until then nobody can know, and trials that reach over the place must wait.

Deterministic: what it says depends on the stamps and their indices, not on how they were cut into blocks. The line is
moved at knots only, which the owner hands over at fixed indices while there is no suspicion.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rt_engine.sample_clock import KNOTS_FOR_RATE, median, trimmed_slope

SETTLED_S = 0.25
"""Stamps that stay beside the line for this long do not come back. Longer than the packets of any EMG amplifier."""

UNSETTLED_S = 2.0
"""After this long without coming back or settling the stamps are given up: a break, and a new beginning."""

REGULAR_S = 1e-3
"""Stamps whose scatter allows a threshold up to here are judged one by one; others by the median of `POINTS`."""

POINTS, POINT_S = 12, 0.002
"""Jittering stamps are looked at every 2 ms, 12 at a time."""

_LEVEL_KNOTS, _FIRST_LEVEL_KNOTS = 19, 5
_SCATTER_QUANTILE = 0.98
_LEAST_SHIFT = 0.75  # of the threshold
_WIDEST = 0.5  # of the nominal period; a fitted one further from it is no rate


@dataclass(frozen=True)
class Verdict:
    """How a suspicion ended.

    Attributes
    ----------
    begin
        First sample that is in doubt.
    noticed
        Sample at which the doubt arose: in jittering stamps that is some after `begin`.
    start
        First sample to which the new line applies; the samples from `begin` to it belong to no line.
    shift_s
        From the old line to the new one, s.
    broken
        Whether samples were lost or repeated, or the stream's clock was set. If not, the stamps came back: they were
        late, and nothing was lost.
    """

    begin: int
    noticed: int
    start: int
    shift_s: float
    broken: bool


class StampWatch:
    """Watches over one stream's raw stamps.

    Parameters
    ----------
    nominal_rate_hz
        Sample rate that the stream states.
    gap_s
        Stamps further than this from the line are always suspicious; in the first second, before the stamps' scatter
        is known, only they are.
    longest
        Number of samples that `scan` is given at most.
    window_knots
        Number of knots from which the rate and the scatter are taken.
    """

    def __init__(self, nominal_rate_hz: float, gap_s: float, longest: int, window_knots: int = 600) -> None:
        self._nominal = 1.0 / nominal_rate_hz
        self._gap_s = gap_s
        self._period = self._nominal
        self._scatter_s = math.nan  # 98 of 100 stamps are closer to the line
        self._scatter_from = math.inf  # sample from which on it is known
        self._anchor_index = 0
        self._anchor_t = math.nan
        self._knot_index = np.zeros(window_knots)
        self._knot_t = np.zeros(window_knots)
        self._n_knots = 0
        self._steps = np.arange(longest, dtype=np.float64)
        self._settled = math.ceil(SETTLED_S * nominal_rate_hz)
        self._unsettled = math.ceil(UNSETTLED_S * nominal_rate_hz)
        self._stamps = np.full(self._unsettled + self._settled + longest, np.nan)
        self._every = max(1, round(POINT_S * nominal_rate_hz))
        self._points = np.zeros(POINTS)  # the last looked at, by their distance from the line
        self._point_index = np.full(POINTS, -1, dtype=np.int64)
        self._begin: int | None = None
        self._noticed = 0
        self._run_start = 0
        self._run_low = self._run_high = 0.0
        self.verdict: Verdict | None = None
        """How the suspicion ended at the last sample that `scan` took; None if none ended there."""

    @property
    def suspect_from(self) -> int | None:
        """First sample of the suspicion that is open, or None."""
        return self._begin

    @property
    def suspect_since(self) -> int:
        """Sample at which that suspicion arose."""
        return self._noticed

    @property
    def threshold_s(self) -> float:
        """How far from the line stamps must lie to be suspicious: the smallest loss that can be found, s."""
        if math.isnan(self._scatter_s):
            return self._gap_s
        # Regular stamps show a single lost sample; three quarters of one cannot be confused with none.
        alone = max(0.75 * self._period, 4.0 * self._scatter_s)
        return min(alone if alone <= REGULAR_S else max(REGULAR_S, 1.1 * self._scatter_s), self._gap_s)

    def knows_scatter(self, index: int) -> bool:
        """Whether the stamps' scatter was known at a sample; without it only a loss of more than `gap_s` is seen."""
        return index >= self._scatter_from

    @property
    def _alone_s(self) -> float:
        """How far from the line a single stamp must lie."""
        if self._regular:
            return self.threshold_s
        return min(2.2 * self._scatter_s, self._gap_s)

    @property
    def _regular(self) -> bool:
        """Whether stamps are judged one by one."""
        return not 4.0 * self._scatter_s > REGULAR_S

    def stamps(self, first: int, last: int) -> NDArray[np.float64]:
        """Return the raw stamps of the samples `first` to `last`, both included, of the last two seconds."""
        return self._stamps[np.arange(first, last + 1) % len(self._stamps)]

    def add_knot(self, index: int, stamp: float) -> None:
        """Move the line to a sample's raw stamp; one that is not finite is passed over."""
        if not math.isfinite(stamp):
            return
        place = self._n_knots % len(self._knot_t)
        self._knot_index[place], self._knot_t[place] = index, stamp
        self._n_knots += 1
        if self._n_knots % KNOTS_FOR_RATE == 0:
            self._fit(index, stamp)
        recent = _LEVEL_KNOTS if self._n_knots >= KNOTS_FOR_RATE else _FIRST_LEVEL_KNOTS
        places = np.arange(self._n_knots - min(recent, self._n_knots), self._n_knots) % len(self._knot_t)
        level = (self._knot_t[places] - stamp) - self._period * (self._knot_index[places] - index)
        self._anchor_index, self._anchor_t = index, stamp + median(level)

    def scan(self, index: int, stamps: NDArray[np.float64]) -> int:
        """Look at the stamps of consecutive samples, between which there is no knot.

        Parameters
        ----------
        index
            Of the first of them.
        stamps
            (n,) float64, raw, s.

        Returns
        -------
        int
            How many were looked at: all, or those up to the one at which a suspicion ended (then `verdict` is set).
        """
        self.verdict = None
        n = len(stamps)
        self._keep(index, stamps)
        away = stamps - (self._anchor_t + (self._steps[:n] + (index - self._anchor_index)) * self._period)
        place = self._search(index, away) if self._begin is None else 0
        while place < n:
            place += 1
            if self._decide(index + place - 1, float(away[place - 1])):
                return place
        return n

    def _keep(self, index: int, stamps: NDArray[np.float64]) -> None:
        size = len(self._stamps)
        first = index % size
        head = min(len(stamps), size - first)
        self._stamps[first : first + head] = stamps[:head]
        self._stamps[: len(stamps) - head] = stamps[head:]

    # -- without a suspicion -----------------------------------------------------------------------------------------

    def _search(self, index: int, away: NDArray[np.float64]) -> int:
        """Open a suspicion if there is one; return the place of the first stamp that is to decide about it."""
        odd = np.abs(away) > self._alone_s  # NaN, before the first stamp that is a number, compares false
        alone = int(odd.argmax()) if odd.any() else len(away)
        if not self._regular:
            places = np.arange(-index % self._every, alone, self._every)
            shifted = self._shifted(index + places, away[places])
            if shifted < len(places):
                return int(places[shifted]) + 1
        if alone < len(away):
            self._open(index + alone, index + alone)
        return alone

    def _shifted(self, index: NDArray[np.int64], away: NDArray[np.float64]) -> int:
        """Take in points up to the first by which the median is off, and return its place; their number if none is."""
        if index.size == 0:
            return 0
        points, at = np.append(self._points, away), np.append(self._point_index, index)
        ordered = np.sort(np.lib.stride_tricks.sliding_window_view(points, POINTS)[1:], axis=1)
        middle = 0.5 * (ordered[:, POINTS // 2 - 1] + ordered[:, POINTS // 2])
        off = np.abs(middle) > self.threshold_s
        place = int(off.argmax()) if off.any() else len(index)
        taken = min(place + 1, len(index))
        self._points, self._point_index = points[taken : taken + POINTS], at[taken : taken + POINTS]
        if place < len(index):
            # It happened some time before half of the points had seen it.
            seen = np.sign(middle[place]) * self._points > 0.5 * self.threshold_s
            self._open(int(self._point_index[seen][0]), int(index[place]))
        return place

    # -- with one ----------------------------------------------------------------------------------------------------

    def _open(self, index: int, noticed: int) -> None:
        self._begin = self._run_start = index
        self._noticed = noticed
        self._run_low, self._run_high = math.inf, -math.inf

    def _decide(self, index: int, away: float) -> bool:
        """Take in one more stamp; return whether the suspicion ended with it."""
        begin = self._begin
        if begin is None:
            return False
        if not self._regular:
            if index % self._every:
                return False
            self._points = np.append(self._points[1:], away)
            self._point_index = np.append(self._point_index[1:], index)
            away = median(self._points[self._point_index >= begin])
        if abs(away) <= 0.5 * self.threshold_s:
            self._begin = None
            self.verdict = Verdict(begin, self._noticed, begin, 0.0, broken=False)
            return True
        self._run_low, self._run_high = min(self._run_low, away), max(self._run_high, away)
        if self._run_high - self._run_low > 2.0 * self.threshold_s:
            self._run_start, self._run_low, self._run_high = index, away, away
        if index - self._run_start >= self._settled:
            self._break(begin, self._run_start, index)
        elif index - begin >= self._unsettled:
            self._break(begin, index, index)
        return self.verdict is not None

    def _break(self, begin: int, start: int, end: int) -> None:
        line = self._anchor_t + (np.arange(start, end + 1) - self._anchor_index) * self._period
        shift = float(np.median(self.stamps(start, end) - line))
        if abs(shift) <= _LEAST_SHIFT * self.threshold_s:
            # Beside the line, and not by more than scatter does: the line follows at its next knots.
            self._begin = None
            self.verdict = Verdict(begin, self._noticed, begin, 0.0, broken=False)
            return
        # Rate and scatter stay what they were; with all knots moved along, the fit goes on.
        self._anchor_t += shift
        self._knot_t += shift
        self._points[:], self._point_index[:] = 0.0, -1
        self._begin = None
        self.verdict = Verdict(begin, self._noticed, start, shift, broken=True)

    # -- the line ----------------------------------------------------------------------------------------------------

    def _fit(self, index: int, stamp: float) -> None:
        """Rate and scatter by the knots of the window."""
        n = min(self._n_knots, len(self._knot_t))
        x, y = self._knot_index[:n] - index, self._knot_t[:n] - stamp
        period = trimmed_slope(x, y, self._nominal)
        # Unlike the clock's, this line follows a rate far from the nominal one: a false rate is no gap.
        self._period = period if abs(period / self._nominal - 1.0) <= _WIDEST else self._nominal
        away = y - self._period * x
        scatter = np.sort(np.abs(away - median(away)))
        # A few knots seldom hold the far ones.
        self._scatter_s = float(scatter[int(_SCATTER_QUANTILE * (n - 1))]) * (1.0 + 10.0 / n)
        self._scatter_from = min(self._scatter_from, index)
        if self._regular:
            self._points[:], self._point_index[:] = 0.0, -1

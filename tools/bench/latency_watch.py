"""What a process costs while it is measured: its share of a core, between pulses and altogether, and its memory."""

import statistics
import time

import psutil

BEFORE_NEXT = 0.8
"""Share of the interval between pulses after which the next one may come soon."""

FLAT_FROM = 100
"""Memory must be flat after so many pulses: until then buffers fill and allocators find their size."""


TOLD = 50


class Watch:
    """Watches one process.

    Parameters
    ----------
    pid
        Its number.
    interval_s
        Between two pulses.
    """

    def __init__(self, pid: int, interval_s: float) -> None:
        self._process = psutil.Process(pid)
        self._interval_s = interval_s
        self._begin = self._now()
        self._quiet_begin: tuple[float, float] | None = None
        self._quiet_until = 0.0
        self._quiet_cpu_s = self._quiet_s = 0.0
        self.rss_mb: list[float] = []

    def after_map(self, since_pulse_s: float) -> None:
        """Note that a map has come so long after its pulse: until the next pulse the process has nothing to do."""
        self.rss_mb.append(self._process.memory_info().rss / 1e6)
        left_s = BEFORE_NEXT * self._interval_s - since_pulse_s
        if left_s > 0.0:
            self._quiet_begin, self._quiet_until = self._now(), time.monotonic() + left_s

    def look(self) -> None:
        """Look whether the quiet time is over; call several times per interval."""
        if self._quiet_begin is None or time.monotonic() < self._quiet_until:
            return
        at, cpu_s = self._now()
        if at - self._quiet_begin[0] < 0.95 * self._interval_s:  # else this came too late, and a pulse may be in it
            self._quiet_s += at - self._quiet_begin[0]
            self._quiet_cpu_s += cpu_s - self._quiet_begin[1]
        self._quiet_begin = None

    @property
    def cpu_share(self) -> float | None:
        """Share of one core while there was no pulse; None if it was never looked at."""
        return self._quiet_cpu_s / self._quiet_s if self._quiet_s > 0.0 else None

    @property
    def cpu_share_all(self) -> float:
        """Share of one core since the watch began, pulses included."""
        at, cpu_s = self._now()
        return (cpu_s - self._begin[1]) / (at - self._begin[0])

    @property
    def rss_growth_mb(self) -> float | None:
        """By how much memory rose at most after the first 100 pulses (of a short run, the first tenth), MB."""
        if not self.rss_mb:
            return None
        first = FLAT_FROM if len(self.rss_mb) >= 2 * FLAT_FROM else len(self.rss_mb) // 10
        return max(self.rss_mb[first:]) - self.rss_mb[first]

    @property
    def rss_over_time_mb(self) -> list[float]:
        """Resident memory over time: at most `TOLD` values, evenly spaced, the last one among them."""
        step = max(-(-len(self.rss_mb) // TOLD), 1)
        return self.rss_mb[::-step][::-1]

    @property
    def rss_median_mb(self) -> float | None:
        """Resident memory, MB."""
        return statistics.median(self.rss_mb) if self.rss_mb else None

    def _now(self) -> tuple[float, float]:
        times = self._process.cpu_times()
        return time.monotonic(), float(times.user + times.system)

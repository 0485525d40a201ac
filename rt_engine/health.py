"""How a session is: states, counts, and quantiles of latency."""

import enum

import numpy as np

KEPT = 4096
"""Latest values per stage that the quantiles are taken over."""


class State(enum.StrEnum):
    """Where a session stands; each change comes with a reason."""

    RESOLVING = "RESOLVING"
    WARMING = "WARMING"
    READY = "READY"
    RUNNING = "RUNNING"
    DEGRADED = "DEGRADED"
    STOPPED = "STOPPED"
    FAILED = "FAILED"


class LatencyStatistics:
    """The latest latencies per stage, in preallocated arrays."""

    def __init__(self) -> None:
        self._values: dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]] = {}
        self._count: dict[str, int] = {}
        self._max: dict[str, float] = {}

    def add(self, stage: str, microseconds: float) -> None:
        """Take in one value."""
        if stage not in self._values:
            self._values[stage] = np.empty(KEPT)
            self._count[stage] = 0
            self._max[stage] = 0.0
        self._values[stage][self._count[stage] % KEPT] = microseconds
        self._count[stage] += 1
        self._max[stage] = max(self._max[stage], microseconds)

    def quantiles_ms(self) -> dict[str, dict[str, float]]:
        """Return per stage ``p50`` and ``p99`` of the latest values and ``max`` of all, in milliseconds."""
        quantiles = {}
        for stage, values in self._values.items():
            latest = values[: min(self._count[stage], KEPT)]
            p50, p99 = np.quantile(latest, [0.5, 0.99])
            quantiles[stage] = {"p50": float(p50) / 1e3, "p99": float(p99) / 1e3, "max": self._max[stage] / 1e3}
        return quantiles

"""The figures of the latency bench: what was sent joined with what arrived, and the worst over block sizes.

Times are counted from the push of the last needed sample by the amplifier's process to the map in the subscriber's.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

SAME_PULSE_S = 0.005
"""An arrived pulse this close to a sent one is that pulse."""

STAGES = ("receive", "wait", "extract", "infer", "publish", "deliver")
"""Pushed to pulled; pulled to measured but for the measuring; amplitudes; model; message; handed over to received."""


@dataclass(frozen=True)
class Arrival:
    """A map as the subscriber stamped it; times in s, LSL clock, stages in ms, a checksum of the map."""

    t_pulse: float
    pulled: float
    received_at: float
    stages: dict[str, float]
    map: int = 0


@dataclass
class Leg:
    """One process measured: engine, floor or peer.

    Attributes
    ----------
    pulses, served, invalid, lost
        Sent; mapped; given up with a reason; neither.
    p50_ms, p99_ms, max_ms
        Last needed sample pushed to map in the subscriber's hands; None where nothing was served.
    stages_ms
        Stage -> p50, p99 and max.
    cpu_share, cpu_share_all
        Share of one core between pulses, and altogether.
    rss_mb, rss_growth_mb, rss_over_time_mb
        Median resident memory; its largest rise after the first 100 pulses; up to 50 values of it from begin to end.
    processor_stolen_pct
        Share of the processors' time that a virtual machine's host took away meanwhile; None if not counted.
    """

    pulses: int = 0
    served: int = 0
    invalid: int = 0
    lost: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None
    stages_ms: dict[str, dict[str, float | None]] = field(default_factory=dict)
    cpu_share: float | None = None
    cpu_share_all: float | None = None
    rss_mb: float | None = None
    rss_growth_mb: float | None = None
    rss_over_time_mb: list[float] = field(default_factory=list)
    processor_stolen_pct: float | None = None


def judge(t_pulse: list[float], pushed_at: list[float], arrivals: list[Arrival], invalid: list[float]) -> Leg:
    """Join what was sent with what arrived.

    Parameters
    ----------
    t_pulse, pushed_at
        Of each pulse sent: its time, and when its last needed sample was pushed, s.
    arrivals
        Maps that came; one serves one pulse.
    invalid
        Times of the pulses that were delivered without a map, s.

    Returns
    -------
    Leg
        Without what the processor and the memory did.
    """
    leg = Leg(pulses=len(t_pulse))
    total: list[float] = []
    stages: dict[str, list[float]] = {name: [] for name in STAGES}
    came, refused = sorted(arrivals, key=lambda arrival: arrival.t_pulse), sorted(invalid)
    for t, pushed in zip(t_pulse, pushed_at, strict=True):
        arrival = _take(came, [a.t_pulse for a in came[:8]], t)
        if arrival is not None:
            leg.served += 1
            total.append((arrival.received_at - pushed) * 1e3)
            stages["receive"].append((arrival.pulled - pushed) * 1e3)
            for name, taken in arrival.stages.items():
                stages[name].append(taken)
        elif _take(refused, refused[:8], t) is not None:
            leg.invalid += 1
        else:
            leg.lost += 1
    leg.p50_ms, leg.p99_ms, leg.max_ms = quantiles(total).values()
    leg.stages_ms = {name: quantiles(values) for name, values in stages.items()}
    return leg


def quantiles(values: list[float]) -> dict[str, float | None]:
    """Return p50, p99 and max; None each where there is no value."""
    if not values:
        return {"p50": None, "p99": None, "max": None}
    p50, p99 = np.quantile(values, [0.5, 0.99])
    return {"p50": float(p50), "p99": float(p99), "max": float(max(values))}


def _take(items: list[Any], times: list[float], t: float) -> Any | None:
    """Remove and return the item of a time from a sorted list, and what is older; None if there is none."""
    passed = sum(time < t - SAME_PULSE_S for time in times)
    del items[:passed]
    if len(times) > passed and times[passed] <= t + SAME_PULSE_S:
        return items.pop(0)
    return None


@dataclass
class BlockFigures:
    """What was measured with one block size: samples that the amplifier pushes at once.

    Attributes
    ----------
    block
        The size.
    same_maps
        Whether every map of the floor is, to the bit, one of the engine's: both had the same pulses.
    """

    block: int
    same_maps: bool
    engine: Leg
    floor: Leg
    floor_rehearsed: Leg | None
    peer: Leg | None


@dataclass
class LatencyFigures:
    """The figures of `m2m bench latency`; the named ones are the worst over block sizes.

    Attributes
    ----------
    served, lost
        Pulses of the engine, of those sent per block size.
    p50_ms, p99_ms, max_ms
        Of the engine.
    p50_over_floor, p99_over_floor
        Engine by floor, each pair measured with the same blocks.
    p50_over_floor_rehearsed, p99_over_floor_rehearsed
        The same against a floor that runs its model while a pulse waits, as the engine does; None where it was not
        measured.
    peer_over_ours
        The peer's p50 by the engine's; None without a peer.
    cpu_share
        The engine's share of one core between pulses.
    rss_growth_mb
        The engine's memory after the first 100 pulses.
    pulses, rate_hz
        Per block size.
    model
        ``name``, ``kind``, ``sha256``, ``path``; ``shipped`` says whether it is the demo's.
    peer
        What the peer computed, or why there was none.
    machine
        Processors and system.
    blocks
        Per block size.
    """

    served: int
    lost: int
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    p50_over_floor: float | None
    p99_over_floor: float | None
    p50_over_floor_rehearsed: float | None
    p99_over_floor_rehearsed: float | None
    peer_over_ours: float | None
    cpu_share: float | None
    rss_growth_mb: float | None
    pulses: int
    rate_hz: float
    model: dict[str, Any]
    peer: str
    machine: str
    blocks: list[BlockFigures]

    def as_json(self) -> dict[str, Any]:
        """Return what can be said in JSON."""
        return asdict(self)


def worst(
    blocks: list[BlockFigures], *, pulses: int, rate_hz: float, model: dict[str, Any], peer: str, machine: str
) -> LatencyFigures:
    """Sum up the block sizes by the worst of each figure."""
    engines = [block.engine for block in blocks]
    peers = [_ratio(block.peer.p50_ms, block.engine.p50_ms) for block in blocks if block.peer is not None]
    return LatencyFigures(
        served=min(engine.served for engine in engines),
        lost=max(engine.lost for engine in engines),
        p50_ms=_largest([engine.p50_ms for engine in engines]),
        p99_ms=_largest([engine.p99_ms for engine in engines]),
        max_ms=_largest([engine.max_ms for engine in engines]),
        p50_over_floor=_largest([_ratio(b.engine.p50_ms, b.floor.p50_ms) for b in blocks]),
        p99_over_floor=_largest([_ratio(b.engine.p99_ms, b.floor.p99_ms) for b in blocks]),
        p50_over_floor_rehearsed=_largest([_ratio(b.engine.p50_ms, _of(b.floor_rehearsed).p50_ms) for b in blocks]),
        p99_over_floor_rehearsed=_largest([_ratio(b.engine.p99_ms, _of(b.floor_rehearsed).p99_ms) for b in blocks]),
        peer_over_ours=min((ratio for ratio in peers if ratio is not None), default=None),
        cpu_share=_largest([engine.cpu_share for engine in engines]),
        rss_growth_mb=_largest([engine.rss_growth_mb for engine in engines]),
        pulses=pulses,
        rate_hz=rate_hz,
        model=model,
        peer=peer,
        machine=machine,
        blocks=blocks,
    )


def _of(leg: Leg | None) -> Leg:
    return leg or Leg()


def _ratio(value: float | None, by: float | None) -> float | None:
    return None if value is None or not by else value / by


def _largest(values: list[float | None]) -> float | None:
    """Return the largest, None as soon as one is unknown: what was not measured is not good."""
    known = [value for value in values if value is not None]
    return max(known) if known and len(known) == len(values) else None

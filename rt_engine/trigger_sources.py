"""Where pulses come from: which of the sources counts, and how the sources are read.

The core knows three: a trigger channel in the EMG stream (`TriggerChannel`), a marker stream, and the stimulus artefact
in the EMG itself (`rt_engine.artefact_detector`). One makes the trials; the others, where they are there, are compared
with it (`rt_engine.trigger_references`).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rt_engine.artefact_detector import ArtefactDetector
from rt_engine.channels import ChannelMap
from rt_engine.pulse import ARTEFACT, TTL


@dataclass(frozen=True)
class TriggerRules:
    """How pulses are found and compared.

    Parameters
    ----------
    source
        ``ttl``, ``marker`` or ``artefact``: what makes the trials.
    refractory_ms
        A source that tells of two pulses closer than this has told of one twice.
    max_disagreement_ms
        Where two sources tell of a pulse, times further apart than this are a disagreement.
    artefact_uv
        Step from one sample to the next that is an artefact, microvolts.
    artefact_channels
        How many muscles must show it in the same sample.
    artefact_refractory_ms
        How long after an artefact no other is looked for: it rings, and MEPs follow that can be as steep.
    compare_artefact
        Whether artefacts are looked for where another source makes the trials.
    """

    source: str = TTL
    refractory_ms: float = 0.2
    max_disagreement_ms: float = 5.0
    artefact_uv: float = 500.0
    artefact_channels: int = 3
    artefact_refractory_ms: float = 100.0
    compare_artefact: bool = False


class TriggerChannel:
    """Finds the edges of the trigger channel.

    Parameters
    ----------
    column
        Of the channel.
    threshold
        Between low and high, in the channel's own unit.
    active_low
        Whether a pulse is a falling edge.
    """

    def __init__(self, column: int, threshold: float, *, active_low: bool = False) -> None:
        self._column = column
        self._threshold = threshold
        self._active_low = active_low
        self._active: bool | None = None

    def find(self, samples: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the places of the edges in the next samples, (n, channels) in the stream's own order."""
        level = samples[:, self._column]
        known = np.flatnonzero(np.isfinite(level))  # a sample that is not a number says nothing about the level
        if known.size == 0:
            return known
        active = level[known] < self._threshold if self._active_low else level[known] > self._threshold
        # The very first sample has no predecessor: if it is active, its edge lies before the stream.
        before = bool(active[0]) if self._active is None else self._active
        edges: NDArray[np.int64] = known[active & ~np.concatenate(([before], active[:-1]))]
        self._active = bool(active[-1])
        return edges


class StreamTriggers:
    """The trigger sources that are in the EMG stream itself.

    Parameters
    ----------
    channels
        Where muscles and trigger are.
    rate_hz
        That the stream states.
    rules
        How pulses are found.
    """

    def __init__(self, channels: ChannelMap, rate_hz: float, rules: TriggerRules) -> None:
        self._ttl: TriggerChannel | None = None
        self._artefact: ArtefactDetector | None = None
        if channels.ttl_column is not None:
            self._ttl = TriggerChannel(channels.ttl_column, channels.ttl_threshold, active_low=channels.ttl_active_low)
        if rules.source == ARTEFACT or rules.compare_artefact:
            refractory = math.ceil(rules.artefact_refractory_ms * rate_hz / 1000.0)
            self._artefact = ArtefactDetector(
                rules.artefact_uv, rules.artefact_channels, refractory, channels.scale_to_uv
            )
        self._refractory = rules.refractory_ms * rate_hz / 1000.0
        self._since_edge = math.inf

    def find(self, samples: NDArray[np.float32], muscles: NDArray[np.float32]) -> list[tuple[int, str]]:
        """Return the places and sources of the pulses in the next samples, in order.

        Parameters
        ----------
        samples
            (n, channels) float32, as the stream has them.
        muscles
            (n, muscles) float32, the same samples of the muscles' channels.
        """
        found: list[tuple[int, str]] = []
        if self._ttl is not None:
            for place in self._ttl.find(samples).tolist():
                if place + self._since_edge >= self._refractory:
                    found.append((place, TTL))
                    self._since_edge = -place
            self._since_edge += len(samples)
        if self._artefact is not None:
            artefacts = [(place, ARTEFACT) for place in self._artefact.find(muscles).tolist()]
            found = sorted(found + artefacts) if found else artefacts
        return found

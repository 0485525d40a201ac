"""Finds TMS pulses by their artefact in the EMG itself, where no trigger reaches the amplifier.

The coil's field induces a voltage in every lead at the same moment, far steeper than what a resting muscle does. So a
pulse is a sample in which several channels at once step by more than a threshold. The artefact rings, and MEPs follow
it that can be as steep (5 mV: 800 uV from one sample to the next at 2 kHz): after one, none is looked for until the
refractory time is over. So paired pulses and bursts cannot be told apart.
"""

import math

import numpy as np
from numpy.typing import NDArray

_SLICE = 8192
"""Samples looked at together, so that a long block needs little memory."""


class ArtefactDetector:
    """Finds steps that several channels share.

    Parameters
    ----------
    threshold_uv
        Step from one sample to the next, microvolts.
    n_channels
        How many channels must show it in the same sample; all of them if there are fewer.
    refractory
        Number of samples after an artefact in which no other is looked for.
    scale_to_uv
        (channels,) float64, microvolts per unit of the samples.
    """

    def __init__(self, threshold_uv: float, n_channels: int, refractory: int, scale_to_uv: NDArray[np.float64]) -> None:
        # Compared in the samples' own unit, so that nothing is scaled that is only looked at.
        self._threshold = (threshold_uv / scale_to_uv).astype(np.float32)
        self._n_channels = min(n_channels, len(scale_to_uv))
        self._refractory = max(refractory, 1)
        self._last_sample = np.full((1, len(scale_to_uv)), np.nan, dtype=np.float32)
        self._blind_for = 0

    def find(self, samples: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the places of the artefacts in the next samples, (n, channels)."""
        places = [begin + self._find(samples[begin : begin + _SLICE]) for begin in range(0, len(samples), _SLICE)]
        return np.concatenate(places) if places else np.empty(0, dtype=np.int64)

    def _find(self, samples: NDArray[np.float32]) -> NDArray[np.int64]:
        before = np.concatenate((self._last_sample, samples[:-1]))
        self._last_sample = samples[-1:].copy()
        with np.errstate(invalid="ignore", over="ignore"):  # NaN, and the step to or from infinity, is no artefact
            step = np.abs(samples - before)
            steep = np.count_nonzero((step >= self._threshold) & (step < math.inf), axis=1) >= self._n_channels
        found = []
        blind_until = self._blind_for
        for place in np.flatnonzero(steep).tolist():
            if place >= blind_until:
                found.append(place)
                blind_until = place + self._refractory
        self._blind_for = max(blind_until - len(samples), 0)
        return np.array(found, dtype=np.int64)

"""The shape of a simulated MEP: motor units that fire one after the other.

Each motor unit's action potential is the first-order Hermite-Rodriguez function (Lo Conte 1994, IEEE Trans Biomed Eng
41:1147) h(t) = (t / lambda) exp(-(t / lambda)^2) with lambda = 2 ms; an MEP is a sum of them, with random sizes and
delays.
"""

import numpy as np

from drivers.simulated.random_streams import Purpose, random_stream
from drivers.simulated.settings import SAMPLE_RATE_HZ
from rt_engine.field.placement import Floats

LAMBDA_MS = 2.0
"""Width of a motor unit's action potential."""

UNITS = 12
"""Motor units in an MEP."""

DISPERSION_MS = 8.0
"""The last motor unit fires at most this long after the first."""

JITTER_MS = 0.3
"""Latency differs by this from trial to trial, SD."""

LEAD = 2.0
"""A potential begins this many lambdas before its centre, where it has 9 % of its peak."""

WAVEFORM_SAMPLES = 121
"""Samples from the pulse to where every MEP has ended, 60 ms."""

WINDOW = slice(20, 101)
"""Samples of the MEP window after the pulse, 10 to 50 ms, both included."""

TIME_MS = np.arange(WAVEFORM_SAMPLES) * 1000.0 / SAMPLE_RATE_HZ


def mep_shapes(onset_ms: Floats, seed: int, pulse: int) -> Floats:
    """Draw the shapes of one pulse's MEPs.

    Parameters
    ----------
    onset_ms
        (m,), typical latency of each muscle.
    seed
        Of the session.
    pulse
        Number of the pulse.

    Returns
    -------
    numpy.ndarray
        (m, `WAVEFORM_SAMPLES`) float64; from the pulse's sample on, peak-to-peak 1 inside `WINDOW`.
    """
    rng = random_stream(seed, Purpose.WAVEFORM, pulse)
    n_muscles = len(onset_ms)
    onset = onset_ms + JITTER_MS * rng.standard_normal(n_muscles)
    size = rng.exponential(1.0, (n_muscles, UNITS))
    delay = DISPERSION_MS * rng.random((n_muscles, UNITS)) ** 2
    delay[:, 0] = 0.0
    polarity = rng.choice((-1.0, 1.0), n_muscles)
    center = onset[:, None] + LEAD * LAMBDA_MS + delay
    phase = (TIME_MS - center[:, :, None]) / LAMBDA_MS
    shape = np.einsum("mu,mut->mt", size, phase * np.exp(-(phase**2)))
    shape *= (polarity / np.ptp(shape[:, WINDOW], axis=1))[:, None]
    return shape

"""Why the same pulse gives another MEP each time: two sources of variability, after Goetz.

Goetz 2014 (Brain Stimulation 7:541) and 2019 (IEEE TNSRE 27:1539) find one source before the recruitment's sigmoid,
which acts like a change of the stimulus, and one after it, which scales the output. Here

    excitability   ln g_m  = common + private_m + drift      (before; log-normal)
    amplitude      A_m     = maximum_m  recruited_m(g_m)  10^output_m      (after; log-normal)
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivers.simulated.random_streams import Purpose, random_stream
from drivers.simulated.settings import CortexSettings
from rt_engine.field.placement import Floats
from rt_engine.muscles import ARTICLE_MUSCLES

PREACTIVATION_LN = 0.15
"""What a muscle's own activity adds to ln g: its threshold falls by some 14 %."""


@dataclass(frozen=True, eq=False)
class Variability:
    """One draw for every pulse and muscle; (n, 15) each.

    Attributes
    ----------
    excitability_ln
        float64, natural logarithm of g.
    output_log10
        float64.
    preactivated
        bool, whether the muscle was not at rest.
    """

    excitability_ln: Floats
    output_log10: Floats
    preactivated: NDArray[np.bool_]


def draw_variability(n_pulses: int, settings: CortexSettings, seed: int) -> Variability:
    """Draw the variability of one session.

    Parameters
    ----------
    n_pulses
        Number of pulses.
    settings
        Standard deviations, drift, share of pre-activated muscles.
    seed
        Of the session.

    Returns
    -------
    Variability
    """
    shape = (n_pulses, len(ARTICLE_MUSCLES))
    excitability = random_stream(seed, Purpose.EXCITABILITY)
    common = settings.common_sd_ln * excitability.standard_normal((n_pulses, 1))
    private = settings.private_sd_ln * excitability.standard_normal(shape)
    drift = settings.drift_ln * np.linspace(0.0, 1.0, n_pulses)[:, None]
    preactivated = random_stream(seed, Purpose.PREACTIVATION).random(shape) < settings.preactivated_share
    return Variability(
        excitability_ln=common + private + drift + PREACTIVATION_LN * preactivated,
        output_log10=settings.output_sd_log10 * random_stream(seed, Purpose.OUTPUT).standard_normal(shape),
        preactivated=preactivated,
    )


def read_without_emg(amplitude_uv: Floats, floor_uv: float, seed: int, purpose: Purpose = Purpose.FLOOR) -> Floats:
    """Compute the amplitude that is read where no EMG is made.

    The MEP and the noise add like a phasor and complex Gaussian noise, so the result has Rice's distribution: never
    negative, `floor_uv` on average where there is no MEP, and hardly changed where the MEP is large.

    Parameters
    ----------
    amplitude_uv
        (n, m), true amplitudes.
    floor_uv
        Mean of what is read without MEP.
    seed
        Of the session.
    purpose
        Which random stream to use.

    Returns
    -------
    numpy.ndarray
        (n, m) float64, microvolts.
    """
    # The mean of Rice's distribution without signal (Rayleigh's) is sigma sqrt(pi / 2).
    sigma = floor_uv / np.sqrt(np.pi / 2.0)
    noise = sigma * random_stream(seed, purpose).standard_normal((2, *amplitude_uv.shape))
    return np.hypot(amplitude_uv + noise[0], noise[1])

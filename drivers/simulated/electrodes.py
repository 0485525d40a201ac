"""What belongs to one person's electrodes and does not change within a session: noise level, latency, artefact, hum."""

from dataclasses import dataclass

import numpy as np

from drivers.simulated.cortex import INTRINSIC_HAND
from drivers.simulated.random_streams import Purpose, random_stream
from drivers.simulated.settings import EmgSettings
from rt_engine.field.placement import Floats
from rt_engine.muscles import ARTICLE_MUSCLES

ONSET_HAND_MS = (22.0, 24.0)
ONSET_FOREARM_MS = (16.0, 18.0)
"""Latency of an MEP by the muscle's place."""

NEIGHBOURS: tuple[tuple[str, str], ...] = (
    ("FDI", "AdPB"), ("FDI", "3Lum"), ("AdPB", "AbPB"), ("3DI", "3Lum"), ("ADM", "FDM"), ("3DI", "FDM"), ("EI", "EDC"),
    ("EDC", "ECU"), ("EDC", "ECR"), ("ECR", "BRD"), ("FCR", "FDS"), ("FDS", "FCU"), ("FCR", "BRD"), ("EI", "ECU"),
)  # fmt: skip
"""Muscles that lie side by side, between which cross-talk goes."""


@dataclass(frozen=True, eq=False)
class Electrodes:
    """Per muscle, (15,) float64 each.

    Attributes
    ----------
    onset_ms
        Typical latency of the MEP.
    noise_rms_uv
        RMS of the baseline noise.
    hum_uv, hum_phase
        Amplitude and phase of the mains hum.
    artefact_gain
        Size and sign of the stimulus artefact relative to the settings' value.
    artefact_phase
        Phase of its ringing.
    mixing
        (15, 15) float64, share of each muscle (column) in each electrode (row).
    """

    onset_ms: Floats
    noise_rms_uv: Floats
    hum_uv: Floats
    hum_phase: Floats
    artefact_gain: Floats
    artefact_phase: Floats
    mixing: Floats


def make_electrodes(settings: EmgSettings, crosstalk: float, subject_seed: int) -> Electrodes:
    """Draw one person's electrodes.

    Parameters
    ----------
    settings
        Ranges of what is drawn.
    crosstalk
        Share of a neighbour's signal.
    subject_seed
        Of the person.

    Returns
    -------
    Electrodes
    """
    rng = random_stream(subject_seed, Purpose.ELECTRODES)
    n = len(ARTICLE_MUSCLES)
    hand = np.array([muscle in INTRINSIC_HAND for muscle in ARTICLE_MUSCLES])
    low, high = np.where(hand[:, None], ONSET_HAND_MS, ONSET_FOREARM_MS).T
    mixing = np.eye(n)
    for one, other in NEIGHBOURS:
        row, column = ARTICLE_MUSCLES.index(one), ARTICLE_MUSCLES.index(other)
        mixing[row, column] = mixing[column, row] = crosstalk
    return Electrodes(
        onset_ms=rng.uniform(low, high),
        noise_rms_uv=rng.uniform(*settings.noise_rms_uv, n),
        hum_uv=settings.hum_uv * rng.random(n),
        hum_phase=rng.uniform(0.0, 2.0 * np.pi, n),
        artefact_gain=np.exp(0.5 * rng.standard_normal(n)) * rng.choice((-1.0, 1.0), n),
        artefact_phase=rng.uniform(0.0, 2.0 * np.pi, n),
        mixing=mixing,
    )

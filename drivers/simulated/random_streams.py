"""One random stream per purpose and index, so that nothing drawn for one thing shifts what is drawn for another."""

import enum

import numpy as np


class Purpose(enum.IntEnum):
    """What random numbers are for; the numbers are part of what a seed means and never change."""

    PATCHES = 0
    THRESHOLDS = 1
    ELECTRODES = 2
    PLACEMENTS = 3
    SCHEDULE = 4
    EXCITABILITY = 5
    OUTPUT = 6
    FLOOR = 7
    WAVEFORM = 8
    NOISE = 9
    WAITING_NOISE = 10
    PREACTIVATION = 11
    PREACTIVATION_NOISE = 12
    CALIBRATION = 13
    NAVIGATION = 14
    FAULT = 15


def random_stream(seed: int, purpose: Purpose, index: int = 0) -> np.random.Generator:
    """Return the generator of one purpose.

    Parameters
    ----------
    seed
        Of the subject or of the session.
    purpose
        What the numbers are for.
    index
        E.g. the number of a frame or of a pulse.

    Returns
    -------
    numpy.random.Generator
        Child (purpose, index) of the seed's `SeedSequence`; streams of different children are independent.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(purpose), index)))

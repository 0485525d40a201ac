"""How the stimulator's setting stands in a sample of an LSL stream."""

import math
from collections.abc import Sequence

from rt_engine.companions import StimulatorIntensity

DIDT_LABEL = "didt_a_per_us"
"""Label of the channel that gives dI/dt at the set output, A/us, where there is one; the first is percent of MSO."""


def parse_intensity(values: Sequence[str | float], labels: Sequence[str], t: float) -> StimulatorIntensity | None:
    """Read the stimulator's setting.

    Parameters
    ----------
    values
        One sample of the stream.
    labels
        Of its channels; empty where the metadata have none.
    t
        Its time in the engine's clock, s.

    Returns
    -------
    StimulatorIntensity or None
        None for a sample that is no number. A dI/dt that is none, or not positive, is taken as not told.
    """
    if not values or not isinstance(values[0], float):
        return None
    told = values[labels.index(DIDT_LABEL)] if DIDT_LABEL in labels[: len(values)] else None
    didt = told if isinstance(told, float) and math.isfinite(told) and told > 0.0 else None
    return StimulatorIntensity(t, values[0], didt)

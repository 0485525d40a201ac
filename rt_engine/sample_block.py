"""A block of EMG samples, as an inlet or a recording hands it to the engine."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rt_engine.errors import DataError


@dataclass(frozen=True, eq=False)
class SampleBlock:
    """Consecutive samples of the EMG stream. Its length carries no meaning: any chunking gives the same results.

    Parameters
    ----------
    samples
        (n_samples, n_channels) float32, in the stream's own unit and channel order.
    stamps
        (n_samples,) float64, raw LSL time stamps, s.
    clock_offset
        What to add to `stamps` to reach the engine's clock, s.
    clock_uncertainty
        One standard deviation of `clock_offset`, s.

    Raises
    ------
    DataError
        If the shapes do not fit each other.
    """

    samples: NDArray[np.float32]
    stamps: NDArray[np.float64]
    clock_offset: float = 0.0
    clock_uncertainty: float = 0.0

    def __post_init__(self) -> None:
        if self.samples.ndim != 2 or self.stamps.shape != (self.samples.shape[0],):
            raise DataError(
                f"a block needs samples (n, channels) and stamps (n,); got {self.samples.shape} and {self.stamps.shape}"
            )

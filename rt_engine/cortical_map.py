"""The estimate for one pulse: the field on the BA4 voxels, with how far it can be trusted."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NO_ACTIVE_MUSCLE = "no_active_muscle"
"""Reason: no usable muscle reached the floor; the map is little more than the mean map."""

ONE_ACTIVE_MUSCLE = "one_active_muscle"
"""Reason: the article warns against maps from a single muscle (III, Fig. 5c)."""

WEAK_RESPONSE = "weak_response"
"""Reason: the normalised amplitudes' mean is below 0.02, where the article warns too (III, Fig. 5a)."""

WEAK_MEAN = 0.02
"""Mean of the normalised amplitudes below which a map is not to be trusted (article, III)."""


@dataclass(frozen=True, eq=False)
class CorticalMap:
    """Which part of the motor cortex was stimulated.

    Attributes
    ----------
    field
        (V,) float32 in [0, 1], normalised E-field magnitude on the model's voxels.
    spread
        (V,) float32, one standard deviation of `field`.
    cog_mm
        (3,) float64, centre of gravity in scanner space (article, eq. 14).
    cog_cov_mm2
        (3, 3) float64, its covariance.
    mep_normalised
        (muscles,) float32 in [0, 1].
    scale_v_per_m
        What 1.0 in `field` stands for.
    confidence_reasons
        Why the map is to be taken with caution; empty if it is not.
    """

    field: NDArray[np.float32]
    spread: NDArray[np.float32]
    cog_mm: NDArray[np.float64]
    cog_cov_mm2: NDArray[np.float64]
    mep_normalised: NDArray[np.float32]
    scale_v_per_m: float
    confidence_reasons: tuple[str, ...] = ()

    @property
    def confidence(self) -> str:
        """``ok`` or ``low``."""
        return "low" if self.confidence_reasons else "ok"

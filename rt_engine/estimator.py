"""From amplitudes to a cortical map: hands a model what it may use, and judges how far its answer goes."""

from collections.abc import Mapping
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from rt_engine.cortical_map import (
    NO_ACTIVE_MUSCLE,
    ONE_ACTIVE_MUSCLE,
    WEAK_MEAN,
    WEAK_RESPONSE,
    CorticalMap,
)
from rt_engine.mep import MepStatus, MepVector
from rt_engine.model_file import Estimate

Use = Literal["use", "mark", "reject"]
"""What a status does: nothing; lower the map's confidence; withhold the muscle from the model as well."""

DEFAULT_POLICY: Mapping[MepStatus, Use] = {
    MepStatus.NO_MEP: "use",
    MepStatus.PREACTIVATED: "mark",
    MepStatus.SATURATED: "mark",
    MepStatus.FLAT: "reject",
    MepStatus.SAMPLES_MISSING: "reject",
    MepStatus.ARTEFACT: "mark",
    MepStatus.BASELINE_SHORT: "use",
}
"""What each status does unless the settings say otherwise."""


class Predictor(Protocol):
    """What the estimator needs of a model."""

    def predict(self, amplitudes_uv: NDArray[np.float32], valid: NDArray[np.bool_]) -> Estimate:
        """Estimate the field from (muscles,) amplitudes in microvolts and which of them are valid."""
        ...


class CortexEstimator:
    """Turns the muscles' answer to one pulse into a map.

    Parameters
    ----------
    model
        The model; its muscles are in the order of the MEP vectors.
    muscles
        Their names, for the reasons.
    scale_v_per_m
        What 1.0 in the model's field stands for.
    floor_uv
        A muscle is active from this amplitude on.
    policy
        What each status does; a missing one does what `DEFAULT_POLICY` says.
    """

    def __init__(
        self,
        model: Predictor,
        muscles: tuple[str, ...],
        scale_v_per_m: float,
        *,
        floor_uv: float = 50.0,
        policy: Mapping[MepStatus, Use] | None = None,
    ) -> None:
        chosen = {**DEFAULT_POLICY, **(policy or {})}
        # Without an amplitude there is nothing to use, whatever the settings say.
        chosen[MepStatus.SAMPLES_MISSING] = "reject"
        self._model = model
        self._muscles = muscles
        self._scale_v_per_m = scale_v_per_m
        self._floor_uv = floor_uv
        self._rejected = _mask(chosen, "reject")
        told = self._rejected | _mask(chosen, "mark")
        self._told = [(int(flag), (flag.name or "").lower()) for flag in MepStatus if flag & told]

    def estimate(self, meps: MepVector) -> CorticalMap:
        """Estimate the map of one pulse.

        Raises
        ------
        ModelError
            If the model gives something unusable.
        """
        status = meps.status
        valid = (status & self._rejected) == 0
        # The model must never see NaN, also where it is told not to look.
        amplitudes = np.where(valid, meps.amplitude_uv, np.float32(0.0)).astype(np.float32)
        estimate = self._model.predict(amplitudes, valid)
        active = int(np.count_nonzero(valid & (amplitudes >= self._floor_uv)))
        reasons: list[str] = []
        if active == 0:
            reasons.append(NO_ACTIVE_MUSCLE)
        elif active == 1:
            reasons.append(ONE_ACTIVE_MUSCLE)
        if active and valid.any() and float(estimate.mep_normalised[valid].mean()) < WEAK_MEAN:
            reasons.append(WEAK_RESPONSE)
        for muscle, flags in zip(self._muscles, status.tolist(), strict=True):
            reasons += [f"{name}:{muscle}" for flag, name in self._told if flag & flags]
        return CorticalMap(
            field=estimate.field,
            spread=estimate.spread,
            cog_mm=estimate.cog_mm,
            cog_cov_mm2=estimate.cog_cov_mm2,
            mep_normalised=estimate.mep_normalised,
            scale_v_per_m=self._scale_v_per_m,
            confidence_reasons=tuple(reasons),
        )


def _mask(policy: Mapping[MepStatus, Use], use: Use) -> int:
    return sum(int(flag) for flag, chosen in policy.items() if chosen == use)

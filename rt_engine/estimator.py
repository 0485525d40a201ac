"""From amplitudes to a cortical map: hands a model what it may use, and judges how far its answer goes."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rt_engine.cortical_map import (
    NO_ACTIVE_MUSCLE,
    ONE_ACTIVE_MUSCLE,
    WEAK_MEAN,
    WEAK_RESPONSE,
    CorticalMap,
)
from rt_engine.errors import DataError, ModelError
from rt_engine.mep import MepStatus, MepVector
from rt_engine.model_file import Estimate, Model

GAIN_LIMITS = (0.05, 20.0)
"""Smallest and largest gain: electrodes that sit elsewhere today do not change an amplitude by more."""

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
    order
        (muscles,), where each of the model's muscles stands among `muscles`; None if the orders are the same.
    model_sha256
        Of the model file, for the results.
    """

    def __init__(
        self,
        model: Predictor,
        muscles: tuple[str, ...],
        scale_v_per_m: float,
        *,
        floor_uv: float = 50.0,
        policy: Mapping[MepStatus, Use] | None = None,
        order: Sequence[int] | None = None,
        model_sha256: str = "",
    ) -> None:
        chosen = {**DEFAULT_POLICY, **(policy or {})}
        # Without an amplitude there is nothing to use, whatever the settings say.
        chosen[MepStatus.SAMPLES_MISSING] = "reject"
        self.muscles = muscles
        self.model_sha256 = model_sha256
        self._model = model
        self._order = None if order is None else np.asarray(order, dtype=np.intp)
        self._scale_v_per_m = scale_v_per_m
        self._floor_uv = np.float32(floor_uv)
        self._rejected = _mask(chosen, "reject")
        told = self._rejected | _mask(chosen, "mark")
        self._told = [(int(flag), (flag.name or "").lower()) for flag in MepStatus if flag & told]

    def estimate(self, meps: MepVector, gains: NDArray[np.float32] | None = None) -> CorticalMap:
        """Estimate the map of one pulse.

        Parameters
        ----------
        meps
            As measured.
        gains
            (muscles,) float32, what each amplitude is multiplied by before the model sees it; None leaves them alone.
            An amplitude below the floor counts as no response, and no gain lifts it above.

        Raises
        ------
        ModelError
            If the model gives something unusable.
        """
        status = meps.status
        valid = (status & self._rejected) == 0
        # The model must never see NaN, also where it is told not to look.
        amplitudes = np.where(valid, meps.amplitude_uv, np.float32(0.0)).astype(np.float32)
        if gains is not None:
            scaled = amplitudes * gains
            # Else a large gain would make a response out of the amplifier's noise.
            quiet = np.minimum(scaled, np.nextafter(self._floor_uv, np.float32(0.0)))
            amplitudes = np.where(amplitudes < self._floor_uv, quiet, scaled)
        if self._order is None:
            estimate = self._model.predict(amplitudes, valid)
            normalised = estimate.mep_normalised
        else:
            estimate = self._model.predict(amplitudes[self._order], valid[self._order])
            normalised = np.empty_like(estimate.mep_normalised)
            normalised[self._order] = estimate.mep_normalised
        active = int(np.count_nonzero(valid & (amplitudes >= self._floor_uv)))
        reasons: list[str] = []
        if active == 0:
            reasons.append(NO_ACTIVE_MUSCLE)
        elif active == 1:
            reasons.append(ONE_ACTIVE_MUSCLE)
        if active and valid.any() and float(normalised[valid].mean()) < WEAK_MEAN:
            reasons.append(WEAK_RESPONSE)
        for muscle, flags in zip(self.muscles, status.tolist(), strict=True):
            reasons += [f"{name}:{muscle}" for flag, name in self._told if flag & flags]
        return CorticalMap(
            field=estimate.field,
            spread=estimate.spread,
            cog_mm=estimate.cog_mm,
            cog_cov_mm2=estimate.cog_cov_mm2,
            mep_normalised=normalised,
            scale_v_per_m=self._scale_v_per_m,
            confidence_reasons=tuple(reasons),
        )


def make_estimator(
    model: Model,
    muscles: tuple[str, ...],
    *,
    floor_uv: float = 50.0,
    policy: Mapping[MepStatus, Use] | None = None,
) -> CortexEstimator:
    """Make the estimator of a model for a session's muscles, in the session's order.

    Parameters
    ----------
    model
        Opened; its muscles may stand in another order.
    muscles
        Of the session: the order of its MEP vectors.
    floor_uv, policy
        As `CortexEstimator`.

    Raises
    ------
    ModelError
        If the model is not of exactly these muscles.
    """
    known = model.info.muscles
    if set(known) != set(muscles):
        missing = [muscle for muscle in known if muscle not in muscles]
        strange = [muscle for muscle in muscles if muscle not in known]
        raise ModelError(
            f"{model.info.path}: the model is of {len(known)} muscles, the session measures {len(muscles)}"
            + (f"; the session lacks {', '.join(missing)}" if missing else "")
            + (f"; the model does not know {', '.join(strange)}" if strange else "")
            + ". Take a model that was trained on the session's muscles"
        )
    order = None if known == muscles else [muscles.index(muscle) for muscle in known]
    return CortexEstimator(
        model,
        muscles,
        model.info.field_scale_v_per_m,
        floor_uv=floor_uv,
        policy=policy,
        order=order,
        model_sha256=model.info.sha256,
    )


def check_gains(gains: ArrayLike, muscles: tuple[str, ...]) -> NDArray[np.float32]:
    """Check gains and return them as (muscles,) float32.

    Raises
    ------
    DataError
        If there is not one per muscle, or one is outside `GAIN_LIMITS`.
    """
    checked = np.array(gains, dtype=np.float32)
    if checked.shape != (len(muscles),):
        raise DataError(f"expected {len(muscles)} gains, one per muscle; got the shape {checked.shape}")
    low, high = GAIN_LIMITS
    for muscle, gain in zip(muscles, checked.tolist(), strict=True):
        if not low <= gain <= high:
            raise DataError(f"the gain of {muscle} is {gain:g}; expected {low:g} to {high:g}")
    return checked


def gains_by_name(named: Mapping[str, float], muscles: tuple[str, ...]) -> list[float]:
    """Return one gain per muscle; a muscle that is not named has the gain 1.

    Raises
    ------
    DataError
        If a name is none of the session's muscles, or a gain is outside `GAIN_LIMITS`.
    """
    for name in named:
        if name not in muscles:
            raise DataError(f"the session has no muscle {name!r}; it has {', '.join(muscles)}")
    gains = [float(named.get(muscle, 1.0)) for muscle in muscles]
    check_gains(gains, muscles)
    return gains


def _mask(policy: Mapping[MepStatus, Use], use: Use) -> int:
    return sum(int(flag) for flag, chosen in policy.items() if chosen == use)

"""Fit a baseline with its spread: what `trainer.export` turns into a model file.

`Baseline.predict` is the numpy and scikit-learn form of what the exported graph computes, and its reference.
"""

from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import TransformedTargetRegressor
from threadpoolctl import threadpool_limits

from rt_engine.errors import DataError
from trainer.baselines import DEFAULT_FLOOR_UV, Kind, fit_regressor, predict_field
from trainer.preprocessing import TrainingSet, check_muscles_vary
from trainer.uncertainty import LinearMap, Uncertainty, cog_and_lever, fit_uncertainty, linear_map

EXPORTABLE: tuple[Kind, ...] = ("ridge", "kernel-ridge")
"""Baselines that can become a model file."""

CHUNK = 128
"""Stimulations predicted at once: some intermediate arrays are (stimulations, components, voxels)."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """Estimates for n stimulations.

    Attributes
    ----------
    field : numpy.ndarray
        (n, V) float64 in [0, 1]: scikit-learn's own prediction, clipped.
    spread : numpy.ndarray
        (n, V) float64, one standard deviation of it.
    cog_mm : numpy.ndarray
        (n, 3) float64, mm.
    cog_cov_mm2 : numpy.ndarray
        (n, 3, 3) float64, mm^2.
    """

    field: NDArray[np.float64]
    spread: NDArray[np.float64]
    cog_mm: NDArray[np.float64]
    cog_cov_mm2: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Baseline:
    """A fitted ridge or kernel-ridge baseline with its spread.

    Attributes
    ----------
    kind : str
        ``ridge`` or ``kernel-ridge``.
    floor_uv : float
        Amplitudes below it count as equal to it, uV.
    regressor : TransformedTargetRegressor
        scikit-learn's estimator.
    uncertainty : Uncertainty
        What the spread is computed from.
    training : TrainingSet
        What it was fitted to.
    """

    kind: Kind
    floor_uv: float
    regressor: TransformedTargetRegressor = field(repr=False)
    uncertainty: Uncertainty = field(repr=False)
    training: TrainingSet = field(repr=False)

    @property
    def linear_map(self) -> LinearMap:
        """The regression as one matrix product."""
        return linear_map(self.regressor.regressor_.named_steps["regression"])

    @property
    def hyperparameters(self) -> dict[str, float]:
        """What the search chose, and the number of components."""
        chosen = self.regressor.regressor_.named_steps["regression"]
        found: dict[str, float] = {"alpha": float(chosen.alpha)}
        if self.kind == "kernel-ridge":
            found["gamma"] = float(chosen.gamma)
        return found | {"n_components": int(self.regressor.transformer_.n_components_)}

    def predict(self, amplitudes_uv: NDArray[np.float64]) -> Prediction:
        """Estimate the fields of n stimulations.

        Parameters
        ----------
        amplitudes_uv : numpy.ndarray
            (n, m), uV; NaN where not usable.
        """
        amplitudes_uv = np.asarray(amplitudes_uv, dtype=np.float64)
        parts = [self._predict(amplitudes_uv[k : k + CHUNK]) for k in range(0, len(amplitudes_uv), CHUNK)]
        return Prediction(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Prediction)))

    def _predict(self, amplitudes_uv: NDArray[np.float64]) -> Prediction:
        estimated = predict_field(self.regressor, amplitudes_uv)
        steps = self.regressor.regressor_
        z, open_covariance = steps.named_steps["missing"].condition(steps[:2].transform(amplitudes_uv))
        model, components = self.linear_map, self.regressor.transformer_.components_
        scale = self.uncertainty.scale(model.features(z))
        slope = model.derivative(z)
        # First order: what the missing muscles leave open in the scores.
        open_scores = slope @ open_covariance @ slope.transpose(0, 2, 1)
        open_voxels = np.maximum((components * (open_scores @ components)).sum(axis=1), 0.0)
        spread = np.sqrt(scale[:, None] * self.uncertainty.voxel_variance + open_voxels)
        cog, lever = cog_and_lever(estimated, components, self.training.voxel_mm)
        factor = self.uncertainty.score_factor
        score_covariance = scale[:, None, None] * (factor @ factor.T) + open_scores
        return Prediction(estimated, spread, cog, lever @ score_covariance @ lever.transpose(0, 2, 1))


def fit_baseline(
    training: TrainingSet,
    kind: Kind = "kernel-ridge",
    *,
    floor_uv: float = DEFAULT_FLOOR_UV,
    inner_folds: int = 5,
    seed: int = 0,
) -> Baseline:
    """Fit a baseline and its spread.

    The same data give the same bits on the same machine: linear algebra runs in one thread.

    Parameters
    ----------
    training : TrainingSet
        From `trainer.preprocessing.prepare`.
    kind : str
        One of `EXPORTABLE`.
    floor_uv : float
        Amplitudes below it count as equal to it, uV.
    inner_folds : int
        Folds of the search for hyperparameters, and of the errors that the spread is learned from.
    seed : int
        Shuffles the inner folds.

    Raises
    ------
    DataError
        If a muscle never rises above the floor, or `kind` has no spread.
    """
    check_muscles_vary(training.amplitudes_uv, training.muscles, floor_uv)
    if kind not in EXPORTABLE:
        raise DataError(f"a baseline of kind {kind!r} has no spread; use one of {', '.join(EXPORTABLE)}")
    y, x = training.amplitudes_uv, training.field
    with threadpool_limits(1):
        regressor = fit_regressor(kind, y, x, floor_uv=floor_uv, inner_folds=inner_folds, seed=seed)
        uncertainty = fit_uncertainty(regressor, y, x, training.voxel_mm, folds=inner_folds, seed=seed)
    return Baseline(kind, floor_uv, regressor, uncertainty, training)

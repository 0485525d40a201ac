"""How far a baseline's map may be off: a spread per voxel and a covariance of the centre of gravity.

Deterministic, with three parts (equations in `docs/baselines.md`):

- how large errors are for answers like this one: a second regression, of the same kind, to the logarithm of the
  squared error that cross-validation left;
- how far this answer is from all that the model was fitted to: the predictive variance of a Gaussian process with the
  same kernel (of Bayesian linear regression for ridge);
- what missing muscles leave open: their conditional covariance, carried through the model's derivative.

The first two scale the covariance of cross-validated errors. Two factors then make 68.27 % of these errors fall within
one standard deviation.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2
from sklearn.base import BaseEstimator, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import GridSearchCV, KFold

from rt_engine.errors import DataError

ONE_SD = 0.6827
"""Probability within one standard deviation of a normal distribution."""

TWO_SD = 0.95
"""The wider coverage that is checked, within 1.96 standard deviations."""

_LOG_ERROR_ALPHAS = [0.3, 1.0, 3.0, 10.0, 30.0, 100.0]
_EIGEN_TOLERANCE = 1e-3
_MAX_EIGENVECTORS = 64
"""What is cut off counts as not known, in the calibration too: with 1,200 stimulations it is 0.04 of 1 on average."""


@dataclass(frozen=True, eq=False)
class LinearMap:
    """A regression seen as one matrix product: scores = features @ weights + offset.

    Attributes
    ----------
    centers : numpy.ndarray or None
        (N, m) standardised training amplitudes of a kernel regression; None for a linear one, whose features are the
        standardised amplitudes themselves.
    gamma : float
        Of the kernel exp(-gamma d^2).
    weights : numpy.ndarray
        (F, r); F = N or m.
    offset : numpy.ndarray
        (r,).
    """

    centers: NDArray[np.float64] | None
    gamma: float
    weights: NDArray[np.float64]
    offset: NDArray[np.float64]

    def features(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (n, F) features of (n, m) standardised amplitudes."""
        return z if self.centers is None else rbf_kernel(z, self.centers, gamma=self.gamma)

    def derivative(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (n, r, m), derivative of the scores by the standardised amplitudes."""
        if self.centers is None:
            return np.broadcast_to(self.weights.T, (len(z), *self.weights.T.shape))
        k = self.features(z)
        away = (k @ self.weights)[:, :, None] * z[:, None, :]
        towards = (k[:, None, :] * self.weights.T) @ self.centers
        return -2.0 * self.gamma * (away - towards)


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """What `spread` and `cog_cov_mm2` are computed from; see the module's first lines.

    Attributes
    ----------
    log_error_weights : numpy.ndarray
        (F,), features to the logarithm of the squared error, apart from `log_error_offset`.
    log_error_offset, log_error_low, log_error_high : float
        Its constant, and the range it is held to (that of the training set).
    known : numpy.ndarray
        (F, q); the squared norm of features @ known is what a kernel model knows of this answer (1 = all, 0 = nothing
        like it was seen), or a linear model's leverage.
    noise : float
        Variance of the noise in units of the kernel (`alpha` of the regression); 0 for a linear model.
    voxel_variance : numpy.ndarray
        (V,), variance of each voxel's error at unit scale, calibrated.
    score_factor : numpy.ndarray
        (r, r), L with L L^T = covariance of the scores' errors at unit scale, calibrated for the CoG.
    """

    log_error_weights: NDArray[np.float64]
    log_error_offset: float
    log_error_low: float
    log_error_high: float
    known: NDArray[np.float64]
    noise: float
    voxel_variance: NDArray[np.float64]
    score_factor: NDArray[np.float64]

    def scale(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (n,) factors of the variance."""
        log_error = features @ self.log_error_weights + self.log_error_offset
        return np.exp(np.clip(log_error, self.log_error_low, self.log_error_high)) * _novelty(
            features, self.known, self.noise
        )


def linear_map(regression: BaseEstimator) -> LinearMap:
    """Take a fitted `Ridge` or RBF `KernelRidge` apart.

    Raises
    ------
    DataError
        For another regression.
    """
    if isinstance(regression, KernelRidge):
        weights = regression.dual_coef_.reshape(len(regression.X_fit_), -1)
        return LinearMap(regression.X_fit_, float(regression.gamma), weights, np.zeros(weights.shape[1]))
    if isinstance(regression, Ridge):
        weights = np.atleast_2d(regression.coef_).T
        return LinearMap(None, 0.0, weights, np.broadcast_to(regression.intercept_, weights.shape[1]).copy())
    raise DataError(f"a {type(regression).__name__} baseline has no spread and cannot be exported")


def fit_uncertainty(
    regressor: TransformedTargetRegressor,
    amplitudes_uv: NDArray[np.float64],
    field: NDArray[np.float64],
    voxel_mm: NDArray[np.float64],
    *,
    folds: int = 5,
    seed: int = 0,
) -> Uncertainty:
    """Learn how far a baseline's maps are off, from errors on stimulations that it was not fitted to.

    Parameters
    ----------
    regressor : TransformedTargetRegressor
        Fitted ridge or kernel-ridge baseline; its hyperparameters are taken as they are.
    amplitudes_uv : numpy.ndarray
        (n, m) float64, uV, NaN where not usable: what it was fitted to.
    field : numpy.ndarray
        (n, V) float64, the same.
    voxel_mm : numpy.ndarray
        (V, 3), mm.
    folds : int
        Folds of the cross-validation.
    seed : int
        Shuffles them.
    """
    pca = regressor.transformer_
    full = linear_map(regressor.regressor_.named_steps["regression"])
    n = len(field)
    scores = pca.transform(field)
    score_error = np.empty_like(scores)
    novelty = np.empty(n)
    for fit, test in KFold(folds, shuffle=True, random_state=seed + 1).split(field):
        pipeline = clone(regressor.regressor).fit(amplitudes_uv[fit], scores[fit])
        score_error[test] = scores[test] - pipeline.predict(amplitudes_uv[test]).reshape(len(test), -1)
        part = linear_map(pipeline.named_steps["regression"])
        z_fit, z_test = pipeline[:-1].transform(amplitudes_uv[fit]), pipeline[:-1].transform(amplitudes_uv[test])
        known, noise = _known(part, z_fit, pipeline.named_steps["regression"].alpha)
        novelty[test] = _novelty(part.features(z_test), known, noise)
    predicted = pca.inverse_transform(scores - score_error)
    error = field - np.clip(predicted, 0.0, 1.0)

    z = regressor.regressor_[:-1].transform(amplitudes_uv)
    log_error = np.log((error**2).mean(axis=1) / novelty)
    weights, offset, fitted = _regress_log_error(full, z, log_error, seed)
    low, high = float(fitted.min()), float(fitted.max())
    known, noise = _known(full, z, regressor.regressor_.named_steps["regression"].alpha)

    # `fitted` are predictions for stimulations left out, as `novelty` is: the scale that a new stimulation would get.
    scale = np.exp(fitted) * novelty
    voxel_variance = (error**2 / scale[:, None]).mean(axis=0)
    covariance = (score_error.T / scale) @ score_error / n
    ratio = error**2 / (scale[:, None] * voxel_variance)
    voxel_variance *= np.quantile(ratio, ONE_SD)  # 1 standard deviation: ratio 1

    factor = np.linalg.cholesky(covariance + 1e-12 * np.trace(covariance) * np.eye(len(covariance)))
    true_cog, _ = cog_and_lever(field, pca.components_, voxel_mm)
    cog, lever = cog_and_lever(np.clip(predicted, 0.0, 1.0), pca.components_, voxel_mm)
    spread = lever @ factor * np.sqrt(scale)[:, None, None]
    off = true_cog - cog
    distance = (off * np.linalg.solve(spread @ spread.transpose(0, 2, 1), off[:, :, None])[:, :, 0]).sum(axis=1)
    factor *= np.sqrt(np.quantile(distance, ONE_SD) / chi2.ppf(ONE_SD, 3))
    return Uncertainty(weights, offset, low, high, known, noise, voxel_variance, factor)


def _regress_log_error(
    model: LinearMap, z: NDArray[np.float64], target: NDArray[np.float64], seed: int
) -> tuple[NDArray[np.float64], float, NDArray[np.float64]]:
    """Regress the logarithm of the squared error; returns weights, offset and predictions for rows left out."""
    offset = float(target.mean())
    estimator = Ridge(fit_intercept=False) if model.centers is None else KernelRidge(kernel="rbf", gamma=model.gamma)
    folds = KFold(5, shuffle=True, random_state=seed + 2)
    search = GridSearchCV(
        estimator, {"alpha": _LOG_ERROR_ALPHAS}, scoring="neg_mean_squared_error", cv=folds, error_score="raise"
    ).fit(z, target - offset)
    best = search.best_estimator_
    fitted = np.empty(len(z))
    for fit, test in folds.split(z):
        fitted[test] = clone(best).fit(z[fit], target[fit] - offset).predict(z[test])
    weights = best.coef_ if model.centers is None else best.dual_coef_
    return weights, offset, fitted + offset


def _known(model: LinearMap, z: NDArray[np.float64], alpha: float) -> tuple[NDArray[np.float64], float]:
    """Return (F, q) `known` and `noise` of `Uncertainty`."""
    if model.centers is None:
        inverse = np.linalg.inv(z.T @ z + alpha * np.eye(z.shape[1]))
        return np.linalg.cholesky(inverse), 0.0
    # (K + alpha)^-1 in its leading eigenvectors: few matter, and all of them would make a file of N^2 numbers.
    values, vectors = np.linalg.eigh(model.features(z))
    kept = np.flatnonzero(values > _EIGEN_TOLERANCE * alpha)[-_MAX_EIGENVECTORS:]
    return vectors[:, kept] / np.sqrt(values[kept] + alpha), float(alpha)


def _novelty(features: NDArray[np.float64], known: NDArray[np.float64], noise: float) -> NDArray[np.float64]:
    """Variance of a prediction by the variance of the noise, 1 or more."""
    norm = ((features @ known) ** 2).sum(axis=1)
    return 1.0 + norm if noise == 0.0 else 1.0 + np.maximum(1.0 - norm, 0.0) / noise


def cog_and_lever(
    field: NDArray[np.float64], components: NDArray[np.float64], voxel_mm: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the centre of gravity and its derivative by the scores of the field's components.

    Parameters
    ----------
    field : numpy.ndarray
        (n, V) in [0, 1]. One that is zero everywhere counts as even: its CoG is the mask's centre.
    components : numpy.ndarray
        (r, V).
    voxel_mm : numpy.ndarray
        (V, 3), mm.

    Returns
    -------
    cog_mm : numpy.ndarray
        (n, 3).
    lever : numpy.ndarray
        (n, 3, r): d CoG / d score = sum over voxels (x - CoG) component / sum of the field, the derivative of eq. 14.
    """
    field = np.where(field.sum(axis=1, keepdims=True) > 0, field, 1.0)
    total = field.sum(axis=1)
    cog = field @ voxel_mm / total[:, None]
    moments, sums = voxel_mm.T @ components.T, components.sum(axis=1)
    return cog, (moments - cog[:, :, None] * sums) / total[:, None, None]

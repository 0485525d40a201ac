"""The baselines: scikit-learn estimators from MEP amplitudes to the field, the yardstick of every other model.

One pipeline for all: floor and log10 of the amplitudes, standardise, fill in what is missing, then a regression to
the principal components of the field. Only the regression differs. Amplitudes below the threshold of an MEP are kept
as numbers, since they carry information. Equations and figures: `docs/baselines.md`.
"""

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import TransformedTargetRegressor
from sklearn.covariance import ledoit_wolf
from sklearn.decomposition import PCA
from sklearn.dummy import DummyRegressor
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from rt_engine.errors import DataError

Kind = Literal["mean-map", "knn", "ridge", "kernel-ridge"]
KINDS: tuple[Kind, ...] = get_args(Kind)

DEFAULT_FLOOR_UV = 5.0
"""Amplitudes below it count as equal to it, uV: below the noise of any recording, and keeps the logarithm finite."""

EXPLAINED_VARIANCE = 0.999
"""Principal components are kept until they explain this part of the field's variance."""

MAX_COMPONENTS = 40
"""Bound on their number: on the simulated subject 13 hold 99.9 % of the variance."""

GRIDS: dict[Kind, dict[str, list[Any]]] = {
    "mean-map": {},
    "knn": {"regression__n_neighbors": [3, 5, 8, 12, 20, 30]},
    "ridge": {"regression__alpha": [0.1, 1.0, 10.0, 30.0, 100.0, 300.0, 1000.0]},
    "kernel-ridge": {
        "regression__alpha": [0.03, 0.1, 0.3, 1.0, 3.0],
        "regression__gamma": [0.01, 0.02, 0.04, 0.08, 0.16],
    },
}
"""Hyperparameters tried by inner cross-validation; amplitudes are standardised, so the same serve every subject."""


class LogAmplitude(TransformerMixin, BaseEstimator):
    """log10 of the amplitude by the muscle's largest, after raising it to a floor. NaN stays NaN.

    Parameters
    ----------
    floor_uv : float
        Amplitudes below it count as equal to it, uV.

    Attributes
    ----------
    scale_uv_ : numpy.ndarray
        (m,) float64, the largest amplitude per muscle, rounded to float32 as the model file keeps it, uV.
    """

    def __init__(self, floor_uv: float = DEFAULT_FLOOR_UV) -> None:
        self.floor_uv = floor_uv

    def fit(self, amplitudes_uv: NDArray[np.float64], y: object = None) -> "LogAmplitude":
        """Find each muscle's largest amplitude."""
        largest = np.nanmax(np.maximum(amplitudes_uv, self.floor_uv), axis=0)
        self.scale_uv_ = largest.astype(np.float32).astype(np.float64)
        return self

    def transform(self, amplitudes_uv: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (n, m) logarithms, without unit."""
        return np.log10(np.maximum(amplitudes_uv, self.floor_uv) / self.scale_uv_)


class ConditionalMean(TransformerMixin, BaseEstimator):
    """Fill in missing values by their mean given the others, under a normal distribution.

    Expects standardised values: the unconditional mean is 0.

    Attributes
    ----------
    covariance_ : numpy.ndarray
        (m, m) float64, of the training values, shrunk after Ledoit and Wolf (2004), hence never singular.
    """

    def fit(self, z: NDArray[np.float64], y: object = None) -> "ConditionalMean":
        """Estimate the covariance; values missing here count as the mean."""
        self.covariance_, _ = ledoit_wolf(np.nan_to_num(z, nan=0.0), assume_centered=True)
        return self

    def transform(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (n, m) values without NaN."""
        return self.condition(z)[0]

    def condition(self, z: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Fill in, and say how uncertain that is.

        Parameters
        ----------
        z : numpy.ndarray
            (n, m), NaN where missing.

        Returns
        -------
        filled : numpy.ndarray
            (n, m).
        covariance : numpy.ndarray
            (n, m, m), of the missing values given the others; 0 where nothing is missing.
        """
        z = np.asarray(z, dtype=np.float64)
        filled = z.copy()
        covariance = np.zeros((*z.shape, z.shape[1]))
        missing = np.isnan(z)
        for pattern in np.unique(missing[missing.any(axis=1)], axis=0):
            rows = np.flatnonzero((missing == pattern).all(axis=1))
            gone, there = np.flatnonzero(pattern), np.flatnonzero(~pattern)
            across = self.covariance_[np.ix_(gone, there)]
            weights = np.linalg.solve(self.covariance_[np.ix_(there, there)], across.T).T
            filled[np.ix_(rows, gone)] = z[np.ix_(rows, there)] @ weights.T
            covariance[np.ix_(rows, gone, gone)] = self.covariance_[np.ix_(gone, gone)] - weights @ across.T
        return filled, covariance


def fit_regressor(
    kind: Kind,
    amplitudes_uv: NDArray[np.float64],
    field: NDArray[np.float64],
    *,
    floor_uv: float = DEFAULT_FLOOR_UV,
    inner_folds: int = 5,
    seed: int = 0,
) -> TransformedTargetRegressor:
    """Fit one baseline, its hyperparameters by inner cross-validation.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    amplitudes_uv : numpy.ndarray
        (n, m) float64, uV; NaN where not usable.
    field : numpy.ndarray
        (n, V) float64 in [0, 1].
    floor_uv : float
        See `LogAmplitude`.
    inner_folds : int
        Folds of the search.
    seed : int
        Shuffles these folds.

    Returns
    -------
    TransformedTargetRegressor
        Fitted; predict with `predict_field`.

    Raises
    ------
    DataError
        If `kind` is unknown.
    """
    if kind not in KINDS:
        raise DataError(f"unknown kind of baseline {kind!r}; use one of {', '.join(KINDS)}")
    pca = _field_components(field)
    pipeline = Pipeline(
        [
            ("log", LogAmplitude(floor_uv)),
            ("standard", StandardScaler()),
            ("missing", ConditionalMean()),
            ("regression", _regression(kind)),
        ]
    )
    if GRIDS[kind]:
        # The components are found once and not per inner fold: they do not look at the amplitudes.
        search = GridSearchCV(
            pipeline,
            _grid(kind, len(field), inner_folds),
            scoring="neg_mean_squared_error",
            cv=KFold(inner_folds, shuffle=True, random_state=seed),
            refit=False,
            error_score="raise",
        )
        search.fit(amplitudes_uv, pca.fit_transform(field))
        pipeline.set_params(**search.best_params_)
    regressor = TransformedTargetRegressor(pipeline, transformer=pca, check_inverse=False)
    return regressor.fit(amplitudes_uv, field)


def predict_field(regressor: TransformedTargetRegressor, amplitudes_uv: NDArray[np.float64]) -> NDArray[np.float64]:
    """Estimate fields with scikit-learn itself: its prediction, clipped to [0, 1].

    Parameters
    ----------
    regressor : TransformedTargetRegressor
        From `fit_regressor`.
    amplitudes_uv : numpy.ndarray
        (n, m), uV; NaN where not usable.

    Returns
    -------
    numpy.ndarray
        (n, V) float64 in [0, 1].
    """
    return np.clip(regressor.predict(amplitudes_uv), 0.0, 1.0)


def _regression(kind: Kind) -> BaseEstimator:
    match kind:
        case "mean-map":
            return DummyRegressor(strategy="mean")
        case "knn":
            return KNeighborsRegressor(weights="distance")
        case "ridge":
            return Ridge()
        case "kernel-ridge":
            return KernelRidge(kernel="rbf")


def _grid(kind: Kind, n: int, inner_folds: int) -> dict[str, list[Any]]:
    grid = dict(GRIDS[kind])
    if kind == "knn":
        smallest = n - -(-n // inner_folds)  # stimulations left to fit in the smallest inner fold
        grid["regression__n_neighbors"] = [k for k in grid["regression__n_neighbors"] if k <= smallest]
    return grid


def _field_components(field: NDArray[np.float64]) -> PCA:
    """Return an unfitted PCA with as many components as the field needs."""
    bound = min(MAX_COMPONENTS, min(field.shape) - 1)
    explained = _pca(bound).fit(field).explained_variance_ratio_.cumsum()
    return _pca(int(min(np.searchsorted(explained, EXPLAINED_VARIANCE) + 1, bound)))


def _pca(n_components: int) -> PCA:
    # Randomised, with a fixed seed: a full decomposition of 1,200 x 4,686 takes seconds, in every fold.
    return PCA(n_components, svd_solver="randomized", iterated_power=6, random_state=0)

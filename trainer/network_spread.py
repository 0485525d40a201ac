"""How far a network's map may be off: a spread per voxel and a covariance of the centre of gravity.

Deterministic and cheap, since it is part of every pulse's answer (equations in `docs/network-spread.md`):

- how large errors are for answers like this one: a ridge regression to the logarithm of the squared error, from the
  scaled amplitudes and the size of the estimated field, learned from all stimulations and held to those that the
  network was not fitted to;
- what missing muscles leave open: their conditional covariance, carried through the linear map that is closest to the
  network over the training set (statistical linearisation).

Factors then make 68.27 % of the errors on stimulations that were kept apart fall within one standard deviation. Where
none were kept apart, errors on the training set stand in, made larger by `INFLATION`.

Numpy only: networks come in as predictions.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from rt_engine.errors import DataError
from trainer.baselines import ConditionalMean
from trainer.network_data import MepScaling
from trainer.uncertainty import ONE_SD, cog_and_lever

Array = NDArray[np.float64]
Predict = Callable[[Array], NDArray[np.floating[Any]]]
"""From (n, m) scaled amplitudes to (n, V) fields in [0, 1]."""

MIN_HELD_OUT = 20
"""With fewer stimulations kept apart, quantiles of their errors are chance, and the training set stands in."""

INFLATION = 1.5
"""How much larger a standard deviation is taken to be than training errors say, where nothing was kept apart."""

SOFT_LEVEL = 0.02
"""A normalised MEP below which the article warns against trusting maps (Fig. 5); small MEPs count on this scale."""

_PRIOR_ROWS = 50.0
"""A voxel's variance counts the pattern of training errors like so many stimulations kept apart."""
_MAX_COMPONENTS = 16
_ALPHAS = 10.0 ** np.arange(-1.0, 5.0)
_FOLDS = 5
_TINY = 1e-12
_OPEN_FACTOR_RANGE = (0.1, 10.0)


@dataclass(frozen=True, eq=False)
class NetworkSpread:
    """What `spread` and `cog_cov_mm2` of a network are computed from; m muscles, V voxels, r components, F features.

    Attributes
    ----------
    feature_mean, feature_sd : numpy.ndarray
        (F,), of `features` over the training set.
    weights : numpy.ndarray
        (F,), from standardised features to the logarithm of the mean squared error, apart from `offset`.
    offset, low, high : float
        Its constant, and the range that it is held to.
    voxel_variance : numpy.ndarray
        (V,), variance of each voxel's error at unit scale, calibrated.
    components : numpy.ndarray
        (r, V), principal components of fields, orthonormal.
    score_factor : numpy.ndarray
        (r, r), L with L L^T = covariance of the errors along the components at unit scale, calibrated for the CoG.
    slope : numpy.ndarray
        (r, m), of the estimate along the components by the scaled amplitudes, calibrated.
    held_out : bool
        Whether it was calibrated on stimulations that the network was not fitted to.
    n_rows : int
        Number of stimulations that it was calibrated on.
    coverage : dict of str to float
        Shares of errors within 1 and 1.96 standard deviations on stimulations that the factors were not taken from;
        empty without stimulations kept apart.
    """

    feature_mean: Array
    feature_sd: Array
    weights: Array
    offset: float
    low: float
    high: float
    voxel_variance: Array
    components: Array
    score_factor: Array
    slope: Array
    held_out: bool
    n_rows: int
    coverage: dict[str, float]

    def scale(self, z: Array, field: Array) -> Array:
        """Return (n,) factors of the variance for scaled amplitudes (n, m) and fields (n, V)."""
        log_error = ((features(z, field) - self.feature_mean) / self.feature_sd) @ self.weights + self.offset
        return np.exp(np.clip(log_error, self.low, self.high))

    def open_scores(self, open_covariance: Array) -> Array:
        """Return (n, r, r): what (n, m, m) covariances of scaled amplitudes leave open along the components."""
        return self.slope @ open_covariance @ self.slope.T

    def of(self, z: Array, open_covariance: Array, field: Array, voxel_mm: Array) -> tuple[Array, Array, Array]:
        """Return spread (n, V), CoG (n, 3) in mm and its covariance (n, 3, 3) in mm^2.

        Parameters
        ----------
        z : numpy.ndarray
            (n, m) scaled amplitudes, missing ones filled in.
        open_covariance : numpy.ndarray
            (n, m, m), covariance of the missing ones given the others; 0 elsewhere.
        field : numpy.ndarray
            (n, V) in [0, 1], the network's estimate.
        voxel_mm : numpy.ndarray
            (V, 3), mm.
        """
        scale, left_open = self.scale(z, field), self.open_scores(open_covariance)
        cog, lever = cog_and_lever(field, self.components, voxel_mm)
        errors = scale[:, None, None] * (self.score_factor @ self.score_factor.T) + left_open
        variance = scale[:, None] * self.voxel_variance + _voxels(left_open, self.components)
        return np.sqrt(variance), cog, lever @ errors @ lever.transpose(0, 2, 1)

    def told(self) -> dict[str, object]:
        """Return how it was made, JSON types only, for the model file."""
        return {
            "method": "log-error-ridge",
            "calibrated_on": "held-out" if self.held_out else "training",
            "n_stimulations": self.n_rows,
            "inflation": 1.0 if self.held_out else INFLATION,
            "coverage": {name: round(share, 4) for name, share in self.coverage.items()},
        }


def features(z: Array, field: Array) -> Array:
    """Return (n, 2 m + 3): what an answer's error is told by.

    The scaled amplitudes, their logarithms, a soft count of active muscles, and the field's mean and root mean square.
    """
    positive = np.maximum(z, 0.0)
    active = (positive / (positive + SOFT_LEVEL)).sum(axis=1)
    mean, power = field.mean(axis=1), (field**2).mean(axis=1)
    return np.column_stack([z, np.log(positive + SOFT_LEVEL), active, mean, np.sqrt(power)])


def fit_spread(
    predict: Predict,
    scaling: MepScaling,
    z: Array,
    field: Array,
    held_out: NDArray[np.bool_],
    voxel_mm: Array,
    *,
    seed: int = 0,
) -> NetworkSpread:
    """Learn how far a network's maps are off.

    Parameters
    ----------
    predict : callable
        The network.
    scaling : MepScaling
        How amplitudes were scaled.
    z : numpy.ndarray
        (n, m) scaled amplitudes, of the training set and of stimulations kept apart.
    field : numpy.ndarray
        (n, V), the true fields, on the scale on which `predict` is in [0, 1].
    held_out : numpy.ndarray
        (n,) bool, kept apart.
    voxel_mm : numpy.ndarray
        (V, 3), mm.
    seed : int
        Shuffles folds, and chooses the muscles that calibration withholds.

    Raises
    ------
    DataError
        If the network is right to the last digit everywhere, or gives something else than numbers.
    """
    predicted = np.asarray(predict(z), dtype=np.float64)
    error = field - predicted
    square = (error**2).mean(axis=1)
    if not np.isfinite(square).all() or not square.max() > _TINY:
        raise DataError(
            f"a spread cannot be learned from mean squared errors of {square.min():.2g} to {square.max():.2g}; "
            "train the network on measured or simulated stimulations"
        )
    rng = np.random.default_rng(seed)
    apart = held_out if held_out.sum() >= MIN_HELD_OUT else np.zeros(len(z), bool)
    judged = apart if apart.any() else np.ones(len(z), bool)

    told = features(z, predicted)
    mean, sd = told.mean(axis=0), told.std(axis=0)
    sd[sd < 1e-9] = 1.0
    weights, offset, fitted = _regress((told - mean) / sd, np.log(square + _TINY), apart, rng)
    scale = np.exp(fitted)

    components = _components(np.concatenate([field, predicted]))
    slope = _slope(z, predicted @ components.T)
    pattern = (error**2 / scale[:, None])[judged]
    shape = _pooled(pattern, (error**2 / scale[:, None])[~judged])
    along = (error @ components.T) / np.sqrt(scale)[:, None]
    outer = along[:, :, None] * along[:, None, :]
    covariance = _pooled(outer[judged], outer[~judged])
    factor = np.linalg.cholesky(covariance + 1e-9 * np.trace(covariance) * np.eye(len(covariance)))

    rough = NetworkSpread(
        feature_mean=mean,
        feature_sd=sd,
        weights=weights,
        offset=offset,
        low=float(fitted[judged].min()),
        high=float(fitted[judged].max()),
        voxel_variance=shape,
        components=components,
        score_factor=factor,
        slope=slope,
        held_out=bool(apart.any()),
        n_rows=int(judged.sum()),
        coverage={},
    )
    cases = _Cases.of(
        rough, predict, scaling, z[judged], field[judged], predicted[judged], scale[judged], voxel_mm, rng
    )
    spread = cases.calibrated(rough, np.arange(len(cases.scale)))
    if not apart.any():
        return replace(
            spread,
            voxel_variance=spread.voxel_variance * INFLATION**2,
            score_factor=spread.score_factor * INFLATION,
        )
    return replace(spread, coverage=cases.crossed_coverage(rough, rng))


@dataclass(frozen=True, eq=False)
class _Cases:
    """Stimulations to calibrate on, each also with a few of its muscles withheld.

    Attributes
    ----------
    scale : numpy.ndarray
        (n,), from regressions that did not see the stimulation.
    error, off, lever
        (n, V) of the field, (n, 3) of the CoG, and (n, 3, r) `cog_and_lever`'s.
    gap_error, gap_scale, gap_open
        (n, V), (n,), (n, V): the same with muscles withheld, and the variance that this leaves open, not calibrated.
    """

    scale: Array
    error: Array
    off: Array
    lever: Array
    gap_error: Array
    gap_scale: Array
    gap_open: Array

    @classmethod
    def of(
        cls,
        rough: NetworkSpread,
        predict: Predict,
        scaling: MepScaling,
        z: Array,
        field: Array,
        predicted: Array,
        scale: Array,
        voxel_mm: Array,
        rng: np.random.Generator,
    ) -> "_Cases":
        true_cog, _ = cog_and_lever(field, rough.components, voxel_mm)
        cog, lever = cog_and_lever(predicted, rough.components, voxel_mm)
        m = z.shape[1]
        withheld = np.zeros(z.shape, bool)
        for row in withheld:
            row[rng.choice(m, size=int(rng.integers(1, max(2, m // 3 + 1))), replace=False)] = True
        filled, left_open = conditioned(scaling, np.where(withheld, np.nan, z))
        gap_field = np.asarray(predict(filled), dtype=np.float64)
        return cls(
            scale=scale,
            error=field - predicted,
            off=true_cog - cog,
            lever=lever,
            gap_error=field - gap_field,
            gap_scale=rough.scale(filled, gap_field),
            gap_open=_voxels(rough.open_scores(left_open), rough.components),
        )

    def calibrated(self, rough: NetworkSpread, rows: NDArray[np.intp]) -> NetworkSpread:
        """Scale a spread so that `ONE_SD` of the errors of some stimulations lie within one standard deviation."""
        ratio = self.error[rows] ** 2 / (self.scale[rows, None] * rough.voxel_variance)
        variance = rough.voxel_variance * np.quantile(ratio, ONE_SD)
        distance = self._distance(rough.score_factor, rows)
        factor = rough.score_factor * np.sqrt(np.quantile(distance, ONE_SD) / chi2.ppf(ONE_SD, 3))
        # The share within one standard deviation grows with the factor: bisection finds where it is right.
        low, high = np.log(_OPEN_FACTOR_RANGE)
        for _ in range(30):
            middle = (low + high) / 2.0
            share = _within(self._gap_ratio(variance, float(np.exp(middle)), rows), 1.0)
            low, high = (low, middle) if share > ONE_SD else (middle, high)
        return replace(
            rough, voxel_variance=variance, score_factor=factor, slope=rough.slope * np.exp((low + high) / 4.0)
        )

    def crossed_coverage(self, rough: NetworkSpread, rng: np.random.Generator) -> dict[str, float]:
        """Return shares of errors inside, each half of the stimulations judged by the other half's factors."""
        order = rng.permutation(len(self.scale))
        found: dict[str, list[float]] = {
            name: [] for name in ("field_1sd", "field_95", "cog_1sd", "cog_95", "field_1sd_missing", "field_95_missing")
        }
        for fit, test in ((order[::2], order[1::2]), (order[1::2], order[::2])):
            spread = self.calibrated(rough, fit)
            ratio: Array = self.error[test] ** 2 / (self.scale[test, None] * spread.voxel_variance)
            distance = self._distance(spread.score_factor, test)
            opened = float((np.linalg.norm(spread.slope) / np.linalg.norm(rough.slope)) ** 2)
            gap_ratio = self._gap_ratio(spread.voxel_variance, opened, test)
            for name, values, one, two in (
                ("field", ratio, 1.0, 1.96**2),
                ("cog", distance, chi2.ppf(ONE_SD, 3), chi2.ppf(0.95, 3)),
            ):
                found[f"{name}_1sd"].append(_within(values, one))
                found[f"{name}_95"].append(_within(values, two))
            found["field_1sd_missing"].append(_within(gap_ratio, 1.0))
            found["field_95_missing"].append(_within(gap_ratio, 1.96**2))
        return {name: float(np.mean(shares)) for name, shares in found.items()}

    def _distance(self, score_factor: Array, rows: NDArray[np.intp]) -> Array:
        """Return (n,) squared Mahalanobis distances of the true CoG."""
        spread = self.lever[rows] @ score_factor * np.sqrt(self.scale[rows])[:, None, None]
        covariance = spread @ spread.transpose(0, 2, 1)
        off = self.off[rows]
        solved = np.linalg.solve(covariance, off[:, :, None])[:, :, 0].astype(np.float64)
        return (off * solved).sum(axis=1)

    def _gap_ratio(self, voxel_variance: Array, open_factor: float, rows: NDArray[np.intp]) -> Array:
        variance = self.gap_scale[rows, None] * voxel_variance + open_factor * self.gap_open[rows]
        return self.gap_error[rows] ** 2 / variance


def conditioned(scaling: MepScaling, z: Array) -> tuple[Array, Array]:
    """Fill in missing scaled amplitudes.

    Parameters
    ----------
    scaling : MepScaling
        Knows how muscles vary together.
    z : numpy.ndarray
        (n, m) scaled amplitudes, NaN where missing.

    Returns
    -------
    filled : numpy.ndarray
        (n, m), the mean given the others.
    open_covariance : numpy.ndarray
        (n, m, m), the covariance given the others; 0 where nothing is missing.
    """
    filling = ConditionalMean()
    filling.covariance_ = scaling.covariance
    filled, left_open = filling.condition(z - scaling.mean)
    return filled + scaling.mean, left_open


def _within(ratio: Array, limit: float) -> float:
    return float((ratio <= limit).mean())


def _voxels(left_open: Array, components: Array) -> Array:
    """(n, V): variance of the voxels from a covariance (n, r, r) along components (r, V)."""
    return np.maximum((components * (left_open @ components)).sum(axis=1), 0.0)


def _pooled(judged: Array, others: Array) -> Array:
    """Mean over stimulations to judge by, with that of the others as if it were `_PRIOR_ROWS` more of them."""
    if not len(others):
        return judged.mean(axis=0)
    summed = judged.sum(axis=0) + _PRIOR_ROWS * others.mean(axis=0)
    pooled: Array = summed / (len(judged) + _PRIOR_ROWS)
    return pooled


def _components(fields: Array) -> Array:
    """(r, V) principal components, as many as tell 99.9 % of the variance but no more than `_MAX_COMPONENTS`."""
    centred = fields - fields.mean(axis=0)
    # Through the smaller of the two Gram matrices; the fields may be more than the voxels in tests only.
    if len(centred) <= centred.shape[1]:
        values, vectors = np.linalg.eigh(centred @ centred.T)
        values, vectors = values[::-1], vectors[:, ::-1]
        kept = _kept(values)
        rows = (centred.T @ vectors[:, :kept] / np.sqrt(values[:kept])).T
    else:
        values, vectors = np.linalg.eigh(centred.T @ centred)
        values, vectors = values[::-1], vectors[:, ::-1]
        rows = vectors[:, : _kept(values)].T
    # A sign of one's own, for the same file whatever the library's.
    signs = np.sign(rows[np.arange(len(rows)), np.abs(rows).argmax(axis=1)])
    return np.ascontiguousarray(rows * signs[:, None])


def _kept(values: Array) -> int:
    share = np.cumsum(np.maximum(values, 0.0)) / np.maximum(values, 0.0).sum()
    enough = int(np.searchsorted(share, 0.999)) + 1
    return max(3, min(enough, _MAX_COMPONENTS, int((values > 1e-10 * values[0]).sum())))


def _slope(z: Array, scores: Array) -> Array:
    """(r, m): the linear map from scaled amplitudes to scores that is closest to the network over the training set."""
    centred, target = z - z.mean(axis=0), scores - scores.mean(axis=0)
    gram = centred.T @ centred
    ridge = 1e-6 * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.linalg.solve(gram + ridge, centred.T @ target).T


def _regress(x: Array, target: Array, apart: NDArray[np.bool_], rng: np.random.Generator) -> tuple[Array, float, Array]:
    """Regress the logarithm of the squared error.

    Training errors are smaller than others; each kind is centred on its own mean, so that only how they differ from
    answer to answer is learned from both. How much to believe in it is chosen on stimulations kept apart, if any.

    Returns
    -------
    weights : numpy.ndarray
        (F,).
    offset : float
        Mean of the stimulations kept apart, or of all.
    fitted : numpy.ndarray
        (n,) predictions, each with its own kind's mean; those judged by come from regressions without them.
    """
    judged = apart if apart.any() else np.ones(len(x), bool)
    center = np.where(judged, target[judged].mean(), target[~judged].mean() if (~judged).any() else 0.0)
    rest = target - center
    rows = rng.permutation(np.flatnonzero(judged))
    folds = np.array_split(rows, _FOLDS)
    guesses = np.zeros((len(_ALPHAS), len(x)))
    for fold in folds:
        kept = np.ones(len(x), bool)
        kept[fold] = False
        for k, weights in enumerate(_ridges(x[kept], rest[kept])):
            guesses[k, fold] = x[fold] @ weights
    best = int(((guesses[:, rows] - rest[rows]) ** 2).mean(axis=1).argmin())
    weights = _ridges(x, rest)[best]
    fitted = np.where(judged, guesses[best], x @ weights) + center
    return weights, float(target[judged].mean()), fitted


def _ridges(x: Array, target: Array) -> list[Array]:
    """Ridge weights for each of `_ALPHAS`, without a constant."""
    gram, moment = x.T @ x, x.T @ target
    return [np.linalg.solve(gram + alpha * np.eye(len(gram)), moment) for alpha in _ALPHAS]

"""A network's spread says how far its maps are off, on stimulations that nobody has seen."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rt_engine.errors import DataError
from tests.trainer.conftest import make_stimulations
from trainer.network_data import MepScaling, NetworkPreprocessing, fit_scaling, scaled
from trainer.network_spread import INFLATION, NetworkSpread, conditioned, fit_spread
from trainer.preprocessing import TrainingSet, prepare
from trainer.uncertainty import cog_and_lever

Array = NDArray[Any]
SETTINGS = NetworkPreprocessing(mep_scale="log", small_meps="keep")


class Regression:
    """Stands in for a network: ridge regression, kept in [0, 1]."""

    def __init__(self, z: Array, field: Array) -> None:
        self.offset, self.mean = field.mean(axis=0), z.mean(axis=0)
        centred = z - self.mean
        gram = centred.T @ centred + 0.1 * np.eye(z.shape[1])
        self.weights = np.linalg.solve(gram, centred.T @ (field - self.offset))

    def __call__(self, z: Array) -> Array:
        raw: Array = (z - self.mean) @ self.weights + self.offset
        return np.clip(raw, 0.0, 1.0)


@pytest.fixture(scope="module")
def everything() -> TrainingSet:
    return prepare(make_stimulations(600, seed=3), floor_uv=5.0)


@pytest.fixture(scope="module")
def scaling(everything: TrainingSet) -> MepScaling:
    return fit_scaling(everything.amplitudes_uv[:300], SETTINGS)


@pytest.fixture(scope="module")
def network(everything: TrainingSet, scaling: MepScaling) -> Regression:
    return Regression(scaling.transform(everything.amplitudes_uv[:300]), everything.field[:300])


@pytest.fixture(scope="module")
def fitted(everything: TrainingSet, scaling: MepScaling, network: Regression) -> Callable[..., NetworkSpread]:
    """Fit to 300 stimulations, of which the network saw all, and to others that were kept apart."""

    @cache
    def fit(n_apart: int = 100, seed: int = 0) -> NetworkSpread:
        n = 300 + n_apart
        z = scaling.transform(everything.amplitudes_uv[:n])
        apart = np.arange(n) >= 300
        return fit_spread(network, scaling, z, everything.field[:n], apart, everything.voxel_mm, seed=seed)

    return fit


def judged(
    spread: NetworkSpread, everything: TrainingSet, scaling: MepScaling, network: Regression, missing: float = 0.0
) -> tuple[Array, Array, Array]:
    """Return errors by spread (n, V), squared distances of the CoG, and spreads of unseen stimulations."""
    amplitudes = everything.amplitudes_uv[400:].copy()
    gone = np.random.default_rng(1).random(amplitudes.shape) < missing
    z, left_open = conditioned(scaling, scaled(np.where(gone, np.nan, amplitudes), scaling.scale_uv, SETTINGS))
    field, mm = network(z), everything.voxel_mm
    one_sd, cog, covariance = spread.of(z, left_open, field, mm)
    true_cog, _ = cog_and_lever(everything.field[400:], spread.components, mm)
    off = true_cog - cog
    distance = (off * np.linalg.solve(covariance, off[:, :, None])[:, :, 0]).sum(axis=1)
    return (everything.field[400:] - field) / one_sd, distance, one_sd


def test_two_thirds_of_errors_on_new_stimulations_lie_within_one_standard_deviation(
    fitted, everything, scaling, network
):
    error, distance, _ = judged(fitted(), everything, scaling, network)
    assert 0.62 < (np.abs(error) < 1.0).mean() < 0.75
    assert 0.90 < (np.abs(error) < 1.96).mean() < 0.99
    assert 0.55 < (distance < 3.53).mean() < 0.80  # chi squared of 3 degrees of freedom at 68.27 %


def test_so_they_do_where_muscles_are_missing_and_the_spread_is_wider_then(fitted, everything, scaling, network):
    spread = fitted()
    error, _, wide = judged(spread, everything, scaling, network, missing=0.3)
    assert 0.60 < (np.abs(error) < 1.0).mean() < 0.80
    _, _, usual = judged(spread, everything, scaling, network)
    assert wide.mean() > 1.05 * usual.mean()


def test_it_is_larger_where_errors_are(fitted, everything, scaling, network):
    error, _, spread = judged(fitted(), everything, scaling, network)
    off = np.sqrt(((error * spread) ** 2).mean(axis=1))
    said = np.sqrt((spread**2).mean(axis=1))
    low, high = np.argsort(said)[:60], np.argsort(said)[-60:]
    assert off[high].mean() > 1.2 * off[low].mean()


def test_coverage_is_told_for_stimulations_that_the_factors_were_not_taken_from(fitted):
    spread = fitted()
    assert spread.held_out
    assert spread.n_rows == 100
    told = spread.told()
    assert told["calibrated_on"] == "held-out"
    assert set(spread.coverage) == {
        "field_1sd", "field_95", "cog_1sd", "cog_95", "field_1sd_missing", "field_95_missing"
    }  # fmt: skip
    assert 0.55 < spread.coverage["field_1sd"] < 0.80
    assert 0.85 < spread.coverage["field_95"] <= 1.0


@pytest.mark.parametrize("n_apart", [0, 15])
def test_with_too_few_kept_apart_training_errors_stand_in_made_larger(fitted, everything, scaling, network, n_apart):
    spread = fitted(n_apart)
    assert not spread.held_out
    assert spread.told() == {
        "method": "log-error-ridge",
        "calibrated_on": "training",
        "n_stimulations": 300 + n_apart,
        "inflation": INFLATION,
        "coverage": {},
    }
    z = scaling.transform(everything.amplitudes_uv[:300])
    seen = (everything.field[:300] - network(z)) / spread.of(z, np.zeros((300, 5, 5)), network(z), everything.voxel_mm)[
        0
    ]
    assert (np.abs(seen) < 1.0 / INFLATION).mean() == pytest.approx(0.68, abs=0.06)


def test_the_same_seed_gives_the_same_bits(fitted):
    one, same, other = fitted(), fitted.__wrapped__(), fitted(seed=1)
    for name in ("voxel_variance", "score_factor", "slope", "weights", "components"):
        assert np.array_equal(getattr(one, name), getattr(same, name))
    assert not np.array_equal(one.slope, other.slope)


def test_components_are_orthonormal_and_covariances_have_no_negative_variance(fitted, everything, scaling, network):
    spread = fitted()
    assert spread.components @ spread.components.T == pytest.approx(np.eye(len(spread.components)), abs=1e-9)
    z = scaling.transform(everything.amplitudes_uv[:5])
    _, _, covariance = spread.of(z, np.tile(scaling.covariance, (5, 1, 1)), network(z), everything.voxel_mm)
    assert (np.linalg.eigvalsh(covariance) > 0).all()
    assert covariance == pytest.approx(covariance.transpose(0, 2, 1))


def test_a_map_without_any_error_or_without_numbers_is_refused(everything, scaling):
    z = scaling.transform(everything.amplitudes_uv[:100])
    field, mm = everything.field[:100], everything.voxel_mm
    for wrong in (field, np.full_like(field, np.nan)):
        with pytest.raises(DataError, match="spread cannot be learned"):
            fit_spread(lambda z, wrong=wrong: wrong, scaling, z, field, np.zeros(100, bool), mm)


def test_a_silent_answer_has_a_spread_and_the_centre_of_the_mask(fitted, everything, scaling):
    spread = fitted()
    z, nothing = np.zeros((1, 5)), np.zeros((1, everything.field.shape[1]))
    one_sd, cog, covariance = spread.of(z, np.zeros((1, 5, 5)), nothing, everything.voxel_mm)
    assert (one_sd > 0).all()
    assert cog[0] == pytest.approx(everything.voxel_mm.mean(axis=0))
    assert np.isfinite(covariance).all()

"""The spread of a baseline: honest on new stimulations, larger where less is known."""

from dataclasses import replace

import numpy as np
import pytest

from rt_engine.errors import DataError
from trainer.baselines import fit_regressor
from trainer.uncertainty import cog_and_lever, linear_map
from trainer.validation import coverage


def standardised(baseline, amplitudes_uv):
    return baseline.regressor.regressor_[:-1].transform(amplitudes_uv)


def coverage_of(baseline, fresh, amplitudes_uv):
    estimate = baseline.predict(amplitudes_uv)
    return coverage(fresh, estimate.field, estimate.spread, estimate.cog_mm, estimate.cog_cov_mm2)


def test_truth_of_new_stimulations_lies_within_the_spread_as_often_as_stated(baseline, fresh):
    found = coverage_of(baseline, fresh, fresh.amplitudes_uv)
    assert found["field_1sd"] == pytest.approx(0.683, abs=0.08)
    assert found["field_95"] == pytest.approx(0.95, abs=0.07)  # 160 stimulations leave longer tails than 1,200
    assert found["cog_1sd"] == pytest.approx(0.683, abs=0.12)
    assert found["cog_95"] == pytest.approx(0.95, abs=0.08)


def test_the_spread_stays_honest_when_muscles_are_missing(baseline, fresh):
    gaps = np.where(np.random.default_rng(0).random(fresh.amplitudes_uv.shape) < 0.3, np.nan, fresh.amplitudes_uv)
    assert coverage_of(baseline, fresh, gaps)["field_1sd"] == pytest.approx(0.683, abs=0.1)
    # The estimate itself suffers; a spread that ignored the gaps would claim too much.
    ignoring = np.isnan(gaps).any(axis=1)
    full, part = baseline.predict(fresh.amplitudes_uv[ignoring]), baseline.predict(gaps[ignoring])
    assert np.median(part.spread.mean(axis=1) / full.spread.mean(axis=1)) > 1.1


def test_missing_muscles_widen_the_ellipsoid_of_the_cog(baseline, fresh):
    all_but_one = np.where(np.arange(fresh.amplitudes_uv.shape[1]) == 0, fresh.amplitudes_uv, np.nan)
    size = np.linalg.det(baseline.predict(fresh.amplitudes_uv).cog_cov_mm2)
    wider = np.linalg.det(baseline.predict(all_but_one).cog_cov_mm2)
    assert np.median(wider / size) > 2.0


def test_an_answer_like_none_before_is_less_certain(baseline, fresh):
    usual = baseline.uncertainty
    z = standardised(baseline, fresh.amplitudes_uv)
    features = baseline.linear_map.features
    known = replace(usual, log_error_weights=np.zeros_like(usual.log_error_weights))  # how far away, alone
    assert known.scale(features(z + 20.0)).min() > np.median(known.scale(features(z)))


def test_covariances_are_symmetric_and_positive(baseline, fresh):
    covariance = baseline.predict(fresh.amplitudes_uv).cog_cov_mm2
    assert np.allclose(covariance, covariance.transpose(0, 2, 1))
    assert np.linalg.eigvalsh(covariance).min() > 0


def test_derivative_of_the_regression_equals_finite_differences(baseline, fresh):
    model = baseline.linear_map
    z = standardised(baseline, fresh.amplitudes_uv[:5])
    step = 1e-5
    for muscle in range(z.shape[1]):
        up, down = z.copy(), z.copy()
        up[:, muscle] += step
        down[:, muscle] -= step
        slope = (model.features(up) - model.features(down)) @ model.weights / (2 * step)
        assert model.derivative(z)[:, :, muscle] == pytest.approx(slope, abs=1e-6)


def test_lever_of_the_cog_equals_finite_differences():
    rng = np.random.default_rng(0)
    field, components, mm = rng.uniform(0.1, 1, (2, 30)), rng.normal(size=(4, 30)), rng.normal(0, 20, (30, 3))
    cog, lever = cog_and_lever(field, components, mm)
    assert cog == pytest.approx(np.stack([np.average(mm, axis=0, weights=row) for row in field]))
    for k in range(4):
        step = 1e-6
        moved = cog_and_lever(field + step * components[k], components, mm)[0]
        assert lever[:, :, k] == pytest.approx((moved - cog) / step, abs=1e-3)


def test_the_cog_of_an_empty_map_is_the_centre_of_the_mask():
    mm = np.array([[0.0, 0, 0], [2.0, 4.0, 6.0]])
    cog, lever = cog_and_lever(np.zeros((1, 2)), np.ones((1, 2)), mm)
    assert cog == pytest.approx(np.array([[1.0, 2.0, 3.0]]))
    assert np.isfinite(lever).all()


def test_nearest_neighbours_have_no_spread(training):
    knn = fit_regressor("knn", training.amplitudes_uv, training.field)
    with pytest.raises(DataError, match="KNeighborsRegressor"):
        linear_map(knn.regressor_.named_steps["regression"])

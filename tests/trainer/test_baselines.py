"""Cleaning a data set, and the baselines that are fitted to it."""

from dataclasses import replace

import numpy as np
import pytest

from rt_engine.errors import DataError
from rt_engine.mep import MepStatus
from trainer.baselines import GRIDS, ConditionalMean, LogAmplitude, fit_regressor, predict_field
from trainer.fitting import fit_baseline
from trainer.metrics import nrmse
from trainer.preprocessing import prepare


def changed(stimulations, **arrays):
    return replace(stimulations, **arrays)


def test_fields_are_scaled_to_the_subjects_largest(stimulations, training):
    assert training.field.max() == 1.0
    assert training.field_scale_v_per_m == pytest.approx(stimulations.field_v_per_m.max())
    assert np.allclose(training.field * training.field_scale_v_per_m, stimulations.field_v_per_m)


def test_amplitudes_below_the_threshold_of_an_mep_stay_numbers(stimulations, training):
    below = stimulations.mep_uv < 50
    assert below.any()
    assert np.array_equal(training.amplitudes_uv[below], stimulations.mep_uv[below].astype(float))


@pytest.mark.parametrize("flag", [MepStatus.FLAT, MepStatus.SAMPLES_MISSING])
def test_an_unusable_amplitude_is_missing_whatever_number_stands_there(stimulations, flag):
    status = stimulations.status.copy()
    status[3, 1] |= int(flag)
    amplitudes = prepare(changed(stimulations, status=status), floor_uv=5.0).amplitudes_uv
    assert np.isnan(amplitudes[3, 1])
    assert np.isnan(amplitudes).sum() == 1


@pytest.mark.parametrize("flag", [MepStatus.NO_MEP, MepStatus.PREACTIVATED, MepStatus.ARTEFACT])
def test_other_statuses_leave_the_amplitude(stimulations, flag):
    status = np.full_like(stimulations.status, int(flag))
    assert not np.isnan(prepare(changed(stimulations, status=status), floor_uv=5.0).amplitudes_uv).any()


def test_what_was_left_out_is_said(stimulations):
    status = stimulations.status.copy()
    status[0] = int(MepStatus.SAMPLES_MISSING)
    field = stimulations.field_v_per_m.copy()
    field[1:3] = 0.009
    training = prepare(changed(stimulations, status=status, field_v_per_m=field), floor_uv=5.0)
    assert len(training) == stimulations.n_pulses - 3
    assert len(training.notes) == 2
    assert training.notes[0].startswith("1 stimulations without")
    assert training.notes[1].startswith("2 stimulations with less than 10 mV/m")


def test_too_few_stimulations_are_refused(stimulations):
    few = replace(
        stimulations,
        **{
            name: getattr(stimulations, name)[:49]
            for name in (
                "mep_uv",
                "status",
                "field_v_per_m",
                "pose",
                "intensity_percent_rmt",
                "intensity_percent_mso",
                "t_pulse",
            )
        },
    )
    with pytest.raises(DataError, match="49 of 49 stimulations are usable; a model needs at least 50"):
        prepare(few, floor_uv=5.0)


def test_a_muscle_that_never_answers_is_named(stimulations):
    mep = stimulations.mep_uv.copy()
    mep[:, 2] = np.random.default_rng(0).uniform(0, 4.9, len(mep))
    with pytest.raises(DataError, match=r"amplitudes of EDC are all the same or below 5 uV"):
        prepare(changed(stimulations, mep_uv=mep), floor_uv=5.0)


def test_a_muscle_with_too_many_gaps_is_named(stimulations):
    status = stimulations.status.copy()
    status[: len(status) // 4, 4] = int(MepStatus.SAMPLES_MISSING)
    with pytest.raises(DataError, match=r"BRD \(75%\)"):
        prepare(changed(stimulations, status=status), floor_uv=5.0)


def test_fields_that_are_not_numbers_are_refused(stimulations):
    field = stimulations.field_v_per_m.copy()
    field[5, 5] = np.nan
    with pytest.raises(DataError, match="field_v_per_m"):
        prepare(changed(stimulations, field_v_per_m=field), floor_uv=5.0)


def test_a_coil_that_never_moved_is_refused(stimulations):
    field = np.tile(stimulations.field_v_per_m[:1], (stimulations.n_pulses, 1))
    with pytest.raises(DataError, match="nothing to learn"):
        prepare(changed(stimulations, field_v_per_m=field), floor_uv=5.0)


@pytest.mark.parametrize("floor_uv", [0.0, -1.0, float("nan"), float("inf")])
def test_a_floor_without_a_logarithm_is_refused(stimulations, floor_uv):
    with pytest.raises(DataError, match="floor_uv"):
        prepare(stimulations, floor_uv=floor_uv)


def test_logarithm_is_of_the_floored_amplitude_by_the_largest():
    amplitudes = np.array([[0.0, 10.0], [1000.0, 1.0], [np.nan, 100.0]])
    log = LogAmplitude(floor_uv=10.0).fit(amplitudes)
    assert log.transform(amplitudes) == pytest.approx(np.array([[-2.0, -1.0], [0.0, -1.0], [np.nan, 0.0]]), nan_ok=True)


def test_missing_values_get_their_conditional_mean():
    fill = ConditionalMean()
    fill.covariance_ = np.array([[1.0, 0.8, 0.0], [0.8, 1.0, 0.0], [0.0, 0.0, 1.0]])
    filled, left = fill.condition(np.array([[2.0, np.nan, 1.0], [np.nan, np.nan, 3.0], [1.0, 2.0, 3.0]]))
    assert filled == pytest.approx(np.array([[2.0, 1.6, 1.0], [0.0, 0.0, 3.0], [1.0, 2.0, 3.0]]))
    assert left[0] == pytest.approx(np.diag([0.0, 1 - 0.8**2, 0.0]))
    assert left[1, :2, :2] == pytest.approx(fill.covariance_[:2, :2])
    assert not left[2].any()


def test_muscles_that_move_together_are_learned_from_data():
    rng = np.random.default_rng(0)
    common = rng.normal(size=(500, 1))
    z = common + 0.3 * rng.normal(size=(500, 3))
    z = (z - z.mean(axis=0)) / z.std(axis=0)
    z[0, 1] = np.nan
    assert ConditionalMean().fit(z).transform(z)[0, 1] == pytest.approx(common[0, 0], abs=0.5)


@pytest.mark.parametrize("kind", ["knn", "ridge", "kernel-ridge"])
def test_each_baseline_beats_the_mean_map_on_new_stimulations(training, kind):
    fit, test = training.rows(np.arange(120)), training.rows(np.arange(120, 160))
    mean = predict_field(fit_regressor("mean-map", fit.amplitudes_uv, fit.field), test.amplitudes_uv)
    assert np.allclose(mean, fit.field.mean(axis=0), atol=1e-6)
    regressor = fit_regressor(kind, fit.amplitudes_uv, fit.field)
    estimated = predict_field(regressor, test.amplitudes_uv)
    assert nrmse(test.field, estimated).mean() < 0.7 * nrmse(test.field, mean).mean()
    assert estimated.min() >= 0.0
    assert estimated.max() <= 1.0
    parameter = next(iter(GRIDS[kind]))
    assert regressor.regressor_.get_params()[parameter] in GRIDS[kind][parameter]


def test_enough_components_are_kept(training):
    pca = fit_regressor("ridge", training.amplitudes_uv, training.field).transformer_
    assert pca.explained_variance_ratio_.sum() >= 0.999
    assert pca.explained_variance_ratio_[:-1].sum() < 0.999


def test_missing_amplitudes_cost_little(stimulations, incomplete):
    complete, gaps = prepare(stimulations, floor_uv=5.0), prepare(incomplete, floor_uv=5.0)
    assert any("filled in" in note for note in gaps.notes)
    estimated = predict_field(fit_regressor("ridge", gaps.amplitudes_uv, gaps.field), gaps.amplitudes_uv)
    best = predict_field(fit_regressor("ridge", complete.amplitudes_uv, complete.field), complete.amplitudes_uv)
    assert nrmse(gaps.field, estimated).mean() < 1.25 * nrmse(complete.field, best).mean()


@pytest.mark.parametrize("kind", ["mean-map", "knn", "forest"])
def test_only_baselines_with_a_spread_become_models(training, kind):
    with pytest.raises(DataError, match=kind):
        fit_baseline(training, kind)


def test_an_unknown_baseline_is_refused(training):
    with pytest.raises(DataError, match="forest"):
        fit_regressor("forest", training.amplitudes_uv, training.field)

"""Figures of an evaluation: counted by hand, honest about what was not tested and what does not exist."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import pearsonr

from trainer.evaluation import figures


def rows(evaluation, **wanted):
    return [row for row in figures.table(evaluation) if all(row[name] == value for name, value in wanted.items())]


def test_a_field_ten_percent_too_strong_has_an_nrmse_of_a_tenth(evaluation):
    (row,) = rows(evaluation, folds_kind="random", method="vae-decoder", by="all")
    assert row["nrmse_mean"] == pytest.approx(0.1, rel=1e-5)
    assert row["nrmse_median"] == pytest.approx(0.1, rel=1e-5)
    assert row["cog_mm_mean"] == pytest.approx(0, abs=1e-4)
    assert row["pearson2_positive_mean"] == pytest.approx(1)
    assert (row["stimulations"], row["folds"]) == (107, 2)
    assert row["skill"] > 0.9
    (of_mean,) = rows(evaluation, folds_kind="random", method="mean-map", by="all")
    assert of_mean["skill"] == pytest.approx(0)


def test_the_two_error_bars_are_over_folds_and_over_stimulations(evaluation):
    measured = figures.measure(evaluation, "random", "mean-map")
    fold = evaluation.fold["random"][evaluation.tested("random")]
    found = figures.summarise(evaluation, "random", measured)
    means = np.array([measured.nrmse[fold == number].mean() for number in (0, 1)])
    assert found["nrmse_sem196_folds"] == pytest.approx(1.96 * means.std(ddof=1) / np.sqrt(2))
    n = len(measured.nrmse)
    assert found["nrmse_sem196_stimulations"] == pytest.approx(1.96 * measured.nrmse.std(ddof=1) / np.sqrt(n))


def test_one_fold_has_no_error_bar_over_folds(evaluation):
    measured = figures.measure(evaluation, "random", "mean-map")
    first = evaluation.fold["random"][evaluation.tested("random")] == 0
    found = figures.summarise(evaluation, "random", measured, first)
    assert found["folds"] == 1
    assert np.isnan(found["nrmse_sem196_folds"])


def test_groups_cover_every_tested_stimulation_once(evaluation):
    for by in ("intensity", "active_muscles", "mep_mean"):
        counts = [row["stimulations"] for row in rows(evaluation, folds_kind="random", method="mean-map", by=by)]
        assert sum(counts) == 107, by
    levels = [row["level"] for row in rows(evaluation, folds_kind="random", method="mean-map", by="intensity")]
    assert levels == ["110", "120", "130", "140"]


def test_a_fold_without_an_intensity_does_not_count_for_it(evaluation):
    training = evaluation.training
    intensity = np.where(evaluation.fold["random"] == 0, 110.0, 120.0)
    intensity[1] = 110.0
    changed = replace(evaluation, training=replace(training, intensity_percent_rmt=intensity))
    by_level = {r["level"]: r for r in rows(changed, folds_kind="random", method="mean-map", by="intensity")}
    assert by_level["110"]["folds"] == 2
    assert by_level["120"]["folds"] == 1
    assert np.isnan(by_level["120"]["nrmse_sem196_folds"])
    assert np.isfinite(by_level["120"]["nrmse_mean"])


def test_many_intensities_are_grouped_in_steps_of_ten(evaluation):
    intensity = np.linspace(100, 149.4, len(evaluation.training))
    changed = replace(evaluation, training=replace(evaluation.training, intensity_percent_rmt=intensity))
    assert set(figures.intensity_levels(changed)) == {100, 110, 120, 130, 140, 150}


def test_an_estimate_that_is_zero_everywhere_has_no_centre_and_is_counted(evaluation):
    evaluation.field["random"]["vae-decoder"][0] = 0.0
    (row,) = rows(evaluation, folds_kind="random", method="vae-decoder", by="all")
    assert row["cog_undefined"] == 1
    assert np.isfinite(row["cog_mm_mean"])
    assert row["nrmse_mean"] > 0.1


def test_the_authors_figure_is_pearsons_where_all_voxels_are_positive():
    rng = np.random.default_rng(0)
    x, y = rng.random((3, 50)) + 0.1, rng.random((3, 50)) + 0.1
    expected = [pearsonr(a, b).statistic ** 2 for a, b in zip(x, y, strict=True)]
    assert np.allclose(figures.pearson_squared_of_positive(x, y), expected)


def test_the_authors_figure_pairs_other_voxels_once_one_is_zero():
    true = np.array([[1.0, 2.0, 3.0, 4.0]])
    estimated = np.array([[0.0, 2.0, 3.0, 4.0]])  # paired as 2 3 4 0 with 1 2 3 4
    expected = pearsonr([1, 2, 3, 4], [2, 3, 4, 0]).statistic ** 2
    assert figures.pearson_squared_of_positive(true, estimated) == pytest.approx(expected)


def test_errors_fall_with_stronger_meps_where_they_do(evaluation):
    error = np.linspace(0.5, 0.1, len(evaluation.training))
    estimate = evaluation.training.field * (1 + error[:, None])
    tested = np.isfinite(evaluation.field["random"]["vae-decoder"])
    evaluation.field["random"]["vae-decoder"][...] = np.where(tested, estimate, np.nan)
    meps_uv = np.linspace(600.0, 5000.0, len(error))[:, None] * np.array([[1.0, 0.5, 0.2, 0.1, 0.0]])
    changed = replace(evaluation, training=replace(evaluation.training, amplitudes_uv=meps_uv))
    found = figures.mep_correlations(changed, "random", figures.measure(changed, "random", "vae-decoder"))
    assert found == {"nrmse_vs_mep_mean": pytest.approx(-1), "nrmse_vs_mep_variance": pytest.approx(-1)}


def test_the_forward_models_error_stands_beside_a_constants(evaluation):
    meps = evaluation.normalised_meps
    constant = evaluation.forward_meps["constant"]
    meps[0, 0] = np.nan  # a missing amplitude is not judged
    better = replace(evaluation, forward_meps={"m2m-net": (meps + constant) / 2, "constant": constant})
    better.forward_meps["m2m-net"][0, 0] = 7.0
    found = figures.forward_summary(better)
    assert found["m2m-net"]["rmse"] == pytest.approx(found["constant"]["rmse"] / 2)
    assert found["m2m-net"]["skill"] == pytest.approx(0.75)
    assert found["constant"]["skill"] == 0.0
    assert found["m2m-net"]["r2"] > found["constant"]["r2"]


def test_the_headline_has_what_the_command_promises(evaluation):
    found = figures.headline(evaluation)
    for method in ("mean-map", "vae-decoder"):
        for kind in ("random", "blocks"):
            assert {"nrmse", "nrmse_sem", "r2", "r2_median", "cog_mm", "skill"} <= set(found["methods"][method][kind])
    assert found["folds"] == {"random": [0, 1], "blocks": [0, 1]}
    assert found["notes"] == ["1 of 3 folds not run"]
    assert [row["percent_rmt"] for row in found["by_intensity"]["mean-map"]["random"]] == [110, 120, 130, 140]

"""Folds that leave out what they say, and a report that holds every baseline on the same ones."""

import json
from dataclasses import replace

import numpy as np
import pytest

from trainer.baselines import KINDS
from trainer.folds import block_folds, random_folds
from trainer.validation import predict_held_out, validate


@pytest.fixture(scope="module")
def report(training):
    return validate(training, "ridge", n_folds=3)


def all_tested(folds):
    return np.sort(np.concatenate([test for _, test in folds]))


def test_each_stimulation_is_tested_once_and_never_fitted_to_then(training):
    for folds in (random_folds(training), block_folds(training)):
        assert np.array_equal(all_tested(folds), np.arange(len(training)))
        assert all(len(np.intersect1d(fit, test)) == 0 for fit, test in folds)


def test_each_random_fold_has_its_share_of_every_intensity(training):
    levels, counts = np.unique(training.intensity_percent_rmt, return_counts=True)
    assert len(levels) == 4
    for _, test in random_folds(training, 10):
        in_fold = np.array([(training.intensity_percent_rmt[test] == level).sum() for level in levels])
        assert np.abs(in_fold - counts / 10).max() <= 1


@pytest.mark.parametrize("intensity", [np.nan, 120.0])
def test_unknown_or_equal_intensities_can_still_be_split(training, intensity):
    same = replace(training, intensity_percent_rmt=np.full(len(training), intensity))
    assert np.array_equal(all_tested(random_folds(same)), np.arange(len(training)))


def test_intensities_without_levels_are_cut_into_quarters(training):
    smooth = replace(training, intensity_percent_rmt=np.linspace(80.0, 200.0, len(training)))
    for _, test in random_folds(smooth, 4):
        quarter = np.searchsorted([110.0, 140.0, 170.0], smooth.intensity_percent_rmt[test])
        assert np.bincount(quarter, minlength=4).min() >= 9


def test_the_same_seed_gives_the_same_folds(training):
    first, again, other = (random_folds(training, seed=seed)[0][1] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_blocks_leave_neighbours_out_together(training):
    def nearest(folds):
        return np.mean(
            [
                np.linalg.norm(training.coil_mm[test][:, None] - training.coil_mm[fit][None], axis=2).min(axis=1).mean()
                for fit, test in folds
            ]
        )

    assert nearest(block_folds(training)) > 1.2 * nearest(random_folds(training))


def test_without_poses_there_are_no_blocks(training):
    coil_mm = training.coil_mm.copy()
    coil_mm[0] = np.nan
    assert block_folds(replace(training, coil_mm=coil_mm)) is None
    assert block_folds(replace(training, coil_mm=np.zeros_like(coil_mm))) is None


def test_estimates_of_a_stimulation_do_not_depend_on_it(training):
    folds = random_folds(training, 4)[:1]
    test = folds[0][1]
    poisoned = replace(training, field=training.field.copy())
    poisoned.field[test] = 1.0
    plain = predict_held_out(training, "ridge", folds, floor_uv=5.0)
    same = predict_held_out(poisoned, "ridge", folds, floor_uv=5.0)
    for kind in KINDS:
        assert np.array_equal(plain.field[kind][test], same.field[kind][test])
    assert np.array_equal(plain.spread[test], same.spread[test])


def test_the_report_holds_every_baseline_on_both_kinds_of_folds(report):
    for folds in ("random", "blocks"):
        assert set(report[folds]) == {*KINDS, "coverage"}
        assert report[folds]["mean-map"]["skill"] == 0.0
        for kind in ("knn", "ridge", "kernel-ridge"):
            assert report[folds][kind]["skill"] > 0.3
            assert report[folds][kind]["nrmse_mean"] < report[folds]["mean-map"]["nrmse_mean"]
        assert 0.55 < report[folds]["coverage"]["field_1sd"] < 0.8
    assert sum(row["n"] for row in report["by_active_muscles"]) == report["n_stimulations"]


def test_the_report_is_plain_json(report):
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_progress_counts_all_folds(training):
    seen = []
    report = validate(
        replace(training, coil_mm=np.full_like(training.coil_mm, np.nan)),
        "ridge",
        n_folds=3,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert report["blocks"] is None

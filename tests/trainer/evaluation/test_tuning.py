"""Tuning: on training rows only, the lowest mean validation error wins, and every trial is reported."""

import numpy as np
import pytest

from rt_engine.errors import SettingsError
from rt_engine.field.stimulation_file import write_stimulation_set
from trainer.evaluation.jobs import JobResult
from trainer.evaluation.plan import EvaluationSettings, prepare_set
from trainer.evaluation.tuning import candidates, choose, tuning_jobs
from trainer.training_settings import training_settings

SETTINGS = EvaluationSettings(models=("direct-variational", "vae-decoder"), n_folds=4)


def overridden(more):
    return training_settings(None, ["epochs=3", *more])


@pytest.fixture(scope="module")
def prepared(stimulations, tmp_path_factory):
    path = tmp_path_factory.mktemp("tuning") / "small.stim.h5"
    write_stimulation_set(path, stimulations)
    return prepare_set(path, SETTINGS)


def test_all_combinations_are_tried_on_top_of_the_other_settings():
    tried = candidates(["latent=8,16", "learning_rate=1,0.5"], overridden)
    assert [candidate.values for candidate in tried] == [
        {"latent": latent, "learning_rate": rate} for latent in ("8", "16") for rate in ("1", "0.5")
    ]
    assert [candidate.training.architecture.latent for candidate in tried] == [8, 8, 16, 16]
    assert {candidate.training.fitting.epochs for candidate in tried} == {3}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["latent"], "expected KEY=VALUE,VALUE"),
        (["latent=8"], "at least two values"),
        (["latent=8,16", "latent=4,2"], "names a setting twice"),
        (["latency=8,16"], "no such setting"),
        (["floor_uv=20,50"], "it decides which stimulations there are"),
    ],
)
def test_what_cannot_be_tuned_is_refused(words, message):
    with pytest.raises(SettingsError, match=message):
        candidates(words, overridden)


def test_only_training_rows_of_one_fold_choose_as_in_the_article(prepared):
    tried = candidates(["latent=8,16"], overridden)
    jobs = tuning_jobs([prepared, prepared], SETTINGS, tried, n_folds=5)
    assert len(jobs) == 2 * 2 * 5
    fit, held_out = prepared.folds["random"][0]
    for job, where, _ in jobs:
        assert where == ("small", "random", 0)
        assert np.array_equal(np.sort(np.concatenate([job.fit, job.test])), fit)
        assert not np.isin(held_out, np.concatenate([job.fit, job.test])).any()
    apart = np.concatenate(
        [job.test for job, _, candidate in jobs if candidate is tried[0] and job.method == "vae-decoder"]
    )
    assert np.array_equal(np.sort(apart), fit)


def pretended(prepared, jobs):
    """Results that are the better, the nearer the latent is to 8 with (e) and to 16 with (c)."""
    results = {}
    for job, _, candidate in jobs:
        best = 8 if job.method == "direct-variational" else 16
        error = 0.1 + 0.01 * abs(candidate.training.architecture.latent - best)
        results[job.key] = JobResult((prepared.training.field[job.test] * (1 + error)).astype(np.float32), 1.0)
    return results


def test_the_lowest_validation_error_wins_per_model(prepared):
    tried = candidates(["latent=4,8,16"], overridden)
    jobs = tuning_jobs([prepared], SETTINGS, tried, n_folds=3)
    chosen = choose([prepared], jobs, pretended(prepared, jobs))
    anywhere = ("small", "blocks", 3)
    assert chosen.of(anywhere, "direct-variational").architecture.latent == 8
    assert chosen.of(anywhere, "vae-decoder").architecture.latent == 16
    assert chosen.of(anywhere, "ae-decoder") is None
    assert len(chosen.rows) == 6
    assert [row["latent"] for row in chosen.rows if row["chosen"]] == ["8", "16"]
    best = next(row for row in chosen.rows if row["chosen"])
    assert best["nrmse"] == pytest.approx(0.1, rel=1e-5)
    assert best["inner_folds"] == 3


def test_every_fold_can_choose_for_itself(prepared):
    tried = candidates(["latent=8,16"], overridden)
    jobs = tuning_jobs([prepared], SETTINGS, tried, n_folds=2, every_fold=True)
    assert len({where for _, where, _ in jobs}) == 8
    chosen = choose([prepared], jobs, pretended(prepared, jobs), every_fold=True)
    assert chosen.of(("small", "blocks", 3), "vae-decoder").architecture.latent == 16
    assert chosen.of(("other", "blocks", 3), "vae-decoder") is None

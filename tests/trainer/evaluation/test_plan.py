"""From data sets to jobs and back: the same folds for all, and a note wherever something is not as asked for."""

from dataclasses import replace

import numpy as np
import pytest

from rt_engine.errors import DataError, SettingsError
from rt_engine.field.stimulation_file import write_stimulation_set
from trainer.architectures.settings import MODELS
from trainer.baselines import KINDS
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.figures import forward_summary
from trainer.evaluation.jobs import CONSTANT, run_job
from trainer.evaluation.plan import (
    EvaluationSettings,
    assemble,
    check_settings,
    chosen_models,
    folds_to_run,
    make_job,
    prepare_set,
)
from trainer.evaluation.results import NOT_TESTED, read_evaluation, write_evaluation
from trainer.network_data import NetworkPreprocessing, prepare_for_networks, select_stimulations
from trainer.training_settings import TrainingSettings

BASELINES_ONLY = EvaluationSettings(models=(), forward=False, n_folds=3)


@pytest.fixture(scope="module")
def data(stimulations, tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "small.stim.h5"
    write_stimulation_set(path, stimulations)
    return path


@pytest.fixture(scope="module")
def out(data):
    """Folder of finished jobs, which the tests share."""
    return data.parent / "out"


@pytest.fixture(scope="module")
def found(data, out):
    return evaluate([data], BASELINES_ONLY, out, workers=0)[0]


def test_models_are_named_in_the_articles_order():
    assert chosen_models(["all"]) == MODELS
    assert chosen_models(["none"]) == ()
    assert chosen_models(["direct-variational,ae-decoder", "vae-decoder"]) == (MODELS[0], MODELS[2], MODELS[4])
    with pytest.raises(SettingsError, match=r"names vae-coder; expected all, none, or some of ae-decoder"):
        chosen_models(["vae-coder"])
    with pytest.raises(SettingsError, match="names nothing"):
        chosen_models([","])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_folds": 1}, "expected 2 to 50"),
        ({"kinds": ("spatial",)}, "--only is spatial"),
        ({"fold_subset": (9,)}, "expected some of 0 to 3"),
        ({"fold_subset": ()}, "names the folds none"),
    ],
)
def test_folds_that_cannot_be_are_refused(changed, message):
    asked = {"n_folds": 4} | changed
    with pytest.raises(SettingsError, match=message):
        check_settings(EvaluationSettings(**asked))


def test_folds_are_made_of_the_stimulations_that_the_articles_preprocessing_keeps(data, stimulations):
    prepared = prepare_set(data, BASELINES_ONLY)
    whole = prepare_for_networks(stimulations, NetworkPreprocessing())
    kept = select_stimulations(whole, NetworkPreprocessing()).kept
    assert kept.sum() == len(prepared.training) < len(whole)
    assert prepared.name == "small"
    for folds in prepared.folds.values():
        assert np.array_equal(np.sort(np.concatenate([test for _, test in folds])), np.arange(kept.sum()))
    assert list(prepared.folds) == ["random", "blocks"]
    assert prepared.notes == ()


def test_without_poses_the_second_column_is_absent_and_a_note_says_so(stimulations, tmp_path):
    path = tmp_path / "no-poses.stim.h5"
    write_stimulation_set(path, replace(stimulations, pose=np.full_like(stimulations.pose, np.nan)))
    prepared = prepare_set(path, BASELINES_ONLY)
    assert list(prepared.folds) == ["random"]
    assert any("no folds by place of the coil" in note for note in prepared.notes)
    assert {kind for kind, _ in folds_to_run(prepared, BASELINES_ONLY)} == {"random"}
    with pytest.raises(DataError, match="Leave --only out"):
        prepare_set(path, EvaluationSettings(kinds=("blocks",)))


def test_a_fold_without_an_intensity_is_noted(stimulations, tmp_path):
    intensity = stimulations.intensity_percent_rmt.copy()
    intensity[:2] = 200
    path = tmp_path / "rare.stim.h5"
    write_stimulation_set(path, replace(stimulations, intensity_percent_rmt=intensity))
    notes = prepare_set(path, BASELINES_ONLY).notes
    assert len(notes) == 1
    assert "has no stimulation at 200 % RMT, of which there are" in notes[0]


def test_every_method_estimates_every_stimulation_by_models_that_never_saw_it(found, tmp_path):
    for kind in ("random", "blocks"):
        assert tuple(found.field[kind]) == KINDS
        assert set(found.fold[kind]) == {0, 1, 2}
        for number in range(3):
            test = found.fold[kind] == number
            mean = found.training.field[~test].mean(axis=0)
            assert np.allclose(found.field[kind]["mean-map"][test], mean, atol=1e-6)
    write_evaluation(tmp_path / "x.eval.h5", found)
    assert read_evaluation(tmp_path / "x.eval.h5").settings["evaluation"]["n_folds"] == 3


def test_some_folds_can_be_run_and_are_named(data, found, out):
    asked = EvaluationSettings(models=(), forward=False, n_folds=3, fold_subset=(1, 2))
    (part,) = evaluate([data], asked, out, workers=0)
    assert set(part.fold["random"]) == {NOT_TESTED, 1, 2}
    assert "of the folds 0 to 2, only 1, 2 were run: figures are of their stimulations only" in part.notes
    tested = part.tested("random")
    assert np.array_equal(tested, np.flatnonzero(found.fold["random"] > 0))
    assert np.array_equal(part.field["random"]["knn"][tested], found.field["random"]["knn"][tested])


def test_two_sets_of_one_name_are_refused(data, out):
    with pytest.raises(DataError, match="a name for each"):
        evaluate([data, data], BASELINES_ONLY, out, workers=0)


def test_a_networks_job_trains_on_all_rows_of_the_fold_with_the_evaluations_seed(data):
    asked = EvaluationSettings(seed=7, training=TrainingSettings())
    job = make_job(prepare_set(data, asked), "random", 0, "direct-variational", asked)
    assert job.settings["fitting"]["validation_fraction"] == 0
    assert job.settings["fitting"]["seed"] == 7


def test_the_constant_foretells_the_training_folds_mean(data, found):
    asked = EvaluationSettings(models=(), n_folds=3, kinds=("random",))
    prepared = prepare_set(data, asked)
    jobs = [make_job(prepared, "random", k, CONSTANT, asked) for k in range(3)]
    results = {job.key: run_job(job, prepared.training) for job in jobs}
    fold, meps = found.fold["random"], found.normalised_meps
    whole = assemble(prepared, asked, jobs, results, {})
    for number in range(3):
        test = fold == number
        assert np.allclose(whole.forward_meps["constant"][test], meps[~test].mean(axis=0), atol=1e-6)
    figures = forward_summary(replace(whole, forward_meps={"constant": whole.forward_meps["constant"]}))
    assert figures["constant"]["r2"] == pytest.approx(0, abs=0.1)

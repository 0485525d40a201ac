"""Jobs and where their results are kept: a key stands for all that a result depends on."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from rt_engine.errors import DataError, M2MError
from tests.conftest import ROOT
from trainer.evaluation.cluster import Watch, run_jobs
from trainer.evaluation.forward_meps import from_uv, to_uv
from trainer.evaluation.job_store import JobStore
from trainer.evaluation.jobs import FIRST_STAGE, Job, JobResult, digest, run_job
from trainer.network_data import NetworkPreprocessing, scaled

BASELINE = {"floor_uv": 5.0, "inner_folds": 3, "seed": 0}


@pytest.fixture
def job(training) -> Job:
    return Job("small", digest(training), "random", 1, "ridge", np.arange(100), np.arange(100, 160), BASELINE)


def test_a_key_changes_with_all_that_a_result_depends_on_and_with_nothing_else(job, training):
    same = replace(job, data="renamed", kind="blocks", fold=3, fit=job.fit.astype(np.int32))
    assert same.key == job.key
    louder = replace(training, amplitudes_uv=training.amplitudes_uv * 2)
    others = [
        replace(job, method="knn"),
        replace(job, fit=job.fit[:-1]),
        replace(job, test=job.test[::-1]),
        replace(job, settings=BASELINE | {"seed": 1}),
        replace(job, data_sha256=digest(louder)),
    ]
    assert len({job.key, *(other.key for other in others)}) == 6


def test_a_baseline_is_fitted_to_the_folds_rows_only(job, training):
    result = run_job(job, training)
    assert result.estimate.shape == (60, training.field.shape[1])
    assert result.estimate.dtype == np.float32
    assert result.details["alpha"] > 0
    held_out_differs = training.field.copy()
    held_out_differs[100:] = 0.5
    again = run_job(job, replace(training, field=held_out_differs))
    assert np.array_equal(again.estimate, result.estimate)


def test_an_unknown_method_is_refused(job, training):
    with pytest.raises(DataError, match=r"unknown method 'oracle'; expected one of mean-map"):
        run_job(replace(job, method="oracle"), training)


def test_a_result_comes_back_as_it_was_kept(job, tmp_path):
    store = JobStore(tmp_path)
    assert store.find(job) is None
    result = JobResult(np.arange(6, dtype=np.float32).reshape(2, 3), 1.5, {"epochs": {"direct": 3}}, b"state")
    (tmp_path / "jobs" / job.key).mkdir()
    store.keep(job, result)
    found = JobStore(tmp_path).find(job)
    assert np.array_equal(found.estimate, result.estimate)
    assert (found.seconds, found.details, found.state) == (1.5, {"epochs": {"direct": 3}}, b"state")
    assert not (tmp_path / "jobs" / job.key).exists()


def test_a_damaged_result_is_made_again(job, training, tmp_path, caplog):
    store = JobStore(tmp_path)
    expected = run_jobs([job], {job.data_sha256: training}, store, workers=0)[job.key].estimate
    path = store.path(job)
    path.write_bytes(path.read_bytes()[:-10])
    assert store.find(job) is None
    assert "is done again" in caplog.text
    found = run_jobs([job], {job.data_sha256: training}, store, workers=0)
    assert np.array_equal(found[job.key].estimate, expected)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot make the folder"):
        JobStore(tmp_path / "file")


class Told(Watch):
    def __init__(self) -> None:
        self.began: list[str] = []
        self.failures: list[str] = []
        self.n_done = 0

    def planned(self, what, jobs, n_done) -> None:
        self.n_done = n_done

    def started(self, job) -> None:
        self.began.append(job.method)

    def failed(self, job, error) -> None:
        self.failures.append(job.method)


def test_what_was_done_is_not_done_again(job, training, tmp_path):
    sets, told = {job.data_sha256: training}, Told()
    run_jobs([job], sets, JobStore(tmp_path), workers=0)
    run_jobs(
        [job, replace(job, method="knn"), replace(job, method="knn")], sets, JobStore(tmp_path), watch=told, workers=0
    )
    assert told.began == ["knn"]
    assert told.n_done == 1


def test_one_job_that_fails_does_not_stop_the_others(job, training, tmp_path):
    bad, told = replace(job, method="oracle"), Told()
    with pytest.raises(M2MError, match=r"1 of 2 jobs cannot be done. oracle on small, random fold 1: unknown method"):
        run_jobs([bad, job], {job.data_sha256: training}, JobStore(tmp_path), workers=0, watch=told)
    assert told.failures == ["oracle"]
    assert JobStore(tmp_path).find(job) is not None


def test_two_models_wait_for_the_stage_that_they_have_in_common(job, training, tmp_path, monkeypatch):
    began: list[tuple[str, bytes | None]] = []

    def pretended(job, training, *, folder, told, first):
        began.append((job.method, first))
        if job.method == FIRST_STAGE:
            return JobResult(np.zeros((0, 0), np.float32), 1.0, {}, b"the stage")
        return JobResult(np.zeros((len(job.test), 1), np.float32), 1.0)

    monkeypatch.setattr("trainer.evaluation.cluster.run_job", pretended)
    both = [replace(job, method=method) for method in ("vae-decoder", "vae-sampler-decoder")]
    store = JobStore(tmp_path)
    results = run_jobs(both, {job.data_sha256: training}, store, workers=0)
    assert [method for method, _ in began] == [FIRST_STAGE, "vae-sampler-decoder", "vae-decoder"]
    assert [first for _, first in began[1:]] == [b"the stage"] * 2
    assert {each.key for each in both} <= set(results)
    store.path(both[0]).unlink()
    run_jobs(both, {job.data_sha256: training}, store, workers=0)
    assert began[3:] == [("vae-decoder", b"the stage")]


def test_models_whose_first_stage_fails_are_not_begun(job, training, tmp_path, monkeypatch):
    def fails(job, training, *, folder, told, first):
        raise DataError("FDI never responded")

    monkeypatch.setattr("trainer.evaluation.cluster.run_job", fails)
    with pytest.raises(M2MError, match=r"2 of 2 jobs cannot be done. vae on small.*FDI never responded"):
        run_jobs([replace(job, method="vae-decoder")], {job.data_sha256: training}, JobStore(tmp_path), workers=0)


@pytest.mark.parametrize("settings", [{}, {"mep_scale": "log"}, {"mep_scale": "log", "small_meps": "keep"}])
def test_scaled_meps_become_amplitudes_and_back(training, settings):
    preprocessing = NetworkPreprocessing(**settings)
    scale = np.nanmax(training.amplitudes_uv, axis=0)
    values = scaled(training.amplitudes_uv, scale, preprocessing)
    assert np.allclose(from_uv(to_uv(values, scale, preprocessing), scale, preprocessing), values)
    heard = training.amplitudes_uv > 50
    assert np.allclose(to_uv(values, scale, preprocessing)[heard], training.amplitudes_uv[heard])


def test_everything_but_a_networks_job_imports_without_tensorflow():
    code = """
import pathlib, sys
for path in pathlib.Path("trainer/evaluation").glob("*.py"):
    if path.stem not in ("__init__", "network_jobs"):
        __import__(f"trainer.evaluation.{path.stem}")
import tools.commands.evaluate
assert "tensorflow" not in sys.modules and "keras" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

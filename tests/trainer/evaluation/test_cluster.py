"""Jobs on worker processes: the same figures however many there are, and whatever happens to them."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from rt_engine.errors import M2MError
from rt_engine.field.stimulation_file import write_stimulation_set
from tests.conftest import ROOT
from trainer.evaluation import cluster
from trainer.evaluation.cluster import Watch, local_cluster, run_jobs
from trainer.evaluation.job_store import JobStore
from trainer.evaluation.jobs import Job, JobResult, digest
from trainer.folds import random_folds
from trainer.preprocessing import TrainingSet

BASELINE = {"floor_uv": 5.0, "inner_folds": 3, "seed": 0}


@pytest.fixture
def jobs(training: TrainingSet) -> list[Job]:
    return [
        Job("small", digest(training), "random", fold, method, fit, test, BASELINE)
        for fold, (fit, test) in enumerate(random_folds(training, 3))
        for method in ("mean-map", "ridge", "knn")
    ]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """Start a worker and its scheduler, as somebody else may have."""
    with local_cluster(1, tmp_path_factory.mktemp("cluster") / "workers.log") as found:
        yield found


def test_a_job_that_fails_on_a_worker_is_told_as_it_failed_there(jobs, training, running, tmp_path):
    bad = replace(jobs[0], method="oracle")
    with pytest.raises(M2MError, match="unknown method 'oracle'"):
        run_jobs([bad], {digest(training): training}, JobStore(tmp_path), scheduler=running.scheduler_address)


def test_workers_with_other_versions_are_refused(jobs, training, running, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster.metadata, "version", lambda name: "0.0.1")
    with pytest.raises(M2MError, match=r"the worker tcp://.* has m2m-live .* \(here 0.0.1\)"):
        run_jobs(jobs, {digest(training): training}, JobStore(tmp_path), scheduler=running.scheduler_address)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense://x", "tcp://no-such-host.invalid:8786"])
def test_a_scheduler_that_cannot_be_reached_is_named(jobs, training, tmp_path, monkeypatch, address):
    monkeypatch.setattr(cluster, "CONNECT_S", 0.5)
    with pytest.raises(M2MError, match=f"no dask scheduler answers at {address}"):
        run_jobs(jobs, {digest(training): training}, JobStore(tmp_path), scheduler=address)


def test_an_evaluation_without_any_worker_ends_in_the_end(monkeypatch):
    monkeypatch.setattr(cluster.time, "monotonic", lambda: 1000.0)
    assert cluster._seen(1, 0.0) == 1000.0
    assert cluster._seen(0, 200.0) == 200.0
    with pytest.raises(M2MError, match="there has been no worker for 15 minutes"):
        cluster._seen(0, 50.0)


def workers_of_this_process() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if any("spawn_main" in word for word in child.cmdline())]


def test_a_killed_worker_changes_no_figure(jobs, training, running, tmp_path):
    """Kill -9, as the kernel does when memory runs out: the data set that the workers held is lost with them."""

    class Killer(Watch):
        def __init__(self) -> None:
            self.lost: list[str] = []
            self.finished_jobs = 0

        def finished(self, job: Job, result: JobResult) -> None:
            self.finished_jobs += 1
            if self.finished_jobs == 2:
                (worker,) = workers_of_this_process()
                worker.kill()

        def worker_lost(self, address: str) -> None:
            self.lost.append(address)

    sets, killer = {digest(training): training}, Killer()
    expected = run_jobs(jobs, sets, JobStore(tmp_path / "here"), workers=0)
    found = run_jobs(jobs, sets, JobStore(tmp_path / "killed"), scheduler=running.scheduler_address, watch=killer)
    assert len(killer.lost) == 1
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[key].estimate, expected[key].estimate) for key in expected)


@pytest.mark.long
def test_a_worker_killed_amid_a_networks_training_changes_no_figure(stimulations, tmp_path):
    """The job goes on from its checkpoint on another worker; Ctrl-C and the same command again do so too."""
    write_stimulation_set(tmp_path / "tiny.stim.h5", replace(stimulations, box_shape=(12, 12, 8)))
    asked = ("--models", "direct-variational,vae-decoder", "--folds", "2", "--fold-subset", "0", "--only", "random")

    def evaluation(out: Path, *more: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "tools.cli", "evaluate", str(tmp_path / "tiny.stim.h5"), "-o", str(out)]
        return subprocess.Popen(
            [*command, *asked, "--epochs", "6", "--set", "latent=4", *more],
            cwd=ROOT,
            start_new_session=True,
            stderr=subprocess.PIPE,
            text=True,
        )

    undisturbed = evaluation(tmp_path / "one", "--workers", "1")
    undisturbed.communicate()
    assert undisturbed.returncode == 0
    disturbed = evaluation(tmp_path / "two", "--workers", "2")
    began = tmp_path / "two" / "jobs"

    def await_checkpoint() -> None:
        while not list(began.glob("*/checkpoint.h5")):
            assert disturbed.poll() is None
            time.sleep(0.05)

    await_checkpoint()
    for child in psutil.Process(disturbed.pid).children():
        if any("spawn_main" in word for word in child.cmdline()):
            child.kill()
    await_checkpoint()
    os.killpg(disturbed.pid, signal.SIGINT)
    _, told = disturbed.communicate()
    assert disturbed.returncode == 130
    assert "was lost; what it was doing runs again" in " ".join(told.split())
    disturbed = evaluation(tmp_path / "two", "--workers", "2")
    disturbed.communicate()
    assert disturbed.returncode == 0
    for name in ("figures.csv", "stimulations.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()

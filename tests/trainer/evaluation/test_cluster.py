"""Jobs on worker processes: the same figures however many there are, and whatever happens to them."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from trainer.evaluation.cluster import Watch, run_jobs
from trainer.evaluation.job_store import JobStore
from trainer.evaluation.jobs import Job, JobResult, digest
from trainer.folds import random_folds
from trainer.preprocessing import TrainingSet

BASELINE = {"floor_uv": 5.0, "inner_folds": 3, "seed": 0}


@pytest.fixture
def jobs(training: TrainingSet) -> list[Job]:
    return [
        Job("small", digest(training), "random", fold, method, fit, test, BASELINE)
        for fold, (fit, test) in enumerate(random_folds(training, 4))
        for method in ("mean-map", "ridge", "kernel-ridge")
    ]


class Told(Watch):
    def __init__(self) -> None:
        self.done: list[str] = []
        self.lost: list[str] = []
        self.begun: list[str] = []

    def started(self, job: Job) -> None:
        self.begun.append(job.title)

    def finished(self, job: Job, result: JobResult) -> None:
        self.done.append(job.title)

    def worker_lost(self, address: str) -> None:
        self.lost.append(address)


def same(a: dict[str, JobResult], b: dict[str, JobResult]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key].estimate, b[key].estimate) for key in a)


@pytest.fixture
def expected(jobs: list[Job], training: TrainingSet, tmp_path: Path) -> dict[str, JobResult]:
    return run_jobs(jobs, {digest(training): training}, JobStore(tmp_path / "here"), workers=0)


def test_two_workers_give_what_this_process_gives(jobs, training, expected, tmp_path):
    told = Told()
    found = run_jobs(jobs, {digest(training): training}, JobStore(tmp_path / "two"), workers=2, watch=told)
    assert same(found, expected)
    assert len(told.done) == len(told.begun) == len(jobs)


def test_a_killed_worker_changes_no_figure(jobs, training, expected, tmp_path):
    """Kill -9, as the kernel does when memory runs out; the data set that the worker held is lost with it."""

    class Killer(Told):
        def finished(self, job: Job, result: JobResult) -> None:
            super().finished(job, result)
            if len(self.done) == 2:
                for pid in _children():
                    os.kill(pid, signal.SIGKILL)

    told = Killer()
    found = run_jobs(jobs, {digest(training): training}, JobStore(tmp_path / "killed"), workers=2, watch=told)
    assert same(found, expected)
    assert len(told.lost) >= 1


def _children() -> list[int]:
    """Worker processes of the cluster in this process."""
    import psutil

    return [
        child.pid
        for child in psutil.Process().children()
        if any("spawn_main" in word for word in child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE
    ]

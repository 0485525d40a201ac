"""How long an evaluation will still take, from how long jobs of the same method took."""

import numpy as np
import pytest

from tools.evaluation_progress import TimeLeft
from trainer.evaluation.jobs import Job


def job(method: str, fold: int) -> Job:
    return Job("small", "0" * 64, "random", fold, method, np.arange(2), np.array([fold]), {})


def test_time_left_is_that_of_like_jobs_by_how_many_run_at_once():
    left = TimeLeft()
    jobs = [job(method, fold) for method in ("ridge", "knn") for fold in range(3)]
    left.planned(jobs)
    left.started(jobs[0], 0.0)
    left.started(jobs[3], 0.0)
    left.finished(jobs[0], 10.0)
    assert left.seconds() is None  # no knn has ended yet
    left.finished(jobs[3], 4.0)
    assert left.seconds() == pytest.approx((2 * 10 + 2 * 4) / 2)
    left.finished(jobs[1], None)  # it failed, or was done before
    assert left.seconds() == pytest.approx((10 + 2 * 4) / 2)

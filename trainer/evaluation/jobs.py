"""One job of an evaluation: fit one method to one fold of one data set, and estimate what was held out.

A job says everything that its result depends on, and is a function of that alone: it may run on any worker, twice, or
again after a worker was lost, and gives the same figures. TensorFlow is imported only where a job trains a network.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from rt_engine.errors import DataError
from trainer.architectures.settings import MODELS
from trainer.baselines import KINDS, fit_regressor, predict_field
from trainer.evaluation.forward_meps import constant_meps
from trainer.folds import FoldKind
from trainer.network_data import NetworkPreprocessing
from trainer.preprocessing import TrainingSet

FORWARD = "m2m-net"
CONSTANT = "constant"
FORWARD_METHODS = (FORWARD, CONSTANT)
"""From the field to the MEPs; all other methods go from the MEPs to the field."""

METHODS: tuple[str, ...] = (*KINDS, *MODELS, *FORWARD_METHODS)

FIRST_STAGE = "vae"
"""No method of its own, but the job that trains what `BEGIN_WITH_IT` have in common; named as the stage is."""

BEGIN_WITH_IT = ("vae-decoder", "vae-sampler-decoder")

SLOWEST_FIRST = ("ae-decoder", FIRST_STAGE, "vae-sampler-decoder", "vae-decoder", "direct-convolutional", FORWARD)
"""Jobs of these begin first, so that no worker waits for a long one at the end; the others follow in any order."""

JOB_VERSION = 1
"""Raised when the same job would give another result, so that results of an older version are not taken for it."""

Told = Callable[[str, int, int], None]
"""Called with the name of a stage of training, epochs done and the most there can be."""


@dataclass(frozen=True, eq=False)
class Job:
    """What is fitted to what, and what is estimated.

    Attributes
    ----------
    data : str
        Name of the data set, for people.
    data_sha256 : str
        `digest` of the training set that the rows are of.
    kind : str
        Kind of folds.
    fold : int
        Number of the fold.
    method : str
        One of `METHODS`.
    fit, test : numpy.ndarray
        Rows that the method is fitted to, and rows that it estimates.
    settings : dict
        All settings that the method reads; JSON types.
    inner : int or None
        Number of the inner fold, where hyperparameters are chosen within a fold's training rows.
    """

    data: str
    data_sha256: str
    kind: FoldKind
    fold: int
    method: str
    fit: npt.NDArray[np.intp]
    test: npt.NDArray[np.intp]
    settings: dict[str, Any]
    inner: int | None = None

    @cached_property
    def key(self) -> str:
        """32 hexadecimal digits of a hash of all that the result depends on, and of nothing else."""
        needed = ("numpy", "scipy", "scikit-learn") if self.method in KINDS else ("numpy", "tensorflow", "keras")
        parts = {
            "version": JOB_VERSION,
            "data": self.data_sha256,
            "method": self.method,
            "fit": hashlib.sha256(np.asarray(self.fit, np.int64).tobytes()).hexdigest(),
            "test": hashlib.sha256(np.asarray(self.test, np.int64).tobytes()).hexdigest(),
            "settings": self.settings,
            "packages": {name: metadata.version(name) for name in ("m2m-live", *needed)},
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def title(self) -> str:
        """What it is, for people."""
        inner = "" if self.inner is None else f", inner fold {self.inner}"
        return f"{self.method} on {self.data}, {self.kind} fold {self.fold}{inner}"

    @property
    def urgency(self) -> int:
        """Jobs with a higher one begin first."""
        return len(SLOWEST_FIRST) - SLOWEST_FIRST.index(self.method) if self.method in SLOWEST_FIRST else 0

    @cached_property
    def first(self) -> Job | None:
        """The job whose `JobResult.state` this one begins with."""
        return replace(self, method=FIRST_STAGE, test=self.test[:0]) if self.method in BEGIN_WITH_IT else None


@dataclass(frozen=True, eq=False)
class JobResult:
    """What a job gives.

    Attributes
    ----------
    estimate : numpy.ndarray
        (rows tested, V) float32 on the scale of the training set's field; of forward methods (rows tested, m) float32,
        amplitudes in uV.
    seconds : float
        Time of training, s; over all sittings where it was interrupted.
    details : dict
        What the method says of itself, such as epochs per stage; JSON types.
    state : bytes or None
        Of a first stage: what the jobs begin with that wait for it.
    """

    estimate: npt.NDArray[np.float32]
    seconds: float
    details: dict[str, Any] = field(default_factory=dict)
    state: bytes | None = None


def digest(training: TrainingSet) -> str:
    """Return the SHA-256 of all values of a training set that a method can read."""
    found = hashlib.sha256(json.dumps([training.muscles, list(map(int, training.box_shape))]).encode())
    for name in ("amplitudes_uv", "field", "intensity_percent_rmt", "voxel"):
        array = np.ascontiguousarray(getattr(training, name))
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(array.tobytes())
    found.update(np.float64(training.field_scale_v_per_m).tobytes())
    return found.hexdigest()


def run_job(
    job: Job,
    training: TrainingSet,
    *,
    folder: Path | None = None,
    told: Told | None = None,
    first: bytes | None = None,
    one_thread: bool = False,
) -> JobResult:
    """Do a job.

    Parameters
    ----------
    job : Job
        What to do.
    training : TrainingSet
        The data set that its rows are of.
    folder : Path, optional
        Where a long training keeps its checkpoint, and goes on from one that is there.
    told : callable, optional
        Called after each epoch of a network's training.
    first : bytes, optional
        State of `Job.first`; without it, its part is done here.
    one_thread : bool
        Let TensorFlow use one thread only, as every worker must; it can be told so only before its first operation.

    Returns
    -------
    JobResult

    Raises
    ------
    DataError
        If the method cannot be fitted to these rows, or its name is unknown.
    """
    if job.method in KINDS:
        return _baseline(job, training)
    if job.method == CONSTANT:
        return _constant(job, training)
    if job.method not in (*MODELS, FIRST_STAGE, FORWARD):
        raise DataError(f"unknown method {job.method!r}; expected one of {', '.join(METHODS)}")
    from trainer.evaluation import network_jobs

    if one_thread:
        network_jobs.one_deterministic_thread()
    if job.method == FIRST_STAGE:
        return network_jobs.train_first_stage(job, training, folder=folder, told=told)
    if job.method == FORWARD:
        return network_jobs.train_forward(job, training, folder=folder, told=told)
    return network_jobs.train_and_estimate(job, training, folder=folder, told=told, first=first)


def _baseline(job: Job, training: TrainingSet) -> JobResult:
    fitted_to, settings = training.rows(job.fit), job.settings
    with threadpool_limits(1):
        started = time.perf_counter()
        regressor = fit_regressor(
            job.method,  # type: ignore[arg-type]  # run_job looked
            fitted_to.amplitudes_uv,
            fitted_to.field,
            floor_uv=settings["floor_uv"],
            inner_folds=settings["inner_folds"],
            seed=settings["seed"],
        )
        seconds = time.perf_counter() - started
        estimate = predict_field(regressor, training.amplitudes_uv[job.test])
    chosen = regressor.regressor_.named_steps["regression"].get_params()
    details = {name: float(chosen[name]) for name in ("alpha", "gamma", "n_neighbors") if chosen.get(name) is not None}
    return JobResult(estimate.astype(np.float32), seconds, details)


def _constant(job: Job, training: TrainingSet) -> JobResult:
    """Foretell the same amplitudes for every field: the mean of the rows that are fitted to."""
    preprocessing = msgspec.convert(job.settings["preprocessing"], NetworkPreprocessing)
    meps = constant_meps(training.amplitudes_uv[job.fit], preprocessing)
    return JobResult(np.tile(meps, (len(job.test), 1)).astype(np.float32), 0.0)

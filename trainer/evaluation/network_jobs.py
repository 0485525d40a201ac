"""Jobs that train a network; the only module of an evaluation that imports TensorFlow, when a job needs it.

(c) and (d) begin with one and the same VAE: from the same seed, on the same fields. A job of its own trains it, and
they go on from its checkpoint, to the weights that each would have found alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf

from rt_engine.errors import M2MError
from trainer.architectures.family import build_network
from trainer.architectures.forward import build_forward_network
from trainer.architectures.settings import ModelName
from trainer.evaluation.forward_meps import to_uv
from trainer.evaluation.jobs import FIRST_STAGE, Job, JobResult, Told
from trainer.network_data import fit_scaling
from trainer.network_fitting import History, fit_network
from trainer.preprocessing import TrainingSet
from trainer.trained_network import TrainedNetwork, train_network
from trainer.training_checkpoint import EpochReport, checkpoint_path, read_checkpoint, write_checkpoint
from trainer.training_settings import TrainingSettings, parse_training_settings

TRAINS_IT: ModelName = "vae-decoder"
"""The model whose first stage is trained for both."""


def one_deterministic_thread() -> None:
    """Let TensorFlow use one thread and only deterministic operations; before its first operation in this process.

    Raises
    ------
    M2MError
        If TensorFlow has begun with others.
    """
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError as error:
        raise M2MError(
            f"TensorFlow began with more than one thread in this worker ({error}), so its figures would be others. "
            "Start the worker anew, for this alone."
        ) from error
    tf.config.experimental.enable_op_determinism()


def train_and_estimate(
    job: Job, training: TrainingSet, *, folder: Path | None, told: Told | None, first: bytes | None
) -> JobResult:
    """Train one of the article's models on a fold and estimate its held-out fields.

    Parameters
    ----------
    job, training, folder, told, first
        As of `jobs.run_job`.

    Returns
    -------
    JobResult
    """
    settings = parse_training_settings(job.settings)
    with _checkpoints(folder) as place:
        if first is not None and not checkpoint_path(place).exists():
            _begin_from(first, place, job, training, settings)
        trained = _train(cast("ModelName", job.method), job, training, settings, place, told)
    estimate = trained.predict(training.amplitudes_uv[job.test])
    return JobResult(estimate.astype(np.float32), trained.history.seconds, _details(trained.history))


def train_first_stage(job: Job, training: TrainingSet, *, folder: Path | None, told: Told | None) -> JobResult:
    """Train the VAE that (c) and (d) begin with.

    Parameters
    ----------
    job, training, folder, told
        As of `jobs.run_job`.

    Returns
    -------
    JobResult
        `JobResult.state` is the checkpoint at its end.
    """
    with _checkpoints(folder) as place:
        try:
            _train(TRAINS_IT, job, training, parse_training_settings(job.settings), place, told, only=FIRST_STAGE)
        except _StageEnded:
            pass  # the checkpoint is of the last epoch of the stage, since none of the next is done
        state = checkpoint_path(place).read_bytes()
        history = [report for report in read_checkpoint(place).history if report.stage == FIRST_STAGE]
    seconds = sum(report.seconds for report in history)
    return JobResult(np.zeros((0, 0), np.float32), seconds, {"epochs": {FIRST_STAGE: len(history)}}, state)


def train_forward(job: Job, training: TrainingSet, *, folder: Path | None, told: Told | None) -> JobResult:
    """Train M2M-Net on a fold and foretell its held-out MEPs from the true fields.

    Parameters
    ----------
    job, training, folder, told
        As of `jobs.run_job`.

    Returns
    -------
    JobResult
        Its estimates are amplitudes, uV.
    """
    settings = parse_training_settings(job.settings)
    preprocessing = settings.preprocessing
    fitted_to = training.rows(job.fit)
    scales = training if preprocessing.fitted_on == "all" else fitted_to
    scaling = fit_scaling(scales.amplitudes_uv, preprocessing, muscles=training.muscles)
    factor = scales.field.max()
    keras.utils.clear_session()
    network = build_forward_network(
        len(training.muscles),
        training.voxel,
        training.box_shape,
        settings.architecture,
        seed=settings.fitting.seed,
    )
    with _checkpoints(folder) as place:
        place.mkdir(parents=True, exist_ok=True)
        history = fit_network(
            network,
            (fitted_to.field / factor).astype(np.float32),
            scaling.transform(fitted_to.amplitudes_uv).astype(np.float32),
            settings.fitting,
            folder=place,
            resume=checkpoint_path(place).exists(),
            identity={"job": job.key},
            told=_telling(told),
        )
    values = network.predict((training.field[job.test] / factor).astype(np.float32))
    return JobResult(
        to_uv(values, scaling.scale_uv, preprocessing).astype(np.float32), history.seconds, _details(history)
    )


class _StageEnded(Exception):
    """The next stage has begun."""


def _train(
    model: ModelName,
    job: Job,
    training: TrainingSet,
    settings: TrainingSettings,
    place: Path,
    told: Told | None,
    only: str | None = None,
) -> TrainedNetwork:
    keras.utils.clear_session()  # what earlier jobs left in this worker

    def step_done(stage: str, *_: Any) -> None:
        if only is not None and stage != only:
            raise _StageEnded

    return train_network(
        training.rows(job.fit),
        model,
        architecture=settings.architecture,
        preprocessing=settings.preprocessing,
        fitting=settings.fitting,
        scaled_on=training,
        folder=place,
        resume=checkpoint_path(place).exists(),
        told=_telling(told),
        stepped=step_done,
    )


def _telling(told: Told | None) -> Callable[[EpochReport], None] | None:
    if told is None:
        return None
    return lambda report: told(report.stage, report.epoch, report.epochs)


def _details(history: History) -> dict[str, Any]:
    epochs: dict[str, int] = {}
    for report in history.epochs:
        epochs[report.stage] = epochs.get(report.stage, 0) + 1
    return {"epochs": epochs, "ended": history.ended, "loss": history.epochs[-1].loss}


def _begin_from(first: bytes, place: Path, job: Job, training: TrainingSet, settings: TrainingSettings) -> None:
    """Write the checkpoint of a model whose first stage is the one that was trained for another."""
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as elsewhere:
        checkpoint_path(elsewhere).write_bytes(first)
        done = read_checkpoint(elsewhere)
    fresh = build_network(
        cast("ModelName", job.method),
        len(training.muscles),
        training.voxel,
        training.box_shape,
        settings.architecture,
        seed=settings.fitting.seed,
    ).weights()
    shared = {name: value for name, value in done.weights.items() if not name.startswith("mapper/")}
    identity = done.identity | {"model": job.method}
    write_checkpoint(place, replace(done, identity=identity, weights=fresh | shared))


@contextmanager
def _checkpoints(folder: Path | None) -> Iterator[Path]:
    """Give the job's folder, or one that lasts as long as the job."""
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="m2m-job-") as temporary:
        yield Path(temporary)

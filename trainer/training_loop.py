"""The loop of a training: epochs and steps, from a state to the end of the last stage.

Order of the stimulations and noise of the latent are functions of (seed, stage, epoch, step) alone, and what else a
step depends on is in the checkpoint. Checks of data and checkpoints are `network_fitting`'s.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from rt_engine.errors import M2MError
from trainer.metrics import nrmse
from trainer.plateau_schedule import Plateau, plateau_after
from trainer.training_checkpoint import Checkpoint, EpochReport, checkpoint_path, write_checkpoint
from trainer.training_log import summarise
from trainer.training_settings import FittingSettings

Array = NDArray[Any]
Step = Callable[[NDArray[np.int32], NDArray[np.int64]], Any]
"""Takes rows and the noise's seed, changes the weights, gives the batch's `LOSSES`."""

VALIDATION_BATCH = 8
"""Stimulations whose error is computed at once where a network's `predict` cannot be used."""

LOSSES = ("loss", "squared_error", "kl", "l1")
"""What a network's `losses` holds."""


class TrainingStopped(M2MError):
    """Training was asked to stop, and did; its checkpoint holds every step that was taken."""


class TrainingStage(Protocol):
    """What is asked of a stage of training."""

    @property
    def name(self) -> str:
        """One word."""

    @property
    def takes_field(self) -> bool:
        """Whether the path goes from the field to the field, rather than from MEPs."""


class FittedNetwork(Protocol):
    """What is asked of a network, as `trainer.architectures.family.InverseNetwork` has it."""

    @property
    def stages(self) -> Sequence[Any]:
        """Stages of training, in their order."""

    @property
    def latent(self) -> int:
        """Numbers of noise per stimulation."""

    def losses(self, stage: Any, x: Any, y: Any, noise: Any, training: bool = True) -> dict[str, Any]:
        """Return `LOSSES` of a batch as tensors; x is (B, V), y (B, m) and noise (B, latent)."""

    def trainable(self, stage: Any) -> list[Any]:
        """Return the Keras variables that a stage changes."""

    def predict(self, y: Array) -> NDArray[np.float32]:
        """Return (n, V) fields for (n, m) scaled MEPs."""

    def weights(self) -> dict[str, Array]:
        """Return all weights by name."""

    def set_weights(self, weights: dict[str, Array]) -> None:
        """Take over such weights."""


@dataclass(frozen=True)
class Watchers:
    """Who is told of a training's progress, and who may end it.

    Attributes
    ----------
    told : callable, optional
        Called with each epoch's report.
    stepped : callable, optional
        Called with stage, epoch, steps done and steps of the epoch.
    stop : callable, optional
        Asked after every step; training stops once it says yes.
    """

    told: Callable[[EpochReport], None] | None = None
    stepped: Callable[[str, int, int, int], None] | None = None
    stop: Callable[[], bool] | None = None


class TrainingLoop:
    """Training of one network on one set of data.

    Parameters
    ----------
    network : FittedNetwork
        Changed in place.
    x, y : numpy.ndarray
        (n, V) fields in [0, 1] and (n, m) scaled MEPs.
    held_out : tuple of numpy.ndarray, optional
        The same of stimulations whose error is watched.
    settings : FittingSettings
        The schedule.
    watchers : Watchers
        Who is told.
    folder : str or Path, optional
        Of the checkpoint.
    summaries
        TensorBoard's writer, or None.
    """

    def __init__(
        self,
        network: FittedNetwork,
        x: Array,
        y: Array,
        held_out: tuple[Array, Array] | None,
        settings: FittingSettings,
        *,
        watchers: Watchers,
        folder: str | Path | None,
        summaries: Any,
    ) -> None:
        self._network, self._settings, self._held_out = network, settings, held_out
        self._watchers, self._folder, self._summaries = watchers, folder, summaries
        self._dtype = network.trainable(network.stages[0])[0].dtype
        self._n = len(x)
        self._steps = -(-self._n // settings.batch_size)
        self._x, self._y = tf.constant(x, self._dtype), tf.constant(y, self._dtype)

    def run(self, state: Checkpoint) -> Checkpoint:
        """Train from a state, whose weights the network has, to the end of the last stage.

        Raises
        ------
        TrainingStopped
            If a watcher wanted it.
        M2MError
            If the loss or a weight is no finite number any more.
        """
        for number in range(state.stage, len(self._network.stages)):
            if number > state.stage:
                state = replace(_between_epochs(state), stage=number, weights={}, optimizer=())
            state = self._stage(state)
        return state

    def _stage(self, state: Checkpoint) -> Checkpoint:
        stage, settings = self._network.stages[state.stage], self._settings
        variables = self._network.trainable(stage)
        optimizer = keras.optimizers.Adadelta(settings.learning_rate)
        optimizer.build(variables)
        for variable, value in zip(optimizer.variables, state.optimizer, strict=bool(state.optimizer)):
            variable.assign(value.reshape(variable.shape))
        step = self._step(stage, variables, optimizer)
        while True:
            done = [report.loss for report in state.history if report.stage == stage.name]
            plateau = plateau_after(done, settings)
            if len(done) >= settings.epochs or plateau.reached(settings):
                return state
            started = time.perf_counter() - state.seconds
            optimizer.learning_rate.assign(plateau.learning_rate)
            state = self._epoch(state, stage, len(done), plateau, step, optimizer, started)
            squared_error, relative = self._validate(stage)
            seconds = time.perf_counter() - started
            # The first epoch makes the graphs, so the latest ones tell better how long one takes.
            latest = [
                report.seconds for report in state.history[-5:] if report.stage == stage.name and report.epoch > 1
            ]
            epochs_left = settings.epochs * (len(self._network.stages) - state.stage) - len(done) - 1
            loss, own_error, kl, _ = (state.sums / self._n).tolist()
            report = EpochReport(
                stage=stage.name,
                epoch=len(done) + 1,
                epochs=settings.epochs,
                loss=loss,
                squared_error=own_error,
                kl=kl,
                validation_squared_error=squared_error,
                validation_nrmse=relative,
                learning_rate=plateau.learning_rate,
                seconds=seconds,
                seconds_left=float(np.median([*latest, seconds])) * epochs_left,
            )
            state = _between_epochs(replace(state, history=(*state.history, report)))
            self._save(state, optimizer)
            summarise(self._summaries, report, len(state.history))
            if self._watchers.told is not None:
                self._watchers.told(report)

    def _epoch(
        self,
        state: Checkpoint,
        stage: TrainingStage,
        epoch: int,
        plateau: Plateau,
        step: Step,
        optimizer: Any,
        started: float,
    ) -> Checkpoint:
        """Take an epoch's remaining steps; return the state after the last one."""
        batch, watchers = self._settings.batch_size, self._watchers
        # SeedSequence mixes the numbers well, whatever they are; the first place keeps order and noise apart.
        key = (self._settings.seed, state.stage, epoch)
        order = np.random.default_rng([0, *key]).permutation(self._n).astype(np.int32)
        sums = state.sums.copy()
        for k in range(state.steps, self._steps):
            rows = order[k * batch : (k + 1) * batch]
            noise_seed = np.random.SeedSequence([1, *key, k]).generate_state(2).astype(np.int64)
            losses = step(rows, noise_seed).numpy().astype(np.float64)
            if not np.isfinite(losses).all():
                raise self._diverged("the loss", stage.name, epoch, k, plateau.learning_rate)
            sums += losses * len(rows)
            if watchers.stepped is not None:
                watchers.stepped(stage.name, epoch + 1, k + 1, self._steps)
            if watchers.stop is not None and watchers.stop():
                seconds = time.perf_counter() - started
                self._save(replace(state, steps=k + 1, seconds=seconds, sums=sums), optimizer)
                kept = f"; its checkpoint is in {self._folder}" if self._folder is not None else ""
                raise TrainingStopped(
                    f"training stopped in stage {stage.name!r}, epoch {epoch + 1}, step {k + 1} of {self._steps}{kept}"
                )
        if not all(np.isfinite(value).all() for value in self._network.weights().values()):
            raise self._diverged("a weight", stage.name, epoch, self._steps - 1, plateau.learning_rate)
        return replace(state, steps=self._steps, sums=sums)

    def _step(self, stage: TrainingStage, variables: list[Any], optimizer: Any) -> Step:
        """Return one step of training as a graph, traced once per size of a batch."""
        network, dtype = self._network, self._dtype
        values = [variable.value for variable in variables]

        def taken(rows: Any, noise_seed: Any) -> Any:
            noise = tf.random.stateless_normal((rows.shape[0], network.latent), noise_seed, dtype=dtype)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(values)
                losses = network.losses(stage, tf.gather(self._x, rows), tf.gather(self._y, rows), noise)
            optimizer.apply(tape.gradient(losses["loss"], values), variables)
            return tf.stack([tf.cast(losses[name], dtype) for name in LOSSES])

        graph = tf.function(taken, autograph=False)

        def step(rows: NDArray[np.int32], noise_seed: NDArray[np.int64]) -> Any:
            try:
                return graph(tf.constant(rows), tf.constant(noise_seed))
            except tf.errors.UnimplementedError as error:
                raise M2MError(
                    f"TensorFlow cannot do a step of training on this device: {error.message}. Train on the CPU, with "
                    "CUDA_VISIBLE_DEVICES=-1 in the environment."
                ) from error

        return step

    def _validate(self, stage: TrainingStage) -> tuple[float | None, float | None]:
        """Return the squared error and NRMSE of the stimulations set apart."""
        if self._held_out is None:
            return None, None
        x, y = self._held_out
        if not stage.takes_field:
            estimated = self._network.predict(y).astype(np.float64)
            relative = nrmse(x, estimated)
            known = np.isfinite(relative)  # a field that is zero everywhere has no relative error
            return (
                float(((estimated - x) ** 2).sum(axis=1).mean()),
                float(relative[known].mean()) if known.any() else None,
            )
        total = 0.0
        for begin in range(0, len(x), VALIDATION_BATCH):
            some_x, some_y = (
                tf.constant(each[begin : begin + VALIDATION_BATCH], self._dtype) for each in self._held_out
            )
            noise = tf.zeros((some_x.shape[0], self._network.latent), self._dtype)
            losses = self._network.losses(stage, some_x, some_y, noise, training=False)
            total += float(losses["squared_error"]) * some_x.shape[0]
        return total / len(x), None

    def _save(self, state: Checkpoint, optimizer: Any) -> None:
        if self._folder is not None:
            variables = tuple(variable.numpy() for variable in optimizer.variables)
            write_checkpoint(self._folder, replace(state, weights=self._network.weights(), optimizer=variables))

    def _diverged(self, what: str, stage: str, epoch: int, step: int, learning_rate: float) -> M2MError:
        kept = ""
        if self._folder is not None and checkpoint_path(self._folder).exists():
            kept = f" The checkpoint in {self._folder} is of before this epoch."
        return M2MError(
            f"{what} is no finite number any more in epoch {epoch + 1} (step {step + 1} of {self._steps}) of stage "
            f"{stage!r}, at learning rate {learning_rate:g}. Train anew with a smaller fitting.learning_rate (a tenth, "
            f"say) or a larger fitting.batch_size, and look for outliers in the data.{kept}"
        )


def _between_epochs(state: Checkpoint) -> Checkpoint:
    return replace(state, steps=0, seconds=0.0, sums=np.zeros(len(LOSSES)))

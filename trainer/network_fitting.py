"""Fit a network's weights: the article's training (II.E), repeatable to the bit and resumable at any step.

Mini-batches, Adadelta, the schedule of `plateau_schedule`, one stage after the other, each with an optimizer of its
own. A training that was stopped and goes on from its checkpoint takes the very steps that it would have taken.

What network it is does not matter here, see `training_loop.FittedNetwork`; from data set to network is
`trained_network`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from rt_engine.errors import DataError
from trainer.plateau_schedule import plateau_after
from trainer.training_checkpoint import (
    Checkpoint,
    EpochReport,
    check_same_training,
    checkpoint_path,
    digest,
    read_checkpoint,
)
from trainer.training_log import summaries
from trainer.training_loop import Array, FittedNetwork, TrainingLoop, TrainingStopped, Watchers
from trainer.training_settings import FittingSettings

__all__ = ["EpochReport", "FittingSettings", "History", "TrainingStopped", "fit_network"]


@dataclass(frozen=True)
class History:
    """How a training went.

    Attributes
    ----------
    epochs : tuple of EpochReport
        All epochs of all stages.
    ended : dict of str to str
        Stage -> why it ended: ``plateau`` (the article's rule) or ``epochs`` (the most that were allowed).
    """

    epochs: tuple[EpochReport, ...]
    ended: dict[str, str]

    @property
    def seconds(self) -> float:
        """Time that the training took, without breaks between a stop and going on."""
        return sum(report.seconds for report in self.epochs)


def fit_network(
    network: FittedNetwork,
    x: Array,
    y: Array,
    settings: FittingSettings,
    *,
    x_validation: Array | None = None,
    y_validation: Array | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    identity: dict[str, Any] | None = None,
    told: Callable[[EpochReport], None] | None = None,
    stepped: Callable[[str, int, int, int], None] | None = None,
    stop: Callable[[], bool] | None = None,
    log_dir: str | Path | None = None,
) -> History:
    """Train a network through all its stages; it holds the last weights then, as the article has it, not the best.

    Parameters
    ----------
    network : FittedNetwork
        Fresh from its seed; changed in place.
    x : numpy.ndarray
        (n, V), fields in [0, 1].
    y : numpy.ndarray
        (n, m), scaled MEPs.
    settings : FittingSettings
        `validation_fraction` is not looked at: what is set apart comes in as the next two.
    x_validation, y_validation : numpy.ndarray, optional
        (k, V) and (k, m), stimulations whose error is only watched; it changes nothing.
    folder : str or Path, optional
        Where a checkpoint is written after each epoch, and when training is stopped.
    resume : bool
        Go on from the checkpoint in `folder`. The other arguments must be those of before; only `epochs` may be another
        where no earlier stage ended because of it.
    identity : dict, optional
        What else must be the same when a training goes on; JSON types. Data, fitting settings and stages always must.
    told, stepped, stop : callable, optional
        See `trainer.training_loop.Watchers`.
    log_dir : str or Path, optional
        Where TensorBoard finds the curves.

    Returns
    -------
    History

    Raises
    ------
    DataError
        If shapes do not fit, values are not finite, the checkpoint is missing or of another training, or one is there
        already and `resume` was not asked for.
    FileFormatError
        If the checkpoint is damaged.
    TrainingStopped
        If `stop` said so.
    M2MError
        If the loss is no longer a finite number.
    """
    x, y = _checked(x, y, "training")
    held_out = None
    if x_validation is not None and y_validation is not None and len(x_validation):
        held_out = _checked(x_validation, y_validation, "validation")
        if (held_out[0].shape[1], held_out[1].shape[1]) != (x.shape[1], y.shape[1]):
            raise DataError(
                f"the validation data have {held_out[0].shape[1]} voxels and {held_out[1].shape[1]} muscles; expected "
                f"those of the training data, {x.shape[1]} and {y.shape[1]}"
            )
    fitting = msgspec.to_builtins(settings)
    del fitting["epochs"], fitting["validation_fraction"]
    whole = (identity or {}) | {
        "stages": [stage.name for stage in network.stages],
        "fitting": fitting,
        "data": digest(x, y, *(held_out or (None, None))),
    }
    state = _begin(network, settings, whole, folder, resume)
    watchers = Watchers(told, stepped, stop)
    with summaries(log_dir) as writer:
        loop = TrainingLoop(network, x, y, held_out, settings, watchers=watchers, folder=folder, summaries=writer)
        history = loop.run(state).history
    return History(history, _ended(network, history, settings.epochs, settings))


def _checked(x: Array, y: Array, what: str) -> tuple[Array, Array]:
    x, y = np.ascontiguousarray(x), np.ascontiguousarray(y)
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or not x.size or not y.size:
        raise DataError(
            f"the {what} data are fields of shape {x.shape} and MEPs of shape {y.shape}; expected (stimulations, "
            "voxels) and (stimulations, muscles) with at least one of each. If a fold is empty, use fewer folds."
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError(f"the {what} data hold values that are not finite; fill them in or leave them out first")
    return x, y


def _begin(
    network: FittedNetwork, settings: FittingSettings, identity: dict[str, Any], folder: str | Path | None, resume: bool
) -> Checkpoint:
    """Return where to start: at the beginning, or where the checkpoint says; the network has its weights then."""
    if not resume:
        if folder is not None and checkpoint_path(folder).exists():
            raise DataError(
                f"{checkpoint_path(folder)} is already there. Go on with that training (--resume), choose another "
                "folder, or remove the file to train anew."
            )
        return Checkpoint(identity | {"epochs": settings.epochs})
    if folder is None:
        raise DataError("a training can go on only from the folder that holds its checkpoint; name it")
    if not checkpoint_path(folder).exists():
        raise DataError(f"there is no checkpoint in {folder} to go on from. Check the folder, or leave out --resume.")
    found = read_checkpoint(folder)
    epochs_then = found.identity.pop("epochs", None)
    check_same_training(found, identity, folder)
    ended = _ended(network, found.history, epochs_then, settings)
    for stage in network.stages[: found.stage]:
        if epochs_then != settings.epochs and ended[stage.name] == "epochs":
            raise DataError(
                f"the checkpoint in {folder} is past the stage {stage.name!r}, which ended at {epochs_then} epochs; "
                f"with {settings.epochs} it would have been another. Set fitting.epochs = {epochs_then}, or train anew."
            )
    shapes = {name: value.shape for name, value in network.weights().items()}
    if shapes.keys() != found.weights.keys():
        raise DataError(f"the checkpoint in {folder} holds another network's weights. Train anew in another folder.")
    network.set_weights({name: value.reshape(shapes[name]) for name, value in found.weights.items()})
    return replace(found, identity=identity | {"epochs": settings.epochs})


def _ended(
    network: FittedNetwork, history: tuple[EpochReport, ...], epochs: int | None, settings: FittingSettings
) -> dict[str, str]:
    """Return why each stage ended, as far as it did."""
    ended = {}
    for stage in network.stages:
        losses = [report.loss for report in history if report.stage == stage.name]
        if losses and plateau_after(losses, settings).reached(settings):
            ended[stage.name] = "plateau"
        elif epochs is not None and len(losses) >= epochs:
            ended[stage.name] = "epochs"
    return ended

"""The state of a training between two steps, as a file: written whole, read back to the bit.

Together with the data and the settings, which are not in it but recognised, it holds all that the rest of the training
depends on: going on from it gives the weights that an uninterrupted training gives.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from rt_engine.errors import DataError, FileFormatError
from rt_engine.field.hdf5_file import read_hdf5, write_hdf5

CHECKPOINT_KIND = "m2m-training-checkpoint"
CHECKPOINT_VERSION = 1
"""Version of the layout that this software writes, and the newest that it reads."""

CHECKPOINT_NAME = "checkpoint.h5"
"""In the folder of a training."""

Weights = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class EpochReport:
    """One epoch of training.

    Attributes
    ----------
    stage : str
        Name of the stage of training.
    epoch, epochs : int
        Number of the epoch in its stage, from 1, and the most there can be.
    loss, squared_error, kl : float
        Means over the epoch's stimulations, as training saw them: what is minimised, the squared 2-norm of the error
        (eq. 7 of the article) and the KL term.
    validation_squared_error : float or None
        The same of the stimulations set apart, after the epoch, without noise; None if there are none.
    validation_nrmse : float or None
        Mean of eq. 12 over them; None also where a stage does not go from MEPs to the field.
    learning_rate : float
        Of this epoch.
    seconds : float
        Duration of the epoch with its validation.
    seconds_left : float
        For the epochs that are left in all stages; less where the schedule stops a stage before.
    """

    stage: str
    epoch: int
    epochs: int
    loss: float
    squared_error: float
    kl: float
    validation_squared_error: float | None
    validation_nrmse: float | None
    learning_rate: float
    seconds: float
    seconds_left: float


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """State of a training.

    Attributes
    ----------
    identity : dict
        What data, network and settings the training is of; JSON types.
    history : tuple of EpochReport
        Epochs done.
    stage : int
        Number of the stage that is in training.
    steps : int
        Steps done of the epoch after those in `history`.
    seconds : float
        Time that these took.
    sums : numpy.ndarray
        (4,) float64, sums of the losses over these steps' stimulations.
    weights : dict of str to numpy.ndarray
        Of the network.
    optimizer : tuple of numpy.ndarray
        The optimizer's variables in its order.
    """

    identity: dict[str, Any]
    history: tuple[EpochReport, ...] = ()
    stage: int = 0
    steps: int = 0
    seconds: float = 0.0
    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(4))
    weights: Weights = field(default_factory=dict)
    optimizer: tuple[NDArray[Any], ...] = ()


def checkpoint_path(folder: str | Path) -> Path:
    """Return where the checkpoint of a training in a folder is, or will be."""
    return Path(folder) / CHECKPOINT_NAME


def write_checkpoint(folder: str | Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in one step, in place of the one before.

    Raises
    ------
    DataError
        If it cannot be written there.
    """
    arrays = {f"weights/{name}": value for name, value in checkpoint.weights.items()}
    arrays |= {f"optimizer/{k:04d}": value for k, value in enumerate(checkpoint.optimizer)}
    write_hdf5(
        checkpoint_path(folder),
        kind=CHECKPOINT_KIND,
        version=CHECKPOINT_VERSION,
        attributes={"stage": checkpoint.stage, "steps": checkpoint.steps, "seconds": checkpoint.seconds},
        # Texts that grow with the training are arrays: an attribute holds at most 64 KiB.
        arrays=arrays
        | {
            "sums": checkpoint.sums,
            "identity": _text(checkpoint.identity),
            "history": _text(checkpoint.history),
        },
        compressed=False,  # weights hardly shrink, and a checkpoint is written after every epoch
    )


def read_checkpoint(folder: str | Path, name: str = CHECKPOINT_NAME) -> Checkpoint:
    """Read the checkpoint of a folder; `name` is its file's.

    Raises
    ------
    FileFormatError
        If there is none, or it is damaged, truncated or of a newer version.
    """
    path = Path(folder) / name
    attributes, arrays = read_hdf5(path, kind=CHECKPOINT_KIND, version=CHECKPOINT_VERSION)
    try:
        return Checkpoint(
            identity=msgspec.json.decode(arrays["identity"].tobytes()),
            history=msgspec.json.decode(arrays["history"].tobytes(), type=tuple[EpochReport, ...]),
            stage=int(attributes["stage"]),
            steps=int(attributes["steps"]),
            seconds=float(attributes["seconds"]),
            sums=arrays["sums"],
            weights={k.removeprefix("weights/"): a for k, a in arrays.items() if k.startswith("weights/")},
            optimizer=tuple(arrays[name] for name in sorted(arrays) if name.startswith("optimizer/")),
        )
    except (KeyError, TypeError, ValueError, msgspec.DecodeError) as error:
        raise FileFormatError(
            f"{path} lacks what a checkpoint has, or holds something else ({error!r}). Train anew in another folder."
        ) from error


def check_same_training(checkpoint: Checkpoint, identity: Mapping[str, Any], folder: str | Path) -> None:
    """Check that a checkpoint is of this training.

    Parameters
    ----------
    checkpoint : Checkpoint
        What was read.
    identity : mapping
        Of the training that is to go on.
    folder : str or Path
        Where the checkpoint is, for the message.

    Raises
    ------
    DataError
        Naming what differs.
    """
    then, now = _flat(checkpoint.identity), _flat(msgspec.to_builtins(dict(identity)))
    for key in [*now, *(key for key in then if key not in now)]:
        if then.get(key) != now.get(key):
            raise DataError(
                f"the checkpoint in {folder} is of another training: {key} was {then.get(key)!r} and is "
                f"{now.get(key)!r}. Give the same data and settings to go on, or another folder to train anew."
            )


def digest(*arrays: NDArray[Any] | None) -> str:
    """Return the SHA-256 of arrays, their shapes and their dtypes."""
    sha256 = hashlib.sha256()
    for array in arrays:
        if array is None:
            sha256.update(b"none")
        else:
            sha256.update(f"{array.dtype.str}{array.shape}".encode())
            sha256.update(np.ascontiguousarray(array).data)
    return sha256.hexdigest()


def _text(value: object) -> NDArray[np.uint8]:
    return np.frombuffer(msgspec.json.encode(value), dtype=np.uint8)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= _flat(inner, f"{prefix}.{key}" if prefix else key)
    return found

"""A trained network as a file: weights, scales, settings, history, and the stimulations it was fitted to.

Made to be read again by this software, to go on with: what a session runs is the model file (`docs/model-file.md`).
Nothing here needs TensorFlow.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from rt_engine.errors import FileFormatError
from rt_engine.field.hdf5_file import read_hdf5, write_hdf5
from trainer.architectures.settings import ArchitectureSettings, Form, ModelName
from trainer.network_data import MepScaling, NetworkPreprocessing
from trainer.preprocessing import TrainingSet
from trainer.training_checkpoint import EpochReport
from trainer.training_settings import FittingSettings

NETWORK_KIND = "m2m-network"
NETWORK_VERSION = 1
"""Version of the layout that this software writes, and the newest that it reads."""

NETWORK_NAME = "network.h5"
"""In the folder of a training."""


@dataclass(frozen=True, eq=False)
class StoredNetwork:
    """What the file holds; see `trainer.trained_network.TrainedNetwork`."""

    model: ModelName
    form: Form
    architecture: ArchitectureSettings
    fitting: FittingSettings
    scaling: MepScaling
    field_factor: float
    training: TrainingSet
    validation: TrainingSet
    epochs: tuple[EpochReport, ...]
    ended: dict[str, str]
    weights: dict[str, NDArray[Any]]


class _Words(msgspec.Struct, frozen=True, kw_only=True):
    """All of the file that is no array."""

    model: ModelName
    form: Form
    architecture: ArchitectureSettings
    preprocessing: NetworkPreprocessing
    fitting: FittingSettings
    field_factor: float
    field_scale_v_per_m: float
    muscles: tuple[str, ...]
    box_shape: tuple[int, int, int]
    subject_sha256: str
    notes: tuple[str, ...]
    epochs: tuple[EpochReport, ...]
    ended: dict[str, str]


_PER_STIMULATION = ("amplitudes_uv", "intensity_percent_rmt", "coil_mm")
_PER_SUBJECT = ("voxel", "affine", "left_out_percent_rmt")
_OF_SCALING = ("scale_uv", "mean", "covariance")


def write_network(folder: str | Path, stored: StoredNetwork) -> Path:
    """Write a trained network in one step; the same one gives the same bytes.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    DataError
        If it cannot be written there.
    """
    training = stored.training
    words = _Words(
        model=stored.model,
        form=stored.form,
        architecture=stored.architecture,
        preprocessing=stored.scaling.settings,
        fitting=stored.fitting,
        field_factor=stored.field_factor,
        field_scale_v_per_m=training.field_scale_v_per_m,
        muscles=training.muscles,
        box_shape=cast("tuple[int, int, int]", tuple(int(side) for side in training.box_shape)),
        subject_sha256=training.subject_sha256,
        notes=training.notes,
        epochs=stored.epochs,
        ended=stored.ended,
    )
    # Text that grows with the training is an array: an attribute holds at most 64 KiB.
    arrays = {"words": np.frombuffer(msgspec.json.encode(words), np.uint8)}
    arrays |= {f"weights/{name}": value for name, value in stored.weights.items()}
    arrays |= {f"scaling/{name}": getattr(stored.scaling, name) for name in _OF_SCALING}
    arrays |= {name: getattr(training, name) for name in _PER_SUBJECT}
    for part, rows in (("training", training), ("validation", stored.validation)):
        arrays |= {f"{part}/{name}": getattr(rows, name) for name in _PER_STIMULATION}
        # In V/m as float32, which is what they were made of.
        arrays[f"{part}/field_v_per_m"] = (rows.field * rows.field_scale_v_per_m).astype(np.float32)
    path = Path(folder) / NETWORK_NAME
    write_hdf5(path, kind=NETWORK_KIND, version=NETWORK_VERSION, attributes={}, arrays=arrays)
    return path


def read_network(folder: str | Path, name: str = NETWORK_NAME) -> StoredNetwork:
    """Read the trained network of a folder; `name` is its file's.

    Raises
    ------
    FileFormatError
        No such file, not a network, a newer version, truncated, damaged, or content that contradicts itself.
    """
    path = Path(folder) / name
    _, arrays = read_hdf5(path, kind=NETWORK_KIND, version=NETWORK_VERSION)
    try:
        words = msgspec.json.decode(arrays["words"].tobytes(), type=_Words)
        return StoredNetwork(
            model=words.model,
            form=words.form,
            architecture=words.architecture,
            fitting=words.fitting,
            scaling=MepScaling(words.preprocessing, *(arrays[f"scaling/{name}"] for name in _OF_SCALING)),
            field_factor=words.field_factor,
            training=_rows("training", words, arrays),
            validation=_rows("validation", words, arrays),
            epochs=words.epochs,
            ended=words.ended,
            weights={k.removeprefix("weights/"): a for k, a in arrays.items() if k.startswith("weights/")},
        )
    except KeyError as error:
        raise FileFormatError(f"{path} lacks {error}, which every trained network has. Train it again.") from error
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        raise FileFormatError(f"{path} does not hold a usable trained network: {error}. Train it again.") from error


def _rows(part: str, words: _Words, arrays: dict[str, NDArray[Any]]) -> TrainingSet:
    return TrainingSet(
        muscles=words.muscles,
        field=arrays[f"{part}/field_v_per_m"].astype(np.float64) / words.field_scale_v_per_m,
        field_scale_v_per_m=words.field_scale_v_per_m,
        box_shape=words.box_shape,
        subject_sha256=words.subject_sha256,
        notes=words.notes,
        **{name: arrays[f"{part}/{name}"] for name in _PER_STIMULATION},
        **{name: arrays[name] for name in _PER_SUBJECT},
    )

"""From a training set to a trained network, and from amplitudes to fields with it.

Joins what other modules do: which stimulations, scaled how (`network_data`), which network (`architectures.family`),
how it is fitted (`network_fitting`), and the file that keeps it (`trained_network_file`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from rt_engine.errors import DataError
from trainer.architectures.family import InverseNetwork, build_network
from trainer.architectures.settings import ArchitectureSettings, Form, ModelName
from trainer.network_data import MepScaling, NetworkPreprocessing, fit_scaling, select_stimulations, split_validation
from trainer.network_fitting import EpochReport, FittingSettings, History, fit_network
from trainer.preprocessing import TrainingSet
from trainer.trained_network_file import StoredNetwork, read_network, write_network


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """One of the article's models, fitted to a subject.

    Attributes
    ----------
    network : InverseNetwork
        From scaled MEPs to fields in [0, 1].
    scaling : MepScaling
        From amplitudes to scaled MEPs.
    field_factor : float
        The network's 1.0 in units of `TrainingSet.field`.
    training : TrainingSet
        Stimulations that it was fitted to.
    validation : TrainingSet
        Stimulations set apart; may have no rows.
    fitting : FittingSettings
        How it was fitted.
    history : History
        How that went.
    """

    network: InverseNetwork
    scaling: MepScaling
    field_factor: float
    training: TrainingSet = field(repr=False)
    validation: TrainingSet = field(repr=False)
    fitting: FittingSettings
    history: History = field(repr=False)

    @property
    def preprocessing(self) -> NetworkPreprocessing:
        """How stimulations were chosen and scaled."""
        return self.scaling.settings

    def predict(self, amplitudes_uv: NDArray[np.float64]) -> NDArray[np.float64]:
        """Estimate fields.

        Parameters
        ----------
        amplitudes_uv : numpy.ndarray
            (n, m), uV; NaN where missing.

        Returns
        -------
        numpy.ndarray
            (n, V) float64, in units of `TrainingSet.field`.

        Raises
        ------
        DataError
            If the number of muscles is another.
        """
        return self.network.predict(self.scaling.transform(amplitudes_uv)).astype(np.float64) * self.field_factor

    def save(self, folder: str | Path) -> Path:
        """Write it into a folder; returns the file.

        Raises
        ------
        DataError
            If it cannot be written there.
        """
        return write_network(
            folder,
            StoredNetwork(
                model=self.network.model,
                form=self.network.form,
                architecture=self.network.settings,
                fitting=self.fitting,
                scaling=self.scaling,
                field_factor=self.field_factor,
                training=self.training,
                validation=self.validation,
                epochs=self.history.epochs,
                ended=self.history.ended,
                weights=self.network.weights(),
            ),
        )

    @classmethod
    def load(cls, folder: str | Path) -> "TrainedNetwork":
        """Read what `save` wrote.

        Raises
        ------
        FileFormatError
            If the file is missing, damaged or of a newer version.
        """
        stored = read_network(folder)
        training = stored.training
        network = build_network(
            stored.model,
            len(training.muscles),
            training.voxel,
            training.box_shape,
            stored.architecture,
            form=stored.form,
            seed=stored.fitting.seed,
        )
        network.set_weights(stored.weights)
        return cls(
            network=network,
            scaling=stored.scaling,
            field_factor=stored.field_factor,
            training=training,
            validation=stored.validation,
            fitting=stored.fitting,
            history=History(stored.epochs, stored.ended),
        )


def train_network(
    training: TrainingSet,
    model: ModelName,
    *,
    architecture: ArchitectureSettings | None = None,
    preprocessing: NetworkPreprocessing | None = None,
    fitting: FittingSettings | None = None,
    form: Form = "masked",
    scaled_on: TrainingSet | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    told: Callable[[EpochReport], None] | None = None,
    stepped: Callable[[str, int, int, int], None] | None = None,
    stop: Callable[[], bool] | None = None,
    log_dir: str | Path | None = None,
) -> TrainedNetwork:
    """Train one of the article's models.

    Parameters
    ----------
    training : TrainingSet
        Stimulations to learn from; those without response are left out here, unless the settings say otherwise, and a
        part is set apart for validation.
    model : str
        Which of `trainer.architectures.settings.MODELS`.
    architecture, preprocessing, fitting : optional
        The settings; by default those of the article, but for where scales are taken from.
    form : str
        ``masked``, or ``dense`` as published.
    scaled_on : TrainingSet, optional
        Where `preprocessing.fitted_on` is ``all``: the stimulations that scales are taken from, held-out ones among
        them; by default `training`.
    folder : str or Path, optional
        Of the checkpoint, and of the trained network; it is made where it is missing.
    resume, told, stepped, stop, log_dir
        As of `trainer.network_fitting.fit_network`.

    Returns
    -------
    TrainedNetwork
        In `folder` too, where one is named.

    Raises
    ------
    DataError
        If there are too few stimulations, a muscle never responds, or the checkpoint is missing or of another training.
    FileFormatError
        If the checkpoint is damaged.
    TrainingStopped
        If `stop` said so.
    M2MError
        If the loss is no longer a finite number.
    """
    preprocessing = preprocessing or NetworkPreprocessing()
    fitting = fitting or FittingSettings()
    selection = select_stimulations(training, preprocessing)
    chosen = replace(selection.apply(training), notes=selection.notes)
    rows, apart = split_validation(chosen, fitting.validation_fraction, fitting.seed)
    fitted, validation = chosen.rows(rows), chosen.rows(apart)
    scales = fitted
    if preprocessing.fitted_on == "all":
        scales = chosen if scaled_on is None else scaled_on
    scaling = fit_scaling(scales.amplitudes_uv, preprocessing, muscles=training.muscles)
    field_factor = float(scales.field.max())
    if not field_factor > 0:
        raise DataError("the field is zero in all stimulations to train on: there is nothing to learn. Check its unit.")
    network = build_network(
        model,
        len(training.muscles),
        training.voxel,
        training.box_shape,
        architecture or ArchitectureSettings(),
        form=form,
        seed=fitting.seed,
    )
    if folder is not None:
        _make(Path(folder))
    x, x_apart = ((part.field / field_factor).astype(np.float32) for part in (fitted, validation))
    y, y_apart = (scaling.transform(part.amplitudes_uv).astype(np.float32) for part in (fitted, validation))
    history = fit_network(
        network,
        x,
        y,
        fitting,
        x_validation=x_apart,
        y_validation=y_apart,
        folder=folder,
        resume=resume,
        identity=_identity(network, preprocessing),
        told=told,
        stepped=stepped,
        stop=stop,
        log_dir=log_dir,
    )
    trained = TrainedNetwork(network, scaling, field_factor, fitted, validation, fitting, history)
    if folder is not None:
        trained.save(folder)
    return trained


def _identity(network: InverseNetwork, preprocessing: NetworkPreprocessing) -> dict[str, Any]:
    """Return what a checkpoint has in common with a training that may go on from it."""
    return {
        "model": network.model,
        "form": network.form,
        "box_shape": [int(side) for side in network.box_shape],
        "architecture": msgspec.to_builtins(network.settings),
        "preprocessing": msgspec.to_builtins(preprocessing),
    }


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the folder {folder}: {error}. Name another, or check its permissions.") from error

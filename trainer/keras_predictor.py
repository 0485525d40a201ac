"""One of the article's networks as a `keras.Model`, so that it can be asked as the article's code asks its own.

For comparisons only: `keras.Model.predict` builds a data set and calls back at each call, which costs many times what a
small network computes. Sessions run the exported model file.
"""

from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from trainer.architectures.family import InverseNetwork, build_network
from trainer.architectures.settings import Form
from trainer.network_data import MepScaling
from trainer.trained_network import TrainedNetwork


class KerasPredictor:
    """A network behind `keras.Model.predict`.

    Parameters
    ----------
    network : InverseNetwork
        Which; its form is that of the predictions.
    scaling : MepScaling, optional
        From amplitudes to the network's input; None takes amplitudes as they are.
    """

    def __init__(self, network: InverseNetwork, scaling: MepScaling | None = None) -> None:
        inputs = keras.Input(batch_shape=(1, network.n_muscles))
        latent = network.mapper(inputs)
        if "expansion" in network.blocks:
            if network.stages[-1].variational:
                latent = network.blocks["sampling"](latent)[0]
            latent = network.blocks["expansion"](latent)
        self._scaling = scaling
        self.model = keras.Model(inputs, network.decoder(latent))

    def predict(self, amplitudes_uv: NDArray[np.floating]) -> NDArray[np.float32]:
        """Estimate the field of one pulse.

        Parameters
        ----------
        amplitudes_uv : numpy.ndarray
            (muscles,), uV.

        Returns
        -------
        numpy.ndarray
            (V,) float32 in [0, 1].
        """
        y = np.asarray(amplitudes_uv, np.float64)[None]
        scaled = y if self._scaling is None else self._scaling.transform(y)
        found: NDArray[np.float32] = self.model.predict(scaled.astype(np.float32), verbose=0)[0]
        return found


def load_predictor(folder: str | Path, form: Form) -> KerasPredictor:
    """Load a trained network.

    Raises
    ------
    FileFormatError
        If the folder holds none, or a damaged one.
    """
    trained = TrainedNetwork.load(folder)
    trained.network.form = form
    return KerasPredictor(trained.network, trained.scaling)


def fresh_predictor(
    n_muscles: int, voxel: NDArray[np.integer], box_shape: tuple[int, int, int], form: Form
) -> KerasPredictor:
    """Make Direct Variational with weights as before training: it computes as long as a trained one."""
    return KerasPredictor(build_network("direct-variational", n_muscles, voxel, box_shape, form=form))

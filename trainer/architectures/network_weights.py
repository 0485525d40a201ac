"""A network's weights by name, taken out and put back; what the inverse models and the forward model share."""

from collections.abc import Mapping

import keras
import numpy as np
from numpy.typing import NDArray

from rt_engine.errors import DataError

Weights = dict[str, NDArray[np.floating]]


def copies_of(variables: Mapping[str, keras.Variable]) -> Weights:
    """Return copies of all values by name."""
    return {name: variable.numpy().copy() for name, variable in variables.items()}


def assign_weights(variables: Mapping[str, keras.Variable], weights: Weights, whose: str) -> None:
    """Give variables the values that `copies_of` took.

    Parameters
    ----------
    variables : mapping of str to keras.Variable
        Those to change.
    weights : dict of str to numpy.ndarray
        Values of the same names.
    whose : str
        The network, for messages.

    Raises
    ------
    DataError
        If a name or a shape is another; then nothing is changed.
    """
    if set(weights) != set(variables):
        odd = sorted(set(weights) ^ set(variables))
        raise DataError(f"these are not the weights of {whose}: {', '.join(odd[:5])} missing or unknown")
    for name, variable in variables.items():
        if tuple(weights[name].shape) != tuple(variable.shape):
            raise DataError(f"weight {name} has shape {weights[name].shape}; {whose} here has {tuple(variable.shape)}")
    for name, variable in variables.items():
        variable.assign(weights[name])

"""MEPs that are foretold from a field: between a network's scaled numbers and microvolts, and the constant beside them.

Held-out MEPs are scaled by the fold that was trained on, and compared on the scale of all stimulations; in between they
are amplitudes.
"""

import numpy as np
from numpy.typing import NDArray

from trainer.network_data import NetworkPreprocessing, fit_scaling, log_floor_uv, scaled


def to_uv(
    values: NDArray[np.floating], scale_uv: NDArray[np.float64], settings: NetworkPreprocessing
) -> NDArray[np.float64]:
    """Turn scaled MEPs back into amplitudes.

    Parameters
    ----------
    values : numpy.ndarray
        (n, m), 0 for no response, 1 for the muscle's largest.
    scale_uv : numpy.ndarray
        (m,), each muscle's largest amplitude, uV.
    settings : NetworkPreprocessing
        How they were scaled.

    Returns
    -------
    numpy.ndarray
        (n, m) float64, uV. On the logarithmic scale the floor stands for no response.
    """
    values = np.asarray(values, np.float64)
    if settings.mep_scale == "log":
        floor = log_floor_uv(settings)
        return floor * (scale_uv / floor) ** values
    return values * scale_uv


def from_uv(
    amplitudes_uv: NDArray[np.floating], scale_uv: NDArray[np.float64], settings: NetworkPreprocessing
) -> NDArray[np.float64]:
    """Scale amplitudes that a model foretold; parameters as of `to_uv`, whose inverse it is.

    Unlike measured amplitudes (`trainer.network_data.scaled`), small ones are not set to zero: a model may mean 20 uV.
    """
    amplitudes_uv = np.asarray(amplitudes_uv, np.float64)
    if settings.mep_scale == "log":
        floor = log_floor_uv(settings)
        return np.log10(np.maximum(amplitudes_uv, floor) / floor) / np.log10(scale_uv / floor)
    return amplitudes_uv / scale_uv


def constant_meps(amplitudes_uv: NDArray[np.float64], settings: NetworkPreprocessing) -> NDArray[np.float64]:
    """Return (m,) the amplitudes whose scaled values are the mean over (n, m) amplitudes, uV; missing ones left out."""
    scale_uv = fit_scaling(amplitudes_uv, settings).scale_uv
    return to_uv(np.nanmean(scaled(amplitudes_uv, scale_uv, settings), axis=0), scale_uv, settings)

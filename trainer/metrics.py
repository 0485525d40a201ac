"""How well an estimated field matches the true one: the article's measures (II.H), per stimulation.

Everything here is vectorised over stimulations. `X` is the true field, `X^` the estimate, both over the V voxels of
BA4 and in any one unit.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rt_engine.errors import DataError


def nrmse(true: ArrayLike, estimated: ArrayLike) -> NDArray[np.float64]:
    """Root of the squared error by the squared norm of the truth: eq. 12 of the article.

    Parameters
    ----------
    true, estimated
        (n, V) fields.

    Returns
    -------
    numpy.ndarray
        (n,) float64, without unit. Infinite or NaN where the true field is zero everywhere.

    Raises
    ------
    DataError
        If the two have not the same shape (n, V).
    """
    x, x_hat = _pair(true, estimated)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(((x_hat - x) ** 2).sum(axis=1) / (x**2).sum(axis=1))


def r_squared(true: ArrayLike, estimated: ArrayLike) -> NDArray[np.float64]:
    """Coefficient of determination over the voxels of BA4: eq. 13 of the article.

    Parameters
    ----------
    true, estimated
        (n, V) fields.

    Returns
    -------
    numpy.ndarray
        (n,) float64; 1 is perfect, 0 as good as the true field's own mean, negative is worse. Minus infinity or NaN
        where the true field is the same everywhere.

    Raises
    ------
    DataError
        If the two have not the same shape (n, V).

    Notes
    -----
    The authors' code computes something else under this name, see `docs/baselines.md`.
    """
    x, x_hat = _pair(true, estimated)
    around_mean = ((x - x.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1.0 - ((x - x_hat) ** 2).sum(axis=1) / around_mean


def center_of_gravity(field: ArrayLike, voxel_mm: ArrayLike) -> NDArray[np.float64]:
    """Centre of gravity (CoG) of a field: eq. 14 of the article.

    Parameters
    ----------
    field
        (n, V) fields, not negative.
    voxel_mm
        (V, 3) centres of the voxels, mm.

    Returns
    -------
    numpy.ndarray
        (n, 3) float64, mm; NaN where a field is zero everywhere.

    Raises
    ------
    DataError
        If the shapes do not fit.
    """
    v, x = np.asarray(field, dtype=np.float64), np.asarray(voxel_mm, dtype=np.float64)
    if v.ndim != 2 or x.shape != (v.shape[1], 3):
        raise DataError(f"expected fields (n, V) and voxel centres (V, 3); got {v.shape} and {x.shape}")
    with np.errstate(divide="ignore", invalid="ignore"):
        return (v @ x) / v.sum(axis=1, keepdims=True)


def cog_error_mm(true: ArrayLike, estimated: ArrayLike, voxel_mm: ArrayLike) -> NDArray[np.float64]:
    """Distance between the centres of gravity of two fields: eq. 15 of the article.

    Parameters
    ----------
    true, estimated
        (n, V) fields.
    voxel_mm
        (V, 3) centres of the voxels, mm.

    Returns
    -------
    numpy.ndarray
        (n,) float64, mm.

    Raises
    ------
    DataError
        If the shapes do not fit.
    """
    x, x_hat = _pair(true, estimated)
    return np.linalg.norm(center_of_gravity(x, voxel_mm) - center_of_gravity(x_hat, voxel_mm), axis=1)


def skill(true: ArrayLike, estimated: ArrayLike, mean_map: ArrayLike) -> float:
    """1 - MSE / MSE of the mean map: what the muscles' answers add to knowing nothing of them.

    Parameters
    ----------
    true, estimated
        (n, V) fields.
    mean_map
        (V,) mean field of the training set, or (n, V) where it differs between stimulations (folds).

    Returns
    -------
    float
        1 is perfect, 0 as good as the mean map, negative is worse.

    Raises
    ------
    DataError
        If the shapes do not fit, or the mean map is perfect, so that there is nothing to gain.
    """
    x, x_hat = _pair(true, estimated)
    reference = np.asarray(mean_map, dtype=np.float64)
    if reference.shape not in ((x.shape[1],), x.shape):
        raise DataError(f"expected a mean map (V,) or (n, V) with (n, V) = {x.shape}; got {reference.shape}")
    mse_of_mean = float(np.mean((x - reference) ** 2))
    if mse_of_mean == 0.0:
        raise DataError("all fields equal the mean map: there is no skill to speak of")
    return 1.0 - float(np.mean((x - x_hat) ** 2)) / mse_of_mean


def _pair(true: ArrayLike, estimated: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, x_hat = np.asarray(true, dtype=np.float64), np.asarray(estimated, dtype=np.float64)
    if x.ndim != 2 or x.shape != x_hat.shape:
        raise DataError(f"expected two arrays (n stimulations, V voxels) of one shape; got {x.shape} and {x_hat.shape}")
    return x, x_hat

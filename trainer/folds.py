"""How stimulations are put into folds: at random with their share of every intensity, or by where the coil was.

Neighbouring placements in training and test flatter every method, so each evaluation reports both.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.model_selection import GroupKFold, StratifiedKFold

from trainer.preprocessing import TrainingSet

Folds = list[tuple[NDArray[np.intp], NDArray[np.intp]]]
"""Per fold: rows to fit to, rows to test on."""

FoldKind = Literal["random", "blocks"]

BLOCKS_PER_FOLD = 4
"""Spatial blocks that are left out together."""


def random_folds(training: TrainingSet, n_folds: int = 10, seed: int = 0) -> Folds:
    """Split at random, each fold with its share of every intensity (article, II.F).

    Intensities that are not a few levels are cut into quarters.
    """
    intensity = np.round(training.intensity_percent_rmt)
    levels = np.unique(intensity[np.isfinite(intensity)])
    if len(levels) > 10:
        levels = np.quantile(intensity[np.isfinite(intensity)], [0.25, 0.5, 0.75])
    label = np.where(np.isfinite(intensity), np.searchsorted(levels, intensity), -1)
    # A level rarer than the folds cannot be in each; it joins the most frequent one.
    values, counts = np.unique(label, return_counts=True)
    label[np.isin(label, values[counts < n_folds])] = values[counts.argmax()]
    return list(StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(label, label))


def block_folds(training: TrainingSet, n_folds: int = 10, seed: int = 0) -> Folds | None:
    """Split by where the coil was: neighbours are left out together. None where too few poses are known.

    The coil's positions are cut into `BLOCKS_PER_FOLD` compact blocks per fold (k-means).
    """
    if not np.isfinite(training.coil_mm).all():
        return None
    n_blocks = n_folds * BLOCKS_PER_FOLD
    if len(np.unique(training.coil_mm.round(3), axis=0)) < n_blocks:
        return None
    block = KMeans(n_blocks, n_init=1, random_state=seed).fit_predict(training.coil_mm)
    return list(GroupKFold(n_folds).split(block, groups=block))

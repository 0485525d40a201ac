"""An evaluation made by hand, whose figures can be counted on fingers."""

import numpy as np
import pytest

from trainer.evaluation.results import NOT_TESTED, Evaluation
from trainer.network_data import Selection
from trainer.preprocessing import TrainingSet


@pytest.fixture
def evaluation(training: TrainingSet) -> Evaluation:
    """Three folds of which one was not run; estimates are the truth with a known error."""
    n, m = training.amplitudes_uv.shape
    kept = np.zeros(n + 2, bool)
    kept[:n] = True
    fold = np.arange(n) % 3
    fold[fold == 2] = NOT_TESTED
    rng = np.random.default_rng(0)

    def estimate(error: float) -> np.ndarray:
        made = (training.field * (1 + error)).astype(np.float32)
        made[fold == NOT_TESTED] = np.nan
        return made

    def mean_map() -> np.ndarray:
        made = np.tile(training.field.mean(axis=0), (n, 1)).astype(np.float32)
        made[fold == NOT_TESTED] = np.nan
        return made

    return Evaluation(
        name="small",
        training=training,
        selection=Selection(kept=kept, counts={110.0: (40, 42), 120.0: (120, 121)}, notes=("two left out",)),
        fold={"random": fold, "blocks": fold},
        field={kind: {"mean-map": mean_map(), "vae-decoder": estimate(0.1)} for kind in ("random", "blocks")},
        normalised_meps=rng.random((n, m)),
        forward_meps={"constant": np.where((fold == NOT_TESTED)[:, None], np.nan, 0.5) * np.ones((n, m))},
        settings={"seed": 3, "versions": {"numpy": "2"}},
        seconds={"mean-map": 0.5},
        notes=("1 of 3 folds not run",),
    )

"""What `m2m inspect` says of a session's `trials.h5`, and of its folder."""

from pathlib import Path
from typing import Any

import numpy as np

from rt_engine.trials_file import read_trials
from tools.inspection import Inspection


def inspect_trials(path: Path) -> Inspection:
    """Say what a session's trials are; damaged ones are an error.

    Raises
    ------
    FileFormatError
        If they cannot be read.
    """
    trials = read_trials(path)
    rows = trials.rows
    valid = rows[rows["valid"] == 1]
    table = [
        {
            "muscle": muscle,
            "median_uv": _number(valid["mep_uv"][:, m], np.median),
            "max_uv": _number(valid["mep_uv"][:, m], np.max),
            "not_measured": int(np.isnan(valid["mep_uv"][:, m]).sum()),
        }
        for m, muscle in enumerate(trials.layout.muscles)
    ]
    facts: dict[str, Any] = {
        "session": trials.layout.session,
        "n_trials": len(rows),
        "n_valid": len(valid),
        "n_low_confidence": int((valid["confidence"] != b"ok").sum()),
        "n_tracked": int((rows["pose_tracked"] == 1).sum()),
        "models_sha256": sorted({sha256.decode() for sha256 in rows["model_sha256"]}),
        "n_voxels": trials.layout.n_voxels,
        "closed": trials.closed,
        "last_trial_torn": trials.torn,
    }
    return Inspection("trials", path, facts, {"muscles": table})


def _number(values: Any, of: Any) -> float | None:
    finite = values[np.isfinite(values)]
    return round(float(of(finite)), 1) if finite.size else None

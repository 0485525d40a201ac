"""How a coil pose stands in a sample of an LSL stream."""

from collections.abc import Sequence

import numpy as np

from rt_engine.companions import CoilPose

POSE_CHANNELS = 17
"""A 4 x 4 matrix row by row, coil to scanner space in mm, then 1 if the coil is tracked, else 0."""


def parse_pose(values: Sequence[str | float], t: float) -> CoilPose | None:
    """Read a coil pose.

    Parameters
    ----------
    values
        One sample of the stream.
    t
        Its time in the engine's clock, s.

    Returns
    -------
    CoilPose or None
        None for a sample of another shape; the trial then says that the coil is not tracked.
    """
    numbers = [value for value in values if isinstance(value, float)]
    if len(numbers) != POSE_CHANNELS:
        return None
    matrix = np.array(numbers[:16], dtype=np.float64).reshape(4, 4)
    return CoilPose(t, matrix, tracked=bool(numbers[16] > 0.5 and np.isfinite(matrix).all()))

"""What the navigation and the stimulator show between the pulses: the coil on its way, and the output that is set."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from rt_engine.field.placement import Floats

LEAVE, ARRIVE = 0.2, 0.6
"""The coil leaves a place, and arrives at the next, at these shares of the time between two pulses."""

TURN_KNOB = 0.3
"""The stimulator's output is changed at this share."""


class CoilTrack:
    """Where the coil is at any time of a session.

    Parameters
    ----------
    pose
        (n, 4, 4), pose at each pulse, mm.
    sample
        (n,) ascending, sample of each pulse from the session's start.
    center_mm
        (3,), centre of the head's sphere: the coil moves around it, not through it.
    """

    def __init__(self, pose: Floats, sample: NDArray[np.int64], center_mm: Floats) -> None:
        self._pose = pose
        self._sample = sample
        self._center_mm = np.asarray(center_mm)

    def pose_at(self, sample: float) -> Floats:
        """Return the coil's pose.

        Parameters
        ----------
        sample
            Time in samples from the session's start.

        Returns
        -------
        numpy.ndarray
            (4, 4) float64, coil frame to scanner space, mm.
        """
        before, share = _place(self._sample, sample)
        way = (share - LEAVE) / (ARRIVE - LEAVE)
        if way <= 0.0 or before + 1 >= len(self._pose):
            return self._pose[before]
        if way >= 1.0:
            return self._pose[before + 1]
        return self._between(self._pose[before], self._pose[before + 1], way)

    def _between(self, start: Floats, end: Floats, way: float) -> Floats:
        turn = Slerp([0.0, 1.0], Rotation.from_matrix([start[:3, :3], end[:3, :3]]))
        from_center = np.stack([start[:3, 3], end[:3, 3]]) - self._center_mm
        length = np.linalg.norm(from_center, axis=1)
        straight = (1.0 - way) * from_center[0] + way * from_center[1]
        pose = np.eye(4)
        pose[:3, :3] = turn(way).as_matrix()
        pose[:3, 3] = self._center_mm + straight * (
            ((1.0 - way) * length[0] + way * length[1]) / np.linalg.norm(straight)
        )
        return pose


def output_at(percent_mso: Floats, pulse_sample: NDArray[np.int64], sample: float) -> float:
    """Return the stimulator's output in percent at `sample`, given that of each pulse."""
    before, share = _place(pulse_sample, sample)
    return float(percent_mso[min(before + (share >= TURN_KNOB), len(percent_mso) - 1)])


def _place(pulse_sample: NDArray[np.int64], sample: float) -> tuple[int, float]:
    """Return the pulse before `sample`, and the share of the time to the next one that has passed."""
    before = int(np.searchsorted(pulse_sample, sample, side="right")) - 1
    if before < 0:
        return 0, 0.0
    if before + 1 >= len(pulse_sample):
        return before, 0.0
    start, end = pulse_sample[before], pulse_sample[before + 1]
    return before, float((sample - start) / (end - start))

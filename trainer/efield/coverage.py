"""Which coil placements a basis shall cover: candidates drawn evenly from all that an operator may do near a place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import qmc

from rt_engine.errors import DataError
from rt_engine.field.placement import coil_pose, move
from rt_engine.field.subject_file import Subject

N_CANDIDATES = 2048
"""Placements among which a skeleton is chosen, a power of 2, which spreads them most evenly: with twice as many the
basis is no better."""

CANDIDATE_SEED = 1
"""Seed of the candidates; whoever tests a basis takes another one."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Coverage:
    """What the operator may do with the coil.

    Attributes
    ----------
    radius_mm : float
        How far from the middle, walked along the scalp. A 7 x 7 grid with 1 cm between its points reaches 42 mm from
        its own middle, and that may lie up to 2 cm from the hand knob.
    rotation_deg : float
        Turn of the handle to either side of its usual 45 degrees; 180 covers every handle angle.
    tilt_deg : float
        Tilt about either of the coil's own axes, to either side.
    gap_mm : tuple of float
        Least and largest distance between coil and scalp: hair, an electrode cap.
    """

    radius_mm: float = 60.0
    rotation_deg: float = 180.0
    tilt_deg: float = 15.0
    gap_mm: tuple[float, float] = (0.0, 12.0)

    @property
    def description(self) -> str:
        """The same in words."""
        handle = "every handle angle" if self.rotation_deg >= 180 else f"handle 45 +- {self.rotation_deg:g} degrees"
        low, high = self.gap_mm
        return (
            f"coil within {self.radius_mm:g} mm along the scalp, {handle}, tilt up to {self.tilt_deg:g} degrees, "
            f"{low:g} to {high:g} mm above the scalp"
        )


def covered_poses(
    subject: Subject,
    n: int = N_CANDIDATES,
    *,
    seed: int = CANDIDATE_SEED,
    target_mm: npt.ArrayLike | None = None,
    coverage: Coverage | None = None,
) -> Floats:
    """Draw placements evenly from the coverage.

    Parameters
    ----------
    subject : Subject
        Gives the scalp, or the sphere where it has none.
    n : int
        How many.
    seed : int
        The same seed gives the same placements; another one gives unseen ones.
    target_mm : array_like, optional
        (3,), mm; the place in the cortex that the middle of the coverage lies over, e.g. the hand knob; default the
        middle of BA4's voxels.
    coverage : Coverage, optional
        What to cover.

    Returns
    -------
    numpy.ndarray
        (n, 4, 4) float64; coil poses, mm.

    Raises
    ------
    DataError
        A coverage that cannot be, or a target that gives no direction.
    """
    coverage = Coverage() if coverage is None else coverage
    low_mm, high_mm = coverage.gap_mm
    if (
        n < 1
        or coverage.radius_mm < 0
        or coverage.rotation_deg < 0
        or coverage.tilt_deg < 0
        or not 0 <= low_mm <= high_mm
    ):
        raise DataError(f"{n} placements in {coverage}; expected at least one, and no negative lengths and angles.")
    target = subject.voxel_mm.mean(axis=0) if target_mm is None else np.asarray(target_mm, np.float64)
    middle = target - subject.sphere_center_mm
    if middle.shape != (3,) or not np.isfinite(middle).all() or np.linalg.norm(middle) < 1.0:
        raise DataError(
            f"The target {target.tolist()} mm gives no direction from the sphere's centre; expected a place."
        )
    # Scrambled Sobol points fill the six dimensions more evenly than independent draws; they come in powers of 2.
    share = qmc.Sobol(6, rng=np.random.default_rng(seed)).random_base2(int(np.ceil(np.log2(max(n, 2)))))[:n]
    pose = np.empty((n, 4, 4))
    for row, (r, turn, rotation, tilt_x, tilt_y, gap) in enumerate(share):
        walk_mm = coverage.radius_mm * np.sqrt(r) * np.array([np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)])
        pose[row] = coil_pose(
            subject,
            move(middle, walk_mm[0], walk_mm[1], subject.scalp_radius_mm),
            rotation_deg=coverage.rotation_deg * (2 * rotation - 1),
            tilt_deg=(coverage.tilt_deg * (2 * tilt_x - 1), coverage.tilt_deg * (2 * tilt_y - 1)),
            gap_mm=low_mm + (high_mm - low_mm) * gap,
        )
    return pose

"""From a stimulation data set to what a model is fitted to: which rows and values may be used, and their scale.

Nothing is dropped or filled in silently: what was left out is in `TrainingSet.notes`, and a set that no honest model
can come of is refused.
"""

from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field

import numpy as np
from numpy.typing import NDArray

from rt_engine.errors import DataError
from rt_engine.field.stimulation_file import StimulationSet, check_stimulation_set
from rt_engine.field.voxel_grid import voxel_centers_mm
from rt_engine.mep import MepStatus

UNUSABLE = MepStatus.FLAT | MepStatus.SAMPLES_MISSING
"""Statuses whose amplitude is not used; the engine withholds the same from a model by default."""

MIN_STIMULATIONS = 50
"""Fewer stimulations leave a few per fold, and hyperparameters to chance."""

MIN_FIELD_V_PER_M = 0.010
"""Stimulations whose field stays below this everywhere in BA4 are outliers: 10 mV/m in the article (II.F)."""

MIN_USABLE_FRACTION = 0.8
"""A muscle with fewer usable amplitudes than this is refused: filling in would be inventing it."""


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Stimulations as a model is fitted to them: n stimulations, m muscles, V voxels.

    Attributes
    ----------
    muscles : tuple of str
        Order of the muscle axis.
    amplitudes_uv : numpy.ndarray
        (n, m) float64, uV; NaN where not usable. Amplitudes below the threshold of an MEP are kept as numbers.
    field : numpy.ndarray
        (n, V) float64 in [0, 1], magnitude of the E-field by `field_scale_v_per_m`.
    field_scale_v_per_m : float
        The subject's largest field, V/m.
    intensity_percent_rmt : numpy.ndarray
        (n,) float64; NaN if unknown.
    coil_mm : numpy.ndarray
        (n, 3) float64, position of the coil, mm; NaN if not tracked.
    voxel : numpy.ndarray
        (V, 3) int16.
    affine : numpy.ndarray
        (4, 4) float64, voxel index to mm.
    box_shape : tuple of int
        Voxels of the box.
    subject_sha256 : str
        Of the subject file; empty if unknown.
    notes : tuple of str
        What was left out, for the user.
    left_out_percent_rmt : numpy.ndarray
        (k,) float64, intensity of the k stimulations of the data set that were left out; NaN if unknown.
    """

    muscles: tuple[str, ...]
    amplitudes_uv: NDArray[np.float64]
    field: NDArray[np.float64]
    field_scale_v_per_m: float
    intensity_percent_rmt: NDArray[np.float64]
    coil_mm: NDArray[np.float64]
    voxel: NDArray[np.int16]
    affine: NDArray[np.float64]
    box_shape: tuple[int, int, int]
    subject_sha256: str = ""
    notes: tuple[str, ...] = ()
    left_out_percent_rmt: NDArray[np.float64] = dataclass_field(default_factory=lambda: np.empty(0))

    def __len__(self) -> int:
        return len(self.field)

    @property
    def voxel_mm(self) -> NDArray[np.float64]:
        """(V, 3) float64, centres of the voxels, mm."""
        return voxel_centers_mm(self.voxel, self.affine)

    def rows(self, index: NDArray[np.intp]) -> "TrainingSet":
        """Return some of the stimulations, on the same scale."""
        return replace(
            self,
            amplitudes_uv=self.amplitudes_uv[index],
            field=self.field[index],
            intensity_percent_rmt=self.intensity_percent_rmt[index],
            coil_mm=self.coil_mm[index],
        )


def prepare(data: StimulationSet, *, floor_uv: float, min_field_v_per_m: float = MIN_FIELD_V_PER_M) -> TrainingSet:
    """Clean and scale a data set.

    Parameters
    ----------
    data : StimulationSet
        What was measured or simulated.
    floor_uv : float
        Amplitudes below it count as equal to it, uV; a muscle that never rises above it has nothing to tell.
    min_field_v_per_m : float
        Stimulations whose field stays below it in all of BA4 are left out, V/m.

    Returns
    -------
    TrainingSet

    Raises
    ------
    DataError
        If the data contradict themselves, too few stimulations are left, a muscle lacks too many amplitudes, or a
        muscle's or all fields' values are all the same.
    """
    if not 0 < floor_uv < np.inf:
        raise DataError(f"floor_uv is {floor_uv}; expected a positive amplitude in microvolts, e.g. 5.")
    check_stimulation_set(data)
    amplitudes = data.mep_uv.astype(np.float64)
    amplitudes[(data.status & int(UNUSABLE)) != 0] = np.nan
    silent = np.isnan(amplitudes).all(axis=1)
    weak = data.field_v_per_m.max(axis=1) < min_field_v_per_m
    kept = ~(silent | weak)
    notes = []
    if silent.any():
        notes.append(f"{silent.sum()} stimulations without a usable amplitude left out")
    if weak.any():
        notes.append(f"{weak.sum()} stimulations with less than {min_field_v_per_m * 1000:g} mV/m in BA4 left out")
    if kept.sum() < MIN_STIMULATIONS:
        raise DataError(
            f"{kept.sum()} of {data.n_pulses} stimulations are usable; a model needs at least {MIN_STIMULATIONS}. "
            "Record or simulate more."
        )
    amplitudes = amplitudes[kept]
    missing = np.isnan(amplitudes)
    usable = 1.0 - missing.mean(axis=0)
    if (usable < MIN_USABLE_FRACTION).any():
        poor = [f"{data.muscles[k]} ({usable[k]:.0%})" for k in np.flatnonzero(usable < MIN_USABLE_FRACTION)]
        raise DataError(
            f"too few usable amplitudes of {', '.join(poor)}; each muscle needs {MIN_USABLE_FRACTION:.0%}. "
            "Leave the muscle out of the data set or record it again."
        )
    if missing.any():
        notes.append(f"{missing.sum()} of {missing.size} amplitudes filled in from the other muscles")
    check_muscles_vary(amplitudes, data.muscles, floor_uv)
    field = data.field_v_per_m[kept].astype(np.float64)
    if (np.ptp(field, axis=0) == 0).all():
        raise DataError("all stimulations have the same field: there is nothing to learn. Move the coil.")
    scale = float(field.max())
    return TrainingSet(
        muscles=data.muscles,
        amplitudes_uv=amplitudes,
        field=field / scale,
        field_scale_v_per_m=scale,
        intensity_percent_rmt=data.intensity_percent_rmt[kept].astype(np.float64),
        coil_mm=data.pose[kept, :3, 3].astype(np.float64),
        voxel=data.voxel,
        affine=data.affine,
        box_shape=data.box_shape,
        subject_sha256=data.subject_sha256,
        notes=tuple(notes),
        left_out_percent_rmt=data.intensity_percent_rmt[~kept].astype(np.float64),
    )


def check_muscles_vary(amplitudes_uv: NDArray[np.float64], muscles: tuple[str, ...], floor_uv: float) -> None:
    """Check that every muscle has more than one amplitude above the floor.

    Raises
    ------
    DataError
        Naming the muscles that are constant.
    """
    raised = np.fmax(amplitudes_uv, floor_uv)  # fmax ignores NaN, so a missing amplitude counts as the floor
    constant = [muscles[k] for k in np.flatnonzero(np.ptp(raised, axis=0) == 0)]
    if constant:
        raise DataError(
            f"the amplitudes of {', '.join(constant)} are all the same or below {floor_uv:g} uV. "
            "Check the electrodes and the unit of the amplitudes, or leave the muscle out of the data set."
        )

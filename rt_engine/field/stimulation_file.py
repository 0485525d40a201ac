"""The stimulation data set `*.stim.h5`: per pulse, what the muscles answered and the field that made them.

What models are trained and validated on. Written by the simulated subject and by importers, read by the trainer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError, FileFormatError
from rt_engine.field.coil import POSE_TOLERANCE
from rt_engine.field.hdf5_file import Attribute, read_hdf5, write_hdf5
from rt_engine.field.voxel_grid import check_grid

STIMULATION_VERSION = 1
"""Version of the layout that this software writes, and the newest that it reads."""

STIMULATION_KIND = "m2m-stimulation"


@dataclass(frozen=True, eq=False)
class Truth:
    """What only a simulation knows about its pulses.

    Attributes
    ----------
    pulse_sample : numpy.ndarray
        (n,) int64; index of the pulse's sample in the EMG stream; -1 where no EMG was made.
    mep_sent_uv : numpy.ndarray
        (n, m) float64, uV; max - min of the very float32 samples that were sent, 10 to 50 ms after the pulse sample,
        both included; NaN where no EMG was made.
    mep_noise_free_uv : numpy.ndarray
        (n, m) float64, uV; the same without noise, artefact and hum.
    pushed_at : numpy.ndarray
        (n,) float64, s; `local_clock()` just before the block with the window's last sample was pushed; NaN offline.
    """

    pulse_sample: npt.NDArray[np.int64]
    mep_sent_uv: npt.NDArray[np.float64]
    mep_noise_free_uv: npt.NDArray[np.float64]
    pushed_at: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StimulationSet:
    """Stimulations of one subject: n pulses, m muscles, V voxels of BA4.

    Attributes
    ----------
    muscles : tuple of str
        The m muscles' names, each once; order of the columns below.
    mep_uv : numpy.ndarray
        (n, m) float32, uV; MEP amplitudes. NaN only where `status` says why.
    status : numpy.ndarray
        (n, m) uint16; flags of `rt_engine.mep.MepStatus`, 0 = OK.
    field_v_per_m : numpy.ndarray
        (n, V) float32, V/m; magnitude of the E-field at the voxels.
    voxel : numpy.ndarray
        (V, 3) int16; indices of the voxels in the box, in lexicographic (C) order.
    affine : numpy.ndarray
        (4, 4) float64; voxel index to mm.
    box_shape : tuple of int
        Voxels of the box along its axes.
    pose : numpy.ndarray
        (n, 4, 4) float64; coil frame to mm, see `coil`; all NaN where the coil was not tracked.
    intensity_percent_rmt : numpy.ndarray
        (n,) float32, % of the resting motor threshold; NaN if unknown.
    intensity_percent_mso : numpy.ndarray
        (n,) float32, % of the stimulator's maximum output; NaN if unknown.
    t_pulse : numpy.ndarray
        (n,) float64, LSL seconds; NaN if there are none.
    source : str
        Where the data come from, in words.
    subject_sha256 : str
        SHA-256 of the subject file; empty if there is none.
    truth : Truth or None
        Only in simulated sets.
    """

    muscles: tuple[str, ...]
    mep_uv: npt.NDArray[np.float32]
    status: npt.NDArray[np.uint16]
    field_v_per_m: npt.NDArray[np.float32]
    voxel: npt.NDArray[np.int16]
    affine: npt.NDArray[np.float64]
    box_shape: tuple[int, int, int]
    pose: npt.NDArray[np.float64]
    intensity_percent_rmt: npt.NDArray[np.float32]
    intensity_percent_mso: npt.NDArray[np.float32]
    t_pulse: npt.NDArray[np.float64]
    source: str
    subject_sha256: str
    truth: Truth | None = None

    @property
    def n_pulses(self) -> int:
        """Number of pulses (n)."""
        return len(self.mep_uv)

    @property
    def n_muscles(self) -> int:
        """Number of muscles (m)."""
        return len(self.muscles)

    @property
    def n_voxels(self) -> int:
        """Number of voxels in BA4 (V)."""
        return len(self.voxel)


def write_stimulation_set(path: str | Path, data: StimulationSet) -> str:
    """Write a data set; the same set gives the same bytes.

    Parameters
    ----------
    path : str or Path
        Where to write; a file already there is replaced in one step.
    data : StimulationSet
        What to write.

    Returns
    -------
    str
        SHA-256 of the file, 64 hexadecimal digits.

    Raises
    ------
    DataError
        The set contradicts itself, or the file cannot be written there.
    """
    check_stimulation_set(data)
    attributes: dict[str, Attribute] = {
        # One per line, because a name may hold any other character.
        "muscles": "\n".join(data.muscles),
        "source": data.source,
        "subject_sha256": data.subject_sha256,
        "box_shape": np.asarray(data.box_shape, np.int64),
        "affine": data.affine,
    }
    arrays = {name: getattr(data, name) for name in _PER_PULSE} | {"voxel": data.voxel}
    if data.truth is not None:
        arrays |= {f"truth/{name}": getattr(data.truth, name) for name in _PER_PULSE_TRUTH}
    return write_hdf5(path, kind=STIMULATION_KIND, version=STIMULATION_VERSION, attributes=attributes, arrays=arrays)


def read_stimulation_set(path: str | Path) -> StimulationSet:
    """Read and check a data set.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    StimulationSet
        What it holds.

    Raises
    ------
    FileFormatError
        No such file, not a data set, a newer version, truncated, damaged, or content that contradicts itself.
    """
    attributes, arrays = read_hdf5(path, kind=STIMULATION_KIND, version=STIMULATION_VERSION)
    try:
        truth = None
        if any(name.startswith("truth/") for name in arrays):
            truth = Truth(**{name: arrays[f"truth/{name}"] for name in _PER_PULSE_TRUTH})
        data = StimulationSet(
            muscles=tuple(str(attributes["muscles"]).split("\n")),
            affine=np.asarray(attributes["affine"]),
            box_shape=cast("tuple[int, int, int]", tuple(np.asarray(attributes["box_shape"]).tolist())),
            source=str(attributes["source"]),
            subject_sha256=str(attributes["subject_sha256"]),
            voxel=arrays["voxel"],
            truth=truth,
            **{name: arrays[name] for name in _PER_PULSE},
        )
        check_stimulation_set(data)
    except KeyError as error:
        raise FileFormatError(f"{path} lacks {error}, which every stimulation data set has. Make it again.") from error
    except (DataError, ValueError, TypeError) as error:
        raise FileFormatError(f"{path} does not hold a usable stimulation data set: {error}") from error
    return data


# Arrays with one row per pulse: dtype, and the other axes (m = muscles, V = voxels).
_PER_PULSE: dict[str, tuple[type, tuple[str | int, ...]]] = {
    "mep_uv": (np.float32, ("m",)),
    "status": (np.uint16, ("m",)),
    "field_v_per_m": (np.float32, ("V",)),
    "pose": (np.float64, (4, 4)),
    "intensity_percent_rmt": (np.float32, ()),
    "intensity_percent_mso": (np.float32, ()),
    "t_pulse": (np.float64, ()),
}
_PER_PULSE_TRUTH: dict[str, tuple[type, tuple[str | int, ...]]] = {
    "pulse_sample": (np.int64, ()),
    "mep_sent_uv": (np.float64, ("m",)),
    "mep_noise_free_uv": (np.float64, ("m",)),
    "pushed_at": (np.float64, ()),
}


def check_stimulation_set(data: StimulationSet) -> None:
    """Check that a data set agrees with itself and with the documented shapes, dtypes and ranges.

    Parameters
    ----------
    data : StimulationSet
        What to check.

    Raises
    ------
    DataError
        The first thing that is wrong: what was found, what was expected.
    """
    if not data.muscles or len(set(data.muscles)) != len(data.muscles):
        raise DataError(f"The muscles are {list(data.muscles)}; expected at least one, each name once.")
    if any(not name or "\n" in name for name in data.muscles):
        raise DataError(f"The muscles are {list(data.muscles)}; a name must not be empty nor hold a line break.")
    if data.subject_sha256 and not re.fullmatch("[0-9a-f]{64}", data.subject_sha256):
        raise DataError(f"subject_sha256 is {data.subject_sha256!r}; expected 64 hexadecimal digits, or nothing.")
    check_grid(data.voxel, data.affine, data.box_shape)
    _check_rows(data, _PER_PULSE, data)
    unexplained = ~np.isfinite(data.mep_uv) & ((data.status == 0) | ~np.isnan(data.mep_uv))
    if unexplained.any():
        raise DataError(
            f"mep_uv holds {int(unexplained.sum())} values that are not finite numbers without a status that says why; "
            "only NaN with a status other than 0 is allowed."
        )
    if not np.isfinite(data.field_v_per_m).all():
        raise DataError("field_v_per_m holds values that are not finite numbers; leave such pulses out.")
    for name in ("mep_uv", "field_v_per_m", "intensity_percent_rmt", "intensity_percent_mso"):
        _check_no_less(name, getattr(data, name), 0)
    _check_poses(data.pose)
    if np.isinf(data.t_pulse).any():
        raise DataError("t_pulse holds infinite values; expected LSL seconds, or NaN where there are none.")
    if data.truth is not None:
        _check_rows(data.truth, _PER_PULSE_TRUTH, data)
        _check_no_less("truth.pulse_sample", data.truth.pulse_sample, -1)
        _check_no_less("truth.mep_sent_uv", data.truth.mep_sent_uv, 0)
        _check_no_less("truth.mep_noise_free_uv", data.truth.mep_noise_free_uv, 0)


def _check_rows(holder: object, layout: dict[str, tuple[type, tuple[str | int, ...]]], data: StimulationSet) -> None:
    """Check shapes and dtypes of the arrays that have one row per pulse."""
    size: dict[str | int, int] = {"m": data.n_muscles, "V": data.n_voxels}
    for name, (dtype, axes) in layout.items():
        array: npt.NDArray[Any] = getattr(holder, name)
        shape = (data.n_pulses, *(size.get(axis, axis) for axis in axes))
        if array.dtype != dtype or array.shape != shape:
            raise DataError(f"{name} is {array.dtype} {array.shape}; expected {np.dtype(dtype)} {shape}.")


def _check_no_less(name: str, array: npt.NDArray[Any], least: int) -> None:
    """Check that all values are finite or NaN, and none is below `least`."""
    wrong = (array < least) | np.isinf(array)
    if wrong.any():
        raise DataError(f"{name} holds {array[wrong][0]}; expected finite values, {least} or more.")


def _check_poses(pose: npt.NDArray[np.float64]) -> None:
    """Check that every pose is a rigid motion, or all NaN."""
    tracked = pose[~np.isnan(pose).all(axis=(1, 2))]
    rotation = tracked[:, :3, :3]
    with np.errstate(invalid="ignore"):
        skew = np.abs(np.swapaxes(rotation, 1, 2) @ rotation - np.eye(3)).max(axis=(1, 2), initial=0)
        rigid = (
            np.isfinite(tracked).all(axis=(1, 2))
            & (skew <= POSE_TOLERANCE)
            & (np.linalg.det(rotation) > 0)
            & (tracked[:, 3] == (0, 0, 0, 1)).all(axis=1)
        )
    if not rigid.all():
        raise DataError(
            f"A coil pose is no rigid motion: {tracked[~rigid][0].tolist()}. Expected three orthonormal, right-handed "
            "axes and the last row 0 0 0 1, or NaN everywhere for a coil that was not tracked."
        )

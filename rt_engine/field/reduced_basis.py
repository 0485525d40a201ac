"""What a reduced basis of coil placements is: solved once per head and coil, combined for every pulse.

The E-field in a head depends linearly on the coil's magnetic field there, and the fields of all placements near one
place lie close to a space of few dimensions. So K well-chosen placements, the skeleton, are solved with finite elements
(`trainer.efield.build_basis`), and any other placement's coil field is written as a combination of theirs; the same
combination of their E-fields is its E-field. `field_basis` evaluates that. Here is only what is stored, and its check.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError
from rt_engine.field.coil import Coil, check_pose, potentials, transform

VECTOR_WEIGHT = 0.05
"""Weight of the vector potential beside the scalar one in the fit; part of what a stored basis means."""


Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ReducedBasis:
    """The E-fields of a skeleton of coil placements on the voxels of BA4, compressed.

    Attributes
    ----------
    coil : Coil
        The coil that was solved for; the basis holds for no other.
    skeleton_pose : numpy.ndarray
        (K, 4, 4) float64; the placements that were solved, coil frame to the subject's space, mm.
    sample_mm : numpy.ndarray
        (S, 3) float64, mm; points in the conductor where a placement's coil field is fitted by the skeleton's.
    mixing : numpy.ndarray
        (K, R) float32; the skeleton's E-fields are `mixing @ (components * scale)`.
    components : numpy.ndarray
        (R, V, 3) float16 or float32; E-fields on the voxels, each in its own unit.
    scale : numpy.ndarray
        (R,) float32; the units, V/m per A/s.
    residual_limit : float
        Largest residual of the fit that is answered, relative.
    covered_mm : numpy.ndarray
        (C, 3) float32, mm; centres of the coil's face in the placements among which the skeleton was chosen.
    covered_radius_mm : float
        A coil farther than this from every one of them is refused, mm.
    method : str
        How the skeleton was solved, in words: solver, voxel size, conductivities, the head's hash.
    """

    coil: Coil
    skeleton_pose: npt.NDArray[np.float64]
    sample_mm: npt.NDArray[np.float64]
    mixing: npt.NDArray[np.float32]
    components: npt.NDArray[np.float16] | npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]
    residual_limit: float
    covered_mm: npt.NDArray[np.float32]
    covered_radius_mm: float
    method: str

    @property
    def rank(self) -> int:
        """Number of placements that were solved (K)."""
        return len(self.skeleton_pose)

    @property
    def n_components(self) -> int:
        """Number of stored fields (R)."""
        return len(self.components)

    @property
    def n_voxels(self) -> int:
        """Number of voxels in BA4 (V)."""
        return int(self.components.shape[1])


def fitted_potentials(coil: Coil, pose: npt.NDArray[np.float64], sample_mm: npt.NDArray[np.float64]) -> Floats:
    """Compute what is fitted: a coil's magnetic potentials at the sample points.

    What induces the E-field is the change of the coil's magnetic field B; where no current flows, so in the whole head,
    B = -grad of the scalar potential, and that one number per point says all. The vector potential A says the same,
    but holds a gradient besides, which makes no E-field: fitting A alone costs a basis about twice as large. To finite
    elements, though, a gradient is not quite nothing: it leaves a field of their error's size. So A has a small weight.

    Parameters
    ----------
    coil : Coil
        The coil.
    pose : numpy.ndarray
        (4, 4); coil frame to the sample points' space, mm.
    sample_mm : numpy.ndarray
        (S, 3) float64, mm.

    Returns
    -------
    numpy.ndarray
        (4 S,) float64, T m per A: the scalar potential, then the weighted vector potential.

    Raises
    ------
    DataError
        The pose is no rigid motion.
    """
    scalar, vector = potentials(sample_mm, *transform(coil, pose))
    return np.concatenate([scalar, VECTOR_WEIGHT * vector.ravel()])


def check_basis(basis: ReducedBasis) -> None:
    """Check that a basis agrees with itself and with the documented shapes and dtypes.

    Parameters
    ----------
    basis : ReducedBasis
        What to check.

    Raises
    ------
    DataError
        The first thing that is wrong: what was found, what was expected.
    """
    coil = basis.coil
    if not coil.name or not basis.method:
        raise DataError("The basis names no coil or no method; both must be given as texts.")
    _check_array("coil.position_mm", coil.position_mm, (np.float64,), (None, 3))
    _check_array("coil.moment_am2_per_a", coil.moment_am2_per_a, (np.float64,), (len(coil.position_mm), 3))
    _check_positive("coil.max_didt_a_per_us", coil.max_didt_a_per_us)
    _check_array("skeleton_pose", basis.skeleton_pose, (np.float64,), (None, 4, 4))
    for pose in basis.skeleton_pose:
        check_pose(pose)
    rank = len(basis.skeleton_pose)
    _check_array("sample_mm", basis.sample_mm, (np.float64,), (None, 3))
    if len(basis.sample_mm) < rank:
        raise DataError(
            f"{rank} placements cannot be told apart at {len(basis.sample_mm)} sample points; expected more."
        )
    _check_array("mixing", basis.mixing, (np.float32,), (rank, None))
    n_components = basis.mixing.shape[1]
    _check_array("components", basis.components, (np.float16, np.float32), (n_components, None, 3))
    _check_array("scale", basis.scale, (np.float32,), (n_components,))
    _check_array("covered_mm", basis.covered_mm, (np.float32,), (None, 3))
    _check_positive("residual_limit", basis.residual_limit)
    _check_positive("covered_radius_mm", basis.covered_radius_mm)


def _check_array(name: str, array: npt.NDArray[Any], dtypes: tuple[type, ...], shape: tuple[int | None, ...]) -> None:
    """Check dtype, shape (None: at least one) and that all values are finite."""
    if array.dtype not in [np.dtype(dtype) for dtype in dtypes]:
        expected = " or ".join(np.dtype(dtype).name for dtype in dtypes)
        raise DataError(f"The basis' {name} is {array.dtype}; expected {expected}.")
    if array.ndim != len(shape) or any(
        m != n if n is not None else m < 1 for n, m in zip(shape, array.shape, strict=True)
    ):
        raise DataError(
            f"The basis' {name} has the shape {array.shape}; expected {shape}, None standing for 1 or more."
        )
    if not np.isfinite(array).all():
        raise DataError(
            f"The basis' {name} holds {int((~np.isfinite(array)).sum())} values that are not finite numbers."
        )


def _check_positive(name: str, value: float) -> None:
    if not (np.isfinite(value) and value > 0):
        raise DataError(f"The basis' {name} is {value}; expected a positive number.")

"""The E-field of any covered coil placement, in milliseconds, from a reduced basis.

For the pose at hand the skeleton's magnetic potentials, columns of M, are fitted to the coil's potentials a at the
sample points (`reduced_basis.fitted_potentials`); E is linear in them:

    c = argmin |a - M c|,      E = sum over the skeleton of  c_k E_k,      residual = |a - M c| / |a|
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rt_engine.errors import CoverageError, DataError
from rt_engine.field.reduced_basis import ReducedBasis, check_basis, fitted_potentials

Progress = Callable[[int, int], None]
"""Called with the number of placements that are done and that of all."""

SINGULAR_SHARE = 1e-10
"""Singular values of the skeleton's potentials below this share of the largest are rounding errors and left out."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BasisField:
    """The E-field of one placement.

    Attributes
    ----------
    field_v_per_m : numpy.ndarray
        (V, 3) float32, V/m, on the voxels of BA4.
    residual : float
        What the fit leaves of the coil's potentials, relative.
    """

    field_v_per_m: npt.NDArray[np.float32]
    residual: float

    @property
    def magnitude_v_per_m(self) -> npt.NDArray[np.float32]:
        """|E|, (V,) float32, V/m."""
        x, y, z = self.field_v_per_m.T
        magnitude: npt.NDArray[np.float32] = np.sqrt(x * x + y * y + z * z)
        return magnitude


@dataclass(frozen=True, eq=False)
class BasisFields:
    """The E-fields of many placements.

    Attributes
    ----------
    magnitude_v_per_m : numpy.ndarray
        (n, V) float32, V/m; a row of NaN where the placement was refused.
    residual : numpy.ndarray
        (n,) float64.
    refused : numpy.ndarray
        (n,) bool.
    """

    magnitude_v_per_m: npt.NDArray[np.float32]
    residual: Floats
    refused: npt.NDArray[np.bool_]


class FieldBasis:
    """A reduced basis, ready to be evaluated.

    The same pose gives the same bits, alone or among others. It is only read once it was made: threads may share it.

    Parameters
    ----------
    basis : ReducedBasis
        What a subject file holds.

    Raises
    ------
    DataError
        The basis contradicts itself.
    """

    def __init__(self, basis: ReducedBasis) -> None:
        check_basis(basis)
        self.basis = basis
        skeleton = np.stack([self._potential(pose) for pose in basis.skeleton_pose], axis=1)
        # Columns of one length: a skeleton coil near the head shall not drown one that is farther away.
        length = np.linalg.norm(skeleton, axis=0)
        left, value, right = np.linalg.svd(skeleton / length, full_matrices=False)
        kept = value > SINGULAR_SHARE * value[0]
        self._left = np.ascontiguousarray(left[:, kept].T)
        to_skeleton = (right[kept].T / value[kept]) / length[:, None]
        # The order in memory decides how sums are rounded: one order, wherever the basis comes from. And einsum, here
        # and in `_combine`, since a matrix product's last bits depend on the number of BLAS threads.
        mixing = np.ascontiguousarray(basis.mixing, np.float64)
        self._to_components = np.einsum("kr,kj->rj", mixing, np.ascontiguousarray(to_skeleton))
        components = np.ascontiguousarray(basis.components, np.float32) * basis.scale[:, None, None]
        self._components = components.reshape(basis.n_components, -1)
        self._covered_mm = basis.covered_mm.astype(np.float64)

    def field(self, pose: npt.ArrayLike, didt_a_per_s: float) -> BasisField:
        """Compute the E-field of one placement.

        Parameters
        ----------
        pose : array_like
            (4, 4); coil frame to the subject's space, mm.
        didt_a_per_s : float
            Rate of change of the coil's current, A/s.

        Returns
        -------
        BasisField
            The field and the fit's residual.

        Raises
        ------
        CoverageError
            The placement is not covered: its residual is above the limit, or the coil is too far from all covered ones.
        DataError
            The pose is no rigid motion, or dI/dt no number.
        """
        if not np.isfinite(didt_a_per_s):
            raise DataError(f"dI/dt is {didt_a_per_s}; expected a number of A/s.")
        pose = np.asarray(pose, np.float64)
        weight, residual = self._fit(pose)
        self._check_coverage(pose, residual)
        return BasisField(self._combine(weight, didt_a_per_s), residual)

    def fields(self, pose: npt.ArrayLike, didt_a_per_s: npt.ArrayLike, progress: Progress | None = None) -> BasisFields:
        """Compute the magnitudes of many placements; those that are not covered are marked, not raised.

        Parameters
        ----------
        pose : array_like
            (n, 4, 4); coil frame to the subject's space, mm.
        didt_a_per_s : array_like
            (n,) or a single number, A/s.
        progress : callable, optional
            Told of the placements that are done.

        Returns
        -------
        BasisFields
            Magnitudes, residuals and which were refused.

        Raises
        ------
        DataError
            Wrong shapes, a pose that is no rigid motion, or a dI/dt that is no number.
        """
        pose = np.asarray(pose, np.float64)
        if pose.ndim != 3:
            raise DataError(f"The coil poses have the shape {pose.shape}; expected (n, 4, 4).")
        n = len(pose)
        try:
            didt = np.broadcast_to(np.asarray(didt_a_per_s, np.float64), (n,))
        except ValueError as error:
            raise DataError(f"dI/dt has the shape {np.shape(didt_a_per_s)}; expected ({n},), one per pose.") from error
        magnitude = np.full((n, self.basis.n_voxels), np.nan, np.float32)
        residual, refused = np.empty(n), np.zeros(n, bool)
        for row in range(n):
            try:
                found = self.field(pose[row], float(didt[row]))
            except CoverageError as error:
                residual[row], refused[row] = error.residual, True
            else:
                magnitude[row], residual[row] = found.magnitude_v_per_m, found.residual
            if progress is not None:
                progress(row + 1, n)
        return BasisFields(magnitude, residual, refused)

    def residual(self, pose: npt.ArrayLike) -> float:
        """Compute the fit's residual for a placement, covered or not.

        Parameters
        ----------
        pose : array_like
            (4, 4); coil frame to the subject's space, mm.

        Returns
        -------
        float
            Relative residual, 0 to 1.

        Raises
        ------
        DataError
            The pose is no rigid motion.
        """
        return self._fit(np.asarray(pose, np.float64))[1]

    def _potential(self, pose: Floats) -> Floats:
        return fitted_potentials(self.basis.coil, pose, self.basis.sample_mm)

    def _fit(self, pose: Floats) -> tuple[Floats, float]:
        """Fit a placement's potentials; return the components' weights (R,) and the residual."""
        potential = self._potential(pose)
        if not np.isfinite(potential).all():  # a dipole lies on a sample point: nothing of that can be fitted
            return np.zeros(len(self._to_components)), 1.0
        along = self._left @ potential
        # Pythagoras, good to 1e-8, which is far below any residual that matters, and in half the time.
        residual = np.sqrt(max(0.0, 1.0 - float(along @ along) / float(potential @ potential)))
        return self._to_components @ along, float(residual)

    def _combine(self, weight: Floats, didt_a_per_s: float) -> npt.NDArray[np.float32]:
        """Sum the weighted components, (V, 3) float32, V/m."""
        per_component = (weight * didt_a_per_s).astype(np.float32)
        field: npt.NDArray[np.float32] = np.einsum("r,rv->v", per_component, self._components)
        return field.reshape(-1, 3)

    def _check_coverage(self, pose: Floats, residual: float) -> None:
        aside_mm = self._covered_mm - pose[:3, 3]
        nearest_mm = float(np.sqrt((aside_mm * aside_mm).sum(axis=1).min()))
        limit = self.basis.residual_limit
        too_far, misfit = nearest_mm > self.basis.covered_radius_mm, residual > limit
        if too_far or misfit:
            place = np.round(pose[:3, 3], 1).tolist()
            why = (
                f"is {nearest_mm:.0f} mm away from the nearest covered place, {self.basis.covered_radius_mm:g} mm are "
                f"allowed (residual {residual:.2g}, limit {limit:.2g})"
                if too_far
                else f"has the residual {residual:.2g}; up to {limit:.2g} is answered"
            )
            raise CoverageError(
                f"The coil at {place} mm is outside what the E-field basis covers: it {why}. Check the registration "
                "and that the coil's +z axis points into the head, move the coil nearer to the motor cortex, or build "
                "the subject with a wider coverage.",
                residual,
                limit,
            )

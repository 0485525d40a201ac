"""Finite elements on the voxel grid: every conducting voxel is one trilinear hexahedron.

No mesher is needed, and all elements share one stiffness matrix, scaled by their conductivity. In weak form, with the
trilinear shape functions psi_i and the edge h,

    sum_j phi_j  integral of sigma grad psi_i . grad psi_j  =  - integral of sigma dA/dt . grad psi_i

dA/dt is taken at every voxel's centre (eight Gauss points change the errors by less than 1/100 of themselves). The
gradient of phi is best at the centres of the elements (superconvergence; Zienkiewicz & Zhu 1992, Int J Numer Meth Eng
33:1331), so a point's field is made from those: averaged at the grid's nodes over the voxels of the point's own
conductivity, then interpolated.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse

from rt_engine.errors import DataError
from rt_engine.field.coil import Coil, check_pose
from trainer.efield.grid_potential import GridPotential
from trainer.efield.head import AIR, CONDUCTIVITY_S_PER_M, VoxelHead, conductivity_of, describe_conductivity
from trainer.efield.multigrid import Multigrid
from trainer.efield.solver import Solution, as_points, check_coil_outside, dadt_at, refuse_outside

log = logging.getLogger(__name__)

TOLERANCE = 1e-6
"""Relative residual at which to stop; the field then differs from the exact solution of the equations by about as much,
a thousandth of what the voxels' size does."""

MAX_LOST_FRACTION = 0.05
"""Share of the conductor that may lie in parts that do not touch the largest; such crumbs are left out."""

CORNER = np.array(list(itertools.product((0, 1), repeat=3)))
"""(8, 3); the corners of a voxel, in the order of its nodes."""

_METHOD = "voxel hexahedra, centre-point source, nodal average by conductivity, version 1"

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class VoxelFem:
    """A voxel head with its equations ready to solve; a `trainer.efield.solver.FieldSolver`.

    Parameters
    ----------
    head : VoxelHead
        The head. Tissue that does not touch the largest connected part (by a face) is left out.
    conductivity : mapping of int to float
        S/m by tissue tag.
    tolerance : float
        Relative residual at which a solution is good enough.

    Attributes
    ----------
    head : VoxelHead
        The head.
    n_nodes : int
        Unknowns.
    assembly_s, setup_s : float
        How long the matrix and its multigrid hierarchy took, s.

    Raises
    ------
    DataError
        A tissue without conductivity, a head in several large parts, a bad tolerance, or pyamg is not installed.
    """

    def __init__(
        self,
        head: VoxelHead,
        conductivity: Mapping[int, float] = CONDUCTIVITY_S_PER_M,
        *,
        tolerance: float = TOLERANCE,
    ) -> None:
        if not 0 < tolerance < 1:
            raise DataError(f"The tolerance is {tolerance}; expected a number between 0 and 1, such as {TOLERANCE}.")
        started = time.perf_counter()
        self.head = head
        self.tolerance = tolerance
        self._edge_m = head.resolution_mm * 1e-3
        self._rotation = head.affine[:3, :3] / head.resolution_mm
        self._to_index = np.linalg.inv(head.affine)
        self._sigma = _largest_part(conductivity_of(head.label, conductivity), head.name)
        self._conductivity = {t: conductivity[t] for t in np.unique(head.label).tolist() if t != AIR}
        self._voxel = np.argwhere(self._sigma > 0)
        self._potential = GridPotential(self._sigma > 0, head.affine)
        is_node = _to_nodes([self._sigma > 0] * 8).astype(bool)
        self.n_nodes = int(is_node.sum())
        self._is_node = is_node
        self._number = np.full(is_node.shape, -1, np.int32)
        self._number[is_node] = np.arange(self.n_nodes)
        matrix = _stiffness(self._sigma, self._number, self._edge_m)
        self.assembly_s = time.perf_counter() - started
        self._multigrid = Multigrid(matrix, tolerance)
        self.setup_s = self._multigrid.setup_s
        log.info(
            "Head %r: %d nodes, assembled in %.1f s, multigrid in %.1f s.",
            head.name, self.n_nodes, self.assembly_s, self.setup_s,
        )  # fmt: skip

    @property
    def description(self) -> str:
        """Method, head, resolution and conductivities in words."""
        return (
            f"finite elements on {self.head.resolution_mm:g} mm voxels; head: {self.head.name}; "
            f"conductivities in S/m: {describe_conductivity(self._conductivity)}; "
            f"relative residual {self.tolerance:g}"
        )

    def content_hash(self) -> str:
        """Compute the SHA-256 over all that a solution depends on besides coil and pose."""
        conductivity = sorted(self._conductivity.items())
        text = f"{_METHOD};{self.head.content_hash()};{conductivity!r};{self.tolerance!r}"
        return hashlib.sha256(text.encode()).hexdigest()

    def solve(self, coil: Coil, pose: Floats, *, guess: Floats | None = None) -> Solution:
        """Solve for one placement.

        Parameters
        ----------
        coil : Coil
            The coil.
        pose : numpy.ndarray
            (4, 4); coil frame to the head's space, mm.
        guess : numpy.ndarray, optional
            (n_nodes,), V per A/s; a potential to start from.

        Returns
        -------
        Solution
            The potential.

        Raises
        ------
        DataError
            The pose is no rigid motion, a dipole of the coil lies in the head, or the equations cannot be solved.
        """
        pose = check_pose(pose)
        check_coil_outside(coil, pose, lambda points_mm: self._sigma_near(points_mm)[:, 1, 1, 1] > 0)
        potential, iterations, residual = self._multigrid.solve(self._source(coil, pose), guess)
        return Solution(coil, pose, potential, iterations, residual)

    def field_at(self, points_mm: Floats, solution: Solution) -> Floats:
        """Evaluate the E-field of a solution at points in the conductor.

        Parameters
        ----------
        points_mm : numpy.ndarray
            (n, 3), mm.
        solution : Solution
            Of this solver.

        Returns
        -------
        numpy.ndarray
            (n, 3) float64, V/m per A/s. Where a point's tissue is next to another, the field is that of its own side.

        Raises
        ------
        DataError
            Bad shapes, or points that lie in no conducting voxel (how many is said).
        """
        points_mm = as_points(points_mm)
        if solution.potential.shape != (self.n_nodes,):
            raise DataError(
                f"The solution has {solution.potential.shape} nodes, this head {self.n_nodes}: it is another head's."
            )
        near = self._sigma_near(points_mm)
        refuse_outside(near[:, 1, 1, 1] <= 0, points_mm, "conducting voxel")
        voxel, inside = self._locate(points_mm)
        weight = _recovery_weights(near, inside)
        used = weight > 0
        neighbour = (voxel[:, None] + _AROUND)[used.reshape(len(used), 27)]
        flat, which = np.unique(np.ravel_multi_index(tuple(neighbour.T), self._sigma.shape), return_inverse=True)
        gradient = self._center_gradient(np.stack(np.unravel_index(flat, self._sigma.shape), axis=1), solution)
        row = np.repeat(np.arange(len(used)), used.reshape(len(used), 27).sum(axis=1))
        mean = sparse.csr_matrix((weight[used], (row, which)), shape=(len(used), len(flat)))
        field: Floats = -dadt_at(points_mm, solution.coil, solution.pose) - (mean @ gradient) @ self._rotation.T
        return field

    def solve_at(self, coil: Coil, pose: Floats, points_mm: Floats) -> Floats:
        """Solve for one placement and evaluate its E-field: `field_at(points_mm, solve(coil, pose))`."""
        return self.field_at(points_mm, self.solve(coil, pose))

    def interior_points(self, n: int, seed: int) -> Floats:
        """Draw points evenly from the conductor's volume: (n, 3) float64, mm; the same seed gives the same points."""
        generator = np.random.default_rng(seed)
        voxel = self._voxel[generator.integers(0, len(self._voxel), n)]
        index = voxel + generator.uniform(-0.5, 0.5, (n, 3)) * (1 - 1e-6)
        return index @ self.head.affine[:3, :3].T + self.head.affine[:3, 3]

    def _source(self, coil: Coil, pose: Floats) -> Floats:
        """Integrate -sigma dA/dt . grad psi over every node's voxels: (n_nodes,) A per A/s."""
        current = self._potential.dadt(coil, pose) @ self._rotation
        # A shape function's gradient, integrated over the voxel, is +-h^2 / 4 along every axis.
        current *= (self._edge_m**2 / 4 * self._sigma[tuple(self._voxel.T)])[:, None]
        parts = []
        for corner in CORNER:
            part = np.zeros(self._sigma.shape)
            part[tuple(self._voxel.T)] = current @ (1.0 - 2.0 * corner)
            parts.append(part)
        return _to_nodes(parts)[self._is_node]

    def _center_gradient(self, voxel: Ints, solution: Solution) -> Floats:
        """Differentiate phi at the centres of voxels, along the grid's axes: (n, 3) V/m per A/s."""
        gradient = np.zeros((len(voxel), 3))
        for corner in CORNER:
            value = solution.potential[self._number[tuple((voxel + corner).T)]]
            gradient += value[:, None] * (2.0 * corner - 1.0)
        return gradient / (4 * self._edge_m)

    def _locate(self, points_mm: Floats) -> tuple[Ints, Floats]:
        """Find every point's voxel, and where in it the point is, 0 to 1 along every axis."""
        index = points_mm @ self._to_index[:3, :3].T + self._to_index[:3, 3] + 0.5
        voxel = np.floor(index).astype(np.int64)
        return voxel, index - voxel

    def _sigma_near(self, points_mm: Floats) -> Floats:
        """Conductivities of every point's voxel and its neighbours, 0 outside the grid: (n, 3, 3, 3) S/m."""
        around = (self._locate(points_mm)[0][:, None] + _AROUND).reshape(-1, 3)
        inside = ((around >= 0) & (around < self._sigma.shape)).all(axis=1)
        near = np.zeros(len(around))
        near[inside] = self._sigma[tuple(around[inside].T)]
        return near.reshape(-1, 3, 3, 3)


_AROUND = np.array(list(itertools.product((-1, 0, 1), repeat=3)))


def _largest_part(sigma: Floats, name: str) -> Floats:
    """Keep the largest part whose voxels touch by their faces: the others have no current to or from it."""
    part, n_parts = ndimage.label(sigma > 0)
    if n_parts == 1:
        return sigma
    size = np.bincount(part.ravel())[1:]
    lost = int(size.sum() - size.max())
    if lost > MAX_LOST_FRACTION * size.sum():
        raise DataError(
            f"The tissue of head {name!r} lies in {n_parts} parts that do not touch, the largest of them with only "
            f"{size.max()} of {size.sum()} voxels. Is a layer between them missing (labelled 0, air)?"
        )
    log.warning("Head %r: %d voxels in %d parts that touch nothing are left out.", name, lost, n_parts - 1)
    return np.where(part == np.argmax(size) + 1, sigma, 0.0)


def _to_nodes(parts: list[npt.NDArray[Any]]) -> Floats:
    """Add what every voxel gives to each of its eight corners: (nx + 1, ny + 1, nz + 1)."""
    nx, ny, nz = parts[0].shape
    total = np.zeros((nx + 1, ny + 1, nz + 1))
    for (i, j, k), part in zip(CORNER, parts, strict=True):
        total[i : i + nx, j : j + ny, k : k + nz] += part
    return total


def _element_stiffness() -> Floats:
    """Integrate grad psi_a . grad psi_b over the unit cube: (8, 8)."""
    slope = np.array([[1.0, -1.0], [-1.0, 1.0]])
    mass = np.array([[2.0, 1.0], [1.0, 2.0]]) / 6
    total = np.zeros((8, 8))
    for axis in range(3):
        factor = [slope if i == axis else mass for i in range(3)]
        total += np.einsum("ad,be,cf->abcdef", *factor).reshape(8, 8)
    return total


def _stiffness(sigma: Floats, number: npt.NDArray[np.int32], edge_m: float) -> Any:
    """Assemble the matrix, (n_nodes, n_nodes) csr: row by row from the grid, so that no list of triplets is needed.

    A node is coupled to itself, and to its neighbours across the diagonals of faces and voxels; along the edges the
    couplings of cubes cancel even in one element. That leaves 21 columns at most, in the order of the nodes' numbers.
    """
    element = _element_stiffness() * edge_m
    stencil = [offset for offset in itertools.product((-1, 0, 1), repeat=3) if np.abs(offset).sum() != 1]
    is_node = number >= 0
    n_nodes = int(is_node.sum())
    value = np.zeros((n_nodes, len(stencil)))
    column = np.full((n_nodes, len(stencil)), -1, np.int32)
    padded = np.pad(number, 1, constant_values=-1)
    for place, offset in enumerate(stencil):
        parts = [np.zeros(())] * 8
        for a, corner in enumerate(CORNER):
            other = corner + offset
            inside = ((other == 0) | (other == 1)).all()
            parts[a] = sigma * (element[a, other @ (4, 2, 1)] if inside else 0.0)
        value[:, place] = _to_nodes(parts)[is_node]
        shifted = padded[tuple(slice(1 + o, 1 + o + n) for o, n in zip(offset, number.shape, strict=True))]
        column[:, place] = shifted[is_node]
    # Neighbours on the grid that share no conducting voxel have no coupling.
    kept = value != 0
    pointer = np.concatenate(([0], np.cumsum(kept.sum(axis=1)))).astype(np.int32)
    return sparse.csr_matrix((value[kept], column[kept], pointer), shape=(n_nodes, n_nodes))


def _recovery_weights(near: Floats, inside: Floats) -> Floats:
    """Weigh the voxels around every point.

    Parameters
    ----------
    near : numpy.ndarray
        (n, 3, 3, 3), S/m; conductivities of the point's voxel and its neighbours.
    inside : numpy.ndarray
        (n, 3); where in its voxel the point is, 0 to 1.

    Returns
    -------
    numpy.ndarray
        (n, 3, 3, 3) float64; sum to 1, and are 0 for other conductivities than the point's own.
    """
    same = near == near[:, 1:2, 1:2, 1:2]
    weight = np.zeros(near.shape)
    for corner in CORNER:
        share = np.prod(np.where(corner, inside, 1 - inside), axis=1)
        part = (slice(None), *(slice(c, c + 2) for c in corner.tolist()))
        weight[part] += same[part] * (share / same[part].sum(axis=(1, 2, 3)))[:, None, None, None]
    return weight

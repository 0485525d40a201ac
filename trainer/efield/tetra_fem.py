"""Finite elements on a mesh of tetrahedra, such as SimNIBS makes: linear shape functions, by scikit-fem.

The same equations as on voxels (`voxel_fem`), with dA/dt linear between the nodes. grad phi is constant in a
tetrahedron; a point's field is made from means at the nodes, over the tetrahedra of the point's own conductivity and
weighted by volume, interpolated linearly (the idea of Zienkiewicz & Zhu 1992, Int J Numer Meth Eng 33:1331).
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
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from rt_engine.errors import DataError
from rt_engine.field.coil import Coil, check_pose
from trainer.efield.head import CONDUCTIVITY_S_PER_M, TetraHead, conductivity_of, describe_conductivity
from trainer.efield.multigrid import Multigrid
from trainer.efield.point_location import locate
from trainer.efield.solver import Solution, as_points, check_coil_outside, dadt_at, refuse_outside

log = logging.getLogger(__name__)

TOLERANCE = 1e-6
"""Relative residual at which to stop."""

MAX_LOST_FRACTION = 0.05
"""Share of the volume that may lie in parts that do not touch the largest; such crumbs are left out."""

MAX_FLAT_FRACTION = 0.01
"""Share of the tetrahedra that may be flat; they are left out."""

FLAT = 1e-9
"""Volume, relative to the cube of the longest edge, below which a tetrahedron is flat (a regular one has 0.118)."""

_METHOD = "linear tetrahedra, nodal source, nodal average by conductivity, version 1"

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class TetraFem:
    """A meshed head with its equations ready to solve; a `trainer.efield.solver.FieldSolver`.

    Parameters
    ----------
    head : TetraHead
        The head. Air, flat tetrahedra and tissue that does not touch the largest connected part are left out. Which
        way round a tetrahedron's nodes stand does not matter.
    conductivity : mapping of int to float
        S/m by tissue tag.
    tolerance : float
        Relative residual at which a solution is good enough.

    Attributes
    ----------
    head : TetraHead
        The head.
    n_nodes : int
        Unknowns.
    assembly_s, setup_s : float
        How long the matrix and its multigrid hierarchy took, s.

    Raises
    ------
    DataError
        A tissue without conductivity, many flat tetrahedra, a mesh in several large parts, a bad tolerance, or
        scikit-fem or pyamg is not installed.
    """

    def __init__(
        self,
        head: TetraHead,
        conductivity: Mapping[int, float] = CONDUCTIVITY_S_PER_M,
        *,
        tolerance: float = TOLERANCE,
    ) -> None:
        if not 0 < tolerance < 1:
            raise DataError(f"The tolerance is {tolerance}; expected a number between 0 and 1, such as {TOLERANCE}.")
        started = time.perf_counter()
        self.head = head
        self.tolerance = tolerance
        sigma = conductivity_of(head.tag, conductivity)
        kept = _usable(head, sigma)
        self._conductivity = {tag: conductivity[tag] for tag in np.unique(head.tag[kept]).tolist()}
        self._sigma = sigma[kept]
        used, number = np.unique(head.tetrahedron[kept], return_inverse=True)
        self._tetrahedron = number.reshape(-1, 4).astype(np.int32)
        self._node_mm = head.node_mm[used]
        self.n_nodes = len(used)
        self._tree = cKDTree(self._node_mm)
        corners = (self._node_mm[self._tetrahedron[:, i]] for i in range(4))
        self._longest_mm = max(
            float(np.linalg.norm(a - b, axis=1).max()) for a, b in itertools.combinations(corners, 2)
        )
        matrix, self._slope, self._volume = _stiffness(self._node_mm, self._tetrahedron, self._sigma)
        self._prepared: tuple[Floats, Any] | None = None
        self.assembly_s = time.perf_counter() - started
        self._multigrid = Multigrid(matrix, tolerance)
        self.setup_s = self._multigrid.setup_s
        log.info(
            "Head %r: %d nodes, %d tetrahedra, assembled in %.1f s, multigrid in %.1f s.",
            head.name, self.n_nodes, len(self._tetrahedron), self.assembly_s, self.setup_s,
        )  # fmt: skip

    @property
    def description(self) -> str:
        """Method, head, number of elements and conductivities in words."""
        return (
            f"finite elements on {len(self._tetrahedron)} linear tetrahedra; head: {self.head.name}; "
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
        check_coil_outside(coil, pose, self._is_inside)
        # The mean over a tetrahedron is that of its corners, and there are five times fewer nodes than tetrahedra.
        current = dadt_at(self._node_mm, coil, pose)[self._tetrahedron].mean(axis=1)
        current *= (self._sigma * self._volume)[:, None]
        # grad psi of each of the four nodes is constant in the tetrahedron.
        source = np.zeros(self.n_nodes)
        for corner in range(4):
            part = -(current * self._slope[:, corner]).sum(axis=1)
            source += np.bincount(self._tetrahedron[:, corner], part, self.n_nodes)
        potential, iterations, residual = self._multigrid.solve(source, guess)
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
            Bad shapes, or points that lie in no conducting tetrahedron (how many is said).
        """
        points_mm = as_points(points_mm)
        if solution.potential.shape != (self.n_nodes,):
            raise DataError(
                f"The solution has {solution.potential.shape} nodes, this head {self.n_nodes}: it is another head's."
            )
        # The same points are asked for again and again, and finding their tetrahedra takes longer than the rest.
        if self._prepared is None or not np.array_equal(self._prepared[0], points_mm):
            self._prepared = (points_mm.copy(), self._gradient_operator(points_mm))
        operator = self._prepared[1]
        gradient = (operator @ solution.potential).reshape(-1, 3)
        field: Floats = -dadt_at(points_mm, solution.coil, solution.pose) - gradient
        return field

    def solve_at(self, coil: Coil, pose: Floats, points_mm: Floats) -> Floats:
        """Solve for one placement and evaluate its E-field: `field_at(points_mm, solve(coil, pose))`."""
        return self.field_at(points_mm, self.solve(coil, pose))

    def interior_points(self, n: int, seed: int) -> Floats:
        """Draw points evenly from the conductor's volume: (n, 3) float64, mm; the same seed gives the same points."""
        generator = np.random.default_rng(seed)
        chosen = generator.choice(len(self._volume), n, p=self._volume / self._volume.sum())
        # Gaps between sorted uniform numbers are even over the simplex (Devroye 1986, chapter V.2).
        cuts = np.sort(generator.random((n, 3)), axis=1)
        share = np.diff(cuts, axis=1, prepend=0.0, append=1.0)
        points: Floats = np.einsum("nc,ncx->nx", share, self._node_mm[self._tetrahedron[chosen]])
        return points

    def _is_inside(self, points_mm: Floats) -> npt.NDArray[np.bool_]:
        """Say which points lie in the conductor."""
        inside = np.zeros(len(points_mm), bool)
        # In a tetrahedron no point is farther from the nearest corner than its longest edge.
        near = np.flatnonzero(self._tree.query(points_mm)[0] <= self._longest_mm)
        inside[near] = locate(self._node_mm, self._tetrahedron, points_mm[near])[0] >= 0
        return inside

    def _gradient_operator(self, points_mm: Floats) -> Any:
        """Make the matrix (3 n, n_nodes) that takes potentials to gradients at points, in V/m per V."""
        index, share = locate(self._node_mm, self._tetrahedron, points_mm)
        refuse_outside(index < 0, points_mm, "conducting tetrahedron")
        # A node has one mean for every conductivity around it; number these pairs.
        kind = np.unique(self._sigma, return_inverse=True)[1].astype(np.int64)
        key = self._tetrahedron.astype(np.int64) * (kind.max() + 1) + kind[:, None]
        needed, pair = np.unique(key[index], return_inverse=True)
        place = np.full((kind.max() + 1) * self.n_nodes, -1, np.int32)
        place[needed] = np.arange(len(needed))
        row = place[key]
        element, corner = np.nonzero(row >= 0)
        chosen, column = np.unique(element, return_inverse=True)
        mean = sparse.csr_array(
            (self._volume[element], (row[element, corner], column)), shape=(len(needed), len(chosen))
        )
        mean = sparse.diags_array(1 / mean.sum(axis=1)) @ mean
        point = np.repeat(np.arange(len(index)), 4)
        weight = sparse.csr_array((share.ravel(), (point, pair.ravel())), shape=(len(index), len(needed)))
        slope = sparse.csr_array(
            (
                self._slope[chosen].transpose(0, 2, 1).ravel(),
                np.repeat(self._tetrahedron[chosen], 3, axis=0).ravel(),
                np.arange(0, 12 * len(chosen) + 1, 4),
            ),
            shape=(3 * len(chosen), self.n_nodes),
        )
        return sparse.kron(weight @ mean, sparse.eye_array(3), format="csr") @ slope


def _usable(head: TetraHead, sigma: Floats) -> npt.NDArray[np.bool_]:
    """Mark the tetrahedra to solve on: conducting, not flat, in the largest connected part: (T,)."""
    kept = sigma > 0
    if not kept.any():
        raise DataError(f"The head {head.name!r} has no tissue: all its tetrahedra are tagged 0 (air).")
    corner = head.node_mm[head.tetrahedron]
    edge = corner[:, 1:] - corner[:, :1]
    volume = np.abs(np.einsum("nx,nx->n", edge[:, 0], np.cross(edge[:, 1], edge[:, 2]))) / 6
    longest = np.sqrt((np.concatenate([edge, np.diff(edge, axis=1)], axis=1) ** 2).sum(axis=2).max(axis=1))
    flat = kept & (volume <= FLAT * longest**3)
    if flat.sum() > MAX_FLAT_FRACTION * kept.sum():
        raise DataError(
            f"{int(flat.sum())} of the {int(kept.sum())} tetrahedra of head {head.name!r} are flat. Is the mesh "
            "damaged, or are its coordinates rounded?"
        )
    if flat.any():
        log.warning("Head %r: %d flat tetrahedra are left out.", head.name, int(flat.sum()))
    kept &= ~flat
    part = _part_of(head.tetrahedron[kept], len(head.node_mm))
    part_volume = np.bincount(part, volume[kept])
    largest = int(part_volume.argmax())
    lost = part != largest
    if not lost.any():
        return kept
    lost_fraction = float(1 - part_volume[largest] / part_volume.sum())
    if lost_fraction > MAX_LOST_FRACTION:
        raise DataError(
            f"The mesh of head {head.name!r} lies in {len(np.unique(part))} parts that share no node; "
            f"{100 * lost_fraction:.0f} % of its volume is outside of the largest. Were the tissues meshed apart? "
            "Merge the nodes that coincide."
        )
    log.warning("Head %r: %d tetrahedra that touch nothing are left out.", head.name, int(lost.sum()))
    kept[np.flatnonzero(kept)[lost]] = False
    return kept


def _part_of(tetrahedron: npt.NDArray[Any], n_nodes: int) -> Ints:
    """Give every tetrahedron the number of its part, parts being what shares no node: (T,)."""
    start, end = np.repeat(tetrahedron[:, 0], 3), tetrahedron[:, 1:].ravel()
    graph = sparse.coo_matrix((np.ones(len(start), np.int8), (start, end)), shape=(n_nodes, n_nodes))
    part: Ints = connected_components(graph.tocsr(), directed=False)[1][tetrahedron[:, 0]]
    return part


def _stiffness(
    node_mm: Floats, tetrahedron: npt.NDArray[np.int32], sigma: Floats
) -> tuple[Any, npt.NDArray[np.float64], Floats]:
    """Assemble the matrix.

    Returns
    -------
    matrix : scipy.sparse.csr_matrix
        (n_nodes, n_nodes) float64, A/V.
    slope : numpy.ndarray
        (T, 4, 3) float64, 1/m; the shape functions' gradients.
    volume : numpy.ndarray
        (T,) float64, m^3.
    """
    try:
        import skfem
        from skfem.helpers import dot, grad
    except ImportError as error:
        raise DataError(
            "Finite elements on tetrahedra need scikit-fem, which is not installed. Install m2m-live[train]."
        ) from error
    # scikit-fem warns of arrays that are not laid out as it wants them.
    mesh = skfem.MeshTet(np.ascontiguousarray(node_mm.T * 1e-3), np.ascontiguousarray(tetrahedron.T))
    basis = skfem.Basis(mesh, skfem.ElementTetP1(), intorder=1)
    conduction = skfem.BilinearForm(lambda u, v, w: w["sigma"] * dot(grad(u), grad(v)))
    matrix = conduction.assemble(basis, sigma=np.broadcast_to(sigma[:, None], basis.dx.shape)).tocsr()
    slope = np.stack([basis.basis[corner][0].grad[:, :, 0].T for corner in range(4)], axis=1)
    return matrix, slope, basis.dx.sum(axis=1)

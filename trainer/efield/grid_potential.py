"""dA/dt of a coil at all voxels of a head, most of them by interpolation.

The sum over voxels times dipoles would take as long as solving the equations. But away from the coil A is smooth
(harmonic), so in a block of voxels it is a polynomial: A is computed at 6 x 6 x 6 Chebyshev points and interpolated.
Interpolation of degree n - 1 on a block of half-edge a errs by about (D / a + sqrt((D / a)^2 - 1))^-n if the nearest
dipole is D away from the block's centre (Trefethen 2013, Approximation Theory and Approximation Practice, theorem 8.2);
blocks that are too near for that are cut into eight.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
from numpy.polynomial.chebyshev import chebpts1, chebvander
from scipy.spatial import cKDTree

from rt_engine.field.coil import Coil, transform, vector_potential

BLOCK_EDGES = (32, 16, 8)
"""Voxels along a block's edge, from the first blocks to those that are not cut any further."""

N_NODES = 6
"""Chebyshev points along a block's edge."""

MIN_DISTANCE = 4.0
"""How far a block's centre must be from the nearest dipole, in half-edges: the error is then below 1e-4 of the block's
largest value, and two of three digits better in most blocks."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_OCTANT = np.array(list(itertools.product((0, 1), repeat=3)))


class GridPotential:
    """A grid of voxels, ready to be asked for dA/dt.

    Parameters
    ----------
    wanted : numpy.ndarray
        (nx, ny, nz) bool; the voxels that count.
    affine : numpy.ndarray
        (4, 4); index to mm; orthogonal axes, equally long.
    """

    def __init__(self, wanted: npt.NDArray[np.bool_], affine: Floats) -> None:
        self._affine = affine
        self._voxel = np.argwhere(wanted)
        largest = BLOCK_EDGES[0]
        self._wanted = np.pad(wanted, [(0, -n % largest) for n in wanted.shape])

    def dadt(self, coil: Coil, pose: Floats) -> Floats:
        """Compute dA/dt at the voxels' centres.

        Parameters
        ----------
        coil : Coil
            The coil.
        pose : numpy.ndarray
            (4, 4); coil frame to the grid's space, mm.

        Returns
        -------
        numpy.ndarray
            (n, 3) float64, V/m per A/s; for every voxel that counts, in C order.
        """
        position_mm, moment = transform(coil, pose)
        tree = cKDTree(position_mm)
        dense = np.empty((*self._wanted.shape, 3))
        edge_mm = float(np.linalg.norm(self._affine[:3, 0]))
        start = self._occupied(np.argwhere(np.ones(np.array(self._wanted.shape) // BLOCK_EDGES[0])) * BLOCK_EDGES[0], 0)
        for level, edge in enumerate(BLOCK_EDGES):
            distance_mm, _ = tree.query(self._to_mm(start + (edge - 1) / 2))
            far = distance_mm >= MIN_DISTANCE * edge / 2 * edge_mm
            node = chebpts1(N_NODES)
            index = np.stack(np.meshgrid(node, node, node, indexing="ij"), axis=-1).reshape(-1, 3) * edge / 2
            place_mm = self._to_mm((start[far][:, None] + (edge - 1) / 2 + index).reshape(-1, 3))
            values = vector_potential(place_mm, position_mm, moment).reshape(-1, N_NODES, N_NODES, N_NODES, 3)
            inside = (2 * np.arange(edge) + 1) / edge - 1
            to_voxels = chebvander(inside, N_NODES - 1) @ np.linalg.inv(chebvander(node, N_NODES - 1))
            for (i, j, k), value in zip(start[far], values, strict=True):
                for _ in range(3):  # along one axis each time, which then becomes the last but one
                    value = np.moveaxis(np.tensordot(to_voxels, value, axes=(1, 0)), 0, 2)
                dense[i : i + edge, j : j + edge, k : k + edge] = value
            if edge != BLOCK_EDGES[-1]:
                half = edge // 2
                start = self._occupied((start[~far][:, None] + half * _OCTANT).reshape(-1, 3), level + 1)
            else:
                self._fill(dense, start[~far], edge, position_mm, moment)
        return dense[tuple(self._voxel.T)]

    def _fill(self, dense: Floats, start: Ints, edge: int, position_mm: Floats, moment: Floats) -> None:
        """Compute blocks without interpolation."""
        offset = np.argwhere(np.ones((edge, edge, edge)))
        voxel = (start[:, None] + offset).reshape(-1, 3)
        voxel = voxel[self._wanted[tuple(voxel.T)]]
        dense[tuple(voxel.T)] = vector_potential(self._to_mm(voxel), position_mm, moment)

    def _occupied(self, start: Ints, level: int) -> Ints:
        """Keep the blocks that hold voxels that count."""
        edge = BLOCK_EDGES[level]
        count = [self._wanted[i : i + edge, j : j + edge, k : k + edge].any() for i, j, k in start]
        return start[np.array(count, bool)]

    def _to_mm(self, index: npt.NDArray[np.floating] | Ints) -> Floats:
        mm: Floats = index @ self._affine[:3, :3].T + self._affine[:3, 3]
        return mm

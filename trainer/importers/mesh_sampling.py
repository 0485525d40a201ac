"""From values on a mesh to values on a subject's voxels: which elements or nodes count for which voxel.

Element data: the value of the tetrahedron of white or grey matter that holds the voxel's centre; node data: linear in
that tetrahedron. A voxel in none of them (the mesh's cortex and the ribbon differ by parts of a millimetre), or a mesh
of surfaces or points only, takes the nearest value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from rt_engine.field.subject_file import Subject
from trainer.efield.head import GREY_MATTER, WHITE_MATTER
from trainer.efield.point_location import locate
from trainer.importers.field_table import check_outside
from trainer.importers.gmsh_file import GmshMesh

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

REACH_MM = {"tetrahedra": 2.0, "triangles": 4.0, "points": 4.0}
"""How far from the nearest value a voxel may be: the mesh's edge length; for a surface in mid-cortex half the ribbon
and half a voxel's diagonal more."""


@dataclass(frozen=True, eq=False)
class VoxelSampling:
    """A linear map from values to voxels.

    Attributes
    ----------
    index : numpy.ndarray
        (V, k) int64; the values that count for each voxel.
    weight : numpy.ndarray
        (V, k) float64; their shares.
    n_outside : int
        Voxels that lie farther from every value than they should.
    """

    index: Integers
    weight: Floats
    n_outside: int

    def magnitude(self, values: npt.NDArray[np.floating]) -> Floats:
        """Bring values to the voxels and take magnitudes.

        Parameters
        ----------
        values : numpy.ndarray
            (n,) magnitudes, or (n, 3) vectors.

        Returns
        -------
        numpy.ndarray
            (V,) float64; vectors are interpolated before their magnitude is taken.
        """
        if values.ndim == 1:
            return (values[self.index] * self.weight).sum(axis=1)
        return np.linalg.norm((values[self.index] * self.weight[:, :, None]).sum(axis=1), axis=1)


def sample_elements(
    subject: Subject, mesh: GmshMesh, column: Integers, kind: Literal["tetrahedra", "triangles"], path: object
) -> VoxelSampling:
    """Prepare the sampling of values on elements.

    Parameters
    ----------
    subject : Subject
        The subject.
    mesh : GmshMesh
        The mesh.
    column : numpy.ndarray
        (T,) or (F,) int64; where each element's value stands; -1 for those without one.
    kind : {"tetrahedra", "triangles"}
        Which elements.
    path : object
        The file, for messages.

    Returns
    -------
    VoxelSampling
        The map.

    Raises
    ------
    DataError
        Too many voxels lie outside of the elements.
    """
    cell = mesh.tetrahedron if kind == "tetrahedra" else mesh.triangle
    chosen = np.flatnonzero(column >= 0)
    if kind == "tetrahedra":
        brain = chosen[np.isin(mesh.tetrahedron_tag[chosen], (WHITE_MATTER, GREY_MATTER))]
        chosen = brain if len(brain) else chosen
    center_mm = mesh.node[cell[chosen]].mean(axis=1)
    index = np.full(subject.n_voxels, -1, np.int64)
    if kind == "tetrahedra":
        index, _ = locate(mesh.node, cell[chosen], subject.voxel_mm)
    index, n_outside = _with_nearest(subject, index, center_mm, REACH_MM[kind], path)
    return VoxelSampling(column[chosen[index]][:, None], np.ones((len(index), 1)), n_outside)


def sample_nodes(subject: Subject, mesh: GmshMesh, path: object) -> VoxelSampling:
    """Prepare the sampling of values on nodes; as `sample_elements`."""
    brain = np.isin(mesh.tetrahedron_tag, (WHITE_MATTER, GREY_MATTER))
    cell = mesh.tetrahedron[brain] if brain.any() else mesh.tetrahedron
    inside, share = locate(mesh.node, cell, subject.voxel_mm)
    used = np.unique(cell) if len(cell) else np.arange(len(mesh.node))
    reach_mm = REACH_MM["tetrahedra" if len(cell) else "points"]
    nearest, n_outside = _with_nearest(subject, inside, mesh.node[used], reach_mm, path)
    index = np.repeat(used[np.where(inside < 0, nearest, 0)][:, None], 4, axis=1)
    weight = np.tile([1.0, 0.0, 0.0, 0.0], (len(index), 1))
    found = inside >= 0
    if found.any():
        index[found], weight[found] = cell[inside[found]], share[found]
    return VoxelSampling(index, weight, n_outside)


def sample_points(subject: Subject, points_mm: Floats, path: object) -> VoxelSampling:
    """Prepare the sampling of values on points without a mesh, the nearest; as `sample_elements`."""
    start = np.full(subject.n_voxels, -1, np.int64)
    index, n_outside = _with_nearest(subject, start, points_mm, REACH_MM["points"], path)
    return VoxelSampling(index[:, None], np.ones((len(index), 1)), n_outside)


def _with_nearest(
    subject: Subject, index: Integers, points_mm: Floats, reach_mm: float, path: object
) -> tuple[Integers, int]:
    """Give the voxels that lie in nothing, marked -1, the nearest point; count those beyond reach."""
    distance_mm = np.zeros(len(index))
    index = index.copy()
    lost = index < 0
    if lost.any() and len(points_mm):
        distance_mm[lost], index[lost] = cKDTree(points_mm).query(subject.voxel_mm[lost])
    elif lost.any():
        distance_mm[lost] = np.inf
    return index, check_outside(subject, distance_mm, reach_mm, path, points_mm)

"""How far the solvers are from the closed form on layered spheres."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError
from rt_engine.field.coil import figure_of_eight
from rt_engine.field.sphere import sphere_field
from trainer.efield.head import TetraHead
from trainer.efield.sphere_head import SPHERE_RADII_MM, sphere_head
from trainer.efield.tetra_fem import TetraFem
from trainer.efield.voxel_fem import VoxelFem
from trainer.importers.gmsh_file import read_gmsh

INNER_MM = 70.0
"""Radius within which the sphere's inner error is taken."""

SKULL_MM = 78.0
"""Outer radius of the shell next to the skull, from `INNER_MM` to the brain's edge."""

COIL_GAP_MM = 4.0
"""Between scalp and coil: about the hair."""

N_POINTS = 4000

ORIGIN_MM = (0.0, 0.0, 0.0)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SphereErrors:
    """Vector errors |E - E_exact| / |E_exact| (both norms over all points of a region), and what they cost.

    Attributes
    ----------
    inner : float
        Within 70 mm of the centre.
    skull : float
        From there to the skull, in brain.
    solve_ms, setup_s : float
        Median time of a solve; time of assembly and multigrid.
    iterations : int
        Largest number of steps in a solve.
    n_nodes : int
        Unknowns.
    """

    inner: float
    skull: float
    solve_ms: float
    setup_s: float
    iterations: int
    n_nodes: int


def sphere_errors(resolution_mm: float, *, n_poses: int = 2, seed: int = 0) -> SphereErrors:
    """Compare the voxel solver with the closed form on the three-layer sphere.

    Points are drawn evenly from the volume, not on the grid, and the coil stands at random places with random turns.

    Parameters
    ----------
    resolution_mm : float
        Edge of a voxel, mm.
    n_poses : int
        Placements of the coil.
    seed : int
        Of points and placements.

    Returns
    -------
    SphereErrors
        Over all placements.

    Raises
    ------
    DataError
        Bad numbers, or pyamg is not installed.
    """
    generator = np.random.default_rng(seed)
    solver = VoxelFem(sphere_head(resolution_mm))
    # Next to the skull, voxels at the edge belong to it: no points there that are brain by radius only.
    shells = (points_in_shell(0.0, INNER_MM, generator), _in_brain(solver, generator))
    error, norm, times_s, iterations = np.zeros(2), np.zeros(2), [], 0
    coil = figure_of_eight()
    for _ in range(n_poses):
        pose = random_pose(SPHERE_RADII_MM[-1] + COIL_GAP_MM, generator)
        started = time.perf_counter()
        solution = solver.solve(coil, pose)
        times_s.append(time.perf_counter() - started)
        iterations = max(iterations, solution.iterations)
        for i, points_mm in enumerate(shells):
            exact = sphere_field(points_mm, coil, pose, 1.0, ORIGIN_MM)
            error[i] += ((solver.field_at(points_mm, solution) - exact) ** 2).sum()
            norm[i] += (exact**2).sum()
    inner, skull = np.sqrt(error / norm).tolist()
    return SphereErrors(
        inner=inner,
        skull=skull,
        solve_ms=float(np.median(times_s)) * 1e3,
        setup_s=solver.assembly_s + solver.setup_s,
        iterations=iterations,
        n_nodes=solver.n_nodes,
    )


def tetra_sphere_error(mesh_path: str | Path, *, n_poses: int = 3, seed: int = 0) -> float:
    """Compare the solver on tetrahedra with the closed form on a mesh of concentric spheres about the origin.

    Parameters
    ----------
    mesh_path : str or Path
        A Gmsh file in mm, tagged as SimNIBS does, e.g. its `sphere3.msh` (radii 85, 90 and 95 mm, tags 3, 4 and 5).
    n_poses : int
        Placements of the coil.
    seed : int
        Of the placements.

    Returns
    -------
    float
        Vector error in the innermost layer, at the tetrahedra's centres and weighted by their volumes.

    Raises
    ------
    DataError, FileFormatError
        The file cannot be read, holds no spheres, or a package is not installed.
    """
    mesh = read_gmsh(mesh_path)
    radius_mm = np.linalg.norm(mesh.node, axis=1)
    # In a full sphere's middle tetrahedra may miss the centre, but no layer then reaches less far out.
    reach_mm = {
        tag: radius_mm[mesh.tetrahedron[mesh.tetrahedron_tag == tag]].max() for tag in set(mesh.tetrahedron_tag)
    }
    if not reach_mm:
        raise DataError(f"{mesh_path} holds no tetrahedra; expected a mesh of concentric spheres.")
    innermost = mesh.tetrahedron[mesh.tetrahedron_tag == min(reach_mm, key=lambda tag: reach_mm[tag])]
    corner = mesh.node[innermost]
    points_mm = corner.mean(axis=1)
    weight = np.abs(np.linalg.det(corner[:, 1:] - corner[:, :1]))[:, None]
    solver = TetraFem(TetraHead(mesh.node, mesh.tetrahedron, mesh.tetrahedron_tag, "sphere", Path(mesh_path).name))
    generator = np.random.default_rng(seed)
    coil, error, norm = figure_of_eight(), 0.0, 0.0
    for _ in range(n_poses):
        pose = random_pose(max(reach_mm.values()) + COIL_GAP_MM, generator)
        exact = sphere_field(points_mm, coil, pose, 1.0, ORIGIN_MM)
        error += float((weight * (solver.solve_at(coil, pose, points_mm) - exact) ** 2).sum())
        norm += float((weight * exact**2).sum())
    return float(np.sqrt(error / norm))


def random_pose(distance_mm: float, generator: np.random.Generator) -> Floats:
    """Place a coil's face tangentially at a distance from the origin, anywhere and turned by any angle: (4, 4)."""
    axes, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    axes[:, 0] *= np.linalg.det(axes)
    pose = np.eye(4)
    pose[:3, :3] = axes
    pose[:3, 3] = -axes[:, 2] * distance_mm
    return pose


def points_in_shell(inner_mm: float, outer_mm: float, generator: np.random.Generator) -> Floats:
    """Draw points evenly from a shell about the origin: (N_POINTS, 3), mm."""
    direction = generator.normal(size=(N_POINTS, 3))
    radius_mm = np.cbrt(generator.uniform(inner_mm**3, outer_mm**3, (N_POINTS, 1)))
    points: Floats = direction / np.linalg.norm(direction, axis=1)[:, None] * radius_mm
    return points


def _in_brain(solver: VoxelFem, generator: np.random.Generator) -> Floats:
    """Draw points from the outer shell of the brain that lie in voxels of brain."""
    points_mm = points_in_shell(INNER_MM, SKULL_MM, generator)
    head = solver.head
    voxel = np.floor((points_mm - head.affine[:3, 3]) / head.resolution_mm + 0.5).astype(int)
    label = head.label[tuple(voxel.T)]
    return points_mm[label == label[np.argmin(np.linalg.norm(points_mm, axis=1))]]

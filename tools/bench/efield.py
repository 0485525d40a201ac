"""How accurate and how fast the E-field is: `m2m bench efield`.

The solvers against the closed form on spheres, and a subject's stored basis against direct solves on the head that it
was made of, for placements that the basis never saw.
"""

import re
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from rt_engine.errors import DataError
from rt_engine.field.field_basis import FieldBasis
from rt_engine.field.reduced_basis import ReducedBasis
from rt_engine.field.subject_file import Subject
from trainer.efield.accuracy import sphere_errors, tetra_sphere_error
from trainer.efield.coverage import CANDIDATE_SEED, Coverage, covered_poses
from trainer.efield.solver import FieldSolver
from trainer.efield.sphere_solver import SphereSolver

Told = Callable[[str, int, int], None]
"""Called with the stage's name, what is done of it and what there is of it."""

Floats = NDArray[np.float64]

AWAY_MM = 50.0
"""A coil this far from every covered place must be refused."""

SPHERE_POSES = 5

TIMED_ROUNDS = 5
"""How often every placement is evaluated for the time."""


class EfieldFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the bench measures; JSON keys as other programs read them. Errors are fractions, of vectors."""

    sphere_inner_error: float
    """Voxel solver on the three-layer sphere, within 70 mm of its centre."""
    sphere_skull_error: float
    """The same from there to the skull."""
    sphere3_error: float | None
    """Solver on tetrahedra, innermost layer, weighted by volume; null where there is no mesh."""
    resolution_mm: float
    """Voxels of that sphere."""
    basis_rank: int
    basis_components: int
    """Fields that are stored after compression."""
    basis_mean_error: float
    """Over the unseen placements, |E - E_direct| / |E_direct| over all voxels of BA4."""
    basis_max_error: float
    basis_mean_residual: float
    basis_max_residual: float
    residual_limit: float
    error_per_residual: float
    """Largest quotient of the two over the placements: how the residual predicts the error."""
    placements: int
    covered_refused: int
    """Unseen placements in the covered area that were refused; left out of the errors."""
    away_refused: float
    """Share of the placements that are refused when the coil is 5 cm away from all covered places."""
    pose_ms: float
    """Median time of one placement in the basis, on one core."""
    solve_ms: float
    """Median time of one direct solve, with its field on the voxels."""
    solve_per_pose: float
    """How many placements take as long as one solve."""
    method: str
    """How the basis was solved."""


def measure_efield(
    subject: Subject,
    solver: FieldSolver,
    *,
    placements: int,
    resolution_mm: float,
    seed: int,
    sphere_mesh: Path | None,
    told: Told,
) -> EfieldFigures:
    """Measure solvers and basis.

    Parameters
    ----------
    subject
        With the basis to be measured.
    solver
        The head that it was made of (`solver_of`).
    placements
        Unseen placements; each is solved directly.
    resolution_mm
        Voxels of the sphere.
    seed
        Of the unseen placements.
    sphere_mesh
        Mesh of concentric spheres, or None.
    told
        Told of the progress.

    Returns
    -------
    EfieldFigures

    Raises
    ------
    DataError
        The subject has no basis, all placements are refused, or a solver refuses its input.
    """
    basis = basis_of(subject)
    told("sphere, voxels", 0, 1)
    sphere = sphere_errors(resolution_mm, n_poses=SPHERE_POSES)
    told("sphere, tetrahedra", 0, 1)
    sphere3 = None if sphere_mesh is None else tetra_sphere_error(sphere_mesh)

    ready = FieldBasis(basis)
    poses = unseen_poses(subject, basis, placements, seed)
    points_mm = subject.voxel_mm
    error, residual, solve_s, pose_s = [], [], [], []
    # One core, whatever the machine has: so that the two times can be compared.
    with threadpool_limits(1):
        for row, pose in enumerate(poses):
            told("direct solves", row, placements)
            if ready.fields(pose[None], 1.0).refused[0]:
                continue
            begin = time.perf_counter()
            exact = solver.solve_at(basis.coil, pose, points_mm)
            solve_s.append(time.perf_counter() - begin)
            found = ready.field(pose, 1.0)
            error.append(float(np.linalg.norm(found.field_v_per_m - exact) / np.linalg.norm(exact)))
            residual.append(found.residual)
        for pose in np.repeat(poses, TIMED_ROUNDS, axis=0):
            begin = time.perf_counter()
            np.asarray(ready.fields(pose[None], 1.0).magnitude_v_per_m)
            pose_s.append(time.perf_counter() - begin)
    told("direct solves", placements, placements)
    if not error:
        raise DataError(
            f"All of {placements} placements in the covered area are refused: the basis of {subject.name!r} does not "
            "cover what it was made for. Build it with a higher rank."
        )
    away = ready.fields(np.stack([moved_away(basis, pose) for pose in poses]), 1.0)
    pose_ms, solve_ms = 1e3 * float(np.median(pose_s)), 1e3 * float(np.median(solve_s))
    return EfieldFigures(
        sphere_inner_error=sphere.inner,
        sphere_skull_error=sphere.skull,
        sphere3_error=sphere3,
        resolution_mm=resolution_mm,
        basis_rank=basis.rank,
        basis_components=basis.n_components,
        basis_mean_error=float(np.mean(error)),
        basis_max_error=float(np.max(error)),
        basis_mean_residual=float(np.mean(residual)),
        basis_max_residual=float(np.max(residual)),
        residual_limit=basis.residual_limit,
        error_per_residual=float((np.array(error) / np.array(residual)).max()),
        placements=placements,
        covered_refused=placements - len(error),
        away_refused=float(away.refused.mean()),
        pose_ms=pose_ms,
        solve_ms=solve_ms,
        solve_per_pose=solve_ms / pose_ms,
        method=basis.method,
    )


def basis_of(subject: Subject) -> ReducedBasis:
    """Return the subject's basis.

    Raises
    ------
    DataError
        It has none.
    """
    if subject.basis is None:
        raise DataError(f"The subject {subject.name!r} has no E-field basis; make one with `m2m subject build`.")
    return subject.basis


def unseen_poses(subject: Subject, basis: ReducedBasis, n: int, seed: int) -> Floats:
    """Draw placements from the area that a basis covers, none of which it was chosen from.

    The area is read off the covered places; handle angle, tilt and gap are those of the usual coverage.

    Parameters
    ----------
    subject, basis
        Whose.
    n
        How many.
    seed
        The candidates' own seed is moved out of the way.

    Returns
    -------
    numpy.ndarray
        (n, 4, 4) float64, mm.
    """
    outward = basis.covered_mm - subject.sphere_center_mm
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    middle = outward.mean(axis=0)
    angle = np.arccos(np.clip(outward @ middle / np.linalg.norm(middle), -1.0, 1.0)).max()
    radius_mm = min(Coverage().radius_mm, float(angle * subject.scalp_radius_mm))
    return covered_poses(
        subject,
        n,
        seed=seed if seed != CANDIDATE_SEED else 2**32 - 1,
        target_mm=subject.sphere_center_mm + 50.0 * middle,
        coverage=Coverage(radius_mm=radius_mm),
    )


def moved_away(basis: ReducedBasis, pose: Floats) -> Floats:
    """Move a coil outwards from the middle of the covered places until it is 5 cm away from all of them.

    Parameters
    ----------
    basis
        What is covered.
    pose
        (4, 4), mm.

    Returns
    -------
    numpy.ndarray
        (4, 4), mm: sideways for a coil at the edge of the area, up for one in its middle.
    """
    way = pose[:3, 3] - basis.covered_mm.mean(axis=0)
    way /= np.linalg.norm(way)
    moved = pose.copy()
    while np.linalg.norm(basis.covered_mm - moved[:3, 3], axis=1).min() < AWAY_MM:
        moved[:3, 3] += way
    return moved


def solver_of(subject: Subject, cache: Path) -> FieldSolver:
    """Make the solver again that a subject's basis was made with.

    Parameters
    ----------
    subject
        With a basis on the default head, or on a sphere.
    cache
        Folder that keeps heads, as `m2m subject build` uses it.

    Returns
    -------
    FieldSolver

    Raises
    ------
    DataError
        No basis, or one of another head, other conductivities or another version of the solver.
    """
    basis = basis_of(subject)
    solver: FieldSolver
    voxels = re.search(r"on (\d+) mm voxels", basis.method)
    if basis.method.startswith("closed form"):
        solver = SphereSolver(subject.sphere_center_mm, subject.scalp_radius_mm)
    elif voxels is not None:
        from trainer.efield.voxel_fem import VoxelFem
        from trainer.head_models.build import Cache, default_recipe

        solver = VoxelFem(Cache(cache).head(default_recipe(), int(voxels[1])))
    else:
        raise DataError(
            f"The basis of {subject.name!r} was made with: {basis.method}. Only heads of voxels of 1 or 2 mm and "
            "spheres can be made again here."
        )
    if solver.content_hash() not in basis.method:
        raise DataError(
            f"The basis of {subject.name!r} was not made of what is here now. Stored: {basis.method}. Here: "
            f"{solver.description}; content {solver.content_hash()}. Only the default head can be made again; if this "
            "is it, then its data, the conductivities or the solver changed: run `m2m subject build`."
        )
    return solver

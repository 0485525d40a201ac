"""A subject small enough to make in milliseconds: a sphere with a reduced basis of its closed-form fields."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rt_engine.field.coil import figure_of_eight
from rt_engine.field.reduced_basis import ReducedBasis
from rt_engine.field.sphere import SphereField
from rt_engine.field.subject_file import Subject, write_subject

SCALP_MM = 85.0
SPACE = "scanner of the small head, RAS"


def place(x_deg: float, y_deg: float, turn_deg: float = 0.0) -> NDArray[np.float64]:
    """Put the coil on the sphere, tilted from the vertex to the left and forward, turned about its axis."""
    a, b, c = np.radians([x_deg, y_deg, turn_deg])
    outward = np.array([-np.sin(a), np.sin(b) * np.cos(a), np.cos(b) * np.cos(a)])
    forward = np.array([0.0, 1, 0]) - outward * outward[1]
    forward /= np.linalg.norm(forward)
    side = np.cross(forward, -outward)
    pose = np.eye(4)
    pose[:3, 1] = np.cos(c) * forward + np.sin(c) * side
    pose[:3, 2] = -outward
    pose[:3, 0] = np.cross(pose[:3, 1], pose[:3, 2])
    pose[:3, 3] = (SCALP_MM + 4) * outward
    return pose


def make_head(*, basis: bool = True) -> Subject:
    """Make it: 27 voxels near the vertex' left."""
    affine = np.eye(4)
    affine[:3, 3] = (-40, -10, 50)
    voxel = np.argwhere(np.ones((3, 3, 3), bool)).astype(np.int16) * 4
    return Subject(
        name="small head",
        space=SPACE,
        hemisphere="left",
        box_shape=(16, 16, 16),
        affine=affine,
        voxel=voxel,
        vertices=np.array([[-40, -10, 60], [-30, -10, 60], [-40, 0, 60]], np.float32),
        triangles=np.array([[0, 1, 2]], np.int32),
        sphere_center_mm=np.zeros(3),
        scalp_radius_mm=SCALP_MM,
        notices="none",
        basis=make_basis(voxel @ affine[:3, :3].T + affine[:3, 3]) if basis else None,
    )


def make_basis(voxel_mm: NDArray[np.float64]) -> ReducedBasis:
    """Take the sphere's fields of 60 placements as they are."""
    coil = figure_of_eight(n_rings=2)
    pose = np.array(
        [place(x, y, turn) for x in (15, 25, 35, 45, 55) for y in (-20, -10, 0, 10) for turn in (-30.0, 10.0, 50.0)]
    )
    rng = np.random.default_rng(0)
    sample = rng.normal(size=(400, 3))
    sample *= 66 * rng.uniform(0.5, 1, (400, 1)) / np.linalg.norm(sample, axis=1, keepdims=True)
    sphere = SphereField(voxel_mm, np.zeros(3))
    fields = np.array([sphere.field(coil, each, 1.0) for each in pose])
    scale = np.abs(fields).max(axis=(1, 2))
    return ReducedBasis(
        coil=coil,
        skeleton_pose=pose,
        sample_mm=sample,
        mixing=np.eye(len(pose), dtype=np.float32),
        components=(fields / scale[:, None, None]).astype(np.float32),
        scale=scale.astype(np.float32),
        residual_limit=0.2,
        covered_mm=pose[:, :3, 3].astype(np.float32),
        covered_radius_mm=15.0,
        method="closed form of a sphere, for tests",
    )


def write_head(folder: Path, *, basis: bool = True) -> Path:
    """Write it; return where."""
    write_subject(folder / "small.subject.h5", make_head(basis=basis))
    return folder / "small.subject.h5"

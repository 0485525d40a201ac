"""A small subject and a small data set, complete in every part."""

from dataclasses import replace

import numpy as np
import pytest

from rt_engine.field.coil import figure_of_eight
from rt_engine.field.stimulation_file import StimulationSet, Truth
from rt_engine.field.subject_file import MNI_RAS, Subject
from rt_engine.field.surface import Surface
from trainer.efield.build_basis import build_basis
from trainer.efield.coverage import Coverage, covered_poses
from trainer.efield.sphere_solver import SphereSolver


@pytest.fixture(scope="session")
def subject() -> Subject:
    rng = np.random.default_rng(1)
    affine = np.eye(4)
    affine[:3, 3] = (-66, -46, 14)
    return Subject(
        name="test",
        space=MNI_RAS,
        hemisphere="left",
        box_shape=(6, 5, 7),
        affine=affine,
        voxel=np.argwhere(rng.random((6, 5, 7)) < 0.3).astype(np.int16),
        vertices=rng.normal(size=(9, 3)).astype(np.float32),
        triangles=rng.integers(0, 9, (12, 3)).astype(np.int32),
        sphere_center_mm=np.array([-1.0, -24.0, 11.0]),
        scalp_radius_mm=110.0,
        notices="Nobody's brain. Ünïcode too.",
    )


@pytest.fixture(scope="session")
def stimulations(subject: Subject) -> StimulationSet:
    rng = np.random.default_rng(2)
    n, m, n_voxels = 4, 3, subject.n_voxels
    pose = np.tile(np.eye(4), (n, 1, 1))
    pose[:, :3, 3] = rng.normal(size=(n, 3))
    pose[1] = np.nan
    mep_uv = rng.gamma(1.0, 300.0, (n, m)).astype(np.float32)
    status = np.zeros((n, m), np.uint16)
    mep_uv[2, 1], status[2, 1] = np.nan, 16
    return StimulationSet(
        muscles=("FDI", "ADM", "muscle no. 3"),
        mep_uv=mep_uv,
        status=status,
        field_v_per_m=rng.gamma(2.0, 30.0, (n, n_voxels)).astype(np.float32),
        voxel=subject.voxel,
        affine=subject.affine,
        box_shape=subject.box_shape,
        pose=pose,
        intensity_percent_rmt=np.array([100, 120, np.nan, 110], np.float32),
        intensity_percent_mso=np.array([40, 48, 50, 44], np.float32),
        t_pulse=np.array([1.0, 6.0, np.nan, 16.0]),
        source="simulated",
        subject_sha256="0" * 63 + "a",
        truth=Truth(
            pulse_sample=np.array([2000, 12000, 22000, -1]),
            mep_sent_uv=rng.gamma(1.0, 300.0, (n, m)),
            mep_noise_free_uv=rng.gamma(1.0, 300.0, (n, m)),
            pushed_at=np.array([1.1, 6.1, np.nan, np.nan]),
        ),
    )


@pytest.fixture(scope="session")
def with_basis(subject: Subject) -> Subject:
    """Return the subject with a scalp, and a basis of 80 placements on its sphere, up to 25 mm from over its voxels."""
    solver = SphereSolver(subject.sphere_center_mm, subject.scalp_radius_mm)
    coverage = Coverage(radius_mm=25.0, rotation_deg=60.0, tilt_deg=5.0, gap_mm=(0.0, 6.0))
    candidates = covered_poses(subject, 400, seed=1, coverage=coverage)
    basis = build_basis(solver, figure_of_eight(), candidates, subject.voxel_mm, 80)
    corner = np.array([[120.0, 0, 0], [-120, 0, 0], [0, 120, 0], [0, -120, 0], [0, 0, 120], [0, 0, -120]], np.float32)
    octahedron = np.array(
        [[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]], np.int32
    )
    return replace(subject, basis=basis, scalp=Surface(corner, octahedron))

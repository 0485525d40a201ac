"""A small subject and a small data set, complete in every part."""

import numpy as np
import pytest

from rt_engine.field.stimulation_file import StimulationSet, Truth
from rt_engine.field.subject_file import MNI_RAS, Subject


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

"""A small data set of smooth random fields and the amplitudes they cause, made in milliseconds."""

from dataclasses import replace

import numpy as np
import pytest

from rt_engine.field.stimulation_file import StimulationSet
from trainer.fitting import Baseline, fit_baseline
from trainer.preprocessing import TrainingSet, prepare

MUSCLES = ("FDI", "ADM", "EDC", "FCR", "BRD")


def make_stimulations(n: int = 160, seed: int = 0) -> StimulationSet:
    """Bumps that move over a slab of voxels; each muscle answers to the field near its own spot."""
    rng = np.random.default_rng(seed)
    box_shape = (12, 10, 8)
    voxel = np.argwhere(np.ones(box_shape, bool) & (np.arange(8) < 4)).astype(np.int16)
    affine = np.array([[1.0, 0, 0, -40], [0, 1, 0, -20], [0, 0, 1, 50], [0, 0, 0, 1]])
    mm = voxel @ affine[:3, :3].T + affine[:3, 3]
    level = rng.choice([110.0, 120.0, 130.0, 140.0], n)
    center = mm[rng.integers(len(mm), size=n)] + rng.normal(0, 0.5, (n, 3))
    distance = ((mm[None] - center[:, None]) ** 2).sum(axis=2)
    field = level[:, None] * (0.2 + np.exp(-distance / 40.0))
    spots = mm[np.random.default_rng(99).integers(len(mm), size=len(MUSCLES))]  # one subject, whatever the seed
    weight = np.exp(-((mm[None] - spots[:, None]) ** 2).sum(axis=2) / 8.0)
    drive = field @ (weight / weight.sum(axis=1, keepdims=True)).T
    log10_uv = 3.3 / (1 + np.exp(-(drive - 90) / 12)) + rng.normal(0, 0.08, drive.shape)
    mep = (10**log10_uv + rng.uniform(5, 12, drive.shape)).astype(np.float32)
    pose = np.tile(np.eye(4), (n, 1, 1))
    pose[:, :3, 3] = center + (0, 0, 20)
    return StimulationSet(
        muscles=MUSCLES,
        mep_uv=mep,
        status=(mep < 50).astype(np.uint16),
        field_v_per_m=field.astype(np.float32),
        voxel=voxel,
        affine=affine,
        box_shape=box_shape,
        pose=pose,
        intensity_percent_rmt=level.astype(np.float32),
        intensity_percent_mso=(level * 0.45).astype(np.float32),
        t_pulse=np.full(n, np.nan),
        source="smooth random fields of the tests",
        subject_sha256="",
    )


@pytest.fixture(scope="session")
def stimulations() -> StimulationSet:
    return make_stimulations()


@pytest.fixture(scope="session")
def training(stimulations: StimulationSet) -> TrainingSet:
    return prepare(stimulations, floor_uv=5.0)


@pytest.fixture(scope="session", params=["kernel-ridge", "ridge"])
def baseline(request: pytest.FixtureRequest, training: TrainingSet) -> Baseline:
    return fit_baseline(training, request.param)


@pytest.fixture(scope="session")
def incomplete(stimulations: StimulationSet) -> StimulationSet:
    """Return the same with 5 % of the amplitudes missing."""
    missing = np.random.default_rng(1).random(stimulations.mep_uv.shape) < 0.05
    return replace(
        stimulations,
        mep_uv=np.where(missing, np.float32(np.nan), stimulations.mep_uv),
        status=np.where(missing, np.uint16(16), stimulations.status),
    )


@pytest.fixture(scope="session")
def fresh(training: TrainingSet) -> TrainingSet:
    """Return new stimulations of the same subject, on the scale of `training`."""
    new = prepare(make_stimulations(200, seed=7), floor_uv=5.0)
    scale = training.field_scale_v_per_m
    return replace(new, field=new.field * new.field_scale_v_per_m / scale, field_scale_v_per_m=scale)

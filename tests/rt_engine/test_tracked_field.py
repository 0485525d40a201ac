"""The tracked coil's own E-field: the subject's basis at the coil's pose, beside the estimate; or why there is none."""

import os
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rt_engine.companions import CoilPose, StimulatorIntensity
from rt_engine.cortical_map import CorticalMap
from rt_engine.engine_setup import model_parts
from rt_engine.errors import SettingsError
from rt_engine.field.field_basis import FieldBasis
from rt_engine.field.subject_file import Subject, read_subject
from rt_engine.model_file import ModelInfo, read_model_info
from rt_engine.settings import Settings
from rt_engine.tracked_field import KEPT, TrackedField, make_tracked_field
from tests.conftest import ROOT
from trainer.metrics import center_of_gravity, nrmse

DEMO = Path(str(files("configs") / "demo"))
SCALE_V_PER_M = 120.0
AT_RMT = StimulatorIntensity(0.0, 50.0)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return read_subject(DEMO / "default.subject.h5")


@pytest.fixture(scope="module")
def info() -> ModelInfo:
    return read_model_info(DEMO / "kernel-ridge.onnx")


@pytest.fixture(scope="module")
def tracked(subject: Subject, info: ModelInfo) -> TrackedField:
    return make_tracked_field(subject, info)


def _pose(subject: Subject, k: int = 0, **changes: Any) -> CoilPose:
    return replace(CoilPose(1.0, subject.basis.skeleton_pose[k]), **changes)


def _map(field: np.ndarray, voxel_mm: np.ndarray) -> CorticalMap:
    return CorticalMap(
        field=field.astype(np.float32),
        spread=np.zeros(len(field), dtype=np.float32),
        cog_mm=center_of_gravity(field[None], voxel_mm)[0],
        cog_cov_mm2=np.eye(3),
        mep_normalised=np.zeros(15, dtype=np.float32),
        scale_v_per_m=SCALE_V_PER_M,
    )


def test_the_field_is_the_basis_at_the_coils_pose_and_the_stimulators_output(
    subject: Subject, tracked: TrackedField
) -> None:
    found = tracked.field_of(_pose(subject, 3), StimulatorIntensity(0.0, 63.0))
    expected = FieldBasis(subject.basis).field(subject.basis.skeleton_pose[3], 0.63 * 171e6)
    np.testing.assert_array_equal(found.field_v_per_m, expected.magnitude_v_per_m)
    assert found.field_v_per_m.dtype == np.float32
    assert (found.residual, found.reason) == (expected.residual, "")


def test_a_stimulator_of_its_own_gives_its_own_field(subject: Subject, info: ModelInfo, tracked: TrackedField) -> None:
    weaker = make_tracked_field(subject, info, max_didt_a_per_us=171.0 / 2.0)
    pose = _pose(subject)
    strong, weak = (each.field_of(pose, AT_RMT).field_v_per_m for each in (tracked, weaker))
    np.testing.assert_allclose(weak, strong / 2.0, rtol=1e-5)


def test_a_stimulator_that_tells_its_didt_is_believed_unless_the_settings_say_otherwise(
    subject: Subject, info: ModelInfo, tracked: TrackedField
) -> None:
    told = replace(AT_RMT, didt_a_per_us=60.0)
    basis, pose = FieldBasis(subject.basis), _pose(subject)
    found = tracked.field_of(pose, told).field_v_per_m
    np.testing.assert_array_equal(found, basis.field(pose.matrix, 60e6).magnitude_v_per_m)
    chosen = make_tracked_field(subject, info, max_didt_a_per_us=100.0).field_of(pose, told).field_v_per_m
    np.testing.assert_array_equal(chosen, basis.field(pose.matrix, 50e6).magnitude_v_per_m)
    assert not np.array_equal(tracked.field_of(pose, AT_RMT).field_v_per_m, found), "the same output, told and not"


def test_prepared_or_not_the_bits_are_the_same_and_nothing_is_computed_twice(subject: Subject, info: ModelInfo) -> None:
    asked, prepared = make_tracked_field(subject, info), make_tracked_field(subject, info)
    poses = [_pose(subject, k) for k in range(KEPT + 3)]
    assert all(prepared.prepare(pose, AT_RMT) for pose in poses)
    assert not prepared.prepare(poses[-1], AT_RMT)
    assert prepared.prepare(poses[-1], StimulatorIntensity(0.0, 51.0)), "another output is another field"
    assert prepared.prepare(poses[0], AT_RMT), "only the last few are kept"
    for pose in reversed(poses):
        one, other = asked.field_of(pose, AT_RMT), prepared.field_of(pose, AT_RMT)
        np.testing.assert_array_equal(one.field_v_per_m, other.field_v_per_m)
        assert one.residual == other.residual


def test_what_is_handed_out_cannot_be_changed_by_whoever_gets_it(subject: Subject, tracked: TrackedField) -> None:
    with pytest.raises(ValueError, match="read-only"):
        tracked.field_of(_pose(subject), AT_RMT).field_v_per_m[0] = 0.0


def _lifted(pose: CoilPose, mm: float) -> CoilPose:
    matrix = pose.matrix.copy()
    matrix[:3, 3] -= mm * matrix[:3, 2]
    return replace(pose, matrix=matrix)


@pytest.mark.parametrize(
    ("change", "intensity", "reason"),
    [
        (lambda pose: None, AT_RMT, "no_pose"),
        (lambda pose: replace(pose, tracked=False), AT_RMT, "not_tracked"),
        (lambda pose: replace(pose, matrix=2.0 * pose.matrix), AT_RMT, "bad_pose"),
        (lambda pose: replace(pose, matrix=np.full((4, 4), np.nan)), AT_RMT, "bad_pose"),
        (lambda pose: _lifted(pose, 80.0), AT_RMT, "not_covered"),
        (lambda pose: pose, None, "no_intensity"),
        (lambda pose: pose, StimulatorIntensity(0.0, 0.0), "no_intensity"),
        (lambda pose: pose, StimulatorIntensity(0.0, float("nan")), "no_intensity"),
        (lambda pose: pose, StimulatorIntensity(0.0, float("inf")), "no_intensity"),
    ],
)
def test_where_there_is_no_field_there_is_a_reason(
    change: Any, intensity: StimulatorIntensity | None, reason: str, subject: Subject, info: ModelInfo
) -> None:
    tracked = make_tracked_field(subject, info)
    pose = change(_pose(subject))
    beside = tracked.beside(_map(np.ones(info.n_voxels), info.voxel_mm), pose, intensity)
    for found in (tracked.field_of(pose, intensity), beside):
        assert (found.field_v_per_m, found.agreement, found.reason) == (None, None, reason)
        assert (found.residual is not None) == (reason == "not_covered")
    if found.residual is not None:
        assert found.residual > 0.0


def test_the_agreement_is_that_of_the_articles_measures(
    subject: Subject, info: ModelInfo, tracked: TrackedField
) -> None:
    pose = _pose(subject, 7)
    computed = tracked.field_of(pose, AT_RMT).field_v_per_m.astype(np.float64)
    rng = np.random.default_rng(1)
    estimate = _map(np.clip(computed / 200.0 + rng.normal(0.0, 0.1, len(computed)), 0.0, 1.0), info.voxel_mm)
    found = tracked.beside(estimate, pose, AT_RMT).agreement
    estimated = estimate.field.astype(np.float64) * SCALE_V_PER_M
    assert found.correlation == pytest.approx(np.corrcoef(estimated, computed)[0, 1], abs=1e-4)
    assert found.nrmse == pytest.approx(nrmse(computed[None], estimated[None])[0], rel=1e-4)
    cogs = center_of_gravity(np.stack([computed, estimated]), info.voxel_mm)
    assert found.cog_distance_mm == pytest.approx(np.linalg.norm(cogs[0] - cogs[1]), abs=1e-3)


def test_the_computed_field_agrees_with_itself(subject: Subject, info: ModelInfo, tracked: TrackedField) -> None:
    pose = _pose(subject, 9)
    computed = tracked.field_of(pose, AT_RMT).field_v_per_m
    found = tracked.beside(_map(computed / np.float32(SCALE_V_PER_M), info.voxel_mm), pose, AT_RMT).agreement
    assert found.correlation == pytest.approx(1.0, abs=1e-4)
    assert found.nrmse < 1e-5
    assert found.cog_distance_mm < 1e-3


@pytest.mark.parametrize("value", [0.0, 0.4])
def test_an_estimate_that_is_one_value_everywhere_has_no_correlation(
    value: float, subject: Subject, info: ModelInfo, tracked: TrackedField
) -> None:
    flat = replace(_map(np.ones(info.n_voxels), info.voxel_mm), field=np.full(info.n_voxels, value, dtype=np.float32))
    found = tracked.beside(flat, _pose(subject), AT_RMT).agreement
    assert found.correlation is None
    assert np.isfinite([found.nrmse, found.cog_distance_mm]).all()


def test_a_subject_without_basis_and_none_at_all_say_so(subject: Subject, info: ModelInfo) -> None:
    for without in (None, replace(subject, basis=None)):
        tracked = make_tracked_field(without, info)
        assert (tracked.off, tracked.notice) == ("no_basis", None)
        assert not tracked.prepare(_pose(subject), AT_RMT)
        assert tracked.field_of(_pose(subject), AT_RMT).reason == "no_basis"


@pytest.mark.parametrize("kept", [slice(1, None), slice(None, None, -1)])
def test_a_model_of_other_voxels_switches_it_off_and_says_so_once(
    kept: slice, subject: Subject, info: ModelInfo
) -> None:
    tracked = make_tracked_field(subject, replace(info, voxel=info.voxel[kept]))
    assert tracked.off == "other_voxels"
    assert "not those of the subject" in tracked.notice
    assert tracked.field_of(_pose(subject), AT_RMT).reason == "other_voxels"


def test_the_same_voxels_in_a_shifted_box_are_the_same(subject: Subject, info: ModelInfo) -> None:
    affine = info.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ np.ones(3)
    shifted = replace(info, voxel=info.voxel + np.int16(1), affine=affine)
    assert make_tracked_field(subject, shifted).off == ""


def test_another_coil_than_the_basis_is_of_is_an_error(subject: Subject, info: ModelInfo) -> None:
    assert make_tracked_field(subject, info, coil=subject.basis.coil.name).off == ""
    with pytest.raises(SettingsError, match=r"coil.name is 'round', .* is of the coil 'figure of eight, 70 mm'"):
        make_tracked_field(subject, info, coil="round")


DIGEST = """
import hashlib, sys
import numpy as np
from rt_engine.companions import CoilPose, StimulatorIntensity
from rt_engine.field.subject_file import read_subject
from rt_engine.model_file import open_model
from rt_engine.tracked_field import make_tracked_field
from tests.rt_engine.test_tracked_field import DEMO, _map

subject, info = read_subject(DEMO / "default.subject.h5"), open_model(DEMO / "kernel-ridge.onnx", provider="cpu").info
tracked, digest = make_tracked_field(subject, info), hashlib.sha256()
estimate = _map(np.linspace(0.0, 1.0, info.n_voxels), info.voxel_mm)
for k in range(20):
    found = tracked.beside(estimate, CoilPose(0.0, subject.basis.skeleton_pose[k]), StimulatorIntensity(0.0, 50.0 + k))
    digest.update(found.field_v_per_m.tobytes() + repr((found.residual, found.agreement)).encode())
sys.stdout.write(digest.hexdigest())
"""


def test_the_bits_do_not_depend_on_the_number_of_threads() -> None:
    told = {
        subprocess.run(
            [sys.executable, "-c", DIGEST],
            cwd=ROOT,
            env=os.environ | {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2")
    }
    assert len(told) == 1
    assert len(told.pop()) == 64


def test_the_user_is_told_once_why_it_is_off(
    subject: Subject, info: ModelInfo, caplog: pytest.LogCaptureFixture
) -> None:
    other = SimpleNamespace(info=replace(info, voxel=info.voxel[1:]))
    _, tracked = model_parts(Settings(), other, subject, info.muscles)
    assert [record.message for record in caplog.records] == [tracked.notice]

"""What subscribers are told of a result is what the engine found, and always a message that can be read."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rt_engine.channels import match_channels
from rt_engine.companions import CoilPose, StimulatorIntensity
from rt_engine.engine import PulseResult
from rt_engine.field.subject_file import Subject
from rt_engine.mep import MepCriteria
from rt_engine.messages import Header, decode, encode
from rt_engine.model_file import ModelInfo
from rt_engine.result_messages import geometry_message, map_message, session_message, trial_message
from rt_engine.trial_assembler import SweepSettings

MUSCLES = ("FDI", "ADM", "ECR")
V = 5


def _sent(header: Header, arrays: Any = None) -> tuple[Any, dict[str, np.ndarray]]:
    return decode(encode(header, arrays))


@pytest.fixture(scope="module")
def valid(emg: Callable[..., Any], new_engine: Callable[..., Any]) -> PulseResult:
    engine = new_engine()
    engine.feed_pose(CoilPose(5000.4, np.arange(16.0).reshape(4, 4)))
    engine.feed_intensity(StimulatorIntensity(4999.0, 62.0))
    stream = emg(2000, [1000])
    stream.samples[1060, 2] = np.nan
    (result,) = engine.feed_samples(stream.block(0, 2000))
    result.stages_us["infer"] = 12.5
    return result


@pytest.fixture(scope="module")
def invalid(emg: Callable[..., Any], new_engine: Callable[..., Any]) -> PulseResult:
    (result,) = new_engine().feed_samples(emg(4000, [2010], gaps=[(2000, 1.0)]).block(0, 4000))
    return result


def test_a_valid_trial_is_told_whole(valid: PulseResult) -> None:
    header, arrays = _sent(*trial_message(valid, 3))
    assert (header.pulse, header.valid, header.reasons) == (0, True, [])
    assert header.status == ["OK", "OK", "SAMPLES_MISSING"]
    assert header.t_pulse == valid.trial.t
    assert header.t_pulse_raw == valid.trial.t_raw
    assert header.t_uncertainty == valid.trial.t_uncertainty
    assert header.trigger_source == "ttl"
    assert header.sweep_start_ms == pytest.approx(-100.0)
    assert header.stages_us == {"infer": 12.5}
    assert header.confidence == "low"
    assert header.confidence_reasons == ["samples_missing:ECR", "early_stamps"]
    assert (header.pose_tracked, header.intensity_percent_mso) == (True, 62.0)
    np.testing.assert_array_equal(arrays["sweep_uv"], valid.trial.sweep_uv.astype(np.float32))
    np.testing.assert_array_equal(arrays["mep_uv"], valid.meps.amplitude_uv)
    np.testing.assert_array_equal(arrays["peak_ms"], valid.meps.peak_ms)
    np.testing.assert_array_equal(arrays["onset_ms"], valid.meps.onset_ms)
    np.testing.assert_array_equal(arrays["baseline_rms_uv"], valid.meps.baseline_rms_uv)
    np.testing.assert_array_equal(arrays["control_uv"], valid.meps.control_uv)
    np.testing.assert_array_equal(arrays["pose"], valid.trial.pose.matrix)


def test_arrays_have_the_types_shapes_and_units_that_the_documentation_states(valid: PulseResult) -> None:
    header, arrays = _sent(*trial_message(valid, 3))
    expected = {
        "sweep_uv": ("<f4", (3, 301), "uV"),
        "mep_uv": ("<f4", (3,), "uV"),
        "onset_ms": ("<f4", (3,), "ms"),
        "peak_ms": ("<f4", (3, 2), "ms"),
        "baseline_rms_uv": ("<f4", (3,), "uV"),
        "control_uv": ("<f4", (3,), "uV"),
        "pose": ("<f8", (4, 4), "mm"),
    }
    assert {s.name: (s.dtype, arrays[s.name].shape, s.unit) for s in header.arrays} == expected
    header, arrays = _sent(*map_message(valid))
    expected = {
        "field": ("<f4", (V,), "1"),
        "spread": ("<f4", (V,), "1"),
        "cog_mm": ("<f8", (3,), "mm"),
        "cog_cov_mm2": ("<f8", (3, 3), "mm^2"),
        "mep_normalised": ("<f4", (3,), "1"),
    }
    assert {s.name: (s.dtype, arrays[s.name].shape, s.unit) for s in header.arrays} == expected


def test_a_map_is_told_whole(valid: PulseResult) -> None:
    header, arrays = _sent(*map_message(valid))
    assert (header.pulse, header.scale_v_per_m, header.confidence) == (0, 100.0, "low")
    for name in arrays:
        np.testing.assert_array_equal(arrays[name], getattr(valid.map, name))


def test_an_invalid_trial_is_told_with_its_reason_and_without_a_map(invalid: PulseResult) -> None:
    header, arrays = _sent(*trial_message(invalid, 3))
    assert (header.valid, header.reasons, header.status) == (False, ["gap"], [])
    assert (header.confidence, header.confidence_reasons) == ("low", ["gap"])
    assert (header.pose_tracked, header.intensity_percent_mso) == (False, None)
    assert arrays["sweep_uv"].shape == (3, 0)
    assert arrays["peak_ms"].shape == (3, 2)
    for name in ("mep_uv", "onset_ms", "peak_ms", "baseline_rms_uv", "control_uv", "pose"):
        assert np.isnan(arrays[name]).all()
    assert map_message(invalid) is None


def test_a_coil_out_of_sight_sends_no_pose(valid: PulseResult) -> None:
    unseen = CoilPose(5000.4, np.eye(4), tracked=False)
    header, arrays = _sent(*trial_message(replace(valid, trial=replace(valid.trial, pose=unseen)), 3))
    assert not header.pose_tracked
    assert np.isnan(arrays["pose"]).all()


def test_an_uncertainty_without_bounds_is_still_a_message(valid: PulseResult) -> None:
    header, _ = _sent(*trial_message(replace(valid, trial=replace(valid.trial, t_uncertainty=math.inf)), 3))
    assert header.t_uncertainty == 1.0


class _Model:
    provider = "CPUExecutionProvider"
    info = ModelInfo(
        path=Path("m.onnx"),
        sha256="ab" * 32,
        format_version=1,
        kind="kernel-ridge",
        name="demo",
        muscles=MUSCLES,
        box_shape=(8, 8, 8),
        voxel=np.arange(3 * V, dtype=np.int16).reshape(V, 3),
        affine=np.diag([1.0, 1.0, 1.0, 1.0]),
        field_scale_v_per_m=100.0,
        floor_uv=50.0,
        scale_uv=np.ones(3),
        n_stimulations=1,
        validation={},
        data_sha256="",
        subject_sha256="",
        created="",
    )


def test_the_geometry_says_where_voxels_are_and_with_a_subject_where_the_cortex_is() -> None:
    header, arrays = _sent(*geometry_message(_Model(), None))
    assert (header.n_voxels, header.box_shape, header.subject) == (V, [8, 8, 8], "")
    assert set(arrays) == {"voxel", "affine"}
    subject = Subject(
        name="one",
        space="MNI152, RAS: x right, y anterior, z superior",
        hemisphere="left",
        box_shape=(8, 8, 8),
        affine=np.eye(4),
        voxel=_Model.info.voxel,
        vertices=np.zeros((4, 3), dtype=np.float32),
        triangles=np.zeros((2, 3), dtype=np.int32),
        sphere_center_mm=np.zeros(3),
        scalp_radius_mm=80.0,
        notices="",
    )
    header, arrays = _sent(*geometry_message(_Model(), subject))
    assert (header.subject, header.hemisphere, header.space) == ("one", "left", subject.space)
    assert arrays["vertices"].dtype == np.float32
    assert arrays["triangles"].dtype == np.int32
    np.testing.assert_array_equal(arrays["voxel"], _Model.info.voxel)


def test_the_session_says_what_its_numbers_mean() -> None:
    channels = match_channels(MUSCLES, ["mV"] * 3, MUSCLES)
    criteria = MepCriteria(window_ms=((10.0, 50.0), (10.0, 50.0), (20.0, 60.0)))
    message = session_message(
        _Model(),
        channels,
        criteria,
        SweepSettings(end_ms=60.0),
        started_at="2025-01-01T00:00:00+00:00",
        nominal_rate_hz=2000.0,
        trigger_source="ttl",
        streams=[],
        versions={"m2m-live": "0.1.0"},
        replay=True,
    )
    header, arrays = _sent(message)
    assert arrays == {}
    assert header.muscles == list(MUSCLES)
    assert header.window_ms == [[10.0, 50.0], [10.0, 50.0], [20.0, 60.0]]
    assert header.sweep_ms == [-100.0, 60.0]
    assert (header.amplitude_unit, header.floor_uv, header.nominal_rate_hz) == ("uV", 50.0, 2000.0)
    assert (header.model.name, header.model.sha256, header.model.provider) == ("demo", "ab" * 32, _Model.provider)
    assert header.replay

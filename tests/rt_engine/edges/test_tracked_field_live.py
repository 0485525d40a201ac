"""The tracked coil's own E-field through real streams: what the simulator knows to be true, live and replayed."""

import threading
from importlib.resources import files
from pathlib import Path

import msgspec
import numpy as np
import pytest

from drivers.simulated.lsl_feed import FeedControl, SubjectFeed
from drivers.simulated.session import make_session
from drivers.simulated.settings import FeedSettings, ProtocolSettings, SimulatedSubjectSettings
from drivers.simulated.streams import stream_identities
from rt_engine.edges.xdf_source import load_recording
from rt_engine.engine_setup import build_engine, load_model
from rt_engine.field.subject_file import read_subject
from rt_engine.replay import replay
from rt_engine.session import Session
from rt_engine.settings import parse_settings
from tests.rt_engine.edges.conftest import TIMEOUT_S, RunningSession
from trainer.metrics import nrmse

DEMO = Path(str(files("configs") / "demo"))
N_PULSES = 4


@pytest.fixture
def feed(unique):
    """Open the streams of a simulated subject that waits to be started."""
    settings = SimulatedSubjectSettings(
        protocol=ProtocolSettings(pulses=N_PULSES, interval_s=0.5, lead_in_s=0.5),
        feed=FeedSettings(source_id=f"tracked-{unique}"),
    )
    session = make_session(read_subject(DEMO / "default.subject.h5"), settings)
    control = FeedControl()
    subject = SubjectFeed(session)
    thread = threading.Thread(target=subject.run, args=(control,), daemon=True)
    thread.start()
    yield session, control
    control.stop.set()
    thread.join(TIMEOUT_S)


def _settings(feed_settings):
    return parse_settings(
        {
            "streams": {
                **{role: {"source_id": ids["source_id"]} for role, ids in stream_identities(feed_settings).items()},
                "resolve_timeout_s": 20.0,
            },
            "model": {
                "path": str(DEMO / "kernel-ridge.onnx"),
                "subject": str(DEMO / "default.subject.h5"),
                "provider": "cpu",
            },
            "publish": {"address": "tcp://127.0.0.1:*", "control_address": ""},
            "record": {"min_free_mb": 10.0},
            "timing": {"expire_s": TIMEOUT_S},
        }
    )


def test_a_pulses_computed_field_is_the_true_one_and_the_same_in_the_replay(feed, tmp_path):
    simulated, control = feed
    path = tmp_path / "recording.xdf"
    running = RunningSession(Session(_settings(simulated.settings.feed), recording=path))
    try:
        running.start()
        control.start.set()
        trials = running.wait_for_trials(N_PULSES)
        running.stop()
        maps = running.of("map")
    finally:
        running.close()
    assert [header.pose_tracked for header, _ in trials] == [True] * N_PULSES
    assert [header.computed_field_reason for header, _ in maps] == [""] * N_PULSES
    computed = np.stack([arrays["computed_field"] for _, arrays in maps])
    assert computed.dtype == np.float32
    assert {spec.unit for header, _ in maps for spec in header.arrays if spec.name == "computed_field"} == {"V/m"}
    # The navigation of the simulation makes no error, so what is left is the rounding of dI/dt.
    assert nrmse(simulated.field_v_per_m, computed).max() < 1e-6
    for (header, arrays), true in zip(maps, simulated.field_v_per_m, strict=True):
        assert 0.0 < header.computed_field_residual < simulated.subject.basis.residual_limit
        estimated = arrays["field"].astype(np.float64) * header.scale_v_per_m
        agreement = header.computed_field_agreement
        assert agreement.nrmse == pytest.approx(nrmse(true[None], estimated[None])[0], rel=1e-3)
        assert agreement.correlation == pytest.approx(np.corrcoef(true, estimated)[0, 1], abs=1e-3)
        assert {"infer", "field"} <= header.stages_us.keys()

    recording = load_recording(path)
    settings = parse_settings(recording.settings)
    model, subject = load_model(settings.model)
    parts = build_engine(settings, model, recording.labels, recording.units, recording.rate_hz, subject=subject)
    again = [result for _, results in replay(recording, parts.engine, 7) for result in results]
    assert len(again) == N_PULSES
    for result, (header, arrays) in zip(again, maps, strict=True):
        np.testing.assert_array_equal(result.computed.field_v_per_m, arrays["computed_field"])
        assert result.computed.residual == header.computed_field_residual
        assert msgspec.to_builtins(result.computed.agreement) == msgspec.to_builtins(header.computed_field_agreement)

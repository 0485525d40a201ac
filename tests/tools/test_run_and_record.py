"""Sessions as a laboratory runs them from the shell: started, interrupted, recorded, killed."""

import json
import signal

import numpy as np
import pytest

from rt_engine.edges.xdf_source import find_streams, load_recording
from rt_engine.mep import INDEX_TOLERANCE
from rt_engine.trials_file import read_trials

N_STREAMS = 5
"""EMG, markers, pose, intensity, and the engine's record."""

SAME_SAMPLES_S = 0.9 * INDEX_TOLERANCE / 2000.0
"""Pulse times that differ by less have the same samples in their windows, at 2 kHz."""


@pytest.fixture
def subject(start, unique, request):
    """Start a simulated subject, and give it with the settings that find its streams; its pulses are 40 or as asked."""
    command = start(
        *("simulate", "stream", "--pulses", getattr(request, "param", 40), "--interval-s", 0.5),
        *("--await-start", "--json-events", "--source-id", unique),
    )
    command.wait_for('"event": "ready"')
    sources = {f"streams.{role}.source_id": f"{unique}-{role}" for role in ("emg", "markers", "pose", "intensity")}
    words = [word for key, value in sources.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    words += ["--set", "publish.address=tcp://127.0.0.1:*", "--set", "publish.control_address=tcp://127.0.0.1:*"]
    words += ["--set", "record.min_free_mb=10", "--set", "record.low_free_mb=10"]
    # No pulse and no stream is given up because the machine is slow.
    return command, [*words, "--set", "timing.expire_s=60", "--set", "streams.resolve_timeout_s=60"]


def test_ctrl_c_ends_a_session_with_its_recording_whole(start, subject, tmp_path):
    person, settings = subject
    path = tmp_path / "recording.xdf"
    session = start("run", "--record", "--out", path, "--json", *settings)
    session.wait_for("READY")
    person.say("start")
    session.wait_for("pulse 2:")
    session.process.send_signal(signal.SIGINT)
    assert session.end() == 0, session.err
    summary = session.json
    assert summary["pulses_served"] >= 3
    again = start("replay", path, "--speed", "max", "--json")
    assert again.end() == 0, again.err
    assert again.json["identical"] is True
    assert again.json["pulses_served"] == summary["pulses_served"]
    check = start("session", "verify", tmp_path, "--json")
    assert check.end() == 0, check.err
    trials = read_trials(tmp_path / "trials.h5").rows
    assert len(trials) == check.json["pulses"] == check.json["identical"] == summary["pulses_served"]
    assert (trials["pose_tracked"] == 1).all()
    assert np.isfinite(trials["intensity_percent_mso"]).all()
    assert np.isfinite(trials["computed_field_v_per_m"]).all(), "the field of the tracked coil, to the bit as well"


def test_ctrl_c_before_ready_ends_at_once(start, unique):
    addresses = ("--set", "publish.address=tcp://127.0.0.1:*", "--set", "publish.control_address=tcp://127.0.0.1:*")
    session = start("run", "--set", f"streams.emg.source_id={unique}", *addresses)
    session.wait_for("RESOLVING")
    session.process.send_signal(signal.SIGINT)
    assert session.end() == 0, session.err
    assert "STOPPED" in session.err


def test_a_killed_engine_leaves_a_recording_that_replays_what_was_served(start, subject, tmp_path, wait_until):
    person, settings = subject
    path = tmp_path / "recording.xdf"
    session = start("run", "--record", "--out", path, *settings)
    session.wait_for("READY")
    person.say("start")
    session.wait_for("pulse 3:")
    recorded_before = path.stat().st_size
    session.process.kill()
    session.end()
    # LabRecorder lives on until its input closes, and closes the file by itself: each stream gets its last words.
    wait_until(lambda: path.read_bytes().count(b"<sample_count>") == N_STREAMS, "LabRecorder to close the file")
    assert path.stat().st_size >= recorded_before
    _, events = find_streams(path)
    assert events, "the engine's record is in the file"
    recording = load_recording(path)
    assert recording.stop is None
    again = start("replay", path, "--speed", "max", "--json")
    assert again.end() == 0, again.err
    assert again.json["pulses_served"] >= 3
    assert again.json["identical"] is None


@pytest.mark.parametrize("subject", [5], indirect=True)  # none while LabRecorder stops, one stream after the other
def test_record_alone_makes_a_file_that_replays_by_trigger_and_by_marker(start, subject, tmp_path):
    person, settings = subject
    path = tmp_path / "raw.xdf"
    recorder = start("record", path, *settings, "--json")
    recorder.wait_for("Recording to")
    person.say("start")
    person.wait_for('"n": 4')
    recorder.process.send_signal(signal.SIGINT)
    assert recorder.end() == 0, recorder.err
    assert recorder.json["recording"] == str(path)
    by_trigger, by_marker = (
        start("replay", path, "--speed", "max", "--json", "--set", f"trigger.source={source}", *settings)
        for source in ("ttl", "marker")
    )
    for again in (by_trigger, by_marker):
        assert again.end() == 0, again.err
        assert again.json["pulses_served"] == 5
    streams, _ = find_streams(path)
    emg, markers = (next(s for s in streams if s.type == kind) for kind in ("EMG", "Markers"))
    at_pulses = emg.stamps[np.flatnonzero(np.diff(emg.values[:, -1]) > 0.5) + 1]
    np.testing.assert_allclose(markers.stamps, at_pulses, rtol=0, atol=1e-6)
    # The marker's clock leads to the same samples, unless LabRecorder, on a machine that is too busy, found the clocks
    # of the two streams, which are one, further apart than that.
    apart_s = np.abs(markers.offset_at(markers.stamps) - emg.offset_at(at_pulses)).max()
    if apart_s < SAME_SAMPLES_S:
        assert by_trigger.json["sha256_meps"] == by_marker.json["sha256_meps"]


def test_a_replay_whose_model_is_gone_names_what_to_look_for(start, subject, tmp_path):
    person, settings = subject
    path = tmp_path / "recording.xdf"
    session = start("run", "--record", "--out", path, *settings)
    session.wait_for("READY")
    person.say("start")
    session.wait_for("pulse 0:")
    session.process.send_signal(signal.SIGINT)
    assert session.end() == 0, session.err
    again = start("replay", path, "--speed", "max", "--set", f"model.path={tmp_path / 'gone.onnx'}")
    assert again.end() == 1
    assert "which is not there" in again.err
    assert "SHA-256" in again.err
    assert "Traceback" not in again.err

"""What was live is again, to the bit: sessions recorded by LabRecorder and replayed at any chunking."""

import numpy as np
import pytest

from rt_engine.edges.xdf_source import load_recording
from rt_engine.engine_setup import build_engine, load_model
from rt_engine.errors import RecordingError
from rt_engine.replay import replay
from rt_engine.result_digest import ResultDigest
from rt_engine.settings import parse_settings


def replayed(path, block):
    """Replay a recording as the live session was set up; returns the digest and all trials."""
    recording = load_recording(path)
    settings = parse_settings(recording.settings)
    model, subject = load_model(settings.model)
    engine = build_engine(settings, model, recording.labels, recording.units, recording.rate_hz, subject=subject).engine
    digest, trials = ResultDigest(), []
    for _, results in replay(recording, engine, block):
        for result in results:
            trials.append(result.trial)
            if result.meps is not None:
                digest.add(result.meps.amplitude_uv, result.map.field)
    return digest, trials


@pytest.mark.parametrize("source_of_pulses", ["ttl", "marker"])
def test_a_recorded_session_is_replayed_to_the_bit_at_any_chunking(amplifier, live, tmp_path, source_of_pulses):
    path = tmp_path / "recording.xdf"
    source = amplifier()
    running = live(source, path, trigger={"source": source_of_pulses}).start()
    rng = np.random.default_rng(1)
    for n in range(4):
        sample = source.pulse(in_samples=int(rng.integers(20, 60)))
        if source_of_pulses == "marker":
            # Some before, some after their samples, and none exactly on one.
            if n % 2:
                source.wait_until_sent(sample + 150)
            source.markers.push_sample(["TMS"], source.time_of(sample) + rng.uniform(-2e-4, 2e-4))
        running.wait_for_trials(n + 1)
    summary = running.stop()
    assert summary.pulses_served == 4
    for block in (1, 7, 200, 10**9):
        digest, trials = replayed(path, block)
        assert (digest.sha256_meps, digest.sha256_maps) == (summary.sha256_meps, summary.sha256_maps)
        assert [trial.t_raw for trial in trials] == [header.t_pulse_raw for header, _ in running.of("trial")]
        assert [trial.t for trial in trials] == [header.t_pulse for header, _ in running.of("trial")]


def test_an_expired_pulse_expires_in_the_replay_too(amplifier, live, tmp_path, until):
    path = tmp_path / "recording.xdf"
    source = amplifier()
    running = live(source, path, trigger={"source": "marker"}, timing={"expire_s": 1.0}).start()
    sample = source.pulse()
    source.wait_until_sent(sample + 200)  # on a slow machine they could come too late for a pulse that waits for them
    source.markers.push_sample(["TMS"], source.time_of(sample))
    running.wait_for_trials(1)
    source.pause()
    until(lambda: running.session.state == "DEGRADED", "the pause to be noticed")
    source.markers.push_sample(["TMS"])
    running.wait_for_trials(2)
    source.go_on()
    until(lambda: running.session.state == "RUNNING", "samples to flow again")
    running.stop()
    _, trials = replayed(path, 200)
    assert [trial.reasons for trial in trials] == [(), ("expired",)]


def test_a_recording_is_never_overwritten(amplifier, live, tmp_path):
    path = tmp_path / "recording.xdf"
    path.write_bytes(b"precious")
    with pytest.raises(RecordingError, match="exists already"):
        live(amplifier(), path)
    assert path.read_bytes() == b"precious"


def test_a_full_disk_is_noticed_before_the_session(amplifier, live, tmp_path):
    with pytest.raises(RecordingError, match="MB are free"):
        live(amplifier(), tmp_path / "recording.xdf", record={"min_free_mb": 1e12})

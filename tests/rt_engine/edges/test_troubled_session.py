"""Troubles of a running session: too slow, disk low or full. It says so while there is time, and loses nothing."""

import os
import shutil
import subprocess
from types import SimpleNamespace

import pytest

from rt_engine import session_recording
from rt_engine.edges.xdf_source import find_streams
from rt_engine.errors import RecordingError
from rt_engine.health import State
from rt_engine.session_recording import SessionRecording
from rt_engine.settings import parse_settings
from rt_engine.trials_file import read_trials


def test_a_session_that_is_too_slow_names_the_stage(amplifier, live, until):
    source = amplifier()
    running = live(source, timing={"budget_ms": {"infer": 1e-6}}).start()
    source.pulse()
    running.wait_for_trials(1)
    until(lambda: running.states(State.DEGRADED), "DEGRADED")
    health = running.states(State.DEGRADED)[0]
    assert health.reason.startswith("over the latency budget: infer took")
    assert health.pulses_over_budget == 1
    assert health.budget_ms == {"infer": 1e-6}


@pytest.fixture
def recording(tmp_path, monkeypatch):
    """Make a recording at work whose disk has as much room, and whose file is as large, as the test says."""
    settings = parse_settings({"record": {"min_free_mb": 0.0, "low_free_mb": 300.0}})
    made = SessionRecording(tmp_path / "raw.xdf", settings)
    disk = SimpleNamespace(free_mb=1000.0)
    monkeypatch.setattr(
        session_recording, "shutil", SimpleNamespace(disk_usage=lambda _: SimpleNamespace(free=disk.free_mb * 1e6))
    )
    monkeypatch.setattr(SessionRecording, "running_path", made.path)
    made.path.write_bytes(b"XDF:")
    return made, disk


def test_little_room_is_trouble_until_there_is_clearly_more_again(recording):
    made, disk = recording
    told = []
    for second, free_mb in enumerate([301.0, 299.0, 310.0, 340.0]):
        disk.free_mb = free_mb
        made.look_after(float(second), samples_flow=True)
        told.append(bool(made.troubles))
    assert told == [False, True, True, False]


def test_a_disk_as_good_as_full_ends_the_session_while_files_can_be_closed(recording):
    made, disk = recording
    disk.free_mb = 3.0
    with pytest.raises(RecordingError, match="3.0 MB are free .* can be read"):
        made.look_after(0.0, samples_flow=True)


def test_a_file_that_does_not_grow_while_samples_flow_is_trouble(recording):
    made, _ = recording
    told = []
    for second, flow in enumerate([True] * 12 + [False] + [True] * 12 + [True]):
        if second == 25:
            made.path.write_bytes(b"XDF: and more")
        made.look_after(float(second), samples_flow=flow)
        told.append(any("has written nothing" in trouble for trouble in made.troubles))
    assert told == [False] * 11 + [True] + [False] * 11 + [True, True, False]


@pytest.fixture
def small_disk(tmp_path):
    """Give a folder on a disk of 32 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("mount") is None or os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only the system's administrator may mount a small disk")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "none", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.long
def test_a_full_disk_fails_the_session_loudly_and_all_before_it_is_readable(amplifier, live, until, small_disk):
    folder = small_disk / "session"
    source = amplifier()
    running = live(source, folder / "recording.xdf", record={"min_free_mb": 10.0, "low_free_mb": 15.0}).start()
    for n in range(3):
        source.pulse()
        running.wait_for_trials(n + 1)
    (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free - 12_000_000))
    until(lambda: running.error or running.states(State.DEGRADED), "DEGRADED")
    assert "less than 15 MB are free" in running.states(State.DEGRADED)[0].reason
    with (small_disk / "filler 2").open("wb") as filler:
        filler.write(bytes(shutil.disk_usage(small_disk).free - 3_000_000))
    until(lambda: running.error, "the session to end")
    with pytest.raises(RecordingError, match="MB are free"):
        running.stop()
    assert running.states(State.FAILED)
    streams, events = find_streams(folder / "recording.xdf")
    assert events
    assert any(stream.type == "EMG" and len(stream.stamps) for stream in streams)
    assert len(read_trials(folder / "trials.h5").rows) == 3


@pytest.mark.long
def test_a_labrecorder_that_dies_degrades_the_session_whose_trials_are_kept_all_the_same(
    amplifier, live, until, tmp_path
):
    source = amplifier()
    running = live(source, tmp_path / "recording.xdf").start()
    running.session._recording._recorder._process.kill()
    until(lambda: running.states(State.DEGRADED), "DEGRADED")
    assert "LabRecorder has ended by itself" in running.states(State.DEGRADED)[0].reason
    source.pulse()
    running.wait_for_trials(1)
    with pytest.raises(RecordingError, match="did not close .* cleanly"):
        running.stop()
    assert len(read_trials(tmp_path / "trials.h5").rows) == 1

"""How `m2m run` ends: at once whenever it is asked to, with its recording closed; and what a dead engine leaves."""

import json
import os
import signal
import subprocess
import sys

import pytest

from rt_engine.edges import recorder, recorder_orphans
from rt_engine.edges.xdf_source import find_streams
from rt_engine.session_recording import stop_orphans
from tests.rt_engine.edges.conftest import MODEL, Amplifier


@pytest.fixture
def source():
    source = Amplifier()
    yield source
    source.close()


@pytest.fixture
def run(start, source, tmp_path):
    """Start a session that listens to the source and records."""

    def make():
        settings = tmp_path / "settings.toml"
        settings.write_text(
            f"""
            streams = {{ emg = {{ source_id = "{source.source_id}" }}, resolve_timeout_s = 60 }}
            model = {{ path = "{MODEL}", provider = "cpu" }}
            publish = {{ address = "tcp://127.0.0.1:*", control_address = "" }}
            record = {{ min_free_mb = 10, low_free_mb = 10 }}
            timing = {{ expire_s = 60 }}
            """
        )
        return start("run", "--settings", settings, "--out", tmp_path / "recording.xdf", "--json")

    return make


def states(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line["state"] for line in lines if line["event"] == "state"]


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("starting LabRecorder", signal.SIGINT),
        pytest.param("READY", signal.SIGTERM, marks=pytest.mark.long),
        pytest.param("READY", getattr(signal, "SIGHUP", signal.SIGTERM), marks=pytest.mark.long),
        pytest.param("opening the streams", signal.SIGINT, marks=pytest.mark.long),
        pytest.param("waiting for the first samples", signal.SIGTERM, marks=pytest.mark.long),
    ],
)
def test_it_ends_when_it_is_asked_to_and_closes_what_it_opened(run, tmp_path, stage, number):
    session = run()
    session.wait_for(stage)
    session.process.send_signal(number)
    assert session.end() == 0, session.err
    assert states(tmp_path)[-1] == "STOPPED"
    path = tmp_path / "recording.xdf"
    if path.exists() and path.stat().st_size:
        content = path.read_bytes()
        assert content.count(b"<sample_count>") == content.count(b"<channel_format>"), "each stream has its last words"
        find_streams(path)
    assert recorder_orphans.orphans() == []


def test_its_recording_is_given_less_than_ten_seconds_to_close():
    assert recorder.DRAIN_S + recorder.STOP_TIMEOUT_S < 10.0


@pytest.fixture
def left_behind(tmp_path, monkeypatch):
    """Make a LabRecorder that does not end, with a note of an engine that has died."""
    monkeypatch.setattr(recorder_orphans, "CLOSING_S", 0.1)
    monkeypatch.setattr(recorder_orphans, "_folder", lambda: tmp_path / "notes")
    program = tmp_path / "LabRecorderCLI"
    program.write_text("#!/bin/sh\nsleep 600 & wait\n")
    program.chmod(0o755)
    made = []

    def make(path, name="LabRecorderCLI"):
        command = [program, path] if name == "LabRecorderCLI" else [sys.executable, "-c", "input()", path]
        made.append(subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True))
        dead = "import sys; from rt_engine.edges import recorder_orphans as r; from pathlib import Path\n"
        dead += f"r._folder = lambda: Path({str(tmp_path / 'notes')!r}); r.remember({made[-1].pid}, Path(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", dead, path], check=True)
        return made[-1]

    yield make
    for process in made:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdin.close()


@pytest.mark.skipif(os.name != "posix", reason="the program in LabRecorder's place is a shell script")
def test_what_a_dead_engine_left_recording_is_named_and_stopped(left_behind, tmp_path, until_ended):
    process = left_behind(str(tmp_path / "old.xdf"))
    (told,) = stop_orphans()
    assert f"process {process.pid}" in told
    assert str(tmp_path / "old.xdf") in told
    assert "was ended" in told
    until_ended(process)
    assert stop_orphans() == []


@pytest.mark.skipif(os.name != "posix", reason="the program in LabRecorder's place is a shell script")
def test_another_program_under_a_number_that_was_used_again_is_left_alone(left_behind, tmp_path):
    process = left_behind(str(tmp_path / "old.xdf"), "another program")
    assert stop_orphans() == []
    assert process.poll() is None
    assert list((tmp_path / "notes").iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="the program in LabRecorder's place is a shell script")
def test_the_labrecorder_of_an_engine_that_lives_is_left_alone(left_behind, tmp_path):
    process = left_behind(str(tmp_path / "old.xdf"))
    (note,) = (tmp_path / "notes").iterdir()
    note.unlink()
    recorder_orphans.remember(process.pid, tmp_path / "old.xdf")
    assert stop_orphans() == []
    assert process.poll() is None


@pytest.fixture
def until_ended():
    return lambda process: process.wait(60)

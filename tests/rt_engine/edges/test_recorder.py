"""How LabRecorder is started and ended, with programs in its place that do what it does in bad hours."""

import os
import signal
import struct
import subprocess

import pytest

from rt_engine.edges import recorder as module
from rt_engine.edges.engine_record import EngineRecord
from rt_engine.edges.recorder import Recorder, labrecorder_program
from rt_engine.errors import RecordingError
from rt_engine.health import State
from rt_engine.settings import StreamQuery

STREAMS = [StreamQuery(name="EMG", type="EMG"), StreamQuery(source_id="amplifier-markers")]
FOUND = 'echo "Found EMG"; echo "Found markers"\n'
STARTED = 'echo "Started data collection for stream EMG."; echo "Started data collection for stream markers."\n'

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the programs in LabRecorder's place are shell scripts")


@pytest.fixture
def recorder(tmp_path, monkeypatch):
    """Make a recorder whose LabRecorder is this script; it finds the folder in $HERE and no second to lose."""
    made = []

    def make(script):
        program = tmp_path / "LabRecorderCLI"
        program.write_text("#!/bin/sh\n" + script)
        program.chmod(0o755)
        monkeypatch.setenv("HERE", str(tmp_path))
        monkeypatch.setattr(module, "labrecorder_program", lambda: program)
        made.append(Recorder(tmp_path / "recording.xdf", min_free_mb=0.0))
        return made[-1]

    yield make
    for each in made:
        assert not each.running


def test_it_is_asked_for_each_stream_by_all_that_is_known_of_it(recorder, tmp_path):
    made = recorder('for word in "$@"; do echo "$word" >> $HERE/asked; done\n' + FOUND + STARTED + "read end\n")
    made.start(STREAMS)
    assert made.running
    made.stop(drain_s=0.0)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == [str(made.path), "name='EMG' and type='EMG'", "source_id='amplifier-markers'"]


def test_a_stream_is_recorded_when_its_samples_are_in_the_file(recorder, tmp_path, until):
    """LabRecorder says that it has begun before that."""
    made = recorder(
        FOUND + STARTED + "cat $HERE/headers > $1\n"
        "while [ ! -e $HERE/go ]; do sleep 0.05; done; cat $HERE/chunk >> $1; read end\n"
    )
    names = {1: "EMG &amp; more", 2: "markers"}
    headers = [_chunk(2, n, f"<info><name>{name}</name></info>".encode()) for n, name in names.items()]
    (tmp_path / "headers").write_bytes(b"XDF:" + b"".join(headers))
    (tmp_path / "chunk").write_bytes(_chunk(3, 1, b"\x01\x01\x08" + bytes(12)) + b"\x04cut off")
    assert not made.has_samples_of("EMG & more"), "there is not even a file"
    made.start(STREAMS)
    until(lambda: made.path.exists() and made.path.stat().st_size, "the headers")
    assert not made.has_samples_of("EMG & more")
    (tmp_path / "go").touch()
    until(lambda: made.has_samples_of("EMG & more"), "the samples")
    assert not made.has_samples_of("markers")
    made.stop(drain_s=0.0)


def _chunk(tag, stream, content):
    return struct.pack("<BIHI", 4, len(content) + 6, tag, stream) + content


def test_a_session_begins_when_all_that_it_hears_is_recorded(recorder, amplifier, live, until, tmp_path, monkeypatch):
    program = recorder(
        FOUND + STARTED + 'echo "Started data collection for stream record."\n'
        "while [ ! -e $HERE/go ]; do sleep 0.05; done; cat $HERE/all > $1; read end\n"
    )
    source = amplifier()
    header = _chunk(2, 1, f"<info><name>EMG {source.source_id}</name></info>".encode())
    (tmp_path / "all").write_bytes(b"XDF:" + header + _chunk(3, 1, b"\x01\x01\x08" + bytes(12)))
    monkeypatch.setattr(EngineRecord, "heard", True)
    running = live(source, program.path)
    running.launch()
    until(
        lambda: running.error or sum("LabRecorder" in health.reason for health in running.states(State.WARMING)) > 5,
        "LabRecorder to be waited for",
    )
    assert not running.error
    assert not running.states(State.READY)
    (tmp_path / "go").touch()
    until(lambda: running.states(State.READY), "READY")
    running.stop()


def test_streams_that_are_not_seen_at_once_are_looked_for_again(recorder, tmp_path):
    made = recorder(
        "echo again >> $HERE/tries\n"
        'if [ $(wc -l < $HERE/tries) -lt 3 ]; then echo "Type EMG matched no stream!"; exit 2; fi\n'
        + (FOUND + STARTED + "read end\n")
    )
    made.start(STREAMS)
    assert len((tmp_path / "tries").read_text().splitlines()) == 3
    made.stop(drain_s=0.0)


def test_streams_that_are_never_seen_are_told(recorder, tmp_path):
    made = recorder('echo again >> $HERE/tries; echo "name=EMG matched no stream!"; read end\n')
    with pytest.raises(RecordingError, match="could not start recording .*: name=EMG matched no stream"):
        made.start(STREAMS)
    assert len((tmp_path / "tries").read_text().splitlines()) == module.START_ATTEMPTS


@pytest.mark.parametrize(
    ("script", "told"),
    [("echo cannot find libsomething.so >&2; exit 127\n", "libsomething.so"), ("exit 5\n", "exit code 5")],
)
def test_a_program_that_ends_at_once_is_told_with_its_words(recorder, script, told):
    with pytest.raises(RecordingError, match=told):
        recorder(script).start(STREAMS)


def test_a_program_that_does_not_start_in_time_is_told_and_ended(recorder, monkeypatch):
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *words, **options: started.append(popen(*words, **options)) or started[-1]
    )
    monkeypatch.setattr(module, "START_TIMEOUT_S", 0.1)
    made = recorder("echo warming up; exec sleep 600\n")
    with pytest.raises(RecordingError, match=r"within 0\.1 s"):
        made.start(STREAMS)
    assert [process.poll() for process in started] == [-signal.SIGKILL]


def test_a_file_that_was_not_closed_cleanly_is_told(recorder):
    made = recorder(FOUND + STARTED + "read end; echo the disk is full; exit 3\n")
    made.start(STREAMS)
    with pytest.raises(RecordingError, match="exit code 3: the disk is full"):
        made.stop(drain_s=0.0)


def test_a_program_that_does_not_end_in_time_is_named_and_left_to_close_its_file(recorder, monkeypatch):
    monkeypatch.setattr(module, "STOP_TIMEOUT_S", 0.2)
    made = recorder(FOUND + STARTED + "exec sleep 600\n")
    made.start(STREAMS)
    process = made._process
    with pytest.raises(RecordingError, match=rf"did not close .* is left to do so by itself \(process {process.pid}\)"):
        made.stop(drain_s=0.0)
    assert process.poll() is None
    made._kill()


def test_a_platform_without_labrecorder_is_told(monkeypatch, tmp_path):
    assert labrecorder_program().is_file()
    monkeypatch.setattr(module, "files", lambda package: tmp_path)
    with pytest.raises(RecordingError, match="brings no LabRecorder"):
        labrecorder_program()

"""kill -9 at random moments, and a full disk: what was served is there, and `m2m session verify` says exactly what."""

import contextlib
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rt_engine.edges.xdf_source import load_recording
from rt_engine.trials_file import read_trials
from tests.tools import sessions


def kill_at_random(live, moments):
    """Kill each session so many samples after its first pulse, and wait until its recording is closed."""
    for session, moment in zip(live, moments, strict=True):
        session.kill(session.fire() + moment)
    for session in live:
        session.wait_until_recorded()


def check_trials(session, trials):
    """Hold stored trials against what was told of them, and against what the amplifier sent."""
    assert len(trials.rows) - session.acknowledged in (0, 1), "none is lost that was told of"
    assert trials.rows["pulse"].tolist() == list(range(len(trials.rows)))
    for row, sample in zip(trials.rows, session.amplifier.pulse_samples, strict=False):
        assert (row["mep_uv"] == session.amplifier.true_amplitude_uv(sample).astype("f4")).all()


def check_killed(session, m2m):
    """Hold a killed session's folder to what it must have."""
    trials = read_trials(session.folder / "trials.h5")
    check_trials(session, trials)
    load_recording(session.folder / "recording.xdf")
    told = m2m("session", "verify", session.folder, "--json").json
    assert told["ended"] == "killed"
    assert told["stored"] == len(trials.rows)
    assert told["missing"] <= 1, "at most the trial in flight"
    assert told["identical"] + len(told["not_replayed"]) == told["stored"]
    assert told["pulses"] == told["stored"] + told["missing"]
    assert told["differing"] == []
    assert told["ok"] is (told["missing"] == 0), told["problems"]


def small_disk(disk):
    """Return what runs a command where a folder is a file system of 24 MB that only it sees; None if that is barred."""
    mount = f"mount -t tmpfs -o size=24m none {disk}"
    if sys.platform != "linux" or not shutil.which("unshare"):
        return None
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode:
        return None
    # The file system lives as long as the shell, which waits for a line.
    return lambda words: ["unshare", "-rm", "sh", "-c", f'{mount} && "$@"; echo code $? >&2; read line', "sh", *words]


def start_on_small_disk(folder):
    disk = folder / "disk"
    disk.mkdir()
    wrap = small_disk(disk)
    return wrap and sessions.start(disk / "s", folder / "disk-logs", wrap)


def fill_disk(session, left_mb, copy):
    """Fill the session's disk when four trials are stored, wait for the session's end, and copy what it left."""
    session.fire()
    session.wait_for("pulse 3:")
    seen = Path(f"/proc/{session.process.pid}/root{session.folder.parent}")
    with contextlib.suppress(OSError), (seen / "something_else").open("wb") as other:
        while (free := shutil.disk_usage(seen).free - left_mb * 1_000_000) > 0:
            other.write(bytes(min(free, 1_000_000)))
            other.flush()
    session.wait_for("code ")
    shutil.copytree(seen / "s", copy)


def check_full(session, copy, m2m):
    """Hold what a session left on a full disk to what it must have."""
    assert "code 1" in session.err
    assert "Error:" in session.err
    assert "Is the disk full?" in session.err or "MB are free" in session.err
    assert "Traceback" not in session.err
    trials = read_trials(copy / "trials.h5")
    assert len(trials.rows) >= 4
    check_trials(session, trials)
    told = m2m("session", "verify", copy, "--json").json
    assert told["stored"] == len(trials.rows)
    assert told["differing"] == []
    assert told["identical"] + len(told["not_replayed"]) == told["stored"]
    assert told["missing"] <= 1, "the trial that the disk had no room for"
    return told


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Run three sessions beside each other: two are killed, the third has its disk filled, if it can have its own."""
    folder = tmp_path_factory.mktemp("ended")
    live = [sessions.start(folder / name, folder / f"{name}-logs") for name in ("a", "b")]
    full = start_on_small_disk(folder)
    everything = [*live, *([full] if full else [])]
    moments = random.Random()
    try:
        for session in everything:
            session.wait_for("READY")
        kill_at_random(live, [moments.randrange(400, 3000) for _ in live])
        if full:
            fill_disk(full, 2, folder / "copy")
    finally:
        for session in everything:
            session.close()
    return live, full, folder / "copy"


def test_a_killed_engine_loses_at_most_the_trial_in_flight(ended, m2m):
    for session in ended[0]:
        check_killed(session, m2m)


NO_DISK = "this machine lets nobody mount a small file system of his own (Linux's user namespaces)"


def test_a_full_disk_stops_the_session_loudly_with_all_before_it_readable(ended, m2m):
    _, session, copy = ended
    if session is None:
        pytest.skip(NO_DISK)
    assert check_full(session, copy, m2m)["ended"].startswith("failed: ")


@pytest.mark.long
def test_a_disk_filled_to_the_last_byte_stops_it_too(tmp_path, m2m):
    session = start_on_small_disk(tmp_path)
    if session is None:
        pytest.skip(NO_DISK)
    try:
        session.wait_for("READY")
        fill_disk(session, 0, tmp_path / "copy")
    finally:
        session.close()
    check_full(session, tmp_path / "copy", m2m)


@pytest.mark.long
def test_twenty_kills_at_random_moments(tmp_path, m2m):
    moments = random.Random(11)
    for k in range(10):
        live = [sessions.start(tmp_path / f"{k}{name}", tmp_path / f"{k}{name}-logs") for name in "ab"]
        try:
            for session in live:
                session.wait_for("READY")
            kill_at_random(live, [moments.randrange(6000) for _ in live])
        finally:
            for session in live:
                session.close()
        for session in live:
            check_killed(session, m2m)

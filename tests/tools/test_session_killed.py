"""kill -9 at random moments, and a full disk: what was served is there, and `m2m session verify` says exactly what."""

import random

import pytest

from rt_engine.edges.xdf_source import load_recording
from rt_engine.trials_file import read_trials
from tests.tools import sessions


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
    n = told["stored"]
    assert told["missing_pulses"] == list(range(n, n + told["missing"])), "only what the disk had no room for"
    return told


def test_a_killed_engine_loses_at_most_the_trial_in_flight(left_sessions, m2m):
    for session in left_sessions.killed:
        check_killed(session, m2m)


NO_DISK = "this machine lets nobody mount a small file system of his own (Linux's user namespaces)"


def test_a_full_disk_stops_the_session_loudly_with_all_before_it_readable(left_sessions, m2m):
    if left_sessions.full is None:
        pytest.skip(NO_DISK)
    assert check_full(left_sessions.full, left_sessions.copy, m2m)["ended"].startswith("failed: ")


@pytest.mark.long
def test_a_disk_filled_to_the_last_byte_stops_it_too(tmp_path, m2m):
    session = sessions.start_on_small_disk(tmp_path)
    if session is None:
        pytest.skip(NO_DISK)
    try:
        session.wait_for("READY")
        sessions.fill_disk(session, 0)
        sessions.copy_of(session, tmp_path / "copy")
    finally:
        session.close()
    check_full(session, tmp_path / "copy", m2m)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_twenty_kills_at_random_moments(tmp_path, m2m):
    moments = random.Random(11)
    for k in range(10):
        live = [sessions.start(tmp_path / f"{k}{name}", tmp_path / f"{k}{name}-logs") for name in "ab"]
        try:
            for session in live:
                session.wait_for("READY")
            sessions.kill_at_random(live, [moments.randrange(6000) for _ in live])
            for session in live:
                session.wait_until_recorded()
        finally:
            for session in live:
                session.close()
        for session in live:
            check_killed(session, m2m)

"""`m2m session`: a session's files against each other, its trials as a list, and every kind of damage told of."""

import contextlib
import random
import shutil
import struct
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from rt_engine.edges.session_store import SessionStore
from rt_engine.edges.xdf_source import load_recording
from rt_engine.engine_setup import build_engine, load_model
from rt_engine.errors import FileFormatError, M2MError
from rt_engine.hdf5_superblock import Superblock
from rt_engine.replay import replay
from rt_engine.settings import parse_settings
from rt_engine.trials_file import read_trials
from tests.tools import sessions
from tools.inspection import inspect_path
from tools.session_check import check_session
from tools.session_folder import list_trials, read_log, recording_in
from tools.trials_closing import close_trials


@pytest.fixture
def ended(left_sessions):
    """Give a session that was ended by Ctrl-C after a few pulses."""
    return left_sessions.whole


@pytest.fixture
def folder(ended, tmp_path):
    """Give a copy of that session's folder."""
    shutil.copytree(ended.folder, tmp_path / "s")
    return tmp_path / "s"


def test_an_ended_session_is_whole_and_agrees_to_the_bit(folder, m2m):
    told = m2m("session", "verify", folder, "--json")
    assert told.code == 0, told.err
    found = told.json
    n = found["pulses"]
    assert n >= sessions.N_SERVED
    assert (found["identical"], found["missing"], found["stored"], found["recorded"]) == (n, 0, n, n)
    assert (found["ended"], found["ok"], found["problems"], found["differing_fields"]) == ("closed", True, [], {})
    assert found["marked"] == [1]
    assert f"{n} of them identical to a fresh replay, to the bit; 0 missing" in told.err
    gains = read_trials(folder / "trials.h5").rows["gain"][:, 0].tolist()
    assert (gains[0], gains[-1]) == (1.0, sessions.GAIN), "commands were carried out meanwhile"


def test_its_trials_can_be_listed(folder, ended, m2m):
    told = m2m("session", "show", folder, "--json")
    rows = told.json["trials"]
    assert [row["pulse"] for row in rows] == list(range(len(rows)))
    assert [row["marked"] for row in rows[:3]] == [False, True, False]
    largest = ended.amplifier.true_amplitude_uv(ended.amplifier.pulse_samples[0]).max()
    assert rows[0]["largest_uv"] == pytest.approx(largest)
    assert rows[0]["muscle"] == ended.amplifier.labels[-1]
    assert rows[1]["s"] == pytest.approx(sessions.PULSE_EVERY / 2000.0, abs=1e-3)
    assert f"{largest:.0f}" in told.err
    assert told.err.count("coil not tracked") == len(rows)


def test_replay_takes_the_folder(folder, m2m):
    assert m2m("replay", folder, "--speed", "max", "--json").json["identical"] is True
    (folder / "recording.xdf").unlink()
    told = m2m("replay", folder, "--speed", "max")
    assert told.code == 1
    assert "is a folder without recording.xdf" in told.err


def test_inspect_tells_of_the_trials(folder):
    found = inspect_path(folder / "trials.h5")
    assert found.kind == "trials"
    assert found.facts["n_trials"] == found.facts["n_valid"] >= sessions.N_SERVED
    assert found.facts["closed"] is True
    whole = inspect_path(folder)
    assert whole.facts["n_trials"] == found.facts["n_trials"]


def _change(path, at, value):
    content = bytearray(path.read_bytes())
    content[at] ^= value
    path.write_bytes(bytes(content))


def test_one_bit_of_one_sample_in_the_xdf_file_is_found(folder, ended, m2m):
    """Samples have no checksum in an XDF file: only the trials beside it tell."""
    path = folder / "recording.xdf"
    first = read_trials(folder / "trials.h5").rows[0]
    sample = ended.amplifier.pulse_samples[0] + 50
    raw = np.concatenate(ended.amplifier.sent)[sample].astype("<f4").tobytes()
    assert path.read_bytes().count(raw) == 1
    _change(path, path.read_bytes().find(raw) + 2, 0x40)
    told = m2m("session", "verify", folder, "--json")
    assert told.code == 1
    assert told.json["differing"] == [int(first["pulse"])]
    assert {"sweep_uv", "mep_uv", "field"} & set(told.json["differing_fields"])
    assert told.json["identical"] == told.json["pulses"] - 1


def test_a_damaged_trial_is_missing_and_named(folder, m2m):
    path = folder / "trials.h5"
    row = read_trials(path).rows[2].tobytes()
    _change(path, path.read_bytes().find(row) + 200, 1)
    told = m2m("session", "verify", folder, "--json")
    assert told.code == 1
    assert (told.json["missing_pulses"], told.json["missing"]) == ([2], 1)
    assert told.json["identical"] == told.json["pulses"] - 1
    assert "1 of its" in told.err
    assert "row 2" in told.err


def test_a_result_that_the_engine_told_otherwise_is_found(folder):
    path = folder / "recording.xdf"
    content = path.read_bytes()
    at = content.find(b'"pulse":1,"t_pulse"')
    mep = content.find(b'"mep_uv":[', at) + len(b'"mep_uv":[')
    _change(path, content.find(b".", mep) + 1, 1)  # the first digit after the point
    check = check_session(folder)
    assert check.differing == [1]
    assert check.differing_fields == {"what the engine said in the XDF file": 1}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("session.toml", b"format = 3\n", "expected 'm2m-session'"),
        ("session.toml", b'format = "m2m-session"\nversion = 2\n', "update m2m"),
        ("session.toml", b"\xff", "is damaged"),
    ],
)
def test_a_folder_that_is_none_of_ours_is_refused(folder, m2m, name, content, said):
    (folder / name).write_bytes(content)
    told = m2m("session", "verify", folder)
    assert told.code == 1
    assert said in told.err
    assert "Traceback" not in told.err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("trials.h5", b"garbage" * 50), ("recording.xdf", None), ("recording.xdf", b"garbage" * 50), ("log.jsonl", b""),
        pytest.param("trials.h5", None, marks=pytest.mark.long),
        pytest.param("log.jsonl", None, marks=pytest.mark.long),
        pytest.param("log.jsonl", b"garbage" * 50, marks=pytest.mark.long),
    ],
)  # fmt: skip
def test_a_file_that_is_gone_or_garbage_is_a_problem_and_the_rest_is_still_told(folder, name, content):
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    check = check_session(folder)
    if name == "log.jsonl" and content == b"":
        assert check.ok, "the XDF file says that it was ended"
    elif name == "log.jsonl" and content:
        assert check.ok
        assert read_log(folder).cut_off
    else:
        assert any(name in problem for problem in check.problems)
    assert check.pulses >= sessions.N_SERVED
    assert (check.stored == 0) is (name == "trials.h5")
    assert (check.identical == 0) is (name != "log.jsonl")
    assert check.missing == (check.pulses if name == "trials.h5" else 0)


def test_lines_of_the_log_that_cannot_be_read_are_named(folder):
    path = folder / "log.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"[1]\n", b'{"event":3}\n', b"{\n", b"\xff\n", *lines[1:], b'{"event":"st']))
    log = read_log(folder)
    assert log.broken == [2, 3, 4, 5]
    assert log.cut_off
    assert log.last_state == "STOPPED"
    assert check_session(folder).problems == [f"line {n} of log.jsonl cannot be read" for n in (2, 3, 4, 5)]


def test_another_sessions_trials_are_named(folder):
    with h5py.File(folder / "trials.h5", "r+", libver="latest") as file:
        file.attrs["session"] = np.bytes_("another")
    problems = " ".join(check_session(folder).problems)
    assert "trials.h5 is of the session another" in problems
    assert "are not whole" in problems, "a row's digest says of which session it is"


def test_without_its_model_it_says_which_one_is_needed(folder, m2m, tmp_path):
    content = (folder / "recording.xdf").read_bytes()
    (folder / "recording.xdf").write_bytes(content.replace(b"kernel-ridge.onnx", b"kernel-ridge.gone"))
    told = m2m("session", "verify", folder)
    assert told.code == 1
    assert "which is not there" in told.err
    assert m2m("session", "verify", folder, "--model", str(sessions.MODEL)).code == 0


def test_a_session_that_ended_before_it_was_ready_is_nothing_to_worry_about(tmp_path, m2m):
    store = SessionStore(tmp_path / "s")
    store.log("state", state="STOPPED", reason="stopped on request")
    store.close()
    told = m2m("session", "verify", tmp_path / "s", "--json")
    assert (told.code, told.json["pulses"], told.json["ended"]) == (0, 0, "stopped")
    for empty in (tmp_path, tmp_path / "absent"):
        told = m2m("session", "verify", empty)
        assert told.code == 1
        assert "expected" in told.err


@pytest.mark.long
@pytest.mark.parametrize("name", ["recording.xdf", "trials.h5", "session.toml", "log.jsonl"])
def test_whatever_is_damaged_is_told_or_refused_in_words(folder, name):
    path, damage = folder / name, random.Random(name)
    whole = path.read_bytes()
    for _ in range(40):
        content = bytearray(whole)
        kind = damage.randrange(3)
        if kind == 0:
            del content[damage.randrange(len(content)) :]
        elif kind == 1:
            begin = damage.randrange(len(content))
            del content[begin : begin + damage.randrange(1, 5000)]
        for _ in range(damage.choice((1, 3, 20))):
            if content:
                content[damage.randrange(len(content))] ^= 1 << damage.randrange(8)
        path.write_bytes(content)
        for look in (check_session, list_trials, inspect_path):
            with contextlib.suppress(M2MError):
                look(folder)


CUTS = 200


@pytest.mark.parametrize("cuts", [20, pytest.param(CUTS, marks=pytest.mark.long)])
def test_a_recording_cut_off_at_any_byte_gives_its_whole_trials_or_a_clear_error(ended, folder, cuts):
    whole = (folder / "recording.xdf").read_bytes()
    stored = {int(row["pulse"]): row for row in read_trials(folder / "trials.h5").rows}
    recording = load_recording(folder / "recording.xdf")
    settings = parse_settings(recording.settings)
    model, subject = load_model(settings.model)
    path = folder / "cut.xdf"
    bytes_kept = np.random.default_rng(cuts).integers(0, len(whole), cuts)
    n_served = []
    for n in sorted(bytes_kept.tolist()):
        path.write_bytes(whole[:n])
        n_served.append(0)
        try:
            cut = load_recording(path, settings)
        except M2MError:  # a clear one; anything else fails the test
            continue
        parts = build_engine(settings, model, cut.labels, cut.units, cut.rate_hz, subject=subject)
        for _, results in replay(cut, parts.engine, 4096, swap=lambda event: None):  # amplitudes are the same
            for result in results:
                if result.trial.valid:
                    row = stored[result.trial.pulse_id]
                    assert result.meps.amplitude_uv.tobytes() == row["mep_uv"].tobytes(), f"cut at byte {n}"
                    n_served[-1] += 1
        assert n_served[-1] >= max(n_served[:-1], default=0), "more bytes never give fewer trials"
    assert len(set(n_served)) >= min(sessions.N_SERVED, cuts // 5)


def test_a_piece_that_the_xdf_reader_would_skip_is_damage_and_no_traceback(folder, m2m):
    path = folder / "recording.xdf"
    content = path.read_bytes()
    # A chunk of EMG samples: tag 3, stream 1, and a number of samples of four bytes, which now says too many.
    at = content.find(struct.pack("<HIB", 3, 1, 4), len(content) // 2)
    (n,) = struct.unpack_from("<I", content, at + 7)
    path.write_bytes(content[: at + 7] + struct.pack("<I", n + 5) + content[at + 11 :])
    for words in (("replay", folder, "--speed", "max"), ("session", "verify", folder)):
        told = m2m(*words)
        assert told.code == 1
        assert "pieces of it cannot be read" in told.err
        assert "Traceback" not in told.err


def test_closing_a_killed_sessions_file_lets_others_open_it_and_changes_no_trial(folder, m2m):
    path = folder / "trials.h5"
    rows = read_trials(path).rows
    content = path.read_bytes()
    # As a kill leaves it: the superblock says that somebody writes, and half a trial is at the end.
    head = bytearray(Superblock(path).as_closed())
    head[11] = 5
    head[44:] = _checksum(bytes(head[:44]))
    at = content.find(rows[-1].tobytes()) + rows.dtype.fields["sweep_uv"][1]
    path.write_bytes(bytes(head) + content[48:at] + bytes(1000) + content[at + 1000 :])
    with pytest.raises(OSError, match="already open for write"):
        h5py.File(path)
    assert read_trials(path).torn
    assert m2m("session", "close", folder).code == 0
    with h5py.File(path) as opened:
        assert opened["trials"][:].tobytes() == rows[:-1].tobytes()
    before = path.read_bytes()
    assert close_trials(folder) == (len(rows) - 1, True)
    assert path.read_bytes() == before
    _change(path, before.find(rows[1].tobytes()) + 100, 1)
    with pytest.raises(FileFormatError, match="row 1"):
        close_trials(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets nobody replace a file that is open")
def test_a_running_session_is_told_of_and_not_closed(left_sessions, tmp_path, m2m):
    store = SessionStore(tmp_path)  # whose log is locked as an engine's is
    for name in ("session.toml", "trials.h5", "recording.xdf"):
        shutil.copyfile(left_sessions.killed[0].folder / name, tmp_path / name)
    told = m2m("session", "close", tmp_path)
    assert told.code == 1
    assert "an engine still writes" in told.err
    assert check_session(tmp_path).ended == "running"
    store.close()
    assert check_session(tmp_path).ended == "killed"
    assert m2m("session", "close", tmp_path).code == 0


def _checksum(head):
    from rt_engine.hdf5_superblock import lookup3

    return lookup3(head).to_bytes(4, "little")


def test_a_recording_is_found_in_its_folder_or_as_a_file(folder):
    assert recording_in(folder) == folder / "recording.xdf"
    assert recording_in(Path("any.xdf")) == Path("any.xdf")

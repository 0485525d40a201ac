"""`m2m simulate` as a process of its own, seen through real LSL streams."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pylsl
import pytest

from drivers.simulated.session import make_session
from drivers.simulated.settings import settings_from
from rt_engine.field.stimulation_file import read_stimulation_set
from rt_engine.field.subject_file import Subject, file_sha256, write_subject
from rt_engine.muscles import ARTICLE_MUSCLES
from tests.conftest import Ended

RATE = 2000.0
PATIENCE_S = 60.0
"""How long to wait for what must come; a limit for a broken program, not a figure."""

MAIN = [sys.executable, "-c", "from tools.cli import main; main()"]


@pytest.fixture(scope="module")
def subject_path(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("subject") / "small.subject.h5"
    write_subject(path, subject)
    return path


@pytest.fixture
def start(subject_path: Path, unique: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `m2m simulate stream` on the small subject; whatever happens, it is gone afterwards."""
    children: list[subprocess.Popen[str]] = []

    def run(*arguments: str) -> subprocess.Popen[str]:
        command = [*MAIN, "simulate", "stream", "--json-events", "--subject", str(subject_path), "--source-id", unique]
        child = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        children.append(child)
        return child

    yield run
    for child in children:
        if child.poll() is None:
            child.kill()
        child.communicate()


def event(child: subprocess.Popen[str], name: str) -> dict:
    """Return the next event of that name."""
    for line in child.stdout:
        found = json.loads(line)
        if found["event"] == name:
            return found
    raise AssertionError(f"no event {name!r} came; stderr: {child.stderr.read()}")


def inlet(identity: dict[str, str]) -> pylsl.StreamInlet:
    """Open the one stream with that source_id and wait until data flow."""
    found = pylsl.resolve_byprop("source_id", identity["source_id"], minimum=1, timeout=PATIENCE_S)
    assert len(found) == 1
    assert (found[0].name(), found[0].type()) == (identity["name"], identity["type"])
    opened = pylsl.StreamInlet(found[0], max_buflen=360, recover=False)
    opened.open_stream(timeout=PATIENCE_S)
    return opened


def pull_until(opened: pylsl.StreamInlet, stamp: float) -> tuple[np.ndarray, np.ndarray]:
    """Pull samples up to a stamp: values (samples, channels) and raw stamps."""
    values, stamps = [], []
    while not stamps or stamps[-1] < stamp:
        sample, t = opened.pull_sample(timeout=PATIENCE_S)
        assert sample is not None, "no sample came"
        values.append(sample)
        stamps.append(t)
    return np.array(values), np.array(stamps)


def channels(info: pylsl.StreamInfo) -> list[tuple[str, str, str]]:
    rows = []
    channel = info.desc().child("channels").child("channel")
    while not channel.empty():
        rows.append(tuple(channel.child_value(name) for name in ("label", "unit", "type")))
        channel = channel.next_sibling("channel")
    return rows


@pytest.mark.parametrize(("block", "unit", "uv"), [(8, "microvolts", 1.0), (27, "mV", 1e3)])
def test_what_arrives_is_the_session_to_the_bit(
    subject: Subject,
    subject_path: Path,
    start: Callable[..., subprocess.Popen[str]],
    unique: str,
    tmp_path: Path,
    block: int,
    unit: str,
    uv: float,
) -> None:
    truth_path = tmp_path / "truth.stim.h5"
    protocol = {"pulses": 4, "interval_s": 0.25, "lead_in_s": 0.3}
    session = make_session(subject, settings_from({"seed": 3, "protocol": protocol, "emg": {"unit": unit}}))
    child = start(
        *("--await-start", "--seed", "3", "--pulses", "4", "--interval-s", "0.25", "--lead-in-s", "0.3"),
        *("--block-samples", str(block), "--unit", unit, "--truth", str(truth_path)),
    )
    streams = event(child, "ready")["streams"]
    assert [stream["source_id"] for stream in streams.values()] == [
        f"{unique}-{role}" for role in ("emg", "markers", "pose", "intensity")
    ]
    emg, markers, pose, output = (inlet(streams[role]) for role in ("emg", "markers", "pose", "intensity"))

    assert channels(emg.info()) == [*((name, unit, "EMG") for name in ARTICLE_MUSCLES), ("TTL", "au", "TTL")]
    assert emg.info().nominal_srate() == RATE
    assert emg.info().channel_format() == pylsl.cf_float32
    assert [label for label, _, _ in channels(output.info())] == ["percent_mso", "didt_a_per_us"]
    assert [(label, unit_) for label, unit_, _ in channels(pose.info())][3:5] == [("pose_03", "mm"), ("pose_10", "1")]
    assert pose.info().channel_count() == 17

    # Samples flow before the session starts, and none of it is missed afterwards.
    for opened in (emg, pose):
        assert opened.pull_sample(timeout=PATIENCE_S)[0] is not None
    child.stdin.write("start\n")
    child.stdin.flush()
    last = [event(child, "pulse") for _ in range(4)][-1]
    assert last["n"] == 3
    end = last["pushed_at"] + 0.05
    samples, stamps = pull_until(emg, end)
    poses, pose_stamps = pull_until(pose, end - 0.05)
    marks = [markers.pull_sample(timeout=PATIENCE_S) for _ in range(4)]
    outputs, _ = pull_until(output, end - 0.1)  # after the last pulse: it is told every second
    child.stdin.write("stop\n")
    child.stdin.flush()
    done = event(child, "done")
    assert child.wait(PATIENCE_S) == 0
    assert done["pulses_sent"] == 4
    assert done["path"] == str(truth_path)

    data = read_stimulation_set(truth_path)
    truth = data.truth
    assert truth is not None
    assert data.subject_sha256 == file_sha256(subject_path)
    t0 = data.t_pulse[0] - truth.pulse_sample[0] / RATE
    index = np.round((stamps - t0) * RATE).astype(int)
    np.testing.assert_allclose(stamps, t0 + index / RATE, rtol=0, atol=1e-9)
    assert np.array_equal(np.diff(index), np.ones(len(index) - 1))

    # The very samples: the same session made here.
    origin = int(truth.pulse_sample[0] - session.train.sample[0])
    maker = session.emg()
    frames = np.concatenate([maker.frame(k) for k in range(-(-(int(index[-1]) - origin + 1) // 400))])
    in_session = index >= origin
    assert in_session.sum() > 2000
    assert np.array_equal(samples[in_session].astype(np.float32), frames[index[in_session] - origin])

    # Triggers, markers and amplitudes are those of the truth.
    rises = index[1:][np.diff(samples[:, -1]) > 0]
    assert rises.tolist() == truth.pulse_sample.tolist()
    assert [text for text, _ in marks] == [["TMS"]] * 4
    assert [t for _, t in marks] == [stamps[index == pulse][0] for pulse in truth.pulse_sample]
    for row, pulse in enumerate(truth.pulse_sample):
        window = samples[(index >= pulse + 20) & (index <= pulse + 100), :-1].astype(np.float64)
        assert len(window) == 81
        np.testing.assert_allclose(truth.mep_sent_uv[row], np.ptp(window, axis=0) * uv, rtol=1e-12)
    assert np.array_equal(truth.mep_noise_free_uv, session.mep_noise_free_uv)
    assert (truth.pushed_at >= data.t_pulse + 0.05).all()
    for row, t in enumerate(data.t_pulse):
        seen = poses[np.searchsorted(pose_stamps, t, side="right") - 1]
        assert np.array_equal(seen, [*session.protocol.pose[row].ravel(), 1.0])
    assert outputs[-1, 0] == session.percent_mso[3]


def test_faults_are_told_when_it_is_ready_and_where_they_strike(
    start: Callable[..., subprocess.Popen[str]], unique: str, tmp_path: Path
) -> None:
    truth_path = tmp_path / "truth.stim.h5"
    child = start(
        *("--pulses", "3", "--interval-s", "0.25", "--lead-in-s", "0.3", "--truth", str(truth_path)),
        *("--fault", "nan:pulse=1,channel=ADM", "--fault", "restart:pulse=2,at_ms=70,for_ms=20,source_id=other"),
    )
    nan = "nan:pulse=1,at_ms=30.0,channel=ADM,for_ms=0.5"
    assert event(child, "ready")["faults"] == [nan, "restart:pulse=2,at_ms=70.0,for_ms=20.0,stream=emg,source_id=other"]
    assert [event(child, "pulse")["faults"] for _ in range(3)] == [[], ["nan"], []]
    opened = event(child, "opened")
    assert opened["source_id"] == f"{unique}-emg-restarted"
    assert event(child, "done")["pulses_sent"] == 3
    data = read_stimulation_set(truth_path)
    assert nan in data.source
    assert np.isnan(data.mep_uv[1, ARTICLE_MUSCLES.index("ADM")])
    assert np.isfinite(data.mep_uv).sum() == 3 * 15 - 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_the_truth_of_what_was_sent(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path, number: signal.Signals
) -> None:
    truth_path = tmp_path / "truth.stim.h5"
    child = start("--pulses", "200", "--interval-s", "0.25", "--lead-in-s", "0.1", "--truth", str(truth_path))
    event(child, "pulse")
    event(child, "pulse")
    child.send_signal(number)
    done = event(child, "done")
    assert child.wait(PATIENCE_S) == 0
    data = read_stimulation_set(truth_path)
    assert 2 <= data.n_pulses == done["pulses_sent"] < 200
    assert [path.name for path in tmp_path.iterdir()] == ["truth.stim.h5"]


def test_end_of_stdin_before_the_start_ends_it(start: Callable[..., subprocess.Popen[str]]) -> None:
    child = start("--await-start", "--pulses", "2")
    event(child, "ready")
    child.stdin.close()
    child.stdin = None
    assert event(child, "done")["pulses_sent"] == 0
    assert child.wait(PATIENCE_S) == 0


def test_reader_of_the_events_may_leave(start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    truth_path = tmp_path / "truth.stim.h5"
    child = start("--pulses", "3", "--interval-s", "0.2", "--lead-in-s", "0.1", "--truth", str(truth_path))
    event(child, "ready")
    child.stdout.close()
    child.stdout = None
    assert child.wait(PATIENCE_S) == 0
    assert read_stimulation_set(truth_path).n_pulses == 3


def test_dataset_command_writes_and_tells_figures(
    m2m: Callable[..., Ended], subject_path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "set.stim.h5"
    ended = m2m(
        *("simulate", "dataset", out, "--pulses", "8", "--seed", "5", "--subject", subject_path, "--emg", "--json"),
        *("--set", "emg.hum_hz=60"),
    )
    assert ended.code == 0
    data = read_stimulation_set(out)
    assert data.n_pulses == 8
    assert ended.json["pulses"] == 8
    assert ended.json["sha256"] == file_sha256(out)
    assert ended.json["figures"]["share_below_50_uv"] == pytest.approx((data.mep_uv < 50).mean())
    assert '"hum_hz":60' in data.source
    assert '"seed":5' in data.source


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--set", "emg.hum=1"], "hum"),
        (["--set", "emg"], "KEY=VALUE"),
        (["--set", "seed=1", "--set", "seed.x=1"], "seed"),
        (["--muscles", "FDI,APB"], "APB"),
        (["--unit", "furlong"], "furlong"),
        (["--subject", "nowhere.subject.h5"], "nowhere"),
        (["--settings", "nowhere.toml"], "nowhere"),
        (["--truth", "no/such/folder/t.stim.h5"], "no/such/folder"),
    ],
)
def test_mistakes_are_told_without_a_traceback(m2m: Callable[..., Ended], arguments: list[str], named: str) -> None:
    ended = m2m("simulate", "stream", "--pulses", "1", *arguments)
    assert ended.code == 1
    assert named in ended.err
    assert "Traceback" not in ended.err
    assert ended.out == ""


def test_settings_file_is_read_and_options_win(m2m: Callable[..., Ended], subject_path: Path, tmp_path: Path) -> None:
    (tmp_path / "sim.toml").write_text('seed = 9\nmuscles = ["FDI", "ECR"]\n[protocol]\npulses = 3\n')
    out = tmp_path / "set.stim.h5"
    arguments = ["--subject", subject_path, "--settings", tmp_path / "sim.toml", "--pulses", "5"]
    assert m2m("simulate", "dataset", out, *arguments).code == 0
    data = read_stimulation_set(out)
    assert (data.n_pulses, data.muscles) == (5, ("FDI", "ECR"))
    assert '"seed":9' in data.source

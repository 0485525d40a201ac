"""Streams that are lost and come back: the session says so at once, finds them again, and never takes a wrong one."""

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from types import SimpleNamespace

import numpy as np
import pylsl
import pytest

from rt_engine.edges.xdf_source import find_streams, load_recording
from rt_engine.engine_setup import build_engine, load_model
from rt_engine.health import State
from rt_engine.muscles import ARTICLE_MUSCLES
from rt_engine.record_events import StateEntered, StreamBack, StreamLost
from rt_engine.replay import replay
from rt_engine.result_digest import ResultDigest
from rt_engine.settings import parse_settings
from tests.conftest import ROOT


def degraded(running, until, *words):
    """Wait until the session is DEGRADED with a reason that has all these words."""

    def found():
        last = running.of("health")[-1][0]
        return last.state == State.DEGRADED and all(word in last.reason for word in words) and last

    return until(lambda: running.error or found(), f"DEGRADED with {words}")


def served(source, running):
    """Fire one pulse, and check that its amplitudes are those of the very samples sent."""
    n = len(running.of("trial"))
    sample = source.pulse(in_samples=300)
    (header, arrays), *_ = running.wait_for_trials(n + 1)[n:]
    assert header.valid
    np.testing.assert_allclose(arrays["mep_uv"], source.true_amplitude_uv(sample), rtol=1e-6)


def flowing(running, until):
    """Wait until samples flow again and a baseline of them is there."""
    until(lambda: running.of("health")[-1][0].state in (State.READY, State.RUNNING), "the state to be good")
    n = running.of("health")[-1][0].n_samples
    until(lambda: running.of("health")[-1][0].n_samples > n + 400, "samples")


@pytest.fixture
def restart(amplifier):
    """Let an amplifier go and start another in its place."""

    def make(source, labels=None, **options):
        source.close()
        return amplifier(labels or source.labels, source_id=source.source_id, **options)

    return make


def test_an_amplifier_that_is_started_again_is_found_and_serves_the_very_samples(amplifier, restart, live, until):
    first = amplifier()
    running = live(first).start()
    served(first, running)
    first.close()
    lost = degraded(running, until, "emg stream", "is lost", "no pulse can be served")
    assert first.source_id in lost.reason
    again = restart(first)
    flowing(running, until)
    reasons = [header.reason for header, _ in running.of("health") if header.state == State.RUNNING]
    assert any("is back after" in reason for reason in reasons)
    served(again, running)
    assert running.of("health")[-1][0].n_gaps == 1
    assert running.stop().pulses_served == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"labels": ARTICLE_MUSCLES[::-1]}, "channel 1 under the label 'BRD' instead of"),
        pytest.param(
            {"labels": ("renamed", *ARTICLE_MUSCLES[1:]), "peaks_of": ARTICLE_MUSCLES},
            "under the label 'renamed'",
            marks=pytest.mark.long,
        ),
        pytest.param({"unit": "mV"}, "channel 1 under the unit 'mV' instead of 'microvolts'", marks=pytest.mark.long),
        pytest.param({"labels": ARTICLE_MUSCLES[:-1]}, "15 channels instead of 16", marks=pytest.mark.long),
    ],
)
def test_one_that_comes_back_with_other_channels_is_not_taken(amplifier, restart, live, until, options, told):
    first = amplifier()
    running = live(first).start()
    wrong = restart(first, **options)
    degraded(running, until, told, "so it is not taken")
    wrong.pulse()
    right = restart(wrong, ARTICLE_MUSCLES)
    flowing(running, until)
    served(right, running)
    assert len(running.of("map")) == 1


@pytest.mark.long
def test_one_that_comes_back_in_another_unit_than_it_says_degrades_the_session(amplifier, restart, live, until):
    first = amplifier()
    running = live(first).start()
    degraded_by = restart(first, uv_per_unit=1e6)  # volts that call themselves microvolts
    degraded(running, until, "since the EMG stream is back", "unit")
    restart(degraded_by)
    flowing(running, until)


@pytest.mark.long
def test_poses_that_state_a_rate_and_do_not_come_degrade_the_session(amplifier, live, until, unique):
    source = amplifier()
    info = pylsl.StreamInfo("poses", "Pose", 17, 50.0, pylsl.cf_float32, unique)
    poses, end, pause = pylsl.StreamOutlet(info), threading.Event(), threading.Event()

    def send():
        while not end.wait(0.02):
            if not pause.is_set():
                poses.push_sample([*np.eye(4).ravel(), 1.0])

    sender = threading.Thread(target=send)
    sender.start()
    try:
        running = live(source, streams={"pose": {"source_id": unique}, "stall_s": 3.0}).start()
        served(source, running)
        assert running.of("trial")[-1][0].pose_tracked
        pause.set()
        degraded(running, until, "the pose stream 'poses' is silent, trials have no coil pose")
        pause.clear()
        until(lambda: running.of("health")[-1][0].state == State.RUNNING, "RUNNING")
    finally:
        end.set()
        sender.join()


@pytest.mark.long
def test_one_under_another_source_id_that_the_settings_do_not_ask_for_is_named_and_not_taken(
    amplifier, live, until, unique
):
    first = amplifier()
    running = live(first).start()
    first.close()
    other = amplifier(name=f"EMG {first.source_id}", source_id=f"other-{unique}")
    degraded(running, until, f"has source_id '{other.source_id}', which the settings do not ask for")


@pytest.mark.long
def test_one_under_another_source_id_is_taken_if_it_is_the_only_one_that_the_settings_ask_for(
    amplifier, live, until, unique
):
    name = f"EMG {unique}"
    first = amplifier(name=name)
    running = live(first, streams={"emg": {"name": name, "source_id": ""}, "markers": {"source_id": ""}}).start()
    served(first, running)
    first.close()
    again = amplifier(name=name)
    flowing(running, until)
    reason = running.of("health")[-1][0].reason
    assert f"came back under the source_id '{again.source_id}', it was '{first.source_id}'" in reason
    assert [s.source_id for s in running.of("session")[-1][0].streams if s.role == "emg"] == [again.source_id]
    served(again, running)


@pytest.mark.long
def test_two_that_could_be_it_are_not_chosen_between(amplifier, live, until, unique):
    name = f"EMG {unique}"
    first = amplifier(name=name)
    running = live(first, streams={"emg": {"name": name, "source_id": ""}}).start()
    second, third = amplifier(name=name), amplifier(name=name)
    first.close()
    degraded(running, until, "2 others match", second.source_id, third.source_id)


@pytest.mark.parametrize(
    ("role", "consequence"),
    [
        ("pose", "no coil pose"),
        pytest.param("markers", "pulses have no second source", marks=pytest.mark.long),
        pytest.param("intensity", "the last intensity", marks=pytest.mark.long),
    ],
)
def test_another_stream_that_is_lost_degrades_the_session_and_pulses_are_served(
    amplifier, live, until, role, consequence
):
    source = amplifier()

    def make():
        n, kind = {"markers": (1, pylsl.cf_string), "pose": (17, pylsl.cf_float32), "intensity": (1, pylsl.cf_float32)}[
            role
        ]
        return pylsl.StreamOutlet(pylsl.StreamInfo(f"{role} {name}", role, n, pylsl.IRREGULAR_RATE, kind, name))

    name = uuid.uuid4().hex
    outlet = make()
    running = live(source, streams={role: {"source_id": name}}).start()
    del outlet
    degraded(running, until, f"the {role} stream", consequence)
    served(source, running)
    outlet = make()
    until(lambda: running.of("health")[-1][0].state == State.RUNNING, "RUNNING")
    assert "is back after" in running.of("health")[-1][0].reason
    assert running.stop().pulses_served == 1
    del outlet


@pytest.mark.long
def test_a_recorded_session_whose_amplifier_was_started_again_is_replayed_to_the_bit(
    amplifier, restart, live, until, tmp_path
):
    path = tmp_path / "recording.xdf"
    first = amplifier()
    running = live(first, path).start()
    served(first, running)
    again = restart(first)
    degraded(running, until, "is lost")
    flowing(running, until)
    served(again, running)
    summary = running.stop()
    recording = load_recording(path)
    settings = parse_settings(recording.settings)
    model, _ = load_model(settings.model)
    engine = build_engine(settings, model, recording.labels, recording.units, recording.rate_hz).engine
    results = [result for _, results in replay(recording, engine) for result in results]
    digest = ResultDigest()
    for result in results:
        digest.add(result.meps.amplitude_uv, result.map.field)
    assert (len(results), digest.sha256_meps, digest.sha256_maps) == (2, summary.sha256_meps, summary.sha256_maps)
    _, events = find_streams(path)
    lost, back = (
        next(e for e in events if isinstance(e, kind) and e.role == "emg") for kind in (StreamLost, StreamBack)
    )
    assert lost.n == back.n
    assert back.first_stamp == recording.stamps[back.n]
    states = [event.state for event in events if isinstance(event, StateEntered)]
    assert [state for state in states if state in ("RUNNING", "DEGRADED")][:2] == ["RUNNING", "DEGRADED"]
    assert states[-1] == "STOPPED"
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in log if line["event"].startswith("stream_") and line["role"] == "emg"] == [
        "stream_lost",
        "stream_back",
    ]


@pytest.mark.long
@pytest.mark.skipif(os.name != "posix", reason="stops a process as a computer that hangs does")
def test_one_that_hangs_and_is_started_again_elsewhere_is_found_though_its_connection_never_ended(
    amplifier, live, until, unique
):
    code = "import sys, time; from tests.rt_engine.edges.conftest import Amplifier\n"
    code += f"source = Amplifier(source_id={unique!r}); time.sleep(600)"
    hanging = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    again = None
    try:
        wanted = SimpleNamespace(source_id=unique)
        running = live(wanted).start()
        until(lambda: running.of("health")[-1][0].n_samples > 0, "samples")
        os.kill(hanging.pid, signal.SIGSTOP)
        degraded(running, until, "no EMG sample for")
        degraded(running, until, "markers stream", "is connected and does not answer")
        again = amplifier(source_id=unique)
        until(lambda: "no EMG" not in running.of("health")[-1][0].reason or running.error, "the other one")
        n = running.of("health")[-1][0].n_samples
        until(lambda: running.of("health")[-1][0].n_samples > n + 400, "samples")
        served(again, running)
    finally:
        hanging.kill()
        hanging.wait()

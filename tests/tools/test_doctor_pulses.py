"""`m2m doctor --pulses`: real streams with a trigger channel and an artefact, near each other and far apart."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pylsl
import pytest

from rt_engine.model_file import Model, open_model
from rt_engine.settings import EmgStream, Settings, StreamQuery, Streams, Trigger
from tests.conftest import ROOT, Ended
from tools.bench.latency_amplifier import Amplifier, AmplifierOptions, RunOptions, make_run
from tools.doctor_check import Level
from tools.doctor_pulses import PulseTimes, check_pulses, listen_for_pulses

MODEL = ROOT / "configs" / "demo" / "kernel-ridge.onnx"


@pytest.fixture(scope="module")
def model() -> Model:
    return open_model(MODEL, provider="cpu")


@contextlib.contextmanager
def pulsing(source_id: str, model: Model, ttl_late: int = 0) -> Iterator[None]:
    """Send 5 pulses per second without end, the trigger so many samples after the artefact."""
    muscles = list(model.info.muscles)
    amplifier = Amplifier(AmplifierOptions(source_id=source_id, muscles=muscles, block=8), lambda event: None)
    run = make_run(RunOptions(pulses=100_000, rate_hz=5.0), len(muscles), 8)
    run.loop[:, -1] = np.roll(run.loop[:, -1], ttl_late)
    amplifier.start(run)
    sender = threading.Thread(target=amplifier.send)
    sender.start()
    try:
        assert pylsl.resolve_byprop("source_id", source_id, minimum=1, timeout=60.0)
        yield
    finally:
        amplifier.stop()
        sender.join()


def settings_for(source_id: str, **trigger: Any) -> Settings:
    return Settings(streams=Streams(emg=EmgStream(source_id=source_id)), trigger=Trigger(**trigger))


def test_the_offset_between_trigger_and_artefact_is_measured(unique: str, model: Model) -> None:
    settings = settings_for(unique)
    told: list[int] = []
    with pulsing(unique, model, ttl_late=6):
        times = listen_for_pulses(settings, model, 4, 60.0, told.append)
    assert [each.source for each in times] == ["ttl"] * 4
    assert [each.offsets_ms["artefact"] for each in times] == pytest.approx([-3.0] * 4, abs=1e-3)
    assert told[-1] >= 4
    pulses, artefact = check_pulses(times, 4, settings)
    assert (pulses.level, artefact.level) == (Level.OK, Level.WARN)
    assert "artefact 3.00 ms earlier (median of 4), within 0.00 ms" in artefact.text


def test_the_command_measures_it_too_and_says_so_in_json(
    unique: str, model: Model, tmp_path: Path, m2m: Callable[..., Ended]
) -> None:
    path = tmp_path / "lab.toml"
    path.write_text(
        f'[streams.emg]\nsource_id = "{unique}"\n[model]\npath = "{MODEL}"\nprovider = "cpu"\n'
        f'[publish]\naddress = "ipc://{tmp_path}/out"\ncontrol_address = ""\n'
        f'[record]\nfolder = "{tmp_path}"\nmin_free_mb = 1.0\n'
    )
    arguments = ("--settings", path, "--wait", "1", "--listen", "0.3", "--pulses", "3", "--json")
    with pulsing(unique, model):
        ended = m2m("doctor", *arguments)
    found = ended.json
    assert ended.code == 0, ended.err
    assert len(found["pulses"]) == 3
    assert found["pulses"][0]["offsets_ms"]["artefact"] == pytest.approx(0.0, abs=1e-3)
    levels = {check["name"]: check["level"] for check in found["session"]}
    assert (levels["Test pulses"], levels["ttl and artefact"]) == ("OK", "OK")
    assert found["warnings"] > 0, "the tests' LSL has a SessionID of its own"
    strict = m2m("doctor", "--wait", "0", "--strict", "--json")
    assert (strict.code, strict.json["failed"]) == (1, 0)


def test_without_a_session_there_are_no_test_pulses(unique: str, tmp_path: Path, m2m: Callable[..., Ended]) -> None:
    path = tmp_path / "lab.toml"
    path.write_text(f'[streams.emg]\nsource_id = "{unique}"\n[model]\npath = "{MODEL}"\nprovider = "cpu"\n')
    ended = m2m("doctor", "--settings", path, "--wait", "0.5", "--pulses", "3", "--json")
    assert ended.code == 1
    assert "would not start" in ended.json["session"][-1]["text"]
    assert ended.json["pulses"] == []


def pulse(**offsets_ms: float) -> PulseTimes:
    return PulseTimes("ttl", 1.0, offsets_ms, ())


def test_sources_that_agree_jitter_or_disagree_are_told_apart() -> None:
    settings = Settings(streams=Streams(markers=StreamQuery(name="m")))

    def level(*times: PulseTimes) -> Level:
        return {check.name: check for check in check_pulses(list(times), len(times), settings)}["ttl and marker"].level

    near = pulse(artefact=0.0, marker=0.4)
    assert level(near, pulse(artefact=0.0, marker=0.8)) is Level.OK
    assert level(near, pulse(artefact=0.0, marker=1.9)) is Level.WARN, "its distance changes"
    assert level(near, pulse(artefact=0.0)) is Level.WARN, "one has no marker"
    assert level(pulse(marker=2.0), pulse(marker=2.1)) is Level.WARN
    assert level(pulse(marker=8.0), pulse(marker=8.1)) is Level.FAIL, "beyond trigger.max_disagreement_ms"


def test_no_pulse_too_few_and_unusable_ones_are_told() -> None:
    settings = Settings()
    (none,) = check_pulses([], 5, settings)
    assert (none.level, "ttl" in none.text) == (Level.FAIL, True)
    few, artefact = check_pulses([pulse()], 5, settings)
    assert (few.level, few.text) == (Level.WARN, "1 of 5 by ttl")
    assert (artefact.level, "no step of 500 uV in 3 channels" in artefact.text) == (Level.WARN, True)
    refused, _ = check_pulses([PulseTimes("ttl", 1.0, {"artefact": 0.0}, ("gap",))], 1, settings)
    assert (refused.level, "not usable: gap" in refused.text) == (Level.WARN, True)

"""`m2m doctor`: what it says of this computer, and of real LSL streams that have something wrong with them."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pylsl
import pytest
import zmq

from rt_engine.edges import clock_offset
from rt_engine.edges.lsl_library import lsl_library
from rt_engine.model_file import Model, open_model
from rt_engine.settings import EmgStream, ModelChoice, Publish, Settings, StreamQuery, Streams, Trigger
from tests.conftest import ROOT, Ended
from tools import doctor, doctor_network, system_libraries
from tools.doctor_check import Level
from tools.doctor_streams import SeenStream, check_session, judge_stamps, look

Run = Callable[..., Ended]
MODEL = ROOT / "configs" / "demo" / "kernel-ridge.onnx"


@pytest.fixture(scope="module")
def model() -> Model:
    return open_model(MODEL, provider="cpu")


@contextlib.contextmanager
def outlet(
    name: str,
    source_id: str,
    *,
    type_: str = "EMG",
    labels: tuple[str, ...] = ("FDI", "ADM"),
    with_labels: bool = True,
    unit: str | None = "microvolts",
    nominal_hz: float = 2000.0,
    true_hz: float = 2000.0,
    sends: bool = True,
    sd: float = 4.0,
) -> Iterator[None]:
    """Open a real stream that sends stamped noise until the block ends."""
    info = pylsl.StreamInfo(name, type_, len(labels), nominal_hz, "float32", source_id)
    if with_labels:
        info.set_channel_labels(list(labels))
    if unit:
        info.set_channel_units([unit] * len(labels))
    made = pylsl.StreamOutlet(info)
    stop = threading.Event()
    rng = np.random.default_rng(0)

    def feed() -> None:
        n, begin = 40, pylsl.local_clock()
        sent = 0
        # At the time of the last sample, so that a slow machine catches up.
        while not stop.wait(max(begin + (sent + n) / true_hz - pylsl.local_clock(), 0.0)):
            stamps = begin + np.arange(sent + 1, sent + n + 1) / true_hz
            made.push_chunk(rng.normal(0, sd, (n, len(labels))).astype(np.float32), stamps.tolist())
            sent += n

    feeder = threading.Thread(target=feed) if sends else None
    if feeder:
        feeder.start()
    try:
        own = f"name='{name}' and source_id='{source_id}'"
        assert pylsl.resolve_bypred(own, minimum=1, timeout=60.0), "LSL does not show the test's own stream"
        yield
    finally:
        stop.set()
        if feeder:
            feeder.join()
        feeder = None
        made = None  # type: ignore[assignment]


def _one(streams: list[SeenStream], source_id: str) -> SeenStream:
    (found,) = (stream for stream in streams if stream.source_id == source_id)
    return found


def _texts(stream: SeenStream) -> str:
    return " | ".join(f"{check.level} {check.text}" for check in stream.checks)


def test_a_good_stream_is_seen_whole_and_nothing_is_wrong_with_it(unique: str) -> None:
    with outlet("good", unique):
        stream = _one(look(1.0, 0.7), unique)
    assert stream.checks == []
    assert stream.labels == ["FDI", "ADM"]
    assert stream.units == ["microvolts"] * 2
    assert stream.effective_rate_hz == pytest.approx(2000, rel=1e-3)
    assert stream.clock_offset_ms == pytest.approx(0.0, abs=50.0), "one machine, one clock"
    assert stream.clock_uncertainty_ms is not None
    assert (stream.gaps, stream.jitter_ms) == (0, pytest.approx(0.0, abs=1e-3))


def test_the_clock_of_another_computer_is_told(unique: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_offset, "query_offset", lambda inlet, timeout_s: (1.25, 1e-4))
    with outlet("elsewhere", unique):
        stream = _one(look(1.0, 0.1), unique)
    assert stream.clock_offset_ms == 1250.0
    assert stream.clock_uncertainty_ms == pytest.approx(0.1)
    assert stream.checks == []


def test_a_clock_offset_that_is_hardly_known_is_told(unique: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_offset, "query_offset", lambda inlet, timeout_s: (0.0, 4e-3))
    with outlet("by-radio", unique):
        stream = _one(look(1.0, 0.1), unique)
    assert "WARN its clock offset is known to 4.0 ms only" in _texts(stream)


def test_rate_and_gaps_are_told_apart() -> None:
    stream = SeenStream("lossy", "EMG", "x", "here", 1, 2000.0)
    stamps = np.arange(4000) / 1999.0
    stamps[1000:] += 0.1
    stamps[3000:] += 0.5
    judge_stamps(stream, stamps + np.random.default_rng(0).normal(0, 1e-4, 4000))
    assert stream.gaps == 2
    assert stream.effective_rate_hz == pytest.approx(1999.0, rel=1e-4), "not slowed by what is missing"
    assert stream.jitter_ms == pytest.approx(0.1, rel=0.1)


def test_each_fault_of_a_stream_is_named(unique: str) -> None:
    with (
        outlet("plain", unique + "a", with_labels=False, unit=None),
        outlet("slow", unique + "b", true_hz=1500.0),
        outlet("silent", unique + "c", sends=False),
    ):
        streams = look(1.0, 0.7)
    plain = _texts(_one(streams, unique + "a"))
    assert "WARN its 2 channels have no labels" in plain
    assert "WARN no unit is stated for no. 1, no. 2" in plain
    slow = _one(streams, unique + "b")
    assert slow.effective_rate_hz == pytest.approx(1500, rel=1e-3)
    assert "WARN states 2000 Hz but sends 15" in _texts(slow)
    assert "FAIL is open but sends nothing" in _texts(_one(streams, unique + "c"))


def test_a_stream_without_source_id_is_told(unique: str) -> None:
    with outlet(f"anonymous-{unique}", ""):
        (stream,) = (s for s in look(1.0, 0.2) if s.name == f"anonymous-{unique}")
    assert "has no source_id" in _texts(stream)


def test_two_streams_of_one_identity_are_told(unique: str) -> None:
    with outlet("twin", unique), outlet("twin", unique):
        streams = [stream for stream in look(1.5, 0.2) if stream.source_id == unique]
    assert len(streams) == 2
    assert all("there are 2 streams of this name" in _texts(stream) for stream in streams)


def test_a_session_that_would_start_is_all_ok(unique: str, model: Model) -> None:
    muscles = model.info.muscles
    settings = Settings(streams=Streams(emg=EmgStream(source_id=unique)))
    with outlet("amplifier", unique, labels=("TTL", *reversed(muscles)), unit="mV", sd=0.004):
        streams = look(1.0, 0.7)
    checks = check_session(streams, settings, model)
    assert [check.level for check in checks] == [Level.OK, Level.OK]
    assert "1 mV = 1000 uV" in checks[1].text
    assert _one(streams, unique).roles == ["EMG"]


def test_a_muscle_of_the_model_that_is_missing_is_named(unique: str, model: Model) -> None:
    labels = tuple(muscle for muscle in model.info.muscles if muscle != "FDI")
    settings = Settings(streams=Streams(emg=EmgStream(source_id=unique)))
    with outlet("amplifier", unique, labels=(*labels, "TTL")):
        checks = check_session(look(1.0, 0.7), settings, model)
    assert checks[1].level is Level.FAIL
    assert "no channel for FDI" in checks[1].text


def test_a_unit_that_cannot_be_is_named(unique: str, model: Model) -> None:
    settings = Settings(streams=Streams(emg=EmgStream(source_id=unique)))
    with outlet("amplifier", unique, labels=(*model.info.muscles, "TTL"), unit="V", sd=4.0):
        checks = check_session(look(1.0, 0.7), settings, model)
    assert checks[1].level is Level.FAIL
    assert "unit" in checks[1].text


def test_streams_that_are_missing_or_match_twice_stop_a_session(unique: str, model: Model) -> None:
    settings = Settings(
        streams=Streams(emg=EmgStream(name=f"pair-{unique}"), markers=StreamQuery(name=f"none-{unique}")),
        trigger=Trigger(source="marker"),
    )
    with outlet(f"pair-{unique}", unique + "a"), outlet(f"pair-{unique}", unique + "b"):
        checks = check_session(look(1.5, 0.2), settings, model)
    assert [check.level for check in checks] == [Level.FAIL, Level.FAIL]
    assert "2 streams match" in checks[0].text
    assert f"none-{unique}" in checks[1].text


def test_the_command_reports_computer_streams_and_session_and_fails_if_a_session_would(
    unique: str, tmp_path: Path, m2m: Run
) -> None:
    path = tmp_path / "lab.toml"
    path.write_text(
        f'[streams.emg]\nsource_id = "{unique}"\n[model]\npath = "{MODEL}"\nprovider = "cpu"\n'
        f'[publish]\naddress = "ipc://{tmp_path}/out"\n[record]\nfolder = "{tmp_path}"\nmin_free_mb = 1.0\n'
    )
    with outlet("amplifier", unique, labels=("FDI", "TTL")):
        ended = m2m("doctor", "--settings", path, "--wait", "1", "--listen", "0.3", "--json")
    found = ended.json
    assert ended.code == 1
    assert found["ok"] is False
    assert {check["name"] for check in found["computer"]} >= {
        *("Python", "liblsl", "LSL settings", "LSL scope", "LSL ports", "Interfaces", "VPN", "Timer", "Priority"),
        *("Model", "GPU", "LabRecorder", "Publishing", "Control", "Disk"),
    }
    assert all(check["level"] != "FAIL" for check in found["computer"])
    (stream,) = (stream for stream in found["streams"] if stream["source_id"] == unique)
    assert (stream["name"], stream["type"], stream["labels"]) == ("amplifier", "EMG", ["FDI", "TTL"])
    assert [check["level"] for check in found["session"]] == ["OK", "FAIL"]
    assert "3DI" in found["session"][1]["text"]
    assert "3DI" in ended.err


def test_liblsl_is_described_and_its_configuration_is_the_one_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = Path(os.environ["LSLAPICFG"])
    assert lsl_library().configuration == used
    assert lsl_library().version == f"{pylsl.library_version() // 100}.{pylsl.library_version() % 100}"
    checks = {check.name: check for check in doctor_network.check_lsl()}
    assert (checks["liblsl"].level, checks["LSL settings"].level) == (Level.OK, Level.OK)
    assert checks["LSL scope"].level is Level.WARN, "the tests' streams are in a session of their own"
    assert "m2m-tests" in checks["LSL scope"].text
    (tmp_path / ".lsl_api").mkdir()
    (tmp_path / ".lsl_api" / "lsl_api.cfg").write_text("[lab]\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("LSLAPICFG")
    monkeypatch.chdir(tmp_path)
    hidden = doctor_network.check_lsl()[1]
    assert hidden.level is Level.WARN
    assert ".lsl_api" in hidden.text
    monkeypatch.setenv("LSLAPICFG", str(tmp_path / "gone.cfg"))
    assert "not there" in doctor_network.check_lsl()[1].text


def test_the_provider_is_the_one_that_a_session_really_gets() -> None:
    check, opened = doctor.check_model(Settings(model=ModelChoice(path=str(MODEL), provider="cpu")))
    assert opened is not None
    assert check.level is Level.OK
    assert "runs on CPUExecutionProvider" in check.text


def test_a_model_that_is_absent_or_damaged_is_told(tmp_path: Path) -> None:
    assert doctor.check_model(Settings())[0].level is Level.WARN
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(MODEL.read_bytes()[:-1000])
    check, opened = doctor.check_model(Settings(model=ModelChoice(path=str(broken))))
    assert (check.level, opened) == (Level.FAIL, None)
    assert "broken.onnx" in check.text


def test_the_recorder_of_this_environment_starts() -> None:
    assert doctor.check_recorder().level is Level.OK


def test_a_recorder_that_may_not_be_executed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "lib" / "LabRecorderCLI"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho cannot find libsomething.so >&2\nexit 127\n")
    monkeypatch.setattr(doctor, "files", lambda package: tmp_path)
    program.chmod(0o644)
    check = doctor.check_recorder()
    assert (check.level, check.advice) == (Level.FAIL, f"chmod +x {program}")
    program.chmod(0o755)
    assert "libsomething.so" in doctor.check_recorder().text
    program.unlink()
    assert "no program for this platform" in doctor.check_recorder().text


def test_addresses_in_use_are_told() -> None:
    with zmq.Context() as context, context.socket(zmq.PUB) as other:
        port = other.bind_to_random_port("tcp://127.0.0.1")
        taken = f"tcp://127.0.0.1:{port}"
        publishing, control = doctor_network.check_addresses(
            Publish(address="tcp://127.0.0.1:*", control_address=taken)
        )
        assert (publishing.level, control.level) == (Level.OK, Level.WARN)
        assert str(port) in control.text
        publishing, control = doctor_network.check_addresses(Publish(address=taken, control_address=""))
        assert (publishing.level, control.level) == (Level.WARN, Level.OK)
        other.unbind(taken)


def test_an_address_that_a_session_refuses_stops_it() -> None:
    (publishing, _) = doctor_network.check_addresses(Publish(address="tcp://0.0.0.0:5556", control_address=""))
    assert publishing.level is Level.FAIL
    assert "m2m keys" in publishing.text


def test_a_disk_that_is_too_full_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "made" / "yet"
    assert doctor.check_disk(folder, 0.0).level is Level.OK
    assert doctor.check_disk(folder, 1e12).level is Level.FAIL
    assert not folder.exists(), "the doctor changes nothing"


def test_an_extra_that_is_absent_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_extra("display").level is Level.OK
    monkeypatch.setitem(doctor.EXTRAS, "display", ({"no_such_package": "No-Such-Package"}, "the window"))
    check = doctor.check_extra("display")
    assert check.level is Level.WARN
    assert "No-Such-Package" in check.text
    assert "m2m-live[display]" in check.advice


def test_a_missing_system_library_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = system_libraries._library("libnosuch.so.7", "libnosuch7", "nosuch")
    assert not lost.present()
    monkeypatch.setattr(system_libraries, "missing", lambda: [lost])
    (check,) = doctor.check_system_libraries()
    assert check.level is Level.WARN
    assert "libnosuch.so.7" in check.text
    assert "nosuch" in check.advice

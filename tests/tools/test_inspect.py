"""`m2m inspect`: files are recognised by their content, described truly, and refused when damaged."""

import json
import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import h5py
import numpy as np
import pytest

from rt_engine.errors import FileFormatError, SettingsError
from rt_engine.field.stimulation_file import StimulationSet, write_stimulation_set
from rt_engine.field.subject_file import read_subject
from rt_engine.mep import MepStatus
from rt_engine.model_file import read_model_info
from tests.conftest import Ended
from tools.inspection import clock_resets, duration_s, effective_rate_hz, inspect_path

Run = Callable[..., Ended]
DEMO = Path(str(files("configs") / "demo"))
SUBJECT = DEMO / "default.subject.h5"
MODEL = DEMO / "kernel-ridge.onnx"


@pytest.fixture
def stimulations(tmp_path: Path) -> Path:
    n, voxel = 5, np.array([[0, 0, 0], [0, 1, 2], [3, 0, 0]], np.int16)
    mep_uv = np.array([[10.0, 500.0], [20.0, 700.0], [300.0, np.nan], [30.0, 900.0], [40.0, 800.0]], np.float32)
    status = np.where(mep_uv < 50, MepStatus.NO_MEP, 0).astype(np.uint16)
    status[2, 1] = MepStatus.SAMPLES_MISSING
    pose = np.tile(np.eye(4), (n, 1, 1))
    pose[3] = np.nan
    data = StimulationSet(
        muscles=("FDI", "ADM"),
        mep_uv=mep_uv,
        status=status,
        field_v_per_m=np.linspace(0, 90, n * 3, dtype=np.float32).reshape(n, 3),
        voxel=voxel,
        affine=np.eye(4),
        box_shape=(4, 4, 4),
        pose=pose,
        intensity_percent_rmt=np.array([110, 120, 110, 120, np.nan], np.float32),
        intensity_percent_mso=np.full(n, 50, np.float32),
        t_pulse=np.full(n, np.nan),
        source="made by a test",
        subject_sha256="",
    )
    path = tmp_path / "set.stim.h5"
    write_stimulation_set(path, data)
    return path


def test_a_subject_is_described(m2m: Run) -> None:
    found = m2m("inspect", SUBJECT, "--json")
    subject = read_subject(SUBJECT)
    assert found.code == 0
    assert found.json["kind"] == "subject"
    assert found.json["n_voxels"] == subject.n_voxels
    assert found.json["hemisphere"] == subject.hemisphere
    np.testing.assert_allclose(found.json["voxels_from_mm"], subject.voxel_mm.min(axis=0), atol=0.01)
    assert subject.name in found.err
    assert "{" not in found.err, "what people read is no JSON"


def test_a_model_is_described(m2m: Run) -> None:
    found = m2m("inspect", MODEL, "--json")
    info = read_model_info(MODEL)
    assert found.json["kind"] == "model"
    assert found.json["sha256"] == info.sha256
    assert [row["muscle"] for row in found.json["muscles"]] == list(info.muscles)
    assert found.json["validation"] == json.loads(json.dumps(info.validation))
    scores = {(row["folds"], row["model"]): row for row in found.json["scores"]}
    best = scores["random", info.kind]
    assert best["nrmse"] == info.validation["random"][info.kind]["nrmse_mean"]
    assert best["nrmse"] < scores["random", "mean-map"]["nrmse"]
    assert ("blocks", info.kind) in scores


def test_a_data_set_is_described_per_muscle(stimulations: Path, m2m: Run) -> None:
    found = m2m("inspect", stimulations, "--json").json
    assert found["kind"] == "stimulations"
    assert (found["n_pulses"], found["n_muscles"], found["n_tracked"]) == (5, 2, 4)
    assert found["intensities_percent_rmt"] == [110.0, 120.0]
    assert found["simulated"] is False
    fdi, adm = found["muscles"]
    assert fdi == {"muscle": "FDI", "median_uv": 30.0, "max_uv": 300.0, "no_mep_percent": 80.0, "not_measured": 0}
    assert adm["median_uv"] == pytest.approx(750.0)
    assert adm["not_measured"] == 1


def test_people_read_no_endless_lists(m2m: Run) -> None:
    shown = m2m("inspect", SUBJECT).err
    assert "64, 64, 64" in shown
    assert max(map(len, shown.splitlines())) <= 200
    shown = m2m("inspect", MODEL)
    assert max(map(len, shown.err.splitlines())) <= 200
    assert shown.out == "", "without --json nothing goes to stdout"


def test_settings_are_described_and_their_mistakes_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[streams.emg]\nname = "Trigno"\n[mep]\nfloor_uv = 30.0\n')
    found = inspect_path(path)
    assert found.kind == "settings"
    assert found.facts["floor_uv"] == 30.0
    assert "Trigno" in found.facts["emg"]
    path.write_text("[mep]\nflor_uv = 30.0\n")
    with pytest.raises(SettingsError, match="floor_uv"):
        inspect_path(path)


@pytest.mark.parametrize("name", ["subject", "model"])
def test_the_content_counts_and_not_the_name(tmp_path: Path, name: str) -> None:
    source = {"subject": SUBJECT, "model": MODEL}[name]
    copy = tmp_path / "renamed.bin"
    shutil.copyfile(source, copy)
    assert inspect_path(copy).kind == name


@pytest.mark.parametrize("source", [SUBJECT, MODEL], ids=["subject", "model"])
@pytest.mark.parametrize("damage", ["cut", "bit"])
def test_a_damaged_file_is_an_error(tmp_path: Path, m2m: Run, source: Path, damage: str) -> None:
    content = bytearray(source.read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    else:
        content[len(content) // 2] ^= 1
    path = tmp_path / source.name
    path.write_bytes(content)
    ended = m2m("inspect", path, "--json")
    assert ended.code == 1
    assert str(path) in ended.err.replace("\n", "")
    assert ended.out == ""


def test_what_is_not_known_is_refused(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(FileFormatError, match="nothing that m2m knows"):
        inspect_path(picture)
    foreign = tmp_path / "foreign.h5"
    with h5py.File(foreign, "w") as file:
        file["x"] = [1, 2, 3]
    with pytest.raises(FileFormatError, match="another program"):
        inspect_path(foreign)
    with pytest.raises(FileFormatError, match=r"session\.toml"):
        inspect_path(tmp_path)
    with pytest.raises(FileFormatError, match="cannot be read"):
        inspect_path(tmp_path / "absent.xdf")


def test_clock_resets_of_a_real_recording_are_counted(shared_data: Callable[[str], Path], m2m: Run) -> None:
    found = m2m("inspect", shared_data("xdf_examples") / "clock_resets.xdf", "--json").json
    assert found["kind"] == "recording"
    assert found["clock_resets"] == 1
    markers, eeg = found["streams"]
    assert (markers["name"], markers["samples"], markers["effective_rate_hz"]) == ("MyMarkerStream", 175, None)
    assert (eeg["name"], eeg["samples"], eeg["channels"]) == ("BioSemi", 27815, 8)
    assert eeg["effective_rate_hz"] == pytest.approx(93, abs=1), "its steps are 10.7 ms, whatever it states"
    assert eeg["duration_s"] == pytest.approx(299.4, abs=0.1), "the jump from 653,000 s to 0 is no time that passed"


def test_empty_streams_of_a_real_recording_are_no_obstacle(shared_data: Callable[[str], Path]) -> None:
    rows = inspect_path(shared_data("xdf_examples") / "empty_streams.xdf").tables["streams"]
    assert [(row["samples"], row["duration_s"]) for row in rows] == [(0, None), (10, 9.0), (1, 0.0), (0, None)]
    assert rows[1]["labels"] == ["ch:00"]


def test_a_session_folder_lists_the_streams_of_its_recording(
    shared_data: Callable[[str], Path], tmp_path: Path, m2m: Run
) -> None:
    shutil.copyfile(shared_data("xdf_examples") / "minimal.xdf", tmp_path / "recording.xdf")
    (tmp_path / "session.toml").write_text('id = "abc"\n')
    (tmp_path / "log.jsonl").write_text('{"event": "a"}\n{"event": "b"}\n')
    found = m2m("inspect", tmp_path, "--json").json
    assert found["kind"] == "session folder"
    assert found["session"] == {"id": "abc"}
    assert found["n_log_entries"] == 2
    assert set(found["files"]) == {"recording.xdf", "session.toml", "log.jsonl"}
    assert [row["name"] for row in found["streams"]] == ["SendDataC", "SendDataString"]
    (tmp_path / "log.jsonl").write_text('{"event": "a"}\n{"event": \n')
    with pytest.raises(FileFormatError, match="line 2"):
        inspect_path(tmp_path)


def test_a_recording_cut_short_is_shown_with_what_the_reader_complained_of(
    shared_data: Callable[[str], Path], tmp_path: Path
) -> None:
    whole = shared_data("xdf_examples") / "clock_resets.xdf"
    assert inspect_path(whole).facts["complaints"] == []
    cut = tmp_path / "cut.xdf"
    cut.write_bytes(whole.read_bytes()[:500_001])
    found = inspect_path(cut)
    assert 0 < found.facts["n_samples"] < inspect_path(whole).facts["n_samples"]
    assert found.facts["complaints"]
    cut.write_bytes(b"XDF:" + bytes(50))
    with pytest.raises(FileFormatError, match="without a single stream"):
        inspect_path(cut)


def test_drift_is_no_clock_reset() -> None:
    drifting = 12.0 + 200e-6 * 5.0 * np.arange(100)
    assert clock_resets(drifting) == 0
    assert clock_resets(np.concatenate([drifting, drifting - 6000.0, drifting])) == 2
    assert clock_resets(np.array([])) == 0


def test_pauses_and_jumps_do_not_change_the_effective_rate() -> None:
    stamps = np.arange(4000) / 1998.0
    stamps[2000:] += 3.0
    assert effective_rate_hz(stamps) == pytest.approx(1998.0)
    stamps[3000:] -= 900.0
    assert effective_rate_hz(stamps) == pytest.approx(1998.0)
    assert duration_s(stamps) == pytest.approx(3998 / 1998.0 + 3.0)
    assert effective_rate_hz(np.array([1.0])) is None
    assert duration_s(np.array([])) is None

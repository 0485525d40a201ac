"""The session's folder: what is kept is what was there, nothing is overwritten, and a full disk stops it loudly."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from rt_engine.companions import CoilPose, StimulatorIntensity
from rt_engine.edges import session_store
from rt_engine.edges.session_store import SessionStore
from rt_engine.engine import PulseResult
from rt_engine.errors import RecordingError
from rt_engine.messages import ModelDescription, SessionHeader
from rt_engine.settings import Settings, parse_settings
from rt_engine.tracked_field import ComputedField
from rt_engine.trials_file import read_in_process, read_trials
from rt_engine.trials_layout import STAGES, TEXT, map_sha256

MUSCLES = ("FDI", "ADM", "ECR")
N_VOXELS = 5


def header(session: str = "s1") -> SessionHeader:
    model = ModelDescription(
        name="m", kind="ridge", sha256="ab" * 32, muscles=list(MUSCLES), field_scale_v_per_m=100.0, provider="CPU"
    )
    return SessionHeader(
        session=session, started_at="2026-11-25T20:00:00+00:00", muscles=list(MUSCLES), window_ms=[[10.0, 50.0]] * 3,
        sweep_ms=[-100.0, 50.0], floor_uv=50.0, nominal_rate_hz=2000.0, trigger_source="ttl", model=model,
        versions={"python": "3"},
    )  # fmt: skip


@pytest.fixture
def results(
    emg: Callable[..., Any], new_engine: Callable[..., Any], play: Callable[..., list[PulseResult]]
) -> list[PulseResult]:
    """Four trials; the last is not valid, for its samples never came."""
    return play(new_engine(), emg(4000, [600, 1700, 2800, 3950], amplitude_uv=900.0))


@pytest.fixture
def store(tmp_path: Path) -> Any:
    made = SessionStore(tmp_path / "s1")
    made.begin(header(), Settings(), N_VOXELS)
    yield made
    made.close()


def test_trials_come_back_as_the_engine_gave_them(store: SessionStore, results: list[PulseResult]) -> None:
    pose, intensity = CoilPose(0.25, np.diag([1.0, 2.0, 3.0, 1.0])), StimulatorIntensity(0.125, 55.5)
    full = replace(
        results[0],
        trial=replace(
            results[0].trial, pose=pose, intensity=intensity, offsets_ms={"marker": 1.5}, doubts=("clock_step",)
        ),
        stages_us={"infer": 250.0, "another": 1.0},
        gains=(1.0, 0.5, 2.0),
        computed=ComputedField(np.arange(N_VOXELS, dtype=np.float32), 0.02),
    )
    for result in [full, *results[1:]]:
        store.add(result, model_sha256="cd" * 32)
    store.close()
    trials = read_trials(store.folder / "trials.h5")
    assert (len(trials.rows), trials.n_rows, trials.damaged, trials.closed) == (4, 4, (), True)
    assert (trials.layout.session, trials.layout.muscles, trials.layout.n_voxels) == ("s1", MUSCLES, N_VOXELS)
    for number, (row, result) in enumerate(zip(trials.rows, results, strict=True)):
        trial, meps, estimate = result.trial, result.meps, result.map
        assert (row["row"], row["pulse"], bool(row["valid"])) == (number, trial.pulse_id, trial.valid)
        assert row["reasons"].decode() == "|".join(trial.reasons)
        assert row["trigger_source"] == b"ttl"
        assert (row["t_raw"], row["t"]) == (trial.t_raw, trial.t)
        np.testing.assert_equal(row["pulse_index"], trial.pulse_index)
        assert (row["first_index"], row["rate_hz"]) == (trial.first_index, trial.rate_hz)
        n = trial.sweep_uv.shape[1]
        assert row["n_samples"] == n
        np.testing.assert_array_equal(row["sweep_uv"][:, :n], trial.sweep_uv.astype(np.float32))
        assert np.isnan(row["sweep_uv"][:, n:]).all()
        assert row["model_sha256"] == b"cd" * 32
        if meps is None or estimate is None:
            assert np.isnan(row["mep_uv"]).all()
            assert np.isnan(row["field"]).all()
            assert row["confidence"] == b"low"
            continue
        for name, there in (
            ("mep_uv", meps.amplitude_uv), ("status", meps.status), ("onset_ms", meps.onset_ms),
            ("peak_ms", meps.peak_ms), ("baseline_rms_uv", meps.baseline_rms_uv), ("control_uv", meps.control_uv),
            ("field", estimate.field), ("spread", estimate.spread), ("cog_mm", estimate.cog_mm),
            ("cog_cov_mm2", estimate.cog_cov_mm2), ("mep_normalised", estimate.mep_normalised),
        ):  # fmt: skip
            np.testing.assert_array_equal(row[name], there, err_msg=name, strict=True)
        assert row["map_sha256"].decode() == map_sha256(estimate.field)
        assert row["scale_v_per_m"] == estimate.scale_v_per_m
        assert row["confidence"].decode() == estimate.confidence
    first, second = trials.rows[:2]
    np.testing.assert_array_equal(first["pose"], pose.matrix)
    assert (first["pose_t"], first["pose_tracked"]) == (0.25, 1)
    assert (first["intensity_t"], first["intensity_percent_mso"]) == (0.125, 55.5)
    np.testing.assert_array_equal(first["offset_ms"], [np.nan, 1.5, np.nan])
    assert first["doubts"] == b"clock_step"
    np.testing.assert_array_equal(first["gain"], np.array([1.0, 0.5, 2.0], np.float32))
    np.testing.assert_array_equal(first["computed_field_v_per_m"], np.arange(N_VOXELS))
    assert first["computed_residual"] == 0.02
    assert first["stages_us"][STAGES.index("infer")] == 250.0
    assert np.isnan(first["stages_us"][STAGES.index("wait")])
    assert np.isnan(second["pose"]).all()
    assert np.isnan([second["pose_t"], second["intensity_percent_mso"], second["computed_residual"]]).all()
    np.testing.assert_array_equal(second["gain"], 1.0)


def test_any_hdf5_program_opens_a_closed_file(store: SessionStore, results: list[PulseResult]) -> None:
    for result in results:
        store.add(result)
    store.close()
    with h5py.File(store.folder / "trials.h5") as file:
        trials = file["trials"]
        assert trials["mep_uv"].shape == (4, 3)
        units = dict(text.decode().split(": ") for text in trials.attrs["units"])
        assert list(units) == list(trials.dtype.names), "each field has its unit beside it"
        assert (units["mep_uv"], units["cog_mm"], units["computed_field_v_per_m"]) == ("uV", "mm", "V/m")
        assert file.attrs["muscles"].tolist() == [b"FDI", b"ADM", b"ECR"]


def test_a_trial_can_be_read_while_the_session_goes_on(store: SessionStore, results: list[PulseResult]) -> None:
    path = store.folder / "trials.h5"
    for n, result in enumerate(results, 1):
        store.add(result)
        head, _, _ = read_in_process(path).partition(b"\n")
        assert json.loads(head)["n_rows"] == n
    trials = read_trials(path)
    assert (len(trials.rows), trials.closed) == (len(results), False)
    with h5py.File(path, swmr=True) as file:
        assert len(file["trials"]) == len(results)


def test_a_map_of_other_voxels_is_kept_by_its_digest(store: SessionStore, results: list[PulseResult]) -> None:
    estimate = results[0].map
    assert estimate is not None
    other = replace(estimate, field=np.ones(9, np.float32), spread=np.ones(9, np.float32))
    store.add(replace(results[0], map=other))
    (row,) = read_trials(store.folder / "trials.h5").rows
    assert row["n_voxels"] == 9
    assert np.isnan(row["field"]).all()
    assert row["map_sha256"].decode() == map_sha256(other.field)
    np.testing.assert_array_equal(row["cog_mm"], estimate.cog_mm)


def test_texts_that_do_not_fit_say_so_and_long_sweeps_keep_their_length(
    store: SessionStore, results: list[PulseResult]
) -> None:
    long = replace(results[0].trial, reasons=("x" * 500,), sweep_uv=np.ones((3, 5000)))
    store.add(replace(results[0], trial=long, meps=None, map=None))
    (row,) = read_trials(store.folder / "trials.h5").rows
    assert len(row["reasons"]) == np.dtype(TEXT).itemsize
    assert row["reasons"].endswith(b"...")
    assert row["n_samples"] == 5000
    assert (row["sweep_uv"] == 1.0).all()


def test_session_toml_freezes_settings_streams_versions_and_model(tmp_path: Path) -> None:
    chosen = parse_settings({"trigger": {"source": "ttl", "ttl_label": "T"}, "mep": {"floor_uv": 40.0}})
    store = SessionStore(tmp_path)
    store.begin(header("abc"), chosen, N_VOXELS)
    store.close()
    table = tomllib.loads((tmp_path / "session.toml").read_text())
    assert (table["format"], table["version"], table["session"]) == ("m2m-session", 1, "abc")
    assert table["model"]["sha256"] == "ab" * 32
    assert table["versions"] == {"python": "3"}
    assert parse_settings(table["settings"]) == chosen
    assert not list(tmp_path.glob(".*")), "no temporary file is left"


def test_the_log_has_one_line_per_event_with_both_times(tmp_path: Path) -> None:
    store = SessionStore(tmp_path)
    store.log("state", state="READY", reason="a\nb")
    store.log("mark", pulse=3, value=float("nan"), path=tmp_path)
    store.close()
    first, second = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert (first["event"], first["reason"]) == ("state", "a\nb")
    assert (second["pulse"], second["value"], second["path"]) == (3, None, str(tmp_path))
    assert second["lsl_s"] >= first["lsl_s"]
    assert second["utc"] > first["utc"]
    assert first["utc"].endswith("+00:00")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets nobody replace a file that is open")
def test_a_running_session_is_known_by_its_lock(store: SessionStore, tmp_path: Path) -> None:
    assert session_store.session_runs(store.folder)
    store.close()
    assert not session_store.session_runs(store.folder)
    assert not session_store.session_runs(tmp_path / "nowhere")


def test_a_session_is_never_overwritten(store: SessionStore) -> None:
    with pytest.raises(RecordingError, match=r"holds a session already \(session.toml, trials.h5, log.jsonl\)"):
        SessionStore(store.folder)


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RecordingError, match="cannot keep a session"):
        SessionStore(tmp_path / "file" / "s1")


def test_too_little_disk_space_is_refused_before_the_start(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="MB are free .* expected at least"):
        SessionStore(tmp_path, min_free_mb=1e9)


def test_closing_twice_and_adding_after_it_are_no_accident(
    store: SessionStore, results: list[PulseResult], tmp_path: Path
) -> None:
    store.close()
    store.close()
    with pytest.raises(RecordingError, match="closed"):
        store.add(results[0])
    with pytest.raises(RecordingError, match="log"):
        store.log("late")
    never_begun = SessionStore(tmp_path / "other")
    with pytest.raises(RecordingError, match="not begun"):
        never_begun.add(results[0])
    never_begun.close()


def test_a_disk_that_gets_full_stops_it_before_the_files_suffer(
    store: SessionStore, results: list[PulseResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(results[0])
    usage = os.statvfs(store.folder)
    monkeypatch.setattr(session_store, "KEEP_FREE_MB", 1e-6 * usage.f_bavail * usage.f_frsize + 1e6)
    for _ in range(2):
        with pytest.raises(RecordingError, match=r"trial 1 \(pulse 1\) cannot be written .* 1 trials before"):
            store.add(results[1])
    store.close()
    trials = read_trials(store.folder / "trials.h5")
    assert (len(trials.rows), trials.closed) == (1, True)


FILLED_UP = """
import resource, sys
from pathlib import Path
import numpy as np
from rt_engine.edges.session_store import SessionStore
from rt_engine.engine import PulseResult
from rt_engine.errors import RecordingError
from rt_engine.messages import ModelDescription, SessionHeader
from rt_engine.settings import Settings
from rt_engine.trial import Trial
model = ModelDescription(name="m", kind="k", sha256="", muscles=["A"], field_scale_v_per_m=1.0, provider="CPU")
store = SessionStore(Path(sys.argv[1]))
header = SessionHeader(session="s", started_at="", muscles=["A"], window_ms=[], sweep_ms=[-100.0, 50.0], floor_uv=1.0,
    nominal_rate_hz=2000.0, trigger_source="ttl", model=model)
store.begin(header, Settings(), 500)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
n = 0
try:
    while True:
        store.add(PulseResult(Trial(n, "ttl", 0.0, 0.0, 0.0, 0.0, 0, np.ones((1, 300)), 2000.0), None, None))
        n += 1
except RecordingError as error:
    print(n, "Is the disk full?" in str(error) and "\\n" not in str(error))
try:
    store.close()
except RecordingError as error:
    print(error, file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on a file's size")
@pytest.mark.parametrize("limit", [60_000, 61_111])
def test_where_a_write_fails_all_trials_before_it_can_be_read(tmp_path: Path, limit: int) -> None:
    """A disk quota, or another program that fills the disk in one breath, is seen by no look at the free space."""
    ended = subprocess.run(
        [sys.executable, "-c", FILLED_UP, str(tmp_path / "s"), str(limit)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    n, told = ended.stdout.split()
    assert told == "True"
    assert int(n) > 4
    trials = read_trials(tmp_path / "s" / "trials.h5")
    assert trials.rows["pulse"].tolist() == list(range(int(n)))
    assert trials.torn or trials.n_rows == int(n)

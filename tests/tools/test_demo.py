"""The main job from end to end: a simulated subject, the engine, LabRecorder, and the same again as a replay."""

import shutil
from importlib.resources import files
from pathlib import Path

import pytest

from rt_engine.field.subject_file import read_subject
from rt_engine.model_file import read_model_info
from tests.drivers.conftest import small_subject
from tests.tools.network_file import write_network_that_knows_nothing

FIGURES = {
    "pulses_sent", "pulses_served", "pulses_invalid", "pulses_lost", "latency_ms", "engine_ms", "stages_ms",
    "mep_error_pct", "nrmse", "nrmse_mean_map", "cog_error_mm", "n_low_confidence", "recording", "sha256_meps",
    "sha256_maps",
}  # fmt: skip
"""What other programs read; a key that goes away breaks them."""

REPLAY_FIGURES = {"pulses_served", "pulses_invalid", "speed", "sha256_meps", "sha256_maps"}


@pytest.mark.parametrize("trigger", ["ttl", "marker"])
def test_a_demo_accounts_for_every_pulse_and_its_replay_is_the_same_to_the_bit(start, tmp_path, trigger):
    demo = start(
        *("demo", "--headless", "--pulses", 12, "--interval", 0.4, "--seed", 3),
        *("--trigger", trigger, "--out", tmp_path / "demo", "--json"),
    )
    assert demo.end() == 0, demo.err
    figures = demo.json
    assert figures.keys() >= FIGURES
    assert (figures["pulses_sent"], figures["pulses_served"], figures["pulses_lost"]) == (12, 12, 0)
    assert figures["mep_error_pct"] < 1e-3  # float32 rounding
    assert figures["nrmse"] < figures["nrmse_mean_map"]
    assert 0.0 < figures["cog_error_mm"] < 10.0
    assert figures["engine_ms"].keys() == figures["latency_ms"].keys() == {"p50", "p99", "max"}
    assert all(0.0 <= stage["p50"] <= stage["p99"] for stage in figures["stages_ms"].values())
    replays = [
        start("replay", figures["recording"], "--speed", "max", "--block", block, "--json") for block in (200, 31)
    ]
    for again in replays:
        assert again.end() == 0, again.err
        assert again.json.keys() >= REPLAY_FIGURES
        assert again.json["sha256_meps"] == figures["sha256_meps"]
        assert again.json["sha256_maps"] == figures["sha256_maps"]
        assert again.json["pulses_served"] == 12


def test_the_same_seed_gives_the_same_amplitudes_whatever_the_amplifier_s_blocks(start, tmp_path):
    digests = []
    for block in (2, 27):
        demo = start(
            *("demo", "--headless", "--no-record", "--pulses", 4, "--interval", 0.4, "--seed", 8),
            *("--block", block, "--json"),
        )
        assert demo.end() == 0, demo.err
        assert demo.json["pulses_served"] == 4
        digests.append((demo.json["sha256_meps"], demo.json["sha256_maps"]))
    assert digests[0] == digests[1]


def test_a_network_of_one_s_own_takes_the_shipped_model_s_place(start, tmp_path):
    shipped = Path(str(files("configs") / "demo"))
    path = tmp_path / "network.onnx"
    muscles = read_model_info(shipped / "kernel-ridge.onnx").muscles
    write_network_that_knows_nothing(path, read_subject(shipped / "default.subject.h5"), muscles)
    demo = start(
        *("demo", "--headless", "--no-record", "--pulses", 4, "--interval", 0.5, "--seed", 3),
        *("--model", path, "--json"),
    )
    assert demo.end() == 0, demo.err
    assert (demo.json["pulses_served"], demo.json["pulses_lost"]) == (4, 0)
    assert demo.json["engine_ms"]["p99"] > 0.0
    assert demo.json["nrmse"] > demo.json["nrmse_mean_map"]  # the shipped model does better than the mean map


def test_a_model_of_another_subject_is_refused_before_anything_starts(start, tmp_path):
    path = tmp_path / "other.onnx"
    write_network_that_knows_nothing(path, small_subject(), ("FDI", "ADM"))
    demo = start("demo", "--headless", "--model", path)
    assert demo.end() == 1
    assert "voxels of another subject" in " ".join(demo.err.split())
    assert "Starting" not in demo.err


@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="Xvfb is not installed; `make venv` says how to get it")
def test_the_demo_shows_its_window_and_saves_a_picture_of_it(start, tmp_path, monkeypatch, virtual_screen):
    monkeypatch.setenv("DISPLAY", virtual_screen)
    monkeypatch.delenv("QT_QPA_PLATFORM", raising=False)
    picture = tmp_path / "window.png"
    demo = start(
        *("demo", "--pulses", 6, "--interval", 0.8, "--no-record"),
        *("--screenshot", picture, "--exit", "--json"),
    )
    assert demo.end() == 0, demo.err
    assert demo.json["pulses_served"] == 6
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_without_a_screen_the_demo_says_so_and_goes_on(start, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    demo = start("demo", "--pulses", 1, "--no-record", "--json")
    assert demo.end() == 0, demo.err
    assert "there is no screen" in demo.err
    assert demo.json["pulses_served"] == 1


def test_a_demo_never_writes_over_another(start, tmp_path):
    (tmp_path / "recording.xdf").write_bytes(b"precious")
    demo = start("demo", "--headless", "--out", tmp_path)
    assert demo.end() == 1
    assert "holds a demo already" in demo.err
    assert (tmp_path / "recording.xdf").read_bytes() == b"precious"

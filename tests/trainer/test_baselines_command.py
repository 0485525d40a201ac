"""`m2m fit-baseline` and `m2m build-demo`: what they print, write and refuse."""

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from rt_engine.field.stimulation_file import write_stimulation_set
from rt_engine.field.subject_file import file_sha256, read_subject
from rt_engine.model_file import open_model, read_model_info
from tools.cli import main
from tools.commands import build_demo
from trainer.head_models import build


def m2m(*arguments) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code


@pytest.fixture
def data(stimulations, tmp_path):
    path = tmp_path / "small.stim.h5"
    write_stimulation_set(path, stimulations)
    return path


def test_a_data_set_becomes_a_model_with_its_figures(data, tmp_path, capfd):
    out = tmp_path / "model.onnx"
    assert m2m("fit-baseline", data, "--out", out, "--kind", "ridge", "--folds", "2", "--json") == 0
    printed = capfd.readouterr()
    result = json.loads(printed.out.splitlines()[-1])
    info = read_model_info(out)
    assert result["sha256"] == info.sha256
    assert result["validation"] == info.validation
    assert info.validation["random"]["kernel-ridge"]["skill"] > 0.3
    assert info.data_sha256 == file_sha256(data)
    assert (info.kind, info.name) == ("ridge", "ridge on small")
    for baseline in ("mean-map", "knn", "ridge", "kernel-ridge"):
        assert baseline in printed.err
    assert "NRMSE" in printed.err
    assert open_model(out, provider="cpu").predict(np.full(5, 100.0), np.ones(5, bool)).field.max() > 0


def test_validation_can_be_left_out_and_a_date_put_in(data, tmp_path):
    out = tmp_path / "model.onnx"
    arguments = ("--kind", "ridge", "--no-validate", "--created", "2026-11-22", "--name", "mine", "--floor", "20")
    assert m2m("fit-baseline", data, "--out", out, *arguments) == 0
    info = read_model_info(out)
    assert (info.validation, info.created, info.name, info.floor_uv) == ({}, "2026-11-22", "mine", 20.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{data}", "--out", "{tmp}/m.onnx", "--kind", "knn"), "expected ridge or kernel-ridge"),
        (("{data}", "--out", "{tmp}/none/m.onnx"), "there is no folder"),
        (("{tmp}/none.stim.h5", "--out", "{tmp}/m.onnx"), "none.stim.h5"),
        (("{data}", "--out", "{tmp}/m.onnx", "--floor", "0"), "floor_uv"),
    ],
)
def test_mistakes_are_told_in_words(data, tmp_path, capfd, arguments, message):
    filled = [argument.format(data=data, tmp=tmp_path) for argument in arguments]
    assert m2m("fit-baseline", *filled) == 1
    printed = " ".join(capfd.readouterr().err.split())
    assert message in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "m.onnx").exists()


SHIPPED = Path(str(files("configs") / "demo" / "default.subject.h5"))


@pytest.fixture
def solved_already(monkeypatch):
    """Spare the test the solving, which has tests of its own; give the shipped subject."""

    def build_subject(recipe, out, cache, **options):
        assert recipe.name == "default"
        assert options["coil"].name == read_subject(SHIPPED).basis.coil.name
        out.write_bytes(SHIPPED.read_bytes())
        return build.Built(file_sha256(out), {"mask_fraction": 0.0179}, cached=True)

    monkeypatch.setattr(build, "build_subject", build_subject)


def test_the_demos_files_can_be_rebuilt(tmp_path, capfd, solved_already):
    arguments = ("--out", tmp_path, "--stimulations", 60, "--folds", 0, "--cache", tmp_path / "cache")
    assert m2m("build-demo", *arguments, "--json") == 0
    result = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert (tmp_path / "default.subject.h5").read_bytes() == SHIPPED.read_bytes()
    model = open_model(tmp_path / "kernel-ridge.onnx", provider="cpu")
    assert model.info.subject_sha256 == result["subject_sha256"] == file_sha256(tmp_path / "default.subject.h5")
    assert model.info.n_stimulations == 60
    assert result["bytes"] < 6_000_000
    assert result["subject_cached"] is True
    assert result["mask_fraction"] == 0.0179
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "default.subject.h5", "kernel-ridge.onnx"]


def test_a_demo_that_is_too_large_leaves_the_old_files(tmp_path, capfd, monkeypatch, solved_already):
    monkeypatch.setattr(build_demo, "MAX_SUBJECT_BYTES", 1000)
    (tmp_path / "default.subject.h5").write_bytes(b"precious")
    arguments = ("--out", tmp_path, "--stimulations", 60, "--folds", 0, "--cache", tmp_path / "cache")
    assert m2m("build-demo", *arguments) == 1
    assert "1000" in capfd.readouterr().err
    assert (tmp_path / "default.subject.h5").read_bytes() == b"precious"
    assert not (tmp_path / "kernel-ridge.onnx").exists()


def test_the_shipped_files_fit_together_and_into_the_repository():
    model = SHIPPED.with_name("kernel-ridge.onnx")
    assert read_model_info(model).subject_sha256 == file_sha256(SHIPPED)
    assert SHIPPED.stat().st_size <= build_demo.MAX_SUBJECT_BYTES
    assert SHIPPED.stat().st_size + model.stat().st_size <= build_demo.MAX_BYTES
    subject = read_subject(SHIPPED)
    assert subject.scalp is not None
    assert subject.basis is not None
    assert subject.basis.components.dtype == np.float16
    assert subject.basis.rank == build_demo.RANK

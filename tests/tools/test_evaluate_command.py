"""`m2m evaluate`: what it prints, writes and refuses, with the baselines, which are methods like any other."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from rt_engine.field.stimulation_file import read_stimulation_set, write_stimulation_set
from tests.trainer.conftest import make_stimulations
from trainer.baselines import KINDS
from trainer.evaluation.results import read_evaluation

BASELINES = ("--models", "none", "--no-forward", "--folds", "2")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("evaluate") / "small.stim.h5"
    write_stimulation_set(path, make_stimulations(90))
    return path


def test_an_evaluation_gives_figures_tables_and_a_report_and_goes_on_where_it_was(m2m, data, tmp_path):
    out = tmp_path / "out"
    ended = m2m("evaluate", data, "-o", out, *BASELINES, "--workers", "1", "--json")
    assert ended.code == 0, ended.err
    found = ended.json
    for method in KINDS:
        for kind in ("random", "blocks"):
            figures = found["methods"][method][kind]
            assert {"nrmse", "nrmse_sem", "r2", "r2_median", "cog_mm", "skill"} <= set(figures)
            assert figures["nrmse"] > 0
        assert method in ended.err
    assert found["methods"]["kernel-ridge"]["random"]["skill"] > 0.5
    assert found["data"]["small"]["methods"] == found["methods"]
    assert sorted(path.name for path in out.iterdir()) == [
        "figures.csv",
        "jobs",
        "small.eval.h5",
        "small.html",
        "stimulations.csv",
    ]
    with (out / "figures.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if row["method"] == "ridge" and row["by"] == "all")
    assert float(row["nrmse_mean"]) == pytest.approx(found["methods"]["ridge"]["random"]["nrmse"], rel=1e-5)
    assert len(read_evaluation(out / "small.eval.h5").training) == found["data"]["small"]["stimulations"]
    kept = {path.name: path.stat().st_mtime_ns for path in (out / "jobs").glob("*.job.h5")}
    assert len(kept) == 2 * 2 * len(KINDS)
    again = m2m("evaluate", data, "-o", out, *BASELINES, "--workers", "0", "--json")
    assert again.json["methods"] == found["methods"]
    assert kept == {path.name: path.stat().st_mtime_ns for path in (out / "jobs").glob("*.job.h5")}


def test_some_folds_of_one_kind_are_named_in_the_result(m2m, data, tmp_path):
    asked = ("--only", "blocks", "--fold-subset", "1", "--workers", "0", "--json")
    ended = m2m("evaluate", data, "-o", tmp_path / "out", *BASELINES, *asked)
    assert ended.code == 0, ended.err
    assert ended.json["folds"] == {"blocks": [1]}
    assert ended.json["methods"]["knn"]["blocks"]["nrmse_sem"] is None
    note = "of the folds 0 to 1, only 1 was run: figures are of its stimulations only"
    assert note in ended.json["notes"]
    assert note in ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--models", "m2m-invnet"), "--models names m2m-invnet; expected all, none, or some of ae-decoder"),
        (("--fold-subset", "first"), "--fold-subset is 'first'"),
        (("--fold-subset", "10"), "expected some of 0 to 9"),
        (("--only", "spatial"), "--only is spatial; expected random or blocks"),
        (("--folds", "1"), "--folds is 1"),
        (("--tune", "latent"), "expected KEY=VALUE,VALUE"),
        (("--set", "latnt=8"), "latnt"),
        (("--scheduler", "tcp://127.0.0.1:9", "--models", "none"), "no dask scheduler answers at tcp://127.0.0.1:9"),
    ],
)
def test_mistakes_are_told_in_words(m2m, data, tmp_path, monkeypatch, arguments, message):
    monkeypatch.setattr("trainer.evaluation.cluster.CONNECT_S", 0.5)
    ended = m2m("evaluate", data, "-o", tmp_path / "out", *arguments)
    assert ended.code == 1
    printed = " ".join(ended.err.split())
    assert message in printed
    assert "Traceback" not in printed


def test_data_without_poses_leave_the_second_column_out(m2m, data, tmp_path):
    stimulations = read_stimulation_set(data)
    path = tmp_path / "no-poses.stim.h5"
    write_stimulation_set(path, replace(stimulations, pose=np.full_like(stimulations.pose, np.nan)))
    asked = ("--fold-subset", "0", "--workers", "0", "--json")
    ended = m2m("evaluate", path, "-o", tmp_path / "out", *BASELINES, *asked)
    assert ended.code == 0, ended.err
    assert set(ended.json["methods"]["knn"]) == {"random"}
    assert "no folds by place of the coil" in ended.err

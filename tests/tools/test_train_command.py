"""`m2m train`: from a data set to a folder with a network and a model file; Ctrl-C and --resume; clear refusals."""

import os
import signal
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from rt_engine.field.hdf5_file import read_hdf5
from rt_engine.field.stimulation_file import write_stimulation_set
from rt_engine.model_file import open_model
from tests.conftest import Ended
from tests.trainer.conftest import make_stimulations
from tools.training_progress import TrainingProgress, duration
from trainer.training_checkpoint import EpochReport

Run = Callable[..., Ended]
# 64 of 80 stimulations with a response are trained on: batches of one size, hence one graph.
SHORT = ("--epochs", "3", "--batch", "16", "--set", "validation_fraction=0.2")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "small.stim.h5"
    made = make_stimulations()
    answered = (made.mep_uv >= 50).any(axis=1)
    rows = np.concatenate([np.flatnonzero(answered)[:80], np.flatnonzero(~answered)[:4]])
    per_pulse = {f.name: value[rows] for f in fields(made) if len(value := np.atleast_1d(getattr(made, f.name))) == 160}
    write_stimulation_set(path, replace(made, box_shape=(12, 12, 8), **per_pulse))
    return path


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a training that nobody interrupted."""
    return tmp_path_factory.mktemp("whole")


def weights(folder: Path) -> dict[str, np.ndarray]:
    _, arrays = read_hdf5(folder / "network.h5", kind="m2m-network", version=1)
    return {name: array for name, array in arrays.items() if name.startswith("weights/")}


def test_it_trains_says_how_and_leaves_network_and_model_file(m2m: Run, data: Path, whole: Path) -> None:
    done = m2m("train", data, "-o", whole, *SHORT, "--name", "of the tests", "--json")
    assert done.code == 0, done.err
    told = done.json
    assert told["model"] == "direct-variational"
    assert (told["n_stimulations"], told["n_validation"]) == (64, 16)
    assert np.sum(list(told["stimulations"].values()), axis=0).tolist() == [80, 84]
    assert (told["epochs"], told["ended"]) == ({"direct": 3}, {"direct": "epochs"})
    assert {"nrmse", "nrmse_mean_map", "skill"} <= set(told["validation"])
    assert "stimulations chosen / applied" in done.err
    assert "stimulations without a response in any muscle left out" in done.err
    for epoch in (1, 2, 3):
        assert f"direct {epoch}/3: loss " in done.err
    assert "left at most" in done.err
    assert f"NRMSE {told['validation']['nrmse']:.3f} (mean map {told['validation']['nrmse_mean_map']:.3f})" in done.err
    assert weights(whole)
    assert open_model(told["model_file"]).info.sha256 == told["sha256"]


def test_ctrl_c_stops_and_resume_goes_on_to_the_same_weights(
    m2m: Run, data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not any(whole.iterdir()):
        assert m2m("train", data, "-o", whole, *SHORT, "--no-export").code == 0

    def press_ctrl_c(self: TrainingProgress, report: EpochReport) -> None:
        if report.epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingProgress, "told", press_ctrl_c)
        stopped = m2m("train", data, "-o", tmp_path / "parts", *SHORT, "--no-export", "--json")
    assert stopped.code == 130
    assert stopped.json["stopped"] is True
    assert "a second Ctrl-C ends at once" in stopped.err
    assert "epoch 3, step 1 of" in stopped.err
    assert "--resume goes on" in stopped.err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed = m2m("train", data, "-o", tmp_path / "parts", *SHORT, "--no-export", "--resume")
    assert resumed.code == 0, resumed.err
    assert "direct 1/3" not in resumed.err
    seen = m2m("inspect", tmp_path / "parts" / "checkpoint.h5", "--json").json
    assert (seen["kind"], seen["epochs_done"], seen["steps_of_the_next"]) == ("training checkpoint", 3, 0)
    seen = m2m("inspect", tmp_path / "parts" / "network.h5", "--json").json
    assert (seen["kind"], seen["n_stimulations"], seen["stages"][0]["ended"]) == ("trained network", 64, "epochs")
    in_parts = weights(tmp_path / "parts")
    assert all(np.array_equal(value, in_parts[name]) for name, value in weights(whole).items())

    again = m2m("train", data, "-o", tmp_path / "parts", *SHORT)
    assert again.code == 1
    assert "checkpoint.h5 is already there. Go on with that training (--resume)" in again.err
    other = m2m("train", data, "-o", tmp_path / "parts", *SHORT, "--seed", "1", "--resume")
    assert other.code == 1
    assert "is of another training: fitting.seed was 0 and is 1" in other.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "direct"), "--model is 'direct'; expected one of ae-decoder, direct-convolutional"),
        (("--form", "sparse"), "--form is 'sparse'; expected one of masked, dense"),
        (("--set", "fitting.epoch=3"), "did you mean 'fitting.epochs'"),
        (("--resume",), "there is no checkpoint in"),
        (("--set", "floor_uv=5000"), "are all the same or below 5000 uV"),
        (("--set", "validation_fraction=0.001"), "fitting.validation_fraction"),
        (("--model", "direct-convolutional"), "multiple"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(
    m2m: Run, data: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    refused = m2m("train", data, "-o", tmp_path / "run", *arguments)
    assert refused.code == 1
    assert message in " ".join(refused.err.split())
    assert "Traceback" not in refused.err


def test_a_time_is_written_as_a_clock_does() -> None:
    assert [duration(s) for s in (0.4, 59.6, 61, 3600, 86399)] == ["0:00", "1:00", "1:01", "1:00:00", "23:59:59"]

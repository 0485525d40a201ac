"""`m2m bench training`: the figures that other programs read, of one network's steps in two forms."""

import msgspec
import numpy as np
import pytest

from rt_engine.errors import M2MError
from tests.conftest import Ended
from tools.bench.training import TrainingFigures, measure_training
from trainer.step_cost import StepCostTask, measure_step, peak_memory_mb

KEYS = {"ratio", "memory_ratio", "max_grad_rel_diff", "dense_ms", "masked_ms"}
"""What the requirement names; a key that goes away breaks its readers."""

BOX = (16, 16, 16)


@pytest.fixture(scope="module")
def voxel():
    return np.argwhere(np.random.default_rng(0).random(BOX) < 0.02)


def test_both_forms_are_measured_in_processes_of_their_own(voxel):
    told = []
    figures = measure_training(
        voxel, BOX, batch=2, dense_steps=2, masked_steps=3, n_muscles=4, onednn="off", told=told.append
    )
    assert told == ["masked", "dense"]
    assert msgspec.to_builtins(figures).keys() >= KEYS
    assert figures.ratio == pytest.approx(figures.dense_ms / figures.masked_ms)
    assert figures.memory_ratio == pytest.approx(figures.dense_mb / figures.masked_mb)
    assert 0.0 < figures.max_grad_rel_diff <= 1e-4
    assert 100.0 < figures.masked_peak_mb < 20000.0
    assert not figures.onednn
    assert (figures.batch, figures.voxels, figures.dense_steps, figures.masked_steps) == (2, len(voxel), 2, 3)


def test_a_process_that_fails_is_said_with_its_last_words(voxel):
    with pytest.raises(M2MError, match="masked step ended with 1: .*Expected `array` of length 3"):
        measure_training(voxel, (16, 16))


def test_steps_are_timed_and_gradients_are_those_of_the_same_batch_for_any_number_of_steps(voxel, tmp_path):
    np.save(tmp_path / "mask.npy", voxel)
    found = []
    for steps in (1, 3):
        task = StepCostTask(
            form="masked",
            mask=str(tmp_path / "mask.npy"),
            box_shape=BOX,
            gradients=str(tmp_path / f"{steps}.npz"),
            n_muscles=4,
            batch=2,
            steps=steps,
        )
        cost = measure_step(task)
        assert len(cost.step_ms) == len(cost.cpu_ms) == steps
        assert min(cost.step_ms) > 0
        assert 0 < cost.base_mb <= cost.peak_mb <= peak_memory_mb()
        with np.load(task.gradients) as stored:
            found.append([stored[name] for name in stored.files])
    assert all(np.array_equal(one, other) for one, other in zip(*found, strict=True))
    assert len(found[0]) == 16  # mapper 4, sampling 4, expansion 2, decoder 6
    assert all(np.abs(gradient).max() > 0 for gradient in found[0])


def test_the_command_prints_them(m2m, monkeypatch):
    figures = TrainingFigures(
        ratio=120.0,
        cpu_ratio=110.0,
        memory_ratio=4.0,
        process_memory_ratio=2.0,
        max_grad_rel_diff=2e-6,
        dense_ms=6000.0,
        masked_ms=50.0,
        dense_cpu_ms=5500.0,
        masked_cpu_ms=50.0,
        dense_mb=800.0,
        masked_mb=200.0,
        dense_peak_mb=1500.0,
        masked_peak_mb=750.0,
        onednn=True,
        compiled=True,
        batch=8,
        voxels=4684,
        dense_steps=3,
        masked_steps=60,
    )
    asked = {}
    monkeypatch.setattr("tools.bench.training.measure_training", lambda *way, **how: asked.update(how) or figures)
    ended: Ended = m2m("bench", "training", "--batch", "16", "--json")
    assert ended.code == 0, ended.err
    assert ended.json == msgspec.to_builtins(figures)
    assert asked["batch"] == 16
    assert "4684 voxels" in " ".join(ended.err.split())
    wrong: Ended = m2m("bench", "training", "--onednn", "perhaps")
    assert wrong.code == 1
    assert "expected auto, on or off" in wrong.err

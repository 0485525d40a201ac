"""`m2m bench inference`: the figures that other programs read, of two graphs of one network."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tools.bench.inference
from rt_engine.errors import ModelError
from rt_engine.field.subject_file import write_subject
from tests.conftest import Ended
from tests.drivers.conftest import small_subject
from tools.bench.inference import measure_inference
from trainer.folded_weights import random_weights
from trainer.network_graph import masked_network

KEYS = {"ratio", "max_abs_diff", "dense_ms", "masked_ms", "provider"}
"""What the requirement names; a key that goes away breaks its readers."""


def test_figures_come_as_json_and_as_a_table(m2m: Callable[..., Ended], tmp_path: Path) -> None:
    path = tmp_path / "small.subject.h5"
    write_subject(path, small_subject())
    ended = m2m("bench", "inference", "--subject", path, "--repeats", "1", "--threads", "1", "--json")
    assert ended.code == 0, ended.err
    found = ended.json
    assert found.keys() >= KEYS
    assert found["ratio"] == pytest.approx(found["dense_ms"] / found["masked_ms"])
    assert found["max_abs_diff"] <= 1e-5
    assert found["provider"] in ("CPUExecutionProvider", "CUDAExecutionProvider")
    assert [timing["threads"] for timing in found["threads"]] == [1]
    assert found["voxels"] == small_subject().n_voxels
    assert found["dense_multiply_adds"] == 2045509632  # the article's three convolutions over 64^3
    assert "ratio" in ended.err


def test_an_unknown_provider_is_said(m2m: Callable[..., Ended]) -> None:
    ended = m2m("bench", "inference", "--provider", "tpu")
    assert ended.code == 1
    assert "expected auto, cpu or cuda" in ended.err


def test_every_number_of_threads_is_measured_and_progress_told() -> None:
    voxel = np.argwhere(np.random.default_rng(0).random((16, 16, 16)) < 0.02)
    told: list[tuple[int, int]] = []
    figures = measure_inference(
        voxel,
        (16, 16, 16),
        repeats=2,
        threads=(1, 2),
        provider="cpu",
        told=lambda *way: told.append(way),
    )
    assert [timing.threads for timing in figures.threads] == [1, 2]
    assert (figures.provider, figures.notice) == ("CPUExecutionProvider", None)
    assert figures.dense_ms == figures.threads[0].dense_ms
    assert figures.max_abs_diff <= 1e-6
    assert told[-1] == (8, 8)


def test_graphs_of_two_networks_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    voxel = np.argwhere(np.random.default_rng(0).random((16, 16, 16)) < 0.02)
    monkeypatch.setattr(
        tools.bench.inference,
        "masked_network",
        lambda weights, cells: masked_network(random_weights(15, cells, seed=9), cells),
    )
    with pytest.raises(ModelError, match="dense and masked maps differ"):
        measure_inference(voxel, (16, 16, 16), repeats=1, threads=(1,), provider="cpu")

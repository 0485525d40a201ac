"""An exported network computes what its dense Keras form computes, or does not exist."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

import trainer.network_export
from rt_engine.errors import ModelError
from rt_engine.model_file import Model, open_model, read_model_info
from trainer.architectures.family import build_network
from trainer.architectures.settings import ArchitectureSettings
from trainer.network_data import NetworkPreprocessing, fit_scaling
from trainer.network_export import check_network_export, export_network, reference_amplitudes, spread_of
from trainer.network_fitting import FittingSettings, History
from trainer.network_graph import build_network_graph
from trainer.preprocessing import TrainingSet
from trainer.trained_network import TrainedNetwork

M = 5
BOX = (16, 12, 8)
FACTOR = 0.8
amplitudes = arrays(np.float32, M, elements=st.floats(0, 1e5, width=32))
flags = arrays(np.bool_, M)

PREPROCESSING = {
    "article": NetworkPreprocessing(small_meps="zero", mep_scale="linear"),
    "kept": NetworkPreprocessing(small_meps="keep", mep_scale="linear"),
    "log": NetworkPreprocessing(small_meps="zero", mep_scale="log"),
    "log-kept": NetworkPreprocessing(mep_scale="log", small_meps="keep"),
}


def untrained(training: TrainingSet, preprocessing: NetworkPreprocessing, n_apart: int = 40) -> TrainedNetwork:
    """Return a network with random weights, as if it had been trained."""
    inside = replace(training, box_shape=BOX)
    rows = np.arange(len(inside))
    network = build_network("direct-variational", M, inside.voxel, BOX, ArchitectureSettings(latent=6), seed=1)
    rng = np.random.default_rng(2)
    network.set_weights(
        {
            name: (values if "kernel" in name else values + rng.normal(0, 0.1, values.shape)).astype(np.float32)
            for name, values in network.weights().items()
        }
    )
    network.decoder.convolutions[2].bias.assign([0.4])
    return TrainedNetwork(
        network=network,
        scaling=fit_scaling(inside.amplitudes_uv[n_apart:], preprocessing),
        field_factor=FACTOR,
        training=inside.rows(rows[n_apart:]),
        validation=inside.rows(rows[:n_apart]),
        fitting=FittingSettings(),
        history=History((), {}),
    )


@pytest.fixture(scope="module", params=["article", "log-kept"])
def trained(request: pytest.FixtureRequest, training: TrainingSet) -> TrainedNetwork:
    return untrained(training, PREPROCESSING[request.param])


@pytest.fixture(scope="module")
def path(trained: TrainedNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("networks") / "network.onnx"
    export_network(path, trained, name="of the tests", validation={"nrmse": 0.2}, data_sha256="cd" * 32)
    return path


@pytest.fixture(scope="module")
def model(path: Path) -> Model:
    return open_model(path, provider="cpu")


@pytest.fixture(scope="module")
def reference(trained: TrainedNetwork) -> Callable[..., Any]:
    spread = spread_of(trained)

    def predict(amplitudes_uv: NDArray[Any]) -> Any:  # hypothesis prints a function by its name
        z, left_open = reference_amplitudes(trained.scaling, amplitudes_uv)
        field = trained.network.predict(z).astype(np.float64)
        return z, field, *spread.of(z, left_open, field, trained.training.voxel_mm)

    return predict


def test_the_field_is_the_dense_network_s_within_1e_5_also_with_missing_muscles(trained, model, fresh):
    rng = np.random.default_rng(3)
    some = fresh.amplitudes_uv[:8].copy()
    some[4:][rng.random((4, M)) < 0.4] = np.nan
    trained.network.form = "dense"
    expected = trained.predict(some)
    trained.network.form = "masked"
    assert ((expected > 0) & (expected < FACTOR)).mean() > 0.5
    assert np.ptp(expected, axis=0).max() > 1e-3
    for row, field in zip(some, expected, strict=True):
        found = model.predict(np.nan_to_num(row), ~np.isnan(row)).field
        assert np.abs(found * FACTOR - field).max() <= 1e-5


@given(amplitudes=amplitudes, junk=amplitudes, valid=flags)
@settings(max_examples=20, deadline=None)
def test_any_amplitudes_give_what_the_reference_gives_whatever_stands_where_a_muscle_is_not_valid(
    reference, model, amplitudes, junk, valid
):
    found = model.predict(amplitudes, valid)
    z, field, spread, cog, covariance = reference(np.where(valid, amplitudes, np.nan).astype(np.float64)[None])
    size = max(1.0, float(np.abs(z).max()))
    assert np.abs(found.field - field[0]).max() <= 1e-5 * size
    assert found.spread == pytest.approx(spread[0], rel=1e-3, abs=1e-5)
    assert found.cog_mm == pytest.approx(cog[0], abs=1e-3 * size)
    assert found.cog_cov_mm2 == pytest.approx(covariance[0], rel=0, abs=2e-3 * np.abs(covariance).max())
    assert np.array_equal(found.cog_cov_mm2, found.cog_cov_mm2.T)
    other = model.predict(np.where(valid, amplitudes, junk), valid)
    for name in ("field", "spread", "cog_mm", "cog_cov_mm2", "mep_normalised"):
        assert np.array_equal(getattr(found, name), getattr(other, name))


def test_the_file_says_what_it_is(path, trained, training):
    info = read_model_info(path)
    assert (info.kind, info.name) == ("direct-variational", "of the tests")
    assert info.muscles == training.muscles
    assert info.box_shape == BOX
    assert np.array_equal(info.voxel, training.voxel)
    assert info.field_scale_v_per_m == pytest.approx(FACTOR * training.field_scale_v_per_m)
    assert info.scale_uv == pytest.approx(trained.scaling.scale_uv)
    assert info.floor_uv == (50.0 if trained.preprocessing.small_meps == "zero" else 5.0)
    assert info.n_stimulations == len(training) - 40
    assert info.validation == {"nrmse": 0.2}
    assert info.data_sha256 == "cd" * 32
    about = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(about["m2m.network"])["preprocessing"]["mep_scale"] == trained.preprocessing.mep_scale
    spread = json.loads(about["m2m.spread"])
    assert (spread["calibrated_on"], spread["n_stimulations"]) == ("held-out", 40)
    assert 0.4 < spread["coverage"]["field_1sd"] < 0.95


def test_a_graph_holds_no_chance_and_runs_on_the_oldest_onnx_runtime(path):
    model = onnx.load(path)
    assert model.ir_version <= 8
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert not [node.op_type for node in model.graph.node if "Random" in node.op_type]


def test_the_same_network_gives_the_same_bytes(trained, path, tmp_path):
    again = tmp_path / "again.onnx"
    export_network(again, trained, name="of the tests", validation={"nrmse": 0.2}, data_sha256="cd" * 32)
    assert again.read_bytes() == path.read_bytes()


@pytest.fixture
def article(training: TrainingSet) -> TrainedNetwork:
    return untrained(training, NetworkPreprocessing())


def test_a_file_that_differs_from_keras_is_not_written(article, monkeypatch, tmp_path):
    def perturbed(weights, *others):
        first, *rest = weights.decoder.biases
        return build_network_graph(
            replace(weights, decoder=replace(weights.decoder, biases=(first + 1e-3, *rest))), *others
        )

    monkeypatch.setattr(trainer.network_export, "build_network_graph", perturbed)
    (tmp_path / "old.onnx").write_bytes(b"the old model")
    for name in ("old.onnx", "new.onnx"):
        with pytest.raises(ModelError, match="field differs from Keras'"):
            export_network(tmp_path / name, article, name="wrong")
    assert [file.name for file in tmp_path.iterdir()] == ["old.onnx"]
    assert (tmp_path / "old.onnx").read_bytes() == b"the old model"


def test_a_spread_that_differs_is_noticed_and_the_network_keeps_its_form(trained, path):
    spread = spread_of(trained)
    wrong = replace(spread, voxel_variance=spread.voxel_variance * 1.01)
    with pytest.raises(ModelError, match="spread differs from numpy's"):
        check_network_export(path, trained, wrong)
    wrong = replace(spread, score_factor=spread.score_factor * 1.01)
    with pytest.raises(ModelError, match="cog_cov_mm2 differs from numpy's"):
        check_network_export(path, trained, wrong)
    assert trained.network.form == "masked"
    assert check_network_export(path, trained, spread) <= 1e-5


@pytest.mark.parametrize("choice", ["kept", "log"])
def test_every_way_to_scale_amplitudes_can_be_exported(training, choice, tmp_path):
    trained = untrained(training, PREPROCESSING[choice])
    export_network(tmp_path / "network.onnx", trained, name="x")
    small = trained.scaling.scale_uv * 0.02  # below the floor of 50 uV, above that of 5 uV
    model = open_model(tmp_path / "network.onnx", provider="cpu")
    some, none = (model.predict(each, np.ones(M, bool)).field for each in (small, 0.0 * small))
    assert np.array_equal(some, none) == (choice == "log")


def test_without_stimulations_kept_apart_the_file_says_so(training, tmp_path):
    export_network(tmp_path / "network.onnx", untrained(training, NetworkPreprocessing(), n_apart=0), name="x")
    about = {entry.key: entry.value for entry in onnx.load(tmp_path / "network.onnx").metadata_props}
    spread = json.loads(about["m2m.spread"])
    assert (spread["calibrated_on"], spread["inflation"], spread["coverage"]) == ("training", 1.5, {})

"""The exported file computes what scikit-learn computes, or does not exist."""

import re
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto

import trainer.export
from rt_engine.errors import DataError, ModelError
from rt_engine.model_file import open_model, read_model_info
from trainer.baselines import predict_field
from trainer.export import check_export, export_model
from trainer.fitting import fit_baseline
from trainer.graph import build_graph

M = 5
amplitudes = arrays(np.float32, M, elements=st.floats(0, 1e5, width=32))
flags = arrays(np.bool_, M)


@pytest.fixture(scope="module")
def path(baseline, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / f"{baseline.kind}.onnx"
    export_model(path, baseline, name="of the tests", validation={"nrmse": 0.1}, data_sha256="ab" * 32)
    return path


@pytest.fixture(scope="module")
def model(path):
    return open_model(path, provider="cpu")


@pytest.fixture(scope="module")
def reference(baseline):
    def predict(amplitudes_uv):  # hypothesis would print all of a baseline, but prints a function by its name
        return baseline.predict(amplitudes_uv)

    return predict


def test_the_field_is_scikit_learns_own_within_1e_5(baseline, model, fresh):
    expected = predict_field(baseline.regressor, fresh.amplitudes_uv)
    for row in range(0, len(fresh), 5):
        found = model.predict(fresh.amplitudes_uv[row], np.ones(M, bool)).field
        assert np.abs(found - expected[row]).max() <= 1e-5


@given(amplitudes=amplitudes, valid=flags)
@settings(max_examples=60, deadline=None)
def test_any_amplitudes_give_what_the_reference_gives(reference, model, amplitudes, valid):
    found = model.predict(amplitudes, valid)
    expected = reference(np.where(valid, amplitudes, np.nan)[None])
    assert np.abs(found.field - expected.field[0]).max() <= 1e-5
    assert found.spread == pytest.approx(expected.spread[0], rel=1e-5, abs=1e-6)
    assert found.cog_mm == pytest.approx(expected.cog_mm[0], abs=1e-6)
    size = np.abs(expected.cog_cov_mm2[0]).max()  # its smallest elements are differences of large ones
    assert found.cog_cov_mm2 == pytest.approx(expected.cog_cov_mm2[0], rel=0, abs=1e-6 * size)
    assert found.field.min() >= 0
    assert found.field.max() <= 1
    assert np.array_equal(found.cog_cov_mm2, found.cog_cov_mm2.T)


@given(amplitudes=amplitudes, junk=amplitudes, valid=flags)
@settings(max_examples=30, deadline=None)
def test_what_stands_where_a_muscle_is_not_valid_changes_no_bit(model, amplitudes, junk, valid):
    one, other = model.predict(amplitudes, valid), model.predict(np.where(valid, amplitudes, junk), valid)
    nothing = model.predict(np.where(valid, amplitudes, np.float32(np.nan)), valid)
    for each in (other, nothing):
        assert np.array_equal(one.field, each.field)
        assert np.array_equal(one.spread, each.spread)
        assert np.array_equal(one.mep_normalised, each.mep_normalised)


def test_normalised_amplitudes_are_by_the_largest_of_the_training_set(training, model):
    largest = training.amplitudes_uv.max(axis=0)
    valid = np.array([True, True, True, True, False])
    found = model.predict(np.array([0.5, 1.0, 3.0, 0.0, 1.0]) * largest, valid).mep_normalised
    assert found == pytest.approx([0.5, 1.0, 1.0, 0.0, 0.0])


def test_a_scale_of_ones_own_replaces_the_models(training, model):
    mine = training.amplitudes_uv.max(axis=0) * 3.0
    loud = training.amplitudes_uv[0] + 100.0
    valid = np.ones(M, bool)
    assert model.predict(loud * 3.0, valid, mine).field == pytest.approx(model.predict(loud, valid).field, abs=1e-5)
    assert np.abs(model.predict(loud * 3.0, valid).field - model.predict(loud, valid).field).max() > 1e-3


def test_amplitudes_below_the_floor_count_as_the_floor(model):
    floor = np.full(M, 5.0)
    assert np.array_equal(
        model.predict(floor * 0, np.ones(M, bool)).field, model.predict(floor, np.ones(M, bool)).field
    )
    assert not np.array_equal(
        model.predict(floor * 4, np.ones(M, bool)).field, model.predict(floor, np.ones(M, bool)).field
    )


def test_the_file_says_what_it_is(path, baseline, training):
    info = read_model_info(path)
    assert info.kind == baseline.kind
    assert info.name == "of the tests"
    assert info.muscles == training.muscles
    assert info.box_shape == training.box_shape
    assert np.array_equal(info.voxel, training.voxel)
    assert np.array_equal(info.affine, training.affine)
    assert info.voxel_mm == pytest.approx(training.voxel_mm)
    assert info.field_scale_v_per_m == training.field_scale_v_per_m
    assert info.scale_uv == pytest.approx(training.amplitudes_uv.max(axis=0))
    assert info.floor_uv == 5.0
    assert info.n_stimulations == len(training)
    assert info.validation == {"nrmse": 0.1}
    assert info.data_sha256 == "ab" * 32
    assert (info.subject_sha256, info.created) == ("", "")


def test_the_graph_is_float64_inside_without_chance_and_old_enough(path):
    model = onnx.load(path)
    assert model.ir_version <= 8
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert not [node.op_type for node in model.graph.node if "Random" in node.op_type]
    single = [tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT]
    assert single == ["scale_uv"]


def test_the_same_data_give_the_same_bytes(training, baseline, path, tmp_path):
    again = tmp_path / "again.onnx"
    export_model(
        again,
        fit_baseline(training, baseline.kind),
        name="of the tests",
        validation={"nrmse": 0.1},
        data_sha256="ab" * 32,
    )
    assert again.read_bytes() == path.read_bytes()
    dated = tmp_path / "dated.onnx"
    export_model(dated, baseline, name="of the tests", created="2026-11-22")
    assert read_model_info(dated).created == "2026-11-22"
    assert dated.read_bytes() != path.read_bytes()


def perturbed(baseline):
    regressor = baseline.regressor
    graph = build_graph(baseline)
    weights = baseline.linear_map.weights
    for tensor in graph.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.shape == weights.shape and np.array_equal(values, weights):
            shifted = values + 2e-4 * np.abs(values).max() / np.abs(regressor.transformer_.components_).max()
            tensor.CopyFrom(onnx.numpy_helper.from_array(shifted, tensor.name))
    return graph


def test_a_file_that_differs_from_scikit_learn_is_not_written(baseline, monkeypatch, tmp_path):
    monkeypatch.setattr(trainer.export, "build_graph", perturbed)
    (tmp_path / "old.onnx").write_bytes(b"the old model")
    for name in ("old.onnx", "new.onnx"):
        with pytest.raises(ModelError, match=r"field differs from scikit-learn's"):
            export_model(tmp_path / name, baseline, name="wrong")
    assert [file.name for file in tmp_path.iterdir()] == ["old.onnx"]
    assert (tmp_path / "old.onnx").read_bytes() == b"the old model"


def test_the_check_sees_another_models_file(baseline, training, path):
    half = fit_baseline(training.rows(np.arange(100)), baseline.kind)
    with pytest.raises(ModelError, match="differs"):
        check_export(path, half)
    assert check_export(path, baseline) <= 1e-5


def test_a_spread_that_differs_is_noticed_too(baseline, path):
    wrong = replace(
        baseline,
        uncertainty=replace(baseline.uncertainty, voxel_variance=baseline.uncertainty.voxel_variance * 1.01),
    )
    with pytest.raises(ModelError, match=r"spread differs"):
        check_export(path, wrong)


def test_a_folder_that_is_not_there_is_named(baseline, tmp_path):
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "none" / "model.onnx"))):
        export_model(tmp_path / "none" / "model.onnx", baseline, name="x")

"""The file of an evaluation: what comes back is what was written, and what contradicts itself is refused."""

from dataclasses import replace

import numpy as np
import pytest

from rt_engine.errors import DataError, FileFormatError
from trainer.evaluation.results import read_evaluation, write_evaluation


def test_what_comes_back_is_what_was_written(evaluation, tmp_path):
    path = tmp_path / "small.eval.h5"
    assert write_evaluation(path, evaluation) == write_evaluation(tmp_path / "again.eval.h5", evaluation)
    back = read_evaluation(path)
    assert (back.name, back.settings, back.seconds, back.notes) == (
        evaluation.name,
        evaluation.settings,
        evaluation.seconds,
        evaluation.notes,
    )
    assert back.methods == evaluation.methods == ("mean-map", "vae-decoder")
    assert list(back.field) == ["random", "blocks"]
    for name in ("muscles", "field_scale_v_per_m", "box_shape", "subject_sha256", "notes"):
        assert getattr(back.training, name) == getattr(evaluation.training, name)
    for name in ("amplitudes_uv", "field", "intensity_percent_rmt", "coil_mm", "voxel", "affine"):
        assert np.array_equal(getattr(back.training, name), getattr(evaluation.training, name), equal_nan=True), name
    assert back.selection.counts == evaluation.selection.counts
    assert back.selection.notes == evaluation.selection.notes
    assert np.array_equal(back.selection.kept, evaluation.selection.kept)
    for kind in evaluation.field:
        assert np.array_equal(back.fold[kind], evaluation.fold[kind])
        for method in evaluation.methods:
            assert np.array_equal(back.field[kind][method], evaluation.field[kind][method], equal_nan=True)
    assert np.array_equal(back.forward_meps["constant"], evaluation.forward_meps["constant"], equal_nan=True)


def test_only_tested_rows_are_compared(evaluation):
    rows = evaluation.tested("random")
    assert np.array_equal(rows, np.flatnonzero(np.arange(len(evaluation.training)) % 3 != 2))
    assert np.isfinite(evaluation.estimated("random", "mean-map")).all()
    assert np.array_equal(evaluation.true("random"), evaluation.training.field[rows])


def test_an_estimate_that_is_missing_is_refused(evaluation, tmp_path):
    evaluation.field["random"]["mean-map"][0, 5] = np.nan
    with pytest.raises(DataError, match="field random mean-map is not finite where it was tested"):
        write_evaluation(tmp_path / "x.eval.h5", evaluation)


def test_shapes_that_do_not_fit_are_refused(evaluation, tmp_path):
    with pytest.raises(DataError, match=r"normalised_meps is \(3, 5\); expected \(160, 5\)"):
        write_evaluation(tmp_path / "x.eval.h5", replace(evaluation, normalised_meps=np.zeros((3, 5))))
    with pytest.raises(DataError, match="folds"):
        write_evaluation(tmp_path / "x.eval.h5", replace(evaluation, fold={"random": evaluation.fold["random"]}))


def test_another_file_is_refused(tmp_path):
    (tmp_path / "x.eval.h5").write_bytes(b"not this")
    with pytest.raises(FileFormatError):
        read_evaluation(tmp_path / "x.eval.h5")

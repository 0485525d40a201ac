"""A network behind `keras.Model.predict` says what the network itself says: the bench's peer maps the same pulses."""

from pathlib import Path

import numpy as np
import pytest

from rt_engine.errors import FileFormatError
from trainer.architectures.family import build_network
from trainer.keras_predictor import KerasPredictor, fresh_predictor, load_predictor
from trainer.network_data import NetworkPreprocessing, fit_scaling

MUSCLES, BOX = 3, (8, 8, 8)
VOXEL = np.argwhere(np.random.default_rng(0).random(BOX) < 0.2)


@pytest.mark.parametrize("model", ["direct-variational", "vae-decoder"])
@pytest.mark.parametrize("form", ["dense", "masked"])
def test_it_predicts_what_the_network_predicts(model, form):
    network = build_network(model, MUSCLES, VOXEL, BOX, form=form, seed=4)
    amplitudes = np.random.default_rng(1).lognormal(5.0, 1.0, (4, MUSCLES))
    scaling = fit_scaling(amplitudes, NetworkPreprocessing(), muscles=("FDI", "ADM", "ECR"))
    predictor = KerasPredictor(network, scaling)
    expected = network.predict(scaling.transform(amplitudes))
    for row, field in zip(amplitudes, expected, strict=True):
        found = predictor.predict(row)
        assert found.shape == (len(VOXEL),)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, field, atol=1e-6)


def test_a_fresh_one_needs_no_training():
    field = fresh_predictor(MUSCLES, VOXEL, BOX, "dense").predict(np.array([0.1, 0.0, 1.0]))
    assert field.shape == (len(VOXEL),)
    assert ((field >= 0) & (field <= 1)).all()


def test_a_folder_without_a_network_is_told(tmp_path: Path):
    with pytest.raises(FileFormatError, match="network.h5"):
        load_predictor(tmp_path, "dense")

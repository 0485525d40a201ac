"""From a data set to a trained network and back from its file: the article's own model on a small box."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from rt_engine.errors import DataError, FileFormatError
from trainer.architectures.settings import ArchitectureSettings
from trainer.metrics import nrmse
from trainer.network_data import NetworkPreprocessing, select_stimulations
from trainer.network_fitting import FittingSettings, TrainingStopped
from trainer.preprocessing import TrainingSet
from trainer.trained_network import TrainedNetwork, train_network
from trainer.trained_network_file import NETWORK_NAME

SETTINGS = FittingSettings(epochs=3, validation_fraction=0.2, seed=5)  # 64 rows: 8 batches of one size, one graph


@pytest.fixture(scope="module")
def boxed(training: TrainingSet) -> TrainingSet:
    """Return 82 of the tests' stimulations, 80 with a response, in a box whose sides are multiples of 4."""
    answered = (training.amplitudes_uv >= 50).any(axis=1)
    rows = np.sort(np.concatenate([np.flatnonzero(answered)[:80], np.flatnonzero(~answered)[:2]]))
    return replace(training, box_shape=(12, 12, 8)).rows(rows)


@pytest.fixture(scope="module")
def train(boxed: TrainingSet) -> Callable[..., TrainedNetwork]:
    def run(fitting: FittingSettings = SETTINGS, **more: Any) -> TrainedNetwork:
        return train_network(boxed, "direct-variational", fitting=fitting, **more)

    return run


@pytest.fixture(scope="module")
def trained(train: Callable[..., TrainedNetwork], tmp_path_factory: pytest.TempPathFactory) -> TrainedNetwork:
    return train(
        msgspec.structs.replace(SETTINGS, epochs=30, learning_rate=2.0), folder=tmp_path_factory.mktemp("trained")
    )


def test_it_beats_the_mean_map_on_stimulations_it_did_not_see(trained: TrainedNetwork) -> None:
    held_out = trained.validation
    estimated = trained.predict(held_out.amplitudes_uv)
    mean_map = np.tile(trained.training.field.mean(axis=0), (len(held_out), 1))
    error = nrmse(held_out.field, estimated).mean()
    assert error < nrmse(held_out.field, mean_map).mean()
    assert error == pytest.approx(trained.history.epochs[-1].validation_nrmse, rel=1e-4)


def test_it_is_fitted_to_stimulations_with_a_response_without_those_set_apart(
    trained: TrainedNetwork, boxed: TrainingSet
) -> None:
    kept = select_stimulations(boxed, NetworkPreprocessing()).kept.sum()
    assert len(trained.training) + len(trained.validation) == kept == 80
    assert trained.training.notes == ("2 stimulations without a response in any muscle left out",)
    assert len(trained.validation) == round(0.2 * kept)
    both = np.concatenate([trained.training.field, trained.validation.field])
    assert len(np.unique(both, axis=0)) == kept
    assert trained.scaling.scale_uv == pytest.approx(trained.training.amplitudes_uv.max(axis=0))
    assert trained.field_factor == trained.training.field.max()


def test_scales_come_from_all_stimulations_where_settings_say_so(
    train: Callable[..., TrainedNetwork], boxed: TrainingSet
) -> None:
    settings = msgspec.structs.replace(SETTINGS, epochs=1)
    stronger = replace(boxed, amplitudes_uv=boxed.amplitudes_uv * 2, field=boxed.field * 2)
    as_in_article = train(settings, preprocessing=NetworkPreprocessing(fitted_on="all"), scaled_on=stronger)
    assert as_in_article.scaling.scale_uv == pytest.approx(2 * boxed.amplitudes_uv.max(axis=0))
    assert as_in_article.field_factor == 2 * boxed.field.max()
    of_fold = train(settings, scaled_on=stronger)
    assert of_fold.scaling.scale_uv == pytest.approx(of_fold.training.amplitudes_uv.max(axis=0))


def test_stopped_and_resumed_gives_the_same_network_to_the_bit(
    train: Callable[..., TrainedNetwork], tmp_path: Path
) -> None:
    uninterrupted = train()
    steps = iter(range(int(np.random.default_rng().integers(1, 24))))
    with pytest.raises(TrainingStopped) as stopped:
        train(folder=tmp_path, stop=lambda: next(steps, None) is None)
    assert not (tmp_path / NETWORK_NAME).exists()
    resumed = train(folder=tmp_path, resume=True)
    for name, value in uninterrupted.network.weights().items():
        assert np.array_equal(value, resumed.network.weights()[name]), (name, str(stopped.value))


def test_a_checkpoint_of_another_architecture_form_or_preprocessing_is_refused(
    train: Callable[..., TrainedNetwork], tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(SETTINGS, epochs=1)
    train(settings, folder=tmp_path)
    with pytest.raises(DataError, match=r"architecture\.latent was 16 and is 8"):
        train(settings, folder=tmp_path, resume=True, architecture=ArchitectureSettings(latent=8))
    with pytest.raises(DataError, match="form was 'masked' and is 'dense'"):
        train(settings, folder=tmp_path, resume=True, form="dense")
    with pytest.raises(DataError, match=r"preprocessing\.floor_uv was 50.0 and is 60.0"):
        train(settings, folder=tmp_path, resume=True, preprocessing=NetworkPreprocessing(floor_uv=60.0))


def test_what_is_loaded_is_what_was_saved(trained: TrainedNetwork, tmp_path: Path) -> None:
    path = trained.save(tmp_path)
    loaded = TrainedNetwork.load(tmp_path)
    amplitudes = trained.validation.amplitudes_uv.copy()
    amplitudes[::3, 1] = np.nan
    assert np.array_equal(loaded.predict(amplitudes), trained.predict(amplitudes))
    for part in ("training", "validation"):
        for name in TrainingSet.__dataclass_fields__:
            then, now = getattr(getattr(trained, part), name), getattr(getattr(loaded, part), name)
            assert np.array_equal(then, now) if isinstance(then, np.ndarray) else then == now, name
    assert loaded.history == trained.history
    assert (loaded.fitting, loaded.preprocessing) == (trained.fitting, trained.preprocessing)
    assert loaded.network.settings == trained.network.settings
    content = path.read_bytes()
    loaded.save(tmp_path)
    assert path.read_bytes() == content


def test_a_damaged_file_is_refused(trained: TrainedNetwork, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="There is no file"):
        TrainedNetwork.load(tmp_path)
    path = trained.save(tmp_path)
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="damaged"):
        TrainedNetwork.load(tmp_path)


def test_a_network_trained_on_all_has_no_rows_set_apart(train: Callable[..., TrainedNetwork], tmp_path: Path) -> None:
    whole = train(FittingSettings(epochs=1, validation_fraction=0.0), folder=tmp_path)
    assert len(whole.validation) == 0
    assert whole.history.epochs[0].validation_nrmse is None
    loaded = TrainedNetwork.load(tmp_path)
    assert len(loaded.validation) == 0
    assert loaded.predict(loaded.validation.amplitudes_uv).shape == (0, whole.network.n_voxels)

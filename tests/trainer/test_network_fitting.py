"""Training finds weights, the same ones each time, stopped and resumed or not; the article's schedule to the letter."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from rt_engine.errors import DataError, FileFormatError, M2MError
from tests.trainer.linear_network import LinearNetwork
from trainer.network_fitting import EpochReport, FittingSettings, History, TrainingStopped, fit_network
from trainer.plateau_schedule import Plateau, plateau_after
from trainer.training_checkpoint import checkpoint_path, read_checkpoint, write_checkpoint

SETTINGS = FittingSettings(epochs=4, batch_size=8, seed=3)
N = 32  # a multiple of the batch: one graph per stage. A smaller last batch has a test of its own.


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.random((N + 6, 3))
    x = y @ rng.random((3, 5)) / 3 + 0.01 * rng.normal(size=(N + 6, 5))
    return x.astype(np.float32), y.astype(np.float32)


@pytest.fixture(scope="module")
def fit(data: tuple[np.ndarray, np.ndarray]) -> Callable[..., tuple[LinearNetwork, History]]:
    """Train a fresh network on the same data."""
    x, y = data

    def run(
        settings: FittingSettings = SETTINGS, two_stages: bool = True, **more: Any
    ) -> tuple[LinearNetwork, History]:
        network = LinearNetwork(two_stages=two_stages)
        given = {"x_validation": x[N:], "y_validation": y[N:]} | more
        return network, fit_network(network, x[:N], y[:N], settings, **given)

    return run


@pytest.fixture(scope="module")
def uninterrupted(fit: Callable[..., tuple[LinearNetwork, History]]) -> tuple[LinearNetwork, History]:
    return fit()


def stop_after(steps: int) -> Callable[[], bool]:
    left = iter(range(steps - 1))
    return lambda: next(left, None) is None


def same(one: LinearNetwork, other: LinearNetwork) -> bool:
    return all(np.array_equal(value, other.weights()[name]) for name, value in one.weights().items())


def test_training_lowers_the_error_of_stimulations_it_does_not_see(fit: Callable[..., Any], data: Any) -> None:
    x, y = data
    # Adadelta starts slowly, hence the rate.
    network, history = fit(FittingSettings(epochs=60, stop_patience=60, batch_size=N, learning_rate=50.0))
    of_mean = ((x[N:] - x[:N].mean(axis=0)) ** 2).sum(axis=1).mean()
    last = history.epochs[-1]
    assert last.validation_squared_error == pytest.approx(((network.predict(y[N:]) - x[N:]) ** 2).sum(axis=1).mean())
    assert last.validation_squared_error < 0.8 * of_mean
    assert [report.stage for report in history.epochs] == ["vae"] * 60 + ["mapper"] * 60
    assert [report.epoch for report in history.epochs] == [*range(1, 61)] * 2
    assert history.ended == {"vae": "epochs", "mapper": "epochs"}


def test_each_stage_changes_only_what_it_trains(fit: Callable[..., Any], tmp_path: Path) -> None:
    fresh, after = LinearNetwork().weights(), {}

    def keep(report: EpochReport) -> None:
        if report.stage == "vae":
            after.update(read_checkpoint(tmp_path).weights)

    network, _ = fit(told=keep, folder=tmp_path)
    assert np.array_equal(after["mapper"], fresh["mapper"])
    assert not np.array_equal(after["decoder"], fresh["decoder"])
    for name in ("encoder", "decoder"):
        assert np.array_equal(network.weights()[name], after[name])
    assert not np.array_equal(network.weights()["mapper"], fresh["mapper"])


def test_every_stimulation_is_seen_once_per_epoch_and_the_loss_is_their_mean(data: Any) -> None:
    x, y = data
    seen: list[tuple[int, float]] = []

    class Watched(LinearNetwork):
        def losses(self, stage: Any, x: Any, y: Any, noise: Any, training: bool = True) -> dict[str, Any]:
            import tensorflow as tf

            found = super().losses(stage, x, y, noise, training)
            tf.py_function(lambda rows, loss: seen.append((len(rows), float(loss))), [x, found["loss"]], [])
            return found

    history = fit_network(Watched(two_stages=False), x, y, FittingSettings(epochs=1))
    assert sorted(rows for rows, _ in seen) == [6, 8, 8, 8, 8]
    mean = sum(rows * loss for rows, loss in seen) / len(x)
    assert history.epochs[0].loss == pytest.approx(mean, rel=1e-6)
    assert history.epochs[0].validation_squared_error is None


def test_the_same_seed_gives_the_same_weights_and_another_one_others(
    fit: Callable[..., Any], uninterrupted: tuple[LinearNetwork, History]
) -> None:
    once, _ = uninterrupted
    again, _ = fit()
    other, _ = fit(msgspec.structs.replace(SETTINGS, seed=4))
    assert same(once, again)
    assert not same(once, other)


def test_what_is_watched_changes_nothing(fit: Callable[..., Any], uninterrupted: tuple[LinearNetwork, History]) -> None:
    watched, _ = uninterrupted
    alone, history = fit(x_validation=None, y_validation=None)
    assert same(watched, alone)
    assert all(report.validation_nrmse is None for report in history.epochs)


@pytest.mark.parametrize("steps", [1, 4, 16, 19])
def test_a_training_stopped_anywhere_goes_on_to_the_same_bits(
    fit: Callable[..., Any], uninterrupted: tuple[LinearNetwork, History], tmp_path: Path, steps: int
) -> None:
    """32 steps in all; 4 and 16 are the ends of an epoch and of a stage."""
    whole, told = uninterrupted
    with pytest.raises(TrainingStopped, match="checkpoint is in"):
        fit(folder=tmp_path, stop=stop_after(steps))
    network, history = fit(folder=tmp_path, resume=True)
    assert same(network, whole)
    assert [(r.loss, r.validation_nrmse) for r in history.epochs] == [(r.loss, r.validation_nrmse) for r in told.epochs]


def test_a_training_killed_between_epochs_goes_on_from_the_last_one(
    fit: Callable[..., Any], uninterrupted: tuple[LinearNetwork, History], tmp_path: Path
) -> None:
    killed_at = int(np.random.default_rng().integers(1, 8))

    def kill(report: EpochReport) -> None:
        if report.epoch + 4 * (report.stage == "mapper") == killed_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(folder=tmp_path, told=kill)
    network, history = fit(folder=tmp_path, resume=True)
    assert same(network, uninterrupted[0]), f"killed after epoch {killed_at}"
    assert len(history.epochs) == 8


def test_a_finished_training_can_be_given_more_epochs(fit: Callable[..., Any], tmp_path: Path) -> None:
    longer = msgspec.structs.replace(SETTINGS, epochs=6)
    at_once, _ = fit(longer, two_stages=False)
    fit(two_stages=False, folder=tmp_path)
    network, history = fit(longer, two_stages=False, folder=tmp_path, resume=True)
    assert same(network, at_once)
    assert len(history.epochs) == 6


def test_more_epochs_are_refused_where_an_earlier_stage_would_have_had_them(
    fit: Callable[..., Any], tmp_path: Path
) -> None:
    fit(folder=tmp_path)
    with pytest.raises(DataError, match="past the stage 'vae', which ended at 4 epochs"):
        fit(msgspec.structs.replace(SETTINGS, epochs=6), folder=tmp_path, resume=True)


def test_a_checkpoint_of_other_settings_or_data_is_refused(fit: Callable[..., Any], data: Any, tmp_path: Path) -> None:
    fit(two_stages=False, folder=tmp_path, identity={"model": "one"})
    with pytest.raises(DataError, match=r"fitting\.batch_size was 8 and is 4"):
        fit(
            msgspec.structs.replace(SETTINGS, batch_size=4),
            two_stages=False,
            folder=tmp_path,
            resume=True,
            identity={"model": "one"},
        )
    with pytest.raises(DataError, match="model was 'one' and is 'two'"):
        fit(two_stages=False, folder=tmp_path, resume=True, identity={"model": "two"})
    with pytest.raises(DataError, match="data was"):
        fit(two_stages=False, folder=tmp_path, resume=True, identity={"model": "one"}, x_validation=data[0][N:] / 2)
    with pytest.raises(DataError, match="already there"):
        fit(two_stages=False, folder=tmp_path)


def test_a_damaged_checkpoint_is_refused(fit: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no checkpoint in"):
        fit(two_stages=False, folder=tmp_path, resume=True)
    fit(two_stages=False, folder=tmp_path)
    path = checkpoint_path(tmp_path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="damaged"):
        fit(two_stages=False, folder=tmp_path, resume=True)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(FileFormatError, match="truncated"):
        fit(two_stages=False, folder=tmp_path, resume=True)


def test_a_checkpoint_of_another_network_is_refused(fit: Callable[..., Any], tmp_path: Path) -> None:
    fit(two_stages=False, folder=tmp_path)
    checkpoint = read_checkpoint(tmp_path)
    write_checkpoint(tmp_path, replace(checkpoint, weights={"others": np.zeros(3)}))
    with pytest.raises(DataError, match="another network"):
        fit(two_stages=False, folder=tmp_path, resume=True)


def test_a_loss_that_is_no_number_ends_training_and_leaves_the_epoch_before(
    fit: Callable[..., Any], tmp_path: Path
) -> None:
    fit(two_stages=False, folder=tmp_path)
    before = read_checkpoint(tmp_path)
    broken = replace(before, weights=before.weights | {"mapper": np.full((3, 2), 1e30, np.float32)})
    write_checkpoint(tmp_path, broken)
    with pytest.raises(M2MError, match=r"epoch 5 \(step 1 of 4\) of stage 'direct'.*smaller fitting\.learning_rate"):
        fit(msgspec.structs.replace(SETTINGS, epochs=6), two_stages=False, folder=tmp_path, resume=True)
    assert len(read_checkpoint(tmp_path).history) == 4


def test_data_that_cannot_be_trained_on_are_refused(data: Any) -> None:
    x, y = data
    with pytest.raises(DataError, match="fold is empty"):
        fit_network(LinearNetwork(), x[:0], y[:0], SETTINGS)
    with pytest.raises(DataError, match="expected \\(stimulations, voxels\\)"):
        fit_network(LinearNetwork(), x[:4], y[:5], SETTINGS)
    with pytest.raises(DataError, match="not finite"):
        fit_network(LinearNetwork(), np.where(x > x.mean(), np.nan, x), y, SETTINGS)
    with pytest.raises(DataError, match="validation data have 4 voxels"):
        fit_network(LinearNetwork(), x, y, SETTINGS, x_validation=x[:, :4], y_validation=y)
    with pytest.raises(DataError, match="name it"):
        fit_network(LinearNetwork(), x, y, SETTINGS, resume=True)


def test_tensorboard_finds_the_curves(fit: Callable[..., Any], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    _, history = fit(log_dir=tmp_path / "logs")
    events = EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    tags = events.Tags()["tensors"]
    assert {"vae/loss", "mapper/loss", "mapper/validation_nrmse", "mapper/learning_rate"} <= set(tags)
    assert [event.step for event in events.Tensors("mapper/loss")] == [5, 6, 7, 8]
    drawn = [float(make_ndarray(event.tensor_proto)) for event in events.Tensors("vae/loss")]
    assert drawn == pytest.approx([report.loss for report in history.epochs[:4]])


def test_the_learning_rate_falls_after_five_epochs_without_improvement_and_training_stops_after_twenty() -> None:
    rates, plateau = [], Plateau(1.0)
    settings = FittingSettings()
    while not plateau.reached(settings):
        rates.append(plateau.learning_rate)
        plateau = plateau.after(2.0, settings)
    # The first epoch is the improvement that the others are measured by.
    assert rates == pytest.approx([1.0] * 6 + [0.7] * 5 + [0.49] * 5 + [0.343] * 5)


def test_an_improvement_is_relative_to_the_best_so_far() -> None:
    settings = FittingSettings()
    assert plateau_after([100.0, 99.9995], settings).since_best == 1
    assert plateau_after([100.0, 99.9], settings).since_best == 0
    assert plateau_after([1e-4, 0.9999e-4], settings).since_best == 0
    # Many small steps down count once they add up.
    assert plateau_after([100.0, 99.9995, 99.998], settings).since_best == 0
    assert plateau_after([1.0, 2.0, 3.0, 1.5], settings).best == 1.0


def test_a_stage_ends_on_the_plateau(fit: Callable[..., Any]) -> None:
    settings = FittingSettings(epochs=30, reduce_patience=1, stop_patience=2, min_delta=0.5)
    _, history = fit(settings)
    assert history.ended == {"vae": "plateau", "mapper": "plateau"}
    assert len(history.epochs) < 60

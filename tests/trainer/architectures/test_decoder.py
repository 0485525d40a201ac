"""The masked decoder against the dense one: the same weights, maps and gradients."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from rt_engine.field.subject_file import read_subject
from tests.trainer.architectures.conftest import BOX
from trainer.architectures.decoder import Decoder
from trainer.architectures.row_gather import batched_plan, gather_plan, gather_rows

TOLERANCE = {"float32": 1e-4, "float64": 1e-9}
"""||difference|| / ||gradient|| per weight tensor."""


def both_forms(decoder: Decoder, batch: int, *, training: bool = False, seed: int = 0) -> dict[str, tuple]:
    """Value of the unbounded output and gradients of a random projection of it, by form."""
    rng = np.random.default_rng(seed)
    dtype = decoder.compute_dtype
    latent = tf.constant(np.maximum(rng.normal(size=(batch, np.prod(decoder.cells.latent_shape))), 0), dtype)
    direction = tf.constant(rng.normal(size=(batch, len(decoder.cells.voxel))), dtype)
    found = {}
    for form in ("masked", "dense"):
        decoder.form = form
        with tf.GradientTape() as tape:
            tape.watch(latent)
            value = decoder.unbounded(latent, training=training)
            loss = tf.reduce_sum(value * direction)
        found[form] = value, tape.gradient(loss, [latent, *decoder.trainable_variables])
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("final_kernel", [1, 3])
@pytest.mark.parametrize(("batch_norm", "training"), [(False, False), (True, False), (True, True)])
def test_masked_and_dense_give_the_same_values_and_gradients(
    sparse_mask: np.ndarray,
    assert_same_gradients: Callable[..., None],
    dtype: str,
    final_kernel: int,
    batch_norm: bool,
    training: bool,
) -> None:
    decoder = Decoder(sparse_mask, BOX, final_kernel=final_kernel, batch_norm=batch_norm, dtype=dtype)
    _disturb(decoder)
    found = both_forms(decoder, 3, training=training)
    # Keras adds up a batch's statistics in float32, value after value, and upsampling makes eight times as many.
    rounding = 100 if training and dtype == "float32" else 1
    np.testing.assert_allclose(found["masked"][0], found["dense"][0], atol=1e-5 * rounding)
    assert_same_gradients(found["masked"][1], found["dense"][1], TOLERANCE[dtype] * rounding)


def test_the_default_subject_s_map_is_the_same_in_both_forms() -> None:
    subject = read_subject(Path(str(files("configs") / "demo" / "default.subject.h5")))
    decoder = Decoder(subject.voxel, subject.box_shape)
    rng = np.random.default_rng(1)
    latent = tf.constant(rng.normal(size=(1, 4096)), tf.float32)
    masked = decoder(latent)
    decoder.form = "dense"
    np.testing.assert_allclose(masked, decoder(latent), atol=1e-5)
    assert masked.shape == (1, len(subject.voxel))
    assert 0 <= float(tf.reduce_min(masked)) < float(tf.reduce_max(masked)) <= 1


def test_batch_norm_learns_the_same_moving_statistics_in_both_forms(sparse_mask: np.ndarray) -> None:
    moved = {}
    for form in ("masked", "dense"):
        decoder = Decoder(sparse_mask, BOX, batch_norm=True, form=form, dtype="float64")
        latent = tf.constant(np.random.default_rng(2).normal(size=(2, 512)), tf.float64)
        decoder(latent, training=True)
        moved[form] = [variable.numpy() for variable in decoder.non_trainable_variables]
    for one, other in zip(moved["masked"], moved["dense"], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10)
        assert not np.allclose(one, 0)
        assert not np.allclose(one, 1)


def test_the_output_is_bounded(sparse_mask: np.ndarray) -> None:
    decoder = Decoder(sparse_mask, BOX)
    latent = tf.constant(np.random.default_rng(0).normal(0, 30, (2, 512)), tf.float32)
    raw, bounded = decoder.unbounded(latent), decoder(latent)
    assert float(tf.reduce_max(raw)) > 1 > 0 > float(tf.reduce_min(raw))
    np.testing.assert_array_equal(bounded, np.clip(raw, 0, 1))


def test_the_form_is_no_part_of_the_weights(sparse_mask: np.ndarray) -> None:
    masked, dense = (Decoder(sparse_mask, BOX, form=form, seeds=(7, 8, 9)) for form in ("masked", "dense"))
    for one, other in zip(masked.variables, dense.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_rows_are_gathered_and_their_gradient_is_added_up() -> None:
    rng = np.random.default_rng(0)
    matrix, index = rng.normal(size=(5, 3)), np.array([4, 0, 5, 0, 2, 4, 4])
    upstream = rng.normal(size=(7, 3))
    x = tf.constant(matrix)
    with tf.GradientTape() as tape:
        tape.watch(x)
        taken = gather_rows(x, gather_plan(index, 5))
        loss = tf.reduce_sum(taken * upstream)
    np.testing.assert_array_equal(taken, np.vstack([matrix, np.zeros(3)])[index])
    expected = np.zeros((6, 3))
    np.add.at(expected, index, upstream)
    np.testing.assert_allclose(tape.gradient(loss, x), expected[:5])


def test_a_plan_for_a_batch_takes_each_stimulation_s_own_cells() -> None:
    index = np.array([[1, 2], [0, 1]])  # 2 cells: number 2 takes zeros
    values = np.array([[10.0, 11.0, 12.0], [20.0, 21.0, 22.0]])  # cell, stimulation
    plan = batched_plan(index, 2, 3)
    taken = gather_rows(tf.constant(values.reshape(-1, 1)), plan)
    expected = [[[20, 0], [21, 0], [22, 0]], [[10, 20], [11, 21], [12, 22]]]
    np.testing.assert_array_equal(np.reshape(taken, (2, 3, 2)), expected)


def _disturb(decoder: Decoder) -> None:
    """Give biases and batch norm values at which a mistake would show."""
    rng = np.random.default_rng(5)
    for variable in decoder.variables:
        if variable.name in ("bias", "beta", "moving_mean"):
            variable.assign(rng.uniform(-0.1, 0.1, variable.shape))
        elif variable.name in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))

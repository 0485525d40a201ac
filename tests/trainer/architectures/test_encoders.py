"""The encoder: the masked form against the dense one, and the dense one against Keras' layers and the loss's slope."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from rt_engine.errors import DataError
from trainer.architectures.encoder_cells import encoder_cells
from trainer.architectures.encoders import Encoder, max_pool

BOX = (32, 32, 32)
SMALL = (8, 4, 12)


@pytest.fixture(scope="module")
def full_box():
    return np.argwhere(np.ones(SMALL, bool))


def made(voxel, box=BOX, **options):
    """Make an encoder whose background is not zero: fresh biases would hide it."""
    encoder = Encoder(voxel, box, **options)
    for k, layer in enumerate(encoder.convolutions):
        layer.bias.assign(0.1 * tf.random.stateless_normal(layer.bias.shape, (5, k), dtype=layer.dtype) + 0.1)
    layer.bias.assign([0.6])  # hardly a cell of the latent grid is cut off by the ReLU
    return encoder


def run(encoder, form, x):
    encoder.form = form
    with tf.GradientTape() as tape:
        latent = encoder(x)
        weight = tf.random.stateless_normal(latent.shape, (1, 2), dtype=x.dtype)
        loss = tf.reduce_sum(weight * latent)
    return latent, tape.gradient(loss, encoder.trainable_variables)


def some_field(encoder, n=3):
    return tf.random.stateless_uniform((n, encoder.cells.n_voxels), (3, 4), dtype=encoder.dtype)


@pytest.mark.parametrize(("dtype", "value", "gradient"), [("float32", 1e-5, 1e-4), ("float64", 1e-13, 1e-9)])
@pytest.mark.parametrize("final_kernel", [3, 1])
def test_the_masked_form_is_the_dense_one(sparse_mask, dtype, value, gradient, final_kernel, assert_same_gradients):
    encoder = made(sparse_mask, final_kernel=final_kernel, dtype=dtype)
    x = some_field(encoder)
    dense, expected = run(encoder, "dense", x)
    masked, found = run(encoder, "masked", x)
    assert masked.shape == dense.shape == (3, 8 * 8 * 8)
    assert np.unique(dense[0]).size > 50  # there is something to compare, near the mask and at the faces
    assert float(tf.reduce_max(tf.abs(masked - dense))) <= value
    assert_same_gradients(found, expected, gradient)


@pytest.mark.parametrize("box", [(4, 4, 4), SMALL])
def test_the_masked_form_is_the_dense_one_where_the_mask_fills_a_small_box(box, assert_same_gradients):
    encoder = made(np.argwhere(np.ones(box, bool)), box, dtype="float64")
    x = some_field(encoder)
    dense, expected = run(encoder, "dense", x)
    masked, found = run(encoder, "masked", x)
    assert float(tf.reduce_max(tf.abs(masked - dense))) < 1e-13
    assert_same_gradients(found, expected, 1e-9)


def test_a_zero_field_gives_the_background_everywhere(sparse_mask):
    encoder = made(sparse_mask, dtype="float64")
    zeros = tf.zeros((1, len(sparse_mask)), tf.float64)
    dense, _ = run(encoder, "dense", zeros)
    masked, _ = run(encoder, "masked", zeros)
    assert float(tf.reduce_max(tf.abs(masked - dense))) < 1e-13
    assert np.unique(masked.numpy().round(9)).size > 8  # a padded face is not the inside


def test_the_order_of_the_voxels_is_the_callers(sparse_mask):
    order = np.random.default_rng(1).permutation(len(sparse_mask))
    one, other = made(sparse_mask), made(sparse_mask[order])
    x = some_field(one)
    for form in ("masked", "dense"):
        expected, _ = run(one, form, x)
        found, _ = run(other, form, tf.gather(x, order, axis=1))
        assert float(tf.reduce_max(tf.abs(found - expected))) < 1e-6


def test_the_dense_form_is_keras_own_layers(full_box):
    encoder = made(full_box, SMALL)
    x = some_field(encoder)
    expected = tf.reshape(x, (3, *SMALL, 1))
    for k, layer in enumerate(encoder.convolutions):
        expected = layer(keras.layers.MaxPooling3D(2)(expected) if k else expected)
    found, _ = run(encoder, "dense", x)
    assert float(tf.reduce_max(tf.abs(found - tf.reshape(expected, (3, -1))))) < 1e-6


@pytest.mark.parametrize("form", ["masked", "dense"])
def test_the_gradient_is_the_losss_slope_where_most_of_the_box_is_equal(form):
    # With TensorFlow's own pooling each of eight equal cells takes the whole gradient, and this is 64 times too much.
    encoder = made(np.array([[5, 6, 7]]), (12, 12, 12), dtype="float64")
    x = some_field(encoder)
    _, gradients = run(encoder, form, x)
    weight = tf.random.stateless_normal((3, 27), (1, 2), dtype=tf.float64)
    for variable, gradient in zip(encoder.trainable_variables, gradients, strict=True):
        direction = tf.random.stateless_normal(variable.shape, (8, 9), dtype=tf.float64)
        start, losses = tf.identity(variable), []
        for step in (1e-6, -1e-6):
            variable.assign(start + step * direction)
            losses.append(float(tf.reduce_sum(weight * encoder(x))))
        variable.assign(start)
        slope = (losses[0] - losses[1]) / 2e-6
        assert slope == pytest.approx(float(tf.reduce_sum(gradient * direction)), rel=1e-6, abs=1e-9)


def test_equal_maxima_share_one_gradient():
    grid = tf.ones((1, 4, 2, 2, 1))
    with tf.GradientTape() as tape:
        tape.watch(grid)
        pooled = max_pool(grid)
    assert pooled.shape == (1, 2, 1, 1, 1)
    assert float(tf.reduce_sum(tape.gradient(pooled, grid))) == 2.0


def test_the_same_seeds_give_the_same_weights_in_both_forms(sparse_mask):
    one, other = (Encoder(sparse_mask, BOX, form=form, seeds=(4, 5, 6)) for form in ("masked", "dense"))
    for left, right in zip(one.variables, other.variables, strict=True):
        assert np.array_equal(left, right)
    assert [tuple(kernel.shape) for kernel in one.kernels] == [(3, 3, 3, 1, 32), (3, 3, 3, 32, 64), (3, 3, 3, 64, 1)]


def test_only_cells_near_the_mask_are_computed():
    cells = encoder_cells(np.array([[8, 8, 8]]), BOX)
    # Voxel 8 is read by 7 to 9, which pool into 3 and 4; those are read by 2 to 5, which pool into 1 and 2.
    assert cells.half.tolist() == [[x, y, z] for x in (3, 4) for y in (3, 4) for z in (3, 4)]
    assert cells.coarse.tolist() == [[x, y, z] for x in (1, 2) for y in (1, 2) for z in (1, 2)]


def test_an_inner_grid_has_27_classes_of_cells():
    cells = encoder_cells(np.array([[8, 8, 8]]), BOX)
    assert len(cells.class_taps) == len(cells.class_children) == 3**3
    assert len(cells.latent_class_taps) == 5**3  # the last convolution also sees the face's neighbours


@pytest.mark.parametrize(
    ("voxel", "box", "message"),
    [
        (np.zeros((1, 3), int), (6, 8, 8), "multiples of 4"),
        (np.zeros((0, 3), int), (8, 8, 8), "V > 0"),
        (np.array([[0, 0, 8]]), (8, 8, 8), "leave the box"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(voxel, box, message):
    with pytest.raises(DataError, match=message):
        Encoder(voxel, box)

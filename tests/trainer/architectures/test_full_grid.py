"""The upsampling and the convolution in one step, against Keras' two layers."""

import keras
import pytest
import tensorflow as tf

from trainer.architectures.full_grid import upsampled_convolution


def gradients(layers, values):
    with tf.GradientTape() as tape:
        tape.watch(values)
        out = layers(*values)
        # Squares weigh every output differently, so that no gradient can be right by accident.
        loss = tf.reduce_sum(out**2)
    return out, tape.gradient(loss, values)


def two_layers(x, kernel, bias):
    grid = keras.layers.UpSampling3D(2, dtype=x.dtype)(x)
    return tf.nn.conv3d(grid, kernel, (1, 1, 1, 1, 1), "SAME") + bias


@pytest.mark.parametrize(("dtype", "limit"), [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize(("shape", "filters"), [((2, 4, 3, 2, 5), 7), ((1, 1, 2, 1, 1), 1), ((3, 2, 4, 4, 8), 1)])
def test_it_is_upsampling_and_convolution_in_one(dtype, limit, shape, filters, assert_same_gradients):
    normal = [
        tf.random.stateless_normal(size, (7, k), dtype=dtype)
        for k, size in enumerate((shape, (3, 3, 3, shape[-1], filters), (filters,)))
    ]
    found, found_gradients = gradients(upsampled_convolution, normal)
    expected, expected_gradients = gradients(two_layers, normal)
    assert found.shape == expected.shape
    assert float(tf.reduce_max(tf.abs(found - expected))) <= limit * float(tf.reduce_max(tf.abs(expected)))
    assert_same_gradients(found_gradients, expected_gradients, limit)


def test_batch_norm_of_the_small_grid_is_that_of_the_upsampled_one():
    x = tf.random.stateless_normal((3, 2, 4, 2, 5), (7, 9)) * 3.0 + 1.0
    before, after = keras.layers.BatchNormalization(), keras.layers.BatchNormalization()
    upsample = keras.layers.UpSampling3D(2)
    normalised, expected = upsample(before(x, training=True)), after(upsample(x), training=True)
    assert float(tf.reduce_max(tf.abs(normalised - expected))) < 1e-5
    for one, other in zip(before.variables, after.variables, strict=True):
        assert float(tf.reduce_max(tf.abs(one - other))) < 1e-6


def test_a_batch_of_unknown_size_is_taken():
    kernel, bias = tf.ones((3, 3, 3, 2, 4)), tf.zeros(4)
    step = tf.function(lambda x: upsampled_convolution(x, kernel, bias))
    traced = step.get_concrete_function(tf.TensorSpec((None, 2, 2, 2, 2), tf.float32))
    assert traced.output_shapes.as_list() == [None, 4, 4, 4, 4]
    assert traced(tf.ones((3, 2, 2, 2, 2))).shape == (3, 4, 4, 4, 4)

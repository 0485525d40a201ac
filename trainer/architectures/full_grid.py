"""Nearest upsampling and a 3^3 convolution of a whole grid in one step: what batch norm in training needs.

`upsampled_convolution(x, kernel, bias)` is `Conv3D(same)(UpSampling3D(2)(x))` to rounding, for 3.4 times fewer
multiplications, and the larger grid is never made. No activation is applied. It is differentiable in all three.

Per axis, an upsampled cell q is read by the outputs 2q-1 to 2q+2, with the weights w(1), w(0) + w(1), w(-1) + w(0) and
w(-1). So the two layers are one transposed convolution with stride 2, whose kernel of 4^3 taps is a fixed linear map of
the 27 weights; outputs that leave the grid are cut off, which is the zero padding. oneDNN computes it and both its
gradients as single operations.

Batch norm between the two layers, as the authors' code has it in (a) and (b), takes its statistics over the upsampled
grid. Upsampling repeats each value eight times, which changes neither mean nor variance (Keras divides by the count and
not by one less): normalise `x` itself. The padding is zero after the normalisation in both.

Do not compile this with XLA, which has no transposed convolution of its own for the CPU and takes many times longer.
"""

import numpy as np
import tensorflow as tf

TAPS_OF_KERNEL = np.array(
    [
        [0.0, 0.0, 1.0],  # output 2q - 1: odd, of the cell before: w(1)
        [0.0, 1.0, 1.0],  # output 2q
        [1.0, 1.0, 0.0],  # output 2q + 1
        [1.0, 0.0, 0.0],  # output 2q + 2: even, of the cell after: w(-1)
    ]
)
"""(4, 3): weights of the 3-tap kernel in each tap of the transposed convolution, per axis."""


def upsampled_convolution(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Upsample by 2 along each axis, then convolve with zero padding.

    Parameters
    ----------
    x : tf.Tensor
        (batch, d, h, w, c).
    kernel : tf.Tensor
        (3, 3, 3, c, f).
    bias : tf.Tensor
        (f,).

    Returns
    -------
    tf.Tensor
        (batch, 2d, 2h, 2w, f), in the type of `x`.
    """
    c, f = kernel.shape[3:]
    one = TAPS_OF_KERNEL
    matrix = tf.constant(np.kron(np.kron(one, one), one), kernel.dtype)
    taps = tf.reshape(tf.matmul(matrix, tf.reshape(kernel, (27, -1))), (4, 4, 4, c, f))
    batch, *sides = tf.unstack(tf.shape(x))[:4]
    shape = tf.stack([batch, *(2 * side for side in sides), f])
    # The transposed convolution wants its channels as (out, in).
    grid = tf.nn.conv3d_transpose(x, tf.transpose(taps, (0, 1, 2, 4, 3)), shape, strides=2, padding="SAME")
    grid.set_shape((x.shape[0], *(None if side is None else 2 * side for side in x.shape[1:4]), f))
    return grid + bias

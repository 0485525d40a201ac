"""The encoder of (a), (c) and (d): from the field on BA4's voxels to the latent grid.

Convolution 3^3 to 32 channels, ReLU, max-pooling by 2, convolution 3^3 to 64, ReLU, max-pooling by 2, convolution to 1,
ReLU (article, II.F; the stride of the pooling is the authors' code's). The VAE's mean and log-variance are not here but
in `sampling`. The dense form convolves the whole box; the masked form computes the same numbers only near BA4, from the
same weights (`masked_encoder`).
"""

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from trainer.architectures.encoder_cells import encoder_cells
from trainer.architectures.grid_cells import Shape
from trainer.architectures.masked_encoder import MaskedEncoder
from trainer.architectures.settings import Form

CHANNELS = (32, 64)
"""Of the first two convolutions (II.F)."""


class Encoder(keras.layers.Layer):
    """Field to latent grid.

    Parameters
    ----------
    voxel : numpy.ndarray
        (V, 3) int, voxels of BA4 in the box; their order is that of the input. The box is zero elsewhere.
    box_shape : tuple of int
        Voxels of the box, multiples of 4.
    final_kernel : int
        Side of the last convolution's kernel, 3 or 1.
    form : str
        ``masked`` or ``dense``; can be changed at any time.
    seeds : tuple of int
        Three, of the initial kernels.
    dtype : str
        ``float32`` or ``float64``.

    Raises
    ------
    DataError
        If the box cannot be halved twice, or the mask is empty or leaves it.
    """

    def __init__(
        self,
        voxel: NDArray[np.integer],
        box_shape: Shape,
        *,
        final_kernel: int = 3,
        form: Form = "masked",
        seeds: tuple[int, ...] = (0, 1, 2),
        dtype: str = "float32",
    ) -> None:
        super().__init__(name="encoder", dtype=dtype)
        self.form: Form = form
        self.voxel = np.array(voxel, dtype=np.int64)
        self.cells = encoder_cells(self.voxel, box_shape)
        self._masked = MaskedEncoder(self.cells)
        self._voxel_of_box = np.full(int(np.prod(box_shape)), self.cells.n_voxels, dtype=np.int32)
        self._voxel_of_box[np.ravel_multi_index(tuple(self.voxel.T), box_shape)] = np.arange(self.cells.n_voxels)
        self.convolutions = [
            keras.layers.Conv3D(
                channels,
                side,
                padding="same",
                activation="relu",
                kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
                name=f"convolution{k + 1}",
                dtype=dtype,
            )
            for k, (channels, side, seed) in enumerate(
                zip((*CHANNELS, 1), (3, 3, final_kernel), seeds[:3], strict=True)
            )
        ]
        for layer, channels in zip(self.convolutions, (1, *CHANNELS), strict=True):
            layer.build((None, None, None, None, channels))
        self.built = True

    @property
    def kernels(self) -> list[keras.Variable]:
        """The three kernels, which the l1 penalty sums."""
        return [layer.kernel for layer in self.convolutions]

    @property
    def n_cells(self) -> int:
        """Cells of the latent grid, the length of the output."""
        return int(np.prod(self.cells.latent_shape))

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Encode.

        Parameters
        ----------
        x : tf.Tensor
            (batch, V); the batch's size must be known beforehand.

        Returns
        -------
        tf.Tensor
            (batch, cells of the latent grid) in C order, nowhere negative.
        """
        if self.form == "dense":
            return self._dense(x)
        weights = [tensor for layer in self.convolutions for tensor in (layer.kernel, layer.bias)]
        return self._masked(x, *(tf.convert_to_tensor(weight) for weight in weights))

    def _dense(self, x: tf.Tensor) -> tf.Tensor:
        grid = tf.gather(tf.pad(x, [[0, 0], [0, 1]]), self._voxel_of_box, axis=1)
        grid = tf.reshape(grid, (x.shape[0], *self.cells.box_shape, 1))
        first, second, last = self.convolutions
        grid = last(max_pool(second(max_pool(first(grid)))))
        return tf.reshape(grid, (x.shape[0], -1))


def max_pool(grid: tf.Tensor) -> tf.Tensor:
    """Pool (batch, x, y, z, c) by 2 along x, y and z: the values of `keras.layers.MaxPooling3D(2)`.

    The gradient is not TensorFlow's, whose kernel for the CPU hands the whole of it to each of several equal maxima and
    so counts it up to eight times; where the field is zero, which is most of the box, all eight are equal. Here one of
    them takes it, so that it is the loss's derivative. There is also no float64 kernel of TensorFlow's.
    """
    for axis in (1, 2, 3):
        sides = tf.unstack(tf.reshape(grid, (*grid.shape[:axis], -1, 2, *grid.shape[axis + 1 :])), axis=axis + 1)
        grid = tf.maximum(*sides)
    return grid

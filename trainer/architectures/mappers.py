"""The mappers: from normalised MEPs to what the decoder, or the sampling layer before it, takes (article, Fig. 2)."""

import keras
import numpy as np
import tensorflow as tf

from rt_engine.errors import DataError
from trainer.architectures.dense_layer import dense
from trainer.architectures.grid_cells import Shape

LINEAR_UNITS = (16, 32)
"""Of the variational models' mapper."""

DENSE_UNITS = (32, 128)
"""Of the convolutional models' mapper, before the layer that fills its first grid (512 = 2 x 2 x 2 x 64)."""

TRANSPOSED_CHANNELS = (64, 32, 1)


class LinearMapper(keras.layers.Layer):
    """Dense layers without activation: 16, 32, and one more where `n_outputs` is given.

    Parameters
    ----------
    n_muscles : int
        Length of the MEP vector.
    n_outputs : int or None
        Units of a last layer: the latent vector for (c), the latent grid's cells for (d), none for (e).
    seeds : tuple of int
        Three, of the initial kernels.
    dtype : str
        ``float32`` or ``float64``.
    """

    def __init__(
        self, n_muscles: int, n_outputs: int | None, *, seeds: tuple[int, ...], dtype: str = "float32"
    ) -> None:
        super().__init__(name="mapper", dtype=dtype)
        units = (*LINEAR_UNITS, *(() if n_outputs is None else (n_outputs,)))
        self.layers = [
            dense(count, None, f"dense{k + 1}", seed=seeds[k], n_inputs=before, dtype=dtype)
            for k, (count, before) in enumerate(zip(units, (n_muscles, *units), strict=False))
        ]
        self.n_outputs = units[-1]
        self.built = True

    @property
    def kernels(self) -> list[keras.Variable]:
        """What the l1 penalty sums."""
        return [layer.kernel for layer in self.layers]

    def call(self, y: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Map (batch, muscles) to (batch, n_outputs)."""
        for layer in self.layers:
            y = layer(y)
        return y


class ConvolutionalMapper(keras.layers.Layer):
    """Dense layers with ReLU to a small grid, then three times upsampling and a transposed convolution 3^3 with ReLU.

    Parameters
    ----------
    n_muscles : int
        Length of the MEP vector.
    latent_shape : tuple of int
        Cells of the latent grid per axis, multiples of 8: the first grid has an eighth of them (2 of 16).
    batch_norm : bool
        Normalise batches after each convolution (II.F).
    seeds : tuple of int
        Six, of the initial kernels.
    dtype : str
        ``float32`` or ``float64``.

    Raises
    ------
    DataError
        If the latent grid cannot be halved three times.
    """

    def __init__(
        self,
        n_muscles: int,
        latent_shape: Shape,
        *,
        batch_norm: bool,
        seeds: tuple[int, ...],
        dtype: str = "float32",
    ) -> None:
        super().__init__(name="mapper", dtype=dtype)
        if any(side % 8 for side in latent_shape):
            box = tuple(4 * side for side in latent_shape)
            raise DataError(
                f"the box has {box} voxels; the convolutional mapper needs sides that are multiples of 32. "
                "Use a variational model, or a box such as 64 x 64 x 64"
            )
        self.start = tuple(side // 8 for side in latent_shape)
        units = (*DENSE_UNITS, int(np.prod(self.start)) * TRANSPOSED_CHANNELS[0])
        self.layers = [
            dense(count, "relu", f"dense{k + 1}", seed=seeds[k], n_inputs=before, dtype=dtype)
            for k, (count, before) in enumerate(zip(units, (n_muscles, *units), strict=False))
        ]
        self.convolutions = [
            keras.layers.Conv3DTranspose(
                channels,
                3,
                padding="same",
                activation="relu",
                kernel_initializer=keras.initializers.GlorotUniform(seed=seeds[3 + k]),
                name=f"transposed{k + 1}",
                dtype=dtype,
            )
            for k, channels in enumerate(TRANSPOSED_CHANNELS)
        ]
        self.norms = [
            keras.layers.BatchNormalization(name=f"norm{k + 1}", dtype=dtype)
            for k in range(len(TRANSPOSED_CHANNELS) if batch_norm else 0)
        ]
        self._upsample = keras.layers.UpSampling3D(2, dtype=dtype)
        for layer, before in zip(self.convolutions, (TRANSPOSED_CHANNELS[0], *TRANSPOSED_CHANNELS), strict=False):
            layer.build((None, None, None, None, before))
        for norm, channels in zip(self.norms, TRANSPOSED_CHANNELS, strict=False):
            norm.build((None, None, None, None, channels))
        self.built = True

    @property
    def kernels(self) -> list[keras.Variable]:
        """What the l1 penalty sums."""
        return [layer.kernel for layer in (*self.layers, *self.convolutions)]

    def call(self, y: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Map (batch, muscles) to (batch, cells of the latent grid) in C order."""
        for layer in self.layers:
            y = layer(y)
        x = tf.reshape(y, (y.shape[0], *self.start, TRANSPOSED_CHANNELS[0]))
        for k, layer in enumerate(self.convolutions):
            x = layer(self._upsample(x))
            if self.norms:
                x = self.norms[k](x, training=training)
        return tf.reshape(x, (x.shape[0], -1))

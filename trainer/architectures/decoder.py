"""The decoder that all five models share: from the latent grid to the field on BA4's voxels.

Convolution 3^3 to 64 channels, ReLU, nearest upsampling, convolution 3^3 to 32, ReLU, upsampling, convolution to 1,
bounded ReLU min(1, relu(x)), BA4 mask (article, II.F). The dense form runs Keras' own layers over the whole box, as
published; the masked form computes the same numbers only where BA4 needs them, from the same weights.
"""

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from trainer.architectures.full_grid import upsampled_convolution
from trainer.architectures.grid_cells import Shape
from trainer.architectures.masked_convolution import MaskedConvolutions
from trainer.architectures.native_decoder import NativeDecoder
from trainer.architectures.native_library import native_library
from trainer.architectures.needed_cells import needed_cells
from trainer.architectures.settings import Form

CHANNELS = (64, 32)
"""Of the first two convolutions (II.F)."""


class Decoder(keras.layers.Layer):
    """Latent grid to field.

    Parameters
    ----------
    voxel : numpy.ndarray
        (V, 3) int, voxels of BA4 in the box; their order is that of the output.
    box_shape : tuple of int
        Voxels of the box, multiples of 4.
    final_kernel : int
        Side of the last convolution's kernel, 3 or 1.
    batch_norm : bool
        Normalise batches after each upsampling, as the authors' code does in (a) and (b).
    form : str
        ``masked`` or ``dense``; can be changed at any time.
    seeds : tuple of int
        Three or more, of the initial kernels.
    dtype : str
        ``float32`` or ``float64``.
    """

    def __init__(
        self,
        voxel: NDArray[np.integer],
        box_shape: Shape,
        *,
        final_kernel: int = 3,
        batch_norm: bool = False,
        form: Form = "masked",
        seeds: tuple[int, ...] = (0, 1, 2),
        dtype: str = "float32",
    ) -> None:
        super().__init__(name="decoder", dtype=dtype)
        self.form: Form = form
        self.cells = needed_cells(voxel, box_shape, final_kernel=final_kernel)
        library = native_library() if dtype == "float32" and not tf.config.list_physical_devices("GPU") else None
        self._native = NativeDecoder(self.cells, library) if library and not batch_norm else None
        self._masked = MaskedConvolutions(self.cells)
        self._flat = np.ravel_multi_index(tuple(self.cells.voxel.T), box_shape).astype(np.int32)
        sides = (3, 3, final_kernel)
        self.convolutions = [
            keras.layers.Conv3D(
                channels,
                side,
                padding="same",
                activation=activation,
                kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
                name=f"convolution{k + 1}",
                dtype=dtype,
            )
            for k, (channels, side, activation, seed) in enumerate(
                zip((*CHANNELS, 1), sides, ("relu", "relu", None), seeds, strict=False)
            )
        ]
        self.norms = [
            keras.layers.BatchNormalization(name=f"norm{k + 1}", dtype=dtype) for k in range(2 if batch_norm else 0)
        ]
        self._upsample = keras.layers.UpSampling3D(2, dtype=dtype)
        for layer, channels in zip(self.convolutions, (1, *CHANNELS), strict=True):
            layer.build((None, None, None, None, channels))
        for layer, channels in zip(self.norms, CHANNELS, strict=False):
            layer.build((None, None, None, None, channels))
        self.built = True

    @property
    def kernels(self) -> list[keras.Variable]:
        """The three kernels, which the l1 penalty sums."""
        return [layer.kernel for layer in self.convolutions]

    def call(self, latent: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Decode.

        Parameters
        ----------
        latent : tf.Tensor
            (batch, cells of the latent grid) in C order; the batch's size must be known beforehand.
        training : bool
            Whether batch norm uses this batch's statistics.

        Returns
        -------
        tf.Tensor
            (batch, V) in [0, 1].
        """
        return tf.minimum(tf.nn.relu(self.unbounded(latent, training)), 1.0)

    def unbounded(self, latent: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return (batch, V) before the bounded ReLU; parameters as `call`."""
        if self.form == "dense":
            return self._dense(latent, training)
        if self.norms and training:
            return self._masked_with_statistics(latent)
        return self._only_needed(latent)

    def _dense(self, latent: tf.Tensor, training: bool) -> tf.Tensor:
        x = tf.reshape(latent, (latent.shape[0], *self.cells.latent_shape, 1))
        for k, layer in enumerate(self.convolutions[:2]):
            x = self._upsample(layer(x))
            if self.norms:
                x = self.norms[k](x, training=training)
        x = self.convolutions[2](x)
        return tf.gather(tf.reshape(x, (x.shape[0], -1)), self._flat, axis=1)

    def _only_needed(self, latent: tf.Tensor) -> tf.Tensor:
        if self._native:
            layers = self.convolutions
            return self._native.unbounded(
                latent, [layer.kernel.value for layer in layers], [layer.bias.value for layer in layers]
            )
        batch = latent.shape[0]
        first, second, last = self.convolutions
        x = tf.nn.relu(self._masked.first(latent, first.kernel, first.bias))
        x = self._normalised(0, x)
        x = tf.nn.relu(self._masked.second(x, second.kernel, second.bias, batch))
        x = self._normalised(1, x)
        return self._masked.last(x, last.kernel, last.bias, batch)

    def _normalised(self, k: int, rows: tf.Tensor) -> tf.Tensor:
        """Normalise (rows, channels) by what batch norm has learned, where there is any."""
        if not self.norms:
            return rows
        channels = rows.shape[-1]
        return tf.reshape(self.norms[k](tf.reshape(rows, (1, 1, 1, -1, channels)), training=False), (-1, channels))

    def _masked_with_statistics(self, latent: tf.Tensor) -> tf.Tensor:
        """Batch norm takes statistics of all positions; upsampling repeats them, so those of the grid before it do."""
        batch = latent.shape[0]
        first, second, last = self.convolutions
        x = first(tf.reshape(latent, (batch, *self.cells.latent_shape, 1)))
        x = self.norms[0](x, training=True)
        x = tf.nn.relu(upsampled_convolution(x, second.kernel, second.bias))
        x = self.norms[1](x, training=True)
        return self._masked.last(self._masked.half_rows(x), last.kernel, last.bias, batch)

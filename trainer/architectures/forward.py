"""M2M-Net, the forward model: from the field on BA4 to the MEPs that it evokes (reference 12 of the article).

The encoder of (a), (c) and (d) gives the latent grid. Three convolutions 3^3 follow, each with ReLU and max-pooling by
2, two dense layers with ReLU, and one linear output per muscle. The article names neither channels nor units. Those
here mirror the convolutional mapper, which goes the other way: 32, 64 and 64 channels end in 2 x 2 x 2 x 64 = 512
numbers in the article's box, then come 128 and 32 units. MEPs are not negative, so `predict` cuts off at zero; the loss
does not, since an output below zero could not learn then.
"""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from rt_engine.errors import DataError
from trainer.architectures.dense_layer import dense
from trainer.architectures.encoders import Encoder, max_pool
from trainer.architectures.grid_cells import Shape
from trainer.architectures.network_weights import Weights, assign_weights, copies_of
from trainer.architectures.settings import ArchitectureSettings, Form

CHANNELS = (32, 64, 64)
UNITS = (128, 32)

PREDICTED_AT_ONCE: dict[Form, int] = {"masked": 32, "dense": 4}
"""Stimulations; smaller sets are filled up, so that only one graph is made."""


@dataclass(frozen=True)
class ForwardStage:
    """The one training of the forward model, as `trainer.training_loop.TrainingStage` asks for it."""

    name: str = "forward"
    takes_field: bool = True


class MepHead(keras.layers.Layer):
    """Latent grid to MEPs.

    Parameters
    ----------
    n_muscles : int
        Outputs.
    latent_shape : tuple of int
        Cells of the latent grid per axis.
    seeds : tuple of int
        Six, of the initial kernels.
    dtype : str
        ``float32`` or ``float64``.
    """

    def __init__(self, n_muscles: int, latent_shape: Shape, *, seeds: tuple[int, ...], dtype: str = "float32") -> None:
        super().__init__(name="mep_head", dtype=dtype)
        self.latent_shape = latent_shape
        self.convolutions = [
            keras.layers.Conv3D(
                channels,
                3,
                padding="same",
                activation="relu",
                kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
                name=f"convolution{k + 1}",
                dtype=dtype,
            )
            for k, (channels, seed) in enumerate(zip(CHANNELS, seeds[:3], strict=True))
        ]
        pooled: tuple[int, ...] = latent_shape
        for layer, channels in zip(self.convolutions, (1, *CHANNELS), strict=False):
            layer.build((None, None, None, None, channels))
            pooled = tuple(-(-side // 2) for side in pooled)
        sizes = (int(np.prod(pooled)) * CHANNELS[-1], *UNITS, n_muscles)
        self.layers = [
            dense(units, activation, f"dense{k + 1}", seed=seeds[3 + k], n_inputs=sizes[k], dtype=dtype)
            for k, (units, activation) in enumerate(zip(sizes[1:], ("relu", "relu", None), strict=True))
        ]
        self.built = True

    @property
    def kernels(self) -> list[keras.Variable]:
        """What the l1 penalty sums."""
        return [layer.kernel for layer in (*self.convolutions, *self.layers)]

    def call(self, latent: tf.Tensor) -> tf.Tensor:
        """Map (batch, cells of the latent grid) to (batch, muscles)."""
        grid = tf.reshape(latent, (latent.shape[0], *self.latent_shape, 1))
        for layer in self.convolutions:
            grid = layer(grid)
            # Nothing is below zero after a ReLU, so that zeros fill an odd side up and are never the largest.
            grid = max_pool(tf.pad(grid, [[0, 0], *([0, side % 2] for side in grid.shape[1:4]), [0, 0]]))
        x = tf.reshape(grid, (grid.shape[0], -1))
        for layer in self.layers:
            x = layer(x)
        return x


class ForwardNetwork:
    """M2M-Net; made by `build_forward_network`, trained by `trainer.network_fitting.fit_network` like an inverse model.

    Parameters
    ----------
    encoder : Encoder
        Field to latent grid.
    head : MepHead
        Latent grid to MEPs.
    settings : ArchitectureSettings
        Its choices; `l1` is the only one that matters beside the encoder's.
    freeze_encoder : bool
        Leave the encoder as it is.
    """

    latent = 1
    """Numbers of noise per stimulation that the training hands in; nothing is sampled here."""

    def __init__(
        self, encoder: Encoder, head: MepHead, settings: ArchitectureSettings, *, freeze_encoder: bool = False
    ) -> None:
        self.encoder = encoder
        self.head = head
        self.settings = settings
        self.freeze_encoder = freeze_encoder
        self.stages = (ForwardStage(),)
        self.n_voxels = encoder.cells.n_voxels
        self.n_muscles = int(head.layers[-1].units)
        self._predicting: Any = None

    @property
    def form(self) -> Form:
        """How the encoder computes: ``masked`` or ``dense``. Setting it leaves the weights as they are."""
        return self.encoder.form

    @form.setter
    def form(self, form: Form) -> None:
        self.encoder.form = form
        self._predicting = None

    @property
    def dtype(self) -> str:
        """``float32`` or ``float64``."""
        return str(self.encoder.compute_dtype)

    def losses(
        self, stage: ForwardStage, x: tf.Tensor, y: tf.Tensor, noise: tf.Tensor | None = None, training: bool = True
    ) -> dict[str, tf.Tensor]:
        """Return what is minimised, and its parts.

        Parameters
        ----------
        stage : ForwardStage
            The one of `stages`.
        x : tf.Tensor
            (batch, V) fields in [0, 1]. The batch's size must be known beforehand.
        y : tf.Tensor
            (batch, muscles) true normalised MEPs.
        noise, training
            Taken as the inverse models take them, and not used.

        Returns
        -------
        dict of str to tf.Tensor
            Scalars: ``loss``; ``squared_error``, the mean over the batch of the squared 2-norm over the muscles;
            ``l1``, the sum of absolute weights that are trained times its factor; ``kl``, which is 0.
        """
        squared = tf.reduce_mean(tf.reduce_sum((self._map(x) - y) ** 2, axis=1))
        blocks = (self.head,) if self.freeze_encoder else (self.encoder, self.head)
        kernels = [kernel for block in blocks for kernel in block.kernels]
        l1 = self.settings.l1 * tf.add_n([tf.reduce_sum(tf.abs(kernel)) for kernel in kernels])
        return {"loss": squared + l1, "squared_error": squared, "kl": tf.zeros((), x.dtype), "l1": l1}

    def trainable(self, stage: ForwardStage | None = None) -> list[keras.Variable]:
        """Return the variables that are trained."""
        encoder = [] if self.freeze_encoder else self.encoder.trainable_variables
        return [*encoder, *self.head.trainable_variables]

    def predict(self, x: NDArray[np.floating]) -> NDArray[np.float32]:
        """Foretell normalised MEPs.

        Parameters
        ----------
        x : numpy.ndarray
            (n, V) fields on the scale of the training's.

        Returns
        -------
        numpy.ndarray
            (n, muscles), nowhere negative.

        Raises
        ------
        DataError
            If the number of voxels is not the network's.
        """
        x = np.asarray(x, dtype=self.dtype)
        if x.ndim != 2 or x.shape[1] != self.n_voxels:
            raise DataError(f"the forward model takes fields (n, {self.n_voxels}); got {x.shape}")
        if self._predicting is None:
            self._predicting = tf.function(self._map, autograph=False)
        size = PREDICTED_AT_ONCE[self.form]
        filled = np.zeros((-(-len(x) // size) * size, self.n_voxels), self.dtype)
        filled[: len(x)] = x
        parts = [self._predicting(tf.constant(filled[k : k + size])).numpy() for k in range(0, len(filled), size)]
        found = np.concatenate(parts) if parts else np.zeros((0, self.n_muscles), self.dtype)
        return np.maximum(found[: len(x)], 0.0).astype(np.float32)

    def weights(self) -> Weights:
        """Return copies of all weights by name; the form has no say in them."""
        return copies_of(self._variables())

    def set_weights(self, weights: Weights) -> None:
        """Take weights as `weights` gave them.

        Raises
        ------
        DataError
            If a name or a shape is not this network's; then nothing is changed.
        """
        assign_weights(self._variables(), weights, "a forward model")

    def _map(self, x: tf.Tensor) -> tf.Tensor:
        return self.head(self.encoder(x))

    def _variables(self) -> dict[str, keras.Variable]:
        return {
            f"{block.name}/{k}/{variable.name}": variable
            for block in (self.encoder, self.head)
            for k, variable in enumerate(block.variables)
        }


def build_forward_network(
    n_muscles: int,
    voxel: NDArray[np.integer],
    box_shape: Shape,
    settings: ArchitectureSettings | None = None,
    *,
    seed: int = 0,
    form: Form = "masked",
    dtype: str = "float32",
    encoder: Encoder | None = None,
) -> ForwardNetwork:
    """Make a forward model with fresh weights.

    Parameters
    ----------
    n_muscles : int
        Length of the MEP vector.
    voxel : numpy.ndarray
        (V, 3) int, voxels of BA4 in the box; their order is that of every field.
    box_shape : tuple of int
        Voxels of the box, multiples of 4.
    settings : ArchitectureSettings, optional
        `final_kernel` and `l1` are used.
    seed : int
        Of the initial weights: the same seed gives the same, whatever the form.
    form : str
        ``masked`` or ``dense``.
    dtype : str
        ``float32`` or ``float64``.
    encoder : Encoder, optional
        A trained one of the same mask, as an autoencoder or a VAE has it. It is used as it is, in its own form and
        type, and not trained further. Without it, encoder and head learn together.

    Raises
    ------
    DataError
        If the box does not fit, or the encoder is of another mask.
    """
    if n_muscles < 1:
        raise DataError(f"a network needs at least 1 muscle; got {n_muscles}")
    settings = settings or ArchitectureSettings()
    frozen = encoder is not None
    seeds = [int(value) for value in np.random.SeedSequence([seed, 1]).generate_state(9)]
    if encoder is None:
        encoder = Encoder(
            voxel, box_shape, final_kernel=settings.final_kernel, form=form, seeds=tuple(seeds[:3]), dtype=dtype
        )
    elif encoder.cells.box_shape != tuple(box_shape) or not np.array_equal(encoder.voxel, voxel):
        raise DataError("the encoder is of another mask than the forward model; use one trained on this subject")
    head = MepHead(
        n_muscles, encoder.cells.latent_shape, seeds=tuple(seeds[3:]), dtype=dtype if not frozen else encoder.dtype
    )
    return ForwardNetwork(encoder, head, settings, freeze_encoder=frozen)

"""The article's five inverse models, from normalised MEPs to the field on BA4: blocks, training stages, losses.

(a) AE-Decoder and (b) Direct Convolutional map MEPs to the latent grid by convolutions; (c) VAE-Decoder, (d)
VAE-Sampler-Decoder and (e) Direct Variational by linear layers and a variational latent vector (article, II.D, II.E).
(a), (c) and (d) first learn the decoder along a forward path from field to field and keep it. What is trained when, and
for which loss, is in `_STAGES` and `InverseNetwork.losses`.
"""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from rt_engine.errors import DataError
from trainer.architectures.decoder import Decoder
from trainer.architectures.encoders import Encoder
from trainer.architectures.grid_cells import Shape
from trainer.architectures.mappers import ConvolutionalMapper, LinearMapper
from trainer.architectures.network_weights import Weights, assign_weights, copies_of
from trainer.architectures.sampling import Sampling, expansion, kl_divergence, sample
from trainer.architectures.settings import MODELS, ArchitectureSettings, Form, ModelName

PREDICTED_AT_ONCE: dict[Form, int] = {"masked": 64, "dense": 4}
"""Stimulations; smaller sets are filled up, so that only one graph is made. Dense, one takes 64 MB of activations."""


@dataclass(frozen=True)
class Stage:
    """One training of a model.

    Attributes
    ----------
    name : str
        ``autoencoder``, ``vae``, ``mapper`` or ``direct``.
    takes_field : bool
        Whether its input is the field (forward path of Fig. 2) and not the MEPs (reverse path).
    blocks : tuple of str
        Blocks whose weights it trains.
    variational : bool
        Whether the latent vector is sampled, and its KL divergence part of the loss.
    box_mean : bool
        Whether the authors' code takes the mean over the box here and not the sum (`loss_scale`).
    """

    name: str
    takes_field: bool
    blocks: tuple[str, ...]
    variational: bool
    box_mean: bool


_VAE = Stage("vae", True, ("encoder", "sampling", "expansion", "decoder"), variational=True, box_mean=False)

_STAGES: dict[ModelName, tuple[Stage, ...]] = {
    "ae-decoder": (
        Stage("autoencoder", True, ("encoder", "decoder"), variational=False, box_mean=True),
        Stage("mapper", False, ("mapper",), variational=False, box_mean=True),
    ),
    "direct-convolutional": (Stage("direct", False, ("mapper", "decoder"), variational=False, box_mean=True),),
    "vae-decoder": (_VAE, Stage("mapper", False, ("mapper",), variational=False, box_mean=True)),
    "vae-sampler-decoder": (
        _VAE,
        Stage("mapper", False, ("mapper", "sampling"), variational=True, box_mean=False),
    ),
    "direct-variational": (
        Stage("direct", False, ("mapper", "sampling", "expansion", "decoder"), variational=True, box_mean=False),
    ),
}

_PENALISED = ("encoder", "mapper", "decoder")


class InverseNetwork:
    """One of the five models; made by `build_network`.

    Parameters
    ----------
    model : str
        Which.
    stages : tuple of Stage
        Its trainings, in order.
    blocks : dict of str to keras.layers.Layer
        ``mapper`` and ``decoder``, and where the model has them ``encoder``, ``sampling`` and ``expansion``.
    settings : ArchitectureSettings
        Its choices.
    n_muscles : int
        Length of the MEP vector.
    """

    def __init__(
        self,
        model: ModelName,
        stages: tuple[Stage, ...],
        blocks: dict[str, Any],
        settings: ArchitectureSettings,
        n_muscles: int,
    ) -> None:
        self.model = model
        self.stages = stages
        self.blocks = blocks
        self.settings = settings
        self.n_muscles = n_muscles
        self.latent = settings.latent
        self.decoder: Decoder = blocks["decoder"]
        self.mapper = blocks["mapper"]
        self.encoder: Any = blocks.get("encoder")
        self.n_voxels = len(self.decoder.cells.voxel)
        self.box_shape = self.decoder.cells.box_shape
        self._predicting: Any = None

    @property
    def form(self) -> Form:
        """How it computes: ``masked`` or ``dense``. Setting it leaves the weights as they are."""
        return self.decoder.form

    @form.setter
    def form(self, form: Form) -> None:
        self.decoder.form = form
        if self.encoder is not None:
            self.encoder.form = form
        self._predicting = None

    @property
    def dtype(self) -> str:
        """``float32`` or ``float64``."""
        return str(self.decoder.compute_dtype)

    def losses(
        self, stage: Stage, x: tf.Tensor, y: tf.Tensor, noise: tf.Tensor, training: bool = True
    ) -> dict[str, tf.Tensor]:
        """Return what a stage minimises, and its parts: eqs. 7 to 11 of the article.

        Parameters
        ----------
        stage : Stage
            One of `stages`.
        x : tf.Tensor
            (batch, V) true fields in [0, 1]. The batch's size must be known beforehand.
        y : tf.Tensor
            (batch, muscles) normalised MEPs.
        noise : tf.Tensor
            (batch, latent) standard normal numbers; not used where nothing is sampled.
        training : bool
            Whether batch norm uses this batch's statistics.

        Returns
        -------
        dict of str to tf.Tensor
            Scalars: ``loss``; ``squared_error``, the mean over the batch of the squared 2-norm, whatever the loss
            scale; ``kl``; ``l1``, the sum of absolute weights times its factor.
        """
        estimate, kl = self._estimate(stage, x, y, noise, training)
        squared = tf.reduce_mean(tf.reduce_sum((estimate - x) ** 2, axis=1))
        l1 = self.settings.l1 * tf.add_n([tf.reduce_sum(tf.abs(kernel)) for kernel in self._penalised(stage)])
        scaled = squared
        if stage.box_mean and self.settings.loss_scale == "code":
            scaled = squared / float(np.prod(self.box_shape))
        return {
            "loss": scaled + self.settings.kl_weight * kl + l1,
            "squared_error": squared,
            "kl": kl,
            "l1": l1,
        }

    def trainable(self, stage: Stage) -> list[keras.Variable]:
        """Return the variables that a stage trains; the others it leaves as they are."""
        return [variable for name in self._trained(stage) for variable in self.blocks[name].trainable_variables]

    def predict(self, y: NDArray[np.floating]) -> NDArray[np.float32]:
        """Estimate fields: the latent mean, and batch norm's moving statistics.

        Parameters
        ----------
        y : numpy.ndarray
            (n, muscles) normalised MEPs.

        Returns
        -------
        numpy.ndarray
            (n, V) in [0, 1].

        Raises
        ------
        DataError
            If the number of muscles is not the network's.
        """
        y = np.asarray(y, dtype=self.dtype)
        if y.ndim != 2 or y.shape[1] != self.n_muscles:
            raise DataError(f"the network takes MEPs (n, {self.n_muscles}); got {y.shape}")
        if self._predicting is None:
            self._predicting = tf.function(self._map, autograph=False)
        predicting, size = self._predicting, PREDICTED_AT_ONCE[self.form]
        filled = np.zeros((-(-len(y) // size) * size, self.n_muscles), self.dtype)
        filled[: len(y)] = y
        parts = [predicting(tf.constant(filled[k : k + size])).numpy() for k in range(0, len(filled), size)]
        found = np.concatenate(parts) if parts else np.zeros((0, self.n_voxels), self.dtype)
        return found[: len(y)].astype(np.float32)

    def latent_of(self, y: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Return mean and log-variance of the latent vector, (n, latent) each; the second is None for (c).

        Raises
        ------
        DataError
            For (a) and (b), which have no latent vector.
        """
        if "expansion" not in self.blocks:
            raise DataError(f"{self.model} has a latent grid and no latent vector")
        mapped = self.mapper(tf.constant(np.asarray(y, dtype=self.dtype)))
        if not self.stages[-1].variational:
            return mapped.numpy().astype(np.float64), None
        mean, log_variance = self.blocks["sampling"](mapped)
        return mean.numpy().astype(np.float64), log_variance.numpy().astype(np.float64)

    def weights(self) -> Weights:
        """Return copies of all weights and moving statistics by name; the form has no say in them."""
        return copies_of(self._variables())

    def set_weights(self, weights: Weights) -> None:
        """Take weights as `weights` gave them.

        Raises
        ------
        DataError
            If a name or a shape is not this network's; then nothing is changed.
        """
        assign_weights(self._variables(), weights, self.model)

    def _estimate(
        self, stage: Stage, x: tf.Tensor, y: tf.Tensor, noise: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return (batch, V) estimates, and the KL divergence (0 where nothing is sampled)."""
        # A frozen decoder normalises by what it has learned.
        learning = training and "decoder" in stage.blocks
        incoming = self.encoder(x) if stage.takes_field else self.mapper(y, training=training)
        kl = tf.zeros((), x.dtype)
        if "expansion" not in self.blocks:
            return self.decoder(incoming, training=learning), kl
        z = incoming
        if stage.variational:
            mean, log_variance = self.blocks["sampling"](incoming)
            kl = kl_divergence(mean, log_variance)
            z = sample(mean, log_variance, noise)
        return self.decoder(self.blocks["expansion"](z), training=learning), kl

    def _map(self, y: tf.Tensor) -> tf.Tensor:
        z = self.mapper(y)
        if "expansion" in self.blocks:
            z = self.blocks["sampling"](z)[0] if self.stages[-1].variational else z
            z = self.blocks["expansion"](z)
        return self.decoder(z)

    def _trained(self, stage: Stage) -> tuple[str, ...]:
        frozen = {"sampling"} if self.settings.freeze_sampler and stage.name == "mapper" else set()
        return tuple(name for name in stage.blocks if name not in frozen)

    def _penalised(self, stage: Stage) -> list[keras.Variable]:
        """Kernels of convolutions and of the mapper (II.F), as far as the stage trains them."""
        return [kernel for name in stage.blocks if name in _PENALISED for kernel in self.blocks[name].kernels]

    def _variables(self) -> dict[str, keras.Variable]:
        return {
            f"{name}/{k}/{variable.name}": variable
            for name, block in sorted(self.blocks.items())
            for k, variable in enumerate(block.variables)
        }


def build_network(
    model: ModelName,
    n_muscles: int,
    voxel: NDArray[np.integer],
    box_shape: Shape,
    settings: ArchitectureSettings | None = None,
    *,
    form: Form = "masked",
    seed: int = 0,
    dtype: str = "float32",
) -> InverseNetwork:
    """Make a model with fresh weights.

    Parameters
    ----------
    model : str
        One of `MODELS`.
    n_muscles : int
        Length of the MEP vector.
    voxel : numpy.ndarray
        (V, 3) int, voxels of BA4 in the box; their order is that of every field.
    box_shape : tuple of int
        Voxels of the box: multiples of 4, for (a) and (b) of 32.
    settings : ArchitectureSettings, optional
        Its choices.
    form : str
        ``masked`` or ``dense``.
    seed : int
        Of the initial weights: the same seed gives the same, whatever the form.
    dtype : str
        ``float32`` or ``float64``.

    Raises
    ------
    DataError
        If the model is unknown, or the box does not fit it.
    """
    if model not in MODELS:
        raise DataError(f"unknown model {model!r}; expected one of {', '.join(MODELS)}")
    if n_muscles < 1:
        raise DataError(f"a network needs at least 1 muscle; got {n_muscles}")
    settings = settings or ArchitectureSettings()
    stages = _STAGES[model]
    seeds = {name: _seeds(seed, k) for k, name in enumerate(("encoder", "mapper", "sampling", "expansion", "decoder"))}
    convolutional = model in ("ae-decoder", "direct-convolutional")
    decoder = Decoder(
        voxel,
        box_shape,
        final_kernel=settings.final_kernel,
        batch_norm=convolutional and settings.batch_norm == "mapper-and-decoder",
        form=form,
        seeds=seeds["decoder"],
        dtype=dtype,
    )
    n_cells = int(np.prod(decoder.cells.latent_shape))
    blocks: dict[str, Any] = {"decoder": decoder}
    if any(stage.takes_field for stage in stages):
        blocks["encoder"] = Encoder(
            voxel, box_shape, final_kernel=settings.final_kernel, form=form, seeds=seeds["encoder"], dtype=dtype
        )
    if convolutional:
        blocks["mapper"] = ConvolutionalMapper(
            n_muscles,
            decoder.cells.latent_shape,
            batch_norm=settings.batch_norm != "none",
            seeds=seeds["mapper"],
            dtype=dtype,
        )
    else:
        outputs = {"vae-decoder": settings.latent, "vae-sampler-decoder": n_cells, "direct-variational": None}[model]
        blocks["mapper"] = LinearMapper(n_muscles, outputs, seeds=seeds["mapper"], dtype=dtype)
        before = n_cells if "encoder" in blocks else blocks["mapper"].n_outputs
        blocks["sampling"] = Sampling(before, settings.latent, seeds=seeds["sampling"], dtype=dtype)
        blocks["expansion"] = expansion(settings.latent, n_cells, seed=seeds["expansion"][0], dtype=dtype)
    return InverseNetwork(model, stages, blocks, settings, n_muscles)


def _seeds(seed: int, block: int) -> tuple[int, ...]:
    """Six seeds per block, the same for every model: (c) and (d) then learn one and the same VAE."""
    return tuple(int(value) for value in np.random.SeedSequence([seed, block]).generate_state(6))

"""The variational layers: mean and log-variance of the latent vector, a sample of it, the way to the latent grid."""

import keras
import tensorflow as tf

from trainer.architectures.dense_layer import dense


class Sampling(keras.layers.Layer):
    """Q(z | input): a normal distribution with diagonal covariance (article, II.G).

    Parameters
    ----------
    n_inputs : int
        Length of what comes in.
    latent : int
        Length of z.
    seeds : tuple of int
        Two, of the initial kernels.
    dtype : str
        ``float32`` or ``float64``.
    """

    def __init__(self, n_inputs: int, latent: int, *, seeds: tuple[int, ...], dtype: str = "float32") -> None:
        super().__init__(name="sampling", dtype=dtype)
        self.mean = dense(latent, None, "mean", seed=seeds[0], n_inputs=n_inputs, dtype=dtype)
        self.log_variance = dense(latent, None, "log_variance", seed=seeds[1], n_inputs=n_inputs, dtype=dtype)
        self.built = True

    def call(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return mean and log-variance, (batch, latent) each."""
        return self.mean(x), self.log_variance(x)


def sample(mean: tf.Tensor, log_variance: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
    """Return mean + standard deviation x noise: the reparametrised sample, all (batch, latent).

    The noise is handed in and never drawn here, so that two forms of a network can be given the same.
    """
    return mean + tf.exp(0.5 * log_variance) * noise


def kl_divergence(mean: tf.Tensor, log_variance: tf.Tensor) -> tf.Tensor:
    """Return KL[Q(z) || N(0, 1)] summed over the latent vector, mean over the batch: eqs. 9 and 11 of the article."""
    terms = tf.exp(log_variance) + mean**2 - 1.0 - log_variance
    return 0.5 * tf.reduce_mean(tf.reduce_sum(terms, axis=1))


def expansion(latent: int, n_cells: int, *, seed: int, dtype: str = "float32") -> keras.layers.Dense:
    """Return the dense layer with ReLU from z to the cells of the latent grid (4,096 of them in the article's box)."""
    return dense(n_cells, "relu", "expansion", seed=seed, n_inputs=latent, dtype=dtype)

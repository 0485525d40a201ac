"""A network as small as one can be that has all that training asks of one: linear maps with a noisy latent."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class LinearStage:
    name: str
    takes_field: bool


class LinearNetwork:
    """Field or MEPs -> two latent numbers, sampled -> field; the second stage keeps the way back to the field."""

    def __init__(self, n_muscles: int = 3, n_voxels: int = 5, *, two_stages: bool = True, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        direct = LinearStage("direct", False)
        self.stages = (LinearStage("vae", True), LinearStage("mapper", False)) if two_stages else (direct,)
        self.latent = 2
        self.encoder, self.mapper, self.decoder = (
            keras.Variable(0.3 * rng.normal(size=shape), dtype="float32")
            for shape in ((n_voxels, 2), (n_muscles, 2), (2, n_voxels))
        )

    def losses(self, stage: LinearStage, x: Any, y: Any, noise: Any, training: bool = True) -> dict[str, Any]:
        mean = tf.matmul(x, self.encoder.value) if stage.takes_field else tf.matmul(y, self.mapper.value)
        estimate = tf.matmul(mean + 0.1 * noise, self.decoder.value)
        squared_error = tf.reduce_mean(tf.reduce_sum((estimate - x) ** 2, axis=1))
        kl = 0.001 * tf.reduce_mean(tf.reduce_sum(mean**2, axis=1))
        l1 = 1e-4 * tf.reduce_sum(tf.abs(self.decoder.value))
        return {"loss": squared_error + kl + l1, "squared_error": squared_error, "kl": kl, "l1": l1}

    def trainable(self, stage: LinearStage) -> list[Any]:
        return {"vae": [self.encoder, self.decoder], "mapper": [self.mapper], "direct": [self.mapper, self.decoder]}[
            stage.name
        ]

    def predict(self, y: np.ndarray) -> np.ndarray:
        return (y @ self.mapper.numpy() @ self.decoder.numpy()).astype(np.float32)

    def weights(self) -> dict[str, np.ndarray]:
        return {"encoder": self.encoder.numpy(), "mapper": self.mapper.numpy(), "decoder": self.decoder.numpy()}

    def set_weights(self, weights: dict[str, np.ndarray]) -> None:
        for name, value in weights.items():
            getattr(self, name).assign(value)

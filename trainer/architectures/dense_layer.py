"""A dense layer as all blocks here make it: built at once, with an initial kernel that a seed fixes."""

import keras


def dense(units: int, activation: str | None, name: str, *, seed: int, n_inputs: int, dtype: str) -> keras.layers.Dense:
    """Make and build a dense layer (Glorot's uniform distribution, zero bias)."""
    layer = keras.layers.Dense(
        units,
        activation=activation,
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
        name=name,
        dtype=dtype,
    )
    layer.build((None, n_inputs))
    return layer

"""Masks for the networks, and how far two forms of a network may be apart."""

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

BOX = (32, 32, 32)


@pytest.fixture(scope="session")
def sparse_mask() -> np.ndarray:
    """(V, 3) voxels of a blob and of some single voxels, in faces, edges and corners of the box too."""
    rng = np.random.default_rng(3)
    mask = np.zeros(BOX, bool)
    mask[10:15, 12:20, 20:23] = rng.random((5, 8, 3)) < 0.7
    mask[0, 3, 4] = mask[31, 30, 5] = mask[7, 0, 31] = mask[0, 0, 0] = mask[31, 31, 31] = True
    return np.argwhere(mask)


@pytest.fixture(scope="session")
def assert_same_gradients() -> Callable[[list[tf.Tensor], list[tf.Tensor], float], None]:
    """Check that ||difference|| / ||gradient|| stays below a limit for every tensor."""

    def check(found: list[tf.Tensor], expected: list[tf.Tensor], limit: float) -> None:
        assert len(found) == len(expected) > 0
        for one, other in zip(found, expected, strict=True):
            size = float(tf.norm(other))
            assert float(tf.norm(one - other)) <= limit * size, (one.shape, size)
            assert size > 0

    return check

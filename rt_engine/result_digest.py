"""Digests of all amplitudes and maps of a session: two runs agree to the bit if these do."""

import hashlib

import numpy as np
from numpy.typing import ArrayLike


class ResultDigest:
    """SHA-256 over the amplitudes, and over the maps, of the valid pulses in the order in which they were served."""

    def __init__(self) -> None:
        self._meps = hashlib.sha256()
        self._maps = hashlib.sha256()

    def add(self, mep_uv: ArrayLike, field: ArrayLike) -> None:
        """Take in one pulse.

        Parameters
        ----------
        mep_uv
            (muscles,) float32.
        field
            (V,) float32.
        """
        self._meps.update(np.ascontiguousarray(mep_uv, dtype="<f4").tobytes())
        self._maps.update(np.ascontiguousarray(field, dtype="<f4").tobytes())

    @property
    def sha256_meps(self) -> str:
        """Of the amplitudes, hex."""
        return self._meps.hexdigest()

    @property
    def sha256_maps(self) -> str:
        """Of the maps, hex."""
        return self._maps.hexdigest()

"""A triangulated surface in a head's space: of the scalp, for instance. Only what it is, and what is wrong with one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError


@dataclass(frozen=True, eq=False)
class Surface:
    """A triangulated surface.

    Attributes
    ----------
    vertices : numpy.ndarray
        (P, 3) float32, mm; the vertices.
    triangles : numpy.ndarray
        (T, 3) int32; indices of each triangle's corners, counter-clockwise seen from outside.
    """

    vertices: npt.NDArray[np.float32]
    triangles: npt.NDArray[np.int32]


def check_surface(surface: Surface, name: str) -> None:
    """Check that a surface has the documented shapes and dtypes and that its triangles name its vertices.

    Parameters
    ----------
    surface : Surface
        What to check.
    name : str
        What the surface is of, for the message.

    Raises
    ------
    DataError
        The first thing that is wrong: what was found, what was expected.
    """
    expected = (("vertices", surface.vertices, np.float32), ("triangles", surface.triangles, np.int32))
    for part, array, dtype in expected:
        if array.dtype != dtype or array.ndim != 2 or array.shape[1] != 3 or not len(array):
            raise DataError(
                f"The {part} of the {name} are {array.dtype} {array.shape}; expected {np.dtype(dtype)} (n, 3), n > 0."
            )
    if not np.isfinite(surface.vertices).all():
        n_bad = int((~np.isfinite(surface.vertices).all(axis=1)).sum())
        raise DataError(f"{n_bad} vertices of the {name} are not finite numbers.")
    low, high = int(surface.triangles.min()), int(surface.triangles.max())
    if low < 0 or high >= len(surface.vertices):
        raise DataError(
            f"The triangles of the {name} name vertices {low} to {high}; it has {len(surface.vertices)} vertices, "
            "counted from 0."
        )

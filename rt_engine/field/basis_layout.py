"""How a reduced basis lies in a subject file: which attributes and datasets, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from rt_engine.field.coil import Coil
from rt_engine.field.hdf5_file import Array, Attribute
from rt_engine.field.reduced_basis import ReducedBasis

_ARRAYS = ("skeleton_pose", "sample_mm", "mixing", "components", "scale", "covered_mm")
_NUMBERS = ("residual_limit", "covered_radius_mm")


def basis_attributes(basis: ReducedBasis) -> dict[str, Attribute]:
    """Return the root attributes that a basis adds to its subject's."""
    return {
        "basis_coil_name": basis.coil.name,
        "basis_max_didt_a_per_us": float(basis.coil.max_didt_a_per_us),
        **{f"basis_{name}": float(getattr(basis, name)) for name in _NUMBERS},
    }


def basis_arrays(basis: ReducedBasis) -> dict[str, Array]:
    """Return the datasets that a basis adds to its subject's."""
    return {
        "basis/coil/position_mm": basis.coil.position_mm,
        "basis/coil/moment_am2_per_a": basis.coil.moment_am2_per_a,
        # A dataset and no attribute: HDF5 attributes end at 64 KiB.
        "basis/method": np.frombuffer(basis.method.encode(), np.uint8),
        **{f"basis/{name}": getattr(basis, name) for name in _ARRAYS},
    }


def read_basis(attributes: Mapping[str, Attribute], arrays: Mapping[str, Array]) -> ReducedBasis | None:
    """Put a basis together again; it is not checked here.

    Parameters
    ----------
    attributes, arrays : mapping
        A subject file's, as `read_hdf5` gives them.

    Returns
    -------
    ReducedBasis or None
        None where the file holds none.

    Raises
    ------
    KeyError
        A part is missing.
    TypeError, ValueError
        A part has a type that it cannot have.
    """
    if not any(name.startswith("basis/") for name in arrays):
        return None
    name = attributes["basis_coil_name"]
    if not isinstance(name, str):
        raise TypeError(f"expected a text as the coil's name, found {type(name).__name__}")
    coil = Coil(
        name,
        arrays["basis/coil/position_mm"],
        arrays["basis/coil/moment_am2_per_a"],
        float(cast("Any", attributes["basis_max_didt_a_per_us"])),
    )
    parts: dict[str, Any] = {name: arrays[f"basis/{name}"] for name in _ARRAYS}
    parts |= {name: float(cast("Any", attributes[f"basis_{name}"])) for name in _NUMBERS}
    return ReducedBasis(coil=coil, method=arrays["basis/method"].tobytes().decode(), **parts)

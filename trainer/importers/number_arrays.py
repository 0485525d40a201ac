"""Named arrays of an `.npz` or HDF5 file, without ever unpickling anything."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
import numpy.typing as npt

from rt_engine.edges.foreign_files import try_foreign_hdf5
from rt_engine.errors import FileFormatError
from trainer.importers.wild_text import read_bytes

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]


def load_arrays(path: str | Path) -> Arrays:
    """Read all arrays of a file.

    Parameters
    ----------
    path : str or Path
        `.npz`, `.h5` or `.hdf5`.

    Returns
    -------
    dict of str to array
        Of an HDF5 file its datasets, by path, and its root's attributes.

    Raises
    ------
    FileFormatError
        No such file, another kind, truncated or damaged, or arrays of Python objects.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in (".npz", ".h5", ".hdf5"):
        raise FileFormatError(f"{path} ends with {kind!r}; expected .npz, .h5 or .hdf5.")
    if kind != ".npz" and not path.is_file():
        raise FileFormatError(f"There is no file {path}. Check the path.")
    if kind != ".npz":
        try_foreign_hdf5(path)
    data = read_bytes(path) if kind == ".npz" else b""
    try:
        if kind == ".npz":
            with np.load(BytesIO(data), allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        found: Arrays = {}
        with h5py.File(path, "r") as file:
            for name, value in file.attrs.items():
                found[name] = np.asarray(value)

            def collect(name: str, item: object) -> None:
                if isinstance(item, h5py.Dataset):
                    found[name] = np.asarray(item[()])

            file.visititems(collect)
        return found
    except Exception as error:  # NumPy and h5py raise whatever damaged bytes lead them to
        raise FileFormatError(
            f"{path} cannot be read ({error}): it is truncated, damaged, of another kind, or holds Python objects. "
            "Save its arrays of numbers and texts again."
        ) from error


def texts(array: npt.NDArray[Any] | None) -> tuple[str, ...]:
    """Return the texts of an array: of text, of bytes, or one text with a name per line."""
    if array is None:
        return ()
    if array.ndim == 0:
        return tuple(_text(array.item()).split("\n"))
    return tuple(_text(item) for item in array.ravel().tolist())


def _text(item: object) -> str:
    return item.decode("utf-8", errors="replace") if isinstance(item, bytes) else str(item)

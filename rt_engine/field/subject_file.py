"""The subject file `*.subject.h5`: one person's anatomy as everything else needs it.

The box around the motor cortex with its voxels of BA4, the cortex surface for display, the sphere that stands for the
head in the closed-form field, and, where they were made, the scalp and the reduced basis of the E-field. It is not made
here (`trainer` does that), only written, read and checked.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError, FileFormatError
from rt_engine.field.basis_layout import basis_arrays, basis_attributes, read_basis
from rt_engine.field.hdf5_file import Array, Attribute, read_hdf5, write_hdf5
from rt_engine.field.reduced_basis import ReducedBasis, check_basis
from rt_engine.field.surface import Surface, check_surface
from rt_engine.field.voxel_grid import check_grid, voxel_centers_mm

SUBJECT_VERSION = 2
"""Version of the layout that this software writes, and the newest that it reads."""

SUBJECT_KIND = "m2m-subject"

MNI_RAS = "MNI152, RAS: x right, y anterior, z superior"
"""The `space` of the default subject."""


@dataclass(frozen=True, eq=False)
class Subject:
    """One person's anatomy.

    Attributes
    ----------
    name : str
        How the subject is called in files and windows.
    space : str
        The space of all coordinates in mm, and its axes.
    hemisphere : {"left", "right"}
        Which motor cortex the box holds.
    box_shape : tuple of int
        Voxels of the box along its three axes, normally (64, 64, 64).
    affine : numpy.ndarray
        (4, 4) float64; takes a voxel's index in the box (i, j, k, 1) to its centre in mm.
    voxel : numpy.ndarray
        (V, 3) int16; indices of the voxels in BA4, in lexicographic (C) order. V values of a field stand in this order.
    vertices : numpy.ndarray
        (P, 3) float32, mm; the cortex surface in and around the box, for display.
    triangles : numpy.ndarray
        (T, 3) int32; its triangles, counter-clockwise seen from outside.
    sphere_center_mm : numpy.ndarray
        (3,) float64, mm; centre of the sphere that stands for the head near the motor cortex.
    scalp_radius_mm : float
        Radius of the scalp on that sphere, mm; the coil's face lies on or outside it.
    notices : str
        Licence notices of the data that the subject derives from.
    scalp : Surface or None
        The head's outer surface, or its part around the motor cortex, for placing the coil; None where only the sphere
        is known.
    basis : ReducedBasis or None
        E-fields of a skeleton of coil placements on the voxels of BA4; None where none was solved.
    """

    name: str
    space: str
    hemisphere: Literal["left", "right"]
    box_shape: tuple[int, int, int]
    affine: npt.NDArray[np.float64]
    voxel: npt.NDArray[np.int16]
    vertices: npt.NDArray[np.float32]
    triangles: npt.NDArray[np.int32]
    sphere_center_mm: npt.NDArray[np.float64]
    scalp_radius_mm: float
    notices: str
    scalp: Surface | None = None
    basis: ReducedBasis | None = None

    @property
    def n_voxels(self) -> int:
        """Number of voxels in BA4 (V)."""
        return len(self.voxel)

    @property
    def voxel_mm(self) -> npt.NDArray[np.float64]:
        """Centres of the voxels in BA4, (V, 3) float64, mm."""
        return voxel_centers_mm(self.voxel, self.affine)


def write_subject(path: str | Path, subject: Subject) -> str:
    """Write a subject file; the same subject gives the same bytes.

    Parameters
    ----------
    path : str or Path
        Where to write; a file already there is replaced in one step.
    subject : Subject
        What to write.

    Returns
    -------
    str
        SHA-256 of the file, 64 hexadecimal digits: the `subject_sha256` of data sets and models.

    Raises
    ------
    DataError
        The subject contradicts itself, or the file cannot be written there.
    """
    check_subject(subject)
    attributes: dict[str, Attribute] = {
        "name": subject.name,
        "space": subject.space,
        "hemisphere": subject.hemisphere,
        "box_shape": np.asarray(subject.box_shape, np.int64),
        "affine": np.asarray(subject.affine, np.float64),
        "sphere_center_mm": np.asarray(subject.sphere_center_mm, np.float64),
        "scalp_radius_mm": float(subject.scalp_radius_mm),
    }
    arrays: dict[str, Array] = {
        "voxel": subject.voxel,
        "surface/vertices": subject.vertices,
        "surface/triangles": subject.triangles,
        # A dataset and no attribute: HDF5 attributes end at 64 KiB, and a licence may not be cut.
        "notices": np.frombuffer(subject.notices.encode(), np.uint8),
    }
    if subject.scalp is not None:
        arrays["scalp/vertices"] = subject.scalp.vertices
        arrays["scalp/triangles"] = subject.scalp.triangles
    if subject.basis is not None:
        attributes |= basis_attributes(subject.basis)
        arrays |= basis_arrays(subject.basis)
    return write_hdf5(path, kind=SUBJECT_KIND, version=SUBJECT_VERSION, attributes=attributes, arrays=arrays)


def read_subject(path: str | Path) -> Subject:
    """Read and check a subject file.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    Subject
        What it holds; all arrays are read-only.

    Raises
    ------
    FileFormatError
        No such file, not a subject file, a newer version, truncated, damaged, or content that contradicts itself.
    """
    attributes, arrays = read_hdf5(path, kind=SUBJECT_KIND, version=SUBJECT_VERSION)
    try:
        subject = Subject(
            name=_text(attributes["name"]),
            space=_text(attributes["space"]),
            hemisphere=cast("Literal['left', 'right']", _text(attributes["hemisphere"])),
            box_shape=cast("tuple[int, int, int]", tuple(np.asarray(attributes["box_shape"]).tolist())),
            affine=np.asarray(attributes["affine"]),
            voxel=arrays["voxel"],
            vertices=arrays["surface/vertices"],
            triangles=arrays["surface/triangles"],
            sphere_center_mm=np.asarray(attributes["sphere_center_mm"]),
            scalp_radius_mm=float(cast("Any", attributes["scalp_radius_mm"])),
            notices=arrays["notices"].tobytes().decode(),
            scalp=_scalp(arrays),
            basis=read_basis(attributes, arrays),
        )
        check_subject(subject)
    except KeyError as error:
        raise FileFormatError(f"{path} lacks {error}, which every subject file has. Make it again.") from error
    except (DataError, ValueError, TypeError) as error:
        raise FileFormatError(f"{path} does not hold a usable subject: {error}") from error
    for array in (subject.affine, subject.sphere_center_mm, *arrays.values()):
        array.flags.writeable = False
    return subject


def file_sha256(path: str | Path) -> str:
    """Compute the SHA-256 of a file's bytes, the number by which data sets and models name their subject.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    FileFormatError
        The file cannot be read.
    """
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise FileFormatError(f"Cannot read {path}: {error}. Check the path.") from error


def check_subject(subject: Subject) -> None:
    """Check that a subject agrees with itself and with the documented shapes and dtypes.

    Parameters
    ----------
    subject : Subject
        What to check.

    Raises
    ------
    DataError
        The first thing that is wrong: what was found, what was expected.
    """
    if not subject.name or not subject.space:
        raise DataError("The subject has no name or no space; both must be given as texts.")
    if subject.hemisphere not in ("left", "right"):
        raise DataError(f"The hemisphere is {subject.hemisphere!r}; expected 'left' or 'right'.")
    check_grid(subject.voxel, subject.affine, subject.box_shape)
    _check_array("vertices", subject.vertices, np.float32, (None, 3))
    _check_array("triangles", subject.triangles, np.int32, (None, 3))
    _check_array("sphere_center_mm", subject.sphere_center_mm, np.float64, (3,))
    if subject.triangles.size and not 0 <= subject.triangles.min() <= subject.triangles.max() < len(subject.vertices):
        raise DataError(
            f"The triangles name vertices {subject.triangles.min()} to {subject.triangles.max()}; "
            f"the surface has {len(subject.vertices)} vertices, counted from 0."
        )
    if not np.isfinite(subject.scalp_radius_mm):
        raise DataError(f"scalp_radius_mm is {subject.scalp_radius_mm}; expected a number of millimetres.")
    farthest_mm = np.linalg.norm(subject.voxel_mm - subject.sphere_center_mm, axis=1).max()
    if farthest_mm >= subject.scalp_radius_mm:
        raise DataError(
            f"A voxel of BA4 lies {farthest_mm:.1f} mm from the sphere's centre, outside its scalp_radius_mm of "
            f"{subject.scalp_radius_mm:.1f} mm; fit the sphere again."
        )
    if subject.scalp is not None:
        check_surface(subject.scalp, "scalp")
    if subject.basis is not None:
        check_basis(subject.basis)
        if subject.basis.n_voxels != subject.n_voxels:
            raise DataError(
                f"The basis holds fields on {subject.basis.n_voxels} voxels, the subject's BA4 has {subject.n_voxels}: "
                "it is of another subject."
            )


def _scalp(arrays: dict[str, Array]) -> Surface | None:
    if not any(name.startswith("scalp/") for name in arrays):
        return None
    return Surface(arrays["scalp/vertices"], arrays["scalp/triangles"])


def _check_array(name: str, array: npt.NDArray[Any], dtype: type, shape: tuple[int | None, ...]) -> None:
    if array.dtype != dtype or array.ndim != len(shape):
        raise DataError(f"{name} is {array.dtype} {array.shape}; expected {np.dtype(dtype)} {shape}.")
    if any(n is not None and n != m for n, m in zip(shape, array.shape, strict=True)):
        raise DataError(f"{name} has the shape {array.shape}; expected {shape}.")
    if not np.isfinite(array).all():
        raise DataError(f"{name} holds {int((~np.isfinite(array)).sum())} values that are not finite numbers.")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, found {type(value).__name__}")
    return value

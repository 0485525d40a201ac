"""Head models for finite elements: which tissue is where, and how well each conducts.

Two kinds: labels on a voxel grid (`VoxelHead`) and a mesh of tetrahedra (`TetraHead`); tissue tags as in SimNIBS.
How heads are made or read is not the business of this file; what can be solved in them is checked by the solvers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError

AIR = 0
WHITE_MATTER = 1
GREY_MATTER = 2
CSF = 3
BONE = 4
SCALP = 5
EYES = 6
COMPACT_BONE = 7
SPONGY_BONE = 8
BLOOD = 9
MUSCLE = 10

TISSUE_NAME: Mapping[int, str] = {
    AIR: "air",
    WHITE_MATTER: "white matter",
    GREY_MATTER: "grey matter",
    CSF: "CSF",
    BONE: "bone",
    SCALP: "scalp",
    EYES: "eyes",
    COMPACT_BONE: "compact bone",
    SPONGY_BONE: "spongy bone",
    BLOOD: "blood",
    MUSCLE: "muscle",
}
"""What the tags mean; the numbers are those of SimNIBS' head meshes."""

CONDUCTIVITY_S_PER_M: Mapping[int, float] = {
    WHITE_MATTER: 0.126,
    GREY_MATTER: 0.275,
    CSF: 1.654,
    BONE: 0.010,
    SCALP: 0.465,
    EYES: 0.5,
    COMPACT_BONE: 0.008,
    SPONGY_BONE: 0.025,
    BLOOD: 0.6,
    MUSCLE: 0.16,
}
"""Isotropic conductivities in S/m, the defaults of SimNIBS 4: Wagner et al. 2004, IEEE Trans Biomed Eng 51:1586 (white
to scalp); Opitz et al. 2015, NeuroImage 109:140 (eyes, compact and spongy bone); Gabriel et al. 2009, Phys Med Biol
54:4863 (blood, muscle)."""

ORTHOGONALITY_TOLERANCE = 1e-4
"""How far a grid's axes may be from orthogonal and equally long, relative to the voxel (single-precision headers)."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class VoxelHead:
    """A head as tissue labels on a grid of cubes.

    Attributes
    ----------
    label : numpy.ndarray
        (nx, ny, nz) uint8; tissue tags, 0 is air.
    affine : numpy.ndarray
        (4, 4) float64; index to the voxel's centre in mm. Axes orthogonal and equally long; they may be turned or
        mirrored.
    space : str
        The space that the mm are in.
    name : str
        What the head is.
    notices : str
        Licence notices of what it was made from; may be empty.

    Raises
    ------
    DataError
        On construction: wrong shapes or types, no tissue at all, voxels that are no cubes.
    """

    label: npt.NDArray[np.uint8]
    affine: Floats
    space: str
    name: str
    notices: str = ""

    def __post_init__(self) -> None:
        if self.label.dtype != np.uint8 or self.label.ndim != 3:
            raise DataError(f"label is {self.label.dtype} {self.label.shape}; expected uint8 (nx, ny, nz).")
        if not self.label.any():
            raise DataError(f"The head {self.name!r} has no tissue: all {self.label.size} voxels are 0 (air).")
        if self.affine.dtype != np.float64 or self.affine.shape != (4, 4) or not np.isfinite(self.affine).all():
            raise DataError(f"affine is {self.affine.dtype} {self.affine.shape}; expected finite float64 (4, 4).")
        if not np.array_equal(self.affine[3], (0, 0, 0, 1)):
            raise DataError(f"The affine's last row is {self.affine[3].tolist()}; expected 0 0 0 1.")
        gram = self.affine[:3, :3].T @ self.affine[:3, :3]
        size = np.trace(gram) / 3
        if size <= 0 or np.abs(gram - size * np.eye(3)).max() > 2 * ORTHOGONALITY_TOLERANCE * size:
            edges = np.sqrt(np.diag(gram)).round(4).tolist()
            raise DataError(
                f"The voxels of head {self.name!r} are no cubes: edges of {edges} mm. Resample the labels (nearest "
                "neighbour) to a grid with orthogonal axes of equal steps."
            )

    @property
    def resolution_mm(self) -> float:
        """Edge of a voxel, mm."""
        return float(np.sqrt(np.trace(self.affine[:3, :3].T @ self.affine[:3, :3]) / 3))

    def content_hash(self) -> str:
        """Compute the SHA-256 of what a solution depends on: labels and affine."""
        return _sha256("voxels", self.label, self.affine)


@dataclass(frozen=True, eq=False)
class TetraHead:
    """A head as a mesh of tetrahedra.

    Attributes
    ----------
    node_mm : numpy.ndarray
        (N, 3) float64, mm; the nodes.
    tetrahedron : numpy.ndarray
        (T, 4) integers; each tetrahedron's nodes, counted from 0, in any orientation.
    tag : numpy.ndarray
        (T,) integers; each tetrahedron's tissue, 0 is air.
    space : str
        The space that the mm are in.
    name : str
        What the head is.
    notices : str
        Licence notices of what it was made from; may be empty.

    Raises
    ------
    DataError
        On construction: wrong shapes or types, nodes that are not finite, tetrahedra of nodes that do not exist.
    """

    node_mm: Floats
    tetrahedron: npt.NDArray[Any]
    tag: npt.NDArray[Any]
    space: str
    name: str
    notices: str = ""

    def __post_init__(self) -> None:
        if self.node_mm.dtype != np.float64 or self.node_mm.ndim != 2 or self.node_mm.shape[1] != 3:
            raise DataError(f"node_mm is {self.node_mm.dtype} {self.node_mm.shape}; expected float64 (N, 3).")
        for name, array, n_axes in (("tetrahedron", self.tetrahedron, 2), ("tag", self.tag, 1)):
            if array.dtype.kind not in "iu" or array.ndim != n_axes:
                raise DataError(f"{name} is {array.dtype} {array.shape}; expected integers on {n_axes} axes.")
        if self.tetrahedron.shape[1] != 4 or self.tag.shape != self.tetrahedron.shape[:1] or not len(self.tag):
            raise DataError(
                f"{self.tetrahedron.shape} tetrahedra with {self.tag.shape} tags; expected (T, 4) and (T,), T at least "
                "1. Does the mesh hold surfaces only?"
            )
        n_nodes, lowest, highest = len(self.node_mm), int(self.tetrahedron.min()), int(self.tetrahedron.max())
        if lowest < 0 or highest >= n_nodes:
            raise DataError(f"The tetrahedra name nodes {lowest} to {highest}; the mesh has nodes 0 to {n_nodes - 1}.")
        wrong = int((~np.isfinite(self.node_mm).all(axis=1)).sum())
        if wrong:
            raise DataError(f"{wrong} of the {n_nodes} nodes of head {self.name!r} are not finite numbers.")

    def content_hash(self) -> str:
        """Compute the SHA-256 of what a solution depends on: nodes, tetrahedra and tags."""
        return _sha256("tetrahedra", self.node_mm, self.tetrahedron.astype(np.int64), self.tag.astype(np.int64))


def conductivity_of(tags: npt.NDArray[Any], conductivity: Mapping[int, float]) -> Floats:
    """Look up conductivities by tissue tag.

    Parameters
    ----------
    tags : numpy.ndarray
        Integers of any shape; tissue tags, 0 is air.
    conductivity : mapping of int to float
        S/m by tag.

    Returns
    -------
    numpy.ndarray
        float64 of the tags' shape, S/m; 0 in air.

    Raises
    ------
    DataError
        A tissue that occurs has no conductivity, or one that is no positive number.
    """
    present, inverse, count = np.unique(tags, return_inverse=True, return_counts=True)
    value = np.zeros(len(present))
    for i, tag in enumerate(present.tolist()):
        if tag == AIR:
            continue
        if tag not in conductivity:
            raise DataError(
                f"{count[i]} elements have the tissue tag {tag} ({TISSUE_NAME.get(tag, 'unknown')}), for which there "
                f"is no conductivity; there is one for {sorted(conductivity)}. Relabel them, or give a conductivity."
            )
        value[i] = conductivity[tag]
        if not (np.isfinite(value[i]) and value[i] > 0):
            raise DataError(
                f"The conductivity of tissue {tag} ({TISSUE_NAME.get(tag, 'unknown')}) is {value[i]} S/m; expected a "
                "positive number. What does not conduct is labelled 0 (air)."
            )
    return value[inverse].reshape(tags.shape)


def describe_conductivity(conductivity: Mapping[int, float]) -> str:
    """List conductivities in words, e.g. `white matter 0.126, grey matter 0.275`."""
    return ", ".join(f"{TISSUE_NAME.get(tag, f'tag {tag}')} {value:g}" for tag, value in sorted(conductivity.items()))


def _sha256(kind: str, *arrays: npt.NDArray[Any]) -> str:
    """Digest arrays with their shapes and types, independent of this machine's byte order."""
    digest = hashlib.sha256(kind.encode())
    for array in arrays:
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        digest.update(f"{little.dtype.str}{little.shape}".encode())
        digest.update(little.data)
    return digest.hexdigest()

"""A laboratory's own head: the mesh that SimNIBS' `charm` (or `headreco`) makes, as tetrahedra with tissue tags.

Also its outer surface, where the coil stands. How the file is laid out is the business of `gmsh_file`, what is solved
in the head that of `trainer.efield`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rt_engine.errors import DataError
from rt_engine.field.surface import Surface
from trainer.efield.head import CONDUCTIVITY_S_PER_M, GREY_MATTER, SCALP, TISSUE_NAME, WHITE_MATTER, TetraHead
from trainer.importers.gmsh_file import GmshMesh, read_gmsh

Integers = npt.NDArray[np.int64]

NEEDED_TISSUES = (WHITE_MATTER, GREY_MATTER, SCALP)
"""Without these there is no cortex to look at, or no scalp for the coil to stand on."""

EXTENT_MM = (80.0, 1000.0)
"""Largest extent of a head model, mm: from a cropped child's head to a head with a good part of the trunk."""

_FACES = ((1, 2, 3), (0, 3, 2), (0, 1, 3), (0, 2, 1))
"""A tetrahedron's faces, each opposite the corner of its number, outwards where the tetrahedron is positive."""


def read_head(path: str | Path, *, name: str = "", space: str = "", notices: str = "") -> TetraHead:
    """Read a SimNIBS head mesh.

    Nodes that no tetrahedron uses are left out and the others numbered anew.

    Parameters
    ----------
    path : str or Path
        The `.msh` file.
    name : str
        What the head is called; the file's name if empty.
    space : str
        The space that the mm are in; scanner RAS if empty.
    notices : str
        Licence notices of the data.

    Returns
    -------
    TetraHead
        The head, its tissues as SimNIBS numbers them.

    Raises
    ------
    FileFormatError
        As `trainer.importers.gmsh_file.read_gmsh`.
    DataError
        No tetrahedra, no tissue tags, nodes that are not finite, or an extent that is no head's in mm.
    """
    return head_of(read_gmsh(path), Path(path), name=name, space=space, notices=notices)


def head_of(mesh: GmshMesh, path: Path, *, name: str = "", space: str = "", notices: str = "") -> TetraHead:
    """Make the head of a mesh that was read; as `read_head`, `path` being for the messages."""
    n_cells = len(mesh.tetrahedron)
    if not n_cells:
        raise DataError(
            f"{path} holds no tetrahedra ({len(mesh.triangle)} triangles): it is a mesh of surfaces. Expected the "
            "head's volume mesh, such as m2m_ID/ID.msh."
        )
    if not mesh.tetrahedron_tag.any():
        raise DataError(
            f"The {n_cells} tetrahedra of {path} have no tissue tags. Expected physical tags as SimNIBS gives them: "
            f"{_named(TISSUE_NAME)}."
        )
    used, renumbered = np.unique(mesh.tetrahedron, return_inverse=True)
    node_mm = mesh.node[used]
    n_wrong = int((~np.isfinite(node_mm).all(axis=1)).sum())
    if n_wrong:
        raise DataError(f"{n_wrong} of the {len(used)} nodes in {path} are not finite numbers. Make the mesh again.")
    extent = float(np.ptp(node_mm, axis=0).max())
    if not EXTENT_MM[0] <= extent <= EXTENT_MM[1]:
        raise DataError(
            f"The mesh of {path} extends over {extent:.4g} in its longest direction; a head in mm has "
            f"{EXTENT_MM[0]:g} to {EXTENT_MM[1]:g}.{_unit_hint(extent)} SimNIBS' head meshes are in mm: scale the "
            "mesh, and be sure that surfaces and coil poses are in mm too."
        )
    return TetraHead(
        node_mm=node_mm,
        tetrahedron=renumbered.reshape(-1, 4).astype(np.int32),
        tag=mesh.tetrahedron_tag.astype(np.int32),
        space=space or "scanner RAS of the subject's MRI: x right, y anterior, z superior",
        name=name or path.stem,
        notices=notices,
    )


def require_tissues(head: TetraHead, tags: Sequence[int] = NEEDED_TISSUES) -> None:
    """Check that a head has the tissues that a subject needs, and none that cannot conduct.

    Parameters
    ----------
    head : TetraHead
        The head.
    tags : sequence of int
        The tissues that must occur.

    Raises
    ------
    DataError
        One is missing, or a tag occurs whose conductivity is not known.
    """
    present = np.unique(head.tag).tolist()
    missing = [tag for tag in tags if tag not in present]
    if missing:
        raise DataError(
            f"The mesh {head.name!r} has no {_named(missing)}; it has {_named(present)}. Expected a head mesh with at "
            f"least {_named(tags)}, tagged as SimNIBS does."
        )
    unknown = [tag for tag in present if tag not in CONDUCTIVITY_S_PER_M]
    if unknown:
        n_cells = int(np.isin(head.tag, unknown).sum())
        raise DataError(
            f"{n_cells} tetrahedra of the mesh {head.name!r} have tags that are no tissue: {unknown}. Expected tissues "
            f"only ({_named(CONDUCTIVITY_S_PER_M)}): give the head mesh without electrodes or other additions."
        )


def outer_surface(head: TetraHead) -> Surface:
    """Take the outer boundary of a head: the scalp, the eyes, and where the mesh ends at the neck.

    The boundary of the tetrahedra themselves is taken, not the mesh's triangles, which not every mesh has and which
    need not all turn the same way. Of its pieces the largest is kept: the others enclose cavities.

    Parameters
    ----------
    head : TetraHead
        The head.

    Returns
    -------
    Surface
        Closed, mm, triangles counter-clockwise from outside.

    Raises
    ------
    DataError
        The tetrahedra have no boundary, or none of them has a volume.
    """
    corner = head.tetrahedron.astype(np.int64)
    base = head.node_mm[corner[:, 0]]
    edges = head.node_mm[corner[:, 1:]] - base[:, None]
    negative = np.linalg.det(edges) < 0
    corner[negative] = corner[negative][:, [0, 2, 1, 3]]
    faces = np.concatenate([corner[:, list(face)] for face in _FACES])
    ordered = np.sort(faces, axis=1)
    # One number per face, so that the sort below compares numbers and not rows.
    n_nodes = len(head.node_mm)
    key = (ordered[:, 0] * n_nodes + ordered[:, 1]) * n_nodes + ordered[:, 2]
    order = np.argsort(key, kind="stable")
    same = np.diff(key[order]) == 0
    single = order[~(np.append(same, False) | np.insert(same, 0, False))]
    if not len(single):
        raise DataError(f"The mesh {head.name!r} has no outer boundary; expected tetrahedra that fill a head.")
    boundary = faces[np.sort(single)]
    piece = _largest_piece(boundary, head.node_mm)
    used, renumbered = np.unique(boundary[piece], return_inverse=True)
    return Surface(head.node_mm[used].astype(np.float32), renumbered.reshape(-1, 3).astype(np.int32))


def _largest_piece(triangles: Integers, node_mm: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Mark the triangles of the connected piece that extends farthest, (F,)."""
    first, second = triangles[:, [0, 1]].T.ravel(), triangles[:, [1, 2]].T.ravel()
    n_nodes = len(node_mm)
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(n_nodes, n_nodes))
    piece = connected_components(graph, directed=False)[1][triangles[:, 0]]
    candidates, counts = np.unique(piece, return_counts=True)
    # Only the few largest can extend farthest; cavities of a real mesh are hundreds.
    candidates = candidates[np.argsort(counts)[::-1][:5]]
    extents = [float(np.prod(np.ptp(node_mm[triangles[piece == one]].reshape(-1, 3), axis=0))) for one in candidates]
    return piece == candidates[int(np.argmax(extents))]


def _unit_hint(extent: float) -> str:
    for factor, unit in ((1e3, "metres"), (10.0, "centimetres"), (1e-3, "micrometres")):
        if EXTENT_MM[0] <= extent * factor <= EXTENT_MM[1]:
            return f" Is it in {unit}?"
    return ""


def _named(tags: Iterable[int]) -> str:
    return ", ".join(f"{TISSUE_NAME.get(int(tag), 'unknown')} ({int(tag)})" for tag in tags if int(tag))

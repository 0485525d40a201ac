"""Gmsh `.msh` files as SimNIBS writes them (2.2 and 4.1, text and binary): nodes, tetrahedra, triangles, data on them.

Read by meshio; here is what it leaves open: whether the file is whole, cell types in several blocks, which tag counts,
data on some elements only. What the tissues mean and whether the mesh is a head is the business of `simnibs_mesh`.
"""

from __future__ import annotations

import mmap
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError, FileFormatError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_SECTIONS = ("MeshFormat", "Nodes", "Elements", "NodeData", "ElementData")
_CURVED = ("tetra10", "triangle6")


@dataclass(frozen=True, eq=False)
class GmshMesh:
    """What a Gmsh file holds, with the blocks of one cell type joined in the file's order.

    Attributes
    ----------
    node : numpy.ndarray
        (N, 3) float64; the nodes, in the file's unit, used or not.
    tetrahedron, triangle : numpy.ndarray
        (T, 4) and (F, 3) int64; the cells' nodes, counted from 0.
    tetrahedron_tag, triangle_tag : numpy.ndarray
        (T,) and (F,) int64; the physical tags.
    tetrahedron_place, triangle_place : numpy.ndarray
        (T,) and (F,) int64; where each stands among all elements of the file, counted from 0.
    tetrahedron_data, triangle_data : mapping of str to numpy.ndarray
        (T,) or (T, c), and (F,) or (F, c) float64; `$ElementData` by name.
    node_data : mapping of str to numpy.ndarray
        (N,) or (N, c) float64; `$NodeData` by name.
    """

    node: Floats
    tetrahedron: Integers
    tetrahedron_tag: Integers
    triangle: Integers
    triangle_tag: Integers
    tetrahedron_place: Integers
    triangle_place: Integers
    tetrahedron_data: Mapping[str, Floats]
    triangle_data: Mapping[str, Floats]
    node_data: Mapping[str, Floats]


def read_gmsh(path: str | Path) -> GmshMesh:
    """Read a Gmsh file.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    GmshMesh
        What it holds; nothing of it is checked but that it is whole and that the cells name nodes that exist.

    Raises
    ------
    FileFormatError
        No such file, no Gmsh file, truncated, damaged, a version that meshio does not read, elements of second order,
        or data on a part of the elements only.
    DataError
        meshio is not installed.
    """
    path = Path(path)
    _check_whole(path)
    try:
        with warnings.catch_warnings():
            # numpy only warns where a number should be and is not.
            warnings.filterwarnings("error", message="string or file could not be read")
            mesh = _meshio().gmsh.read(path)
    except Exception as error:  # whatever meshio's parsing trips over in a damaged file
        said = f"{type(error).__name__}: {error}".rstrip(": ")
        raise FileFormatError(
            f"{path} cannot be read as a Gmsh file ({said}). Expected a .msh file of version 2.2 or 4.1, as SimNIBS "
            "writes it, with data on all nodes or all elements: export or copy it again."
        ) from error
    curved = [block.type for block in mesh.cells if block.type in _CURVED]
    if curved:
        raise FileFormatError(f"{path} holds elements of second order ({curved[0]}); expected tetrahedra of 4 nodes.")
    tags = mesh.cell_data.get("gmsh:physical", mesh.cell_data.get("gmsh:geometrical"))
    sizes = [len(block.data) for block in mesh.cells]
    if tags is None:
        tags = [np.zeros(len(block.data)) for block in mesh.cells]
    places = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    data = {name: blocks for name, blocks in mesh.cell_data.items() if not name.startswith("gmsh:")}
    node = np.ascontiguousarray(mesh.points, np.float64).reshape(-1, 3)
    cells: dict[str, Integers] = {}
    for kind, corners in (("tetra", 4), ("triangle", 3)):
        cell = _joined(mesh.cells, [block.data for block in mesh.cells], kind, corners).astype(np.int64)
        if cell.size and not 0 <= cell.min() <= cell.max() < len(node):
            raise FileFormatError(
                f"{path} is damaged: its elements name nodes that it does not have (there are {len(node)}). Export or "
                "copy it again."
            )
        cells[kind] = cell
    return GmshMesh(
        node=node,
        tetrahedron=cells["tetra"],
        tetrahedron_tag=_joined(mesh.cells, tags, "tetra").astype(np.int64),
        triangle=cells["triangle"],
        triangle_tag=_joined(mesh.cells, tags, "triangle").astype(np.int64),
        tetrahedron_place=_joined(mesh.cells, places, "tetra").astype(np.int64),
        triangle_place=_joined(mesh.cells, places, "triangle").astype(np.int64),
        tetrahedron_data={name: _joined(mesh.cells, blocks, "tetra") for name, blocks in data.items()},
        triangle_data={name: _joined(mesh.cells, blocks, "triangle") for name, blocks in data.items()},
        node_data={
            name: np.asarray(values, np.float64)
            for name, values in mesh.point_data.items()
            if not name.startswith("gmsh:")
        },
    )


def _joined(cells: list[Any], blocks: list[Any], kind: str, width: int | None = None) -> npt.NDArray[Any]:
    """Join what belongs to the cells of one type, in the file's order; empty where there are none."""
    chosen = [np.asarray(block) for cell, block in zip(cells, blocks, strict=True) if cell.type == kind]
    if not chosen:
        return np.zeros((0,) if width is None else (0, width))
    return np.concatenate(chosen)


def _meshio() -> ModuleType:
    try:
        import meshio
    except ImportError as error:
        raise DataError("Reading Gmsh meshes needs meshio. Install m2m-live[train].") from error
    return meshio


def _check_whole(path: Path) -> None:
    """Check that every section that begins also ends: meshio reads what is there and says nothing."""
    if not path.is_file():
        raise FileFormatError(f"There is no file {path}; expected a Gmsh mesh (.msh). Check the path.")
    try:
        with path.open("rb") as file:
            if not file.read(11) == b"$MeshFormat":
                raise FileFormatError(
                    f"{path} does not begin with $MeshFormat, so it is no Gmsh mesh of version 2 or 4 (or it is "
                    "damaged). Give the head's .msh file, as SimNIBS writes it."
                )
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                counts = {name: (_count(content, f"${name}"), _count(content, f"$End{name}")) for name in _SECTIONS}
    except OSError as error:
        raise FileFormatError(f"Cannot read {path}: {error}. Check its permissions.") from error
    for name, (begun, ended) in counts.items():
        if begun != ended:
            raise FileFormatError(
                f"{path} is truncated or damaged: of {begun} sections ${name}, {ended} end with $End{name}. Export or "
                "copy it again."
            )
    for name in ("Nodes", "Elements"):
        if not counts[name][0]:
            raise FileFormatError(
                f"{path} has no section ${name}; expected a head mesh with nodes and elements, as SimNIBS writes it."
            )


def _count(content: mmap.mmap, mark: str) -> int:
    n, place, line = 0, -1, mark.encode() + b"\n"
    windows = mark.encode() + b"\r\n"
    for ending in (line, windows):
        place = content.find(ending)
        while place >= 0:
            n += 1
            place = content.find(ending, place + 1)
    # The last line of the file may lack its end.
    return n + (content[-len(mark) :] == mark.encode())

"""Gmsh `.msh` files as SimNIBS writes them (2.2 and 4.1, text and binary): nodes, tetrahedra, triangles, data on them.

Read by meshio; here is what it leaves open: whether the file is whole, cell types in several blocks, which tag counts,
data on some elements only. What the tissues mean and whether the mesh is a head is the business of `simnibs_mesh`.
"""

from __future__ import annotations

import mmap
import re
import tempfile
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

_BEGIN = b"$MeshFormat"
_DATA = ("NodeData", "ElementData")
_SECTIONS = ("MeshFormat", "Nodes", "Elements", *_DATA)
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


@dataclass(frozen=True)
class _Section:
    """Where a section stands: its mark, the bytes between the marks, and the end of the closing mark."""

    name: str
    start: int
    first: int
    last: int
    end: int


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
    if not path.is_file():
        raise FileFormatError(f"There is no file {path}; expected a Gmsh mesh (.msh). Check the path.")
    try:
        with path.open("rb") as file:
            if file.read(len(_BEGIN)) != _BEGIN:
                raise FileFormatError(
                    f"{path} does not begin with $MeshFormat, so it is no Gmsh mesh of version 2 or 4 (or it is "
                    "damaged). Give the head's .msh file, as SimNIBS writes it."
                )
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                sections = _sections(content, path)
                return _read(content, sections, path)
    except OSError as error:
        raise FileFormatError(f"Cannot read {path}: {error}. Check its permissions.") from error


def _read(content: mmap.mmap, sections: list[_Section], path: Path) -> GmshMesh:
    mesh = _read_cells(content, sections, path)
    curved = [block.type for block in mesh.cells if block.type in _CURVED]
    if curved:
        raise FileFormatError(f"{path} holds elements of second order ({curved[0]}); expected tetrahedra of 4 nodes.")
    tags = mesh.cell_data.get("gmsh:physical", mesh.cell_data.get("gmsh:geometrical"))
    sizes = [len(block.data) for block in mesh.cells]
    if tags is None:
        tags = [np.zeros(size) for size in sizes]
    if [len(block) for block in tags] != sizes:
        raise FileFormatError(f"{path} is damaged: not every element has a tag. Export or copy it again.")
    places = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1]) if sizes else []
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
    places_of = {kind: _joined(mesh.cells, places, kind).astype(np.int64) for kind in cells}
    element_data = _data(content, sections, "ElementData", sum(sizes), path)
    return GmshMesh(
        node=node,
        tetrahedron=cells["tetra"],
        tetrahedron_tag=_joined(mesh.cells, tags, "tetra").astype(np.int64),
        triangle=cells["triangle"],
        triangle_tag=_joined(mesh.cells, tags, "triangle").astype(np.int64),
        tetrahedron_place=places_of["tetra"],
        triangle_place=places_of["triangle"],
        tetrahedron_data={name: values[places_of["tetra"]] for name, values in element_data.items()},
        triangle_data={name: values[places_of["triangle"]] for name, values in element_data.items()},
        node_data=_data(content, sections, "NodeData", len(node), path),
    )


def _joined(cells: list[Any], blocks: list[Any], kind: str, width: int | None = None) -> npt.NDArray[Any]:
    """Join what belongs to the cells of one type, in the file's order; empty where there are none."""
    chosen = [np.asarray(block) for cell, block in zip(cells, blocks, strict=True) if cell.type == kind]
    if not chosen:
        return np.zeros((0,) if width is None else (0, width))
    return np.concatenate(chosen)


def _sections(content: mmap.mmap, path: Path) -> list[_Section]:
    """Find all sections, in the file's order, and check that every one that begins also ends."""
    found = []
    for name in _SECTIONS:
        mark, end_mark = f"${name}".encode(), f"$End{name}".encode()
        place = content.find(mark)
        while place >= 0:
            first = place + len(mark)
            line = content[first : first + 2]
            if line[:1] not in (b"\n", b"\r", b" "):
                place = content.find(mark, first)  # the beginning of a longer name
                continue
            last = content.find(end_mark, first)
            if last < 0:
                raise FileFormatError(
                    f"{path} is truncated or damaged: its section ${name} does not end with $End{name}. Export or copy "
                    "it again."
                )
            found.append(_Section(name, place, content.find(b"\n", first) + 1, last, last + len(end_mark)))
            place = content.find(mark, last)
    found.sort(key=lambda section: section.start)
    for name in ("MeshFormat", "Nodes", "Elements"):
        if not any(section.name == name for section in found):
            raise FileFormatError(
                f"{path} has no section ${name}; expected a head mesh with nodes and elements, as SimNIBS writes it."
            )
    if not re.search(rb"\$End\w+\s*$", content[-64:]):
        raise FileFormatError(f"{path} is truncated: it does not end with the end of a section. Copy it again.")
    return found


def _read_cells(content: mmap.mmap, sections: list[_Section], path: Path) -> Any:
    """Let meshio read all but the data: meshio 5.3 puts data on elements of two types into the wrong blocks."""
    meshio = _meshio()
    data = [section for section in sections if section.name in _DATA]
    source = path
    try:
        if data:
            with tempfile.NamedTemporaryFile(suffix=".msh", delete=False) as copy:
                source = Path(copy.name)
                place = 0
                for section in data:
                    copy.write(content[place : section.start])
                    place = section.end
                copy.write(content[place:])
        with warnings.catch_warnings():
            # numpy only warns where a number should be and is not.
            warnings.filterwarnings("error", message="string or file could not be read")
            return meshio.gmsh.read(source)
    except Exception as error:  # whatever meshio's parsing trips over in a damaged file
        said = f"{type(error).__name__}: {error}".rstrip(": ")
        raise FileFormatError(
            f"{path} cannot be read as a Gmsh file ({said}). Expected a .msh file of version 2.2 or 4.1, as SimNIBS "
            "writes it: export or copy it again."
        ) from error
    finally:
        if source != path:
            source.unlink(missing_ok=True)


def _data(content: mmap.mmap, sections: list[_Section], kind: str, n: int, path: Path) -> dict[str, Floats]:
    """Read `$ElementData` or `$NodeData`: (n,) or (n, c) by name.

    https://gmsh.info/doc/texinfo/gmsh.html, "MSH file format": texts, the first being the name; real numbers; integers
    (step, components, rows); then rows of a number and the values.
    """
    version = next(section for section in sections if section.name == "MeshFormat")
    is_text = content[version.first : version.last].split()[1:2] == [b"0"]
    data = {}
    for section in sections:
        if section.name != kind:
            continue
        try:
            name, values, number = _parse_data(content, section, is_text)
        except (ValueError, IndexError, UnicodeDecodeError) as error:
            raise FileFormatError(
                f"A section ${kind} of {path} is damaged ({error}). Export or copy it again."
            ) from error
        if len(values) != n or (np.diff(number) <= 0).any():
            what = "nodes" if kind == "NodeData" else "elements"
            raise FileFormatError(
                f"{name} of {path} has values for {len(values)} of {n} {what}; expected one "
                "for each, in their order, as SimNIBS writes it."
            )
        data[name] = values[:, 0] if values.shape[1] == 1 else values
    return data


def _parse_data(content: mmap.mmap, section: _Section, is_text: bool) -> tuple[str, Floats, npt.NDArray[Any]]:
    place = section.first

    def line() -> str:
        nonlocal place
        end = content.find(b"\n", place, section.last)
        if end < 0:
            raise ValueError("its head is not whole")
        text, place = content[place:end].decode().strip(), end + 1
        return text

    texts = [line() for _ in range(int(line()))]
    for _ in range(int(line())):
        line()
    _, n_parts, n_rows, *_ = [int(line()) for _ in range(int(line()))]
    if not 1 <= n_parts <= 9 or n_rows < 0:
        raise ValueError(f"{n_rows} rows of {n_parts} values")
    if is_text:
        rows = np.array(content[place : section.last].split(), np.float64)
        if rows.size != n_rows * (1 + n_parts):
            raise ValueError(f"{rows.size} numbers, where {n_rows} rows of {1 + n_parts} were announced")
        rows = rows.reshape(n_rows, 1 + n_parts)
        return texts[0].strip('"'), np.ascontiguousarray(rows[:, 1:]), rows[:, 0]
    layout = np.dtype([("number", "<i4"), ("values", "<f8", (n_parts,))])
    size = n_rows * layout.itemsize
    if section.last - place not in (size, size + 1, size + 2):
        raise ValueError(f"{section.last - place} bytes, where {n_rows} rows of {n_parts} values were announced")
    table = np.frombuffer(content[place : place + size], layout)
    return texts[0].strip('"'), np.ascontiguousarray(table["values"]), table["number"]


def _meshio() -> ModuleType:
    try:
        import meshio
    except ImportError as error:
        raise DataError("Reading Gmsh meshes needs meshio. Install m2m-live[train].") from error
    return meshio

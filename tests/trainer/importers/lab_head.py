"""A small laboratory: a layered ball as head mesh, a folded hemisphere in it, and areas on that, as files.

The ball has SimNIBS' tissues in shells; the hemisphere is an ellipsoid with bumps, 3 mm of cortex between two surfaces.
Nothing here is anyone's data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import meshio
import nibabel
import numpy as np
import numpy.typing as npt
from scipy.spatial import ConvexHull

from rt_engine.field.subject_file import Subject
from trainer.importers.freesurfer import Cortex, read_cortex
from trainer.importers.freesurfer_labels import read_area
from trainer.importers.lab_subject import LabSubject, lab_subject
from trainer.importers.simnibs_mesh import read_head

Floats = npt.NDArray[np.float64]

SHELLS_MM = ((15.0, 1), (80.0, 2), (83.0, 3), (89.0, 4), (95.0, 5))
"""Outer radius and tissue of each shell."""

RADII_MM = (15.0, 30.0, 45.0, 60.0, 70.0, 80.0, 83.0, 86.0, 89.0, 91.0, 93.0, 95.0)
"""Where the mesh has nodes; the shells' borders are among them, and no two tissues have as many layers."""

CRAS_MM = np.array([1.5, -12.0, 20.0])
"""Where the middle of the MRI lies in scanner RAS; tkRAS has its origin there."""

VOLUME = (256, 256, 256)

N_VERTICES = 3000
"""Of the hemisphere."""


@dataclass(frozen=True)
class BallMesh:
    """Nodes, tetrahedra and triangles of the ball, with tags."""

    node: Floats
    tetra: npt.NDArray[np.int64]
    tetra_tag: npt.NDArray[np.int64]
    triangle: npt.NDArray[np.int64]
    triangle_tag: npt.NDArray[np.int64]


def _sphere(n: int) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Spread points over the unit sphere and triangulate them, counter-clockwise from outside."""
    k = np.arange(n) + 0.5
    height, turn = 1 - 2 * k / n, np.pi * (1 + 5**0.5) * k
    direction = np.column_stack([np.sqrt(1 - height**2) * np.cos(turn), np.sqrt(1 - height**2) * np.sin(turn), height])
    triangles = ConvexHull(direction).simplices.astype(np.int64)
    a, b, c = np.moveaxis(direction[triangles], 1, 0)
    inward = np.einsum("ij,ij->i", np.cross(b - a, c - a), a) < 0
    triangles[inward] = triangles[inward][:, ::-1]
    return direction, triangles


@cache
def ball() -> BallMesh:
    """Extrude a triangulated sphere inwards: every shell has an exact border."""
    direction, triangle = _sphere(300)
    n = len(direction)
    node = np.concatenate([np.zeros((1, 3)), *[direction * radius for radius in RADII_MM]])
    # Corners in rising order: neighbouring prisms then cut the wall they share along the same diagonal.
    a, b, c = np.sort(triangle, axis=1).T + 1
    parts = [np.stack([np.zeros_like(a), a, b, c], axis=1)]
    for inner in range(0, (len(RADII_MM) - 1) * n, n):
        low, high = (a + inner, b + inner, c + inner), (a + inner + n, b + inner + n, c + inner + n)
        parts.append(np.stack([low[0], low[1], low[2], high[2]], axis=1))
        parts.append(np.stack([low[0], low[1], high[1], high[2]], axis=1))
        parts.append(np.stack([low[0], high[0], high[1], high[2]], axis=1))
    tetra = np.concatenate(parts)
    # A prism's shell is that of its outermost corner.
    outer = np.linalg.norm(node[tetra], axis=2).max(axis=1)
    tag = np.full(len(tetra), SHELLS_MM[-1][1])
    for radius, tissue in reversed(SHELLS_MM):
        tag[outer <= radius + 1e-6] = tissue
    scalp = triangle + 1 + (len(RADII_MM) - 1) * n
    return BallMesh(node, tetra, tag, scalp, np.full(len(scalp), 1005))


def write_mesh(
    path: Path,
    mesh: BallMesh | None = None,
    *,
    binary: bool = True,
    version: str = "gmsh22",
    cell_data: dict[str, Floats] | None = None,
    node_data: dict[str, Floats] | None = None,
) -> Path:
    """Write the mesh; `cell_data` is per tetrahedron, and 0 on the triangles."""
    mesh = mesh or ball()
    cells = [("triangle", mesh.triangle), ("tetra", mesh.tetra)]
    tags = [mesh.triangle_tag.astype(np.int32), mesh.tetra_tag.astype(np.int32)]
    data: dict[str, list[Any]] = {"gmsh:physical": tags, "gmsh:geometrical": tags}
    kept = [i for i, (_, cell) in enumerate(cells) if len(cell)]
    meshio.gmsh.write(
        path,
        meshio.Mesh(
            mesh.node,
            [cells[i] for i in kept],
            cell_data={name: [blocks[i] for i in kept] for name, blocks in data.items()},
        ),
        fmt_version=version.removeprefix("gmsh")[0] + "." + version.removeprefix("gmsh")[1],
        binary=binary,
    )
    n_triangles = len(mesh.triangle)
    for name, values in (cell_data or {}).items():
        padded = np.concatenate([np.zeros((n_triangles, *values.shape[1:])), values])
        append_data(path, "ElementData", name, padded, binary=binary)
    for name, values in (node_data or {}).items():
        append_data(path, "NodeData", name, values, binary=binary)
    return path


def append_data(path: Path, kind: str, name: str, values: Floats, *, binary: bool) -> None:
    """Append data as SimNIBS does: no line end between binary rows and the closing mark."""
    table = values.reshape(len(values), -1)
    head = f'${kind}\n1\n"{name}"\n1\n0\n4\n0\n{table.shape[1]}\n{len(table)}\n0\n'
    number = np.arange(1, len(table) + 1)
    with path.open("ab") as file:
        file.write(head.encode())
        if binary:
            rows = np.empty(len(table), [("number", "<i4"), ("values", "<f8", (table.shape[1],))])
            rows["number"], rows["values"] = number, table
            file.write(rows.tobytes())
        else:
            for i, row in zip(number, table.tolist(), strict=True):
                file.write(f"{i} {' '.join(map(repr, row))}\n".encode())
        file.write(f"$End{kind}\n".encode())


def changed(**parts: Any) -> BallMesh:
    """Make the ball with other parts."""
    return replace(ball(), **parts)


@cache
def hemisphere(n: int = N_VERTICES) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Make the left hemisphere: white and pial vertices in scanner RAS, and triangles."""
    direction, triangles = _sphere(n)
    fold = 1 + 0.03 * np.sin(9 * np.arctan2(direction[:, 1], direction[:, 2]))
    center, axes = np.array([-35.0, 0.0, 5.0]), np.array([29.0, 60.0, 50.0])
    pial = center + direction * axes * fold[:, None]
    inwards = -direction / axes
    white = pial + 3.0 * inwards / np.linalg.norm(inwards, axis=1)[:, None]
    return white, pial, triangles


def ba4() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Vertices of the two halves of BA4: a strip over the top of the hemisphere, 20 mm wide."""
    _, pial, _ = hemisphere()
    strip = (np.abs(pial[:, 1] + 10) < 10) & (pial[:, 2] > 15)
    return np.flatnonzero(strip & (pial[:, 1] > -10)), np.flatnonzero(strip & (pial[:, 1] <= -10))


def volume_info(valid: bool = True, cras: Floats = CRAS_MM) -> dict[str, Any]:
    return {
        "head": np.array([2, 0, 20], np.int32),
        "valid": "1  # volume info valid" if valid else "0  # volume info invalid",
        "filename": "../mri/filled-pretess255.mgz",
        "volume": np.array(VOLUME),
        "voxelsize": np.ones(3),
        "xras": np.array([-1.0, 0.0, 0.0]),
        "yras": np.array([0.0, 0.0, -1.0]),
        "zras": np.array([0.0, 1.0, 0.0]),
        "cras": cras,
    }


def write_surface(path: Path, points_mm: Floats, triangles: npt.NDArray[Any], **info: Any) -> Path:
    """Write a FreeSurfer surface of points in scanner RAS: in tkRAS, with the volume's place."""
    nibabel.freesurfer.write_geometry(path, points_mm - CRAS_MM, triangles, volume_info=volume_info(**info))
    return path


def write_label(path: Path, vertex: npt.NDArray[Any], points_mm: Floats | None = None) -> Path:
    """Write a FreeSurfer label; `points_mm` in scanner RAS for all vertices of the surface."""
    points = np.zeros((len(vertex), 3)) if points_mm is None else points_mm[vertex] - CRAS_MM
    lines = [f"{v}  {x:.3f}  {y:.3f}  {z:.3f} 0.0000000000" for v, (x, y, z) in zip(vertex, points, strict=True)]
    path.write_text("\n".join(["#!ascii label  , from subject S01 vox2ras=TkReg", str(len(vertex)), *lines, ""]))
    return path


def write_annot(path: Path, areas: dict[str, npt.NDArray[Any]], n_vertices: int) -> Path:
    """Write a FreeSurfer annotation; what is in no area is `unknown`."""
    keys = np.zeros(n_vertices, np.int32)
    for i, vertex in enumerate(areas.values(), 1):
        keys[vertex] = i
    table = np.array([[20 * i + 5, 30 + i, 40, 0, 0] for i in range(len(areas) + 1)], np.int32)
    nibabel.freesurfer.write_annot(path, keys, table, ["unknown", *areas], fill_ctab=True)
    return path


def write_gifti_surface(
    path: Path,
    points_mm: Floats,
    triangles: npt.NDArray[Any],
    *,
    coordsys: nibabel.gifti.GiftiCoordSystem | None = None,
    meta: dict[str, str] | None = None,
) -> Path:
    arrays = [
        nibabel.gifti.GiftiDataArray(
            points_mm.astype(np.float32),
            intent="NIFTI_INTENT_POINTSET",
            coordsys=coordsys or nibabel.gifti.GiftiCoordSystem(1, 1, np.eye(4)),
            meta=nibabel.gifti.GiftiMetaData(meta or {}),
        ),
        nibabel.gifti.GiftiDataArray(triangles.astype(np.int32), intent="NIFTI_INTENT_TRIANGLE"),
    ]
    nibabel.GiftiImage(darrays=arrays).to_filename(path)
    return path


def write_gifti_label(path: Path, areas: dict[str, npt.NDArray[Any]], n_vertices: int) -> Path:
    keys = np.zeros(n_vertices, np.int32)
    table = nibabel.gifti.GiftiLabelTable()
    for i, (name, vertex) in enumerate({"???": np.array([], int), **areas}.items()):
        keys[vertex] = i
        label = nibabel.gifti.GiftiLabel(key=i, red=0.1 * i, green=0.2, blue=0.3, alpha=1.0)
        label.label = name
        table.labels.append(label)
    array = nibabel.gifti.GiftiDataArray(keys, intent="NIFTI_INTENT_LABEL")
    nibabel.GiftiImage(darrays=[array], labeltable=table).to_filename(path)
    return path


@dataclass(frozen=True)
class LabFiles:
    """What a laboratory has of one person."""

    folder: Path
    mesh: Path
    white: Path
    pial: Path
    ba4a: Path
    ba4p: Path
    annot: Path

    @property
    def options(self) -> list[str | Path]:
        """The arguments of `m2m subject import` for them."""
        return [
            *("--mesh", self.mesh, "--white", self.white, "--pial", self.pial),
            *("--label", self.ba4a, "--label", self.ba4p),
        ]


def write_lab(folder: Path) -> LabFiles:
    """Write a whole laboratory."""
    white, pial, triangles = hemisphere()
    a, p = ba4()
    return LabFiles(
        folder=folder,
        mesh=write_mesh(folder / "S01.msh"),
        white=write_surface(folder / "lh.white", white, triangles),
        pial=write_surface(folder / "lh.pial", pial, triangles),
        ba4a=write_label(folder / "lh.BA4a_exvivo.label", a, white),
        ba4p=write_label(folder / "lh.BA4p_exvivo.label", p, white),
        annot=write_annot(folder / "lh.BA_exvivo.annot", {"BA4a_exvivo": a, "BA4p_exvivo": p}, len(white)),
    )


def cortex_of(files: LabFiles) -> Cortex:
    return read_cortex(files.white, files.pial)


def subject_of(files: LabFiles, **options: Any) -> LabSubject:
    cortex = cortex_of(files)
    return lab_subject(
        read_head(files.mesh),
        cortex,
        read_area(cortex, [files.ba4a, files.ba4p]),
        **{"name": "S01", "notices": "made up for a test", **options},
    )


def true_field(points_mm: Floats) -> Floats:
    """Compute a smooth vector field, (n, 3) V/m, linear in the place, so that linear interpolation is exact."""
    return np.array([40.0, 20.0, 60.0]) + points_mm @ np.array([[0.2, 0.1, 0.0], [0.0, 0.3, -0.1], [0.1, 0.0, 0.2]])


def small_subject(subject: Subject, step: int = 7) -> Subject:
    """Keep every so-many-th voxel, for tests that need only some."""
    return replace(subject, voxel=np.ascontiguousarray(subject.voxel[::step]))

"""What stands where in an HDF5 file of SimNIBS' `tms_many_simulations`: the array of fields, and where its points are.

SimNIBS itself writes one array, under a name that the user chooses: (n_sims, n_roi, 3), or (n_sims, n_roi) where a
post-processing took magnitudes. Which elements the n_roi are stands in the file only where the user also saved the mesh
there (`mesh.write_hdf5`: groups `elm` and `nodes`) or points; otherwise the mesh must be given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError, FileFormatError
from rt_engine.field.coil import check_pose
from rt_engine.field.subject_file import Subject
from trainer.efield.head import GREY_MATTER, TISSUE_NAME, WHITE_MATTER
from trainer.importers.gmsh_file import GmshMesh
from trainer.importers.mesh_sampling import VoxelSampling, sample_elements, sample_nodes, sample_points

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_TRIANGLE, _TETRAHEDRON = 2, 4  # Gmsh's element types
_SURFACE_TAGS = 1000  # a triangle's tag is its tissue's plus this

_POINT_NAMES = ("roi_mm", "roi", "points_mm", "points", "positions", "coordinates", "node_coord")
"""How arrays of points are called, most specific first, where several have the right number of rows."""


@dataclass(frozen=True, eq=False)
class Layout:
    """What was found in a file.

    Attributes
    ----------
    dataset : str
        Name of the array of fields.
    sampling : VoxelSampling
        From its points to the voxels.
    where : str
        What its points are, in words.
    pose : numpy.ndarray or None
        (n, 4, 4) float64; coil poses, if the file has them.
    didt_a_per_s : numpy.ndarray or None
        (n,) float64, A/s; if the file has them.
    """

    dataset: str
    sampling: VoxelSampling
    where: str
    pose: Floats | None
    didt_a_per_s: Floats | None


def find_layout(
    file: h5py.File,
    path: Path,
    subject: Subject,
    *,
    dataset: str | None,
    mesh: GmshMesh | None,
    roi: Sequence[int] | None,
) -> Layout:
    """Find the array of fields and where its points are.

    Parameters
    ----------
    file : h5py.File
        The open file.
    path : Path
        Its name, for messages.
    subject : Subject
        The subject.
    dataset : str, optional
        Name of the array of fields, where several fit.
    mesh : GmshMesh, optional
        The head mesh that was simulated; the one in the file if not given.
    roi : sequence of int, optional
        The tissue tags that were given to SimNIBS as `roi`.

    Returns
    -------
    Layout
        Where everything is.

    Raises
    ------
    DataError
        No or several arrays fit, what the points are is not known or ambiguous, or too many voxels lie outside.
    FileFormatError
        The mesh in the file is damaged, or a pose in it is none.
    """
    arrays = {name: item for name, item in _datasets(file) if item.dtype.kind == "f"}
    mesh = mesh if mesh is not None else _mesh_in(file, path)
    points = {} if mesh is not None else {name: item for name, item in arrays.items() if _is_points(item)}
    sizes = (
        {n: [name for name, item in points.items() if len(item) == n] for n in {len(item) for item in points.values()}}
        if mesh is None
        else {n: [word for word, _ in columns] for n, columns in _columns(mesh, roi).items()}
    )
    fields = [
        name
        for name, item in arrays.items()
        if name not in points
        and _is_field(item)
        and (item.shape[1] in sizes if dataset is None else name == dataset.strip("/"))
    ]
    shapes = ", ".join(f"{name} {item.shape}" for name, item in arrays.items()) or "none"
    if dataset is not None and not fields:
        raise DataError(f"{path} has no array of fields {dataset!r}. Its arrays: {shapes}.")
    if not fields and mesh is None and not points:
        raise DataError(
            f"{path} does not say where its values are: it holds neither a mesh nor points. Its arrays: {shapes}. Give "
            "the head mesh that was simulated (.msh), and the roi if there was one."
        )
    if not fields:
        expected = ", ".join(str(n) for n in sorted(sizes))
        raise DataError(
            f"{path} has no array (n_sims, n_roi, 3) or (n_sims, n_roi) whose n_roi fits: expected one of {expected}. "
            f"Its arrays: {shapes}. Give the mesh that was simulated, and the roi (tissue tags) if there was one."
        )
    if len(fields) > 1:
        raise DataError(f"{path} has several arrays of fields: {', '.join(fields)}. Say which one is meant.")
    n_sims, n_points = arrays[fields[0]].shape[:2]
    if not n_sims:
        raise DataError(f"{path} has no simulations: {fields[0]} has the shape {arrays[fields[0]].shape}.")
    if n_points not in sizes:
        raise DataError(
            f"{fields[0]} of {path} has values at {n_points} points; the mesh or the points have "
            f"{', '.join(str(n) for n in sorted(sizes))}. Give the mesh that was simulated, and the roi if there "
            "was one."
        )
    if mesh is not None:
        sampling, where = _mesh_sampling(subject, mesh, roi, n_points, path)
    else:
        sampling, where = _point_sampling(subject, points, sizes[n_points], path)
    return Layout(fields[0], sampling, where, _poses(arrays, n_sims, path), _didt(arrays, n_sims))


def _columns(mesh: GmshMesh, roi: Sequence[int] | None) -> dict[int, list[tuple[str, Integers | None]]]:
    """List what an array of a length may be given on: by length, words and each tetrahedron's column (None: nodes).

    SimNIBS orders elements as the mesh has them, leaving out those whose tag is not in the roi.
    """
    place = np.concatenate([mesh.tetrahedron_place, mesh.triangle_place])
    tag = np.concatenate([mesh.tetrahedron_tag, mesh.triangle_tag])
    n_all = int(place.max(initial=-1)) + 1
    tag_at = np.full(n_all, -1, np.int64)
    tag_at[place] = tag
    kinds: list[tuple[str, npt.NDArray[np.bool_]]] = []
    if roi is not None:
        kinds.append((f"the elements with tags {list(roi)}", np.isin(tag_at, list(roi))))
    else:
        kinds.append(("all elements", np.ones(n_all, bool)))
        kinds.append(("all tetrahedra", (tag_at >= 0) & (tag_at < _SURFACE_TAGS)))
        kinds.append(("white and grey matter", np.isin(tag_at, (WHITE_MATTER, GREY_MATTER))))
        for one in np.unique(tag_at[tag_at >= 0]).tolist():
            kinds.append((f"{TISSUE_NAME.get(one, f'tag {one}')}", tag_at == one))
    by_length: dict[int, list[tuple[str, Integers | None]]] = {}
    masks: list[npt.NDArray[np.bool_]] = []
    for words, mask in kinds:
        if not mask.any() or any(np.array_equal(mask, other) for other in masks):
            continue
        masks.append(mask)
        column = np.where(mask, np.cumsum(mask) - 1, -1)
        by_length.setdefault(int(mask.sum()), []).append((words, column))
    if roi is None:
        by_length.setdefault(len(mesh.node), []).append(("the nodes", None))
    return by_length


def _mesh_sampling(
    subject: Subject, mesh: GmshMesh, roi: Sequence[int] | None, n_points: int, path: Path
) -> tuple[VoxelSampling, str]:
    fitting = _columns(mesh, roi)[n_points]
    if len(fitting) > 1:
        either = " or ".join(words for words, _ in fitting)
        raise DataError(
            f"The {n_points} values per simulation of {path} may belong to {either}. Say "
            "the roi (tissue tags) that was simulated."
        )
    words, column = fitting[0]
    if column is None:
        return sample_nodes(subject, mesh, path), words
    if len(mesh.tetrahedron) and (column[mesh.tetrahedron_place] >= 0).any():
        return sample_elements(subject, mesh, column[mesh.tetrahedron_place], "tetrahedra", path), words
    return sample_elements(subject, mesh, column[mesh.triangle_place], "triangles", path), words


def _point_sampling(
    subject: Subject, points: dict[str, h5py.Dataset], names: list[str], path: Path
) -> tuple[VoxelSampling, str]:
    if len(names) > 1:
        known = [name for word in _POINT_NAMES for name in names if name.rpartition("/")[2].lower() == word]
        if not known:
            raise DataError(
                f"{path} has several arrays of as many points: {', '.join(names)}. Call the right one roi_mm, or leave "
                "the others out."
            )
        names = known
    points_mm = np.asarray(points[names[0]][()], np.float64)
    if not np.isfinite(points_mm).all():
        raise DataError(f"{names[0]} of {path} holds points that are not finite numbers. Write the file again.")
    return sample_points(subject, points_mm, path), f"the points {names[0]}"


def _datasets(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """List the arrays that are no part of a saved mesh."""
    found: dict[str, h5py.Dataset] = {}
    file.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
    for name, item in found.items():
        if not {"elm", "nodes", "elmdata", "nodedata"} & set(name.split("/")[:-1]):
            yield name, item


def _mesh_in(file: h5py.File, path: Path) -> GmshMesh | None:
    """Read the mesh that SimNIBS saved in the file, if there is one."""
    groups: list[str] = []

    def collect(name: str, item: object) -> None:
        if isinstance(item, h5py.Group) and "elm/node_number_list" in item and "nodes/node_coord" in item:
            groups.append(name)

    file.visititems(collect)
    if "elm/node_number_list" in file and "nodes/node_coord" in file:
        groups.insert(0, "/")
    if not groups:
        return None
    if len(groups) > 1:
        raise DataError(f"{path} holds several meshes: {', '.join(groups)}. Give the one that was simulated as a .msh.")
    group = file[groups[0]]
    try:
        node = np.asarray(group["nodes/node_coord"][()], np.float64)
        corner = np.asarray(group["elm/node_number_list"][()], np.int64)
        kind = np.asarray(group["elm/elm_type"][()]).ravel()
        tag = np.asarray(group["elm/tag1"][()], np.int64).ravel()
    except KeyError as error:
        raise FileFormatError(
            f"The mesh in {path} is not whole ({error}). Save it again with mesh.write_hdf5."
        ) from error
    tetra, triangle = np.flatnonzero(kind == _TETRAHEDRON), np.flatnonzero(kind == _TRIANGLE)
    used = np.concatenate([corner[tetra].ravel(), corner[triangle, :3].ravel()]) if corner.ndim == 2 else corner
    if (
        node.ndim != 2
        or node.shape[1] != 3
        or corner.shape != (len(kind), 4)
        or tag.shape != kind.shape
        or not used.size
        or not 1 <= used.min() <= used.max() <= len(node)
        or not np.isfinite(node).all()
    ):
        raise FileFormatError(
            f"The mesh in {path} is damaged: nodes {node.shape}, elements {corner.shape}, {len(tag)} tags. Save it "
            "again with mesh.write_hdf5."
        )
    return GmshMesh(
        node=node,
        tetrahedron=corner[tetra] - 1,
        tetrahedron_tag=tag[tetra],
        triangle=corner[triangle, :3] - 1,
        triangle_tag=tag[triangle],
        tetrahedron_place=tetra,
        triangle_place=triangle,
        tetrahedron_data={},
        triangle_data={},
        node_data={},
    )


def _is_field(item: h5py.Dataset) -> bool:
    return item.ndim == 2 or (item.ndim == 3 and item.shape[2] == 3)


def _is_points(item: h5py.Dataset) -> bool:
    return item.ndim == 2 and item.shape[1] == 3 and len(item) > 3


def _poses(arrays: dict[str, h5py.Dataset], n_sims: int, path: Path) -> Floats | None:
    for name, item in arrays.items():
        if item.shape == (n_sims, 4, 4):
            pose = np.asarray(item[()], np.float64)
            for i, one in enumerate(pose):
                try:
                    check_pose(one)
                except DataError as error:
                    raise FileFormatError(f"{name} of {path}, simulation {i + 1}: {error}") from error
            return pose
    return None


def _didt(arrays: dict[str, h5py.Dataset], n_sims: int) -> Floats | None:
    for name, item in arrays.items():
        if name.rpartition("/")[2].lower() in ("didt", "didt_list", "didt_a_per_s") and item.shape == (n_sims,):
            return np.asarray(item[()], np.float64)
    return None

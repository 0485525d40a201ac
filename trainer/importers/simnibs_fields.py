"""E-fields that SimNIBS computed on a mesh: one `.msh` per coil position, or many simulations in one HDF5 file.

Values are for the dI/dt of the simulation, in V/m; how they reach the voxels is told in `mesh_sampling`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from rt_engine.edges.foreign_files import try_foreign_hdf5
from rt_engine.errors import DataError, FileFormatError
from rt_engine.field.subject_file import Subject
from trainer.importers.field_table import FieldTable, make_field_table
from trainer.importers.gmsh_file import GmshMesh, read_gmsh
from trainer.importers.mesh_sampling import VoxelSampling, sample_elements, sample_nodes
from trainer.importers.simnibs_hdf5 import Layout, find_layout

Floats = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]

FIELD_NAMES = ("E", "magnE", "normE", "E_magn", "E_norm")
"""How SimNIBS calls the field: vectors; magnitude in versions 4 and 3; the same on surfaces."""

_BYTES_AT_ONCE = 64 * 2**20


def read_many_simulations(
    path: str | Path,
    subject: Subject,
    *,
    dataset: str | None = None,
    mesh: str | Path | None = None,
    roi: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> FieldTable:
    """Read the fields that SimNIBS' `tms_many_simulations` wrote.

    Parameters
    ----------
    path : str or Path
        The HDF5 file, with an array (n_sims, n_roi, 3) of vectors or (n_sims, n_roi) of magnitudes.
    subject : Subject
        On whose voxels the fields are wanted; in the space of the mesh.
    dataset : str, optional
        Name of the array, where several fit.
    mesh : str or Path, optional
        The head mesh that was simulated (`.msh`), where the file holds neither a mesh nor points.
    roi : sequence of int, optional
        The tissue tags that were given to SimNIBS as `roi`, where the number of values does not tell.
    progress : callable, optional
        Called with simulations done and in all.

    Returns
    -------
    FieldTable
        One row per simulation, labelled by its number, counted from 1; poses and dI/dt where the file has an array
        (n_sims, 4, 4) and one called `didt`.

    Raises
    ------
    FileFormatError
        No such file, no HDF5, truncated or damaged.
    DataError
        Nothing fits, values are no E-fields in V/m, simulations that did not finish, or too many voxels outside.
    """
    path = Path(path)
    if not path.is_file():
        raise FileFormatError(f"There is no file {path}; expected an HDF5 file of SimNIBS. Check the path.")
    head = None if mesh is None else read_gmsh(mesh)
    try_foreign_hdf5(path)
    try:
        with h5py.File(path, "r") as file:
            layout = find_layout(file, path, subject, dataset=dataset, mesh=head, roi=roi)
            magnitude = _magnitudes(file[layout.dataset], layout, subject.n_voxels, progress)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise FileFormatError(
            f"{path} cannot be read as an HDF5 file of SimNIBS ({error}). It is truncated, damaged, or of another "
            "kind: copy it again."
        ) from error
    zero = np.flatnonzero(~magnitude.any(axis=1)) + 1
    if len(zero):
        raise DataError(
            f"{len(zero)} of the {len(magnitude)} simulations in {path} hold zeros only (first: number {zero[0]}). "
            "SimNIBS fills them one by one, so this run did not finish. Run it again."
        )
    return make_field_table(
        subject,
        magnitude,
        tuple(str(i + 1) for i in range(len(magnitude))),
        f"{path.name}, {layout.dataset} on {layout.where} (SimNIBS, many simulations)",
        pose=layout.pose,
        didt_a_per_s=layout.didt_a_per_s,
        n_outside=layout.sampling.n_outside,
    )


def read_field_meshes(paths: Sequence[str | Path], subject: Subject, *, progress: Progress | None = None) -> FieldTable:
    """Read the fields of result meshes, one coil position each.

    Parameters
    ----------
    paths : sequence of str or Path
        `.msh` files with `E`, or its magnitude (`magnE`, `normE`; on surfaces `E_magn`, `E_norm`), on elements or
        nodes.
    subject : Subject
        On whose voxels the fields are wanted; in the space of the meshes.
    progress : callable, optional
        Called with files done and in all.

    Returns
    -------
    FieldTable
        One row per file, in the order given, labelled by the file's name without its ending.

    Raises
    ------
    FileFormatError
        A file is missing, damaged, truncated, or no Gmsh mesh.
    DataError
        No file is given, one has no such field, values are no E-fields in V/m, or too many voxels lie outside.
    """
    if not paths:
        raise DataError("No meshes with fields were given; expected one .msh file per coil position.")
    rows = np.empty((len(paths), subject.n_voxels))
    names, n_outside = set(), 0
    known: tuple[GmshMesh, str, VoxelSampling] | None = None
    for i, path in enumerate(map(Path, paths)):
        mesh = read_gmsh(path)
        name, where, values = _field_of(mesh, path)
        # All positions on one head share its mesh, and finding the voxels in it takes longest.
        if known is None or known[1] != where or not _same_mesh(known[0], mesh):
            known = mesh, where, _sampling(subject, mesh, where, path)
        rows[i] = known[2].magnitude(values)
        names.add(f"{name} on {where}")
        n_outside = max(n_outside, known[2].n_outside)
        if progress is not None:
            progress(i + 1, len(paths))
    return make_field_table(
        subject,
        rows,
        tuple(Path(path).stem for path in paths),
        f"{len(paths)} meshes with {', '.join(sorted(names))} (SimNIBS), the first {Path(paths[0]).name}",
        n_outside=n_outside,
    )


def _magnitudes(item: h5py.Dataset, layout: Layout, n_voxels: int, progress: Progress | None) -> Floats:
    n_sims = item.shape[0]
    magnitude = np.empty((n_sims, n_voxels))
    # Whole chunks, or each would be unpacked again for every simulation in it.
    chunk = item.chunks[0] if item.chunks else 1
    row_bytes = item.dtype.itemsize * int(np.prod(item.shape[1:]))
    step = max(chunk, _BYTES_AT_ONCE // max(row_bytes, 1) // chunk * chunk, 1)
    for start in range(0, n_sims, step):
        block = np.asarray(item[start : start + step], np.float64)
        for i, values in enumerate(block, start):
            magnitude[i] = layout.sampling.magnitude(values)
        if progress is not None:
            progress(start + len(block), n_sims)
    return magnitude


def _field_of(mesh: GmshMesh, path: Path) -> tuple[str, str, Floats]:
    """Find the field: its name, what it is given on, its values."""
    places = (
        ("tetrahedra", mesh.tetrahedron_data if len(mesh.tetrahedron) else {}),
        ("nodes", mesh.node_data),
        ("triangles", mesh.triangle_data if not len(mesh.tetrahedron) else {}),
    )
    for name in FIELD_NAMES:
        for where, data in places:
            if name in data:
                values = data[name]
                if values.ndim == 1 or values.shape[1] == 3:
                    return name, where, values
                raise DataError(f"{name} of {path} has {values.shape[1]} components; expected 3, or a magnitude.")
    there = sorted({name for _, data in places for name in data})
    raise DataError(
        f"{path} has no E-field: expected one of {', '.join(FIELD_NAMES)}; it has {', '.join(there) or 'no fields'}. "
        "Give the results of a SimNIBS simulation with fields 'E' or 'e' (magnitude)."
    )


def _sampling(subject: Subject, mesh: GmshMesh, where: str, path: Path) -> VoxelSampling:
    if where == "nodes":
        return sample_nodes(subject, mesh, path)
    if where == "tetrahedra":
        return sample_elements(subject, mesh, np.arange(len(mesh.tetrahedron)), "tetrahedra", path)
    return sample_elements(subject, mesh, np.arange(len(mesh.triangle)), "triangles", path)


def _same_mesh(one: GmshMesh, other: GmshMesh) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("node", "tetrahedron", "tetrahedron_tag", "triangle")
    )

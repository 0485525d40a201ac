"""One door to all files with E-fields that others computed: which reader they need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rt_engine.errors import DataError
from rt_engine.field.subject_file import Subject
from trainer.importers.field_table import FieldTable

Progress = Callable[[int, int], None]


def read_fields(
    paths: Sequence[str | Path],
    subject: Subject,
    *,
    mesh: str | Path | None = None,
    dataset: str | None = None,
    roi: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> FieldTable:
    """Read E-fields onto a subject's voxels.

    Parameters
    ----------
    paths : sequence of str or Path
        One HDF5 file of SimNIBS' many simulations, or one `.msh`, or one NIfTI volume per coil position, in order.
    subject : Subject
        The subject.
    mesh : str or Path, optional
        The head mesh, for HDF5 files that do not say where their points are.
    dataset : str, optional
        The array in the HDF5 file, where several fit.
    roi : sequence of int, optional
        The tissue tags that were SimNIBS' `roi`, where the HDF5 file's number of values does not tell.
    progress : callable, optional
        Told of what is done.

    Returns
    -------
    FieldTable

    Raises
    ------
    DataError
        Files of several kinds, or of another kind; and what the readers raise.
    """
    kinds = {_kind(Path(path)) for path in paths}
    if len(kinds) != 1:
        raise DataError(
            f"The fields are files of several kinds ({', '.join(sorted(kinds)) or 'none'}); expected one kind."
        )
    kind = kinds.pop()
    if kind == "hdf5":
        from trainer.importers.simnibs_fields import read_many_simulations

        if len(paths) != 1:
            raise DataError(f"{len(paths)} HDF5 files with fields; expected one with all coil positions.")
        return read_many_simulations(paths[0], subject, mesh=mesh, dataset=dataset, roi=roi, progress=progress)
    if kind == "msh":
        from trainer.importers.simnibs_fields import read_field_meshes

        return read_field_meshes(paths, subject, progress=progress)
    from trainer.importers.nifti_fields import read_field_volumes

    return read_field_volumes(paths, subject, progress=progress)


def _kind(path: Path) -> str:
    name = path.name.lower()
    for ends, kind in (((".h5", ".hdf5"), "hdf5"), ((".msh",), "msh"), ((".nii", ".nii.gz"), "nifti")):
        if name.endswith(ends):
            return kind
    raise DataError(f"{path}: expected fields in .hdf5, .msh, .nii or .nii.gz.")

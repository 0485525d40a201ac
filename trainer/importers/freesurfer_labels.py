"""Which vertices of a cortex surface belong to an area: FreeSurfer `.label` and `.annot`, GIFTI `.label.gii`."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError, FileFormatError
from trainer.importers.freesurfer import Cortex, agreed_hemisphere, hemisphere_of_name, is_gifti, nibabel_module

Marks = npt.NDArray[np.bool_]

OFF_SURFACE_MM = 10.0
"""A label whose own coordinates are farther than this from its vertices (median) is of another surface."""

_NO_AREA = {"???", "unknown", "medial_wall", "medialwall", "none", "background", ""}
"""How files call what belongs to no area."""


def read_area(
    cortex: Cortex,
    labels: Sequence[str | Path] = (),
    annotation: str | Path | None = None,
    areas: Sequence[str] = (),
) -> Marks:
    """Mark the vertices that belong to an area, the union of all that is named.

    Parameters
    ----------
    cortex : Cortex
        The surfaces.
    labels : sequence of str or Path
        `.label` files such as `lh.BA4a_exvivo.label` and `lh.BA4p_exvivo.label`, or `.label.gii` files with one area.
    annotation : str or Path, optional
        An annotation, `.annot` or `.label.gii`.
    areas : sequence of str
        Names in the annotation.

    Returns
    -------
    numpy.ndarray
        (P,) bool.

    Raises
    ------
    FileFormatError
        A file is missing, damaged or truncated.
    DataError
        Nothing is named, an area is empty or does not exist (the names that exist are told), or a file is of the other
        hemisphere or of another surface.
    """
    if not labels and annotation is None:
        raise DataError(
            "No area is named. Give labels (lh.BA4a_exvivo.label and lh.BA4p_exvivo.label), or an annotation and the "
            "name of an area in it."
        )
    if annotation is None and areas:
        raise DataError(f"The area {areas[0]!r} is named, but no annotation to look it up in; give one.")
    paths = [Path(path) for path in labels] + ([] if annotation is None else [Path(annotation)])
    for path in paths:
        if not path.is_file():
            raise FileFormatError(f"There is no file {path}; expected a label or an annotation. Check the path.")
        agreed_hemisphere([(path, hemisphere_of_name(path))], cortex.hemisphere)
    chosen = np.zeros(len(cortex.white_mm), bool)
    for path in paths[: len(labels)]:
        chosen |= _only_area(path, cortex) if is_gifti(path) else _read_label(path, cortex)
    if annotation is not None:
        chosen |= _read_annotation(paths[-1], areas, cortex)
    return chosen


def _read_label(path: Path, cortex: Cortex) -> Marks:
    """Read a `.label`: a comment, the number of lines, then vertex, x, y, z and a value per line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path} cannot be read as a FreeSurfer label ({error}).") from error
    try:
        n_lines = int(lines[1])
        rows = np.array([[float(word) for word in line.split()[:4]] for line in lines[2:] if line.strip()])
    except (IndexError, ValueError) as error:
        raise FileFormatError(
            f"{path} is no FreeSurfer label ({error}). Expected a comment, the number of vertices, then one line per "
            "vertex: number, x, y, z, value."
        ) from error
    if len(rows) != n_lines or (n_lines and rows.shape != (n_lines, 4)):
        raise FileFormatError(f"{path} is truncated or damaged: it announces {n_lines} vertices and has {len(rows)}.")
    if not np.isfinite(rows).all() or (n_lines and np.abs(rows[:, 0]).max() > np.iinfo(np.int32).max):
        raise FileFormatError(f"{path} is damaged: it holds numbers that cannot be vertices or places. Write it again.")
    if not n_lines:
        raise DataError(f"The label {path} is empty. Give one with vertices, or leave it out.")
    vertex = rows[:, 0].astype(np.int64)
    if (vertex == -1).all():
        raise DataError(
            f"The label {path} is of a volume, not of a surface: it names no vertices. Give a surface label."
        )
    n_vertices = len(cortex.white_mm)
    if vertex.min() < 0 or vertex.max() >= n_vertices:
        raise DataError(
            f"The label {path} names vertices {vertex.min()} to {vertex.max()}; the surface has {n_vertices}, counted "
            "from 0. It is of the other hemisphere, or of another subject."
        )
    _check_coordinates(path, vertex, rows[:, 1:], cortex)
    return _marks(vertex, n_vertices)


def _check_coordinates(
    path: Path, vertex: npt.NDArray[np.int64], said_mm: npt.NDArray[np.float64], cortex: Cortex
) -> None:
    """Compare a label's own coordinates with its vertices, in tkRAS and in scanner RAS."""
    if not said_mm.any():
        return  # some programs leave them out
    scanner_mm = said_mm @ cortex.from_tkras[:3, :3].T + cortex.from_tkras[:3, 3]
    middle_mm = (cortex.white_mm[vertex] + cortex.pial_mm[vertex]) / 2
    off_mm = min(float(np.median(np.linalg.norm(one - middle_mm, axis=1))) for one in (said_mm, scanner_mm))
    if off_mm <= OFF_SURFACE_MM:
        return
    center_x = float(cortex.pial_mm[:, 0].mean())
    inward = 1.0 if cortex.hemisphere == "left" else -1.0
    far_side = bool(inward * (np.median(scanner_mm[:, 0]) - center_x) > 25.0)
    whose = "the other hemisphere" if far_side else "another subject, or on another surface (inflated?)"
    raise DataError(
        f"The label {path} gives its vertices coordinates that lie {off_mm:.0f} mm from where the {cortex.hemisphere} "
        f"surface has them (median): it is of {whose}. Expected a label with coordinates on this subject's white "
        "surface."
    )


def _read_annotation(path: Path, areas: Sequence[str], cortex: Cortex) -> Marks:
    names, key_of_vertex = _gifti_labels(path) if is_gifti(path) else _annot_labels(path)
    _check_count(path, key_of_vertex, cortex)
    chosen = np.zeros(len(cortex.white_mm), bool)
    if not areas:
        raise DataError(f"No area of {path} is named. It has: {', '.join(sorted(names))}.")
    for area in areas:
        if area not in names:
            near = difflib.get_close_matches(area, names, n=len(names), cutoff=0.0)
            raise DataError(f"{path} has no area {area!r}. It has, nearest first: {', '.join(near)}.")
        in_area = key_of_vertex == names[area]
        if not in_area.any():
            raise DataError(f"The area {area!r} of {path} is empty: no vertex belongs to it. Choose another.")
        chosen |= in_area
    return chosen


def _only_area(path: Path, cortex: Cortex) -> Marks:
    """Read a `.label.gii` that holds a single area."""
    names, key_of_vertex = _gifti_labels(path)
    _check_count(path, key_of_vertex, cortex)
    used = {name: key for name, key in names.items() if (key_of_vertex == key).any() and name.lower() not in _NO_AREA}
    if not used:
        raise DataError(f"The label {path} is empty: no vertex belongs to any area. Give one with vertices.")
    if len(used) > 1:
        raise DataError(
            f"{path} holds {len(used)} areas ({', '.join(sorted(used))}). Give it as the annotation, and name the area."
        )
    return key_of_vertex == next(iter(used.values()))


def _annot_labels(path: Path) -> tuple[dict[str, int], npt.NDArray[np.int64]]:
    """Read an `.annot`: keys by name, and each vertex' key."""
    nibabel = nibabel_module()
    try:
        keys, table, names = nibabel.freesurfer.read_annot(path, orig_ids=True)
        words = [name.decode().strip("\0 ") for name in names]
    except Exception as error:  # whatever nibabel's parsing trips over in a damaged file
        raise FileFormatError(
            f"{path} cannot be read as a FreeSurfer annotation ({type(error).__name__}: {error}). Expected a whole "
            ".annot file with a colour table."
        ) from error
    if len(words) != len(table):
        raise FileFormatError(
            f"{path} has {len(words)} names for {len(table)} colours, so which belongs to which cannot be told. Give "
            "the area as a .label file (mri_annotation2label)."
        )
    return dict(zip(words, table[:, 4].tolist(), strict=True)), np.asarray(keys, np.int64)


def _gifti_labels(path: Path) -> tuple[dict[str, int], npt.NDArray[np.int64]]:
    """Read a `.label.gii`: keys by name, and each vertex' key."""
    nibabel = nibabel_module()
    try:
        image = nibabel.GiftiImage.from_filename(path)
        data = [array.data for array in image.darrays]
        names = {str(label.label).strip(): int(label.key) for label in image.labeltable.labels}
    except Exception as error:  # whatever nibabel's parsing trips over in a damaged file
        raise FileFormatError(f"{path} cannot be read as a GIFTI label ({type(error).__name__}: {error}).") from error
    if len(data) != 1 or data[0].ndim != 1 or not names:
        raise FileFormatError(
            f"{path} holds {len(data)} arrays and {len(names)} names; expected one array with a number per vertex and "
            "a table of names (*.label.gii)."
        )
    return names, np.asarray(data[0]).astype(np.int64)


def _check_count(path: Path, key_of_vertex: npt.NDArray[np.int64], cortex: Cortex) -> None:
    if len(key_of_vertex) != len(cortex.white_mm):
        raise DataError(
            f"{path} has values for {len(key_of_vertex)} vertices, the surface has {len(cortex.white_mm)}. It is of "
            "the other hemisphere, or of another subject."
        )


def _marks(vertex: npt.NDArray[np.int64], n_vertices: int) -> Marks:
    marks = np.zeros(n_vertices, bool)
    marks[vertex] = True
    return marks

"""One hemisphere's white and pial surface, from FreeSurfer's own files or GIFTI, in scanner space.

FreeSurfer keeps surfaces in "tkRAS", whose origin is the middle of the MRI volume; head meshes and coils are in scanner
RAS. What takes one to the other stands in the surface file, or in the MRI it was made from. Labels on the surfaces are
the business of `freesurfer_labels`.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError, FileFormatError

Floats = npt.NDArray[np.float64]
Triangles = npt.NDArray[np.int32]
Hemisphere = Literal["left", "right"]

EXTENT_MM = (60.0, 300.0)
"""Largest extent of a hemisphere, mm: from a cropped child's to any adult's."""

THICKNESS_MM = (0.3, 8.0)
"""Median distance between the white and the pial surface, mm; human cortex has 1 to 4.5 (Fischl & Dale 2000, PNAS
97:11050)."""

SAME_PLACE_MM = 0.5
"""How far two statements about where tkRAS lies may be apart, mm."""

_SIMNIBS_DUMMY_MM = 1.5
"""SimNIBS' GIFTI surfaces are in scanner RAS but carry an invented centre, (0, 1, 0) mm, which must not be added."""

_CONFORMED_AXES = ("L", "I", "A")
"""Where the voxel axes of FreeSurfer's conformed volumes point."""

_UNKNOWN_SPACE, _SCANNER_SPACE = 0, 1  # NIFTI_XFORM_UNKNOWN, NIFTI_XFORM_SCANNER_ANAT

_SIDES: tuple[tuple[re.Pattern[str], Hemisphere], ...] = (
    (re.compile(r"(^|[._-])(lh|hemi-l|l|left)([._-])", re.IGNORECASE), "left"),
    (re.compile(r"(^|[._-])(rh|hemi-r|r|right)([._-])", re.IGNORECASE), "right"),
)


@dataclass(frozen=True, eq=False)
class Cortex:
    """One hemisphere's cortex between its two surfaces.

    Attributes
    ----------
    white_mm, pial_mm : numpy.ndarray
        (P, 3) float64, mm, scanner RAS; vertex i of one faces vertex i of the other.
    triangles : numpy.ndarray
        (T, 3) int32; of both, counter-clockwise seen from outside.
    hemisphere : {"left", "right"}
        Which.
    from_tkras : numpy.ndarray
        (4, 4) float64; tkRAS to scanner RAS, mm; the identity where the files are in scanner RAS.
    """

    white_mm: Floats
    pial_mm: Floats
    triangles: Triangles
    hemisphere: Hemisphere
    from_tkras: Floats


def read_cortex(
    white: str | Path, pial: str | Path, *, hemisphere: Hemisphere | None = None, t1: str | Path | None = None
) -> Cortex:
    """Read a hemisphere's white and pial surface.

    Parameters
    ----------
    white, pial : str or Path
        FreeSurfer surfaces (`lh.white`, `lh.pial`) or GIFTI (`.surf.gii`, `.gii`).
    hemisphere : {"left", "right"}, optional
        Which one; needed where the files' names and metadata do not say it.
    t1 : str or Path, optional
        The MRI that FreeSurfer made the surfaces from (`orig.mgz`, or its NIfTI copy), where the surfaces do not say
        where their volume lies; where they do, it must agree.

    Returns
    -------
    Cortex
        In scanner RAS.

    Raises
    ------
    FileFormatError
        A file is missing, damaged, truncated, or no surface.
    DataError
        The hemispheres disagree or are not known, the two surfaces do not belong together or are swapped, they are not
        in mm, or where tkRAS lies is not known.
    """
    volume = None if t1 is None else _tkras_of_volume(Path(t1))
    inner, outer = (_read_surface(Path(path), volume) for path in (white, pial))
    side = agreed_hemisphere([(Path(white), inner.side), (Path(pial), outer.side)], hemisphere)
    if inner.vertices.shape != outer.vertices.shape or not np.array_equal(inner.triangles, outer.triangles):
        raise DataError(
            f"{white} has {len(inner.vertices)} vertices and {len(inner.triangles)} triangles, {pial} "
            f"{len(outer.vertices)} and {len(outer.triangles)}, and their triangles must be the same: give the white "
            "and the pial surface of one hemisphere of one subject."
        )
    if np.abs(inner.to_scanner - outer.to_scanner).max() > SAME_PLACE_MM:
        raise DataError(
            f"{white} and {pial} state different places of their MRI volume: centres at "
            f"{_rounded(inner.to_scanner[:3, 3])} and {_rounded(outer.to_scanner[:3, 3])} mm. "
            "Give two surfaces of one run."
        )
    white_mm, pial_mm = (_moved(one.vertices, one.to_scanner) for one in (inner, outer))
    _check_ribbon(Path(white), Path(pial), white_mm, pial_mm)
    triangles = inner.triangles.astype(np.int32)
    volumes = [_enclosed_volume(points, triangles) for points in (white_mm, pial_mm)]
    if abs(volumes[0]) > abs(volumes[1]):
        raise DataError(
            f"The white surface {white} encloses {abs(volumes[0]) / 1000:.0f} ml, more than the pial one with "
            f"{abs(volumes[1]) / 1000:.0f} ml ({pial}). Are the two swapped?"
        )
    if volumes[1] < 0:
        triangles = np.ascontiguousarray(triangles[:, ::-1])
    return Cortex(white_mm, pial_mm, triangles, side, inner.to_scanner)


def hemisphere_of_name(path: Path) -> Hemisphere | None:
    """Tell the hemisphere from a file's name: `lh.white`, `sub-01_hemi-L_white.surf.gii`, `S1.L.pial.surf.gii`."""
    prefix = path.name[:3].lower()
    if prefix in ("lh.", "rh."):
        return "left" if prefix == "lh." else "right"
    sides = [side for pattern, side in _SIDES if pattern.search(path.name)]
    return sides[0] if len(sides) == 1 else None


def is_gifti(path: Path) -> bool:
    """Tell GIFTI from FreeSurfer's own formats by the file's name."""
    return path.name.lower().endswith((".gii", ".gii.gz"))


def agreed_hemisphere(files: list[tuple[Path, Hemisphere | None]], given: Hemisphere | None) -> Hemisphere:
    """Find the hemisphere that all files are of.

    Parameters
    ----------
    files : list of (Path, hemisphere or None)
        Files, and what each says itself.
    given : {"left", "right"} or None
        What the user says.

    Returns
    -------
    {"left", "right"}
        The hemisphere.

    Raises
    ------
    DataError
        They disagree, or nobody says.
    """
    said = [(f"{path.name} is of the {side} hemisphere", side) for path, side in files if side is not None]
    if given is not None:
        said.insert(0, (f"the hemisphere was given as {given}", given))
    sides = {side for _, side in said}
    if len(sides) > 1:
        raise DataError(
            f"The hemispheres disagree: {'; '.join(text for text, _ in said)}. Give surfaces and labels of one "
            "hemisphere."
        )
    if not sides:
        raise DataError(
            f"Neither names nor metadata of {', '.join(path.name for path, _ in files)} say which hemisphere they are "
            "of. Give it: left or right."
        )
    return sides.pop()


@dataclass(frozen=True, eq=False)
class _Surface:
    """A surface as its file has it, with the matrix that takes it to scanner RAS."""

    vertices: Floats
    triangles: npt.NDArray[Any]
    to_scanner: Floats
    side: Hemisphere | None


def _read_surface(path: Path, volume: Floats | None) -> _Surface:
    if not path.is_file():
        raise FileFormatError(
            f"There is no file {path}; expected a surface such as lh.white or lh.pial. Check the path."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of missing volume information, which is dealt with below
            found = _read_gifti(path) if is_gifti(path) else _read_geometry(path)
    except (FileFormatError, DataError):
        raise
    except Exception as error:  # whatever nibabel's parsing trips over in a damaged file
        raise FileFormatError(
            f"{path} cannot be read as a {'GIFTI' if is_gifti(path) else 'FreeSurfer'} surface "
            f"({type(error).__name__}: {error}). Expected a whole file such as lh.white, lh.pial or *.surf.gii."
        ) from error
    vertices, triangles, stated, side = found
    if not len(vertices) or not len(triangles) or not 0 <= triangles.min() <= triangles.max() < len(vertices):
        raise FileFormatError(
            f"{path} is no whole surface: {len(vertices)} vertices, and {len(triangles)} triangles that must name them."
        )
    n_wrong = int((~np.isfinite(vertices).all(axis=1)).sum())
    if n_wrong:
        raise FileFormatError(
            f"{n_wrong} of the {len(vertices)} vertices in {path} are not finite numbers. Make it again."
        )
    extent = float(np.ptp(vertices, axis=0).max())
    if not EXTENT_MM[0] <= extent <= EXTENT_MM[1]:
        hint = " Is it in metres?" if EXTENT_MM[0] <= 1000 * extent <= EXTENT_MM[1] else ""
        raise DataError(
            f"The surface {path} extends over {extent:.4g} in its longest direction; a hemisphere in mm has "
            f"{EXTENT_MM[0]:g} to {EXTENT_MM[1]:g}.{hint} Give surfaces in mm, as FreeSurfer and SimNIBS write them."
        )
    if stated is None:
        if volume is None:
            raise DataError(
                f"{path} does not say where its MRI volume lies, so its tkRAS coordinates cannot be brought to scanner "
                "RAS. Give the volume that FreeSurfer made it from, mri/orig.mgz (--t1)."
            )
        stated = volume
    elif (
        volume is not None and not np.array_equal(stated, np.eye(4)) and (np.abs(volume - stated).max() > SAME_PLACE_MM)
    ):
        raise DataError(
            f"{path} states the centre of its MRI volume at {_rounded(stated[:3, 3])} mm, the given T1 has it at "
            f"{_rounded(volume[:3, 3])} mm. Give mri/orig.mgz of the same FreeSurfer run, or none."
        )
    return _Surface(vertices, triangles, stated, hemisphere_of_name(path) or side)


def _read_geometry(path: Path) -> tuple[Floats, npt.NDArray[Any], Floats | None, None]:
    """Read a FreeSurfer surface; the matrix is None where the file does not state its volume."""
    vertices, triangles, info = nibabel_module().freesurfer.read_geometry(path, read_metadata=True)
    if not str(info.get("valid", "0")).strip().startswith("1"):
        return vertices, triangles, None, None
    axes = np.column_stack([info["xras"], info["yras"], info["zras"]]) * info["voxelsize"]
    return vertices, triangles, _tkras_to_scanner(axes, info["volume"], info["voxelsize"], info["cras"]), None


def _read_gifti(path: Path) -> tuple[Floats, npt.NDArray[Any], Floats | None, Hemisphere | None]:
    """Read a GIFTI surface; what its space is has to be gathered from three places in the file."""
    image = nibabel_module().GiftiImage.from_filename(path)
    points = image.get_arrays_from_intent("NIFTI_INTENT_POINTSET")
    faces = image.get_arrays_from_intent("NIFTI_INTENT_TRIANGLE")
    if len(points) != 1 or len(faces) != 1:
        raise FileFormatError(
            f"{path} holds {len(points)} sets of points and {len(faces)} of triangles; expected one of each: a GIFTI "
            "surface (*.surf.gii)."
        )
    meta = {**dict(image.meta), **dict(points[0].meta)}
    structure = meta.get("AnatomicalStructurePrimary", "")
    side: Hemisphere | None = "left" if structure.endswith("Left") else "right" if structure.endswith("Right") else None
    to_scanner = np.eye(4)
    space = points[0].coordsys
    if space is not None and space.dataspace == _UNKNOWN_SPACE:
        center = np.array([float(meta.get(f"VolGeomC_{axis}", 0.0)) for axis in "RAS"])
        if space.xformspace == _SCANNER_SPACE:
            to_scanner = np.asarray(space.xform, np.float64).reshape(4, 4)
        elif np.linalg.norm(center) > _SIMNIBS_DUMMY_MM:
            # FreeSurfer before version 7: coordinates in tkRAS, their volume told in the metadata only.
            to_scanner[:3, 3] = center
    return points[0].data.astype(np.float64), faces[0].data.astype(np.int64), to_scanner, side


def _tkras_to_scanner(axes: Floats, shape: Any, voxel_mm: Any, center_mm: Any) -> Floats:
    """Make the matrix from tkRAS to scanner RAS.

    tkRAS has its origin in the middle of the volume, x against the first voxel axis, z against the second, y along
    the third, as if the volume were "conformed".

    Parameters
    ----------
    axes
        (3, 3); the steps from voxel to voxel along the three axes, in columns, mm.
    shape, voxel_mm
        (3,); the volume's voxels and their sizes.
    center_mm
        (3,); the volume's middle (voxel shape / 2) in scanner RAS.
    """
    size = np.asarray(voxel_mm, np.float64)
    middle = np.asarray(shape, np.float64)[:3] / 2
    to_scanner, to_tkras = np.eye(4), np.eye(4)
    to_scanner[:3, :3] = axes
    to_scanner[:3, 3] = np.asarray(center_mm, np.float64) - axes @ middle
    to_tkras[:3, :3] = np.array([[-size[0], 0, 0], [0, 0, size[2]], [0, -size[1], 0]])
    to_tkras[:3, 3] = -to_tkras[:3, :3] @ middle
    return to_scanner @ np.linalg.inv(to_tkras)


def _tkras_of_volume(path: Path) -> Floats:
    if not path.is_file():
        raise FileFormatError(f"There is no file {path}; expected the MRI of the surfaces, such as mri/orig.mgz.")
    nibabel = nibabel_module()
    try:
        image = nibabel.load(path)
        affine = np.asarray(image.affine, np.float64)
        shape = image.shape
    except DataError:
        raise
    except Exception as error:  # whatever nibabel's parsing trips over in a damaged file
        raise FileFormatError(
            f"{path} cannot be read as an MRI ({error}). Expected mri/orig.mgz or a NIfTI."
        ) from error
    if len(shape) < 3 or affine.shape != (4, 4) or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise FileFormatError(f"{path} is no volume in space: shape {shape}. Expected mri/orig.mgz or a NIfTI of it.")
    axes = affine[:3, :3]
    center_mm = axes @ (np.array(shape[:3]) / 2) + affine[:3, 3]
    if nibabel.aff2axcodes(affine) == _CONFORMED_AXES:
        return _tkras_to_scanner(axes, shape, np.linalg.norm(axes, axis=0), center_mm)
    # The scanner's own volume: recon-all resamples it to its own axes about the same middle.
    to_scanner = np.eye(4)
    to_scanner[:3, 3] = center_mm
    return to_scanner


def _check_ribbon(white: Path, pial: Path, white_mm: Floats, pial_mm: Floats) -> None:
    thickness_mm = float(np.median(np.linalg.norm(white_mm - pial_mm, axis=1)))
    if not THICKNESS_MM[0] <= thickness_mm <= THICKNESS_MM[1]:
        why = (
            "Is it the same file twice?"
            if thickness_mm < THICKNESS_MM[0]
            else "Are they of one subject and in one space?"
        )
        raise DataError(
            f"{white} and {pial} are {thickness_mm:.2g} mm apart (median over the vertices); cortex has "
            f"{THICKNESS_MM[0]:g} to {THICKNESS_MM[1]:g}. {why}"
        )


def _enclosed_volume(points_mm: Floats, triangles: Triangles) -> float:
    """Volume inside a closed surface, mm^3; negative where its triangles turn clockwise seen from outside."""
    a, b, c = np.moveaxis((points_mm - points_mm.mean(axis=0))[triangles], 1, 0)
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def _moved(points: Floats, matrix: Floats) -> Floats:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _rounded(point: Floats) -> list[float]:
    return [round(float(value), 1) for value in point]


def nibabel_module() -> ModuleType:
    """Import nibabel, or say what to install."""
    try:
        import nibabel
    except ImportError as error:
        raise DataError("Reading surfaces and MRI files needs nibabel. Install m2m-live[train].") from error
    return nibabel

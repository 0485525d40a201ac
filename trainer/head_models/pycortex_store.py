"""Reads the subject S1 of pycortex: surfaces, T1 image, and the regions drawn on its flat map.

From the package's source archive, which carries S1, or from the folder of an installed pycortex. Nothing of pycortex
itself is imported.
"""

from __future__ import annotations

import gzip
import re
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError, FileFormatError

Floats = npt.NDArray[np.float64]
Triangles = npt.NDArray[np.int32]

HOW_TO_GET = (
    "Get pycortex's source archive with: pip download --no-deps --no-binary :all: pycortex==1.4.0  (70 MB, into "
    "pycortex-1.4.0.tar.gz) and give it with --archive; or give the folder db/S1 of an installed pycortex's filestore."
)
"""Said wherever the data are missing."""

MEMBERS = {
    "anatomy": "anatomicals/raw.nii.gz",
    "overlays": "overlays.svg",
    **{f"{kind}_{side}": f"surfaces/{kind}_{side}.gii" for kind in ("wm", "pia", "flat") for side in ("lh", "rh")},
}
"""What is read -> its path in S1's folder."""

_LABEL = "{http://www.inkscape.org/namespaces/inkscape}label"
_TOKEN = re.compile(r"[A-Za-z]|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_CURVE_POINTS = np.linspace(0.0, 1.0, 13)[1:, None]


@dataclass(frozen=True, eq=False)
class Hemisphere:
    """The surfaces of one hemisphere, vertex by vertex.

    Attributes
    ----------
    white_mm, pial_mm, flat_mm : numpy.ndarray
        (P, 3) float64, mm.
    triangles : numpy.ndarray
        (T, 3) int32; of white and pial surface, closed.
    flat_triangles : numpy.ndarray
        (t, 3) int32; of the flat one, which is cut open.
    """

    white_mm: Floats
    pial_mm: Floats
    flat_mm: Floats
    triangles: Triangles
    flat_triangles: Triangles


@dataclass(frozen=True, eq=False)
class Individual:
    """What is known of S1.

    Attributes
    ----------
    left, right : Hemisphere
        Surfaces in scanner space, RAS, mm.
    t1 : numpy.ndarray
        (nx, ny, nz) uint8; the T1 image, axes along x, y, z.
    t1_affine : numpy.ndarray
        (4, 4) float64; its index to mm.
    overlays : str
        The drawing on the flat map, SVG.
    """

    left: Hemisphere
    right: Hemisphere
    t1: npt.NDArray[np.uint8]
    t1_affine: Floats
    overlays: str


def read_members(source: Path) -> dict[str, bytes]:
    """Read S1's files from pycortex's source archive or from a folder.

    Parameters
    ----------
    source : Path
        `pycortex-*.tar.gz`, or a folder S1.

    Returns
    -------
    dict
        Content by the names of `MEMBERS`.

    Raises
    ------
    DataError
        There is no such file or folder.
    FileFormatError
        It is no archive, damaged, or lacks a file.
    """
    if source.is_dir():
        missing = [path for path in MEMBERS.values() if not (source / path).is_file()]
        if missing:
            raise FileFormatError(f"The folder {source} has no {missing[0]}; is it pycortex's db/S1? {HOW_TO_GET}")
        return {name: (source / path).read_bytes() for name, path in MEMBERS.items()}
    if not source.is_file():
        raise DataError(f"There is no {source}. {HOW_TO_GET}")
    wanted = {f"filestore/db/S1/{path}": name for name, path in MEMBERS.items()}
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(source) as archive:
            for member in archive:
                name = wanted.get(member.name.partition("/")[2])
                file = archive.extractfile(member) if name else None
                if name and file:
                    found[name] = file.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise FileFormatError(
            f"{source} cannot be read as an archive: {str(error).splitlines()[0]}. {HOW_TO_GET}"
        ) from error
    missing = [path for path, name in wanted.items() if name not in found]
    if missing:
        raise FileFormatError(f"The archive {source} has no {missing[0]}. {HOW_TO_GET}")
    return found


def read_individual(members: dict[str, bytes], source: str) -> Individual:
    """Make sense of S1's files.

    Parameters
    ----------
    members : dict
        From `read_members`.
    source : str
        Where they are from, for messages.

    Returns
    -------
    Individual
        All of S1 that is used.

    Raises
    ------
    FileFormatError
        A file is damaged, or the surfaces do not belong together.
    DataError
        `nibabel` is not installed.
    """
    try:
        import nibabel
    except ImportError as error:
        raise DataError("Reading GIFTI surfaces and NIfTI volumes needs nibabel. Install m2m-live[train].") from error

    def surface(name: str) -> tuple[Floats, Triangles]:
        image = nibabel.GiftiImage.from_bytes(members[name])
        points, triangles = image.agg_data(("pointset", "triangle"))  # type: ignore[no-untyped-call]
        return points.astype(np.float64), triangles.astype(np.int32)

    def hemisphere(side: str) -> Hemisphere:
        white_mm, triangles = surface(f"wm_{side}")
        pial_mm, pial_triangles = surface(f"pia_{side}")
        flat_mm, flat_triangles = surface(f"flat_{side}")
        if not (len(white_mm) == len(pial_mm) == len(flat_mm) and np.array_equal(triangles, pial_triangles)):
            raise FileFormatError(
                f"The surfaces of {side} in {source} have {len(white_mm)}, {len(pial_mm)} and {len(flat_mm)} vertices; "
                "expected the same vertices and triangles."
            )
        return Hemisphere(white_mm, pial_mm, flat_mm, triangles, flat_triangles)

    try:
        image = nibabel.as_closest_canonical(  # type: ignore[no-untyped-call]
            nibabel.Nifti1Image.from_bytes(gzip.decompress(members["anatomy"]))
        )
        return Individual(
            left=hemisphere("lh"),
            right=hemisphere("rh"),
            t1=np.asarray(image.dataobj).astype(np.uint8),
            t1_affine=np.asarray(image.affine, np.float64),
            overlays=members["overlays"].decode(),
        )
    except FileFormatError:
        raise
    except Exception as error:  # whatever a parser makes of a damaged file
        raise FileFormatError(f"{source} holds a damaged file: {type(error).__name__}: {error}") from error


def in_region(individual: Individual, region: str, hemisphere: str = "left") -> npt.NDArray[np.bool_]:
    """Mark the vertices of a hemisphere that lie in a region drawn on the flat map.

    The drawing's width is that of both flat maps side by side, the left one first, and its height that of the taller
    one; y points down in the drawing.

    Parameters
    ----------
    individual : Individual
        From `read_individual`.
    region : str
        Name of the drawing's layer, e.g. "M1H".
    hemisphere : {"left", "right"}
        Which one.

    Returns
    -------
    numpy.ndarray
        (P,) bool.

    Raises
    ------
    FileFormatError
        The drawing has no such region on that hemisphere, or cannot be read.
    """
    from matplotlib.path import Path as Outline

    sides = {"left": individual.left, "right": individual.right}
    on_map = {name: np.unique(side.flat_triangles) for name, side in sides.items()}
    low = {name: side.flat_mm[on_map[name]].min(axis=0) for name, side in sides.items()}
    high = {name: side.flat_mm[on_map[name]].max(axis=0) for name, side in sides.items()}
    left_mm, right_mm = (float(high[name][0] - low[name][0]) for name in ("left", "right"))
    bottom_mm = min(low[name][1] for name in sides)
    top_mm = max(high[name][1] for name in sides)
    try:
        root = ElementTree.fromstring(individual.overlays)
        width, height = float(root.attrib["width"]), float(root.attrib["height"])
        layers = [group for group in root.iter() if group.get(_LABEL) == region]
        outlines = [outline for layer in layers for path in layer if (outline := _outline(path.get("d") or ""))]
    except (ElementTree.ParseError, KeyError, ValueError, IndexError) as error:
        raise FileFormatError(f"The drawing on the flat map cannot be read: {error}") from error

    side = sides[hemisphere]
    x = side.flat_mm[:, 0] - low[hemisphere][0] + (left_mm if hemisphere == "right" else 0.0)
    place = np.stack(
        [x / (left_mm + right_mm) * width, (top_mm - side.flat_mm[:, 1]) / (top_mm - bottom_mm) * height], axis=1
    )
    found = np.zeros(len(place), bool)
    for outline in outlines:
        for part in outline:
            found[on_map[hemisphere]] |= Outline(part).contains_points(place[on_map[hemisphere]])
    if not found.any():
        raise FileFormatError(f"The flat map's drawing has no region {region!r} on the {hemisphere} hemisphere.")
    return found


def _outline(description: str) -> list[Floats]:
    """Turn an SVG path into polygons, (n, 2) each: lines and cubic curves, relative or absolute."""
    tokens = _TOKEN.findall(description)
    polygons: list[list[Floats]] = []
    here = np.zeros(2)
    command, i = "", 0
    while i < len(tokens):
        if tokens[i].isalpha():
            command = tokens[i]
            i += 1
            if command in "zZ":
                here = polygons[-1][0]
                continue
        n_numbers = {"m": 2, "l": 2, "c": 6}.get(command.lower())
        if n_numbers is None:
            raise ValueError(f"the path command {command!r} is not known here")
        points = np.array([float(token) for token in tokens[i : i + n_numbers]]).reshape(-1, 2)
        i += n_numbers
        if command.islower():
            points = points + here
        if command in "mM":
            polygons.append([points[0]])
            # Further points of a "move to" are lines.
            command = "l" if command == "m" else "L"
        elif len(points) == 1:
            polygons[-1].append(points[0])
        else:
            t, (p1, p2, p3) = _CURVE_POINTS, points
            curve = (1 - t) ** 3 * here + 3 * (1 - t) ** 2 * t * p1 + 3 * (1 - t) * t**2 * p2 + t**3 * p3
            polygons[-1].extend(curve)
        here = points[-1]
    return [np.array(polygon) for polygon in polygons if len(polygon) > 2]

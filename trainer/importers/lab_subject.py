"""A subject from a laboratory's own head: the box around BA4, its mask, the cortex, the scalp and the sphere.

Everything has been read already (`simnibs_mesh`, `freesurfer`, `freesurfer_labels`); here it is brought together, and
refused where the parts do not fit. Solving for the basis is the business of `trainer.efield`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from rt_engine.errors import DataError
from rt_engine.field.subject_file import Subject, check_subject
from rt_engine.field.surface import Surface
from trainer.anatomy import SURFACE_MARGIN_MM, cut_surface, fit_sphere, ribbon_fraction
from trainer.efield.head import GREY_MATTER, WHITE_MATTER, TetraHead
from trainer.efield.point_location import locate
from trainer.importers.freesurfer import Cortex
from trainer.importers.simnibs_mesh import outer_surface, require_tissues

Floats = npt.NDArray[np.float64]
Marks = npt.NDArray[np.bool_]

BOX = 64
"""Edge of the box in voxels of 1 mm, as in the article (II.B)."""

LARGEST_BOX = 128
"""A box larger than this holds more than one hemisphere's motor cortex."""

FEWEST_VOXELS = 100
"""BA4 of an adult has some thousand voxels of 1 mm; fewer than this is a label gone wrong."""

ASTRAY_SHARE = 0.3
"""Largest share of the voxels of BA4 that may lie outside of the white and grey matter of the mesh. Two programs place
the cortex parts of a millimetre apart, of the 2 to 3 that it is thick; surfaces in another space miss it altogether."""

SCALP_PATCH_MM = 120.0
"""The scalp is kept this far around the place over BA4: where the coil and its wings come, and no face."""

SPHERE_PATCHES_MM = (50.0, 80.0)
"""Radii around that place within which the sphere is fitted; the second where the first is too flat or bumpy."""

OTHER_SIDE_MM = 10.0
"""A hemisphere's middle lies some 30 mm beside the brain's; this far on the wrong side is no asymmetry."""


@dataclass(frozen=True, eq=False)
class LabSubject:
    """A subject and what was noticed while it was made.

    Attributes
    ----------
    subject : Subject
        Without basis.
    points_mm : numpy.ndarray
        (V, 3) float64, mm; where the field of each voxel is to be computed: its centre, or, where that lies outside of
        the mesh's white and grey matter, the nearest element's.
    target_mm : numpy.ndarray
        (3,) float64, mm; what coils are to aim at: the hand knob, or the middle of BA4.
    n_astray : int
        Voxels whose centre lies outside of the mesh's white and grey matter.
    n_cut : int
        Voxels of BA4 that the box cut off.
    """

    subject: Subject
    points_mm: Floats
    target_mm: Floats
    n_astray: int
    n_cut: int


def lab_subject(
    head: TetraHead,
    cortex: Cortex,
    in_area: Marks,
    *,
    name: str,
    notices: str,
    box: int = BOX,
    allow_cut: bool = False,
    hand_knob_mm: Floats | None = None,
) -> LabSubject:
    """Make a subject.

    Parameters
    ----------
    head : TetraHead
        The head mesh.
    cortex : Cortex
        One hemisphere's surfaces, in the mesh's space.
    in_area : numpy.ndarray
        (P,) bool; the vertices in BA4.
    name : str
        What the subject is called.
    notices : str
        Licence notices, and where the data come from.
    box : int
        Edge of the box in voxels of 1 mm.
    allow_cut : bool
        Whether what does not fit into the box may be cut off.
    hand_knob_mm : numpy.ndarray, optional
        (3,), mm; where the hand is, if known: coils are to aim there instead of at the middle of BA4.

    Returns
    -------
    LabSubject
        The subject, without basis.

    Raises
    ------
    DataError
        The mesh lacks a tissue; mesh and surfaces are of different spaces, subjects or sides; BA4 is too small or does
        not fit into the box; the hand knob is not near BA4.
    """
    if not 8 <= box <= LARGEST_BOX:
        raise DataError(f"The box has {box} voxels along an edge; expected 8 to {LARGEST_BOX}, normally {BOX}.")
    if not notices.strip():
        raise DataError("The subject has no notices; say where its data come from, and what others may do with them.")
    require_tissues(head)
    _check_side(head, cortex)
    voxel, affine, n_cut = _mask(cortex, in_area, box, allow_cut)
    voxel_mm = voxel + affine[:3, 3]
    target_mm = _target(voxel_mm, hand_knob_mm)
    points_mm, n_astray = _in_brain(head, voxel_mm)
    low_mm = affine[:3, 3] - 0.5 - SURFACE_MARGIN_MM
    vertices_mm, triangles = cut_surface(cortex.pial_mm, cortex.triangles, low_mm, low_mm + box + 2 * SURFACE_MARGIN_MM)
    scalp = outer_surface(head)
    over_mm = scalp.vertices[int(np.argmin(np.linalg.norm(scalp.vertices - target_mm, axis=1)))].astype(np.float64)
    center_mm, radius_mm = _sphere(scalp, over_mm, voxel_mm)
    subject = Subject(
        name=name,
        space=head.space,
        hemisphere=cortex.hemisphere,
        box_shape=(box, box, box),
        affine=affine,
        voxel=voxel,
        vertices=vertices_mm.astype(np.float32),
        triangles=triangles,
        # As for the default subject: no more digits than the fit is worth, so that machines agree.
        sphere_center_mm=np.round(center_mm, 1),
        scalp_radius_mm=round(radius_mm, 1),
        notices=notices,
        scalp=_patch(scalp, over_mm),
    )
    check_subject(subject)
    return LabSubject(subject, points_mm, target_mm, n_astray, n_cut)


def _check_side(head: TetraHead, cortex: Cortex) -> None:
    """Compare the hemisphere's name with where it lies in the mesh's brain."""
    brain = head.tetrahedron[np.isin(head.tag, (WHITE_MATTER, GREY_MATTER))]
    corners = head.node_mm[brain]
    volume = np.abs(np.linalg.det(corners[:, 1:] - corners[:, :1]))
    middle_mm = float(np.average(corners.mean(axis=1)[:, 0], weights=volume))
    beside_mm = float(cortex.pial_mm[:, 0].mean()) - middle_mm
    if (beside_mm if cortex.hemisphere == "left" else -beside_mm) > OTHER_SIDE_MM:
        raise DataError(
            f"The surfaces are of the {cortex.hemisphere} hemisphere, but lie {abs(beside_mm):.0f} mm to the "
            f"{'right' if beside_mm > 0 else 'left'} of the middle of the mesh's brain. Are mesh and surfaces of the "
            "same subject and in scanner RAS (x to the right), and not mirrored?"
        )


def _mask(cortex: Cortex, in_area: Marks, box: int, allow_cut: bool) -> tuple[npt.NDArray[np.int16], Floats, int]:
    """Voxelise BA4's ribbon: voxels in the box, the box's affine, and how many voxels were cut off."""
    # As for the default subject: a triangle on the border belongs where most of its corners are.
    ribbon = cortex.triangles[in_area[cortex.triangles].sum(axis=1) >= 2]
    if not len(ribbon):
        raise DataError(
            f"The {int(in_area.sum())} vertices of the area make no triangle; expected an area of the cortex, with "
            "neighbouring vertices."
        )
    used = np.unique(ribbon)
    corners_mm = np.concatenate([cortex.white_mm[used], cortex.pial_mm[used]])
    low = np.floor(corners_mm.min(axis=0)).astype(int) - 1
    size = np.ceil(corners_mm.max(axis=0)).astype(int) + 2 - low
    if size.max() > 2 * LARGEST_BOX:
        raise DataError(
            f"The area extends over {size.max()} mm; expected BA4, some 60 mm. Is it all of the cortex, or not in mm?"
        )
    affine = np.eye(4)
    affine[:3, 3] = low
    shape = (int(size[0]), int(size[1]), int(size[2]))
    found_mm = np.argwhere(ribbon_fraction(cortex.white_mm, cortex.pial_mm, ribbon, affine, shape) >= 0.5) + low
    if len(found_mm) < FEWEST_VOXELS:
        raise DataError(
            f"The area fills {len(found_mm)} voxels of 1 mm by at least half; expected BA4 with some thousand, at "
            f"least {FEWEST_VOXELS}. Give both BA4a and BA4p, with their whole extent."
        )
    first, last = found_mm.min(axis=0), found_mm.max(axis=0)
    origin = np.floor((first + last + 1 - box) / 2).astype(int)
    kept = ((found_mm >= origin) & (found_mm < origin + box)).all(axis=1)
    n_cut = int((~kept).sum())
    if n_cut and not allow_cut:
        extents = ", ".join(
            f"{axis} {n} mm" for axis, n in zip("xyz", (last - first + 1).tolist(), strict=True) if n > box
        )
        raise DataError(
            f"BA4 is larger than the box of {box} mm: {extents}. {n_cut} of its {len(found_mm)} voxels would be cut "
            f"off. Take a larger box (at least {int((last - first).max()) + 1}), or allow the cut."
        )
    affine[:3, 3] = origin
    return (found_mm[kept] - origin).astype(np.int16), affine, n_cut


def _target(voxel_mm: Floats, hand_knob_mm: Floats | None) -> Floats:
    """Choose what coils aim at: the hand knob, or the voxel nearest to the middle of BA4."""
    if hand_knob_mm is None:
        return voxel_mm[int(np.argmin(np.linalg.norm(voxel_mm - voxel_mm.mean(axis=0), axis=1)))]
    off_mm = float(np.linalg.norm(voxel_mm - hand_knob_mm, axis=1).min())
    if not off_mm <= 20.0:
        raise DataError(
            f"The hand knob at {hand_knob_mm.tolist()} mm lies {off_mm:.0f} mm from BA4. Expected a place in or near "
            "it, in the mesh's space (scanner RAS, mm)."
        )
    return hand_knob_mm


def _in_brain(head: TetraHead, voxel_mm: Floats) -> tuple[Floats, int]:
    """Find for every voxel a point in the mesh's white or grey matter; count those whose centre is none."""
    brain = head.tetrahedron[np.isin(head.tag, (WHITE_MATTER, GREY_MATTER))]
    index, _ = locate(head.node_mm, brain, voxel_mm)
    astray = index < 0
    n_astray = int(astray.sum())
    if n_astray > ASTRAY_SHARE * len(voxel_mm):
        raise DataError(
            f"{n_astray} of the {len(voxel_mm)} voxels of BA4 lie outside of the mesh's white and grey matter; "
            f"expected at most {ASTRAY_SHARE:.0%}. Mesh and surfaces are not of the same subject or not in the same "
            "space: surfaces straight from FreeSurfer are in tkRAS, and need the MRI they were made from (--t1 "
            "mri/orig.mgz), which must be in the same place as the MRI of the mesh."
        )
    points_mm = voxel_mm.copy()
    if n_astray:
        center_mm = head.node_mm[brain].mean(axis=1)
        points_mm[astray] = center_mm[cKDTree(center_mm).query(voxel_mm[astray])[1]]
    return points_mm, n_astray


def _sphere(scalp: Surface, over_mm: Floats, voxel_mm: Floats) -> tuple[Floats, float]:
    """Fit the sphere to the scalp over BA4, triangles weighted by area."""
    corners = scalp.vertices.astype(np.float64)[scalp.triangles]
    sides = corners[:, 1:] - corners[:, :1]
    area = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1) / 2
    middle_mm = corners.mean(axis=1)
    for patch_mm in SPHERE_PATCHES_MM:
        near = np.linalg.norm(middle_mm - over_mm, axis=1) < patch_mm
        if near.sum() < 10:
            continue
        center_mm, radius_mm = fit_sphere(middle_mm[near], area[near])
        if np.linalg.norm(voxel_mm - center_mm, axis=1).max() < radius_mm - 2.0:
            return center_mm, radius_mm
    raise DataError(
        f"No sphere fits the scalp within {SPHERE_PATCHES_MM[-1]:g} mm of {over_mm.round(1).tolist()} mm so that BA4 "
        "lies inside. Expected a head mesh with its scalp over the motor cortex."
    )


def _patch(scalp: Surface, over_mm: Floats) -> Surface:
    near = np.linalg.norm(scalp.vertices - over_mm, axis=1) < SCALP_PATCH_MM
    kept = scalp.triangles[near[scalp.triangles].all(axis=1)]
    used, renumbered = np.unique(kept, return_inverse=True)
    return Surface(scalp.vertices[used], renumbered.reshape(-1, 3).astype(np.int32))

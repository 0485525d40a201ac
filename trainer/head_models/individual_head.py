"""An individual's head and BA4: pycortex's S1, whose surfaces, T1 image and localised motor areas that package ships.

- Cerebrum: between the individual's white and pial surfaces. Cerebellum and brain stem: what is bright in the T1 image
  below the cerebrum.
- Scalp: the border between head and air in the T1 image. Air in nose and sinuses is taken for soft tissue.
- Skull: not segmented, since bone and CSF are both dark in T1. The inner skull is drawn a little above the brain, the
  outer one at a share of the way to the air.
- BA4: no cytoarchitectonic map, but the foot, hand and mouth areas of primary motor cortex (M1F, M1H, M1M) that its
  authors found by functional localisers and drew on the flat map, with the gaps between them closed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from rt_engine.errors import DataError
from rt_engine.field.subject_file import Subject
from trainer.anatomy import subject_from_ribbon
from trainer.anatomy_notices import INDIVIDUAL_NOTICES
from trainer.efield.head import AIR, BONE, CSF, GREY_MATTER, SCALP, WHITE_MATTER, VoxelHead
from trainer.head_models.default_head import one_conductor
from trainer.head_models.pycortex_store import Individual, in_region
from trainer.head_models.voxelise import Grid, Mask, ball_distance, coarsen, inside, largest_part

Floats = npt.NDArray[np.float64]

INDIVIDUAL_SPACE = "scanner space of pycortex S1, RAS: x right, y anterior, z superior"

MOTOR_REGIONS = ("M1F", "M1H", "M1M")
"""Foot, hand and mouth, as drawn on the flat map."""

HAND_REGION = "M1H"

SCALP_ABOVE_HULL_MM = 18.0
"""Scalp above the pial surface's outer hull near the hand area, as this person's T1 image shows it."""

GAP_MM = 10.0
"""Gaps of up to twice this between the three areas, on the flat map, belong to motor cortex too: arm and trunk, which
were not localised."""

BOX_ORIGIN_MM = (-66.0, -13.0, 7.0)
"""Centre of the first voxel; the box holds foot and hand area whole, and all but the lowest 7 mm of the mouth's."""

GRID_MM = ((-94.0, -92.0, -100.0), (98.0, 130.0, 100.0))
"""What of the T1 image becomes the head: from the neck up, 1 mm voxels."""

AIR_BELOW = 22.0
"""T1 intensity between air and skin, smoothed (air's noise is about 5, skin and fat 100 to 200)."""

BRAIN_ABOVE = 50.0
"""T1 intensity of cerebellum and brain stem; CSF and bone are darker, marrow and skin lie beyond the skull."""

CEREBELLUM_SEED_MM = (-25.0, -15.0, -45.0)
"""A place in the middle of the cerebellum."""

NECK_MM = -68.0
"""Below this height the spinal cord is left out."""

CSF_MM, SULCUS_MM = 2.0, 6.0
"""The inner skull lies this far above the brain with its sulci closed over (balls of the second radius)."""

BONE_SHARE, THICKEST_BONE_MM, SKIN_MM = 0.5, 7.0, 4.0
"""Bone takes this share of the way from inner skull to air, but not more than that many mm, and leaves skin."""


@dataclass(frozen=True, eq=False)
class _Place:
    """A grid in the T1 image."""

    grid: Grid
    t1: npt.NDArray[np.float32]


def individual_subject(individual: Individual) -> Subject:
    """Make S1's subject, without scalp and basis.

    Parameters
    ----------
    individual : Individual
        From `pycortex_store.read_individual`.

    Returns
    -------
    Subject
        Left hemisphere, in its scanner space.

    Raises
    ------
    DataError, FileFormatError
        The regions are not on the flat map.
    """
    left = individual.left
    motor = _closed_over(left.flat_mm, np.unique(left.flat_triangles), _motor_areas(individual))
    return subject_from_ribbon(
        name="pycortex S1, left motor cortex (M1F, M1H, M1M)",
        space=INDIVIDUAL_SPACE,
        white_mm=left.white_mm,
        pial_mm=left.pial_mm,
        triangles=left.triangles,
        in_area=motor,
        box_origin_mm=BOX_ORIGIN_MM,
        both_pial_mm=np.concatenate([left.pial_mm, individual.right.pial_mm]),
        hand_knob_mm=hand_mm(individual),
        scalp_above_hull_mm=SCALP_ABOVE_HULL_MM,
        notices=INDIVIDUAL_NOTICES,
    )


def hand_mm(individual: Individual) -> Floats:
    """Return the middle of the hand area, (3,) float64, whole mm: the hand knob's place in this head."""
    middle_mm = (individual.left.white_mm + individual.left.pial_mm) / 2.0
    hand = middle_mm[in_region(individual, HAND_REGION)]
    return np.round(hand[np.linalg.norm(hand - hand.mean(axis=0), axis=1).argmin()])


def individual_head(individual: Individual, resolution_mm: int = 2) -> VoxelHead:
    """Make S1's head.

    Parameters
    ----------
    individual : Individual
        From `pycortex_store.read_individual`.
    resolution_mm : int
        Edge of a voxel, 1 or 2 mm.

    Returns
    -------
    VoxelHead
        White and grey matter, CSF, bone and scalp in scanner space; one connected conductor, no holes.

    Raises
    ------
    DataError
        Another resolution, surfaces that are not closed, or an image in which no cerebellum is found.
    """
    if resolution_mm not in (1, 2):
        raise DataError(f"The individual head comes at 1 or 2 mm; found {resolution_mm} mm.")
    place = _crop(individual)
    grid = place.grid
    label = np.zeros(grid.shape, np.uint8)
    for side in (individual.left, individual.right):
        label[inside(side.pial_mm, side.triangles, grid, "pial surface of S1") & (label == 0)] = GREY_MATTER
        label[inside(side.white_mm, side.triangles, grid, "white surface of S1")] = WHITE_MATTER
    cerebrum = label > 0
    label[_below_cerebrum(place, cerebrum)] = GREY_MATTER
    brain = label > 0

    tissue = _head(place) | ndimage.binary_dilation(brain, iterations=2)
    # The head goes on below the grid; its lowest slice is a cut, no skin.
    to_air_mm = -ball_distance(np.pad(tissue, ((0, 0), (0, 0), (12, 0)), mode="edge"), grid)[:, :, 12:]
    closed = ball_distance(ball_distance(brain, grid) < SULCUS_MM, grid) < -SULCUS_MM
    in_skull = ndimage.binary_fill_holes((ball_distance(brain | closed, grid) < CSF_MM) & (to_air_mm > 2 * SKIN_MM))
    skull_mm = ball_distance(in_skull, grid)
    bone = (skull_mm < np.minimum(BONE_SHARE * (skull_mm + to_air_mm), THICKEST_BONE_MM)) & (to_air_mm > SKIN_MM)

    full = np.where(tissue, SCALP, AIR).astype(np.uint8)
    full[bone] = BONE
    full[in_skull] = CSF
    full[brain] = label[brain]
    return VoxelHead(
        label=one_conductor(coarsen(full, resolution_mm)),
        affine=Grid(
            tuple(x + (resolution_mm - 1) / 2 for x in grid.origin_mm),  # type: ignore[arg-type]
            tuple(n // resolution_mm for n in grid.shape),  # type: ignore[arg-type]
            float(resolution_mm),
        ).affine,
        space=INDIVIDUAL_SPACE,
        name=f"pycortex S1, {resolution_mm} mm",
        notices=INDIVIDUAL_NOTICES,
    )


def _crop(individual: Individual) -> _Place:
    """Sample the T1 image on the head's own grid of whole millimetres."""
    low, high = np.array(GRID_MM)
    shape = np.round(high - low).astype(int)
    to_index = np.linalg.inv(individual.t1_affine)
    t1 = ndimage.affine_transform(
        individual.t1.astype(np.float32),
        to_index[:3, :3],
        to_index[:3, :3] @ low + to_index[:3, 3],
        output_shape=tuple(shape),
        order=1,
    )
    return _Place(Grid(tuple(low.tolist()), tuple(shape.tolist())), t1)


def _head(place: _Place) -> Mask:
    """Tell head from air: what is not dark, with its cavities filled."""
    bright = ndimage.gaussian_filter(place.t1, 1.0) > AIR_BELOW
    head = largest_part(ndimage.binary_opening(bright, iterations=2))
    head = ball_distance(ball_distance(head, place.grid) < 6.0, place.grid) < -6.0
    for axis in range(3):
        for i in range(head.shape[axis]):
            index: list[slice | int] = [slice(None)] * 3
            index[axis] = i
            head[tuple(index)] = ndimage.binary_fill_holes(head[tuple(index)])
    return largest_part(head)


def _below_cerebrum(place: _Place, cerebrum: Mask) -> Mask:
    """Find cerebellum, brain stem and what lies between the hemispheres, outside the cerebrum's surfaces."""
    grid = place.grid
    height = grid.axis_mm(2)[None, None, :]
    bright = (ndimage.gaussian_filter(place.t1, 0.5) > BRAIN_ABOVE) & ~cerebrum & (height > NECK_MM) & (height < 30.0)
    # Eroded, it parts from muscle, marrow and the sinuses; the part with the seed is grown back.
    core_mm = 2.0
    part, _ = ndimage.label(ball_distance(bright, grid) < -core_mm)
    seed = np.round((np.array(CEREBELLUM_SEED_MM) - grid.origin_mm) / grid.step_mm).astype(int)
    tag = part[tuple(seed)]
    if not tag:
        raise DataError(f"The T1 image of S1 shows no cerebellum at {CEREBELLUM_SEED_MM} mm. Is it another release's?")
    core = part == tag
    return bright & (ball_distance(core, grid) < core_mm + 0.5)


def _motor_areas(individual: Individual) -> Mask:
    return np.logical_or.reduce([in_region(individual, region) for region in MOTOR_REGIONS])


def _closed_over(flat_mm: Floats, on_map: npt.NDArray[np.int_], area: Mask) -> Mask:
    """Close the gaps between an area's parts on the flat map: grow, then shrink, by `GAP_MM`."""
    place = flat_mm[on_map, :2]
    near, _ = cKDTree(flat_mm[area, :2]).query(place)
    grown = near <= GAP_MM
    from_rest, _ = cKDTree(place[~grown]).query(place)
    closed = area.copy()
    closed[on_map[grown & (from_rest > GAP_MM)]] = True
    return closed

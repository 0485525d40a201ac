"""The default subject's head: tissue labels in MNI152 space, from the anatomy that three packages carry.

White and grey matter of the cerebrum are what lies between the Human Connectome Project's group-average surfaces, the
ones that BA4 is made of. Deep grey matter, ventricles, brain stem and cerebellum come from the MNI152 maps in nilearn;
inner skull and scalp are fsaverage's, as mne carries them. An average of folded surfaces is smaller than the heads it
averages: the HCP's cerebrum ends about 5 mm below that of MNI152 (measured over the motor cortex; see docs/heads.md).
Skull and scalp are therefore moved inwards by as much above the skull's base, so that CSF, bone and skin have the
thickness that MRI finds over M1. It is nobody's head, and not meant for anybody's treatment.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from rt_engine.errors import DataError
from rt_engine.field.subject_file import MNI_RAS
from trainer.anatomy import Surfaces, hcp_surfaces
from trainer.anatomy_notices import DEFAULT_SUBJECT_WITH_HEAD_NOTICES
from trainer.efield.head import AIR, BONE, CSF, GREY_MATTER, SCALP, WHITE_MATTER, VoxelHead
from trainer.head_models.voxelise import Grid, Mask, ball_distance, coarsen, inside, largest_part

Floats = npt.NDArray[np.float64]
Volume = npt.NDArray[np.float32]

MNI305_TO_MNI152 = np.array(
    [
        [0.9975, -0.0073, 0.0176, -0.0429],
        [0.0146, 1.0009, -0.0024, 1.5496],
        [-0.0130, -0.0093, 0.9971, 1.1840],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
"""fsaverage's space to MNI152, as FreeSurfer documents it (its wiki, CoordinateSystems, item 8)."""

GRID = Grid(origin_mm=(-96.0, -130.0, -110.0), shape=(192, 240, 220))
"""1 mm voxels; whole numbers of mm, as the box of BA4 has. It ends in the neck, 40 mm below the skull's base."""

AVERAGE_SHRINKS_MM = 5.0
"""How far the HCP average's cerebrum ends below that of the MNI152 average, over the motor cortex."""

SHIFT_ABOVE_MM = (-45.0, -5.0)
"""The skull is moved by nothing below the first height (z, where the cerebellum is) and fully above the second."""

BONE_MM = 6.5
"""Thickness of the skull: the mean of the parietal and frontal bone of adults (Mahinda & Murty 2009)."""

SKIN_MM = 4.0
"""The scalp is nowhere thinner."""

CSF_MM = 1.5
"""CSF between brain and inner skull is nowhere thinner."""

DEEP_MM = 4.0
"""How deep below the white surface the MNI152 maps decide: nearer to it they show other sulci than the surfaces."""

DEEP_BOX_MM = ((-42.0, -48.0, -22.0), (42.0, 36.0, 34.0))
"""Two corners of the box that holds basal ganglia, thalamus and ventricles."""

RIM_MM = 7.0
"""What the maps hold outside the HCP surfaces within this distance is the cortex again, which has been seen to."""


def default_head(resolution_mm: int = 2) -> VoxelHead:
    """Make the default subject's head.

    Parameters
    ----------
    resolution_mm : int
        Edge of a voxel, 1 or 2 mm. It is always made at 1 mm; 2 mm is the majority of 8 voxels.

    Returns
    -------
    VoxelHead
        White and grey matter, CSF, bone and scalp in MNI152 space; one connected conductor, no holes.

    Raises
    ------
    DataError
        Another resolution, or one of the packages or their data is missing.
    """
    if resolution_mm not in (1, 2):
        raise DataError(f"The default head comes at 1 or 2 mm; found {resolution_mm} mm.")
    grey_map, white_map = (_mni_map(tissue) for tissue in ("gm", "wm"))
    brain_label = _brain(hcp_surfaces(), grey_map, white_map)
    label = _shells(brain_label, _fsaverage("fsaverage-inner_skull-bem.fif"), _fsaverage("fsaverage-head.fif"))
    grid = Grid(
        # The centre of the first cube of voxels.
        origin_mm=tuple(x + (resolution_mm - 1) / 2 for x in GRID.origin_mm),  # type: ignore[arg-type]
        shape=tuple(n // resolution_mm for n in GRID.shape),  # type: ignore[arg-type]
        step_mm=float(resolution_mm),
    )
    return VoxelHead(
        label=one_conductor(coarsen(label, resolution_mm)),
        affine=grid.affine,
        space=MNI_RAS,
        name=f"default head, {resolution_mm} mm",
        notices=DEFAULT_SUBJECT_WITH_HEAD_NOTICES,
    )


def default_head_sources() -> list[Path]:
    """Return the files that the default head is made from.

    Raises
    ------
    DataError
        A package is not installed, or lacks the file.
    """
    maps = [_package_file("nilearn", f"datasets/data/mni_icbm152_{t}_tal_nlin_sym_09a_converted.nii.gz") for t in _MAPS]
    shells = [_package_file("mne", f"data/fsaverage/{name}") for name in _SHELLS]
    return [*maps, *shells]


_MAPS = ("gm", "wm")
_SHELLS = ("fsaverage-inner_skull-bem.fif", "fsaverage-head.fif")


def _brain(surfaces: Surfaces, grey_map: Volume, white_map: Volume) -> npt.NDArray[np.uint8]:
    """Label white matter, grey matter and ventricles; 0 elsewhere."""
    label = np.zeros(GRID.shape, np.uint8)
    cortex, core = np.zeros(GRID.shape, bool), np.zeros(GRID.shape, bool)
    for side in surfaces.values():
        cortex |= inside(side.pial_mm, side.triangles, GRID, "HCP pial surface")
        core |= inside(side.white_mm, side.triangles, GRID, "HCP white surface")
    label[cortex] = GREY_MATTER
    label[core] = WHITE_MATTER

    in_maps = grey_map + white_map > 0.5
    more_grey = grey_map > white_map
    # Between the hemispheres the surfaces run along the medial wall, no cortex: callosum, thalamus, brain stem.
    at_medial_wall = _nearest_is_medial_wall(surfaces, ~cortex & in_maps)
    outside_mm = ball_distance(cortex, GRID)
    # Cerebellum and brain stem: what is left of the maps far from the cerebrum, grown back to where it ends.
    heart = largest_part(in_maps & (outside_mm > RIM_MM) & (_height_mm() < -10.0))
    rest = in_maps & ~cortex & (at_medial_wall | (ndimage.distance_transform_edt(~heart) < RIM_MM))
    rest &= ball_distance(largest_part(rest | cortex), GRID) < 0
    label[rest] = np.where(more_grey[rest], GREY_MATTER, WHITE_MATTER)

    deep = core & (ball_distance(core | (rest & ~more_grey), GRID) < -DEEP_MM) & _in_box(*DEEP_BOX_MM)
    nuclei = ndimage.binary_opening(deep & in_maps & more_grey)
    ventricle = ndimage.binary_opening((deep | (core & at_medial_wall)) & ~in_maps)
    label[nuclei] = GREY_MATTER
    label[ventricle] = CSF
    return label


def _shells(
    brain: npt.NDArray[np.uint8],
    inner_skull: tuple[Floats, npt.NDArray[np.int32]],
    scalp: tuple[Floats, npt.NDArray[np.int32]],
) -> npt.NDArray[np.uint8]:
    """Put CSF, bone and scalp around the brain."""
    low, high = SHIFT_ABOVE_MM
    share = np.clip((_height_mm() - low) / (high - low), 0.0, 1.0)
    shift_mm = AVERAGE_SHRINKS_MM * share * share * (3.0 - 2.0 * share)
    in_skull = ball_distance(inside(*inner_skull, GRID, "fsaverage inner skull"), GRID) < -shift_mm
    in_skull |= ball_distance(brain > 0, GRID) < CSF_MM
    in_skull = ndimage.binary_fill_holes(in_skull)
    skull_mm = ball_distance(in_skull, GRID)
    # The head goes on below the grid: its lowest slice is a cut, no skin. Hence the distance is taken in a taller one.
    whole = inside(*scalp, GRID, "fsaverage scalp")
    in_head = ball_distance(np.pad(whole, ((0, 0), (0, 0), (12, 0)), mode="edge"), GRID)[:, :, 12:] < -shift_mm
    in_head |= skull_mm < BONE_MM + SKIN_MM
    label = np.where(in_head, SCALP, AIR).astype(np.uint8)
    label[skull_mm < BONE_MM] = BONE
    label[in_skull] = CSF
    label[brain > 0] = brain[brain > 0]
    return label


def one_conductor(label: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Fill the cavities with CSF and leave out what does not hang together with the rest by faces.

    Parameters
    ----------
    label : numpy.ndarray
        (nx, ny, nz) uint8; tissue tags.

    Returns
    -------
    numpy.ndarray
        The same with one connected, hole-free conductor.
    """
    head = largest_part(label != AIR)
    filled = ndimage.binary_fill_holes(head)
    cleaned = np.where(head, label, AIR).astype(np.uint8)
    cleaned[filled & ~head] = CSF
    return cleaned


def _nearest_is_medial_wall(surfaces: Surfaces, wanted: Mask) -> Mask:
    """Mark those of the wanted voxels whose nearest vertex of the pial surfaces lies on the medial wall."""
    from scipy.spatial import cKDTree

    vertices = np.concatenate([side.pial_mm for side in surfaces.values()])
    is_wall = np.concatenate([~side.is_cortex for side in surfaces.values()])
    index = np.argwhere(wanted)
    _, nearest = cKDTree(vertices).query(index * GRID.step_mm + GRID.origin_mm)
    found = np.zeros(GRID.shape, bool)
    found[tuple(index.T)] = is_wall[nearest]
    return found


def _height_mm() -> Floats:
    return GRID.axis_mm(2)[None, None, :]


def _in_box(low_mm: tuple[float, float, float], high_mm: tuple[float, float, float]) -> Mask:
    axes = [(GRID.axis_mm(i) >= low_mm[i]) & (GRID.axis_mm(i) <= high_mm[i]) for i in range(3)]
    return axes[0][:, None, None] & axes[1][None, :, None] & axes[2][None, None, :]


def _mni_map(tissue: str) -> Volume:
    """Read a tissue's probability in MNI152 on the grid, 0 to 1."""
    path = _package_file("nilearn", f"datasets/data/mni_icbm152_{tissue}_tal_nlin_sym_09a_converted.nii.gz")
    try:
        import nibabel
    except ImportError as error:
        raise DataError("Reading NIfTI volumes needs nibabel. Install m2m-live[train].") from error
    image = nibabel.load(path)
    values = np.asarray(image.dataobj, np.float32) / 255.0  # type: ignore[attr-defined]
    affine = image.affine  # type: ignore[attr-defined]
    if not np.array_equal(affine[:3, :3], np.eye(3)):
        raise DataError(
            f"{path.name} has the affine {affine.tolist()}; expected 1 mm along the axes. Is nilearn newer?"
        )
    first = np.round(affine[:3, 3] - GRID.origin_mm).astype(int)
    found = np.zeros(GRID.shape, np.float32)
    to, of = [], []
    for start, n_map, n_grid in zip(first, values.shape, GRID.shape, strict=True):
        low, high = max(start, 0), min(start + n_map, n_grid)
        to.append(slice(low, high))
        of.append(slice(low - start, high - start))
    found[tuple(to)] = values[tuple(of)]
    return found


def _fsaverage(name: str) -> tuple[Floats, npt.NDArray[np.int32]]:
    """Read one of fsaverage's shells into MNI152 space: vertices in mm, triangles."""
    path = _package_file("mne", f"data/fsaverage/{name}")
    import mne

    surface = mne.read_bem_surfaces(path, verbose="error")[0]
    vertices = surface["rr"] * 1e3
    return (
        vertices @ MNI305_TO_MNI152[:3, :3].T + MNI305_TO_MNI152[:3, 3],
        np.asarray(surface["tris"], np.int32),
    )


def _package_file(package: str, name: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise DataError(
            f"The default head is made from data in the package {package}, which is not installed. Install "
            "m2m-live[train], or use the subject file that ships in configs/demo."
        )
    path = Path(spec.origin).parent / name
    if not path.is_file():
        raise DataError(
            f"The installed {package} has no {name}, which the default head is made from. Install the "
            "version that constraints.txt names."
        )
    return path

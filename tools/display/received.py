"""What has arrived, checked: a decoded message becomes a frozen object whose arrays have the shapes the wire promises.

`rt_engine.messages.decode` makes sure that the frames fit their header. Whether the header's arrays are those of its
topic is checked here, once, so that nothing that paints has to ask.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rt_engine.errors import DataError
from rt_engine.messages import GeometryHeader, MapHeader, TrialHeader

LARGEST_PICTURE = 2000
"""Pixels along the diagonal of a box, one per voxel; what is larger is no anatomy and would not fit into memory."""

FARTHEST_MM = 1e6
"""A kilometre; whatever an affine says beyond it is no head."""

MOST_VOXELS = 2**15
"""Along an edge of the box: voxels are int16."""

ReceivedArrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class ReceivedTrial:
    """One pulse and what the muscles did.

    Attributes
    ----------
    header
        Pulse, validity, status per muscle.
    sweep_uv
        (muscles, samples) float, microvolts; no samples or NaN where nothing was measured.
    mep_uv
        (muscles,) float, microvolts.
    onset_ms
        (muscles,) float, NaN where none was found.
    """

    header: TrialHeader
    sweep_uv: NDArray[np.floating[Any]]
    mep_uv: NDArray[np.floating[Any]]
    onset_ms: NDArray[np.floating[Any]]

    @property
    def n_muscles(self) -> int:
        """Length of the muscle axis."""
        return len(self.mep_uv)


@dataclass(frozen=True, eq=False)
class ReceivedMap:
    """The estimated field of one pulse.

    Attributes
    ----------
    header
        Pulse, confidence, scale.
    field, spread
        (V,) float in geometry order; 1 = `header.scale_v_per_m`.
    cog_mm
        (3,) float64.
    cog_cov_mm2
        (3, 3) float64.
    computed_v_per_m
        (V,) float, V/m, the field computed from the tracked coil; None if the engine sent none.
    """

    header: MapHeader
    field: NDArray[np.floating[Any]]
    spread: NDArray[np.floating[Any]]
    cog_mm: NDArray[np.float64]
    cog_cov_mm2: NDArray[np.float64]
    computed_v_per_m: NDArray[np.floating[Any]] | None = None


@dataclass(frozen=True, eq=False)
class ReceivedGeometry:
    """Where the voxels of every map are.

    Attributes
    ----------
    header
        Subject, space, hemisphere.
    voxel
        (V, 3) integer, indices into the box.
    affine
        (4, 4) float64, box index to scanner space in mm.
    vertices, triangles
        (P, 3) float in mm and (T, 3) integer of the cortex; both empty if the engine sent none.
    """

    header: GeometryHeader
    voxel: NDArray[np.integer[Any]]
    affine: NDArray[np.float64]
    vertices: NDArray[np.floating[Any]]
    triangles: NDArray[np.integer[Any]]

    @property
    def n_voxels(self) -> int:
        """Number of voxels in BA4 (V)."""
        return len(self.voxel)

    @property
    def has_surface(self) -> bool:
        """Whether there is a cortex to draw."""
        return len(self.triangles) > 0

    @property
    def voxel_mm(self) -> NDArray[np.float64]:
        """(V, 3) float64, centres of the voxels in scanner space, mm."""
        return self.voxel @ self.affine[:3, :3].T + self.affine[:3, 3]


def received_trial(header: TrialHeader, arrays: ReceivedArrays) -> ReceivedTrial:
    """Check a `trial` message's arrays.

    Raises
    ------
    DataError
        If an array is missing or its shape or kind is not what the wire promises.
    """
    what = f"trial of pulse {header.pulse}"
    mep = _array(what, arrays, "mep_uv", "f", (None,))
    n = len(mep)
    if len(header.status) not in ((n,) if header.valid else (0, n)):
        raise DataError(f"the {what} has {n} amplitudes and {len(header.status)} statuses")
    if header.valid and not header.rate_hz > 0.0:
        raise DataError(f"the {what} states a sample rate of {header.rate_hz} Hz; expected a positive number")
    return ReceivedTrial(
        header=header,
        sweep_uv=_array(what, arrays, "sweep_uv", "f", (n, None)),
        mep_uv=mep,
        onset_ms=_array(what, arrays, "onset_ms", "f", (n,)),
    )


def received_map(header: MapHeader, arrays: ReceivedArrays) -> ReceivedMap:
    """Check a `map` message's arrays.

    Raises
    ------
    DataError
        As `received_trial`.
    """
    what = f"map of pulse {header.pulse}"
    field = _array(what, arrays, "field", "f", (None,))
    computed = None
    if "computed_field" in arrays:
        computed = _array(what, arrays, "computed_field", "f", (len(field),))
    return ReceivedMap(
        header=header,
        field=field,
        spread=_array(what, arrays, "spread", "f", (len(field),)),
        cog_mm=_array(what, arrays, "cog_mm", "f", (3,)),
        cog_cov_mm2=_array(what, arrays, "cog_cov_mm2", "f", (3, 3)),
        computed_v_per_m=computed,
    )


def received_geometry(header: GeometryHeader, arrays: ReceivedArrays) -> ReceivedGeometry:
    """Check a `geometry` message's arrays.

    Raises
    ------
    DataError
        As `received_trial`, or if there are no voxels, the affine is singular, or a triangle names a vertex that is
        not there.
    """
    what = f"geometry of {header.subject!r}"
    voxel = _array(what, arrays, "voxel", "iu", (None, 3))
    affine = _array(what, arrays, "affine", "f", (4, 4))
    if len(voxel) == 0:
        raise DataError(f"the {what} has no voxels")
    fits = len(header.box_shape) == 3 and all(0 < edge <= MOST_VOXELS for edge in header.box_shape)
    box = np.array(header.box_shape if fits else (0, 0, 0))
    if (voxel < 0).any() or (voxel >= box).any():
        raise DataError(f"the {what} has voxels outside its box {header.box_shape}")
    if not np.abs(affine).max() <= FARTHEST_MM or abs(np.linalg.det(affine[:3, :3])) < 1e-9:  # NaN is not <=
        raise DataError(f"the {what} has an affine that maps no volume: {affine.tolist()}")
    edges_mm = np.linalg.norm(affine[:3, :3], axis=0)
    if np.linalg.norm(np.abs(affine[:3, :3]) @ box) > LARGEST_PICTURE * edges_mm.min():
        raise DataError(f"the {what} has a box too large to be drawn: {header.box_shape} voxels of {edges_mm} mm")
    if "vertices" in arrays and "triangles" in arrays:
        vertices = _array(what, arrays, "vertices", "f", (None, 3))
        triangles = _array(what, arrays, "triangles", "iu", (None, 3))
        if not np.isfinite(vertices).all():
            raise DataError(f"the {what} has vertices that are not numbers")
        if len(triangles) and not (0 <= triangles.min() and triangles.max() < len(vertices)):
            raise DataError(f"the {what} has triangles that name vertices outside its {len(vertices)}")
    else:
        vertices = np.empty((0, 3), dtype=np.float32)
        triangles = np.empty((0, 3), dtype=np.int32)
    return ReceivedGeometry(header=header, voxel=voxel, affine=affine, vertices=vertices, triangles=triangles)


def _array(what: str, arrays: ReceivedArrays, name: str, kinds: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
    if name not in arrays:
        raise DataError(f"the {what} lacks the array {name!r}; it has {', '.join(arrays) or 'none'}")
    array = arrays[name]
    fits = array.ndim == len(shape) and all(w is None or g == w for g, w in zip(array.shape, shape, strict=True))
    if not fits or array.dtype.kind not in kinds:
        wanted = " x ".join("n" if length is None else str(length) for length in shape)
        raise DataError(f"array {name!r} of the {what} is {array.dtype} {array.shape}; expected {wanted} of {kinds!r}")
    return array

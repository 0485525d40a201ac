"""Coil poses on the scalp: the coil lies tangential, its handle 45 degrees off the sagittal plane.

A place is a direction from the centre of the subject's sphere. Where the subject has a scalp surface, the coil stands
on it as a hand would hold it: tangential to the scalp as the coil's middle feels it, not bumpy, and never cutting in.
Without one it stands on the sphere.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rt_engine.errors import DataError
from rt_engine.field.subject_file import Subject
from rt_engine.field.surface import check_surface

Floats = NDArray[np.float64]

HANDLE_OFF_SAGITTAL_DEG = 45.0
"""The handle points backwards and outwards, so that the current runs from posterior to anterior (article, II.A)."""

HAIR_MM = 2.0
"""Distance that hair keeps between the coil's face and the scalp."""

ANTERIOR = np.array([0.0, 1.0, 0.0])
"""Forwards in scanner space (RAS)."""

NORMAL_SD_MM = 10.0
"""The scalp's normal is a mean over the triangles around, weighted by area and a Gaussian of this SD: about 20 mm of
scalp, the part that a coil's middle rests on."""

WING_MM, FACE_RADIUS_MM = 45.0, 45.0
"""The coil's face: what lies within 45 mm of the line between the wings' centres, 45 mm to either side (the outermost
turn of the 70 mm figure of eight and some casing)."""

_EDGE = -1e-6
"""How far outside a triangle a ray may pass and still hit it, so that none slips through between two."""


def _unit(vector: Floats) -> Floats:
    return vector / np.linalg.norm(vector)


def tangent_axes(direction: Floats) -> tuple[Floats, Floats]:
    """Return the scalp's rightward and forward axes at a point.

    Parameters
    ----------
    direction : numpy.ndarray
        (3,); outwards at the point, from the sphere's centre or along the scalp's normal.

    Returns
    -------
    right, forward : numpy.ndarray
        (3,) float64 each, unit vectors in the tangent plane.
    """
    outward = _unit(direction)
    forward = _unit(ANTERIOR - (ANTERIOR @ outward) * outward)
    return np.cross(forward, outward), forward


def move(direction: Floats, right_mm: float, forward_mm: float, radius_mm: float) -> Floats:
    """Walk along the scalp on a great circle.

    Parameters
    ----------
    direction : numpy.ndarray
        (3,), from the sphere's centre to the start.
    right_mm, forward_mm : float
        The way to go, in the tangent plane of the start.
    radius_mm : float
        Radius of the sphere.

    Returns
    -------
    numpy.ndarray
        (3,) float64, unit vector to the end.
    """
    right, forward = tangent_axes(direction)
    way = right_mm * right + forward_mm * forward
    length_mm = float(np.linalg.norm(way))
    if length_mm == 0.0:
        return _unit(direction)
    angle = length_mm / radius_mm
    end: Floats = np.cos(angle) * _unit(direction) + np.sin(angle) * way / length_mm
    return end


def rotation_about(axis: Floats, angle_deg: float) -> Floats:
    """Return the (3, 3) matrix that turns about `axis`, Rodrigues' formula."""
    x, y, z = _unit(axis)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    angle = np.deg2rad(angle_deg)
    rotation: Floats = np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross
    return rotation


class ScalpPlacement:
    """Where a coil stands on a scalp; prepared once, then some 0.1 ms per pose.

    Parameters
    ----------
    subject : Subject
        Gives the scalp, the sphere's centre and the hemisphere.

    Raises
    ------
    DataError
        The subject has no scalp, or not a usable one.
    """

    def __init__(self, subject: Subject) -> None:
        if subject.scalp is None:
            raise DataError(f"The subject {subject.name!r} has no scalp surface; its coil stands on the sphere.")
        check_surface(subject.scalp, "scalp")
        # No reference to the subject itself: what coil_pose keeps here must not keep its subject alive.
        self._name = subject.name
        self._left = subject.hemisphere == "left"
        self._center_mm = np.asarray(subject.sphere_center_mm, np.float64)
        self._vertices = subject.scalp.vertices.astype(np.float64) - self._center_mm
        corner = self._vertices[subject.scalp.triangles]
        a, b, c = corner[:, 0], corner[:, 1], corner[:, 2]
        # A ray d from the centre passes inside the triangle where the three triple products with d have one sign.
        self._sides = np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)])
        self._volume = (a * self._sides[0]).sum(axis=1)
        self._middle = corner.mean(axis=1)
        self._area_normal = np.cross(b - a, c - a) / 2.0

    def surface_point(self, direction: ArrayLike) -> tuple[Floats, Floats]:
        """Find the scalp in a direction.

        Parameters
        ----------
        direction : array_like
            (3,), from the sphere's centre.

        Returns
        -------
        point_mm : numpy.ndarray
            (3,) float64, mm; the outermost point of the scalp there.
        normal : numpy.ndarray
            (3,) float64, outwards; the smoothed normal.

        Raises
        ------
        DataError
            The scalp surface does not reach there.
        """
        outward = _unit(np.asarray(direction, np.float64))
        share = self._sides @ outward
        total = share.sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            hit = (share / total >= _EDGE).all(axis=0) & (np.abs(total) > 0.0)
            distance = np.where(hit, self._volume / total, -np.inf)
        farthest_mm = float(distance.max())
        if not farthest_mm > 0.0:
            raise DataError(
                f"The scalp of {self._name!r} does not reach the direction {np.round(outward, 3).tolist()} from the "
                f"sphere's centre; it is a patch around the motor cortex. Place the coil nearer to it."
            )
        point = farthest_mm * outward
        weight = np.exp(-((self._middle - point) ** 2).sum(axis=1) / (2.0 * NORMAL_SD_MM**2))
        return self._center_mm + point, _unit(weight @ self._area_normal)

    def pose(
        self,
        direction: ArrayLike,
        *,
        rotation_deg: float = 0.0,
        tilt_deg: tuple[float, float] = (0.0, 0.0),
        gap_mm: float = HAIR_MM,
    ) -> Floats:
        """Place the coil; as `coil_pose`.

        The centre of the coil's face lies over the scalp point in the given direction, along the coil's own axis, so
        high that no part of the face is nearer to the scalp than the gap.
        """
        point_mm, normal = self.surface_point(direction)
        pose = _tangential(normal, self._left, rotation_deg, tilt_deg)
        seen = (self._vertices + self._center_mm - point_mm) @ pose[:3, :3]
        aside = np.maximum(np.abs(seen[:, 0]) - WING_MM, 0.0)
        under_face = aside**2 + seen[:, 1] ** 2 < FACE_RADIUS_MM**2
        lift_mm = max(0.0, float((-seen[under_face, 2]).max(initial=0.0)))
        pose[:3, 3] = point_mm - (lift_mm + gap_mm) * pose[:3, 2]
        return pose


_prepared: WeakKeyDictionary[Subject, ScalpPlacement] = WeakKeyDictionary()
"""Subjects in use and their prepared scalps."""


def coil_pose(
    subject: Subject,
    direction: ArrayLike,
    *,
    rotation_deg: float = 0.0,
    tilt_deg: tuple[float, float] = (0.0, 0.0),
    gap_mm: float = HAIR_MM,
) -> Floats:
    """Place the coil on the subject's scalp, or on the sphere where the subject has no scalp.

    Parameters
    ----------
    subject : Subject
        Gives the scalp, the sphere and the hemisphere.
    direction : array_like
        (3,), from the sphere's centre to the place of the coil's centre.
    rotation_deg : float
        Turn about the scalp's normal, added to the 45 degrees.
    tilt_deg : tuple of float
        Turns about the coil's own x and y axes, away from tangential.
    gap_mm : float
        Distance between the coil's face and the scalp, mm.

    Returns
    -------
    numpy.ndarray
        (4, 4) float64, coil frame to scanner space, mm: +z into the head, +y along the induced current, which runs from
        posterior-lateral to anterior-medial.

    Raises
    ------
    DataError
        The scalp surface does not reach there.
    """
    if subject.scalp is not None:
        placement = _prepared.get(subject)
        if placement is None:
            placement = _prepared[subject] = ScalpPlacement(subject)
        return placement.pose(direction, rotation_deg=rotation_deg, tilt_deg=tilt_deg, gap_mm=gap_mm)
    outward = _unit(np.asarray(direction, np.float64))
    pose = _tangential(outward, subject.hemisphere == "left", rotation_deg, tilt_deg)
    pose[:3, 3] = subject.sphere_center_mm + (subject.scalp_radius_mm + gap_mm) * outward
    return pose


def _tangential(outward: Floats, left: bool, rotation_deg: float, tilt_deg: tuple[float, float]) -> Floats:
    """Make a pose at the origin: axes for a scalp with this normal, before and after tilting."""
    _, forward = tangent_axes(outward)
    # Towards the midline: to the right on the left hemisphere. Right-handed about the inward normal.
    turn = HANDLE_OFF_SAGITTAL_DEG if left else -HANDLE_OFF_SAGITTAL_DEG
    axes = np.empty((3, 3))
    axes[:, 2] = -outward
    axes[:, 1] = rotation_about(-outward, turn + rotation_deg) @ forward
    axes[:, 0] = np.cross(axes[:, 1], axes[:, 2])
    for axis, angle_deg in zip((0, 1), tilt_deg, strict=True):
        axes = rotation_about(axes[:, axis], angle_deg) @ axes
    pose = np.eye(4)
    pose[:3, :3] = axes
    return pose

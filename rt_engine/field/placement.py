"""Coil poses on the scalp sphere: the coil lies tangential, its handle 45 degrees off the sagittal plane."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rt_engine.field.subject_file import Subject

Floats = NDArray[np.float64]

HANDLE_OFF_SAGITTAL_DEG = 45.0
"""The handle points backwards and outwards, so that the current runs from posterior to anterior (article, II.A)."""

HAIR_MM = 2.0
"""Distance that hair keeps between the coil's face and the scalp."""

ANTERIOR = np.array([0.0, 1.0, 0.0])
"""Forwards in scanner space (RAS)."""


def _unit(vector: Floats) -> Floats:
    return vector / np.linalg.norm(vector)


def tangent_axes(direction: Floats) -> tuple[Floats, Floats]:
    """Return the scalp's rightward and forward axes at a point of the sphere.

    Parameters
    ----------
    direction
        (3,), from the sphere's centre to the point.

    Returns
    -------
    right, forward
        (3,) float64 each, unit vectors in the tangent plane.
    """
    outward = _unit(direction)
    forward = _unit(ANTERIOR - (ANTERIOR @ outward) * outward)
    return np.cross(forward, outward), forward


def move(direction: Floats, right_mm: float, forward_mm: float, radius_mm: float) -> Floats:
    """Walk along the scalp on a great circle.

    Parameters
    ----------
    direction
        (3,), from the sphere's centre to the start.
    right_mm, forward_mm
        The way to go, in the tangent plane of the start.
    radius_mm
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
    return np.cos(angle) * _unit(direction) + np.sin(angle) * way / length_mm


def rotation_about(axis: Floats, angle_deg: float) -> Floats:
    """Return the (3, 3) matrix that turns about `axis`, Rodrigues' formula."""
    x, y, z = _unit(axis)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    angle = np.deg2rad(angle_deg)
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross


def coil_pose(
    subject: Subject,
    direction: ArrayLike,
    *,
    rotation_deg: float = 0.0,
    tilt_deg: tuple[float, float] = (0.0, 0.0),
) -> Floats:
    """Place the coil on the scalp.

    Parameters
    ----------
    subject
        Gives the sphere and the hemisphere.
    direction
        (3,), from the sphere's centre to the place of the coil's centre.
    rotation_deg
        Turn about the scalp's normal, added to the 45 degrees.
    tilt_deg
        Turns about the coil's own x and y axes, away from tangential.

    Returns
    -------
    numpy.ndarray
        (4, 4) float64, coil frame to scanner space, mm: +z into the head, +y along the induced current, which runs from
        posterior-lateral to anterior-medial.
    """
    outward = _unit(np.asarray(direction, np.float64))
    _, forward = tangent_axes(outward)
    # Towards the midline: to the right on the left hemisphere. Right-handed about the inward normal.
    turn = HANDLE_OFF_SAGITTAL_DEG if subject.hemisphere == "left" else -HANDLE_OFF_SAGITTAL_DEG
    axes = np.empty((3, 3))
    axes[:, 2] = -outward
    axes[:, 1] = rotation_about(-outward, turn + rotation_deg) @ forward
    axes[:, 0] = np.cross(axes[:, 1], axes[:, 2])
    for axis, angle_deg in zip((0, 1), tilt_deg, strict=True):
        axes = rotation_about(axes[:, axis], angle_deg) @ axes
    pose = np.eye(4)
    pose[:3, :3] = axes
    pose[:3, 3] = subject.sphere_center_mm + (subject.scalp_radius_mm + HAIR_MM) * outward
    return pose

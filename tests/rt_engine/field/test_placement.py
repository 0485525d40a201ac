"""Where the coil stands: on the sphere, or on the scalp surface, tangential and never inside the head."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rt_engine.errors import DataError
from rt_engine.field.coil import check_pose
from rt_engine.field.placement import (
    FACE_RADIUS_MM,
    HAIR_MM,
    WING_MM,
    ScalpPlacement,
    coil_pose,
    move,
    rotation_about,
    tangent_axes,
)
from rt_engine.field.subject_file import MNI_RAS, Subject
from rt_engine.field.surface import Surface, check_surface

HOTSPOT = np.array([-0.5, 0.05, 0.86]) / np.linalg.norm([-0.5, 0.05, 0.86])
CENTER_MM = np.array([0.0, -22.0, 10.0])
RADIUS_MM = 77.0


def head(hemisphere: str = "left", scalp: Surface | None = None) -> Subject:
    """Make a head with one voxel."""
    affine = np.eye(4)
    affine[:3, 3] = (-30, -20, 30)
    return Subject(
        name="round",
        space=MNI_RAS,
        hemisphere=hemisphere,
        box_shape=(2, 2, 2),
        affine=affine,
        voxel=np.zeros((1, 3), np.int16),
        vertices=np.zeros((3, 3), np.float32),
        triangles=np.array([[0, 1, 2]], np.int32),
        sphere_center_mm=CENTER_MM,
        scalp_radius_mm=RADIUS_MM,
        notices="",
        scalp=scalp,
    )


def grid_scalp(radius_mm, *, step_deg: float = 2.0, top_deg: float = 80.0) -> Surface:
    """Make a scalp with the radius `radius_mm(direction)` above the polar angle `top_deg`, with a flat top."""
    polar = np.deg2rad(np.arange(step_deg / 2, top_deg + step_deg, step_deg))
    turn = np.deg2rad(np.arange(0, 360, step_deg))
    theta, phi = np.meshgrid(polar, turn, indexing="ij")
    direction = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1)
    vertices = CENTER_MM + direction * radius_mm(direction)[..., None]
    index = np.arange(theta.size).reshape(theta.shape)
    a, b = index[:-1], index[1:]
    c, d = np.roll(index, -1, axis=1)[1:], np.roll(index, -1, axis=1)[:-1]
    ring = index[0]
    fan = np.stack([np.full(len(ring) - 2, ring[0]), ring[1:-1], ring[2:]], axis=-1)
    triangles = np.concatenate(
        [np.stack([a, b, c], axis=-1).reshape(-1, 3), np.stack([a, c, d], axis=-1).reshape(-1, 3), fan]
    )
    return Surface(vertices.reshape(-1, 3).astype(np.float32), triangles.astype(np.int32))


ROUND = grid_scalp(lambda direction: np.full(direction.shape[:-1], RADIUS_MM))
BUMPY = grid_scalp(
    lambda d: RADIUS_MM + 5 * d[..., 0] - 8 * d[..., 1] ** 2 + 1.5 * np.sin(14 * d[..., 0]) * np.sin(12 * d[..., 1])
)


def deepest_cut_mm(scalp: Surface, pose: np.ndarray) -> float:
    """Return how far the scalp reaches beyond the coil's face, negative while it stays below."""
    seen = (scalp.vertices - pose[:3, 3]) @ pose[:3, :3]
    aside = np.maximum(np.abs(seen[:, 0]) - WING_MM, 0)
    return float(-seen[np.hypot(aside, seen[:, 1]) < FACE_RADIUS_MM, 2].min())


@pytest.mark.parametrize("hemisphere", ["left", "right"])
@pytest.mark.parametrize("scalp", [None, ROUND], ids=["sphere", "round scalp"])
def test_coil_is_tangential_and_its_handle_points_back_and_outwards(hemisphere: str, scalp: Surface | None) -> None:
    outward = HOTSPOT * ([1, 1, 1] if hemisphere == "left" else [-1, 1, 1])
    pose = coil_pose(head(hemisphere, scalp), outward)
    right, forward = tangent_axes(outward)
    tolerance = 1e-12 if scalp is None else 0.01
    np.testing.assert_allclose(pose[:3, 2], -outward, atol=tolerance)
    handle = -pose[:3, 1]
    lateral = -right if hemisphere == "left" else right
    # 45 degrees off the sagittal plane: as far backwards as outwards.
    np.testing.assert_allclose([handle @ forward, handle @ lateral], [-np.sqrt(0.5), np.sqrt(0.5)], atol=tolerance)


def test_coil_stands_on_the_hair_above_the_sphere() -> None:
    distance = np.linalg.norm(coil_pose(head(), HOTSPOT)[:3, 3] - CENTER_MM)
    assert distance == pytest.approx(RADIUS_MM + HAIR_MM)


@example(right=40.0, forward=-3.0, rotation_deg=0.0, tilt=(0.0, 0.0))  # the top
@given(
    right=st.floats(-40, 40),
    forward=st.floats(-40, 40),
    rotation_deg=st.floats(-180, 180),
    tilt=st.tuples(st.floats(-6, 6), st.floats(-6, 6)),
)
def test_on_a_round_scalp_the_coil_stands_as_on_the_sphere(right, forward, rotation_deg, tilt) -> None:
    """The patch is the sphere to 0.05 mm, so untilted poses agree; a tilted coil is lifted off the head."""
    direction = move(HOTSPOT, right, forward, RADIUS_MM)
    on_sphere = coil_pose(head(), direction, rotation_deg=rotation_deg, tilt_deg=tilt)
    on_scalp = coil_pose(SUBJECT, direction, rotation_deg=rotation_deg, tilt_deg=tilt)
    np.testing.assert_allclose(on_scalp[:3, :3], on_sphere[:3, :3], atol=0.02)
    flat = coil_pose(SUBJECT, direction, rotation_deg=rotation_deg)
    np.testing.assert_allclose(flat[:3, 3], CENTER_MM + (RADIUS_MM + HAIR_MM) * direction, atol=0.15)
    # The plane tilted by t about a point of the sphere is a tangent plane once it is lifted by r (1 - cos t).
    angle = np.arccos(np.clip(on_scalp[:3, 2] @ flat[:3, 2], -1, 1))
    lifted = np.linalg.norm(on_scalp[:3, 3] - CENTER_MM - RADIUS_MM * direction) - HAIR_MM
    assert lifted == pytest.approx(RADIUS_MM * (1 - np.cos(angle)), abs=0.15)


SUBJECT = head(scalp=ROUND)
BUMPY_SUBJECT = head(scalp=BUMPY)


@given(
    right=st.floats(-40, 40),
    forward=st.floats(-40, 40),
    rotation_deg=st.floats(-180, 180),
    tilt=st.tuples(st.floats(-25, 25), st.floats(-25, 25)),
    gap_mm=st.floats(0, 30),
)
def test_the_coil_never_cuts_the_scalp_and_always_touches_it(right, forward, rotation_deg, tilt, gap_mm) -> None:
    direction = move(HOTSPOT, right, forward, RADIUS_MM)
    pose = coil_pose(BUMPY_SUBJECT, direction, rotation_deg=rotation_deg, tilt_deg=tilt, gap_mm=gap_mm)
    check_pose(pose)
    assert pose[:3, 2] @ direction < 0
    # Under the face's middle is the point asked for; some part of the scalp is just the gap away.
    point, _ = ScalpPlacement(BUMPY_SUBJECT).surface_point(direction)
    np.testing.assert_allclose(((point - pose[:3, 3]) @ pose[:3, :3])[:2], 0, atol=1e-4)
    nearest_mm = min(-deepest_cut_mm(BUMPY, pose), float((point - pose[:3, 3]) @ pose[:3, 2]))
    assert nearest_mm == pytest.approx(gap_mm, abs=1e-3)


def test_the_normal_is_that_of_the_scalp_at_large_and_not_of_a_bump() -> None:
    smooth = ScalpPlacement(head(scalp=grid_scalp(lambda d: RADIUS_MM + 0 * d[..., 0])))
    small_bumps = grid_scalp(lambda d: RADIUS_MM + 0.5 * np.sin(60 * d[..., 0]) * np.sin(60 * d[..., 1]))
    bumpy = ScalpPlacement(head(scalp=small_bumps))
    _, normal = smooth.surface_point(HOTSPOT)
    _, felt = bumpy.surface_point(HOTSPOT)
    assert np.rad2deg(np.arccos(normal @ felt)) < 2.0


def test_an_ellipsoid_tilts_the_coil_with_it() -> None:
    axes = np.array([70.0, 90.0, 80.0])
    ellipsoid = grid_scalp(lambda d: 1 / np.linalg.norm(d / axes, axis=-1))
    point, normal = ScalpPlacement(head(scalp=ellipsoid)).surface_point(HOTSPOT)
    assert np.linalg.norm((point - CENTER_MM) / axes) == pytest.approx(1.0, abs=1e-3)
    expected = (point - CENTER_MM) / axes**2
    assert np.rad2deg(np.arccos(normal @ expected / np.linalg.norm(expected))) < 1.0


def test_of_two_layers_the_outer_one_counts() -> None:
    inner = grid_scalp(lambda d: np.full(d.shape[:-1], 60.0))
    n = len(inner.vertices)
    both = Surface(
        np.concatenate([inner.vertices, ROUND.vertices]), np.concatenate([inner.triangles, ROUND.triangles + n])
    )
    point, _ = ScalpPlacement(head(scalp=both)).surface_point(HOTSPOT)
    assert np.linalg.norm(point - CENTER_MM) == pytest.approx(RADIUS_MM, abs=0.05)


@pytest.mark.parametrize("direction", [(0, 0, -1), (-1, 0, -0.2), (0, 1, -0.5)])
def test_where_the_scalp_does_not_reach_the_pose_is_refused(direction) -> None:
    with pytest.raises(DataError, match="does not reach"):
        coil_pose(SUBJECT, direction)


def test_a_pose_is_the_same_whoever_asks() -> None:
    asked_alone = coil_pose(head(scalp=BUMPY), HOTSPOT, tilt_deg=(1.0, 2.0))
    coil_pose(BUMPY_SUBJECT, -HOTSPOT * (1, 1, -1))
    assert np.array_equal(coil_pose(BUMPY_SUBJECT, HOTSPOT, tilt_deg=(1.0, 2.0)), asked_alone)


def test_another_subject_gets_its_own_scalp_and_none_is_kept_alive() -> None:
    larger = grid_scalp(lambda d: np.full(d.shape[:-1], 85.0))
    subject = head(scalp=larger)
    first = coil_pose(subject, HOTSPOT)
    assert np.linalg.norm(first[:3, 3] - CENTER_MM) == pytest.approx(87.0, abs=0.2)
    assert np.linalg.norm(coil_pose(SUBJECT, HOTSPOT)[:3, 3] - CENTER_MM) == pytest.approx(79.0, abs=0.2)
    gone = weakref.ref(subject)
    del subject
    gc.collect()
    assert gone() is None


def test_a_subject_without_scalp_has_no_scalp_placement() -> None:
    with pytest.raises(DataError, match="no scalp surface"):
        ScalpPlacement(head())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vertices": np.zeros((4, 3))}, "float64"),
        ({"vertices": np.full((4, 3), np.nan, np.float32)}, "not finite"),
        ({"triangles": np.zeros((0, 3), np.int32)}, "n > 0"),
        ({"triangles": np.array([[0, 1, 4]], np.int32)}, "0 to 4; it has 4 vertices"),
        ({"triangles": np.array([[-1, 1, 2]], np.int32)}, "-1 to 2"),
    ],
)
def test_a_surface_that_contradicts_itself_is_refused(change, message) -> None:
    good = Surface(np.eye(4, 3, dtype=np.float32), np.array([[0, 1, 2], [0, 2, 3]], np.int32))
    check_surface(good, "scalp")
    with pytest.raises(DataError, match=message):
        check_surface(replace(good, **change), "scalp")


@given(right=st.floats(-40, 40), forward=st.floats(-40, 40))
def test_walking_on_the_sphere_covers_the_distance_on_a_great_circle(right: float, forward: float) -> None:
    end = move(HOTSPOT, right, forward, 80.0)
    angle = np.arctan2(np.linalg.norm(np.cross(end, HOTSPOT)), end @ HOTSPOT)
    assert angle * 80.0 == pytest.approx(np.hypot(right, forward), abs=1e-9)


def test_rotation_about_an_axis_turns_by_the_right_hand() -> None:
    np.testing.assert_allclose(rotation_about(np.array([0.0, 0.0, 2.0]), 90.0) @ [1, 0, 0], [0, 1, 0], atol=1e-15)

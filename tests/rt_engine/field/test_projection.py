"""Maximum-intensity projections in scanner space."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from rt_engine.field.projection import ELLIPSE_95, PLANE_AXES, Plane, covariance_ellipse, make_projection

PLANES: tuple[Plane, ...] = ("sagittal", "coronal", "axial")
ORIGIN = np.array([-66.0, -46.0, 14.0])


def ras_affine(size_mm: float = 1.0) -> np.ndarray:
    affine = np.diag([size_mm, size_mm, size_mm, 1.0])
    affine[:3, 3] = ORIGIN
    return affine


def some_voxels(seed: int, n: int = 300) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.unique(random.integers(0, 12, (n, 3)), axis=0).astype(np.int16)


@given(st.integers(0, 1000), st.sampled_from(PLANES))
def test_it_is_the_maximum_along_the_axis_that_is_looked_along(seed: int, plane: Plane) -> None:
    voxel = some_voxels(seed)
    values = np.random.default_rng(seed).random(len(voxel)).astype(np.float32)
    box = np.full((12, 12, 12), -1.0, dtype=np.float32)
    box[tuple(voxel.T)] = values
    right, up = PLANE_AXES[plane]
    (along,) = {0, 1, 2} - {right, up}
    expected = box.max(axis=along)
    rows_up = expected.T if right < up else expected
    used = voxel.max(axis=0)
    first = voxel.min(axis=0)
    expected = rows_up[first[up] : used[up] + 1, first[right] : used[right] + 1][::-1]

    made = make_projection(voxel, ras_affine(), plane)
    picture = made.project(values)
    assert picture.shape == made.shape == expected.shape
    assert np.array_equal(np.isnan(picture), expected < 0)
    assert np.array_equal(picture[expected >= 0], expected[expected >= 0])


@pytest.mark.parametrize("plane", PLANES)
def test_the_edges_are_in_scanner_millimetres(plane: Plane) -> None:
    voxel = np.array([[0, 0, 0], [9, 19, 29]], dtype=np.int16)
    made = make_projection(voxel, ras_affine(2.0), plane)
    right, up = PLANE_AXES[plane]
    assert made.low_mm == pytest.approx((ORIGIN[right] - 1.0, ORIGIN[up] - 1.0))
    assert made.high_mm == pytest.approx((ORIGIN[right] + 2 * voxel[1, right] + 1, ORIGIN[up] + 2 * voxel[1, up] + 1))


@pytest.mark.parametrize("plane", PLANES)
def test_right_front_and_up_are_right_and_up_in_the_picture_whatever_the_boxs_axes(plane: Plane) -> None:
    flipped = np.array([[0.0, -1.0, 0.0, 50.0], [0.0, 0.0, -1.0, 20.0], [-1.0, 0.0, 0.0, 70.0], [0.0, 0.0, 0.0, 1.0]])
    voxel = np.argwhere(np.ones((5, 5, 5))).astype(np.int16)
    voxel_mm = voxel @ flipped[:3, :3].T + flipped[:3, 3]
    right, up = PLANE_AXES[plane]
    made = make_projection(voxel, flipped, plane)
    # The map grows to the right and up in scanner space.
    picture = made.project((voxel_mm[:, right] + 10.0 * voxel_mm[:, up]).astype(np.float32))
    assert picture[0, -1] == np.nanmax(picture)
    assert picture[-1, 0] == np.nanmin(picture)
    assert made.low_mm[0] < voxel_mm[:, right].min() < voxel_mm[:, right].max() < made.high_mm[0]


@pytest.mark.parametrize("angle_deg", [7.0, 30.0, 45.0])
@pytest.mark.parametrize("plane", PLANES)
def test_an_oblique_box_leaves_no_holes(plane: Plane, angle_deg: float) -> None:
    affine = ras_affine()
    affine[:3, :3] = Rotation.from_euler("xyz", [angle_deg, angle_deg / 2, angle_deg], degrees=True).as_matrix()
    voxel = np.argwhere(np.ones((10, 10, 10))).astype(np.int16)
    picture = make_projection(voxel, affine, plane).project(np.ones(len(voxel), dtype=np.float32))
    for line in [*picture, *picture.T]:
        inside = np.flatnonzero(~np.isnan(line))
        if len(inside):
            assert not np.isnan(line[inside[0] : inside[-1] + 1]).any()


def test_a_missing_value_hides_nothing_else() -> None:
    voxel = np.array([[0, 0, 0], [0, 0, 1], [1, 0, 0]], dtype=np.int16)
    picture = make_projection(voxel, ras_affine(), "axial").project(np.array([np.nan, 0.5, np.nan], dtype=np.float32))
    assert picture[0, 0] == np.float32(0.5)
    assert np.isnan(picture[0, 1])


def test_the_ellipse_holds_95_percent_of_the_marginal() -> None:
    cov = np.array([[4.0, 1.2, 0.4], [1.2, 2.2, -0.3], [0.4, -0.3, 1.4]])
    samples = np.random.default_rng(1).multivariate_normal(np.zeros(3), cov, 40_000)
    for plane in PLANES:
        ellipse = covariance_ellipse(cov, plane)
        assert ellipse is not None
        large, small, angle_deg = ellipse
        angle = np.radians(angle_deg)
        xy = samples[:, PLANE_AXES[plane]] @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        inside = (xy[:, 0] / large) ** 2 + (xy[:, 1] / small) ** 2 <= 1.0
        assert inside.mean() == pytest.approx(0.95, abs=0.005)


def test_the_larger_axis_comes_first_and_its_angle_is_counted_from_the_right() -> None:
    large, small, angle = covariance_ellipse(np.diag([1.0, 9.0, 1.0]), "axial") or (0.0, 0.0, 0.0)
    assert (large, small) == pytest.approx((3.0 * ELLIPSE_95**0.5, ELLIPSE_95**0.5))
    assert abs(angle) == pytest.approx(90.0)


@pytest.mark.parametrize("cov", [np.full((3, 3), np.nan), np.diag([1.0, -1.0, -1.0])])
def test_what_is_no_covariance_has_no_ellipse(cov: np.ndarray) -> None:
    assert covariance_ellipse(cov, "sagittal") is None

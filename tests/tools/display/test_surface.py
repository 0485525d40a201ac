"""The cortex as a picture."""

import numpy as np
import pytest
from fake_engine import folded_sheet

from tools.display.surface import convexity, make_picture, map_to_surface, shade, subdivide, vertex_normals


def flat_sheet(n: int = 8) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.meshgrid(np.arange(float(n)), np.arange(float(n)), indexing="ij")
    index = np.arange(n * n).reshape(n, n)
    a, b, c, d = index[:-1, :-1].ravel(), index[1:, :-1].ravel(), index[1:, 1:].ravel(), index[:-1, 1:].ravel()
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    return np.stack([x, y, 0.3 * x], axis=-1).reshape(-1, 3), triangles


def area_and_edges(points: np.ndarray, triangles: np.ndarray) -> tuple[float, np.ndarray]:
    a, b, c = (points[triangles[:, i]] for i in range(3))
    edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    _, count = np.unique(edges, axis=0, return_counts=True)
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2.0), count


def test_the_map_is_seen_in_ba4_only_with_weights_that_sum_to_one() -> None:
    sheet = folded_sheet()
    voxel_mm = sheet["voxel"] @ sheet["affine"][:3, :3].T + sheet["affine"][:3, 3]
    mapping = map_to_surface(voxel_mm, sheet["vertices"], 1.0)
    assert mapping.weight.sum(axis=1) == pytest.approx(1.0, abs=1e-6)
    assert 0.0 < mapping.share.min() <= mapping.share.max() == 1.0
    nearest = np.array([np.linalg.norm(voxel_mm - v, axis=1).min() for v in sheet["vertices"]])
    assert np.array_equal(np.sort(mapping.vertex), np.flatnonzero(nearest < 1.8))
    assert 0 < len(mapping.vertex) < len(sheet["vertices"])


def test_a_smooth_map_keeps_its_values_on_the_surface() -> None:
    sheet = folded_sheet()
    voxel_mm = sheet["voxel"] @ sheet["affine"][:3, :3].T + sheet["affine"][:3, 3]
    mapping = map_to_surface(voxel_mm, sheet["vertices"], 1.0)
    on_surface = mapping.values((0.01 * voxel_mm[:, 0] + 1.0).astype(np.float32))
    assert on_surface == pytest.approx(0.01 * sheet["vertices"][mapping.vertex, 0] + 1.0, abs=0.02)


def test_fewer_voxels_than_neighbours_are_enough() -> None:
    mapping = map_to_surface(np.zeros((1, 3)), np.array([[0.0, 0.0, 0.5], [9.0, 9.0, 9.0]]), 1.0)
    assert mapping.vertex.tolist() == [0]
    assert mapping.values(np.array([0.7], dtype=np.float32)) == pytest.approx([0.7])


def test_normals_point_to_the_side_from_which_triangles_turn_counter_clockwise() -> None:
    points, triangles = flat_sheet()
    expected = np.array([-0.3, 0.0, 1.0]) / np.hypot(1.0, 0.3)
    assert vertex_normals(points, triangles) == pytest.approx(np.tile(expected, (len(points), 1)))


def test_crowns_are_light_and_sulci_dark() -> None:
    sheet = folded_sheet()
    x, y, _ = sheet["vertices"].T
    crown = np.cos(2.0 * np.pi * (y + 15.0 - 2.0 * np.sin((x + 35.0) / 9.0)) / 22.0)  # as folded_sheet folds it
    bent = convexity(sheet["vertices"], sheet["triangles"])
    assert bent[crown > 0.9].mean() > 0.5
    assert bent[crown < -0.9].mean() < -0.5
    grey, light = shade(sheet["vertices"], sheet["triangles"], left=True)
    assert 0.0 <= grey.min() < grey.max() <= 1.0
    assert 0.0 < light.min() < light.max() <= 1.0


@pytest.mark.parametrize("seed", range(5))
def test_subdividing_keeps_area_orientation_and_closes_every_edge(seed: int) -> None:
    points, triangles = flat_sheet()
    chosen = np.random.default_rng(seed).random(len(triangles)) < 0.3
    finer_points, finer = subdivide(points, triangles, chosen)
    before, edges_before = area_and_edges(points, triangles)
    after, edges_after = area_and_edges(finer_points, finer)
    assert after == pytest.approx(before)
    assert len(finer) > len(triangles)
    assert np.array_equal(finer_points[: len(points)], points)
    assert vertex_normals(finer_points, finer)[:, 2].min() > 0.9
    # An inner edge belongs to two triangles: a gap would show as more edges with one.
    outline_before, outline_after = (edges_before == 1).sum(), (edges_after == 1).sum()
    cut_outline = outline_after - outline_before
    assert edges_after.max() == 2
    assert 0 <= cut_outline <= outline_before
    on_border = (np.abs(finer_points[len(points) :, :2] - 3.5) == 3.5).any(axis=1)
    assert cut_outline == on_border.sum()


def test_nothing_chosen_changes_nothing() -> None:
    points, triangles = flat_sheet()
    same_points, same = subdivide(points, triangles, np.zeros(len(triangles), dtype=bool))
    assert np.array_equal(same_points, points)
    assert np.array_equal(same, triangles)


def test_the_edge_of_ba4_is_made_finer() -> None:
    sheet = folded_sheet()
    voxel_mm = sheet["voxel"] @ sheet["affine"][:3, :3].T + sheet["affine"][:3, 3]
    picture = make_picture(sheet["vertices"], sheet["triangles"], voxel_mm, 1.0, left=True)
    assert len(sheet["triangles"]) < len(picture.triangles) < 6 * len(sheet["triangles"])
    assert picture.triangles.max() < len(picture.vertices) == len(picture.grey) == len(picture.light)
    assert picture.mapping.vertex.max() < len(picture.vertices)

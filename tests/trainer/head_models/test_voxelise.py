"""What a closed surface encloses: against solids whose inside is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull

from rt_engine.errors import DataError
from trainer.head_models.voxelise import Grid, ball_distance, coarsen, inside, largest_part

GRID = Grid((-12.0, -11.0, -13.0), (24, 22, 26))


def centers_mm(grid: Grid) -> np.ndarray:
    return np.stack(np.meshgrid(*[grid.axis_mm(i) for i in range(3)], indexing="ij"), axis=-1)


def ball(radius_mm: float, center_mm=(0.0, 0.0, 0.0), n: int = 1500) -> tuple[np.ndarray, np.ndarray]:
    """Make a closed surface near a sphere, counter-clockwise from outside."""
    i = np.arange(n) + 0.5
    polar, turn = np.arccos(1 - 2 * i / n), np.pi * (1 + 5**0.5) * i
    points = np.stack([np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar), np.cos(polar)], axis=1)
    triangles = ConvexHull(points).simplices
    corner = points[triangles]
    flip = (np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]) * corner.mean(axis=1)).sum(axis=1) < 0
    triangles[flip] = triangles[flip][:, ::-1]
    return points * radius_mm + center_mm, triangles.astype(np.int32)


@settings(max_examples=40)
@given(
    radius_mm=st.floats(2.0, 9.0),
    center_mm=st.tuples(*[st.floats(-1.5, 1.5)] * 3),
    step_mm=st.sampled_from([1.0, 0.7]),
    turned=st.booleans(),
)
def test_a_ball_holds_the_voxels_within_its_radius(radius_mm, center_mm, step_mm, turned) -> None:
    grid = Grid(GRID.origin_mm, tuple(int(n / step_mm) for n in GRID.shape), step_mm)
    vertices, triangles = ball(radius_mm, center_mm)
    found = inside(vertices, triangles[:, ::-1] if turned else triangles, grid, "ball")
    distance = np.linalg.norm(centers_mm(grid) - center_mm, axis=-1)
    # The facets lie up to 0.5 % inside of the sphere.
    assert found[distance < 0.99 * radius_mm - 0.01].all()
    assert not found[distance > radius_mm + 0.01].any()


def test_vertices_and_edges_on_the_voxels_columns_are_counted_once() -> None:
    """A cube and an octahedron with corners on voxel centres: the columns meet edges and vertices exactly."""
    corners = np.array([[x, y, z] for x in (-5, 5) for y in (-5, 5) for z in (-5, 5)], float)
    octahedron = np.array([[7, 0, 0], [-7, 0, 0], [0, 7, 0], [0, -7, 0], [0, 0, 7], [0, 0, -7]], float)
    for points, norm in ((corners, np.inf), (octahedron, 1)):
        triangles = ConvexHull(points).simplices.astype(np.int32)
        corner = points[triangles]
        flip = (np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]) * corner.mean(1)).sum(1) < 0
        triangles[flip] = triangles[flip][:, ::-1]
        found = inside(points, triangles, GRID, "solid")
        size = np.linalg.norm(centers_mm(GRID), ord=norm, axis=-1)
        limit = 5 if norm == np.inf else 7
        assert found[size < limit].all()
        assert not found[size > limit].any()


def test_where_a_surface_overlaps_itself_is_inside() -> None:
    first, second = ball(5.0, (-2.0, 0.1, 0.2)), ball(5.0, (2.0, 0.1, 0.2))
    both = inside(
        np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1] + len(first[0])]), GRID, "two"
    )
    assert np.array_equal(both, inside(*first, GRID, "one") | inside(*second, GRID, "other"))


def test_a_surface_that_reaches_beyond_the_grid_is_cut_there() -> None:
    vertices, triangles = ball(30.0)
    assert inside(vertices, triangles, GRID, "large").all()


@pytest.mark.parametrize("damage", ["hole", "flipped", "doubled"])
def test_a_surface_that_is_not_closed_is_refused(damage: str) -> None:
    vertices, triangles = ball(5.0, n=100)
    if damage == "hole":
        triangles = triangles[1:]
    elif damage == "flipped":
        triangles[0] = triangles[0, ::-1]
    else:
        triangles = np.concatenate([triangles, triangles[:1]])
    with pytest.raises(DataError, match=r"'pial' is not closed: \d+ of its"):
        inside(vertices, triangles, GRID, "pial")


def test_signed_distance_is_zero_at_the_border_and_in_mm() -> None:
    mask = np.zeros((20, 4, 4), bool)
    mask[:10] = True
    distance = ball_distance(mask, Grid((0, 0, 0), (20, 4, 4), 2.0))
    np.testing.assert_allclose(distance[:, 1, 1], 2.0 * (np.arange(20) - 9.5))


def test_the_largest_part_hangs_together_by_faces() -> None:
    mask = np.zeros((5, 5, 5), bool)
    mask[0, 0, :3] = mask[1, 1, 3:] = mask[4] = True
    assert np.array_equal(np.argwhere(largest_part(mask))[:, 0], np.full(25, 4))
    assert not largest_part(np.zeros((2, 2, 2), bool)).any()


def test_coarse_voxels_have_the_label_of_the_majority_and_tissue_wins_a_draw_against_air() -> None:
    label = np.zeros((4, 2, 2), np.uint8)
    label[0], label[1, 0] = 2, 3
    label[1, 1] = 2
    label[2] = 5
    assert coarsen(label, 2).ravel().tolist() == [2, 5]
    assert coarsen(label, 1) is label

"""Head models: what is no head is refused when it is made, and the hash changes with what a solution depends on."""

import dataclasses

import numpy as np
import pytest

from rt_engine.errors import DataError
from trainer.efield.head import (
    CONDUCTIVITY_S_PER_M,
    TISSUE_NAME,
    TetraHead,
    VoxelHead,
    conductivity_of,
    describe_conductivity,
)
from trainer.efield.sphere_head import sphere_head


def voxels(**change) -> VoxelHead:
    label = np.zeros((3, 4, 5), np.uint8)
    label[1:, 1:, 1:] = 2
    return VoxelHead(**({"label": label, "affine": np.diag([2.0, 2, 2, 1]), "space": "RAS", "name": "box"} | change))


def tetra(**change) -> TetraHead:
    node = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])
    parts = {"node_mm": node, "tetrahedron": np.array([[0, 1, 2, 3], [1, 2, 3, 4]]), "tag": np.array([1, 2])}
    return TetraHead(**(parts | {"space": "RAS", "name": "two"} | change))


def test_conductivities_are_those_of_simnibs():
    assert [CONDUCTIVITY_S_PER_M[tag] for tag in (1, 2, 3, 4, 5)] == [0.126, 0.275, 1.654, 0.010, 0.465]
    assert set(CONDUCTIVITY_S_PER_M) == set(TISSUE_NAME) - {0}
    assert describe_conductivity({2: 0.275, 1: 0.126}) == "white matter 0.126, grey matter 0.275"


def test_conductivities_are_looked_up_by_tag_and_air_has_none():
    found = conductivity_of(np.array([[0, 1], [5, 1]], np.uint8), CONDUCTIVITY_S_PER_M)
    np.testing.assert_array_equal(found, [[0, 0.126], [0.465, 0.126]])


@pytest.mark.parametrize(
    ("tag", "table", "message"),
    [
        (77, CONDUCTIVITY_S_PER_M, r"2 elements have the tissue tag 77 \(unknown\)"),
        (3, {1: 0.1}, r"tag 3 \(CSF\), for which there is no conductivity; there is one for \[1\]"),
        (1, {1: 0.0}, r"tissue 1 \(white matter\) is 0.0 S/m"),
        (1, {1: -0.1}, "expected a positive number"),
        (1, {1: np.nan}, "expected a positive number"),
    ],
)
def test_a_tissue_without_a_usable_conductivity_is_named(tag, table, message):
    with pytest.raises(DataError, match=message):
        conductivity_of(np.array([tag, tag, 0]), table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": np.zeros((3, 3, 3), np.uint8)}, "has no tissue"),
        ({"label": np.ones((3, 3), np.uint8)}, r"uint8 \(nx, ny, nz\)"),
        ({"label": np.ones((3, 3, 3))}, "label is float64"),
        ({"affine": np.eye(3)}, "affine"),
        ({"affine": np.full((4, 4), np.nan)}, "finite"),
        ({"affine": np.eye(4) + np.eye(4, k=-3)}, "last row"),
        ({"affine": np.diag([1.0, 1, 2, 1])}, r"no cubes: edges of \[1.0, 1.0, 2.0\]"),
        ({"affine": np.eye(4) + 0.01 * np.eye(4, k=1) * [0, 1, 1, 0]}, "no cubes"),
        ({"affine": np.diag([0.0, 0, 0, 1])}, "no cubes"),
    ],
)
def test_labels_that_are_no_head_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        voxels(**change)


def test_axes_may_be_turned_and_mirrored():
    turn = np.array([[0.0, -0.8, 0.6, 5], [-1, 0, 0, 6], [0, 0.6, 0.8, 7], [0, 0, 0, 1]])
    turn[:3, :3] *= 1.5
    assert voxels(affine=turn).resolution_mm == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"node_mm": np.zeros((5, 2))}, "node_mm"),
        ({"node_mm": np.zeros((5, 3), np.float32)}, "float32"),
        ({"node_mm": np.full((5, 3), np.nan)}, "5 of the 5 nodes"),
        ({"tetrahedron": np.zeros((2, 4))}, "tetrahedron is float64"),
        ({"tetrahedron": np.zeros((2, 3), int)}, "surfaces only"),
        ({"tetrahedron": np.zeros((0, 4), int), "tag": np.zeros(0, int)}, "surfaces only"),
        ({"tetrahedron": np.array([[0, 1, 2, 5], [1, 2, 3, 4]])}, "nodes 0 to 5; the mesh has nodes 0 to 4"),
        ({"tetrahedron": np.array([[0, 1, 2, -1], [1, 2, 3, 4]])}, "nodes -1 to 4"),
        ({"tag": np.array([1])}, r"\(1,\) tags"),
        ({"tag": np.array([1.0, 2.0])}, "tag is float64"),
    ],
)
def test_a_mesh_that_is_no_head_is_refused(change, message):
    with pytest.raises(DataError, match=message):
        tetra(**change)


def test_the_hash_follows_content_and_nothing_else():
    for head, changes in (
        (voxels(), ({"label": voxels().label * 2}, {"affine": np.diag([2.5, 2.5, 2.5, 1])})),
        (
            tetra(),
            ({"node_mm": tetra().node_mm + 1}, {"tag": np.array([2, 1])}, {"tetrahedron": tetra().tetrahedron[::-1]}),
        ),
    ):
        named = dataclasses.replace(head, name="another", notices="text")
        assert named.content_hash() == head.content_hash()
        hashes = {dataclasses.replace(head, **change).content_hash() for change in changes} | {head.content_hash()}
        assert len(hashes) == len(changes) + 1
    wide = dataclasses.replace(tetra(), tetrahedron=tetra().tetrahedron.astype(np.int32))
    assert wide.content_hash() == tetra().content_hash()


def test_a_sphere_has_its_layers_where_they_should_be():
    head = sphere_head(4.0, radii_mm=(30, 40), tags=(1, 5), center_mm=(10, 0, -5))
    index = np.argwhere(head.label >= 0)
    distance = np.linalg.norm(index @ head.affine[:3, :3].T + head.affine[:3, 3] - (10, 0, -5), axis=1)
    label = head.label[tuple(index.T)]
    np.testing.assert_array_equal(label, np.where(distance <= 30, 1, np.where(distance <= 40, 5, 0)))
    assert (label == 1).sum() * 4**3 == pytest.approx(4 / 3 * np.pi * 30**3, rel=0.02)


@pytest.mark.parametrize(
    "change", [{"radii_mm": (40, 30)}, {"radii_mm": (30,)}, {"radii_mm": (), "tags": ()}, {"resolution_mm": 0.0}]
)
def test_a_sphere_that_cannot_be_is_refused(change):
    with pytest.raises(DataError, match="expected"):
        sphere_head(**({"resolution_mm": 4.0, "radii_mm": (30, 40), "tags": (1, 5)} | change))

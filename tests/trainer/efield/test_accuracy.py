"""The measures of accuracy measure: they name a solver's fault, and what they are given must be spheres."""

import meshio
import numpy as np
import pytest

from rt_engine.errors import DataError
from trainer.efield.accuracy import random_pose, sphere_errors, tetra_sphere_error
from trainer.efield.voxel_fem import VoxelFem


def test_poses_are_tangential_right_handed_and_at_their_distance():
    generator = np.random.default_rng(0)
    for _ in range(20):
        pose = random_pose(96.0, generator)
        np.testing.assert_allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3), atol=1e-12)
        assert np.linalg.det(pose) == pytest.approx(1.0)
        np.testing.assert_allclose(pose[:3, 3], -96.0 * pose[:3, 2], atol=1e-9)


def test_a_source_a_tenth_too_strong_is_seen(monkeypatch):
    good = sphere_errors(8.0, n_poses=1)
    source = VoxelFem._source
    monkeypatch.setattr(VoxelFem, "_source", lambda self, coil, pose: 1.1 * source(self, coil, pose))
    bad = sphere_errors(8.0, n_poses=1)
    assert bad.inner > good.inner + 0.05
    assert good.n_nodes == bad.n_nodes > 5000
    assert good.solve_ms > 0


def test_the_tetrahedras_error_sees_a_layer_moved(tmp_path):
    import skfem

    mesh = skfem.MeshTet.init_ball(3)
    for shift in (0.0, 12.0):
        points = mesh.p.T * 92.0 + (shift, 0.0, 0.0)
        radius = np.linalg.norm(mesh.p[:, mesh.t].mean(axis=1), axis=0)
        tag = np.where(radius < 0.85, 2, 5).astype(np.int32)
        data = {"gmsh:physical": [tag], "gmsh:geometrical": [tag]}
        meshio.Mesh(points, [("tetra", mesh.t.T)], cell_data=data).write(
            tmp_path / f"{shift}.msh", file_format="gmsh22", binary=True
        )
    centred, moved = (tetra_sphere_error(tmp_path / f"{shift}.msh") for shift in (0.0, 12.0))
    assert centred < 0.12
    assert moved > centred + 0.05


def test_a_mesh_without_tetrahedra_is_refused(tmp_path):
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    data = {"gmsh:physical": [np.array([1], np.int32)], "gmsh:geometrical": [np.array([1], np.int32)]}
    meshio.Mesh(points, [("triangle", np.array([[0, 1, 2]]))], cell_data=data).write(
        tmp_path / "flat.msh", file_format="gmsh22", binary=True
    )
    with pytest.raises(DataError, match="tetrahedra"):
        tetra_sphere_error(tmp_path / "flat.msh")

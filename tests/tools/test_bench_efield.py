"""`m2m bench efield`: the figures that other programs read, and refusal to compare a basis with another head."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rt_engine.field.coil import figure_of_eight
from rt_engine.field.subject_file import MNI_RAS, Subject, write_subject
from tests.conftest import Ended
from tools.bench.efield import basis_of, moved_away, unseen_poses
from trainer.efield.build_basis import build_basis
from trainer.efield.coverage import Coverage, covered_poses
from trainer.efield.sphere_solver import SphereSolver

Run = Callable[..., Ended]

KEYS = {
    "sphere_inner_error", "sphere_skull_error", "basis_rank", "basis_mean_error", "basis_max_error", "pose_ms",
    "solve_ms",
}  # fmt: skip
"""What the requirement names; a key that goes away breaks its readers."""


@pytest.fixture(scope="module")
def subject() -> Subject:
    """Return a sphere's subject with a basis of 150 placements, in the usual coverage but only 30 mm wide."""
    affine = np.eye(4)
    affine[:3, 3] = (-40, -30, 50)
    bare = Subject(
        name="sphere",
        space=MNI_RAS,
        hemisphere="left",
        box_shape=(6, 7, 4),
        affine=affine,
        voxel=np.argwhere(np.ones((6, 7, 4), bool)).astype(np.int16),
        vertices=np.zeros((0, 3), np.float32),
        triangles=np.zeros((0, 3), np.int32),
        sphere_center_mm=np.array([-1.0, -24.0, 11.0]),
        scalp_radius_mm=82.0,
        notices="",
    )
    candidates = covered_poses(bare, 500, coverage=dataclasses.replace(Coverage(), radius_mm=30.0))
    solver = SphereSolver(bare.sphere_center_mm, bare.scalp_radius_mm)
    return dataclasses.replace(bare, basis=build_basis(solver, figure_of_eight(), candidates, bare.voxel_mm, 150))


def test_figures_come_as_json_and_as_a_table(m2m: Run, subject: Subject, tmp_path: Path) -> None:
    write_subject(tmp_path / "s.subject.h5", subject)
    ended = m2m("bench", "efield", "--quick", "--subject", tmp_path / "s.subject.h5", "--json")
    assert ended.code == 0, ended.err
    found = ended.json
    assert found.keys() >= KEYS
    assert found["basis_rank"] == 150
    # A sphere of 4 mm voxels is coarse, but no wrong sign or scale hides in it.
    assert 0 < found["sphere_inner_error"] < 0.03
    assert 0 < found["sphere_skull_error"] < 0.10
    assert found["sphere3_error"] is None
    assert 0 < found["basis_mean_error"] <= found["basis_max_error"] < 0.01
    assert found["basis_max_error"] < 3 * found["basis_max_residual"]
    assert found["basis_max_residual"] < found["residual_limit"]
    assert (found["placements"], found["covered_refused"], found["away_refused"]) == (6, 0, 1.0)
    assert found["solve_per_pose"] == pytest.approx(found["solve_ms"] / found["pose_ms"])
    for name in KEYS:
        assert name in ended.err


def test_a_subject_without_a_basis_is_refused(m2m: Run, subject: Subject, tmp_path: Path) -> None:
    write_subject(tmp_path / "s.subject.h5", dataclasses.replace(subject, basis=None))
    ended = m2m("bench", "efield", "--quick", "--subject", tmp_path / "s.subject.h5", "--json")
    assert ended.code == 1
    assert ended.out == ""
    assert "no E-field basis" in ended.err


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("closed form, another sphere; content 0123", "was not made of what is here now"),
        ("tetrahedra of somebody's head", "made again here"),
    ],
)
def test_a_basis_of_another_head_is_refused(m2m: Run, subject: Subject, tmp_path: Path, method, message) -> None:
    other = dataclasses.replace(subject, basis=dataclasses.replace(basis_of(subject), method=method))
    write_subject(tmp_path / "s.subject.h5", other)
    ended = m2m("bench", "efield", "--quick", "--subject", tmp_path / "s.subject.h5", "--json")
    assert ended.code == 1
    assert ended.out == ""
    assert message in " ".join(ended.err.split())


def test_unseen_placements_lie_in_the_covered_area_and_are_no_candidates(subject: Subject) -> None:
    basis = basis_of(subject)
    for seed in (1, 2026):  # 1 is the candidates' own
        poses = unseen_poses(subject, basis, 40, seed)
        distance = np.linalg.norm(poses[:, None, :3, 3] - basis.covered_mm, axis=2).min(axis=1)
        assert distance.max() < 10.0
        assert distance.min() > 1e-3


def test_a_coil_moved_away_is_5_cm_from_every_covered_place(subject: Subject) -> None:
    basis = basis_of(subject)
    for pose in unseen_poses(subject, basis, 10, 3):
        moved = moved_away(basis, pose)
        assert 50.0 <= np.linalg.norm(basis.covered_mm - moved[:3, 3], axis=1).min() < 52.0
        np.testing.assert_array_equal(moved[:3, :3], pose[:3, :3])


def test_inspect_says_what_the_basis_is(m2m: Run, subject: Subject, tmp_path: Path) -> None:
    write_subject(tmp_path / "s.subject.h5", subject)
    ended = m2m("inspect", tmp_path / "s.subject.h5", "--json")
    basis, found = basis_of(subject), ended.json
    assert (found["basis_rank"], found["basis_components"]) == (150, basis.n_components)
    assert found["basis"] == basis.method
    assert found["basis_coil"] == basis.coil.name
    assert found["basis_residual_limit"] == pytest.approx(basis.residual_limit, rel=1e-2)
    np.testing.assert_allclose(found["basis_coil_to_mm"], basis.covered_mm.max(axis=0), atol=0.01)
    assert "closed form" in " ".join(ended.err.split())
    write_subject(tmp_path / "s.subject.h5", dataclasses.replace(subject, basis=None))
    assert m2m("inspect", tmp_path / "s.subject.h5", "--json").json["basis"] is None

"""A basis is the same however its building was cut off, covers its candidates, and knows how far it can be trusted.

The closed-form sphere stands for the finite elements: to the basis a solver is a solver.
"""

import dataclasses
import logging
import os
import signal

import numpy as np
import pytest

from rt_engine.errors import DataError, FileFormatError
from rt_engine.field.coil import Coil, figure_of_eight
from rt_engine.field.field_basis import FieldBasis
from rt_engine.field.reduced_basis import ReducedBasis
from rt_engine.field.subject_file import Subject
from trainer.efield.build_basis import build_basis, choose_skeleton, compress, fit, residual_limit
from trainer.efield.coverage import Coverage, covered_poses
from trainer.efield.solve_many import solve_many
from trainer.efield.solver import FieldSolver
from trainer.efield.sphere_solver import SphereSolver

CENTER_MM = np.array([-1.0, -24.0, 11.0])
COVERAGE = Coverage(radius_mm=30.0, rotation_deg=45.0, tilt_deg=5.0, gap_mm=(0.0, 6.0))


@pytest.fixture(scope="module")
def subject() -> Subject:
    affine = np.eye(4)
    affine[:3, 3] = (-40, -30, 50)
    voxel = np.argwhere(np.ones((6, 7, 4), bool)).astype(np.int16)
    empty = np.zeros((0, 3))
    return Subject(
        "test", "RAS", "left", (6, 7, 4), affine, voxel, empty.astype(np.float32), empty.astype(np.int32),
        CENTER_MM, 82.0, "",
    )  # fmt: skip


@pytest.fixture(scope="module")
def candidates(subject: Subject) -> np.ndarray:
    return covered_poses(subject, 300, seed=1, coverage=COVERAGE)


@pytest.fixture(scope="module")
def unseen(subject: Subject) -> np.ndarray:
    return covered_poses(subject, 40, seed=2, coverage=COVERAGE)


@pytest.fixture(scope="module")
def solver() -> SphereSolver:
    return SphereSolver(CENTER_MM, 82.0)


@dataclasses.dataclass
class Built:
    """A basis, and what the building warned of."""

    basis: ReducedBasis
    warnings: str


def built(solver: FieldSolver, candidates: np.ndarray, subject: Subject, rank: int) -> Built:
    said: list[str] = []
    listener = logging.Handler(logging.WARNING)
    listener.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("trainer.efield").addHandler(listener)
    try:
        return Built(build_basis(solver, figure_of_eight(), candidates, subject.voxel_mm, rank), " ".join(said))
    finally:
        logging.getLogger("trainer.efield").removeHandler(listener)


@pytest.fixture(scope="module")
def large(solver: SphereSolver, candidates: np.ndarray, subject: Subject) -> Built:
    return built(solver, candidates, subject, 60)


def same(one: ReducedBasis, other: ReducedBasis) -> bool:
    """Say whether two bases are the same to the last bit, coils aside."""
    parts = [field.name for field in dataclasses.fields(ReducedBasis) if field.name != "coil"]
    return all(np.array_equal(getattr(one, part), getattr(other, part)) for part in parts)


class Counting(SphereSolver):
    """A sphere that counts its solves, and stops like Ctrl-C after so many."""

    def __init__(self, stop_after: int = 10**9) -> None:
        super().__init__(CENTER_MM, 82.0)
        self.solved = 0
        self.stop_after = stop_after

    def solve_at(self, coil: Coil, pose: np.ndarray, points_mm: np.ndarray) -> np.ndarray:
        if self.solved == self.stop_after:
            raise KeyboardInterrupt
        self.solved += 1
        return super().solve_at(coil, pose, points_mm)


def test_unseen_placements_are_as_good_as_the_residual_says(subject, solver, large, unseen) -> None:
    basis = large.basis
    ready = FieldBasis(basis)
    found = [ready.field(pose, 1.0) for pose in unseen]
    exact = [solver.solve_at(basis.coil, pose, subject.voxel_mm) for pose in unseen]
    error = np.array(
        [np.linalg.norm(f.field_v_per_m - e) / np.linalg.norm(e) for f, e in zip(found, exact, strict=True)]
    )
    assert error.mean() < 0.003
    assert error.max() < 0.01
    assert basis.rank == 60
    assert basis.n_components < 60
    assert basis.components.dtype == np.float16
    assert basis.method.startswith("closed form")
    assert solver.content_hash() in basis.method


def test_more_solves_make_a_better_basis_and_one_too_small_says_so(subject, solver, candidates, large, unseen) -> None:
    small = built(solver, candidates, subject, 15)
    assert "would be refused" in small.warnings
    assert "would be refused" not in large.warnings

    def worst(basis: ReducedBasis) -> float:
        ready = FieldBasis(basis)
        return max(ready.residual(pose) for pose in unseen)

    assert worst(small.basis) > 10 * worst(large.basis)


def test_a_build_cut_off_goes_on_and_gives_the_same_basis(subject, candidates, tmp_path) -> None:
    arguments = (figure_of_eight(), candidates, subject.voxel_mm, 20)
    whole = build_basis(SphereSolver(CENTER_MM, 82.0), *arguments)
    first, told = Counting(stop_after=8), []
    with pytest.raises(KeyboardInterrupt):
        build_basis(first, *arguments, checkpoint=tmp_path / "c", progress=lambda done, of: told.append((done, of)))
    assert told == [(n, 20) for n in range(9)]
    second, told = Counting(), []
    resumed = build_basis(
        second, *arguments, checkpoint=tmp_path / "c", progress=lambda done, of: told.append((done, of))
    )
    assert second.solved == 12
    assert told == [(n, 20) for n in range(8, 21)]
    assert same(resumed, whole)


def test_a_higher_rank_solves_only_what_is_new(subject, candidates, tmp_path) -> None:
    build_basis(Counting(), figure_of_eight(), candidates, subject.voxel_mm, 10, checkpoint=tmp_path / "c")
    more = Counting()
    build_basis(more, figure_of_eight(), candidates, subject.voxel_mm, 25, checkpoint=tmp_path / "c")
    assert more.solved == 15


def test_the_checkpoint_of_another_coil_or_other_voxels_is_refused(subject, solver, candidates, tmp_path) -> None:
    build_basis(solver, figure_of_eight(), candidates, subject.voxel_mm, 5, checkpoint=tmp_path / "c")
    before = (tmp_path / "c").read_bytes()
    for coil, points in ((figure_of_eight(n_turns=8), subject.voxel_mm), (figure_of_eight(), subject.voxel_mm + 1)):
        with pytest.raises(FileFormatError, match="another head, coil or set of points"):
            build_basis(solver, coil, candidates, points, 5, checkpoint=tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == before


def test_several_processes_give_the_same_bits_as_one(subject, solver, candidates, tmp_path) -> None:
    coil, told = figure_of_eight(), []
    one = solve_many(solver, coil, candidates[:7], subject.voxel_mm)
    two = solve_many(
        solver, coil, candidates[:7], subject.voxel_mm, jobs=2, checkpoint=tmp_path / "c",
        progress=lambda done, of: told.append((done, of)),
    )  # fmt: skip
    np.testing.assert_array_equal(two, one)
    assert told == [(n, 7) for n in range(8)]


class InterruptsItsParent(SphereSolver):
    """The third placement's solve makes the terminal's Ctrl-C arrive at the process that waits."""

    def __init__(self, marked: np.ndarray, parent: int) -> None:
        super().__init__(CENTER_MM, 82.0)
        self.marked, self.parent = marked, parent

    def solve_at(self, coil: Coil, pose: np.ndarray, points_mm: np.ndarray) -> np.ndarray:
        if np.array_equal(pose, self.marked) and os.getpid() != self.parent:
            os.kill(self.parent, signal.SIGINT)
            signal.pause()  # until the parent ends it
        return super().solve_at(coil, pose, points_mm)


def test_ctrl_c_ends_the_other_processes_and_keeps_what_was_solved(subject, candidates, tmp_path) -> None:
    coil = figure_of_eight()
    with pytest.raises(KeyboardInterrupt):
        solve_many(
            InterruptsItsParent(candidates[2], os.getpid()), coil, candidates[:5], subject.voxel_mm,
            jobs=2, checkpoint=tmp_path / "c",
        )  # fmt: skip
    solver = Counting()
    solve_many(solver, coil, candidates[:5], subject.voxel_mm, checkpoint=tmp_path / "c")
    assert 3 <= solver.solved <= 5


def test_an_error_in_a_process_arrives_as_what_it_is(subject, solver, candidates) -> None:
    outside = subject.voxel_mm + (0, 0, 500)
    for jobs in (1, 2):
        with pytest.raises(DataError, match="lie in no sphere"):
            solve_many(solver, figure_of_eight(), candidates[:3], outside, jobs=jobs)


def test_qr_takes_first_what_is_longest_and_then_what_is_worst_fitted() -> None:
    columns = np.array([[1.0, 0.0, 3.0, 3.0], [0.0, 2.0, 0.1, 0.0], [0.0, 0.0, 0.0, 0.5]])
    assert choose_skeleton(columns, 3).tolist()[:2] == [3, 1]


def test_fit_gives_the_combination_and_what_it_leaves() -> None:
    coefficient, residual = fit(np.array([[1.0], [0.0]]), np.array([[2.0, 3.0], [0.0, 4.0]]))
    np.testing.assert_allclose(coefficient, [[2.0, 3.0]])
    np.testing.assert_allclose(residual, [0.0, 0.8], atol=1e-15)


def test_the_limit_allows_the_error_that_was_asked_for() -> None:
    """Fields whose error is three times the residual, whatever the placement."""
    rng = np.random.default_rng(0)
    left, _ = np.linalg.qr(rng.normal(size=(50, 20)))
    # What one placement adds to those before is a part that shrinks, in the potential and three times in the field.
    new = np.diag(0.5 ** np.arange(20))
    old = np.triu(rng.normal(size=(20, 20)), 1) * 0.5 ** np.arange(20)[:, None]
    potential, field = left @ (new + old), (np.diag([1.0] + [3.0] * 19) @ (new + old)).T
    tight, loose = residual_limit(potential, field, most_error=0.01), residual_limit(potential, field, most_error=0.1)
    assert loose == pytest.approx(10 * tight)
    assert 0.01 / 9 < tight < 0.01 / 3


def test_compression_keeps_what_the_candidates_need_to_the_tolerance() -> None:
    rng = np.random.default_rng(1)
    field = rng.normal(size=(30, 8)) @ rng.normal(size=(8, 60)) + 1e-7 * rng.normal(size=(30, 60))
    mixing, components = compress(field, np.eye(30), truncation=1e-4)
    assert components.shape == (8, 60)
    wrong = np.linalg.norm(mixing @ components - field, axis=1) / np.linalg.norm(field, axis=1)
    assert wrong.max() < 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"candidates": np.eye(4)}, r"expected \(n, 4, 4\)"),
        ({"candidates": np.zeros((9, 4, 4))}, "rigid"),
        ({"candidates": np.stack([np.eye(4)] * 3)}, "3 candidates for a skeleton of 9"),
        ({"rank": 0}, "skeleton of 0"),
        ({"jobs": 0}, "0 jobs"),
        ({"candidates": "far"}, "same space"),
    ],
)
def test_what_cannot_be_built_is_refused_before_anything_is_solved(subject, candidates, change, message) -> None:
    solver = Counting()
    if isinstance(change.get("candidates"), str):
        far = candidates.copy()
        far[:, :3, 3] += 300
        change = {"candidates": far}
    given = {"candidates": candidates, "points_mm": subject.voxel_mm, "rank": 9} | change
    with pytest.raises(DataError, match=message):
        build_basis(solver, figure_of_eight(), **given)
    assert solver.solved == 0


def test_the_sphere_is_a_solver_like_the_others(subject) -> None:
    solver: FieldSolver = SphereSolver(CENTER_MM, 82.0)
    points = solver.interior_points(2000, 3)
    np.testing.assert_array_equal(points, solver.interior_points(2000, 3))
    distance = np.linalg.norm(points - CENTER_MM, axis=1)
    assert distance.max() <= 82.0
    assert np.mean(distance < 41.0) == pytest.approx(1 / 8, abs=0.03)  # evenly over the volume
    assert solver.content_hash() != SphereSolver(CENTER_MM, 83.0).content_hash()
    assert "82 mm" in solver.description
    for center, radius in (((0.0, 0.0), 80.0), ((0.0, 0.0, np.nan), 80.0), ((0.0, 0.0, 0.0), -1.0)):
        with pytest.raises(DataError, match="A sphere about"):
            SphereSolver(center, radius)

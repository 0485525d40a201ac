"""`m2m subject build` on a round head of large voxels: what it writes, prints and refuses."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rt_engine.errors import M2MError
from rt_engine.field.subject_file import read_subject
from tests.conftest import Ended
from tests.trainer.head_models.conftest import make_recipe
from tools.commands import subject as command
from trainer.head_models import build

Run = Callable[..., Ended]

CCD = """\
# number of elements
3
# dipole positions and moments
0.0 0.04 -0.01 0.0 0.0 1e-6
0.0 -0.04 -0.01 0.0 0.0 -1e-6
0.01 0.02 -0.01 0.0 0.0 1e-6
"""


@pytest.fixture(autouse=True)
def small_head(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recipe = make_recipe(monkeypatch)
    monkeypatch.setattr(build, "default_recipe", lambda: recipe)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr("sys.platform", "linux")


def test_subject_is_built_and_the_second_call_finds_it(m2m: Run, tmp_path: Path) -> None:
    arguments = ("subject", "build", "--rank", "5", "--json", "--out")
    first = m2m(*arguments, tmp_path / "a.subject.h5")
    assert first.code == 0
    found = first.json
    assert found["basis_rank"] == 5
    assert found["cached"] is False
    assert found["coil"] == "figure of eight, 70 mm"
    assert found["voxels"] == 216
    assert found["bytes"] == (tmp_path / "a.subject.h5").stat().st_size
    subject = read_subject(tmp_path / "a.subject.h5")
    assert subject.scalp is not None
    assert subject.basis is not None
    # The notices are shown, whole.
    assert "of nobody\nat all" in first.err
    again = m2m(*arguments, tmp_path / "b.subject.h5").json
    assert again["cached"] is True
    assert again["sha256"] == found["sha256"]
    assert again["tissue_ml"] == found["tissue_ml"]
    assert list((tmp_path / "xdg" / "m2m-live").glob("*.head.npz"))


def test_without_basis_in_a_cache_of_ones_own(m2m: Run, tmp_path: Path) -> None:
    ended = m2m("subject", "build", "-o", tmp_path / "a.subject.h5", "--no-basis", "--cache", tmp_path / "c", "--json")
    assert ended.code == 0
    assert "basis_rank" not in ended.json
    assert read_subject(tmp_path / "a.subject.h5").basis is None
    assert list((tmp_path / "c").glob("*.head.npz"))
    assert not (tmp_path / "xdg").exists()


def test_a_coil_from_a_file(m2m: Run, tmp_path: Path) -> None:
    (tmp_path / "three.ccd").write_text(CCD)
    arguments = ("subject", "build", "-o", tmp_path / "a.subject.h5", "--rank", "3", "--coil", tmp_path / "three.ccd")
    refused = m2m(*arguments)
    assert refused.code == 1
    assert "max_didt_a_per_us" in refused.err
    ended = m2m(*arguments, "--max-didt-a-per-us", "120")
    assert ended.code == 0, ended.err
    basis = read_subject(tmp_path / "a.subject.h5").basis
    assert basis is not None
    assert len(basis.coil.position_mm) == 3
    assert basis.coil.max_didt_a_per_us == 120.0


def test_ctrl_c_leaves_no_file_says_what_is_kept_and_the_same_command_goes_on(
    m2m: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    solved: list[int] = []
    solve = build.VoxelFem.solve_at

    def interrupted(self, *arguments):
        if len(solved) == 3:
            raise KeyboardInterrupt
        solved.append(1)
        return solve(self, *arguments)

    monkeypatch.setattr(build.VoxelFem, "solve_at", interrupted)
    arguments = ("subject", "build", "--rank", "5", "--json", "--out", tmp_path / "a.subject.h5")
    ended = m2m(*arguments)
    assert ended.code == 130
    assert "the same command goes on" in ended.err
    assert not (tmp_path / "a.subject.h5").exists()

    solved.clear()
    solved.append(1)  # two more are allowed: only what was missing is solved
    assert m2m(*arguments).code == 0
    assert read_subject(tmp_path / "a.subject.h5").basis is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "{tmp}/nowhere/a.subject.h5"), "no folder that can be written to"),
        (("--out", "{tmp}/a.subject.h5", "--source", "pycortex", "--archive", "{tmp}/no.tar.gz"), "pip download"),
        (("--out", "{tmp}/a.subject.h5", "--archive", "{tmp}"), "--archive is for --source pycortex"),
        (("--out", "{tmp}/a.subject.h5", "--coil", "{tmp}/no.ccd"), "no.ccd"),
        (("--out", "{tmp}/a.subject.h5", "--cache", "{tmp}/file/cache"), "cache folder"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(m2m: Run, tmp_path: Path, arguments, message) -> None:
    (tmp_path / "file").write_text("in the way")
    ended = m2m("subject", "build", *(text.format(tmp=tmp_path) for text in arguments))
    assert ended.code == 1
    assert message in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_without_pycortex_the_message_says_how_to_get_it(m2m: Run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    ended = m2m("subject", "build", "-o", tmp_path / "a.subject.h5", "--source", "pycortex")
    assert ended.code == 1
    assert "pip download --no-deps --no-binary :all: pycortex==1.4.0" in ended.err


def test_an_error_while_building_leaves_the_old_file(m2m: Run, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "a.subject.h5"
    out.write_bytes(b"old")

    def fails(*_: object) -> None:
        raise M2MError("the head has no scalp")

    monkeypatch.setattr(build, "scalp_patch", fails)
    assert m2m("subject", "build", "-o", out).code == 1
    assert out.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/somewhere"}, "/somewhere/m2m-live"),
        ("linux", {"XDG_CACHE_HOME": "", "HOME": "/home/lab"}, "/home/lab/.cache/m2m-live"),
        ("darwin", {"HOME": "/Users/lab"}, "/Users/lab/Library/Caches/m2m-live"),
    ],
)
def test_the_cache_is_where_the_system_keeps_such(monkeypatch, platform, variables, expected) -> None:
    monkeypatch.setattr("sys.platform", platform)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert command.default_cache().as_posix() == expected

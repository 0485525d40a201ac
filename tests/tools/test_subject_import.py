"""`m2m subject import`: a laboratory's files become a subject with a basis, or nothing is written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rt_engine.field.coil import figure_of_eight
from rt_engine.field.field_basis import FieldBasis
from rt_engine.field.subject_file import file_sha256, read_subject
from tests.conftest import Ended
from tests.trainer.importers.lab_head import LabFiles, hemisphere, write_lab, write_label, write_mesh
from trainer.efield.tetra_fem import TetraFem
from trainer.importers.simnibs_mesh import read_head

M2M = Callable[..., Ended]


@pytest.fixture(autouse=True)
def few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose the skeleton among few placements: what is chosen does not matter here."""
    monkeypatch.setattr("tools.commands.subject_import.N_CANDIDATES", 64)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> LabFiles:
    return write_lab(tmp_path_factory.mktemp("lab"))


def test_a_head_becomes_a_subject_whose_basis_gives_its_fields(tmp_path: Path, lab: LabFiles, m2m: M2M) -> None:
    out = tmp_path / "S01.subject.h5"
    ended = m2m(
        *("subject", "import", *lab.options, "--out", out, "--rank", "12", "--name", "person one"),
        *("--notice", "Collected in our laboratory; not to be shared.", "--json"),
    )
    assert ended.code == 0, ended.err
    subject = read_subject(out)
    assert ended.json["sha256"] == file_sha256(out)
    assert ended.json["voxels"] == subject.n_voxels
    assert ended.json["basis_rank"] == 12
    assert ended.json["hemisphere"] == "left"
    assert ended.json["voxels_outside_grey_and_white"] == 0
    assert ended.json["mask_fraction"] == pytest.approx(subject.n_voxels / 64**3)
    assert subject.name == "person one"
    for text in (subject.notices, ended.err):
        assert "Collected in our laboratory; not to be shared." in text
        assert "S01.msh, lh.white, lh.pial, lh.BA4a_exvivo.label" in text
    assert [path.name for path in tmp_path.iterdir()] == ["S01.subject.h5"]  # nothing half-solved is left
    assert subject.basis is not None
    assert "tetrahedra" in subject.basis.method
    # A placement that was solved is what the solver says of it.
    pose = subject.basis.skeleton_pose[3]
    found = FieldBasis(subject.basis).field(pose, 1e6)
    direct = TetraFem(read_head(lab.mesh)).solve_at(figure_of_eight(), pose, subject.voxel_mm) * 1e6
    error = np.linalg.norm(found.field_v_per_m - direct) / np.linalg.norm(direct)
    assert error < 0.01
    assert found.residual < 1e-3


def test_without_a_basis_only_the_anatomy_is_written(tmp_path: Path, lab: LabFiles, m2m: M2M) -> None:
    out = tmp_path / "S01.subject.h5"
    named = ["--annot", lab.annot, "--area", "BA4a_exvivo", "--area", "BA4p_exvivo", "--hand-knob=-39,-12,49"]
    ended = m2m(
        *("subject", "import", "--mesh", lab.mesh, "--white", lab.white, "--pial", lab.pial),
        *(*named, "--no-basis", "--out", out, "--json"),
    )
    assert ended.code == 0, ended.err
    subject = read_subject(out)
    assert subject.basis is None
    assert ended.json["basis_rank"] is None
    assert ended.json["target_mm"] == [-39, -12, 49]
    assert subject.name == "S01"
    assert subject.scalp is not None
    assert "No licence was stated" in subject.notices


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--hemisphere", "upper"], "expected left or right"),
        (["--hemisphere", "right"], "hemispheres disagree"),
        (["--hand-knob", "1,2"], "expected three numbers"),
        (["--hand-knob", "0,0,nan"], "expected three numbers"),
        (["--notice", " "], "there is no text in it"),
        (["--box", "40"], "larger than the box of 40 mm"),
        (["--area", "precentral"], "no annotation to look it up in"),
        (["--coil", "none.ccd"], "none.ccd"),
    ],
)
def test_what_cannot_be_is_refused_and_the_old_file_stays(
    tmp_path: Path, lab: LabFiles, m2m: M2M, options: list[str], said: str
) -> None:
    out = tmp_path / "S01.subject.h5"
    out.write_text("as it was")
    ended = m2m("subject", "import", *lab.options, "--out", out, "--rank", "5", *options)
    assert ended.code == 1
    assert said in " ".join(ended.err.split())
    assert out.read_text() == "as it was"
    assert [path.name for path in tmp_path.iterdir()] == ["S01.subject.h5"]


def test_bad_files_are_refused_and_nothing_is_written(tmp_path: Path, lab: LabFiles, m2m: M2M) -> None:
    white, _, _ = hemisphere()
    cut = tmp_path / "cut.msh"
    cut.write_bytes(lab.mesh.read_bytes()[:300_000])
    metres = write_mesh(tmp_path / "metres.msh", _ball_in_metres())
    empty = write_label(tmp_path / "lh.BA4.label", np.zeros(0, int))
    right = write_label(tmp_path / "rh.BA4.label", np.arange(50), white)
    given = {"--mesh": lab.mesh, "--white": lab.white, "--pial": lab.pial, "--label": lab.ba4a}
    bad = {
        "truncated": {"--mesh": cut},
        "Is it in metres": {"--mesh": metres},
        "is empty": {"--label": empty},
        "of the right hemisphere": {"--label": right},
        "There is no file": {"--pial": tmp_path / "lh.none"},
    }
    out = tmp_path / "out" / "S.subject.h5"
    ended = m2m("subject", "import", *lab.options, "--out", out)
    assert ended.code == 1
    assert "make it first" in ended.err
    out.parent.mkdir()
    for said, change in bad.items():
        ended = m2m("subject", "import", *[x for pair in (given | change).items() for x in pair], "--out", out)
        assert ended.code == 1
        assert said in " ".join(ended.err.split())
        assert list(out.parent.iterdir()) == []


def test_an_interrupted_import_goes_on_where_it_was(
    tmp_path: Path, lab: LabFiles, m2m: M2M, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "S01.subject.h5"
    solve_at, solved = TetraFem.solve_at, []

    def counted(self: TetraFem, *arguments: object, **more: object) -> object:
        if interrupt_after == len(solved):
            raise KeyboardInterrupt
        solved.append(1)
        return solve_at(self, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(TetraFem, "solve_at", counted)
    command = ("subject", "import", *lab.options, "--out", out, "--rank", "6")
    interrupt_after = 4
    assert m2m(*command).code == 130
    assert [path.name for path in tmp_path.iterdir()] == ["S01.subject.h5.solving"]
    interrupt_after = -1
    assert m2m(*command).code == 0
    assert len(solved) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["S01.subject.h5"]
    # The same bytes as without interruption.
    again = tmp_path / "again.subject.h5"
    assert m2m(*command[:-4], "--out", again, "--rank", "6").code == 0
    assert file_sha256(again) == file_sha256(out)


def _ball_in_metres() -> object:
    from tests.trainer.importers.lab_head import ball, changed

    return changed(node=ball().node / 1000)

"""The documentation's figures: that they can be drawn, are small, and show what they are given."""

from pathlib import Path

import numpy as np
import pytest

from rt_engine.errors import DataError, M2MError
from rt_engine.field.coil import figure_of_eight
from rt_engine.field.placement import coil_pose
from rt_engine.field.subject_file import MNI_RAS, Subject
from tests.drivers.conftest import small_subject, with_basis

pytest.importorskip("matplotlib", reason="matplotlib comes with m2m-live[train]")

from tools.docs_figures import docs_figures
from tools.figures.basis_error import basis_error
from tools.figures.canvas import MAX_BYTES, new_figure, save_figure
from tools.figures.coil_field import coil_field
from tools.figures.head_planes import head_planes
from tools.figures.mep_maps import mep_maps
from trainer.efield.head import GREY_MATTER, SCALP, VoxelHead
from trainer.efield.sphere_solver import SphereSolver


@pytest.fixture(scope="module")
def subject() -> Subject:
    return small_subject()


def ball() -> VoxelHead:
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = (-90.0, -112.0, -80.0)
    mm = np.stack(np.meshgrid(*[np.arange(46)] * 3, indexing="ij"), axis=-1) * 4.0 + affine[:3, 3]
    radius = np.linalg.norm(mm - [0.0, -22.0, 10.0], axis=-1)
    label = np.where(radius < 65, GREY_MATTER, np.where(radius < 77, SCALP, 0)).astype(np.uint8)
    return VoxelHead(label, affine, MNI_RAS, "a ball")


def texts(figure) -> str:
    """Return all that is written on the panels and in the legends."""
    panels = [text for panel in figure.axes for text in (panel.get_title(), panel.get_xlabel(), panel.get_ylabel())]
    return "\n".join([*panels, *(text.get_text() for legend in figure.legends for text in legend.get_texts())])


def test_planes_have_axes_in_mm_and_a_legend_of_what_is_there(subject: Subject, tmp_path: Path) -> None:
    figure = head_planes(ball(), subject)
    said = texts(figure)
    for word in ("sagittal", "coronal", "axial", "x, to the right (mm)", "grey matter", "scalp", "BA4"):
        assert word in said
    assert "bone" not in said
    assert 0 < save_figure(figure, tmp_path / "planes.png") <= MAX_BYTES
    assert (tmp_path / "planes.png").read_bytes().startswith(b"\x89PNG")


def test_planes_of_a_turned_head_are_refused(subject: Subject) -> None:
    head = ball()
    turned = head.affine.copy()
    turned[:2, :2] = 4.0 * np.array([[0.0, -1.0], [1.0, 0.0]])
    with pytest.raises(DataError, match="turned"):
        head_planes(VoxelHead(head.label, turned, head.space, head.name), subject)


def test_cortex_shows_the_field_with_its_unit(subject: Subject, tmp_path: Path) -> None:
    pose = coil_pose(subject, np.array([-0.5, 0.05, 0.86]))
    figure = coil_field(subject, figure_of_eight(), pose, np.array([10.0, 60.0, 30.0]), "closed form, at 120 % RMT")
    said = texts(figure)
    assert "|E| on the cortex (V/m)" in said
    assert "(mm)" in said
    assert figure.axes[-1].get_ylim()[1] == pytest.approx(60.0)
    assert save_figure(figure, tmp_path / "coil.png") <= MAX_BYTES


def test_every_muscle_has_a_map(tmp_path: Path) -> None:
    figure = mep_maps(with_basis(small_subject()))
    said = texts(figure)
    for muscle in ("FDI", "AbPB", "BRD"):
        assert muscle in said
    assert "µV" in said
    maps = [panel.images[0].get_array() for panel in figure.axes if panel.images]
    assert len(maps) == 15
    hottest = np.array(np.unravel_index(np.argmax(maps[0]), maps[0].shape))
    assert (np.abs(hottest - 12) <= 2).all()  # the FDI's own map has its hotspot in the middle
    assert save_figure(figure, tmp_path / "maps.png") <= MAX_BYTES


def test_basis_error_falls_with_the_rank(subject: Subject) -> None:
    rng = np.random.default_rng(3)
    directions = np.array([-0.5, 0.05, 0.86]) + rng.normal(0.0, 0.15, (80, 3))
    pose = np.stack([coil_pose(subject, each, rotation_deg=rng.normal(0, 5)) for each in directions])
    solver = SphereSolver(subject.sphere_center_mm, subject.scalp_radius_mm)
    figure = basis_error(
        solver, figure_of_eight(), pose[:70], pose[70:], subject.voxel_mm, "closed form", ranks=(5, 20, 40)
    )
    panel = figure.axes[0]
    error = next(line for line in panel.lines if str(line.get_label()).startswith("error")).get_ydata()
    assert (np.diff(error) < 0).all()
    assert error[-1] < 1.0
    assert "10 unseen placements" in panel.get_title()


def test_a_picture_that_is_too_large_is_refused_and_the_old_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "noise.png"
    path.write_bytes(b"precious")
    figure = new_figure(8, 8)
    figure.subplots().imshow(np.random.default_rng(0).random((800, 800)), interpolation="nearest")
    with pytest.raises(M2MError, match="200000"):
        save_figure(figure, path)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "named"), [({"only": ["brain"]}, "brain.*head-planes"), ({"out": Path("no/such")}, "no/such")]
)
def test_what_cannot_be_drawn_is_said_before_anything_is_made(tmp_path, arguments, named) -> None:
    with pytest.raises(M2MError, match=named):
        docs_figures(**{"out": tmp_path, "only": None, "cache": tmp_path / "cache", **arguments})
    assert list(tmp_path.iterdir()) == []

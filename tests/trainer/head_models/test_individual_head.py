"""An individual's head from surfaces and a T1 image, on a person made of balls."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from rt_engine.errors import DataError
from tests.trainer.head_models.test_voxelise import ball
from trainer.efield.head import AIR, BONE, CSF, GREY_MATTER, SCALP, WHITE_MATTER
from trainer.head_models import individual_head as module
from trainer.head_models.individual_head import individual_head, individual_subject
from trainer.head_models.pycortex_store import Hemisphere, Individual

CEREBRUM_MM, CEREBELLUM_MM = np.array([0.0, 0.0, 6.0]), np.array([0.0, 0.0, -20.0])
HEAD_MM = 42.0
AXIS = np.arange(-54.0, 54.0)

SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" xmlns:inkscape="http://www.inkscape.org/namespaces/inkscape" width="200"
     height="100"><g inkscape:label="M1F"><path d="M 40,40 L 45,40 45,60 40,60 Z"/></g>
  <g inkscape:label="M1H"><path d="M 47,40 L 53,40 53,60 47,60 Z"/></g>
  <g inkscape:label="M1M"><path d="M 55,40 L 60,40 60,60 55,60 Z"/></g></svg>"""


@cache
def person(*, cerebellum: float = 90.0) -> Individual:
    """Make a cerebrum of one ball, a bright cerebellum below it, dark skull and CSF, bright skin, noise in the air."""
    place = np.stack(np.meshgrid(AXIS, AXIS, AXIS, indexing="ij"), axis=-1)
    radius = np.linalg.norm(place, axis=-1)
    t1 = np.random.default_rng(0).integers(0, 10, radius.shape).astype(np.uint8)
    t1[radius < HEAD_MM] = 150
    t1[radius < HEAD_MM - 5] = 12
    t1[np.linalg.norm(place - CEREBRUM_MM, axis=-1) < 18] = 100
    t1[np.linalg.norm(place - CEREBELLUM_MM, axis=-1) < 7] = cerebellum
    affine = np.eye(4)
    affine[:3, 3] = AXIS[0]

    def hemisphere(radius_mm: float) -> Hemisphere:
        pial, triangles = ball(radius_mm, CEREBRUM_MM, n=3000)
        white = (pial - CEREBRUM_MM) * (radius_mm - 3) / radius_mm + CEREBRUM_MM
        # Flattened from above: x and y are the map, 100 mm wide.
        flat = np.column_stack([(pial - CEREBRUM_MM)[:, :2] / radius_mm * 50, np.zeros(len(pial))])
        upper = triangles[(pial[triangles][..., 2] > CEREBRUM_MM[2]).all(axis=1)]
        return Hemisphere(white, pial, flat, triangles, upper)

    return Individual(hemisphere(18.0), hemisphere(17.0), t1, affine, SVG)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRID_MM", ((-54.0, -54.0, -54.0), (54.0, 54.0, 54.0)))
    monkeypatch.setattr(module, "CEREBELLUM_SEED_MM", tuple(CEREBELLUM_MM))
    monkeypatch.setattr(module, "BOX_ORIGIN_MM", (-32.0, -32.0, -26.0))
    monkeypatch.setattr(module, "SCALP_ABOVE_HULL_MM", 20.0)


def test_every_tissue_is_where_the_image_and_the_surfaces_have_it() -> None:
    head = individual_head(person(), 1)
    place = np.stack(np.meshgrid(AXIS, AXIS, AXIS, indexing="ij"), axis=-1)
    assert head.affine[:3, 3].tolist() == [AXIS[0]] * 3
    from_cerebrum = np.linalg.norm(place - CEREBRUM_MM, axis=-1)
    assert (head.label[from_cerebrum < 14] == WHITE_MATTER).all()
    assert (head.label[(from_cerebrum > 15.5) & (from_cerebrum < 17.5)] == GREY_MATTER).all()
    assert (head.label[np.linalg.norm(place - CEREBELLUM_MM, axis=-1) < 6] == GREY_MATTER).all()
    radius = np.linalg.norm(place, axis=-1)
    assert (head.label[radius > HEAD_MM + 1.5] == AIR).all()
    assert (head.label[(radius < HEAD_MM - 1) & (radius > HEAD_MM - 3)] == SCALP).all()
    line = head.label[54, 54, 60:]  # upwards from the middle of the cerebrum
    assert (line == CSF).sum() == pytest.approx(module.CSF_MM, abs=1)
    # From the inner skull at 26 mm to the air at 42 mm: half of the way, but not more than the thickest bone.
    assert (line == BONE).sum() == pytest.approx(min(module.BONE_SHARE * 16, module.THICKEST_BONE_MM), abs=1)


def test_the_conductor_is_one_without_holes_and_without_leaks() -> None:
    head = individual_head(person(), 2)
    assert head.resolution_mm == 2
    tissue = head.label > 0
    assert ndimage.label(tissue)[1] == 1
    assert np.array_equal(ndimage.binary_fill_holes(tissue), tissue)
    assert set(np.unique(head.label[ndimage.binary_dilation(~tissue) & tissue])) == {SCALP}
    brain = np.isin(head.label, (WHITE_MATTER, GREY_MATTER))
    assert set(np.unique(head.label[ndimage.binary_dilation(brain) & ~brain])) <= {CSF, BONE}


def test_motor_cortex_is_the_three_areas_and_the_gaps_between_them() -> None:
    subject = individual_subject(person())
    assert "M1F, M1H, M1M" in subject.name
    # The areas are drawn over the top of the left ball, 20 of 100 units wide; its ribbon is 3 mm thick.
    offset = subject.voxel_mm - CEREBRUM_MM
    assert (offset[:, 2] > 0).all()
    radius = np.linalg.norm(offset, axis=1)
    assert radius.min() > 14.4
    assert radius.max() < 18.6
    # Foot and mouth are 15 units apart, the gaps of 2 units between them and the hand belong to it.
    x = np.unique(np.round(offset[:, 0]))
    assert np.diff(x).max() == 1
    np.testing.assert_allclose([x[0], x[-1]], [-3.6, 3.6], atol=1.1)


def test_an_image_without_cerebellum_is_refused() -> None:
    with pytest.raises(DataError, match="shows no cerebellum"):
        individual_head(person(cerebellum=12.0), 2)


def test_open_surfaces_and_other_resolutions_are_refused() -> None:
    whole = person()
    with pytest.raises(DataError, match="is not closed"):
        individual_head(replace(whole, left=replace(whole.left, triangles=whole.left.triangles[1:])), 2)
    with pytest.raises(DataError, match="found 4 mm"):
        individual_head(whole, 4)

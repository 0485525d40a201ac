"""Candidates fill what an operator may do: place, handle angle, tilt and distance, and nothing beyond."""

from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest

from rt_engine.errors import DataError
from rt_engine.field.placement import coil_pose, move
from rt_engine.field.subject_file import Subject, read_subject
from trainer.efield.coverage import Coverage, covered_poses

KNOB_MM = (-37.0, -23.0, 57.0)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return replace(read_subject(str(files("configs") / "demo" / "default.subject.h5")), scalp=None, basis=None)


def test_candidates_fill_the_coverage_and_stay_in_it(subject: Subject) -> None:
    coverage = Coverage(radius_mm=60.0, rotation_deg=180.0, tilt_deg=15.0, gap_mm=(0.0, 12.0))
    poses = covered_poses(subject, 500, seed=1, target_mm=KNOB_MM, coverage=coverage)
    outward = poses[:, :3, 3] - subject.sphere_center_mm
    distance = np.linalg.norm(outward, axis=1)
    gap = distance - subject.scalp_radius_mm
    outward /= distance[:, None]
    middle = KNOB_MM - subject.sphere_center_mm
    walked = subject.scalp_radius_mm * np.arccos(outward @ middle / np.linalg.norm(middle))
    tilt = np.rad2deg(np.arccos(np.clip(-(outward * poses[:, :3, 2]).sum(axis=1), -1, 1)))
    assert 58 < walked.max() <= 60.0001
    assert np.median(walked) == pytest.approx(60 / np.sqrt(2), abs=2)  # evenly over the area
    assert (gap.min(), gap.max()) == (pytest.approx(0, abs=0.1), pytest.approx(12, abs=0.1))
    assert 18 < tilt.max() < 15 * np.sqrt(2) + 0.1
    # The handle points everywhere: its directions sum up to nearly nothing.
    straight = np.stack([coil_pose(subject, d)[:3, :2] for d in outward])
    turn = np.arctan2(
        (straight[:, :, 0] * poses[:, :3, 1]).sum(axis=1), (straight[:, :, 1] * poses[:, :3, 1]).sum(axis=1)
    )
    assert abs(np.exp(1j * turn).mean()) < 0.05


def test_a_grid_of_the_article_around_a_hotspot_2_cm_from_the_knob_is_near_candidates(subject: Subject) -> None:
    poses = covered_poses(subject, target_mm=KNOB_MM)
    hotspot = move(KNOB_MM - subject.sphere_center_mm, 12.0, 10.0, subject.scalp_radius_mm)
    corners = [
        coil_pose(subject, move(hotspot, x, y, subject.scalp_radius_mm)) for x in (-30.0, 30.0) for y in (-30.0, 30.0)
    ]
    for pose in corners:
        assert np.linalg.norm(poses[:, :3, 3] - pose[:3, 3], axis=1).min() < 5


def test_the_same_seed_gives_the_same_placements_and_another_unseen_ones(subject: Subject) -> None:
    first = covered_poses(subject, 33, seed=4, target_mm=KNOB_MM)
    assert first.shape == (33, 4, 4)
    np.testing.assert_array_equal(first, covered_poses(subject, 33, seed=4, target_mm=KNOB_MM))
    assert not np.allclose(first, covered_poses(subject, 33, seed=5, target_mm=KNOB_MM), atol=1e-3)


def test_without_a_target_the_middle_lies_over_ba4(subject: Subject) -> None:
    poses = covered_poses(subject, 64, coverage=Coverage(radius_mm=5.0))
    outward = poses[:, :3, 3].mean(axis=0) - subject.sphere_center_mm
    middle = subject.voxel_mm.mean(axis=0) - subject.sphere_center_mm
    assert outward @ middle > 0.999 * np.linalg.norm(outward) * np.linalg.norm(middle)


def test_the_coverage_says_what_it_is_in_words() -> None:
    assert Coverage().description == (
        "coil within 60 mm along the scalp, every handle angle, tilt up to 15 degrees, 0 to 12 mm above the scalp"
    )
    assert "handle 45 +- 30 degrees" in Coverage(rotation_deg=30.0).description


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 0}, "0 placements"),
        ({"coverage": Coverage(gap_mm=(5.0, 4.0))}, "gap_mm"),
        ({"coverage": Coverage(gap_mm=(-1.0, 4.0))}, "no negative"),
        ({"coverage": Coverage(tilt_deg=-1.0)}, "no negative"),
        ({"target_mm": (np.nan, 0.0, 0.0)}, "no direction"),
        ({"target_mm": "centre"}, "no direction"),
    ],
)
def test_a_coverage_that_cannot_be_is_refused(subject: Subject, change, message) -> None:
    if change.get("target_mm") == "centre":
        change = {"target_mm": subject.sphere_center_mm}
    with pytest.raises(DataError, match=message):
        covered_poses(subject, **({"n": 4} | change))

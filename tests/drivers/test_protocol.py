"""Placements: the article's grid, its intensities, and how the coil is held."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.simulated.protocol import grid_offsets_mm, make_protocol
from drivers.simulated.settings import ProtocolSettings
from rt_engine.field.coil import check_pose
from rt_engine.field.placement import coil_pose, move
from rt_engine.field.subject_file import Subject
from tests.drivers.conftest import small_subject

HEAD = small_subject()
HOTSPOT = np.array([-0.5, 0.05, 0.86]) / np.linalg.norm([-0.5, 0.05, 0.86])
STILL = {"position_jitter_mm": 0.0, "tilt_jitter_deg": 0.0, "rotation_jitter_deg": 0.0}


def test_each_intensity_has_every_point_of_the_grid_once(subject: Subject) -> None:
    protocol = make_protocol(subject, HOTSPOT, ProtocolSettings(pulses=1200), seed=1)
    grid = sorted(map(tuple, grid_offsets_mm(ProtocolSettings())))
    assert len(grid) == 49
    for intensity in (110.0, 120.0, 130.0, 140.0):
        chosen = protocol.intensity_percent_rmt == intensity
        assert chosen.sum() == 300
        assert sorted(map(tuple, protocol.offset_mm[chosen & protocol.on_grid])) == grid


def test_grid_spans_six_by_six_centimetres_around_the_hotspot() -> None:
    grid = grid_offsets_mm(ProtocolSettings())
    assert grid.min() == -30.0
    assert grid.max() == 30.0
    assert [0.0, 0.0] in grid.tolist()


def test_operator_stays_inside_the_grid_and_prefers_its_middle(subject: Subject) -> None:
    protocol = make_protocol(subject, HOTSPOT, ProtocolSettings(pulses=1200), seed=1)
    own = protocol.offset_mm[~protocol.on_grid]
    assert np.abs(own).max() <= 30.0
    assert np.median(np.linalg.norm(own, axis=1)) < 15.0


@given(pulses=st.integers(1, 90), seed=st.integers(0, 2**32))
def test_any_number_of_pulses_gives_rigid_poses_and_even_intensities(pulses: int, seed: int) -> None:
    protocol = make_protocol(HEAD, HOTSPOT, ProtocolSettings(pulses=pulses), seed)
    assert protocol.pose.shape == (pulses, 4, 4)
    for pose in protocol.pose:
        check_pose(pose)
    counts = [(protocol.intensity_percent_rmt == i).sum() for i in (110.0, 120.0, 130.0, 140.0)]
    assert sum(counts) == pulses
    assert max(counts) - min(counts) <= 1


def test_same_seed_same_list_other_seed_another(subject: Subject) -> None:
    first, again, other = (make_protocol(subject, HOTSPOT, ProtocolSettings(pulses=20), seed) for seed in (5, 5, 6))
    assert np.array_equal(first.pose, again.pose)
    assert np.array_equal(first.intensity_percent_rmt, again.intensity_percent_rmt)
    assert not np.array_equal(first.pose, other.pose)


def test_jitter_has_the_size_that_is_set(subject: Subject) -> None:
    plan = ProtocolSettings(pulses=800, position_jitter_mm=1.5, tilt_jitter_deg=0.0, rotation_jitter_deg=4.0)
    protocol = make_protocol(subject, HOTSPOT, plan, seed=2)
    still = [coil_pose(subject, move(HOTSPOT, *offset, subject.scalp_radius_mm)) for offset in protocol.offset_mm]
    moved = np.linalg.norm(protocol.pose[:, :3, 3] - np.array(still)[:, :3, 3], axis=1)
    assert np.sqrt((moved**2).mean() / 2) == pytest.approx(1.5, rel=0.1)
    turned = np.rad2deg(np.arccos(np.clip((protocol.pose[:, :3, 1] * np.array(still)[:, :3, 1]).sum(1), -1, 1)))
    assert np.sqrt((turned**2).mean()) == pytest.approx(4.0, rel=0.1)


def test_navigation_error_moves_what_is_recorded_and_not_the_coil(subject: Subject) -> None:
    plan = ProtocolSettings(pulses=400, navigation_error_mm=2.0)
    protocol = make_protocol(subject, HOTSPOT, plan, seed=2)
    exact = make_protocol(subject, HOTSPOT, ProtocolSettings(pulses=400), seed=2)
    assert np.array_equal(protocol.pose, exact.pose)
    assert np.array_equal(exact.pose, exact.pose_navigated)
    error = (protocol.pose_navigated - protocol.pose)[:, :3, 3]
    np.testing.assert_allclose((error * protocol.pose[:, :3, 2]).sum(axis=1), 0.0, atol=1e-9)
    assert np.sqrt((error**2).sum(axis=1).mean() / 2) == pytest.approx(2.0, rel=0.1)

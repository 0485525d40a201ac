"""The coil's way between two placements, and when the stimulator's output is changed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.simulated.coil_track import CoilTrack, output_at
from rt_engine.field.coil import check_pose
from rt_engine.field.placement import coil_pose, move
from tests.drivers.conftest import small_subject

HEAD = small_subject()
START = np.array([-0.5, 0.05, 0.86])
POSES = np.stack([coil_pose(HEAD, move(START, x, 5.0, 77.0), rotation_deg=x) for x in (0.0, 30.0, -25.0)])
SAMPLES = np.array([1000, 2000, 4000])
TRACK = CoilTrack(POSES, SAMPLES, HEAD.sphere_center_mm)


@pytest.mark.parametrize(("sample", "place"), [(-50, 0), (0, 0), (1000, 0), (1199, 0), (1601, 1), (2000, 1), (2399, 1)])
def test_coil_stands_still_around_every_pulse(sample: int, place: int) -> None:
    assert np.array_equal(TRACK.pose_at(sample), POSES[place])


@pytest.mark.parametrize("sample", [3300, 4000, 99999])
def test_coil_stays_at_the_last_place(sample: int) -> None:
    assert np.array_equal(TRACK.pose_at(sample), POSES[2])


@given(sample=st.floats(0, 5000))
def test_coil_moves_rigidly_around_the_head(sample: float) -> None:
    pose = TRACK.pose_at(sample)
    check_pose(pose)
    assert np.linalg.norm(pose[:3, 3] - HEAD.sphere_center_mm) == pytest.approx(79.0, abs=1e-6)


def test_coil_moves_without_jumps() -> None:
    places = np.stack([TRACK.pose_at(sample)[:3, 3] for sample in range(900, 4100)])
    assert np.linalg.norm(np.diff(places, axis=0), axis=1).max() < 0.2


def test_output_is_set_between_the_pulses() -> None:
    percent = np.array([40.0, 50.0, 60.0])
    shown = [output_at(percent, SAMPLES, sample) for sample in (0, 1000, 1299, 1300, 2000, 2700, 4000, 9000)]
    assert shown == [40.0, 40.0, 40.0, 50.0, 50.0, 60.0, 60.0, 60.0]

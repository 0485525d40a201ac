"""A trial is given the coil pose and the intensity that held at its pulse."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_engine.companions import CoilPose, History, StimulatorIntensity
from rt_engine.edges.pose_sample import POSE_CHANNELS, parse_pose

T0 = 5000.0
RATE_HZ = 2000.0


def _pose(t: float, x_mm: float = 0.0, *, tracked: bool = True) -> CoilPose:
    matrix = np.eye(4)
    matrix[0, 3] = x_mm
    return CoilPose(t, matrix, tracked)


@given(
    times=st.lists(st.floats(0.0, 100.0), max_size=30),
    t=st.floats(-10.0, 110.0),
    max_age_s=st.floats(0.0, 50.0),
    order=st.randoms(use_true_random=False),
)
def test_the_newest_entry_at_or_before_a_time_holds_in_whatever_order_they_came(
    times: list[float], t: float, max_age_s: float, order: Any
) -> None:
    history: History[StimulatorIntensity] = History()
    order.shuffle(times)
    for time in times:
        history.add(StimulatorIntensity(time, 50.0))
    before = [time for time in times if time <= t]
    found = history.at(t, max_age_s)
    if before and t - max(before) <= max_age_s:
        assert found is not None
        assert found.t == max(before)
    else:
        assert found is None


def test_later_entries_do_not_change_what_held() -> None:
    history: History[StimulatorIntensity] = History()
    history.add(StimulatorIntensity(1.0, 40.0))
    then = history.at(1.5, 10.0)
    history.add(StimulatorIntensity(2.0, 80.0))
    assert history.at(1.5, 10.0) is then


def test_only_the_last_entries_are_kept() -> None:
    history: History[StimulatorIntensity] = History(length=4)
    for k in range(10):
        history.add(StimulatorIntensity(float(k), 50.0))
    assert history.at(5.5, 100.0) is None
    assert history.at(6.5, 100.0) is not None
    history.add(StimulatorIntensity(7.5, 60.0))
    assert history.at(7.6, 100.0).percent_mso == 60.0


def test_a_trial_carries_the_pose_and_intensity_at_its_pulse(
    emg: Callable[..., Any], new_engine: Callable[..., Any]
) -> None:
    stream = emg(4000, [1000, 3000])
    engine = new_engine()
    for k in range(20):
        engine.feed_pose(_pose(T0 + 0.05 * k, x_mm=k))
    engine.feed_intensity(StimulatorIntensity(T0 + 0.1, 55.0))
    first, second = engine.feed_samples(stream.block(0, 4000))
    assert first.trial.pose.matrix[0, 3] == 10.0, "the pose of 0.50 s, of those at 50 ms intervals"
    assert first.trial.intensity.percent_mso == 55.0
    assert second.trial.pose is None, "the last pose is 0.55 s old at 1.5 s; 0.5 s is the limit"
    assert second.trial.intensity.percent_mso == 55.0


def test_a_pose_after_the_pulse_is_not_the_pulses(emg: Callable[..., Any], new_engine: Callable[..., Any]) -> None:
    engine = new_engine()
    engine.feed_pose(_pose(T0 + 0.5 + 0.001))
    (result,) = engine.feed_samples(emg(2000, [1000]).block(0, 2000))
    assert result.trial.pose is None
    assert result.trial.intensity is None


def test_a_sample_of_the_pose_stream_is_a_matrix_row_by_row_and_a_flag() -> None:
    matrix = np.arange(16.0).reshape(4, 4)
    pose = parse_pose([*matrix.ravel().tolist(), 1.0], 3.0)
    assert pose is not None
    np.testing.assert_array_equal(pose.matrix, matrix)
    assert pose.tracked
    assert pose.t == 3.0


@pytest.mark.parametrize(("flag", "entry"), [(0.0, 1.0), (1.0, np.nan), (np.nan, 1.0), (1.0, np.inf)])
def test_a_coil_out_of_sight_is_not_tracked(flag: float, entry: float) -> None:
    pose = parse_pose([entry, *[0.0] * 15, flag], 3.0)
    assert pose is not None
    assert not pose.tracked


@pytest.mark.parametrize("values", [[], [0.0] * 16, [0.0] * 18, ["1.0"] * POSE_CHANNELS])
def test_a_sample_of_another_shape_is_no_pose(values: list[Any]) -> None:
    assert parse_pose(values, 3.0) is None

"""What may change while a session runs: gains, the model, and with it the tracked coil's field. Replays repeat it."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_engine.companions import CoilPose, StimulatorIntensity
from rt_engine.engine import Engine, PulseResult
from rt_engine.errors import DataError, ModelError
from rt_engine.estimator import CortexEstimator, gains_by_name, make_estimator
from rt_engine.tracked_field import ComputedField

MUSCLES = ("FDI", "ADM", "ECR")


class Slower:
    """A tracked field that remembers what it was asked, in place of a basis."""

    def __init__(self) -> None:
        self.prepared: list[tuple[float, float]] = []

    def prepare(self, pose: CoilPose | None, intensity: StimulatorIntensity | None) -> bool:
        if pose is None or intensity is None or (pose.t, intensity.t) in self.prepared:
            return False
        self.prepared.append((pose.t, intensity.t))
        return True

    def beside(self, _map: Any, pose: CoilPose | None, _intensity: Any) -> ComputedField:
        return ComputedField(None, reason="no_pose" if pose is None else f"pose of {pose.t}")


def _model(muscles: tuple[str, ...], fake: Any, sha256: str = "cd" * 32) -> Any:
    fake.info = SimpleNamespace(muscles=muscles, field_scale_v_per_m=80.0, sha256=sha256, path="other.onnx")
    return fake


def test_gains_are_for_the_model_only_and_stand_in_the_result(
    emg: Callable[..., Any], new_engine: Callable[..., Engine], fake_model: Callable[[], Any]
) -> None:
    model = fake_model()
    engine, plain = new_engine(model=model), new_engine()
    engine.set_gains([2.0, 1.0, 0.5])
    block = emg(2000, [1000]).block(0, 2000)
    (result,), (other,) = engine.feed_samples(block), plain.feed_samples(block)
    np.testing.assert_array_equal(result.meps.amplitude_uv, other.meps.amplitude_uv)
    ((amplitudes, _),) = model.asked
    np.testing.assert_array_equal(amplitudes, other.meps.amplitude_uv * np.float32([2.0, 1.0, 0.5]))
    assert (result.gains, other.gains) == ((2.0, 1.0, 0.5), ())
    assert result.map.mep_normalised[0] > other.map.mep_normalised[0]


def test_no_gain_makes_a_response_of_what_is_below_the_floor(
    emg: Callable[..., Any], new_engine: Callable[..., Engine], fake_model: Callable[[], Any]
) -> None:
    model = fake_model()
    engine = new_engine(model=model)
    engine.set_gains([20.0, 20.0, 20.0])
    (result,) = engine.feed_samples(emg(2000, [1000], amplitude_uv=0.0).block(0, 2000))
    assert result.meps.amplitude_uv.max() < 50.0 < 20.0 * result.meps.amplitude_uv.min()
    ((amplitudes, _),) = model.asked
    assert (amplitudes < 50.0).all()
    assert "no_active_muscle" in result.map.confidence_reasons


def test_a_muscle_that_a_gain_takes_below_the_floor_is_no_longer_active(
    emg: Callable[..., Any], new_engine: Callable[..., Engine]
) -> None:
    engine = new_engine()
    engine.set_gains([1.0, 0.05, 0.05])
    (result,) = engine.feed_samples(emg(2000, [1000]).block(0, 2000))
    assert result.map.confidence_reasons == ("one_active_muscle", "early_stamps")


def test_gains_hold_from_the_next_trial_that_is_served_until_they_are_taken_back(
    emg: Callable[..., Any], new_engine: Callable[..., Engine]
) -> None:
    stream, engine = emg(6000, [1000, 2500, 4000]), new_engine()
    first = engine.feed_samples(stream.block(0, 2550))  # the second pulse has come, but waits for its last samples
    engine.set_gains((2.0, 2.0, 2.0))
    second = engine.feed_samples(stream.block(2550, 3000))
    engine.set_gains(None)
    third = engine.feed_samples(stream.block(3000, 6000))
    assert [[r.gains for r in results] for results in (first, second, third)] == [[()], [(2.0, 2.0, 2.0)], [()]]
    assert engine.gains == ()


def test_gains_of_one_are_none(new_engine: Callable[..., Engine]) -> None:
    engine = new_engine()
    engine.set_gains([2.0, 1.0, 1.0])
    engine.set_gains([1.0, 1.0, 1.0])
    assert engine.gains == ()


@pytest.mark.parametrize(
    ("gains", "message"),
    [
        ([1.0, 1.0], r"expected 3 gains, one per muscle; got the shape \(2,\)"),
        ([1.0, 0.0, 1.0], "the gain of ADM is 0; expected 0.05 to 20"),
        ([1.0, 1.0, 21.0], "the gain of ECR is 21; expected 0.05 to 20"),
        ([float("nan"), 1.0, 1.0], "the gain of FDI is nan; expected 0.05 to 20"),
    ],
)
def test_gains_that_cannot_be_are_refused_and_change_nothing(
    gains: list[float], message: str, new_engine: Callable[..., Engine]
) -> None:
    engine = new_engine()
    engine.set_gains([2.0, 1.0, 1.0])
    with pytest.raises(DataError, match=message):
        engine.set_gains(gains)
    assert engine.gains == (2.0, 1.0, 1.0)


def test_gains_are_named_by_muscle(new_engine: Callable[..., Engine]) -> None:
    assert gains_by_name({"ECR": 2.0}, MUSCLES) == [1.0, 1.0, 2.0]
    assert gains_by_name({}, MUSCLES) == [1.0, 1.0, 1.0]
    with pytest.raises(DataError, match="the session has no muscle 'APB'; it has FDI, ADM, ECR"):
        gains_by_name({"APB": 2.0}, MUSCLES)
    with pytest.raises(DataError, match="the gain of FDI is 0.01"):
        gains_by_name({"FDI": 0.01}, MUSCLES)


@given(cuts=st.lists(st.integers(1, 5999), max_size=12))
def test_the_same_changes_after_as_many_samples_give_the_same_bits(
    cuts: list[int],
    emg: Callable[..., Any],
    new_engine: Callable[..., Engine],
    bits: Callable[..., Any],
    fake_model: Any,
) -> None:
    stream = emg(6000, [1000, 2500, 4000])

    def played(cuts: list[int]) -> list[PulseResult]:
        engine, results = new_engine(), []
        edges = sorted({0, 1800, 2600, 6000, *cuts})
        for begin, end in zip(edges[:-1], edges[1:], strict=True):
            if begin == 1800:
                engine.set_gains([3.0, 0.5, 1.0])
            if begin == 2600:
                engine.swap(make_estimator(_model(MUSCLES, fake_model()), MUSCLES))
            results += engine.feed_samples(stream.block(begin, end))
        return results

    assert bits(played(cuts)) == bits(played([]))


def test_a_swapped_model_makes_the_next_map_and_is_named_in_it(
    emg: Callable[..., Any], new_engine: Callable[..., Engine], fake_model: Callable[[], Any]
) -> None:
    stream, engine = emg(6000, [1000, 4000, 5990]), new_engine()
    (before,) = engine.feed_samples(stream.block(0, 2000))
    engine.set_gains([2.0, 1.0, 1.0])
    engine.swap(make_estimator(_model(MUSCLES, fake_model()), MUSCLES))
    (after,) = engine.feed_samples(stream.block(2000, 6000))
    (invalid,) = engine.finish()
    assert (before.model_sha256, after.model_sha256, engine.model_sha256) == ("", "cd" * 32, "cd" * 32)
    assert (before.map.scale_v_per_m, after.map.scale_v_per_m) == (100.0, 80.0)
    assert after.gains == (2.0, 1.0, 1.0), "the electrodes sit where they sat"
    assert (invalid.map, invalid.model_sha256) == (None, "cd" * 32)


def test_a_model_whose_muscles_stand_in_another_order_is_asked_in_its_own(
    emg: Callable[..., Any], new_engine: Callable[..., Engine], fake_model: Callable[[], Any]
) -> None:
    stream, engine, model = emg(2000, [1000]), new_engine(), fake_model()
    engine.swap(make_estimator(_model(("ECR", "FDI", "ADM"), model), MUSCLES))
    engine.set_gains([2.0, 1.0, 1.0])
    stream.samples[1060, 1] = np.nan
    (result,) = engine.feed_samples(stream.block(0, 2000))
    ((amplitudes, valid),) = model.asked
    fdi, _, ecr = result.meps.amplitude_uv
    assert amplitudes.tolist() == [ecr, 2.0 * fdi, 0.0]
    assert valid.tolist() == [True, True, False]
    assert result.map.mep_normalised.tolist() == pytest.approx([2.0 * fdi / 2000.0, 0.0, ecr / 2000.0])
    assert result.map.confidence_reasons == ("samples_missing:ADM", "early_stamps")


def test_a_model_of_other_muscles_is_refused_by_name(
    new_engine: Callable[..., Engine], fake_model: Callable[[], Any]
) -> None:
    with pytest.raises(ModelError, match="of 2 muscles, the session measures 3; the model does not know ADM"):
        make_estimator(_model(("FDI", "ECR"), fake_model()), MUSCLES)
    with pytest.raises(ModelError, match="the session lacks APB; the model does not know ADM"):
        make_estimator(_model(("FDI", "APB", "ECR"), fake_model()), MUSCLES)
    with pytest.raises(ModelError, match="for the muscles ECR, ADM, FDI; the session has FDI, ADM, ECR"):
        new_engine().swap(CortexEstimator(fake_model(), MUSCLES[::-1], 100.0))


def test_the_field_of_a_waiting_pulses_own_pose_is_prepared_once(
    emg: Callable[..., Any], new_engine: Callable[..., Engine]
) -> None:
    made, tracked = new_engine(), Slower()
    engine = Engine(made.assembler, made._criteria, made._estimator, None, tracked)
    stream = emg(4000, [1000, 1004])
    for t in (5000.3, 5000.45, 5000.499, 5000.51):  # the pulse comes at 5000.5
        engine.feed_pose(CoilPose(t, np.eye(4)))
    engine.feed_intensity(StimulatorIntensity(4999.0, 50.0))
    engine.prepare()
    assert tracked.prepared == [], "no pulse waits"
    engine.feed_samples(stream.block(0, 1050))
    for _ in range(3):
        engine.rehearse()
    assert tracked.prepared == [(5000.499, 4999.0)], "two pulses 2 ms apart have one pose"
    results = engine.feed_samples(stream.block(1050, 4000))
    assert [r.computed.reason for r in results] == ["pose of 5000.499"] * 2
    assert (engine.n_valid, engine.n_invalid) == (2, 0)


def test_a_session_without_tracked_field_has_nothing_computed(
    emg: Callable[..., Any], new_engine: Callable[..., Engine]
) -> None:
    (result,) = new_engine().feed_samples(emg(2000, [1000]).block(0, 2000))
    assert result.computed is None

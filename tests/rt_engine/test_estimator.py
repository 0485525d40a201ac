"""What the model is told, and when its map is to be taken with caution."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_engine.cortical_map import CorticalMap
from rt_engine.errors import ModelError
from rt_engine.estimator import DEFAULT_POLICY, CortexEstimator, Use
from rt_engine.mep import MepStatus, MepVector

MUSCLES = ("FDI", "ADM", "ECR")


def _meps(amplitudes: list[float], status: list[int] | None = None) -> MepVector:
    nothing = np.full(3, np.nan, dtype=np.float32)
    return MepVector(
        np.array(amplitudes, dtype=np.float32),
        np.array(status or [0, 0, 0], dtype=np.uint16),
        nothing,
        np.stack((nothing, nothing), axis=1),
        nothing,
        nothing,
    )


def _estimate(model: Any, meps: MepVector, policy: dict[MepStatus, Use] | None = None) -> CorticalMap:
    return CortexEstimator(model, MUSCLES, 120.0, floor_uv=50.0, policy=policy).estimate(meps)


def test_the_model_gets_microvolts_and_its_answer_is_handed_on(fake_model: Callable[[], Any]) -> None:
    model = fake_model()
    result = _estimate(model, _meps([700.0, 300.0, 12.5]))
    ((amplitudes, valid),) = model.asked
    assert amplitudes.tolist() == [700.0, 300.0, 12.5], "also below the floor, as they are"
    assert amplitudes.dtype == np.float32
    assert valid.tolist() == [True, True, True]
    assert valid.dtype == np.bool_
    again = model.predict(amplitudes, valid)
    for name in ("field", "spread", "cog_mm", "cog_cov_mm2", "mep_normalised"):
        np.testing.assert_array_equal(getattr(result, name), getattr(again, name))
    assert result.scale_v_per_m == 120.0
    assert (result.confidence, result.confidence_reasons) == ("ok", ())


@pytest.mark.parametrize(
    ("amplitudes", "reasons"),
    [
        ([700.0, 300.0, 0.0], ()),
        ([50.0, 500.0, 0.0], ()),
        ([49.9, 700.0, 10.0], ("one_active_muscle",)),
        ([49.9, 10.0, 0.0], ("no_active_muscle",)),
        ([55.0, 55.0, 0.0], ("weak_response",)),
        ([0.0, 0.0, 60.0], ("one_active_muscle", "weak_response")),
    ],
)
def test_few_or_weak_muscles_lower_the_confidence(
    amplitudes: list[float], reasons: tuple[str, ...], fake_model: Callable[[], Any]
) -> None:
    result = _estimate(fake_model(), _meps(amplitudes))
    assert result.confidence_reasons == reasons
    assert result.confidence == ("low" if reasons else "ok")
    assert result.field.shape == (5,), "a map is delivered all the same"


@pytest.mark.parametrize("status", [s for s in MepStatus if s and s != MepStatus.SAMPLES_MISSING])
@pytest.mark.parametrize("use", ["use", "mark", "reject"])
def test_a_status_does_what_the_settings_say(status: MepStatus, use: Use, fake_model: Callable[[], Any]) -> None:
    model = fake_model()
    result = _estimate(model, _meps([700.0, 600.0, 500.0], [0, int(status), 0]), {status: use})
    ((amplitudes, valid),) = model.asked
    rejected = use == "reject"
    assert valid.tolist() == [True, not rejected, True]
    assert amplitudes.tolist() == [700.0, 0.0 if rejected else 600.0, 500.0]
    reason = f"{(status.name or '').lower()}:ADM"
    assert result.confidence_reasons == (() if use == "use" else (reason,))


def test_without_settings_each_status_does_its_default(fake_model: Callable[[], Any]) -> None:
    for status, use in DEFAULT_POLICY.items():
        model = fake_model()
        result = _estimate(model, _meps([700.0, 600.0, 500.0], [int(status), 0, 0]))
        assert model.asked[0][1][0] == (use != "reject")
        assert bool(result.confidence_reasons) == (use != "use")


def test_a_muscle_without_amplitude_is_never_used_whatever_the_settings_say(fake_model: Callable[[], Any]) -> None:
    model = fake_model()
    meps = _meps([np.nan, 600.0, 500.0], [int(MepStatus.SAMPLES_MISSING), 0, 0])
    result = _estimate(model, meps, {MepStatus.SAMPLES_MISSING: "use"})
    ((amplitudes, valid),) = model.asked
    assert valid.tolist() == [False, True, True]
    assert amplitudes.tolist() == [0.0, 600.0, 500.0]
    assert result.confidence_reasons == ("samples_missing:FDI",)


def test_a_rejected_muscle_is_not_active(fake_model: Callable[[], Any]) -> None:
    flat = int(MepStatus.FLAT)
    result = _estimate(fake_model(), _meps([700.0, 600.0, 0.0], [flat, 0, flat]))
    assert result.confidence_reasons == ("one_active_muscle", "flat:FDI", "flat:ECR")


def test_a_trial_in_which_no_muscle_can_be_used_has_a_map_and_says_so(fake_model: Callable[[], Any]) -> None:
    missing = int(MepStatus.SAMPLES_MISSING)
    result = _estimate(fake_model(), _meps([np.nan] * 3, [missing] * 3))
    assert result.confidence_reasons[0] == "no_active_muscle"
    assert np.isfinite(result.field).all()


@given(
    amplitudes=st.lists(st.floats(0.0, 1e6, width=32), min_size=3, max_size=3),
    status=st.lists(st.integers(0, 127), min_size=3, max_size=3),
    policy=st.dictionaries(st.sampled_from([f for f in MepStatus if f]), st.sampled_from(["use", "mark", "reject"])),
)
def test_what_is_no_number_never_reaches_the_model(
    amplitudes: list[float], status: list[int], policy: dict[MepStatus, Use], fake_model: Callable[[], Any]
) -> None:
    missing = int(MepStatus.SAMPLES_MISSING)
    amplitudes = [np.nan if s & missing else a for a, s in zip(amplitudes, status, strict=True)]
    model = fake_model()
    result = _estimate(model, _meps(amplitudes, status), policy)
    ((asked, valid),) = model.asked
    assert np.isfinite(asked).all()
    assert not valid[[bool(s & missing) for s in status]].any()
    assert (asked[~valid] == 0.0).all()
    assert all(
        f"samples_missing:{m}" in result.confidence_reasons for m, s in zip(MUSCLES, status, strict=True) if s & missing
    )


def test_an_error_of_the_model_is_not_swallowed() -> None:
    class Broken:
        def predict(self, amplitudes_uv: np.ndarray, valid: np.ndarray) -> Any:
            raise ModelError("the model gave NaN")

    with pytest.raises(ModelError, match="gave NaN"):
        _estimate(Broken(), _meps([700.0, 600.0, 500.0]))

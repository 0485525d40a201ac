"""The tracked coil's own field in the window: how it is compared, and what stands there without one."""

from typing import Any

import numpy as np
import pytest
from fake_engine import SCALE_V_PER_M, FakeSession

from rt_engine.errors import DataError
from rt_engine.messages import FieldAgreement, MapHeader, decode
from tools.display.coil_field import coil_sign, coil_view
from tools.display.received import received_map
from tools.display.state import STALE_AFTER_S, DisplayState
from tools.display.words import computed_field_reason

NOW = 100.0


def make_state(change: Any = lambda header, arrays: None) -> tuple[DisplayState, FakeSession]:
    state = DisplayState("tcp://127.0.0.1:5556", NOW)

    def feed(frames: list[bytes]) -> None:
        header, arrays = decode(frames)
        if isinstance(header, MapHeader):
            change(header, arrays)
        state.receive(header, arrays, NOW)

    session = FakeSession(feed)
    session.greet()
    session.send_health()
    return state, session


def test_the_agreement_stands_there_in_figures() -> None:
    state, session = make_state()
    assert (coil_sign(state, NOW).word, coil_sign(state, NOW).detail) == ("–", "no map yet")
    session.send_pulse()
    sign = coil_sign(state, NOW)
    assert (sign.word, sign.detail, sign.tone) == ("r 0.87", "CoG 4.2 mm off, NRMSE 0.31", "good")
    assert coil_sign(state, NOW + STALE_AFTER_S + 1.0).detail == "old map, of pulse 0"


def test_opposite_and_unknown_correlations_are_said_as_such() -> None:
    agreement = FieldAgreement(correlation=-0.25, nrmse=1.5, cog_distance_mm=31.0)
    state, session = make_state(lambda header, _: setattr(header, "computed_field_agreement", agreement))
    session.send_pulse()
    assert coil_sign(state, NOW).word == "r \u22120.25"
    agreement.correlation = None
    assert coil_sign(state, NOW).word == "–"


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("not_tracked", "coil not tracked"),
        ("not_covered", "outside the basis' coverage"),
        ("invented_later", "invented later"),
    ],
)
def test_without_a_field_the_reason_stands_there(reason: str, words: str) -> None:
    state, session = make_state()
    session.send_pulse(computed_reason=reason)
    assert (coil_sign(state, NOW).word, coil_sign(state, NOW).detail) == ("–", words)
    assert computed_field_reason("") == "no reason given"


def test_the_view_puts_the_computed_field_in_the_estimates_place_and_scale() -> None:
    state, session = make_state()
    session.send_pulse(peak=10)
    shown, geometry = state.map, state.geometry
    assert shown is not None
    assert geometry is not None
    view = coil_view(shown, geometry)
    np.testing.assert_allclose(view.field * np.float32(SCALE_V_PER_M), shown.computed_v_per_m, rtol=1e-6)
    assert view.header is shown.header
    weight = shown.computed_v_per_m.astype(np.float64)
    np.testing.assert_allclose(view.cog_mm, weight @ geometry.voxel_mm / weight.sum())
    assert np.isnan(view.cog_cov_mm2).all()
    session.send_pulse(computed_reason="no_pose")
    assert state.map is not None
    nothing = coil_view(state.map, geometry)
    assert np.isnan(nothing.field).all()
    assert np.isnan(nothing.cog_mm).all()


@pytest.mark.parametrize("value", [np.zeros(3, np.float32), np.zeros((1, 1), np.float32)])
def test_a_computed_field_of_other_voxels_is_refused(value: np.ndarray) -> None:
    _, session = make_state(lambda header, arrays: arrays.update(computed_field=value))
    with pytest.raises(DataError, match="array 'computed_field' of the map of pulse 0"):
        session.send_pulse()


def test_an_engine_that_sends_no_computed_field_is_understood() -> None:
    found: list[Any] = []

    def keep(frames: list[bytes]) -> None:
        header, arrays = decode(frames)
        if isinstance(header, MapHeader):
            arrays.pop("computed_field", None)
            found.append(received_map(header, arrays))

    FakeSession(keep).send_pulse()
    assert found[0].computed_v_per_m is None

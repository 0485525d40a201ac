"""Muscles are found by name in any order, and a unit is never guessed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_engine.channels import check_baseline, match_channels
from rt_engine.errors import StreamError
from rt_engine.muscles import ARTICLE_MUSCLES

MUSCLES = ("FDI", "ADM", "ECR")


@given(order=st.permutations([*ARTICLE_MUSCLES, "TTL", "extra", "", "ECG"]))
def test_muscles_are_found_in_any_order_and_among_other_channels(order: list[str]) -> None:
    found = match_channels(order, ["uV"] * len(order), ARTICLE_MUSCLES, ttl_label="TTL")
    assert [order[column] for column in found.columns] == list(ARTICLE_MUSCLES)
    assert found.ttl_column == order.index("TTL")
    assert found.muscles == ARTICLE_MUSCLES


def test_case_and_surrounding_blanks_of_labels_do_not_matter() -> None:
    found = match_channels([" fdi", "Adm ", "ECR", "ttl"], ["uV"] * 4, MUSCLES, ttl_label="TTL")
    assert found.columns.tolist() == [0, 1, 2]
    assert found.ttl_column == 3


def test_channels_can_be_named_after_muscles_in_the_settings() -> None:
    names = {"EMG 1": "ECR", "EMG 3": "FDI"}
    found = match_channels(["EMG 1", "ADM", "EMG 3"], ["uV"] * 3, MUSCLES, names=names)
    assert found.columns.tolist() == [2, 1, 0]


def test_renaming_a_channel_that_is_not_there_is_refused() -> None:
    with pytest.raises(StreamError, match=r"rename channels .* not have: EMG 9; its channels are FDI, ADM, ECR"):
        match_channels(["FDI", "ADM", "ECR"], ["uV"] * 3, MUSCLES, names={"EMG 9": "FDI"})


def test_missing_muscles_are_all_named_before_the_session_starts() -> None:
    with pytest.raises(StreamError, match=r"no channel for FDI, ECR; its channels are ADM, TTL"):
        match_channels(["ADM", "TTL"], ["uV", "au"], MUSCLES)


def test_a_stream_without_labels_is_refused() -> None:
    with pytest.raises(StreamError, match="no channel for FDI, ADM, ECR"):
        match_channels(["", "", ""], ["uV"] * 3, MUSCLES)


def test_a_missing_trigger_channel_is_refused_only_where_pulses_come_from_it() -> None:
    labels, units = list(MUSCLES), ["uV"] * 3
    with pytest.raises(StreamError, match="no channel for TTL"):
        match_channels(labels, units, MUSCLES, ttl_label="TTL")
    assert match_channels(labels, units, MUSCLES).ttl_column is None


@pytest.mark.parametrize("labels", [["FDI", "ADM", "ECR", "fdi "], ["FDI", "ADM", "ECR", "EMG 4"]])
def test_two_channels_of_one_muscle_are_refused(labels: list[str]) -> None:
    names = {"EMG 4": "FDI"} if "EMG 4" in labels else None
    with pytest.raises(StreamError, match="more than one channel for FDI"):
        match_channels(labels, ["uV"] * 4, MUSCLES, names=names)


@pytest.mark.parametrize(
    ("unit", "microvolts"),
    [
        ("microvolts", 1.0), ("uV", 1.0), ("\u00b5V", 1.0), ("\u03bcV", 1.0), ("UV", 1.0), (" uV ", 1.0),
        ("millivolts", 1e3), ("mV", 1e3), ("volts", 1e6), ("V", 1e6), ("Volts", 1e6), ("v", 1e6),
    ],
)  # fmt: skip
def test_units_are_understood_as_amplifiers_write_them(unit: str, microvolts: float) -> None:
    found = match_channels(MUSCLES, [unit, "uV", "mV"], MUSCLES)
    assert found.scale_to_uv.tolist() == [microvolts, 1.0, 1e3]


@pytest.mark.parametrize("unit", ["MV", "nV", "furlong", "1", "uA"])
def test_an_unknown_unit_is_refused_by_name(unit: str) -> None:
    with pytest.raises(StreamError, match=f"channel 'ADM' has the unit '{unit}'; expected microvolts"):
        match_channels(MUSCLES, ["uV", unit, "uV"], MUSCLES)


def test_a_unit_that_is_not_stated_must_stand_in_the_settings() -> None:
    with pytest.raises(StreamError, match=r"'ADM' .* states no unit; set streams.emg.unit"):
        match_channels(MUSCLES, ["uV", "", "uV"], MUSCLES)
    found = match_channels(MUSCLES, ["uV", "", "uV"], MUSCLES, default_unit="mV")
    assert found.scale_to_uv.tolist() == [1.0, 1e3, 1.0], "what the stream states goes before the settings"


def test_the_trigger_channels_unit_is_nobodys_business() -> None:
    assert match_channels([*MUSCLES, "TTL"], ["uV"] * 3 + ["furlong"], MUSCLES, ttl_label="TTL").ttl_column == 3


def _rest(sd_uv: float, n_muscles: int = 3) -> np.ndarray:
    return np.random.default_rng(1).normal(0.0, sd_uv, (1000, n_muscles))


@pytest.mark.parametrize("sd_uv", [0.5, 3.0, 50.0])
def test_resting_emg_is_accepted_whatever_its_dc_offset(sd_uv: float) -> None:
    check_baseline(_rest(sd_uv) + 12_345.0, MUSCLES)


@pytest.mark.parametrize("factor", [1e3, 1e6, 1e-3, 1e-6])
def test_a_wrong_unit_is_caught_by_the_size_of_the_baseline(factor: float) -> None:
    with pytest.raises(StreamError, match=r"SD of .* expected 0.05 to 500 uV.* unit .* is probably wrong"):
        check_baseline(_rest(4.0) * factor, MUSCLES)


def test_one_loose_electrode_does_not_stop_a_session() -> None:
    rest = _rest(3.0)
    rest[:, 0] *= 1e5
    check_baseline(rest, MUSCLES)
    rest[:, 0] = 0.0
    check_baseline(rest, MUSCLES)
    rest[:, 0] = np.nan
    check_baseline(rest, MUSCLES)
    rest[:, 0] = np.inf
    check_baseline(rest, MUSCLES)


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan])
def test_an_amplifier_that_is_off_is_named(value: float) -> None:
    with pytest.raises(StreamError, match="all 3 EMG channels are flat or not numbers"):
        check_baseline(np.full((1000, 3), value), MUSCLES)

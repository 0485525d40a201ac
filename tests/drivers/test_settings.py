"""What the simulated subject's settings accept and how they refuse."""

import pytest

from drivers.simulated.settings import SimulatedSubjectSettings, settings_from
from rt_engine.errors import SettingsError
from rt_engine.muscles import ARTICLE_MUSCLES


def test_nothing_given_means_the_article() -> None:
    settings = settings_from({})
    assert settings.muscles == settings.labels == ARTICLE_MUSCLES
    assert settings.protocol.intensities_percent_rmt == (110.0, 120.0, 130.0, 140.0)
    assert settings.protocol.interval_s == 4.5


def test_groups_are_filled_from_plain_values() -> None:
    settings = settings_from({"seed": 4, "emg": {"hum_hz": 60}, "protocol": {"pulses": 7}})
    assert (settings.seed, settings.emg.hum_hz, settings.protocol.pulses) == (4, 60, 7)


def test_muscles_keep_the_order_that_is_given_and_may_be_relabelled() -> None:
    settings = settings_from({"muscles": ["ECR", "FDI"], "channel_labels": ["wrist", "index"]})
    assert settings.columns == [12, 0]
    assert settings.labels == ("wrist", "index")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"sed": 1}, "sed"),
        ({"emg": {"hum": 50}}, "hum"),
        ({"emg": {"hum_hz": 55}}, "hum_hz"),
        ({"emg": {"unit": "nV"}}, "nV"),
        ({"emg": {"noise_rms_uv": [6.0, 2.0]}}, "noise_rms_uv"),
        ({"emg": {"band_hz": [20.0, 1200.0]}}, "band_hz"),
        ({"emg": {"flat_muscles": ["APB"]}}, "APB"),
        ({"muscles": ["FDI", "APB"]}, "APB"),
        ({"muscles": ["FDI", "FDI"]}, "twice"),
        ({"muscles": []}, "muscles"),
        ({"muscles": ["FDI"], "channel_labels": ["a", "b"]}, "channel_labels"),
        ({"protocol": {"pulses": 0}}, "pulses"),
        ({"protocol": {"interval_s": 0.0}}, "interval_s"),
        ({"protocol": {"interval_jitter_share": 1.0}}, "interval_jitter_share"),
        ({"protocol": {"intensities_percent_rmt": []}}, "intensities_percent_rmt"),
        ({"protocol": {"tail_s": 0.0}}, "tail_s"),
        ({"cortex": {"crosstalk": 0.5}}, "crosstalk"),
        ({"cortex": {"theta_v_per_m": -80.0}}, "theta_v_per_m"),
        ({"cortex": {"theta_v_per_m": float("inf")}}, "theta_v_per_m"),
        ({"cortex": {"drift_ln": 5.0}}, "drift_ln"),
        ({"cortex": {"drift_ln": float("nan")}}, "drift_ln"),
        ({"cortex": {"preactivated_share": 1.5}}, "preactivated_share"),
        ({"cortex": {"hand_knob_mm": [float("nan"), 0.0, 0.0]}}, "hand_knob_mm"),
        ({"protocol": {"navigation_error_mm": -1.0}}, "navigation_error_mm"),
        ({"protocol": {"grid_spacing_mm": float("inf")}}, "grid_spacing_mm"),
        ({"emg": {"noise_rms_uv": [2.0, float("inf")]}}, "noise_rms_uv"),
        ({"feed": {"marker_delay_ms": float("inf")}}, "marker_delay_ms"),
        ({"field": "fem"}, "fem"),
        ({"feed": {"block_samples": 0}}, "block_samples"),
        ({"feed": {"source_id": ""}}, "source_id"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_cannot_be_is_refused_by_name(values: dict[str, object], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        settings_from(values)


def test_settings_cannot_be_changed_afterwards() -> None:
    settings = SimulatedSubjectSettings()
    with pytest.raises(AttributeError):
        settings.seed = 5  # type: ignore[misc]

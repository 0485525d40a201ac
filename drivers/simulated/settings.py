"""Settings of the simulated subject: what can be chosen, in which unit, and what is refused."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from rt_engine.errors import SettingsError
from rt_engine.muscles import ARTICLE_MUSCLES

SAMPLE_RATE_HZ = 2000.0
"""Sample rate of the EMG (article, II.A)."""

UV_PER_UNIT = {"microvolts": 1.0, "uV": 1.0, "mV": 1e3, "V": 1e6}
"""Microvolts in one unit of the EMG stream."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise SettingsError(message)


def _require_finite(settings: msgspec.Struct) -> None:
    """Refuse inf and nan, which TOML can say."""
    for name in settings.__struct_fields__:
        value = getattr(settings, name)
        numbers = value if isinstance(value, tuple) else (value,)
        finite = all(math.isfinite(number) for number in numbers if isinstance(number, float))
        _require(finite, f"{name} is {value}; expected finite numbers")


class CortexSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Recruitment and its variability; defaults are explained in ``docs/simulated-subject.md``."""

    hand_knob_mm: tuple[float, float, float] | None = None
    """Hand knob in scanner space; None takes the literature's place, which is known in MNI space only."""
    patch_mm: float = 6.0
    """Standard deviation of the Gaussian patch of a muscle."""
    crown_mm: float = 4.0
    """Depth in which a patch's weights fall to 1/e: the crown of the gyrus counts most."""
    theta_v_per_m: float = 80.0
    """Threshold of the FDI's recruitment."""
    beta_share: float = 0.055
    """Width of the recruitment sigmoid, as a share of the threshold."""
    maximum_uv: float = 7000.0
    """Largest MEP of the FDI."""
    common_sd_ln: float = 0.085
    """Excitability shared by all muscles, SD of the natural logarithm."""
    private_sd_ln: float = 0.085
    """Excitability of one muscle alone, SD of the natural logarithm."""
    output_sd_log10: float = 0.15
    """Variability after the recruitment, SD of the decimal logarithm."""
    floor_uv: float = 8.0
    """Mean amplitude read where there is no MEP, in data sets made without EMG."""
    drift_ln: float = 0.0
    """Change of the common excitability from the first to the last pulse, natural logarithm."""
    crosstalk: float = 0.0
    """Share of a neighbouring muscle's signal that is seen at zero lag, 0 to 0.2."""
    preactivated_share: float = 0.0
    """Share of trials and muscles in which the muscle is not at rest."""

    def __post_init__(self) -> None:
        _require_finite(self)
        for name in ("patch_mm", "crown_mm", "theta_v_per_m", "beta_share", "maximum_uv"):
            _require(getattr(self, name) > 0.0, f"{name} is {getattr(self, name)}; it must be positive")
        for name in ("common_sd_ln", "private_sd_ln", "output_sd_log10", "floor_uv"):
            _require(getattr(self, name) >= 0.0, f"{name} is {getattr(self, name)}; it must not be negative")
        _require(abs(self.drift_ln) <= 1.0, f"drift_ln is {self.drift_ln}; expected -1 to 1, a factor of e at most")
        _require(0.0 <= self.crosstalk <= 0.2, f"crosstalk is {self.crosstalk}; expected 0 to 0.2")
        _require(0.0 <= self.preactivated_share <= 1.0, f"preactivated_share is {self.preactivated_share}; not a share")


class ProtocolSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where, how strongly and when the coil stimulates (article, II.A)."""

    pulses: int = 60
    intensities_percent_rmt: tuple[float, ...] = (110.0, 120.0, 130.0, 140.0)
    grid_points: int = 7
    """Points along each side of the grid around the hotspot."""
    grid_spacing_mm: float = 10.0
    cluster_sd_mm: float = 10.0
    """Spread of the operator's own loci around the hotspot."""
    position_jitter_mm: float = 1.0
    tilt_jitter_deg: float = 2.0
    rotation_jitter_deg: float = 5.0
    interval_s: float = 4.5
    """Mean time between two pulses."""
    interval_jitter_share: float = 1.0 / 9.0
    """Largest deviation from the mean as a share of it, uniformly distributed: 4 to 5 s by default."""
    lead_in_s: float = 2.0
    """Baseline before the first pulse."""
    tail_s: float = 1.0
    """EMG after the last pulse."""
    navigation_error_mm: float = 0.0
    """SD per axis of the navigation's error; what is recorded is then not where the coil was."""

    def __post_init__(self) -> None:
        _require_finite(self)
        _require(self.pulses >= 1, f"pulses is {self.pulses}; at least one is needed")
        _require(
            len(self.intensities_percent_rmt) > 0 and all(0.0 < i <= 300.0 for i in self.intensities_percent_rmt),
            f"intensities_percent_rmt is {self.intensities_percent_rmt}; expected percents of RMT up to 300",
        )
        _require(self.grid_points >= 1, f"grid_points is {self.grid_points}; at least one is needed")
        for name in ("grid_spacing_mm", "cluster_sd_mm", "position_jitter_mm", "tilt_jitter_deg"):
            _require(getattr(self, name) >= 0.0, f"{name} is {getattr(self, name)}; it must not be negative")
        for name in ("rotation_jitter_deg", "lead_in_s", "navigation_error_mm"):
            _require(getattr(self, name) >= 0.0, f"{name} is {getattr(self, name)}; it must not be negative")
        _require(
            0.0 <= self.interval_jitter_share < 1.0,
            f"interval_jitter_share is {self.interval_jitter_share}; expected a share below 1",
        )
        _require(
            self.interval_s * (1.0 - self.interval_jitter_share) * SAMPLE_RATE_HZ >= 2.0,
            f"interval_s is {self.interval_s}: two pulses would fall on the same sample",
        )
        _require(self.tail_s >= 0.1, f"tail_s is {self.tail_s}; the last MEP needs at least 0.1 s")


class EmgSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the electrodes and the amplifier add to the MEPs."""

    unit: Literal["microvolts", "uV", "mV", "V"] = "microvolts"
    """Unit of the samples and of the metadata of the EMG stream."""
    noise_rms_uv: tuple[float, float] = (2.0, 6.0)
    """Range from which each muscle gets the RMS of its baseline noise."""
    band_hz: tuple[float, float] = (20.0, 450.0)
    """Pass band of the noise."""
    hum_uv: float = 1.0
    """Largest amplitude of the mains hum."""
    hum_hz: Literal[50, 60] = 50
    artefact_uv: float = 3000.0
    """Typical peak of the stimulus artefact at the whole output of the stimulator."""
    artefact_ringing_hz: float = 400.0
    artefact_decay_ms: float = 0.8
    """Time constant of the ringing."""
    artefact_leak_uv: float = 0.5
    """What the amplifier's slow recovery leaves 10 ms after the pulse, at the whole output of the stimulator."""
    artefact_recovery_ms: float = 8.0
    """Time constant of that recovery, as of a 20 Hz high-pass."""
    preactivation_rms_uv: float = 80.0
    """Activity of a muscle that is not at rest."""
    range_uv: float = 11000.0
    """The amplifier clips beyond, on both sides."""
    flat_muscles: tuple[str, ...] = ()
    """Muscles whose electrode is off: every sample is 0."""

    def __post_init__(self) -> None:
        _require_finite(self)
        low, high = self.noise_rms_uv
        _require(0.0 <= low <= high, f"noise_rms_uv is {self.noise_rms_uv}; expected a range from low to high")
        _require(
            0.0 < self.band_hz[0] < self.band_hz[1] < SAMPLE_RATE_HZ / 2.0,
            f"band_hz is {self.band_hz}; expected low < high below {SAMPLE_RATE_HZ / 2.0:g} Hz",
        )
        for name in ("hum_uv", "artefact_uv", "artefact_leak_uv", "preactivation_rms_uv"):
            _require(getattr(self, name) >= 0.0, f"{name} is {getattr(self, name)}; it must not be negative")
        for name in ("artefact_ringing_hz", "artefact_decay_ms", "artefact_recovery_ms", "range_uv"):
            _require(getattr(self, name) > 0.0, f"{name} is {getattr(self, name)}; it must be positive")


class FeedSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The LSL streams: names, identity, and how samples are handed over."""

    source_id: str = "m2m-sim"
    """Start of the source_id of all four streams; sessions that run side by side need different ones."""
    emg_name: str = "m2m-sim-EMG"
    marker_name: str = "m2m-sim-Markers"
    pose_name: str = "m2m-sim-CoilPose"
    stimulator_name: str = "m2m-sim-Stimulator"
    block_samples: int = 8
    """EMG samples per push."""
    marker_delay_ms: float = 0.0
    """How much later than the pulse its marker is handed over; the marker's stamp stays that of the pulse."""
    pose_rate_hz: float = 20.0

    def __post_init__(self) -> None:
        _require_finite(self)
        _require(bool(self.source_id), "source_id is empty; a stream without it cannot be found again")
        _require(1 <= self.block_samples <= 400, f"block_samples is {self.block_samples}; expected 1 to 400")
        _require(self.marker_delay_ms >= 0.0, f"marker_delay_ms is {self.marker_delay_ms}; it must not be negative")
        _require(0.0 < self.pose_rate_hz <= 200.0, f"pose_rate_hz is {self.pose_rate_hz}; expected up to 200")


class SimulatedSubjectSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All about one simulated session: the same settings give the same session, to the sample."""

    seed: int = 0
    """Of the session: placements, variability, noise."""
    subject_seed: int = 0
    """Of the person: patches, thresholds, largest MEPs, electrodes. A model holds for one `subject_seed`."""
    field: Literal["auto", "finite-elements", "sphere"] = "auto"
    """Where the E-field comes from; auto: the subject's finite-element basis where it has one, else the sphere."""
    muscles: tuple[str, ...] = ARTICLE_MUSCLES
    """Muscles that have a channel, in the order of the channels."""
    channel_labels: tuple[str, ...] | None = None
    """Labels of those channels where they differ from the muscles' names."""
    cortex: CortexSettings = CortexSettings()
    protocol: ProtocolSettings = ProtocolSettings()
    emg: EmgSettings = EmgSettings()
    feed: FeedSettings = FeedSettings()
    faults: tuple[str, ...] = ()
    """What goes wrong, as `--fault` writes it; see `drivers.simulated.faults`."""

    def __post_init__(self) -> None:
        for name in ("seed", "subject_seed"):
            _require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}; it must not be negative")
        for what, names in (("muscles", self.muscles), ("flat_muscles", self.emg.flat_muscles)):
            unknown = [name for name in names if name not in ARTICLE_MUSCLES]
            _require(not unknown, f"{what} names {', '.join(unknown)}; the subject has {', '.join(ARTICLE_MUSCLES)}")
            _require(len(set(names)) == len(names), f"{what} names a muscle twice: {', '.join(names)}")
        _require(len(self.muscles) > 0, "muscles is empty; at least one is needed")
        _require(
            self.channel_labels is None or len(self.channel_labels) == len(self.muscles),
            f"channel_labels has {len(self.channel_labels or ())} labels for {len(self.muscles)} muscles",
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the muscles' channels, in the order of the channels."""
        return self.muscles if self.channel_labels is None else self.channel_labels

    @property
    def columns(self) -> list[int]:
        """Place of each channel's muscle among the subject's 15."""
        return [ARTICLE_MUSCLES.index(name) for name in self.muscles]


def settings_from(values: Mapping[str, Any]) -> SimulatedSubjectSettings:
    """Make settings from plain values, as a TOML file or a command line gives them.

    Parameters
    ----------
    values
        Key -> value; the groups ``cortex``, ``protocol``, ``emg`` and ``feed`` are mappings themselves.

    Returns
    -------
    SimulatedSubjectSettings

    Raises
    ------
    SettingsError
        If a key is unknown, or a value of the wrong type or out of range.
    """
    try:
        return msgspec.convert(values, SimulatedSubjectSettings)
    except msgspec.ValidationError as error:
        raise SettingsError(f"the simulated subject's settings cannot be used: {error}") from error

"""Which channel of the EMG stream is which muscle, and what its numbers mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rt_engine.errors import StreamError

MICROVOLTS_PER_UNIT: dict[str, float] = {
    "microvolts": 1.0, "microvolt": 1.0, "uv": 1.0, "\u00b5v": 1.0, "\u03bcv": 1.0,
    "millivolts": 1e3, "millivolt": 1e3, "mv": 1e3,
    "volts": 1e6, "volt": 1e6, "v": 1e6,
}  # fmt: skip
"""Unit as written in the stream's metadata, lower case -> microvolts. Both micro signs of Unicode are in use."""

PLAUSIBLE_BASELINE_UV = (0.05, 500.0)
"""Robust SD of a resting surface EMG, median over muscles: 2 to 6 uV is typical, an amplifier alone has about 0.5."""


@dataclass(frozen=True, eq=False)
class ChannelMap:
    """Where the muscles and the trigger are among the stream's channels.

    Attributes
    ----------
    muscles
        Names, in the model's order.
    columns
        (muscles,) int64, column of each muscle.
    scale_to_uv
        (muscles,) float64, microvolts per stream unit.
    ttl_column
        Column of the trigger channel, or None.
    ttl_threshold
        The trigger is high above it.
    ttl_active_low
        Whether a pulse is a falling edge of the trigger.
    """

    muscles: tuple[str, ...]
    columns: NDArray[np.int64]
    scale_to_uv: NDArray[np.float64]
    ttl_column: int | None = None
    ttl_threshold: float = 0.5
    ttl_active_low: bool = False


def match_channels(
    labels: Sequence[str],
    units: Sequence[str],
    muscles: Sequence[str],
    *,
    names: Mapping[str, str] | None = None,
    default_unit: str | None = None,
    ttl_label: str | None = None,
    ttl_threshold: float = 0.5,
    ttl_active_low: bool = False,
    ttl_needed: bool = True,
) -> ChannelMap:
    """Find the model's muscles among a stream's channels, by name and in any order.

    Parameters
    ----------
    labels
        The stream's channel labels.
    units
        The stream's channel units; an empty one is not stated.
    muscles
        The model's muscles.
    names
        Channel label -> muscle, for amplifiers that cannot be given the muscles' names.
    default_unit
        Unit of channels that state none.
    ttl_label
        Label of the trigger channel, if pulses are to be taken from it or compared with it.
    ttl_threshold
        The trigger is high above it.
    ttl_active_low
        Whether a pulse is a falling edge of the trigger.
    ttl_needed
        Whether there must be a trigger channel; one that is only compared may be missing.

    Returns
    -------
    ChannelMap

    Raises
    ------
    StreamError
        If a muscle or the trigger is missing or there twice, or a unit is unknown or not stated.
    """
    renamed = [(names or {}).get(label, label) for label in labels]
    unused = [label for label in (names or {}) if label not in labels]
    if unused:
        raise StreamError(
            f"the settings rename channels that the stream does not have: {', '.join(unused)}; "
            f"its channels are {', '.join(labels) or 'without labels'}"
        )
    lowered = [label.strip().lower() for label in renamed]
    if ttl_label is not None and not ttl_needed and lowered.count(ttl_label.lower()) != 1:
        ttl_label = None
    _need_each_once(renamed, labels, muscles, ttl_label)
    columns = [_column(renamed, muscle) for muscle in muscles]
    scale = [_microvolts(labels[c], units[c], default_unit) for c in columns]
    return ChannelMap(
        muscles=tuple(muscles),
        columns=np.array(columns, dtype=np.int64),
        scale_to_uv=np.array(scale, dtype=np.float64),
        ttl_column=None if ttl_label is None else _column(renamed, ttl_label),
        ttl_threshold=ttl_threshold,
        ttl_active_low=ttl_active_low,
    )


def check_baseline(samples_uv: NDArray[np.float64], muscles: Sequence[str]) -> None:
    """Refuse a signal whose size cannot be that of a resting muscle in microvolts.

    Parameters
    ----------
    samples_uv
        (samples, muscles) float64, a stretch of signal before the first pulse.
    muscles
        Names, for the message.

    Raises
    ------
    StreamError
        If the median muscle's robust SD is outside `PLAUSIBLE_BASELINE_UV`.
    """
    # Channel by channel and without what is no number: one dead channel must neither warn nor weigh.
    finite = [column[np.isfinite(column)] for column in samples_uv.T]
    spread = [1.4826 * float(np.median(np.abs(column - np.median(column)))) for column in finite if column.size]
    alive = [sd for sd in spread if sd > 0.0]
    if not alive:
        raise StreamError(
            f"all {len(muscles)} EMG channels are flat or not numbers: check that the amplifier is on and connected"
        )
    typical = float(np.median(alive))
    low, high = PLAUSIBLE_BASELINE_UV
    if not low <= typical <= high:
        raise StreamError(
            f"the EMG at rest has an SD of {typical:.3g} uV (median over muscles); expected {low:g} to {high:g} uV. "
            "The unit that the stream or the settings state is probably wrong"
        )


def _column(renamed: Sequence[str], name: str) -> int:
    return next(i for i, label in enumerate(renamed) if label.strip().lower() == name.lower())


def _need_each_once(
    renamed: Sequence[str], labels: Sequence[str], muscles: Sequence[str], ttl_label: str | None
) -> None:
    lowered = [label.strip().lower() for label in renamed]
    wanted = [*muscles, *([ttl_label] if ttl_label is not None else [])]
    missing = [name for name in wanted if lowered.count(name.lower()) == 0]
    double = [name for name in wanted if lowered.count(name.lower()) > 1]
    if missing:
        raise StreamError(
            f"the EMG stream has no channel for {', '.join(missing)}; its channels are "
            f"{', '.join(labels) or 'without labels'}. Name the channels in the amplifier's software, "
            "or map them under [streams.emg.channels] in the settings"
        )
    if double:
        raise StreamError(f"the EMG stream has more than one channel for {', '.join(double)}; expected one of each")


def _microvolts(label: str, unit: str, default_unit: str | None) -> float:
    stated = unit.strip() or (default_unit or "").strip()
    if not stated:
        raise StreamError(
            f"channel {label!r} of the EMG stream states no unit; set streams.emg.unit in the settings "
            "(microvolts, mV or V)"
        )
    factor = MICROVOLTS_PER_UNIT.get(stated.lower())
    # "MV" would be megavolts; nobody records those, but a wrong guess would be off by 1e3 and go unnoticed.
    if factor is None or stated == "MV":
        raise StreamError(f"channel {label!r} has the unit {stated!r}; expected microvolts (uV), mV or V")
    return factor

"""The four LSL streams of the simulated subject and their metadata."""

from dataclasses import dataclass

import pylsl

from drivers.simulated.fault import EmgLayout
from drivers.simulated.settings import SAMPLE_RATE_HZ, FeedSettings, SimulatedSubjectSettings

TTL_LABEL = "TTL"
"""Label and type of the trigger channel, the last one of the EMG stream."""

POSE_CHANNELS: tuple[tuple[str, str], ...] = (
    *((f"pose_{row}{column}", "mm" if column == 3 and row < 3 else "1") for row in range(4) for column in range(4)),
    ("tracked", "1"),
)
"""Label and unit of the pose stream's channels: the matrix row by row, then 1 or 0."""

STIMULATOR_CHANNELS: tuple[tuple[str, str], ...] = (("percent_mso", "percent"), ("didt_a_per_us", "A/us"))
"""Label and unit of the stimulator stream's channels."""

MARKER = "TMS"
"""Text of every marker."""

SOURCE = "m2m-live simulated subject"
"""What the streams' metadata name as their manufacturer: nobody shall take them for a person."""


@dataclass(frozen=True, eq=False)
class Outlets:
    """The open outlets."""

    emg: pylsl.StreamOutlet
    markers: pylsl.StreamOutlet
    pose: pylsl.StreamOutlet
    stimulator: pylsl.StreamOutlet


def stream_identities(feed: FeedSettings) -> dict[str, dict[str, str]]:
    """Return name, type and source_id of each stream by its role."""
    rows = {
        "emg": (feed.emg_name, "EMG"),
        "markers": (feed.marker_name, "Markers"),
        "pose": (feed.pose_name, "CoilPose"),
        "intensity": (feed.stimulator_name, "Stimulator"),
    }
    return {
        role: {"name": name, "type": kind, "source_id": f"{feed.source_id}-{role}"}
        for role, (name, kind) in rows.items()
    }


def emg_layout(settings: SimulatedSubjectSettings) -> EmgLayout:
    """Return the channels of the EMG stream as they are without faults: the muscles, then the trigger."""
    n_muscles = len(settings.labels)
    return EmgLayout(
        labels=(*settings.labels, TTL_LABEL),
        units=(settings.emg.unit,) * n_muscles + ("au",),
        kinds=("EMG",) * n_muscles + (TTL_LABEL,),
        columns=tuple(range(n_muscles + 1)),
    )


def open_outlets(settings: SimulatedSubjectSettings, layout: EmgLayout | None = None) -> Outlets:
    """Open the four outlets, with labels and units in their metadata.

    Parameters
    ----------
    settings
        Names, source_id, labels, EMG unit.
    layout
        Channels of the EMG, where they are not `emg_layout`'s.

    Returns
    -------
    Outlets
    """
    layout = emg_layout(settings) if layout is None else layout
    roles = {role: open_outlet(role, settings.feed, layout) for role in stream_identities(settings.feed)}
    return Outlets(emg=roles["emg"], markers=roles["markers"], pose=roles["pose"], stimulator=roles["intensity"])


def open_outlet(role: str, feed: FeedSettings, layout: EmgLayout, suffix: str = "") -> pylsl.StreamOutlet:
    """Open one outlet.

    Parameters
    ----------
    role
        ``emg``, ``markers``, ``pose`` or ``intensity``.
    feed
        Names and source_id.
    layout
        Channels of the EMG.
    suffix
        What is added to the source_id.

    Returns
    -------
    pylsl.StreamOutlet
    """
    identity = stream_identities(feed)[role]
    identity["source_id"] += suffix
    if role == "emg":
        channels = list(zip(layout.labels, layout.units, layout.kinds, strict=True))
        return _outlet(identity, channels, SAMPLE_RATE_HZ, pylsl.cf_float32)
    if role == "markers":
        return _outlet(identity, [("marker", "", "Markers")], pylsl.IRREGULAR_RATE, pylsl.cf_string)
    rows = POSE_CHANNELS if role == "pose" else STIMULATOR_CHANNELS
    channels = [(label, unit, identity["type"]) for label, unit in rows]
    return _outlet(identity, channels, pylsl.IRREGULAR_RATE, pylsl.cf_double64)


def _outlet(
    identity: dict[str, str], channels: list[tuple[str, str, str]], rate_hz: float, channel_format: int
) -> pylsl.StreamOutlet:
    info = pylsl.StreamInfo(
        identity["name"], identity["type"], len(channels), rate_hz, channel_format, identity["source_id"]
    )
    description = info.desc()
    description.append_child_value("manufacturer", SOURCE)
    parent = description.append_child("channels")
    for label, unit, kind in channels:
        channel = parent.append_child("channel")
        channel.append_child_value("label", label)
        channel.append_child_value("unit", unit)
        channel.append_child_value("type", kind)
    return pylsl.StreamOutlet(info)

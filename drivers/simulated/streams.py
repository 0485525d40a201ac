"""The four LSL streams of the simulated subject and their metadata."""

from dataclasses import dataclass

import pylsl

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


def open_outlets(settings: SimulatedSubjectSettings) -> Outlets:
    """Open the four outlets, with labels and units in their metadata.

    Parameters
    ----------
    settings
        Names, source_id, labels, EMG unit.

    Returns
    -------
    Outlets
    """
    identities = stream_identities(settings.feed)
    emg = [(label, settings.emg.unit, "EMG") for label in settings.labels] + [(TTL_LABEL, "au", TTL_LABEL)]
    pose = [(label, unit, "CoilPose") for label, unit in POSE_CHANNELS]
    stimulator = [(label, unit, "Stimulator") for label, unit in STIMULATOR_CHANNELS]
    return Outlets(
        emg=_outlet(identities["emg"], emg, SAMPLE_RATE_HZ, pylsl.cf_float32),
        markers=_outlet(identities["markers"], [("marker", "", "Markers")], pylsl.IRREGULAR_RATE, pylsl.cf_string),
        pose=_outlet(identities["pose"], pose, pylsl.IRREGULAR_RATE, pylsl.cf_double64),
        stimulator=_outlet(identities["intensity"], stimulator, pylsl.IRREGULAR_RATE, pylsl.cf_double64),
    )


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

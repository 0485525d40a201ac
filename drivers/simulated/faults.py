"""The faults that the simulated subject can have: their names, how they are written, and several at once."""

import difflib
import inspect
import math
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from drivers.simulated.clock_faults import ClockStep, Drift, Jitter, LateSender
from drivers.simulated.fault import EXTRA, EmgLayout, Fault, Indices, Marker, Outage, Places, Scene
from drivers.simulated.marker_faults import (
    Burst,
    EarlyPulse,
    MarkerDouble,
    MarkerEarly,
    MarkerLate,
    MarkerMissing,
    MarkerShifted,
    MarkerWithoutTime,
    Paired,
)
from drivers.simulated.sample_faults import Duplicated, Flat, Lost, NotANumber, Saturated, TriggerMissing
from drivers.simulated.settings import SimulatedSubjectSettings
from drivers.simulated.stream_faults import Extra, Missing, PoseLost, Renamed, Reordered, Restart, Twin, WrongUnit
from rt_engine.errors import SettingsError

FAULTS: dict[str, type[Fault]] = {
    kind.name: kind
    for kind in (
        *(Drift, ClockStep, Jitter, LateSender),
        *(Lost, Duplicated, NotANumber, Saturated, Flat),
        *(TriggerMissing, MarkerLate, MarkerEarly, MarkerDouble, MarkerMissing, MarkerShifted, MarkerWithoutTime),
        *(Burst, Paired, EarlyPulse),
        *(Restart, Twin, Renamed, Missing, Reordered, Extra, WrongUnit, PoseLost),
    )
}
"""Name -> fault, in the order of the help."""

SAW_UV, SAW_SAMPLES = 1000.0, 100
"""Height and length of the saw-tooth on a channel that belongs to no muscle."""


def summary(kind: type[Fault]) -> str:
    """Return what a fault does, in a line."""
    return (inspect.getdoc(kind) or "").partition("\n")[0].replace("`", "")


def parameters(kind: type[Fault]) -> dict[str, Any]:
    """Return a fault's parameters with their defaults."""
    return {name: default for name, default in zip(kind.__struct_fields__, kind.__struct_defaults__, strict=True)}


def parse_fault(text: str) -> Fault:
    """Read a fault as the command line writes it.

    Parameters
    ----------
    text
        ``NAME`` or ``NAME:key=value,key=value``, e.g. ``lost:pulse=2,samples=16``.

    Returns
    -------
    Fault

    Raises
    ------
    SettingsError
        If the name or a key is unknown, naming the nearest, or a value is not what the key takes.
    """
    name, _, rest = text.partition(":")
    kind = FAULTS.get(name.strip())
    if kind is None:
        raise SettingsError(
            f"there is no fault {name.strip()!r}; did you mean {_nearest(name, list(FAULTS))!r}? "
            f"Known: {', '.join(FAULTS)}. m2m simulate --list-faults says what they do"
        )
    known = list(kind.__struct_fields__)
    values: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = item.partition("=")
        if not equals:
            raise SettingsError(f"fault {text!r}: {item!r} is not KEY=VALUE; expected e.g. {_example(kind)!r}")
        if key.strip() not in known:
            raise SettingsError(
                f"fault {kind.name} has no {key.strip()!r}; "
                + (f"did you mean {_nearest(key, known)!r}? Known: {', '.join(known)}" if known else "it takes nothing")
            )
        values[key.strip()] = value.strip()
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"fault {text!r} cannot be used: {error}. Its defaults are {_example(kind)!r}") from error


def spelled_out(fault: Fault) -> str:
    """Return a fault as `parse_fault` reads it, with all its parameters."""
    values = [(name, getattr(fault, name), default) for name, default in parameters(type(fault)).items()]
    # What is empty and would be so by itself says nothing.
    told = ",".join(f"{name}={value}" for name, value, default in values if value not in (None, "") or value != default)
    return f"{fault.name}:{told}" if told else fault.name


def _example(kind: type[Fault]) -> str:
    return spelled_out(kind())


def _nearest(name: str, known: list[str]) -> str:
    return difflib.get_close_matches(name.strip(), known, n=1, cutoff=0.0)[0]


class Faults:
    """The faults of one session, one after the other; without any, nothing is changed.

    Parameters
    ----------
    settings
        Whose ``faults`` they are.

    Raises
    ------
    SettingsError
        If one is unknown, or cannot be had in this session.
    """

    def __init__(self, settings: SimulatedSubjectSettings) -> None:
        self.each: tuple[Fault, ...] = tuple(parse_fault(text) for text in settings.faults)
        for fault in self.each:
            fault.check(settings.labels, settings.protocol.pulses)
        self.slowed = math.prod(fault.slowed() for fault in self.each)

    @property
    def told(self) -> list[str]:
        """All of them, spelled out."""
        return [spelled_out(fault) for fault in self.each]

    @property
    def twins(self) -> list[str]:
        """What is added to the source_id of each further EMG stream."""
        return [suffix for fault in self.each for suffix in fault.twins()]

    def moved(self, pulse_sample: Indices) -> Indices:
        """Return when the pulses are given.

        Raises
        ------
        SettingsError
            If several faults together would put two pulses on one sample.
        """
        for fault in self.each:
            pulse_sample = fault.moved(pulse_sample)
        if (np.diff(pulse_sample) < 1).any():
            raise SettingsError(
                f"the faults {', '.join(self.told)} put two pulses on one sample; leave one of them out"
            )
        return pulse_sample

    def layout(self, layout: EmgLayout) -> EmgLayout:
        """Return the channels of the EMG stream."""
        for fault in self.each:
            layout = fault.layout(layout)
        return layout

    def stamp_error_s(self, role: str, index: Places, scene: Scene) -> NDArray[np.float64]:
        """Return by how much the stamps of a stream are wrong; (n,), s."""
        errors = np.zeros(len(index))
        for fault in self.each:
            errors += fault.stamp_error_s(role, index, scene)
        return errors

    def values(self, first: int, samples: NDArray[np.float32], scene: Scene) -> NDArray[np.float32]:
        """Return the samples that are sent in place of these."""
        for fault in self.each:
            samples = fault.values(first, samples, scene)
        return samples

    def order(self, first: int, last: int, scene: Scene) -> Indices:
        """Return which samples are sent, and in which order, in place of ``first`` to ``last`` (excluded)."""
        index = np.arange(first, last)
        for fault in self.each:
            index = fault.order(index, scene)
        return index

    def markers(self, marker: Marker, scene: Scene) -> list[Marker]:
        """Return what is sent in place of a marker."""
        sent = [marker]
        for fault in self.each:
            sent = [changed for each in sent for changed in fault.markers(each, scene)]
        return sent

    def pose(self, index: float, values: list[float], scene: Scene) -> list[float] | None:
        """Return what is sent in place of a pose; None for nothing."""
        for fault in self.each:
            changed = fault.pose(index, values, scene)
            if changed is None:
                return None
            values = changed
        return values

    def outages(self, scene: Scene) -> list[Outage]:
        """Return when streams close and open again, in the order of their beginning."""
        outages = [outage for fault in self.each for outage in fault.outages(scene)]
        return sorted(outages, key=lambda outage: outage.begin)

    def touching(self, pulse: int, scene: Scene) -> list[str]:
        """Return the names of the faults that strike within a pulse's sweep."""
        return [fault.name for fault in self.each if fault.touches(pulse, scene)]


def shown(layout: EmgLayout, samples: NDArray[np.float32], index: Indices, uv_per_unit: float) -> NDArray[np.float32]:
    """Return samples as the stream's channels show them.

    Parameters
    ----------
    layout
        The channels.
    samples
        (n, muscles and trigger) float32.
    index
        (n,), their places in the stream.
    uv_per_unit
        Microvolts in one unit of the samples.

    Returns
    -------
    numpy.ndarray
        (n, channels) float32.
    """
    if layout.faithful and len(layout.columns) == samples.shape[1]:
        return samples
    saw = (index % SAW_SAMPLES) * (SAW_UV / uv_per_unit / SAW_SAMPLES)
    channels = [saw if column == EXTRA else samples[:, column] for column in layout.columns]
    return np.stack(channels, axis=1, dtype=np.float32, casting="same_kind")

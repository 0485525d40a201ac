"""How the stimulator's setting is read from a sample of its stream."""

import math

import msgspec
import pytest

from rt_engine.companions import StimulatorIntensity
from rt_engine.edges.intensity_sample import parse_intensity
from rt_engine.record_events import IntensityFed, parse_event

LABELS = ["percent_mso", "didt_a_per_us"]


@pytest.mark.parametrize(
    ("values", "labels", "expected"),
    [
        ([50.0, 85.5], LABELS, StimulatorIntensity(3.0, 50.0, 85.5)),
        ([50.0, 2.0, 85.5], ["percent_mso", "waveform", "didt_a_per_us"], StimulatorIntensity(3.0, 50.0, 85.5)),
        ([50.0, 2.0], ["percent_mso", "waveform"], StimulatorIntensity(3.0, 50.0)),
        ([50.0, 85.5], ["", ""], StimulatorIntensity(3.0, 50.0)),
        ([50.0, 85.5], [], StimulatorIntensity(3.0, 50.0)),
        ([50.0], LABELS, StimulatorIntensity(3.0, 50.0)),
        ([50.0, 0.0], LABELS, StimulatorIntensity(3.0, 50.0)),
        ([50.0, -85.5], LABELS, StimulatorIntensity(3.0, 50.0)),
        ([50.0, math.nan], LABELS, StimulatorIntensity(3.0, 50.0)),
        ([50.0, math.inf], LABELS, StimulatorIntensity(3.0, 50.0)),
        (["50", "85"], LABELS, None),
        ([], [], None),
    ],
)
def test_percent_comes_first_and_didt_by_its_label(values, labels, expected):
    assert parse_intensity(values, labels, 3.0) == expected


@pytest.mark.parametrize("didt", [None, 85.3125])
def test_the_record_keeps_what_was_told(didt):
    fed = StimulatorIntensity(3.0, 50.0, didt)
    event = IntensityFed.of(7, fed)
    assert parse_event(msgspec.json.encode(event).decode()).fed == fed

"""Pulses in the EMG stream's own trigger channel: each rising edge is one, whatever else the channel holds."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rt_engine.engine import PulseResult
from rt_engine.sample_block import SampleBlock

RATE_HZ = 2000.0
T0 = 5000.0
TTL_COLUMN = 3


@pytest.fixture(scope="session")
def pulse_indices(
    emg: Callable[..., Any], new_engine: Callable[..., Any], play: Callable[..., list[PulseResult]]
) -> Callable[..., list[int]]:
    """Play a trigger channel in blocks of some length, and return where pulses were seen."""

    def find(levels: list[float], block: int = 7) -> list[int]:
        stream = emg(len(levels) + 300)
        stream.samples[: len(levels), TTL_COLUMN] = levels
        stream.samples[len(levels) :, TTL_COLUMN] = levels[-1]
        results = play(new_engine(), stream, cuts=range(0, stream.n, block))
        return [int(r.trial.pulse_index) for r in results if r.trial.valid]

    return find


@pytest.mark.parametrize("block", [1, 2, 7, 10_000])
@pytest.mark.parametrize(
    ("name", "levels", "expected"),
    [
        ("a pulse of one sample", [0, 0, 1, 0], [2]),
        ("a long pulse is one pulse", [0, 1, 1, 1, 1, 1, 0], [1]),
        ("5 V logic", [0.1, 0.2, 5.1, 4.9, 0.1], [2]),
        ("two pulses", [0, 1, 0, 1, 0], [1, 3]),
        ("high from the first sample on: that edge lies before the stream", [1, 1, 0, 0], []),
        ("high from the first sample on, then a pulse", [1, 1, 0, 1], [3]),
        ("exactly at the threshold is not above it", [0, 0.5, 0], []),
        ("what is no number says nothing", [0, math.nan, 1, math.nan, 0], [2]),
        ("numbers missing before the edge", [math.nan, math.nan, 0, 1], [3]),
        ("high after numbers missing from the beginning: its edge was not seen", [math.nan, 1, 1, 0], []),
        ("no new edge after a hole in a long pulse", [0, 1, math.nan, math.nan, 1, 0], [1]),
        ("the edge lost in a hole is taken at the hole's end", [0, math.nan, math.nan, 1, 0], [3]),
        ("a pulse that stays high is one", [0, 0, 1], [2]),
    ],
)
def test_edges(
    name: str, levels: list[float], expected: list[int], block: int, pulse_indices: Callable[..., list[int]]
) -> None:
    assert pulse_indices(levels, block) == expected, name


def test_pulses_2_ms_apart_are_both_served(
    emg: Callable[..., Any], new_engine: Callable[..., Any], play: Callable[..., list[PulseResult]]
) -> None:
    results = play(new_engine(), emg(2000, [1000, 1004]))
    assert [r.trial.pulse_index for r in results] == [1000.0, 1004.0]
    assert all(r.trial.valid for r in results)


def test_the_amplitude_is_that_of_the_very_samples_after_the_edge(
    emg: Callable[..., Any], new_engine: Callable[..., Any], play: Callable[..., list[PulseResult]]
) -> None:
    indices = [400, 1711, 2905]
    stream = emg(4000, indices, ppm=80.0, jitter_s=4e-4)
    results = play(new_engine(), stream, cuts=range(0, 4000, 8))
    for result, index in zip(results, indices, strict=True):
        window = stream.samples[index + 20 : index + 101, :3]
        np.testing.assert_array_equal(result.meps.amplitude_uv, window.max(axis=0) - window.min(axis=0))


def test_a_pulse_gets_the_time_of_its_sample_by_the_fit_and_keeps_its_raw_stamp(
    emg: Callable[..., Any], new_engine: Callable[..., Any], play: Callable[..., list[PulseResult]]
) -> None:
    n, index = 40_000, 35_000
    stream = emg(n, [index], jitter_s=1e-3)
    (result,) = play(new_engine(), stream)
    assert result.trial.t_raw == stream.stamps[index]
    assert result.trial.t == pytest.approx(T0 + index / RATE_HZ, abs=1e-4)
    assert result.trial.t_uncertainty == pytest.approx(1.0 / (RATE_HZ * math.sqrt(12.0)), rel=1e-3)


def test_the_order_and_the_units_of_the_channels_do_not_change_amplitudes(
    emg: Callable[..., Any], new_engine: Callable[..., Any]
) -> None:
    """The same pulse from an amplifier with its channels the other way round, in mV and in V."""
    stream = emg(2000, [1000])
    (usual,) = new_engine().feed_samples(SampleBlock(stream.samples, stream.stamps))
    mixed = (stream.samples[:, [3, 2, 0, 1]].astype(np.float64) * [1.0, 1e-3, 1e-6, 1.0]).astype(np.float32)
    engine = new_engine(labels=["TTL", "ECR", "FDI", "ADM"], units=["au", "mV", "V", "uV"])
    (other,) = engine.feed_samples(SampleBlock(mixed, stream.stamps))
    np.testing.assert_allclose(other.meps.amplitude_uv, usual.meps.amplitude_uv, rtol=1e-5)
    assert other.meps.amplitude_uv[1] == usual.meps.amplitude_uv[1], "ADM came in uV both times"


def test_a_pulse_whose_stamp_is_no_time_is_served_all_the_same(
    emg: Callable[..., Any], new_engine: Callable[..., Any], play: Callable[..., list[PulseResult]]
) -> None:
    stream = emg(3000, [1000])
    stream.stamps[980:1020] = math.nan
    (result,) = play(new_engine(), stream)
    assert result.trial.valid
    assert result.trial.t == pytest.approx(T0 + 1000 / RATE_HZ, abs=1e-6)
    assert result.trial.t_raw == pytest.approx(T0 + 1000 / RATE_HZ, abs=1e-6)


def test_a_pulse_before_any_stamp_is_a_time_is_accounted_for(
    emg: Callable[..., Any], new_engine: Callable[..., Any], play: Callable[..., list[PulseResult]]
) -> None:
    stream = emg(3000, [40, 1000])
    stream.stamps[:60] = math.nan
    results = play(new_engine(), stream)
    assert sorted(r.trial.pulse_id for r in results) == [0, 1]
    assert all(math.isfinite(r.trial.t) and math.isfinite(r.trial.t_raw) for r in results)
    assert results[-1].trial.valid


def test_empty_blocks_change_nothing(
    emg: Callable[..., Any], new_engine: Callable[..., Any], bits: Callable[..., Any]
) -> None:
    stream = emg(2000, [1000])
    plain, with_empty = new_engine(), new_engine()
    expected = plain.feed_samples(stream.block(0, 2000))
    results = with_empty.feed_samples(stream.block(0, 0))
    for begin in range(0, 2000, 100):
        results += with_empty.feed_samples(stream.block(begin, begin + 100))
        results += with_empty.feed_samples(stream.block(begin, begin))
    assert bits(results) == bits(expected)
    assert len(results) == 1
    assert with_empty.n_samples == 2000

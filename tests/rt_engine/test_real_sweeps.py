"""Real sweeps, played through the core as a stream, give the amplitudes that their authors published.

MEPFeatX (University of Eastern Finland; BSD-3): sweeps of FDI and ECR at 3 kHz in microvolts, from 50 ms before the
pulse, and a table with the amplitude and the latency of each. The authors take max and min from the MEP's onset on,
after a spline; a plain 10 to 50 ms window differs from that by a few tenths of a percent. Published zeros are trials
that they rejected.
"""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray

from rt_engine.channels import match_channels
from rt_engine.engine import Engine
from rt_engine.estimator import CortexEstimator
from rt_engine.mep import MepCriteria, MepVector, status_text
from rt_engine.pulse import Pulse
from rt_engine.sample_block import SampleBlock
from rt_engine.trial_assembler import SweepSettings, TrialAssembler

RATE_HZ = 3000.0
BEFORE_PULSE = 150
"""Samples of a sweep before the pulse: 50 ms."""
PADDING = 450
"""Samples between two sweeps: 150 ms, longer than any window."""
T0 = 100.0
RECORDINGS = [("ID01", "FDI"), ("ID10_1", "ECR")]


@pytest.fixture(scope="module", params=RECORDINGS, ids=[muscle for _, muscle in RECORDINGS])
def sweeps(request: pytest.FixtureRequest, shared_data: Callable[[str], Path]) -> tuple[NDArray, NDArray, str]:
    """Sweeps (n, samples) in microvolts, published amplitudes in uV and latencies in ms (n, 2), and the muscle."""
    name, muscle = request.param
    folder = shared_data("mepfeatx") / "reference"
    with (folder / "features" / f"{name}_features.csv").open(newline="") as file:
        published = np.array([(float(row["Amplitude"]), float(row["Latency"])) for row in csv.DictReader(file)])
    found = scipy.io.loadmat(folder / "data" / f"{name}.mat")["meps"].T
    assert len(found) == len(published)
    return found, published, muscle


def _as_stream(sweeps: NDArray) -> tuple[NDArray[np.float32], list[int]]:
    """Lay the sweeps one after the other, each edge held over the padding so that no step stands between them."""
    pieces, pulses, n = [], [], 0
    for sweep in sweeps:
        piece = np.pad(sweep, (PADDING // 2, PADDING - PADDING // 2), mode="edge")
        pulses.append(n + PADDING // 2 + BEFORE_PULSE)
        pieces.append(piece)
        n += len(piece)
    samples = np.zeros((n, 2), dtype=np.float32)
    samples[:, 0] = np.concatenate(pieces)
    samples[pulses, 1] = 5.0
    return samples, pulses


def _engine(muscle: str, model: Any, *, ttl: bool, unit: str = "microvolts") -> Engine:
    channels = match_channels([muscle, "TTL"], [unit, "V"], [muscle], ttl_label="TTL" if ttl else None)
    # The authors' sweeps have 50 ms before the pulse; what lies before is padding and not signal.
    sweep = SweepSettings(start_ms=-50.0)
    criteria = MepCriteria(window_ms=((10.0, 50.0),), baseline_ms=(-50.0, -5.0))
    return Engine(TrialAssembler(channels, RATE_HZ, sweep), criteria, CortexEstimator(model, (muscle,), 1.0))


def _play(engine: Engine, samples: NDArray[np.float32], pulses: list[int], *, ttl: bool, block: int) -> list[MepVector]:
    """Play the stream and return what was measured, in the order of the sweeps."""
    stamps = T0 + np.arange(len(samples)) / RATE_HZ
    results = []
    for begin in range(0, len(samples), block):
        for index in pulses if not ttl else []:
            if begin <= index < begin + block:
                results += engine.feed_pulse(Pulse(T0 + index / RATE_HZ))
        results += engine.feed_samples(SampleBlock(samples[begin : begin + block], stamps[begin : begin + block]))
    results += engine.finish()
    assert [r.trial.pulse_id for r in results] == list(range(len(pulses)))
    assert all(r.trial.valid for r in results)
    return [r.meps for r in results]


@pytest.mark.parametrize("ttl", [True, False], ids=["ttl", "marker"])
def test_amplitudes_and_onsets_are_the_published_ones(
    sweeps: tuple[NDArray, NDArray, str], ttl: bool, fake_model: Callable[[], Any]
) -> None:
    recorded, published, muscle = sweeps
    samples, pulses = _as_stream(recorded)
    meps = _play(_engine(muscle, fake_model(), ttl=ttl), samples, pulses, ttl=ttl, block=24)
    ours = np.array([m.amplitude_uv[0] for m in meps], dtype=np.float64)
    accepted = published[:, 0] > 0.0
    assert accepted.sum() >= 40
    assert np.median(np.abs(ours / np.where(accepted, published[:, 0], 1.0) - 1.0)[accepted]) < 0.01
    late_ms = np.array([m.onset_ms[0] for m in meps])[accepted] - published[accepted, 1]
    assert abs(np.median(late_ms)) < 1.0
    # To the bit: max - min of the very samples, 10 to 50 ms after the pulse.
    window = samples[np.add.outer(pulses, np.arange(30, 151)), 0].astype(np.float64)
    np.testing.assert_array_equal(ours, (window.max(axis=1) - window.min(axis=1)).astype(np.float32))


def test_no_accepted_sweep_is_marked_with_a_fault(
    sweeps: tuple[NDArray, NDArray, str], fake_model: Callable[[], Any]
) -> None:
    recorded, published, muscle = sweeps
    samples, pulses = _as_stream(recorded)
    meps = _play(_engine(muscle, fake_model(), ttl=True), samples, pulses, ttl=True, block=1000)
    assert {status_text(int(m.status[0])) for m, p in zip(meps, published, strict=True) if p[0] > 0.0} == {"OK"}


def test_the_same_sweeps_in_volts_give_the_same_amplitudes(
    sweeps: tuple[NDArray, NDArray, str], fake_model: Callable[[], Any]
) -> None:
    recorded, _, muscle = sweeps
    samples, pulses = _as_stream(recorded)
    in_uv = _play(_engine(muscle, fake_model(), ttl=True), samples, pulses, ttl=True, block=1000)
    samples[:, 0] *= np.float32(1e-6)
    in_v = _play(_engine(muscle, fake_model(), ttl=True, unit="V"), samples, pulses, ttl=True, block=1000)
    np.testing.assert_allclose([m.amplitude_uv[0] for m in in_v], [m.amplitude_uv[0] for m in in_uv], rtol=1e-5)

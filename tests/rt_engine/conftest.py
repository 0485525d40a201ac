"""What the tests of the core share: a model without a file, a stream without LSL, and ways to play one to the other.

All of it comes as session-wide fixtures that return functions, so that property tests can use it for each example.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rt_engine.channels import match_channels
from rt_engine.engine import Engine, PulseResult
from rt_engine.estimator import CortexEstimator
from rt_engine.mep import MepCriteria
from rt_engine.model_file import Estimate
from rt_engine.pulse import Pulse
from rt_engine.sample_block import SampleBlock
from rt_engine.trial_assembler import SweepSettings, TrialAssembler
from rt_engine.trigger_sources import TriggerRules

MUSCLES = ("FDI", "ADM", "ECR")
RATE_HZ = 2000.0
T0 = 5000.0
"""Stamp of a synthetic stream's first sample, s."""


class FakeModel:
    """A model that needs no file: any of its inputs changes its output, and it remembers what it was asked."""

    n_voxels = 5

    def __init__(self) -> None:
        self.asked: list[tuple[NDArray[np.float32], NDArray[np.bool_]]] = []

    def predict(self, amplitudes_uv: NDArray[np.float32], valid: NDArray[np.bool_]) -> Estimate:
        self.asked.append((amplitudes_uv.copy(), valid.copy()))
        normalised = np.where(valid, np.clip(amplitudes_uv / np.float32(2000.0), 0.0, 1.0), 0.0).astype(np.float32)
        total = sum(float(a) * (i + 1) for i, a in enumerate(normalised)) + float(np.count_nonzero(valid))
        ramp = np.arange(self.n_voxels, dtype=np.float64)
        return Estimate(
            mep_normalised=normalised,
            field=(1.0 / (1.0 + ramp + total)).astype(np.float32),
            spread=np.full(self.n_voxels, 0.1, dtype=np.float32),
            cog_mm=np.array([total, -total, 2.0 * total]),
            cog_cov_mm2=np.eye(3) * (1.0 + total),
        )


@dataclass(frozen=True)
class Stream:
    """A synthetic EMG stream: the muscles' channels and the trigger channel last."""

    samples: NDArray[np.float32] = field(repr=False)
    stamps: NDArray[np.float64] = field(repr=False)

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.stamps)

    def block(self, begin: int, end: int) -> SampleBlock:
        """Return the samples from `begin` up to `end`, which is left out."""
        return SampleBlock(self.samples[begin:end], self.stamps[begin:end])

    def with_samples(self, samples: NDArray[np.float32]) -> "Stream":
        """Return the same stamps with other samples."""
        return replace(self, samples=samples)


def _emg(
    n: int,
    pulses: Iterable[int] = (),
    *,
    gaps: Iterable[tuple[int, float]] = (),
    ppm: float = 0.0,
    jitter_s: float = 0.0,
    rate_hz: float = RATE_HZ,
    amplitude_uv: float = 800.0,
    seed: int = 0,
) -> Stream:
    """Make `n` samples with a MEP and a trigger edge for each pulse, given as sample indices.

    The muscles answer in the proportion 1 : 1/2 : 1/4. `gaps` are (index, jump of the stamps in s).
    """
    rng = np.random.default_rng(seed)
    samples = np.zeros((n, len(MUSCLES) + 1), dtype=np.float32)
    samples[:, :-1] = rng.normal(0.0, 3.0, (n, len(MUSCLES)))
    shape = np.sin(np.linspace(0.0, 2.0 * np.pi, round(0.012 * rate_hz)))
    for index in pulses:
        begin = index + round(0.022 * rate_hz)
        kept = shape[: max(0, n - begin)]
        for muscle in range(len(MUSCLES)):
            samples[begin : begin + len(kept), muscle] += (amplitude_uv / 2 ** (muscle + 1) * kept).astype(np.float32)
        samples[index : index + 2, -1] = 1.0
    period = (1.0 + ppm * 1e-6) / rate_hz
    stamps = T0 + np.arange(n) * period
    if jitter_s:
        stamps = stamps + rng.uniform(-jitter_s, jitter_s, n)
    for index, jump in gaps:
        stamps[index:] += jump
    return Stream(samples, stamps)


def _engine(
    *,
    model: Any = None,
    ttl: bool = True,
    rate_hz: float = RATE_HZ,
    sweep: SweepSettings | None = None,
    rules: TriggerRules | None = None,
    criteria: MepCriteria | None = None,
    labels: Sequence[str] = (*MUSCLES, "TTL"),
    units: Sequence[str] = ("uV", "uV", "uV", "au"),
) -> Engine:
    """Make an engine for `_emg` streams; without `ttl`, pulses come as markers only."""
    sweep, criteria = sweep or SweepSettings(), criteria or MepCriteria(window_ms=((10.0, 50.0),) * len(MUSCLES))
    channels = match_channels(labels, units, MUSCLES, ttl_label="TTL" if ttl else None)
    estimator = CortexEstimator(model or FakeModel(), MUSCLES, 100.0, floor_uv=criteria.floor_uv)
    return Engine(TrialAssembler(channels, rate_hz, sweep, rules), criteria, estimator)


def _play(
    engine: Engine,
    stream: Stream,
    cuts: Iterable[int] = (),
    markers: Sequence[tuple[int, Pulse]] = (),
    *,
    finish: bool = True,
) -> list[PulseResult]:
    """Feed a stream cut at `cuts`, and each marker after as many samples as stand beside it."""
    results: list[PulseResult] = []
    edges = sorted({0, stream.n, *(n for n, _ in markers), *(c for c in cuts if 0 < c < stream.n)})
    for begin, end in zip(edges, [*edges[1:], None], strict=True):
        for n, pulse in markers:
            if n == begin:
                results += engine.feed_pulse(pulse)
        if end is not None:
            results += engine.feed_samples(stream.block(begin, end))
    return results + engine.finish() if finish else results


def _bits(results: Sequence[PulseResult]) -> list[tuple[Any, ...]]:
    """Return all that the results say, so that two lists are equal only if they agree to the bit and in order.

    Arrays stand as a digest: a failing comparison of their bytes would take pytest minutes to explain.
    """
    told = []
    for result in results:
        trial = result.trial
        times = [trial.t_raw, trial.t, trial.t_uncertainty, trial.pulse_index, trial.rate_hz, trial.first_index]
        arrays = [np.array(times), np.array(trial.sweep_uv.shape), trial.sweep_uv]
        arrays += vars(result.meps).values() if result.meps else []
        arrays += [result.map.field, result.map.spread, result.map.cog_mm] if result.map else []
        digest = hashlib.sha256(b"|".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()
        reasons = result.map.confidence_reasons if result.map else trial.doubts
        pose = trial.pose.matrix.ravel().tolist() if trial.pose else None
        beside = (trial.offsets_ms, pose, trial.intensity, result.gains)
        told.append((trial.pulse_id, trial.trigger_source, trial.reasons, reasons, digest, beside))
    return told


@pytest.fixture(scope="session")
def fake_model() -> type[FakeModel]:
    """Give the class of a model without a file; see `FakeModel`."""
    return FakeModel


@pytest.fixture(scope="session")
def emg() -> Callable[..., Stream]:
    """Make a synthetic stream; see `_emg`."""
    return _emg


@pytest.fixture(scope="session")
def new_engine() -> Callable[..., Engine]:
    """Make an engine; see `_engine`."""
    return _engine


@pytest.fixture(scope="session")
def play() -> Callable[..., list[PulseResult]]:
    """Feed a stream to an engine; see `_play`."""
    return _play


@pytest.fixture(scope="session")
def bits() -> Callable[..., list[tuple[Any, ...]]]:
    """Compare results to the bit; see `_bits`."""
    return _bits

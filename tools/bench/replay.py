"""`m2m bench replay`: how fast hours of EMG go through the core, and whether blocks of all sizes give the same bits.

The EMG is noise with one MEP shape per pulse: what the core does with a sample does not depend on it. A minute of noise
is repeated; stamps, poses and clock offsets are made for the whole length. Knows nothing of the command line.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from rt_engine.companions import CoilPose
from rt_engine.edges.xdf_source import Recording
from rt_engine.engine_setup import build_engine, load_model
from rt_engine.pulse import MARKER, Pulse
from rt_engine.record_events import Input, Offset, PoseFed, PulseFed
from rt_engine.replay import replay
from rt_engine.result_digest import ResultDigest
from rt_engine.settings import Settings

RATE_HZ = 2000.0
PULSE_EVERY = 10_000
"""Samples; the article's protocol has a pulse every five seconds."""

POSE_EVERY, OFFSET_EVERY = 100, 4000
PACKET = 8
COMPARED_BLOCKS = (1, 7, 64, 4096)
_T0 = 5000.0
_PERIOD = (1.0 + 50e-6) / RATE_HZ
"""The amplifier's crystal runs 50 ppm slow."""


class ReplayFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of `m2m bench replay --json`.

    Attributes
    ----------
    times_real_time, times_real_time_cpu
        Seconds of EMG per second of the clock, and of the processor; making the EMG and loading the model are left out.
    seconds, pulses, served
        Length of the EMG, its pulses, and how many of them gave valid trials.
    block
        Samples per block.
    breaks
        Gaps that were seen; there is none.
    identical
        Whether the first `compared_s` seconds gave the same amplitudes and maps in blocks of 1, 7, 64 and 4096 samples.
    """

    times_real_time: float
    times_real_time_cpu: float
    seconds: float
    pulses: int
    served: int
    block: int
    breaks: int
    identical: bool
    compared_s: float


def measure_replay(
    settings: Settings,
    *,
    hours: float,
    block: int,
    jitter_ms: float,
    compared_s: float,
    told: Callable[[str, int, int], None] = lambda stage, done, of: None,
) -> ReplayFigures:
    """Replay made-up EMG.

    Parameters
    ----------
    settings
        Of the engine; its model is used, and its source of pulses.
    hours
        Length of the EMG.
    block
        Samples per block.
    jitter_ms
        SD of the stamps' jitter, by packets of 8 samples.
    compared_s
        How much of it is replayed with all block sizes besides.
    told
        Called with the stage, and how far it is.
    """
    model, _ = load_model(settings.model)
    recording = _made_up(settings, model.info.muscles, hours, jitter_ms / 1000.0)

    def run(part: Recording, size: int, stage: str) -> tuple[int, int, tuple[str, str]]:
        engine = build_engine(settings, model, part.labels, part.units, RATE_HZ).engine
        digest, every = ResultDigest(), max(1, part.samples.shape[0] // 200)
        next_told = 0
        for n, results in replay(part, engine, size):
            for result in results:
                if result.meps is not None and result.map is not None:
                    digest.add(result.meps.amplitude_uv, result.map.field)
            if n >= next_told:
                told(stage, n, part.samples.shape[0])
                next_told = n + every
        return engine.n_valid, engine.assembler.n_gaps, (digest.sha256_meps, digest.sha256_maps)

    begin, begin_cpu = time.perf_counter(), time.process_time()
    served, breaks, _ = run(recording, block, f"blocks of {block}")
    elapsed, elapsed_cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    first = _first(recording, round(compared_s * RATE_HZ))
    digests = {run(first, size, f"the same in blocks of {size}")[2] for size in COMPARED_BLOCKS}
    return ReplayFigures(
        times_real_time=recording.duration_s / elapsed,
        times_real_time_cpu=recording.duration_s / elapsed_cpu,
        seconds=recording.duration_s,
        pulses=len(_pulses(recording.samples.shape[0])),
        served=served,
        block=block,
        breaks=breaks,
        identical=len(digests) == 1,
        compared_s=first.duration_s,
    )


def _pulses(n: int) -> range:
    return range(PULSE_EVERY // 2, n - 400, PULSE_EVERY)


def _made_up(settings: Settings, muscles: tuple[str, ...], hours: float, jitter_s: float) -> Recording:
    rng = np.random.default_rng(0)
    minute = rng.normal(0.0, 3.0, (round(60.0 * RATE_HZ), len(muscles) + 1)).astype(np.float32)
    minute[:, -1] = 0.0
    n = max(round(hours * 3600.0 * RATE_HZ), 2 * PULSE_EVERY)
    samples = np.resize(minute, (n, len(muscles) + 1))
    mep = (400.0 * np.sin(np.linspace(0.0, 2.0 * np.pi, 24))).astype(np.float32)
    for index in _pulses(n):
        samples[index + 44 : index + 68, :-1] += mep[:, None]
        samples[index : index + 4, -1] = 1.0
    stamps: NDArray[np.float64] = _T0 + np.arange(n, dtype=np.float64) * _PERIOD
    if jitter_s:
        stamps += np.repeat(rng.normal(0.0, jitter_s, n // PACKET + 1), PACKET)[:n]
    noise = rng.normal(0.0, 2e-5, n // OFFSET_EVERY + 1)
    inputs: list[Input] = [
        PoseFed.of(index, CoilPose(_T0 + index * _PERIOD - 0.01, np.eye(4))) for index in range(0, n, POSE_EVERY)
    ]
    if settings.trigger.source == MARKER:
        inputs += [PulseFed.of(index + 3, Pulse(_T0 + index * _PERIOD, 0.0, 1e-4)) for index in _pulses(n)]
    return Recording(
        path=Path("made up"),
        labels=[*muscles, settings.trigger.ttl_label],
        units=["microvolts"] * len(muscles) + ["au"],
        rate_hz=RATE_HZ,
        samples=samples,
        stamps=stamps,
        offsets=[Offset(n=k * OFFSET_EVERY, offset=float(x), uncertainty=1e-4) for k, x in enumerate(noise)],
        inputs=sorted(inputs, key=lambda event: event.n),
        poses=[],
        intensities=[],
        settings=None,
        model_sha256="",
        stop=None,
    )


def _first(recording: Recording, n: int) -> Recording:
    """Return the first `n` samples of a recording, and what came before their end."""
    return replace(
        recording,
        samples=recording.samples[:n],
        stamps=recording.stamps[:n],
        inputs=[event for event in recording.inputs if event.n <= n],
    )

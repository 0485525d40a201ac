"""What a demo is judged by: every pulse accounted for, amplitudes, maps and latency against the simulator's truth."""

from dataclasses import dataclass, field

import numpy as np

from rt_engine.cortical_map import NO_ACTIVE_MUSCLE
from rt_engine.errors import DataError
from rt_engine.field.stimulation_file import StimulationSet, Truth
from rt_engine.result_digest import ResultDigest
from tools.demo.listener import Listener, ReceivedPulse
from trainer.metrics import center_of_gravity, nrmse

SAME_PULSE_S = 0.005
"""A received pulse this close to a sent one is that pulse."""


@dataclass
class DemoScore:
    """The figures of a demo, as `m2m demo --json` prints them.

    Attributes
    ----------
    pulses_sent, pulses_served, pulses_invalid, pulses_lost
        Served: amplitudes and a map were delivered. Lost: neither those nor a reason.
    latency_ms
        p50, p99 and max from the last needed sample's push to the map in the subscriber's hands.
    engine_ms
        Of it, from the sample in the engine's hands to the message sent.
    stages_ms
        Stage -> p50 and p99; ``receive`` (pushed to pulled), ``wait``, ``extract``, ``infer``, ``field``, ``publish``,
        ``deliver`` (sent to received) follow one another.
    mep_error_pct
        Largest relative error of an amplitude against max - min of the very samples sent.
    mep_noise_free_error_pct
        Median relative error of the MEPs above the floor against the noise-free amplitude.
    nrmse
        Mean over served pulses with an active muscle, against the true field (article, eq. 12).
    nrmse_mean_map
        The same if each map were the mean of the session's other true fields.
    cog_error_mm
        Mean over the same pulses (article, eq. 15).
    n_low_confidence
        Served maps with low confidence.
    processor_stolen_pct
        Share of the processors' time during the session that a virtual machine's host took away; None if not counted.
    recording
        The XDF file.
    sha256_meps, sha256_maps
        Over what the subscriber received.
    """

    pulses_sent: int = 0
    pulses_served: int = 0
    pulses_invalid: int = 0
    pulses_lost: int = 0
    latency_ms: dict[str, float | None] = field(default_factory=dict)
    engine_ms: dict[str, float | None] = field(default_factory=dict)
    stages_ms: dict[str, dict[str, float | None]] = field(default_factory=dict)
    mep_error_pct: float | None = None
    mep_noise_free_error_pct: float | None = None
    nrmse: float | None = None
    nrmse_mean_map: float | None = None
    cog_error_mm: float | None = None
    n_low_confidence: int = 0
    processor_stolen_pct: float | None = None
    recording: str | None = None
    sha256_meps: str = ""
    sha256_maps: str = ""


def score(listener: Listener, sent: StimulationSet, floor_uv: float, recording: str | None) -> DemoScore:
    """Judge what was received by what was sent.

    Parameters
    ----------
    listener
        What was received.
    sent
        The simulator's own account, with its truth.
    floor_uv
        MEPs from here on enter the noise-free comparison.
    recording
        The XDF file, to be named.

    Returns
    -------
    DemoScore

    Raises
    ------
    DataError
        If the account has no truth in it.
    """
    truth = sent.truth
    if truth is None:
        raise DataError(
            "the simulated subject's data set holds no truth; expected one written by `m2m simulate stream`"
        )
    matched = _match(listener, sent)
    result = DemoScore(pulses_sent=len(sent.t_pulse), recording=recording)
    result.pulses_lost = result.pulses_sent - len(matched)
    served = [(i, pulse) for i, pulse in matched if pulse.map is not None]
    result.pulses_served = len(served)
    result.pulses_invalid = len(matched) - len(served)
    result.n_low_confidence = sum(p.map is not None and p.map.confidence != "ok" for _, p in served)
    digest = ResultDigest()
    for number in listener.order:
        pulse = listener.pulses[number]
        if pulse.mep_uv is not None and pulse.field is not None:
            digest.add(pulse.mep_uv, pulse.field)
    result.sha256_meps, result.sha256_maps = digest.sha256_meps, digest.sha256_maps
    if served:
        _score_amplitudes(result, served, truth, floor_uv)
        _score_maps(result, served, sent)
        _score_latency(result, served, truth)
    return result


def _match(listener: Listener, sent: StimulationSet) -> list[tuple[int, ReceivedPulse]]:
    """Pair each sent pulse with the received one of its time; a received one serves once."""
    received = [(p.trial.t_pulse, p) for p in listener.pulses.values() if p.trial is not None]
    matched = []
    for i, t in enumerate(sent.t_pulse):
        near = [(abs(t_received - t), k) for k, (t_received, _) in enumerate(received)]
        distance, k = min(near, default=(np.inf, -1))
        if distance <= SAME_PULSE_S:
            matched.append((i, received.pop(k)[1]))
    return matched


def _score_amplitudes(
    result: DemoScore, served: list[tuple[int, ReceivedPulse]], truth: Truth, floor_uv: float
) -> None:
    rows = [i for i, _ in served]
    measured = np.array([p.mep_uv for _, p in served], dtype=np.float64)
    true, clean = truth.mep_sent_uv[rows], truth.mep_noise_free_uv[rows]
    known = true > 0.0
    result.mep_error_pct = float(100.0 * np.max(np.abs(measured[known] / true[known] - 1.0), initial=0.0))
    there = clean >= floor_uv
    if there.any():
        result.mep_noise_free_error_pct = float(100.0 * np.median(np.abs(measured[there] / clean[there] - 1.0)))


def _score_maps(result: DemoScore, served: list[tuple[int, ReceivedPulse]], sent: StimulationSet) -> None:
    voxel_mm = sent.voxel @ sent.affine[:3, :3].T + sent.affine[:3, 3]
    rows, estimated, cogs = [], [], []
    for i, pulse in served:
        if pulse.map is None or pulse.field is None or NO_ACTIVE_MUSCLE in pulse.map.confidence_reasons:
            continue
        rows.append(i)
        estimated.append(pulse.field.astype(np.float64) * pulse.map.scale_v_per_m)
        cogs.append(pulse.cog_mm)
    if not rows:
        return
    true = sent.field_v_per_m[rows].astype(np.float64)
    result.nrmse = float(nrmse(true, np.array(estimated)).mean())
    total, n = sent.field_v_per_m.sum(axis=0, dtype=np.float64), len(sent.field_v_per_m)
    if n > 1:
        result.nrmse_mean_map = float(nrmse(true, (total - true) / (n - 1)).mean())
    distance = np.linalg.norm(np.array(cogs) - center_of_gravity(true, voxel_mm), axis=1)
    result.cog_error_mm = float(distance.mean())


def _score_latency(result: DemoScore, served: list[tuple[int, ReceivedPulse]], truth: Truth) -> None:
    stages: dict[str, list[float]] = {
        name: [] for name in ("receive", "wait", "extract", "infer", "field", "publish", "deliver")
    }
    total, engine = [], []
    for i, pulse in served:
        header = pulse.map
        if header is None or header.t_available is None or header.t_sent is None:
            continue
        total.append((pulse.received_at - truth.pushed_at[i]) * 1e3)
        engine.append((header.t_sent - header.t_available) * 1e3)
        stages["receive"].append((header.t_available - truth.pushed_at[i]) * 1e3)
        for name in ("wait", "extract", "infer", "field"):
            stages[name].append(header.stages_us.get(name, 0.0) / 1e3)
        known = sum(header.stages_us.get(name, 0.0) for name in ("wait", "extract", "infer", "field")) / 1e3
        stages["publish"].append(max(engine[-1] - known, 0.0))
        stages["deliver"].append((pulse.received_at - header.t_sent) * 1e3)
    result.latency_ms = _quantiles(total)
    result.engine_ms = _quantiles(engine)
    result.stages_ms = {
        name: {key: value for key, value in _quantiles(values).items() if key != "max"}
        for name, values in stages.items()
    }


def _quantiles(values: list[float]) -> dict[str, float | None]:
    if not values:
        return {"p50": None, "p99": None, "max": None}
    p50, p99 = np.quantile(values, [0.5, 0.99])
    return {"p50": float(p50), "p99": float(p99), "max": float(max(values))}

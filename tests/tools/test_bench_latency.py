"""`m2m bench latency`: real processes and streams, in small; counts, keys and consistency, and no time."""

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import pytest

import tools.bench.latency as latency
from tests.conftest import Ended
from tools.bench.latency_amplifier import LAST_NEEDED, RunOptions, make_run
from tools.bench.latency_figures import STAGES, Arrival, BlockFigures, Leg, judge, worst
from tools.bench.latency_watch import Watch

KEYS = {
    "served",
    "lost",
    "p50_ms",
    "p99_ms",
    "p50_over_floor",
    "p99_over_floor",
    "peer_over_ours",
    "cpu_share",
    "rss_growth_mb",
}
"""What the requirement names; a key that goes away breaks its readers."""


def test_a_small_bench_serves_all_pulses_and_its_figures_agree(m2m: Callable[..., Ended]) -> None:
    ended = m2m("bench", "latency", "--pulses", "20", "--rate", "10", "--blocks", "8", "--no-peer", "--json")
    assert ended.code == 0, ended.err
    found = ended.json
    assert found.keys() >= KEYS
    (block,) = found["blocks"]
    engine, floor = block["engine"], block["floor"]
    assert (found["served"], found["lost"], found["pulses"], block["block"]) == (20, 0, 20, 8)
    assert (engine["pulses"], engine["served"], engine["invalid"], engine["lost"]) == (20, 20, 0, 0)
    assert (floor["pulses"], floor["served"], floor["lost"]) == (20, 20, 0), "two halves of ten"
    assert block["same_maps"], "floor and engine did the same with the same pulses"
    assert found["p50_over_floor"] == pytest.approx(engine["p50_ms"] / floor["p50_ms"])
    assert found["p99_over_floor"] == pytest.approx(engine["p99_ms"] / floor["p99_ms"])
    for leg in (engine, floor):
        assert tuple(leg["stages_ms"]) == STAGES
        assert 0 < leg["p50_ms"] <= leg["p99_ms"] <= leg["max_ms"]
        assert sum(stage["max"] for stage in leg["stages_ms"].values()) >= leg["max_ms"] - 1e-6
        assert leg["cpu_share_all"] > 0
        assert leg["rss_mb"] > 10
        assert len(leg["rss_over_time_mb"]) == 20
    assert found["cpu_share"] == engine["cpu_share"]
    assert found["rss_growth_mb"] == engine["rss_growth_mb"]
    assert (found["peer_over_ours"], found["peer"], block["peer"]) == (None, "left out", None)
    assert found["model"]["shipped"] is True
    assert "the demo's own" in ended.err


@pytest.mark.long
def test_the_peer_maps_the_same_pulses_and_says_what_it_computed(m2m: Callable[..., Ended]) -> None:
    pytest.importorskip("mne_lsl")
    ended = m2m("bench", "latency", "--pulses", "10", "--rate", "10", "--blocks", "8", "--rehearsed-floor", "--json")
    assert ended.code == 0, ended.err
    found = ended.json
    (block,) = found["blocks"]
    peer = block["peer"]
    assert (peer["pulses"], peer["served"], peer["lost"]) == (10, 10, 0)
    assert found["peer_over_ours"] == pytest.approx(peer["p50_ms"] / block["engine"]["p50_ms"])
    assert "fresh weights" in found["peer"], "no trained network lies beside the demo's model"
    assert (block["floor_rehearsed"]["served"], found["p50_over_floor_rehearsed"] is None) == (10, False)


def test_a_peer_that_is_not_installed_is_left_out_with_a_word(
    m2m: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "PEER_NEEDS", ("no_such_package",))
    measured: list[tuple[int, bool]] = []

    def measure(self: Any, block: int, with_peer: bool) -> BlockFigures:
        measured.append((block, with_peer))
        return BlockFigures(block, True, Leg(), Leg(), None, None)

    monkeypatch.setattr(latency.LatencyBench, "_measure", measure)
    ended = m2m("bench", "latency", "--json")
    assert ended.code == 0, ended.err
    assert measured == [(2, False), (8, False), (27, False)], "the blocks of the requirement"
    assert "pip install 'm2m-live[bench]'" in ended.err
    assert ended.json["peer"].startswith("skipped: no_such_package not installed")


def test_too_many_pulses_per_second_are_refused(m2m: Callable[..., Ended]) -> None:
    ended = m2m("bench", "latency", "--rate", "50")
    assert ended.code == 1
    assert "at most 10 pulses per second" in ended.err


def test_ctrl_c_ends_all_processes(start: Callable[..., Any], wait_until: Callable[..., None]) -> None:
    bench = start("bench", "latency", "--pulses", "1000", "--blocks", "8", "--no-peer", "--json")
    children: list[psutil.Process] = []

    def three() -> bool:
        children[:] = psutil.Process(bench.process.pid).children(recursive=True)
        return len(children) >= 3

    wait_until(three, "amplifier, floor and subscriber")
    os.kill(bench.process.pid, signal.SIGINT)
    assert bench.end() == 130
    assert psutil.wait_procs(children, timeout=60.0)[1] == []
    assert bench.out == ""


def test_a_process_that_fails_ends_the_bench_with_its_words(
    m2m: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = latency.LatencyBench._start

    def start_badly(self: Any, module: str, options: Any, environment: Any = None) -> Any:
        if module == "latency_floor":
            options = type(options)(source_id="nobody", model="/no/such/model.onnx")
        return start(self, module, options, environment)

    monkeypatch.setattr(latency.LatencyBench, "_start", start_badly)
    before = psutil.Process().children()  # such as the display that other tests use
    ended = m2m("bench", "latency", "--pulses", "10", "--blocks", "8", "--no-peer")
    assert ended.code == 1
    assert "latency floor ended early" in ended.err
    assert "/no/such/model.onnx" in ended.err
    assert psutil.Process().children() == before


def test_the_amplifier_sends_each_pulse_with_its_responses() -> None:
    run = make_run(RunOptions(pulses=120, rate_hz=5.0, seed=3), n_muscles=4, block=27)
    assert run.pulse.shape == (120,)
    assert run.n_loop == 50 * 400
    np.testing.assert_array_equal(run.loop[run.n_loop :], run.loop[:27])
    gaps = np.diff(run.pulse)
    assert gaps.min() >= 360
    assert gaps.max() <= 440
    assert len(set((run.pulse % 8).tolist())) == 8, "pulses meet blocks at every place"
    for pulse in run.pulse.tolist():
        at = pulse % run.n_loop
        assert run.loop[at - 1, -1] == 0.0
        assert run.loop[at, -1] == 1.0
        window = run.loop[at + 20 : at + LAST_NEEDED + 1, :-1]
        assert (window.max(axis=0) - window.min(axis=0)).min() > 20.0, "a response in every muscle"


def test_what_arrived_is_joined_with_what_was_sent() -> None:
    sent = [1.0, 1.2, 1.4, 1.6, 1.8]
    pushed = [t + 0.05 for t in sent]
    stages = dict.fromkeys(STAGES[1:], 0.5)
    arrivals = [Arrival(t + 0.0001, t + 0.051, t + 0.053, stages) for t in (1.8, 1.0, 1.2)]
    arrivals.append(Arrival(1.3, 1.35, 1.36, stages))  # of no pulse that was sent
    leg = judge(sent, pushed, arrivals, invalid=[1.4])
    assert (leg.pulses, leg.served, leg.invalid, leg.lost) == (5, 3, 1, 1)
    assert leg.p50_ms == pytest.approx(3.0)
    assert leg.stages_ms["receive"]["p50"] == pytest.approx(1.0)
    assert leg.stages_ms["infer"] == {"p50": 0.5, "p99": 0.5, "max": 0.5}
    nothing = judge(sent, pushed, [], [])
    assert (nothing.lost, nothing.p50_ms, nothing.stages_ms["infer"]["max"]) == (5, None, None)


def test_the_named_figures_are_the_worst_over_block_sizes() -> None:
    def block(n: int, served: int, p50: float, p99: float, peer: float | None) -> BlockFigures:
        engine = Leg(pulses=10, served=served, lost=10 - served, p50_ms=p50, p99_ms=p99, max_ms=p99)
        engine.cpu_share, engine.rss_growth_mb = 0.01 * n, 1.0 / n
        floor = Leg(pulses=10, served=10, p50_ms=2.0, p99_ms=4.0, max_ms=4.0)
        return BlockFigures(n, True, engine, floor, None, None if peer is None else Leg(p50_ms=peer))

    about: dict[str, Any] = {"pulses": 10, "rate_hz": 5.0, "model": {}, "peer": "", "machine": ""}
    figures = worst([block(2, 10, 3.0, 4.0, 90.0), block(8, 9, 2.0, 8.0, 40.0)], **about)
    assert (figures.served, figures.lost) == (9, 1)
    assert (figures.p50_over_floor, figures.p99_over_floor) == (1.5, 2.0)
    assert figures.peer_over_ours == 20.0, "the smaller one"
    assert (figures.cpu_share, figures.rss_growth_mb) == (0.08, 0.5)
    assert figures.p50_over_floor_rehearsed is None
    unknown = block(8, 0, 1.0, 1.0, None)
    unknown.engine.p50_ms = None
    assert worst([block(2, 10, 3.0, 4.0, None), unknown], **about).p50_over_floor is None, "not measured is not good"
    json.dumps(figures.as_json())


def test_memory_counts_after_the_first_hundred_pulses() -> None:
    watch = Watch(os.getpid(), 0.2)
    for _ in range(3):
        watch.after_map(0.05)
    assert watch.rss_median_mb is not None
    assert watch.rss_median_mb > 10
    watch.rss_mb = [float(k) for k in range(200)]
    assert watch.rss_growth_mb == 99.0
    assert watch.rss_over_time_mb == [float(k) for k in range(3, 200, 4)], "fifty of them, to the end"
    watch.rss_mb = [1.0, 5.0, 4.0, 6.0]
    assert watch.rss_growth_mb == 5.0, "a short run counts from its first tenth"

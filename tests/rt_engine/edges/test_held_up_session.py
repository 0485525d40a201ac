"""A session that was held up (a busy computer, a laptop put to sleep): its samples wait, and nobody is blamed.

The session's loop runs on a clock and an inlet that the test owns, so that a slow machine changes nothing.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from rt_engine import session as module
from rt_engine.engine_setup import build_engine, load_model
from rt_engine.health import State
from rt_engine.muscles import ARTICLE_MUSCLES
from rt_engine.session import Session
from rt_engine.settings import StreamQuery, parse_settings
from tests.rt_engine.edges.conftest import MODEL

RATE = 2000.0
T0 = 5000.0
N = 9_600
BLOCK = 8
PULSES = range(500, 9_100, 90)
"""45 ms apart: at any moment one waits for its last samples, and another has just come."""


class World:
    """The time, and a stream of noise and triggers that goes on while nobody looks."""

    role, query = "emg", StreamQuery(name="EMG")
    MAX_SAMPLES = 512
    """Several pulls before all that waits is taken."""

    def __init__(self) -> None:
        self.now = T0
        self.stop = lambda: None
        self.clock = SimpleNamespace(offset_s=0.0, uncertainty_s=1e-5, check=lambda stamp, now: False)
        self.poll_clock = lambda now: False
        self.n_waiting = 0
        self.n_unanswered = 0
        self._stamps = T0 + np.arange(N) / RATE
        self._samples = np.random.default_rng(0).normal(0.0, 3.0, (N, len(ARTICLE_MUSCLES) + 1)).astype(np.float32)
        self._samples[:, -1] = np.isin(np.arange(N), PULSES)
        self._taken = 0

    def pull(self, timeout_s: float, at_least: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Give what has come, at most so much; wait until it is so much, in whole blocks."""
        if self._taken == N:
            self.stop()
        else:
            enough = min(self._taken + -(-at_least // BLOCK) * BLOCK, N)
            self.now = max(self.now, min(self.now + timeout_s, float(self._stamps[enough - 1])))
        end = min(int(np.searchsorted(self._stamps, self.now, side="right")), self._taken + self.MAX_SAMPLES)
        taken, self._taken = slice(self._taken, end), end
        return self._samples[taken], self._stamps[taken]


@pytest.mark.parametrize("held_up_s", [0.4, 3.0])
def test_it_loses_no_pulse_and_blames_no_stream(monkeypatch, held_up_s):
    settings = parse_settings(
        {
            "model": {"path": str(MODEL), "provider": "cpu"},
            "publish": {"address": "tcp://127.0.0.1:*", "control_address": ""},
            "timing": {"expire_s": 0.3, "budget_ms": {}},  # the engine's own clock goes on
            "streams": {"stall_s": 0.3},
        }
    )
    world, results, states = World(), [], []
    monkeypatch.setattr(module, "now_s", lambda: world.now)

    def hold_up(result):
        results.append(result)
        if len(results) == 20:
            world.now += held_up_s

    session = Session(settings, on_state=lambda state, _: states.append(state), on_result=hold_up)
    world.stop = session.stop
    session._streams.emg = world
    model, _ = load_model(settings.model)
    session._take_parts(build_engine(settings, model, [*ARTICLE_MUSCLES, "TTL"], ["uV"] * 16, RATE))
    session.state = State.READY
    try:
        session._loop()
    finally:
        session._outputs.close()
    assert [result.trial.reasons for result in results] == [()] * len(PULSES)
    assert states == [State.RUNNING]

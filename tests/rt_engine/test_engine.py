"""Every pulse comes out of the engine exactly once, and its result is whole."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rt_engine.engine import Engine, PulseResult
from rt_engine.errors import DataError
from rt_engine.mep import MepStatus
from rt_engine.pulse import Pulse
from rt_engine.sample_block import SampleBlock
from rt_engine.trial_assembler import MAX_PENDING, SweepSettings

RATE_HZ = 2000.0
T0 = 5000.0
N_MUSCLES = 3
REASONS = {
    "gap",
    "duplicate",
    "clock_step",
    "time_uncertain",
    "no_time",
    "expired",
    "before_stream",
    "ahead_of_stream",
    "too_late",
    "too_many_pending",
}


def test_a_bad_sample_in_one_muscle_costs_that_muscle_only(
    emg: Callable[..., Any], new_engine: Callable[..., Any], fake_model: Callable[[], Any]
) -> None:
    stream = emg(4000, [3000])
    clean_model, model = fake_model(), fake_model()
    (clean,) = new_engine(model=clean_model).feed_samples(stream.block(0, 4000))
    stream.samples[3060, 1] = np.nan
    (result,) = new_engine(model=model).feed_samples(stream.block(0, 4000))
    assert result.trial.valid
    assert result.meps.status.tolist() == [0, int(MepStatus.SAMPLES_MISSING), 0]
    assert np.isnan(result.meps.amplitude_uv[1])
    np.testing.assert_array_equal(result.meps.amplitude_uv[[0, 2]], clean.meps.amplitude_uv[[0, 2]])
    ((amplitudes, valid),) = model.asked
    assert valid.tolist() == [True, False, True]
    assert amplitudes[1] == 0.0
    assert result.map.confidence == "low"
    assert result.map.confidence_reasons == ("samples_missing:ADM",)
    assert clean.map.confidence == "ok"


def test_valid_and_invalid_trials_are_counted(
    emg: Callable[..., Any], new_engine: Callable[..., Any], play: Callable[..., list[PulseResult]]
) -> None:
    engine = new_engine()
    results = play(engine, emg(6000, [1000, 2010, 3000, 5990], gaps=[(2000, 1.0)]))
    assert [r.trial.valid for r in results] == [True, False, True, False]
    assert (engine.n_valid, engine.n_invalid, engine.assembler.n_pulses) == (2, 2, 4)
    assert engine.n_samples == 6000


def test_an_invalid_trial_has_neither_amplitudes_nor_a_map_and_asks_no_model(
    emg: Callable[..., Any], new_engine: Callable[..., Any], fake_model: Callable[[], Any]
) -> None:
    model = fake_model()
    (result,) = new_engine(model=model).feed_samples(emg(4000, [2010], gaps=[(2000, 1.0)]).block(0, 4000))
    assert (result.meps, result.map, result.stages_us) == (None, None, {})
    assert model.asked == []


def test_stages_are_timed_with_the_stopwatch_given_and_change_nothing(
    emg: Callable[..., Any], new_engine: Callable[..., Any], bits: Callable[..., Any]
) -> None:
    plain, timed = new_engine(), new_engine()
    ticks = iter(range(100))
    watched = Engine(timed.assembler, timed._criteria, timed._estimator, stopwatch=lambda: float(next(ticks)))
    block = emg(2000, [1000]).block(0, 2000)
    (without,), (result,) = plain.feed_samples(block), watched.feed_samples(block)
    assert result.stages_us == {"extract": 1e6, "infer": 1e6}
    assert without.stages_us == {}
    assert bits([without]) == bits([result])


@pytest.mark.parametrize(("samples", "stamps"), [((5,), (5,)), ((5, 4), (4,)), ((5, 4), (5, 1)), ((2, 5, 4), (5,))])
def test_a_block_whose_parts_do_not_fit_is_refused(samples: tuple[int, ...], stamps: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"samples \(n, channels\) and stamps \(n,\); got"):
        SampleBlock(np.zeros(samples, dtype=np.float32), np.zeros(stamps))


def test_a_slower_amplifier_serves_the_same_pulse(emg: Callable[..., Any], new_engine: Callable[..., Any]) -> None:
    engine = new_engine(rate_hz=1000.0)
    (result,) = engine.feed_samples(emg(1000, [500], rate_hz=1000.0).block(0, 1000))
    assert result.trial.sweep_uv.shape == (N_MUSCLES, 151)
    assert result.meps.amplitude_uv[0] > 300.0


class Session(RuleBasedStateMachine):
    """Anything that can happen in a session, in any order."""

    make: Callable[..., Engine]

    def __init__(self) -> None:
        super().__init__()
        self.engine = type(self).make(sweep=SweepSettings(ring_s=1.0))
        self.rng = np.random.default_rng(0)
        self.t = T0
        self.results: list[PulseResult] = []
        self.n_markers = 0

    @initialize(seed=st.integers(0, 99))
    def begin(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def _samples(self, n: int, trigger: int | None = None, bad: float | None = None) -> None:
        samples = self.rng.normal(0.0, 5.0, (n, N_MUSCLES + 1)).astype(np.float32)
        samples[:, -1] = 0.0
        if trigger is not None and n:
            samples[trigger % n, -1] = 1.0
        if bad is not None and n:
            samples[self.rng.integers(n), self.rng.integers(N_MUSCLES + 1)] = bad
        stamps = self.t + (1 + np.arange(n)) / RATE_HZ
        self.t += n / RATE_HZ
        self.results += self.engine.feed_samples(SampleBlock(samples, stamps))

    @rule(n=st.integers(0, 700), trigger=st.none() | st.integers(0, 700))
    def samples(self, n: int, trigger: int | None) -> None:
        self._samples(n, trigger)

    @rule(n=st.integers(1, 50), value=st.sampled_from([np.nan, np.inf, -np.inf, 3e38]))
    def bad_samples(self, n: int, value: float) -> None:
        self._samples(n, 3, bad=value)

    @rule(n=st.integers(1, 150))
    def samples_without_a_time(self, n: int) -> None:
        samples = np.zeros((n, N_MUSCLES + 1), dtype=np.float32)
        self.t += n / RATE_HZ
        self.results += self.engine.feed_samples(SampleBlock(samples, np.full(n, np.nan)))

    @rule(seconds=st.sampled_from([0.03, -0.03, 1.5, -1.5, 3600.0]))
    def gap(self, seconds: float) -> None:
        self.t += seconds

    @rule(seconds=st.sampled_from([-5.0, -0.6, -0.2, -0.05, 0.0, 0.002, 0.3, 2.0, 1e9, -1e299, 1e299]))
    def marker(self, seconds: float) -> None:
        self.n_markers += 1
        self.results += self.engine.feed_pulse(Pulse(self.t + seconds, 1e-4, 1e-4, "TMS"))

    @rule(n=st.integers(50, 400))
    def burst_of_markers(self, n: int) -> None:
        for k in range(n):
            self.marker(0.001 * (k + 1))

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.2, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.results += self.engine.feed_time(self.t + seconds)

    @invariant()
    def each_pulse_is_either_out_or_waiting(self) -> None:
        ids = [r.trial.pulse_id for r in self.results]
        assert len(set(ids)) == len(ids)
        assert len(ids) + self.engine.assembler.n_pending == self.engine.assembler.n_pulses
        assert self.engine.assembler.n_pending <= MAX_PENDING
        assert self.engine.n_valid + self.engine.n_invalid == len(ids)

    def teardown(self) -> None:
        self.results += self.engine.finish()
        assert sorted(r.trial.pulse_id for r in self.results) == list(range(self.engine.assembler.n_pulses))
        from_markers = sum(r.trial.trigger_source == "marker" for r in self.results)
        assert from_markers + self.engine.assembler.n_doubles == self.n_markers
        for result in self.results:
            self._is_whole(result)

    @staticmethod
    def _is_whole(result: PulseResult) -> None:
        trial = result.trial
        assert np.isfinite([trial.t, trial.t_raw, trial.t_uncertainty, trial.rate_hz, trial.sweep_start_ms]).all()
        assert set(trial.reasons) <= REASONS
        if not trial.valid:
            assert result.meps is None
            assert result.map is None
            assert trial.sweep_uv.shape == (N_MUSCLES, 0)
            return
        missing = (result.meps.status & int(MepStatus.SAMPLES_MISSING)) != 0
        np.testing.assert_array_equal(np.isfinite(result.meps.amplitude_uv), ~missing)
        assert np.isfinite(result.map.field).all()
        assert 181 <= trial.sweep_uv.shape[1] or trial.first_index == 0
        assert abs(trial.pulse_index - trial.first_index) <= 201.0


def test_every_pulse_of_any_session_comes_out_exactly_once(new_engine: Callable[..., Engine]) -> None:
    machine = type("Machine", (Session,), {"make": staticmethod(new_engine)})
    case = machine.TestCase
    case.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
    case("runTest").runTest()

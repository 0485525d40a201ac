"""The deterministic core: samples and pulses in, trials, MEPs and maps out.

A straight line: samples, pulses -> `TrialAssembler` -> `Trial` -> `measure_meps` -> `MepVector` -> `CortexEstimator` ->
`CorticalMap`. The engine owns no thread, socket or clock. Live streams, a replay at real time and a replay as fast as
the machine can all drive this one class, and the same input gives the same bits, however it is cut into blocks.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from rt_engine.companions import CoilPose, StimulatorIntensity
from rt_engine.cortical_map import CorticalMap
from rt_engine.estimator import CortexEstimator
from rt_engine.mep import MepCriteria, MepVector, measure_meps
from rt_engine.pulse import TTL, Pulse
from rt_engine.sample_block import SampleBlock
from rt_engine.trial import Trial
from rt_engine.trial_assembler import TrialAssembler


@dataclass(frozen=True, eq=False)
class PulseResult:
    """All that the engine has to say about one pulse.

    Attributes
    ----------
    trial
        The pulse and its sweep, valid or not.
    meps
        The amplitudes; None if the trial is not valid.
    map
        The estimate; None if the trial is not valid.
    stages_us
        Time spent per stage, microseconds; empty without a stopwatch.
    """

    trial: Trial
    meps: MepVector | None
    map: CorticalMap | None
    stages_us: dict[str, float] = field(default_factory=dict)


class Engine:
    """The core that live sessions, replays and tests share.

    Parameters
    ----------
    assembler
        Cuts trials out of the stream.
    criteria
        How MEPs are measured; its windows are in the order of the assembler's muscles.
    estimator
        Turns amplitudes into maps.
    stopwatch
        Returns seconds, only to report how long the stages took; results never depend on it.
    """

    def __init__(
        self,
        assembler: TrialAssembler,
        criteria: MepCriteria,
        estimator: CortexEstimator,
        stopwatch: Callable[[], float] | None = None,
    ) -> None:
        self.assembler = assembler
        self._criteria = criteria
        self._estimator = estimator
        self._stopwatch = stopwatch
        self.n_valid = 0
        self.n_invalid = 0

    @property
    def n_samples(self) -> int:
        """Number of samples fed so far; the time axis of everything that is recorded for a replay."""
        return self.assembler.n_samples

    def feed_samples(self, block: SampleBlock) -> list[PulseResult]:
        """Take in EMG samples (with their trigger channel, if there is one).

        Returns
        -------
        list of PulseResult
            Of the pulses that these samples completed, or made impossible.
        """
        return self._serve(self.assembler.feed_samples(block))

    def feed_pulse(self, pulse: Pulse) -> list[PulseResult]:
        """Take in a pulse from a marker stream, before or after its samples.

        Returns
        -------
        list of PulseResult
            Of this pulse if its samples are all there, else empty.
        """
        return self._serve(self.assembler.feed_pulse(pulse))

    def feed_pose(self, pose: CoilPose) -> None:
        """Take in a coil pose."""
        self.assembler.feed_pose(pose)

    def feed_intensity(self, intensity: StimulatorIntensity) -> None:
        """Take in the stimulator's setting."""
        self.assembler.feed_intensity(intensity)

    def feed_time(self, t: float) -> list[PulseResult]:
        """Let time pass: pulses whose samples are overdue at `t` (s, engine's clock) come back as expired."""
        return self._serve(self.assembler.feed_time(t))

    def finish(self) -> list[PulseResult]:
        """Say that nothing more comes: pulses that still wait come back as expired."""
        return self._serve(self.assembler.finish())

    def rehearse(self) -> PulseResult:
        """Go the whole way once with a made-up sweep, so that the first real pulse finds all code and memory warm.

        Nothing is counted, and nothing that comes later is changed by it.
        """
        muscles, rate = len(self._criteria.window_ms), self.assembler.clock.nominal_rate_hz
        before = round(min(-self._criteria.baseline_ms[0], 1000.0) * rate / 1000.0)
        n = before + round(self._criteria.last_needed_ms * rate / 1000.0) + 2
        sweep = 100.0 * np.sin(np.arange(muscles * n, dtype=np.float64)).reshape(muscles, n)
        trial = Trial(-1, TTL, 0.0, 0.0, 0.0, float(before), 0, sweep, rate)
        result = self._result(trial)
        self.n_valid -= 1
        return result

    def _serve(self, trials: list[Trial]) -> list[PulseResult]:
        return [self._result(trial) for trial in trials]

    def _result(self, trial: Trial) -> PulseResult:
        if not trial.valid:
            self.n_invalid += 1
            return PulseResult(trial, None, None)
        clock = self._stopwatch or _no_time
        begin = clock()
        meps = measure_meps(trial.sweep_uv, trial.first_index, trial.pulse_index, trial.rate_hz, self._criteria)
        measured = clock()
        cortical_map = self._estimator.estimate(meps)
        estimated = clock()
        self.n_valid += 1
        stages = {"extract": (measured - begin) * 1e6, "infer": (estimated - measured) * 1e6}
        return PulseResult(trial, meps, cortical_map, stages if self._stopwatch else {})


def _no_time() -> float:
    return 0.0

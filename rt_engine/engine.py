"""The deterministic core: samples and pulses in, trials, MEPs and maps out.

A straight line: samples, pulses -> `TrialAssembler` -> `Trial` -> `measure_meps` -> `MepVector` -> `CortexEstimator` ->
`CorticalMap`. The engine owns no thread, socket or clock. Live streams, a replay at real time and a replay as fast as
the machine can all drive this one class, and the same input gives the same bits, however it is cut into blocks.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rt_engine.companions import CoilPose, StimulatorIntensity
from rt_engine.cortical_map import CorticalMap
from rt_engine.errors import ModelError
from rt_engine.estimator import CortexEstimator, check_gains
from rt_engine.mep import MepCriteria, MepVector, measure_meps
from rt_engine.pulse import TTL, Pulse
from rt_engine.sample_block import SampleBlock
from rt_engine.tracked_field import KEPT, ComputedField, TrackedField
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
    model_sha256
        Of the model that made the map, or would have made it.
    gains
        What each muscle's amplitude was multiplied by before the model saw it; empty if nothing was.
    computed
        The E-field of the coil as it was tracked, or why there is none; None if the trial is not valid, or the engine
        was given no `TrackedField`.
    """

    trial: Trial
    meps: MepVector | None
    map: CorticalMap | None
    stages_us: dict[str, float] = field(default_factory=dict)
    model_sha256: str = ""
    gains: tuple[float, ...] = ()
    computed: ComputedField | None = None


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
    tracked_field
        Computes the E-field of the tracked coil beside the estimate; None leaves that out.
    """

    def __init__(
        self,
        assembler: TrialAssembler,
        criteria: MepCriteria,
        estimator: CortexEstimator,
        stopwatch: Callable[[], float] | None = None,
        tracked_field: TrackedField | None = None,
    ) -> None:
        self.assembler = assembler
        self._criteria = criteria
        self._estimator = estimator
        self._stopwatch = stopwatch
        self._tracked_field = tracked_field
        self._gains: NDArray[np.float32] | None = None
        self._told_gains: tuple[float, ...] = ()
        self.n_valid = 0
        self.n_invalid = 0

    @property
    def n_samples(self) -> int:
        """Number of samples fed so far; the time axis of everything that is recorded for a replay."""
        return self.assembler.n_samples

    @property
    def model_sha256(self) -> str:
        """Of the model that makes the maps now."""
        return self._estimator.model_sha256

    @property
    def gains(self) -> tuple[float, ...]:
        """What each muscle's amplitude is multiplied by before the model sees it; empty if nothing is."""
        return self._told_gains

    def set_gains(self, gains: ArrayLike | None) -> None:
        """Multiply amplitudes before the model sees them, from the next trial on that is served.

        Amplitudes are published as measured all the same. A replay repeats it if it is called after as many samples.

        Parameters
        ----------
        gains
            (muscles,), see `estimator.GAIN_LIMITS` and `estimator.gains_by_name`; None, or 1 for all, ends it.

        Raises
        ------
        DataError
            If there is not one gain per muscle, or one is outside the limits.
        """
        checked = None if gains is None else check_gains(gains, self._estimator.muscles)
        if checked is not None and (checked == 1.0).all():
            checked = None
        self._gains = checked
        self._told_gains = () if checked is None else tuple(checked.tolist())

    def swap(self, estimator: CortexEstimator, tracked_field: TrackedField | None = None) -> None:
        """Make maps by another model, from the next trial on that is served; `engine_setup.model_parts` makes both.

        Gains stay. The new model's voxels may be others: subscribers must be sent the new geometry. A replay repeats
        it if it is called after as many samples.

        Parameters
        ----------
        estimator
            Of the new model, for the same muscles in the session's order.
        tracked_field
            For the new model's voxels.

        Raises
        ------
        ModelError
            If the estimator's muscles are others, or in another order.
        """
        if estimator.muscles != self._estimator.muscles:
            raise ModelError(
                f"the new model's estimator is for the muscles {', '.join(estimator.muscles)}; "
                f"the session has {', '.join(self._estimator.muscles)}"
            )
        self._estimator = estimator
        self._tracked_field = tracked_field

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

    def feed_reference(self, pulse: Pulse) -> list[PulseResult]:
        """Take in what another trigger source than the chosen one says of a pulse; only offsets are measured by it.

        Returns
        -------
        list of PulseResult
            Of pulses that waited for it.
        """
        return self._serve(self.assembler.feed_reference(pulse))

    def feed_pose(self, pose: CoilPose, known_from: int | None = None) -> None:
        """Take in a coil pose; a replay says after how many samples it came."""
        self.assembler.feed_pose(pose, known_from)

    def feed_intensity(self, intensity: StimulatorIntensity, known_from: int | None = None) -> None:
        """Take in the stimulator's setting; a replay says after how many samples it came."""
        self.assembler.feed_intensity(intensity, known_from)

    def feed_time(self, t: float) -> list[PulseResult]:
        """Let time pass: pulses whose samples are overdue at `t` (s, engine's clock) come back as expired."""
        return self._serve(self.assembler.feed_time(t))

    def finish(self) -> list[PulseResult]:
        """Say that nothing more comes: pulses that still wait come back as expired."""
        return self._serve(self.assembler.finish())

    def rehearse(self) -> PulseResult:
        """Go the whole way once with a made-up sweep, so that the first real pulse finds all code and memory warm.

        The fields of the coils of the pulses that wait are prepared besides. Nothing is counted, and nothing that
        comes later is changed by it.
        """
        self.prepare()
        muscles, rate = len(self._criteria.window_ms), self.assembler.clock.nominal_rate_hz
        before = round(min(-self._criteria.baseline_ms[0], 1000.0) * rate / 1000.0)
        n = before + round(self._criteria.last_needed_ms * rate / 1000.0) + 2
        sweep = 100.0 * np.sin(np.arange(muscles * n, dtype=np.float64)).reshape(muscles, n)
        pose, intensity = next(iter(self.assembler.waiting_companions(1)), (None, None))
        trial = Trial(-1, TTL, 0.0, 0.0, 0.0, float(before), 0, sweep, rate, (), pose, intensity)
        result = self._result(trial)
        self.n_valid -= 1
        return result

    def prepare(self) -> None:
        """Compute the field of the coil of a pulse that waits, so that its trial need not wait for that.

        One field for each call, which takes about 2 ms: samples are waiting too. Results are the same with and
        without it.
        """
        if self._tracked_field is not None:
            for pose, intensity in self.assembler.waiting_companions(KEPT):
                if self._tracked_field.prepare(pose, intensity):
                    return

    def _serve(self, trials: list[Trial]) -> list[PulseResult]:
        return [self._result(trial) for trial in trials]

    def _result(self, trial: Trial) -> PulseResult:
        if not trial.valid:
            self.n_invalid += 1
            return PulseResult(trial, None, None, {}, self._estimator.model_sha256, self._told_gains)
        clock = self._stopwatch or _no_time
        begin = clock()
        meps = measure_meps(trial.sweep_uv, trial.first_index, trial.pulse_index, trial.rate_hz, self._criteria)
        measured = clock()
        cortical_map = self._estimator.estimate(meps, self._gains)
        if trial.doubts:
            reasons = cortical_map.confidence_reasons + trial.doubts
            cortical_map = replace(cortical_map, confidence_reasons=reasons)
        estimated = clock()
        stages = {"extract": (measured - begin) * 1e6, "infer": (estimated - measured) * 1e6}
        computed = None
        if self._tracked_field is not None:
            computed = self._tracked_field.beside(cortical_map, trial.pose, trial.intensity)
            stages["field"] = (clock() - estimated) * 1e6
        self.n_valid += 1
        return PulseResult(
            trial,
            meps,
            cortical_map,
            stages if self._stopwatch else {},
            self._estimator.model_sha256,
            self._told_gains,
            computed,
        )


def _no_time() -> float:
    return 0.0

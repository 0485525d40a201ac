"""A live session: joins the core to the world and runs the state machine.

One loop in one thread: it sleeps in liblsl until samples come, feeds the core, publishes what comes out, and between
samples looks after subscribers, clock offsets and health.
"""

import gc
import logging
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from rt_engine.channels import check_baseline
from rt_engine.companions import StimulatorIntensity
from rt_engine.edges.clock_offset import now_s
from rt_engine.edges.lsl_inlets import EventInlet, SampleInlet
from rt_engine.edges.pose_sample import parse_pose
from rt_engine.edges.publisher import Publisher
from rt_engine.engine import PulseResult
from rt_engine.engine_setup import EngineParts, build_engine, load_model
from rt_engine.errors import M2MError, RecordingError, StreamError
from rt_engine.health import State
from rt_engine.pulse import Pulse
from rt_engine.record_events import Offset, PulseFed, Start, Stop, TimeFed
from rt_engine.result_messages import session_message
from rt_engine.sample_block import SampleBlock
from rt_engine.session_outputs import SessionOutputs, SessionSummary
from rt_engine.session_recording import SessionRecording
from rt_engine.session_streams import SessionStreams
from rt_engine.settings import Settings
from rt_engine.versions import software_versions

log = logging.getLogger(__name__)

BASELINE_CHECK_S = 0.5
"""How much signal is looked at before the start, to catch a wrong unit."""

REHEARSALS = 5
"""Made-up pulses before the first real one; the first takes ten times as long as the others."""

FIRST_SAMPLES_TIMEOUT_S = 5.0
RECORDED_TIMEOUT_S = 20.0
"""LabRecorder writes twice a second; a slow amplifier's few samples may wait longer until they fill a buffer."""

PULL_TIMEOUT_S = 0.05
"""How long the loop may sleep without a sample; bounds how late a stop, a stall or a subscriber is noticed."""

WARM_FOR_S = 0.015
"""How long code and memory count as warm. A network's map takes 1 ms when they are, and 7 ms half a second later."""


def new_session_id() -> str:
    """Return an identity that sorts by time: date, time and microseconds, UTC."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")


class Session:
    """A live session.

    Parameters
    ----------
    settings
        Of the session.
    session_id
        Its identity; by default a new one.
    recording
        XDF file to record to, or None.
    on_state
        Called with each new state and its reason.
    on_result
        Called with each result, after it has been published.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        session_id: str | None = None,
        recording: Path | None = None,
        on_state: Callable[[State, str], None] = lambda state, reason: None,
        on_result: Callable[[PulseResult], None] = lambda result: None,
    ) -> None:
        self.settings = settings
        self.session_id = session_id or new_session_id()
        self.state = State.RESOLVING
        self.reason = ""
        self._on_state = on_state
        self._on_result = on_result
        self._stopping = False
        self._model, self._subject = load_model(settings.model)
        if self._model.notice:
            log.warning(self._model.notice)
        self._recording = SessionRecording(recording, settings.record)
        publisher = Publisher(settings.publish.address, self.session_id)
        self._outputs = SessionOutputs(publisher, self._model, self._subject)
        self._next_health = -math.inf
        self._parts: EngineParts | None = None
        self._streams = SessionStreams(settings, lambda: self._stopping)
        self._last_sample_at = math.nan
        self._asked_at = math.nan
        self._pulled_at = math.nan
        self._warm_at = -math.inf

    @property
    def address(self) -> str:
        """Where the session publishes."""
        return self._outputs.publisher.address

    def stop(self) -> None:
        """Ask the session to end; safe to call from a signal handler."""
        self._stopping = True

    def run(self) -> SessionSummary:
        """Run until `stop` is called.

        Raises
        ------
        M2MError
            If the session cannot start, or fails; the state is then FAILED with the reason.
        """
        try:
            self._resolve()
            if not self._stopping:
                self._warm_up()
            if not self._stopping:
                self._begin()
                self._loop()
                self._end()
            self._recording.stop(lambda: self._enter(State.STOPPED, "closing the recording"))
            self._enter(State.STOPPED, "stopped on request")
        except Exception as error:
            self._enter(State.FAILED, str(error))
            self._recording.stop_after(error)
            raise
        finally:
            self._streams.close()
            self._outputs.close()
            gc.unfreeze()
        engine = self._parts.engine if self._parts else None
        return self._outputs.summary(engine, self._recording.path if self._recording.record else None)

    # -- before the first sample counts ------------------------------------------------------------------------------

    def _resolve(self) -> None:
        looked_for = "; ".join(f"{role}: {query}" for role, query in self._streams.wanted.items())
        self._enter(State.RESOLVING, f"looking for the streams {looked_for}")
        self._streams.resolve()

    def _warm_up(self) -> None:
        self._enter(State.WARMING, "opening the streams and measuring their clocks")
        self._streams.open()
        emg = self._streams.emg
        self._parts = build_engine(
            self.settings,
            self._model,
            emg.labels,
            emg.units,
            emg.info.nominal_srate(),
            time.perf_counter,
            subject=self._subject,
        )
        for _ in range(REHEARSALS):
            self._outputs.rehearse(self._parts.engine.rehearse())
        self._check_signal(emg, self._parts)
        self._outputs.announce(
            session_message(
                self._model,
                self._parts.channels,
                self._parts.criteria,
                self._parts.sweep,
                started_at=datetime.now(UTC).isoformat(timespec="seconds"),
                nominal_rate_hz=emg.info.nominal_srate(),
                trigger_source=self.settings.trigger.source,
                streams=self._streams.descriptions,
                versions=software_versions(),
                replay=False,
            )
        )
        if self._recording.wanted:
            self._start_recording(emg)

    def _check_signal(self, emg: SampleInlet, parts: EngineParts) -> None:
        """Wait for the first samples (an open stream need not flow) and look whether they can be EMG."""
        self._enter(State.WARMING, "waiting for the first EMG samples")
        wanted = math.ceil(BASELINE_CHECK_S * emg.info.nominal_srate())
        blocks: list[np.ndarray[Any, np.dtype[np.float32]]] = []
        deadline = time.monotonic() + FIRST_SAMPLES_TIMEOUT_S
        while sum(len(block) for block in blocks) < wanted and not self._stopping:
            if time.monotonic() > deadline:
                raise StreamError(
                    f"the EMG stream {emg.query.name!r} is open, but {sum(len(b) for b in blocks)} samples came in "
                    f"{FIRST_SAMPLES_TIMEOUT_S:g} s; expected at least {wanted}. Check that the amplifier is running"
                )
            blocks.append(emg.pull(PULL_TIMEOUT_S)[0])
            self._look_after()
        if not self._stopping:
            first = np.concatenate(blocks)[:, parts.channels.columns].astype(np.float64) * parts.channels.scale_to_uv
            check_baseline(first, parts.channels.muscles)

    def _start_recording(self, emg: SampleInlet) -> None:
        recording = self._recording
        self._enter(State.WARMING, f"starting LabRecorder for {recording.path}")
        recording.start(self.session_id, self._streams.recorded)
        self._outputs.record = recording.record
        deadline = time.monotonic() + RECORDED_TIMEOUT_S
        while not recording.holds_samples_of(emg.query.name) and not self._stopping:
            if time.monotonic() > deadline:
                raise RecordingError(
                    f"LabRecorder has written no sample of {emg.query.name!r} to {recording.path} in "
                    f"{RECORDED_TIMEOUT_S:g} s. Check that the amplifier is running and the disk is not full"
                )
            emg.pull(PULL_TIMEOUT_S)
            self._look_after()

    def _begin(self) -> None:
        # What was allocated so far stays; the collector need never look at it again during the session.
        gc.collect()
        gc.freeze()
        self._streams.flush()
        self._enter(State.READY, "waiting for the first pulse")

    # -- while it runs -----------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        emg = self._streams.emg
        engine = self._require_parts().engine
        self._last_sample_at = now_s()
        while not self._stopping:
            self._asked_at = now_s()
            samples, stamps = emg.pull(PULL_TIMEOUT_S)
            self._pulled_at = now_s()
            self._take_events()
            if stamps.size:
                if engine.n_samples == 0:
                    self._note_start(float(stamps[0]))
                self._last_sample_at = self._pulled_at
                clock = emg.clock
                block = SampleBlock(samples, stamps, clock.offset_s, clock.uncertainty_s)
                self._deliver(engine.feed_samples(block), block)
            if stamps.size < emg.MAX_SAMPLES:  # else more samples wait
                self._expire()
                self._keep_warm()
            self._look_after()

    def _keep_warm(self) -> None:
        """Rehearse while a pulse waits for its last sample: what lay idle since the pulse before is slow once."""
        parts = self._require_parts()
        if parts.engine.assembler.n_pending and now_s() - self._warm_at > WARM_FOR_S:
            self._outputs.rehearse(parts.engine.rehearse())
            self._warm_at = now_s()

    def _note_start(self, first_stamp: float) -> None:
        names = {role: inlet.query.name for role, inlet in self._streams.events.items()}
        clock = self._streams.emg.clock
        self._outputs.note(
            Start(
                session=self.session_id,
                settings=msgspec.to_builtins(self.settings),
                model_sha256=self._model.info.sha256,
                emg=self._streams.emg.query.name,
                markers=names.get("markers", ""),
                pose=names.get("pose", ""),
                intensity=names.get("intensity", ""),
                first_stamp=first_stamp,
                offset=clock.offset_s,
                uncertainty=clock.uncertainty_s,
            )
        )

    def _take_events(self) -> None:
        engine = self._require_parts().engine
        for role, inlet in self._streams.events.items():
            for values, stamp in inlet.pull():
                t = stamp + inlet.clock.offset_s
                if role == "markers":
                    self._take_marker(str(values[0]), stamp, inlet)
                elif role == "pose":
                    pose = parse_pose(values, t)
                    if pose:
                        engine.feed_pose(pose)
                elif isinstance(values[0], float):
                    engine.feed_intensity(StimulatorIntensity(t, values[0]))

    def _take_marker(self, label: str, stamp: float, inlet: EventInlet) -> None:
        labels = self.settings.trigger.marker_labels
        if labels and label not in labels:
            return
        if not math.isfinite(stamp):
            raise StreamError(f"the marker stream sent {label!r} with the time {stamp}; expected a finite one")
        engine = self._require_parts().engine
        pulse = Pulse(stamp, inlet.clock.offset_s, inlet.clock.uncertainty_s, label)
        self._outputs.note(
            PulseFed(
                n=engine.n_samples,
                t_raw=pulse.t_raw,
                offset=pulse.clock_offset,
                uncertainty=pulse.clock_uncertainty,
                label=label,
            )
        )
        self._deliver(engine.feed_pulse(pulse))

    def _expire(self) -> None:
        """Give up what was overdue when samples were last asked for: if we were held up since, they may wait by now."""
        engine = self._require_parts().engine
        if not engine.assembler.n_pending:
            return
        results = engine.feed_time(self._asked_at)
        if results:
            self._outputs.note(TimeFed(n=engine.n_samples, t=self._asked_at))
        self._deliver(results)

    def _deliver(self, results: list[PulseResult], block: SampleBlock | None = None) -> None:
        """Hand results on; `block` is the one whose samples completed them, if samples did."""
        parts = self._require_parts()
        for result in results:
            transport_s = self._transport_s(result, block, parts.engine.n_samples)
            self._outputs.deliver(result, parts.channels, self._pulled_at, transport_s)
            if result.trial.valid and self.state == State.READY:
                self._enter(State.RUNNING, "pulses arrive")
            self._on_result(result)

    def _transport_s(self, result: PulseResult, block: SampleBlock | None, n_samples: int) -> float:
        """Return how long the last needed sample took from its own stamp into our hands; NaN if none was waited for."""
        if block is None or not result.trial.valid:
            return math.nan
        last_needed = result.trial.first_index + result.trial.sweep_uv.shape[1] - 1
        in_block = last_needed - (n_samples - len(block.stamps))
        if in_block < 0:
            return math.nan
        return self._pulled_at - float(block.stamps[in_block]) - block.clock_offset

    def _look_after(self) -> None:
        """Do what else must be done, never waiting."""
        self._outputs.publisher.serve_subscribers()
        now = now_s()
        for inlet in self._streams.inlets:
            changed = inlet.clock.poll(now)
            if changed and inlet.role == "emg" and self._parts and self._parts.engine.n_samples:
                self._outputs.note(
                    Offset(
                        n=self._parts.engine.n_samples,
                        offset=inlet.clock.offset_s,
                        uncertainty=inlet.clock.uncertainty_s,
                    )
                )
        self._watch()
        if now >= self._next_health:
            self._send_health(now)

    def _watch(self) -> None:
        if self.state not in (State.READY, State.RUNNING, State.DEGRADED):
            return
        trouble = ""
        # Not until now: time in which we were held up is no silence of the stream.
        silence = self._asked_at - self._last_sample_at
        if silence > self.settings.streams.stall_s:
            trouble = f"no EMG sample for {self.settings.streams.stall_s:g} s"
        else:
            trouble = self._recording.trouble
        if trouble and self.reason != trouble:
            self._enter(State.DEGRADED, trouble)
        elif not trouble and self.state == State.DEGRADED:
            self._enter(State.RUNNING, "samples flow again")

    # -- at the end --------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        engine = self._require_parts().engine
        self._deliver(engine.finish())
        digest = self._outputs.digest
        if engine.n_samples:
            self._outputs.note(Stop(n=engine.n_samples, sha256_meps=digest.sha256_meps, sha256_maps=digest.sha256_maps))

    # -- small things ------------------------------------------------------------------------------------------------

    def _require_parts(self) -> EngineParts:
        if self._parts is None:
            raise M2MError("the session has no engine yet")
        return self._parts

    def _enter(self, state: State, reason: str) -> None:
        self.state, self.reason = state, reason
        log.info("%s: %s", state, reason)
        self._on_state(state, reason)
        self._send_health(now_s())
        self._outputs.publisher.serve_subscribers()

    def _send_health(self, now: float) -> None:
        self._next_health = now + self.settings.publish.health_period_s
        offsets = {inlet.role: (inlet.clock.offset_s, inlet.clock.uncertainty_s) for inlet in self._streams.inlets}
        engine = self._parts.engine if self._parts else None
        self._outputs.health(self.state, self.reason, engine, offsets, self._recording.running_path)

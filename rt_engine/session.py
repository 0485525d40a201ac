"""A live session: joins the core to the world and runs the state machine.

One loop in one thread: it sleeps in liblsl until samples come, feeds the core, publishes what comes out, and between
samples looks after subscribers, clock offsets, streams that were lost, disk and health.
"""

import gc
import logging
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from rt_engine.edges.clock_offset import now_s
from rt_engine.edges.control import ControlSocket
from rt_engine.edges.curve_keys import server_keys
from rt_engine.edges.lsl_inlets import SampleInlet
from rt_engine.edges.publisher import Publisher
from rt_engine.engine import PulseResult
from rt_engine.engine_setup import EngineParts, build_engine, load_model
from rt_engine.errors import M2MError, RecordingError, StreamError
from rt_engine.health import State
from rt_engine.latency_budget import LatencyBudget
from rt_engine.messages import SessionHeader
from rt_engine.model_file import Model
from rt_engine.record_events import StateEntered, Stop
from rt_engine.result_messages import session_message
from rt_engine.sample_block import SampleBlock
from rt_engine.session_commands import SessionCommands
from rt_engine.session_inputs import BASELINE_CHECK_S, SessionInputs, check_signal, transport_s
from rt_engine.session_outputs import SessionOutputs, SessionSummary
from rt_engine.session_recording import SessionRecording, stop_orphans
from rt_engine.session_streams import SessionStreams, StreamChange
from rt_engine.settings import Settings
from rt_engine.versions import software_versions

log = logging.getLogger(__name__)

REHEARSALS = 5
"""Made-up pulses before the first real one; the first takes ten times as long as the others."""

FIRST_SAMPLES_TIMEOUT_S = 5.0
RECORDED_TIMEOUT_S = 20.0
"""LabRecorder writes twice a second; a slow amplifier's few samples may wait longer until they fill a buffer."""

PULL_TIMEOUT_S = 0.05
"""How long the loop may sleep without a sample; bounds how late a stop, a stall or a subscriber is noticed."""

IDLE_S = 0.01
"""How many samples are taken at once while no pulse waits, s: a pulse that is seen so late still has 40 ms to come, and
an amplifier that sends two samples at a time need not wake the engine a thousand times a second."""

WARM_FOR_S = 0.012
"""How long code and memory count as warm. A network's map takes 1 ms when they are, and 7 ms half a second later. Less
than the 13.5 ms between blocks of 27 samples: rehearsals come with samples, so with more every second block had one."""


COLLECTION_PERIOD_S = 10.0
"""How often the garbage collector runs, between pulses; little is left for it: 0.02 to 0.05 ms each time."""

LATE_STAMPS = "late_stamps"
"""Kind of note that says that nothing was lost."""

WATCHED = (State.READY, State.RUNNING, State.DEGRADED)


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
        self._started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._on_state = on_state
        self._on_result = on_result
        self._stopping = False
        self._model, self._subject = load_model(settings.model)
        if self._model.notice:
            log.warning(self._model.notice)
        publish, keys = settings.publish, server_keys(settings.publish)
        self._outputs = SessionOutputs(Publisher(publish.address, self.session_id, keys), self._model, self._subject)
        control: ControlSocket | None = None
        try:
            if publish.control_address:
                control = ControlSocket(publish.control_address, keys, session=self.session_id)
            self._recording = SessionRecording(recording, settings)
        except M2MError:
            self._outputs.close()
            if control:
                control.close()
            raise
        self._commands = SessionCommands(
            control, settings, self._subject, self._outputs, self._recording, self._take_model
        )
        self._streams = SessionStreams(settings, self._cancelled)
        self._streams.recorded_again = self._recording.holds_again
        self._regained = ""
        self._over_budget = False
        self._budget = LatencyBudget(settings.timing.budget_ms)
        self._parts: EngineParts | None = None
        self._inputs: SessionInputs | None = None
        self._next_health = -math.inf
        self._next_collection = -math.inf
        self._last_sample_at = math.nan
        self._asked_at = math.nan
        self._pulled_at = math.nan
        self._warm_at = -math.inf

    @property
    def address(self) -> str:
        """Where the session publishes."""
        return self._outputs.publisher.address

    @property
    def control_address(self) -> str:
        """Where the session takes commands; empty if it takes none."""
        return self._commands.address

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
            self._recording.close()
        except Exception as error:
            self._fail(error)
            raise
        except BaseException:  # a second Ctrl-C: LabRecorder closes its file by itself, once we are gone
            self._recording.close()
            raise
        finally:
            self._streams.close()
            self._commands.close()
            self._outputs.close()
            gc.enable()
            gc.unfreeze()
        engine = self._parts.engine if self._parts else None
        return self._outputs.summary(engine, self._recording.path if self._recording.record else None)

    def _fail(self, error: Exception) -> None:
        """Say why the session failed wherever it can still be said, and close what is open."""
        steps: list[Callable[[], None]] = [
            lambda: self._enter(State.FAILED, str(error)),
            lambda: self._recording.stop_after(error),
            self._recording.close,
        ]
        for step in steps:
            try:
                step()
            except Exception as second:  # such as a log that cannot be written to a full disk
                error.add_note(str(second))

    # -- before the first sample counts ------------------------------------------------------------------------------

    def _resolve(self) -> None:
        looked_for = "; ".join(f"{role}: {query}" for role, query in self._streams.wanted.items())
        self._enter(State.RESOLVING, f"looking for the streams {looked_for}")
        for told in stop_orphans(self._cancelled):
            self._enter(State.RESOLVING, told)
        self._streams.resolve()

    def _warm_up(self) -> None:
        self._enter(State.WARMING, "opening the streams and measuring their clocks")
        self._streams.open()
        if self._stopping:
            return
        emg = self._streams.emg
        rate_hz = emg.info.nominal_srate()
        parts = build_engine(
            self.settings, self._model, emg.labels, emg.units, rate_hz, time.perf_counter, subject=self._subject
        )
        self._take_parts(parts)
        for _ in range(REHEARSALS):
            self._outputs.rehearse(parts.engine.rehearse())
        self._check_signal(emg, parts)
        announced = self._announce(parts)
        if self._recording.wanted and not self._stopping:
            self._recording.begin(announced, self._model.info.n_voxels)
            self._start_recording(emg)

    def _cancelled(self) -> bool:
        """Say whether an end was asked for; asked all the time by what waits, so subscribers are looked after here."""
        self._outputs.publisher.serve_subscribers()
        self._commands.serve(None, self._model.info.muscles)
        now = now_s()
        if now >= self._next_health:
            self._send_health(now)
        return self._stopping

    def _take_parts(self, parts: EngineParts) -> None:
        self._parts = parts
        self._inputs = SessionInputs(self.settings, self.session_id, self._streams, parts.engine, self._outputs.note)

    def _take_model(self, model: Model) -> None:
        """Tell subscribers of another model, and where its voxels are."""
        self._model = model
        self._outputs.take_model(model)
        self._announce(self._require_parts())

    def _announce(self, parts: EngineParts) -> SessionHeader:
        header = session_message(
            self._model,
            parts.channels,
            parts.criteria,
            parts.sweep,
            started_at=self._started_at,
            nominal_rate_hz=self._streams.emg.info.nominal_srate(),
            trigger_source=self.settings.trigger.source,
            streams=self._streams.descriptions,
            versions=software_versions(),
            replay=False,
        )
        self._outputs.announce(header)
        return header

    def _check_signal(self, emg: SampleInlet, parts: EngineParts) -> None:
        """Wait for the first samples (an open stream need not flow) and look whether they can be EMG."""
        silent = {inlet.role for inlet in self._streams.events.values() if inlet.info.nominal_srate() > 0.0}
        self._enter(State.WARMING, "waiting for the first samples of " + ", ".join(["emg", *sorted(silent)]))
        wanted = math.ceil(BASELINE_CHECK_S * emg.info.nominal_srate())
        blocks: list[np.ndarray[Any, np.dtype[np.float32]]] = []
        deadline = time.monotonic() + FIRST_SAMPLES_TIMEOUT_S
        while (silent or sum(len(block) for block in blocks) < wanted) and not self._stopping:
            if time.monotonic() > deadline:
                n = sum(len(block) for block in blocks)
                if n >= wanted:
                    raise StreamError(
                        f"no sample of {', '.join(sorted(silent))} came in {FIRST_SAMPLES_TIMEOUT_S:g} s, though the "
                        "stream states a rate and is open. Check that its source is running"
                    )
                raise StreamError(
                    f"the EMG stream {emg.query.name!r} is open, but {n} samples came in "
                    f"{FIRST_SAMPLES_TIMEOUT_S:g} s; expected at least {wanted}. Check that the amplifier is running"
                )
            blocks.append(emg.pull(PULL_TIMEOUT_S)[0])
            silent -= self._require_inputs().hold_events()
            self._look_after()
        if not self._stopping:
            check_signal(blocks, parts.channels)

    def _start_recording(self, emg: SampleInlet) -> None:
        recording = self._recording
        self._enter(State.WARMING, f"starting LabRecorder for {recording.path}")
        recording.start(self.session_id, self._streams.recorded, self._cancelled)
        self._outputs.record = recording.record
        deadline = time.monotonic() + RECORDED_TIMEOUT_S
        while not self._stopping and not recording.holds_samples_of(emg.query.name):
            if time.monotonic() > deadline:
                raise RecordingError(
                    f"LabRecorder has written no sample of {emg.query.name!r} to {recording.path} in "
                    f"{RECORDED_TIMEOUT_S:g} s. Check that the amplifier is running and the disk is not full"
                )
            emg.pull(PULL_TIMEOUT_S)
            self._look_after()

    def _begin(self) -> None:
        if self._streams.troubles:
            raise StreamError("; ".join(self._streams.troubles))
        # What was allocated so far stays; the collector need never look at it again during the session. What comes
        # since is looked at when we have the time, and not when it suits the collector.
        gc.collect()
        gc.freeze()
        gc.disable()
        self._streams.flush()
        self._require_inputs().begin()
        self._enter(State.READY, "waiting for the first pulse")

    # -- while it runs -----------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        inputs, parts = self._require_inputs(), self._require_parts()
        engine, rate_hz = parts.engine, parts.engine.assembler.clock.nominal_rate_hz
        idle = max(round(min(IDLE_S, parts.sweep.end_ms / 4000.0) * rate_hz), 1)
        self._last_sample_at = now_s()
        while not self._stopping:
            self._asked_at = now_s()
            waiting = engine.assembler.n_pending > 0
            samples, stamps = self._streams.pull(PULL_TIMEOUT_S, 1 if waiting else idle)
            self._pulled_at = now_s()
            self._deliver(inputs.feed_events())
            if stamps.size:
                self._last_sample_at = self._pulled_at
                self._deliver(*inputs.feed_samples(samples, stamps))
                self._take_notes()
            if stamps.size < self._streams.emg.MAX_SAMPLES:  # else more samples wait
                # What was overdue when samples were last asked for: if we were held up since, they may wait by now.
                self._deliver(inputs.expire(self._asked_at))
                self._keep_warm()
            self._look_after()

    def _keep_warm(self) -> None:
        """Rehearse while a pulse waits for its last sample: what lay idle since the pulse before is slow once."""
        parts = self._require_parts()
        if parts.engine.assembler.n_pending and now_s() - self._warm_at > WARM_FOR_S:
            self._outputs.rehearse(parts.engine.rehearse())
            self._warm_at = now_s()

    def _deliver(self, results: list[PulseResult], block: SampleBlock | None = None) -> None:
        """Hand results on; `block` is the one whose samples completed them, if samples did."""
        parts = self._require_parts()
        for result in results:
            transport = transport_s(result, block, parts.engine.n_samples, self._pulled_at)
            total_us = self._outputs.deliver(result, parts.channels, self._pulled_at, transport)
            if total_us is not None:
                self._budget.take(result.stages_us, total_us)
        for result in results:  # only now: nobody who waits for a map should wait for the disk
            self._recording.add(result)
            if result.trial.valid and self.state == State.READY:
                self._enter(State.RUNNING, "pulses arrive")
            self._on_result(result)

    def _look_after(self) -> None:
        """Do what else must be done, never waiting."""
        self._outputs.publisher.serve_subscribers()
        watched = self.state in WATCHED
        self._commands.serve(self._parts.engine if self._parts and watched else None, self._model.info.muscles)
        now = now_s()
        for inlet in self._streams.poll_clocks(now):
            if inlet.role == "emg" and self._inputs:
                self._inputs.note_offset()
        if watched:
            # Not until now: time in which we were held up is no silence of the stream.
            silence_s = self._asked_at - self._last_sample_at
            for change in self._streams.look_after(silence_s):
                self._take_change(change)
            silent = silence_s > self.settings.streams.stall_s
            self._recording.look_after(now, samples_flow=not silent)
            self._watch(f"no EMG sample for {self.settings.streams.stall_s:g} s" if silent else "")
        # Between pulses, if they leave time for it: the message takes about as long as a map.
        late_s = now - self._next_health
        busy = self._parts is not None and self._parts.engine.assembler.n_pending > 0
        if late_s >= (self.settings.publish.health_period_s if busy else 0.0):
            self._send_health(now)
        if watched and not busy and now >= self._next_collection:
            self._next_collection = now + COLLECTION_PERIOD_S
            gc.collect()

    def _take_notes(self) -> None:
        """Pass on what the core noticed of the stream beside the trials."""
        for note in self._require_parts().engine.assembler.take_notes():
            log.log(logging.INFO if note.kind == LATE_STAMPS else logging.WARNING, "%s", note.text)
            self._outputs.notes[note.kind] += 1
            self._recording.log("note", kind=note.kind, index=note.index, ms=note.ms, text=note.text)

    def _take_change(self, change: StreamChange) -> None:
        """Note that a stream was lost, or is back."""
        parts = self._require_parts()
        self._recording.log(
            "stream_lost" if change.outage_s is None else "stream_back",
            role=change.role,
            name=change.name,
            source_id=change.source_id,
            outage_s=change.outage_s,
            n_samples=parts.engine.n_samples,
            reason=change.text,
        )
        self._require_inputs().note_change(change)
        if change.outage_s is not None:
            self._regained = change.text
            self._announce(parts)

    def _watch(self, silence: str) -> None:
        """Be DEGRADED as long as something is wrong, and say what."""
        troubles = [*self._streams.troubles]
        if silence and not self._streams.emg_is_lost:
            troubles.append(silence)
        troubles += [trouble for trouble in (self._require_inputs().trouble, self._budget.trouble) if trouble]
        if self._recording.wanted:
            troubles += [
                f"the {role} stream is no longer recorded: {why}" for role, why in self._streams.taken_as.items()
            ]
            troubles += self._recording.troubles
        trouble = "; ".join(troubles)
        if trouble and self.reason != trouble:
            self._enter(State.DEGRADED, trouble)
        elif not trouble and self.state == State.DEGRADED:
            seen = self._require_parts().engine.assembler.n_pulses > 0
            back = self._regained or ("pulses are in time again" if self._over_budget else "samples flow again")
            self._regained = ""
            self._enter(State.RUNNING if seen else State.READY, back)
        self._over_budget = bool(self._budget.trouble)

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

    def _require_inputs(self) -> SessionInputs:
        if self._inputs is None:
            raise M2MError("the session has no engine yet")
        return self._inputs

    def _enter(self, state: State, reason: str) -> None:
        self.state, self.reason = state, reason
        log.info("%s: %s", state, reason)
        self._on_state(state, reason)
        now, n = now_s(), self._parts.engine.n_samples if self._parts else 0
        self._outputs.note(StateEntered(n=n, t=now, state=state, reason=reason))
        self._send_health(now)
        self._outputs.publisher.serve_subscribers()
        self._recording.log("state", state=state, reason=reason, n_samples=n)

    def _send_health(self, now: float) -> None:
        self._next_health = now + self.settings.publish.health_period_s
        offsets = {inlet.role: (inlet.clock.offset_s, inlet.clock.uncertainty_s) for inlet in self._streams.inlets}
        engine = self._parts.engine if self._parts else None
        self._outputs.health(
            self.state,
            self.reason,
            engine,
            offsets,
            self._recording.running_path,
            trials_stored=self._recording.n_stored,
            queues=self._streams.queues,
            drops={"subscriber_overflows": self._outputs.publisher.n_overflows, **self._commands.drops},
            budget_ms=self._budget.budget_ms,
            pulses_over_budget=self._budget.n_over,
        )

"""All that a session says: messages to subscribers, events for the recording, digests and latencies."""

import math
import shutil
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rt_engine.channels import ChannelMap
from rt_engine.edges.clock_offset import now_s
from rt_engine.edges.engine_record import EngineRecord
from rt_engine.edges.publisher import Publisher
from rt_engine.engine import Engine, PulseResult
from rt_engine.field.subject_file import Subject
from rt_engine.health import LatencyStatistics, State
from rt_engine.latency_budget import TOTAL
from rt_engine.messages import HealthHeader, SessionHeader, encode
from rt_engine.model_file import Model
from rt_engine.record_events import Event, Result
from rt_engine.result_digest import ResultDigest
from rt_engine.result_messages import geometry_message, map_message, trial_message

LET_GO_S = 0.0002
"""How long the session steps aside once it has handed a map to ZeroMQ. That has a thread of its own for the sending,
which on a busy machine waited half a millisecond behind ours, although the trial's message had no hurry."""


@dataclass
class SessionSummary:
    """What a session came to.

    Attributes
    ----------
    session
        Its identity.
    pulses_served, pulses_invalid
        Valid and invalid trials.
    n_samples, n_gaps
        Of the EMG stream.
    recording
        The XDF file, or None.
    sha256_meps, sha256_maps
        See `ResultDigest`.
    latency_ms
        Per stage p50, p99 and max.
    """

    session: str
    pulses_served: int
    pulses_invalid: int
    n_samples: int
    n_gaps: int
    recording: str | None
    sha256_meps: str
    sha256_maps: str
    latency_ms: dict[str, dict[str, float]]


class SessionOutputs:
    """Publishes, records and counts.

    Parameters
    ----------
    publisher
        Where messages go; it is closed with the outputs.
    model, subject
        Of the session.
    """

    def __init__(self, publisher: Publisher, model: Model, subject: Subject | None) -> None:
        self.publisher = publisher
        self.record: EngineRecord | None = None
        self.digest = ResultDigest()
        self.latency = LatencyStatistics()
        self.notes: Counter[str] = Counter()
        self._model = model
        self._subject = subject

    def announce(self, session: SessionHeader) -> None:
        """Send what a subscriber must know before it can read the rest."""
        self.publisher.send(session)
        self.publisher.send(*geometry_message(self._model, self._subject))

    def take_model(self, model: Model) -> None:
        """Go over to another model."""
        self._model = model

    def rehearse(self, result: PulseResult) -> None:
        """Make the messages of a made-up pulse and send them nowhere."""
        encode(*trial_message(result, len(result.trial.sweep_uv)))
        message = map_message(result)
        if message:
            encode(*message)

    def note(self, event: Event) -> None:
        """Put an event into the recording, if there is one."""
        if self.record is not None:
            self.record.push(event)

    def deliver(self, result: PulseResult, channels: ChannelMap, pulled_at: float, transport_s: float) -> float | None:
        """Publish, record and count one result.

        Parameters
        ----------
        result
            Of the engine; its stages are completed.
        channels
            Of the session.
        pulled_at
            When the last samples came into our hands, s, LSL clock; NaN in a replay.
        transport_s
            From the last needed sample's own stamp to `pulled_at`; NaN if none was waited for.

        Returns
        -------
        float or None
            From `pulled_at` to the map handed over, microseconds; None in a replay and for a trial without a map.
        """
        live = math.isfinite(pulled_at)
        if live:
            stages = result.stages_us
            if math.isfinite(transport_s):
                stages["transport"] = max(transport_s, 0.0) * 1e6
            known = sum(stages.get(stage, 0.0) for stage in ("extract", "infer", "field"))
            stages["wait"] = max((now_s() - pulled_at) * 1e6 - known, 0.0)
        total_us = self._publish(result, len(channels.muscles), pulled_at, live)
        if result.meps is not None and result.map is not None:
            self.digest.add(result.meps.amplitude_uv, result.map.field)
        self._note_result(result)
        return total_us

    def health(
        self,
        state: State,
        reason: str,
        engine: Engine | None,
        offsets: dict[str, tuple[float, float]],
        recording: Path | None,
        **counts: Any,
    ) -> None:
        """Send a health message.

        Parameters
        ----------
        state, reason
            Of the session.
        engine
            Once there is one.
        offsets
            Role of each stream -> its clock offset and uncertainty, s.
        recording
            The file that is being written, or None.
        counts
            Further fields of `HealthHeader`, as they stand there.
        """
        header = HealthHeader(
            state=state,
            reason=reason,
            t=now_s(),
            clock_offset_s={role: offset for role, (offset, _) in offsets.items()},
            clock_uncertainty_s={role: uncertainty for role, (_, uncertainty) in offsets.items()},
            notes=dict(self.notes),
            recording=str(recording) if recording else "off",
            disk_free_bytes=shutil.disk_usage(recording.parent).free if recording else None,
            latency_ms=self.latency.quantiles_ms(),
            **counts,
        )
        if engine is not None:
            assembler = engine.assembler
            header.effective_rate_hz = assembler.clock.rate_hz if assembler.clock.known else None
            header.jitter_ms = assembler.clock.jitter_s * 1e3
            header.n_samples = assembler.n_samples
            header.n_gaps = assembler.n_gaps
            header.smallest_gap_ms = assembler.smallest_gap_ms
            header.pulses = {
                "seen": assembler.n_pulses,
                "served": engine.n_valid,
                "invalid": engine.n_invalid,
                "pending": assembler.n_pending,
            }
        self.publisher.send(header)

    def summary(self, engine: Engine | None, recording: Path | None) -> SessionSummary:
        """Return what the session came to."""
        return SessionSummary(
            session=self.publisher.session,
            pulses_served=engine.n_valid if engine else 0,
            pulses_invalid=engine.n_invalid if engine else 0,
            n_samples=engine.n_samples if engine else 0,
            n_gaps=engine.assembler.n_gaps if engine else 0,
            recording=str(recording) if recording else None,
            sha256_meps=self.digest.sha256_meps,
            sha256_maps=self.digest.sha256_maps,
            latency_ms=self.latency.quantiles_ms(),
        )

    def close(self) -> None:
        """Close the publisher."""
        self.publisher.close()

    def _publish(self, result: PulseResult, n_muscles: int, pulled_at: float, live: bool) -> float | None:
        begin = now_s()
        map_frames = map_message(result)
        if map_frames:  # first, since it is what somebody waits for
            header, arrays = map_frames
            if live:
                header.t_available, header.t_sent = pulled_at, now_s()
            self.publisher.send(header, arrays)
        sent = now_s()
        result.stages_us["publish"] = (sent - begin) * 1e6
        if map_frames and live:
            time.sleep(LET_GO_S)
        trial_header, trial_arrays = trial_message(result, n_muscles)
        if live:
            trial_header.t_available, trial_header.t_sent = pulled_at, sent
        self.publisher.send(trial_header, trial_arrays)
        if not (map_frames and live):
            return None
        total_us = (sent - pulled_at) * 1e6
        for stage, microseconds in result.stages_us.items():
            self.latency.add(stage, microseconds)
        self.latency.add(TOTAL, total_us)
        return total_us

    def _note_result(self, result: PulseResult) -> None:
        if self.record is None:
            return
        trial, meps, estimate = result.trial, result.meps, result.map
        self.record.push(
            Result(
                pulse=trial.pulse_id,
                t_pulse=trial.t,
                valid=trial.valid,
                reasons=list(trial.reasons),
                mep_uv=meps.amplitude_uv.tolist() if meps else [],
                status=meps.status.tolist() if meps else [],
                cog_mm=estimate.cog_mm.tolist() if estimate else [],
                confidence=estimate.confidence if estimate else "low",
                confidence_reasons=list(estimate.confidence_reasons) if estimate else list(trial.reasons),
                trigger_source=trial.trigger_source,
                offsets_ms=trial.offsets_ms,
            )
        )

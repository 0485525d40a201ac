"""What the fault tests share: a simulated subject with faults on real LSL streams, and a session that hears it."""

import threading
import uuid
from dataclasses import replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import numpy as np

from drivers.simulated.dataset import SentPulse
from drivers.simulated.faults import Faults
from drivers.simulated.lsl_feed import FeedControl, SubjectFeed
from drivers.simulated.session import SimulatedSession, make_session
from drivers.simulated.settings import EmgSettings, FeedSettings, ProtocolSettings, SimulatedSubjectSettings
from drivers.simulated.streams import stream_identities
from rt_engine.model_file import open_model
from rt_engine.session import Session
from rt_engine.settings import Settings, parse_settings
from tests.drivers.conftest import small_subject
from tests.rt_engine.edges.conftest import TIMEOUT_S, RunningSession, wait_until

MODEL = Path(str(files("configs") / "demo" / "kernel-ridge.onnx"))
BLOCK_SAMPLES = 40
"""Several subjects and sessions share one process here; larger blocks leave each its time."""


@lru_cache
def without_faults(settings: SimulatedSubjectSettings) -> SimulatedSession:
    """Work a session out; its muscles' answers do not hang on the faults."""
    return make_session(small_subject(), settings)


def worked_out(settings: SimulatedSubjectSettings) -> SimulatedSession:
    """Make the session that `make_session` makes of these settings, most of it once for all tests."""
    plain = without_faults(msgspec.structs.replace(settings, faults=(), emg=EmgSettings(), feed=FeedSettings()))
    sample = Faults(settings).moved(plain.train.sample)
    return replace(
        plain,
        settings=msgspec.structs.replace(settings, field=plain.settings.field),
        train=replace(plain.train, sample=sample),
        n_samples=plain.n_samples + int(sample[-1] - plain.train.sample[-1]),
    )


class FaultySubject:
    """The simulated subject in a thread, on streams of its own; it sends baseline until `start`.

    Attributes
    ----------
    events
        What the subject told, in order.
    """

    def __init__(
        self,
        *faults: str,
        pulses: int = 3,
        interval_s: float = 0.3,
        block_samples: int = BLOCK_SAMPLES,
        lead_in_s: float = 0.2,
        **options: Any,
    ) -> None:
        source_id = f"faulty-{uuid.uuid4().hex[:12]}"
        names = {role: f"{role} {source_id}" for role in ("emg", "marker", "pose", "stimulator")}
        self.settings = SimulatedSubjectSettings(
            faults=faults,
            protocol=ProtocolSettings(
                pulses=pulses,
                interval_s=interval_s,
                interval_jitter_share=0.0,
                lead_in_s=lead_in_s,
                tail_s=60.0,
                intensities_percent_rmt=(140.0,),
                grid_points=1,
                cluster_sd_mm=3.0,
            ),
            feed=FeedSettings(
                source_id=source_id,
                block_samples=block_samples,
                **{f"{role}_name": name for role, name in names.items()},
            ),
            **options,
        )
        self.identities = stream_identities(self.settings.feed)
        self.session = worked_out(self.settings)
        self.events: list[dict[str, Any]] = []
        self._control = FeedControl()
        self._feed = SubjectFeed(self.session, self.events.append)
        self._thread = threading.Thread(target=self._feed.run, args=(self._control,), daemon=True)
        self._thread.start()
        wait_until(lambda: self.events, "the subject's streams")

    def start(self) -> None:
        """Let the pulses begin."""
        self._control.start.set()

    @property
    def sent(self) -> list[SentPulse]:
        """The pulses sent in full so far, with the amplitudes of the very samples."""
        return self._feed.sent_pulses

    def wait_until_sent(self) -> list[SentPulse]:
        """Wait for the last pulse of the session."""
        wait_until(lambda: len(self.sent) == self.session.n_pulses, "the last pulse to be sent")
        return self.sent

    def stamp_error_s(self, role: str, sample: int) -> float:
        """Return by how much a stream's stamp is wrong at a sample."""
        delivery = self._feed._delivery
        return float(delivery.faults.stamp_error_s(role, np.array([sample]), delivery.scene)[0])

    def told(self, event: str) -> list[dict[str, Any]]:
        """Return the events of one name."""
        return [each for each in self.events if each["event"] == event]

    def close(self) -> None:
        """End the streams."""
        self._control.stop.set()
        self._thread.join(TIMEOUT_S)
        self._feed._delivery.close()


def settings_for(subject: FaultySubject, **tables: dict[str, Any]) -> Settings:
    """Make settings of a session that hears this subject alone: EMG, markers, pose and intensity."""
    raw: dict[str, Any] = {
        "streams": {
            **{role: {"source_id": stream["source_id"]} for role, stream in subject.identities.items()},
            "resolve_timeout_s": 20.0,
        },
        "model": {"path": str(MODEL), "provider": "cpu"},
        "publish": {"address": "tcp://127.0.0.1:*", "control_address": "", "health_period_s": 0.1},
        "record": {"min_free_mb": 10.0},
        # No pulse is given up, and no stream is missed, because the machine is slow.
        "timing": {"expire_s": TIMEOUT_S},
    }
    for table, values in tables.items():
        raw[table] = {**raw.get(table, {}), **values}
    return parse_settings(raw)


class Hearing:
    """A session that hears a subject, until all expected trials have come.

    Attributes
    ----------
    sent
        What the subject sent.
    trials, maps
        What the session published, in order: header and arrays.
    """

    def __init__(self, subject: FaultySubject, recording: Path | None = None, **tables: dict[str, Any]) -> None:
        self.subject = subject
        # The model is ours, and a child process that opens it first, for each of twenty sessions, takes its time.
        with patch("rt_engine.engine_setup.open_foreign_model", open_model):
            self.running = RunningSession(Session(settings_for(subject, **tables), recording=recording))
        self.sent: list[SentPulse] = []
        self.trials: list[tuple[Any, dict[str, np.ndarray]]] = []
        self.maps: list[tuple[Any, dict[str, np.ndarray]]] = []

    def launch(self) -> "Hearing":
        """Begin to look for the streams."""
        self.running.launch()
        return self

    def ready(self) -> "Hearing":
        """Wait until the session is ready, then let the pulses begin."""
        wait_until(lambda: self.running.states("READY") or self.running.error, "READY")
        if self.running.error:
            raise self.running.error
        self.subject.start()
        return self

    def finish(self, n_trials: int) -> "Hearing":
        """Wait for all pulses to be sent and so many trials to be published; then end the session."""
        self.subject.wait_until_sent()
        return self.stop_after(n_trials)

    def stop_after(self, n_trials: int) -> "Hearing":
        """Wait for so many trials to be published; then end the session, whatever is still to be sent."""
        self.running.wait_for_trials(n_trials)
        self.running.stop()
        self.trials, self.maps = self.running.of("trial"), self.running.of("map")
        self.sent = self.subject.sent
        if len(self.sent) < self.subject.session.n_pulses:
            last = self.trials[-1][0].t_pulse_raw - 1e-3
            wait_until(lambda: self.sent and self.sent[-1].t_pulse >= last, "the last trial's truth")
        return self

    def served(self) -> list[int]:
        """Return the pulses that have trials, one each, in the order of the trials."""
        times = np.array([sent.t_pulse for sent in self.sent])
        pulses = [int(np.argmin(np.abs(times - header.t_pulse_raw))) for header, _ in self.trials]
        assert len(set(pulses)) == len(pulses), "a pulse has two trials"
        return pulses

    def notes(self) -> dict[str, int]:
        """Return how often the session noticed what, beside the trials."""
        return self.running.of("health")[-1][0].notes

    def close(self) -> None:
        """End session and streams."""
        self.running.close()
        self.subject.close()

    def of(self, pulse: int) -> tuple[Any, dict[str, np.ndarray]]:
        """Return the one trial whose stamp is that of a pulse."""
        near = self.all_of(pulse)
        assert len(near) == 1, f"{len(near)} trials at pulse {pulse}"
        return near[0]

    def all_of(self, pulse: int) -> list[tuple[Any, dict[str, np.ndarray]]]:
        """Return all trials whose stamp is that of a pulse, as the clocks of the subject's streams told it."""
        sent = self.sent[pulse]
        t = {"ttl": "emg", "marker": "markers"}
        stamps = {source: sent.t_pulse + self.subject.stamp_error_s(role, sent.sample) for source, role in t.items()}
        return [each for each in self.trials if abs(each[0].t_pulse_raw - stamps[each[0].trigger_source]) < 4e-4]

    def map_of(self, pulse: int) -> tuple[Any, dict[str, np.ndarray]] | None:
        """Return the map of a pulse's trial, or None."""
        number = self.of(pulse)[0].pulse
        return next((each for each in self.maps if each[0].pulse == number), None)

    def assert_right(self, pulse: int, *but: str) -> None:
        """Hold a pulse's amplitudes against the very samples sent; `but` for these muscles."""
        header, arrays = self.of(pulse)
        assert header.valid, header.reasons
        kept = [muscle not in but for muscle in self.subject.settings.muscles]
        np.testing.assert_allclose(arrays["mep_uv"][kept], np.array(self.sent[pulse].mep_sent_uv)[kept], rtol=1e-5)
        assert self.map_of(pulse) is not None

    def assert_invalid(self, pulse: int, reason: str) -> None:
        """Hold that a pulse was delivered without amplitudes and without a map, and why."""
        header, arrays = self.of(pulse)
        assert header.reasons == [reason], header.reasons
        assert not header.valid
        assert np.isnan(arrays["mep_uv"]).all()
        assert self.map_of(pulse) is None

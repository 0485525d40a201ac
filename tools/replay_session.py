"""A replay: what to play, at which pace, and what came of it. The engine is the live session's own."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from rt_engine.edges.curve_keys import server_keys
from rt_engine.edges.foreign_files import open_foreign_model
from rt_engine.edges.publisher import Publisher
from rt_engine.edges.xdf_source import Recording, load_recording
from rt_engine.engine import PulseResult
from rt_engine.engine_setup import build_engine, load_model, model_parts
from rt_engine.errors import M2MError, ModelError
from rt_engine.health import State
from rt_engine.model_file import Model
from rt_engine.record_events import ModelSwapped
from rt_engine.replay import replay
from rt_engine.result_digest import ResultDigest
from rt_engine.result_messages import session_message
from rt_engine.session import new_session_id
from rt_engine.session_outputs import SessionOutputs
from rt_engine.settings import Settings, parse_settings
from rt_engine.versions import software_versions
from tools.chosen_settings import apply_overrides, chosen_settings
from tools.session_folder import frozen_settings

log = logging.getLogger(__name__)

MAX_PACED_BLOCK_S = 0.02
"""At a pace, blocks are at most this long, so that the window moves as it does live."""


@dataclass
class ReplaySummary:
    """What a replay came to.

    Attributes
    ----------
    pulses_served, pulses_invalid
        Valid and invalid trials.
    speed
        Seconds of recording per second of replaying; reading the file is not counted.
    sha256_meps, sha256_maps
        See `ResultDigest`.
    identical
        Whether the digests are the live session's; None if the recording does not say what those were.
    recording
        The file.
    """

    pulses_served: int
    pulses_invalid: int
    speed: float
    sha256_meps: str
    sha256_maps: str
    identical: bool | None
    recording: str


def replay_settings(
    path: Path, settings_path: Path | None, overrides: list[str] | None, model: Path | None
) -> tuple[Recording, Settings]:
    """Read a recording and find the settings that it is to be played with.

    Parameters
    ----------
    path
        The XDF file.
    settings_path
        Settings to use instead of the recorded ones, or None.
    overrides, model
        As on the command line.

    Returns
    -------
    recording
    settings

    Raises
    ------
    M2MError
        If the recording or the settings cannot be used.
    ModelError
        If the live session's model file is not where it was, or is another one now.
    """
    settings = chosen_settings(settings_path, overrides, model)
    frozen = None if settings_path else _frozen(path.parent)
    if frozen is not None:  # the record in the file says the same, unless the file ends before it
        settings = _with_model(apply_overrides(frozen, overrides or []), settings.model.path if model else "")
    recording = load_recording(path, settings)
    if recording.settings is None:
        return recording, settings
    recorded = parse_settings(recording.settings)
    chosen = settings if settings_path else apply_overrides(recorded, overrides or [])
    if model is not None:
        chosen = _with_model(chosen, settings.model.path)
    elif not Path(chosen.model.path).exists():
        raise ModelError(
            f"the session was recorded with the model {chosen.model.path}, which is not there; "
            f"name the file whose SHA-256 is {recording.model_sha256} with --model"
        )
    if (chosen.trigger, chosen.streams) != (recorded.trigger, recorded.streams):
        # Other pulses or streams than the live engine took in: its record has nothing to say about them.
        recording = load_recording(path, chosen, as_recorded=True)
    return recording, chosen


def _frozen(folder: Path) -> Settings | None:
    """Return the settings of the session whose folder this is; None if it is none, or does not say."""
    try:
        return frozen_settings(folder)
    except M2MError as error:
        log.warning("%s", error)
        return None


def _with_model(settings: Settings, path: str) -> Settings:
    """Return the settings with another model; an empty path leaves them as they are."""
    if not path:
        return settings
    return msgspec.structs.replace(settings, model=msgspec.structs.replace(settings.model, path=path))


class ReplaySession:
    """Plays a recording through an engine.

    Parameters
    ----------
    recording
        What to play.
    settings
        Of the engine.
    block_samples
        Samples per block at most.
    speed
        Seconds of recording per second, or None for as fast as possible.
    address
        Where to publish, or None.
    with_computed_field
        Whether the tracked coil's own field is computed though it is not published.

    Raises
    ------
    M2MError
        If the engine cannot be made of them.
    """

    def __init__(
        self,
        recording: Recording,
        settings: Settings,
        *,
        block_samples: int,
        speed: float | None,
        address: str | None,
        with_computed_field: bool = False,
    ) -> None:
        self._recording = recording
        self._speed = speed
        self._block = block_samples if speed is None else min(block_samples, int(MAX_PACED_BLOCK_S * recording.rate_hz))
        self._settings = settings
        model, subject = load_model(settings.model)
        # The tracked coil's own field takes longer than all else of a pulse, and only messages tell of it.
        self._subject = subject if address or with_computed_field else None
        self.notice = model.notice
        if recording.model_sha256 and model.info.sha256 != recording.model_sha256:
            self.notice = (
                f"the live session used another model (SHA-256 {recording.model_sha256[:12]}...) than "
                f"{settings.model.path} is now; amplitudes will be the same, maps will not"
            )
        self._parts = build_engine(
            settings, model, recording.labels, recording.units, recording.rate_hz, subject=self._subject
        )
        self._digest = ResultDigest()
        self._health_period_s = settings.publish.health_period_s
        self._outputs: SessionOutputs | None = None
        self._elapsed_s = 0.0
        self._started_at = datetime.now(UTC).isoformat(timespec="seconds")
        if address:
            publisher = Publisher(address, new_session_id(), server_keys(settings.publish))
            self._outputs = SessionOutputs(publisher, model, subject)
            self._announce(model)

    @property
    def address(self) -> str:
        """Where the replay publishes; empty if it does not."""
        return self._outputs.publisher.address if self._outputs else ""

    @property
    def muscles(self) -> tuple[str, ...]:
        """In the order of all muscle axes."""
        return self._parts.channels.muscles

    def run(self) -> Iterator[tuple[int, list[PulseResult]]]:
        """Play; yields after each block how many samples have been fed and what came out."""
        begin = next_health = time.perf_counter()
        try:
            for n_samples, results in replay(self._recording, self._parts.engine, self._block, self._swap):
                for result in results:
                    self._take(result)
                now = time.perf_counter()
                if self._outputs:
                    self._outputs.publisher.serve_subscribers()
                    if now >= next_health:
                        next_health = now + self._health_period_s
                        self._health(State.RUNNING, f"replaying {self._recording.path.name}")
                yield n_samples, results
                if self._speed is not None:
                    due = begin + n_samples / self._recording.rate_hz / self._speed
                    time.sleep(max(due - time.perf_counter(), 0.0))
                self._elapsed_s = time.perf_counter() - begin
            self._health(State.STOPPED, "the recording has ended")
        finally:
            if self._outputs:
                self._outputs.close()

    @property
    def summary(self) -> ReplaySummary:
        """What the replay came to."""
        engine, stop = self._parts.engine, self._recording.stop
        sha256_meps, sha256_maps = self._digest.sha256_meps, self._digest.sha256_maps
        identical = None
        if stop is not None and stop.sha256_meps:
            identical = (sha256_meps, sha256_maps) == (stop.sha256_meps, stop.sha256_maps)
        return ReplaySummary(
            pulses_served=engine.n_valid,
            pulses_invalid=engine.n_invalid,
            speed=self._recording.duration_s / max(self._elapsed_s, 1e-9),
            sha256_meps=sha256_meps,
            sha256_maps=sha256_maps,
            identical=identical,
            recording=str(self._recording.path),
        )

    def _swap(self, event: ModelSwapped) -> None:
        """Take the model that the live session took."""
        path = Path(event.path)
        if not path.exists():
            raise ModelError(
                f"after {event.n} samples the live session took the model {path}, which is not there any more; "
                f"put the file whose SHA-256 is {event.sha256} there"
            )
        choice = self._settings.model
        model = open_foreign_model(Path(path), provider=choice.provider, threads=choice.threads)
        if model.info.sha256 != event.sha256:
            raise ModelError(
                f"after {event.n} samples the live session took the model {path} with the SHA-256 {event.sha256}; "
                f"the file there has {model.info.sha256} now"
            )
        self._parts.engine.swap(*model_parts(self._settings, model, self._subject, self._parts.channels.muscles))
        self._announce(model)

    def _announce(self, model: Model) -> None:
        """Send what subscribers must know of the session and of a model's voxels."""
        if self._outputs is None:
            return
        self._outputs.take_model(model)
        self._outputs.announce(
            session_message(
                model,
                self._parts.channels,
                self._parts.criteria,
                self._parts.sweep,
                started_at=self._started_at,
                nominal_rate_hz=self._recording.rate_hz,
                trigger_source=self._settings.trigger.source,
                streams=[],
                versions=software_versions(),
                replay=True,
            )
        )

    def _take(self, result: PulseResult) -> None:
        if result.meps is not None and result.map is not None:
            self._digest.add(result.meps.amplitude_uv, result.map.field)
        if self._outputs:
            self._outputs.deliver(result, self._parts.channels, float("nan"), float("nan"))

    def _health(self, state: State, reason: str) -> None:
        if self._outputs:
            self._outputs.health(state, reason, self._parts.engine, {}, None)

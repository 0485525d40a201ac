"""What may be asked of a running session, carried out: each command is answered, recorded and logged.

Commands take effect between two trials. A model is loaded and checked beside the loop; the engine takes it over when no
pulse waits.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rt_engine.control_messages import Calibrate, Command, Mark, Reply, SwapModel, Unmark
from rt_engine.edges.control import Caller, ControlSocket
from rt_engine.edges.model_loading import LoadedModel, ModelLoading
from rt_engine.engine import Engine
from rt_engine.errors import ControlError, M2MError
from rt_engine.estimator import gains_by_name
from rt_engine.field.subject_file import Subject
from rt_engine.model_file import Model
from rt_engine.record_events import Calibrated, Marked, ModelSwapped
from rt_engine.session_outputs import SessionOutputs
from rt_engine.session_recording import SessionRecording
from rt_engine.settings import Settings

log = logging.getLogger(__name__)


class SessionCommands:
    """Carries out commands.

    Parameters
    ----------
    socket
        Where they come from; None for a session that takes none. It is closed with the commands.
    settings
        Of the session.
    subject
        Of the session, or None.
    outputs, recording
        Where it is noted what was done.
    on_model
        Called when another model has been taken, to tell subscribers of it.
    """

    def __init__(
        self,
        socket: ControlSocket | None,
        settings: Settings,
        subject: Subject | None,
        outputs: SessionOutputs,
        recording: SessionRecording,
        on_model: Callable[[Model], None],
    ) -> None:
        self._socket = socket
        self._settings = settings
        self._subject = subject
        self._outputs = outputs
        self._recording = recording
        self._on_model = on_model
        self._n_served = 0
        self._marked: set[int] = set()
        self._loading: tuple[Caller, ModelLoading] | None = None

    @property
    def address(self) -> str:
        """Where commands are taken; empty if they are not."""
        return self._socket.address if self._socket else ""

    @property
    def drops(self) -> dict[str, int]:
        """Counts of requests that could not be understood, and replies that found nobody."""
        if self._socket is None:
            return {}
        return {"refused_requests": self._socket.n_refused, "unanswered_replies": self._socket.n_unanswered}

    def serve(self, engine: Engine | None, muscles: tuple[str, ...]) -> None:
        """Take what was asked for, and carry it out. Never waits.

        Parameters
        ----------
        engine
            Of the session; None while it is not ready for commands.
        muscles
            Of the session, in its order.
        """
        if self._socket is None:
            return
        for caller, command in self._socket.poll():
            try:
                if engine is None:
                    raise ControlError("the session is not ready for commands yet: try again once it is READY")
                detail = self._carry_out(caller, command, engine, muscles)
            except M2MError as error:
                self._refuse(caller, error)
            else:
                if detail is not None:
                    self._acknowledge(caller, detail)
        # A pulse that waits gets its map in time, and from the model that was there when it came.
        if engine is not None and self._loading and not engine.assembler.n_pending:
            if engine.n_valid + engine.n_invalid != self._n_served:  # so one has just been served
                self._loading[1].good_moment()
            self._take_model(engine, *self._loading)
        if engine is not None:
            self._n_served = engine.n_valid + engine.n_invalid

    def close(self) -> None:
        """Answer who still waits, and close the socket."""
        if self._loading:
            self._refuse(self._loading[0], ControlError("the session ended before the model was loaded"))
            self._loading = None
        if self._socket:
            self._socket.close()

    def _carry_out(
        self, caller: Caller, command: Command, engine: Engine, muscles: tuple[str, ...]
    ) -> dict[str, Any] | None:
        """Return what was done; None if the answer comes later."""
        if isinstance(command, Mark | Unmark):
            return self._mark(command, engine)
        if isinstance(command, Calibrate):
            gains = gains_by_name(command.gains, muscles)
            engine.set_gains(gains)
            self._outputs.note(Calibrated(n=engine.n_samples, gains=gains))
            return {"gains": dict(zip(muscles, gains, strict=True))}
        self._load(caller, command, muscles)
        return None

    def _mark(self, command: Mark | Unmark, engine: Engine) -> dict[str, Any]:
        pulse, unmark = command.pulse, isinstance(command, Unmark)
        seen = engine.assembler.n_pulses
        if pulse >= seen:
            raise ControlError(f"there is no pulse {pulse} yet; the session has seen {seen}")
        if unmark and pulse not in self._marked:
            raise ControlError(f"pulse {pulse} is not marked")
        (self._marked.discard if unmark else self._marked.add)(pulse)
        self._outputs.note(Marked(pulse=pulse, reason=command.reason, unmark=unmark))
        return {"pulse": pulse, "reason": command.reason, "marked": not unmark}

    def _load(self, caller: Caller, command: SwapModel, muscles: tuple[str, ...]) -> None:
        path = Path(command.path)
        if not path.is_absolute():
            raise ControlError(
                f"the path {command.path!r} is relative; expected an absolute one on the engine's machine"
            )
        if self._loading:
            raise ControlError(f"the model {self._loading[1].path} is being loaded: wait until that is answered")
        log.info("loading the model %s", path)
        self._loading = (caller, ModelLoading(path, command.sha256, self._settings, self._subject, muscles))

    def _take_model(self, engine: Engine, caller: Caller, loading: ModelLoading) -> None:
        try:
            loaded: LoadedModel | None = loading.take()
            if loaded is None:
                return
            model, estimator, tracked_field = loaded
            engine.swap(estimator, tracked_field)
        except M2MError as error:
            self._loading = None
            self._refuse(caller, error)
            return
        self._loading = None
        sha256 = model.info.sha256
        self._outputs.note(ModelSwapped(n=engine.n_samples, path=str(loading.path), sha256=sha256))
        self._on_model(model)
        self._outputs.rehearse(engine.rehearse())
        detail: dict[str, Any] = {"path": str(loading.path), "sha256": sha256, "provider": model.provider}
        if model.notice:
            log.warning(model.notice)
            detail["notice"] = model.notice
        self._acknowledge(caller, detail)

    def _acknowledge(self, caller: Caller, detail: dict[str, Any]) -> None:
        log.info("%s: %s", caller.command, detail)
        self._recording.log("command", command=caller.command, id=caller.request_id, ok=True, detail=detail)
        if self._socket:
            self._socket.reply(caller, Reply(ok=True, detail=detail))

    def _refuse(self, caller: Caller, error: M2MError) -> None:
        log.warning("%s is refused: %s", caller.command, error)
        self._recording.log("command", command=caller.command, id=caller.request_id, ok=False, error=str(error))
        if self._socket:
            self._socket.reply(caller, Reply(ok=False, error=str(error)))

"""Loads another model while a session goes on: in a thread, so that the sample loop does not wait for a file.

ONNX Runtime keeps the interpreter to itself while it makes a session: 25 to 45 ms for the demo's model, in which the
loop stands still. So that part waits until it is called a good moment: just after a pulse.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from rt_engine.engine_setup import load_model, model_parts
from rt_engine.errors import M2MError, ModelError
from rt_engine.estimator import CortexEstimator
from rt_engine.field.subject_file import Subject
from rt_engine.model_file import Model, read_model_info
from rt_engine.settings import Settings
from rt_engine.tracked_field import TrackedField

log = logging.getLogger(__name__)

PATIENCE_S = 2.0
"""Without a pulse for so long, any moment is as good as another."""

LoadedModel = tuple[Model, CortexEstimator, TrackedField]


class ModelLoading:
    """A model that is being loaded and checked.

    Parameters
    ----------
    path
        Model file.
    sha256
        Digest that it must have; empty takes what is there.
    settings
        Of the session.
    subject
        Of the session, or None.
    muscles
        Of the session, in its order.
    """

    def __init__(
        self, path: Path, sha256: str, settings: Settings, subject: Subject | None, muscles: tuple[str, ...]
    ) -> None:
        self.path = path
        self._loaded: LoadedModel | None = None
        self._failure: M2MError | None = None
        self._good_moment = threading.Event()

        def load() -> LoadedModel:
            _check_digest(path, read_model_info(path).sha256, sha256)  # before ONNX Runtime sees the file
            self._good_moment.wait(PATIENCE_S)
            choice = settings.model
            model, _ = load_model(type(choice)(path=str(path), provider=choice.provider, threads=choice.threads))
            _check_digest(path, model.info.sha256, sha256)  # the file may have been replaced in between
            return model, *model_parts(settings, model, subject, muscles)

        self._thread = threading.Thread(target=self._run, args=(load,), name=f"load {path.name}", daemon=True)
        self._thread.start()

    def good_moment(self) -> None:
        """Say that the loop may stand still for a moment: a pulse has just been served, or none is to be expected."""
        self._good_moment.set()

    def take(self) -> LoadedModel | None:
        """Return the model, warm, with what an engine needs of it; None while it is not there yet.

        Raises
        ------
        M2MError
            If it cannot be used, or not in this session.
        """
        if self._thread.is_alive():
            return None
        if self._failure is not None:
            raise self._failure
        return self._loaded

    def _run(self, load: Callable[[], LoadedModel]) -> None:
        try:
            self._loaded = load()
        except M2MError as error:  # `take` raises it
            self._failure = error
        except Exception as error:  # whatever it is, the session goes on with the model that it has
            log.exception("the model %s cannot be loaded", self.path)
            self._failure = ModelError(f"the model {self.path} cannot be loaded: {type(error).__name__}: {error}")


def _check_digest(path: Path, found: str, expected: str) -> None:
    if expected and found != expected:
        raise ModelError(
            f"{path} has the SHA-256 {found}; expected {expected}. It is another model: nothing was changed"
        )

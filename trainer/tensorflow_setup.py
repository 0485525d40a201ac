"""TensorFlow as a training needs it: quiet, repeatable to the bit, with as many threads as asked for.

Called before anything else imports TensorFlow, which reads some of this once, when it starts.
"""

import importlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rt_engine.errors import M2MError

LOG = logging.getLogger(__name__)


def set_up_tensorflow(threads: int = 0) -> None:
    """Import TensorFlow and choose how it computes.

    Parameters
    ----------
    threads : int
        Threads of one operation; 0 leaves it to TensorFlow, which takes all processors. Sums may be cut differently
        for another number, so the same bits need the same number.

    Raises
    ------
    M2MError
        If TensorFlow has already begun with another number of threads.
    """
    tf = _import_tensorflow()
    if threads:
        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        except RuntimeError as error:
            raise M2MError(
                f"TensorFlow already runs in this process, with another number of threads ({error}). Start anew, or "
                "leave the number of threads out."
            ) from error
    tf.config.experimental.enable_op_determinism()


def _import_tensorflow() -> Any:
    """Import it without its words about how it was built, which it writes to stderr before any level is read."""
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # from then on, it tells of errors only
    with _stderr_to_log():
        return importlib.import_module("tensorflow")


@contextmanager
def _stderr_to_log() -> Iterator[None]:
    """Send what is written to stderr, by C++ too, to the log, at a level that is seldom shown."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as words:
        os.dup2(words.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            words.seek(0)
            LOG.debug("TensorFlow starts: %s", words.read().decode(errors="replace"))

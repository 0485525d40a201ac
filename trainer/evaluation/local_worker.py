"""What every worker process of the local cluster does first; dask loads it by name (`cluster.local_cluster`)."""

import os
import signal
import threading
from typing import Any

LOG = "M2M_EVALUATION_WORKER_LOG"
"""Environment variable with the path of the file that takes what workers write on stderr."""


def dask_setup(worker: Any) -> None:
    """Leave Ctrl-C and the screen to the process that started the workers.

    Ctrl-C reaches all of a terminal's processes at once. TensorFlow writes of itself on stderr, whatever it is told.

    Parameters
    ----------
    worker
        Dask's worker; not looked at.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if path := os.environ.get(LOG):
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 2)
        os.close(log)

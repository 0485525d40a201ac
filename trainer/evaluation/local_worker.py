"""What every worker process of the local cluster does first; dask loads it by name (`cluster.local_cluster`)."""

import signal
import threading
from typing import Any


def dask_setup(worker: Any) -> None:
    """Leave Ctrl-C to the process that started the workers: it reaches all of a terminal's processes at once.

    Parameters
    ----------
    worker
        Dask's worker; not looked at.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)

"""Asks the operating system to let the engine go first when other programs want the processor too."""

import contextlib
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

NICENESS = -10
"""Ahead of ordinary programs, behind what the system itself needs."""

THREADS = Path("/proc/self/task")
"""Where Linux lists the threads of a process."""


def raise_priority() -> bool:
    """Raise this process's priority where the system allows it; return whether it did.

    Linux has a niceness per thread, so all that are there are raised: with its main thread alone, the engine held up
    its own: ZeroMQ's, which carries a map away, waited half a millisecond until the main thread slept. Processes and
    threads that are started later inherit it. On Linux it takes the right to do so (root, or a ``nice`` limit in
    ``/etc/security/limits.conf``); without it, and on systems that know no niceness, all goes on as it was.
    """
    try:
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    except (AttributeError, PermissionError):
        log.info("the priority stays as it is; under load, latencies may have outliers")
        return False
    for thread in _threads():
        with contextlib.suppress(ProcessLookupError):  # it has ended since
            os.setpriority(os.PRIO_PROCESS, thread, NICENESS)
    return True


def _threads() -> list[int]:
    try:
        return [int(entry.name) for entry in THREADS.iterdir()]
    except OSError:  # not Linux: there the process's priority is that of its threads
        return []

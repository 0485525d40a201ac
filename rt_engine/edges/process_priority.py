"""Asks the operating system to let the engine go first when other programs want the processor too."""

import atexit
import contextlib
import logging
import os
import re
from pathlib import Path

log = logging.getLogger(__name__)

NICENESS = -10
"""Ahead of ordinary programs, behind what the system itself needs."""

THREADS = Path("/proc/self/task")
"""Where Linux lists the threads of a process."""

GROUP = Path("/proc/self/autogroup")
"""Where Linux has the niceness of the terminal's, or other session's, processes together (sched(7), autogroup)."""


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
    _raise_group()
    return True


def _threads() -> list[int]:
    try:
        return [int(entry.name) for entry in THREADS.iterdir()]
    except OSError:  # not Linux: there the process's priority is that of its threads
        return []


def _raise_group() -> None:
    try:
        found = re.search(r"nice (-?\d+)", GROUP.read_text(encoding="ascii"))
        if found is None or int(found[1]) <= NICENESS:
            return
        GROUP.write_text(str(NICENESS), encoding="ascii")
    except OSError:  # no such grouping here, or no right to change it
        return
    atexit.register(_restore_group, found[1])


def _restore_group(niceness: str) -> None:
    with contextlib.suppress(OSError):
        GROUP.write_text(niceness, encoding="ascii")

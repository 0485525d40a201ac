"""Asks the operating system to let the engine go first when other programs want the processor too."""

import logging
import os

log = logging.getLogger(__name__)

NICENESS = -10
"""Ahead of ordinary programs, behind what the system itself needs."""


def raise_priority() -> bool:
    """Raise this process's priority where the system allows it; return whether it did.

    Processes that are started later inherit it. On Linux it takes the right to do so (root, or a ``nice`` limit in
    ``/etc/security/limits.conf``); without it, and on systems that know no niceness, all goes on as it was.
    """
    try:
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    except (AttributeError, PermissionError):
        log.info("the priority stays as it is; under load, latencies may have outliers")
        return False
    return True

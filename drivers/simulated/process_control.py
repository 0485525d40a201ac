"""The simulated subject as a process of its own: started, released and stopped through stdin and signals."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from drivers.simulated.lsl_feed import FeedControl

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_signals(control: FeedControl) -> Iterator[None]:
    """Let SIGINT and SIGTERM stop the feed cleanly; a second one acts as without this.

    Parameters
    ----------
    control
        Whose `stop` is set.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        control.stop.set()
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def listen(control: FeedControl, descriptor: int | None = None) -> threading.Thread:
    """Obey the lines ``start`` and ``stop``; at the end of the input nobody needs the stream after the session.

    Parameters
    ----------
    control
        What is set.
    descriptor
        File descriptor to read from; default stdin.

    Returns
    -------
    threading.Thread
        Runs until the end of the input, as a daemon.
    """
    number = sys.stdin.fileno() if descriptor is None else descriptor
    thread = threading.Thread(target=_obey, args=(control, number), name="stdin", daemon=True)
    thread.start()
    return thread


def _obey(control: FeedControl, descriptor: int) -> None:
    pending = b""
    # os.read, not sys.stdin: a daemon thread inside a buffered reader makes the interpreter's end fail.
    while chunk := os.read(descriptor, 4096):
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            word = line.strip()
            if word == b"start":
                control.start.set()
            elif word == b"stop":
                control.stop.set()
    control.release.set()

"""What the processes of the latency bench have in common: options as one JSON argument, and an end on Ctrl-C."""

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)


def options_from(kind: type[T]) -> T:
    """Return the process's options, which are its one argument."""
    return msgspec.json.decode(sys.argv[1], type=kind)


def end_on_signals(stop: Callable[[], None]) -> None:
    """Call `stop` on Ctrl-C or a request to terminate."""

    def end(number: int, frame: FrameType | None) -> None:
        stop()

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)


def end_with_stdin(stop: Callable[[], None]) -> None:
    """Call `stop` once stdin says ``stop`` or closes: also when the bench is gone without a word."""

    def listen() -> None:
        for line in sys.stdin:
            if line.strip() == "stop":
                break
        stop()

    threading.Thread(target=listen, daemon=True).start()

"""The floor of the latency bench, a process of its own: bare pylsl, the same model, bare ZeroMQ, and nothing else.

No clocks, gaps, channels by name, statuses or records: what is left is what any program must do. It finds rising edges
of the last channel, takes max - min of the others 10 to 50 ms after, and sends the map. It shares with the engine the
settings of ONNX Runtime, the priority, the way to pull, and a collector that is kept away.
"""

import gc
import struct
import threading
import time
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import pylsl
import zmq

from rt_engine.edges.process_priority import raise_priority
from rt_engine.errors import M2MError
from rt_engine.onnx_session import Provider, open_session
from tools.bench.latency_amplifier import LAST_NEEDED
from tools.bench.latency_process import end_on_signals, end_with_stdin, options_from
from tools.console import emit_json

WINDOW = slice(20, LAST_NEEDED + 1)
"""10 to 50 ms after the pulse."""

KEPT = 400
"""Samples kept when the buffer starts over."""

ROOM = 8192
PULL_TIMEOUT_S = 0.05
WARM_FOR_S = 0.012
"""As the engine's session."""

TIMES = struct.Struct("<5d")
"""Of the pulse, and when its last sample was pulled, its amplitudes measured, its map estimated, the message made."""


class FloorOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the floor listens to, and what it computes."""

    source_id: str
    model: str
    provider: str = "auto"
    threads: int = 1
    rehearse: bool = False
    """Run the model every 12 ms while a pulse waits, as the engine does."""


def serve(options: FloorOptions, stop: threading.Event) -> None:
    """Map pulses until `stop`.

    Raises
    ------
    M2MError
        If the stream is not there.
    """
    session, _, _ = open_session(
        Path(options.model).read_bytes(), provider=cast(Provider, options.provider), threads=options.threads
    )
    found = pylsl.resolve_byprop("source_id", options.source_id, minimum=1, timeout=60.0)
    if not found:
        raise M2MError(f"no stream with source_id {options.source_id!r} within 60 s; expected the bench's amplifier")
    inlet = pylsl.StreamInlet(found[0], max_buflen=60, as_numpy=True)
    inlet.open_stream(timeout=60.0)
    n_muscles = found[0].channel_count() - 1
    valid = np.ones((1, n_muscles), dtype=bool)
    names = ["field"]
    for _ in range(5):
        session.run(names, {"amplitudes_uv": np.full((1, n_muscles), 100.0, np.float32), "valid": valid})
    publisher: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUB)
    port = publisher.bind_to_random_port("tcp://127.0.0.1")
    while not stop.is_set() and not inlet.pull_chunk(timeout=1.0, max_samples=64, min_samples=1, as_numpy=True)[1].size:
        continue
    raise_priority()
    gc.collect()
    gc.freeze()
    inlet.flush()
    emit_json({"event": "ready", "address": f"tcp://127.0.0.1:{port}"})
    samples = np.zeros((ROOM, n_muscles + 1), np.float32)
    stamps = np.zeros(ROOM)
    n = 0
    looked = 1  # the first sample has none before it
    waiting: list[int] = []
    warm_at = 0.0
    while not stop.is_set():
        block, times = inlet.pull_chunk(timeout=PULL_TIMEOUT_S, max_samples=4096, min_samples=1, as_numpy=True)
        pulled = pylsl.local_clock()
        if times.size:
            if n + len(times) > ROOM:
                first = n - KEPT
                samples[:KEPT], stamps[:KEPT] = samples[first:n], stamps[first:n]
                waiting = [edge - first for edge in waiting]
                n, looked = KEPT, looked - first
            samples[n : n + len(times)] = block
            stamps[n : n + len(times)] = times
            n += len(times)
            up = samples[max(looked - 1, 0) : n, -1] > 0.5
            waiting += (np.flatnonzero(up[1:] & ~up[:-1]) + max(looked - 1, 0) + 1).tolist()
            looked = n
            while waiting and waiting[0] + LAST_NEEDED < n:
                edge = waiting.pop(0)
                window = samples[edge + WINDOW.start : edge + WINDOW.stop, :-1]
                amplitudes = (window.max(axis=0) - window.min(axis=0))[None]
                measured = pylsl.local_clock()
                (field,) = session.run(names, {"amplitudes_uv": amplitudes, "valid": valid})
                estimated = pylsl.local_clock()
                header = TIMES.pack(float(stamps[edge]), pulled, measured, estimated, pylsl.local_clock())
                publisher.send_multipart([b"map", header, field.tobytes()])
        if options.rehearse and waiting and time.monotonic() - warm_at > WARM_FOR_S:
            session.run(names, {"amplitudes_uv": np.full((1, n_muscles), 100.0, np.float32), "valid": valid})
            warm_at = time.monotonic()
    publisher.close(0)
    inlet.close_stream()


def main() -> None:
    """Run the process; its one argument is a `FloorOptions` as JSON."""
    stop = threading.Event()
    end_on_signals(stop.set)
    end_with_stdin(stop.set)
    serve(options_from(FloorOptions), stop)


if __name__ == "__main__":
    main()

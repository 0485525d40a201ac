"""The bench's subscriber, a process of its own: stamps each message when it holds it, then tells the bench about it.

It understands the engine's messages and the bare ones of floor and peer. One JSON line per message: ``map`` or
``trial``, with the pulse's time, the time of arrival, how long the stages before took, and a checksum of the map.
"""

import threading
import zlib

import msgspec
import zmq

from rt_engine.edges.clock_offset import now_s
from rt_engine.messages import MapHeader, TrialHeader, decode
from tools.bench.latency_floor import TIMES
from tools.bench.latency_process import end_on_signals, end_with_stdin, options_from
from tools.console import emit_json

POLL_MS = 200


class SubscriberOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom to listen to."""

    address: str
    bare: bool
    """Floor and peer, not the engine."""


def listen(options: SubscriberOptions, stop: threading.Event) -> None:
    """Receive until `stop`."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    socket.connect(options.address)
    emit_json({"event": "listening"})
    while not stop.is_set():
        if not socket.poll(POLL_MS):
            continue
        frames = socket.recv_multipart()
        received_at = now_s()
        (_tell_bare if options.bare else _tell)(frames, received_at)
    socket.close(0)


def _tell(frames: list[bytes], received_at: float) -> None:
    if frames[0] not in (b"map", b"trial"):
        return
    header, arrays = decode(frames)
    if isinstance(header, TrialHeader):
        event = {"event": "trial", "t_pulse": header.t_pulse, "valid": header.valid, "reasons": header.reasons}
        emit_json(event)
    elif isinstance(header, MapHeader) and header.t_available is not None and header.t_sent is not None:
        stages = {name: header.stages_us.get(name, 0.0) / 1e3 for name in ("wait", "extract", "infer")}
        made = (header.t_sent - header.t_available) * 1e3
        stages["publish"] = max(made - sum(stages.values()), 0.0)
        _tell_map(header.t_pulse, header.t_available, stages, header.t_sent, received_at, arrays["field"].tobytes())


def _tell_bare(frames: list[bytes], received_at: float) -> None:
    t_pulse, pulled, measured, estimated, sent = TIMES.unpack(frames[1])
    stages = {
        "wait": 0.0,
        "extract": (measured - pulled) * 1e3,
        "infer": (estimated - measured) * 1e3,
        "publish": (sent - estimated) * 1e3,
    }
    _tell_map(t_pulse, pulled, stages, sent, received_at, frames[2])


def _tell_map(
    t_pulse: float, pulled: float, stages: dict[str, float], sent: float, received_at: float, field: bytes
) -> None:
    stages["deliver"] = (received_at - sent) * 1e3
    event = {"event": "map", "t_pulse": t_pulse, "pulled": pulled, "received_at": received_at, "stages": stages}
    emit_json(event | {"map": zlib.crc32(field)})


def main() -> None:
    """Run the process; its one argument is a `SubscriberOptions` as JSON."""
    stop = threading.Event()
    end_on_signals(stop.set)
    end_with_stdin(stop.set)
    listen(options_from(SubscriberOptions), stop)


if __name__ == "__main__":
    main()

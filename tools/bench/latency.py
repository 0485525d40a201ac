"""`m2m bench latency`: amplifier, engine or floor or peer, and subscriber, each a process of its own, through real LSL.

Per block size one amplifier serves them in turn: half of the floor's pulses, all of the engine's, the other half of the
floor's, so that a machine that slowly changes treats both alike. Nothing else of this project runs meanwhile.
"""

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import util
from typing import Any

import msgspec

from rt_engine.errors import M2MError
from rt_engine.model_file import ModelInfo, read_model_info
from rt_engine.settings import Settings
from tools.bench.latency_amplifier import AmplifierOptions, RunOptions
from tools.bench.latency_figures import Arrival, BlockFigures, LatencyFigures, Leg, judge, worst
from tools.bench.latency_floor import FloorOptions
from tools.bench.latency_peer import PeerOptions
from tools.bench.latency_subscriber import SubscriberOptions
from tools.bench.latency_watch import Watch
from tools.demo.child import Child, Event
from tools.demo.stolen_time import StolenTime

START_TIMEOUT_S = 120.0
SETTLE_S = 0.5
"""Until a ZeroMQ subscription is known to a publisher that cannot say so."""

LAST_MAPS_S = 5.0
"""How long after the last pulse its map may take to arrive."""

END_TIMEOUT_S = 20.0
PEER_RATE_HZ = 1.0
NO_GPU = {"CUDA_VISIBLE_DEVICES": "-1"}

PEER_NEEDS = ("mne_lsl", "tensorflow")
"""Packages of the extra `bench`."""


@dataclass(frozen=True)
class LatencyOptions:
    """What the bench is to do.

    Attributes
    ----------
    settings
        The engine's: model, provider and number of threads, which floor and peer share.
    shipped
        Whether the model is the demo's, for want of another.
    pulses, rate_hz
        Per block size, and how many per second.
    blocks
        Samples that the amplifier pushes at once.
    peer_pulses
        How many pulses the peer gets, one per second; 0 leaves it out.
    rehearsed_floor
        Whether to measure a floor that runs its model while a pulse waits, too.
    """

    settings: Settings
    shipped: bool
    pulses: int
    rate_hz: float
    blocks: tuple[int, ...]
    peer_pulses: int
    rehearsed_floor: bool = False


class LatencyBench:
    """One run of the bench.

    Parameters
    ----------
    options
        What to do.
    say
        Called with words for people.
    told
        Called with what is being measured, maps that have come, and maps that are expected.
    """

    def __init__(
        self, options: LatencyOptions, say: Callable[[str], None], told: Callable[[str, int, int], None]
    ) -> None:
        self.options = options
        self._say = say
        self._told = told
        self._children: list[Child] = []
        self._info: ModelInfo = read_model_info(options.settings.model.path)
        self._peer = ""

    def run(self) -> LatencyFigures:
        """Measure all block sizes.

        Raises
        ------
        M2MError
            If a process cannot do its part.
        """
        absent = [package for package in PEER_NEEDS if util.find_spec(package) is None]
        with_peer = self.options.peer_pulses > 0 and not absent
        if self.options.peer_pulses and absent:
            self._peer = f"skipped: {' and '.join(absent)} not installed (pip install 'm2m-live[bench]')"
            self._say(f"The peer is {self._peer}.")
        elif not self.options.peer_pulses:
            self._peer = "left out"
        try:
            blocks = [self._measure(block, with_peer) for block in self.options.blocks]
        finally:
            self._end_all()
        info, options = self._info, self.options
        return worst(
            blocks,
            pulses=options.pulses,
            rate_hz=options.rate_hz,
            model={
                "name": info.name,
                "kind": info.kind,
                "sha256": info.sha256,
                "path": str(info.path),
                "shipped": options.shipped,
            },
            peer=self._peer,
            machine=f"{os.cpu_count()} processors, {platform.machine()}, {platform.system()} {platform.release()}",
        )

    def _measure(self, block: int, with_peer: bool) -> BlockFigures:
        options = self.options
        source_id = f"m2m-bench-{os.getpid()}-{time.monotonic_ns()}"
        muscles = list(self._info.muscles)
        amplifier = self._start(
            "latency_amplifier", AmplifierOptions(source_id=source_id, muscles=muscles, block=block)
        )
        amplifier.wait_for(lambda event: event.get("event") == "ready", START_TIMEOUT_S)
        chosen = options.settings.model
        floor = FloorOptions(source_id=source_id, model=chosen.path, provider=chosen.provider, threads=chosen.threads)
        floors = {"floor": floor}
        if options.rehearsed_floor:
            floors["rehearsing floor"] = msgspec.structs.replace(floor, rehearse=True)
        seen: dict[str, list[_Seen]] = {name: [] for name in floors}
        half = options.pulses // 2
        words = f"blocks of {block}"
        for name, kind in floors.items():
            seen[name].append(self._leg(f"{words}: {name}", amplifier, self._start("latency_floor", kind), half))
        engine = self._leg(f"{words}: engine", amplifier, self._engine(source_id), options.pulses, bare=False)
        for name, kind in reversed(floors.items()):
            rest = options.pulses - half
            seen[name].append(self._leg(f"{words}: {name}", amplifier, self._start("latency_floor", kind), rest))
        peer = None
        if with_peer:
            child = self._start("latency_peer", PeerOptions(source_id=source_id, model=chosen.path), NO_GPU)
            peer = self._leg(f"{words}: peer", amplifier, child, options.peer_pulses, rate_hz=PEER_RATE_HZ).leg()
        self._end(amplifier)
        rehearsed = seen.get("rehearsing floor")
        return BlockFigures(
            block=block,
            same_maps={a.map for part in seen["floor"] for a in part.arrivals} <= {a.map for a in engine.arrivals},
            engine=engine.leg(),
            floor=_joined(seen["floor"]),
            floor_rehearsed=_joined(rehearsed) if rehearsed else None,
            peer=peer,
        )

    def _engine(self, source_id: str) -> Child:
        chosen = self.options.settings.model
        settings: dict[str, Any] = {
            "streams.emg.source_id": source_id,
            "streams.emg.name": "",
            "streams.resolve_timeout_s": 60.0,
            "publish.address": "tcp://127.0.0.1:*",
            "publish.control_address": "",
            "model.provider": chosen.provider,
            "model.threads": chosen.threads,
        }
        for stream in ("markers", "pose", "intensity"):
            settings[f"streams.{stream}.name"] = ""
        overrides = [word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}")]
        child = Child("the engine", ["run", "--events", "--json", "--model", chosen.path, *overrides])
        self._children.append(child)
        return child

    def _start(self, module: str, options: msgspec.Struct, environment: dict[str, str] | None = None) -> Child:
        arguments = [msgspec.json.encode(options).decode()]
        child = Child(module.replace("_", " "), arguments, module=f"tools.bench.{module}", environment=environment)
        self._children.append(child)
        return child

    def _leg(
        self,
        words: str,
        amplifier: Child,
        measured: Child,
        pulses: int,
        *,
        bare: bool = True,
        rate_hz: float | None = None,
    ) -> "_Seen":
        rate_hz = rate_hz or self.options.rate_hz
        self._told(words, 0, pulses)
        ready = measured.wait_for(
            lambda event: event.get("event") == "ready" or event.get("state") == "READY", START_TIMEOUT_S
        )
        if "about" in ready:
            self._peer = ready["about"]
        subscriber = self._start("latency_subscriber", SubscriberOptions(address=ready["address"], bare=bare))
        subscriber.wait_for(lambda event: event.get("event") == "listening", START_TIMEOUT_S)
        time.sleep(SETTLE_S)
        stolen = StolenTime()
        seen = _Seen(Watch(measured.pid, 1.0 / rate_hz))
        run = RunOptions(pulses=pulses, rate_hz=rate_hz)
        amplifier.say(f"start {msgspec.json.encode(run).decode()}")
        done_at = None
        while len(seen.arrivals) + len(seen.invalid) < pulses or done_at is None:
            event = subscriber.take(0.005)
            if event is not None:
                seen.take(event)
                self._told(words, len(seen.arrivals), pulses)
            seen.watch.look()
            if done_at is None and amplifier.last.get("event") == "done" and len(amplifier.last["t_pulse"]):
                done_at = time.monotonic()
            if done_at is not None and time.monotonic() - done_at > LAST_MAPS_S:
                break
            for child in (amplifier, measured, subscriber):
                if not child.running:
                    raise M2MError(f"{child.name} ended early: {child.complaint()}")
        sent = amplifier.last
        amplifier.last = {}
        seen.finish(sent, stolen.percent())
        for child in (measured, subscriber):
            self._end(child)
        return seen

    def _end(self, child: Child) -> None:
        child.interrupt()
        code = child.finish(END_TIMEOUT_S)
        self._children.remove(child)
        if code != 0:
            raise M2MError(f"{child.name} failed: {child.complaint()}")

    def _end_all(self) -> None:
        for child in self._children:
            child.interrupt()
        for child in self._children:
            child.finish(END_TIMEOUT_S)
        self._children = []


class _Seen:
    """What one process's run came to."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.arrivals: list[Arrival] = []
        self.invalid: list[float] = []
        self.t_pulse: list[float] = []
        self.pushed_at: list[float] = []
        self.stolen_pct: float | None = None
        self._cpu_share_all: float | None = None

    def take(self, event: Event) -> None:
        """Take what the subscriber tells."""
        if event.get("event") == "map":
            arrival = Arrival(event["t_pulse"], event["pulled"], event["received_at"], event["stages"], event["map"])
            self.arrivals.append(arrival)
            self.watch.after_map(arrival.received_at - arrival.t_pulse)
        elif event.get("event") == "trial" and not event["valid"]:
            self.invalid.append(event["t_pulse"])

    def finish(self, sent: Event, stolen_pct: float | None) -> None:
        """Take what the amplifier tells at the end, while the process still runs."""
        self.t_pulse, self.pushed_at = sent["t_pulse"], sent["pushed_at"]
        self.stolen_pct = stolen_pct
        self._cpu_share_all = self.watch.cpu_share_all

    def leg(self) -> Leg:
        """Return the figures."""
        leg = judge(self.t_pulse, self.pushed_at, self.arrivals, self.invalid)
        leg.cpu_share, leg.cpu_share_all = self.watch.cpu_share, self._cpu_share_all
        leg.rss_mb, leg.rss_growth_mb = self.watch.rss_median_mb, self.watch.rss_growth_mb
        leg.rss_over_time_mb = self.watch.rss_over_time_mb
        leg.processor_stolen_pct = self.stolen_pct
        return leg


def _joined(parts: list[_Seen]) -> Leg:
    """Return the figures of several runs of one kind of process as if they had been one."""
    legs = [part.leg() for part in parts]
    joined = judge(
        [t for part in parts for t in part.t_pulse],
        [t for part in parts for t in part.pushed_at],
        [arrival for part in parts for arrival in part.arrivals],
        [t for part in parts for t in part.invalid],
    )
    joined.rss_over_time_mb = [value for leg in legs for value in leg.rss_over_time_mb]
    for name in ("cpu_share", "cpu_share_all", "rss_mb", "rss_growth_mb", "processor_stolen_pct"):
        known = [getattr(leg, name) for leg in legs if getattr(leg, name) is not None]
        setattr(joined, name, max(known) if known else None)
    return joined

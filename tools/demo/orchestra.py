"""Starts subject, engine and window, lets them play together, and ends them in their order."""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rt_engine.errors import M2MError
from rt_engine.field.stimulation_file import read_stimulation_set
from rt_engine.settings import load_settings
from tools.chosen_settings import demo_settings_path
from tools.demo.child import Child
from tools.demo.listener import Listener
from tools.demo.score import DemoScore, score
from tools.demo.stolen_time import StolenTime

START_TIMEOUT_S = 120.0
"""The simulated subject works its whole session out first; a slow computer may take a minute for a long one."""

STREAMS_TIMEOUT_S = 60.0
"""How long the engine looks for the streams, which are there: only a slow computer needs longer than a second."""

LAST_TRIALS_S = 3.0
"""How long after the last pulse its trial may take to arrive."""

END_TIMEOUT_S = 40.0
"""The engine closes the recording when it ends."""


@dataclass(frozen=True)
class DemoOptions:
    """What a demo is to do.

    Attributes
    ----------
    pulses, seed, interval_s
        Of the simulated session.
    folder
        Where the recording and the truth are written.
    record
        Whether to record.
    window
        Whether to open the window.
    screenshot
        Where to save a picture of the window, or None.
    trigger
        ``ttl`` or ``marker``.
    block_samples
        Samples per block that the simulated amplifier sends.
    address
        Where the engine publishes.
    model
        Model file that the engine uses; None for that of the demo's settings.
    """

    pulses: int
    seed: int
    interval_s: float
    folder: Path
    record: bool
    window: bool
    screenshot: Path | None
    trigger: str
    block_samples: int
    address: str
    model: Path | None = None


class Demo:
    """One demo run.

    Parameters
    ----------
    options
        What to do.
    say
        Called with words for people.
    progress
        Called with the number of pulses accounted for.
    """

    def __init__(self, options: DemoOptions, say: Callable[[str], None], progress: Callable[[int], None]) -> None:
        self.options = options
        self._say = say
        self._progress = progress
        self._source_id = f"m2m-demo-{os.getpid()}-{time.monotonic_ns()}"
        self._truth = options.folder / "truth.stim.h5"
        self._recording = options.folder / "recording.xdf"
        self._children: list[Child] = []
        self.window: Child | None = None

    def run(self) -> DemoScore:
        """Run the demo; `window` stays open, the other processes have ended.

        Raises
        ------
        M2MError
            If a process cannot do its part.
        """
        try:
            return self._run()
        finally:
            self.close(with_window=sys.exc_info()[0] is not None)

    def close(self, *, with_window: bool) -> None:
        """End what still runs."""
        for child in [*self._children, *([self.window] if self.window and with_window else [])]:
            child.interrupt()
            child.finish(END_TIMEOUT_S)
        self._children = []

    def _run(self) -> DemoScore:
        self._say("Starting the simulated subject ...")
        subject = self._start_subject()
        subject.wait_for(lambda event: event.get("event") == "ready", START_TIMEOUT_S)
        self._say("Starting the engine ...")
        engine = self._start_engine()
        address = str(engine.wait_for(lambda event: "address" in event, START_TIMEOUT_S)["address"])
        listener = Listener(address)
        try:
            if self.options.window:
                self._start_window(address)
            self._wait_until_ready(engine, listener)
            self._say(f"The session begins: {self.options.pulses} pulses, about {self.options.interval_s:g} s apart.")
            stolen = StolenTime()
            subject.say("start")
            self._listen(subject, engine, listener)
            stolen_pct = stolen.percent()
            self._say("Closing the recording ..." if self.options.record else "Ending the session ...")
            self._end(engine)
            subject.say("stop")
            self._end(subject)
            while listener.take(0):
                continue
            floor_uv = load_settings(demo_settings_path()).mep.floor_uv
            recording = str(self._recording) if self.options.record else None
            result = score(listener, read_stimulation_set(self._truth), floor_uv, recording)
            result.processor_stolen_pct = stolen_pct
            return result
        finally:
            listener.close()

    def _start_subject(self) -> Child:
        options = self.options
        return self._start(
            "the simulated subject",
            [
                *("simulate", "stream", "--json-events", "--await-start"),
                *("--source-id", self._source_id, "--truth", str(self._truth)),
                *("--pulses", str(options.pulses), "--seed", str(options.seed)),
                *("--interval-s", str(options.interval_s), "--block-samples", str(options.block_samples)),
            ],
        )

    def _start_engine(self) -> Child:
        options = self.options
        settings = {
            "streams.emg.source_id": f"{self._source_id}-emg",
            "streams.markers.source_id": f"{self._source_id}-markers",
            "streams.pose.source_id": f"{self._source_id}-pose",
            "streams.intensity.source_id": f"{self._source_id}-intensity",
            "streams.resolve_timeout_s": STREAMS_TIMEOUT_S,
            "trigger.source": options.trigger,
            "publish.address": options.address,
            "publish.control_address": "tcp://127.0.0.1:*",
        }
        overrides = [word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}")]
        record = ["--record", "--out", str(self._recording)] if options.record else []
        model = ["--model", str(options.model)] if options.model else []
        return self._start("the engine", ["run", "--events", "--json", *model, *record, *overrides])

    def _start_window(self, address: str) -> None:
        words = ["display", "--address", address]
        if self.options.screenshot:
            # Near the end, but with pulses to come, so that the picture shows a running session.
            after = max(1, self.options.pulses - 3)
            words += ["--screenshot", str(self.options.screenshot), "--after-pulses", str(after)]
        self.window = Child("the window", words)

    def _start(self, name: str, arguments: list[str]) -> Child:
        child = Child(name, arguments)
        self._children.append(child)
        return child

    def _wait_until_ready(self, engine: Child, listener: Listener) -> None:
        def take_all() -> None:
            while listener.take(0):
                continue

        engine.wait_for(lambda event: event.get("state") == "READY", START_TIMEOUT_S, take_all)

    def _listen(self, subject: Child, engine: Child, listener: Listener) -> None:
        """Take messages until all pulses have been sent and their trials have come, or time is over."""
        done_at = None
        span = self.options.pulses * self.options.interval_s
        deadline = time.monotonic() + START_TIMEOUT_S + 2.0 * span
        while listener.n_trials < self.options.pulses or done_at is None:
            listener.take(100)
            self._progress(listener.n_trials)
            now = time.monotonic()
            if done_at is None and subject.last.get("n") == self.options.pulses - 1:
                done_at = now
            if done_at is not None and now - done_at > LAST_TRIALS_S:
                return
            for child in (subject, engine):
                if not child.running:
                    raise M2MError(f"{child.name} ended early: {child.complaint()}")
            if now > deadline:
                raise M2MError("the simulated subject does not come to an end; is this computer very slow?")

    def _end(self, child: Child) -> None:
        if child.name == "the engine":
            child.interrupt()
        code = child.finish(END_TIMEOUT_S)
        self._children.remove(child)
        if code != 0:
            raise M2MError(f"{child.name} failed: {child.complaint()}")

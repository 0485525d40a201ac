"""The bench's amplifier, a process of its own: precomputed EMG with pulses, pushed into LSL on an absolute schedule.

It must disturb nobody that is measured, so nothing is computed while it sends. It answers to lines on stdin: ``start``
with a `RunOptions` as JSON begins a run of pulses, ``stop`` ends the process. What it tells are JSON lines on stdout:
``ready``, and ``done`` after each run with the time of every pulse and of the push that held its last needed sample.
"""

import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pylsl
from numpy.typing import NDArray

from tools.bench.latency_process import end_on_signals, options_from
from tools.console import emit_json

RATE_HZ = 2000.0
LAST_NEEDED = 100
"""Samples after the pulse until the last one that a sweep of 50 ms needs."""

LOOP_PULSES = 50
"""Pulses that are made; a longer run repeats them."""

JITTER = 0.05
"""Pulses come this share of their interval early or late, so that they meet blocks at any place."""

NOISE_UV = 4.0
HEAD_START_S = 0.05


class AmplifierOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which stream to make."""

    source_id: str
    muscles: list[str]
    block: int
    """Samples that are pushed at once."""


class RunOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run of pulses."""

    pulses: int
    rate_hz: float
    """Pulses per second."""
    seed: int = 0


@dataclass(eq=False)
class Run:
    """A run that is being sent.

    Attributes
    ----------
    loop
        (samples + block, channels) float32; the first block stands at the end again.
    n_loop
        Samples of the loop.
    pulse
        (pulses,) index of each pulse in the run.
    origin
        Index of the run's first sample in the stream.
    t_pulse, pushed_at
        What has been sent so far, s, LSL clock.
    """

    loop: NDArray[np.float32]
    n_loop: int
    pulse: NDArray[np.int64]
    origin: int = -1
    t_pulse: list[float] = field(default_factory=list)
    pushed_at: list[float] = field(default_factory=list)


def make_run(options: RunOptions, n_muscles: int, block: int) -> Run:
    """Work out all that a run sends.

    Each pulse has an artefact of 1 ms and, 20 to 30 ms after it, one period of a sine in each muscle, of a size that
    differs from pulse to pulse; the trigger channel is up for 2 ms.
    """
    rng = np.random.default_rng(options.seed)
    period = round(RATE_HZ / options.rate_hz)
    n_loop = LOOP_PULSES * period
    emg = rng.normal(0.0, NOISE_UV, (n_loop, n_muscles))
    ttl = np.zeros(n_loop)
    reach = int(JITTER * period)
    at = np.arange(LOOP_PULSES) * period + period // 2 + rng.integers(-reach, reach + 1, LOOP_PULSES)
    for place in at:
        size_uv = rng.lognormal(np.log(300.0), 1.0, n_muscles)
        emg[place : place + 2] += [[3000.0], [-2000.0]]
        emg[place + 40 : place + 60] += np.sin(2.0 * np.pi * np.arange(20) / 20.0)[:, None] * size_uv
        ttl[place : place + 4] = 1.0
    loop = np.column_stack((emg, ttl)).astype(np.float32)
    rounds = -(-options.pulses // LOOP_PULSES)
    pulse = (np.arange(rounds)[:, None] * n_loop + at).ravel()[: options.pulses]
    return Run(np.concatenate((loop, loop[:block])), n_loop, pulse)


class Amplifier:
    """Sends baseline EMG, and runs of pulses when they are asked for.

    Parameters
    ----------
    options
        Which stream.
    on_event
        Called with what it tells.
    """

    def __init__(self, options: AmplifierOptions, on_event: Callable[[dict[str, Any]], None] = emit_json) -> None:
        self.options = options
        self._on_event = on_event
        n = len(options.muscles)
        info = pylsl.StreamInfo(
            f"m2m-bench {options.source_id}", "EMG", n + 1, RATE_HZ, pylsl.cf_float32, options.source_id
        )
        info.set_channel_labels([*options.muscles, "TTL"])
        info.set_channel_units(["microvolts"] * n + ["au"])
        self._outlet = pylsl.StreamOutlet(info, chunk_size=0, max_buffered=60)
        self._runs: queue.SimpleQueue[Run] = queue.SimpleQueue()
        self._stop = threading.Event()
        quiet = np.random.default_rng(1).normal(0.0, NOISE_UV, (4000 + options.block, n + 1))
        quiet[:, -1] = 0.0
        self._quiet = quiet.astype(np.float32)

    def listen(self) -> None:
        """Take orders from stdin until it closes."""
        for line in sys.stdin:
            word, _, rest = line.strip().partition(" ")
            if word == "start":
                options = msgspec.json.decode(rest, type=RunOptions)
                self.start(make_run(options, len(self.options.muscles), self.options.block))
            elif word == "stop":
                break
        self._stop.set()

    def start(self, run: Run) -> None:
        """Send a run from the next block on."""
        self._runs.put(run)

    def stop(self) -> None:
        """End soon."""
        self._stop.set()

    def send(self) -> None:
        """Send until `stop`."""
        block = self.options.block
        begin = pylsl.local_clock() + HEAD_START_S
        sent = 0
        run: Run | None = None
        self._on_event({"event": "ready"})
        while not self._stop.is_set():
            if run is None and not self._runs.empty():
                run = self._runs.get()
                run.origin = sent
            if run is None:
                at = sent % 4000
                samples = self._quiet[at : at + block]
            else:
                at = (sent - run.origin) % run.n_loop
                samples = run.loop[at : at + block]
            due = begin + (sent + block - 1) / RATE_HZ
            while (left := due - pylsl.local_clock()) > 0.0:
                time.sleep(left)
            pushed_at = pylsl.local_clock()
            self._outlet.push_chunk(samples, due)
            sent += block
            if run is not None and self._note(run, sent, begin, pushed_at):
                self._on_event({"event": "done", "t_pulse": run.t_pulse, "pushed_at": run.pushed_at})
                run = None

    def _note(self, run: Run, sent: int, begin: float, pushed_at: float) -> bool:
        """Keep when a pulse's last needed sample was pushed; return whether that was the last pulse's."""
        while len(run.pushed_at) < len(run.pulse):
            sample = run.origin + int(run.pulse[len(run.pushed_at)])
            if sample + LAST_NEEDED >= sent:
                return False
            run.t_pulse.append(begin + sample / RATE_HZ)
            run.pushed_at.append(pushed_at)
        return True


def main() -> None:
    """Run the process; its one argument is an `AmplifierOptions` as JSON."""
    amplifier = Amplifier(options_from(AmplifierOptions))
    end_on_signals(amplifier.stop)
    threading.Thread(target=amplifier.listen, daemon=True).start()
    amplifier.send()


if __name__ == "__main__":
    main()

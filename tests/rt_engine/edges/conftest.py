"""A small amplifier that feeds real LSL streams from a thread, and sessions that listen to it."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pylsl
import pytest
import zmq

from rt_engine.health import State
from rt_engine.messages import Header, decode
from rt_engine.muscles import ARTICLE_MUSCLES
from rt_engine.session import Session
from rt_engine.session_outputs import SessionSummary
from rt_engine.settings import Settings, parse_settings

RATE = 2000.0
TIMEOUT_S = 60.0
MODEL = Path(str(files("configs") / "demo" / "kernel-ridge.onnx"))


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = TIMEOUT_S) -> Any:
    """Wait for a condition and return what it gave; polling is this helper's alone."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.005)
    raise AssertionError(f"waited {timeout_s:g} s in vain for {what}")


class Amplifier:
    """EMG of known content at 2 kHz in blocks of 8, with a trigger channel and a marker stream.

    Muscle `m` answers each pulse with one period of a sine of amplitude ``peak_uv * (m + 1) / muscles``, 20 to 30 ms
    after it; between pulses there is noise of 3 uV.
    """

    def __init__(
        self,
        labels: tuple[str, ...] = ARTICLE_MUSCLES,
        *,
        unit: str = "microvolts",
        uv_per_unit: float = 1.0,
        peak_uv: float = 800.0,
        block: int = 8,
        source_id: str = "",
        name: str = "",
        peaks_of: tuple[str, ...] = (),
    ) -> None:
        self.source_id = source_id or f"test-{uuid.uuid4().hex}"
        self.labels = labels
        self.sent: list[np.ndarray] = []
        self.pulse_samples: list[int] = []
        self._uv_per_unit = uv_per_unit
        self._block = block
        self._peak = np.array([peak_uv * (ARTICLE_MUSCLES.index(muscle) + 1) / 15 for muscle in peaks_of or labels])
        self._rng = np.random.default_rng(5)
        self._lock = threading.Lock()
        self._pulses: list[int] = []
        self._poisoned: list[tuple[int, int]] = []
        self._paused = threading.Event()
        self._end = threading.Event()
        self._n = 0
        self._n_sent = 0
        name = name or f"EMG {self.source_id}"
        info = pylsl.StreamInfo(name, "EMG", len(labels) + 1, RATE, pylsl.cf_float32, self.source_id)
        info.set_channel_labels([*labels, "TTL"])
        info.set_channel_units([unit] * len(labels) + ["au"])
        self._outlet = pylsl.StreamOutlet(info)
        marker_info = pylsl.StreamInfo(
            f"markers {self.source_id}",
            "Markers",
            1,
            pylsl.IRREGULAR_RATE,
            pylsl.cf_string,
            f"{self.source_id}-markers",
        )
        self.markers = pylsl.StreamOutlet(marker_info)
        self._t0 = pylsl.local_clock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def pulse(self, in_samples: int = 40, *, poison: tuple[int, int] | None = None) -> int:
        """Fire: the pulse comes this many samples from now; returns its index in the stream.

        `poison` makes one sample NaN: so many samples after the pulse, in that channel. It is told in the same breath,
        since on a slow machine the sample could be sent before a second call.
        """
        with self._lock:
            sample = self._n + in_samples
            self._pulses.append(sample)
            self.pulse_samples.append(sample)
            if poison is not None:
                self._poisoned.append((sample + poison[0], poison[1]))
        return sample

    def wait_until_sent(self, sample: int) -> None:
        """Wait until the stream has reached a sample."""
        wait_until(lambda: self._n_sent > sample, f"sample {sample}")

    def pause(self) -> None:
        """Stop sending, as an amplifier whose app hangs; the samples of the pause are never sent."""
        self._paused.set()

    def go_on(self) -> None:
        """Send again."""
        self._paused.clear()

    def time_of(self, sample: int) -> float:
        """LSL time of a sample."""
        return self._t0 + sample / RATE

    def true_amplitude_uv(self, sample: int) -> np.ndarray:
        """Peak-to-peak of the very samples sent, 10 to 50 ms after the pulse."""
        window = np.concatenate(self.sent)[sample + 20 : sample + 101, :-1].astype(np.float64)
        return (window.max(axis=0) - window.min(axis=0)) * self._uv_per_unit

    def close(self) -> None:
        """Let the streams go; again does nothing."""
        self._end.set()
        self._thread.join()
        self.__dict__.pop("_outlet", None)
        self.__dict__.pop("markers", None)

    def _run(self) -> None:
        while not self._end.is_set():
            due = self.time_of(self._n + self._block - 1)
            wait = due - pylsl.local_clock()
            if wait > 0:
                time.sleep(wait)
            with self._lock:
                block = self._make(self._n, self._n + self._block)
                self._n += self._block
            self.sent.append(block)
            if not self._paused.is_set():
                self._outlet.push_chunk(block, due)
            self._n_sent += self._block

    def _make(self, begin: int, end: int) -> np.ndarray:
        index = np.arange(begin, end)
        uv = self._rng.normal(0.0, 3.0, (end - begin, len(self.labels)))
        ttl = np.zeros(end - begin)
        for pulse in self._pulses:
            phase = (index - pulse - 40) / 20.0
            shape = np.where((phase >= 0) & (phase <= 1), np.sin(2 * np.pi * phase), 0.0)
            uv += shape[:, None] * self._peak
            ttl[(index >= pulse) & (index < pulse + 2)] = 1.0
        block = np.column_stack((uv / self._uv_per_unit, ttl)).astype(np.float32)
        for sample, channel in self._poisoned:
            if begin <= sample < end:
                block[sample - begin, channel] = np.nan
        return block


class RunningSession:
    """A session in a thread, and a subscriber that keeps what it publishes."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.summary: SessionSummary | None = None
        self.error: BaseException | None = None
        self.messages: list[tuple[Header, dict[str, np.ndarray]]] = []
        self._socket = zmq.Context.instance().socket(zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        self._socket.connect(session.address)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def launch(self) -> None:
        self._thread.start()

    def start(self) -> "RunningSession":
        self.launch()
        self.wait_for(State.READY)
        return self

    def wait_for(self, state: State) -> None:
        wait_until(lambda: self.states(state) or self.error, state)
        if self.error:
            raise self.error

    def take(self) -> None:
        while self._socket.poll(0):
            self.messages.append(decode(self._socket.recv_multipart()))

    def of(self, topic: str) -> list[tuple[Any, dict[str, np.ndarray]]]:
        self.take()
        return [(header, arrays) for header, arrays in self.messages if header.topic == topic]

    def states(self, state: State) -> list[Any]:
        return [header for header, _ in self.of("health") if header.state == state]

    def wait_for_trials(self, n: int) -> list[tuple[Any, dict[str, np.ndarray]]]:
        return wait_until(lambda: self.error or (len(self.of("trial")) >= n and self.of("trial")), f"{n} trials")

    def stop(self) -> SessionSummary:
        self.session.stop()
        self._thread.join(TIMEOUT_S)
        if self.error:
            raise self.error
        assert self.summary is not None
        return self.summary

    def close(self) -> None:
        self.session.stop()
        if self._thread.ident is not None:
            self._thread.join(TIMEOUT_S)
        self.take()
        self._socket.close(0)

    def _run(self) -> None:
        try:
            self.summary = self.session.run()
        except BaseException as error:  # handed to the test's own thread
            self.error = error


def session_settings(amplifier: Amplifier, **tables: dict[str, Any]) -> Settings:
    """Make settings of a session that listens to this amplifier alone and publishes at a free port."""
    raw: dict[str, Any] = {
        "streams": {
            "emg": {"source_id": amplifier.source_id},
            "markers": {"source_id": f"{amplifier.source_id}-markers"},
            "resolve_timeout_s": 20.0,
        },
        "model": {"path": str(MODEL), "provider": "cpu"},
        "publish": {"address": "tcp://127.0.0.1:*", "control_address": "tcp://127.0.0.1:*", "health_period_s": 0.1},
        "record": {"min_free_mb": 10.0, "low_free_mb": 10.0},
        # No pulse is given up because the machine is slow; the tests of that set their own.
        # Nor does the session's state say that it is; that, too, is for the tests of it.
        "timing": {"expire_s": TIMEOUT_S, "budget_ms": {"engine": 1e3 * TIMEOUT_S}},
    }
    for table, values in tables.items():
        raw[table] = {**raw.get(table, {}), **values}
    return parse_settings(raw)


@pytest.fixture
def amplifier() -> Iterator[Callable[..., Amplifier]]:
    made: list[Amplifier] = []

    def make(*args: Any, **options: Any) -> Amplifier:
        made.append(Amplifier(*args, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def live() -> Iterator[Callable[..., RunningSession]]:
    made: list[RunningSession] = []

    def make(amplifier: Amplifier, recording: Path | None = None, **tables: dict[str, Any]) -> RunningSession:
        made.append(RunningSession(Session(session_settings(amplifier, **tables), recording=recording)))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def settings_for() -> Callable[..., Settings]:
    return session_settings


@pytest.fixture
def until() -> Callable[..., Any]:
    return wait_until

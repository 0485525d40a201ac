"""Sessions of the `m2m` command for tests of what they leave behind: ended, killed, on a disk of their own."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.rt_engine.edges.conftest import MODEL, Amplifier, wait_until
from tests.tools.conftest import ROOT

N_STREAMS = 2
"""EMG and the engine's record."""

PULSE_EVERY = 400
"""Samples."""

N_PULSES = 60


@dataclass
class LiveSession:
    """An engine process that records an amplifier of its own.

    Attributes
    ----------
    folder
        Of the session, as this process sees it.
    """

    folder: Path
    amplifier: Amplifier
    process: subprocess.Popen[bytes]
    logs: Path

    @property
    def err(self) -> str:
        """What was written for people."""
        return (self.logs / "err").read_text()

    @property
    def acknowledged(self) -> int:
        """How many trials were told of; each had been stored before."""
        return len(re.findall(r"^pulse \d+:", self.err, re.MULTILINE))

    def wait_for(self, text: str) -> None:
        """Wait until the process has written a text."""
        try:
            wait_until(lambda: text in self.err or self.process.poll() is not None, text)
        finally:
            assert text in self.err, self.err

    def fire(self, in_samples: int = 200) -> int:
        """Fire pulses at five per second from now on; return the sample of the first."""
        return [self.amplifier.pulse(in_samples + i * PULSE_EVERY) for i in range(N_PULSES)][0]

    def kill(self, sample: int) -> None:
        """Kill the engine when a sample has been sent. LabRecorder still closes its file then."""
        self.amplifier.wait_until_sent(sample)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def interrupt(self) -> int:
        """Press Ctrl-C; return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(120)

    def wait_until_recorded(self) -> None:
        """Wait until each stream of the recording has its last words."""
        path = self.folder / "recording.xdf"
        wait_until(lambda: path.read_bytes().count(b"<sample_count>") == N_STREAMS, "LabRecorder to close the file")

    def close(self) -> None:
        """End whatever still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()
        self.amplifier.close()


SETTINGS = """
streams = {{ emg = {{ source_id = "{source_id}" }}, resolve_timeout_s = 60 }}
model = {{ path = "{model}", provider = "cpu" }}
publish = {{ address = "tcp://127.0.0.1:*", control_address = "" }}
record = {{ min_free_mb = 5, low_free_mb = 5 }}
timing = {{ expire_s = 60 }}
"""


def start(folder: Path, logs: Path, command: Callable[[list[str]], list[str]] = lambda words: words) -> LiveSession:
    """Start a session into a folder; `command` may wrap the command line. What it says goes to `logs`."""
    logs.mkdir(parents=True)
    amplifier = Amplifier()
    settings = logs / "settings.toml"
    settings.write_text(SETTINGS.format(source_id=amplifier.source_id, model=MODEL))
    words = [sys.executable, "-m", "tools.cli", "run", "-s", str(settings), "-o", str(folder / "recording.xdf")]
    with (logs / "out").open("wb") as out, (logs / "err").open("wb") as err:
        process = subprocess.Popen(
            command(words),
            cwd=ROOT, stdin=subprocess.PIPE, stdout=out, stderr=err, start_new_session=True,
            # In TMPDIR a session notes its LabRecorder: none of another test's shall find it, and stop it.
            env={**os.environ, "COLUMNS": "200", "TMPDIR": str(logs)},
        )  # fmt: skip
    return LiveSession(folder, amplifier, process, logs)


def log_entries(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a session's log."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]

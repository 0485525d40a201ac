"""Sessions of the `m2m` command for tests of what they leave behind: ended, killed, on a disk of their own."""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rt_engine.control_messages import Calibrate, Mark, SwapModel, Unmark
from rt_engine.edges.control_client import ControlClient
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

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

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
publish = {{ address = "tcp://127.0.0.1:*", control_address = "tcp://127.0.0.1:*" }}
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


def kill_at_random(live: Sequence[LiveSession], moments: Sequence[int]) -> None:
    """Kill each session so many samples after its first pulse."""
    for session, moment in zip(live, moments, strict=True):
        session.kill(session.fire() + moment)


def _small_disk(disk: Path) -> Callable[[list[str]], list[str]] | None:
    """Return what runs a command where a folder is a file system of 24 MB that only it sees; None if that is barred."""
    mount = f"mount -t tmpfs -o size=24m none {disk}"
    if sys.platform != "linux" or not shutil.which("unshare"):
        return None
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode:
        return None
    # The file system lives as long as the shell, which waits for a line.
    return lambda words: ["unshare", "-rm", "sh", "-c", f'{mount} && "$@"; echo code $? >&2; read line', "sh", *words]


def start_on_small_disk(folder: Path) -> LiveSession | None:
    """Start a session on a file system of its own; None if that is barred."""
    disk = folder / "disk"
    disk.mkdir()
    wrap = _small_disk(disk)
    return start(disk / "s", folder / "disk-logs", wrap) if wrap else None


def fill_disk(session: LiveSession, left_mb: int) -> None:
    """Fill the session's disk once four trials are stored, down to so many megabytes."""
    session.fire()
    session.wait_for("pulse 3:")
    seen = _seen(session)
    with contextlib.suppress(OSError), (seen / "something_else").open("wb") as other:
        while (free := shutil.disk_usage(seen).free - left_mb * 1_000_000) > 0:
            other.write(bytes(min(free, 1_000_000)))
            other.flush()


def copy_of(session: LiveSession, copy: Path) -> None:
    """Wait for the end of a session on a disk of its own, and copy what it left."""
    session.wait_for("code ")
    shutil.copytree(_seen(session) / session.folder.name, copy)


def _seen(session: LiveSession) -> Path:
    """Return where this process finds the file system that only the session's processes have."""
    return Path(f"/proc/{session.process.pid}/root{session.folder.parent}")


@dataclass(frozen=True)
class LeftSessions:
    """What four sessions that ran beside each other left behind.

    Attributes
    ----------
    killed
        Two, killed at random moments.
    whole
        One that was given commands, and ended by Ctrl-C after `N_SERVED` pulses or more.
    full
        One whose disk was filled; None where it cannot have one of its own.
    copy
        What that one left.
    """

    killed: list[LiveSession]
    whole: LiveSession
    full: LiveSession | None
    copy: Path


N_SERVED = 5
GAIN = 1.5


def command_all(session: LiveSession, model: Path) -> None:
    """Give a session each command that it takes: pulse 1 stays marked, FDI has a gain, the model is a copy."""
    shutil.copyfile(MODEL, model)
    (address,) = re.findall(r"taking commands at (\S+);", session.err)
    with ControlClient(address) as client:
        for command in (
            Mark(pulse=1, reason="coughed"), Mark(pulse=0, reason="?"), Unmark(pulse=0), Calibrate(gains={"FDI": GAIN}),
            SwapModel(path=str(model)),
        ):  # fmt: skip
            assert client.ask(command, 120.0).ok


def leave_sessions(folder: Path) -> LeftSessions:
    """Run four sessions, and end each in its way."""
    *killed, whole = (start(folder / name, folder / f"{name}-logs") for name in ("a", "b", "whole"))
    full = start_on_small_disk(folder)
    everything = [*killed, whole, *([full] if full else [])]
    moments = random.Random()
    try:
        for session in everything:
            session.wait_for("READY")
        whole.fire()
        whole.wait_for("pulse 1:")
        command_all(whole, folder / "same-model.onnx")
        kill_at_random(killed, [moments.randrange(400, 3000) for _ in killed])
        told = whole.acknowledged
        wait_until(lambda: whole.acknowledged >= max(told + 2, N_SERVED), "pulses after the commands")
        whole.interrupt()
        if full:
            fill_disk(full, 2)
            copy_of(full, folder / "copy")
        assert whole.process.wait(120) == 0, whole.err
        for session in killed:
            session.wait_until_recorded()
    finally:
        for session in everything:
            session.close()
    return LeftSessions(killed, whole, full, folder / "copy")

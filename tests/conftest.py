"""What all tests share: an LSL of their own, hypothesis without a clock, one thread, and where the shared data are."""

import json
import logging
import os
import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from rich.logging import RichHandler

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"

# One thread for matrix products, here and in what the tests start, unless somebody says otherwise: on a loaded machine
# the threads of several processes wait for each other in turns, and one second's work takes ten. NumPy reads it when it
# is first imported, so it must stand in the first file that pytest reads.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

# No test may depend on how fast this machine is; on CI the same examples each time.
settings.register_profile(
    "m2m", deadline=None, derandomize=bool(os.environ.get("CI")), suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("m2m")


def pytest_configure(config: pytest.Config) -> None:
    """Keep the tests' LSL streams on this machine and out of sight of every other LSL program on it.

    liblsl reads its configuration when it is first used, in this process and in each that a test starts (LabRecorder
    too), so the environment must be set before any test module is imported.
    """
    folder = tempfile.TemporaryDirectory(prefix="m2m-tests-")
    config.add_cleanup(folder.cleanup)
    path = Path(folder.name) / "lsl_api.cfg"
    path.write_text(
        # No ResolveScope: LabRecorder's liblsl finds nothing in the scope `machine` once there is more than one stream.
        f"[lab]\nSessionID = m2m-tests-{uuid.uuid4().hex}\n[log]\nlevel = -1\n"
    )
    os.environ["LSLAPICFG"] = str(path)
    # A shell starts what it puts into the background with Ctrl-C ignored, and so would all that the tests start.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def unique() -> str:
    """Make a text that no other test has, for names and source_ids of streams."""
    return uuid.uuid4().hex[:12]


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Find a folder of the shared data, or skip the test where the data are not."""

    def find(name: str) -> Path:
        folder = SHARED_DATA / name
        if not folder.is_dir():
            pytest.skip(f"the shared data set {name!r} is not beside this checkout (../shared/data)")
        return folder

    return find


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The object in the last line of stdout."""
        return json.loads(self.out.splitlines()[-1])


@pytest.fixture
def m2m(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Ended]]:
    """Run the `m2m` command in this process, as a shell would in its own."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str | Path) -> Ended:
        from tools.cli import main

        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        code = end.value.code
        return Ended(code if isinstance(code, int) else 0 if code is None else 1, *capfd.readouterr())

    yield run
    # The command's log ends with the test: else the next would find its own on the screen.
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, RichHandler)]:
        root.removeHandler(handler)

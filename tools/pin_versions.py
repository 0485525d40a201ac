"""Resolves every dependency of the project with all extras and writes the versions into `constraints.txt`.

Run with `make constraints` when a dependency is added or is to become newer. Nothing is installed: pip only resolves.
It is not a lock file with hashes: it names versions, no index, so that a laboratory's own mirror serves as well.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = "display,train,gpu,bench,dev"
TWINS = {"onnxruntime-gpu": "onnxruntime"}
"""Package resolved on this platform -> the one that other platforms take at the same version."""

HEADER = f"""\
# Every package of the environment, pinned, for all extras ({EXTRAS}) and all platforms.
# It names no index. Used by `make venv`: pip install -c constraints.txt -e ".[display,train,bench,dev]"
# Written by `make constraints` (tools/pin_versions.py) on Linux x86-64; do not edit by hand.
# A line holds only for what is installed: packages of other platforms and extras cost nothing.
"""


def canonical(name: str) -> str:
    """Spell a distribution's name as PEP 503 wants it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(report: dict[str, object], own_name: str) -> list[str]:
    """Turn pip's installation report into sorted `name==version` lines, the project itself left out.

    Parameters
    ----------
    report
        What `pip install --dry-run --report` wrote.
    own_name
        Distribution name of the project.

    Returns
    -------
    list of str
        One line per distribution, twins of other platforms included.
    """
    versions: dict[str, str] = {}
    installs = report["install"]
    assert isinstance(installs, list)
    for item in installs:
        versions[canonical(item["metadata"]["name"])] = item["metadata"]["version"]
    versions.pop(canonical(own_name), None)
    for here, elsewhere in TWINS.items():
        if here in versions:
            versions[elsewhere] = versions[here]
    return [f"{name}=={version}" for name, version in sorted(versions.items())]


def resolve(project: dict[str, Any]) -> dict[str, object]:
    """Let pip resolve the project with all extras, installing nothing.

    Parameters
    ----------
    project
        The table `project` of `pyproject.toml`.
    """
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *(need for extra in EXTRAS.split(",") for need in extras[extra])]
    # For the oldest Python, to its last digit: some packages refuse 3.11.2 and take 3.11.5, and Debian 12 has 3.11.2.
    oldest = project["requires-python"].removeprefix(">=") + ".0"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
    command += ["--python-version", oldest, "--only-binary", ":all:"]
    done = subprocess.run([*command, "pip", *needed], check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    report: dict[str, object] = json.loads(done.stdout)
    return report


def main() -> None:
    """Write `constraints.txt` in the checkout."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    target = ROOT / "constraints.txt"
    temporary = target.with_suffix(".new")
    temporary.write_text(HEADER + "\n".join(pins(resolve(project), project["name"])) + "\n", encoding="utf-8")
    temporary.replace(target)


if __name__ == "__main__":
    main()

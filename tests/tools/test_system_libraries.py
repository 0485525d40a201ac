"""What the system lacks is installed or named, and what does not need it goes on."""

import shutil
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import ROOT
from tools import system_libraries
from tools.system_libraries import NEEDS, Need, describe, install, install_command, missing

LACKING = [
    Need("libEGL.so.1", "libegl1", "libglvnd-egl", "window", lambda: False),
    Need("Xvfb", "xvfb", "xorg-x11-server-Xvfb", "tests", lambda: False),
]


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Make a system of the test's choice: who one is, which package manager there is, and what was run."""
    here: dict[str, Any] = {"uid": 1000, "programs": {"apt-get"}, "ran": [], "rc": 0}
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(system_libraries.os, "geteuid", lambda: here["uid"], raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name in here["programs"] else None)

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        here["ran"].append(command)
        assert options["stdin"] == subprocess.DEVNULL
        return subprocess.CompletedProcess(command, here["rc"], "E: no network")

    monkeypatch.setattr(subprocess, "run", run)
    return here


def test_what_is_there_is_not_missing() -> None:
    there = Need("libc.so.6", "libc6", "glibc", "all", lambda: True)
    assert missing((there, *LACKING)) == (LACKING if sys.platform == "linux" else [])


@pytest.mark.skipif(sys.platform != "linux", reason="shared libraries by soname are looked for on Linux only")
def test_a_library_that_every_linux_has_is_found_and_an_invented_one_is_not() -> None:
    assert system_libraries._library("libc.so.6", "libc6", "glibc").present()
    assert not system_libraries._library("libinvented.so.3", "-", "-").present()


def test_each_need_names_its_packages_and_what_needs_it() -> None:
    assert {need.purpose for need in NEEDS} == {"all", "window", "tests"}
    assert all(need.debian and need.fedora for need in NEEDS)
    assert len({need.name for need in NEEDS}) == len(NEEDS)


@pytest.mark.parametrize(
    ("uid", "programs", "begins"),
    [
        (0, {"apt-get"}, "apt-get update && apt-get install -y --no-install-recommends libegl1 xvfb"),
        (1000, {"apt-get"}, "sudo apt-get update && sudo apt-get install"),
        (1000, {"dnf"}, "sudo dnf install -y libglvnd-egl xorg-x11-server-Xvfb"),
        (1000, set(), "install with your package manager"),
    ],
)
def test_the_command_is_that_of_the_distribution(
    system: dict[str, Any], uid: int, programs: set[str], begins: str
) -> None:
    system |= {"uid": uid, "programs": programs}
    assert install_command(LACKING).startswith(begins)


def test_the_message_says_what_still_works(system: dict[str, Any]) -> None:
    text = describe(LACKING)
    assert "libEGL.so.1, Xvfb" in text
    assert "--headless" in text
    assert "sudo apt-get" in text


def test_root_installs_without_being_asked(system: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    system["uid"] = 0
    answers = iter([LACKING, []])
    monkeypatch.setattr(system_libraries, "missing", lambda: next(answers))
    assert system_libraries.main() == 0
    update, installed = system["ran"]
    assert update[:2] == ["apt-get", "update"]
    assert installed[-2:] == ["libegl1", "xvfb"]
    assert "-y" in installed


def test_a_user_is_told_and_nothing_is_run(
    system: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(system_libraries, "missing", lambda: LACKING)
    assert system_libraries.main() == 0, "what does not need them goes on"
    assert system["ran"] == []
    assert "sudo apt-get update && sudo apt-get install" in capsys.readouterr().err


def test_an_installation_that_fails_is_told(system: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    system["rc"] = 100
    assert install(LACKING) is False
    assert "no network" in capsys.readouterr().err


def test_it_runs_with_nothing_but_the_standard_library() -> None:
    code = "import runpy, sys; sys.argv = ['x']; runpy.run_path('tools/system_libraries.py'); print(len(sys.modules))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

"""Looks for the shared libraries and programs that pip cannot bring, and installs or names the missing ones.

`make venv` runs it with the system's own Python before anything is installed, so it uses the standard library alone.
`m2m doctor` uses the same table. Only Linux needs it: on macOS and Windows the wheels bring all there is to bring.
"""

from __future__ import annotations

import ctypes
import glob
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Need:
    """Something of the system that a part of m2m-live needs.

    Attributes
    ----------
    name
        Shared library by its soname, or a word for what is no library.
    debian, fedora
        The package that brings it.
    purpose
        ``all``, ``window`` or ``tests``.
    present
        Says whether it is there.
    """

    name: str
    debian: str
    fedora: str
    purpose: str
    present: Callable[[], bool]


def _library(soname: str, debian: str, fedora: str, purpose: str = "window") -> Need:
    def present() -> bool:
        try:
            ctypes.CDLL(soname)
        except OSError:
            return False
        return True

    return Need(soname, debian, fedora, purpose, present)


def _software_gl() -> bool:
    folders = ("/usr/lib/*/dri", "/usr/lib64/dri", "/usr/lib/dri", "/usr/lib/*", "/usr/lib64")
    return any(glob.glob(f"{folder}/{name}") for folder in folders for name in ("swrast_dri.so", "libgallium*.so"))


def _font() -> bool:
    folders = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), Path.home() / ".fonts")
    return any(next(folder.rglob("*.[to]tf"), None) is not None for folder in folders if folder.is_dir())


NEEDS: tuple[Need, ...] = (
    _library("libstdc++.so.6", "libstdc++6", "libstdc++", "all"),
    _library("libEGL.so.1", "libegl1", "libglvnd-egl"),
    _library("libGL.so.1", "libgl1", "libglvnd-glx"),
    _library("libGLX_mesa.so.0", "libglx-mesa0", "mesa-libGL"),
    _library("libdbus-1.so.3", "libdbus-1-3", "dbus-libs"),
    _library("libfontconfig.so.1", "libfontconfig1", "fontconfig"),
    _library("libglib-2.0.so.0", "libglib2.0-0", "glib2"),
    _library("libX11-xcb.so.1", "libx11-xcb1", "libX11-xcb"),
    _library("libxkbcommon.so.0", "libxkbcommon0", "libxkbcommon"),
    _library("libxkbcommon-x11.so.0", "libxkbcommon-x11-0", "libxkbcommon-x11"),
    _library("libxcb-cursor.so.0", "libxcb-cursor0", "xcb-util-cursor"),
    _library("libxcb-glx.so.0", "libxcb-glx0", "libxcb"),
    _library("libxcb-icccm.so.4", "libxcb-icccm4", "xcb-util-wm"),
    _library("libxcb-image.so.0", "libxcb-image0", "xcb-util-image"),
    _library("libxcb-keysyms.so.1", "libxcb-keysyms1", "xcb-util-keysyms"),
    _library("libxcb-randr.so.0", "libxcb-randr0", "libxcb"),
    _library("libxcb-render.so.0", "libxcb-render0", "libxcb"),
    _library("libxcb-render-util.so.0", "libxcb-render-util0", "xcb-util-renderutil"),
    _library("libxcb-shape.so.0", "libxcb-shape0", "libxcb"),
    _library("libxcb-shm.so.0", "libxcb-shm0", "libxcb"),
    _library("libxcb-sync.so.1", "libxcb-sync1", "libxcb"),
    _library("libxcb-xfixes.so.0", "libxcb-xfixes0", "libxcb"),
    _library("libxcb-xkb.so.1", "libxcb-xkb1", "libxcb"),
    Need("Mesa's software OpenGL", "libgl1-mesa-dri", "mesa-dri-drivers", "window", _software_gl),
    Need("a TrueType font", "fonts-dejavu-core", "dejavu-sans-fonts", "window", _font),
    Need("Xvfb", "xvfb", "xorg-x11-server-Xvfb", "tests", lambda: shutil.which("Xvfb") is not None),
)
"""Qt 6's xcb platform plugin and OpenGL (read off its own ELF headers), a font, and a screen for the tests."""


def missing(needs: tuple[Need, ...] = NEEDS) -> list[Need]:
    """Return what is not there; nothing outside Linux."""
    return [need for need in needs if not need.present()] if sys.platform == "linux" else []


def install_command(lacking: list[Need]) -> str:
    """Return the command line that installs what is missing, for the distribution at hand.

    Parameters
    ----------
    lacking
        As `missing` returned it.
    """
    debian = " ".join(sorted({need.debian for need in lacking}))
    fedora = " ".join(sorted({need.fedora for need in lacking}))
    sudo = "" if os.geteuid() == 0 else "sudo "
    if shutil.which("apt-get"):
        return f"{sudo}apt-get update && {sudo}apt-get install -y --no-install-recommends {debian}"
    if shutil.which("dnf"):
        return f"{sudo}dnf install -y {fedora}"
    return f"install with your package manager what Debian calls: {debian}; and Fedora: {fedora}"


def describe(lacking: list[Need]) -> str:
    """Say what is missing, what will not work without it, and how to get it.

    Parameters
    ----------
    lacking
        As `missing` returned it; not empty.
    """
    purposes = {need.purpose for need in lacking}
    stops = [
        text
        for purpose, text in (
            ("all", "everything"),
            ("window", "the live window and its tests (`m2m demo --headless`, `run`, `record`, `replay` work)"),
            ("tests", "the window's tests"),
        )
        if purpose in purposes
    ]
    return (
        f"Missing on this system: {', '.join(need.name for need in lacking)}. "
        f"Without it will not work: {'; '.join(stops)}. To install it:\n  {install_command(lacking)}"
    )


def install(lacking: list[Need]) -> bool:
    """Install what is missing with apt-get; the caller has checked that it may.

    Parameters
    ----------
    lacking
        As `missing` returned it.

    Returns
    -------
    bool
        Whether apt-get was content.
    """
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    packages = sorted({need.debian for need in lacking})
    for command in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run(
            ["apt-get", *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode != 0:
            sys.stderr.write(f"apt-get {command[0]} failed:\n{done.stdout[-2000:]}\n")
            return False
    return True


def main() -> int:
    """Install what is missing if that is possible, else name it. What does not need it goes on: 0 all the same."""
    lacking = missing()
    if lacking and os.geteuid() == 0 and shutil.which("apt-get"):
        names = " ".join(sorted({need.debian for need in lacking}))
        sys.stderr.write(f"Installing system packages that the window and the tests need: {names}\n")
        install(lacking)
        lacking = missing()
    if lacking:
        sys.stderr.write(describe(lacking) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Compiles `masked_decoder.c` for this machine's processor, once, and calls it. Without a compiler there is no library.

The compiled file is kept in the user's cache folder under a name made of everything that it depends on: source,
compiler, its options, processor. Setting `M2M_NATIVE=0` in the environment does without it.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

SWITCH = "M2M_NATIVE"
"""Environment variable; 0 does without the compiled library."""

COMPILERS = ("cc", "gcc", "clang")
OPTIONS = ("-O3", "-march=native", "-fPIC", "-shared", "-std=gnu11")
COMPILE_TIMEOUT_S = 120.0

_FUNCTIONS = {
    "m2m_differences": "fiIii",
    "m2m_differences_back": "fiIii",
    "m2m_first": "fIffiif",
    "m2m_first_back": "fIffiiffff",
    "m2m_second": "fffIIIIiiif",
    "m2m_second_back": "ffIIIIiifff",
    "m2m_last": "fffIIiiif",
    "m2m_last_back": "ffIIIiiffff",
}
"""Function -> its arguments: f a float32 array, I an int32 array, i an int."""


class NativeLibrary:
    """The compiled functions, which check what they are given.

    Parameters
    ----------
    path : pathlib.Path
        The shared library.

    Raises
    ------
    OSError
        If it cannot be loaded.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = ctypes.CDLL(str(path))
        for name in _FUNCTIONS:
            getattr(self._library, name).restype = None

    def call(self, name: str, *arguments: NDArray[Any] | int) -> None:
        """Call a function of `masked_decoder.c`; arrays must be C-contiguous and of the type that it expects."""
        signature = _FUNCTIONS[name]
        if len(signature) != len(arguments):
            raise TypeError(f"{name} takes {len(signature)} arguments; got {len(arguments)}")
        given: list[Any] = []
        for kind, argument in zip(signature, arguments, strict=True):
            if kind == "i":
                given.append(ctypes.c_int(int(argument)))
                continue
            expected = np.float32 if kind == "f" else np.int32
            array = np.asarray(argument)
            if array is not argument or array.dtype != expected or not array.flags.c_contiguous:
                raise TypeError(f"{name} takes a C-contiguous array of {expected.__name__}; got {array.dtype}")
            given.append(ctypes.c_void_p(array.ctypes.data))
        getattr(self._library, name)(*given)


@cache
def native_library() -> NativeLibrary | None:
    """Return the library, compiled if need be, or None where that cannot be done; why stands in the log."""
    if os.environ.get(SWITCH, "1") == "0":
        return None
    try:
        return NativeLibrary(_compiled())
    except (OSError, ValueError, subprocess.SubprocessError) as error:  # ValueError: a CC with an open quote
        log.info("the masked decoder runs as TensorFlow's operations, since it cannot be compiled here: %s", error)
        return None


def _compiled() -> Path:
    # As make takes it, CC may hold options or a wrapper, such as `ccache gcc`.
    compiler = shlex.split(os.environ.get("CC", "")) or [f for name in COMPILERS if (f := shutil.which(name))][:1]
    if not compiler:
        raise OSError(f"no C compiler ({', '.join(COMPILERS)})")
    source = files("trainer.architectures").joinpath("masked_decoder.c").read_bytes()
    version = subprocess.run(
        [*compiler, "--version"], capture_output=True, check=True, timeout=COMPILE_TIMEOUT_S
    ).stdout
    digest = hashlib.sha256(repr((source, compiler, version, OPTIONS, _processor())).encode()).hexdigest()
    folder = _private_folder()
    path = folder / f"masked_decoder-{digest[:24]}.so"
    if path.is_file():
        return path
    handle, name = tempfile.mkstemp(suffix=".so", dir=folder)
    os.close(handle)
    made = Path(name)
    try:
        done = subprocess.run(
            [*compiler, *OPTIONS, "-x", "c", "-", "-o", name],
            input=source,
            capture_output=True,
            timeout=COMPILE_TIMEOUT_S,
        )
        if done.returncode:
            raise OSError(f"{compiler[0]} says: {done.stderr.decode(errors='replace').strip()[:500]}")
        made.replace(path)
    finally:
        made.unlink(missing_ok=True)
    return path


def _processor() -> str:
    """Return what tells processors apart whose instructions differ; a home folder may serve several machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()} {platform.node()}"
    told = [line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))]
    return f"{platform.machine()} {sorted(set(told))}"


def _private_folder() -> Path:
    """Return a folder that nobody else can write to: what lies there will be run."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "m2m-live"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        mine = not hasattr(os, "getuid") or found.st_uid == os.getuid()
        if mine and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and os.access(folder, os.W_OK):
            return folder
    except OSError as error:
        log.debug("no cache folder at %s: %s", folder, error)
    return _temporary_folder()


@cache
def _temporary_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="m2m-live-"))

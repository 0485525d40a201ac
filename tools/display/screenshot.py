"""A picture of the window in a file that is either there and whole, or not there."""

from datetime import datetime
from pathlib import Path

from PySide6.QtWidgets import QWidget

from rt_engine.atomic_file import written_whole
from rt_engine.errors import M2MError


def save_screenshot(widget: QWidget, path: Path) -> Path:
    """Save what a widget shows as PNG.

    Parameters
    ----------
    widget
        Normally the window.
    path
        Where to; its folder must exist.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    M2MError
        If the file cannot be written.
    """
    picture = widget.grab()
    with written_whole(path) as temporary:
        if not picture.save(str(temporary), "PNG"):
            raise M2MError(f"cannot write a screenshot to {path}: is the disk full?")
    return path


def screenshot_name(pulse: int | None, when: datetime) -> str:
    """Return a file name that says when and of which pulse a screenshot is."""
    of_pulse = "" if pulse is None else f"-pulse{pulse}"
    return f"m2m-{when:%Y%m%d-%H%M%S}{of_pulse}.png"

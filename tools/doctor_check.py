"""One thing that the doctor looked at: how bad it is, what was found, what to do."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes
    ----------
    name
        What was looked at.
    level
        OK; WARN, if something works less well or is not there; FAIL, if a session will not work.
    text
        What was found.
    advice
        What to do; empty if nothing.
    """

    name: str
    level: Level
    text: str
    advice: str = ""

"""What the window says: the wire's short codes in words that an experimenter reads at a glance."""

from collections.abc import Sequence
from typing import Literal

Tone = Literal["good", "calm", "warn", "bad"]
"""How serious something is; `theme` gives each tone its colour, and every use of it also says it in words."""

STATE_TONES: dict[str, Tone] = {
    "RESOLVING": "calm",
    "WARMING": "calm",
    "READY": "good",
    "RUNNING": "good",
    "DEGRADED": "warn",
    "STOPPED": "calm",
    "FAILED": "bad",
}

_INVALID_REASONS = {
    "gap": "samples are missing in the sweep",
    "duplicate": "samples in the sweep came twice",
    "clock_step": "the amplifier's clock was set back in the sweep",
    "expired": "its samples did not arrive in time",
    "before_stream": "it lies before the first sample",
    "ahead_of_stream": "its time lies ahead of the samples",
    "time_uncertain": "the time stamps do not fit the sample rate",
    "too_late": "it was reported too late",
    "no_time": "the marker has no time",
    "too_many_pending": "too many pulses were waiting",
    "trigger_disagreement": "trigger sources disagree on its time",
    "trigger_unconfirmed": "another trigger source did not see it",
    "early_stamps": "the stream has just begun: a small loss of samples would not be seen",
}

_COMPUTED_REASONS = {
    "no_pose": "no coil pose",
    "not_tracked": "coil not tracked",
    "bad_pose": "pose is no rigid motion",
    "no_intensity": "stimulator output unknown",
    "not_covered": "outside the basis' coverage",
    "no_basis": "subject without E-field basis",
    "other_voxels": "model of other voxels",
}

_STATUS_WORDS: dict[str, tuple[str, Tone]] = {
    "OK": ("OK", "good"),
    "NO_MEP": ("no MEP", "calm"),
    "BASELINE_SHORT": ("short baseline", "calm"),
    "PREACTIVATED": ("pre-activated", "warn"),
    "ARTEFACT": ("artefact", "warn"),
    "SATURATED": ("saturated", "bad"),
    "FLAT": ("flat", "bad"),
    "SAMPLES_MISSING": ("samples missing", "bad"),
}

_TONE_ORDER: tuple[Tone, ...] = ("good", "calm", "warn", "bad")


def state_tone(state: str) -> Tone:
    """Return the tone of an engine's state; an unknown one is worth a look."""
    return STATE_TONES.get(state, "warn")


def invalid_reason(reasons: Sequence[str]) -> str:
    """Say why a trial is not valid."""
    return ", ".join(_INVALID_REASONS.get(reason, readable(reason)) for reason in reasons) or "no reason given"


def computed_field_reason(reason: str) -> str:
    """Say why there is no field computed from the tracked coil."""
    return _COMPUTED_REASONS.get(reason, readable(reason)) or "no reason given"


def status_words(status: str) -> tuple[str, Tone]:
    """Return what a muscle's status says, and the gravest of its tones.

    Parameters
    ----------
    status
        Flags joined by ``|``, or ``OK``.
    """
    parts = [_STATUS_WORDS.get(flag, (readable(flag).lower(), "warn")) for flag in status.split("|") if flag]
    if not parts:
        return "no status", "warn"
    # The gravest comes first: where room is short, the rest is cut.
    parts.sort(key=lambda part: -_TONE_ORDER.index(part[1]))
    return ", ".join(text for text, _ in parts), parts[0][1]


def confidence_reason(reasons: Sequence[str]) -> str:
    """Say why a map's confidence is low; reasons about muscles stand together by cause.

    Parameters
    ----------
    reasons
        As ``no_active_muscle`` or ``preactivated:FDI``.
    """
    about_muscles: dict[str, list[str]] = {}
    for reason in reasons:
        cause, _, muscle = reason.partition(":")
        about_muscles.setdefault(cause, [])
        if muscle:
            about_muscles[cause].append(muscle)
    said = []
    for cause, muscles in about_muscles.items():
        text = _INVALID_REASONS.get(cause) or _STATUS_WORDS.get(cause.upper(), (readable(cause), "warn"))[0]
        said.append(f"{text}: {', '.join(muscles)}" if muscles else text)
    return "; ".join(said)


def trigger_words(source: str) -> str:
    """Name the source of the pulses."""
    return {"ttl": "TTL", "marker": "marker stream", "artefact": "stimulus artefact"}.get(source, readable(source))


def readable(code: str) -> str:
    """Turn an unknown code of the wire into words: ``one_active`` becomes ``one active``."""
    return code.replace("_", " ").strip()


def amplitude_text(value_uv: float) -> str:
    """Return an amplitude with its unit, or a dash where nothing was measured."""
    if value_uv != value_uv:
        return "–"
    return f"{value_uv:,.0f} µV" if abs(value_uv) >= 9.95 else f"{value_uv:.1f} µV"


def duration_text(seconds: float) -> str:
    """Return a span of time in its natural unit: ``12 s``, ``3 min``, ``2 h``."""
    if seconds < 90.0:
        return f"{seconds:.0f} s"
    if seconds < 5400.0:
        return f"{seconds / 60.0:.0f} min"
    return f"{seconds / 3600.0:.0f} h"


def bytes_text(count: float) -> str:
    """Return a number of bytes in GB or MB."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"


def minus(number: str) -> str:
    """Return a number with a real minus sign, which unlike the hyphen is seen from afar."""
    return number.replace("-", "\u2212")

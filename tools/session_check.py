"""Checks a session's folder end to end: XDF against `trials.h5` against a fresh replay, to the bit. Changes nothing.

A fresh replay of the XDF file gives the trials that the session must have had. Each is looked for in `trials.h5`, and
compared in all that does not hang on the speed of the computer; and what the engine said of it while it ran, which
stands in the XDF file too, is compared with what it stored.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rt_engine.edges.session_store import LOG_FILE, RECORDING_FILE, SESSION_FILE, TRIALS_FILE, session_runs
from rt_engine.edges.xdf_source import Recording, read_streams
from rt_engine.engine import PulseResult
from rt_engine.errors import FileFormatError, RecordingError
from rt_engine.record_events import RECORD_TYPE, Result, Start, Stop, parse_event
from rt_engine.settings import Settings
from rt_engine.trials_file import Trials, read_trials
from rt_engine.trials_layout import SOURCES, fill_row, joined
from tools.replay_session import ReplaySession, replay_settings
from tools.session_folder import SessionLog, marked_pulses, read_log, read_session_table, recording_in

BLOCK_SAMPLES = 4096

NOT_COMPARED = ("row", "stages_us", "sha256")
"""Fields of a trial that hang on the computer's speed, or follow from the others."""

NAMED_AT_MOST = 10


@dataclass
class SessionCheck:
    """What a folder holds, and whether its files agree.

    Attributes
    ----------
    folder, session
        The folder, and the session's identity.
    ended
        ``closed``, ``failed`` with the reason, ``killed`` or ``running``; ``stopped`` before it was ready.
    pulses
        Pulses that a fresh replay of the XDF file finds, as far as the engine lived; without XDF file those in
        `trials.h5`.
    stored
        Whole trials in `trials.h5`.
    identical
        Of these, how many agree in every bit with the fresh replay, and with what the engine said in the XDF file.
    missing
        Pulses that are not in `trials.h5`, though the engine lived when their last sample came, or said that it had
        served them.
    missing_pulses, differing
        Their numbers; the numbers of stored trials that differ.
    differing_fields
        Field -> in how many trials it differs.
    recorded
        Results that the engine put into the XDF file.
    not_replayed
        Pulses in `trials.h5` that the XDF file of a killed engine cannot repeat, since their samples, or what else the
        engine consumed, are not in it: LabRecorder writes twice a second, and ends with the engine.
    after_the_end
        Pulses in the XDF file whose last sample came after the engine's last word: LabRecorder outlives a killed
        engine. At most one of them was in flight when it died.
    torn
        Whether `trials.h5` ends with half a trial, the one in flight.
    marked
        Pulses that are marked in the end.
    last_word_s
        LSL time of the engine's last sign of life, s.
    problems
        What is wrong, in words; empty for a session whose files agree and are whole.
    notes
        What else is to be known.
    """

    folder: Path
    session: str = ""
    ended: str = ""
    pulses: int = 0
    stored: int = 0
    identical: int = 0
    missing: int = 0
    missing_pulses: list[int] = field(default_factory=list)
    differing: list[int] = field(default_factory=list)
    differing_fields: dict[str, int] = field(default_factory=dict)
    recorded: int = 0
    not_replayed: list[int] = field(default_factory=list)
    after_the_end: int = 0
    torn: bool = False
    marked: list[int] = field(default_factory=list)
    last_word_s: float = -math.inf
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


@dataclass
class _Said:
    """What the engine said in the XDF file."""

    results: dict[int, Result] = field(default_factory=dict)
    readable: bool = False
    started: bool = False
    stop: Stop | None = None
    last_s: float = -math.inf


def check_session(
    folder: Path, model: Path | None = None, on_progress: Callable[[float], None] = lambda done: None
) -> SessionCheck:
    """Check a session's folder.

    Parameters
    ----------
    folder
        With `session.toml`, `trials.h5`, `log.jsonl` and `recording.xdf`.
    model
        The model file, if it is not where it was.
    on_progress
        Told now and then which part of the replay is done, 0 to 1.

    Raises
    ------
    M2MError
        If it is no session's folder, or the session's model is not there. Damage of its files is told in the result.
    """
    if not folder.is_dir():
        raise FileFormatError(f"{folder} is no folder; expected that of a session")
    check = SessionCheck(folder)
    if _never_began(folder, check):
        return check
    check.session = str(read_session_table(folder).get("session", ""))
    log = _try(check, SessionLog(), lambda: read_log(folder))
    for number in log.broken[:NAMED_AT_MOST]:
        check.problems.append(f"line {number} of log.jsonl cannot be read")
    trials = _try(check, None, lambda: read_trials(folder / TRIALS_FILE, salvage=True))
    said = _try(check, _Said(), lambda: _said(folder))
    if trials is not None:
        _take_trials(check, trials)
    _take_end(check, log, said, trials)
    check.pulses = check.stored
    if check.stored == 0 and not (folder / RECORDING_FILE).exists():
        check.notes.append("the session ended before LabRecorder had begun")
    elif said.readable and not said.started:
        if check.ended == "closed" and check.stored:
            check.problems.append("recording.xdf holds no record of what the engine consumed, though it was ended")
        elif trials is not None:
            _note_not_replayed(check, sorted(trials.rows["pulse"].tolist()))
    else:
        found = _try(check, None, lambda: replay_settings(recording_in(folder), None, None, model))
        if found is not None:
            recording, settings = found
            _replay(check, trials, said, recording, settings, on_progress)
    if check.differing:
        fields = ", ".join(f"{name} ({n})" for name, n in check.differing_fields.items())
        check.problems.append(f"{_pulses(check.differing)} differ between trials.h5 and a fresh replay, in {fields}")
    if check.missing_pulses:
        check.problems.append(f"{_pulses(check.missing_pulses)} not in trials.h5")
    return check


def _never_began(folder: Path, check: SessionCheck) -> bool:
    """Whether the session was ended before it knew its streams; then there is nothing but its log."""
    if (folder / LOG_FILE).is_file() and not any((folder / n).exists() for n in (SESSION_FILE, TRIALS_FILE)):
        check.ended = read_log(folder).last_state.lower() or "killed"
        check.notes.append("the session ended before it was ready; nothing was recorded")
        return True
    return False


def _try(check: SessionCheck, otherwise: Any, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (FileFormatError, RecordingError) as error:
        if str(error) not in check.problems:
            check.problems.append(str(error))
        return otherwise


def _said(folder: Path) -> _Said:
    said = _Said(readable=True)
    for stream in read_streams(recording_in(folder)):
        if stream.type != RECORD_TYPE:
            continue
        for values, stamp in zip(stream.values, stream.stamps, strict=True):
            event = parse_event(str(values[0]))
            said.last_s = max(said.last_s, float(stamp))
            if isinstance(event, Result):
                said.results[event.pulse] = event
            elif isinstance(event, Start):
                said.started = True
            elif isinstance(event, Stop):
                said.stop = event
    return said


def _take_trials(check: SessionCheck, trials: Trials) -> None:
    check.stored = len(trials.rows)
    check.torn = trials.torn
    if trials.layout.session != check.session:
        check.problems.append(f"trials.h5 is of the session {trials.layout.session}, session.toml of {check.session}")
    if trials.damage:
        check.problems.append(trials.damage)
    if trials.torn:
        check.notes.append("trials.h5 ends with half a trial, the one in flight at the end; it is left out")
    if not trials.closed and not session_runs(check.folder):
        check.notes.append("trials.h5 was not closed; `m2m session close` lets other programs open it")
    twice = [pulse for pulse, n in Counter(trials.rows["pulse"].tolist()).items() if n > 1]
    if twice:
        check.problems.append(f"{_pulses(twice)} more than once in trials.h5")


def _take_end(check: SessionCheck, log: SessionLog, said: _Said, trials: Trials | None) -> None:
    check.ended = "closed" if said.stop or log.last_state == "STOPPED" else "killed"
    if log.last_state == "FAILED":
        check.ended = f"failed: {log.last_reason}"
    elif check.ended == "killed" and session_runs(check.folder):
        check.ended = "running"
        check.notes.append("the session is still running: what is there now was checked")
    elif check.ended == "killed":
        check.notes.append(f"the engine was killed; its last state was {log.last_state or 'none'}")
    check.recorded = len(said.results)
    # Of valid trials only: the time of an invalid one may be in any clock.
    valid = trials.rows["t"][trials.rows["valid"] == 1] if trials is not None else np.zeros(0)
    check.last_word_s = max(log.last_s, said.last_s, *valid.tolist())
    check.marked = sorted(marked_pulses(log))


def _replay(
    check: SessionCheck,
    trials: Trials | None,
    said: _Said,
    recording: Recording,
    settings: Settings,
    on_progress: Callable[[float], None],
) -> None:
    """Replay, and compare each trial as it comes."""
    session = ReplaySession(
        recording, settings, block_samples=BLOCK_SAMPLES, speed=None, address=None, with_computed_field=True
    )
    if session.notice:
        check.notes.append(session.notice)
    if trials and trials.layout.muscles != session.muscles:
        check.problems.append(f"trials.h5 has the muscles {', '.join(trials.layout.muscles)}, the model others")
        return
    rows = {int(row["pulse"]): trials.rows[i : i + 1] for i, row in enumerate(trials.rows)} if trials else {}
    sweep_s = settings.sweep(session.muscles).end_ms / 1000.0
    end_s = float(recording.stamps[-1]) + recording.offsets[-1].offset if recording.stamps.size else -math.inf
    closed = check.ended == "closed"
    fields: Counter[str] = Counter()
    found: set[int] = set()
    not_replayed: set[int] = set()
    n_samples = max(recording.samples.shape[0], 1)
    for n, results in session.run():
        on_progress(n / n_samples)
        for result in results:
            pulse, last_needed_s = result.trial.pulse_id, result.trial.t + sweep_s
            stored, told = rows.get(pulse), said.results.get(pulse)
            if not closed and not result.trial.valid and last_needed_s > end_s:
                continue  # given up by the replay since the file ends there; the engine may have had the samples
            found.add(pulse)
            if stored is None:
                if told is None and not closed and not last_needed_s <= check.last_word_s:
                    check.after_the_end += 1
                else:
                    check.missing_pulses.append(pulse)
                continue
            differing = _differing(stored, result, trials) if trials else []
            if told is not None and not _agrees(stored[0], told):
                differing.append("what the engine said in the XDF file")
            if not differing:
                check.identical += 1
            elif told is None and not closed:
                not_replayed.add(pulse)  # the record ends before it: what the engine consumed then is not known
                continue
            else:
                check.differing.append(pulse)
            fields.update(differing)
    check.missing_pulses = sorted({*check.missing_pulses, *(set(said.results) - set(rows))})
    check.missing = len(check.missing_pulses)
    check.pulses = len(found | set(rows) | set(said.results)) - check.after_the_end
    check.differing_fields = dict(fields)
    beyond = {pulse for pulse in rows if pulse not in found}
    not_replayed |= {pulse for pulse in beyond if not closed and rows[pulse][0]["t"] + sweep_s > end_s}
    if beyond - not_replayed:
        check.problems.append(
            f"{_pulses(sorted(beyond - not_replayed))} in trials.h5, but not found by a replay of the XDF file"
        )
    _note_not_replayed(check, sorted(not_replayed))
    if check.after_the_end:
        check.notes.append(
            f"{check.after_the_end} pulses of the XDF file ended after the engine's last word; at most one of them was "
            "in flight"
        )
    if closed and session.summary.identical is False and not check.differing:
        check.problems.append("the digests of all amplitudes and maps differ from those of the live session")


def _note_not_replayed(check: SessionCheck, pulses: list[int]) -> None:
    check.not_replayed = pulses
    if pulses:
        check.notes.append(
            f"{_pulses(pulses)} of trials.h5 cannot be replayed: LabRecorder ends with the engine, and loses the last "
            "half second that it had not written. Their own digests fit"
        )


def _differing(stored: NDArray[np.void], result: PulseResult, trials: Trials) -> list[str]:
    """Return the fields in which a stored trial is not, bit by bit, what the replay gave."""
    fresh = np.zeros(1, trials.layout.dtype)
    fill_row(fresh, result, trials.layout, 0)
    return [
        name
        for name in trials.layout.dtype.names or ()
        if name not in NOT_COMPARED and stored[0][name].tobytes() != fresh[0][name].tobytes()
    ]


def _agrees(stored: Any, told: Result) -> bool:
    """Whether what the engine said of a pulse is what it stored, number by number."""
    measured = bool(stored["valid"])
    return (
        _numbers([stored["t"]]) == _numbers([told.t_pulse])
        and measured == told.valid
        and stored["reasons"] == joined(told.reasons)
        and _numbers(stored["mep_uv"] if measured else []) == told.mep_uv
        and (stored["status"].tolist() if measured else []) == told.status
        and (stored["cog_mm"].tolist() if measured else []) == told.cog_mm
        and stored["confidence"].decode() == told.confidence
        and stored["confidence_reasons"] == joined(told.confidence_reasons)
        and stored["trigger_source"].decode() == told.trigger_source
        and _numbers(stored["offset_ms"]) == [told.offsets_ms.get(source) for source in SOURCES]
    )


def _numbers(values: Any) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in values]


def _pulses(numbers: list[int]) -> str:
    """Name pulses, but not a thousand of them."""
    named = ", ".join(map(str, numbers[:NAMED_AT_MOST])) + (" ..." if len(numbers) > NAMED_AT_MOST else "")
    return f"{len(numbers)} pulse{'s' if len(numbers) != 1 else ''} ({named})"

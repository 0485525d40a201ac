"""Puts an engine together from settings, a model and what a stream says of its channels.

Live sessions and replays both come here, so that they cannot differ.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rt_engine.channels import ChannelMap, match_channels
from rt_engine.edges.foreign_files import open_foreign_model, read_foreign_subject
from rt_engine.engine import Engine
from rt_engine.errors import SettingsError, StreamError
from rt_engine.estimator import CortexEstimator, make_estimator
from rt_engine.field.subject_file import Subject
from rt_engine.mep import MepCriteria
from rt_engine.model_file import Model
from rt_engine.pulse import TTL
from rt_engine.settings import ModelChoice, Settings
from rt_engine.tracked_field import TrackedField, make_tracked_field
from rt_engine.trial_assembler import SweepSettings, TrialAssembler

log = logging.getLogger(__name__)

MIN_RATE_HZ = 500.0
"""Below, a 40 ms window has too few samples for a peak-to-peak amplitude."""


@dataclass(frozen=True, eq=False)
class EngineParts:
    """An engine and the decisions that went into it."""

    engine: Engine
    channels: ChannelMap
    criteria: MepCriteria
    sweep: SweepSettings


def load_model(choice: ModelChoice) -> tuple[Model, Subject | None]:
    """Open the model and the subject that the settings name.

    Raises
    ------
    SettingsError
        If no model is named.
    FileFormatError, ModelError
        If a file cannot be used.
    """
    if not choice.path:
        raise SettingsError("no model is named: set model.path in the settings or give --model")
    model = open_foreign_model(Path(choice.path), provider=choice.provider, threads=choice.threads)
    return model, read_foreign_subject(Path(choice.subject)) if choice.subject else None


def build_engine(
    settings: Settings,
    model: Model,
    labels: Sequence[str],
    units: Sequence[str],
    nominal_rate_hz: float,
    stopwatch: Callable[[], float] | None = None,
    *,
    subject: Subject | None = None,
) -> EngineParts:
    """Match a stream to a model and make the engine between them.

    Parameters
    ----------
    settings
        Of the session.
    model
        Opened.
    labels, units
        Of the EMG stream's channels.
    nominal_rate_hz
        That the EMG stream states.
    stopwatch
        See `Engine`.
    subject
        Whose E-field basis gives the tracked coil's own field; None leaves that out.

    Raises
    ------
    StreamError
        If a muscle or the trigger channel is missing, a unit is unknown, or the rate cannot carry MEPs.
    SettingsError
        If the settings name muscles that the model does not know, or a coil that the subject's basis is not of.
    """
    if nominal_rate_hz < MIN_RATE_HZ:
        raise StreamError(
            f"the EMG stream states a rate of {nominal_rate_hz:g} Hz; expected a regular stream of at least "
            f"{MIN_RATE_HZ:g} Hz (the article records at 2000 Hz)"
        )
    emg, trigger = settings.streams.emg, settings.trigger
    muscles = model.info.muscles
    channels = match_channels(
        labels,
        units,
        muscles,
        names=emg.channels,
        default_unit=emg.unit,
        ttl_label=trigger.ttl_label,
        ttl_threshold=trigger.ttl_threshold,
        ttl_active_low=trigger.ttl_active == "low",
        ttl_needed=trigger.source == TTL,
    )
    criteria, sweep = settings.criteria(muscles), settings.sweep(muscles)
    estimator, tracked_field = model_parts(settings, model, subject, muscles)
    assembler = TrialAssembler(channels, nominal_rate_hz, sweep, settings.trigger_rules())
    engine = Engine(assembler, criteria, estimator, stopwatch, tracked_field)
    return EngineParts(engine, channels, criteria, sweep)


def model_parts(
    settings: Settings, model: Model, subject: Subject | None, muscles: tuple[str, ...]
) -> tuple[CortexEstimator, TrackedField]:
    """Make what of an engine depends on the model; `Engine.swap` takes both.

    Parameters
    ----------
    settings
        Of the session.
    model
        Opened.
    subject
        Whose E-field basis gives the tracked coil's own field, or None.
    muscles
        Of the session, in its order.

    Raises
    ------
    ModelError
        If the model is not of exactly these muscles.
    SettingsError
        If the settings name a coil that the subject's basis is not of.
    """
    estimator = make_estimator(model, muscles, floor_uv=settings.mep.floor_uv, policy=settings.policy())
    coil = settings.coil
    tracked_field = make_tracked_field(subject, model.info, coil=coil.name, max_didt_a_per_us=coil.max_didt_a_per_us)
    if tracked_field.notice:
        log.warning(tracked_field.notice)
    return estimator, tracked_field

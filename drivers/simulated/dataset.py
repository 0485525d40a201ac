"""Simulated stimulation data sets `*.stim.h5`: made offline, or what a live session has sent."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from drivers.simulated.emg import FRAME_SAMPLES, EmgSource
from drivers.simulated.field_source import Progress
from drivers.simulated.mep_waveform import WINDOW
from drivers.simulated.session import SimulatedSession, compute_fields, make_session
from drivers.simulated.settings import UV_PER_UNIT, SimulatedSubjectSettings
from drivers.simulated.variability import read_without_emg
from rt_engine.errors import SettingsError
from rt_engine.field.placement import Floats
from rt_engine.field.stimulation_file import StimulationSet, Truth, write_stimulation_set
from rt_engine.field.subject_file import Subject
from rt_engine.mep import MepStatus

FLOOR_UV = 50.0
"""Amplitudes below get the status NO_MEP (article, II.A)."""


@dataclass(frozen=True)
class SentPulse:
    """One pulse that has been sent in full.

    Attributes
    ----------
    pulse
        Its number in the session.
    sample
        Index of the pulse's sample in the EMG stream.
    mep_sent_uv
        (m,), max - min of the very samples sent, 10 to 50 ms after the pulse, microvolts.
    t_pulse
        LSL time of the pulse's sample, s.
    pushed_at
        LSL time just before the window's last sample was pushed, s.
    """

    pulse: int
    sample: int
    mep_sent_uv: tuple[float, ...]
    t_pulse: float
    pushed_at: float


def write_dataset(
    path: str | Path,
    n_pulses: int,
    seed: int,
    progress: Progress | None = None,
    *,
    subject: Subject,
    subject_sha256: str = "",
    settings: SimulatedSubjectSettings | None = None,
    with_emg: bool = False,
) -> StimulationSet:
    """Simulate stimulations offline and write them.

    Parameters
    ----------
    path
        Where to write; replaced in one step.
    n_pulses
        Number of stimulations.
    seed
        Of the session.
    progress
        Told of the fields.
    subject
        Whose anatomy it is.
    subject_sha256
        SHA-256 of the subject's file.
    settings
        Everything else; `n_pulses` and `seed` replace what it says.
    with_emg
        Measure the amplitudes in simulated EMG, as a live session with the same settings would send it; else they are
        the true ones with a noise floor.

    Returns
    -------
    StimulationSet
        What was written.

    Raises
    ------
    SettingsError
        If the session cannot be made, or has faults, which a data set cannot.
    DataError
        If the file cannot be written.
    """
    settings = SimulatedSubjectSettings() if settings is None else settings
    settings = msgspec.structs.replace(
        settings, seed=seed, protocol=msgspec.structs.replace(settings.protocol, pulses=n_pulses)
    )
    data = offline_set(make_session(subject, settings, progress), subject_sha256, with_emg=with_emg)
    write_stimulation_set(path, data)
    return data


def offline_set(session: SimulatedSession, subject_sha256: str = "", *, with_emg: bool = False) -> StimulationSet:
    """Make a data set of a session without streaming it; parameters and errors as for `write_dataset`."""
    if session.settings.faults:
        raise SettingsError(f"faults belong to a live stream; leave {', '.join(session.settings.faults)} out")
    n_pulses, n_muscles = session.mep_noise_free_uv.shape
    if with_emg:
        mep_uv = mep_sent_uv = _measure_emg(session)
        pulse_sample = session.train.sample
    else:
        floor_uv = session.settings.cortex.floor_uv
        mep_uv = read_without_emg(session.mep_noise_free_uv, floor_uv, session.settings.seed)
        mep_sent_uv = np.full((n_pulses, n_muscles), np.nan)
        pulse_sample = np.full(n_pulses, -1, np.int64)
    nothing = np.full(n_pulses, np.nan)
    truth = Truth(pulse_sample, mep_sent_uv, session.mep_noise_free_uv, nothing)
    return _stimulation_set(session, np.arange(n_pulses), mep_uv, nothing, truth, subject_sha256)


def sent_set(session: SimulatedSession, sent: list[SentPulse], subject_sha256: str = "") -> StimulationSet:
    """Make the data set of the pulses that a live session has sent.

    Unlike an offline set, it has the coil's true places and fields even where the navigation errs.

    Parameters
    ----------
    session
        The session.
    sent
        Its pulses that were sent in full, in order.
    subject_sha256
        SHA-256 of the subject's file.

    Returns
    -------
    StimulationSet
    """
    pulses = np.array([pulse.pulse for pulse in sent], np.int64)
    mep_sent_uv = np.array([pulse.mep_sent_uv for pulse in sent]).reshape(len(sent), len(session.settings.muscles))
    truth = Truth(
        pulse_sample=np.array([pulse.sample for pulse in sent], np.int64),
        mep_sent_uv=mep_sent_uv,
        mep_noise_free_uv=session.mep_noise_free_uv[pulses],
        pushed_at=np.array([pulse.pushed_at for pulse in sent], np.float64),
    )
    t_pulse = np.array([pulse.t_pulse for pulse in sent], np.float64)
    return _stimulation_set(session, pulses, mep_sent_uv, t_pulse, truth, subject_sha256, true_pose=True)


def sent_amplitudes_uv(samples: NDArray[np.float32], unit: str) -> Floats:
    """Return max - min per muscle of the samples of one MEP window, (m,) float64, microvolts.

    Parameters
    ----------
    samples
        (81, channels) float32, as sent; the last channel is the trigger.
    unit
        Unit of the samples.
    """
    return np.ptp(samples[:, :-1].astype(np.float64), axis=0) * UV_PER_UNIT[unit]


def _measure_emg(session: SimulatedSession) -> Floats:
    """Measure each MEP in the samples that a live session would send, (n, m) float64, microvolts."""
    emg = session.emg()
    mep_uv = np.empty(session.mep_noise_free_uv.shape)
    for pulse, sample in enumerate(session.train.sample):
        window = _samples(emg, int(sample) + WINDOW.start, int(sample) + WINDOW.stop)
        mep_uv[pulse] = sent_amplitudes_uv(window, session.settings.emg.unit)
    return mep_uv


def _samples(emg: EmgSource, begin: int, end: int) -> NDArray[np.float32]:
    first = begin // FRAME_SAMPLES
    frames = [emg.frame(index) for index in range(first, (end - 1) // FRAME_SAMPLES + 1)]
    start = first * FRAME_SAMPLES
    return np.concatenate(frames)[begin - start : end - start]


def _stimulation_set(
    session: SimulatedSession,
    pulses: NDArray[np.int64],
    mep_uv: Floats,
    t_pulse: Floats,
    truth: Truth,
    subject_sha256: str,
    *,
    true_pose: bool = False,
) -> StimulationSet:
    subject, settings, protocol = session.subject, session.settings, session.protocol
    pose, field = protocol.pose[pulses], session.field_v_per_m[pulses]
    if not true_pose and settings.protocol.navigation_error_mm > 0.0:
        # Whoever trains on the set has only what the navigation said.
        pose = protocol.pose_navigated[pulses]
        navigated = compute_fields(session.source, protocol, protocol.pose_navigated, session.percent_mso)
        field = navigated[pulses]
    status = np.where(mep_uv < FLOOR_UV, int(MepStatus.NO_MEP), 0)
    status |= np.where(np.isnan(mep_uv), int(MepStatus.SAMPLES_MISSING), 0)
    status |= np.where(session.preactivated[pulses], int(MepStatus.PREACTIVATED), 0)
    status[:, [name in settings.emg.flat_muscles for name in settings.muscles]] |= int(MepStatus.FLAT)
    return StimulationSet(
        muscles=settings.muscles,
        mep_uv=mep_uv.astype(np.float32),
        status=status.astype(np.uint16),
        field_v_per_m=field,
        voxel=subject.voxel,
        affine=subject.affine,
        box_shape=subject.box_shape,
        pose=pose,
        intensity_percent_rmt=protocol.intensity_percent_rmt[pulses].astype(np.float32),
        intensity_percent_mso=session.percent_mso[pulses].astype(np.float32),
        t_pulse=t_pulse,
        source=f"simulated subject; settings {msgspec.json.encode(settings).decode()}",
        subject_sha256=subject_sha256,
        truth=truth,
    )

"""One simulated session, worked out before its first sample is sent: placements, fields, amplitudes, times."""

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from drivers.simulated.calibration import Calibration, calibrate, didt_a_per_s
from drivers.simulated.coil_track import CoilTrack
from drivers.simulated.cortex import MotorCortex, make_motor_cortex
from drivers.simulated.electrodes import Electrodes, make_electrodes
from drivers.simulated.emg import EmgSource, PulseTrain
from drivers.simulated.faults import Faults
from drivers.simulated.field_source import FieldSource, Progress, covered_fields, make_field_source
from drivers.simulated.mep_waveform import WAVEFORM_SAMPLES, WINDOW, mep_shapes
from drivers.simulated.protocol import Protocol, make_protocol
from drivers.simulated.random_streams import Purpose, random_stream
from drivers.simulated.settings import SAMPLE_RATE_HZ, ProtocolSettings, SimulatedSubjectSettings
from drivers.simulated.variability import Variability, draw_variability
from rt_engine.errors import SettingsError
from rt_engine.field.coil import Coil
from rt_engine.field.placement import Floats
from rt_engine.field.subject_file import Subject
from rt_engine.muscles import ARTICLE_MUSCLES


@dataclass(frozen=True, eq=False)
class SimulatedSession:
    """A session that is known in full; n pulses, m muscles with a channel, V voxels.

    Attributes
    ----------
    settings, subject, source, cortex, electrodes, calibration, protocol
        What it is made of; `settings.field` says which source was taken, also where ``auto`` was set.
    percent_mso
        (n,) float64, stimulator output.
    field_v_per_m
        (n, V) float32, magnitude of the E-field at the voxels, at the coil's true place.
    preactivated
        (n, m) bool.
    mep_noise_free_uv
        (n, m) float64, peak-to-peak of the MEPs in 10 to 50 ms, without noise, hum and artefact.
    train
        The pulses as the EMG has them; samples from the session's start.
    n_samples
        Length of the session.
    """

    settings: SimulatedSubjectSettings
    subject: Subject
    source: FieldSource
    cortex: MotorCortex
    electrodes: Electrodes
    calibration: Calibration
    protocol: Protocol
    percent_mso: Floats
    field_v_per_m: NDArray[np.float32]
    preactivated: NDArray[np.bool_]
    mep_noise_free_uv: Floats
    train: PulseTrain
    n_samples: int

    @property
    def coil(self) -> Coil:
        """The coil."""
        return self.source.coil

    @property
    def n_pulses(self) -> int:
        """Number of pulses (n)."""
        return len(self.percent_mso)

    def emg(self) -> EmgSource:
        """Return what makes the session's EMG."""
        return EmgSource(self.settings, self.electrodes, self.train)

    def track(self) -> CoilTrack:
        """Return where the navigation sees the coil during the session."""
        return CoilTrack(self.protocol.pose_navigated, self.train.sample, self.subject.sphere_center_mm)


def make_session(
    subject: Subject, settings: SimulatedSubjectSettings, progress: Progress | None = None
) -> SimulatedSession:
    """Work a session out.

    Parameters
    ----------
    subject
        Whose anatomy it is.
    settings
        Everything else; the same settings give the same session.
    progress
        Told of the fields, which take most of the time.

    Returns
    -------
    SimulatedSession

    Raises
    ------
    SettingsError
        If the hand knob is unknown, the stimulator too weak for this person, finite elements are wanted and the subject
        has no basis, a placement lies outside what the basis covers, or the session cannot have one of its faults.
    """
    faults = Faults(settings)
    source = make_field_source(subject, settings.field)
    settings = msgspec.structs.replace(settings, field=source.kind, faults=tuple(faults.told))
    cortex = make_motor_cortex(subject, settings.cortex, settings.subject_seed)
    electrodes = make_electrodes(settings.emg, settings.cortex.crosstalk, settings.subject_seed)
    calibration = calibrate(cortex, source, settings.cortex)
    protocol = make_protocol(source.head, calibration.hotspot, settings.protocol, settings.seed)
    percent_mso = calibration.rmt_percent_mso * protocol.intensity_percent_rmt / 100.0
    if percent_mso.max() > 100.0:
        raise SettingsError(
            f"the RMT is {calibration.rmt_percent_mso:.1f} % of the stimulator's output, so "
            f"{protocol.intensity_percent_rmt.max():.0f} % of it would be {percent_mso.max():.0f} %; the "
            "stimulator ends at 100 %: lower intensities_percent_rmt or theta_v_per_m"
        )
    field = compute_fields(source, protocol, protocol.pose, percent_mso, progress)
    variability = draw_variability(len(field), settings.cortex, settings.seed)
    mep_uv = _mep_waveforms(cortex, electrodes, field, variability, settings)
    sample = faults.moved(_pulse_samples(settings.protocol, settings.seed))
    columns = settings.columns
    return SimulatedSession(
        settings=settings,
        subject=subject,
        source=source,
        cortex=cortex,
        electrodes=electrodes,
        calibration=calibration,
        protocol=protocol,
        percent_mso=percent_mso,
        field_v_per_m=field,
        preactivated=variability.preactivated[:, columns],
        mep_noise_free_uv=np.ptp(mep_uv[:, columns, WINDOW], axis=2),
        train=PulseTrain(sample, mep_uv, percent_mso, variability.preactivated),
        n_samples=int(sample[-1]) + round(settings.protocol.tail_s * SAMPLE_RATE_HZ),
    )


def compute_fields(
    source: FieldSource, protocol: Protocol, pose: Floats, percent_mso: Floats, progress: Progress | None = None
) -> NDArray[np.float32]:
    """Compute the field magnitudes of a protocol's placements.

    Parameters
    ----------
    source
        Fields of the subject and the coil.
    protocol
        Whose placements they are, for the error's text.
    pose
        (n, 4, 4), true or navigated, mm.
    percent_mso
        (n,), stimulator output.
    progress
        Told of each field.

    Returns
    -------
    numpy.ndarray
        (n, V) float32, V/m.

    Raises
    ------
    SettingsError
        If a placement lies outside what the source covers.
    """

    def describe(pulse: int) -> str:
        right, forward = protocol.offset_mm[pulse]
        return f"pulse {pulse + 1}, planned {right:+.0f} mm right and {forward:+.0f} mm forward of the hotspot"

    return covered_fields(source, pose, didt_a_per_s(source.coil, percent_mso), describe, progress)


def _mep_waveforms(
    cortex: MotorCortex,
    electrodes: Electrodes,
    field: NDArray[np.float32],
    variability: Variability,
    settings: SimulatedSubjectSettings,
) -> Floats:
    """Return the MEPs as the electrodes see them, (n, 15, `WAVEFORM_SAMPLES`) float64, microvolts."""
    recruited = cortex.recruited(field, variability.excitability_ln)
    amplitude_uv = cortex.maximum_uv * recruited * 10.0**variability.output_log10
    mep_uv = np.empty((len(field), len(ARTICLE_MUSCLES), WAVEFORM_SAMPLES))
    for pulse, amplitude in enumerate(amplitude_uv):
        mep_uv[pulse] = amplitude[:, None] * mep_shapes(electrodes.onset_ms, settings.seed, pulse)
        if settings.cortex.crosstalk > 0.0:
            mep_uv[pulse] = electrodes.mixing @ mep_uv[pulse]
    flat = [ARTICLE_MUSCLES.index(name) for name in settings.emg.flat_muscles]
    mep_uv[:, flat] = 0.0
    return mep_uv


def _pulse_samples(settings: ProtocolSettings, seed: int) -> NDArray[np.int64]:
    """Draw when the pulses are given: (n,) int64, samples from the session's start."""
    rng = random_stream(seed, Purpose.SCHEDULE)
    share = settings.interval_jitter_share
    interval_s = settings.interval_s * (1.0 + rng.uniform(-share, share, settings.pulses - 1))
    seconds = settings.lead_in_s + np.concatenate([[0.0], np.cumsum(interval_s)])
    return np.round(seconds * SAMPLE_RATE_HZ).astype(np.int64)

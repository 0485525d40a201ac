"""The EMG as the amplifier gives it: MEPs, baseline noise, mains hum, stimulus artefact, trigger channel.

Samples come in frames of fixed size, and every random number belongs to a frame or to a pulse. So any part of the
session can be made in any order and comes out the same to the bit, and nothing depends on the blocks in which it is
sent. The noise is white noise through a finite filter that reaches back one frame, hence continuous across frames.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, rfft
from scipy.signal import fftconvolve, firwin

from drivers.simulated.electrodes import Electrodes
from drivers.simulated.mep_waveform import WAVEFORM_SAMPLES
from drivers.simulated.random_streams import Purpose, random_stream
from drivers.simulated.settings import SAMPLE_RATE_HZ, UV_PER_UNIT, SimulatedSubjectSettings
from rt_engine.field.placement import Floats
from rt_engine.muscles import ARTICLE_MUSCLES

FRAME_SAMPLES = 400
"""Samples per frame, 200 ms: a whole number of periods of 50 and of 60 Hz, so that all frames have the same hum."""

TAPS = FRAME_SAMPLES + 1
"""Length of the noise filter: it reaches back exactly one frame."""

ARTEFACT_SAMPLES = 200
"""Samples from the pulse in which its artefact is made, 100 ms."""

PREACTIVATION_SAMPLES = (-400, 300)
"""Begin and end of a muscle's own activity relative to the pulse, -200 to 150 ms."""

TTL_SAMPLES = 2
"""Length of the trigger, 1 ms."""


@dataclass(frozen=True, eq=False)
class PulseTrain:
    """What the pulses of a session put into the EMG; samples count from the session's start.

    Attributes
    ----------
    sample
        (n,) int64, ascending, sample of each pulse.
    mep_uv
        (n, 15, `WAVEFORM_SAMPLES`) float64, MEPs as the electrodes see them, from the pulse's sample on.
    percent_mso
        (n,) float64, stimulator output, which the artefact follows.
    preactivated
        (n, 15) bool.
    """

    sample: NDArray[np.int64]
    mep_uv: Floats
    percent_mso: Floats
    preactivated: NDArray[np.bool_]


class EmgSource:
    """Makes the EMG of one session, frame by frame.

    Parameters
    ----------
    settings
        Of the session.
    electrodes
        Of the person.
    train
        The session's pulses.
    """

    def __init__(self, settings: SimulatedSubjectSettings, electrodes: Electrodes, train: PulseTrain) -> None:
        self._seed = settings.seed
        self._columns = settings.columns
        self._emg = settings.emg
        self._electrodes = electrodes
        self._train = train
        self._per_uv = 1.0 / UV_PER_UNIT[settings.emg.unit]
        self._flat = [ARTICLE_MUSCLES.index(name) for name in settings.emg.flat_muscles]
        taps = firwin(TAPS, settings.emg.band_hz, pass_zero=False, fs=SAMPLE_RATE_HZ)
        # White noise of unit variance leaves such a filter with unit variance.
        self._taps = taps / np.sqrt((taps**2).sum())
        self._response = rfft(self._taps, 2 * FRAME_SAMPLES)
        seconds = np.arange(FRAME_SAMPLES) / SAMPLE_RATE_HZ
        turn = 2.0 * np.pi * settings.emg.hum_hz * seconds
        self._hum = electrodes.hum_uv[:, None] * np.sin(turn + electrodes.hum_phase[:, None])
        self._artefact = self._make_artefact()
        self._reach = max(WAVEFORM_SAMPLES, ARTEFACT_SAMPLES, PREACTIVATION_SAMPLES[1])

    @property
    def n_channels(self) -> int:
        """Muscles and the trigger channel."""
        return len(self._columns) + 1

    def frame(self, index: int) -> NDArray[np.float32]:
        """Make one frame of the session.

        Parameters
        ----------
        index
            0 is the session's start.

        Returns
        -------
        numpy.ndarray
            (`FRAME_SAMPLES`, channels) float32: muscles in the settings' unit, then the trigger, 0 or 1.
        """
        return self._finish(index, self._noise(self._white(index - 1), self._white(index)))

    def waiting_frame(self, index: int) -> NDArray[np.float32]:
        """Make one frame of baseline to be sent before the session.

        Parameters
        ----------
        index
            Counts from 0. After the last of them comes `transition_frame`.

        Returns
        -------
        numpy.ndarray
            As `frame` gives.
        """
        before = self._waiting_white(index - 1) if index > 0 else np.zeros((len(ARTICLE_MUSCLES), FRAME_SAMPLES))
        return self._finish(None, self._noise(before, self._waiting_white(index)))

    def transition_frame(self, n_waiting: int) -> NDArray[np.float32]:
        """Make the frame between `n_waiting` waiting frames and frame 0, so that noise has no seam at either end."""
        before = self._waiting_white(n_waiting - 1)
        return self._finish(None, self._noise(before, self._white(-1)))

    def _white(self, index: int) -> Floats:
        # Frame -1 exists as the history of frame 0, whether it is sent or not.
        rng = random_stream(self._seed, Purpose.NOISE, index + 1)
        return rng.standard_normal((len(ARTICLE_MUSCLES), FRAME_SAMPLES))

    def _waiting_white(self, index: int) -> Floats:
        rng = random_stream(self._seed, Purpose.WAITING_NOISE, index)
        return rng.standard_normal((len(ARTICLE_MUSCLES), FRAME_SAMPLES))

    def _noise(self, before: Floats, white: Floats) -> Floats:
        """Filter one frame of white noise; (15, `FRAME_SAMPLES`), unit variance."""
        # Overlap-save: of the circular convolution over two frames, the second one is free of wrapping.
        spectrum = rfft(np.concatenate([before, white], axis=1), axis=1) * self._response
        return irfft(spectrum, 2 * FRAME_SAMPLES, axis=1)[:, FRAME_SAMPLES:]

    def _finish(self, index: int | None, unit_noise: Floats) -> NDArray[np.float32]:
        signal = self._electrodes.noise_rms_uv[:, None] * unit_noise + self._hum
        trigger = np.zeros(FRAME_SAMPLES)
        if index is not None:
            self._add_pulses(index, signal, trigger)
        np.clip(signal, -self._emg.range_uv, self._emg.range_uv, out=signal)
        signal[self._flat] = 0.0
        frame = np.empty((FRAME_SAMPLES, self.n_channels), np.float32)
        frame[:, :-1] = (signal[self._columns] * self._per_uv).T
        frame[:, -1] = trigger
        return frame

    def _add_pulses(self, index: int, signal: Floats, trigger: Floats) -> None:
        start = index * FRAME_SAMPLES
        train = self._train
        first = int(np.searchsorted(train.sample, start - self._reach))
        last = int(np.searchsorted(train.sample, start + FRAME_SAMPLES - PREACTIVATION_SAMPLES[0]))
        for pulse in range(first, last):
            offset = int(train.sample[pulse]) - start
            _add(signal, train.mep_uv[pulse], offset)
            _add(signal, train.percent_mso[pulse] / 100.0 * self._artefact, offset)
            trigger[max(offset, 0) : max(offset + TTL_SAMPLES, 0)] = 1.0
            if train.preactivated[pulse].any():
                _add(signal, self._own_activity(pulse), offset + PREACTIVATION_SAMPLES[0])

    def _make_artefact(self) -> Floats:
        """Ringing that decays, and the slow recovery of a high-pass; (15, `ARTEFACT_SAMPLES`) at 100 % output."""
        emg, electrodes = self._emg, self._electrodes
        ms = np.arange(ARTEFACT_SAMPLES) * 1000.0 / SAMPLE_RATE_HZ
        turn = 2.0 * np.pi * emg.artefact_ringing_hz * ms / 1000.0
        ringing = emg.artefact_uv * np.exp(-ms / emg.artefact_decay_ms)
        ringing = ringing * np.cos(turn + electrodes.artefact_phase[:, None])
        recovery = emg.artefact_leak_uv * np.exp(-(ms - 10.0) / emg.artefact_recovery_ms)
        return electrodes.artefact_gain[:, None] * (ringing + recovery)

    def _own_activity(self, pulse: int) -> Floats:
        """Draw the interference pattern of the muscles that are not at rest; zero in all others."""
        length = PREACTIVATION_SAMPLES[1] - PREACTIVATION_SAMPLES[0]
        rng = random_stream(self._seed, Purpose.PREACTIVATION_NOISE, pulse)
        active = self._train.preactivated[pulse]
        envelope = self._emg.preactivation_rms_uv * np.minimum(1.0, 8.0 * np.hanning(length))
        white = rng.standard_normal((len(active), length + TAPS - 1))
        pattern = fftconvolve(white, self._taps[None, :], mode="valid", axes=1)
        return active[:, None] * envelope * pattern


def _add(signal: Floats, part: Floats, offset: int) -> None:
    """Add `part` (channels, samples) to `signal` from `offset` on, cutting what stands out."""
    begin, end = max(offset, 0), min(offset + part.shape[1], signal.shape[1])
    if begin < end:
        signal[:, begin:end] += part[:, begin - offset : end - offset]

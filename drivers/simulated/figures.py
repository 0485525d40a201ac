"""How the simulated muscles compare with the literature: the figures in ``docs/simulated-subject.md``."""

import msgspec
import numpy as np

from drivers.simulated.calibration import fdi_at_hotspot
from drivers.simulated.dataset import FLOOR_UV
from drivers.simulated.session import SimulatedSession
from rt_engine.field.stimulation_file import StimulationSet


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one session."""

    rmt_percent_mso: float
    """Resting motor threshold, percent of the stimulator's output."""
    fdi_sd_log10_at_rmt: float
    """SD of log10 of the FDI's amplitude at the hotspot, without noise floor, here and below."""
    fdi_sd_log10_at_120: float
    fdi_sd_log10_at_240: float
    fdi_median_uv_at_120: float
    """Median amplitude of the FDI at the hotspot at 120 % RMT."""
    share_below_50_uv: float
    """Share of all amplitudes of the protocol, all muscles."""
    share_without_mep: float
    """Share of the pulses in which no muscle reaches 50 uV."""
    components_999: int
    """Principal components that hold 99.9 % of the fields' variance."""


def measure_figures(session: SimulatedSession, data: StimulationSet) -> Figures:
    """Measure a session.

    Parameters
    ----------
    session
        The session.
    data
        Its data set.

    Returns
    -------
    Figures
    """
    fdi = {
        percent: fdi_at_hotspot(session.source, session.cortex, session.calibration, session.settings.cortex, percent)
        for percent in (100.0, 120.0, 240.0)
    }
    below = data.mep_uv < FLOOR_UV
    return Figures(
        rmt_percent_mso=session.calibration.rmt_percent_mso,
        fdi_sd_log10_at_rmt=float(np.log10(fdi[100.0]).std()),
        fdi_sd_log10_at_120=float(np.log10(fdi[120.0]).std()),
        fdi_sd_log10_at_240=float(np.log10(fdi[240.0]).std()),
        fdi_median_uv_at_120=float(np.median(fdi[120.0])),
        share_below_50_uv=float(below.mean()),
        share_without_mep=float(below.all(axis=1).mean()),
        components_999=_components(session.field_v_per_m, 0.999),
    )


def _components(field: np.ndarray, share: float) -> int:
    centered = field - field.mean(axis=0, dtype=np.float64)
    # Eigenvalues of the smaller of the two Gram matrices.
    gram = centered @ centered.T if len(field) <= field.shape[1] else centered.T @ centered
    variance = np.linalg.eigvalsh(gram)[::-1]
    return int(np.searchsorted(np.cumsum(variance) / variance.sum(), share) + 1)

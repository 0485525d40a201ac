"""Hotspot and resting motor threshold, found as an operator finds them: by stimulating.

Also the figures by which the simulated muscles are compared with the literature.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.special import expit

from drivers.simulated.cortex import MotorCortex
from drivers.simulated.field_source import FieldSource, covered_fields
from drivers.simulated.random_streams import Purpose, random_stream
from drivers.simulated.settings import CortexSettings
from rt_engine.errors import SettingsError
from rt_engine.field.coil import Coil
from rt_engine.field.placement import Floats, coil_pose, move
from rt_engine.muscles import ARTICLE_MUSCLES

Output = TypeVar("Output", float, Floats)
"""Stimulator output, one or several."""

RMT_UV = 50.0
"""An MEP above this counts for the resting motor threshold (article, II.A)."""

FDI = ARTICLE_MUSCLES.index("FDI")

SEARCH_MM = ((20.0, 5.0), (4.0, 2.0))
"""Coarse and fine map of the hotspot search: half width and spacing."""

SEARCH_PERCENT_RMT = 120.0
"""Intensity of the hotspot search, relative to the threshold at the place where it begins."""

TRIALS = 20001
"""Simulated trials per intensity of the threshold search; odd, so that the median is a trial."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Where and how strongly this person is stimulated.

    Attributes
    ----------
    hotspot
        (3,) float64, unit vector from the sphere's centre to the FDI hotspot on the scalp.
    hotspot_pose
        (4, 4) float64, the coil there, mm.
    rmt_percent_mso
        Resting motor threshold of the FDI, percent of the stimulator's maximum output.
    """

    hotspot: Floats
    hotspot_pose: Floats
    rmt_percent_mso: float


def didt_a_per_s(coil: Coil, percent_mso: Output) -> Output:
    """Return the coil current's rate of change at a stimulator output, or at several."""
    return coil.max_didt_a_per_us * 1e6 * percent_mso / 100.0


def calibrate(cortex: MotorCortex, source: FieldSource, settings: CortexSettings) -> Calibration:
    """Find the FDI hotspot, then the resting motor threshold there.

    Parameters
    ----------
    cortex
        The person's motor cortex.
    source
        Fields of the person's head and the coil.
    settings
        Variability.

    Returns
    -------
    Calibration

    Raises
    ------
    SettingsError
        If the threshold is not reached at the stimulator's maximum output, or the search leaves what the source covers.
    """
    subject = source.head
    # Only what drives the FDI is needed here.
    used = np.flatnonzero(cortex.weight[FDI])
    weight = cortex.weight[FDI, used]
    trials = _trials(settings, TRIALS)

    def fields_per_percent(places: list[Floats], ways: list[tuple[float, float]]) -> Floats:
        pose = np.stack([coil_pose(subject, place) for place in places])
        didt = np.full(len(places), didt_a_per_s(source.coil, 1.0))

        def describe(row: int) -> str:
            right, forward = ways[row]
            return f"the hotspot search, {right:+g} mm right and {forward:+g} mm forward of where it began"

        return covered_fields(source, pose, didt, describe)[:, used].astype(np.float64)

    hotspot = cortex.center_mm[FDI] - subject.sphere_center_mm
    hotspot = hotspot / np.linalg.norm(hotspot)
    for half_mm, spacing_mm in SEARCH_MM:
        ticks = np.arange(-half_mm, half_mm + spacing_mm / 2.0, spacing_mm).tolist()
        ways = [(right, forward) for right in ticks for forward in ticks]
        places = [move(hotspot, *way, subject.scalp_radius_mm) for way in ways]
        fields = fields_per_percent(places, ways)
        # As an operator would: find an intensity that works where one begins, then look for the largest MEPs around.
        threshold = _threshold(cortex, fields[len(ways) // 2], weight, trials)
        recruited = _recruited(cortex, SEARCH_PERCENT_RMT / 100.0 * threshold * fields, weight)
        hotspot = places[int(np.argmax(recruited))]
    rmt_percent_mso = _threshold(cortex, fields_per_percent([hotspot], [(0.0, 0.0)])[0], weight, trials)
    if rmt_percent_mso > 100.0:
        raise SettingsError(
            f"the resting motor threshold is {rmt_percent_mso:.0f} % of the stimulator's output, which ends at 100 %; "
            f"lower theta_v_per_m (now {settings.theta_v_per_m:g})"
        )
    return Calibration(hotspot, coil_pose(subject, hotspot), rmt_percent_mso)


def fdi_at_hotspot(
    source: FieldSource,
    cortex: MotorCortex,
    calibration: Calibration,
    settings: CortexSettings,
    percent_rmt: float,
    trials: int = TRIALS,
) -> Floats:
    """Simulate the FDI's MEPs at the hotspot.

    Parameters
    ----------
    source, cortex, calibration, settings
        As for `calibrate`, and its result.
    percent_rmt
        Intensity.
    trials
        How many.

    Returns
    -------
    numpy.ndarray
        (trials,) float64, microvolts, without noise floor.
    """
    used = np.flatnonzero(cortex.weight[FDI])
    didt = didt_a_per_s(source.coil, calibration.rmt_percent_mso * percent_rmt / 100.0)
    field = covered_fields(source, calibration.hotspot_pose[None], np.array([didt]), lambda _: "the hotspot")
    curve = _RecruitmentCurve(cortex, field[0, used].astype(np.float64), cortex.weight[FDI, used])
    return curve.amplitude_uv(*_trials(settings, trials))


def _threshold(cortex: MotorCortex, field_per_percent: Floats, weight: Floats, trials: tuple[Floats, Floats]) -> float:
    """Return the output, %, at which half of the trials exceed 50 uV; infinite if none does."""
    curve = _RecruitmentCurve(cortex, field_per_percent, weight)
    excitability_ln, output_log10 = trials

    def median_uv(percent_ln: float) -> float:
        return float(np.median(curve.amplitude_uv(percent_ln + excitability_ln, output_log10)))

    low, high = np.log(0.1), np.log(1000.0)
    if median_uv(high) < RMT_UV:
        return np.inf
    # The median rises with the intensity, so halving the interval finds the threshold.
    while high - low > 1e-4:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if median_uv(middle) >= RMT_UV else (middle, high)
    return round(float(np.exp(high)), 2)


def _recruited(cortex: MotorCortex, field_v_per_m: Floats, weight: Floats) -> Floats:
    """Return what fields (..., voxels) recruit of the FDI at ordinary excitability."""
    return expit((field_v_per_m - cortex.threshold_v_per_m[FDI]) / cortex.width_v_per_m[FDI]) @ weight


def _trials(settings: CortexSettings, trials: int) -> tuple[Floats, Floats]:
    # The same trials at every intensity, so that the median is monotone and the search cannot wander.
    rng = random_stream(0, Purpose.CALIBRATION)
    sd_ln = float(np.hypot(settings.common_sd_ln, settings.private_sd_ln))
    return sd_ln * rng.standard_normal(trials), settings.output_sd_log10 * rng.standard_normal(trials)


class _RecruitmentCurve:
    """The FDI's recruitment at one placement as a function of the field's factor, tabulated: trials become cheap."""

    LN_FACTOR = np.linspace(-4.0, 8.0, 601)

    def __init__(self, cortex: MotorCortex, field_v_per_m: Floats, weight: Floats) -> None:
        recruited = _recruited(cortex, np.exp(self.LN_FACTOR)[:, None] * field_v_per_m, weight)
        # Its logarithm is the smoother thing to interpolate.
        self._full_ln = np.log(cortex.maximum_uv[FDI] * recruited)

    def amplitude_uv(self, factor_ln: Floats, output_log10: Floats) -> Floats:
        return np.exp(np.interp(factor_ln, self.LN_FACTOR, self._full_ln)) * 10.0**output_log10

"""The simulated motor cortex: which voxels drive which muscle, and how much of it a field recruits.

Recruitment of muscle m by the field magnitudes |E_k| at the voxels k:

    recruited_m = sum over k of  w_mk  sigmoid((g_m |E_k| - theta_m) / (beta theta_m)),     sum over k of w_mk = 1

g_m is the excitability of the moment, drawn in `variability`. The weights are a Gaussian patch on the ribbon of BA4
and a weaker secondary one, in somatotopic order along the ribbon. They fall off with depth, since it is the crown and
the lip of the precentral gyrus that TMS excites (Siebner et al. 2022, Clin Neurophysiol 140:59).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from drivers.simulated.random_streams import Purpose, random_stream
from drivers.simulated.settings import CortexSettings
from rt_engine.errors import SettingsError
from rt_engine.field.placement import Floats
from rt_engine.field.subject_file import Subject
from rt_engine.muscles import ARTICLE_MUSCLES

MNI_HAND_KNOB_MM = (-37.0, -23.0, 57.0)
"""Hand knob (Yousry 1997, Brain 120:141) of the left hemisphere in MNI space, read off the default subject's BA4; the
right one is its mirror image."""

MEDIAL_MM: dict[str, float] = {
    "AbPB": -4.0, "AdPB": -3.0, "FDI": 0.0, "3Lum": 2.0, "3DI": 2.5, "ADM": 4.5, "FDM": 5.0,
    "FDS": 6.5, "EI": 7.0, "EDC": 8.0, "FCR": 9.0, "ECR": 10.0, "FCU": 11.0, "ECU": 12.0, "BRD": 14.0,
}  # fmt: skip
"""How far along the ribbon towards the midline each muscle's patch lies from the hand knob: thumb, fingers, wrist,
elbow (Penfield's order); the spacing is chosen so that hand and forearm overlap."""

INTRINSIC_HAND = ("FDI", "3DI", "3Lum", "AbPB", "AdPB", "ADM", "FDM")
"""Muscles inside the hand; the others lie in the forearm."""

HAND_THRESHOLD, FOREARM_THRESHOLD = (0.95, 1.08), (0.98, 1.15)
"""Ranges of the thresholds of the other muscles, as shares of the FDI's."""

HAND_MAXIMUM, FOREARM_MAXIMUM = (0.3, 1.0), (0.15, 0.6)
"""Ranges of the largest MEPs of the other muscles, as shares of the FDI's."""

PLACE_SD_MM = 1.5
"""How far a patch deviates from that order in one person, SD."""

SECONDARY_SHARE = 0.4
"""A secondary patch has at most this share of the first one's weight."""

SECONDARY_MM = (6.0, 15.0)
"""Distance between a muscle's two patches."""

RIBBON_MM = 25.0
"""Voxels this near to the hand knob give the ribbon's local direction."""

WEIGHT_CUT = 1e-2
"""Weights below this share of the patch's largest are zero: they change nothing and cost time."""


@dataclass(frozen=True, eq=False)
class MotorCortex:
    """What one simulated person's motor cortex is.

    Attributes
    ----------
    weight
        (15, V) float64; each muscle's sum is 1. Muscles in the article's order here and below.
    threshold_v_per_m
        (15,) float64, theta.
    width_v_per_m
        (15,) float64, beta times theta.
    maximum_uv
        (15,) float64, MEP when everything is recruited.
    center_mm
        (15, 3) float64, centres of the first patches.
    """

    weight: Floats
    threshold_v_per_m: Floats
    width_v_per_m: Floats
    maximum_uv: Floats
    center_mm: Floats

    def recruited(self, field_v_per_m: NDArray[np.floating], excitability_ln: Floats) -> Floats:
        """Compute the recruited share of each muscle.

        Parameters
        ----------
        field_v_per_m
            (n, V), magnitude of the E-field at the voxels.
        excitability_ln
            (n, 15), natural logarithm of g.

        Returns
        -------
        numpy.ndarray
            (n, 15) float64 in [0, 1].
        """
        gain = np.exp(excitability_ln)
        recruited = np.empty(gain.shape)
        for muscle, weight in enumerate(self.weight):
            used = np.flatnonzero(weight)
            drive = gain[:, muscle, None] * np.take(field_v_per_m, used, axis=1)
            drive = (drive - self.threshold_v_per_m[muscle]) / self.width_v_per_m[muscle]
            # No matrix product, and rows side by side in memory: so a pulse alone gives the same bits as among others.
            recruited[:, muscle] = (expit(drive) * weight[used]).sum(axis=1)
        return recruited


def make_motor_cortex(subject: Subject, settings: CortexSettings, subject_seed: int) -> MotorCortex:
    """Draw one person's motor cortex.

    Parameters
    ----------
    subject
        Anatomy: voxels of BA4, hemisphere, space.
    settings
        Patches, thresholds, largest MEP.
    subject_seed
        Of the person.

    Returns
    -------
    MotorCortex

    Raises
    ------
    SettingsError
        If the hand knob's place is neither given nor known, or lies far from BA4.
    """
    voxel_mm = subject.voxel_mm
    knob_mm = hand_knob_mm(subject, settings)
    medial = _medial_direction(voxel_mm, knob_mm, subject)
    rng = random_stream(subject_seed, Purpose.PATCHES)
    weight = np.empty((len(ARTICLE_MUSCLES), len(voxel_mm)))
    center_mm = np.empty((len(ARTICLE_MUSCLES), 3))
    for row, muscle in enumerate(ARTICLE_MUSCLES):
        along_mm = MEDIAL_MM[muscle] + rng.normal(0.0, PLACE_SD_MM)
        center_mm[row] = voxel_mm[np.linalg.norm(voxel_mm - (knob_mm + along_mm * medial), axis=1).argmin()]
        share = rng.uniform(0.0, SECONDARY_SHARE)
        distance_mm = np.linalg.norm(voxel_mm - center_mm[row], axis=1)
        candidates = np.flatnonzero((distance_mm >= SECONDARY_MM[0]) & (distance_mm <= SECONDARY_MM[1]))
        second_mm = voxel_mm[rng.choice(candidates)] if candidates.size else center_mm[row]
        patch = _patch(voxel_mm, center_mm[row], subject.sphere_center_mm, settings)
        second = _patch(voxel_mm, second_mm, subject.sphere_center_mm, settings)
        weight[row] = (1.0 - share) * patch + share * second
    threshold, maximum = _thresholds_and_maxima(settings, subject_seed)
    return MotorCortex(weight, threshold, settings.beta_share * threshold, maximum, center_mm)


def hand_knob_mm(subject: Subject, settings: CortexSettings) -> Floats:
    """Return the place of the hand knob, (3,) float64, mm in the subject's space.

    Raises
    ------
    SettingsError
        If it is neither given nor known, or lies more than 10 mm from BA4.
    """
    if settings.hand_knob_mm is not None:
        knob = np.array(settings.hand_knob_mm, np.float64)
    elif subject.space.startswith("MNI"):
        knob = np.array(MNI_HAND_KNOB_MM)
        if subject.hemisphere == "right":
            knob[0] = -knob[0]
    else:
        raise SettingsError(
            f"the hand knob of {subject.name!r} is not known, since its space is {subject.space!r} and not MNI; "
            "set hand_knob_mm to its place in that space"
        )
    nearest_mm = float(np.linalg.norm(subject.voxel_mm - knob, axis=1).min())
    if nearest_mm > 10.0:
        raise SettingsError(
            f"hand_knob_mm {knob.tolist()} lies {nearest_mm:.0f} mm from BA4 of {subject.name!r}; "
            "expected a place on it"
        )
    return knob


def _medial_direction(voxel_mm: Floats, knob_mm: Floats, subject: Subject) -> Floats:
    """Return the ribbon's direction at the hand knob, (3,), towards the midline."""
    near = voxel_mm[np.linalg.norm(voxel_mm - knob_mm, axis=1) < RIBBON_MM]
    _, _, axes = np.linalg.svd(near - near.mean(axis=0), full_matrices=False)
    direction = axes[0]
    midline = 1.0 if subject.hemisphere == "left" else -1.0
    return direction * np.copysign(1.0, direction[0] * midline)


def _patch(voxel_mm: Floats, center_mm: Floats, sphere_center_mm: Floats, settings: CortexSettings) -> Floats:
    """Return a patch's weights, (V,) float64, sum 1."""
    aside = ((voxel_mm - center_mm) ** 2).sum(axis=1) / settings.patch_mm**2
    height_mm = np.linalg.norm(voxel_mm - sphere_center_mm, axis=1)
    logarithm = -0.5 * aside + height_mm / settings.crown_mm
    patch = np.exp(logarithm - logarithm.max())
    patch[patch < WEIGHT_CUT] = 0.0
    return patch / patch.sum()


def _thresholds_and_maxima(settings: CortexSettings, subject_seed: int) -> tuple[Floats, Floats]:
    """Draw theta and the largest MEP; the FDI has the settings' own, since it defines the resting motor threshold."""
    rng = random_stream(subject_seed, Purpose.THRESHOLDS)
    threshold = np.empty(len(ARTICLE_MUSCLES))
    maximum = np.empty(len(ARTICLE_MUSCLES))
    for row, muscle in enumerate(ARTICLE_MUSCLES):
        hand = muscle in INTRINSIC_HAND
        threshold[row] = settings.theta_v_per_m * rng.uniform(*(HAND_THRESHOLD if hand else FOREARM_THRESHOLD))
        maximum[row] = settings.maximum_uv * rng.uniform(*(HAND_MAXIMUM if hand else FOREARM_MAXIMUM))
    fdi = ARTICLE_MUSCLES.index("FDI")
    threshold[fdi], maximum[fdi] = settings.theta_v_per_m, settings.maximum_uv
    return threshold, maximum

"""The tracked coil's own E-field in the window: how the estimate agrees with it, in words, and as a map beside it.

Pure. The engine computes the field from the coil's pose and the subject's basis; here it is only shown.
"""

from dataclasses import replace

import numpy as np

from tools.display.received import ReceivedGeometry, ReceivedMap
from tools.display.state import DisplayState
from tools.display.status import Sign
from tools.display.words import computed_field_reason

LABEL = "Coil's own field"


def coil_sign(state: DisplayState, now: float) -> Sign:
    """Say how the estimate agrees with the field computed from the tracked coil, or why there is none."""
    shown = state.map
    if shown is None:
        return Sign(LABEL, "–", "no map yet", "calm")
    header = shown.header
    if state.map_standing(now).kind == "old":
        return Sign(LABEL, "–", f"old map, of pulse {header.pulse}", "calm")
    if shown.computed_v_per_m is None:
        return Sign(LABEL, "–", computed_field_reason(header.computed_field_reason), "calm")
    agreement = header.computed_field_agreement
    if agreement is None:
        return Sign(LABEL, "–", "not compared with the map", "calm")
    word = "–" if agreement.correlation is None else f"r {agreement.correlation:.2f}".replace("-", "\u2212")
    return Sign(LABEL, word, f"CoG {agreement.cog_distance_mm:.1f} mm off, NRMSE {agreement.nrmse:.2f}", "good")


def coil_view(shown: ReceivedMap, geometry: ReceivedGeometry) -> ReceivedMap:
    """Return the computed field in the place of the estimate, on the estimate's scale.

    Parameters
    ----------
    shown
        The map of a pulse, with or without computed field.
    geometry
        Its voxels.

    Returns
    -------
    ReceivedMap
        Its field is NaN where none was computed; its centre of gravity has no covariance, and the spread is NaN.
    """
    unknown = np.full(geometry.n_voxels, np.nan, dtype=np.float32)
    cog_mm, field = np.full(3, np.nan), unknown
    computed = shown.computed_v_per_m
    if computed is not None:
        field = (computed / np.float32(shown.header.scale_v_per_m)).astype(np.float32)
        weight = np.where(np.isfinite(computed), computed, 0.0).astype(np.float64)
        if weight.sum() > 0.0:
            cog_mm = weight @ geometry.voxel_mm / weight.sum()
    return replace(shown, field=field, spread=unknown, cog_mm=cog_mm, cog_cov_mm2=np.full((3, 3), np.nan))

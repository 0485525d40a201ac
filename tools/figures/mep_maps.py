"""Figure: how large each muscle's MEP is, by where the coil stands."""

from typing import TYPE_CHECKING

import numpy as np

from drivers.simulated.calibration import calibrate, didt_a_per_s
from drivers.simulated.cortex import make_motor_cortex
from drivers.simulated.field_source import covered_fields, make_field_source
from drivers.simulated.settings import SimulatedSubjectSettings
from rt_engine.field.placement import coil_pose, move
from rt_engine.field.subject_file import Subject
from rt_engine.muscles import ARTICLE_MUSCLES
from tools.figures.canvas import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HALF_MM, STEP_MM = 30.0, 2.5
"""The article's square of 6 x 6 cm around the hotspot, and the map's resolution."""

PERCENT_RMT = 120.0

RANGE_UV = (10.0, 1000.0)
"""Ends of the colour scale; 50 uV, an MEP's threshold, is drawn as a line."""

ROWS, COLUMNS = 3, 5


def mep_maps(subject: Subject) -> "Figure":
    """Draw the noise-free MEP of the 15 muscles over a square of coil positions.

    Parameters
    ----------
    subject
        Anatomy and field of the simulated person; person 0, default settings.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.colors import LogNorm

    settings = SimulatedSubjectSettings()
    source = make_field_source(subject, settings.field)
    cortex = make_motor_cortex(subject, settings.cortex, settings.subject_seed)
    calibration = calibrate(cortex, source, settings.cortex)
    ticks = np.arange(-HALF_MM, HALF_MM + STEP_MM / 2.0, STEP_MM)
    places = [(right, forward) for forward in ticks.tolist() for right in ticks.tolist()]
    pose = np.stack(
        [coil_pose(source.head, move(calibration.hotspot, *place, subject.scalp_radius_mm)) for place in places]
    )
    percent_mso = PERCENT_RMT / 100.0 * calibration.rmt_percent_mso
    didt = np.full(len(pose), didt_a_per_s(source.coil, percent_mso))
    field = covered_fields(source, pose, didt, lambda row: f"the map's place {places[row]}")
    recruited = cortex.recruited(field, np.zeros((len(pose), len(ARTICLE_MUSCLES))))
    mep_uv = np.maximum(cortex.maximum_uv * recruited, RANGE_UV[0])

    figure = new_figure(8.6, 5.6)
    panels = figure.subplots(ROWS, COLUMNS, sharex=True, sharey=True)
    image = None
    for muscle, panel in enumerate(panels.flat):
        amplitude_uv = mep_uv[:, muscle].reshape(len(ticks), len(ticks))
        edge_mm = HALF_MM + STEP_MM / 2.0
        image = panel.imshow(
            amplitude_uv,
            origin="lower",
            extent=(-edge_mm, edge_mm, -edge_mm, edge_mm),
            norm=LogNorm(*RANGE_UV),
            cmap="viridis",
        )
        panel.contour(ticks, ticks, amplitude_uv, levels=[50.0], colors="white", linewidths=1.0)
        panel.plot(0.0, 0.0, "+", color="red", markersize=7)
        panel.set_title(ARTICLE_MUSCLES[muscle], fontsize=9, pad=3)
        panel.set_xticks([-30, 0, 30])
        panel.set_yticks([-30, 0, 30])
        panel.tick_params(labelsize=7)
    figure.supxlabel("coil right of the FDI hotspot (mm)", fontsize=9)
    figure.supylabel("coil in front of the FDI hotspot (mm)", fontsize=9)
    assert image is not None
    bar = figure.colorbar(image, ax=panels, shrink=0.8, extend="both")
    bar.set_label(f"MEP at {PERCENT_RMT:.0f} % RMT (µV), without variability; white line: 50 µV", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure

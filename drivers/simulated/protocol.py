"""The list of stimulations: a regular grid around the hotspot and the operator's own loci, at several intensities.

As in the article, II.A: one map per intensity; each map has one pulse on every point of a 7 x 7 grid with 1 cm spacing
around the FDI hotspot, and the rest where the operator wants to know more, inside the same square. Short lists, which
the article does not have, give half of a map's pulses to points drawn from the grid.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivers.simulated.random_streams import Purpose, random_stream
from drivers.simulated.settings import ProtocolSettings
from rt_engine.field.placement import Floats, coil_pose, move
from rt_engine.field.subject_file import Subject

PULSES_PER_CLUSTER = 5
"""Pulses that the operator gives around one locus before going on."""

CLUSTER_SCATTER_MM = 3.0
"""How far those pulses scatter about the locus, SD per axis."""


@dataclass(frozen=True, eq=False)
class Protocol:
    """Stimulations in the order in which they are given.

    Attributes
    ----------
    pose
        (n, 4, 4) float64, where the coil is; coil frame to scanner space, mm.
    pose_navigated
        (n, 4, 4) float64, where the navigation says it is; equal to `pose` without navigation error.
    offset_mm
        (n, 2) float64, planned place relative to the hotspot: right, forward.
    intensity_percent_rmt
        (n,) float64.
    on_grid
        (n,) bool, whether the pulse belongs to the grid.
    """

    pose: Floats
    pose_navigated: Floats
    offset_mm: Floats
    intensity_percent_rmt: Floats
    on_grid: NDArray[np.bool_]


def make_protocol(subject: Subject, hotspot: Floats, settings: ProtocolSettings, seed: int) -> Protocol:
    """Draw the stimulations of one session.

    Parameters
    ----------
    subject
        Gives the sphere and the hemisphere.
    hotspot
        (3,), from the sphere's centre to the FDI hotspot on the scalp.
    settings
        Number of pulses, grid, clusters, jitter.
    seed
        Of the session.

    Returns
    -------
    Protocol
    """
    rng = random_stream(seed, Purpose.PLACEMENTS)
    intensities = rng.permutation(settings.intensities_percent_rmt)
    # As even as the number of pulses allows; the first maps get the odd ones.
    counts = [len(part) for part in np.array_split(np.arange(settings.pulses), len(intensities))]
    offsets, grids = zip(*[_map_offsets(count, settings, rng) for count in counts], strict=True)
    offset_mm = np.concatenate(offsets)
    pose = np.stack([_jittered_pose(subject, hotspot, offset, settings, rng) for offset in offset_mm])
    return Protocol(
        pose=pose,
        pose_navigated=_navigated(pose, settings.navigation_error_mm, seed),
        offset_mm=offset_mm,
        intensity_percent_rmt=np.repeat(intensities, counts),
        on_grid=np.concatenate(grids),
    )


def grid_offsets_mm(settings: ProtocolSettings) -> Floats:
    """Return the grid's points, (grid_points ** 2, 2) float64: right and forward of the hotspot."""
    ticks = (np.arange(settings.grid_points) - (settings.grid_points - 1) / 2.0) * settings.grid_spacing_mm
    right, forward = np.meshgrid(ticks, ticks)
    return np.stack([right.ravel(), forward.ravel()], axis=1)


def _map_offsets(count: int, settings: ProtocolSettings, rng: np.random.Generator) -> tuple[Floats, NDArray[np.bool_]]:
    """Plan one map: points of the grid in random order, then the operator's clusters."""
    grid = rng.permutation(grid_offsets_mm(settings))
    n_grid = min(len(grid), (count + 1) // 2)
    n_operator = count - n_grid
    half_mm = (settings.grid_points - 1) / 2.0 * settings.grid_spacing_mm
    loci = rng.normal(0.0, settings.cluster_sd_mm, (-(-n_operator // PULSES_PER_CLUSTER), 2))
    operator = np.repeat(loci, PULSES_PER_CLUSTER, axis=0)[:n_operator]
    operator = operator + rng.normal(0.0, CLUSTER_SCATTER_MM, operator.shape)
    offsets = np.concatenate([grid[:n_grid], np.clip(operator, -half_mm, half_mm)])
    return offsets, np.arange(count) < n_grid


def _jittered_pose(
    subject: Subject, hotspot: Floats, offset_mm: Floats, settings: ProtocolSettings, rng: np.random.Generator
) -> Floats:
    right_mm, forward_mm = offset_mm + rng.normal(0.0, settings.position_jitter_mm, 2)
    tilt_x, tilt_y = rng.normal(0.0, settings.tilt_jitter_deg, 2)
    return coil_pose(
        subject,
        move(hotspot, right_mm, forward_mm, subject.scalp_radius_mm),
        rotation_deg=rng.normal(0.0, settings.rotation_jitter_deg),
        tilt_deg=(tilt_x, tilt_y),
    )


def _navigated(pose: Floats, error_mm: float, seed: int) -> Floats:
    error = random_stream(seed, Purpose.NAVIGATION).normal(0.0, 1.0, (len(pose), 3)) * error_mm
    # Along the scalp only: a navigated coil that dives into the head would be noticed.
    inward = pose[:, :3, 2]
    error -= (error * inward).sum(axis=1, keepdims=True) * inward
    navigated = pose.copy()
    navigated[:, :3, 3] += error
    return navigated

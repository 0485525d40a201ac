"""How the simulated subject compares with people, and what the baselines reach on it: `m2m bench subject`."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from drivers.simulated.dataset import offline_set
from drivers.simulated.figures import measure_figures
from drivers.simulated.session import make_session
from drivers.simulated.settings import SimulatedSubjectSettings
from rt_engine.field.subject_file import Subject
from trainer.baselines import DEFAULT_FLOOR_UV, Kind, fit_regressor, predict_field
from trainer.folds import random_folds
from trainer.preprocessing import prepare
from trainer.validation import INNER_FOLDS, summarise

BASELINES: tuple[Kind, ...] = ("kernel-ridge", "mean-map")
"""Baselines that are reported; `m2m fit-baseline` validates all of them, by the same folds."""

Told = Callable[[str, int, int], None]
"""Called with the stage's name, what is done of it and what there is of it."""


class SubjectFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the bench measures; JSON keys as other programs read them."""

    mask_fraction: float
    """Share of the box that is BA4."""
    fdi_log10_sd_threshold: float
    """SD of log10 of the FDI's amplitude at the hotspot at RMT, without noise floor."""
    fdi_log10_sd_saturation: float
    """The same at 240 % RMT."""
    fdi_uv_120: float
    """Median amplitude of the FDI at the hotspot at 120 % RMT, uV."""
    zero_fraction: float
    """Share of all amplitudes of the protocol, all muscles, below 50 uV."""
    kernel_ridge_nrmse: float
    """Mean over the stimulations, in folds stratified by intensity."""
    mean_map_nrmse: float
    """The same for the mean of the training maps."""
    rmt_percent_mso: float
    """Resting motor threshold, percent of the stimulator's output."""
    field: str
    """Where the E-fields came from."""
    pulses: int
    folds: int
    dataset_s: float
    """Wall-clock time that making the data set took, s."""


@dataclass(frozen=True)
class Aim:
    """Where a figure should lie, and who says so."""

    name: str
    unit: str
    low: float
    high: float
    source: str


AIMS: tuple[Aim, ...] = (
    Aim("mask_fraction", "", 0.015, 0.025, "article: about 2 % of the box"),
    Aim("fdi_log10_sd_threshold", "", 0.4, 0.75, "Goetz 2014, 2019"),
    Aim("fdi_log10_sd_saturation", "", 0.0, 0.2, "Goetz 2014, 2019"),
    Aim("fdi_uv_120", "uV", 300.0, 1500.0, "usual at 120 % RMT"),
    Aim("zero_fraction", "", 0.3, 0.6, "article: many small and zero MEPs"),
    Aim("kernel_ridge_nrmse", "", 0.15, 0.22, "prototypes; article's networks .156 to .213"),
    Aim("mean_map_nrmse", "", 0.2, 0.3, "prototypes"),
)
"""Figures that have a range to lie in; a test holds the defaults to them."""


def measure_subject(
    subject: Subject, settings: SimulatedSubjectSettings, *, n_folds: int, with_emg: bool, told: Told
) -> SubjectFigures:
    """Simulate one session and measure it.

    Parameters
    ----------
    subject : Subject
        Whose anatomy and field.
    settings : SimulatedSubjectSettings
        Everything else, the number of pulses included.
    n_folds : int
        Folds of the baselines' validation, at least 2.
    with_emg : bool
        Measure the amplitudes in simulated EMG, as a live session does.
    told : callable
        Told how far it is.

    Returns
    -------
    SubjectFigures

    Raises
    ------
    SettingsError
        The session cannot be made.
    DataError
        There are too few stimulations for the baselines.
    """
    begin = time.perf_counter()
    session = make_session(subject, settings, lambda done, of: told("E-fields", done, of))
    told("EMG" if with_emg else "amplitudes", 0, 1)
    data = offline_set(session, with_emg=with_emg)
    dataset_s = time.perf_counter() - begin
    figures = measure_figures(session, data)
    training = prepare(data, floor_uv=DEFAULT_FLOOR_UV)
    told("folds", 0, n_folds)
    estimated: dict[str, NDArray[np.float64]] = {kind: np.empty_like(training.field) for kind in BASELINES}
    with threadpool_limits(1):  # the same bits on any number of cores
        for done, (fit, test) in enumerate(random_folds(training, n_folds), start=1):
            part = training.rows(fit)
            for kind in BASELINES:
                regressor = fit_regressor(
                    kind, part.amplitudes_uv, part.field, floor_uv=DEFAULT_FLOOR_UV, inner_folds=INNER_FOLDS
                )
                estimated[kind][test] = predict_field(regressor, training.amplitudes_uv[test])
            told("folds", done, n_folds)
    nrmse = {kind: summarise(training, estimated, kind)["nrmse_mean"] for kind in BASELINES}
    n_box = subject.box_shape[0] * subject.box_shape[1] * subject.box_shape[2]
    return SubjectFigures(
        mask_fraction=subject.n_voxels / n_box,
        fdi_log10_sd_threshold=figures.fdi_sd_log10_at_rmt,
        fdi_log10_sd_saturation=figures.fdi_sd_log10_at_240,
        fdi_uv_120=figures.fdi_median_uv_at_120,
        zero_fraction=figures.share_below_50_uv,
        kernel_ridge_nrmse=nrmse["kernel-ridge"],
        mean_map_nrmse=nrmse["mean-map"],
        rmt_percent_mso=figures.rmt_percent_mso,
        field=session.source.kind,
        pulses=session.n_pulses,
        folds=n_folds,
        dataset_s=dataset_s,
    )

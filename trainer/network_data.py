"""From a training set to what the article's networks see: which stimulations, scaled how (article, II.C).

Every choice that the article leaves open, or that its authors' code makes otherwise, is a field of
`NetworkPreprocessing`. Nothing here needs TensorFlow. The other models' preprocessing is `trainer.preprocessing`, from
which this one starts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from rt_engine.errors import DataError
from rt_engine.field.stimulation_file import StimulationSet
from trainer.baselines import ConditionalMean
from trainer.preprocessing import MIN_FIELD_V_PER_M, MIN_STIMULATIONS, TrainingSet, prepare

NOISE_FLOOR_UV = 5.0
"""Floor of the logarithm where small MEPs are kept, uV: below the noise of any recording, and keeps it finite."""

MAX_LEVELS = 10
"""More different intensities than this are no levels of a protocol; they are counted in steps of 10 % RMT."""


class NetworkPreprocessing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Choices on the way from microvolts and V/m to the numbers in [0, 1] that a network sees.

    The defaults are the article's, with three exceptions. Small MEPs are kept, and the scale is logarithmic: on the
    simulated subject maps are then better (`docs/article-and-us.md`). And scales come from the training fold alone:
    those of all data look at the stimulations that a model is tested on.
    """

    floor_uv: Annotated[float, msgspec.Meta(gt=0.0)] = 50.0
    """Amplitudes below it are no MEPs, uV (II.A)."""
    small_meps: Literal["zero", "keep"] = "keep"
    """What an amplitude below the floor becomes: zero, or the number it is."""
    mep_scale: Literal["linear", "log"] = "log"
    """linear: a / largest. log: log10(max(a, floor) / floor) / log10(largest / floor); the floor is `floor_uv` where
    small MEPs become zero, `NOISE_FLOOR_UV` where they are kept."""
    zero_tolerance: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 1e-3
    """A stimulation all of whose MEPs, scaled linearly and zero below `floor_uv`, are below counts as without response,
    whatever the next settings make of small MEPs."""
    keep_zeros: bool = False
    """Keep stimulations without response (as the authors' code does for subject 3)."""
    min_field_v_per_m: Annotated[float, msgspec.Meta(ge=0.0)] = MIN_FIELD_V_PER_M
    """Stimulations whose field stays below this in all of BA4 are outliers, V/m."""
    fitted_on: Literal["training-fold", "all"] = "training-fold"
    """Which stimulations the scales are taken from; "all" is the article's, and looks at the held-out ones."""


@dataclass(frozen=True, eq=False)
class MepScaling:
    """From amplitudes to a network's input; fitted, and what an exported graph repeats.

    Attributes
    ----------
    settings : NetworkPreprocessing
        How it was fitted.
    scale_uv : numpy.ndarray
        (m,) float64, each muscle's largest amplitude, rounded to float32 as the model file keeps it, uV.
    mean : numpy.ndarray
        (m,) float64, mean of the scaled amplitudes.
    covariance : numpy.ndarray
        (m, m) float64, their covariance, shrunk after Ledoit and Wolf, hence never singular.
    """

    settings: NetworkPreprocessing
    scale_uv: NDArray[np.float64]
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]

    def transform(self, amplitudes_uv: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scale amplitudes, and fill in what is missing by its mean given the other muscles.

        Parameters
        ----------
        amplitudes_uv : numpy.ndarray
            (n, m), uV; NaN where missing.

        Returns
        -------
        numpy.ndarray
            (n, m) float64 without NaN: 1 at a muscle's largest amplitude of the data it was fitted to; held-out ones
            may be larger.

        Raises
        ------
        DataError
            If the number of muscles is another.
        """
        amplitudes_uv = np.asarray(amplitudes_uv, dtype=np.float64)
        if amplitudes_uv.ndim != 2 or amplitudes_uv.shape[1] != len(self.scale_uv):
            raise DataError(
                f"the amplitudes have shape {amplitudes_uv.shape}; expected (stimulations, {len(self.scale_uv)} "
                "muscles)"
            )
        filling = ConditionalMean()
        filling.covariance_ = self.covariance
        return filling.transform(scaled(amplitudes_uv, self.scale_uv, self.settings) - self.mean) + self.mean


def scaled(
    amplitudes_uv: NDArray[np.float64], scale_uv: NDArray[np.float64], settings: NetworkPreprocessing
) -> NDArray[np.float64]:
    """Scale amplitudes per muscle; parameters as of `MepScaling`. NaN stays NaN.

    Returns
    -------
    numpy.ndarray
        (n, m) float64, not negative.
    """
    if settings.mep_scale == "log":
        floor = log_floor_uv(settings)
        return np.log10(np.maximum(amplitudes_uv, floor) / floor) / np.log10(scale_uv / floor)
    if settings.small_meps == "zero":
        amplitudes_uv = np.where(amplitudes_uv < settings.floor_uv, 0.0, amplitudes_uv)
    return amplitudes_uv / scale_uv


def log_floor_uv(settings: NetworkPreprocessing) -> float:
    """Return the amplitude that the logarithmic scale maps to 0, uV."""
    return settings.floor_uv if settings.small_meps == "zero" else NOISE_FLOOR_UV


def fit_scaling(
    amplitudes_uv: NDArray[np.float64], settings: NetworkPreprocessing, *, muscles: Sequence[str] = ()
) -> MepScaling:
    """Find each muscle's scale, and how the muscles vary together.

    Parameters
    ----------
    amplitudes_uv : numpy.ndarray
        (n, m), uV; NaN where missing.
    settings : NetworkPreprocessing
        The choices.
    muscles : sequence of str
        The m names, for messages.

    Returns
    -------
    MepScaling

    Raises
    ------
    DataError
        If there are no stimulations, or a muscle never responds.
    """
    amplitudes_uv = np.asarray(amplitudes_uv, dtype=np.float64)
    if amplitudes_uv.ndim != 2 or not amplitudes_uv.size:
        raise DataError(
            f"there are no amplitudes to take the scale from (shape {amplitudes_uv.shape}): the fold is empty. "
            "Use fewer folds, a smaller validation part, or more stimulations."
        )
    names = tuple(muscles) or tuple(f"muscle {k + 1}" for k in range(amplitudes_uv.shape[1]))
    # fmax ignores NaN: a muscle without any usable amplitude never responds.
    largest = np.fmax.reduce(np.fmax(amplitudes_uv, 0.0), axis=0)
    silent = [names[k] for k in np.flatnonzero(~(largest > max(settings.floor_uv, log_floor_uv(settings))))]
    if silent:
        raise DataError(
            f"{', '.join(silent)} never responded: no amplitude above {settings.floor_uv:g} uV in "
            f"{len(amplitudes_uv)} stimulations. Check the electrodes, or leave the muscle out of the data set."
        )
    scale_uv = largest.astype(np.float32).astype(np.float64)
    values = scaled(amplitudes_uv, scale_uv, settings)
    mean = np.nanmean(values, axis=0)
    return MepScaling(settings, scale_uv, mean, ConditionalMean().fit(values - mean).covariance_)


@dataclass(frozen=True, eq=False)
class Selection:
    """Which stimulations of a training set a network is fitted to and judged on.

    Attributes
    ----------
    kept : numpy.ndarray
        (n,) bool, over the rows of the training set.
    counts : dict of float to tuple of int
        Intensity, % of RMT, in ascending order -> chosen and applied (Table I). Applied counts also what
        `trainer.preprocessing.prepare` left out. Stimulations of unknown intensity are under NaN, last.
    notes : tuple of str
        What was left out, for the user.
    """

    kept: NDArray[np.bool_]
    counts: dict[float, tuple[int, int]]
    notes: tuple[str, ...]

    def apply(self, training: TrainingSet) -> TrainingSet:
        """Return the kept stimulations."""
        return training.rows(np.flatnonzero(self.kept))


def prepare_for_networks(data: StimulationSet, settings: NetworkPreprocessing) -> TrainingSet:
    """Clean a data set by `trainer.preprocessing.prepare` with a network's limits; raises what that raises."""
    return prepare(data, floor_uv=settings.floor_uv, min_field_v_per_m=settings.min_field_v_per_m)


def select_stimulations(training: TrainingSet, settings: NetworkPreprocessing) -> Selection:
    """Leave out stimulations that no muscle answered (II.C).

    Parameters
    ----------
    training : TrainingSet
        All stimulations of a subject.
    settings : NetworkPreprocessing
        The choices.

    Returns
    -------
    Selection

    Raises
    ------
    DataError
        If a muscle never responds, or fewer than `MIN_STIMULATIONS` are left.
    """
    y = training.amplitudes_uv
    if not (np.nan_to_num(y) > settings.floor_uv).any():
        raise DataError(
            f"none of {len(training)} stimulations made any muscle respond with more than {settings.floor_uv:g} uV. "
            "Check the unit of the amplitudes, the electrodes and the trigger, or lower preprocessing.floor_uv."
        )
    # A response is one whatever becomes of small amplitudes afterwards: the same stimulations are left out either way.
    as_published = msgspec.structs.replace(settings, small_meps="zero", mep_scale="linear")
    values = scaled(y, fit_scaling(y, settings, muscles=training.muscles).scale_uv, as_published)
    kept: NDArray[np.bool_] = np.full(len(training), settings.keep_zeros)
    kept |= (np.nan_to_num(values) >= settings.zero_tolerance).any(axis=1)
    notes = list(training.notes)
    if not kept.all():
        notes.append(f"{(~kept).sum()} stimulations without a response in any muscle left out")
    if kept.sum() < MIN_STIMULATIONS:
        raise DataError(
            f"{kept.sum()} of {len(training)} stimulations have a response in any muscle; a model needs at least "
            f"{MIN_STIMULATIONS}. Record or simulate more, or set preprocessing.keep_zeros = true."
        )
    applied = np.concatenate([training.intensity_percent_rmt, training.left_out_percent_rmt])
    of_protocol = len(np.unique(np.round(applied[np.isfinite(applied)]))) <= MAX_LEVELS
    chosen = _counted(training.intensity_percent_rmt[kept], of_protocol)
    counts = {level: (chosen.get(level, 0), number) for level, number in _counted(applied, of_protocol).items()}
    return Selection(kept, counts, tuple(notes))


def _counted(intensity_percent_rmt: NDArray[np.float64], of_protocol: bool) -> dict[float, int]:
    """Count stimulations by intensity, in ascending order."""
    known = intensity_percent_rmt[np.isfinite(intensity_percent_rmt)]
    values, numbers = np.unique(np.round(known, 0 if of_protocol else -1), return_counts=True)
    counts = {float(value): int(number) for value, number in zip(values, numbers, strict=True)}
    if len(known) < len(intensity_percent_rmt):
        counts[math.nan] = len(intensity_percent_rmt) - len(known)
    return counts


def split_validation(
    training: TrainingSet, fraction: float, seed: int = 0
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Set stimulations apart at random, with their share of every intensity.

    Parameters
    ----------
    training : TrainingSet
        The stimulations.
    fraction : float
        Part to set apart, in [0, 1); 0 sets none apart.
    seed : int
        Chooses them.

    Returns
    -------
    fit, apart : numpy.ndarray
        Row numbers, ascending.

    Raises
    ------
    DataError
        If a fraction above 0 leaves nothing to fit to or nothing apart.
    """
    n = len(training)
    number = round(n * fraction)
    if (fraction > 0 and number == 0) or number >= n:
        raise DataError(
            f"a validation part of {fraction:g} of {n} stimulations is {number} of them; expected at least one, and "
            "some to train on. Change fitting.validation_fraction; 0 does without."
        )
    shuffled = np.random.default_rng(seed).permutation(n)
    # In the order of intensity (a stable sort: random within a level), every (n / number)-th row is taken.
    in_order = shuffled[np.argsort(np.round(training.intensity_percent_rmt[shuffled]), kind="stable")]
    taken = np.diff(np.floor(np.arange(n + 1) * number / n)) > 0
    return np.sort(in_order[~taken]), np.sort(in_order[taken])

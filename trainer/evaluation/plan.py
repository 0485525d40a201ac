"""From data sets and settings to jobs, and from their results to what `results.Evaluation` holds.

The article's preprocessing comes first, the folds are made of what it keeps, and every method gets the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import numpy.typing as npt

from rt_engine.edges.foreign_files import read_foreign_stimulation_set
from rt_engine.errors import DataError, SettingsError
from rt_engine.field.subject_file import file_sha256
from trainer.architectures.settings import MODELS, ModelName
from trainer.baselines import DEFAULT_FLOOR_UV, KINDS
from trainer.evaluation.forward_meps import from_uv
from trainer.evaluation.jobs import CONSTANT, FORWARD_METHODS, Job, JobResult, digest
from trainer.evaluation.results import NOT_TESTED, Evaluation
from trainer.folds import FoldKind, Folds, block_folds, random_folds
from trainer.network_data import (
    Selection,
    fit_scaling,
    prepare_for_networks,
    scaled,
    select_stimulations,
)
from trainer.preprocessing import TrainingSet
from trainer.training_settings import TrainingSettings
from trainer.validation import INNER_FOLDS


class EvaluationSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is evaluated, and how."""

    models: tuple[ModelName, ...] = MODELS
    """The article's models beside the baselines, in the article's order."""
    forward: bool = True
    """Train M2M-Net too, from the field to the MEPs, in the random folds."""
    n_folds: int = 10
    kinds: tuple[FoldKind, ...] = ("random", "blocks")
    """Kinds of folds."""
    fold_subset: tuple[int, ...] | None = None
    """Only these folds, counted from 0; None runs all."""
    seed: int = 0
    """Makes the folds, and is the seed of every method."""
    training: TrainingSettings = TrainingSettings()
    """Of the networks; nothing of a fold's training rows is set apart, whatever `validation_fraction` says."""


@dataclass(frozen=True, eq=False)
class PreparedSet:
    """A data set, ready for jobs.

    Attributes
    ----------
    name : str
        Of the data set.
    file_sha256 : str
        Of its file.
    training : TrainingSet
        The stimulations that are kept.
    sha256 : str
        `digest` of them.
    selection : Selection
        Which they are.
    folds : dict of str to list
        Kind of folds -> folds, as far as they can be made.
    notes : tuple of str
        What is not as asked for.
    """

    name: str
    file_sha256: str
    training: TrainingSet
    sha256: str
    selection: Selection
    folds: dict[FoldKind, Folds]
    notes: tuple[str, ...]


def chosen_models(words: Sequence[str]) -> tuple[ModelName, ...]:
    """Return the models that words name: ``all``, ``none``, or names with commas between, in the article's order.

    Raises
    ------
    SettingsError
        If there is no such model.
    """
    names = [name.strip() for word in words for name in word.split(",") if name.strip()]
    if names == ["all"]:
        return MODELS
    if names == ["none"]:
        return ()
    unknown = [name for name in names if name not in MODELS]
    if unknown or not names:
        raise SettingsError(
            f"--models names {', '.join(unknown) or 'nothing'}; expected all, none, or some of {', '.join(MODELS)} "
            f"(the baselines {', '.join(KINDS)} always run)"
        )
    return tuple(model for model in MODELS if model in names)


def check_settings(settings: EvaluationSettings) -> None:
    """Check what needs no data.

    Raises
    ------
    SettingsError
        If the folds asked for cannot be.
    """
    if not 2 <= settings.n_folds <= 50:
        raise SettingsError(f"--folds is {settings.n_folds}; expected 2 to 50")
    if unknown := set(settings.kinds) - set(get_args(FoldKind)):
        raise SettingsError(f"--only is {', '.join(sorted(unknown))}; expected random or blocks")
    subset = settings.fold_subset
    if subset is not None and (not subset or not set(subset) <= set(range(settings.n_folds))):
        raise SettingsError(
            f"--fold-subset names the folds {', '.join(map(str, subset)) or 'none'}; expected some of 0 to "
            f"{settings.n_folds - 1}"
        )


def prepare_set(path: Path, settings: EvaluationSettings) -> PreparedSet:
    """Read a data set, choose stimulations and make folds.

    Parameters
    ----------
    path : Path
        `*.stim.h5`.
    settings : EvaluationSettings
        What is evaluated.

    Returns
    -------
    PreparedSet

    Raises
    ------
    DataError, FileFormatError
        If the file or its data cannot be used, or no kind of folds that was asked for can be made.
    """
    preprocessing = settings.training.preprocessing
    whole = prepare_for_networks(read_foreign_stimulation_set(path), preprocessing)
    selection = select_stimulations(whole, preprocessing)
    training = selection.apply(whole)
    notes: list[str] = []
    folds: dict[FoldKind, Folds] = {}
    if "random" in settings.kinds:
        folds["random"] = random_folds(training, settings.n_folds, settings.seed)
        notes += _intensities_missing(training, folds["random"])
    if "blocks" in settings.kinds:
        blocks = block_folds(training, settings.n_folds, settings.seed)
        if blocks is not None:
            folds["blocks"] = blocks
        else:
            notes.append(
                "no folds by place of the coil: too few different poses are known, so how far neighbouring placements "
                "flatter the figures is not known either"
            )
    if not folds:
        raise DataError(f"{path}: {notes[-1]}. Leave --only out, or import the data with its poses.")
    if settings.fold_subset is not None:
        run = ", ".join(map(str, settings.fold_subset))
        were, their = ("was", "its") if len(settings.fold_subset) == 1 else ("were", "their")
        notes.append(
            f"of the folds 0 to {settings.n_folds - 1}, only {run} {were} run: figures are of {their} stimulations only"
        )
    return PreparedSet(
        name=path.name.removesuffix(".h5").removesuffix(".stim"),
        file_sha256=file_sha256(path),
        training=training,
        sha256=digest(training),
        selection=selection,
        folds=folds,
        notes=tuple(notes),
    )


def folds_to_run(prepared: PreparedSet, settings: EvaluationSettings) -> list[tuple[FoldKind, int]]:
    """Return kind and number of every fold that is to be run."""
    subset = settings.fold_subset
    return [
        (kind, number)
        for kind, folds in prepared.folds.items()
        for number in range(len(folds))
        if subset is None or number in subset
    ]


def method_settings(method: str, settings: EvaluationSettings, training: TrainingSettings | None = None) -> Any:
    """Return what a method reads of the settings, as JSON types; `training` where tuning chose others."""
    if method in KINDS:
        return {"floor_uv": DEFAULT_FLOOR_UV, "inner_folds": INNER_FOLDS, "seed": settings.seed}
    found = training or settings.training
    fitting = msgspec.structs.replace(found.fitting, validation_fraction=0.0, seed=settings.seed)
    built: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(found, fitting=fitting))
    if method == CONSTANT:
        return {"preprocessing": built["preprocessing"]}
    return built


def make_job(
    prepared: PreparedSet,
    kind: FoldKind,
    fold: int,
    method: str,
    settings: EvaluationSettings,
    training: TrainingSettings | None = None,
) -> Job:
    """Return the job of a method in a fold; `training` where tuning chose other settings."""
    fit, test = prepared.folds[kind][fold]
    of_method = method_settings(method, settings, training)
    return Job(prepared.name, prepared.sha256, kind, fold, method, fit, test, of_method)


def methods_of(kind: FoldKind, settings: EvaluationSettings) -> tuple[str, ...]:
    """Return all methods that run in a kind of folds."""
    forward = FORWARD_METHODS if settings.forward and kind == "random" else ()
    return (*KINDS, *settings.models, *forward)


def assemble(
    prepared: PreparedSet,
    settings: EvaluationSettings,
    jobs: Sequence[Job],
    results: Mapping[str, JobResult],
    words: Mapping[str, Any],
) -> Evaluation:
    """Put the jobs' results of a data set together.

    Parameters
    ----------
    prepared : PreparedSet
        The data set.
    settings : EvaluationSettings
        What was evaluated.
    jobs : sequence of Job
        Those of this data set's folds.
    results : mapping of str to JobResult
        `Job.key` -> result.
    words : mapping
        More for `Evaluation.settings`, such as what tuning found; JSON types.

    Returns
    -------
    Evaluation
    """
    training, preprocessing = prepared.training, settings.training.preprocessing
    n, v = training.field.shape
    scale_uv = fit_scaling(training.amplitudes_uv, preprocessing, muscles=training.muscles).scale_uv
    fold = {str(kind): np.full(n, NOT_TESTED, np.int64) for kind in prepared.folds}
    field: dict[str, dict[str, npt.NDArray[np.float32]]] = {
        str(kind): {
            method: np.full((n, v), np.nan, np.float32)
            for method in methods_of(kind, settings)
            if method not in FORWARD_METHODS
        }
        for kind in prepared.folds
    }
    with_forward = settings.forward and "random" in prepared.folds
    forward = {name: np.full((n, len(training.muscles)), np.nan) for name in FORWARD_METHODS if with_forward}
    seconds: dict[str, float] = {}
    details: dict[str, dict[str, Any]] = {}
    for job in jobs:
        result = results[job.key]
        fold[job.kind][job.test] = job.fold
        if job.method in FORWARD_METHODS:
            forward[job.method][job.test] = from_uv(result.estimate, scale_uv, preprocessing)
        else:
            field[job.kind][job.method][job.test] = result.estimate
        seconds[job.method] = seconds.get(job.method, 0.0) + result.seconds
        if result.details:
            details.setdefault(job.method, {})[f"{job.kind} {job.fold}"] = result.details
    return Evaluation(
        name=prepared.name,
        training=training,
        selection=prepared.selection,
        fold=fold,
        field=field,
        normalised_meps=scaled(training.amplitudes_uv, scale_uv, preprocessing),
        forward_meps=forward,
        settings={
            "evaluation": msgspec.to_builtins(settings),
            "baselines": method_settings(KINDS[0], settings),
            "data_sha256": prepared.file_sha256,
            "versions": {name: metadata.version(name) for name in _VERSIONS},
            "details": details,
            **words,
        },
        seconds=seconds,
        notes=(*prepared.selection.notes, *prepared.notes),
    )


_VERSIONS = ("m2m-live", "numpy", "scikit-learn", "tensorflow", "keras", "distributed")


def _intensities_missing(training: TrainingSet, folds: Folds) -> list[str]:
    """Say which folds lack an intensity that the data set has."""
    intensity = np.round(training.intensity_percent_rmt)
    levels = np.unique(intensity[np.isfinite(intensity)])
    if len(levels) > 10:  # no levels of a protocol
        return []
    notes = []
    for level in levels:
        lacking = [number for number, (_, test) in enumerate(folds) if not (intensity[test] == level).any()]
        if lacking:
            notes.append(
                f"random fold {', '.join(map(str, lacking))} has no stimulation at {level:g} % RMT, of which there are "
                f"{(intensity == level).sum()}"
            )
    return notes

"""Choose settings of the networks by an inner cross-validation within a fold's training rows (article, II.F).

The article cuts the training part of one fold of its first subject into ten, tries each value on these, and uses the
best everywhere. So does this; or it chooses anew in every fold, which costs as many times more. Held-out rows of a fold
that chooses are never looked at. Those of other folds may have been among the rows that chose, as in the article.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from rt_engine.errors import DataError, SettingsError
from trainer.architectures.settings import ModelName
from trainer.evaluation.jobs import Job, JobResult
from trainer.evaluation.plan import EvaluationSettings, PreparedSet, folds_to_run, method_settings
from trainer.folds import FoldKind, random_folds
from trainer.metrics import nrmse
from trainer.training_settings import TrainingSettings

NOT_TUNED = {"preprocessing": "it decides which stimulations there are", "version": "it is no setting"}
"""Tables of the settings that are the same for all candidates, and why."""

Where = tuple[str, FoldKind, int]
"""Data set, kind of folds, number of the fold whose training rows chose."""


@dataclass(frozen=True)
class Candidate:
    """Settings that are tried.

    Attributes
    ----------
    values : dict of str to str
        Setting -> value, as they were asked for.
    training : TrainingSettings
        All settings with these.
    """

    values: dict[str, str]
    training: TrainingSettings


@dataclass(frozen=True, eq=False)
class Chosen:
    """What tuning found.

    Attributes
    ----------
    settings : dict
        ``(where, model)`` -> settings; under `where` = None the ones for everywhere.
    rows : list of dict
        All candidates with their error, for the report; JSON types.
    """

    settings: Mapping[tuple[Where | None, str], TrainingSettings]
    rows: list[dict[str, Any]]

    def of(self, where: Where, model: str) -> TrainingSettings | None:
        """Return the settings of a model in a fold; None where nothing was tuned."""
        return self.settings.get((where, model), self.settings.get((None, model)))


def candidates(words: Sequence[str], with_overrides: Callable[[Sequence[str]], TrainingSettings]) -> list[Candidate]:
    """Return all combinations of values.

    Parameters
    ----------
    words : sequence of str
        ``KEY=VALUE,VALUE,...``, e.g. ``latent=8,16,32``.
    with_overrides : callable
        Takes ``KEY=VALUE`` words and gives the settings with them on top.

    Raises
    ------
    SettingsError
        If a word is none of this kind, a setting does not exist or cannot be tuned, or there is nothing to choose from.
    """
    axes: list[list[tuple[str, str]]] = []
    for word in words:
        key, equals, values = (part.strip() for part in word.partition("="))
        listed = [value.strip() for value in values.split(",") if value.strip()]
        if not equals or not key or len(set(listed)) < 2:
            raise SettingsError(
                f"--tune {word!r}: expected KEY=VALUE,VALUE with at least two values, such as latent=8,16,32"
            )
        axes.append([(key, value) for value in listed])
    if len({axis[0][0] for axis in axes}) < len(axes):
        raise SettingsError("--tune names a setting twice; give all its values at once, such as latent=8,16,32")
    base = msgspec.to_builtins(with_overrides(()))
    found = []
    for combination in itertools.product(*axes):
        training = with_overrides([f"{key}={value}" for key, value in combination])
        changed = [name for name, table in msgspec.to_builtins(training).items() if table != base[name]]
        for name in changed:
            if name in NOT_TUNED:
                raise SettingsError(f"--tune cannot choose settings of {name}: {NOT_TUNED[name]}")
        found.append(Candidate(dict(combination), training))
    return found


def tuning_jobs(
    sets: Sequence[PreparedSet],
    settings: EvaluationSettings,
    tried: Sequence[Candidate],
    *,
    n_folds: int = 10,
    every_fold: bool = False,
) -> list[tuple[Job, Where, Candidate]]:
    """Return the jobs of all candidates in all inner folds.

    Parameters
    ----------
    sets : sequence of PreparedSet
        The data sets.
    settings : EvaluationSettings
        What is evaluated.
    tried : sequence of Candidate
        From `candidates`.
    n_folds : int
        Inner folds.
    every_fold : bool
        Choose in every fold; otherwise in the first one of the first data set only.

    Returns
    -------
    list of tuple
        Job, the fold whose training rows choose, candidate.
    """
    found = []
    for prepared in sets if every_fold else sets[:1]:
        run = folds_to_run(prepared, settings)
        for kind, number in run if every_fold else run[:1]:
            fit = prepared.folds[kind][number][0]
            where: Where = (prepared.name, kind, number)
            inner = random_folds(prepared.training.rows(fit), n_folds, settings.seed)
            for model in settings.models:
                for candidate in tried:
                    of_method = method_settings(model, settings, candidate.training)
                    for k, (part, apart) in enumerate(inner):
                        job = Job(
                            prepared.name,
                            prepared.sha256,
                            kind,
                            number,
                            model,
                            fit[part],
                            fit[apart],
                            of_method,
                            inner=k,
                        )
                        found.append((job, where, candidate))
    return found


def choose(
    sets: Sequence[PreparedSet],
    tried: Sequence[tuple[Job, Where, Candidate]],
    results: Mapping[str, JobResult],
    *,
    every_fold: bool = False,
) -> Chosen:
    """Choose, per model, the candidate with the lowest mean validation NRMSE over the inner folds.

    Parameters
    ----------
    sets : sequence of PreparedSet
        The data sets.
    tried : sequence of tuple
        From `tuning_jobs`.
    results : mapping of str to JobResult
        `Job.key` -> result.
    every_fold : bool
        As of `tuning_jobs`.

    Raises
    ------
    DataError
        If no candidate of a model has a finite error.
    """
    training = {prepared.name: prepared.training for prepared in sets}
    errors: dict[tuple[Where, ModelName], dict[int, list[float]]] = {}
    by_id: dict[int, Candidate] = {}
    for job, where, candidate in tried:
        true = training[job.data].field[job.test]
        error = float(nrmse(true, results[job.key].estimate).mean())
        by_id[id(candidate)] = candidate
        errors.setdefault((where, job.method), {}).setdefault(id(candidate), []).append(error)  # type: ignore[arg-type]
    chosen: dict[tuple[Where | None, str], TrainingSettings] = {}
    rows: list[dict[str, Any]] = []
    for (where, model), of_candidate in errors.items():
        means = {number: float(np.mean(values)) for number, values in of_candidate.items()}
        if not np.isfinite(list(means.values())).any():
            raise DataError(f"no value that was tried gives {model} a finite error on {where[0]}")
        best = min(means, key=lambda number: means[number] if np.isfinite(means[number]) else np.inf)
        chosen[where if every_fold else None, model] = by_id[best].training
        for number, mean in means.items():
            values = np.array(of_candidate[number])
            spread = float(1.96 * values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
            rows.append(
                {
                    "data": where[0],
                    "folds_kind": where[1],
                    "fold": where[2],
                    "method": model,
                    **by_id[number].values,
                    "inner_folds": len(values),
                    "nrmse": mean,
                    "nrmse_sem196_folds": spread,
                    "chosen": number == best,
                }
            )
    return Chosen(chosen, rows)

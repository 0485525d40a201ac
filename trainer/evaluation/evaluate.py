"""A whole evaluation: prepare the data sets, tune if asked to, run all jobs, and write figures and reports.

What is run where is `cluster`'s business, what is shown meanwhile that of a `Watch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rt_engine.errors import DataError
from trainer.evaluation.cluster import Watch, run_jobs
from trainer.evaluation.figures import table
from trainer.evaluation.job_store import JobStore
from trainer.evaluation.jobs import Job, JobResult
from trainer.evaluation.plan import (
    EvaluationSettings,
    assemble,
    check_settings,
    folds_to_run,
    make_job,
    methods_of,
    prepare_set,
)
from trainer.evaluation.results import SUFFIX, Evaluation, write_evaluation
from trainer.evaluation.tables_csv import stimulation_rows, write_csv
from trainer.evaluation.tuning import Candidate, Chosen, choose, tuning_jobs


def evaluate(
    paths: Sequence[Path],
    settings: EvaluationSettings,
    folder: Path,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    watch: Watch | None = None,
    tried: Sequence[Candidate] = (),
    tune_folds: int = 10,
    tune_every_fold: bool = False,
) -> list[Evaluation]:
    """Evaluate all methods on data sets.

    Parameters
    ----------
    paths : sequence of Path
        Data sets (`*.stim.h5`), one subject each.
    settings : EvaluationSettings
        What is evaluated.
    folder : Path
        Where finished jobs are kept, and taken from.
    workers, scheduler, watch
        As of `cluster.run_jobs`.
    tried : sequence of Candidate
        Settings to choose from first, if any.
    tune_folds : int
        Inner folds of that.
    tune_every_fold : bool
        Choose anew in every fold, not once as in the article.

    Returns
    -------
    list of Evaluation
        One per data set, in their order.

    Raises
    ------
    M2MError
        If data, settings or the scheduler cannot be used, or a job cannot be done.
    """
    check_settings(settings)
    sets = [prepare_set(path, settings) for path in paths]
    names = [prepared.name for prepared in sets]
    if len(set(names)) < len(names):
        raise DataError(f"the data sets are named {', '.join(names)}; expected a name for each: rename a file")
    by_sha256 = {prepared.sha256: prepared.training for prepared in sets}
    store = JobStore(folder)

    def done(what: str, jobs: Sequence[Job]) -> dict[str, JobResult]:
        return run_jobs(jobs, by_sha256, store, workers=workers, scheduler=scheduler, watch=watch, what=what)

    chosen = Chosen({}, [])
    if tried:
        inner = tuning_jobs(sets, settings, tried, n_folds=tune_folds, every_fold=tune_every_fold)
        chosen = choose(sets, inner, done("tuning", [job for job, _, _ in inner]), every_fold=tune_every_fold)
    jobs = {
        prepared.name: [
            make_job(prepared, kind, number, method, settings, chosen.of((prepared.name, kind, number), method))
            for kind, number in folds_to_run(prepared, settings)
            for method in methods_of(kind, settings)
        ]
        for prepared in sets
    }
    results = done("evaluation", [job for of_set in jobs.values() for job in of_set])
    words = {"tuning": chosen.rows}
    return [assemble(prepared, settings, jobs[prepared.name], results, words) for prepared in sets]


def write_outputs(evaluations: Sequence[Evaluation], folder: Path) -> list[Path]:
    """Write what people and programs read: per data set its evaluation and its report, and tables of all.

    Parameters
    ----------
    evaluations : sequence of Evaluation
        From `evaluate`.
    folder : Path
        Where to.

    Returns
    -------
    list of Path
        The files: ``NAME.eval.h5`` and ``NAME.html`` per data set, ``figures.csv``, ``stimulations.csv``, and
        ``tuning.csv`` where there was tuning.

    Raises
    ------
    DataError
        If they cannot be written there.
    """
    from trainer.evaluation.report import write_report

    figures, stimulations = folder / "figures.csv", folder / "stimulations.csv"
    write_csv(figures, [row for evaluation in evaluations for row in table(evaluation)])
    write_csv(stimulations, [row for evaluation in evaluations for row in stimulation_rows(evaluation)])
    written = [figures, stimulations]
    if tuned := evaluations[0].settings.get("tuning"):
        write_csv(folder / "tuning.csv", tuned)
        written.append(folder / "tuning.csv")
    for evaluation in evaluations:
        kept, report = folder / f"{evaluation.name}{SUFFIX}", folder / f"{evaluation.name}.html"
        write_evaluation(kept, evaluation)
        write_report(evaluation, report)
        written += [kept, report]
    return written

"""Run jobs on dask.distributed: worker processes of this machine, or of any that a scheduler knows.

A data set goes to the workers once. It is handed over as the result of a task, because dask can make that again when
the worker that held it is lost. What else is lost with a worker, its running job, dask runs again on another.
"""

# mypy: disallow-untyped-calls=False
# (dask.distributed is typed in part)

from __future__ import annotations

import logging
import pickle
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import dask
from distributed import Client, LocalCluster, get_worker, wait
from distributed.scheduler import KilledWorker

from rt_engine.errors import M2MError
from trainer.evaluation.job_store import JobStore
from trainer.evaluation.jobs import Job, JobResult, run_job
from trainer.evaluation.local_worker import LOG
from trainer.preprocessing import TrainingSet

CONNECT_S = 10.0
"""How long a scheduler may take to answer, and to have a worker."""

LOOK_S = 0.5
"""How often to look for workers that came or went while no job ends."""

OF_WORKERS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_DETERMINISTIC_OPS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "CUDA_VISIBLE_DEVICES": "-1",
}
"""Environment of local workers: one thread per job, so that a sum is always added up in the same order, and no GPU."""

ON_A_BUSY_MACHINE = {
    "distributed.deploy.lost-worker-timeout": "1 day",  # 15 s: a worker that starts again slowly would be given up
    "distributed.scheduler.worker-ttl": None,  # a worker that dies is noticed; one that is only starved does no harm
    "distributed.comm.timeouts.connect": "5 minutes",
    "distributed.comm.timeouts.tcp": "5 minutes",
}
"""Dask's settings for a local cluster, whose jobs leave no processor idle."""

ALONE_S = 900.0
"""How long there may be no worker at all; starting one again takes seconds."""

SAME_EVERYWHERE = ("m2m-live", "numpy", "scikit-learn", "tensorflow", "keras")
"""Packages whose versions must be this machine's on every worker."""


class Watch:
    """What is told while jobs run; every method may be overridden. They are called from more than one thread."""

    def planned(self, what: str, jobs: Sequence[Job], n_done: int) -> None:
        """Tell which jobs follow, and how many more were done before."""

    def started(self, job: Job) -> None:
        """Tell that a job was given to a worker."""

    def epoch(self, key: str, stage: str, epoch: int, epochs: int) -> None:
        """Tell that the job with a key has trained an epoch of at most `epochs` in a stage."""

    def finished(self, job: Job, result: JobResult) -> None:
        """Tell that a job is done."""

    def failed(self, job: Job, error: M2MError) -> None:
        """Tell that a job cannot be done."""

    def worker_lost(self, address: str) -> None:
        """Tell that a worker went away; what it was doing runs again elsewhere."""


def run_jobs(
    jobs: Sequence[Job],
    sets: Mapping[str, TrainingSet],
    store: JobStore,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    watch: Watch | None = None,
    what: str = "jobs",
) -> dict[str, JobResult]:
    """Do all jobs that were not done before.

    Parameters
    ----------
    jobs : sequence of Job
        What to do; equal jobs are done once, and the first stages that jobs have in common are added.
    sets : mapping of str to TrainingSet
        `Job.data_sha256` -> data set.
    store : JobStore
        Where results are kept, each as soon as it is there.
    workers : int
        Processes of a local cluster, one job at a time each; 0 does all in this process, whose TensorFlow is as it is.
    scheduler : str, optional
        Address of a running dask scheduler, ``tcp://...``, instead of a local cluster.
    watch : Watch, optional
        Told what happens.
    what : str
        What they are, for `watch`.

    Returns
    -------
    dict of str to JobResult
        `Job.key` -> result.

    Raises
    ------
    M2MError
        If a scheduler cannot be reached or does not fit, or jobs cannot be done; the others are done nevertheless.
    """
    watch = watch or Watch()
    results: dict[str, JobResult] = {}
    waiting: list[Job] = []
    for job in {job.key: job for job in jobs}.values():
        found = store.find(job)
        if found is None:
            waiting.append(job)
        else:
            results[job.key] = found
    firsts = {job.first.key: job.first for job in waiting if job.first is not None}
    for key, job in firsts.items():
        found = store.find(job)
        if found is None:
            waiting.append(job)
        else:
            results[key] = found
    waiting.sort(key=lambda job: -job.urgency)  # stable: otherwise as given
    watch.planned(what, waiting, len(results))
    if not waiting:
        return results
    failed: dict[str, tuple[Job, M2MError]] = {}
    queue = _Queue(waiting, results, failed)
    here = workers == 0 and scheduler is None
    done = _done_here(queue, sets, store, watch) if here else _done(queue, sets, store, watch, workers, scheduler)
    for job, result in done:
        if isinstance(result, M2MError):
            failed[job.key] = job, result
            watch.failed(job, result)
        else:
            store.keep(job, result)
            results[job.key] = result
            watch.finished(job, result)
    if failed:
        job, error = next(iter(failed.values()))
        raise M2MError(
            f"{len(failed)} of {len(waiting)} jobs cannot be done. {job.title}: {error} The others' results are kept: "
            "the same command goes on with these."
        )
    return results


class _Queue:
    """Jobs that wait for a worker, in the order in which they shall begin; some for another job's result first."""

    def __init__(
        self,
        jobs: Sequence[Job],
        results: Mapping[str, JobResult],
        failed: Mapping[str, tuple[Job, M2MError]],
    ) -> None:
        self._waiting = list(jobs)
        self._results, self._failed = results, failed
        self.data = tuple(dict.fromkeys(job.data_sha256 for job in jobs))

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def next(self) -> Job | None:
        """Take the first job that can begin; None where all wait for others."""
        for number, job in enumerate(self._waiting):
            if job.first is None or job.first.key in self._results or job.first.key in self._failed:
                return self._waiting.pop(number)
        return None

    def first(self, job: Job) -> bytes | None:
        """Return what a job begins with.

        Raises
        ------
        M2MError
            If the job before it failed.
        """
        if job.first is None:
            return None
        if job.first.key in self._failed:
            raise M2MError("its first stage could not be trained.")
        return self._results[job.first.key].state


def _done_here(
    queue: _Queue, sets: Mapping[str, TrainingSet], store: JobStore, watch: Watch
) -> Iterator[tuple[Job, JobResult | M2MError]]:
    while (job := queue.next()) is not None:
        watch.started(job)

        def told(stage: str, epoch: int, epochs: int, key: str = job.key) -> None:
            watch.epoch(key, stage, epoch, epochs)

        try:
            first = queue.first(job)
            yield job, run_job(job, sets[job.data_sha256], folder=store.folder / job.key, told=told, first=first)
        except M2MError as error:
            yield job, error


def _done(
    queue: _Queue,
    sets: Mapping[str, TrainingSet],
    store: JobStore,
    watch: Watch,
    workers: int,
    scheduler: str | None,
) -> Iterator[tuple[Job, JobResult | M2MError]]:
    run = uuid.uuid4().hex[:8]  # a scheduler may still know the jobs of another run by their names
    topic = f"m2m-evaluate-{run}"

    def hear_epoch(event: tuple[float, dict[str, Any]]) -> None:
        watch.epoch(**event[1])

    def hear_scheduler(event: tuple[float, Any]) -> None:
        told = event[1]
        if isinstance(told, dict) and told.get("action") == "remove-worker" and not told.get("expected"):
            watch.worker_lost(str(told.get("worker", "")))

    heard = {topic: hear_epoch, "all": hear_scheduler}
    with _connected(workers, scheduler, store.folder / "workers.log") as client, _listening(client, heard):
        shipped = {
            sha256: client.submit(pickle.loads, pickle.dumps(sets[sha256]), key=f"data-{sha256[:12]}-{run}")
            for sha256 in queue.data
        }
        running: dict[Any, Job] = {}
        seen = time.monotonic()
        checkpoints = str(store.folder.absolute())
        while queue or running:
            # As many as there are workers: dask must not plan ahead, so that the order stays and late workers get work.
            slots = sum(client.nthreads().values())
            seen = _seen(slots, seen)
            while len(running) < max(1, slots) and (job := queue.next()) is not None:
                watch.started(job)
                try:
                    first = queue.first(job)
                except M2MError as error:
                    yield job, error
                    continue
                data, key = shipped[job.data_sha256], f"job-{job.key}-{run}"
                running[client.submit(_on_worker, job, data, checkpoints, topic, first, key=key)] = job
            try:
                ended = wait(list(running), timeout=LOOK_S, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                continue
            for future in ended:
                yield running.pop(future), _outcome(future)


def _seen(slots: int, before: float) -> float:
    """Return when there was a worker last, s."""
    now = time.monotonic()
    if slots:
        return now
    if now - before > ALONE_S:
        raise M2MError(
            f"there has been no worker for {ALONE_S / 60:.0f} minutes. Finished jobs are kept: start workers, and give "
            "the same command again."
        )
    return before


@contextmanager
def _listening(client: Client, heard: Mapping[str, Any]) -> Iterator[None]:
    for topic, hear in heard.items():
        client.subscribe_topic(topic, hear)
    try:
        yield
    finally:
        for topic in heard:  # else the scheduler tells a client that is gone of its own going
            client.unsubscribe_topic(topic)


def _outcome(future: Any) -> JobResult | M2MError:
    if future.status == "finished":
        return future.result()
    if future.status != "error":
        raise M2MError(
            f"the scheduler no longer knows a job (it is {future.status}); was it stopped? Finished jobs are kept: "
            "give the same command again."
        )
    error = future.exception()
    if isinstance(error, KilledWorker):
        return M2MError(
            f"the worker that ran it died {error.allowed_failures + 1} times; most often there is too little memory. "
            "Use fewer --workers."
        )
    if isinstance(error, M2MError):
        return error
    raise error


def _on_worker(job: Job, training: TrainingSet, checkpoints: str, topic: str, first: bytes | None) -> JobResult:
    worker = get_worker()

    def told(stage: str, epoch: int, epochs: int) -> None:
        worker.log_event(topic, {"key": job.key, "stage": stage, "epoch": epoch, "epochs": epochs})

    # Another machine's worker may not see the folder: then a training that is interrupted begins anew.
    folder = Path(checkpoints) / job.key if Path(checkpoints).is_dir() else None
    return run_job(job, training, folder=folder, told=told, first=first, one_thread=True)


@contextmanager
def _connected(workers: int, scheduler: str | None, log: Path) -> Iterator[Client]:
    # A data set is larger than dask likes to send with a task; it is sent once, and on purpose.
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "100GB"}):
        if scheduler is None:
            with local_cluster(workers, log) as cluster, Client(cluster) as client:
                yield client
            return
        try:
            client = Client(scheduler, timeout=CONNECT_S)
        except (OSError, ValueError) as error:
            raise M2MError(
                f"no dask scheduler answers at {scheduler} ({str(error) or type(error).__name__}). Start one with "
                "'dask scheduler' and workers with 'dask worker ADDRESS --nthreads 1', or leave --scheduler out."
            ) from error
        with client:
            _check_workers(client)
            yield client


@contextmanager
def local_cluster(workers: int, log: Path) -> Iterator[LocalCluster]:
    """Start worker processes on this machine, of one thread each, and end them.

    Parameters
    ----------
    workers : int
        How many.
    log : Path
        File that takes what they write on stderr.
    """
    with (
        dask.config.set(ON_A_BUSY_MACHINE),
        tempfile.TemporaryDirectory(prefix="m2m-evaluate-", ignore_cleanup_errors=True) as scratch,
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # none would mean its usual port, and a warning where that is taken
            memory_limit=None,  # no job's memory grows with time, and a paused worker would wait for ever
            local_directory=scratch,
            silence_logs=logging.CRITICAL,
            env=OF_WORKERS | {LOG: str(log.absolute())},
            preload=["trainer.evaluation.local_worker"],
        ) as cluster,
    ):
        yield cluster


def _check_workers(client: Client) -> None:
    """Check that a scheduler's workers compute what this machine would."""
    try:
        client.wait_for_workers(1, timeout=CONNECT_S)  # they may have been started just now
    except TimeoutError as error:
        raise M2MError(
            "the scheduler has no workers. Start some with 'dask worker ADDRESS --nthreads 1' on machines where "
            "m2m-live is installed."
        ) from error
    threads = client.nthreads()
    if max(threads.values()) > 1:
        raise M2MError(
            f"a worker runs {max(threads.values())} jobs in one process, whose TensorFlow they would share. Start "
            "workers with 'dask worker ADDRESS --nthreads 1 --nworkers N'."
        )
    mine = _versions()
    try:
        theirs = client.run(_versions)
    except ModuleNotFoundError as error:
        raise M2MError(f"m2m-live is not installed where a worker runs ({error})") from error
    for address, versions in theirs.items():
        other = [f"{name} {versions[name]} (here {mine[name]})" for name in mine if versions[name] != mine[name]]
        if other:
            raise M2MError(f"the worker {address} has {', '.join(other)}; install the same versions there")


def _versions() -> dict[str, str]:
    found = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for name in SAME_EVERYWHERE:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "none"
    return found

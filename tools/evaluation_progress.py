"""What `m2m evaluate` shows while its jobs run: how many are done, what runs, and how long the rest may take."""

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from types import TracebackType

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from rt_engine.errors import M2MError
from tools.console import console
from trainer.evaluation.cluster import Watch
from trainer.evaluation.jobs import Job, JobResult


class ProgressWatch(Watch):
    """A bar of all jobs, and one of each that runs; a context manager.

    Workers tell from other threads than the one that waits for them, hence the lock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            transient=True,
        )
        self._all: TaskID | None = None
        self._bars: dict[str, TaskID] = {}
        self._left = TimeLeft()

    def __enter__(self) -> "ProgressWatch":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def planned(self, what: str, jobs: Sequence[Job], n_done: int) -> None:
        """Begin a bar for all jobs."""
        with self._lock:
            self._all = self._progress.add_task(what, total=len(jobs) + n_done, completed=n_done, left="")
            self._left.planned(jobs)

    def started(self, job: Job) -> None:
        """Begin a bar for a job."""
        with self._lock:
            self._left.started(job, time.monotonic())
            self._bars[job.key] = self._progress.add_task(escape(f"  {job.title}"), total=None, left="")

    def epoch(self, key: str, stage: str, epoch: int, epochs: int) -> None:
        """Move a job's bar."""
        with self._lock:
            if key in self._bars:
                self._progress.update(self._bars[key], completed=epoch, total=epochs, left=f"epochs of {stage}")

    def finished(self, job: Job, result: JobResult) -> None:
        """End a job's bar, and move that of all."""
        with self._lock:
            self._left.finished(job, time.monotonic())
            self._end(job)

    def failed(self, job: Job, error: M2MError) -> None:
        """Say that a job cannot be done."""
        with self._lock:
            self._left.finished(job, None)
            self._end(job)
        self._progress.console.print(f"[bold red]{escape(job.title)}[/]: {escape(str(error))}", soft_wrap=True)

    def worker_lost(self, address: str) -> None:
        """Say that a worker went away."""
        self._progress.console.print(f"the worker {address} was lost; what it was doing runs again")

    def _end(self, job: Job) -> None:
        if job.key in self._bars:
            self._progress.remove_task(self._bars.pop(job.key))
        if self._all is not None:
            left = self._left.seconds()
            words = "" if left is None else f"about {_in_words(left)} left"
            self._progress.update(self._all, advance=1, left=words)


class TimeLeft:
    """How long the jobs that are left will take, from how long those of the same method took."""

    def __init__(self) -> None:
        self._waiting: dict[str, str] = {}
        self._begun: dict[str, float] = {}
        self._took: dict[str, list[float]] = defaultdict(list)
        self._most_at_once = 0

    def planned(self, jobs: Sequence[Job]) -> None:
        """Count jobs as not done."""
        self._waiting |= {job.key: job.method for job in jobs}

    def started(self, job: Job, now: float) -> None:
        """Note when a job began, s."""
        self._begun[job.key] = now
        self._most_at_once = max(self._most_at_once, len(self._begun))

    def finished(self, job: Job, now: float | None) -> None:
        """Note when a job ended, s; None where it did not run to its end here."""
        self._waiting.pop(job.key, None)
        begun = self._begun.pop(job.key, None)
        if begun is not None and now is not None:
            self._took[job.method].append(now - begun)

    def seconds(self) -> float | None:
        """Return the time left, s; None while a method is left none of whose jobs has ended."""
        if any(method not in self._took for method in self._waiting.values()):
            return None
        work = sum(sum(self._took[method]) / len(self._took[method]) for method in self._waiting.values())
        return work / max(1, self._most_at_once)


def _in_words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

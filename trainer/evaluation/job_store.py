"""Results of finished jobs in a folder, so that the same command goes on where it was stopped.

`FOLDER/jobs/<key>.job.h5` is the result of the job with that key; `FOLDER/jobs/<key>/` is where a training that is not
finished keeps its checkpoint. A key stands for all that a result depends on: what is there may be taken as it is.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError, FileFormatError
from rt_engine.field.hdf5_file import read_hdf5, write_hdf5
from trainer.evaluation.jobs import Job, JobResult

JOB_KIND = "m2m-evaluation-job"
JOB_FILE_VERSION = 1

_log = logging.getLogger(__name__)


class JobStore:
    """Results under ``folder/jobs``.

    Parameters
    ----------
    folder : Path
        Of the evaluation; ``jobs`` is made in it.

    Raises
    ------
    DataError
        If it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "jobs"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"cannot make the folder {self.folder} ({error}); give another with --out") from error

    def path(self, job: Job) -> Path:
        """File of a job's result."""
        return self.folder / f"{job.key}.job.h5"

    def find(self, job: Job) -> JobResult | None:
        """Return the result of a job that was done before; None where there is none, or its file is damaged."""
        if not self.path(job).exists():
            return None
        try:
            _, arrays = read_hdf5(self.path(job), kind=JOB_KIND, version=JOB_FILE_VERSION)
            words = json.loads(arrays["words"].tobytes().decode())
            state = arrays["state"].tobytes() if "state" in arrays else None
            return JobResult(arrays["estimate"], float(arrays["seconds"][0]), words["details"], state)
        except (FileFormatError, KeyError, ValueError) as error:
            _log.warning("%s is done again: %s", job.title, error)
            return None

    def keep(self, job: Job, result: JobResult) -> None:
        """Write a result, and remove what its training needed to go on.

        Raises
        ------
        DataError
            If it cannot be written there.
        """
        words = {"title": job.title, "settings": job.settings, "details": result.details}
        arrays: dict[str, npt.NDArray[Any]] = {
            "estimate": result.estimate,
            "seconds": np.array([result.seconds]),
            "words": np.frombuffer(json.dumps(words).encode(), np.uint8),
        }
        if result.state is not None:
            arrays["state"] = np.frombuffer(result.state, np.uint8)
        write_hdf5(self.path(job), kind=JOB_KIND, version=JOB_FILE_VERSION, attributes={}, arrays=arrays)
        shutil.rmtree(self.folder / job.key, ignore_errors=True)

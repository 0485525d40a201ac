"""Closes the `trials.h5` that a killed session left open, so that other programs can open it. No trial is changed."""

import shutil
from pathlib import Path

import h5py

from rt_engine.atomic_file import written_whole
from rt_engine.edges.session_store import TRIALS_FILE, session_runs
from rt_engine.errors import FileFormatError, RecordingError
from rt_engine.hdf5_superblock import Superblock
from rt_engine.trials_file import read_trials
from rt_engine.trials_layout import DATASET


def close_trials(folder: Path) -> tuple[int, bool]:
    """Close a session's trials.

    Parameters
    ----------
    folder
        Of the session, whose engine must be gone.

    Returns
    -------
    n_trials
        How many whole trials there are.
    was_closed
        Whether the file was closed, and whole, already; then it is not touched.

    Raises
    ------
    RecordingError
        If the session is still running: what it wrote to the file that is replaced would be lost.
    FileFormatError
        If trials before the last are damaged, or the file changes meanwhile.
    DataError
        If the file cannot be replaced.
    """
    path = folder / TRIALS_FILE
    if session_runs(folder):
        raise RecordingError(f"an engine still writes to {folder}: end that session, which closes its files")
    trials = read_trials(path)
    if trials.closed and not trials.torn:
        return len(trials.rows), True
    with written_whole(path) as temporary:
        shutil.copyfile(path, temporary)
        head = Superblock(temporary).as_closed()
        with temporary.open("r+b") as file:
            file.write(head)
        # HDF5 may open it here: every byte that it looks at has been looked at by a child process.
        with h5py.File(temporary, "r+", libver="latest") as file:
            file[DATASET].resize((len(trials.rows),))
        if read_trials(temporary).rows.tobytes() != trials.rows.tobytes() or read_trials(path).n_rows != trials.n_rows:
            raise FileFormatError(f"{path} changed meanwhile: an engine still writes to it. End that session first")
    return len(trials.rows), False

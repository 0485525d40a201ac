"""Files are written whole or not at all: to a temporary name beside their place, then renamed."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rt_engine.errors import DataError


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Give a temporary file to write to; it takes its place only when the block ends well.

    Parameters
    ----------
    path
        Where the file shall be; one that is there already is replaced in one step, and stays as it was if the block
        fails.

    Yields
    ------
    Path
        The temporary file, empty, in the same folder.

    Raises
    ------
    DataError
        If the folder does not exist, may not be written to, or the disk is full.
    """
    path = Path(path)
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        yield Path(temporary)
        os.chmod(temporary, 0o644)  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(
            f"Cannot write {path}: {error}. Check that the folder exists and that you may write there."
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)

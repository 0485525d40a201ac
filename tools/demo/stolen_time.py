"""How much of the processors a virtual machine's host took away: what no program in it can mend, but must be told.

Linux counts it as "steal" in the first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal, and
two that are parts of the first ones (proc_stat(5)).
"""

from pathlib import Path

PROC_STAT = Path("/proc/stat")
STEAL, COUNTED = 7, 8
"""Place of "steal" in the line, and how many of its numbers make up the whole."""


class StolenTime:
    """Time taken away since this was made.

    Parameters
    ----------
    source
        The file with the counts.
    """

    def __init__(self, source: Path = PROC_STAT) -> None:
        self._source = source
        self._begin = self._read()

    def percent(self) -> float | None:
        """Return the share of all processors' time that was taken away, percent; None where it is not counted."""
        end = self._read()
        if self._begin is None or end is None:
            return None
        passed = [after - before for before, after in zip(self._begin, end, strict=True)]
        return 100.0 * passed[STEAL] / sum(passed) if sum(passed) > 0 else None

    def _read(self) -> list[int] | None:
        try:
            name, *counts = self._source.read_text(encoding="ascii").partition("\n")[0].split()
            values = [int(count) for count in counts[:COUNTED]]
        except (OSError, ValueError):
            return None
        return values if name == "cpu" and len(values) == COUNTED else None

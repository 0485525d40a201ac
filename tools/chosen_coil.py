"""The coil that a command line names: a file of dipoles, or the 70 mm figure of eight."""

from pathlib import Path

from rt_engine.field.coil import Coil, figure_of_eight
from rt_engine.field.dipole_file import read_dipole_file


def chosen_coil(path: Path | None, max_didt_a_per_us: float | None) -> Coil:
    """Return the coil.

    Parameters
    ----------
    path
        Coil file (.ccd, .tcd), or None for the figure of eight.
    max_didt_a_per_us
        Largest dI/dt, A/us; None for what the file says, or the figure of eight's own.

    Raises
    ------
    DataError, FileFormatError
        No such file, no coil, or a file that does not state its largest dI/dt while none is given.
    """
    if path is not None:
        return read_dipole_file(path, max_didt_a_per_us=max_didt_a_per_us)
    return figure_of_eight() if max_didt_a_per_us is None else figure_of_eight(max_didt_a_per_us=max_didt_a_per_us)

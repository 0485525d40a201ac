"""How strong each pulse was: % of the output, % of the resting motor threshold, dI/dt, and one from another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from rt_engine.errors import DataError
from trainer.importers.wild_text import parse_number

Floats = npt.NDArray[np.float64]

IntensityUnit = Literal["percent-mso", "percent-rmt", "a-per-us"]

_RANGE: dict[str, tuple[float, float, str]] = {
    "percent-mso": (2.0, 100.0, "% of the stimulator's maximum output"),
    "percent-rmt": (5.0, 400.0, "% of the resting motor threshold"),
    "a-per-us": (1.0, 1000.0, "dI/dt in A/us"),
}
"""What a column's largest value can be: less is a fraction, more another unit (A/s)."""


@dataclass(frozen=True, eq=False)
class Intensities:
    """Of n pulses; NaN where unknown.

    Attributes
    ----------
    percent_mso, percent_rmt, didt_a_per_us : numpy.ndarray
        (n,) float64.
    """

    percent_mso: Floats
    percent_rmt: Floats
    didt_a_per_us: Floats

    def completed(self, *, rmt_percent_mso: float | None, max_didt_a_per_us: float | None) -> Intensities:
        """Fill in what follows from the rest.

        Parameters
        ----------
        rmt_percent_mso : float, optional
            The resting motor threshold, % of the stimulator's output.
        max_didt_a_per_us : float, optional
            dI/dt at 100 % of the output.

        Returns
        -------
        Intensities
            What was measured is kept.

        Raises
        ------
        DataError
            A threshold or dI/dt that cannot be, or pulses above 100 % of the output.
        """
        if rmt_percent_mso is not None and not 1 < rmt_percent_mso <= 100:
            raise DataError(f"The RMT is {rmt_percent_mso} % of the stimulator's output; expected 1 to 100.")
        if max_didt_a_per_us is not None and not 1 <= max_didt_a_per_us <= 1000:
            raise DataError(f"The largest dI/dt is {max_didt_a_per_us} A/us; expected 1 to 1000, e.g. 171.")
        rmt = np.nan if rmt_percent_mso is None else rmt_percent_mso
        largest = np.nan if max_didt_a_per_us is None else max_didt_a_per_us
        mso = _first(self.percent_mso, self.percent_rmt * rmt / 100, self.didt_a_per_us / largest * 100)
        if (mso > 100.5).any():
            raise DataError(
                f"Pulses of up to {np.nanmax(mso):.0f} % of the stimulator's output follow from the intensities; "
                "expected at most 100. Check --rmt-percent-mso and --max-didt."
            )
        percent_rmt = _first(self.percent_rmt, mso / rmt * 100)
        return Intensities(mso, percent_rmt, _first(self.didt_a_per_us, mso * largest / 100))


def given_intensities(values: Floats, unit: str) -> Intensities:
    """Make intensities of values in one unit.

    Parameters
    ----------
    values : numpy.ndarray
        (n,) float64; NaN, or 0, where unknown.
    unit : {"percent-mso", "percent-rmt", "a-per-us"}
        What they are.

    Returns
    -------
    Intensities

    Raises
    ------
    DataError
        Another unit, or values that cannot be in it.
    """
    if unit not in _RANGE:
        raise DataError(f"The intensity's unit is {unit!r}; expected {', '.join(get_args(IntensityUnit))}.")
    least, most, what = _RANGE[unit]
    values = np.where(values == 0, np.nan, values)
    known = values[~np.isnan(values)]
    if known.size and (known.min() < 0 or not least <= known.max() <= most):
        raise DataError(
            f"The intensities are {known.min():g} to {known.max():g}; as {what}, expected 0 or more, the largest "
            f"{least:g} to {most:g}. Is the unit another one, or are they fractions? State it with --intensity-unit."
        )
    nothing = np.full(len(values), np.nan)
    return Intensities(
        percent_mso=values if unit == "percent-mso" else nothing,
        percent_rmt=values if unit == "percent-rmt" else nothing,
        didt_a_per_us=values if unit == "a-per-us" else nothing,
    )


def column_intensities(cells: Sequence[str], column: str, unit: str | None) -> Intensities:
    """Make intensities of a column's text; without a unit the column's name must tell it.

    Raises
    ------
    DataError
        A cell is no number, or the unit is not stated.
    """
    if unit is None:
        name = column.lower()
        unit = (
            "percent-rmt"
            if "rmt" in name
            else "percent-mso"
            if "mso" in name or name.startswith("stim. power")
            else "a-per-us"
            if "didt" in name or "a/us" in name or "a/µs" in name
            else None
        )
    if unit is None:
        raise DataError(f"What the column {column!r} gives is not stated. Add --intensity-unit.")
    values = np.empty(len(cells))
    for row, cell in enumerate(cells):
        try:
            values[row] = parse_number(cell.strip().rstrip("%"))
        except ValueError as error:
            raise DataError(f"Column {column!r}, row {row + 1}: expected an intensity; found {cell!r}.") from error
    return given_intensities(values, unit)


def _first(*candidates: Floats) -> Floats:
    """Take for each pulse the first that is known."""
    result = candidates[0].copy()
    for candidate in candidates[1:]:
        result = np.where(np.isnan(result), candidate, result)
    return result

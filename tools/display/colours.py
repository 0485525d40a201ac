"""From a map's values to colours: one scale shared by the projections, the cortex and the colour bar."""

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import pyqtgraph  # type: ignore[import-untyped]
from numpy.typing import NDArray

from tools.display import theme
from tools.display.scales import nice_ceil

Quantity = Literal["field", "spread", "coil"]
"""The estimate, its standard deviation, or the field computed from the tracked coil, in the estimate's colours."""

SMALLEST_SPREAD = 0.1
"""Smallest upper end of the spread's scale."""


@cache
def lookup_table(name: str) -> NDArray[np.uint8]:
    """Return a colour map of pyqtgraph's by name, (256, 3) uint8."""
    table: NDArray[np.uint8] = pyqtgraph.colormap.get(name).getLookupTable(0.0, 1.0, 256)[:, :3].astype(np.uint8)
    return table


@dataclass(frozen=True)
class ColourScale:
    """What a value looks like.

    Attributes
    ----------
    quantity
        What is shown.
    high
        The value at the scale's upper end; the lower end is 0.
    old
        Whether the map is not current: then it has no colour.
    """

    quantity: Quantity = "field"
    high: float = 1.0
    old: bool = False

    @property
    def table(self) -> NDArray[np.uint8]:
        """(256, 3) uint8, from 0 to `high`."""
        table = lookup_table(theme.SPREAD_COLOURS if self.quantity == "spread" else theme.FIELD_COLOURS)
        if not self.old:
            return table
        luminance = table @ np.array([0.2126, 0.7152, 0.0722])
        return np.repeat((30.0 + 0.55 * luminance)[:, None], 3, axis=1).astype(np.uint8)

    def rgb(self, values: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
        """Return the colours of values, (..., 3) uint8; NaN gets the lowest."""
        part = np.nan_to_num(values.astype(np.float64) / self.high, nan=0.0, posinf=1.0, neginf=0.0)
        colours: NDArray[np.uint8] = self.table[np.clip(part * 256.0, 0.0, 255.0).astype(np.uint8)]
        return colours


def spread_high(largest: float) -> float:
    """Return the upper end of the spread's scale for the largest spread seen."""
    return nice_ceil(max(largest, SMALLEST_SPREAD))

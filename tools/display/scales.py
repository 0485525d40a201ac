"""Round numbers for scales and axes."""

import math


def nice_ceil(value: float) -> float:
    """Return the smallest of 1, 2, 5 x 10^k that is not below `value` (positive)."""
    exponent = math.floor(math.log10(value))
    for step in (1.0, 2.0, 5.0):
        candidate = step * 10.0**exponent
        if candidate >= value * (1.0 - 1e-9):
            return candidate
    return 10.0 * 10.0**exponent


def nice_floor(value: float) -> float:
    """Return the largest of 1, 2, 5 x 10^k that is not above `value` (positive)."""
    exponent = math.floor(math.log10(value))
    for step in (5.0, 2.0, 1.0):
        candidate = step * 10.0**exponent
        if candidate <= value * (1.0 + 1e-9):
            return candidate
    return 5.0 * 10.0 ** (exponent - 1)  # log10 rounded up over a power of ten


def linear_ticks(low: float, high: float, at_most: int) -> list[float]:
    """Return round numbers inside [low, high], in at most `at_most` steps."""
    if not high > low:
        return []
    step = nice_ceil((high - low) / at_most)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def decade_ticks(low: float, high: float) -> list[float]:
    """Return the powers of ten inside [low, high] (both positive)."""
    first = math.ceil(math.log10(low) - 1e-9)
    last = math.floor(math.log10(high) + 1e-9)
    return [10.0**i for i in range(first, last + 1)]

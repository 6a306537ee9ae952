"""Find the number that most pairs of values share as their ratio, and write it with few digits."""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_TRIED = 40  # ratios
_MOST_DIGITS = 7


def simplest(low: float, high: float) -> float | None:
    """Return the number with the fewest digits in an interval; None if the interval is empty.

    >>> simplest(0.9199, 0.92003), simplest(2.0, 1.0)
    (0.92, None)
    """
    if low > high:
        return None
    middle = (low + high) / 2
    for digits in range(1, 16):
        short = float(f"{middle:.{digits}g}")
        if low <= short <= high:
            return short
    return middle


def digits(number: float) -> int:
    """Count the digits that a number is written with.

    >>> digits(1.0835), digits(100.0)
    (5, 1)
    """
    return len(f"{number:.10g}".replace(".", "").strip("0")) or 1


def factor(low: float, high: float) -> tuple[float, str, float] | None:
    """Return the simplest factor in an interval, how it is written, and log2 of the numbers of so many digits.

    >>> factor(0.84033, 0.84034), factor(1.0, 1.0)
    ((0.8403361344537815, '1 / 1.19', 9.965784284662087), None)
    """
    if not 0 < low <= high < math.inf:
        return None
    times, over = simplest(low, high), simplest(1 / high, 1 / low)
    if times is None or over is None or low <= 1.0 <= high:
        return None
    # A quotient has to be clearly shorter: both are tried.
    if digits(over) + 1 < digits(times):
        return 1 / over, f"1 / {over:.10g}", digits(over) * math.log2(10)
    return times, f"{times:.10g}", digits(times) * math.log2(10)


def common_ratio(local: Floats, remote: Floats, slack: float) -> tuple[float, float, int] | None:
    """Return the interval of the ratio that most pairs share, and how many; each remote value is off by `slack`.

    >>> common_ratio(np.array([100.0, 200.0, 50.0]), np.array([92.0, 184.0, 7.0]), 0.005)[2]
    2
    """
    large = (np.abs(local) > 20 * slack) & (remote != 0)
    local, remote = local[large], remote[large]
    if local.size < 2:
        return None
    order = np.argsort(-np.abs(local), kind="stable")
    local, remote = local[order], remote[order]
    ratios, width = remote / local, slack / np.abs(local)
    best, count = ratios[0], 0
    for tried in ratios[:: max(1, ratios.size // _TRIED)]:
        agreeing = int((np.abs(ratios - tried) <= 2 * width + 1e-12).sum())
        if agreeing > count:
            best, count = tried, agreeing
    chosen = np.abs(ratios - best) <= 2 * width + 1e-12
    # The narrowest intervals decide; they have to meet.
    lows, highs = (ratios - width)[chosen], (ratios + width)[chosen]
    low, high = float(lows.max()), float(highs.min())
    if low > high:
        middle, least = float(np.median(ratios[chosen])), float(width[chosen].min())
        low, high = middle - least, middle + least
    return low, high, count


def is_short(number: float) -> bool:
    """Check whether a factor looks like one that a person or a rate table wrote."""
    return digits(number) <= _MOST_DIGITS or digits(1 / number) <= _MOST_DIGITS

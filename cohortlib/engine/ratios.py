"""Exact quotients of integer arrays: one line each, the docstring is the formula.

Every argument is an array of integers with one entry per cell of the table; money is in units of ``1 / scale``. Every
result is rounded once, from the exact quotient to the nearest float. Expressions of polars would round twice: they
convert each integer beyond 2**53 first, and they multiply by the reciprocal of a literal divisor. A denominator of 0
results in null.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray


def quotient(numerators: NDArray[np.int64], divisors: NDArray[np.int64] | int, factor: int = 1) -> pl.Series:
    """Numerator × factor / divisor.

    >>> quotient(np.array([1, 2]), np.array([3, 0])).to_list()
    [0.3333333333333333, None]
    """
    divisors = np.asarray(divisors)
    zero = divisors == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        # Integers up to 2**53 are exact as floats, so their quotient is rounded once.
        if _largest(numerators) * factor < 2**53 and _largest(divisors) < 2**53:
            result = numerators * factor / divisors
        else:
            result = np.empty(numerators.size)
            for i, (a, b) in enumerate(np.broadcast(numerators, divisors)):
                result[i] = int(a) * factor / int(b) if b else 0.0
    if zero.any():
        result[np.broadcast_to(zero, result.shape)] = np.nan
    # 0 over a negative number is 0, not -0.
    return pl.Series(result + 0.0, nan_to_null=bool(zero.any()))


def _largest(numbers: NDArray[np.int64]) -> int:
    return max(int(numbers.max(initial=0)), -int(numbers.min(initial=0)))


def relative(values: NDArray[np.int64], first: NDArray[np.int64]) -> pl.Series:
    """100 × value / the first value, 0 if that is 0."""
    return quotient(values, first, 100).fill_null(0.0)


def money(amount: NDArray[np.int64], scale: int) -> pl.Series:
    """Σ amount."""
    return quotient(amount, scale)


def average(amount: NDArray[np.int64], users: NDArray[np.int64], scale: int) -> pl.Series:
    """Σ amount / users, 0 if there are no users."""
    return quotient(amount, users * scale).fill_null(0.0)


def ltv(cumulative: NDArray[np.int64], size: NDArray[np.int64], scale: int) -> pl.Series:
    """Σ amount over ages 0 to this one / cohort size."""
    return quotient(cumulative, size * scale)

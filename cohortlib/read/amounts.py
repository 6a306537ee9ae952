"""The column of amounts, as units of money."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from cohortlib.engine.kernels import money
from cohortlib.engine.kernels.money import fixed
from cohortlib.errors import DataError, SchemaError
from cohortlib.read.arrays import LIMIT, Ints, Numbers, example_of, physical_of, spread_of, value_range


def magnitude(units: Ints) -> int:
    """Sum |units|, exactly."""
    high, low = money.magnitude(units)
    return (int(high) << 32) + int(low)


@dataclass(frozen=True)
class Amounts:
    """A column of amounts without nulls, read as whole numbers of 10^-decimals."""

    series: pl.Series
    decimals: int

    @classmethod
    def of(cls, column: pl.Series, decimals: int) -> "Amounts":
        """Check the type of a column of amounts, and the range of what is exact."""
        kind = column.dtype
        if kind == pl.Null and not len(column):
            return cls(column.cast(pl.Int64), decimals)
        if not kind.is_numeric():
            raise SchemaError(
                f"column {column.name!r} is {kind}{example_of(column)}; expected amounts as floats, "
                "integers or Decimal. "
                f"Hint: pl.col({column.name!r}).cast(pl.Float64)"
            )
        if isinstance(kind, pl.Decimal) and kind.scale > decimals:
            raise DataError(
                f"column {column.name!r} is {kind}, with more places than decimals={decimals}. "
                + (f"Hint: decimals={kind.scale}" if kind.scale <= 9 else "Hint: round it to 9 places or less")
            )
        amounts = cls(column, decimals)
        whole = not kind.is_float() and len(column) > 0
        if whole and any(abs(int(x * 10**decimals)) >= LIMIT for x in value_range(column)):
            raise amounts.too_large()
        return amounts

    def too_large(self) -> DataError:
        """Give the error for an amount, or a sum of amounts, that leaves the range."""
        return beyond_range(spread_of(self.series), self.decimals)

    def units(self, first: int, count: int) -> Ints:
        """Give `count` rows from `first` on as whole numbers."""
        if not self.series.dtype.is_float():
            whole: Ints = self._numbers(first, count).astype(np.int64) * np.int64(self._factor)
            return whole
        units = np.empty(count, np.int64)
        wild, far = fixed(self._numbers(first, count), float(10**self.decimals), units)
        if wild:
            bad = self.series.alias("").is_finite().not_()
            raise DataError(
                f"column {self.series.name!r} holds NaN or infinity, {bad.sum():,} times, first in row "
                f"{bad.arg_max()}; expected finite numbers. Hint: filter them, or fill_nan(None) with nulls='drop'"
            )
        if far:
            raise self.too_large()
        return units

    @cached_property
    def _numbers(self) -> Numbers:
        if self.series.dtype.is_float():
            return Numbers(self.series.cast(pl.Float64))
        return Numbers(physical_of(self.series).cast(pl.Int64))

    @cached_property
    def _factor(self) -> int:
        kind = self.series.dtype
        return int(10 ** (self.decimals - (kind.scale if isinstance(kind, pl.Decimal) else 0)))


def beyond_range(what: str, decimals: int) -> DataError:
    """Give the error for an amount, or a sum of amounts, that leaves the range."""
    return DataError(
        f"{what}: an amount, or the sum of all, is beyond {2**63 / 10**decimals:.3g}, the range of 64-bit integers "
        f"with decimals={decimals}. "
        + ("Hint: set a smaller decimals=" if decimals else "Hint: divide the amounts, by 1000 say")
    )

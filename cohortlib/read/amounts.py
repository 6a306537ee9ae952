"""Read the column of amounts as integers: units of 10^-decimals."""

from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine import buffers
from cohortlib.engine.kernels import money
from cohortlib.engine.kernels.money import round_to_units
from cohortlib.errors import Arg, DataError, SchemaError, warn
from cohortlib.read.arrays import INT64_LIMIT, ColumnReader, Ints, example, min_max, physical, range_text
from cohortlib.read.ids import SAMPLE
from cohortlib.read.text import TextRules, parse_units

_MOST_DECIMALS = 9


def magnitude(units: Ints) -> int:
    """Compute Σ |units|, exactly."""
    high, low = money.magnitude(units)
    return (int(high) << 32) + int(low)


@dataclass
class AmountDoubts:
    """Count amounts that may be thousands: of those with a decimal mark all have three places, and others none.

    Only the first `SAMPLE` rows of a source are looked at.
    """

    rows: int = 0
    numbers: int = 0
    marked: int = 0
    grouped: int = 0
    example: str = ""

    def add(self, column: pl.Series, mark: str) -> None:
        """Look through a batch of text."""
        if self.rows < SAMPLE:
            texts = column.alias("").head(SAMPLE - self.rows).cast(pl.String)
            grouped = texts.filter(texts.str.contains(rf"^[^0-9]*[1-9][0-9]{{0,2}}[{mark}][0-9]{{3}}[^0-9]*$"))
            self.numbers += int(texts.str.contains("[0-9]").sum())
            self.marked += int(texts.str.contains(mark, literal=True).sum())
            self.grouped += len(grouped)
            self.example = min(filter(None, [self.example, *grouped]), default="")
        self.rows += len(column)

    def warn(self, column: str, mark: str) -> None:
        """Warn about the amounts."""
        if self.grouped and self.grouped == self.marked < self.numbers:
            other = "," if mark == "." else "."
            warn((
                f"column {column!r} has {self.grouped:,} amounts with three decimal places, such as {self.example!r}, "
                "and none with more or fewer. Hint: if these are thousands, pass ", Arg("decimal", other),
            ))  # fmt: skip


@dataclass(frozen=True)
class Amounts:
    """A column of amounts without nulls, read as whole numbers of 10^-decimals."""

    series: pl.Series
    decimals: int
    in_units: bool = False
    """Whether the series has units already."""

    @classmethod
    def of(cls, column: pl.Series, decimals: int, *, in_units: bool = False) -> "Amounts":
        """Check the type of a column of amounts, and the range of integers and decimals."""
        dtype = column.dtype
        if in_units:
            return cls(column, decimals, in_units=True)
        if dtype == pl.Null and not len(column):
            return cls(column.cast(pl.Int64), decimals)
        if not dtype.is_numeric():
            raise SchemaError(
                f"column {column.name!r} is {dtype}{example(column)}",
                value=dtype,
                expected="amounts as floats, integers or Decimal",
                hint=f"pl.col({column.name!r}).cast(pl.Float64)",
            )
        if isinstance(dtype, pl.Decimal) and dtype.scale > decimals:
            raise DataError(
                (f"column {column.name!r} is {dtype}, with more places than ", Arg("decimals", decimals)),
                value=dtype,
                hint=Arg("decimals", dtype.scale)
                if dtype.scale <= _MOST_DECIMALS
                else f"round it to {_MOST_DECIMALS} places or fewer",
            )
        amounts = cls(column, decimals)
        exact = not dtype.is_float() and len(column) > 0
        if exact and any(abs(int(x * 10**decimals)) >= INT64_LIMIT for x in min_max(column)):
            raise amounts.too_large()
        return amounts

    def too_large(self) -> DataError:
        """Return the error for an amount, or a sum of amounts, that does not fit into 64 bits."""
        if self.in_units:
            decimal = as_decimal(pl.lit(self.series.alias("")), self.decimals)
            return beyond_range(range_text(pl.select(decimal).to_series().alias(self.series.name)), self.decimals)
        return beyond_range(range_text(self.series), self.decimals)

    def units(self, first: int, count: int) -> Ints:
        """Read `count` rows, starting at row `first`, as units."""
        if not self.series.dtype.is_float():
            units: Ints = self._values(first, count).astype(np.int64) * np.int64(self._factor)
            return units
        units = buffers.empty(count, np.int64)
        values, scale = self._values(first, count), float(10**self.decimals)
        not_finite, too_large = round_to_units(values, scale, units)
        if not_finite:
            bad = self.series.alias("").is_finite().not_()
            raise DataError(
                f"column {self.series.name!r} holds NaN or infinity, {bad.sum():,} times, first in row {bad.arg_max()}",
                expected="finite numbers",
                hint=("filter these rows, or fill_nan(None) with ", Arg("nulls", "drop")),
            )
        if too_large:
            raise self.too_large()
        return units

    def floats(self, first: int, count: int) -> NDArray[np.float64] | None:
        """Read `count` rows, starting at row `first`, as floats; None if the column has another type."""
        return self._values(first, count) if self.series.dtype.is_float() else None

    @cached_property
    def _values(self) -> ColumnReader:
        if self.series.dtype.is_float():
            return ColumnReader(self.series.cast(pl.Float64))
        return ColumnReader(physical(self.series).cast(pl.Int64))

    @cached_property
    def _factor(self) -> int:
        dtype = self.series.dtype
        if self.in_units:
            return 1
        return int(10 ** (self.decimals - (dtype.scale if isinstance(dtype, pl.Decimal) else 0)))


def read_amounts(column: pl.Series, rules: TextRules, decimals: int, workers: int = 1) -> tuple[pl.Series, str]:
    """Parse a column of text as units; return also the currency, or empty text if there is none."""
    amounts = parse_units(column, rules.decimal, decimals, workers)
    if amounts.too_large:
        raise beyond_range(f"column {column.name!r} has {min(amounts.too_large)!r}", decimals)
    if amounts.bad or len(amounts.currencies) > 1:
        raise DataError(f"column {column.name!r} has text that is not an amount")
    units = pl.Series(column.name, amounts.units)
    if not amounts.valid.all():
        units = units.set(pl.Series(~amounts.valid), None)
    return units, next(iter(amounts.currencies), "")


def as_decimal(units: pl.Expr, decimals: int) -> pl.Expr:
    """Convert units to decimal numbers, exactly."""
    whole = units.cast(pl.Decimal(38, decimals))
    return (whole * pl.lit(Decimal(1).scaleb(-decimals), pl.Decimal(38, decimals))).cast(pl.Decimal(38, decimals))


def beyond_range(where: str, decimals: int) -> DataError:
    """Return the error for an amount, or a sum of amounts, that does not fit into 64 bits."""
    return DataError(
        (
            f"{where}: an amount, or the sum of all, is beyond {2**63 / 10**decimals:.3g}, the range of 64-bit "
            "integers with ",
            Arg("decimals", decimals),
        ),
        hint=("set a smaller ", Arg("decimals")) if decimals else "divide the amounts, for example by 1000",
    )

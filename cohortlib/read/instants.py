"""Read the column of timestamps, and cut them to local days."""

from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine import buffers
from cohortlib.engine.kernels.days import local_days
from cohortlib.engine.kernels.instants import BAD, DATE, NAIVE, NULL, ZONED
from cohortlib.engine.kernels.pack import DayCut
from cohortlib.errors import Arg, DataError, SchemaError, Text, listed
from cohortlib.periods import FIRST_DAY, LAST_DAY, Calendar, epoch_day, offsets
from cohortlib.read.arrays import INT64_LIMIT, ColumnReader, Ints, example, min_max, physical, range_text
from cohortlib.read.formats import NUMBERS
from cohortlib.read.text import TextRules, epoch_ticks, is_text, parse_instants

EARLIEST, LATEST = epoch_day(date(1900, 1, 1)), epoch_day(date(2200, 12, 31))
"""Instants of other days are refused, since they are usually mistakes."""
_FIRST_DATE, _LAST_DATE = 19000101, 22001231  # numbers that are dates as they are written, not since an epoch
_TICKS_PER_DAY = {"ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}


@dataclass(frozen=True)
class Instants:
    """A column of dates or datetimes. Nulls have no ticks."""

    series: pl.Series
    zoned: bool
    day: int
    """Ticks in a day: 1 for dates."""

    @classmethod
    def of(cls, column: pl.Series) -> "Instants":
        """Check that a column has dates or datetimes."""
        dtype = column.dtype
        if dtype == pl.Null and not len(column):
            column, dtype = column.cast(pl.Date), pl.Date()
        if dtype != pl.Date and not isinstance(dtype, pl.Datetime):
            hint: Text = f"pl.col({column.name!r}).cast(pl.Date)"
            low, high = min_max(column.alias("")) if dtype.is_integer() else (0, 0)
            if low is not None and _FIRST_DATE <= low <= high <= _LAST_DATE:
                hint = f"pl.col({column.name!r}).cast(pl.String), for dates written as numbers such as {low}"
            elif dtype.is_numeric():
                hint = Arg("timestamp_format", "epoch_s"), ", or the unit of these numbers: ", listed(NUMBERS)
            raise SchemaError(
                f"column {column.name!r} is {dtype}{example(column)}",
                value=dtype,
                expected="a Date, a Datetime or text",
                hint=hint,
            )
        zoned = isinstance(dtype, pl.Datetime) and dtype.time_zone is not None
        return cls(column, zoned, _TICKS_PER_DAY[dtype.time_unit] if isinstance(dtype, pl.Datetime) else 1)

    def bounds(self) -> tuple[int, int] | None:
        """Return the first and the last tick, or None without rows; check that they are in the years 1 to 9999."""
        low, high = self._extremes
        if low is None:
            return None
        if low // self.day < FIRST_DAY or high // self.day > LAST_DAY:
            raise DataError(range_text(self.series), expected="instants within the years 1 to 9999")
        return int(low), int(high)

    @property
    def within_years(self) -> bool:
        """Whether all of them are in the years 1900 to 2200."""
        low, high = self._extremes
        return low is None or (low >= EARLIEST * self.day and high < (LATEST + 1) * self.day)

    @cached_property
    def _extremes(self) -> tuple[Any, Any]:
        return min_max(physical(self.series))

    def ticks(self, first: int, count: int) -> Ints:
        """Read `count` rows, starting at row `first`, as ticks since 1970-01-01."""
        return self._ticks(first, count)

    @cached_property
    def _ticks(self) -> ColumnReader:
        return ColumnReader(physical(self.series).cast(pl.Int64))


@dataclass(frozen=True)
class Cut:
    """Cut the instants of one column to local days.

    Attributes
    ----------
    starts, shifts
        The ticks from which each offset from UTC holds, and the offsets in ticks.
    days
        Local days since 1970-01-01: a day at or before the first row, and the day of the last row.
    """

    instants: Instants
    starts: Ints
    shifts: Ints
    days: tuple[int, int]

    @classmethod
    def of(cls, instants: Instants, zone: str, calendar: Calendar) -> "Cut | None":
        """Prepare to cut a column; None if it has no rows."""
        bounds = instants.bounds()
        if bounds is None:
            return None
        low, high = bounds
        if instants.zoned:
            second = instants.day // 86_400
            starts, shifts = offsets(zone, low // second, high // second)
            starts, shifts = starts * second, shifts * second
        else:
            starts, shifts = np.array([low]), np.zeros(1, np.int64)
        ends = np.append(starts[1:] - 1, high)
        first = min(int(t) + int(s) for t, s in zip(starts, shifts, strict=True)) // instants.day
        last = max(int(t) + int(s) for t, s in zip(ends, shifts, strict=True)) // instants.day
        ordinals = calendar.ordinals(np.array([first, last]))
        if calendar.first_days(ordinals)[0] < FIRST_DAY or last > LAST_DAY:
            raise DataError(range_text(instants.series), expected="local dates within the years 1 to 9999")
        limit = INT64_LIMIT
        if (last + 1 - first) * instants.day >= limit or not -limit <= first * instants.day < limit:
            raise DataError(
                f"{range_text(instants.series)}, too wide a range for its time unit",
                hint="cast it to pl.Datetime('us')",
            )
        # When clocks go back over midnight, the last local day can be that of an earlier instant than the last.
        end = high + int(shifts[-1])
        ticks = physical(instants.series)
        for start, stop, shift in zip(starts[:-1], starts[1:], shifts[:-1], strict=True):
            if stop - 1 + shift > end:
                _, latest = min_max(ticks.filter((ticks >= start) & (ticks < stop)))
                end = max(end, end if latest is None else int(latest) + int(shift))
        return cls(instants, starts, shifts, (first, end // instants.day))

    def local_days(self, first: int, count: int) -> NDArray[np.int32]:
        """Cut `count` rows, starting at row `first`, to local days since 1970-01-01."""
        days = buffers.empty(count, np.int32)
        ticks, (_, halvings, odd, first_day) = self.instants.ticks(first, count), self.day_cut(0)
        origin = first_day * self.instants.day
        local_days(ticks, self.starts, self.shifts, origin, halvings, odd, first_day, days)
        return days

    def day_cut(self, since: int) -> DayCut:
        """Return how ticks are cut to days, which are counted from the day `since`, by the first offset from UTC."""
        day = self.instants.day
        halvings = (day & -day).bit_length() - 1
        origin = self.days[0] * day - int(self.shifts[0])
        return DayCut(origin, halvings, float(day >> halvings), self.days[0] - since)


def instants_of(column: pl.Series) -> pl.Series:
    """Return instants in nanoseconds, of any unit; those beyond its range are cut off by `end`."""
    instants = Instants.of(column)
    unit = 86_400 * 10**9 // instants.day
    low, high = -(2**63) // unit + 1, (2**63 - 1) // unit
    return physical(instants.series).cast(pl.Int64).clip(low, high) * unit


def read_instants(column: pl.Series, rules: TextRules, workers: int = 1) -> tuple[pl.Series, bool | None]:
    """Parse text and numbers as instants, and assume a zone for those without an offset.

    Returns the column as dates or datetimes, and whether it has offsets from UTC; None if it has no instants. Any
    other type is returned as it is.
    """
    dtype = column.dtype
    if is_text(dtype):
        return _from_text(column, rules, workers)
    if dtype.is_numeric() and rules.format.number is not None:
        column = _from_numbers(column, rules.format.number)
        dtype = column.dtype
    if dtype != pl.Date and not isinstance(dtype, pl.Datetime):
        return column, None
    zoned = isinstance(dtype, pl.Datetime) and dtype.time_zone is not None
    if rules.assume_zone is not None and not zoned:
        ticks = physical(column.cast(pl.Datetime("us")))
        empty = column.alias("").is_null()
        utc = assume_zone(ticks.fill_null(0).to_numpy(), ~np.asarray(empty), rules.assume_zone)
        column, zoned = datetimes(column.name, utc, np.asarray(empty), "UTC"), True
    return column, zoned if column.null_count() < len(column) else None


def _from_text(column: pl.Series, rules: TextRules, workers: int) -> tuple[pl.Series, bool | None]:
    instants = parse_instants(column, rules.format, workers)
    counts = instants.counts()
    naive, zoned = counts[DATE] + counts[NAIVE], counts[ZONED]
    if counts[BAD]:
        raise DataError(f"column {column.name!r} has text that is not a date, {counts[BAD]:,} times")
    ticks = instants.ticks
    if naive and rules.assume_zone is not None:
        ticks = assume_zone(ticks, (instants.kinds == DATE) | (instants.kinds == NAIVE), rules.assume_zone)
        naive, zoned = 0, naive + zoned
    if naive and zoned:
        raise DataError(f"column {column.name!r} has instants with and without an offset")
    empty = instants.kinds == NULL if counts[NULL] else np.empty(0, np.bool_)
    is_zoned = bool(zoned) if naive or zoned else None
    return datetimes(column.name, ticks, empty, "UTC" if is_zoned else None), is_zoned


def _from_numbers(column: pl.Series, number: str) -> pl.Series:
    """Convert a column of numbers since an epoch to datetimes."""
    scale = 10 ** NUMBERS[number]
    units = (column.alias("").cast(pl.Decimal(38, 9), strict=False) * scale).round().cast(pl.Int64, strict=False)
    lost = column.alias("").is_not_null() & units.is_null()
    if lost.any():
        raise DataError(
            f"column {column.name!r} has {lost.sum():,} numbers that are not instants, the first in row "
            f"{lost.arg_max()}: {column[lost.arg_max() or 0]!r}",
            expected=f"finite numbers, for ({Arg('timestamp_format', number)})",
        )
    empty = np.asarray(units.is_null())
    ticks = epoch_ticks(units.fill_null(0).to_numpy(), number)
    return datetimes(column.name, ticks, empty, None if number == "excel" else "UTC")


def datetimes(name: str, ticks: Ints, empty: NDArray[np.bool_], zone: str | None) -> pl.Series:
    """Return microseconds since 1970-01-01 as datetimes, with nulls where `empty`."""
    column = pl.Series(name, ticks)
    if empty.any():
        column = column.set(pl.Series(empty), None)
    return column.cast(pl.Datetime("us", zone))


def assume_zone(ticks: Ints, local: NDArray[np.bool_], zone: str) -> Ints:
    """Convert local times of a zone, where `local`, to UTC; both in microseconds.

    When clocks go back, a time that occurs twice is the first; when they go forward, a time that is skipped counts
    with the offset from before: as Python's ``datetime`` does with ``fold=0``.
    """
    seconds = ticks[local] // 1_000_000
    if not seconds.size:
        return ticks
    # Other years are refused or cut off, so the offsets at the ends are good enough for them.
    low, high = np.clip([seconds.min(), seconds.max()], EARLIEST * 86_400, LATEST * 86_400).tolist()
    starts, shifts = offsets(zone, low - 2 * 86_400, high + 2 * 86_400)
    # The wall clock that shows the last moment of the earlier offset.
    changes = starts[1:] + np.maximum(shifts[:-1], shifts[1:])
    ticks = ticks.copy()
    ticks[local] -= shifts[np.searchsorted(changes, seconds, side="right")] * 1_000_000
    return ticks


def check_years(column: pl.Series, last_day: int | None) -> pl.Series:
    """Raise DataError for instants before 1900 or after 2200; return the column.

    `last_day` is the last local day that counts, or None. Later rows can have any year: those after 2200 are returned
    as of a day in 2201, so that no later step meets a day that the calendar or the clock cannot represent.
    """
    dtype = column.dtype
    if dtype != pl.Date and not isinstance(dtype, pl.Datetime):
        return column
    instants = Instants.of(column)
    if instants.within_years:
        return column
    if outside(column, last_day).any():
        raise DataError(f"column {column.name!r} has instants before 1900 or after 2200")
    limit = (max(LATEST, last_day or 0) + 3) * instants.day
    ticks = physical(column).cast(pl.Int64).clip(upper_bound=limit)
    return ticks.cast(physical(column).dtype).cast(dtype).alias(column.name)


def outside(column: pl.Series, last_day: int | None) -> pl.Series:
    """Return which rows are before 1900 or after 2200, without those that are later than `last_day`."""
    dtype = column.dtype
    day = _TICKS_PER_DAY[dtype.time_unit] if isinstance(dtype, pl.Datetime) else 1
    days = physical(column).cast(pl.Int64) // day
    wrong = (days < EARLIEST) | (days > LATEST)
    if last_day is not None:
        wrong &= days <= last_day + 1  # local days differ from those of UTC by at most one
    return wrong.fill_null(value=False)

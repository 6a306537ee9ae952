"""Read the column of timestamps, and cut them to local days."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine.kernels.days import local_days
from cohortlib.errors import DataError, SchemaError
from cohortlib.periods import FIRST_DAY, LAST_DAY, Calendar, offsets
from cohortlib.read.arrays import INT64_LIMIT, ColumnReader, Ints, example, min_max, physical, range_text

_TICKS_PER_DAY = {"ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}


@dataclass(frozen=True)
class Instants:
    """A column of dates or datetimes without nulls."""

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
            hint = f"pl.col({column.name!r}).str.to_datetime(); a CSV file needs ISO dates, one form in all rows"
            if dtype.is_numeric():
                hint = f"pl.from_epoch({column.name!r}, 's'), or 'ms', 'us', 'ns': the unit of these numbers"
            raise SchemaError(
                f"column {column.name!r} is {dtype}{example(column)}",
                value=dtype,
                expected="a Date or a Datetime",
                hint=hint,
            )
        zoned = isinstance(dtype, pl.Datetime) and dtype.time_zone is not None
        return cls(column, zoned, _TICKS_PER_DAY[dtype.time_unit] if isinstance(dtype, pl.Datetime) else 1)

    def bounds(self) -> tuple[int, int] | None:
        """Return the first and the last tick, or None without rows; check that they are in the years 1 to 9999."""
        low, high = min_max(physical(self.series))
        if low is None:
            return None
        if low // self.day < FIRST_DAY or high // self.day > LAST_DAY:
            raise DataError(range_text(self.series), expected="instants within the years 1 to 9999")
        return int(low), int(high)

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
        days = np.empty(count, np.int32)
        day = self.instants.day
        halvings = (day & -day).bit_length() - 1
        local_days(
            self.instants.ticks(first, count), self.starts, self.shifts,
            self.days[0] * day, halvings, float(day >> halvings), self.days[0], days,
        )  # fmt: skip
        return days

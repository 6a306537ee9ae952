"""The column of instants, and their cut to local days."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine.kernels.days import local_days
from cohortlib.errors import DataError, SchemaError
from cohortlib.periods import FIRST_DAY, LAST_DAY, Calendar, offsets
from cohortlib.read.arrays import LIMIT, Ints, Numbers, example_of, physical_of, spread_of, value_range

_TICKS = {"ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}


@dataclass(frozen=True)
class Instants:
    """A column of dates or datetimes without nulls."""

    series: pl.Series
    zoned: bool
    day: int
    """Ticks in a day: 1 for dates."""

    @classmethod
    def of(cls, column: pl.Series) -> "Instants":
        """Check the type of a column of instants, and that it lies within the years 1 to 9999."""
        kind = column.dtype
        if kind == pl.Null and not len(column):
            column, kind = column.cast(pl.Date), pl.Date()
        if kind != pl.Date and not isinstance(kind, pl.Datetime):
            hint = f"pl.col({column.name!r}).str.to_datetime(); a CSV file needs ISO dates, one form in all rows"
            if kind.is_numeric():
                hint = f"pl.from_epoch({column.name!r}, 's'), or 'ms', by what the numbers count since 1970"
            raise SchemaError(
                f"column {column.name!r} is {kind}{example_of(column)}; expected a Date or a Datetime. Hint: {hint}"
            )
        zoned = isinstance(kind, pl.Datetime) and kind.time_zone is not None
        return cls(column, zoned, _TICKS[kind.time_unit] if isinstance(kind, pl.Datetime) else 1)

    def bounds(self) -> tuple[int, int] | None:
        """Give the least and the greatest tick, or None where there is no row."""
        low, high = value_range(physical_of(self.series))
        if low is None:
            return None
        if low // self.day < FIRST_DAY or high // self.day > LAST_DAY:
            raise DataError(f"{spread_of(self.series)}; expected instants within the years 1 to 9999")
        return int(low), int(high)

    def ticks(self, first: int, count: int) -> Ints:
        """Give `count` rows from `first` on as integers."""
        return self._ticks(first, count)

    @cached_property
    def _ticks(self) -> Numbers:
        return Numbers(physical_of(self.series).cast(pl.Int64))


@dataclass(frozen=True)
class Cut:
    """How the instants of one column become local days.

    No row lies before the first of `days` (local, since 1970-01-01), and the last row lies on the last.
    """

    instants: Instants
    starts: Ints
    shifts: Ints
    days: tuple[int, int]

    @classmethod
    def of(cls, instants: Instants, zone: str, calendar: Calendar) -> "Cut | None":
        """Prepare the cut of a column; None where it has no row."""
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
        turns = np.append(starts[1:] - 1, high)
        first = min(int(t) + int(s) for t, s in zip(starts, shifts, strict=True)) // instants.day
        last = max(int(t) + int(s) for t, s in zip(turns, shifts, strict=True)) // instants.day
        ordinals = calendar.ordinals(np.array([first, last]))
        if calendar.first_days(ordinals)[0] < FIRST_DAY or last > LAST_DAY:
            raise DataError(f"{spread_of(instants.series)}; expected local dates within the years 1 to 9999")
        if (last + 1 - first) * instants.day >= LIMIT or not -LIMIT <= first * instants.day < LIMIT:
            raise DataError(
                f"{spread_of(instants.series)}, too far for its resolution. Hint: cast it to pl.Datetime('us')"
            )
        # Where clocks go back over midnight, the last day is not always that of the last instant.
        end = high + int(shifts[-1])
        ticks = physical_of(instants.series)
        for start, stop, shift in zip(starts[:-1], starts[1:], shifts[:-1], strict=True):
            if stop - 1 + shift > end:
                _, latest = value_range(ticks.filter((ticks >= start) & (ticks < stop)))
                end = max(end, end if latest is None else int(latest) + int(shift))
        return cls(instants, starts, shifts, (first, end // instants.day))

    def local_days(self, first: int, count: int) -> NDArray[np.int32]:
        """Cut `count` rows from `first` on to local days since 1970-01-01."""
        days = np.empty(count, np.int32)
        day = self.instants.day
        halvings = (day & -day).bit_length() - 1
        local_days(
            self.instants.ticks(first, count), self.starts, self.shifts,
            self.days[0] * day, halvings, float(day >> halvings), self.days[0], days,
        )  # fmt: skip
        return days

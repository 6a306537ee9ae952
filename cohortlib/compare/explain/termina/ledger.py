"""The transactions as arrays, sorted by user and instant, so that a table under a cause takes milliseconds."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.periods import offsets
from cohortlib.read.arrays import Ints

Bools = NDArray[np.bool_]

MICROSECOND = 1_000_000
DAY = 86_400 * MICROSECOND
_LEAST, _MOST = 2, 1_000  # values of a column whose rows may be left out or kept


@dataclass(frozen=True, eq=False)
class Ledger:
    """Rows sorted by user and instant. Causes change the arrays, not the rows read."""

    starts: Ints  # the rows of user u are starts[u] to starts[u + 1]
    at: Ints  # microseconds since 1970, UTC; local ones if the instants have no zone
    units: Ints  # amounts
    weight: NDArray[np.int8]  # how often a row counts
    row: Ints  # its number in the frame
    names: pl.Series  # of the users, as text

    @classmethod
    def of(cls, users: pl.Series, at: Ints, units: Ints, row: Ints, weight: NDArray[np.int8]) -> "Ledger":
        """Sort rows by user and instant."""
        names = users.unique().sort()
        codes = users.cast(pl.Enum(names)).to_physical().to_numpy().astype(np.int64)
        order = np.lexsort((at, codes))
        starts = np.searchsorted(codes[order], np.arange(len(names) + 1)).astype(np.int64)
        return cls(starts, at[order], units[order], weight[order], row[order], names)

    @property
    def users(self) -> int:
        """The number of users."""
        return self.starts.size - 1

    @cached_property
    def user(self) -> Ints:
        """The user of each row."""
        return np.repeat(np.arange(self.users, dtype=np.int64), np.diff(self.starts))

    @cached_property
    def counts(self) -> Bools:
        """Which rows count."""
        counts: Bools = self.weight != 0
        return counts

    def weighted(self, chosen: Bools, weight: int) -> "Ledger":
        """Multiply the weight of the chosen rows."""
        return replace(self, weight=np.where(chosen, self.weight * np.int8(weight), self.weight).astype(np.int8))

    def moved(self, at: Ints) -> "Ledger":
        """Move rows to other instants."""
        order = np.lexsort((at, self.user))
        return replace(self, at=at[order], units=self.units[order], weight=self.weight[order], row=self.row[order])

    def renamed(self, users: pl.Series) -> "Ledger":
        """Move the rows to other users."""
        return Ledger.of(users, self.at, self.units, self.row, self.weight)


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows as they were read."""

    frame: pl.DataFrame
    user: str
    timestamp: str
    amount: str
    scale: int  # units of money per 1.0
    normalize: str | None
    joined: pl.DataFrame | None = None  # users and dates, if these are a table of their own

    @classmethod
    def of(cls, frame: pl.DataFrame, settings: Mapping[str, Any], joined: pl.DataFrame | None = None) -> "Rows":
        """Take the rows without nulls in the columns of the settings."""
        user, timestamp, amount = (str(settings[name]) for name in ("user", "timestamp", "amount"))
        scale = 10 ** int(settings["decimals"])
        rows = frame.drop_nulls([user, timestamp, amount])
        return cls(rows, user, timestamp, amount, scale, settings.get("normalize"), joined)

    @cached_property
    def zoned(self) -> bool:
        """Whether the instants have a zone."""
        dtype = self.frame.schema[self.timestamp]
        return isinstance(dtype, pl.Datetime) and dtype.time_zone is not None

    @cached_property
    def has_times(self) -> bool:
        """Whether the instants are more than dates."""
        return bool(self.ledger.at.size) and (self.zoned or bool((self.ledger.at % DAY != 0).any()))

    @cached_property
    def ledger(self) -> Ledger:
        """The rows as arrays."""
        height = self.frame.height
        return Ledger.of(
            self.names(self.user), self.instants(self.timestamp), self.units(self.amount),
            np.arange(height, dtype=np.int64), np.ones(height, np.int8),
        )  # fmt: skip

    def names(self, column: str) -> pl.Series:
        """Return a column as ids of users."""
        names = self.frame[column].cast(pl.String)
        if self.normalize:
            names = names.str.strip_chars()
        return names.str.to_lowercase() if self.normalize == "casefold" else names

    def instants(self, column: str) -> Ints:
        """Return a column as microseconds."""
        return as_microseconds(self.frame[column])

    def units(self, column: str) -> Ints:
        """Return a column as integer units of money."""
        amounts = self.frame[column]
        if amounts.dtype.is_integer():
            return np.asarray(amounts.cast(pl.Int64).to_numpy() * self.scale)
        return np.asarray(np.rint(amounts.cast(pl.Float64).to_numpy() * self.scale).astype(np.int64))

    @cached_property
    def _codes(self) -> dict[str, tuple[list[object], Ints]]:
        return {}

    def codes(self, column: str) -> tuple[list[object], Ints]:
        """Return the values of a column, the most frequent first, and the number of each row's; null is -1."""
        if column not in self._codes:
            values = self.frame[column]
            counts = values.drop_nulls().value_counts(sort=True).sort("count", column, descending=[True, False])
            numbers = counts.select(column).with_row_index("_number")
            joined = values.to_frame().join(numbers, on=column, how="left", maintain_order="left")
            codes = joined["_number"].cast(pl.Int64).fill_null(-1).to_numpy()
            self._codes[column] = counts[column].to_list(), codes
        return self._codes[column]

    @cached_property
    def dimensions(self) -> list[str]:
        """The columns, other than user, instant and amount, that have few values."""
        roles = (self.user, self.timestamp, self.amount)
        columns = [
            name
            for name, dtype in self.frame.schema.items()
            if name not in roles
            and (dtype.is_integer() or dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum))
            and _LEAST <= self.frame[name].drop_nulls().n_unique() <= _MOST
        ]
        return [name for name in columns if not self._repeats(name, columns)]

    def _repeats(self, name: str, columns: list[str]) -> bool:
        """Check whether an earlier column has the same rows for each value."""
        own = self.codes(name)[1]
        earlier = columns[: columns.index(name)]
        return any(np.array_equal(own, self.codes(other)[1]) for other in earlier)

    def dates(self) -> list[str]:
        """List the other columns of dates without nulls."""
        return [
            name
            for name, dtype in self.frame.schema.items()
            if dtype.is_temporal()
            and dtype not in (pl.Time, pl.Duration)
            and name != self.timestamp
            and not self.frame[name].null_count()
        ]

    def text(self, ledger: Ledger, *, settings: Mapping[str, Any]) -> pl.DataFrame:
        """Return the rows of a changed ledger as a frame for the public calls."""
        kept = np.repeat(np.arange(ledger.at.size), np.maximum(ledger.weight, 0))
        times = pl.Series(self.timestamp, ledger.at[kept]).cast(pl.Datetime("us"))
        zoned = self.zoned or settings.get("taken_as_utc", False)
        return pl.DataFrame([
            ledger.names.gather(ledger.user[kept]).alias(self.user),
            times.dt.replace_time_zone("UTC") if zoned else times,
            pl.Series(self.amount, ledger.units[kept] / self.scale),
        ])  # fmt: skip


def as_microseconds(times: pl.Series) -> Ints:
    """Return dates or instants as microseconds since 1970."""
    if times.dtype != pl.Date:
        return np.asarray(times.dt.cast_time_unit("us").to_physical().to_numpy().astype(np.int64))
    return np.asarray(times.to_physical().to_numpy().astype(np.int64) * DAY)


def boundaries(days: Ints, zone: str | None, low: int, high: int) -> Ints:
    """Return the instants at which local days begin, in microseconds; without a zone, those of the calendar.

    `low` and `high` are the first and the last instant of the rows, for the changes of the zone's clock.
    """
    local = days.astype(np.int64) * 86_400
    if zone is None:
        return local * MICROSECOND
    starts, shifts = offsets(zone, low // MICROSECOND - 86_400, high // MICROSECOND + 86_400)
    return clock_boundaries(local, starts, shifts) * MICROSECOND


def clock_boundaries(local: Ints, starts: Ints, shifts: Ints) -> Ints:
    """Return the first second at which a clock shows at least each local time.

    >>> clock_boundaries(np.array([0, 100]), np.array([-50, 40]), np.array([0, 10])).tolist()
    [0, 90]
    """
    ends = np.append(starts[1:], np.iinfo(np.int64).max // 4)
    begins = np.append(np.iinfo(np.int64).min // 4, starts[1:])
    instants = np.maximum(local[:, None] - shifts, begins)
    return np.asarray(np.where(instants < ends, instants, np.iinfo(np.int64).max // 4).min(axis=1))

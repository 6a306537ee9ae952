"""The door: from a frame to three checked columns, and from columns to arrays.

Columns are named here and nowhere further in. Inside there are users, instants and amounts.
"""

import os
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.selectors import by_name

from cohortlib import kernels
from cohortlib.errors import DataError, SchemaError, warn
from cohortlib.periods import FIRST_DAY, LAST_DAY, Calendar, offsets

Ints: TypeAlias = NDArray[np.int64]
Keys: TypeAlias = NDArray[np.uint64]
Nulls = Literal["error", "drop"]

# The keys of users are drawn anew in each process: nobody can choose ids that meet, or that crowd together.
SECRET = np.frombuffer(os.urandom(8 * 34), np.uint64)

_TICKS = {"ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
_LIMIT = 2**63


class _Numbers:
    """A column of numbers, read piece by piece; without a copy where it lies in one chunk."""

    def __init__(self, column: pl.Series) -> None:
        self._column = column
        self._whole = column.to_numpy() if column.n_chunks() == 1 else None

    def __call__(self, first: int, count: int) -> NDArray[Any]:
        if self._whole is None:
            return frozen(self._column.slice(first, count).to_numpy())
        return frozen(self._whole[first : first + count])


@dataclass(frozen=True)
class Users:
    """A column of user ids without nulls: integers, or text."""

    series: pl.Series
    whole: bool = False
    """Whether the ids were integers, of whatever width."""
    secret: Keys = field(default_factory=lambda: SECRET, repr=False, compare=False)
    """What the keys are drawn by."""

    @classmethod
    def of(cls, column: pl.Series) -> "Users":
        """Check the type of a column of user ids."""
        kind = column.dtype
        if isinstance(kind, pl.Categorical | pl.Enum | pl.String):
            return cls(column)
        if kind in (pl.Int64, pl.UInt64):
            return cls(column, whole=True)
        if kind.is_integer() or (isinstance(kind, pl.Decimal) and kind.scale == 0):
            low, high = _range(column)
            fits = low is None or (int(low) >= -_LIMIT and int(high) < _LIMIT)
            return cls(column.cast(pl.Int64 if fits else pl.String), whole=True)
        if kind == pl.Null and not len(column):
            return cls(column.cast(pl.Int64), whole=True)
        as_kept = "pl.Int64" if kind.is_float() else "pl.String"  # pandas makes floats of integers beside a null
        raise SchemaError(
            f"column {column.name!r} is {kind}; expected user ids as integers, strings or categoricals. "
            f"Hint: pl.col({column.name!r}).cast({as_kept})"
        )

    @classmethod
    def both(
        cls, one: "Users", other: "Users", where: tuple[str, str] = ("the transactions", "joined")
    ) -> tuple["Users", "Users"]:
        """Bring two columns of ids to one type, so that the same user has the same key in both."""
        kinds = one.series.dtype, other.series.dtype
        if kinds[0] == kinds[1] and kinds[0] in (pl.Int64, pl.UInt64, pl.String):
            return one, other
        if one.whole != other.whole and len(one.series) and len(other.series):
            raise SchemaError(
                f"the users are {kinds[0]} in {where[0]} ({one.series[0]!r}) and {kinds[1]} in {where[1]} "
                f"({other.series[0]!r}); expected the same type in both. Hint: cast one of them"
            )
        return cls(one.series.cast(pl.String)), cls(other.series.cast(pl.String))

    def __len__(self) -> int:
        return len(self.series)

    @staticmethod
    def alike(kind: pl.DataType) -> bool:
        """Whether any part of such a column has the keys that the whole column has."""
        return kind == pl.String or (kind.is_integer() and kind not in (pl.Int128, pl.UInt128))

    @property
    def wide(self) -> bool:
        """Whether a key takes two words."""
        return self.series.dtype == pl.String

    def text(self, rows: NDArray[np.uint32]) -> pl.Series:
        """Give the users of some rows as text."""
        return self.series.gather(rows).cast(pl.String)

    def keys(self, first: int, count: int) -> tuple[Keys, Keys]:
        """Give `count` rows from `first` on a key of one word, or of two where the ids are text."""
        keys = np.empty(count, np.uint64)
        if not self.wide:
            kernels.mix_integers(self._ids(first, count).view(np.int64), self.secret, keys)
            return keys, np.empty(0, np.uint64)
        keys2 = np.empty(count, np.uint64)
        at = -first
        for views, memory, bases in self._views:
            begin, end = max(at, 0), min(at + views.size // 2, count)
            if begin < end:
                rows = np.arange(begin - at, end - at, dtype=np.uint32)
                kernels.fingerprint_strings(views, memory, bases, rows, self.secret, keys[begin:end], keys2[begin:end])
            at += views.size // 2
        return keys, keys2

    def bounds(self) -> tuple[int, int]:
        """Give the least and the greatest of integer ids as they lie in 64 bits; there must be one."""
        low, high = _range(pl.Series(self._ids(0, len(self.series)).view(np.int64)))
        return int(low), int(high)

    def narrow_keys(self, first: int, count: int, base: int, bits: int) -> Keys | None:
        """Give `count` rows of integer ids a key of so many bits, on top of a word; None where ids do not fit."""
        keys = np.empty(count, np.uint64)
        ids = self._ids(first, count).view(np.int64)
        return None if kernels.mix_narrow(ids, np.int64(base), bits, self.secret, keys) else keys

    @cached_property
    def _ids(self) -> _Numbers:
        ids = _physical(self.series)
        return _Numbers(ids if ids.dtype == pl.UInt64 else ids.cast(pl.Int64))

    @cached_property
    def _views(self) -> list[tuple[Keys, NDArray[np.uint8], Keys]]:
        return string_views(self.series)


@dataclass(frozen=True)
class _Region:
    """A stretch of memory that numpy may look at; it holds what owns it."""

    __array_interface__: dict[str, object]
    owner: object


def _memory(address: int, size: int, dtype: str, owner: object) -> NDArray[Any]:
    if not size:
        return frozen(np.empty(0, dtype))
    face = {"data": (address, True), "shape": (size,), "typestr": dtype, "version": 3}
    return np.asarray(_Region(face, owner))


def string_views(column: pl.Series, *, nulls: bool = True) -> list[tuple[Keys, NDArray[np.uint8], Keys]]:
    """Give the views of a string column, chunk by chunk, and the memory behind them, without a copy.

    A null is empty text; then the views are copied, as nobody knows what stands in that of a null. Without `nulls` it
    is left to the caller not to look there.

    The data buffers lie anywhere; one array of bytes spans them all, from the lowest to the highest address, and
    only places within a buffer are ever read.
    """
    import nanoarrow

    pieces = []
    gone = column.alias("").is_null().to_numpy() if nulls and column.null_count() else None
    at = 0
    for chunk in nanoarrow.c_array_stream(column):
        _, views, *data, sizes = chunk.buffers
        lengths = _memory(sizes, len(data), "<i8", chunk).tolist()
        filled = [(start, size) for start, size in zip(data, lengths, strict=True) if size]
        low = min((start for start, _ in filled), default=0)
        high = max((start + size for start, size in filled), default=0)
        bases = np.array([start - low if size else 0 for start, size in zip(data, lengths, strict=True)], np.uint64)
        words = _memory(views + 16 * chunk.offset, 2 * len(chunk), "<u8", chunk)
        if gone is not None:
            words = words.copy()
            words.reshape(-1, 2)[gone[at : at + len(chunk)]] = 0
            words = frozen(words)
        at += len(chunk)
        pieces.append((words, _memory(low, high - low, "|u1", chunk), bases))
    return pieces


def magnitude(units: Ints) -> int:
    """Sum |units|, exactly."""
    high, low = kernels.magnitude(units)
    return (int(high) << 32) + int(low)


def _range(column: pl.Series) -> tuple[Any, Any]:
    """Give the least and the greatest value, or twice None."""
    return column.min(), column.max()


def _physical(column: pl.Series) -> pl.Series:
    """Give the numbers behind a column; without its name, which polars may take for a pattern."""
    return column.alias("").to_physical()


def _example(column: pl.Series) -> str:
    """Show a value, in brackets, where there is one."""
    return f" ({column.alias('').drop_nulls()[0]!r})" if column.null_count() < len(column) else ""


def _spread(column: pl.Series) -> str:
    plain = column.alias("")
    if plain.dtype.is_temporal():
        # Python has no dates before the year 1.
        plain = plain.gather([plain.arg_min() or 0, plain.arg_max() or 0]).cast(pl.String)
        low, high = plain
    else:
        low, high = _range(plain)
    return f"column {column.name!r} runs from {low} to {high}"


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Mark an array as read-only: numba compiles a kernel apart for each kind, and polars lends the former."""
    array = array.view()
    array.flags.writeable = False
    return array


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
                f"column {column.name!r} is {kind}{_example(column)}; expected a Date or a Datetime. Hint: {hint}"
            )
        zoned = isinstance(kind, pl.Datetime) and kind.time_zone is not None
        return cls(column, zoned, _TICKS[kind.time_unit] if isinstance(kind, pl.Datetime) else 1)

    def bounds(self) -> tuple[int, int] | None:
        """Give the least and the greatest tick, or None where there is no row."""
        low, high = _range(_physical(self.series))
        if low is None:
            return None
        if low // self.day < FIRST_DAY or high // self.day > LAST_DAY:
            raise DataError(f"{_spread(self.series)}; expected instants within the years 1 to 9999")
        return int(low), int(high)

    def ticks(self, first: int, count: int) -> Ints:
        """Give `count` rows from `first` on as integers."""
        return self._ticks(first, count)

    @cached_property
    def _ticks(self) -> _Numbers:
        return _Numbers(_physical(self.series).cast(pl.Int64))


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
            raise DataError(f"{_spread(instants.series)}; expected local dates within the years 1 to 9999")
        if (last + 1 - first) * instants.day >= _LIMIT or not -_LIMIT <= first * instants.day < _LIMIT:
            raise DataError(
                f"{_spread(instants.series)}, too far for its resolution. Hint: cast it to pl.Datetime('us')"
            )
        # Where clocks go back over midnight, the last day is not always that of the last instant.
        end = high + int(shifts[-1])
        ticks = _physical(instants.series)
        for start, stop, shift in zip(starts[:-1], starts[1:], shifts[:-1], strict=True):
            if stop - 1 + shift > end:
                _, latest = _range(ticks.filter((ticks >= start) & (ticks < stop)))
                end = max(end, end if latest is None else int(latest) + int(shift))
        return cls(instants, starts, shifts, (first, end // instants.day))

    def local_days(self, first: int, count: int) -> NDArray[np.int32]:
        """Cut `count` rows from `first` on to local days since 1970-01-01."""
        days = np.empty(count, np.int32)
        day = self.instants.day
        halvings = (day & -day).bit_length() - 1
        kernels.local_days(
            self.instants.ticks(first, count), self.starts, self.shifts,
            self.days[0] * day, halvings, float(day >> halvings), self.days[0], days,
        )  # fmt: skip
        return days


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
                f"column {column.name!r} is {kind}{_example(column)}; expected amounts as floats, integers or Decimal. "
                f"Hint: pl.col({column.name!r}).cast(pl.Float64)"
            )
        if isinstance(kind, pl.Decimal) and kind.scale > decimals:
            raise DataError(
                f"column {column.name!r} is {kind}, with more places than decimals={decimals}. "
                + (f"Hint: decimals={kind.scale}" if kind.scale <= 9 else "Hint: round it to 9 places or less")
            )
        amounts = cls(column, decimals)
        whole = not kind.is_float() and len(column) > 0
        if whole and any(abs(int(x * 10**decimals)) >= _LIMIT for x in _range(column)):
            raise amounts.too_large()
        return amounts

    def too_large(self) -> DataError:
        """Give the error for an amount, or a sum of amounts, that leaves the range."""
        return beyond_range(_spread(self.series), self.decimals)

    def units(self, first: int, count: int) -> Ints:
        """Give `count` rows from `first` on as whole numbers."""
        if not self.series.dtype.is_float():
            whole: Ints = self._numbers(first, count).astype(np.int64) * np.int64(self._factor)
            return whole
        units = np.empty(count, np.int64)
        wild, far = kernels.fixed(self._numbers(first, count), float(10**self.decimals), units)
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
    def _numbers(self) -> _Numbers:
        if self.series.dtype.is_float():
            return _Numbers(self.series.cast(pl.Float64))
        return _Numbers(_physical(self.series).cast(pl.Int64))

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


@dataclass(frozen=True)
class Dropped:
    """How many rows there were, how many were dropped, and the nulls of each column; the parts of a table add."""

    rows: int = 0
    count: int = 0
    nulls: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: "Dropped") -> "Dropped":
        return Dropped(self.rows + other.rows, self.count + other.count, self.nulls + other.nulls)

    def tell(self, what: str) -> None:
        """Warn of the rows that were dropped."""
        if self.count:
            warn(f"{self.count:,} of {self.rows:,} rows of {what} dropped for nulls: {self.told}")

    @property
    def told(self) -> str:
        """Say in which columns the nulls are."""
        return _told(self.nulls)

    def refused(self, what: str) -> DataError:
        """Give the error for rows with nulls that were not to be dropped."""
        return DataError(
            f"{what} has nulls: {_told(self.nulls)}, of {self.rows:,} rows; expected none. Hint: nulls='drop' leaves "
            "these rows out"
        )


@dataclass(frozen=True)
class Transactions:
    """The three columns, checked, without nulls; and the last day of any row, kept or not."""

    users: Users
    amounts: Amounts
    cut: Cut | None
    last_day: int | None
    """Local day of the last row of all."""
    dropped: Dropped


def without_nulls(frame: pl.DataFrame, nulls: Nulls, what: str) -> tuple[pl.DataFrame, Dropped]:
    """Refuse rows with a null, or drop them and count."""
    counts = Counter({name: frame[name].null_count() for name in frame.columns if frame[name].null_count()})
    if not counts:
        return frame, Dropped(len(frame), 0, counts)
    kept = frame.drop_nulls()
    dropped = Dropped(len(frame), len(frame) - len(kept), counts)
    if nulls == "error":
        raise dropped.refused(what)
    return kept, dropped


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} in column {name!r}" for name, count in counts.items())


def transactions(
    frame: pl.DataFrame, user: str, timestamp: str, amount: str, *,
    nulls: Nulls, decimals: int, zone: str, calendar: Calendar,
) -> Transactions:  # fmt: skip
    """Check the three columns of a frame and prepare them."""
    # Types first: an error of type is the more telling one.
    Users.of(frame[user].head(0))
    Instants.of(frame[timestamp])
    Amounts.of(frame[amount].head(0), decimals)
    everything = Cut.of(Instants.of(frame[timestamp].alias("").drop_nulls().alias(timestamp)), zone, calendar)
    kept, dropped = without_nulls(frame.select(by_name(user, timestamp, amount)), nulls, "the table")
    cut = everything
    if everything is not None and len(kept) < len(frame):
        cut = Cut.of(Instants.of(kept[timestamp]), zone, calendar)
    return Transactions(
        Users.of(kept[user]),
        Amounts.of(kept[amount], decimals),
        cut,
        everything.days[1] if everything is not None else None,
        dropped,
    )

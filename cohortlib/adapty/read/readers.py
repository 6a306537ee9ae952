"""Readers: convert the columns of files and frames to the types that the computation takes.

A value that cannot be read does not raise here, because its row may not count. It becomes null, and its text is kept
for the error message.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.adapty.read.settings import Reading
from cohortlib.engine.kernels.instants import BAD, DATE, NULL
from cohortlib.errors import DataError, SchemaError, Text
from cohortlib.read.arrays import Ints
from cohortlib.read.faults import fitting_decimal, fitting_formats
from cohortlib.read.ids import clean_ids
from cohortlib.read.instants import Instants, assume_zone, datetimes, outside, read_instants
from cohortlib.read.tables import Locate
from cohortlib.read.text import is_text, parse_instants, parse_units
from cohortlib.read.users import uuid_text

UTC = pl.Datetime("us", "UTC")
NO_DEVICE = "00000000-0000-0000-0000-000000000000"  # phones report this id if the user forbids tracking

PartT = TypeVar("PartT")

_SHOWN = 40  # letters of a value
_MOST_TEXTS = 10_000  # that a hint is about


@dataclass(frozen=True)
class Unread:
    """Values of a column that could not be read.

    Attributes
    ----------
    rows, texts
        The rows, and the values as text.
    problem
        What is wrong with them: ``"is not a date"``.
    hint
        Returns a hint for some texts, each with its count.
    """

    rows: NDArray[np.int64]
    texts: pl.Series
    problem: str
    expected: Text
    hint: Callable[[Mapping[str, int]], Text] = lambda _: ""

    @classmethod
    def of(cls, column: pl.Series, bad: NDArray[np.bool_], problem: str, expected: Text, **more: Any) -> "Unread":  # noqa: ANN401
        """Select the rows in which `bad` is true."""
        rows = np.flatnonzero(bad)
        return cls(rows, column.alias("").gather(rows).cast(pl.String), problem, expected, **more)


@dataclass(frozen=True)
class ReadColumn:
    """A column in its type, and the values that could not be read."""

    series: pl.Series
    unread: tuple[Unread, ...] = ()

    def merged(self, other: "ReadColumn", zone: str) -> "ReadColumn":
        """Fill the nulls of this column from another; dates among instants begin in `zone`."""
        first, second = self.series, other.series
        if first.dtype != second.dtype and pl.Date in (first.dtype, second.dtype):
            first, second = (beginnings(each, zone) if each.dtype == pl.Date else each for each in (first, second))
        filled = pl.select(pl.coalesce(first, second).alias(first.name)).to_series()
        return ReadColumn(filled, self.unread + other.unread)

    def check(self, counts: pl.Series, where: Locate | None = None, order: int = 0) -> None:
        """Raise UnreadError if a value in one of the rows that count (a mask) could not be read.

        `where` describes a row for the message; errors about columns of a lower `order` come first.
        """
        if faults := self.faults(counts, where, order):
            raise UnreadError(faults)

    def faults(self, counts: pl.Series, where: Locate | None = None, order: int = 0) -> "list[Fault]":
        """Return what :meth:`check` raises."""
        faults = []
        for unread in self.unread:
            counting = counts.to_numpy()[unread.rows]
            if counting.any():
                texts, row = unread.texts.filter(pl.Series(counting)), int(unread.rows[counting][0])
                place = f"{where(row)}: " if where else ""
                counted = Counter(dict(texts.head(_MOST_TEXTS).value_counts().iter_rows()))
                what = unread.problem, unread.expected, unread.hint
                faults.append(Fault(order, self.series.name, place, texts[0], len(texts), counted, *what))
        return faults


@dataclass(frozen=True)
class Fault:
    """Values of a column that could not be read in rows that count: the first of them, and the count of each."""

    order: int
    name: str
    place: str
    value: str
    count: int
    texts: Counter[str]
    problem: str
    expected: Text
    hint: Callable[[Mapping[str, int]], Text]

    def __add__(self, later: "Fault") -> "Fault":
        return replace(self, count=self.count + later.count, texts=self.texts + later.texts)


class UnreadError(DataError):
    """Values that could not be read; errors of later rows add."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = sorted(faults, key=lambda fault: fault.order)
        first = self.faults[0]
        rows = "1 row that counts" if first.count == 1 else f"{first.count:,} rows that count"
        super().__init__(
            f"{first.place}{first.name} {first.value[:_SHOWN]!r} {first.problem} (in {rows})",
            value=first.value,
            expected=first.expected,
            hint=first.hint(first.texts),
        )

    def __reduce__(self) -> tuple[type["UnreadError"], tuple[list[Fault]]]:
        return type(self), (self.faults,)

    def __add__(self, later: "UnreadError") -> "UnreadError":
        faults: dict[tuple[int, str], Fault] = {}
        for fault in (*self.faults, *later.faults):
            key = fault.order, fault.problem
            faults[key] = faults[key] + fault if key in faults else fault
        return UnreadError([*faults.values()])


def read_each(reads: Iterable[Callable[[], PartT]]) -> Iterator[PartT]:
    """Read parts of a source; values that cannot be read are counted over all of it."""
    error: UnreadError | None = None
    for read in reads:
        try:
            part = read()
        except UnreadError as found:
            error = found if error is None else error + found
            continue
        if error is None:
            yield part
    if error is not None:
        raise error


Reader: TypeAlias = Callable[[pl.Series, Reading], ReadColumn]


def is_whole(kind: pl.DataType) -> bool:
    """Return whether a type holds integers."""
    return kind.is_integer() or (isinstance(kind, pl.Decimal) and kind.scale == 0)


def is_wide(kind: pl.DataType) -> bool:
    """Return whether a type holds integers that may need more than 64 bits."""
    return is_whole(kind) and (kind in (pl.Int128, pl.UInt128) or not kind.is_integer())


def text(column: pl.Series, _: Reading | None = None) -> ReadColumn:
    """Read names or ids; empty text is null."""
    kind = column.dtype
    if not (is_text(kind) or is_whole(kind) or kind == pl.Null):
        raise _wrong_type(column, "text, categoricals or integers", f"pl.col({column.name!r}).cast(pl.String)")
    return ReadColumn(as_text(column))


def user(column: pl.Series, reading: Reading) -> ReadColumn:
    """Read user ids: integers stay integers, all else is text; blank text is null."""
    kind = column.dtype
    if kind == pl.Binary:
        return ReadColumn(uuid_text(column))
    if is_whole(kind):
        if kind in (pl.Int64, pl.UInt64):
            return ReadColumn(column)
        numbers = column.cast(pl.Int64, strict=False)
        return ReadColumn(column.cast(pl.String) if numbers.null_count() > column.null_count() else numbers)
    if is_text(kind):
        return ReadColumn(clean_ids(column, reading.rules.normalize, reading.doubts, reading.files.workers))
    return text(column)


def device(column: pl.Series, reading: Reading) -> ReadColumn:
    """Read device ids as user ids; the id of all zeros is null."""
    read = user(column, reading)
    ids = read.series
    if ids.dtype != pl.String:
        return read
    zeros = (ids == NO_DEVICE).fill_null(value=False)
    return ReadColumn(ids.set(zeros, None) if zeros.any() else ids)


def number(column: pl.Series, reading: Reading) -> ReadColumn:
    """Read amounts: integers and Decimal keep their type, text becomes Decimal."""
    kind = column.dtype
    if kind.is_numeric():
        return ReadColumn(column.cast(pl.Float64) if kind.is_float() else column)
    if kind == pl.Null:
        return ReadColumn(column.cast(pl.Float64))
    if not is_text(kind):
        raise _wrong_type(column, "floats, integers, Decimal or numbers as text", "cast it to pl.Float64")
    mark = reading.rules.decimal
    amounts = parse_units(column, mark, reading.decimals)
    if len(amounts.currencies) > 1:
        counts = ", ".join(f"{count:,} in {name!r}" for name, count in sorted(amounts.currencies.items()))
        raise DataError(
            f"column {column.name!r} has amounts in {len(amounts.currencies)} currencies: {counts}",
            value=amounts.currencies,
            expected="one currency",
        )
    unread = []
    for texts, problem in ((amounts.bad, "is not a number"), (amounts.too_large, "is too large")):
        if texts:
            bad = column.alias("").cast(pl.String).is_in(pl.Series(list(texts)).implode()).fill_null(value=False)
            expected = f"numbers such as {'12.5' if mark == '.' else '12,5'}"
            hint = partial(fitting_decimal, mark=mark, decimals=reading.decimals)
            unread.append(Unread.of(column, bad.to_numpy(), problem, expected, hint=hint))
    return ReadColumn(_decimals(column.name, amounts.units, amounts.valid, reading.decimals), tuple(unread))


def share(column: pl.Series, reading: Reading) -> ReadColumn:
    """Read shares, numbers from 0 to 1, as floats; those in text have any number of places."""
    kind = column.dtype
    if not is_text(kind):
        read = number(column, reading)
        return replace(read, series=read.series.cast(pl.Float64))
    texts = as_text(column)
    shares = texts.str.replace(reading.rules.decimal, ".", literal=True).cast(pl.Float64, strict=False)
    return ReadColumn(shares, _unread(texts, shares, "is not a number", "shares such as 0.15"))


def floats(amounts: pl.Series) -> pl.Series:
    """Convert amounts to floats, by one division."""
    if isinstance(amounts.dtype, pl.Decimal):
        # In numpy, since polars multiplies by the reciprocal of a constant.
        units = amounts.alias("").to_physical().cast(pl.Int64)
        values = pl.Series(amounts.name, units.fill_null(0).to_numpy() / 10**amounts.dtype.scale)
        return values.set(units.is_null(), None) if units.null_count() else values
    return amounts.cast(pl.Float64)


def whole(column: pl.Series, _: Reading | None = None) -> ReadColumn:
    """Read counts: integers, whole floats, or either as text."""
    kind = column.dtype
    if kind.is_integer():
        counts = column.cast(pl.Int64, strict=False)
        return ReadColumn(counts, _unread(column, counts, "is too large", "64-bit integers"))
    if not (is_text(kind) or kind.is_numeric() or kind == pl.Null):
        raise _wrong_type(column, "integers", f"pl.col({column.name!r}).cast(pl.Int64)")
    values = as_text(column) if is_text(kind) else column
    numbers = values.cast(pl.Float64, strict=False)
    counts = numbers.cast(pl.Int64, strict=False)
    counts = counts.set((counts != numbers).fill_null(value=False), None)
    return ReadColumn(counts, _unread(values, counts, "is not a whole number", "whole numbers such as 3"))


def flag(column: pl.Series, _: Reading | None = None) -> ReadColumn:
    """Read booleans: true and false, t and f, 1 and 0, also as text."""
    kind = column.dtype
    if kind in (pl.Boolean, pl.Null):
        return ReadColumn(column.cast(pl.Boolean))
    if not (kind.is_integer() or is_text(kind)):
        raise _wrong_type(column, "booleans", f"pl.col({column.name!r}).cast(pl.Boolean)")
    texts = as_text(column)
    lower = texts.str.to_lowercase()
    yes, no = lower.is_in(["true", "t", "1"]), lower.is_in(["false", "f", "0"])
    flags = yes.set(~(yes | no), None).alias(column.name)
    return ReadColumn(flags, _unread(texts, flags, "is neither true nor false", "true or false"))


def instant(column: pl.Series, reading: Reading) -> ReadColumn:
    """Read instants as UTC; a column of dates stays one.

    An instant without an offset is UTC, as documented for both vendors' exports. A date is that day, in any zone; among
    instants it becomes the beginning of the day in the zone of the calendar.
    """
    read = end(column, reading)
    series = read.series
    if Instants.of(series).within_years or not (wrong := outside(series, reading.last_day)).any():
        return read
    unread = Unread.of(column, wrong.to_numpy(), "is before 1900 or after 2200", "instants in the years 1900 to 2200")
    return ReadColumn(series, (*read.unread, unread))


def end(column: pl.Series, reading: Reading) -> ReadColumn:
    """Read instants, as :func:`instant`, of any year."""
    kind = column.dtype
    if is_text(kind):
        return _from_text(column, reading)
    if kind.is_numeric() and reading.rules.format.number is not None:
        column, _ = read_instants(column, reading.rules)
        kind = column.dtype
    if kind == pl.Date:
        return ReadColumn(column)
    if isinstance(kind, pl.Datetime):
        if kind.time_zone is None:
            return ReadColumn(column.cast(pl.Datetime(kind.time_unit, "UTC")))
        return ReadColumn(column if kind.time_zone == "UTC" else column.dt.convert_time_zone("UTC"))
    if kind == pl.Null:
        return ReadColumn(column.cast(UTC))
    raise _wrong_type(column, "a Date, a Datetime or ISO 8601 text", f"pl.from_epoch({column.name!r}), or a cast")


def _from_text(column: pl.Series, reading: Reading) -> ReadColumn:
    form = reading.rules.timestamp_format
    instants = parse_instants(column, reading.rules.format)
    counts, ticks = instants.counts(), instants.ticks
    unread: tuple[Unread, ...] = ()
    if counts[BAD]:
        expected = f"the form {form!r}" if form else "ISO 8601 such as '2026-01-31' or '2026-01-31T12:00:00Z'"
        bad = instants.kinds == BAD
        unread = (Unread.of(column, bad, "is not a date", expected, hint=partial(fitting_formats, current=form)),)
    empty = (instants.kinds == NULL) | (instants.kinds == BAD) if counts[NULL] or counts[BAD] else np.empty(0, np.bool_)
    dates, others = counts[DATE], len(column) - counts[DATE] - counts[NULL] - counts[BAD]
    if dates and not others:
        return ReadColumn(datetimes(column.name, ticks, empty, None).cast(pl.Date), unread)
    if dates:
        ticks = assume_zone(ticks, instants.kinds == DATE, reading.zone)
        reading.counts["dates"] += dates
    return ReadColumn(datetimes(column.name, ticks, empty, "UTC"), unread)


def beginnings(days: pl.Series, zone: str) -> pl.Series:
    """Convert dates to the instants at which these days begin in a zone."""
    ticks = days.alias("").cast(pl.Datetime("us")).to_physical()
    empty = ticks.is_null().to_numpy()
    utc = assume_zone(ticks.fill_null(0).to_numpy(), ~empty, zone)
    return datetimes(days.name, utc, empty, "UTC")


def utc(instants: pl.Series, zone: str) -> pl.Series:
    """Convert instants, or dates of a zone, to microseconds in UTC."""
    return beginnings(instants, zone) if instants.dtype == pl.Date else instants.cast(UTC)


def as_text(column: pl.Series) -> pl.Series:
    """Return a column as text, with nulls for empty texts."""
    texts = column if column.dtype == pl.String else column.cast(pl.String)
    empty = texts == ""
    return texts.set(empty.fill_null(value=False), None) if empty.any() else texts


def _decimals(name: str, units: Ints, valid: NDArray[np.bool_], decimals: int) -> pl.Series:
    """Return units of 10^-decimals as a column of Decimal, without arithmetic on its 128-bit numbers."""
    import nanoarrow

    halves = np.empty((units.size, 2), np.int64)
    halves[:, 0], halves[:, 1] = units, units >> 63
    validity: Any = None if valid.all() else np.packbits(valid, bitorder="little")
    buffers = [validity, halves.ravel().view(np.uint8)]
    array = nanoarrow.c_array_from_buffers(nanoarrow.decimal128(38, decimals), units.size, buffers)
    return pl.Series(array).alias(name)


def _unread(before: pl.Series, after: pl.Series, problem: str, expected: str) -> tuple[Unread, ...]:
    """Return the values that became null on reading."""
    if before.null_count() == after.null_count():
        return ()
    bad = before.alias("").is_not_null() & after.alias("").is_null()
    return (Unread.of(before, bad.to_numpy(), problem, expected),)


def _wrong_type(column: pl.Series, expected: str, hint: str) -> SchemaError:
    values = column.drop_nulls()
    example = f" (such as {str(values[0])[:_SHOWN]!r})" if len(values) else ""
    return SchemaError(f"column {column.name!r} is {column.dtype}{example}", expected=expected, hint=hint)

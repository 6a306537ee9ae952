"""Columns as files and frames hold them, brought to the types that the computation takes.

A value that cannot be read never raises here, for it may stand in a row that does not count: it becomes null, and
its row is remembered.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import polars as pl

from cohortlib.errors import SchemaError

UTC = pl.Datetime("us", "UTC")

_DATE = "%Y-%m-%d"
_PLAIN = re.compile(r"\d{4}-\d\d-\d\d([T ])\d\d:\d\d:\d\d(?:\.(\d{3}|\d{6}|\d{9}))?(Z|\+00:00|\+0000| UTC)?", re.ASCII)
# Formats of every other instant: a fraction of any length or none, an offset or none, and seconds or none.
_FORMATS = [
    f"{_DATE}{between}{clock}{zone}"
    for clock in ("%H:%M:%S%.f", "%H:%M")
    for between in ("T", " ")
    for zone in ("%#z", "", " UTC")
]


@dataclass(frozen=True)
class Column:
    """A column in its type, and what in it cannot be read as that type."""

    series: pl.Series
    bad: pl.Series | None = None
    """The values that cannot be read, as text, null in all other rows; None where there are none."""
    expected: str = ""

    def merged(self, other: "Column") -> "Column":
        """Fill the nulls of this column from another."""
        both = [bad for bad in (self.bad, other.bad) if bad is not None]
        return Column(_coalesced(self.series, other.series), _coalesced(*both) if both else None, self.expected)

    def refuse_unread(self, rows: pl.Series) -> None:
        """Raise where one of some `rows` (a mask) holds a value that cannot be read."""
        if self.bad is None:
            return
        bad = self.bad.filter(rows).drop_nulls()
        if len(bad):
            raise SchemaError(
                f"column {self.series.name!r} holds other values in {len(bad):,} rows that count, such as "
                f"{bad[0][:40]!r}; expected {self.expected}"
            )


def _refused(column: pl.Series, expected: str, hint: str) -> SchemaError:
    values = column.drop_nulls()
    example = f" (such as {str(values[0])[:40]!r})" if len(values) else ""
    return SchemaError(f"column {column.name!r} is {column.dtype}{example}; expected {expected}. Hint: {hint}")


def is_text(kind: pl.DataType) -> bool:
    """Whether a type is one of text."""
    return isinstance(kind, pl.String | pl.Categorical | pl.Enum)


def is_whole(kind: pl.DataType) -> bool:
    """Whether a type is one of integers."""
    return kind.is_integer() or (isinstance(kind, pl.Decimal) and kind.scale == 0)


def is_wide(kind: pl.DataType) -> bool:
    """Whether a type is one of integers that may need more than 64 bits."""
    return is_whole(kind) and (kind in (pl.Int128, pl.UInt128) or not kind.is_integer())


def _unread(before: pl.Series, after: pl.Series) -> pl.Series | None:
    """Give the values that reading has turned into nulls."""
    if before.null_count() == after.null_count():
        return None
    return before.cast(pl.String).set(after.is_not_null(), None)


def _coalesced(first: pl.Series, *others: pl.Series) -> pl.Series:
    return pl.select(pl.coalesce(first, *others).alias(first.name)).to_series()


def _without_empties(column: pl.Series) -> pl.Series:
    empty = column == ""
    return column.set(empty.fill_null(value=False), None) if empty.any() else column


def _as_text(column: pl.Series) -> pl.Series:
    return _without_empties(column if column.dtype == pl.String else column.cast(pl.String))


def text(column: pl.Series) -> Column:
    """Read a column of names or ids; empty text is null."""
    kind = column.dtype
    if not (is_text(kind) or is_whole(kind) or kind == pl.Null):
        raise _refused(column, "text, categoricals or integers", f"pl.col({column.name!r}).cast(pl.String)")
    return Column(_as_text(column))


def user(column: pl.Series) -> Column:
    """Read a column of user ids: text, or integers where the source holds integers."""
    kind = column.dtype
    if is_whole(kind):
        if kind in (pl.Int64, pl.UInt64):
            return Column(column)
        whole = column.cast(pl.Int64, strict=False)
        return Column(column.cast(pl.String) if whole.null_count() > column.null_count() else whole)
    return text(column)


def number(column: pl.Series) -> Column:
    """Read a column of amounts: floats, integers and Decimal as they stand, text as floats."""
    kind = column.dtype
    if kind.is_numeric():
        return Column(column.cast(pl.Float64) if kind.is_float() else column)
    if kind == pl.Null:
        return Column(column.cast(pl.Float64))
    if not is_text(kind):
        raise _refused(column, "floats, integers, Decimal or numbers as text", "cast it to pl.Float64")
    written = _as_text(column)
    read = written.cast(pl.Float64, strict=False)
    return Column(read, _unread(written, read), "numbers such as 12.5")


def whole(column: pl.Series) -> Column:
    """Read a column of counts: integers, whole floats, or either as text."""
    kind = column.dtype
    if kind.is_integer():
        read = column.cast(pl.Int64, strict=False)
        return Column(read, _unread(column, read), "64-bit integers")
    numbers = number(column)
    read = numbers.series.cast(pl.Int64, strict=False)
    read = read.set((read != numbers.series).fill_null(value=False), None)
    return Column(read, _unread(_as_text(column) if is_text(kind) else column, read), "whole numbers such as 3")


def flag(column: pl.Series) -> Column:
    """Read a column of yes and no: booleans, 0 and 1, or either as text."""
    kind = column.dtype
    if kind in (pl.Boolean, pl.Null):
        return Column(column.cast(pl.Boolean))
    if not (kind.is_integer() or is_text(kind)):
        raise _refused(column, "booleans", f"pl.col({column.name!r}).cast(pl.Boolean)")
    written = _as_text(column)
    small = written.str.to_lowercase()
    yes, no = small.is_in(["true", "t", "1"]), small.is_in(["false", "f", "0"])
    read = yes.set(~(yes | no), None).alias(column.name)
    return Column(read, _unread(written, read), "true or false")


def instant(column: pl.Series, dates: Collection[str] | None = None) -> Column:
    """Read a column of instants as UTC; a column of dates stays one of dates.

    An instant without a zone is one of UTC, as the exports of both vendors say. Text holds dates where most of it is
    as long as one; part of a column is told by `dates`, which names the columns of which the whole is such.
    """
    kind = column.dtype
    if kind == pl.Date:
        return Column(column)
    if isinstance(kind, pl.Datetime):
        if kind.time_zone is None:
            return Column(column.cast(pl.Datetime(kind.time_unit, "UTC")))
        return Column(column if kind.time_zone == "UTC" else column.dt.convert_time_zone("UTC"))
    if kind == pl.Null:
        return Column(column.cast(UTC))
    if not is_text(kind):
        raise _refused(column, "a Date, a Datetime or ISO 8601 text", f"pl.from_epoch({column.name!r}), or a cast")
    written = _as_text(column)
    whole = are_dates(*date_counts(written)) if dates is None else column.name in dates
    read = written.str.to_date(_DATE, strict=False) if whole else _instants(written)
    expected = (
        "ISO dates such as '2026-01-31', in all rows or in none"
        if whole
        else "ISO instants such as '2026-01-31T12:00:00Z', or dates in all rows"
    )
    return Column(read, _unread(written, read), expected)


def date_counts(written: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """Count the texts of a column (a series, or an expression), and those as long as a date; counts of parts add."""
    return (written != "").sum(), (written.str.len_bytes() == len("2026-01-31")).sum()


def are_dates(present: int, short: int) -> bool:
    """Tell by these counts whether a column of text holds dates, and not instants."""
    return present > 0 and 2 * short >= present


def _instants(written: pl.Series) -> pl.Series:
    """Parse text: by the form of its first value, which is quick, and what that leaves by every form."""
    values = written.drop_nulls()
    found = _PLAIN.fullmatch(values[0]) if len(values) else None
    if found:
        between, fraction, zone = found.groups(default="")
        places = f".%{len(fraction)}f" if fraction else ""
        read = _strptime(written, f"{_DATE}{between}%H:%M:%S{places}{zone}")
    else:
        read = pl.Series(written.name, [None], UTC).new_from_index(0, len(written))
    for form in _FORMATS:
        if read.null_count() == written.null_count():
            break
        left = (written.is_not_null() & read.is_null()).arg_true()
        some = _strptime(written.gather(left), form)
        if some.null_count() < len(some):
            read = read.scatter(left, some)
    return read


def _strptime(written: pl.Series, form: str) -> pl.Series:
    return written.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False, cache=False)

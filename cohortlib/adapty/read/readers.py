"""Readers: convert the columns of files and frames to the types that the computation takes.

A value that cannot be read does not raise here, because its row may not count. It becomes null, and its text is kept
for the error message.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeAlias

import polars as pl

from cohortlib.errors import SchemaError

UTC = pl.Datetime("us", "UTC")
NO_DEVICE = "00000000-0000-0000-0000-000000000000"  # phones report this id if the user forbids tracking

_DATE = "%Y-%m-%d"
_COMMON_FORM = re.compile(
    r"\d{4}-\d\d-\d\d([T ])\d\d:\d\d:\d\d(?:\.(\d{3}|\d{6}|\d{9}))?(Z|\+00:00|\+0000| UTC)?", re.ASCII
)
# All accepted forms: with T or a space, with or without seconds, a fraction of any length, and an offset.
_FORMATS = [
    f"{_DATE}{separator}{clock}{zone}"
    for clock in ("%H:%M:%S%.f", "%H:%M")
    for separator in ("T", " ")
    for zone in ("%#z", "", " UTC")
]


@dataclass(frozen=True)
class ReadColumn:
    """A column in its type, and the values that could not be read."""

    series: pl.Series
    bad: pl.Series | None = None
    """The values that could not be read, as text, and null in all other rows; None if there are none."""
    expected: str = ""

    def merged(self, other: "ReadColumn") -> "ReadColumn":
        """Fill the nulls of this column from another."""
        bad = [values for values in (self.bad, other.bad) if values is not None]
        return ReadColumn(_coalesced(self.series, other.series), _coalesced(*bad) if bad else None, self.expected)

    def check(self, rows: pl.Series) -> None:
        """Raise if a value in one of the `rows` (a mask) could not be read."""
        if self.bad is None:
            return
        bad = self.bad.filter(rows).drop_nulls()
        if len(bad):
            raise SchemaError(
                f"column {self.series.name!r} cannot be read in {len(bad):,} rows that count, such as {bad[0][:40]!r}",
                value=bad[0],
                expected=self.expected,
            )


Reader: TypeAlias = Callable[[pl.Series], ReadColumn]


def is_text(kind: pl.DataType) -> bool:
    """Return whether a type holds text: String, Categorical or Enum."""
    return isinstance(kind, pl.String | pl.Categorical | pl.Enum)


def is_whole(kind: pl.DataType) -> bool:
    """Return whether a type holds integers."""
    return kind.is_integer() or (isinstance(kind, pl.Decimal) and kind.scale == 0)


def is_wide(kind: pl.DataType) -> bool:
    """Return whether a type holds integers that may need more than 64 bits."""
    return is_whole(kind) and (kind in (pl.Int128, pl.UInt128) or not kind.is_integer())


def text(column: pl.Series) -> ReadColumn:
    """Read names or ids; empty text is null."""
    kind = column.dtype
    if not (is_text(kind) or is_whole(kind) or kind == pl.Null):
        raise _wrong_type(column, "text, categoricals or integers", f"pl.col({column.name!r}).cast(pl.String)")
    return ReadColumn(as_text(column))


def user(column: pl.Series) -> ReadColumn:
    """Read user ids: integers stay integers, all else is text."""
    kind = column.dtype
    if is_whole(kind):
        if kind in (pl.Int64, pl.UInt64):
            return ReadColumn(column)
        numbers = column.cast(pl.Int64, strict=False)
        return ReadColumn(column.cast(pl.String) if numbers.null_count() > column.null_count() else numbers)
    return text(column)


def device(column: pl.Series) -> ReadColumn:
    """Read device ids as user ids; the id of all zeros is null."""
    if not is_text(column.dtype):
        return user(column)
    ids = text(column).series
    zeros = (ids == NO_DEVICE).fill_null(value=False)
    return ReadColumn(ids.set(zeros, None) if zeros.any() else ids)


def number(column: pl.Series) -> ReadColumn:
    """Read amounts: integers and Decimal keep their type, text becomes Float64."""
    kind = column.dtype
    if kind.is_numeric():
        return ReadColumn(column.cast(pl.Float64) if kind.is_float() else column)
    if kind == pl.Null:
        return ReadColumn(column.cast(pl.Float64))
    if not is_text(kind):
        raise _wrong_type(column, "floats, integers, Decimal or numbers as text", "cast it to pl.Float64")
    texts = as_text(column)
    numbers = texts.cast(pl.Float64, strict=False)
    return ReadColumn(numbers, _unread(texts, numbers), "numbers such as 12.5")


def whole(column: pl.Series) -> ReadColumn:
    """Read counts: integers, whole floats, or either as text."""
    kind = column.dtype
    if kind.is_integer():
        counts = column.cast(pl.Int64, strict=False)
        return ReadColumn(counts, _unread(column, counts), "64-bit integers")
    numbers = number(column)
    counts = numbers.series.cast(pl.Int64, strict=False)
    counts = counts.set((counts != numbers.series).fill_null(value=False), None)
    return ReadColumn(counts, _unread(as_text(column) if is_text(kind) else column, counts), "whole numbers such as 3")


def flag(column: pl.Series) -> ReadColumn:
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
    return ReadColumn(flags, _unread(texts, flags), "true or false")


def instant(column: pl.Series, dates: Collection[str] | None = None) -> ReadColumn:
    """Read instants as UTC; dates stay dates.

    An instant without a zone is UTC, as documented for both vendors' exports. A text column holds dates if at least
    half of its values are as long as a date. For part of a table `dates` lists the columns that hold dates, since a
    part may look different from the whole column.
    """
    kind = column.dtype
    if kind == pl.Date:
        return ReadColumn(column)
    if isinstance(kind, pl.Datetime):
        if kind.time_zone is None:
            return ReadColumn(column.cast(pl.Datetime(kind.time_unit, "UTC")))
        return ReadColumn(column if kind.time_zone == "UTC" else column.dt.convert_time_zone("UTC"))
    if kind == pl.Null:
        return ReadColumn(column.cast(UTC))
    if not is_text(kind):
        raise _wrong_type(column, "a Date, a Datetime or ISO 8601 text", f"pl.from_epoch({column.name!r}), or a cast")
    texts = as_text(column)
    if are_dates(*date_counts(texts)) if dates is None else column.name in dates:
        days = texts.str.to_date(_DATE, strict=False)
        return ReadColumn(days, _unread(texts, days), "ISO dates such as '2026-01-31', in all rows or in none")
    instants = _parse_instants(texts)
    expected = "ISO instants such as '2026-01-31T12:00:00Z', or dates in all rows"
    return ReadColumn(instants, _unread(texts, instants), expected)


def date_counts(texts: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """Count the texts of a column (a series or an expression) and those as long as a date; counts of parts add.

    A name in a repeated header line may be as long, but begins with a letter.
    """
    return (texts != "").sum(), ((texts.str.len_bytes() == len("2026-01-31")) & (texts < "A")).sum()


def are_dates(present: int, short: int) -> bool:
    """Decide from these counts whether a text column holds dates and not instants."""
    return present > 0 and 2 * short >= present


def _parse_instants(texts: pl.Series) -> pl.Series:
    """Parse texts in the format of the first value, which is fast, then the rest in every format."""
    values = texts.drop_nulls()
    match = _COMMON_FORM.fullmatch(values[0]) if len(values) else None
    if match:
        separator, fraction, zone = match.groups(default="")
        places = f".%{len(fraction)}f" if fraction else ""
        instants = _strptime(texts, f"{_DATE}{separator}%H:%M:%S{places}{zone}")
    else:
        instants = pl.Series(texts.name, [None], UTC).new_from_index(0, len(texts))
    for form in _FORMATS:
        if instants.null_count() == texts.null_count():
            break
        rest = (texts.is_not_null() & instants.is_null()).arg_true()
        parsed = _strptime(texts.gather(rest), form)
        if parsed.null_count() < len(parsed):
            instants = instants.scatter(rest, parsed)
    return instants


def _strptime(texts: pl.Series, form: str) -> pl.Series:
    return texts.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False, cache=False)


def as_text(column: pl.Series) -> pl.Series:
    """Return a column as text, with nulls for empty texts."""
    texts = column if column.dtype == pl.String else column.cast(pl.String)
    empty = texts == ""
    return texts.set(empty.fill_null(value=False), None) if empty.any() else texts


def _coalesced(first: pl.Series, *others: pl.Series) -> pl.Series:
    return pl.select(pl.coalesce(first, *others).alias(first.name)).to_series()


def _unread(before: pl.Series, after: pl.Series) -> pl.Series | None:
    """Return the values that became null on reading, as text; None if there are none."""
    if before.null_count() == after.null_count():
        return None
    return before.cast(pl.String).set(after.is_not_null(), None)


def _wrong_type(column: pl.Series, expected: str, hint: str) -> SchemaError:
    values = column.drop_nulls()
    example = f" (such as {str(values[0])[:40]!r})" if len(values) else ""
    return SchemaError(f"column {column.name!r} is {column.dtype}{example}", expected=expected, hint=hint)

"""Read rows of JSON, already parsed, into a frame of known names and types: column by column, all of it checked.

Unknown fields are passed over, numbers may come as text, whole numbers as 3.0. What is missing or wrong is a
:class:`~cohortlib.errors.ReplyError` that names the place.
"""

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import polars as pl

from cohortlib.errors import ReplyError, listed
from cohortlib.periods import LABELS, Calendar, Freq, span

Place = Callable[[int], str]
Kind = type[pl.DataType]
Value = TypeVar("Value")

_MISSING = object()
_NUMBER = re.compile(r"\s*[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?\s*", re.ASCII)
_WHOLE = re.compile(r"\s*[+-]?\d{1,30}\s*", re.ASCII)
_INSTANT = re.compile(r"(\d{4}-\d{2}-\d{2})(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?", re.ASCII)
_LARGEST = 2**63


def frame(
    rows: object,
    schema: Mapping[str, Kind],
    *,
    required: Collection[str],
    optional: Collection[str] = (),
    at: Place = "row {}".format,
    what: str = "the reply",
) -> pl.DataFrame:
    """Read a list of objects into a frame.

    Parameters
    ----------
    rows
        What JSON gave: a list of dicts.
    schema
        The columns: String, Int64, Float64 or Boolean.
    required
        The columns without nulls. In others a value may be null.
    optional
        The columns that a row may leave out, which is as null.
    at
        Names a row for a message.
    what
        Names the list for a message.

    Raises
    ------
    ReplyError
        Where `rows` is no list of objects, a field is missing, or a value is not of its type.

    Examples
    --------
    >>> rows = [{"period": 0, "ltv": "12.5"}, {"period": 1.0, "ltv": None, "new": "field"}]
    >>> frame(rows, {"period": pl.Int64, "ltv": pl.Float64}, required=["period"]).rows()
    [(0, 12.5), (1, None)]
    """
    listing = as_list(rows, what)
    if set(map(type, listing)) - {dict}:
        index = next(i for i, row in enumerate(listing) if type(row) is not dict)
        raise ReplyError(f"{at(index)} is {shown(listing[index])}; expected an object of fields")
    return pl.DataFrame(
        [_column(name, kind, listing, name in required, name in optional, at) for name, kind in schema.items()]
    )


def as_list(value: object, what: str) -> list[Any]:
    """Take a list; a ReplyError for all else."""
    if not isinstance(value, list):
        keys = f" with {listed(value)}" if isinstance(value, dict) and value else ""
        raise ReplyError(f"{what} is {_kind(value)}{keys}; expected a list of objects")
    return value


def shown(value: object) -> str:
    """Show a value in a message, cut where it is long."""
    if isinstance(value, dict | list):
        return _kind(value)
    text = repr(value[:60] if isinstance(value, str) else value)
    return text if len(text) <= 60 else text[:57] + "..."


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _column(
    name: str,
    kind: Kind,
    rows: Sequence[dict[str, Any]],
    required: bool,
    optional: bool,
    at: Place,
) -> pl.Series:
    """Read one field of all rows."""
    values: list[Any] = [row.get(name, _MISSING) for row in rows]
    types = set(map(type, values))
    if object in types:
        if not optional:
            index = next(i for i, value in enumerate(values) if value is _MISSING)
            there = f"its fields are {listed(rows[index])}" if rows[index] else "it has no fields"
            raise ReplyError(f"{at(index)} has no field {name!r}; {there}")
        values = [None if value is _MISSING else value for value in values]
        types = types - {object} | {type(None)}
    if required and type(None) in types:
        index = next(i for i, value in enumerate(values) if value is None)
        raise ReplyError(f"{at(index)}, field {name!r} is null; expected {_EXPECTED[kind]}")
    plain, read = _READERS[kind]
    try:
        if kind == pl.Float64 and types <= {int, float, type(None)}:  # as in most replies, so without a call for each
            values = [None if value is None else float(value) for value in values]
        elif types - plain - {type(None)}:
            values = _each(name, kind, values, read, at)
        column = pl.Series(name, values, dtype=kind)
    except (OverflowError, TypeError, UnicodeEncodeError):  # an integer beyond 64 bits, or half of a surrogate pair
        column = pl.Series(name, _each(name, kind, values, read, at), dtype=kind)
    if kind == pl.Float64 and not column.is_finite().all():  # NaN and Infinity, which Python's json lets pass
        _each(name, kind, values, read, at)
    return column


def _each(
    name: str,
    kind: Kind,
    values: Sequence[Any],
    read: Callable[[Any], Value],
    at: Place,
) -> list[Value | None]:
    """Read value by value; the first that is wrong is told."""
    done: list[Value | None] = []
    for index, value in enumerate(values):
        try:
            done.append(None if value is None else read(value))
        except (ValueError, OverflowError):
            raise ReplyError(f"{at(index)}, field {name!r} is {shown(value)}; expected {_EXPECTED[kind]}") from None
    return done


def _float(value: object) -> float:
    """Read a number, or its text; ValueError for all else."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return float(value)


def _int(value: object) -> int:
    """Read a whole number, also as 3.0 or its text; ValueError for all else."""
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        number = _float(value)
        if not number.is_integer():
            raise ValueError
        value = int(number)
    if not -_LARGEST <= value < _LARGEST:
        raise ValueError
    return value


def _text(value: object) -> str:
    """Read a text, or a whole number as its digits; ValueError for all else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise ValueError
    value.encode()  # half of a pair of surrogates is no text
    return value


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


# For each type: what needs no reading, and how all else is read.
_READERS: dict[Kind, tuple[set[type], Callable[[Any], Any]]] = {
    pl.Float64: ({float}, _float),
    pl.Int64: ({int}, _int),
    pl.String: ({str}, _text),
    pl.Boolean: ({bool}, _bool),
}
_EXPECTED: dict[Kind, str] = {
    pl.Float64: "a number",
    pl.Int64: "a whole number of at most 64 bits",
    pl.String: "a text",
    pl.Boolean: "true or false",
}


def number(value: object) -> float | None:
    """Read a number where there is one."""
    try:
        return _float(value)
    except (ValueError, OverflowError):
        return None


def labels(column: pl.Series, freq: Freq | None) -> pl.Series:
    """Write dates, also with a time, as the labels of their periods; all else stays as it is.

    Where `freq` is None, it is that of the labels that are no dates. Where all are dates, they stay dates.

    >>> labels(pl.Series(["2026-01-01T00:00:00", "2026-04-01"]), "Q").to_list()
    ['2026Q1', '2026Q2']
    >>> labels(pl.Series(["2026-01", "2026-02-01"]), None).to_list()
    ['2026-01', '2026-02']
    """
    texts = column.unique().drop_nulls().to_list()
    found = {text: match[1] for text in texts if (match := _INSTANT.fullmatch(text))}
    if freq is None:
        kinds = {kind for text in texts if text not in found for kind, form in LABELS if re.fullmatch(form, text)}
        freq = kinds.pop() if len(kinds) == 1 else "D"
    try:
        days = {day: span(column.name, day)[0] for day in found.values()}
    except ValueError:
        bad = next(text for text, day in found.items() if not _is_day(day))
        raise ReplyError(f"field {column.name!r} has {bad!r}, which is no date of the calendar") from None
    calendar = Calendar(freq)
    # A week may begin on any day, so the date that names it stays.
    names = {day: day if freq in ("D", "W") else calendar.label(calendar.ordinal(days[day])) for day in days}
    homes: dict[str, str] = {}
    for day, name in names.items():
        if homes.setdefault(name, day) != day:
            raise ReplyError(
                f"field {column.name!r} has both {homes[name]} and {day}, which are in one period, {name}; "
                f"expected periods of freq={freq!r}. Hint: another freq="
            )
    return column.replace({text: names[day] for text, day in found.items()}) if found else column


def _is_day(text: str) -> bool:
    try:
        span("", text)
    except ValueError:
        return False
    return True

"""Parse JSON and read its rows into a frame of known columns and types, with every value checked.

Unknown fields are ignored; numbers may be text, and integers may be written as 3.0. A missing field or a wrong value
raises :class:`~cohortlib.errors.ReplyError`, which names its row and field.
"""

import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import polars as pl

from cohortlib.errors import Arg, ReplyError, SettingError, listed, warn
from cohortlib.literals import Freq
from cohortlib.network.secrets import redact_sent
from cohortlib.periods import LABELS, Calendar, span

NameRow = Callable[[int], str]
"""Describes a row, by its number, in a message."""
Dtype = type[pl.DataType]
Value = TypeVar("Value")

_MISSING = object()
_NUMBER = re.compile(r"\s*[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?\s*", re.ASCII)
_WHOLE = re.compile(r"\s*[+-]?\d{1,30}\s*", re.ASCII)
_DATE = re.compile(r"(\d{4}-\d{2}-\d{2})(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?", re.ASCII)
_INT64_END = 2**63
MAX_PREVIEW = 4096  # characters of a value that are looked at for a message


def parse_json(body: bytes) -> object:
    """Parse JSON; raise ReplyError if it is empty, cut short or invalid, or an object has a field more than once.

    NaN and Infinity are not accepted.
    """

    def refuse(name: str) -> None:
        raise ReplyError(f"the reply is not JSON: it contains {name}")

    if not body.strip():
        raise ReplyError("the reply is empty", expected="JSON")
    try:
        text = body.decode(json.detect_encoding(body))
        return json.loads(text, parse_constant=refuse, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        size = len(error.doc.rstrip())
        if error.pos >= size or error.msg.startswith("Unterminated"):
            reason = f"it is cut short after {size:,} characters"
        else:
            reason = f"{error.msg} at character {error.pos:,}; it begins with {preview(error.doc.lstrip(), 40)}"
    except ReplyError:
        raise
    except UnicodeDecodeError:
        reason = "it is not text"
    except (ValueError, RecursionError) as error:
        reason = str(error)
    raise ReplyError(f"the reply is not JSON: {reason}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its fields; raise ReplyError if one is repeated, as json would keep only its last value."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in fields if names.count(name) > 1)
        what = f"the reply has an object with the field {preview(repeated)} {names.count(repeated)} times"
        raise ReplyError(what, expected="each field once")
    return fields


def frame(
    rows: object,
    schema: Mapping[str, Dtype],
    *,
    required: Collection[str],
    optional: Collection[str] = (),
    signed: Collection[str] = (),
    name_row: NameRow = "row {}".format,
    name: str = "the reply",
) -> pl.DataFrame:
    """Read parsed JSON, a list of objects, into a frame with columns of String, Int64, Float64 or Boolean.

    The `required` columns have no nulls; a row may omit the `optional` ones, which are null there. Integers are counts,
    0 or more, except in the `signed` columns. Raises ReplyError if `rows` is not a list of objects, a field is missing,
    or a value has the wrong type; `name_row` and `name` describe a row and the list in its message.

    >>> rows = [{"period": 0, "ltv": "12.5"}, {"period": 1.0, "ltv": None, "new": "field"}]
    >>> frame(rows, {"period": pl.Int64, "ltv": pl.Float64}, required=["period"]).rows()
    [(0, 12.5), (1, None)]
    """
    objects = as_list(rows, name)
    if set(map(type, objects)) - {dict}:
        index = next(i for i, row in enumerate(objects) if type(row) is not dict)
        raise ReplyError(f"{name_row(index)} is {preview(objects[index])}", expected="an object of fields")
    table = pl.DataFrame(
        [
            _column(field, dtype, objects, field in required, field in optional, name_row)
            for field, dtype in schema.items()
        ]
    )
    for field in [field for field, dtype in schema.items() if dtype == pl.Int64 and field not in signed]:
        if (negative := (table[field] < 0).fill_null(value=False)).any():
            index = negative.arg_true()[0]
            what = f"{name_row(index)}, field {field!r} is {preview(objects[index][field])}"
            raise ReplyError(what, expected="a count, 0 or more")
    return table


def check_unique(table: pl.DataFrame, keys: Sequence[str], name: str) -> None:
    """Raise ReplyError if two rows have the same key."""
    repeated = table.select(keys).filter(table.select(keys).is_duplicated())
    if repeated.height:
        key = ", ".join(f"{field} {preview(value)}" for field, value in repeated.row(0, named=True).items())
        raise ReplyError(f"{name} of the reply have {key} more than once", expected="each once")


def as_list(value: object, name: str) -> list[Any]:
    """Return a list as it is; raise ReplyError for any other value."""
    if not isinstance(value, list):
        keys = f" with {listed_fields(value)}" if isinstance(value, dict) and value else ""
        raise ReplyError(f"{name} is {_json_type(value)}{keys}", expected="a list of objects")
    return value


def preview(value: object, limit: int = 60) -> str:
    """Format a value for a message, without the secrets that were sent; cut it if it is long."""
    if isinstance(value, dict | list):
        return _json_type(value)
    # Redact before cutting: half a secret would not be recognized. Only its start is needed.
    text = repr(redact_sent(value[:MAX_PREVIEW])[:limit]) if isinstance(value, str) else redact_sent(repr(value))
    return text if len(text) <= 60 else text[:57] + "..."


def listed_fields(fields: Iterable[str]) -> str:
    """List the names of a reply's fields for a message, without the secrets that were sent."""
    return listed(redact_sent(name[:MAX_PREVIEW]) for name in fields)


def _json_type(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _column(
    name: str, dtype: Dtype, rows: Sequence[dict[str, Any]], required: bool, optional: bool, name_row: NameRow
) -> pl.Series:
    """Read one field of all rows."""
    values: list[Any] = [row.get(name, _MISSING) for row in rows]
    types = set(map(type, values))
    if object in types:
        if not optional:
            index = next(i for i, value in enumerate(values) if value is _MISSING)
            fields = f"its fields are {listed_fields(rows[index])}" if rows[index] else "it has no fields"
            raise ReplyError(f"{name_row(index)} has no field {name!r}; {fields}")
        values = [None if value is _MISSING else value for value in values]
        types = types - {object} | {type(None)}
    if required and type(None) in types:
        index = next(i for i, value in enumerate(values) if value is None)
        raise ReplyError(f"{name_row(index)}, field {name!r} is null", expected=_EXPECTED[dtype])
    native, parse = _PARSERS[dtype]
    try:
        if dtype == pl.Float64 and types <= {int, float, type(None)}:  # the usual case, without a call per value
            values = [None if value is None else float(value) for value in values]
        elif types - native - {type(None)}:
            values = _parse_each(name, dtype, values, parse, name_row)
        column = pl.Series(name, values, dtype=dtype)
    except (OverflowError, TypeError, UnicodeEncodeError):  # an integer over 64 bits, or an unpaired surrogate
        column = pl.Series(name, _parse_each(name, dtype, values, parse, name_row), dtype=dtype)
    if dtype == pl.Float64 and not column.is_finite().all():  # a caller's json.loads accepts NaN and Infinity
        _parse_each(name, dtype, values, parse, name_row)
    return column


def _parse_each(
    name: str, dtype: Dtype, values: Sequence[Any], parse: Callable[[Any], Value], name_row: NameRow
) -> list[Value | None]:
    """Parse value by value; raise ReplyError at the first that is wrong."""
    parsed: list[Value | None] = []
    for index, value in enumerate(values):
        try:
            parsed.append(None if value is None else parse(value))
        except (ValueError, OverflowError):
            what = f"{name_row(index)}, field {name!r} is {preview(value)}"
            raise ReplyError(what, expected=_EXPECTED[dtype]) from None
    return parsed


def _parse_float(value: object) -> float:
    """Parse a finite number or its text; raise ValueError otherwise."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return float(value)


def _parse_int(value: object) -> int:
    """Parse an integer, also written as 3.0 or as text; raise ValueError otherwise."""
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        number = _parse_float(value)
        if not number.is_integer():
            raise ValueError
        value = int(number)
    if not -_INT64_END <= value < _INT64_END:
        raise ValueError
    return value


def _parse_text(value: object) -> str:
    """Return text, or an integer as its digits; raise ValueError otherwise."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise ValueError
    value.encode()  # raises for an unpaired surrogate
    return value


def _parse_bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


# For each dtype: the Python types that need no parsing, and the parser of all others.
_PARSERS: dict[Dtype, tuple[set[type], Callable[[Any], Any]]] = {
    pl.Float64: ({float}, _parse_float),
    pl.Int64: ({int}, _parse_int),
    pl.String: ({str}, _parse_text),
    pl.Boolean: ({bool}, _parse_bool),
}
_EXPECTED: dict[Dtype, str] = {
    pl.Float64: "a number",
    pl.Int64: "an integer of at most 64 bits",
    pl.String: "text",
    pl.Boolean: "true or false",
}


def number_or_none(value: object) -> float | None:
    """Return a number, or None where the value is not one."""
    try:
        return _parse_float(value)
    except (ValueError, OverflowError):
        return None


def labels(column: pl.Series, freq: Freq | None) -> pl.Series:
    """Replace dates, with or without a time, by the labels of their periods; keep all other text.

    If `freq` is None, it is inferred from the labels that are not dates. If all are dates, they stay dates. Text that
    is neither a date nor a label of a period raises a warning.

    >>> labels(pl.Series(["2026-01-01T00:00:00", "2026-04-01"]), "Q").to_list()
    ['2026Q1', '2026Q2']
    >>> labels(pl.Series(["2026-01", "2026-02-01"]), None).to_list()
    ['2026-01', '2026-02']
    """
    texts = column.unique(maintain_order=True).drop_nulls().to_list()
    day_of = {text: match[1] for text in texts if (match := _DATE.fullmatch(text))}
    _warn_of_odd_labels(column, [text for text in texts if text not in day_of], freq)
    if freq is None:
        freqs = {kind for text in texts if text not in day_of for kind, form in LABELS if re.fullmatch(form, text)}
        freq = freqs.pop() if len(freqs) == 1 else "D"
    days = {}
    for text, day in day_of.items():
        try:
            days[day] = span(column.name, day)[0]
        except ValueError:
            what = f"field {column.name!r} has {preview(text)}, which is not a date of the calendar"
            raise ReplyError(what) from None
    calendar = Calendar(freq)
    # A week may begin on any day, so its date stays as it is.
    label_of = {day: day if freq in ("D", "W") else calendar.label(calendar.ordinal(days[day])) for day in days}
    first_day: dict[str, str] = {}
    for day, label in label_of.items():
        if first_day.setdefault(label, day) != day:
            both = redact_sent(f"{first_day[label]} and {day}")
            raise ReplyError(
                f"field {column.name!r} has both {both}, which are in one period, {label}",
                expected=("periods of ", Arg("freq", freq)),
                hint=("set another ", Arg("freq")),
            )
    return column.replace({text: label_of[day] for text, day in day_of.items()}) if day_of else column


def _warn_of_odd_labels(column: pl.Series, others: Sequence[str], freq: Freq | None) -> None:
    """Warn of labels, other than dates, that are not periods of the frequency, or of several where none is set."""
    kinds = {text: _freq_of(text) for text in others}
    odd = [text for text, kind in kinds.items() if kind is None or kind != (freq or kind)]
    if odd:
        rows = f" ({column.is_in(odd).sum():,} of {len(column):,} rows)"
        of_freq = (" of ", Arg("freq", freq)) if freq else ()
        warn((f"field {column.name!r} has {preview(odd[0])}, which is not a period", *of_freq, rows, "; it is kept"))
    elif freq is None and len(set(kinds.values())) > 1:
        first = {kind: text for text, kind in reversed(kinds.items())}
        examples = " and ".join(map(preview, list(first.values())[::-1]))
        warn(f"field {column.name!r} has periods of different units: {examples}; they are kept")


def _freq_of(text: str) -> Freq | None:
    """Return the frequency of a label; None if it is not one, such as 2026-13."""
    freq = next((freq for freq, form in LABELS if re.fullmatch(form, text, re.ASCII)), None)
    try:
        return freq if freq and span("label", text) else None
    except SettingError:
        return None

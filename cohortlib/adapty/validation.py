"""Parse and check the fields of a cohort request, collecting all errors."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from difflib import get_close_matches
from numbers import Integral
from typing import Any, NoReturn, TypeAlias, TypedDict, TypeVar

from cohortlib.errors import SettingError, listed

DURATIONS = ("Weekly", "Monthly", "2 months", "3 months", "6 months", "Annual", "Lifetime", "Uncategorized")
LAST_DAY = (date.max - date.min).days
MAX_ERRORS = 3  # of one list
WHOLE = "non_field_errors"  # the API's source for errors of the body itself

Dates: TypeAlias = tuple[date, date]
Texts: TypeAlias = tuple[str, ...]
Product: TypeAlias = tuple[str | None, str, str | None]
ValueT = TypeVar("ValueT")


class FieldErrors(TypedDict):
    """The errors of one field, in the API's format."""

    source: str
    errors: list[str]


class RequestError(SettingError):
    """A request that the API would refuse, with the body of that response.

    Attributes
    ----------
    errors
        One ``{"source": field, "errors": [text, …]}`` per wrong field.
    error_code, status_code
        ``"base_error"`` and 400.
    """

    error_code = "base_error"
    status_code = 400

    def __init__(self, errors: Iterable[FieldErrors]) -> None:
        self.errors = list(errors)
        problems = [(field["source"], text) for field in self.errors for text in field["errors"]]
        texts = [text if source == WHOLE else f"{source}: {text}" for source, text in problems]
        super().__init__(f"the request is invalid: {'; '.join(texts)}")

    def __reduce__(self) -> tuple[type["RequestError"], tuple[list[FieldErrors]]]:
        return type(self), (self.errors,)

    def to_dict(self) -> dict[str, object]:
        """Return the body of the API's response."""
        return {"errors": self.errors, "error_code": self.error_code, "status_code": self.status_code}


class _InvalidError(Exception):
    """A value is invalid; the args are the error texts."""


class ErrorCollector:
    """Parse field by field, collecting errors to raise them all at once."""

    def __init__(self) -> None:
        self.errors: list[FieldErrors] = []

    def read(self, source: str, reader: Callable[[Any], ValueT], value: object) -> ValueT | None:
        """Parse one value; None if it is invalid."""
        try:
            return reader(value)
        except _InvalidError as invalid:
            self.errors.append({"source": source, "errors": list(invalid.args)})
        except RequestError as error:
            self.errors += error.errors
        return None

    def check_names(
        self, body: Mapping[Any, object], names: Sequence[str], prefix: str = "", nested: Sequence[str] = ()
    ) -> None:
        """Collect fields that do not exist; those in `nested` belong in filters."""
        for name in body:
            if name in names:
                continue
            similar = get_close_matches(str(name), names, 1)
            if name in nested:
                advice = f"Hint: filters.{name}"
            elif similar:
                advice = f"Hint: {prefix}{similar[0]}"
            else:
                advice = f"Expected one of {listed(names, len(names))}"
            self.errors.append({"source": prefix + str(name)[:60], "errors": [f"unknown field. {advice}"]})

    def result(self, value: ValueT | None) -> ValueT:
        """Return the parsed value, or raise the collected errors."""
        if self.errors or value is None:
            raise RequestError(self.errors)
        return value


def shown_value(value: object) -> str:
    """Return the repr of a value, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _fail(value: object, problem: str, expected: str) -> NoReturn:
    raise _InvalidError(f"{shown_value(value)} is {problem}. Expected {expected}")


def read_day(value: object) -> date:
    """Parse a date or its ISO text; raise ValueError for anything else, including instants.

    >>> read_day("2024-09-30")
    datetime.date(2024, 9, 30)
    """
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    # fromisoformat accepts more formats than the API.
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value, re.ASCII):
        raise ValueError(f"{value!r} is not an ISO date")
    return date.fromisoformat(value)


def read_dates(value: object) -> Dates:
    """Parse a range of two ISO dates."""
    expected = "two ISO dates, the first and last day: ['2024-04-01', '2024-09-30']"
    if value is None:
        raise _InvalidError(f"missing. Expected {expected}")
    if not isinstance(value, list | tuple) or len(value) != 2:
        _fail(value, "not a range", expected)

    def read(day: object) -> date:
        try:
            return read_day(day)
        except ValueError:
            _fail(day, "not a date", expected)

    first, last = _each(value, read)
    if first > last:
        raise _InvalidError(f"{first} is after {last}. Expected {expected}")
    return first, last


def read_optional_dates(value: object) -> Dates | None:
    """Parse a range of two ISO dates, or None."""
    return None if value is None else read_dates(value)


def read_choice(values: Iterable[object]) -> Callable[[object], Any]:
    """Return a parser that accepts only some values."""
    values = tuple(values)

    def read(value: object) -> object:
        if not any(type(value) is type(known) and value == known for known in values):
            _fail(value, "unknown", f"one of {listed(values)}")
        return value

    return read


def read_days(value: object) -> tuple[int, ...]:
    """Parse a list of days."""
    expected = f"a list of days from 0 to {LAST_DAY}: [0, 7, 30]"
    if not isinstance(value, list | tuple | range) or not value:
        _fail(value, "not a list of days", expected)

    def read(day: object) -> int:
        if isinstance(day, bool) or not isinstance(day, Integral) or not 0 <= int(day) <= LAST_DAY:
            _fail(day, "not a day", expected)
        return int(day)

    return tuple(sorted(set(_each(value, read))))


def _each(items: Iterable[object], read: Callable[[Any], ValueT]) -> list[ValueT]:
    """Parse item by item; raise with the errors of all items, at most the first few."""
    values: list[ValueT] = []
    errors: list[str] = []
    for item in items:
        try:
            values.append(read(item))
        except _InvalidError as invalid:
            errors += invalid.args
    if len(errors) > MAX_ERRORS:
        errors[MAX_ERRORS:] = [f"and {len(errors) - MAX_ERRORS:,} more"]
    if errors:
        raise _InvalidError(*errors)
    return values


def _list(value: object, read: Callable[[Any], ValueT]) -> tuple[ValueT, ...]:
    """Parse a list and remove duplicates; null is an empty list."""
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        _fail(value, "not a list", "a list of texts")
    return tuple(dict.fromkeys(_each(value, read)))


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        _fail(value, "not a text", "a list of texts")
    return value


def read_texts(value: object) -> Texts:
    """Parse a list of texts."""
    return _list(value, _text)


def read_durations(value: object) -> Texts:
    """Parse a list of subscription lengths."""
    known = {name.lower(): name for name in DURATIONS}

    def read(duration: object) -> str:
        if not isinstance(duration, str) or duration.lower() not in known:
            _fail(duration, "unknown", f"one of {listed(DURATIONS)}")
        return known[duration.lower()]

    return _list(value, read)


def read_products(value: object) -> tuple[Product, ...]:
    """Parse a list of products."""
    return _list(value, read_product)


def read_product(value: object) -> Product:
    """Parse ``product``, ``store:product``, ``store:product:base_plan``, ``[store, product]``, or a parsed product."""
    expected = "'product', 'store:product', 'store:product:base_plan' or ['store', 'product']"
    if isinstance(value, str):
        parts = value.split(":")
        if not all(parts):
            _fail(value, "not a product", expected)
        if len(parts) in (2, 3):
            return parts[0], parts[1], parts[2] if len(parts) == 3 else None
        return None, value, None
    if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(part, str) and part for part in value):
        return value[0], value[1], None
    if isinstance(value, tuple) and len(value) == 3:
        store, product, plan = value
        if (
            isinstance(product, str)
            and product
            and all(part is None or isinstance(part, str) for part in (store, plan))
        ):
            return store or None, product, plan or None
    _fail(value, "not a product", expected)


@dataclass(frozen=True, kw_only=True, repr=False)
class ShortRepr:
    """A dataclass whose repr shows only fields that differ from their defaults."""

    def __repr__(self) -> str:
        changed = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if getattr(self, field.name)
            != (field.default_factory() if callable(field.default_factory) else field.default)
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

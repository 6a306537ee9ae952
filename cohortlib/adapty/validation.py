"""Check the fields of a cohort request, collecting every error in it."""

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
MOST_TOLD = 3
WHOLE = "non_field_errors"  # the API's name for the body itself

Dates: TypeAlias = tuple[date, date]
Texts: TypeAlias = tuple[str, ...]
Product: TypeAlias = tuple[str | None, str, str | None]
Read = TypeVar("Read")


class FieldErrors(TypedDict):
    """What is wrong with one field, as the API says it."""

    source: str
    errors: list[str]


class RequestError(SettingError):
    """A request that the API would refuse; it carries the body of that refusal.

    Attributes
    ----------
    errors
        One ``{"source": field, "errors": [text, …]}`` for each field that is wrong.
    error_code, status_code
        ``"base_error"`` and 400.
    """

    error_code = "base_error"
    status_code = 400

    def __init__(self, errors: Iterable[FieldErrors]) -> None:
        self.errors = list(errors)
        problems = [(one["source"], text) for one in self.errors for text in one["errors"]]
        texts = [text if source == WHOLE else f"{source}: {text}" for source, text in problems]
        super().__init__(f"the request: {'. '.join(texts)}")

    def __reduce__(self) -> tuple[type["RequestError"], tuple[list[FieldErrors]]]:
        return type(self), (self.errors,)

    def to_dict(self) -> dict[str, object]:
        """Give the body of the API's answer."""
        return {"errors": self.errors, "error_code": self.error_code, "status_code": self.status_code}


class _Wrong(Exception):  # noqa: N818 - a note between two functions of this module
    """What is wrong with one value: its args are texts."""


class Review:
    """Read field by field and keep what is wrong, to tell all of it at once."""

    def __init__(self) -> None:
        self.errors: list[FieldErrors] = []

    def read(self, source: str, reader: Callable[[Any], Read], value: object) -> Read | None:
        """Read one value; None where it is wrong."""
        try:
            return reader(value)
        except _Wrong as wrong:
            self.errors.append({"source": source, "errors": list(wrong.args)})
        except RequestError as error:
            self.errors += error.errors
        return None

    def known(
        self, body: Mapping[Any, object], names: Sequence[str], prefix: str = "", nested: Sequence[str] = ()
    ) -> None:
        """Note the fields that do not exist; those `nested` belong into filters."""
        for name in body:
            if name in names:
                continue
            near = get_close_matches(str(name), names, 1)
            told = f". Hint: {prefix}{near[0]}" if near else f"; expected any of {listed(names, len(names))}"
            if name in nested:
                told = f". Hint: filters.{name}"
            self.errors.append({"source": prefix + str(name)[:60], "errors": [f"there is no such field{told}"]})

    def end(self, read: Read | None) -> Read:
        """Give what was read, or raise what was found."""
        if self.errors or read is None:
            raise RequestError(self.errors)
        return read


def shown_value(value: object) -> str:
    """Return the repr of a value, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _wrong(value: object, what: str, expected: str) -> NoReturn:
    raise _Wrong(f"{shown_value(value)} is {what}; expected {expected}")


def read_day(value: object) -> date:
    """Read a date, or its ISO text; ValueError for all else, and for an instant.

    >>> read_day("2024-09-30")
    datetime.date(2024, 9, 30)
    """
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    # fromisoformat reads more forms than the API does
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value, re.ASCII):
        raise ValueError(f"{value!r} is no ISO date")
    return date.fromisoformat(value)


def read_dates(value: object) -> Dates:
    """Parse a range of two ISO dates."""
    expected = "two ISO dates, from and to: ['2024-04-01', '2024-09-30']"
    if value is None:
        raise _Wrong(f"missing; expected {expected}")
    if not isinstance(value, list | tuple) or len(value) != 2:
        _wrong(value, "not a range", expected)

    def read(one: object) -> date:
        try:
            return read_day(one)
        except ValueError:
            _wrong(one, "not a date", expected)

    first, last = _each(value, read)
    if first > last:
        raise _Wrong(f"{first} is after {last}; expected {expected}")
    return first, last


def read_optional_dates(value: object) -> Dates | None:
    """Parse a range of two ISO dates, or None."""
    return None if value is None else read_dates(value)


def read_choice(values: Iterable[object]) -> Callable[[object], Any]:
    """Return a reader that accepts some values only."""
    values = tuple(values)

    def read(value: object) -> object:
        if not any(type(value) is type(known) and value == known for known in values):
            _wrong(value, "unknown", f"one of {listed(values)}")
        return value

    return read


def read_days(value: object) -> tuple[int, ...]:
    """Parse a list of days."""
    expected = f"a list of days from 0 to {LAST_DAY}: [0, 7, 30]"
    if not isinstance(value, list | tuple | range) or not value:
        _wrong(value, "not a list of days", expected)

    def read(one: object) -> int:
        if isinstance(one, bool) or not isinstance(one, Integral) or not 0 <= int(one) <= LAST_DAY:
            _wrong(one, "not a day", expected)
        return int(one)

    return tuple(sorted(set(_each(value, read))))


def _each(items: Iterable[object], read: Callable[[Any], Read]) -> list[Read]:
    """Read item by item, and tell of all that are wrong (of the first few, where they are many)."""
    good: list[Read] = []
    wrong: list[str] = []
    for item in items:
        try:
            good.append(read(item))
        except _Wrong as one:
            wrong += one.args
    if len(wrong) > MOST_TOLD:
        wrong[MOST_TOLD:] = [f"and {len(wrong) - MOST_TOLD:,} more"]
    if wrong:
        raise _Wrong(*wrong)
    return good


def _list(value: object, read: Callable[[Any], Read]) -> tuple[Read, ...]:
    """Read a list item by item, each value once; null and an empty list are as no list."""
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        _wrong(value, "not a list", "a list of text, any of which passes")
    return tuple(dict.fromkeys(_each(value, read)))


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        _wrong(value, "no text", "a list of text, any of which passes")
    return value


def read_texts(value: object) -> Texts:
    """Parse a list of texts."""
    return _list(value, _text)


def read_durations(value: object) -> Texts:
    """Parse a list of subscription lengths."""
    known = {name.lower(): name for name in DURATIONS}

    def read(one: object) -> str:
        if not isinstance(one, str) or one.lower() not in known:
            _wrong(one, "unknown", f"any of {listed(DURATIONS)}")
        return known[one.lower()]

    return _list(value, read)


def read_products(value: object) -> tuple[Product, ...]:
    """Parse a list of products."""
    return _list(value, read_product)


def read_product(value: object) -> Product:
    """Read ``product``, ``store:product``, ``store:product:base_plan``, ``[store, product]``, or what this gives."""
    expected = "'product', 'store:product', 'store:product:base_plan' or ['store', 'product']"
    if isinstance(value, str):
        parts = value.split(":")
        if not all(parts):
            _wrong(value, "no product", expected)
        if len(parts) in (2, 3):
            return parts[0], parts[1], parts[2] if len(parts) == 3 else None
        return None, value, None
    if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(one, str) and one for one in value):
        return value[0], value[1], None
    if isinstance(value, tuple) and len(value) == 3:
        store, product, plan = value
        if isinstance(product, str) and product and all(one is None or isinstance(one, str) for one in (store, plan)):
            return store or None, product, plan or None
    _wrong(value, "no product", expected)


@dataclass(frozen=True, kw_only=True, repr=False)
class Brief:
    """A dataclass that shows only what is not the default."""

    def __repr__(self) -> str:
        said = [
            f"{one.name}={getattr(self, one.name)!r}"
            for one in fields(self)
            if getattr(self, one.name) != (one.default_factory() if callable(one.default_factory) else one.default)
        ]
        return f"{type(self).__name__}({', '.join(said)})"

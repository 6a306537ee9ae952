"""The request for a cohort table, read from the body that Adapty's API takes, and the conventions it leaves open.

Nothing here knows frames: a request can be checked where polars is not installed, or has not been loaded.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from difflib import get_close_matches
from numbers import Integral
from typing import Any, Literal, NoReturn, TypeAlias, TypedDict, TypeVar, get_args

from cohortlib.errors import SettingError, listed, one_of, warn

__all__ = ["Conventions", "Filters", "Request", "RequestError"]

PeriodUnit = Literal["month", "day", "week", "quarter", "year"]
PeriodType = Literal["renewals", "days"]
ValueType = Literal["absolute", "relative"]
ValueField = Literal["revenue", "arppu", "arpu", "arpas", "subscribers", "subscriptions"]
AccountingType = Literal["revenue", "proceeds", "net_revenue"]
PredictionMonths = Literal[12, 3, 6, 9, 18, 24]
Format = Literal["json", "csv"]

UserUnit = Literal["profile_id", "customer_user_id", "device_id"]
RefundUpgraded = Literal["zero", "negative"]
PeriodNumber = Literal["ordinal", "consecutive"]
RestartPerProduct = Literal["auto", True, False]
Averages = Literal["cumulative", "per_period"]
AfterTo = Literal["drop", "payments"]
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]

DURATIONS = ("Weekly", "Monthly", "2 months", "3 months", "6 months", "Annual", "Lifetime", "Uncategorized")
RENEWAL_DAYS = (0, 3, 7, 14, 28, 31, 61, 92, 183, 336, 550, 731)
LAST_DAY = (date.max - date.min).days
MOST_TOLD = 3
WHOLE = "non_field_errors"  # the API's name for the body itself

Dates: TypeAlias = tuple[date, date]
Texts: TypeAlias = tuple[str, ...]
Product: TypeAlias = tuple[str | None, str, str | None]
Read = TypeVar("Read")


# --- what is wrong with a request -------------------------------------------------------------------------


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
        super().__init__(self.errors)

    def __str__(self) -> str:
        said = [(one["source"], text) for one in self.errors for text in one["errors"]]
        texts = [text if source == WHOLE else f"{source}: {text}" for source, text in said]
        return f"the request: {'. '.join(texts)}"

    def to_dict(self) -> dict[str, object]:
        """Give the body of the API's answer."""
        return {"errors": self.errors, "error_code": self.error_code, "status_code": self.status_code}


class _Wrong(Exception):  # noqa: N818 - a note between two functions of this module
    """What is wrong with one value: its args are texts."""


class _Review:
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


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _wrong(value: object, what: str, expected: str) -> NoReturn:
    raise _Wrong(f"{_shown(value)} is {what}; expected {expected}")


# --- readers of one value ---------------------------------------------------------------------------------


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


def _dates(value: object) -> Dates:
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


def _maybe_dates(value: object) -> Dates | None:
    return None if value is None else _dates(value)


def _choice(values: Iterable[object]) -> Callable[[object], Any]:
    values = tuple(values)

    def read(value: object) -> object:
        if not any(type(value) is type(known) and value == known for known in values):
            _wrong(value, "unknown", f"one of {listed(values)}")
        return value

    return read


def _days(value: object) -> tuple[int, ...]:
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


def _texts(value: object) -> Texts:
    return _list(value, _text)


def _durations(value: object) -> Texts:
    known = {name.lower(): name for name in DURATIONS}

    def read(one: object) -> str:
        if not isinstance(one, str) or one.lower() not in known:
            _wrong(one, "unknown", f"any of {listed(DURATIONS)}")
        return known[one.lower()]

    return _list(value, read)


def _products(value: object) -> tuple[Product, ...]:
    return _list(value, _product)


def _product(value: object) -> Product:
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


# --- the request ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, repr=False)
class _Brief:
    """A dataclass that shows only what is not the default."""

    def __repr__(self) -> str:
        said = [
            f"{one.name}={getattr(self, one.name)!r}"
            for one in fields(self)
            if getattr(self, one.name) != (one.default_factory() if callable(one.default_factory) else one.default)
        ]
        return f"{type(self).__name__}({', '.join(said)})"


@dataclass(frozen=True, kw_only=True, repr=False)
class Filters(_Brief):
    """What transactions, and the installs where they say so, have to be: for each filter, any of its values.

    Parameters
    ----------
    store, country, attribution_source, attribution_status, attribution_channel, attribution_campaign, \
attribution_adgroup, attribution_adset, attribution_creative
        Of transactions and installs alike.
    store_product_id
        ``"product"``, ``"store:product"``, ``"store:product:base_plan"`` or ``["store", "product"]``; kept as
        (store or None, product, base plan or None).
    duration
        Of Weekly, Monthly, 2 months, 3 months, 6 months, Annual, Lifetime, Uncategorized, in any case.
    offer_category, offer_type, offer_id
        Of transactions.

    Notes
    -----
    An empty list is no filter.
    """

    store: Texts = ()
    country: Texts = ()
    store_product_id: tuple[Product, ...] = ()
    duration: Texts = ()
    attribution_source: Texts = ()
    attribution_status: Texts = ()
    attribution_channel: Texts = ()
    attribution_campaign: Texts = ()
    attribution_adgroup: Texts = ()
    attribution_adset: Texts = ()
    attribution_creative: Texts = ()
    offer_category: Texts = ()
    offer_type: Texts = ()
    offer_id: Texts = ()

    def __post_init__(self) -> None:
        review = _Review()
        readers: dict[str, Callable[[object], tuple[Any, ...]]]
        readers = {"store_product_id": _products, "duration": _durations}
        for name in FILTERS:
            value = review.read(f"filters.{name}", readers.get(name, _texts), getattr(self, name))
            object.__setattr__(self, name, value)
        review.end(self)

    @property
    def given(self) -> tuple[str, ...]:
        """Name the filters that are set."""
        return tuple(name for name in FILTERS if getattr(self, name))

    def to_dict(self) -> dict[str, list[Any]]:
        """Give the filters that are set, as the API takes them."""
        body: dict[str, list[Any]] = {name: list(getattr(self, name)) for name in self.given}
        if self.store_product_id:
            body["store_product_id"] = [_product_text(product) for product in self.store_product_id]
        return body


FILTERS = tuple(field.name for field in fields(Filters))
DATES = ("date", "compare_date")


def _product_text(product: Product) -> str | list[str]:
    """Write a product as :func:`_product` reads it."""
    store, name, plan = product
    text = ":".join(part for part in product if part)
    if _product(text) == product or store is None or plan is not None:
        return text
    return [store, name]


@dataclass(frozen=True, kw_only=True, repr=False)
class Request(_Brief):
    """What is asked for, in the API's words: read with :meth:`of` from the body of a call.

    Parameters
    ----------
    date
        First and last day of the installs; nothing dated after the last counts, unless `after_to` of
        :class:`Conventions` says so.
    compare_date
        Accepted and ignored, with a warning: there is no comparison of cohorts.
    filters
        See :class:`Filters`.
    period_unit
        How long the installs of one row last: ``"month"``, ``"day"``, ``"week"``, ``"quarter"`` or ``"year"``.
    period_type
        What the columns are: ``"renewals"``, or ``"days"`` since the install.
    value_type, value_field, accounting_type
        What the CSV shows; the frames and the JSON hold everything.
    renewal_days
        The columns of ``period_type="days"``, kept in order and each once.
    prediction_months
        Horizon of the prediction: 3, 6, 9, 12, 18 or 24.
    format
        ``"json"`` or ``"csv"``.

    Raises
    ------
    RequestError
        With everything that is wrong, field by field.

    Examples
    --------
    >>> request = Request.of({"filters": {"date": ["2024-04-01", "2024-09-30"], "country": ["us"]}})
    >>> request.date[1], request.filters.country, request.period_unit
    (datetime.date(2024, 9, 30), ('us',), 'month')
    """

    date: Dates
    compare_date: Dates | None = None
    filters: Filters = Filters()
    period_unit: PeriodUnit = "month"
    period_type: PeriodType = "renewals"
    value_type: ValueType = "absolute"
    value_field: ValueField = "revenue"
    accounting_type: AccountingType = "revenue"
    renewal_days: tuple[int, ...] = RENEWAL_DAYS
    prediction_months: PredictionMonths = 12
    format: Format = "json"

    def __post_init__(self) -> None:
        review = _Review()
        for name, reader in _READERS.items():
            source = f"filters.{name}" if name in DATES else name
            object.__setattr__(self, name, review.read(source, reader, getattr(self, name)))
        review.end(self)
        if self.compare_date is not None:
            warn("filters.compare_date is ignored: cohorts have no comparison of periods")

    @classmethod
    def of(cls, body: "Mapping[str, object] | Request") -> "Request":
        """Read the body of a call to the API; fields that it leaves out have their defaults."""
        if isinstance(body, cls):
            return body
        review = _Review()
        body = _mapping(body, WHOLE, "the API's body, an object such as {'filters': {'date': [...]}}")
        review.known(body, _FIELDS, nested=(*DATES, *FILTERS))
        given: dict[str, Any] = {name: body[name] for name in _FIELDS if name in body}
        filters = review.read("filters", _filter_body, body.get("filters"))
        if filters is None:  # of the range, too, all is said with that
            given |= {"date": (date.min, date.max), "filters": {}}
        else:
            review.known(filters, (*DATES, *FILTERS), "filters.")
            given |= {name: filters.get(name) for name in DATES}
            given["filters"] = {name: filters[name] for name in FILTERS if name in filters}
        return review.end(review.read("", lambda fields: cls(**fields), given))

    def to_dict(self) -> dict[str, Any]:
        """Give the body of a call to the API, with every default in it; filters that are not set are left out."""
        ranges = {name: getattr(self, name) for name in DATES}
        dates = {name: [day.isoformat() for day in days] for name, days in ranges.items() if days}
        body: dict[str, Any] = {"filters": dates | self.filters.to_dict()}
        body |= {name: getattr(self, name) for name in _FIELDS if name != "filters"}
        return body | {"renewal_days": list(self.renewal_days)}


def _mapping(value: object, source: str, expected: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise RequestError([{"source": source, "errors": [f"{_shown(value)} is no object; expected {expected}"]}])
    return value


def _filter_body(value: object) -> Mapping[str, object]:
    return _mapping(value if value is not None else {}, "filters", "an object such as {'date': ['2024-04-01', ...]}")


def _filters(value: object) -> Filters:
    if isinstance(value, Filters):
        return value
    review = _Review()
    body = _filter_body(value)
    review.known(body, FILTERS, "filters.")
    given = {name: body[name] for name in FILTERS if name in body}
    return review.end(review.read("", lambda fields: Filters(**fields), given))


_READERS: dict[str, Callable[[object], object]] = {
    "date": _dates,
    "compare_date": _maybe_dates,
    "filters": _filters,
    "period_unit": _choice(get_args(PeriodUnit)),
    "period_type": _choice(get_args(PeriodType)),
    "value_type": _choice(get_args(ValueType)),
    "value_field": _choice(get_args(ValueField)),
    "accounting_type": _choice(get_args(AccountingType)),
    "renewal_days": _days,
    "prediction_months": _choice(get_args(PredictionMonths)),
    "format": _choice(get_args(Format)),
}
_FIELDS = tuple(name for name in _READERS if name not in DATES)


# --- what the API does not say ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, repr=False)
class Conventions(_Brief):
    """Choose a reading where Adapty publishes none, or more than one. The defaults are the likeliest.

    Parameters
    ----------
    user_unit
        Who a user is: ``"profile_id"``, ``"customer_user_id"`` or ``"device_id"``.
    refund_upgraded
        A refund because the user went over to another product: ``"zero"`` (it counts for nothing) or
        ``"negative"`` (as any other refund).
    period_number
        The column of a payment in ``period_type="renewals"``: its ``"ordinal"`` in its chain, or the file's own
        ``"consecutive"`` number (the column consecutive_payments).
    restart_per_product
        Whether each product of a chain counts from 1 again; ``"auto"``: where products are filtered.
    averages
        The money in ARPU and its kin, by renewals: ``"cumulative"`` over the columns up to this one, or
        ``"per_period"``. ARPPU is cumulative always.
    after_to
        What is dated after the last day of the request: ``"drop"`` leaves it all out, ``"payments"`` only refunds.
    as_of
        The day on which a period is over or not; by default the last day of the request.
    week_start
        First day of a week, ``"monday"`` to ``"sunday"``.

    Raises
    ------
    SettingError
        Where a value is none of these.
    """

    user_unit: UserUnit = "profile_id"
    refund_upgraded: RefundUpgraded = "zero"
    period_number: PeriodNumber = "ordinal"
    restart_per_product: RestartPerProduct = "auto"
    averages: Averages = "cumulative"
    after_to: AfterTo = "drop"
    as_of: date | None = None
    week_start: Weekday = "monday"

    def __post_init__(self) -> None:
        for name, values in CHOICES.items():
            one_of(name, getattr(self, name), values)
        if self.as_of is not None and (not isinstance(self.as_of, date) or isinstance(self.as_of, datetime)):
            raise SettingError(f"as_of={self.as_of!r} is not a date; expected a datetime.date, or None")


CHOICES: dict[str, tuple[object, ...]] = {
    "user_unit": get_args(UserUnit),
    "refund_upgraded": get_args(RefundUpgraded),
    "period_number": get_args(PeriodNumber),
    "restart_per_product": get_args(RestartPerProduct),
    "averages": get_args(Averages),
    "after_to": get_args(AfterTo),
    "week_start": get_args(Weekday),
}

"""The request for a cohort table, parsed from the body that Adapty's API takes.

This module does not import polars, so checking a request is cheap.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import date
from typing import Any, Literal, get_args

from cohortlib.adapty.validation import (
    WHOLE,
    Dates,
    ErrorCollector,
    Product,
    RequestError,
    ShortRepr,
    Texts,
    read_choice,
    read_dates,
    read_days,
    read_durations,
    read_optional_dates,
    read_products,
    read_texts,
    shown_value,
)
from cohortlib.errors import warn

__all__ = ["Filters", "Request"]

PeriodUnit = Literal["month", "day", "week", "quarter", "year"]
PeriodType = Literal["renewals", "days"]
ValueType = Literal["absolute", "relative"]
ValueField = Literal["revenue", "arppu", "arpu", "arpas", "subscribers", "subscriptions"]
AccountingType = Literal["revenue", "proceeds", "net_revenue"]
PredictionMonths = Literal[12, 3, 6, 9, 18, 24]
Format = Literal["json", "csv"]
RENEWAL_DAYS = (0, 3, 7, 14, 28, 31, 61, 92, 183, 336, 550, 731)


@dataclass(frozen=True, kw_only=True, repr=False)
class Filters(ShortRepr):
    """Filters on transactions and installs; a row passes a filter if its value is any of the filter's values.

    Parameters
    ----------
    store, country, attribution_source, attribution_status, attribution_channel, attribution_campaign, \
attribution_adgroup, attribution_adset, attribution_creative
        Apply to transactions and installs.
    store_product_id
        ``"product"``, ``"store:product"``, ``"store:product:base_plan"`` or ``["store", "product"]``; stored as
        (store or None, product, base plan or None). Applies to transactions.
    duration
        Any of Weekly, Monthly, 2 months, 3 months, 6 months, Annual, Lifetime, Uncategorized, in any case. Applies to
        transactions.
    offer_category, offer_type, offer_id
        Apply to transactions.

    Notes
    -----
    An empty list is the same as no filter.
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
        errors = ErrorCollector()
        readers: dict[str, Callable[[object], tuple[Any, ...]]]
        readers = {"store_product_id": read_products, "duration": read_durations}
        for name in FILTERS:
            value = errors.read(f"filters.{name}", readers.get(name, read_texts), getattr(self, name))
            object.__setattr__(self, name, value)
        errors.result(self)

    @property
    def active(self) -> tuple[str, ...]:
        """The names of the filters that are set."""
        return tuple(name for name in FILTERS if getattr(self, name))

    def to_dict(self) -> dict[str, list[Any]]:
        """Return the filters that are set, as in the API's body."""
        body: dict[str, list[Any]] = {name: list(getattr(self, name)) for name in self.active}
        if self.store_product_id:
            body["store_product_id"] = [_product_body(product) for product in self.store_product_id]
        return body


FILTERS = tuple(field.name for field in fields(Filters))
DATES = ("date", "compare_date")


def _product_body(product: Product) -> str | list[str]:
    """Return a product as text, or as ``[store, product]`` if a ``:`` in it would be read as a separator."""
    store, name, plan = product
    if store is not None and plan is None and ":" in store + name:
        return [store, name]
    return ":".join(part for part in product if part)


@dataclass(frozen=True, kw_only=True, repr=False)
class Request(ShortRepr):
    """A request in the terms of the API; :meth:`of` parses the body of a call.

    Parameters
    ----------
    date
        First and last day of the installs. Nothing dated after the last day counts, unless `after_to` of
        :class:`Conventions` says otherwise.
    compare_date
        Accepted and ignored, with a warning: cohorts of two ranges are not compared.
    filters
        See :class:`Filters`.
    period_unit
        The period of installs that forms a segment: ``"month"``, ``"day"``, ``"week"``, ``"quarter"`` or ``"year"``.
    period_type
        The meaning of the columns: ``"renewals"``, or ``"days"`` since the install.
    value_type, value_field, accounting_type
        The values shown in the CSV; the frames and the JSON hold all fields.
    renewal_days
        The columns of ``period_type="days"``, sorted and without duplicates.
    prediction_months
        Horizon of the prediction: 3, 6, 9, 12, 18 or 24.
    format
        ``"json"`` or ``"csv"``.

    Raises
    ------
    RequestError
        Lists all errors, field by field.

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
        errors = ErrorCollector()
        for name, reader in _READERS.items():
            source = f"filters.{name}" if name in DATES else name
            object.__setattr__(self, name, errors.read(source, reader, getattr(self, name)))
        errors.result(self)
        if self.compare_date is not None:
            warn("filters.compare_date is ignored: cohorts of two ranges are not compared")

    @classmethod
    def of(cls, body: "Mapping[str, object] | Request") -> "Request":
        """Parse the body of a call to the API; missing fields have their defaults."""
        if isinstance(body, cls):
            return body
        errors = ErrorCollector()
        body = _mapping(body, WHOLE, "the API's body, an object such as {'filters': {'date': [...]}}")
        errors.check_names(body, _FIELDS, nested=(*DATES, *FILTERS))
        values: dict[str, Any] = {name: body[name] for name in _FIELDS if name in body}
        filters = errors.read("filters", _filter_body, body.get("filters"))
        if filters is None:  # already an error, so the range needs none of its own
            values |= {"date": (date.min, date.max), "filters": {}}
        else:
            errors.check_names(filters, (*DATES, *FILTERS), "filters.")
            values |= {name: filters.get(name) for name in DATES}
            values["filters"] = {name: filters[name] for name in FILTERS if name in filters}
        return errors.result(errors.read("", lambda fields: cls(**fields), values))

    def to_dict(self) -> dict[str, Any]:
        """Return the body of a call to the API, with all defaults; filters that are not set are omitted."""
        ranges = {name: getattr(self, name) for name in DATES}
        dates = {name: [day.isoformat() for day in days] for name, days in ranges.items() if days}
        body: dict[str, Any] = {"filters": dates | self.filters.to_dict()}
        body |= {name: getattr(self, name) for name in _FIELDS if name != "filters"}
        return body | {"renewal_days": list(self.renewal_days)}


def _mapping(value: object, source: str, expected: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise RequestError(
            [{"source": source, "errors": [f"{shown_value(value)} is not an object. Expected {expected}"]}]
        )
    return value


def _filter_body(value: object) -> Mapping[str, object]:
    return _mapping(value if value is not None else {}, "filters", "an object such as {'date': ['2024-04-01', ...]}")


def _filters(value: object) -> Filters:
    if isinstance(value, Filters):
        return value
    errors = ErrorCollector()
    body = _filter_body(value)
    errors.check_names(body, FILTERS, "filters.")
    values = {name: body[name] for name in FILTERS if name in body}
    return errors.result(errors.read("", lambda fields: Filters(**fields), values))


_READERS: dict[str, Callable[[object], object]] = {
    "date": read_dates,
    "compare_date": read_optional_dates,
    "filters": _filters,
    "period_unit": read_choice(get_args(PeriodUnit)),
    "period_type": read_choice(get_args(PeriodType)),
    "value_type": read_choice(get_args(ValueType)),
    "value_field": read_choice(get_args(ValueField)),
    "accounting_type": read_choice(get_args(AccountingType)),
    "renewal_days": read_days,
    "prediction_months": read_choice(get_args(PredictionMonths)),
    "format": read_choice(get_args(Format)),
}
_FIELDS = tuple(name for name in _READERS if name not in DATES)

"""The request for a cohort table, read from the body that Adapty's API takes, and the conventions it leaves open.

Nothing here knows frames: a request can be checked where polars is not installed, or has not been loaded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import date
from typing import Any, Literal, get_args

from cohortlib.adapty.validation import (
    WHOLE,
    Brief,
    Dates,
    Product,
    RequestError,
    Review,
    Texts,
    read_choice,
    read_dates,
    read_days,
    read_durations,
    read_optional_dates,
    read_product,
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
class Filters(Brief):
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
        review = Review()
        readers: dict[str, Callable[[object], tuple[Any, ...]]]
        readers = {"store_product_id": read_products, "duration": read_durations}
        for name in FILTERS:
            value = review.read(f"filters.{name}", readers.get(name, read_texts), getattr(self, name))
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
    if read_product(text) == product or store is None or plan is not None:
        return text
    return [store, name]


@dataclass(frozen=True, kw_only=True, repr=False)
class Request(Brief):
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
        review = Review()
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
        review = Review()
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
        raise RequestError([{"source": source, "errors": [f"{shown_value(value)} is no object; expected {expected}"]}])
    return value


def _filter_body(value: object) -> Mapping[str, object]:
    return _mapping(value if value is not None else {}, "filters", "an object such as {'date': ['2024-04-01', ...]}")


def _filters(value: object) -> Filters:
    if isinstance(value, Filters):
        return value
    review = Review()
    body = _filter_body(value)
    review.known(body, FILTERS, "filters.")
    given = {name: body[name] for name in FILTERS if name in body}
    return review.end(review.read("", lambda fields: Filters(**fields), given))


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

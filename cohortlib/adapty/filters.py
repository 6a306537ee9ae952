"""Apply the filters of a request as masks over rows.

A row passes if it passes every filter that is set; it passes a filter if its value is any of the filter's values. A
null passes no filter, but ``no_offer`` passes rows without any offer. A user attributed to several networks passes if
one of them does.
"""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import reduce
from operator import and_, or_

import polars as pl

from cohortlib.adapty.findings import Findings
from cohortlib.adapty.read.specs import OFFERS
from cohortlib.adapty.request import Filters
from cohortlib.adapty.validation import Product
from cohortlib.errors import SchemaError, listed

__all__ = ["audience", "columns", "findings", "installs", "transactions", "unreached"]

# Columns whose names differ from the filter's; of several, the first with a value.
_COLUMNS = {
    "country": ("store_country", "profile_country"),
    "attribution_adgroup": ("attribution_ad_group",),
    "attribution_adset": ("attribution_ad_set",),
}
# A user has no product at the install, so these filters apply to transactions only.
NO_OFFER = "no_offer"
_NETWORK = "attribution_"  # the filters on one network, and the columns of its fields
_TRANSACTION_FILTERS = ("store_product_id", "duration", "offer_category", "offer_type", "offer_id")


def columns(filters: Filters) -> set[str]:
    """List the columns of events that filters need."""
    names = {column for name in filters.active for column in _columns(name)}
    for store, _, plan in filters.store_product_id:
        names |= {"store"} if store else set()
        names |= {"base_plan_id"} if plan else set()
    if any(NO_OFFER in getattr(filters, name) for name in OFFERS):
        names |= set(OFFERS)
    return names


def transactions(frame: pl.DataFrame, filters: Filters) -> pl.Series | None:
    """Return which events pass all filters; None if none is set."""
    return _passing(frame, filters, filters.active)


def audience(frame: pl.DataFrame, filters: Filters) -> pl.Series | None:
    """Return which events pass the filters that apply to users, not only to transactions; None if none is set."""
    return _passing(frame, filters, _user_filters(filters))


def installs(frame: pl.DataFrame, filters: Filters) -> pl.Series | None:
    """Return which installs pass the filters on columns that they have; None if there is no such filter."""
    names = [name for name in _user_filters(filters) if _columns(name, installs=True)[0] in frame.columns]
    return _passing(frame, filters, names, installs=True)


def unreached(frame: pl.DataFrame, filters: Filters) -> list[str]:
    """List the filters on users whose column the installs lack."""
    return [name for name in _user_filters(filters) if _columns(name, installs=True)[0] not in frame.columns]


def findings(frame: pl.DataFrame, filters: Filters, rows: pl.Series, *, installs: bool = False) -> Findings:
    """Count, of some rows, those that hold each value of the filters, and those that hold one like a missing value."""
    counts: Findings = Findings()
    names = filters.active
    if installs:
        names = tuple(name for name in _user_filters(filters) if name not in unreached(frame, filters))
    for name in names:
        counts += _held(frame, filters, name, rows, installs=installs)
    return counts


def _held(frame: pl.DataFrame, filters: Filters, name: str, rows: pl.Series, *, installs: bool) -> Findings:
    values, spelling = value_texts(filters, name), _SPELLINGS.get(name, _exact)
    columns, present = _columns(name, installs=installs), []
    for network in _networks(frame, name):
        here = [column + network for column in columns if column + network in frame.columns]
        if here:
            present.append(frame.select(pl.coalesce(here).cast(pl.String).alias("value")).to_series())
    held = Findings()
    if name == "store_product_id":
        for value, product in zip(values, filters.store_product_id, strict=True):
            count = int(
                frame.select((_product(frame, pl.col("product_id").cast(pl.String), product) & rows).sum()).item() or 0
            )
            held[("held", name, value)] = count
    else:
        wanted = dict(zip(values, _spelled(values, spelling), strict=True))
        passing = [column.filter(_masked(column, values, spelling) & rows) for column in present]
        counts = {text: count for column in passing for text, count in _counted(column, spelling)}
        held = Findings({("held", name, value): counts.get(text, 0) for value, text in wanted.items()})
        if NO_OFFER in values and name in OFFERS:
            held[("held", name, NO_OFFER)] += int(frame.select((_without_offer(frame) & rows).sum()).item())
    missing = [value for value in values if not held[("held", name, value)]]
    if missing:
        known = dict(sorted(pair for column in present for pair in _counted(column.filter(rows), _exact)))
        lower = {text.lower(): text for text in reversed(known)}
        for value in missing:
            held[("held", name, value)] = 0
            for match in get_close_matches(_name_of(name, value).lower(), lower, 3, 0.3):
                held[("near", name, value, lower[match])] = known[lower[match]]
    return held


def value_texts(filters: Filters, name: str) -> list[str]:
    """List the values of a filter as texts."""
    if name == "store_product_id":
        return [":".join(part for part in product if part) for product in filters.store_product_id]
    return list(getattr(filters, name))


def install_column(name: str) -> str:
    """Return the column of installs that a filter compares."""
    return _columns(name, installs=True)[0]


def nearest(name: str, value: str, texts: Iterable[str]) -> str:
    """Return the text that is most like a value of a filter; of equal ones, the first."""
    lower = {text.lower(): text for text in sorted(texts, reverse=True)}
    return lower[get_close_matches(_name_of(name, value).lower(), sorted(lower), 1, 0.0)[0]]


def _name_of(name: str, value: str) -> str:
    return value.split(":")[1] if name == "store_product_id" and value.count(":") else value


def _spelled(values: list[str], spelling: Callable[[pl.Expr], pl.Expr]) -> list[str]:
    return pl.select(spelling(pl.lit(pl.Series(values, dtype=pl.String)))).to_series().to_list()


def _masked(column: pl.Series, values: list[str], spelling: Callable[[pl.Expr], pl.Expr]) -> pl.Series:
    return pl.select(_among(pl.lit(column), values, spelling).fill_null(False)).to_series()


def _counted(column: pl.Series, spelling: Callable[[pl.Expr], pl.Expr]) -> list[tuple[str, int]]:
    """Count the rows of each text, in a common spelling."""
    counts = pl.select(spelling(pl.lit(column.drop_nulls())).alias("text")).to_series().value_counts()
    return [(text, count) for text, count in counts.iter_rows()]


def _user_filters(filters: Filters) -> list[str]:
    return [name for name in filters.active if name not in _TRANSACTION_FILTERS]


def _columns(name: str, *, installs: bool = False) -> tuple[str, ...]:
    """Return the columns that a filter compares."""
    if name == "store_product_id":
        return ("product_id",)
    if name == "country" and installs:
        return ("country",)
    return _COLUMNS.get(name, (name,))


def _passing(
    frame: pl.DataFrame, filters: Filters, names: Iterable[str], *, installs: bool = False
) -> pl.Series | None:
    """Return which rows pass some of the filters."""
    names = list(names)
    masks = [
        _mask(frame, filters, name, _columns(name, installs=installs))
        for name in names
        if not name.startswith(_NETWORK)
    ]
    of_network = [name for name in names if name.startswith(_NETWORK)]
    if of_network:
        # One network must pass all of these filters.
        by_network = []
        for network in _networks(frame, _NETWORK):
            columns = {name: tuple(column + network for column in _columns(name)) for name in of_network}
            if network and not all(name in frame.columns for pair in columns.values() for name in pair):
                continue
            by_network.append(reduce(and_, (_mask(frame, filters, *pair).fill_null(False) for pair in columns.items())))
        masks.append(reduce(or_, by_network))
    if not masks:
        return None
    return frame.select(pl.all_horizontal(masks).fill_null(False).alias("passes")).to_series()


def _networks(frame: pl.DataFrame, name: str) -> list[str]:
    """List the suffixes of the columns of networks: "", and those of further networks for filters on networks."""
    if not name.startswith(_NETWORK):
        return [""]
    found = {column.partition("@")[2] for column in frame.columns if column.startswith(_NETWORK) and "@" in column}
    return ["", *(f"@{number}" for number in sorted(found))]


def _without_offer(frame: pl.DataFrame) -> pl.Expr:
    """Return which rows have no offer."""
    columns = [pl.col(name).cast(pl.String) for name in OFFERS if name in frame.columns]
    return pl.all_horizontal(column.is_null() | (column == NO_OFFER).fill_null(False) for column in columns)


def _mask(frame: pl.DataFrame, filters: Filters, name: str, columns: tuple[str, ...]) -> pl.Expr:
    """Compare the column of one filter with its values."""
    present = [column for column in columns if column in frame.columns]
    if not present:
        raise _missing(name, (*columns, "subscription_expires_at") if name == "duration" else columns)
    column = pl.coalesce(present).cast(pl.String)
    if name == "store_product_id":
        return pl.any_horizontal(_product(frame, column, product) for product in filters.store_product_id)
    mask = _among(column, getattr(filters, name), _SPELLINGS.get(name, _exact))
    if name in OFFERS and NO_OFFER in getattr(filters, name):
        mask = mask.fill_null(False) | _without_offer(frame)
    return mask


def _product(frame: pl.DataFrame, column: pl.Expr, product: Product) -> pl.Expr:
    """Compare products with one; the id of a product may itself look like store:product."""
    store, name, plan = product
    mask = column == name
    for value, other, spelling in ((store, "store", _any_case), (plan, "base_plan_id", _exact)):
        if value is not None:
            if other not in frame.columns:
                raise _missing("store_product_id", (other,))
            mask &= _among(pl.col(other), [value], spelling)
    return mask.fill_null(False) | (column == ":".join(filter(None, product)))


def _among(column: pl.Expr, values: Iterable[str], spelling: Callable[[pl.Expr], pl.Expr]) -> pl.Expr:
    """Return where a column has one of the values, comparing both in a common spelling."""
    known = pl.select(spelling(pl.lit(pl.Series(list(values), dtype=pl.String)))).to_series()
    return spelling(column.cast(pl.String)).is_in(known.implode())


def _exact(text: pl.Expr) -> pl.Expr:
    return text


def _any_case(text: pl.Expr) -> pl.Expr:
    return text.str.to_lowercase()


def _any_case_or_dash(text: pl.Expr) -> pl.Expr:
    return text.str.to_lowercase().str.replace_all("-", "_", literal=True)


def _win_back(text: pl.Expr) -> pl.Expr:
    return text.replace("winback", "win_back")


# Values that are written in more than one way, and the common spelling to compare them in.
_SPELLINGS = {
    "store": _any_case,
    "country": _any_case,
    "attribution_status": _any_case_or_dash,
    "offer_category": _win_back,
    "offer_type": _win_back,
}


def _missing(name: str, columns: tuple[str, ...]) -> SchemaError:
    needs = f"the column {columns[0]!r}" if len(columns) == 1 else f"one of the columns {listed(columns)}"
    return SchemaError(
        f"filters.{name} needs {needs}, which the events do not have",
        hint="add the column to the events, or remove the filter",
    )

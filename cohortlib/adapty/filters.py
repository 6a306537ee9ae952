"""Apply the filters of a request as masks over rows.

A row passes if it passes every filter that is set; it passes a filter if its value is any of the filter's values. A
null passes no filter.
"""

from collections.abc import Callable, Iterable

import polars as pl

from cohortlib.adapty.request import Filters
from cohortlib.adapty.validation import Product
from cohortlib.errors import SchemaError, listed

__all__ = ["audience", "columns", "installs", "transactions"]

# Columns whose names differ from the filter's; of several, the first with a value.
_COLUMNS = {
    "country": ("store_country", "profile_country"),
    "attribution_adgroup": ("attribution_ad_group",),
    "attribution_adset": ("attribution_ad_set",),
}
# A user has no product at the install, so these filters apply to transactions only.
_TRANSACTION_FILTERS = ("store_product_id", "duration", "offer_category", "offer_type", "offer_id")


def columns(filters: Filters) -> set[str]:
    """List the columns of events that filters need."""
    names = {column for name in filters.active for column in _columns(name)}
    for store, _, plan in filters.store_product_id:
        names |= {"store"} if store else set()
        names |= {"base_plan_id"} if plan else set()
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
    masks = [_mask(frame, filters, name, _columns(name, installs=installs)) for name in names]
    if not masks:
        return None
    return frame.select(pl.all_horizontal(masks).fill_null(False).alias("passes")).to_series()


def _mask(frame: pl.DataFrame, filters: Filters, name: str, columns: tuple[str, ...]) -> pl.Expr:
    """Compare the column of one filter with its values."""
    present = [column for column in columns if column in frame.columns]
    if not present:
        raise _missing(name, columns)
    column = pl.coalesce(present).cast(pl.String)
    if name == "store_product_id":
        return pl.any_horizontal(_product(frame, column, product) for product in filters.store_product_id)
    return _among(column, getattr(filters, name), _SPELLINGS.get(name, _exact))


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

"""The filters of a request as masks over rows.

A row passes where it passes every filter that is set, and a filter where its value is any of the filter's. A null
is no value.
"""

from collections.abc import Callable, Iterable

import polars as pl

from cohortlib.adapty.request import Filters
from cohortlib.adapty.validation import Product
from cohortlib.errors import SchemaError, listed

__all__ = ["audience", "columns", "installs", "transactions"]

# Where the events have another name than the filter; of several, the first that has a value.
_COLUMNS = {
    "country": ("store_country", "profile_country"),
    "attribution_adgroup": ("attribution_ad_group",),
    "attribution_adset": ("attribution_ad_set",),
}
# Products are not chosen at the install: these filters narrow transactions alone.
_OF_TRANSACTIONS = ("store_product_id", "duration", "offer_category", "offer_type", "offer_id")


def columns(filters: Filters) -> set[str]:
    """Name the columns of events that filters look at."""
    found = {column for name in filters.given for column in _columns(name)}
    for store, _, plan in filters.store_product_id:
        found |= {"store"} if store else set()
        found |= {"base_plan_id"} if plan else set()
    return found


def transactions(frame: pl.DataFrame, filters: Filters) -> pl.Series | None:
    """Tell which events pass all filters; None where none is set."""
    return _passing(frame, filters, filters.given)


def audience(frame: pl.DataFrame, filters: Filters) -> pl.Series | None:
    """Tell which events pass the filters that are of users and not of transactions; None where none is set."""
    return _passing(frame, filters, _of_users(filters))


def installs(frame: pl.DataFrame, filters: Filters) -> pl.Series | None:
    """Tell which installs pass the filters on the columns that they have; None where there is nothing to look at."""
    names = [name for name in _of_users(filters) if _columns(name, installs=True)[0] in frame.columns]
    return _passing(frame, filters, names, installs=True)


def _of_users(filters: Filters) -> list[str]:
    return [name for name in filters.given if name not in _OF_TRANSACTIONS]


def _columns(name: str, *, installs: bool = False) -> tuple[str, ...]:
    """Name the columns that hold what a filter looks at."""
    if name == "store_product_id":
        return ("product_id",)
    if name == "country" and installs:
        return ("country",)
    return _COLUMNS.get(name, (name,))


def _passing(
    frame: pl.DataFrame, filters: Filters, names: Iterable[str], *, installs: bool = False
) -> pl.Series | None:
    """Tell which rows pass some of the filters."""
    masks = [_mask(frame, filters, name, _columns(name, installs=installs)) for name in names]
    if not masks:
        return None
    return frame.select(pl.all_horizontal(masks).fill_null(False).alias("passes")).to_series()


def _mask(frame: pl.DataFrame, filters: Filters, name: str, where: tuple[str, ...]) -> pl.Expr:
    """Compare the column of one filter with its values."""
    there = [column for column in where if column in frame.columns]
    if not there:
        raise _lacking(name, where)
    column = pl.coalesce(there).cast(pl.String)
    if name == "store_product_id":
        return pl.any_horizontal(_product(frame, column, product) for product in filters.store_product_id)
    return _among(column, getattr(filters, name), _SAME.get(name, _exact))


def _product(frame: pl.DataFrame, column: pl.Expr, product: Product) -> pl.Expr:
    """Compare products with one, whose id as a whole may be what reads as a store and a product."""
    store, name, plan = product
    mask = column == name
    for part, other, same in ((store, "store", _any_case), (plan, "base_plan_id", _exact)):
        if part is not None:
            if other not in frame.columns:
                raise _lacking("store_product_id", (other,))
            mask &= _among(pl.col(other), [part], same)
    return mask.fill_null(False) | (column == ":".join(filter(None, product)))


def _among(column: pl.Expr, values: Iterable[str], same: Callable[[pl.Expr], pl.Expr]) -> pl.Expr:
    """Tell where a column has one of the values, both brought to one spelling."""
    known = pl.select(same(pl.lit(pl.Series(list(values), dtype=pl.String)))).to_series()
    return same(column.cast(pl.String)).is_in(known.implode())


def _exact(text: pl.Expr) -> pl.Expr:
    return text


def _any_case(text: pl.Expr) -> pl.Expr:
    return text.str.to_lowercase()


def _any_case_or_dash(text: pl.Expr) -> pl.Expr:
    return text.str.to_lowercase().str.replace_all("-", "_", literal=True)


def _win_back(text: pl.Expr) -> pl.Expr:
    return text.replace("winback", "win_back")


# What is written in more than one way: text of the same spelling under these is the same value.
_SAME = {
    "store": _any_case,
    "country": _any_case,
    "attribution_status": _any_case_or_dash,
    "offer_category": _win_back,
    "offer_type": _win_back,
}


def _lacking(name: str, where: Iterable[str]) -> SchemaError:
    where = list(where)
    needs = f"the column {where[0]!r}" if len(where) == 1 else f"one of the columns {listed(where)}"
    return SchemaError(
        f"filters.{name} needs {needs}, which the events lack. Hint: add it to the events, or leave the filter out"
    )

"""Apply the filters of a request as masks over rows.

A row passes if it passes every filter that is set; it passes a filter if its value is any of the filter's values. A
null passes no filter, but ``no_offer`` passes rows without any offer. A user attributed to several networks passes if
one of them does.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import reduce
from operator import and_, or_

import polars as pl

from cohortlib.adapty.findings import Findings
from cohortlib.adapty.read.specs import OFFERS
from cohortlib.adapty.request import FILTERS, Filters
from cohortlib.adapty.validation import Product, read_product
from cohortlib.errors import SchemaError, listed

# Columns whose names differ from the filter's; of several, the first with a value.
_COLUMNS = {
    "country": ("store_country", "profile_country"),
    "attribution_adgroup": ("attribution_ad_group",),
    "attribution_adset": ("attribution_ad_set",),
}
# A user has no product at the install, so these filters apply to transactions only.
NO_OFFER = "no_offer"
_NETWORK = "attribution_"  # the filters on one network, and the columns of its fields
SELECTED, SELECTED_TRANSACTIONS = "selected", "selected transactions"
"""Columns of rows selected beside the filters: of users and their transactions, or of transactions only."""
_TRANSACTION_FILTERS = (
    "store_product_id", "duration", "offer_category", "offer_type", "offer_id", SELECTED_TRANSACTIONS,
)  # fmt: skip


def columns(filters: Filters) -> set[str]:
    """List the columns of events that filters need."""
    names = {column for name in filters.active for column in columns_of(name)}
    for store, _, plan in filters.store_product_id:
        names |= {"store"} if store else set()
        names |= {"base_plan_id"} if plan else set()
    if any(NO_OFFER in getattr(filters, name) for name in OFFERS):
        names |= set(OFFERS)
    return names


def install_columns(filters: Filters) -> set[str]:
    """List the columns of installs that filters need."""
    return {column for name in _user_filters(filters) for column in columns_of(name, installs=True)}


def transactions(frame: pl.DataFrame, filters: Filters) -> pl.Series | None:
    """Return which events pass all filters; None if none is set."""
    return Masks.of(frame, filters).passing


def installs(frame: pl.DataFrame, filters: Filters) -> pl.Series | None:
    """Return which installs pass the filters on columns that they have; None if there is no such filter."""
    return Masks.of(frame, filters, installs=True).passing


def unreached(frame: pl.DataFrame, filters: Filters) -> list[str]:
    """List the filters on users whose column the installs lack."""
    return [name for name in _user_filters(filters) if columns_of(name, installs=True)[0] not in frame.columns]


@dataclass(frozen=True)
class Masks:
    """Which rows pass each filter, computed once; of a filter on networks, for each network."""

    frame: pl.DataFrame
    filters: Filters
    masks: dict[tuple[str, str], pl.Series]
    is_installs: bool = False

    @classmethod
    def of(cls, frame: pl.DataFrame, filters: Filters, *, installs: bool = False) -> "Masks":
        """Compare the rows with all filters; for installs with those on users whose columns they have."""
        names = list(filters.active)
        if installs:
            missing = unreached(frame, filters)
            names = [name for name in _user_filters(filters) if name not in missing]
        masks = {}
        for name in names:
            for network in _networks(frame, name):
                columns = tuple(column + network for column in columns_of(name, installs=installs))
                if not network or any(column in frame.columns for column in columns):
                    masks[name, network] = _mask(frame, filters, name, columns).fill_null(value=False)
        masks |= {(name, ""): pl.col(name) for name in (SELECTED, SELECTED_TRANSACTIONS) if name in frame.columns}
        computed = frame.select(mask.alias(str(at)) for at, mask in enumerate(masks.values()))
        return cls(frame, filters, dict(zip(masks, computed.iter_columns(), strict=True)), installs)

    @property
    def passing(self) -> pl.Series | None:
        """The rows that pass all filters; None without filters."""
        return self._passing({name for name, _ in self.masks})

    @property
    def audience(self) -> pl.Series | None:
        """The rows that pass the filters on users, not only on transactions; None without such filters."""
        return self._passing({name for name, _ in self.masks if name not in _TRANSACTION_FILTERS})

    def _passing(self, names: set[str]) -> pl.Series | None:
        masks = [mask for (name, _), mask in self.masks.items() if name in names and not name.startswith(_NETWORK)]
        of_network = [name for name in names if name.startswith(_NETWORK)]
        if of_network:
            # One network must pass all of these filters.
            networks = dict.fromkeys(network for name, network in self.masks if name in of_network)
            by_network = [
                reduce(and_, (self.masks[name, network] for name in of_network))
                for network in networks
                if all((name, network) in self.masks for name in of_network)
            ]
            masks.append(reduce(or_, by_network))
        return reduce(and_, masks) if masks else None

    def findings(self, rows: pl.Series) -> Findings:
        """Count, of some rows, those that hold each value of the filters, and values like a missing one."""
        names = dict.fromkeys(name for name, _ in self.masks if name in FILTERS)
        return sum((self._held(name, rows) for name in names), Findings())

    def _held(self, name: str, rows: pl.Series) -> Findings:
        frame, values, spelling = self.frame, value_texts(self.filters, name), _SPELLINGS.get(name, _exact)
        passing = {network: mask & rows for (other, network), mask in self.masks.items() if other == name}
        if len(values) == 1:
            held = Findings({("held", name, values[0]): sum(int(mask.sum()) for mask in passing.values())})
        elif name == "store_product_id":
            products = (
                _product(frame, pl.col("product_id").cast(pl.String), each) for each in self.filters.store_product_id
            )
            counts = frame.select((product & rows).sum().alias(str(at)) for at, product in enumerate(products)).row(0)
            held = Findings({("held", name, value): count or 0 for value, count in zip(values, counts, strict=True)})
        else:
            wanted = dict(zip(values, _spelled(values, spelling), strict=True))
            by_text: Counter[str] = Counter()
            for network, mask in passing.items():
                by_text.update(dict(_counted(self._column(name, network).filter(mask), spelling)))
            held = Findings({("held", name, value): by_text[text] for value, text in wanted.items()})
            if NO_OFFER in values and name in OFFERS:
                held[("held", name, NO_OFFER)] += int(frame.select((_without_offer(frame) & rows).sum()).item())
        if missing := [value for value in values if not held[("held", name, value)]]:
            known: Counter[str] = Counter()
            for network in passing:
                known.update(dict(_counted(self._column(name, network).filter(rows), _exact)))
            lower = {text.lower(): text for text in sorted(known, reverse=True)}
            for value in missing:
                held[("held", name, value)] = 0
                for match in get_close_matches(_name_of(name, value).lower(), lower, 3, 0.3):
                    held[("near", name, value, lower[match])] = known[lower[match]]
        return held

    def values(self, name: str) -> pl.DataFrame:
        """Return the values of a column that the passing rows hold: `row`, `value` and `text`.

        `name` is a filter or the column `BY`. The value is the text in the spelling that filters compare. A row holds
        each value that it passes as a filter, those of all its networks, or null if there is none.
        """
        spelling, every = _SPELLINGS.get(name, _exact), self.frame.select(row=pl.int_range(pl.len(), dtype=pl.UInt32))
        passing = pl.repeat(value=True, n=every.height, eager=True) if self.passing is None else self.passing
        parts = []
        for network, rows in self._by_network(name):
            text = self._column(name, network)
            part = every.with_columns(pl.select(value=spelling(pl.lit(text)), text=text))
            parts.append(part.filter(passing if rows is None else passing & rows))
        parts = parts or [every.head(0).with_columns(value=pl.lit(None, pl.String), text=pl.lit(None, pl.String))]
        more = self._more_values(name, parts[0])
        if not more and not name.startswith(_NETWORK):
            return parts[0]
        held = pl.concat([*parts, *more]).drop_nulls("value").group_by("row", "value").agg(pl.col("text").min())
        return pl.concat([held, every.filter(passing).join(held, on="row", how="anti")], how="diagonal")

    def _by_network(self, name: str) -> list[tuple[str, pl.Series | None]]:
        """List the networks whose columns of a filter there are, with the rows that pass the others on networks."""
        present = []
        others = (
            {other for other, _ in self.masks if other.startswith(_NETWORK)} if name.startswith(_NETWORK) else set()
        )
        for network in _networks(self.frame, name):
            columns = (column + network for column in columns_of(name, installs=self.is_installs))
            if not any(column in self.frame.columns for column in columns):
                continue
            if all((other, network) in self.masks for other in others):
                masks = [self.masks[other, network] for other in others]
                present.append((network, reduce(and_, masks) if masks else None))
        return present

    def _more_values(self, name: str, held: pl.DataFrame) -> list[pl.DataFrame]:
        """Return the rows that pass a value which is not their own text: products of a store, and no offer."""
        masks = {}
        if name in OFFERS and (held["value"] == NO_OFFER).any():
            masks[NO_OFFER] = _without_offer(self.frame)
        if name == "store_product_id":
            for text in held["text"].unique().drop_nulls().to_list():
                if (product := product_of(text, self.frame.columns)) != (None, text, None):
                    masks[text] = _product(self.frame, pl.col("product_id"), product)
        found = [self.frame.select(mask).to_series().arg_true() for mask in masks.values()]
        return [
            held.join(pl.DataFrame({"row": rows.cast(pl.UInt32)}), on="row", how="semi").with_columns(
                value=pl.lit(text), text=pl.lit(text)
            )
            for text, rows in zip(masks, found, strict=True)
        ]

    def _column(self, name: str, network: str) -> pl.Series:
        """Return the texts that a filter compares."""
        columns = (column + network for column in columns_of(name, installs=self.is_installs))
        present = [column for column in columns if column in self.frame.columns]
        return self.frame.select(pl.coalesce(present).cast(pl.String)).to_series()


def value_texts(filters: Filters, name: str) -> list[str]:
    """List the values of a filter as texts."""
    if name == "store_product_id":
        return [":".join(part for part in product if part) for product in filters.store_product_id]
    return list(getattr(filters, name))


def product_of(text: str, columns: Iterable[str]) -> Product:
    """Return the product that a filter with this text compares; the text itself where it needs a missing column."""
    parts = text.split(":")
    needed = {"store", "base_plan_id"} if len(parts) == 3 else {"store"}
    return read_product(text) if len(parts) in (2, 3) and all(parts) and needed <= set(columns) else (None, text, None)


def install_column(name: str) -> str:
    """Return the column of installs that a filter compares."""
    return columns_of(name, installs=True)[0]


def columns_of(name: str, *, installs: bool = False) -> tuple[str, ...]:
    """Return the columns that a filter compares."""
    if name == "store_product_id":
        return ("product_id",)
    if name == "country" and installs:
        return ("country",)
    return _COLUMNS.get(name, (name,))


def columns_of_values(name: str) -> set[str]:
    """List the columns of events that a filter needs for all of its values."""
    more = {"store_product_id": ("store", "base_plan_id"), **dict.fromkeys(OFFERS, OFFERS)}
    return {*columns_of(name), *more.get(name, ())}


def spelled(name: str, text: str) -> str:
    """Return the spelling in which a filter compares a value."""
    return _spelled([text], _SPELLINGS.get(name, _exact))[0]


def is_of_users(name: str) -> bool:
    """Whether a filter applies to installs and transactions, not to transactions only."""
    return name not in _TRANSACTION_FILTERS


def nearest(name: str, value: str, texts: Iterable[str]) -> str:
    """Return the text that is most like a value of a filter; of equal ones, the first."""
    lower = {text.lower(): text for text in sorted(texts, reverse=True)}
    return lower[get_close_matches(_name_of(name, value).lower(), sorted(lower), 1, 0.0)[0]]


def _name_of(name: str, value: str) -> str:
    return value.split(":")[1] if name == "store_product_id" and value.count(":") else value


def _spelled(values: list[str], spelling: Callable[[pl.Expr], pl.Expr]) -> list[str]:
    return pl.select(spelling(pl.lit(pl.Series(values, dtype=pl.String)))).to_series().to_list()


def _counted(column: pl.Series, spelling: Callable[[pl.Expr], pl.Expr]) -> list[tuple[str, int]]:
    """Count the rows of each text, in a common spelling."""
    counts = pl.select(spelling(pl.lit(column.drop_nulls())).alias("text")).to_series().value_counts()
    return [(text, count) for text, count in counts.iter_rows()]


def _user_filters(filters: Filters) -> list[str]:
    return [name for name in filters.active if is_of_users(name)]


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


def needed(columns: tuple[str, ...]) -> str:
    """Return columns of which one is needed, for messages."""
    return f"the column {columns[0]!r}" if len(columns) == 1 else f"one of the columns {listed(columns)}"


def _missing(name: str, columns: tuple[str, ...]) -> SchemaError:
    return SchemaError(
        f"filters.{name} needs {needed(columns)}, which the events do not have",
        hint="add the column to the events, or remove the filter",
    )

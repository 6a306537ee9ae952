"""The columns whose values may be left out: those with few values, and the ends of the names of users."""

from collections.abc import Iterable

import polars as pl

from cohortlib.adapty.read.specs import MONEY, USER_COLUMNS
from cohortlib.read import sources
from cohortlib.read.tables import Source

MARK = "="  # before the name of such a column in the frame of events or installs
LOCAL = "local "  # before the name of money in local currency
_MOST = 1_000  # values of a column
_NOT = {
    "environment", "ownership_type", "consecutive_payments", "cancellation_reason", "installs", "transaction_id",
    "original_transaction_id", "profile_event_id",
}  # fmt: skip
_SHARE_OF_NAMES = 0.5  # of the users need the character that separates the domain


def extra_columns(source: Source, height: int) -> pl.DataFrame:
    """Return columns of the rows that are read besides those that an answer needs; empty if they do not line up.

    These are the columns with few values as text, marked by `MARK`, and the money in local currency.
    """
    frame = sources.read(source, _choose)
    if frame.height != height:  # such as states of RevenueCat, or stray lines
        return pl.DataFrame()
    columns = [column for name in frame.columns for column in _derived(frame[name])]
    local = [frame[_local(name)].cast(pl.Float64, strict=False).alias(LOCAL + name) for name in _local_money(frame)]
    return pl.DataFrame([*columns, *local])


def _choose(names: list[str]) -> list[str]:
    return names


def _local(name: str) -> str:
    return name.replace("_usd", "_local")


def _local_money(frame: pl.DataFrame) -> Iterable[str]:
    names = [name for name in MONEY if name in frame.columns and _local(name) in frame.columns]
    return names if len(names) == len(MONEY) else ()


def _derived(column: pl.Series) -> Iterable[pl.Series]:
    """Yield a column of few values as text; of the names of users the part from the last @ on."""
    name = column.name
    if not (column.dtype in (pl.String, pl.Categorical, pl.Enum, pl.Boolean) or column.dtype.is_integer()):
        return
    texts = column.cast(pl.String)
    if name in USER_COLUMNS:
        domains = texts.str.extract("(@[^@]+)$")
        if domains.null_count() <= _SHARE_OF_NAMES * len(domains) and _few(domains):
            yield domains.alias(MARK + f"end of {name}")
    elif name not in _NOT and _few(texts):
        yield texts.alias(MARK + name)


def _few(values: pl.Series) -> bool:
    return 2 <= values.drop_nulls().n_unique() <= _MOST


def names(frame: pl.DataFrame) -> list[str]:
    """List the marked columns of a frame."""
    return [name for name in frame.columns if name.startswith(MARK)]

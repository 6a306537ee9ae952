"""Edit events and installs as a cause demands."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.adapty.arrays import DayColumn
from cohortlib.adapty.installs import Installs
from cohortlib.adapty.kernels.records import NONE
from cohortlib.adapty.read.events import Events
from cohortlib.compare.explain.causes import Cause

EXCLUDED, FIRST_REFUND = -1, 5  # kinds of events: 0 is a trial, 1 to 4 are payments
_COPY_SUFFIX = "#again"
EDITS = ("rows missing", "rows twice", "right edge", "refunds", "repeats", "rows missing locally")
"""The kinds of causes that edit rows."""


def local_days(column: pl.Series, zone: str) -> NDArray[np.int32]:
    """Return local days since 1970-01-01; ``kernels.NONE`` for nulls."""
    if not len(column) or column.null_count() == len(column):
        return np.full(len(column), NONE, np.int32)
    return DayColumn.of(column, zone)(0, len(column))


def repeated(events: Events) -> pl.Series:
    """Return which rows repeat an earlier one in user, instant, kind, product and money, but under another id."""
    columns = ["user", "event_datetime", "product_id", "revenue_usd", "proceeds_usd", "net_revenue_usd"]
    counts = events.kind >= 0
    keys = events.frame.select(
        pl.struct(*columns, kind=events.kind).hash().alias("row"),
        "transaction_id",
        day=pl.col("event_datetime").cast(pl.Date),
    ).filter(counts)
    # Rows with the same id are dropped anyway. Rows without an id may be separate purchases: they count as repeats only
    # on days on which rows with ids are repeated too.
    new_id = pl.struct("row", "transaction_id").is_first_distinct() & pl.col("transaction_id").is_not_null()
    without_id = pl.col("transaction_id").is_null() & (new_id & pl.col("later")).any().over("day")
    repeats = (
        keys.with_columns(later=~pl.col("row").is_first_distinct())
        .select(pl.col("later") & (new_id | without_id))
        .to_series()
    )
    return pl.repeat(value=False, n=len(counts), eager=True).scatter(counts.arg_true().filter(repeats), True)


def removed_installs(installs: Installs, cause: Cause, timezone: str) -> pl.Series | None:
    """Return which installs a cause removes; None if it removes none."""
    if installs.frame is None:
        return None
    value: Any = cause.value
    if cause.kind == "right edge":
        return pl.Series(local_days(installs.frame["install_date"], timezone) > value)
    if cause.kind == "rows missing" and value[0] == "users" and value[2] and installs.users is not None:
        return installs.users.is_in(list(value[1]))
    return None


def _affected(events: Events, cause: Cause, timezone: str) -> pl.Series:
    """Return the rows of the users or days of a cause."""
    value: Any = cause.value
    if value[0] == "users":
        return events.frame["user"].is_in(list(value[1])).fill_null(value=False)
    days = local_days(events.frame["event_datetime"], "UTC" if value[0] == "UTC days" else timezone)
    return pl.Series((days >= value[1]) & (days <= value[2]))


def edited(events: Events, cause: Cause, timezone: str) -> Events:
    """Return the events under a cause of one of the kinds that edit rows."""
    if cause.kind == "rows twice":
        return _with_copies(events, _affected(events, cause, timezone) & (events.kind >= 0))
    if cause.kind == "rows missing":
        excluded = _affected(events, cause, timezone)
    elif cause.kind == "right edge":
        days = local_days(events.frame["event_datetime"], timezone)
        excluded = pl.Series(days > int(cause.value))  # type: ignore[call-overload]
    elif cause.kind == "refunds":
        excluded = events.kind >= FIRST_REFUND
    elif cause.kind == "repeats":
        excluded = repeated(events)
    else:  # rows missing locally: the sums are filled from the remote answer instead
        return events
    return replace(events, kind=events.kind.set(excluded, EXCLUDED))


def _with_copies(events: Events, affected: pl.Series) -> Events:
    """Append copies of rows under new ids, in the same chains."""
    ids = [name for name in ("transaction_id", "profile_event_id") if name in events.frame.columns]
    copies = events.frame.filter(affected).with_columns(pl.col(name) + _COPY_SUFFIX for name in ids)
    kind = pl.concat([events.kind, events.kind.filter(affected)], rechunk=True)
    return Events(pl.concat([events.frame, copies]), kind, events.report)

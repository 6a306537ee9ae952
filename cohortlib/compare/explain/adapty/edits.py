"""Edits of the events and installs that a cause stands for."""

from collections.abc import Callable
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

_AGAIN = "#again"


def local_days(column: pl.Series, zone: str) -> NDArray[np.int32]:
    """Cut instants to local days since 1970-01-01; ``kernels.NONE`` where there is none."""
    if not len(column) or column.null_count() == len(column):
        return np.full(len(column), NONE, np.int32)
    return DayColumn.of(column, zone)(0, len(column))


def _chosen(events: Events, cause: Cause, timezone: str) -> pl.Series:
    """Tell the rows that a cause is of: those of some users, or of some days."""
    value: Any = cause.value
    if value[0] == "users":
        return events.frame["user"].is_in(list(value[1])).fill_null(value=False)
    days = local_days(events.frame["event_datetime"], "UTC" if value[0] == "days of UTC" else timezone)
    return pl.Series((days >= value[1]) & (days <= value[2]))


def _without(events: Events, gone: pl.Series) -> Events:
    return replace(events, kind=events.kind.set(gone, -1))


def _missing(events: Events, cause: Cause, timezone: str) -> Events:
    return _without(events, _chosen(events, cause, timezone))


def _twice(events: Events, cause: Cause, timezone: str) -> Events:
    """Repeat some rows under ids of their own, in the same chains."""
    some = _chosen(events, cause, timezone) & (events.kind >= 0)
    ids = [name for name in ("transaction_id", "profile_event_id") if name in events.frame.columns]
    more = events.frame.filter(some).with_columns(pl.col(name) + _AGAIN for name in ids)
    return Events(
        pl.concat([events.frame, more]), pl.concat([events.kind, events.kind.filter(some)], rechunk=True), events.report
    )


def _ended(events: Events, cause: Cause, timezone: str) -> Events:
    days = local_days(events.frame["event_datetime"], timezone)
    return _without(events, pl.Series(days > int(cause.value)))  # type: ignore[call-overload]


def _unrefunded(events: Events, cause: Cause, timezone: str) -> Events:
    return _without(events, events.kind >= 5)


def alike(events: Events) -> pl.Series:
    """Tell the rows that are alike with an earlier one in user, instant, kind, product and money, but not in its id."""
    same = ["user", "event_datetime", "product_id", "revenue_usd", "proceeds_usd", "net_revenue_usd"]
    live = events.kind >= 0
    keys = events.frame.select(
        pl.struct(*same, kind=events.kind).hash().alias("row"),
        "transaction_id",
        day=pl.col("event_datetime").cast(pl.Date),
    )
    keys = keys.filter(live)
    # What has the same id the engine leaves out by itself. Without an id nothing tells whether a row was meant to be
    # there twice, so these are taken on days of which others are.
    other = pl.struct("row", "transaction_id").is_first_distinct() & pl.col("transaction_id").is_not_null()
    nameless = pl.col("transaction_id").is_null() & (other & pl.col("later")).any().over("day")
    again = (
        keys.with_columns(later=~pl.col("row").is_first_distinct())
        .select((pl.col("later") & (other | nameless)).alias("again"))
        .to_series()
    )
    return pl.repeat(value=False, n=len(live), eager=True).scatter(live.arg_true().filter(again), True)


def _once(events: Events, cause: Cause, timezone: str) -> Events:
    return _without(events, alike(events))


def _as_they_are(events: Events, cause: Cause, timezone: str) -> Events:
    return events


EDITS: dict[str, Callable[[Events, Cause, str], Events]] = {
    "rows missing": _missing,
    "rows twice": _twice,
    "right edge": _ended,
    "refunds": _unrefunded,
    "repeats": _once,
    "rows missing here": _as_they_are,
}


def gone_from_installs(who: Installs, cause: Cause, timezone: str) -> pl.Series | None:
    """Tell the installs that go with the rows of a cause."""
    if who.frame is None:
        return None
    value: Any = cause.value
    if cause.kind == "right edge":
        return pl.Series(local_days(who.frame["install_date"], timezone) > value)
    if cause.kind == "rows missing" and value[0] == "users" and value[2] and who.users is not None:
        return who.users.is_in(list(value[1]))
    return None

"""Edit events and installs as a cause demands."""

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
from cohortlib.adapty.read.specs import MONEY
from cohortlib.compare.explain.adapty.dimensions import LOCAL, MARK
from cohortlib.compare.explain.causes import Cause

EXCLUDED, FIRST_REFUND = -1, 5  # kinds of events: 0 is a trial, 1 to 4 are payments
_COPY_SUFFIX = "#again"
EVENTS_MOVED = "events moved"
MOVES = (EVENTS_MOVED, "refund dates")
VALUES = "values of "
FACTOR_OF = "factor of "
"""How the kinds of causes begin that leave out, or multiply, the rows with some values of a column."""


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


# ------------------------------------------------------------------------------------------------------------- installs


def edited_installs(installs: Installs, cause: Cause, timezone: str) -> Installs:
    """Return the installs under a cause."""
    frame = installs.frame
    value: Any = cause.value
    if frame is None:
        return installs
    kept = None
    if cause.kind == "right edge":
        kept = pl.Series(local_days(frame["install_date"], timezone) <= value)
    elif cause.kind == "rows missing" and value[0] == "users" and value[2]:
        kept = None if installs.users is None else ~installs.users.is_in(list(value[1]))
    elif cause.kind.startswith(VALUES) and value[2] and MARK + value[0] in frame.columns:
        kept = _kept(frame, value)
    elif cause.kind == "installs moved":
        if isinstance(value, str):  # a time zone: days as they are there
            day = pl.Series("install_date", local_days(frame["install_date"], value)).cast(pl.Date)
            return replace(installs, frame=frame.with_columns(day))
        return replace(installs, frame=frame.with_columns(pl.col("install_date").dt.offset_by(f"{value}d")))
    elif cause.kind == "installs unfiltered":
        kept_columns = [name for name in frame.columns if name in ("user", "install_date") or name.startswith(MARK)]
        return replace(installs, frame=frame.select(kept_columns))
    return installs if kept is None else replace(installs, frame=frame.filter(kept))


def _kept(frame: pl.DataFrame, value: Any) -> pl.Series:  # noqa: ANN401
    """Return the rows that are kept where values of a column are left out, or kept alone."""
    name, chosen, _, alone = value
    inside: pl.Series = frame[MARK + name].is_in(list(chosen)).fill_null(value=False)
    return inside if alone else ~inside


# --------------------------------------------------------------------------------------------------------------- events


def _affected(events: Events, cause: Cause, timezone: str) -> pl.Series:
    """Return the rows of the users or days of a cause."""
    value: Any = cause.value
    if value[0] == "users":
        return events.frame["user"].is_in(list(value[1])).fill_null(value=False)
    days = local_days(events.frame["event_datetime"], "UTC" if value[0] == "UTC days" else timezone)
    return pl.Series((days >= value[1]) & (days <= value[2]))


def _without(events: Events, excluded: pl.Series) -> Events:
    return replace(events, kind=events.kind.set(excluded, EXCLUDED))


def _missing(events: Events, cause: Cause, timezone: str) -> Events:
    return _without(events, _affected(events, cause, timezone))


def _twice(events: Events, cause: Cause, timezone: str) -> Events:
    """Append copies of rows under new ids, in the same chains."""
    affected = _affected(events, cause, timezone) & (events.kind >= 0)
    ids = [name for name in ("transaction_id", "profile_event_id") if name in events.frame.columns]
    copies = events.frame.filter(affected).with_columns(pl.col(name) + _COPY_SUFFIX for name in ids)
    kind = pl.concat([events.kind, events.kind.filter(affected)], rechunk=True)
    return Events(pl.concat([events.frame, copies]), kind, events.report)


def _ended(events: Events, cause: Cause, timezone: str) -> Events:
    days = local_days(events.frame["event_datetime"], timezone)
    return _without(events, pl.Series(days > int(cause.value)))  # type: ignore[call-overload]


def _moved(events: Events, cause: Cause, _timezone: str) -> Events:
    moved = pl.col("event_datetime").dt.offset_by(f"{cause.value}d")
    return replace(events, frame=events.frame.with_columns(moved))


def _values(events: Events, cause: Cause, _timezone: str) -> Events:
    return _without(events, ~_kept(events.frame, cause.value))


def _times(rows: pl.Series, factors: tuple[float, ...]) -> list[pl.Expr]:
    return [
        pl.when(rows).then(pl.col(name) * factor).otherwise(name).alias(name)
        for name, factor in zip(MONEY, factors, strict=True)
        if factor != 1.0
    ]


def _multiplied(events: Events, cause: Cause, timezone: str) -> Events:
    """Multiply the money of rows with a value of a column, or from a day on."""
    value: Any = cause.value
    what, factors = value
    if cause.kind == FACTOR_OF + "dates":
        rows = pl.Series(local_days(events.frame["event_datetime"], timezone) >= what)
    else:
        rows = _kept(events.frame, (cause.kind.removeprefix(FACTOR_OF), (what,), False, True))
    return replace(events, frame=events.frame.with_columns(_times(rows, factors)))


def _filled(events: Events, cause: Cause, _timezone: str) -> Events:
    """Fill missing proceeds and net revenue with a share of the revenue."""
    shares = zip(MONEY[1:], cause.value, strict=True)  # type: ignore[call-overload]
    return replace(
        events, frame=events.frame.with_columns(pl.col(name).fill_null(pl.col(MONEY[0]) * by) for name, by in shares)
    )


def _in_local_currency(events: Events, _cause: Cause, _timezone: str) -> Events:
    return replace(events, frame=events.frame.with_columns(pl.col(LOCAL + name).alias(name) for name in MONEY))


def _of_owner(events: Events, cause: Cause, _timezone: str) -> Events:
    """Move the rows of each chain to the user of its first or last row."""
    frame = events.frame
    owners = (
        frame.select("original_transaction_id", "event_datetime", pl.col("user").alias("_owner"))
        .drop_nulls()
        .sort("event_datetime", descending=cause.value == "last", maintain_order=True)
        .unique("original_transaction_id", keep="first", maintain_order=True)
        .drop("event_datetime")
    )
    joined = frame.join(owners, on="original_transaction_id", how="left", maintain_order="left")
    joined = joined.with_columns(pl.coalesce("_owner", "user").alias("_owner"))
    if "install_date" in frame.columns:
        installed = frame.group_by("user").agg(pl.col("install_date").min().alias("_installed"))
        joined = joined.join(installed, left_on="_owner", right_on="user", how="left", maintain_order="left")
        given = pl.when(pl.col("_owner") != pl.col("user")).then("_installed").otherwise("install_date")
        joined = joined.with_columns(given.alias("install_date"))
    return replace(events, frame=joined.with_columns(pl.col("_owner").alias("user")).select(frame.columns))


def _refunds_at_payment(events: Events, _cause: Cause, _timezone: str) -> Events:
    """Date refunds as the payments that they belong to by transaction."""
    kind = events.kind
    paid = events.frame.filter((kind >= 1) & (kind < FIRST_REFUND)).select(
        "transaction_id", pl.col("event_datetime").alias("_paid")
    )
    paid = paid.drop_nulls("transaction_id").unique("transaction_id", keep="first", maintain_order=True)
    joined = events.frame.join(paid, on="transaction_id", how="left", maintain_order="left")
    dated = pl.when(kind >= FIRST_REFUND).then(pl.coalesce("_paid", "event_datetime")).otherwise("event_datetime")
    return replace(events, frame=joined.with_columns(dated.alias("event_datetime")).drop("_paid"))


Edit = Callable[[Events, Cause, str], Events]
EDITS: dict[str, Edit] = {
    "rows missing": _missing,
    "rows twice": _twice,
    "right edge": _ended,
    "refunds": lambda events, _cause, _zone: _without(events, events.kind >= FIRST_REFUND),
    "repeats": lambda events, _cause, _zone: _without(events, repeated(events)),
    EVENTS_MOVED: _moved,
    "installs moved": lambda events, _cause, _zone: events,
    "installs unfiltered": lambda events, _cause, _zone: events,
    "missing money": _filled,
    "currency": _in_local_currency,
    "owner": _of_owner,
    "refund dates": _refunds_at_payment,
}
"""The kinds of causes that edit rows, besides those that begin with `VALUES` and `FACTOR_OF`."""


def edit_of(kind: str) -> Edit | None:
    """Return how a kind of cause edits events; None if it does not."""
    if kind.startswith(VALUES):
        return _values
    return _multiplied if kind.startswith(FACTOR_OF) else EDITS.get(kind)


def edited(events: Events, cause: Cause, timezone: str) -> Events:
    """Return the events under a cause of one of the kinds that edit rows."""
    edit = edit_of(cause.kind)
    return events if edit is None else edit(events, cause, timezone)

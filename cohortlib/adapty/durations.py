"""The duration of each event's product, where the events do not have the column: by a table, or by the paid period."""

from dataclasses import replace

import numpy as np
import polars as pl

from cohortlib.adapty.arrays import DayColumn
from cohortlib.adapty.findings import Findings
from cohortlib.adapty.kernels.records import NONE, ONE_TIME, ONE_TIME_REFUND, REFUND, STARTED, TRIAL
from cohortlib.adapty.plan import RequestPlan
from cohortlib.adapty.read.events import Events
from cohortlib.adapty.read.specs import MONEY

UNCATEGORIZED, LIFETIME = "Uncategorized", "Lifetime"
# The first and last length of the paid period in days, and the duration.
PAID_DAYS = (
    (5, 9, "Weekly"), (26, 33, "Monthly"), (55, 63, "2 months"), (83, 95, "3 months"), (175, 190, "6 months"),
    (350, 380, "Annual"),
)  # fmt: skip

_CHAIN = ["user", "chain"]


def with_durations(events: Events, plan: RequestPlan) -> Events:
    """Add the duration of each event that counts.

    A product listed in `products` has its duration there. Else the column ``duration`` of the events counts, and
    without it the days from a payment to subscription_expires_at. Then a trial takes the duration of the first payment
    of its chain, and a refund is uncategorized: it counts with its payment.
    """
    frame = events.frame
    has_column = "duration" in frame.columns
    if not plan.products and (has_column or "subscription_expires_at" not in frame.columns):
        return events
    listed = pl.repeat(None, frame.height, dtype=pl.String, eager=True)
    if plan.products:
        durations = dict(plan.products)
        products = frame["product_id"].cast(pl.String)
        listed = products.replace_strict(durations, default=None, return_dtype=pl.String)
    if has_column:
        other, derived = frame["duration"].cast(pl.String), 0
    else:
        other = _of_paid_periods(events, listed, plan)
        payments = (events.kind >= STARTED) & (events.kind < ONE_TIME)
        derived = int((listed.is_null() & payments).sum())
    both = pl.select(pl.coalesce(listed, other).alias("duration")).to_series()
    findings = events.findings + Findings({("durations",): derived})
    return replace(events, frame=frame.with_columns(both), findings=findings)


def _of_paid_periods(events: Events, listed: pl.Series, plan: RequestPlan) -> pl.Series:
    """Return the duration of each event by the paid period; that of a trial by the first payment of its chain."""
    frame, kind = events.frame, events.kind
    own = pl.Series(_paid(frame, plan), dtype=pl.String)
    once = (kind == ONE_TIME) | (kind == ONE_TIME_REFUND)
    own = pl.select(
        pl.when(once).then(pl.lit(LIFETIME)).when(kind == REFUND).then(pl.lit(UNCATEGORIZED)).otherwise(own)
    ).to_series()
    trials = (kind == TRIAL).arg_true()
    if not len(trials):
        return own
    chain = pl.coalesce("original_transaction_id", "transaction_id").alias("chain")
    known = pl.select(pl.coalesce(listed, own).alias("known")).to_series()
    payments = (
        frame.with_columns(chain, known, kind.alias("kind"))
        .filter((pl.col("kind") >= STARTED) & (pl.col("kind") < ONE_TIME) & pl.col("chain").is_not_null())
        .sort("event_datetime", "kind", "transaction_id", *MONEY, "known", nulls_last=False)
        .group_by(_CHAIN)
        .agg(pl.col("known").first())
    )
    of_trials = frame[trials].select("user", chain).join(payments, on=_CHAIN, how="left", maintain_order="left")
    return own.scatter(trials, of_trials["known"].fill_null(UNCATEGORIZED))


def _paid(frame: pl.DataFrame, plan: RequestPlan) -> np.ndarray:
    """Return the duration of each row by its days from event to end; uncategorized without an end."""
    names = np.full(frame.height, UNCATEGORIZED, object)
    columns = [DayColumn.of(frame[name], plan.timezone) for name in ("event_datetime", "subscription_expires_at")]
    if not frame.height or not all(columns):
        return names
    first, last = (column(0, frame.height).astype(np.int64) for column in columns)
    days = np.where((first == NONE) | (last == NONE), -1, last - first)
    for least, most, name in PAID_DAYS:
        names[(days >= least) & (days <= most)] = name
    return names

"""RevenueCat's transactions export (scheduled data exports, version 5) read as Adapty's events.

A transaction is one row there: a refund is the day it happened and what is left of the price. Here it becomes two
events, the payment and, where money went back, the refund.
"""

from collections.abc import Collection
from functools import partial

import numpy as np
import polars as pl

from cohortlib.adapty.read import columns
from cohortlib.adapty.read.columns import Column

MARK = "rc_original_app_user_id"
"""The column that tells the export."""
USERS = {"profile_id": MARK, "customer_user_id": "rc_last_seen_app_user_id_alias"}

INSTANTS = ("start_time", "refunded_at", "first_seen_time", "effective_end_time", "end_time")
"""The columns of instants."""

_TEXT = {
    "transaction_id": "store_transaction_id",
    "original_transaction_id": "original_store_transaction_id",
    "product_id": "product_identifier",
    "store": "store",
}
_REQUIRED = (
    *_TEXT.values(), "start_time", "refunded_at", "product_duration", "is_trial_period", "is_trial_conversion",
    "renewal_number", "price_in_usd", "purchase_price_in_usd", "is_sandbox", "commission_percentage", "tax_percentage",
)  # fmt: skip
_OPTIONAL = ("first_seen_time", "effective_end_time", "end_time", "ownership_type", "country", "offer")
_DURATIONS = {
    "P7D": "Weekly", "P1W": "Weekly", "P1M": "Monthly", "P2M": "2 months", "P3M": "3 months", "P6M": "6 months",
    "P12M": "Annual", "P1Y": "Annual",
}  # fmt: skip
SHARES = ("commission_percentage", "tax_percentage")


def required(user_unit: str) -> dict[str, tuple[str, ...]]:
    """Name the columns without which a transaction cannot be read, and for each what may stand for it."""
    return {name: (name,) for name in (USERS.get(user_unit, user_unit), *_REQUIRED)}


def names(user_unit: str) -> list[str]:
    """Name all the columns that are read."""
    return [MARK, *required(user_unit), *_OPTIONAL]


def payments(
    raw: pl.DataFrame, user_unit: str, dates: Collection[str] | None = None
) -> tuple[dict[str, Column], pl.Series]:
    """Give the event of each transaction, column by column, and its kind; `dates` as of a :class:`Raw` table."""
    there, instant = set(raw.columns), partial(columns.instant, dates=dates)
    read = {name: columns.text(raw[column]) for name, column in _TEXT.items()}
    read["user"] = columns.user(raw[USERS.get(user_unit, user_unit)])
    read["event_datetime"] = instant(raw["start_time"])
    if "first_seen_time" in there:
        read["install_date"] = instant(raw["first_seen_time"])
    ends = [instant(raw[name]) for name in ("effective_end_time", "end_time") if name in there]
    if ends:
        read["subscription_expires_at"] = ends[0] if len(ends) == 1 else ends[0].merged(ends[1])
    for name, column in (("store_country", "country"), ("offer_id", "offer")):
        if column in there:
            read[name] = columns.text(raw[column])
    duration = columns.text(raw["product_duration"]).series
    read["duration"] = Column(
        duration.replace_strict(_DURATIONS, default="Uncategorized", return_dtype=pl.String).fill_null("Uncategorized")
    )
    read |= _shares(columns.number(raw["purchase_price_in_usd"]), raw)
    renewal = columns.whole(raw["renewal_number"])
    read |= _own_ids(read, renewal.series)
    # What tells the kind is checked with the rest, but is no column of an event.
    trial, conversion = (columns.flag(raw[name]) for name in ("is_trial_period", "is_trial_conversion"))
    read |= {"is_trial_period": trial, "is_trial_conversion": conversion, "renewal_number": renewal}
    read |= {name: columns.number(raw[name]) for name in SHARES}
    kind = pl.select(
        pl.when(trial.series).then(0).when(conversion.series).then(2).when(duration.is_null()).then(4)
        .when(renewal.series == 1).then(1).otherwise(3).cast(pl.Int8)
    ).to_series()  # fmt: skip
    return read, kind


def production(raw: pl.DataFrame) -> pl.Series:
    """Tell which transactions are no test."""
    sandbox = columns.flag(raw["is_sandbox"])
    sandbox.refuse_unread(pl.repeat(value=True, n=len(raw), eager=True))
    return (~sandbox.series).fill_null(value=False)


def refunds(
    raw: pl.DataFrame, of: pl.DataFrame, kind: pl.Series, dates: Collection[str] | None = None
) -> tuple[pl.DataFrame, pl.Series]:
    """Give the refunds of the payments that count (`of`, whose kinds are `kind`), as rows of the same columns.

    Where the export does not know what is left of the price, the money of the refund is null.
    """
    paid = kind > 0
    at = columns.instant(raw["refunded_at"], dates)
    left, gross = (columns.number(raw[name]) for name in ("price_in_usd", "purchase_price_in_usd"))
    at.refuse_unread(paid)
    refunded = paid & at.series.is_not_null()
    left.refuse_unread(refunded)
    back = gross.series - left.series
    rows = (refunded & ((back > 0) | back.is_null())).arg_true()
    frame = of[rows].with_columns(
        at.series.gather(rows).alias("event_datetime"),
        *(share.series.gather(rows).alias(name) for name, share in _shares(Column(back), raw).items()),
    )
    return frame, pl.Series(np.where(kind.gather(rows).to_numpy() == 4, 6, 5).astype(np.int8))


def _shares(gross: Column, raw: pl.DataFrame) -> dict[str, Column]:
    """Split money into the three amounts; an unknown share of store or state is none."""
    commission, tax = (columns.number(raw[name]).series.cast(pl.Float64).fill_null(0) for name in SHARES)
    money = gross.series.cast(pl.Float64)
    return {
        "revenue_usd": gross,
        "proceeds_usd": Column(money * (1.0 - commission)),
        "net_revenue_usd": Column(money * (1.0 - commission - tax)),
    }


def _own_ids(read: dict[str, Column], renewal: pl.Series) -> dict[str, Column]:
    """Tell Stripe's transactions apart by their renewal number, for they share an id.

    Where the chain has no id either, the shared one holds it together.
    """
    own, chain, store = (read[name].series for name in ("transaction_id", "original_transaction_id", "store"))
    stripe = (store.str.to_lowercase() == "stripe").fill_null(value=False)
    if not stripe.any():
        return {}
    made = pl.DataFrame({"own": own, "chain": chain, "stripe": stripe, "renewal": renewal.cast(pl.String)}).select(
        own=pl.when("stripe").then(pl.concat_str("own", pl.lit(":"), pl.col("renewal").fill_null(""))).otherwise("own"),
        chain=pl.when("stripe").then(pl.coalesce("chain", "own")).otherwise("chain"),
    )
    return {"transaction_id": Column(made["own"]), "original_transaction_id": Column(made["chain"])}

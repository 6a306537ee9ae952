"""Read RevenueCat's transactions export (scheduled data exports, versions 4 to 7) as Adapty's events.

A row is a state of a transaction; :mod:`cohortlib.adapty.read.states` selects the latest. A refund is a date and the
remaining price in that row, which becomes two events: the payment and the refund.
"""

import numpy as np
import polars as pl

from cohortlib.adapty.kernels.records import CONVERTED, ONE_TIME, ONE_TIME_REFUND, REFUND, RENEWED, STARTED, TRIAL
from cohortlib.adapty.read import readers
from cohortlib.adapty.read.readers import ReadColumn
from cohortlib.adapty.read.settings import Reading
from cohortlib.adapty.read.tables import RawTable
from cohortlib.read.tables import Locate
from cohortlib.read.text import is_text

MARK = "rc_original_app_user_id"
"""The column that identifies the format."""
USERS = {"profile_id": MARK, "customer_user_id": "rc_last_seen_app_user_id_alias"}
"""The column of users, by user_unit."""

UPDATED, TRANSACTION, RENEWAL = "updated_at", "store_transaction_id", "renewal_number"
"""The instant of a state, and the two columns that identify its transaction."""

# Text columns, by the name of the event's column.
_TEXTS = {
    "transaction_id": TRANSACTION,
    "original_transaction_id": "original_store_transaction_id",
    "product_id": "product_identifier",
    "store": "store",
}
_REQUIRED = (
    *_TEXTS.values(), "start_time", "refunded_at", "is_trial_period", "is_trial_conversion", RENEWAL, "price_in_usd",
    "purchase_price_in_usd", "is_sandbox", "commission_percentage", "tax_percentage",
)  # fmt: skip
_TERMS = ("end_time", "is_auto_renewable", "product_duration")  # the first two show whether a row is a subscription
_OPTIONAL = (*_TERMS, UPDATED, "first_seen_time", "effective_end_time", "ownership_type", "country", "offer")
_DURATIONS = {
    "P7D": "Weekly", "P1W": "Weekly", "P1M": "Monthly", "P2M": "2 months", "P3M": "3 months", "P6M": "6 months",
    "P12M": "Annual", "P1Y": "Annual",
}  # fmt: skip
SHARES = ("commission_percentage", "tax_percentage")
"""The shares of the price that go to the store and to taxes."""


def required(user_unit: str) -> dict[str, tuple[str, ...]]:
    """Return the required columns, each with its accepted names."""
    return {name: (name,) for name in (USERS.get(user_unit, user_unit), *_REQUIRED)} | {_TERMS[0]: _TERMS}


def names(user_unit: str) -> list[str]:
    """List all columns that are read."""
    return [*USERS.values(), *required(user_unit), *_OPTIONAL]


def payments(raw: pl.DataFrame, user_unit: str, reading: Reading) -> tuple[dict[str, ReadColumn], pl.Series]:
    """Return the columns and the kind of each transaction's event."""
    columns = {name: readers.text(raw[column]) for name, column in _TEXTS.items()}
    columns["user"] = readers.user(raw[USERS.get(user_unit, user_unit)], reading)
    columns["event_datetime"] = readers.instant(raw["start_time"], reading)
    if "first_seen_time" in raw.columns:
        columns["install_date"] = readers.instant(raw["first_seen_time"], reading)
    ends = [readers.end(raw[name], reading) for name in ("effective_end_time", "end_time") if name in raw.columns]
    if ends:
        columns["subscription_expires_at"] = ends[0] if len(ends) == 1 else ends[0].merged(ends[1], reading.zone)
    for name, column in (("store_country", "country"), ("offer_id", "offer")):
        if column in raw.columns:
            columns[name] = readers.text(raw[column])
    if "product_duration" in raw.columns:
        duration = readers.text(raw["product_duration"]).series
        columns["duration"] = ReadColumn(
            duration.replace_strict(_DURATIONS, default="Uncategorized", return_dtype=pl.String).fill_null(
                "Uncategorized"
            )
        )
    columns |= _shares(readers.number(raw["purchase_price_in_usd"], reading), raw, reading)
    renewal = readers.whole(raw[RENEWAL])
    columns |= _transaction_ids(columns, renewal.series)
    # These decide the kind. They are checked like the others, but are not columns of events.
    trial, conversion = (readers.flag(raw[name]) for name in ("is_trial_period", "is_trial_conversion"))
    columns |= {"is_trial_period": trial, "is_trial_conversion": conversion, "renewal_number": renewal}
    columns |= {name: readers.share(raw[name], reading) for name in SHARES}
    kind = pl.select(
        pl.when(trial.series).then(TRIAL).when(conversion.series).then(CONVERTED)
        .when(one_time(raw)).then(ONE_TIME)
        .when(renewal.series == 1).then(STARTED).otherwise(RENEWED).cast(pl.Int8)
    ).to_series()  # fmt: skip
    return columns, kind


def one_time(raw: pl.DataFrame) -> pl.Series:
    """Return which transactions are no subscriptions: those that neither end nor renew."""
    if "end_time" in raw.columns or "is_auto_renewable" in raw.columns:
        once = pl.repeat(value=True, n=len(raw), eager=True)
        if "end_time" in raw.columns:
            once &= (
                readers.text(raw["end_time"]).series.is_null()
                if is_text(raw["end_time"].dtype)
                else raw["end_time"].is_null()
            )
        if "is_auto_renewable" in raw.columns:
            once &= ~readers.flag(raw["is_auto_renewable"]).series.fill_null(value=False)
        return once
    return readers.text(raw["product_duration"]).series.is_null()


def void(raw: pl.DataFrame, reading: Reading) -> pl.Series | None:
    """Return which transactions end before they start; None without the column end_time."""
    if "end_time" not in raw.columns:
        return None
    start, end = (
        readers.utc(readers.end(raw[name], reading).series, reading.zone) for name in ("start_time", "end_time")
    )
    return (end < start).fill_null(value=False)


def production(raw: pl.DataFrame, where: Locate | None) -> pl.Series:
    """Return which transactions are of the production environment."""
    sandbox = readers.flag(raw["is_sandbox"])
    sandbox.check(pl.repeat(value=True, n=len(raw), eager=True), where)
    return (~sandbox.series).fill_null(value=False)


def refunds(
    table: RawTable, payments: pl.DataFrame, kind: pl.Series, reading: Reading
) -> tuple[pl.DataFrame, pl.Series]:
    """Return the refunds of the payments that count as rows with the same columns, and their kinds.

    Where the remaining price is missing, the money of the refund is null.
    """
    raw, paid = table.frame, kind > TRIAL
    instant = readers.instant(raw["refunded_at"], reading)
    remaining, gross = (readers.number(raw[name], reading) for name in ("price_in_usd", "purchase_price_in_usd"))
    instant.check(paid, table.where)
    refunded = paid & instant.series.is_not_null()
    remaining.check(refunded, table.where)
    back = gross.series - remaining.series
    rows = (refunded & ((back > 0) | back.is_null())).arg_true()
    frame = payments[rows].with_columns(
        instant.series.gather(rows).alias("event_datetime"),
        *(share.series.gather(rows).alias(name) for name, share in _shares(ReadColumn(back), raw, reading).items()),
    )
    refund_kind = np.where(kind.gather(rows).to_numpy() == ONE_TIME, ONE_TIME_REFUND, REFUND)
    return frame, pl.Series(refund_kind.astype(np.int8))


def _shares(gross: ReadColumn, raw: pl.DataFrame, reading: Reading) -> dict[str, ReadColumn]:
    """Split the price into the three amounts; a missing commission or tax is 0."""
    commission, tax = (readers.share(raw[name], reading).series.fill_null(0) for name in SHARES)
    money = readers.floats(gross.series)
    return {
        "revenue_usd": gross,
        "proceeds_usd": ReadColumn(money * (1.0 - commission)),
        "net_revenue_usd": ReadColumn(money * (1.0 - commission - tax)),
    }


def _transaction_ids(columns: dict[str, ReadColumn], renewal: pl.Series) -> dict[str, ReadColumn]:
    """Append the renewal number to the ids of transactions, since some stores have one id per subscription.

    If the id of the chain is missing, the shared id is used for it.
    """
    shared, chain = (columns[name].series for name in ("transaction_id", "original_transaction_id"))
    ids = pl.DataFrame({"shared": shared, "chain": chain, "renewal": renewal.cast(pl.String)}).select(
        own=pl.concat_str("shared", pl.lit(":"), pl.col("renewal").fill_null("")),
        chain=pl.coalesce("chain", "shared"),
    )
    return {"transaction_id": ReadColumn(ids["own"]), "original_transaction_id": ReadColumn(ids["chain"])}

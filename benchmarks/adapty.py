"""
Adapty's cohort table, by renewals and by days, in cohortlib, polars and DuckDB.

There is no query for ClickHouse or pandas yet.
"""

import warnings
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import polars as pl
from polars import col

from benchmarks import adapty_duckdb, adapty_polars, engines
from benchmarks.adapty_rules import EPOCH, SUMS, History
from benchmarks.measure import OURS, Contender, Question, same_table

LABELS = ("type", "segment_start_date", "period")
COUNTS = ("installs", "subscriptions", "subscribers", "currently_active_period")
NUMBERS = (
    *SUMS,
    *("arpu_usd", "appu_usd", "anrpu_usd"),
    *("arppu_usd", "apppu_usd", "anrppu_usd"),
    *("arpas_usd", "appas_usd", "anrpas_usd"),
    *("revenue_relative", "proceeds_relative", "net_revenue_relative"),
    *("subscriptions_relative", "subscribers_relative"),
)
READ = (
    *("profile_id", "event_type", "event_datetime", "transaction_id", "original_transaction_id", "product_id"),
    *("environment", "cancellation_reason", "install_date", "subscription_expires_at", *SUMS),
)
READ_INSTALLS = ("profile_id", "install_date")


def ours(given: History, threads: int, *, period_type: str) -> pl.DataFrame:
    import cohortlib as cl
    from cohortlib.errors import CohortlibWarning

    days = [(EPOCH + timedelta(days=day)).isoformat() for day in (given.first, given.last)]
    request = {"filters": {"date": days}, "period_unit": "month", "period_type": period_type}
    with warnings.catch_warnings():
        # The data has refunds without a payment and similar rows, which cohortlib rightly warns about.
        warnings.simplefilter("ignore", CohortlibWarning)
        return cl.adapty.cohort(given.events, request, installs=given.installs, threads=threads).values


def compare(answer: pl.DataFrame, other: pl.DataFrame, *, rel: float = 1e-9) -> None:
    """
    Raise AssertionError unless two answers are equal.

    Labels, counts and flags must be equal. Money and ratios may differ by a relative `rel`, because other engines sum
    floats in any order.
    """
    same_table(_plain(answer), _plain(other), [*LABELS, *COUNTS], NUMBERS, rel=rel)


def _plain(answer: pl.DataFrame) -> pl.DataFrame:
    """Sort the columns and rows of an answer."""
    total_first = col("type") != "total"
    return answer.select(*LABELS, *COUNTS, *NUMBERS).sort(total_first, "segment_start_date", "period")


def duck_own(given: History, threads: int) -> History:
    """Load both tables into DuckDB. Files are read by every call."""
    if isinstance(given.events, Path):
        return given
    return given._replace(
        **{name: engines.duck_own(name, getattr(given, name), threads) for name in ("events", "installs")}
    )


def read_by_polars(given: History, threads: int) -> pl.DataFrame:
    """Read the columns that the answer needs from the files of events and installs, and nothing else."""
    del threads
    _read(given.installs, READ_INSTALLS)
    return _read(given.events, READ)


def _read(table: engines.Table, columns: Sequence[str]) -> pl.DataFrame:
    if not isinstance(table, Path) or not engines.is_csv(table):
        return engines.scan(table).select(columns).collect(engine="streaming")
    # Instants stay text, and no type is guessed: both would take longer.
    numbers = {name: pl.Float64 for name in SUMS if name in columns}
    scan = pl.scan_csv(table, schema_overrides=numbers, infer_schema_length=0)
    return scan.select(columns).collect(engine="streaming")


def question(period_type: str) -> Question:
    """Return the question for "renewals" or "days", with all contenders."""
    duck = partial(adapty_duckdb.answer, period_type=period_type)
    polars = partial(adapty_polars.answer, period_type=period_type)
    return Question(
        {
            OURS: Contender(partial(ours, period_type=period_type)),
            "polars, streaming": Contender(partial(polars, engine="streaming")),
            "polars, in memory": Contender(partial(polars, engine="in-memory")),
            "DuckDB, own tables": Contender(partial(duck, keys=adapty_duckdb.TEXT_KEYS), duck_own),
            "DuckDB, own tables, hashed keys": Contender(partial(duck, keys=adapty_duckdb.HASHED_KEYS), duck_own),
            "reading the columns, polars": Contender(read_by_polars, answers=False),
        },
        compare,
    )

"""Every contender for Adapty's cohort table answers the worked example of docs/adapty.md."""

from datetime import UTC, date, datetime

import polars as pl
import pytest

from benchmarks.adapty_rules import EPOCH, History
from benchmarks.questions import QUESTIONS

RENEWALS = QUESTIONS["adapty-renewals"]


@pytest.mark.parametrize("name", [name for name, each in RENEWALS.contenders.items() if each.answers])
def test_worked_example(name, threads):
    """February, and the first column of March."""
    contender = RENEWALS.contenders[name]
    renewals = contender.run(contender.prepare(EXAMPLE, threads), threads).filter(type="single")
    fields = ("period", "installs", "revenue_usd", "subscribers", "subscriptions", "arppu_usd", "arpas_usd")
    assert renewals.select(fields).rows()[:4] == [
        (1, 3, 10.0, 2, 2, 10.0, 5.0),
        (2, 3, 0.0, 1, 1, 0.0, 5.0),
        (3, 3, 10.0, 1, 1, 0.0, 10.0),
        (1, 1, 65.0, 1, 2, 65.0, 65.0),
    ]
    contender = QUESTIONS["adapty-days"].contenders[name]
    days = contender.run(contender.prepare(EXAMPLE, threads), threads)
    days = days.filter(pl.col("period").is_in([0, 7, 31, 61]), type="single", segment_start_date="2026-02-01")
    assert days.select("revenue_usd", "subscribers", "subscriptions").rows() == [
        (10.0, 1, 1),
        (20.0, 2, 2),
        (20.0, 2, 2),
        (10.0, 0, 0),
    ]


def _example() -> History:
    rows = [
        ("u1", "A", "a0", "trial_started", (2, 3), 0.0),
        ("u1", "A", "a1", "trial_converted", (2, 10), 10.0),
        ("u1", "A", "a2", "subscription_renewed", (3, 10), 10.0),
        ("u1", "A", "a3", "subscription_renewed", (4, 10), 10.0),
        ("u1", "A", "a2", "subscription_refunded", (3, 20), 10.0),
        ("u2", "B", "b1", "subscription_started", (2, 10), 10.0),
        ("u2", "B", "b1", "subscription_refunded", (4, 5), 10.0),
        ("u4", "C", "c1", "subscription_started", (3, 5), 60.0),
        ("u4", "D", "d1", "non_subscription_purchase", (3, 6), 5.0),
    ]
    instant = pl.Datetime("us", "UTC")
    names = ("profile_id", "original_transaction_id", "transaction_id", "event_type", "event_datetime", "revenue_usd")
    events = pl.DataFrame(
        [(*row[:4], _noon(*row[4]), row[5]) for row in rows], schema=dict.fromkeys(names), orient="row"
    ).with_columns(
        pl.col("event_datetime").cast(instant),
        proceeds_usd=(pl.col("revenue_usd") * 0.7).round(2),
        net_revenue_usd=(pl.col("revenue_usd") * 0.7).round(2),
        environment=pl.lit("Production"),
        product_id=pl.lit("monthly"),
        cancellation_reason=pl.lit(None, dtype=pl.String),
        install_date=pl.lit(None, dtype=instant),
        subscription_expires_at=pl.lit(None, dtype=instant),
    )
    installed = {"u1": (2, 3), "u2": (2, 10), "u3": (2, 25), "u4": (3, 2)}
    installs = pl.DataFrame(
        {"profile_id": list(installed), "install_date": [_noon(*day) for day in installed.values()]},
        schema_overrides={"install_date": instant},
    )
    return History(events, installs, (date(2026, 2, 1) - EPOCH).days, (date(2026, 6, 30) - EPOCH).days)


def _noon(month: int, day: int) -> datetime:
    return datetime(2026, month, day, 12, tzinfo=UTC)


EXAMPLE = _example()

"""Compute the fields of Adapty's API from the sums."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from cohortlib.adapty.aggregate import MISSING_REVENUE, SegmentSums
from cohortlib.adapty.answer import Answer
from cohortlib.adapty.forecast import Prediction
from cohortlib.adapty.kernels.records import (
    ACTIVATED,
    CHAINS,
    INSTALLS,
    NET,
    PAID,
    PAYERS,
    PROCEEDS,
    REVENUE,
    RUNNING,
    SUBSCRIBERS,
    SUBSCRIPTIONS,
)
from cohortlib.adapty.plan import RequestPlan, Segments
from cohortlib.engine import ratios
from cohortlib.fields import AVERAGES, MONEY, RELATIVE, SEGMENTS, schema
from cohortlib.read.arrays import Ints

_PLANES = dict(zip(MONEY, (REVENUE, PROCEEDS, NET), strict=True))


def compose(
    sums: SegmentSums, plan: RequestPlan, report: Mapping[str, int], predictions: list[Prediction] | None = None
) -> Answer:
    """Compute all fields of the answer from the sums, and add the predictions."""
    segments = plan.segments
    total_first = sums.with_total()
    days = plan.request.period_type == "days"
    table = (_day_table if days else _renewal_table)(total_first, plan)
    return Answer(
        segments=_segments(table, segments, plan).hstack(_predictions(predictions, len(segments) + 1, plan)),
        values=_values(table, segments, plan),
        request=plan.request,
        report={**report, MISSING_REVENUE: report[MISSING_REVENUE] / 10**plan.decimals},
        conventions=plan.conventions,
    )


@dataclass(frozen=True)
class _Table:
    """The counts and money that fields are computed from: by (segment, column); installs and totals by segment.

    `averaged` holds the money that each family of averages divides.
    """

    periods: Ints
    installs: Ints
    money: dict[str, Ints]
    averaged: dict[str, dict[str, Ints]]
    subscribers: Ints
    subscriptions: Ints
    payers: Ints
    activated: Ints
    active: np.ndarray
    total_money: dict[str, Ints]
    total_subscribers: Ints
    total_subscriptions: Ints
    total_payers: Ints
    total_activated: Ints


def _renewal_table(sums: SegmentSums, plan: RequestPlan) -> _Table:
    """Fill the table by renewals: money and counts at each ordinal, payers and activated users up to it."""
    n, running = sums.columns, np.cumsum(sums.cells, axis=2)
    money = {name: sums.cells[plane, :, :n] for name, plane in _PLANES.items()}
    cumulative = {name: running[plane, :, :n] for name, plane in _PLANES.items()}
    averaged = cumulative if plan.conventions.averages == "cumulative" else money
    return _Table(
        np.arange(1, n + 1),
        sums.heads[INSTALLS],
        money,
        {"arpu": averaged, "arppu": cumulative, "arpas": averaged},
        sums.cells[SUBSCRIBERS, :, :n],
        sums.cells[SUBSCRIPTIONS, :, :n],
        running[PAYERS, :, :n],
        running[ACTIVATED, :, :n],
        running[RUNNING, :, :n] > 0,
        {name: running[plane, :, -1] for name, plane in _PLANES.items()},
        sums.heads[PAID],
        sums.heads[CHAINS],
        running[PAYERS, :, -1],
        running[ACTIVATED, :, -1],
    )


def _day_table(sums: SegmentSums, plan: RequestPlan) -> _Table:
    """Fill the table by days since the install: a column includes all earlier days; the last one is open-ended."""
    n, running = sums.columns, np.cumsum(sums.cells, axis=2)
    days = np.array(plan.request.renewal_days, np.int64)
    last = np.append(plan.segments.last, plan.segments.ends)
    money = {name: running[plane, :, :n] for name, plane in _PLANES.items()}
    subscribers, subscriptions = running[SUBSCRIBERS], running[SUBSCRIPTIONS]
    return _Table(
        days,
        sums.heads[INSTALLS],
        money,
        dict.fromkeys(AVERAGES, money),
        subscribers[:, :n],
        subscriptions[:, :n],
        subscribers[:, :n],
        running[ACTIVATED, :, :n],
        last[:, None] + days >= plan.as_of,
        {name: running[plane, :, -1] for name, plane in _PLANES.items()},
        subscribers[:, -1],
        subscriptions[:, -1],
        subscribers[:, -1],
        running[ACTIVATED, :, -1],
    )


def _predictions(predictions: list[Prediction] | None, count: int, plan: RequestPlan) -> list[pl.Series]:
    dtype = schema(SEGMENTS)["predict"]
    if predictions is None:
        return [pl.Series("predict", [None] * count, dtype=dtype)]
    months = plan.request.prediction_months
    values = [
        None if each.reason else {"revenue_usd": each.revenue, "ltv_usd": each.revenue / each.payers, "months": months}
        for each in predictions
    ]
    reasons = [each.reason for each in predictions]
    return [pl.Series("predict", values, dtype=dtype), pl.Series("predict_reason", reasons, dtype=pl.String)]


def _segments(table: _Table, segments: Segments, plan: RequestPlan) -> pl.DataFrame:
    scale = 10**plan.decimals
    divisors = {"arpu": table.installs, "arppu": table.total_payers, "arpas": table.total_activated}
    starts = _starts(segments)
    count = starts.len()
    columns = {
        "segment_start_date": starts,
        "type": _types(count),
        "title": pl.concat([pl.Series(["Total"]), starts[1:]]),
        "total_installs": pl.Series(table.installs),
        "total_subscriptions": pl.Series(table.total_subscriptions),
        "total_paid_subscribers": pl.Series(table.total_subscribers),
    }
    columns |= {f"total_{name}_usd": ratios.money(amount, scale) for name, amount in table.total_money.items()}
    columns |= {
        f"total_{name}_usd": ratios.average(table.total_money[money], divisors[family], scale)
        for family, names in AVERAGES.items()
        for name, money in zip(names, MONEY, strict=True)
    }
    return pl.DataFrame(columns)


def _values(table: _Table, segments: Segments, plan: RequestPlan) -> pl.DataFrame:
    scale = 10**plan.decimals
    width = table.periods.size
    starts = _starts(segments)
    count = starts.len()
    installs = np.repeat(table.installs, width)
    divisors = {"arpu": installs, "arppu": table.payers.ravel(), "arpas": table.activated.ravel()}
    counts = {"subscriptions": table.subscriptions, "subscribers": table.subscribers}
    cells = table.money | counts
    columns = {
        "segment_start_date": starts.gather(np.repeat(np.arange(count), width)),
        "type": _types(count).gather(np.repeat(np.arange(count), width)),
        "period": pl.Series(np.tile(table.periods, count), dtype=pl.Int64),
        "installs": pl.Series(installs, dtype=pl.Int64),
    }
    columns |= {f"{name}_usd": ratios.money(amount.ravel(), scale) for name, amount in table.money.items()}
    columns |= {
        f"{name}_usd": ratios.average(table.averaged[family][money].ravel(), divisors[family], scale)
        for family, names in AVERAGES.items()
        for name, money in zip(names, MONEY, strict=True)
    }
    columns |= {name: pl.Series(np.ascontiguousarray(count).ravel()) for name, count in counts.items()}
    columns |= {
        f"{name}_relative": ratios.relative(cells[name].ravel(), np.repeat(cells[name][:, :1], width))
        for name in RELATIVE
    }
    return pl.DataFrame(columns | {"currently_active_period": pl.Series(np.ascontiguousarray(table.active).ravel())})


def _starts(segments: Segments) -> pl.Series:
    """Return the first day of the date range, then that of each period."""
    return pl.Series(np.append(segments.first, segments.starts)).cast(pl.Int32).cast(pl.Date).cast(pl.String)


def _types(count: int) -> pl.Series:
    return pl.Series(["total"] + ["single"] * (count - 1))

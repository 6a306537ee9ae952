"""From sums to the fields that Adapty's API returns.

The names of the vendor's fields stand here and nowhere else.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from cohortlib import metrics
from cohortlib.adapty import kernels
from cohortlib.adapty.forecast import Prediction
from cohortlib.adapty.question import Question, Segments
from cohortlib.adapty.request import Conventions, Request
from cohortlib.adapty.sums import Sums
from cohortlib.schema import Ints

MONEY = {"revenue": kernels.REVENUE, "proceeds": kernels.PROCEEDS, "net_revenue": kernels.NET}
# The averages of each family, in the order of MONEY: per user, per paying user, per activated user.
AVERAGES = {
    "arpu": ("arpu", "appu", "anrpu"),
    "arppu": ("arppu", "apppu", "anrppu"),
    "arpas": ("arpas", "appas", "anrpas"),
}
RELATIVE = ("revenue", "proceeds", "net_revenue", "subscriptions", "subscribers")
_KEYS = ("segment_start_date", "type")
_PREDICT = pl.Struct({"revenue_usd": pl.Float64, "ltv_usd": pl.Float64, "months": pl.Int64})


@dataclass(frozen=True, repr=False)
class Answer:
    """A cohort table as Adapty's API returns it.

    Attributes
    ----------
    segments
        One row for each segment, the total first: the fields of the API but for `values`. Money and averages are
        Float64, counts Int64, dates text. Where a prediction was asked for, `predict_reason` says why there is none.
    values
        One row for each segment and period, under segment_start_date and type: the fields of the API.
    report
        What of the input was left out or is worth knowing, by count: `rows`, then rows that do not count (sandbox,
        other_events, unknown_events, family_shared, granted, upgraded, nulls, after_to, duplicates), then
        refunds_without_payment, before_install (rows), shared_chains, and the users not_in_installs and
        without_install.
    request, conventions
        What was asked for.
    """

    segments: pl.DataFrame
    values: pl.DataFrame
    report: dict[str, int]
    request: Request
    conventions: Conventions

    def __repr__(self) -> str:
        first, last = self.request.date
        return (
            f"Answer({self.request.period_type} by {self.request.period_unit}, {first} to {last}: "
            f"{self.segments.height - 1:,} segments × {self._columns:,} periods)"
        )

    @property
    def _columns(self) -> int:
        return self.values.height // max(self.segments.height, 1)

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON that the API returns, as Python values."""
        cells = self.values.drop(_KEYS).to_dicts()
        width = self._columns
        return {
            "data": [
                segment | {"values": cells[i * width : (i + 1) * width]}
                for i, segment in enumerate(self.segments.drop("predict_reason", strict=False).to_dicts())
            ]
        }

    def to_json(self) -> str:
        """Give the JSON that the API returns, as text."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)

    def to_csv(self) -> str:
        """Give one line for each segment: its totals, then one column for each period.

        The columns of periods are named ``period_1`` … or ``day_0`` …, and their cells are what value_field,
        value_type and accounting_type of the request ask for. The vendor does not publish the headers of its own.
        """
        return self._wide.write_csv()

    @cached_property
    def _wide(self) -> pl.DataFrame:
        width = self._columns
        cells = shown(self.values, self.request).to_numpy().reshape(self.segments.height, width)
        stem = "day" if self.request.period_type == "days" else "period"
        periods = self.values["period"].head(width).to_list()
        totals = self.segments.drop("predict", "predict_reason", strict=False)
        if self.segments["predict"].null_count() < self.segments.height:
            prediction = self.segments.select(pl.col("predict").struct.unnest()).rename(lambda name: f"predict_{name}")
            totals = totals.hstack(prediction)
        return totals.hstack([pl.Series(f"{stem}_{period}", cells[:, i]) for i, period in enumerate(periods)])


def shown(values: pl.DataFrame, request: Request) -> pl.Series:
    """Choose the cells that a request asks to be shown.

    Relative averages, which the API does not carry, are 100 × average / the first period's, and 0 where that is 0.
    """
    name = field(request)
    if request.value_type == "absolute" or name.endswith("_relative"):
        return values[name]
    first = values.select(pl.col(name).first().over(list(_KEYS))).to_series()
    return pl.select(pl.when(first == 0).then(0.0).otherwise(100 * values[name] / first)).to_series()


def field(request: Request) -> str:
    """Name the field of `values` that a request asks to be shown."""
    name: str = request.value_field
    if name in AVERAGES:
        return f"{AVERAGES[name][list(MONEY).index(request.accounting_type)]}_usd"
    if name == "revenue":
        name = request.accounting_type
    if request.value_type == "relative":
        return f"{name}_relative"
    return f"{name}_usd" if name in MONEY else name


def compose(
    sums: Sums, question: Question, report: dict[str, int], predictions: list[Prediction] | None = None
) -> Answer:
    """Work out every field of the answer from the sums, and put predictions beside them."""
    segments = question.segments
    whole = sums.with_total()
    days = question.request.period_type == "days"
    table = (_days if days else _renewals)(whole, question)
    return Answer(
        _segments(table, segments, question).hstack(_predictions(predictions, len(segments) + 1, question)),
        _values(table, segments, question),
        report,
        question.request,
        question.conventions,
    )


@dataclass(frozen=True)
class _Table:
    """The counts and the money behind the fields; cells are (segment, column), installs and totals by segment.

    `averaged` is the money of which each family of averages is a mean.
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


def _renewals(sums: Sums, question: Question) -> _Table:
    """Read the sums as periods of payments: money and counts at the ordinal, payers and activated users up to it."""
    n, running = sums.columns, np.cumsum(sums.cells, axis=2)
    money = {name: sums.cells[plane, :, :n] for name, plane in MONEY.items()}
    cumulative = {name: running[plane, :, :n] for name, plane in MONEY.items()}
    averaged = cumulative if question.conventions.averages == "cumulative" else money
    return _Table(
        np.arange(1, n + 1),
        sums.heads[kernels.INSTALLS],
        money,
        {"arpu": averaged, "arppu": cumulative, "arpas": averaged},
        sums.cells[kernels.SUBSCRIBERS, :, :n],
        sums.cells[kernels.SUBSCRIPTIONS, :, :n],
        running[kernels.PAYERS, :, :n],
        running[kernels.ACTIVATED, :, :n],
        running[kernels.RUNNING, :, :n] > 0,
        {name: running[plane, :, -1] for name, plane in MONEY.items()},
        sums.heads[kernels.PAID],
        sums.heads[kernels.CHAINS],
        running[kernels.PAYERS, :, -1],
        running[kernels.ACTIVATED, :, -1],
    )


def _days(sums: Sums, question: Question) -> _Table:
    """Read the sums as days since the install: everything up to the day; the last column has no end."""
    n, running = sums.columns, np.cumsum(sums.cells, axis=2)
    days = np.array(question.request.renewal_days, np.int64)
    last = np.append(question.segments.last, question.segments.ends)
    money = {name: running[plane, :, :n] for name, plane in MONEY.items()}
    subscribers, subscriptions = running[kernels.SUBSCRIBERS], running[kernels.SUBSCRIPTIONS]
    return _Table(
        days,
        sums.heads[kernels.INSTALLS],
        money,
        dict.fromkeys(AVERAGES, money),
        subscribers[:, :n],
        subscriptions[:, :n],
        subscribers[:, :n],
        running[kernels.ACTIVATED, :, :n],
        last[:, None] + days >= question.as_of,
        {name: running[plane, :, -1] for name, plane in MONEY.items()},
        subscribers[:, -1],
        subscriptions[:, -1],
        subscribers[:, -1],
        running[kernels.ACTIVATED, :, -1],
    )


def _predictions(predictions: list[Prediction] | None, count: int, question: Question) -> list[pl.Series]:
    if predictions is None:
        return [pl.Series("predict", [None] * count, dtype=_PREDICT)]
    months = question.request.prediction_months
    told = [
        None if one.reason else {"revenue_usd": one.revenue, "ltv_usd": one.revenue / one.payers, "months": months}
        for one in predictions
    ]
    reasons = [one.reason for one in predictions]
    return [pl.Series("predict", told, dtype=_PREDICT), pl.Series("predict_reason", reasons, dtype=pl.String)]


def _segments(table: _Table, segments: Segments, question: Question) -> pl.DataFrame:
    scale = 10**question.decimals
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
    columns |= {f"total_{name}_usd": metrics.money(amount, scale) for name, amount in table.total_money.items()}
    columns |= {
        f"total_{name}_usd": metrics.average(table.total_money[money], divisors[family], scale)
        for family, names in AVERAGES.items()
        for name, money in zip(names, MONEY, strict=True)
    }
    return pl.DataFrame(columns)


def _values(table: _Table, segments: Segments, question: Question) -> pl.DataFrame:
    scale = 10**question.decimals
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
    columns |= {f"{name}_usd": metrics.money(amount.ravel(), scale) for name, amount in table.money.items()}
    columns |= {
        f"{name}_usd": metrics.average(table.averaged[family][money].ravel(), divisors[family], scale)
        for family, names in AVERAGES.items()
        for name, money in zip(names, MONEY, strict=True)
    }
    columns |= {name: pl.Series(np.ascontiguousarray(count).ravel()) for name, count in counts.items()}
    columns |= {
        f"{name}_relative": metrics.relative(cells[name].ravel(), np.repeat(cells[name][:, :1], width))
        for name in RELATIVE
    }
    return pl.DataFrame(columns | {"currently_active_period": pl.Series(np.ascontiguousarray(table.active).ravel())})


def _starts(segments: Segments) -> pl.Series:
    """Write the first day of the frame, then that of each period."""
    return pl.Series(np.append(segments.first, segments.starts)).cast(pl.Int32).cast(pl.Date).cast(pl.String)


def _types(count: int) -> pl.Series:
    return pl.Series(["total"] + ["single"] * (count - 1))

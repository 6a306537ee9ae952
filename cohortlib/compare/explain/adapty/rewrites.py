"""Rewrite a computed answer, or its sums, without the rows."""

from dataclasses import replace

import numpy as np
import polars as pl

from cohortlib.adapty.aggregate import SegmentSums
from cohortlib.adapty.answer import Answer
from cohortlib.adapty.kernels import records
from cohortlib.adapty.plan import RequestPlan
from cohortlib.compare.explain.adapty.money import Floats
from cohortlib.compare.explain.adapty.recipe import Recipe
from cohortlib.fields import AVERAGES, MONEY
from cohortlib.periods import date_of
from cohortlib.read.arrays import Ints

MONEY_PLANES = [records.REVENUE, records.PROCEEDS, records.NET]


def multiply_money(answer: Answer, factors: tuple[float, ...]) -> Answer:
    """Multiply revenue, proceeds and net revenue, and their averages, each by its factor."""
    if all(factor == 1.0 for factor in factors):
        return answer
    index_of = {name: index for index, name in enumerate(MONEY)}
    index_of |= {name: index for family in AVERAGES.values() for index, name in enumerate(family)}

    def multiply(frame: pl.DataFrame, prefix: str) -> pl.DataFrame:
        return frame.with_columns(pl.col(f"{prefix}{name}_usd") * factors[at] for name, at in index_of.items())

    return replace(answer, values=multiply(answer.values, ""), segments=multiply(answer.segments, "total_"))


def segment_labels(plan: RequestPlan, labels: int | str) -> list[str]:
    """Return the labels of the segments; `labels` is that of :class:`Recipe`."""
    segments = plan.segments
    days = segments.starts
    if labels == "last day":
        days = segments.ends
    elif labels:
        calendar = plan.calendar
        days = calendar.first_days(calendar.ordinals(segments.starts) + int(labels))
    return [date_of(int(day)).isoformat() for day in days]


def relabel(answer: Answer, recipe: Recipe, plan: RequestPlan) -> Answer:
    """Renumber columns and relabel segments."""
    if recipe.columns:
        answer = replace(answer, values=answer.values.with_columns(pl.col("period") + recipe.columns))
    if recipe.labels:
        old, new = segment_labels(plan, 0), segment_labels(plan, recipe.labels)
        single = pl.col("type") == "single"

        def relabelled(frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
            return frame.with_columns(
                pl.when(single).then(pl.col(name).replace(old, new)).otherwise(name).alias(name) for name in columns
            )

        answer = replace(
            answer,
            values=relabelled(answer.values, "segment_start_date"),
            segments=relabelled(answer.segments, "segment_start_date", "title"),
        )
    return answer


def copy_remote(total: SegmentSums, remote: Answer, plan: RequestPlan) -> SegmentSums:
    """Replace money and counts of segments by those of the remote answer.

    An answer has averages, but no counts of paying and activated users: these are money / average, if that is a whole
    number.
    """
    single = remote.values.filter(pl.col("type") == "single").sort("segment_start_date", "period")
    values = single.partition_by("segment_start_date", as_dict=True)
    heads = {row["segment_start_date"]: row for row in remote.segments.filter(type="single").iter_rows(named=True)}
    width = max((frame.height for frame in values.values()), default=0)
    cells, tops = _widened(total.cells, width + 1), total.heads.copy()
    for at, name in enumerate(segment_labels(plan, 0)):
        frame, head = values.get((name,)), heads.get(name)
        if frame is not None and head is not None:
            _copy_segment(cells[:, at], frame, head, plan)
            tops[records.PAID, at] = head["total_paid_subscribers"]
            tops[records.CHAINS, at] = head["total_subscriptions"]
    return SegmentSums(max(total.columns, width), cells, tops)


def _copy_segment(cells: Ints, frame: pl.DataFrame, head: dict[str, float], plan: RequestPlan) -> None:
    """Write one segment's values and totals into its cells (planes × columns)."""
    days, scale = plan.request.period_type == "days", 10**plan.decimals
    by_column = {
        plane: np.rint(frame[f"{money}_usd"].to_numpy() * scale)
        for plane, money in zip(MONEY_PLANES, MONEY, strict=True)
    }
    totals: dict[int, float] = {
        plane: head[f"total_{money}_usd"] * scale for plane, money in zip(MONEY_PLANES, MONEY, strict=True)
    }
    by_column |= {
        records.SUBSCRIBERS: frame["subscribers"].to_numpy(),
        records.SUBSCRIPTIONS: frame["subscriptions"].to_numpy(),
    }
    totals |= {records.SUBSCRIBERS: head["total_paid_subscribers"], records.SUBSCRIPTIONS: head["total_subscriptions"]}
    revenue = frame["revenue_usd"].to_numpy()
    revenue = revenue if days else np.cumsum(revenue)
    for plane, average in ((records.PAYERS, "arppu"), (records.ACTIVATED, "arpas")):
        local = np.cumsum(cells[plane])
        by_column[plane] = _users(revenue, frame[f"{average}_usd"].to_numpy(), local[: frame.height])
        total = np.array([head["total_revenue_usd"]]), np.array([head[f"total_{average}_usd"]])
        totals[plane] = _users(*total, local[-1:])[0]
    cumulative = {records.PAYERS, records.ACTIVATED} | (set(by_column) if days else set())
    for plane, column_values in by_column.items():
        own = np.diff(column_values, prepend=0) if plane in cumulative else column_values
        cells[plane] = 0
        cells[plane, : own.size] = np.rint(own)
        if plane in cumulative:  # the last column holds what comes after the columns shown
            cells[plane, -1] += round(float(totals[plane])) - int(cells[plane].sum())


def _widened(cells: Ints, width: int) -> Ints:
    return cells.copy() if cells.shape[2] >= width else np.pad(cells, ((0, 0), (0, 0), (0, width - cells.shape[2])))


def _users(money: Floats, average: Floats, local: Ints) -> Floats:
    """Return money / average; the local number of users if that is not a whole number."""
    users = np.divide(money, average, out=np.full(money.shape, 0.5), where=average != 0)
    whole = np.abs(users - np.rint(users)) < 1e-4
    fallback = local.astype(float)
    if local.size < money.size:
        fallback = np.pad(fallback, (0, money.size - local.size), mode="edge")
    return np.where(whole, np.rint(np.where(whole, users, 0)), fallback[: money.size])

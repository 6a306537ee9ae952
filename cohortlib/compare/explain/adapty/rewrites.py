"""Rewrites of a computed answer, which need no rows."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.adapty.aggregate import SegmentSums
from cohortlib.adapty.answer import Answer
from cohortlib.adapty.kernels.records import (
    ACTIVATED,
    CHAINS,
    NET,
    PAID,
    PAYERS,
    PROCEEDS,
    REVENUE,
    SUBSCRIBERS,
    SUBSCRIPTIONS,
)
from cohortlib.adapty.plan import RequestPlan
from cohortlib.compare.explain.adapty.plan import Plan
from cohortlib.fields import AVERAGES, MONEY
from cohortlib.periods import date_of
from cohortlib.read.arrays import Ints

Floats = NDArray[np.float64]

PLANES = [REVENUE, PROCEEDS, NET]


def scaled_values(answer: Answer, factors: tuple[float, ...]) -> Answer:
    """Multiply the moneys of an answer."""
    if all(factor == 1.0 for factor in factors):
        return answer
    of = {name: at for at, name in enumerate(MONEY)}
    of |= {name: at for family in AVERAGES.values() for at, name in enumerate(family)}

    def scaled(frame: pl.DataFrame, before: str) -> pl.DataFrame:
        return frame.with_columns(pl.col(f"{before}{name}_usd") * factors[at] for name, at in of.items())

    return replace(answer, values=scaled(answer.values, ""), segments=scaled(answer.segments, "total_"))


def names(question: RequestPlan, labels: int | str) -> list[str]:
    """Name the segments: by their start, or as they are labelled otherwise."""
    segments = question.segments
    days = segments.starts.copy()
    if labels == "last day":
        days = segments.ends.copy()
    elif labels:
        days = _starts_beside(question, int(labels))
    return [day_named(int(day)) for day in days]


def _starts_beside(question: RequestPlan, by: int) -> Ints:
    calendar = question.calendar
    return calendar.first_days(calendar.ordinals(question.segments.starts) + by)


def relabelled(answer: Answer, plan: Plan, question: RequestPlan) -> Answer:
    """Name columns and segments as a plan says."""
    if plan.columns:
        answer = replace(answer, values=answer.values.with_columns(pl.col("period") + plan.columns))
    if plan.labels:
        old, new = names(question, 0), names(question, plan.labels)
        single = pl.col("type") == "single"

        def named(frame: pl.DataFrame, *names: str) -> pl.DataFrame:
            return frame.with_columns(
                pl.when(single).then(pl.col(name).replace(old, new)).otherwise(name).alias(name) for name in names
            )

        answer = replace(
            answer,
            values=named(answer.values, "segment_start_date"),
            segments=named(answer.segments, "segment_start_date", "title"),
        )
    return answer


def filled_values(total: SegmentSums, remote: Answer, question: RequestPlan) -> SegmentSums:
    """Take moneys and counts of segments from the other side.

    Payers and activated users are those by which the other side's averages are quotients of its money, as far as they
    come out whole.
    """
    days = question.request.period_type == "days"
    single = remote.values.filter(pl.col("type") == "single").sort("segment_start_date", "period")
    values = single.partition_by("segment_start_date", as_dict=True)
    heads = {row["segment_start_date"]: row for row in remote.segments.filter(type="single").iter_rows(named=True)}
    width = max((frame.height for frame in values.values()), default=0)
    cells, tops = _widest(total.cells, width + 1), total.heads.copy()
    scale = 10**question.decimals
    for at, name in enumerate(names(question, 0)):
        frame, head = values.get((name,)), heads.get(name)
        if frame is None or head is None:
            continue
        running = {
            plane: np.rint(frame[f"{money}_usd"].to_numpy() * scale) for plane, money in zip(PLANES, MONEY, strict=True)
        }
        running |= {
            SUBSCRIBERS: frame["subscribers"].to_numpy(),
            SUBSCRIPTIONS: frame["subscriptions"].to_numpy(),
        }
        revenue = frame["revenue_usd"].to_numpy()
        revenue = revenue if days else np.cumsum(revenue)
        whole = {plane: head[f"total_{money}_usd"] * scale for plane, money in zip(PLANES, MONEY, strict=True)}
        whole |= {
            SUBSCRIBERS: head["total_paid_subscribers"],
            SUBSCRIPTIONS: head["total_subscriptions"],
        }
        for plane, name_ in ((PAYERS, "arppu"), (ACTIVATED, "arpas")):
            before = np.cumsum(cells[plane, at])
            running[plane] = _people_by(revenue, frame[f"{name_}_usd"].to_numpy(), before[: frame.height])
            told = np.array([head["total_revenue_usd"]]), np.array([head[f"total_{name_}_usd"]])
            whole[plane] = _people_by(*told, before[-1:])[0]
        cumulative = {PAYERS, ACTIVATED} | (set(running) if days else set())
        for plane, values_ in running.items():
            own = np.diff(values_, prepend=0) if plane in cumulative else values_
            cells[plane, at] = 0
            cells[plane, at, : own.size] = np.rint(own)
            if plane in cumulative:  # the last column has what comes after those shown
                cells[plane, at, -1] += round(float(whole[plane])) - int(cells[plane, at].sum())
        tops[PAID, at] = head["total_paid_subscribers"]
        tops[CHAINS, at] = head["total_subscriptions"]
    return SegmentSums(max(total.columns, width), cells, tops)


def _widest(cells: Ints, width: int) -> Ints:
    return cells.copy() if cells.shape[2] >= width else np.pad(cells, ((0, 0), (0, 0), (0, width - cells.shape[2])))


def _people_by(money: Floats, average: Floats, ours: NDArray[Any]) -> Floats:
    """Find of how many people an average is; ours where that is no whole number."""
    people = np.divide(money, average, out=np.full(money.shape, 0.5), where=average != 0)
    near = np.abs(people - np.rint(people)) < 1e-4
    padded = np.pad(ours.astype(float), (0, money.size - ours.size), mode="edge") if ours.size < money.size else ours
    return np.where(near, np.rint(np.where(near, people, 0)), padded[: money.size])


def day_named(day: int) -> str:
    """Write a day since 1970-01-01 as a date."""
    return date_of(day).isoformat()

"""Rewrite a computed answer without the rows."""

from dataclasses import replace

import polars as pl

from cohortlib.adapty.answer import Answer
from cohortlib.adapty.kernels import records
from cohortlib.adapty.plan import RequestPlan
from cohortlib.compare.explain.adapty.recipe import Recipe
from cohortlib.fields import AVERAGES, MONEY
from cohortlib.periods import date_of

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

"""A cohort table as Adapty's API returns it: frames, JSON and CSV."""

import json
from dataclasses import dataclass
from dataclasses import field as attribute
from functools import cached_property
from itertools import islice
from typing import Any

import polars as pl

from cohortlib.adapty.conventions import Conventions
from cohortlib.adapty.request import Request
from cohortlib.fields import AVERAGES, MONEY, SEGMENT


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
    request
        What was asked for.
    report
        What of the input was left out or is worth knowing, by count: `rows`, then rows that do not count (sandbox,
        other_events, unknown_events, family_shared, granted, upgraded, nulls, after_to, duplicates), then
        refunds_without_payment, before_install (rows), shared_chains, and the users not_in_installs and
        without_install. Empty in an answer that was fetched.
    conventions
        The readings that were chosen; None in an answer that was fetched.
    """

    segments: pl.DataFrame
    values: pl.DataFrame
    request: Request
    report: dict[str, int] = attribute(default_factory=dict)
    conventions: Conventions | None = None

    def __repr__(self) -> str:
        first, last = self.request.date
        return (
            f"Answer({self.request.period_type} by {self.request.period_unit}, {first} to {last}: "
            f"{max(self.segments.height - 1, 0):,} segments × {self._columns:,} periods)"
        )

    @property
    def _columns(self) -> int:
        return self.values["period"].n_unique()

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON that the API returns, as Python values."""
        keys = list(SEGMENT)
        widths = self.values.group_by(keys).len()
        counts = self.segments.select(keys).join(widths, on=keys, how="left", maintain_order="left")["len"]
        cells, segments = iter(self.values.drop(SEGMENT).to_dicts()), self.segments.drop("predict_reason", strict=False)
        return {
            "data": [
                segment | {"values": list(islice(cells, count or 0))}
                for segment, count in zip(segments.to_dicts(), counts, strict=True)
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
        keys, periods = list(SEGMENT), self.values["period"].unique().sort()
        # One cell for each segment and period; a vendor's answer may lack some.
        grid = self.segments.select(keys).join(periods.to_frame(), how="cross", maintain_order="left_right")
        cells = self.values.select(*keys, "period", shown(self.values, self.request).alias("cell"))
        found = grid.join(cells, on=[*keys, "period"], how="left", maintain_order="left")["cell"]
        stem = "day" if self.request.period_type == "days" else "period"
        totals = self.segments.drop("predict", "predict_reason", strict=False)
        if self.segments["predict"].null_count() < self.segments.height:
            prediction = self.segments.select(pl.col("predict").struct.unnest()).rename(lambda name: f"predict_{name}")
            totals = totals.hstack(prediction)
        names = [f"{stem}_{period}" for period in periods]
        return totals.hstack([found.gather_every(len(names), i).alias(name) for i, name in enumerate(names)])


def shown(values: pl.DataFrame, request: Request) -> pl.Series:
    """Choose the cells that a request asks to be shown.

    Relative averages, which the API does not carry, are 100 × average / the first period's, and 0 where that is 0.
    """
    name = field(request)
    if request.value_type == "absolute" or name.endswith("_relative"):
        return values[name]
    first = values.select(pl.col(name).first().over(list(SEGMENT))).to_series()
    return pl.select(pl.when(first == 0).then(0.0).otherwise(100 * values[name] / first)).to_series()


def field(request: Request) -> str:
    """Name the field of `values` that a request asks to be shown."""
    name: str = request.value_field
    if name in AVERAGES:
        return f"{AVERAGES[name][MONEY.index(request.accounting_type)]}_usd"
    if name == "revenue":
        name = request.accounting_type
    if request.value_type == "relative":
        return f"{name}_relative"
    return f"{name}_usd" if name in MONEY else name

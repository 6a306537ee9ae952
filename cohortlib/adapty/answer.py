"""A cohort table as Adapty's API returns it: frames, JSON and CSV."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from itertools import islice
from typing import Any, Protocol

import polars as pl

from cohortlib.adapty.conventions import Conventions
from cohortlib.adapty.request import Request
from cohortlib.errors import Arg, SettingError, listed
from cohortlib.fields import AVERAGES, MONEY, SEGMENT


class Behind(Protocol):
    """Lists users from the input of an answer."""

    def users(self, segment: int | None, period: int) -> pl.DataFrame:
        """List the users behind a cell; the segment is counted from 0, None for all."""


@dataclass(frozen=True, repr=False)
class Answer:
    """A cohort table as Adapty's API returns it.

    Attributes
    ----------
    segments
        One row per segment, the total first, with the API's fields except `values`. Money and averages are Float64,
        counts Int64, dates text. If predictions were requested, `predict_reason` says why one is missing.
    values
        One row per segment and period, with segment_start_date, type and the API's fields.
    request
        The request.
    report
        Counts: `rows` of the input; the rows left out (blank_lines, header_lines, superseded, sandbox, other_events,
        unknown_events, family_shared, granted, upgraded, void, zero_payments, nulls, after_to, duplicates);
        missing_money (payments and refunds without proceeds or net revenue) and their missing_money_revenue;
        refunds_without_payment, before_install (rows), shared_chains, unordered_states
        (transactions); the users not_in_installs and without_install; and unfiltered_installs. Empty in a fetched
        answer.
    conventions
        The conventions used; None in a fetched answer.
    reply
        The JSON that Adapty's API sent, byte for byte; None in a computed answer. `to_dict` and `to_json` return it,
        with the vendor's own `predict` and the fields that have no column here.
    """

    segments: pl.DataFrame
    values: pl.DataFrame
    request: Request
    report: dict[str, float] = field(default_factory=dict)
    conventions: Conventions | None = None
    reply: bytes | None = None
    behind: Behind | None = field(default=None, compare=False)
    """The input, to list users; None in a fetched, summed or unpickled answer."""

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"behind": None}

    def users(self, *, segment_start_date: str | date | None = None, period: int) -> pl.DataFrame:
        """List the users behind a cell.

        The events and installs are read again, so they must be as they were.

        Parameters
        ----------
        segment_start_date
            The first day of the segment; None for the total over all segments.
        period
            The period of the cell, as in `values`.

        Returns
        -------
        polars.DataFrame
            The users that count in any number of the cell, ordered by revenue (descending) and user, with the columns

            - ``user_id``: the user, in the type of the events
            - ``install_date`` (Date): the local day from which the user counts
            - ``installed``, ``activated``, ``subscriber``, ``payer`` (Boolean): whether the user is one of the cell's
              installs; has activated a trial or a subscription; is one of its subscribers; and is one of the users
              that ARPPU divides by, without those refunded. Ready counts of installs have no users: nobody is installed
            - ``subscriptions``, ``payments``, ``refunds`` (Int64): the user's subscriptions that the cell counts, and
              the payments and refunds in its money
            - ``revenue_usd``, ``proceeds_usd``, ``net_revenue_usd`` (Float64)

            Their sums are the cell's.

        Raises
        ------
        SettingError
            If the answer has no such cell, or was not computed from events: a fetched answer, or that of `Sums`.
        """
        if self.behind is None:
            raise SettingError(
                "this answer has no users: it was fetched, computed from sums or by Spark, or unpickled",
                expected="the answer that cohortlib.adapty.cohort returned",
            )
        starts = self.segments["segment_start_date"].to_list()[1:]
        start = segment_start_date.isoformat() if isinstance(segment_start_date, date) else segment_start_date
        if start is not None and start not in starts:
            raise SettingError(
                (Arg("segment_start_date", segment_start_date), " is not a segment of the answer"),
                value=segment_start_date, expected=f"one of {listed(starts)}, or None for the total",
            )  # fmt: skip
        periods = self.values["period"].unique().sort().to_list()
        if type(period) is not int or period not in periods:
            raise SettingError(
                (Arg("period", period), " is not a period of the answer"), value=period,
                expected=f"one of {listed(periods)}",
            )  # fmt: skip
        return self.behind.users(None if start is None else starts.index(start), period)

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
        """Return the answer as the API's JSON, in Python values; a fetched one as it came."""
        if self.reply is not None:
            fetched: dict[str, Any] = json.loads(self.reply)
            return fetched
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
        """Return the answer as the API's JSON text; a fetched one as it came."""
        if self.reply is not None:
            return self.reply.decode(json.detect_encoding(self.reply))
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)

    def to_csv(self) -> str:
        """Return one line per segment: its totals, then one column per period.

        The columns of periods are named ``period_1`` … or ``day_0`` …; value_field, value_type and accounting_type of
        the request select their cells. The headers are ours, since Adapty does not publish those of its CSV.
        """
        return self.wide.write_csv()

    @cached_property
    def wide(self) -> pl.DataFrame:
        """The table that :meth:`to_csv` writes."""
        keys, periods = list(SEGMENT), self.values["period"].unique().sort()
        # One cell per segment and period; a fetched answer may lack some.
        grid = self.segments.select(keys).join(periods.to_frame(), how="cross", maintain_order="left_right")
        values = self.values.select(*keys, "period", shown_values(self.values, self.request).alias("cell"))
        cells = grid.join(values, on=[*keys, "period"], how="left", maintain_order="left")["cell"]
        stem = "day" if self.request.period_type == "days" else "period"
        totals = self.segments.drop("predict", "predict_reason", strict=False)
        if self.segments["predict"].null_count() < self.segments.height:
            prediction = self.segments.select(pl.col("predict").struct.unnest()).rename(lambda name: f"predict_{name}")
            totals = totals.hstack(prediction)
        names = [f"{stem}_{period}" for period in periods]
        return totals.hstack([cells.gather_every(len(names), i).alias(name) for i, name in enumerate(names)])


def answers_to_json(by: str, answers: Mapping[str | None, Answer]) -> str:
    """Return the answers of the values of a column as JSON: the column, and a list of values with their ``data``."""
    listed = [{"value": value, **answer.to_dict()} for value, answer in answers.items()]
    return json.dumps({"by": by, "answers": listed}, ensure_ascii=False, allow_nan=False)


def answers_to_csv(by: str, answers: Mapping[str | None, Answer]) -> str:
    """Return the CSV of the answers of the values of a column, which is the first column; periods may be null."""
    tables = [answer.wide for answer in answers.values()]
    widest = max(tables, key=lambda table: table.width, default=pl.DataFrame())
    name = by if by not in widest.columns else "value"
    value = (pl.lit(value, pl.String).alias(name) for value in answers)
    parts = [table.select(one, pl.all()) for one, table in zip(value, tables, strict=True)]
    # By renewals, the answer of a value has as many periods as its payments.
    table = pl.concat([pl.DataFrame(schema={name: pl.String}), *parts], how="diagonal_relaxed")
    order = [column for column in table.columns if column not in widest.columns and column != name]
    return table.select(name, *widest.columns, *order).write_csv()


def shown_values(values: pl.DataFrame, request: Request) -> pl.Series:
    """Return the values that a request selects for display.

    Relative averages, which the API does not return, are 100 × average / the first period's average; 0 if that is 0.
    """
    name = shown_field(request)
    if request.value_type == "absolute" or name.endswith("_relative"):
        return values[name]
    first = values.select(pl.col(name).first().over(list(SEGMENT))).to_series()
    return pl.select(pl.when(first == 0).then(0.0).otherwise(100 * values[name] / first)).to_series()


def shown_field(request: Request) -> str:
    """Return the field of `values` that a request selects for display."""
    name: str = request.value_field
    if name in AVERAGES:
        return f"{AVERAGES[name][MONEY.index(request.accounting_type)]}_usd"
    if name == "revenue":
        name = request.accounting_type
    if request.value_type == "relative":
        return f"{name}_relative"
    return f"{name}_usd" if name in MONEY else name

"""From a cohort table to the cells of a picture: checked, with their place in the calendar."""

import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import TypeAlias

import numpy as np
import polars as pl

from cohortlib.errors import DataError, SchemaError, SettingError, listed, one_of
from cohortlib.periods import LABELS, WEEKDAYS, Calendar, Freq, epoch_day, span
from cohortlib.read.tables import ArrowStream, first_line

Table: TypeAlias = pl.DataFrame | pl.LazyFrame | ArrowStream
Day: TypeAlias = str | date | datetime

MOST_CELLS = 100_000  # of a picture: more of them nobody sees, and a browser draws late or never
_DAY = r"\d{4}-\d{2}-\d{2}"


@dataclass(frozen=True)
class Cells:
    """The cells of a table.

    Attributes
    ----------
    frame
        A row for each cohort and age, in this order: ``cohort``, ``age``, the fields asked for, ``ordinal`` (of the
        calendar period of the cell), ``calendar`` (its label) and ``unfinished``.
    calendar
        The periods that the labels are of.
    last_day
        The last day that the rows reach, where that was told.
    """

    frame: pl.DataFrame
    calendar: Calendar
    last_day: date | None

    @property
    def cohorts(self) -> list[str]:
        """Name the cohorts, oldest first."""
        return self.frame["cohort"].unique(maintain_order=True).to_list()

    @property
    def ages(self) -> int:
        """Count the ages from 0 to the highest."""
        return int(self.frame["age"].max()) + 1  # type: ignore[arg-type]


def read(table: Table, fields: tuple[str, ...], freq: Freq | None, unfinished: Day | None) -> Cells:
    """Check a cohort table and give its cells, oldest cohort first.

    Raises
    ------
    SchemaError
        Where it is no table, is the table of customers, or lacks a column or its type.
    DataError
        Where it is empty or too large, a label is none of a period, a cell stands twice, or a value is infinite.
    SettingError
        Where `freq` does not fit the labels or has to be told, or `unfinished` is no day.
    """
    last_day = None if unfinished is None else span("unfinished", unfinished)[1]
    frame = _checked(_frame(table), fields)
    tops = frame.group_by("cohort").agg(pl.col("period").max()).sort("cohort")
    calendar = _calendar(tops["cohort"].to_list(), tops["period"].to_list(), freq)
    firsts = [epoch_day(span("cohort", label)[0]) for label in tops["cohort"]]
    starts = tops.select("cohort", start=pl.Series(calendar.ordinals(np.array(firsts)), dtype=pl.Int64))
    frame = frame.join(starts, on="cohort").sort("start", "period")
    frame = frame.with_columns(ordinal=pl.col("start") + pl.col("period")).drop("start")
    ordinals = frame["ordinal"].unique().sort()
    known = pl.DataFrame({"ordinal": ordinals, "calendar": calendar.labels(ordinals.to_numpy())})
    if last_day is None:
        known = known.with_columns(unfinished=pl.lit(False))
    else:
        after = calendar.first_days(ordinals.to_numpy() + 1)
        known = known.with_columns(unfinished=pl.Series(after > epoch_day(last_day) + 1))
    frame = frame.join(known, on="ordinal", how="left", maintain_order="left").rename({"period": "age"})
    return Cells(frame, calendar, last_day)


def _frame(table: Table) -> pl.DataFrame:
    try:
        if isinstance(table, pl.DataFrame):
            return table
        if isinstance(table, pl.LazyFrame):
            return table.collect()
        if hasattr(table, "__arrow_c_stream__"):
            return pl.DataFrame(table)
    except Exception as error:
        raise SchemaError(f"the {type(table).__qualname__} cannot be read: {first_line(error)}") from error
    raise SchemaError(
        f"a {type(table).__qualname__} is no cohort table; expected what cl.termina.cohorts gives, or an object with "
        "__arrow_c_stream__ (pandas, pyarrow, DuckDB)"
    )


def _checked(frame: pl.DataFrame, fields: tuple[str, ...]) -> pl.DataFrame:
    """Take the columns that are needed, of the types that are needed."""
    if "user_id" in frame.columns:
        raise SchemaError(
            "the table has a row for each customer, who are too many to draw; expected a row for each cohort and "
            "period. Hint: cl.termina.cohorts gives that"
        )
    for name in ("cohort", "period", *fields):
        if name not in frame.columns:
            raise SchemaError(
                f"column {name!r} is not in the table; columns are {listed(frame.columns)}. Hint: draw the table that "
                "cl.termina.cohorts gives, not a triangle of it"
            )
    frame = frame.select("cohort", "period", *fields)
    if not frame.height:
        raise DataError("the table has no rows, so there is nothing to draw. Hint: look whether the source has any")
    if frame.height > MOST_CELLS:
        raise DataError(
            f"the table has {frame.height:,} cells; expected at most {MOST_CELLS:,}, beyond which nothing is seen. "
            "Hint: compute it with a longer freq, or filter its cohorts or periods"
        )
    kinds = frame.schema
    for name in ("period", *fields):
        whole = name == "period"
        if not (kinds[name].is_integer() if whole else kinds[name].is_numeric()):
            expected = "whole numbers" if whole else "numbers"
            raise SchemaError(f"column {name!r} has type {kinds[name]}; expected {expected}")
    # a file tells neither years from numbers nor days from dates
    if not (kinds["cohort"].is_integer() or kinds["cohort"] in (pl.String, pl.Categorical, pl.Enum, pl.Date)):
        raise SchemaError(
            f"column 'cohort' has type {kinds['cohort']}; expected labels such as '2026-01', '2026Q1' or '2026-01-05'"
        )
    frame = frame.with_columns(pl.col("cohort").cast(pl.String), pl.col("period").cast(pl.Int64))
    for name in ("cohort", "period"):
        if frame[name].null_count():
            raise DataError(f"column {name!r} is null in {frame[name].null_count():,} rows; expected a value in each")
    if (least := int(frame["period"].min())) < 0:  # type: ignore[arg-type]
        raise DataError(f"column 'period' has {least}; expected ages from 0 on")
    if frame.select(pl.struct("cohort", "period").is_duplicated().any()).item():
        raise DataError("the table has rows of the same cohort and period; expected one for each age")
    floats = [name for name in fields if frame.schema[name].is_float()]
    for name in floats:
        if frame[name].is_infinite().any():
            raise DataError(f"column {name!r} has an infinite value; expected finite ones")
    return frame.with_columns(pl.col(floats).fill_nan(None))


def _calendar(labels: list[str], tops: list[int], freq: Freq | None) -> Calendar:
    """Tell the periods that the labels are of, given the highest age of each cohort."""
    if freq is not None:
        one_of("freq", freq, ("D", "W", "M", "Q", "A"))
    for kind, pattern in LABELS:
        if re.fullmatch(pattern, labels[0], re.ASCII):
            found = Calendar(kind)
            break
    else:
        found, pattern = Calendar("D"), _DAY
    odd = next((label for label in labels if not _is_label(label, pattern)), None)
    if odd is not None:
        raise DataError(
            f"cohort {odd!r} is no label of a period, or of another length than cohort {labels[0]!r}; expected labels "
            "such as '2026-01', '2026Q1', '2026' or '2026-01-05'. Hint: cl.termina.cohorts writes them so"
        )
    days = [span("cohort", label)[0] for label in labels]
    if found.freq == "D":
        found = _days_or_weeks(days, tops, freq)
    if freq not in (None, found.freq):
        raise SettingError(f"freq={freq!r} does not fit cohort {labels[0]!r}, which is a label of freq={found.freq!r}")
    return found


def _is_label(label: str, pattern: str) -> bool:
    try:
        span("cohort", label)
    except SettingError:
        return False
    return re.fullmatch(pattern, label, re.ASCII) is not None


def _days_or_weeks(days: list[date], tops: list[int], freq: Freq | None) -> Calendar:
    """Tell days from weeks, whose labels are their first days.

    A week's label is always the same day of the week. Daily cohorts that happen to be so too end on one day.
    """
    weekdays = {day.weekday() for day in days}
    week = Calendar("W", WEEKDAYS[days[0].weekday()])
    if len(weekdays) > 1 or freq == "D":
        return Calendar("D")
    if freq == "W":
        return week
    if len(days) == 1:
        if tops[0] == 0:
            return week
        raise SettingError(
            f"cohort {days[0].isoformat()!r} alone can be a day or a week; expected to be told. Hint: freq='D' or "
            "freq='W'"
        )
    ends = {epoch_day(day) + top for day, top in zip(days, tops, strict=True)}
    return Calendar("D") if len(ends) == 1 else week

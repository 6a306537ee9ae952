"""Check a cohort table and return its cells for charts, each with its calendar period."""

import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import TypeAlias

import numpy as np
import polars as pl

from cohortlib.errors import Arg, DataError, SchemaError, SettingError, listed, one_of
from cohortlib.literals import WEEKDAYS, Freq
from cohortlib.periods import LABELS, Calendar, epoch_day, span
from cohortlib.read.tables import ArrowStream, first_line

Table: TypeAlias = pl.DataFrame | pl.LazyFrame | ArrowStream
Day: TypeAlias = str | date | datetime

MOST_CELLS = 100_000  # in a chart; more are too small to see and too slow to draw in a browser
_DAY = r"\d{4}-\d{2}-\d{2}"


@dataclass(frozen=True)
class Cells:
    """The cells of a table."""

    # A row per cohort and age, in this order: ``cohort``, ``age``, the requested fields, ``ordinal`` (of the cell's
    # calendar period), ``calendar`` (its label), ``unfinished``, and ``complete``: whether it counts in averages.
    frame: pl.DataFrame
    calendar: Calendar
    last_day: date | None  # of the data, if known
    knows_complete: bool = True  # whether it is known which cells are complete; else all count

    @property
    def cohorts(self) -> list[str]:
        """The labels of the cohorts, oldest first."""
        return self.frame["cohort"].unique(maintain_order=True).to_list()

    @property
    def ages(self) -> int:
        """The number of ages from 0 to the highest."""
        return int(self.frame["age"].max()) + 1  # type: ignore[arg-type]


def read(
    table: Table, fields: tuple[str, ...], freq: Freq | None, unfinished: Day | None, optional: tuple[str, ...] = ()
) -> Cells:
    """Check a cohort table and return its cells, oldest cohort first; `optional` fields may be missing."""
    last_day = None if unfinished is None else span("unfinished", unfinished)[1]
    frame = _frame(table)
    frame = _checked(frame, (*fields, *(name for name in optional if name in frame.columns)))
    tops = frame.group_by("cohort").agg(pl.col("period").max()).sort("cohort")
    calendar = calendar_of(tops["cohort"].to_list(), tops["period"].to_list(), freq)
    firsts = [epoch_day(span("cohort", label)[0]) for label in tops["cohort"]]
    starts = tops.select("cohort", start=pl.Series(calendar.ordinals(np.array(firsts)), dtype=pl.Int64))
    frame = frame.join(starts, on="cohort").sort("start", "period")
    frame = frame.with_columns(ordinal=pl.col("start") + pl.col("period")).drop("start")
    ordinals = frame["ordinal"].unique().sort()
    periods = pl.DataFrame({"ordinal": ordinals, "calendar": calendar.labels(ordinals.to_numpy())})
    if last_day is None:
        periods = periods.with_columns(unfinished=pl.lit(False))
    else:
        next_starts = calendar.first_days(ordinals.to_numpy() + 1)
        periods = periods.with_columns(unfinished=pl.Series(next_starts > epoch_day(last_day) + 1))
    frame = frame.join(periods, on="ordinal", how="left", maintain_order="left").rename({"period": "age"})
    knows_complete = "complete" in frame.columns or last_day is not None
    if "complete" not in frame.columns:
        frame = frame.with_columns(complete=~pl.col("unfinished"))
    return Cells(frame, calendar, last_day, knows_complete)


def _frame(table: Table) -> pl.DataFrame:
    try:
        if isinstance(table, pl.DataFrame):
            return table
        if isinstance(table, pl.LazyFrame):
            return table.collect()
        if hasattr(table, "__arrow_c_stream__"):
            return pl.DataFrame(table)
    except Exception as error:
        raise SchemaError(
            f"the table of type {type(table).__qualname__} cannot be read: {first_line(error)}"
        ) from error
    raise SchemaError(
        f"the table has type {type(table).__qualname__}",
        value=table,
        expected="the table of cl.termina.cohorts, or an object with __arrow_c_stream__ (pandas, pyarrow, DuckDB)",
    )


def _checked(frame: pl.DataFrame, fields: tuple[str, ...]) -> pl.DataFrame:
    """Return the needed columns after checking their types and values."""
    if "user_id" in frame.columns:
        raise SchemaError(
            "the table has a row for each customer, which are too many to draw",
            expected="a row for each cohort and period",
            hint="use the table of cl.termina.cohorts",
        )
    for name in ("cohort", "period", *fields):
        if name not in frame.columns:
            raise SchemaError(
                f"column {name!r} is not in the table",
                expected=f"one of {listed(frame.columns)}",
                hint="draw the table of cl.termina.cohorts, not a triangle of it",
            )
    marks = ["complete"] * (frame.schema.get("complete") == pl.Boolean)
    frame = _typed(frame.select("cohort", "period", *fields, *marks), fields)
    for name in ("cohort", "period"):
        if nulls := frame[name].null_count():
            raise DataError(f"column {name!r} is null in {nulls:,} rows", expected="a value in each row")
    if (least := int(frame["period"].min())) < 0:  # type: ignore[arg-type]
        raise DataError(f"column 'period' contains {least}", value=least, expected="ages from 0 on")
    if frame.select(pl.struct("cohort", "period").is_duplicated().any()).item():
        raise DataError("the table has several rows with the same cohort and period", expected="one row for each age")
    floats = [name for name in fields if frame.schema[name].is_float()]
    for name in floats:
        if frame[name].is_infinite().any():
            raise DataError(f"column {name!r} has an infinite value", expected="finite values")
    return frame.with_columns(pl.col(floats).fill_nan(None))


def _typed(frame: pl.DataFrame, fields: tuple[str, ...]) -> pl.DataFrame:
    """Check the number of cells and the columns' types; return labels as text and ages as Int64."""
    if not frame.height:
        raise DataError("the table has no rows", hint="check that the source has rows")
    if frame.height > MOST_CELLS:
        raise DataError(
            f"the table has {frame.height:,} cells",
            value=frame.height,
            expected=f"at most {MOST_CELLS:,}",
            hint="compute it with a longer freq, or filter its cohorts or periods",
        )
    types = frame.schema
    for name in ("period", *fields):
        if not (types[name].is_integer() if name == "period" else types[name].is_numeric()):
            expected = "integers" if name == "period" else "numbers"
            raise SchemaError(f"column {name!r} has type {types[name]}", value=types[name], expected=expected)
    # Files may hold years as numbers and days as dates.
    if not (types["cohort"].is_integer() or types["cohort"] in (pl.String, pl.Categorical, pl.Enum, pl.Date)):
        raise SchemaError(
            f"column 'cohort' has type {types['cohort']}",
            value=types["cohort"],
            expected="labels such as '2026-01', '2026Q1' or '2026-01-05'",
        )
    return frame.with_columns(pl.col("cohort").cast(pl.String), pl.col("period").cast(pl.Int64))


def calendar_of(labels: list[str], tops: list[int], freq: Freq | None) -> Calendar:
    """Return the calendar of labels, given the highest age of each cohort."""
    if freq is not None:
        one_of("freq", freq, ("D", "W", "M", "Q", "A"))
    unit, pattern = next(
        ((unit, pattern) for unit, pattern in LABELS if re.fullmatch(pattern, labels[0], re.ASCII)), ("D", _DAY)
    )
    wrong = next((label for label in labels if not _is_label(label, pattern)), None)
    if wrong is not None:
        raise DataError(
            f"cohort {wrong!r} is not the label of a period, or not of the same freq as cohort {labels[0]!r}",
            value=wrong,
            expected="labels such as '2026-01', '2026Q1', '2026' or '2026-01-05', as cl.termina.cohorts writes them",
        )
    days = [span("cohort", label)[0] for label in labels]
    calendar = _days_or_weeks(days, tops, freq) if unit == "D" else Calendar(unit)
    if freq not in (None, calendar.freq):
        raise SettingError(
            (Arg("freq", freq), f" does not fit cohort {labels[0]!r}"),
            value=freq,
            expected=(Arg("freq", calendar.freq),),
        )
    return calendar


def _is_label(label: str, pattern: str) -> bool:
    try:
        span("cohort", label)
    except SettingError:
        return False
    return re.fullmatch(pattern, label, re.ASCII) is not None


def _days_or_weeks(days: list[date], tops: list[int], freq: Freq | None) -> Calendar:
    """Return the calendar of labels that are days: days or weeks, which are labelled by their first day.

    The labels of weeks all fall on one day of the week. If those of days do so too, all cohorts end on the same day.
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
            f"the only cohort {days[0].isoformat()!r} can be a day or a week",
            expected=(Arg("freq", "D"), " or ", Arg("freq", "W")),
        )
    ends = {epoch_day(day) + top for day, top in zip(days, tops, strict=True)}
    return Calendar("D") if len(ends) == 1 else week

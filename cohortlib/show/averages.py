"""Averages over the cohorts that are complete at an age: the one meaning of a mean in tables, plots and reports."""

import math
from collections.abc import Sequence
from datetime import date, datetime
from statistics import median
from typing import Any

import numpy as np
import polars as pl
from polars.selectors import by_name

from cohortlib.errors import Arg, DataError, SchemaError, listed, warn
from cohortlib.fields import COHORTS, quotients
from cohortlib.periods import epoch_day, span
from cohortlib.show.plot.cells import calendar_of

AVERAGES = (*quotients(COHORTS), "ltv")
"""The fields that have an average."""
_ENDS = ("min", "median", "max")


def summary(table: pl.DataFrame, *, last_day: str | date | datetime | None = None) -> pl.DataFrame:
    """Average a cohort table over its cohorts, at each age.

    Only cohorts that are complete at an age count there. ``ltv`` adds up averages of the amount at each age, so it
    does not fall where cohorts drop out.

    Parameters
    ----------
    table
        The table of :func:`cohortlib.cohorts` or :func:`cohortlib.termina.cohorts`.
    last_day
        The last day of the data, a date or a label, for tables without the column ``complete``: a cell is complete if
        its period is over by then. Without either, all cells count, with a warning.

    Returns
    -------
    polars.DataFrame
        One row per segment and age at which a cohort is complete, with the columns of segments and

        - ``period`` (Int64): the age
        - ``cohorts`` and ``users`` (Int64): the complete cohorts, and the sum of their sizes
        - ``logo_retention`` (Float64): Σ active_users / Σ cohort_size
        - ``amount_retention`` (Float64): Σ amount / Σ cohort_size_amount
        - ``ltv`` (Float64): the sum of Σ amount / Σ cohort_size over the ages up to this one
        - for each of the three, ``…_min``, ``…_median`` and ``…_max`` over the same cohorts

    Raises
    ------
    SchemaError
        If a column is missing.
    DataError
        If a cohort has the same age twice, or a label is not that of a period.

    Examples
    --------
    >>> import cohortlib as cl
    >>> import polars as pl
    >>> from datetime import date
    >>> rows = pl.DataFrame({
    ...     "user_id": ["a", "a", "b"],
    ...     "timestamp": [date(2026, 1, 5), date(2026, 2, 28), date(2026, 1, 20)],
    ...     "amount": [100, 80, 50],
    ... })
    >>> cl.summary(cl.cohorts(rows)).select("period", "cohorts", "users", "logo_retention", "ltv").rows()
    [(0, 1, 2, 1.0, 75.0), (1, 1, 2, 0.5, 115.0)]
    """
    segments_of(table)
    money = "amount" in table.columns
    return averages(table, AVERAGES if money else AVERAGES[:1], last_day=last_day)


def averages(
    table: pl.DataFrame, fields: Sequence[str], *, last_day: str | date | datetime | None = None
) -> pl.DataFrame:
    """Return the columns of :func:`summary` for some of its fields; the table needs the columns of these only.

    Without the column ``amount``, amounts are the differences of ``ltv`` times the cohort size.
    """
    segments = segments_of(table)
    needed = [*fields, *(name for field in fields for name in quotients(COHORTS).get(field, ()))]
    for name in dict.fromkeys(("cohort", "period", "cohort_size", *needed)):
        if name not in table.columns:
            raise SchemaError(f"column {name!r} is not in the table", expected=f"one of {listed(table.columns)}")
    if table.select(pl.struct(*segments, "cohort", "period").is_duplicated().any()).item():
        raise DataError("the table has several rows with the same cohort and period", expected="one row for each age")
    if "ltv" in fields and "amount" not in table.columns:
        gain = pl.col("ltv") - pl.col("ltv").shift(1, fill_value=0.0).over(*segments, "cohort", order_by="period")
        table = table.with_columns(amount=gain * pl.col("cohort_size"))
    complete = with_complete(table, last_day).filter("complete")
    rows: list[dict[str, Any]] = []
    so_far: dict[tuple[Any, ...], list[float]] = {}
    ends = ["period_end"] if "period_end" in table.columns else []
    keys = [*segments, "period", *ends]
    ordered = table.select(segments).unique(maintain_order=True).with_row_index("\0at") if segments else None
    groups = complete.group_by(keys, maintain_order=True).agg(pl.all()).sort("period", maintain_order=True)
    if ordered is not None:
        groups = groups.join(ordered, on=segments, how="left", nulls_equal=True, maintain_order="left")
        groups = groups.sort("\0at", "period", maintain_order=True)
    for group in groups.iter_rows(named=True):
        row = {name: group[name] for name in keys}
        row |= {"cohorts": len(group["cohort"]), "users": sum(group["cohort_size"])}
        for name in fields:
            terms = so_far.setdefault((name, *(group[each] for each in segments)), [])
            row[name] = _ltv(group, terms) if name == "ltv" else _quotient(group, name)
            cells = [value for value in group[name] if value is not None]
            ends_of = (min(cells), median(cells), max(cells)) if cells else (None, None, None)
            row |= {f"{name}_{end}": value for end, value in zip(_ENDS, ends_of, strict=True)}
        rows.append(row)
    types: dict[str, Any] = {name: table.schema[name] for name in keys} | {"cohorts": pl.Int64, "users": pl.Int64}
    types |= {f"{name}{end}": pl.Float64 for name in fields for end in ("", *(f"_{each}" for each in _ENDS))}
    return pl.DataFrame(rows, schema=types)


def _quotient(group: dict[str, Any], field: str) -> float | None:
    """Return Σ numerator / Σ denominator over the cohorts of an age."""
    above, below = (group[name] for name in quotients(COHORTS)[field])
    return _ratio(*(math.fsum(value for value in values if value is not None) for values in (above, below)))


def _ltv(group: dict[str, Any], terms: list[float]) -> float:
    """Return the sum of the average amounts up to an age; adds that of this age to `terms`."""
    amounts, sizes = group["amount"], group["cohort_size"]
    if not terms and group["period"] > 0:  # brackets that begin later: earlier ages count in ltv alone
        amounts = (ltv * users for ltv, users in zip(group["ltv"], sizes, strict=True))
    terms.append(_ratio(math.fsum(amounts), sum(sizes)) or 0.0)
    return math.fsum(terms)


def segments_of(table: pl.DataFrame) -> list[str]:
    """Return the columns of segments: those before the cohort."""
    if not isinstance(table, pl.DataFrame):
        raise SchemaError(
            (Arg("table"), f" is of type {type(table).__qualname__}"), value=table, expected="a polars DataFrame"
        )
    if "cohort" not in table.columns:
        raise SchemaError("column 'cohort' is not in the table", expected=f"one of {listed(table.columns)}")
    return table.columns[: table.columns.index("cohort")]


def with_complete(table: pl.DataFrame, last_day: str | date | datetime | None) -> pl.DataFrame:
    """Return the table with the column ``complete``."""
    if "complete" in table.columns:
        return table
    if last_day is None:
        warn(("the table does not say which ages are over, so that all cells count. Hint: ",
              Arg("last_day"), " is the last day of the data"))  # fmt: skip
        return table.with_columns(complete=pl.lit(value=True))
    day = epoch_day(span("last_day", last_day)[1])
    if not table.height:
        return table.with_columns(complete=pl.lit(value=True))
    tops = table.group_by("cohort", maintain_order=True).agg(pl.col("period").max())
    calendar = calendar_of(tops["cohort"].to_list(), tops["period"].to_list(), None)
    firsts = np.array([epoch_day(span("cohort", label)[0]) for label in tops["cohort"]], np.int64)
    starts = pl.DataFrame({"cohort": tops["cohort"], "\0start": calendar.ordinals(firsts)})
    period = table.join(starts, on="cohort", how="left", maintain_order="left")["\0start"] + table["period"]
    over = calendar.first_days(period.to_numpy() + 1) - 1 <= day
    return table.with_columns(pl.Series("complete", over, dtype=pl.Boolean))


def split_segments(table: pl.DataFrame, most: int, hint: str | None = None) -> dict[Any, pl.DataFrame] | None:
    """Return the table of each segment, at most `most`; None without columns of segments."""
    names = segments_of(table)
    if not names:
        return None
    parts = table.partition_by(names, maintain_order=True, include_key=True)
    if len(parts) > most:
        raise DataError(
            f"the table has {len(parts):,} segments", value=len(parts), expected=f"at most {most}",
            hint=hint or f"filter the segments, such as table.filter(pl.col({names[0]!r}) == ...)",
        )  # fmt: skip
    keys = (part.select(names).row(0) for part in parts)
    return {
        key[0] if len(names) == 1 else key: part.drop(by_name(*names)) for key, part in zip(keys, parts, strict=True)
    }


def mean_values(table: pl.DataFrame, field: str, last_day: str | date | datetime | None) -> dict[int, float]:
    """Return the mean of a field at each age."""
    if field not in AVERAGES:
        raise SchemaError((Arg("mean", True), f" has no {field!r}"), value=field, expected=f"one of {listed(AVERAGES)}")
    means = averages(table, (field,), last_day=last_day)
    return {age: value for age, value in means.select("period", field).iter_rows() if value is not None}


def _ratio(above: float, below: float) -> float | None:
    return above / below if below else None

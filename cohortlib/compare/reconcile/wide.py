"""Read a triangle as spreadsheets have it: one row per cohort, one column per period."""

import re

import polars as pl

from cohortlib.compare.reconcile.form import normalised
from cohortlib.compare.reconcile.labels import read_labels
from cohortlib.compare.reconcile.same_labels import same_labels
from cohortlib.errors import DataError, SchemaError, listed
from cohortlib.fields import COHORTS

_PERIOD = re.compile(
    r"(?:months?|weeks?|quarters?|years?|days?|periods?|ages?|[mwqydpa])?[ _+-]*(\d{1,4})", re.IGNORECASE
)
_SIZES = ("cohort_size", "size", "users", "customers")
_FIELDS = tuple(name for name, field in COHORTS.items() if not field.key and field.ages != "constant")


def in_long_form(table: pl.DataFrame, local: pl.DataFrame, side: str) -> tuple[pl.DataFrame, list[str]]:
    """Return a triangle as a table of cohorts and periods, and what was found; any other table as it is.

    Its field is the one of `local`, the table on the other side, whose values are by far the nearest.
    """
    periods = {name: int(match[1]) for name in table.columns if (match := _PERIOD.fullmatch(name))}
    numbers = sorted(periods.values())
    others = [name for name in table.columns if name not in periods]
    if (
        "period" in table.columns
        or not others
        or len(numbers) < 2
        or numbers not in (list(range(len(numbers))), list(range(1, len(numbers) + 1)))
        or not {"cohort", "period"} <= set(local.columns)
        or "user_id" in local.columns
    ):
        return table, []
    label = next((name for name in others if name == "cohort" or read_labels(table[name], side)), None)
    if label is None:
        return table, []
    sizes = [name for name in others if name != label and name.casefold().replace(" ", "_") in _SIZES]
    if unknown := [name for name in others if name not in (label, *sizes[:1])]:
        raise SchemaError(
            f"{side} is a triangle of {len(numbers):,} periods with the columns {listed(unknown)} beside them",
            value=unknown,
            expected="the cohorts, the periods and at most a cohort_size",
        )
    first = numbers[0]
    parts = [
        table.select(
            pl.col(label).alias("cohort"),
            pl.lit(number - first, pl.Int64).alias("period"),
            *(pl.col(size).alias("cohort_size") for size in sizes[:1]),
            pl.col(name).alias("value"),
        )
        for name, number in sorted(periods.items(), key=lambda item: item[1])
    ]
    long = pl.concat(parts, how="vertical_relaxed")
    long = long.filter(pl.col("value").is_not_null() & (pl.col("value").cast(pl.String).str.strip_chars() != ""))
    field = _field_of(long, local, side)
    words = f"{side} is a triangle: one column per period{' from 1' if first else ''}, read as {field}"
    return long.rename({"value": field}), [words]


def _field_of(long: pl.DataFrame, local: pl.DataFrame, side: str) -> str:
    """Return the field of the other side whose values are the nearest, by the median of relative differences."""
    labels, _ = same_labels(local["cohort"], long["cohort"])
    local = local.with_columns(labels[0].cast(pl.String))
    long = long.with_columns(labels[1].cast(pl.String))
    distances: dict[str, float] = {}
    for field in _FIELDS:
        if field not in local.columns or not local.schema[field].is_numeric():
            continue
        try:
            parsed, _ = normalised(long.rename({"value": field}), side)
        except DataError:
            continue
        if not parsed.schema[field].is_numeric():
            continue
        pairs = parsed.select("cohort", "period", pl.col(field).cast(pl.Float64).alias("theirs")).join(
            local.select("cohort", "period", pl.col(field).cast(pl.Float64).alias("ours")), on=["cohort", "period"]
        )
        apart = (pl.col("theirs") - pl.col("ours")).abs() / (pl.col("theirs").abs() + pl.col("ours").abs() + 1e-9)
        distance = pairs.filter((pl.col("ours") != 0) | (pl.col("theirs") != 0)).select(apart.median()).item()
        if distance is not None:
            distances[field] = distance
    order = sorted(distances, key=lambda field: distances[field])
    if not order or distances[order[0]] > 0.2 or (len(order) > 1 and distances[order[0]] * 2 > distances[order[1]]):
        raise DataError(
            f"{side} is a triangle of one field, and its values do not show which",
            expected="the columns cohort, period and the name of the field",
            hint="unpivot it: table.unpivot(index='cohort', variable_name='period', value_name='amount')",
        )
    return order[0]

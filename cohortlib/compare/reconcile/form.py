"""Find out how a table is written, and write it as cohortlib does: labels, numbers, percentages, rows left out.

A form is reported only if all values fit it; nothing is guessed from the first rows. What changes no number, such as
the labels 2026-Q1 for 2026Q1, then counts as no difference.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from cohortlib.compare.reconcile.labels import (
    MONTHLY,
    Labels,
    Unit,
    longest,
    mostly,
    not_of_unit,
    read_labels,
    row_of,
)
from cohortlib.compare.reconcile.numbers import decimal_places, with_fractions, with_numbers
from cohortlib.errors import DataError
from cohortlib.fields import ACTIVE, ALL_TABLES, CUSTOMER_COHORTS, keys, kind_of
from cohortlib.literals import Freq, Weekday
from cohortlib.periods import Calendar

LABELS = ("cohort", "segment_start_date", "date")
"""The columns that hold labels of periods."""
_KNOWN = {name for table in ALL_TABLES for name in table}
_ACTIVITY = ("active_users", ACTIVE, "amount", "subscribers", "subscriptions", "revenue_usd")


@dataclass(frozen=True, eq=False)
class Form:
    """How a table is written, and the table as cohortlib writes it.

    Attributes
    ----------
    table
        The table with the names, labels and types of cohortlib.
    statements
        What was found, in words, such as ``"cohort: months written like 'Jan-26'"``.
    unit
        The unit of its periods; None if the labels have no known form, or there are none.
    """

    table: pl.DataFrame
    statements: tuple[str, ...]
    unit: Unit | None

    @property
    def settings(self) -> dict[str, Freq | Weekday]:
        """The settings `freq` and `week_start` under which a local table has the same periods."""
        if self.unit is None:
            return {}
        week = {"week_start": self.unit.week_start} if self.unit.freq == "W" else {}
        return {"freq": self.unit.freq, **week}

    @cached_property
    def places(self) -> Mapping[str, int]:
        """The decimal places of each field that has at most six in all values."""
        floats = [name for name, dtype in self.table.schema.items() if dtype.is_float()]
        places = {name: decimal_places(self.table[name]) for name in floats}
        return {name: count for name, count in places.items() if count is not None}

    @cached_property
    def sparse(self) -> bool:
        """Whether the table leaves out periods without activity: it has gaps, and no row of zeros."""
        return has_gaps(self.table) and not self.table.select(idle(self.table).any()).item()

    def presented(self, local: pl.DataFrame) -> pl.DataFrame:
        """Return a table of cohortlib without the rows that this one leaves out: rows of zeros, if it is sparse."""
        if not self.sparse:
            return local
        return local.filter(~idle(local) | is_among(local, self.table))


def detect(
    table: pl.DataFrame, side: str = "remote", *, freq: Freq | None = None, week_start: Weekday | None = None
) -> Form:
    """Find out how a table is written.

    Parameters
    ----------
    table
        A table of Termina's or Adapty's fields.
    side
        What to call it in errors.
    freq, week_start
        The unit of its periods, if known: then labels must be of this unit. Else it is read from the labels, and from
        the ages where dates can stand for periods of several units.

    Raises
    ------
    DataError
        If labels are written in several forms, are ambiguous dates, or are not periods of `freq`; if only some values
        of a field are numbers; if a count is negative.
    """
    table, names = with_known_names(table, side)
    table, found = normalised(table, side)
    statements = [*names, *found]
    column = next((name for name in LABELS if name in table.columns), None)
    labels = read_labels(table[column], side) if column else None
    if column is None or labels is None:
        return Form(table, tuple(statements), None)
    unit, also = _unit(labels, table, side, freq, week_start)
    table = table.with_columns(labels.relabelled(unit))
    return Form(table, (_label_words(labels, unit, also), *statements), unit)


def with_known_names(table: pl.DataFrame, side: str) -> tuple[pl.DataFrame, list[str]]:
    """Write the names of known fields as cohortlib does: Active Users as active_users."""
    names = {name: re.sub(r"[\s-]+", "_", name.strip()).casefold() for name in table.columns}
    renamed = {
        name: plain
        for name, plain in names.items()
        if plain != name and plain in _KNOWN and plain not in table.columns and list(names.values()).count(plain) == 1
    }
    words = [f"columns: names in another case or with blanks (in {side})"] if renamed else []
    return table.rename(renamed), words


def normalised(table: pl.DataFrame, side: str) -> tuple[pl.DataFrame, list[str]]:
    """Return a table with numbers as numbers and shares as fractions, and what was found, in words."""
    table, texts = with_numbers(table, side)
    _refuse_negative(table, side)
    table, fractions = with_fractions(table, keys_in(table))
    return table, [*texts, *fractions]


def keys_in(table: pl.DataFrame) -> tuple[str, ...]:
    """Return the keys that a table has."""
    known = (*keys(CUSTOMER_COHORTS), "segment_start_date", "type", "date")
    return tuple(name for name in known if name in table.columns)


def _refuse_negative(table: pl.DataFrame, side: str) -> None:
    counts = [
        name
        for name, dtype in table.schema.items()
        if kind_of(name) == "count" and dtype.is_numeric() and not {"churned", "date"} & set(table.columns)
    ]
    for name in counts:
        if (table[name] < 0).any():
            value = table[name].filter(table[name] < 0)[0]
            raise DataError(
                f"column {name!r} of {side} has {value} in row {row_of(table[name], value)}",
                value=value,
                expected="a count, 0 or more",
            )


def _label_words(labels: Labels, unit: Unit, also: list[Unit]) -> str:
    """Describe the labels: always the unit, and how they are written if not as cohortlib does."""
    words = f"{labels.column.name}: {labels.written(unit)}"
    return f"{words}; {' or '.join(other.words for other in also)} would fit as well" if also else words


def _unit(
    labels: Labels, table: pl.DataFrame, side: str, freq: Freq | None, week_start: Weekday | None
) -> tuple[Unit, list[Unit]]:
    """Return the unit of the periods, and the other units that fit as well."""
    if labels.column.name == "segment_start_date":  # the total starts on any day
        return Unit("D"), []
    if freq is not None:
        unit = labels.units.get(freq)
        if unit is None:
            raise not_of_unit(labels, freq, side)
        if freq == "W" and week_start is not None and len(labels.days) == 1:
            unit = Unit("W", week_start=unit.week_start)
        return unit, []
    candidates = dict(labels.units)
    for name in MONTHLY:
        if name not in candidates and mostly(labels, name) and _spread(labels, table, Unit("D")):
            raise not_of_unit(labels, name, side)
    if len(candidates) == 1:
        return next(iter(candidates.values())), []
    spreads = {name: _spread(labels, table, unit) for name, unit in candidates.items()}
    least = min(spreads.values())
    fitting = [name for name, spread in spreads.items() if spread == least]
    best = "M" if "M" in fitting else longest(fitting)
    return candidates[best], [candidates[name] for name in fitting if name != best]


def _spread(labels: Labels, table: pl.DataFrame, unit: Unit) -> int:
    """Return by how many periods the last periods of cohorts differ: 0 if all cohorts end at one right edge."""
    if "period" not in table.columns or not table.schema["period"].is_integer():
        return 0
    calendar = Calendar(unit.freq, unit.week_start)
    ordinals = {label: calendar.ordinal(day) for label, day in labels.days.items()}
    last = table.group_by(labels.column.name).agg(pl.col("period").max()).drop_nulls()
    edges = [ordinals[label] + period for label, period in last.iter_rows() if label in ordinals]
    return max(edges) - min(edges) if edges else 0


def idle(table: pl.DataFrame) -> pl.Expr:
    """Return whether each row is without activity: users and amounts are 0."""
    names = [name for name in _ACTIVITY if name in table.columns and table.schema[name].is_numeric()]
    zero = [pl.col(name).fill_null(0) == 0 for name in names]
    return pl.all_horizontal(zero) if zero else pl.lit(value=False)


def has_gaps(table: pl.DataFrame) -> bool:
    """Check whether a cohort, customer or segment lacks a period between two that it has."""
    group = [name for name in keys_in(table) if name != "period"]
    if "period" not in table.columns or not table.schema["period"].is_integer() or not group or table.is_empty():
        return False
    if "type" in group:  # the columns of days are no consecutive numbers
        periods = table["period"].n_unique()
        return bool(table.group_by(group).agg(pl.len() < periods).to_series(len(group)).any())
    gaps = pl.col("period").max() - pl.col("period").min() + 1 > pl.len()
    return bool(table.group_by(group).agg(gaps.alias("gaps"))["gaps"].any())


def is_among(table: pl.DataFrame, other: pl.DataFrame) -> pl.Series:
    """Return whether each row of a table has a row with the same keys in the other."""
    names = [name for name in keys_in(table) if name in other.columns]
    marked = other.select(names).unique().with_columns(_other=True)
    joined = table.select(names).join(marked, on=names, how="left", maintain_order="left")
    return joined["_other"].fill_null(value=False)

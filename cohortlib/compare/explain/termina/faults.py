"""Data faults that can be behind a Termina table, and how each edits the local rows or the table."""

from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import polars as pl
from polars.selectors import by_name

from cohortlib.fields import COHORTS, quotients
from cohortlib.periods import Calendar, epoch_day, span

_MONEY = [name for name, field in COHORTS.items() if field.kind == "money"]


@dataclass(frozen=True)
class View:
    """How rows are read: the names of their columns, the zone that days are in, the calendar, the refund rule."""

    user: str
    timestamp: str
    amount: str
    zone: str
    calendar: Calendar
    refunds: str

    def days(self, rows: pl.DataFrame) -> pl.Series:
        """Return the local day of each row."""
        times = self.local_times(rows)
        return times if times.dtype == pl.Date else times.dt.date()

    def local_times(self, rows: pl.DataFrame) -> pl.Series:
        """Return the local time of each row."""
        instants = rows[self.timestamp]
        if isinstance(instants.dtype, pl.Datetime) and instants.dtype.time_zone is not None:
            instants = instants.dt.convert_time_zone(self.zone)
        return instants

    def users(self, rows: pl.DataFrame) -> pl.Series:
        """Return the user of each row, as text."""
        return rows[self.user].cast(pl.String)

    def ordinals(self, labels: pl.Series) -> pl.Series:
        """Parse labels of periods."""
        distinct = labels.unique().drop_nulls().to_list()
        return labels.replace_strict(distinct, [self.ordinal(label) for label in distinct], return_dtype=pl.Int64)

    def ordinal(self, label: str) -> int:
        """Parse the label of a period."""
        return self.calendar.ordinal(span("cohort", label)[0])


@dataclass(frozen=True)
class Fault:
    """A data fault. It edits the rows before the table is computed, or the computed table."""

    def edit_rows(self, rows: pl.DataFrame, view: View) -> pl.DataFrame:
        """Return the rows with the fault."""
        return rows

    def edit_table(self, table: pl.DataFrame, view: View) -> pl.DataFrame:
        """Return the table with the fault."""
        return table


# ---------------------------------------------------------------------------------------------- faults of the rows


@dataclass(frozen=True)
class RepeatsDropped(Fault):
    """Rows with the same user, instant and amount count once."""

    def edit_rows(self, rows: pl.DataFrame, view: View) -> pl.DataFrame:
        """Keep the first of the rows that repeat each other."""
        return rows.unique([view.user, view.timestamp, view.amount], keep="first", maintain_order=True)


@dataclass(frozen=True)
class DayFault(Fault):
    """The rows of a range of days, both inclusive and in some zone, are missing or duplicated."""

    first: date
    last: date
    duplicated: bool
    zone: str

    def edit_rows(self, rows: pl.DataFrame, view: View) -> pl.DataFrame:
        """Drop or duplicate the rows."""
        affected = replace(view, zone=self.zone).days(rows).is_between(self.first, self.last)
        return _drop_or_duplicate(rows, affected, self.duplicated)


@dataclass(frozen=True)
class CustomerFault(Fault):
    """The rows of some customers are missing or duplicated."""

    names: tuple[str, ...]
    duplicated: bool

    def edit_rows(self, rows: pl.DataFrame, view: View) -> pl.DataFrame:
        """Drop or duplicate the rows."""
        return _drop_or_duplicate(rows, view.users(rows).is_in(list(self.names)), self.duplicated)


def _drop_or_duplicate(rows: pl.DataFrame, affected: pl.Series, duplicated: bool) -> pl.DataFrame:
    affected = affected.fill_null(value=False)
    return pl.concat([rows, rows.filter(affected)]) if duplicated else rows.filter(~affected)


@dataclass(frozen=True)
class FirstPaymentMoved(Fault):
    """A customer's first payment counts in the next period (`by` is 1) or in the previous one (-1)."""

    name: str
    by: int

    def edit_rows(self, rows: pl.DataFrame, view: View) -> pl.DataFrame:
        """Move the payment to the first day of the next period, or to the last day of the previous one."""
        indices = (view.users(rows) == self.name).fill_null(value=False).arg_true()
        days = view.days(rows.select(by_name(view.timestamp))[indices])
        index = indices[days.arg_min() or 0]
        day = epoch_day(days.min())  # type: ignore[arg-type]
        period = int(view.calendar.ordinals(np.array([day], np.int64))[0])
        first_days = view.calendar.first_days(np.array([period, period + 1], np.int64))
        shift = int(first_days[1]) - day if self.by > 0 else int(first_days[0]) - 1 - day
        instants = rows[view.timestamp]
        moved = instants.gather([index]).dt.offset_by(f"{shift}d")
        return rows.with_columns(instants.scatter(index, moved))


# ------------------------------------------------------------------------------------- differences in presentation


@dataclass(frozen=True)
class Presentation(Fault):
    """The numbers are right but presented in another way, which can be inverted."""

    by: float

    @property
    def inverse(self) -> "Presentation":
        """The edit that restores the table."""
        return replace(self, by=-self.by)


@dataclass(frozen=True)
class Factor(Presentation):
    """All amounts are multiplied."""

    @property
    def inverse(self) -> "Presentation":
        """The factor that divides them again."""
        return Factor(1 / self.by)

    def edit_table(self, table: pl.DataFrame, view: View) -> pl.DataFrame:
        """Multiply the money fields."""
        return table.with_columns(by_name(*_MONEY, require_all=False) * self.by)


@dataclass(frozen=True)
class AgeShift(Presentation):
    """Ages start at another number."""

    by: int

    def edit_table(self, table: pl.DataFrame, view: View) -> pl.DataFrame:
        """Shift the ages."""
        return table.with_columns(by_name("period") + self.by)


@dataclass(frozen=True)
class LabelShift(Presentation):
    """Cohorts have the label of another period."""

    by: int

    def edit_table(self, table: pl.DataFrame, view: View) -> pl.DataFrame:
        """Shift the labels."""
        labels = table["cohort"].unique().to_list()
        shifted = view.calendar.labels(np.array([view.ordinal(label) for label in labels], np.int64) + self.by)
        return table.with_columns(table["cohort"].replace_strict(labels, shifted, return_dtype=pl.String))


# -------------------------------------------------------- rows missing locally: values copied from the remote table


@dataclass(frozen=True, eq=False)
class RemoteRows(Fault):
    """Rows of the remote table replace or extend the local ones."""

    copied: pl.DataFrame

    def edit_table(self, table: pl.DataFrame, view: View) -> pl.DataFrame:
        """Replace the rows with the same keys, and append the others."""
        keys = [name for name in ("cohort", "user_id", "period") if name in table.columns]
        kept = table.join(self.copied, on=keys, how="anti", maintain_order="left")
        return pl.concat([kept, self.copied.select(table.columns)])


@dataclass(frozen=True)
class CustomerAdded(Fault):
    """One customer is added to each of some cohorts, with the amounts by which the remote table is higher.

    `cells` are (cohort, age, amount), sorted; each cohort has all its ages from 0 on.
    """

    cells: tuple[tuple[str, int, float], ...]

    def edit_table(self, table: pl.DataFrame, view: View) -> pl.DataFrame:
        """Add the customers to the sums, and compute the ratios again."""
        added = pl.DataFrame(
            list(self.cells), schema={"cohort": pl.String, "period": pl.Int64, "_excess": pl.Float64}, orient="row"
        )
        size, amount, active = (pl.col(name) for name in ("cohort_size", "amount", "active_users"))
        rows = (
            table.join(added, on=["cohort", "period"], how="left", maintain_order="left")
            .filter(pl.col("cohort").is_in(added["cohort"].unique().implode()))
            .with_columns(size + 1, amount + pl.col("_excess"), active + (pl.col("_excess") > 0).cast(pl.Int64))
            .with_columns(amount.first().over("cohort").alias("cohort_size_amount"))
            .with_columns(
                *(
                    pl.when(pl.col(divisor) != 0).then(pl.col(dividend) / pl.col(divisor)).alias(name)
                    for name, (dividend, divisor) in quotients(COHORTS).items()
                ),
                (amount.cum_sum().over("cohort") / size).alias("ltv"),
            )
        )
        return RemoteRows(rows).edit_table(table, view)


@dataclass(frozen=True, eq=False)
class DayAdded(RemoteRows):
    """A day missing locally: its period's rows are copied from the remote table, and later ltv values are raised.

    `later` has a row for each cohort (and customer): `_excess` is the amount by which the remote table is higher in the
    period `ordinal`.
    """

    later: pl.DataFrame
    ordinal: int

    def edit_table(self, table: pl.DataFrame, view: View) -> pl.DataFrame:
        """Raise ltv after the period, then copy the rows."""
        keys = [name for name in ("cohort", "user_id") if name in table.columns]
        size = pl.col("cohort_size") if "cohort_size" in table.columns else pl.lit(1)
        after = view.ordinals(table["cohort"]) + table["period"] > self.ordinal
        raise_by = pl.when(after).then(pl.col("_excess").fill_null(0.0) / size).otherwise(0.0)
        raised = table.join(self.later, on=keys, how="left", maintain_order="left").with_columns(
            pl.col("ltv") + raise_by
        )
        return super().edit_table(raised.select(table.columns), view)

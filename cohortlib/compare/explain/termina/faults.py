"""Faults of the data behind a Termina table, and what each does to the rows or to the table."""

from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import polars as pl
from polars.selectors import by_name

from cohortlib.fields import COHORTS, quotients
from cohortlib.periods import Calendar, epoch_day, span

MONEY = ("cohort_size_amount", "amount", "ltv")


@dataclass(frozen=True)
class View:
    """What the columns are, and how instants become days and days periods."""

    user: str
    timestamp: str
    amount: str
    zone: str
    calendar: Calendar
    refunds: str

    def days(self, rows: pl.DataFrame) -> pl.Series:
        """Give the local day of each row."""
        instants = self.local(rows)
        return instants if instants.dtype == pl.Date else instants.dt.date()

    def local(self, rows: pl.DataFrame) -> pl.Series:
        """Give the instant of each row by the local clock."""
        instants = rows[self.timestamp]
        if isinstance(instants.dtype, pl.Datetime) and instants.dtype.time_zone is not None:
            instants = instants.dt.convert_time_zone(self.zone)
        return instants

    def users(self, rows: pl.DataFrame) -> pl.Series:
        """Give the user of each row, as text."""
        return rows[self.user].cast(pl.String)

    def ordinals(self, labels: pl.Series) -> pl.Series:
        """Read the labels of periods."""
        known = labels.unique().drop_nulls().to_list()
        return labels.replace_strict(known, [self.ordinal(label) for label in known], return_dtype=pl.Int64)

    def ordinal(self, label: str) -> int:
        """Read the label of a period."""
        return self.calendar.ordinal(span("cohort", label)[0])


@dataclass(frozen=True)
class Fault:
    """What is wrong with the data: it changes the rows before the table is made, or the table."""

    def rows(self, rows: pl.DataFrame, view: View) -> pl.DataFrame:
        """Change the rows."""
        return rows

    def table(self, table: pl.DataFrame, view: View) -> pl.DataFrame:
        """Change the table."""
        return table


@dataclass(frozen=True)
class Repeats(Fault):
    """Rows that are there twice count once."""

    def rows(self, rows: pl.DataFrame, view: View) -> pl.DataFrame:
        """Keep one of rows that are alike in user, instant and amount."""
        return rows.unique([view.user, view.timestamp, view.amount], keep="first", maintain_order=True)


@dataclass(frozen=True)
class Days(Fault):
    """The rows of some days of a zone, both ends within, are left out or there twice."""

    first: date
    last: date
    twice: bool
    zone: str

    def rows(self, rows: pl.DataFrame, view: View) -> pl.DataFrame:
        """Leave the rows out, or put them there once more."""
        theirs = replace(view, zone=self.zone).days(rows).is_between(self.first, self.last).fill_null(value=False)
        return pl.concat([rows, rows.filter(theirs)]) if self.twice else rows.filter(~theirs)


@dataclass(frozen=True)
class Customers(Fault):
    """The rows of some customers are left out or there twice."""

    names: tuple[str, ...]
    twice: bool

    def rows(self, rows: pl.DataFrame, view: View) -> pl.DataFrame:
        """Leave the rows out, or put them there once more."""
        theirs = view.users(rows).is_in(list(self.names)).fill_null(value=False)
        return pl.concat([rows, rows.filter(theirs)]) if self.twice else rows.filter(~theirs)


@dataclass(frozen=True)
class Moved(Fault):
    """A customer's first payment counts in the period after its own, or before it."""

    name: str
    by: int

    def rows(self, rows: pl.DataFrame, view: View) -> pl.DataFrame:
        """Give the payment the first day of the period after its own, or the last of that before."""
        places = (view.users(rows) == self.name).fill_null(value=False).arg_true()
        days = view.days(rows.select(by_name(view.timestamp))[places])
        place = places[days.arg_min() or 0]
        day = epoch_day(days.min())  # type: ignore[arg-type]
        own = int(view.calendar.ordinals(np.array([day], np.int64))[0])
        first = view.calendar.first_days(np.array([own, own + 1], np.int64))
        days_on = int(first[1]) - day if self.by > 0 else int(first[0]) - 1 - day
        instants = rows[view.timestamp]
        moved = instants.gather([place]).dt.offset_by(f"{days_on}d")
        return rows.with_columns(instants.scatter(place, moved))


@dataclass(frozen=True)
class Written(Fault):
    """The table is right but for how it is written, which can be undone."""

    by: float

    @property
    def undone(self) -> "Written":
        """What writes the table as it was."""
        return replace(self, by=-self.by)


@dataclass(frozen=True)
class Factor(Written):
    """All amounts are multiplied."""

    @property
    def undone(self) -> "Written":
        """What divides them."""
        return Factor(1 / self.by)

    def table(self, table: pl.DataFrame, view: View) -> pl.DataFrame:
        """Multiply what is money."""
        return table.with_columns(by_name(*MONEY, require_all=False) * self.by)


@dataclass(frozen=True)
class Ages(Written):
    """Ages are counted from another number."""

    by: int

    def table(self, table: pl.DataFrame, view: View) -> pl.DataFrame:
        """Count from it."""
        return table.with_columns(by_name("period") + self.by)


@dataclass(frozen=True)
class Labels(Written):
    """Cohorts have the label of another period."""

    by: int

    def table(self, table: pl.DataFrame, view: View) -> pl.DataFrame:
        """Write the labels of periods before or after."""
        known = table["cohort"].unique().to_list()
        there = view.calendar.labels(np.array([view.ordinal(label) for label in known], np.int64) + self.by)
        return table.with_columns(table["cohort"].replace_strict(known, there, return_dtype=pl.String))


@dataclass(frozen=True)
class Unknown(Fault):
    """Each of some cohorts has one customer more, whose amounts are those that the other table has more.

    `cells` are (cohort, age, amount), sorted; every cohort has its ages from 0 on.
    """

    cells: tuple[tuple[str, int, float], ...]

    def table(self, table: pl.DataFrame, view: View) -> pl.DataFrame:
        """Add the customers to the sums, and divide again."""
        more = pl.DataFrame(
            list(self.cells), schema={"cohort": pl.String, "period": pl.Int64, "_more": pl.Float64}, orient="row"
        )
        size, amount, active = (pl.col(name) for name in ("cohort_size", "amount", "active_users"))
        with_more = (
            table.join(more, on=["cohort", "period"], how="left", maintain_order="left")
            .filter(pl.col("cohort").is_in(more["cohort"].unique().implode()))
            .with_columns(size + 1, amount + pl.col("_more"), active + (pl.col("_more") > 0).cast(pl.Int64))
            .with_columns(amount.first().over("cohort").alias(MONEY[0]))
            .with_columns(
                *(
                    pl.when(pl.col(below) != 0).then(pl.col(above) / pl.col(below)).alias(name)
                    for name, (above, below) in quotients(COHORTS).items()
                ),
                (amount.cum_sum().over("cohort") / size).alias("ltv"),
            )
        )
        return Taken(with_more).table(table, view)


@dataclass(frozen=True, eq=False)
class Taken(Fault):
    """Rows of the other table stand for rows that are missing here."""

    taken: pl.DataFrame

    def table(self, table: pl.DataFrame, view: View) -> pl.DataFrame:
        """Put them in the place of those with the same keys."""
        keys = [name for name in ("cohort", "user_id", "period") if name in table.columns]
        kept = table.join(self.taken, on=keys, how="anti", maintain_order="left")
        return pl.concat([kept, self.taken.select(table.columns)])


@dataclass(frozen=True, eq=False)
class Gap(Taken):
    """Rows of the other table stand for those that a missing day touches; `later` is what it adds to ltv after that.

    A row of `later` for each cohort (and customer): the amount that the other table has `_more` in the period `at`.
    """

    later: pl.DataFrame
    at: int

    def table(self, table: pl.DataFrame, view: View) -> pl.DataFrame:
        """Put the rows in their place, and carry the amount on."""
        keys = [name for name in ("cohort", "user_id") if name in table.columns]
        size = pl.col("cohort_size") if "cohort_size" in table.columns else pl.lit(1)
        after = view.ordinals(table["cohort"]) + table["period"] > self.at
        more = pl.when(after).then(pl.col("_more").fill_null(0.0) / size).otherwise(0.0)
        raised = table.join(self.later, on=keys, how="left", maintain_order="left").with_columns(pl.col("ltv") + more)
        return super().table(raised.select(table.columns), view)

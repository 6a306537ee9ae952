"""What causes do to the rows."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

import numpy as np
import polars as pl

from cohortlib.compare.explain.termina.ledger import DAY, Bools, Ledger, Rows, as_microseconds, boundaries
from cohortlib.periods import epoch_day
from cohortlib.read.arrays import Ints

Mode = Literal["drop", "only", "twice"]
_NEVER = np.iinfo(np.int64).min


@dataclass(frozen=True)
class RowEdit:
    """A change of the rows. Edits of a lower stage come first: they look at the rows as read."""

    @property
    def stage(self) -> int:
        """When the edit is applied: rows chosen, then amounts, then instants, then users."""
        return 0

    def apply(self, ledger: Ledger, rows: Rows, zone: str | None) -> Ledger:
        """Return the changed rows; `zone` is that of local days, None for those of the calendar."""
        raise NotImplementedError


@dataclass(frozen=True)
class Choice(RowEdit):
    """Some rows do not count, count alone, or count twice."""

    mode: Mode

    def chosen(self, ledger: Ledger, rows: Rows, zone: str | None) -> Bools:
        """Return which rows are chosen."""
        raise NotImplementedError

    def apply(self, ledger: Ledger, rows: Rows, zone: str | None) -> Ledger:
        """Change the weight of the rows."""
        chosen = self.chosen(ledger, rows, zone)
        if self.mode == "only":
            return ledger.weighted(~chosen, 0)
        return ledger.weighted(chosen, 2 if self.mode == "twice" else 0)


@dataclass(frozen=True)
class Values(Choice):
    """The rows with some values in a column."""

    column: str
    values: tuple[object, ...]

    def chosen(self, ledger: Ledger, rows: Rows, zone: str | None) -> Bools:
        """Look the values up in the rows as read."""
        names, codes = rows.codes(self.column)
        numbers = [names.index(value) for value in self.values]
        return np.isin(codes[ledger.row], numbers)


@dataclass(frozen=True)
class Named(Choice):
    """The rows of users whose id begins or ends with a text."""

    where: Literal["begins", "ends"]
    text: str

    def chosen(self, ledger: Ledger, rows: Rows, zone: str | None) -> Bools:
        """Compare the ids."""
        names = ledger.names.str
        matches = names.starts_with(self.text) if self.where == "begins" else names.ends_with(self.text)
        return matches.to_numpy()[ledger.user]


@dataclass(frozen=True)
class Customers(Choice):
    """The rows of some users."""

    names: tuple[str, ...]

    def chosen(self, ledger: Ledger, rows: Rows, zone: str | None) -> Bools:
        """Look the users up."""
        return ledger.names.is_in(list(self.names)).to_numpy()[ledger.user]


@dataclass(frozen=True)
class Days(Choice):
    """The rows of a range of local days, both inclusive; None is open."""

    first: date | None
    last: date | None
    utc: bool = False

    def chosen(self, ledger: Ledger, rows: Rows, zone: str | None) -> Bools:
        """Compare the instants with the bounds of the days."""
        zone = None if self.utc else zone
        chosen = np.ones(ledger.at.size, np.bool_)
        if self.first is not None:
            chosen &= ledger.at >= start_of(self.first, zone, ledger)
        if self.last is not None:
            chosen &= ledger.at < start_of(date.fromordinal(self.last.toordinal() + 1), zone, ledger)
        return chosen


def start_of(day: date, zone: str | None, ledger: Ledger) -> int:
    """Return the instant at which a local day begins."""
    low, high = (int(ledger.at.min()), int(ledger.at.max())) if ledger.at.size else (0, 0)
    start = epoch_day(day)
    return int(boundaries(np.array([start]), zone, min(low, start * DAY - DAY), max(high, start * DAY + DAY))[0])


@dataclass(frozen=True)
class Amounts(Choice):
    """The rows of small or large amounts, whatever their sign."""

    side: Literal["below", "above"]
    limit: float

    def chosen(self, ledger: Ledger, rows: Rows, zone: str | None) -> Bools:
        """Compare the amounts with the limit, which itself is neither below nor above."""
        size, limit = np.abs(ledger.units), round(self.limit * rows.scale)
        return size < limit if self.side == "below" else size > limit


@dataclass(frozen=True)
class Repeats(Choice):
    """The rows that repeat another: the same user, instant and amount."""

    columns: tuple[str, ...] = ()  # further columns that are the same

    def chosen(self, ledger: Ledger, rows: Rows, zone: str | None) -> Bools:
        """Find all but the first of equal rows."""
        keys = {"user": ledger.user, "at": ledger.at, "units": ledger.units}
        keys |= {name: rows.codes(name)[1][ledger.row] for name in self.columns}
        first = pl.DataFrame(keys).select(pl.struct(pl.all()).is_first_distinct()).to_series()
        return (~first).to_numpy()


# ------------------------------------------------------------------------------------------------------------- amounts


@dataclass(frozen=True)
class AmountEdit(RowEdit):
    """A change of the amounts of rows."""

    @property
    def stage(self) -> int:
        """After the rows are chosen."""
        return 1


@dataclass(frozen=True)
class Scaled(AmountEdit):
    """The amounts of some rows, or of all, are multiplied; then rounded to so many places."""

    factor: float
    rows: Choice | None = None
    places: int | None = None

    def apply(self, ledger: Ledger, rows: Rows, zone: str | None) -> Ledger:
        """Multiply."""
        scaled = ledger.units * self.factor
        if self.places is not None:
            step = rows.scale / 10**self.places
            scaled = np.rint(np.rint(scaled * 1e3 / step) / 1e3) * step
        units = np.rint(scaled).astype(np.int64)
        if self.rows is not None:
            units = np.where(self.rows.chosen(ledger, rows, zone), units, ledger.units)
        return replace(ledger, units=units)


@dataclass(frozen=True)
class Rounded(AmountEdit):
    """Each amount is rounded to a multiple of a step, truncated or rounded up."""

    how: Literal["half even", "half up", "truncated", "down", "up", "absolute"]
    step: float = 1.0

    def apply(self, ledger: Ledger, rows: Rows, zone: str | None) -> Ledger:
        """Round."""
        units, step = ledger.units, round(self.step * rows.scale)
        size, sign = np.abs(units), np.sign(units)
        if self.how == "absolute":
            return replace(ledger, units=size)
        if self.how == "half even":
            return replace(ledger, units=np.rint(units / step).astype(np.int64) * step)
        if self.how == "down":
            return replace(ledger, units=units // step * step)
        if self.how == "up":
            return replace(ledger, units=-(-units // step) * step)
        half = step // 2 if self.how == "half up" else 0
        return replace(ledger, units=sign * ((size + half) // step) * step)


@dataclass(frozen=True)
class Capped(AmountEdit):
    """Larger amounts count as the limit."""

    limit: float

    def apply(self, ledger: Ledger, rows: Rows, zone: str | None) -> Ledger:
        """Clip."""
        limit = round(self.limit * rows.scale)
        return replace(ledger, units=np.clip(ledger.units, -limit, limit))


@dataclass(frozen=True)
class AmountColumn(AmountEdit):
    """The amounts are those of another column."""

    column: str

    def apply(self, ledger: Ledger, rows: Rows, zone: str | None) -> Ledger:
        """Read the column."""
        return replace(ledger, units=rows.units(self.column)[ledger.row])


# ------------------------------------------------------------------------------------------------------------ instants


@dataclass(frozen=True)
class TimeEdit(RowEdit):
    """A change of the instants of rows."""

    @property
    def stage(self) -> int:
        """After the amounts."""
        return 2


@dataclass(frozen=True)
class Moved(TimeEdit):
    """All rows are moved by hours, or by calendar months."""

    hours: int = 0
    months: int = 0

    def apply(self, ledger: Ledger, rows: Rows, zone: str | None) -> Ledger:
        """Move the rows; months are local ones."""
        if not self.months:
            return replace(ledger, at=ledger.at + self.hours * (DAY // 24))
        times = pl.Series(ledger.at).cast(pl.Datetime("us"))
        if zone is not None:
            times = times.dt.replace_time_zone("UTC").dt.convert_time_zone(zone).dt.replace_time_zone(None)
        moved = times.dt.offset_by(f"{self.months}mo")
        if zone is not None:
            moved = moved.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").fill_null(
                strategy="forward"
            )
            moved = moved.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return ledger.moved(moved.to_physical().to_numpy().astype(np.int64))


@dataclass(frozen=True)
class RefundsAtPurchase(TimeEdit):
    """A refund counts at the payment before it: the last one, or the last of the same amount."""

    same_amount: bool

    def apply(self, ledger: Ledger, rows: Rows, zone: str | None) -> Ledger:
        """Move the refunds."""
        paid = ledger.units > 0
        frame = pl.DataFrame({
            "user": ledger.user, "size": np.abs(ledger.units), "at": np.where(paid, ledger.at, 0), "paid": paid,
        })  # fmt: skip
        keys = ["user", "size"] if self.same_amount else ["user"]
        before = frame.select(pl.when("paid").then("at").forward_fill().over(keys)).to_series()
        moved = before.fill_null(pl.Series(ledger.at)).to_numpy()
        return ledger.moved(np.where(ledger.units < 0, moved, ledger.at))


@dataclass(frozen=True)
class DateColumn(TimeEdit):
    """The instants are those of another column."""

    column: str

    def apply(self, ledger: Ledger, rows: Rows, zone: str | None) -> Ledger:
        """Read the column."""
        return ledger.moved(rows.instants(self.column)[ledger.row])


@dataclass(frozen=True)
class FirstPaymentMoved(TimeEdit):
    """A customer's first payment counts some days later or earlier, in the adjacent period."""

    name: str
    days: int

    def apply(self, ledger: Ledger, rows: Rows, zone: str | None) -> Ledger:
        """Move the row."""
        index = ledger.names.index_of(self.name)
        if index is None:
            return ledger
        at = ledger.at.copy()
        own = np.arange(ledger.starts[index], ledger.starts[index + 1])
        paid = own[ledger.units[own] > 0]
        at[paid[:1]] += self.days * DAY
        return ledger.moved(at)


# --------------------------------------------------------------------------------------------------------------- users


@dataclass(frozen=True)
class UserEdit(RowEdit):
    """A change of the users of rows."""

    @property
    def stage(self) -> int:
        """After the instants."""
        return 3


@dataclass(frozen=True)
class UserColumn(UserEdit):
    """The users are those of another column."""

    column: str

    def apply(self, ledger: Ledger, rows: Rows, zone: str | None) -> Ledger:
        """Read the column."""
        own = ledger.names.gather(ledger.user)
        return ledger.renamed(rows.names(self.column).gather(ledger.row).fill_null(own))


CLEANERS: dict[str, Callable[[pl.Series], pl.Series]] = {
    "blanks": lambda names: names.str.strip_chars(),
    "case": lambda names: names.str.to_lowercase(),
    "upper case": lambda names: names.str.to_uppercase(),
    "blanks and case": lambda names: names.str.strip_chars().str.to_lowercase(),
    "digits": lambda names: names.str.replace(r"^\D*0*(\d+)(\.0)?\D*$", "${1}"),
    "alias": lambda names: names.str.replace(r"^([^@+]+)\+[^@]*@", "${1}@"),
    "suffix": lambda names: names.str.replace(r"[#|/~].*$", ""),
}


@dataclass(frozen=True)
class Cleaned(UserEdit):
    """Ids that differ only in some way are one user."""

    how: str

    def apply(self, ledger: Ledger, rows: Rows, zone: str | None) -> Ledger:
        """Clean the ids."""
        return ledger.renamed(CLEANERS[self.how](ledger.names).gather(ledger.user))


# ------------------------------------------------------------------------------------------------------------- cohorts


@dataclass(frozen=True)
class JoinedDates:
    """The dates that define cohorts: those of a column, of a table, or of each user's first row of any amount."""

    column: str | None = None
    external: bool = False

    def of_users(self, ledger: Ledger, rows: Rows, zone: str | None) -> tuple[Ints, str | None]:
        """Return the instant of each user, and the zone in which its day is read."""
        if self.external:
            return self._of_table(ledger, rows, zone)
        if self.column is None:
            at, own = np.where(ledger.counts, ledger.at, np.iinfo(np.int64).max), zone
        else:
            at, own = rows.instants(self.column)[ledger.row], zone
            dtype = rows.frame.schema[self.column]
            if not (isinstance(dtype, pl.Datetime) and dtype.time_zone is not None):
                own = None
            at = np.where(ledger.counts, at, np.iinfo(np.int64).max)
        first = np.full(ledger.users, np.iinfo(np.int64).max)
        np.minimum.at(first, ledger.user, at)
        return np.where(first == np.iinfo(np.int64).max, _NEVER, first), own

    def _of_table(self, ledger: Ledger, rows: Rows, zone: str | None) -> tuple[Ints, str | None]:
        """Look the users up in the joined table."""
        table = rows.joined
        if table is None:
            return np.full(ledger.users, _NEVER), None
        names, dates = table[table.columns[0]].cast(pl.String), table[table.columns[-1]]
        first = pl.DataFrame({"name": names, "at": as_microseconds(dates)}).unique("name", keep="first")
        users = pl.DataFrame({"name": ledger.names})
        at = users.join(first, on="name", how="left", maintain_order="left")["at"]
        zoned = isinstance(dates.dtype, pl.Datetime) and dates.dtype.time_zone is not None
        return at.fill_null(_NEVER).to_numpy(), zone if zoned else None

    def frame(self, ledger: Ledger, rows: Rows, *, as_read: bool = False) -> pl.DataFrame:
        """Return the users and dates as a table; `as_read`: with ids of the type that the rows have."""
        at, _ = self.of_users(ledger, rows, None)
        dtype = rows.frame.schema[self.column or rows.timestamp]
        if self.external and rows.joined is not None:
            dtype = rows.joined.dtypes[-1]
        dates = pl.Series("joined", at).cast(pl.Datetime("us"))
        if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
            dates = dates.dt.replace_time_zone("UTC")
        names = ledger.names.alias(rows.user).cast(rows.frame.schema[rows.user] if as_read else pl.String)
        return pl.DataFrame([names, dates]).filter(pl.Series(at != _NEVER))

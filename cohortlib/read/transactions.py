"""Turn frames into three checked columns: users, instants and amounts.

Column names end here; later steps use users, instants and amounts.
"""

from dataclasses import dataclass, field, replace

import polars as pl
from polars.selectors import by_name

from cohortlib.errors import Arg, DataError
from cohortlib.literals import Nulls
from cohortlib.periods import Calendar
from cohortlib.read.amounts import AmountDoubts, Amounts, read_amounts
from cohortlib.read.ids import SAMPLE, Doubts, clean_ids, has_clean_categories
from cohortlib.read.instants import Cut, Instants, check_years, read_instants
from cohortlib.read.nulls import Dropped, without_nulls
from cohortlib.read.text import TextRules, is_text
from cohortlib.read.users import Users, uuid_text


@dataclass(frozen=True)
class Transactions:
    """The three columns, checked and without nulls."""

    users: Users
    amounts: Amounts
    cut: Cut | None
    dropped: Dropped
    last_dropped: int | None = None
    """Local day of the last row that was dropped."""

    @property
    def last_day(self) -> int | None:
        """Local day of the last row, dropped rows included."""
        days = [] if self.cut is None else [self.cut.days[1]]
        return max(days if self.last_dropped is None else [*days, self.last_dropped], default=None)


@dataclass(frozen=True)
class Columns:
    """Names of the columns, and how they are read: settings of these names.

    Attributes
    ----------
    last_day
        The last local day that counts, from the setting `end`; later rows can have any year.
    workers
        Number of threads.
    check_years
        Whether instants before 1900 or after 2200 are refused.
    """

    user: str
    timestamp: str
    amount: str
    nulls: Nulls
    decimals: int
    zone: str
    calendar: Calendar
    rules: TextRules = field(default_factory=TextRules)
    last_day: int | None = None
    workers: int = 1
    check_years: bool = True

    @property
    def names(self) -> list[str]:
        """The columns of users, instants and amounts."""
        return [self.user, self.timestamp, self.amount]


@dataclass
class TransactionReader:
    """Check and parse the columns of a source, batch by batch.

    An error counts over the batch; :func:`cohortlib.read.faults.find_faults` counts over the whole source.

    Attributes
    ----------
    columns
        How to read.
    zoned
        Whether the instants of earlier batches have an offset from UTC; None if there were none.
    currency
        The currency of earlier batches.
    doubts
        User ids that may be mistakes.
    amount_doubts
        Amounts that may be mistakes.
    """

    columns: Columns
    zoned: bool | None = None
    currency: str = ""
    doubts: Doubts = field(default_factory=Doubts)
    amount_doubts: AmountDoubts = field(default_factory=AmountDoubts)

    def typed(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return a frame with typed columns: ids, instants, and amounts; amounts from text are units."""
        of = self.columns
        frame = self._typed(frame)
        return frame.with_columns(check_years(frame[of.timestamp], of.last_day)) if of.check_years else frame

    def _typed(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return a frame with typed columns; the years of instants are not checked yet."""
        of = self.columns
        untyped = [name for name in of.names if frame.schema[name] == pl.Null]  # columns of nulls alone
        if untyped:
            frame = frame.with_columns(frame[name].cast(pl.String) for name in untyped)
        columns = [
            self.users(frame[of.user]),
            self._instants(frame[of.timestamp]),
            self.amounts(frame[of.amount]),
        ]
        return frame.with_columns(columns)

    def users(self, column: pl.Series) -> pl.Series:
        """Clean a column of ids."""
        if column.dtype == pl.Binary:
            return uuid_text(column)
        if not is_text(column.dtype):
            return column
        if column.dtype != pl.String and has_clean_categories(column, self.doubts):
            return column
        return clean_ids(column, self.columns.rules.normalize, self.doubts, self.columns.workers)

    def instants(self, column: pl.Series) -> pl.Series:
        """Parse a column of instants, and check their years."""
        column = self._instants(column)
        return check_years(column, self.columns.last_day) if self.columns.check_years else column

    def _instants(self, column: pl.Series) -> pl.Series:
        column, zoned = read_instants(column, self.columns.rules, self.columns.workers)
        self._add_zoned(column.name, zoned)
        return column

    def _add_zoned(self, name: str, zoned: bool | None) -> None:
        if zoned is None:
            return
        if self.zoned not in (None, zoned):
            kinds = ("with", "without") if zoned else ("without", "with")
            raise DataError(
                f"column {name!r} has instants {kinds[0]} an offset from UTC; earlier rows are {kinds[1]}",
                expected="all with an offset, or none",
                hint=(Arg("assume_zone", self.columns.zone), " takes those without one as local times of that zone"),
            )
        self.zoned = zoned

    def amounts(self, column: pl.Series) -> pl.Series:
        """Parse a column of amounts."""
        of = self.columns
        if not is_text(column.dtype):
            return column
        self.amount_doubts.add(column, of.rules.decimal)
        column, currency = read_amounts(column, of.rules, of.decimals, of.workers)
        self._add_currency(column.name, currency)
        return column

    def _add_currency(self, name: str, currency: str) -> None:
        if currency and self.currency not in ("", currency):
            raise DataError(f"column {name!r} has amounts in several currencies")
        self.currency = self.currency or currency

    def parse_apart(self, frame: pl.DataFrame) -> "tuple[TransactionReader, pl.DataFrame, Transactions]":
        """Parse a batch without the batches before it, on a thread of its own; :meth:`join` adds what it holds."""
        columns, beyond = replace(self.columns, workers=1), AmountDoubts(rows=SAMPLE)
        apart = TransactionReader(columns, doubts=Doubts(rows=SAMPLE), amount_doubts=beyond)
        return apart, frame, apart.parse(frame)

    def join(self, apart: "TransactionReader", frame: pl.DataFrame, rows: Transactions) -> Transactions:
        """Check the next batch, which was parsed apart, with those before it."""
        of = self.columns
        self._add_zoned(of.timestamp, apart.zoned)
        self._add_currency(of.amount, apart.currency)
        ids, amounts = frame[of.user], frame[of.amount]
        if is_text(ids.dtype):
            self.doubts.join(apart.doubts, ids, of.rules.normalize)
        if is_text(amounts.dtype):
            self.amount_doubts.add(amounts, of.rules.decimal)
        return rows

    def parse(self, frame: pl.DataFrame) -> Transactions:
        """Check the three columns of a frame, and drop rows with nulls."""
        in_units = is_text(frame.schema[self.columns.amount])
        return self._checked(self._typed(frame), in_units=in_units, any_year=not self.columns.check_years)

    def parse_typed(self, frame: pl.DataFrame, *, in_units: bool) -> Transactions:
        """Check columns from `typed`, and drop rows with nulls; `in_units` if the amounts came as text."""
        return self._checked(frame, in_units=in_units, any_year=True)

    def _checked(self, frame: pl.DataFrame, *, in_units: bool, any_year: bool) -> Transactions:
        of = self.columns
        # Types are checked first: an error about a type says more than one about values.
        Users.of(frame[of.user].head(0))
        instants = Instants.of(frame[of.timestamp])
        Amounts.of(frame[of.amount].head(0), of.decimals, in_units=in_units)
        if not (any_year or instants.within_years):
            frame = frame.with_columns(check_years(instants.series, of.last_day))
            instants = Instants.of(frame[of.timestamp])
        kept, dropped = without_nulls(frame.select(by_name(*of.names)), of.nulls, "the table")
        last_dropped = None
        if dropped.count:
            instants = Instants.of(kept[of.timestamp])
            others = frame.select(by_name(*of.names)).filter(pl.any_horizontal(pl.all().is_null()))
            if (gone := Cut.of(Instants.of(others[of.timestamp].drop_nulls()), of.zone, of.calendar)) is not None:
                last_dropped = gone.days[1]
        return Transactions(
            Users.of(kept[of.user]),
            Amounts.of(kept[of.amount], of.decimals, in_units=in_units),
            Cut.of(instants, of.zone, of.calendar),
            dropped,
            last_dropped,
        )

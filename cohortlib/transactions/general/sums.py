"""Sums of the general table: the additive value behind :func:`cohortlib.cohorts`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import polars as pl

from cohortlib.errors import Arg, SchemaError, SettingError
from cohortlib.literals import Freq
from cohortlib.periods import TableCalendar
from cohortlib.read.tables import Source
from cohortlib.transactions.additive import check_addable, write_sums
from cohortlib.transactions.general.additive import (
    SEGMENT,
    carried,
    has_next,
    keys_of,
    limbs_of,
    sums_table,
    values_of,
    without_zero_rows,
)
from cohortlib.transactions.general.folding import table_of
from cohortlib.transactions.general.load import load_for_counting, load_rows
from cohortlib.transactions.general.packed import PackedRows
from cohortlib.transactions.general.question import Question
from cohortlib.transactions.general.rows import TableRows, days_in_order
from cohortlib.transactions.general.saved import MARK, VERSION, check_table, read_table, settings_from
from cohortlib.transactions.keywords import Edges, Refunds, Retention, TableSumsKeywords, with_settings

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


@dataclass(frozen=True)
class TableSettings:
    """The settings that change sums of the general table. Only sums with equal settings add.

    Each is a setting of :func:`cohortlib.cohorts`. `joined` is `before_joined`, or ``"no"`` without join dates; `money`
    is whether there are amounts; `users` are the columns of `by` that are read from that table; `calendar` has the
    first day and the label of each period.
    """

    freq: Freq
    timezone: str
    week_start: str
    refunds: Refunds
    decimals: int
    joined: str
    money: bool
    by: tuple[str, ...]
    split: tuple[str, ...]
    users: tuple[str, ...]
    age: str | None
    calendar: tuple[tuple[str, str], ...] | None
    fiscal_start: int
    retention: Retention
    brackets: tuple[int, ...] | None
    amounts: tuple[str, ...]
    confidence: float | None

    @classmethod
    def of(cls, settings: Mapping[str, Any], question: Question, users: tuple[str, ...]) -> "TableSettings":
        """Select the settings that change sums."""
        rules, calendar = question.settings, question.calendar
        periods = None
        if isinstance(calendar, TableCalendar):
            periods = tuple((day.isoformat(), name) for day, name in zip(calendar.firsts, calendar.names, strict=True))
        return cls(
            settings.get("freq", "M"), rules.timezone, rules.week_start, rules.refunds, rules.decimals,
            "no" if rules.joined is None else rules.before_joined, question.money, question.by, question.split, users,
            settings.get("age"), periods, settings.get("fiscal_start", 1), question.retention, question.brackets,
            question.amounts, question.confidence,
        )  # fmt: skip

    def question(self, **edges: Unpack[Edges]) -> Question:
        """Return the question of a table with these edges."""
        return Question.of(**self.keywords() | ({} if self.money else {"amount": None}), **edges)

    @property
    def needs_order(self) -> bool:
        """Whether the table depends on the order of rows within a day."""
        return bool(self.by) or (not self.question().same_unit and not days_in_order(self.timezone))

    def keywords(self) -> dict[str, Any]:
        """Return the settings as functions take them, without those of reading."""
        values = asdict(self)
        for name in ("joined", "money", "users"):
            del values[name]
        return values | {"calendar": self.calendar_table()}

    def calendar_table(self) -> pl.DataFrame | None:
        """Return the periods as a table."""
        if self.calendar is None:
            return None
        days, labels = zip(*self.calendar, strict=True)
        return pl.DataFrame({"first_day": [date.fromisoformat(day) for day in days], "label": labels})


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums behind the table of :func:`cohortlib.cohorts` for a set of users, from which the table is made.

    Sums of disjoint users add: ``a + b`` is exactly the sums over both. :func:`cohortlib.sums` computes them.

    Attributes
    ----------
    settings
        The settings that change sums. Only sums with equal settings add.
    table
        One row for each segment, ``first_day`` and ``age`` with a value other than 0, sorted by these, null segments
        last. ``segment.…`` are the columns of segments, all others are Int64. ``first_day`` (since 1970-01-01) begins
        a group of first days with one cohort and one first period of ages; with an own clock it is the day itself.
        ``size``, the users, and ``first_amount``, Σ active amount at age 0, stand at age 0; ``active`` users;
        Σ ``amount`` and ``amounts.…``, in units of ``10 ** -decimals``. For brackets and for unbounded retention there
        is also ``next_age``, the age at which the users are active again, −1 for never; with `confidence`, sums of
        squares in four columns of 32 bits each.
    last_day
        Local day of the last row, in days since 1970-01-01; None without rows.
    magnitudes
        Sums of absolute amounts, of `amount` and of each of `amounts`, which bound every sum.
    """

    settings: TableSettings
    table: pl.DataFrame
    last_day: int | None
    magnitudes: tuple[int, ...]

    def __repr__(self) -> str:
        given = {name: value for name, value in asdict(self.settings).items() if value not in (None, (), "no")}
        settings = ", ".join(f"{name}={value!r}" for name, value in given.items())
        return f"Sums({settings}; {self.table['size'].sum():,} users)"

    def __add__(self, other: "Sums") -> "Sums":
        """Add the sums of other users.

        Raises
        ------
        SettingError
            The settings differ.
        SchemaError
            A column of segments has values of another kind.
        DataError
            Together the amounts exceed 64-bit integers.
        """
        if not isinstance(other, Sums):
            return NotImplemented
        # Sums with other settings can have another number of magnitudes.
        magnitudes = tuple(map(sum, zip(self.magnitudes, other.magnitudes, strict=False)))
        check_addable(self.settings, other.settings, max(magnitudes), self.settings.decimals, _shown)
        days = [day for day in (self.last_day, other.last_day) if day is not None]
        table = added([self.table, other.table], self.settings.question())
        return Sums(self.settings, table, max(days, default=None), magnitudes)

    def __radd__(self, other: object) -> "Sums":
        """Start ``sum(parts)``, which begins with 0."""
        return self if other == 0 else NotImplemented

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sums) and self._facts() == other._facts() and self.table.equals(other.table)

    __hash__ = None  # type: ignore[assignment]

    def _facts(self) -> dict[str, Any]:
        return {
            "conventions": asdict(self.settings), "last_day": self.last_day,
            "magnitudes": [str(each) for each in self.magnitudes],
        }  # fmt: skip

    @with_settings
    def cohorts(self, **edges: Unpack[Edges]) -> pl.DataFrame:
        """Return the table of :func:`cohortlib.cohorts`, with its `start`, `end` and `complete_only`.

        Raises
        ------
        SettingError
            `end` cuts through a period of ages, of which sums have the whole; or, with `joined`, segments or cohorts
            depend on single rows that `end` or `complete_only` cuts off.
        """
        question = self.settings.question(**edges)
        self._check_cut(question)
        return table_of(self.table, question, self.last_day, joined=self.settings.joined != "no")

    def _check_cut(self, question: Question) -> None:
        """Raise SettingError if the table depends on single rows that `end` or `complete_only` cut off."""
        edges = question.edges(self.last_day)
        if self.last_day is None or edges is None:
            return
        by_end = edges.cut < self.last_day
        rest = "compute the table with cl.cohorts from the rows"
        if by_end and not question.width and not question.ends_age(edges.cut):
            raise SettingError(
                (Arg("end", question.end), " cuts through a period of ", Arg("age", self.settings.age),
                 ", which the sums have as a whole"),
                value=question.end, expected="the end of a period of ages", hint=rest,
            )  # fmt: skip
        if self.settings.joined == "no":
            return
        by_age = not question.width and edges.age < question.age_of(self.last_day)
        of_rows = set(question.by) - set(self.settings.users)
        if (of_rows and (by_end or by_age)) or (by_age and not by_end and not question.same_unit):
            edge = Arg("end", question.end) if by_end else Arg("complete_only", question.complete_only)
            raise SettingError(
                (edge, " cannot cut off rows of sums with ", Arg("joined"), ": segments and cohorts depend on them"),
                value=edge.value, expected="an edge after the last row", hint=rest,
            )  # fmt: skip

    def save(self, path: str | Path) -> None:
        """Write the sums and their settings to a Parquet file, which replaces `path` once it is complete.

        The file holds its own digest, and the version of cohortlib.
        """
        write_sums(path, self.table, MARK, {"version": VERSION} | self._facts())

    @classmethod
    def load(cls, path: str | Path) -> "Sums":
        """Read saved sums, and check that they are possible.

        Raises
        ------
        SourceError
            The file is missing, unreadable or damaged, or does not hold sums of the general table of this version.
        """
        saved = read_table(Path(path))
        settings: TableSettings = settings_from(Path(path), saved.settings, TableSettings)
        check_table(Path(path), saved, settings.question())
        return cls(settings, saved.table, saved.last_day, saved.magnitudes)


def _shown(name: str, value: object) -> Arg:
    """Return a setting as callers pass it; `calendar` is a table, and `money` whether there is an amount."""
    if name == "calendar":
        return Arg("calendar", None) if value is None else Arg("calendar")
    if name == "money":
        return Arg("amount") if value else Arg("amount", None)
    return Arg(name, list(value) if isinstance(value, tuple) else value)


def added(tables: list[pl.DataFrame], question: Question) -> pl.DataFrame:
    """Add tables of sums; the types of segments become one."""
    keys, values = keys_of(question), values_of(question)
    for name in (*question.by, *question.split):
        kinds = {table.schema[f"{SEGMENT}{name}"] for table in tables} - {pl.Null()}
        # Numbers add to numbers and dates to dates; text is not read as a number, nor a truth value as 1.
        if len({kind if kind in (pl.String, pl.Boolean) else kind.is_temporal() for kind in kinds}) > 1:
            what = f"the segments {name!r} are {' and '.join(sorted(map(str, kinds)))}"
            raise SchemaError(what, value=kinds, expected="one type in all sums", hint="cast one of the columns")
    rows = pl.concat(tables, how="vertical_relaxed")
    sums = carried(rows.group_by(keys).agg(pl.col(values).sum()), limbs_of(question))
    return without_zero_rows(sums, question).sort(keys, nulls_last=True).select(*keys, *values)


@with_settings
def sums(transactions: Source, **settings: Unpack[TableSumsKeywords]) -> Sums:
    """Compute the sums behind the table of :func:`cohortlib.cohorts` for some users, to add to the sums of others.

    All rows of a user must be in one table, and so must its dates in `joined`.

    Parameters
    ----------
    transactions, user, timestamp, amount, freq, timezone, week_start, refunds, joined, before_joined, nulls, \
    timestamp_format, decimal, assume_zone, normalize, encoding, sheet, storage_options, decimals, threads, progress, \
    max_memory, by, split, users, age, calendar, fiscal_start, retention, brackets, amounts, confidence
        As for :func:`cohortlib.cohorts`. Its `start`, `end` and `complete_only` are arguments of :meth:`Sums.cohorts`.
        `split` is not taken with `joined`: a user who joined counts in every value, also in those of other tables.

    Raises
    ------
    SettingError, SourceError, SchemaError, DataError
        As for :func:`cohortlib.cohorts`.

    Examples
    --------
    >>> import cohortlib as cl
    >>> import polars as pl
    >>> from datetime import date
    >>> rows = pl.DataFrame({
    ...     "user_id": ["a", "a", "b"],
    ...     "timestamp": [date(2026, 1, 5), date(2026, 2, 10), date(2026, 1, 20)],
    ...     "amount": [100, 80, 50],
    ...     "country": ["DE", "FR", "FR"],
    ... })
    >>> one, other = rows.filter(user_id="a"), rows.filter(user_id="b")
    >>> both = cl.sums(one, by="country") + cl.sums(other, by="country")
    >>> both.cohorts().select("country", "cohort", "period", "active_users", "ltv").rows()
    [('DE', '2026-01', 0, 1, 100.0), ('DE', '2026-01', 1, 1, 180.0), ('FR', '2026-01', 0, 1, 50.0), \
('FR', '2026-01', 1, 0, 50.0)]
    """
    question = Question.of(**settings)
    check_additive(question)
    loaded: AbstractContextManager[TableRows | PackedRows] = load_rows(transactions, question, keep_ids=False)
    if not has_next(question):  # single users are not needed
        loaded = load_for_counting(transactions, question)
    with loaded as rows:
        return sums_of(rows, settings)


def check_additive(question: Question) -> None:
    """Raise SettingError for settings whose table does not follow from sums."""
    if question.split and question.settings.joined is not None:
        raise SettingError(
            (Arg("split", list(question.split)), " and ", Arg("joined"), " exclude each other in sums"),
            value=list(question.split), expected="one of them",
            hint=(Arg("by"), " takes join dates; or compute the table with cl.cohorts from all rows"),
        )  # fmt: skip


def sums_of(rows: TableRows | PackedRows, settings: Mapping[str, Any]) -> Sums:
    """Return the sums over all users of loaded rows."""
    question = rows.question
    of_users = tuple(name for name in question.by if name not in rows.row_columns)
    magnitudes = rows.magnitudes if question.money else (0, *rows.magnitudes[1:])
    return Sums(TableSettings.of(settings, question, of_users), sums_table(rows), rows.last_day, magnitudes)

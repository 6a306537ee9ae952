"""The checked settings of a call on transactions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from cohortlib.engine import memory
from cohortlib.engine.progress import Progress, check_progress
from cohortlib.engine.threads import workers_for
from cohortlib.errors import Arg, SettingError, listed
from cohortlib.literals import Decimal, Freq, Normalize, Nulls
from cohortlib.periods import Calendar, check_zone, epoch_day, span
from cohortlib.read.tables import FileOptions, Source
from cohortlib.read.text import TextRules
from cohortlib.read.transactions import Columns
from cohortlib.transactions.keywords import (
    SETTINGS,
    Basis,
    BeforeJoined,
    CustomerRows,
    Ids,
    Refunds,
    SinkKeywords,
)

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a call, checked; :data:`cohortlib.transactions.keywords.SETTINGS` says what each does."""

    user: str
    timestamp: str
    amount: str
    freq: Freq
    timezone: str
    week_start: str
    refunds: Refunds
    joined: Source | None
    before_joined: BeforeJoined
    start: str | date | datetime | None
    end: str | date | datetime | None
    complete_only: bool
    basis: Basis
    rows: CustomerRows
    top_n: int | None
    rank_by: "str | pl.Expr | None"
    ids: Ids
    nulls: Nulls
    timestamp_format: str | None
    decimal: Decimal
    assume_zone: str | None
    normalize: Normalize | None
    encoding: str | None
    sheet: str | int | None
    storage_options: dict[str, Any] | None
    decimals: int
    threads: int | None
    progress: Progress | None
    max_memory: int | str | None

    @classmethod
    def of(cls, **settings: Unpack[SinkKeywords]) -> "Settings":
        """Check the settings that a caller passes; the others have their defaults."""
        values: dict[str, Any] = {name: setting.default for name, setting in SETTINGS.items()}
        values.update(settings)
        return cls(**values)

    def __post_init__(self) -> None:
        for setting in SETTINGS.values():
            setting.check(getattr(self, setting.name))
        columns = {name: getattr(self, name) for name in ("user", "timestamp", "amount")}
        for name, column in columns.items():
            if not isinstance(column, str):
                raise SettingError((Arg(name, column), " is not a column name"), value=column, expected="a string")
        if len(set(columns.values())) < 3:
            names = listed(columns.values())
            raise SettingError(f"user, timestamp and amount are the columns {names}", expected="three columns")
        check_zone(self.timezone)
        _ = self.columns, self.file_options  # checks the settings of text and files
        workers_for(self.threads)
        check_progress(self.progress)
        if self.max_memory is not None:  # without it, free memory is measured when the budget is needed
            memory.budget(self.max_memory)
        if self.top_n is not None and (type(self.top_n) is not int or self.top_n < 1):
            what = (Arg("top_n", self.top_n), " is not a number of customers")
            raise SettingError(what, value=self.top_n, expected="1 or more, or None for all")
        if self.rank_by is not None and self.top_n is None:
            raise SettingError((Arg("rank_by"), " has no effect without ", Arg("top_n")), expected="both, or neither")
        first, last = self.edges()
        if first is not None and last is not None and first > last:
            after = (Arg("start", self.start), " is after ", Arg("end", self.end))
            raise SettingError(after, expected="start before end")

    @property
    def calendar(self) -> Calendar:
        """The calendar that cuts days to periods."""
        return Calendar(self.freq, self.week_start)

    @property
    def roles(self) -> list[str]:
        """The columns of user, timestamp and amount."""
        return [self.user, self.timestamp, self.amount]

    @cached_property
    def columns(self) -> Columns:
        """The columns, and how they are read."""
        last = None if self.end is None else self.edges()[1]
        last_day = None if last is None else int(self.calendar.first_days(np.array([last + 1]))[0]) - 1
        rules = TextRules(self.timestamp_format, self.decimal, self.assume_zone, self.normalize)
        return Columns(
            self.user, self.timestamp, self.amount, self.nulls, self.decimals, self.timezone, self.calendar, rules,
            last_day, self.workers,
        )  # fmt: skip

    @cached_property
    def file_options(self) -> FileOptions:
        """How files are opened."""
        return FileOptions(self.encoding, self.sheet, self.storage_options, self.workers)

    def joined_is_one_of(self, columns: Sequence[str]) -> bool:
        """Check whether `joined` is one of a table's columns."""
        return isinstance(self.joined, str) and self.joined in columns

    def columns_to_read(self, columns: Sequence[str]) -> list[str]:
        """List the columns to read from a table with `columns`."""
        return [*self.roles, *([str(self.joined)] if self.joined_is_one_of(columns) else [])]

    @property
    def scale(self) -> int:
        """Integer units of money per 1.0."""
        return int(10**self.decimals)

    @property
    def workers(self) -> int:
        """Number of threads."""
        return workers_for(self.threads)

    def ordinal(self, day: int) -> int:
        """Return the period of a day (days since 1970-01-01)."""
        return int(self.calendar.ordinals(np.array([day]))[0])

    @cached_property
    def budget(self) -> int:
        """Bytes of memory that the computation may use."""
        return memory.budget(self.max_memory)

    def edges(self) -> tuple[int | None, int | None]:
        """Return the ordinals of `start` and `end`."""
        first = None if self.start is None else self.calendar.ordinal(span("start", self.start)[0])
        last = None if self.end is None else self.calendar.ordinal(span("end", self.end)[1])
        return first, last

    def bounds(self, last_day: int | None) -> tuple[int | None, int | None]:
        """Return the ordinals of the first cohort to show and of the last period, for rows that end on `last_day`."""
        first, last = self.edges()
        if last_day is None:
            return first, last
        if last is None:
            last = self.ordinal(last_day)
        if self.complete_only:  # the periods that are over by the last day of the data
            final = last_day if self.end is None else min(last_day, epoch_day(span("end", self.end)[1]))
            last = min(last, self.ordinal(final + 1) - 1)
        return first, last

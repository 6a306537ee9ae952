"""The checked settings of the general table, and the edges that they set for the days of the rows."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias, Unpack

import numpy as np
import polars as pl

from cohortlib.errors import Arg, DataError, SchemaError, SettingError, listed
from cohortlib.fields import GENERAL_NAMES
from cohortlib.literals import FREQS, Freq
from cohortlib.periods import Calendar, TableCalendar, date_of, epoch_day, span
from cohortlib.read import sources
from cohortlib.read.tables import Source
from cohortlib.transactions.keywords import TABLE_SETTINGS, Retention, UsersKeywords
from cohortlib.transactions.settings import Settings

NO_AMOUNT = ""
"""In place of the column of amounts where there are none; every row then has an amount of 1."""

_CLOCK = re.compile(r"([0-9]+)d", re.ASCII)
AnyCalendar: TypeAlias = Calendar | TableCalendar


class Edges(NamedTuple):
    """The days and periods at which a table ends, as days since 1970-01-01 and ordinals.

    `last_day` is the last day of the data, or None without rows. Rows after `cut` do not count. `cohort` is the last
    cohort and `first_cohort` the first one that is shown; `age` and `over` are the last period of ages, and the last of
    them that is over by `last_day`.
    """

    cut: int
    last_day: int | None
    first_cohort: int | None
    cohort: int
    age: int
    over: int | None


@dataclass(frozen=True, kw_only=True)
class Question:
    """The settings of the general table, checked."""

    settings: Settings  # those of reading and running
    by: tuple[str, ...]
    split: tuple[str, ...]
    users: Source | None
    calendar: AnyCalendar  # of cohorts
    ages: AnyCalendar  # of ages, without an own clock
    width: int  # days of an own clock, or 0
    retention: Retention
    brackets: tuple[int, ...] | None
    amounts: tuple[str, ...]
    confidence: float | None
    money: bool
    start: str | date | datetime | None
    end: str | date | datetime | None
    complete_only: bool

    @classmethod
    def of(cls, **settings: Unpack[UsersKeywords]) -> "Question":
        """Check the settings that a caller passes; the others have their defaults."""
        values: dict[str, Any] = {name: setting.default for name, setting in TABLE_SETTINGS.items()}
        reading: dict[str, Any] = dict(settings)
        values.update((name, reading.pop(name)) for name in TABLE_SETTINGS if name in reading)
        for name, setting in TABLE_SETTINGS.items():
            setting.check(values[name])
        by, split, amounts = (_columns(name, values[name]) for name in ("by", "split", "amounts"))
        _check_names(by, split, amounts)
        money = reading.get("amount", "amount") is not None
        if not money:
            reading["amount"] = NO_AMOUNT
            _exclude(Arg("amount", None), Arg("refunds", reading.get("refunds", "net")), "net")
        freq = reading.get("freq", "M")
        Settings.of(**reading | {"start": None, "end": None})  # checks them
        start, end = reading.pop("start", None), reading.pop("end", None)
        complete_only = reading.pop("complete_only", False)
        if values["users"] is not None and not by:
            raise SettingError((Arg("users"), " has no effect without ", Arg("by")), expected="both, or neither")
        calendar = _calendar(values["calendar"], freq, reading, values["fiscal_start"])
        width, ages = _clock(values["age"], calendar, values["fiscal_start"])
        brackets = _brackets(values["brackets"], values["retention"])
        confidence = values["confidence"]
        if confidence is not None and not (isinstance(confidence, float) and 0 < confidence < 1):
            what = (Arg("confidence", confidence), " is not a level")
            raise SettingError(what, value=confidence, expected="a number between 0 and 1, such as 0.95")
        question = cls(
            settings=Settings.of(**reading | {"freq": "D"}), by=by, split=split, users=values["users"],
            calendar=calendar, ages=ages, width=width, retention=values["retention"], brackets=brackets,
            amounts=amounts, confidence=confidence, money=money, start=start, end=end, complete_only=complete_only,
        )  # fmt: skip
        cut = question.cut()
        if cut is not None:  # later rows are not looked at, so that their years are not checked
            question = replace(question, settings=Settings.of(**reading | {"freq": "D", "end": date_of(cut)}))
        first, last = question.span("start"), question.span("end")
        if first is not None and last is not None and calendar.ordinal(first[0]) > calendar.ordinal(last[1]):
            raise SettingError((Arg("start", start), " is after ", Arg("end", end)), expected="start before end")
        return question

    @property
    def plain(self) -> bool:
        """Whether the table is Termina's, but for the columns that it adds."""
        return (
            not (self.by or self.split or self.amounts or self.width or self.brackets or self.confidence)
            and self.money
            and self.retention == "exact"
            and self.ages == self.calendar
            and isinstance(self.calendar, Calendar)
            and self.calendar.fiscal_start == 1
        )

    @property
    def same_unit(self) -> bool:
        """Whether ages count in periods of cohorts."""
        return not self.width and self.ages == self.calendar

    @property
    def read_columns(self) -> list[str]:
        """The columns of user, instant and (if there is one) amount."""
        return [name for name in self.settings.roles if name != NO_AMOUNT]

    def span(self, name: str) -> tuple[date, date] | None:
        """Return the first and the last day that `start` or `end` names; None if it is not set."""
        value = self.start if name == "start" else self.end
        if value is None:
            return None
        if isinstance(self.calendar, TableCalendar):
            for at, label in enumerate(self.calendar.names[:-1]):
                if label == value:
                    firsts = self.calendar.firsts
                    return firsts[at], date.fromordinal(firsts[at + 1].toordinal() - 1)
        days = span(name, value)
        if isinstance(self.calendar, TableCalendar):
            for day in days:
                self.check_days(epoch_day(day), epoch_day(day))
        return days

    def cut(self) -> int | None:
        """Return the last day of the period that `end` names, None without one."""
        named = self.span("end")
        return None if named is None else self._last_day(self.calendar, self.calendar.ordinal(named[1]))

    def ends_age(self, day: int) -> bool:
        """Return whether a period of ages is over by the end of a day."""
        return self._last_day(self.ages, self.age_of(day)) == day

    def age_of(self, day: int) -> int:
        """Return the period of ages of a day."""
        return _ordinal(self.ages, day)

    def check_days(self, first: int, last: int) -> None:
        """Raise DataError for days outside of the table `calendar`."""
        if isinstance(self.calendar, TableCalendar):
            begin, end = epoch_day(self.calendar.firsts[0]), epoch_day(self.calendar.firsts[-1])
            for day in (first, last):
                if not begin <= day < end:
                    raise DataError(
                        (f"{date_of(day)} is outside of ", Arg("calendar")), value=date_of(day),
                        expected=f"days from {date_of(begin)} to {date_of(end - 1)}",
                        hint="add the missing periods to the table",
                    )  # fmt: skip

    def edges(self, last_row: int | None) -> Edges | None:
        """Return where the table ends, for the local day of the last row of any kind."""
        named = self.span("end")
        cut = self.cut() if named is not None else last_row
        if cut is None:
            return None
        last_day = last_row
        if named is not None and last_row is not None:
            last_day = min(last_row, epoch_day(named[1]))
        cohort, age = (_ordinal(calendar, cut) for calendar in (self.calendar, self.ages))
        over = None if last_day is None else self._last_over(self.ages, last_day)
        if self.complete_only and last_day is not None and over is not None:
            cohort = min(cohort, self._last_over(self.calendar, last_day))
            age = min(age, over)
        first = self.span("start")
        return Edges(cut, last_day, None if first is None else self.calendar.ordinal(first[0]), cohort, age, over)

    def _last_day(self, calendar: AnyCalendar, ordinal: int) -> int:
        return int(calendar.first_days(np.array([ordinal + 1]))[0]) - 1

    def _last_over(self, calendar: AnyCalendar, day: int) -> int:
        """Return the last period that is over by a day."""
        return _ordinal(calendar, day + 1) - 1


def _ordinal(calendar: AnyCalendar, day: int) -> int:
    return int(calendar.ordinals(np.array([day]))[0])


def _columns(name: str, value: object) -> tuple[str, ...]:
    """Return one or more columns of a setting as a tuple, each once."""
    columns = (value,) if isinstance(value, str) else value
    if columns is None:
        return ()
    if not isinstance(columns, Sequence) or not all(isinstance(each, str) for each in columns):
        raise SettingError((Arg(name, value), " is not a column"), value=value, expected="a name, or a list of names")
    return tuple(dict.fromkeys(columns))


def _check_names(by: Sequence[str], split: Sequence[str], amounts: Sequence[str]) -> None:
    """Raise SettingError for columns that would stand in the result twice, and for `by` with `split`."""
    if by and split:
        raise SettingError((Arg("by", list(by)), " and ", Arg("split", list(split)), " exclude each other"),
                           expected="one of them")  # fmt: skip
    taken = {*GENERAL_NAMES}
    for setting, columns, names in (
        ("amounts", amounts, lambda column: (column, f"{column}_ltv")), ("by", by, lambda column: (column,)),
        ("split", split, lambda column: (column,)),
    ):  # fmt: skip
        for column in columns:
            for name in names(column):
                if name in taken:
                    raise SettingError(
                        (Arg(setting, column), f" is named like a column of the result, {name!r}"), value=column,
                        expected="another name", hint="rename the column",
                    )  # fmt: skip
                taken.add(name)


def _exclude(one: Arg, other: Arg, default: object) -> None:
    if other.value != default:
        raise SettingError((one, " and ", other, " exclude each other"), value=other.value, expected="one of them")


def _clock(age: str | None, calendar: AnyCalendar, fiscal_start: int) -> tuple[int, AnyCalendar]:
    """Return the days of an own clock (or 0) and the calendar of ages."""
    if age is None:
        return 0, calendar
    clock = _CLOCK.fullmatch(age) if isinstance(age, str) else None
    if clock and 0 < int(clock[1]) < 10**6:
        return int(clock[1]), Calendar("D")
    if age not in FREQS:
        what = (Arg("age", age), " is a clock of 0 days" if clock and not int(clock[1]) else " is not a unit of ages")
        raise SettingError(what, value=age, expected=f"one of {listed(FREQS)}, or days such as '7d' or '30d'")
    if isinstance(calendar, TableCalendar):
        raise SettingError((Arg("age", age), " and ", Arg("calendar"), " exclude each other"), value=age,
                           expected="days such as '7d', or None")  # fmt: skip
    return 0, Calendar(age, calendar.week_start, fiscal_start if age in ("Q", "A") else 1)


def _brackets(brackets: object, retention: str) -> tuple[int, ...] | None:
    if brackets is None:
        return None
    ages = tuple(brackets) if isinstance(brackets, Sequence) and not isinstance(brackets, str) else ()
    ascending = all(type(age) is int and age >= 0 for age in ages) and list(ages) == sorted(set(ages))
    if not ages or not ascending or ages[-1] >= 2**31:
        raise SettingError((Arg("brackets", brackets), " are not brackets"), value=brackets,
                           expected="first ages in ascending order, such as [0, 1, 3, 7]")  # fmt: skip
    _exclude(Arg("brackets", list(ages)), Arg("retention", retention), "exact")
    return ages


def _calendar(table: Source | None, freq: Freq, reading: Mapping[str, Any], fiscal_start: int) -> AnyCalendar:
    """Return the calendar of cohorts."""
    if fiscal_start != 1 and (table is not None or freq not in ("Q", "A")):
        other = Arg("calendar") if table is not None else Arg("freq", freq)
        raise SettingError((Arg("fiscal_start", fiscal_start), " and ", other, " exclude each other"),
                           value=fiscal_start, expected=(Arg("freq", "Q"), " or ", Arg("freq", "A")))  # fmt: skip
    if table is None:
        return Calendar(freq, reading.get("week_start", "monday"), fiscal_start)
    if freq != "M":
        raise SettingError((Arg("calendar"), " and ", Arg("freq", freq), " exclude each other"), expected="one of them")
    return read_calendar(table)


def read_calendar(table: Source) -> TableCalendar:
    """Read a table of first days and labels."""
    what = (Arg("calendar"),)
    if not sources.is_table(table):
        raise SchemaError((*what, f" is a {type(table).__qualname__}"), value=table, expected="a table of two columns")
    frame = sources.read(table, lambda names: names)
    if frame.width != 2:
        raise SchemaError((*what, f" has the columns {listed(frame.columns)}"), value=frame.columns,
                          expected="two columns: the first day of each period, and its label")  # fmt: skip
    days, labels = frame.get_columns()
    try:
        days = days.str.to_date() if days.dtype == pl.String else days.cast(pl.Date)
        names = labels.cast(pl.String).to_list()
    except pl.exceptions.PolarsError as error:
        raise SchemaError((*what, f" has {days.dtype} and {labels.dtype} columns"), value=frame.schema,
                          expected="dates and labels") from error  # fmt: skip
    firsts = days.to_list()
    if len(firsts) < 2 or None in firsts or any(a >= b for a, b in pairwise(firsts)):
        expected = "first days in ascending order, and a last row that ends the period before"
        raise DataError((*what, " is not ascending, or has fewer than two rows"), expected=expected)
    shown = names[:-1]
    if None in shown or len(set(shown)) < len(shown):
        raise DataError((*what, " has a label twice, or none"), expected="a label of its own for each period")
    return TableCalendar(tuple(firsts), (*shown, names[-1] or ""))

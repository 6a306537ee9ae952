"""Recognize how the labels of periods are written: 2026-01, month ends, 2026-Q1, Jan-26, 2026-W05, Excel's numbers."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cached_property
from typing import Any

import polars as pl

from cohortlib.errors import Arg, DataError
from cohortlib.literals import WEEK_START, WEEKDAYS, Freq, Weekday
from cohortlib.periods import Calendar

UNITS: dict[Freq, str] = {"D": "day", "W": "week", "M": "month", "Q": "quarter", "A": "year"}
MONTHLY: tuple[Freq, ...] = ("M", "Q", "A")
"""The units of whole months."""
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAMES = (
    r"(?P<name>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|"
    r"oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_YEAR, _MONTH, _DAY = r"(?P<year>(?:19|20|21)\d{2})", r"(?P<month>0?[1-9]|1[0-2])", r"(?P<day>0?[1-9]|[12]\d|3[01])"
_SHORT = r"(?P<year>(?:(?:19|20|21)\d{2}|['\u2019]?\d{2}))"
_MIDNIGHT = r"[T ]+00:00(?::00(?:\.0+)?)? ?(?:Z|UTC|[+-]\d{2}(?::?\d{2})?)?"
_EXCEL_EPOCH = date(1899, 12, 30)


@dataclass(frozen=True)
class LabelForm:
    """A way to write the label of a period."""

    words: str
    unit: Freq | None  # None: a date, which may stand for a period of any unit
    pattern: re.Pattern[str]

    def read(self, label: str) -> date | None:
        """Return the first day of the period, or the date; None if the label is not written like this."""
        match = self.pattern.fullmatch(label)
        if match is None:
            return None
        part = match.groupdict()
        try:
            if "serial" in part:
                return _EXCEL_EPOCH + timedelta(int(part["serial"]))
            year = int(part["year"].lstrip("'\u2019"))
            year += 0 if year > 99 else 2000 if year < 70 else 1900
            if "week" in part:
                return date.fromisocalendar(year, int(part["week"]), 1)
            month = int(part.get("month") or 1)
            if "quarter" in part:
                month = int(part["quarter"]) * 3 - 2
            if "name" in part:
                month = _MONTHS.index(part["name"][:3].lower()) + 1
            return date(year, month, int(part.get("day") or 1))
        except ValueError:
            return None


def _form(words: str, unit: Freq | None, pattern: str) -> LabelForm:
    return LabelForm(words, unit, re.compile(pattern, re.ASCII | re.IGNORECASE))


FORMS = (
    _form("months", "M", rf"{_YEAR}-(?P<month>0[1-9]|1[0-2])"),
    _form("quarters", "Q", rf"{_YEAR}Q(?P<quarter>[1-4])"),
    _form("years", "A", _YEAR),
    _form("dates", None, rf"{_YEAR}-(?P<month>\d{{2}})-(?P<day>\d{{2}})"),
    _form("dates with a time", None, rf"{_YEAR}-(?P<month>\d{{2}})-(?P<day>\d{{2}}){_MIDNIGHT}"),
    _form("months", "M", rf"{_YEAR}[/.]{_MONTH}"),
    _form("months", "M", rf"{_YEAR}(?P<month>0[1-9]|1[0-2])"),
    _form("months", "M", rf"{_YEAR}[- ]?M{_MONTH}"),
    _form("months", "M", rf"{_MONTH}[-/.]{_YEAR}"),
    _form("months", "M", rf"{_NAMES}[- ,/]*{_SHORT}"),
    _form("months", "M", rf"{_YEAR}[- ,/]*{_NAMES}"),
    _form("quarters", "Q", rf"{_YEAR}[- /]+Q(?P<quarter>[1-4])"),
    _form("quarters", "Q", rf"Q(?P<quarter>[1-4])[- /']*{_SHORT}"),
    _form("ISO weeks", "W", rf"{_YEAR}-?W(?P<week>\d{{1,2}})"),
    _form("dates", None, rf"{_YEAR}[/.]{_MONTH}[/.]{_DAY}"),
    _form("dates", None, rf"{_YEAR}(?P<month>\d{{2}})(?P<day>\d{{2}})"),
    _form("dates", None, rf"{_DAY}[- ]+{_NAMES}[- ,]+{_SHORT}"),
    _form("dates", None, rf"{_NAMES} {_DAY},? {_YEAR}"),
    _form("days of Excel", None, r"(?P<serial>[2-9]\d{4}|10\d{4})(?:\.0+)?"),
    # Last, as a pair: labels that fit both orders are ambiguous.
    _form("dates, day first", None, rf"{_DAY}[-/.]{_MONTH}[-/.]{_SHORT}"),
    _form("dates, month first", None, rf"{_MONTH}[-/.]{_DAY}[-/.]{_SHORT}"),
)
OWN = FORMS[:4]
"""The forms that cohortlib writes."""
OWN_WORDS = tuple(form.words for form in OWN)


@dataclass(frozen=True)
class Labels:
    """The labels of a column, all written in one form."""

    column: pl.Series
    form: LabelForm
    days: dict[Any, date]  # by distinct label

    @property
    def example(self) -> object:
        """The first label."""
        return next(iter(self.days))

    @property
    def own(self) -> bool:
        """Whether these are texts as cohortlib writes them."""
        return self.form in OWN and self.column.dtype == pl.String and all(map(_is_stripped, self.days))

    @cached_property
    def units(self) -> dict[Freq, "Unit"]:
        """The units whose periods the labels can stand for, the longest first."""
        if self.form.unit is not None:
            return {self.form.unit: Unit(self.form.unit)}
        days = sorted(self.days.values())
        fitting: dict[Freq, Unit] = {}
        for freq in MONTHLY[::-1]:
            for ends in (False, True):
                if freq not in fitting and all(first_day(freq, day + timedelta(ends)) for day in days):
                    fitting[freq] = Unit(freq, ends)
        if len({day.weekday() for day in days}) == 1:
            fitting["W"] = Unit("W", week_start=WEEKDAYS[days[0].weekday()])
        return fitting | {"D": Unit("D")}

    @property
    def words(self) -> str:
        """The form and an example."""
        return f"{self.form.words} such as {str(self.example)!r}"

    def written(self, unit: "Unit") -> str:
        """Describe the labels as those of a unit, and how they are written if not as cohortlib does."""
        if self.own and (self.form.unit is not None or unit.freq in "DW"):
            return unit.words
        kind = "" if self.form.words in (*OWN_WORDS, unit.words) else f" ({self.form.words})"
        return f"{unit.words}, written like {str(self.example)!r}{kind}"

    def relabelled(self, unit: "Unit") -> pl.Series:
        """Return the column with the labels of cohortlib."""
        calendar = Calendar(unit.freq, unit.week_start)
        texts = [calendar.label(calendar.ordinal(day)) for day in self.days.values()]
        return self.column.replace_strict(
            pl.Series(list(self.days), dtype=self.column.dtype, strict=False),
            pl.Series(texts, dtype=pl.String),
            return_dtype=pl.String,
        ).alias(self.column.name)


@dataclass(frozen=True)
class Unit:
    """The unit of periods, and how dates stand for them."""

    freq: Freq
    ends: bool = False  # dates are the last days of periods
    week_start: Weekday = WEEK_START

    @property
    def words(self) -> str:
        """The unit in words.

        >>> Unit("M", ends=True).words, Unit("W", week_start="sunday").words
        ('months by their last days', 'weeks that start on Sunday')
        """
        if self.freq == "W":
            return f"weeks that start on {self.week_start.title()}"
        return f"{UNITS[self.freq]}s{' by their last days' if self.ends else ''}"


def first_day(freq: Freq, day: date) -> bool:
    """Check whether a date is the first day of a month, quarter or year."""
    return day.day == 1 and (day.month - 1) % {"M": 1, "Q": 3, "A": 12}[freq] == 0


def read_labels(column: pl.Series, side: str) -> Labels | None:
    """Recognize the form of the labels of a column, or return None if none of them is written in a known form.

    A form counts only if all labels are written in it. Raises DataError if labels are written in several forms, or
    are dates that can be read with the day first and with the month first.
    """
    texts = _texts(column)
    if not texts:
        return None
    fitting = [form for form in FORMS if all(form.read(text) for text in texts.values())]
    if not fitting:
        _refuse_mixed(column, texts, side)
        return None
    days: dict[Any, date] = {}
    for label, text in texts.items():
        first, *others = {day for form in fitting if (day := form.read(text))}
        if others:
            raise _ambiguous(column, label, text, side)
        days[label] = first
    return Labels(column, fitting[0], days)


def _texts(column: pl.Series) -> dict[Any, str]:
    """Return the distinct labels, and each as text."""
    labels = column.unique(maintain_order=True).drop_nulls()
    if isinstance(column.dtype, pl.Datetime):
        return {label: _instant_text(label) for label in labels.to_list()}
    if column.dtype.is_float():
        return {label: f"{label:.0f}" if float(label).is_integer() else str(label) for label in labels.to_list()}
    if column.dtype == pl.Date or column.dtype.is_integer():
        return {label: str(label) for label in labels.to_list()}
    if column.dtype == pl.String or isinstance(column.dtype, pl.Categorical | pl.Enum):
        return {label: label.strip() for label in labels.cast(pl.String).to_list()}
    return {}


def _instant_text(instant: datetime) -> str:
    return str(instant.date()) if instant.time() == time() else instant.isoformat(" ")


def _is_stripped(label: str) -> bool:
    return label == label.strip()


def _refuse_mixed(column: pl.Series, texts: dict[Any, str], side: str) -> None:
    """Raise if some labels are written in one form and others in another, or in none."""
    forms = {label: [form for form in FORMS if form.read(text)] for label, text in texts.items()}
    known = [form for fitting in forms.values() for form in fitting]
    if not known:
        return
    most = max(FORMS, key=known.count)
    example = next(label for label, fitting in forms.items() if most in fitting)
    odd = [label for label, fitting in forms.items() if most not in fitting]
    others = forms[odd[0]]
    if not others and (known.count(most) < 4 or 2 * known.count(most) < len(texts)):
        return  # names of periods rather than dates
    what = f", which is one of {others[0].words}" if others and others[0].words != most.words else ""
    raise DataError(
        f"column {column.name!r} of {side} has {_shown(odd[0])} in row {row_of(column, odd[0])}{what}, while "
        f"{known.count(most):,} of {len(texts):,} labels are {most.words} such as {_shown(example)}",
        value=odd[0],
        expected="labels written in one form",
    )


def _ambiguous(column: pl.Series, label: object, text: str, side: str) -> DataError:
    first, second = (form.read(text) for form in FORMS[-2:])
    return DataError(
        f"column {column.name!r} of {side} has {_shown(label)} in row {row_of(column, label)}, which can be {first} or "
        f"{second}, and no other label decides",
        value=label,
        expected=f"ISO dates such as '{first}'",
        hint="write the dates as year-month-day, such as with .str.to_date('%d/%m/%Y') or '%m/%d/%Y'",
    )


def not_of_unit(labels: Labels, freq: Freq, side: str) -> DataError:
    """Return the error of labels that are not periods of a unit."""
    name = UNITS[freq]
    column = labels.column
    if labels.form.unit is not None:
        return DataError(
            f"column {column.name!r} of {side} has {_shown(labels.example)} in row "
            f"{row_of(column, labels.example)}, which is one of {labels.form.words}",
            value=labels.example,
            expected=f"labels of {name}s, or their first days",
        )
    misfit: Callable[[date], bool]
    if freq == "W":
        weekdays = [day.weekday() for day in labels.days.values()]
        usual = max(sorted(set(weekdays)), key=weekdays.count)
        misfit, what = (lambda day: day.weekday() != usual), f"a {WEEKDAYS[usual].title()}, as the other labels are"
        expected = "the first day of each week"
    else:
        ends = _count(labels, freq, ends=True) > _count(labels, freq)
        misfit = lambda day: not first_day(freq, day + timedelta(ends))  # noqa: E731
        expected = what = f"the {'last' if ends else 'first'} day of a {name}"
    label = next(label for label, day in labels.days.items() if misfit(day))
    return DataError(
        f"column {column.name!r} of {side} has {_shown(label)} in row {row_of(column, label)}, which is not {what}",
        value=label,
        expected=expected,
        hint=(Arg("freq", "D"), " is for tables by days"),
    )


def _count(labels: Labels, freq: Freq, *, ends: bool = False) -> int:
    return sum(first_day(freq, day + timedelta(ends)) for day in labels.days.values())


def mostly(labels: Labels, freq: Freq) -> bool:
    """Check whether nearly all dates are first or last days of a unit, so that the others are mistakes."""
    if labels.form.unit is not None or freq not in MONTHLY:
        return False
    count = max(_count(labels, freq), _count(labels, freq, ends=True))
    return count >= 4 and count >= 0.8 * len(labels.days)


def row_of(column: pl.Series, value: object) -> str:
    """Return the number of the first row with a value, 1 first."""
    index = (column == value).arg_true() if value is not None else column.is_null().arg_true()
    return f"{index[0] + 1:,}" if len(index) else "1"


def _shown(label: object) -> str:
    return f"'{label}'" if isinstance(label, date) else repr(label)


def longest(units: Iterable[Freq]) -> Freq:
    """Return the longest of some units."""
    order: Sequence[Freq] = ("A", "Q", "M", "W", "D")
    return min(units, key=order.index)

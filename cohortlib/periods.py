"""Calendar periods as integers.

A period is an ordinal, an integer that grows by one from one period to the next, so that an age is a difference. Days
count from 1970-01-01, weeks from the week of that day, months, quarters and years from the year 0. All functions take
days; only :func:`offsets` handles times and time zones.
"""

import re
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.errors import Arg, SettingError, one_of
from cohortlib.literals import FREQS, WEEK_START, WEEKDAYS, Freq

FIRST_DAY, LAST_DAY = -719162, 2932896  # 0001-01-01 and 9999-12-31 as days since 1970-01-01
_EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday

# The formats of labels that are not dates.
LABELS: tuple[tuple[Freq, str], ...] = (("M", r"\d{4}-\d{2}"), ("Q", r"\d{4}Q[1-4]"), ("A", r"\d{4}"))
_LABEL = re.compile(
    r"(?P<year>\d{4})(?:Q(?P<quarter>[1-4])|-(?P<month>0[1-9]|1[0-2])(?:-(?P<day>\d{2}))?)?",
    re.ASCII,
)


@dataclass(frozen=True)
class Calendar:
    """Cut days to periods of one unit.

    Parameters
    ----------
    freq
        ``"D"``, ``"W"``, ``"M"``, ``"Q"`` or ``"A"``.
    week_start
        The first day of a week, ``"monday"`` to ``"sunday"``; used only by ``"W"``.
    fiscal_start
        The month in which years begin, 1 to 12; used only by ``"Q"`` and ``"A"``. Years are labelled by the year in
        which they end.

    Examples
    --------
    >>> calendar = Calendar("Q")
    >>> calendar.label(calendar.ordinal(date(2026, 5, 31)))
    '2026Q2'
    """

    freq: Freq = "M"
    week_start: str = WEEK_START
    fiscal_start: int = 1

    def __post_init__(self) -> None:
        one_of("freq", self.freq, FREQS)
        one_of("week_start", self.week_start, WEEKDAYS)
        one_of("fiscal_start", self.fiscal_start, range(1, 13))

    @property
    def _shift(self) -> int:
        """Months to add so that fiscal years become calendar years."""
        return (13 - self.fiscal_start) % 12 if self.freq in ("Q", "A") else 0

    def ordinals(self, days: NDArray[np.int64]) -> NDArray[np.int64]:
        """Cut days since 1970-01-01 to the ordinals of their periods (int64 in, int64 out)."""
        if self.freq == "D":
            return days
        if self.freq == "W":
            return (days + (_EPOCH_WEEKDAY - WEEKDAYS.index(self.week_start)) % 7) // 7
        months = days.astype("M8[D]").astype("M8[M]").astype(np.int64) + 1970 * 12 + self._shift
        return months // {"M": 1, "Q": 3, "A": 12}[self.freq]

    def ordinal(self, day: date) -> int:
        """Cut one date to the ordinal of its period."""
        return int(self.ordinals(np.array([epoch_day(day)]))[0])

    def first_days(self, ordinals: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the first day of each period, in days since 1970-01-01."""
        if self.freq == "D":
            return ordinals
        if self.freq == "W":
            return ordinals * 7 - (_EPOCH_WEEKDAY - WEEKDAYS.index(self.week_start)) % 7
        months = ordinals * {"M": 1, "Q": 3, "A": 12}[self.freq] - 1970 * 12 - self._shift
        return months.astype("M8[M]").astype("M8[D]").astype(np.int64)

    def labels(self, ordinals: NDArray[np.int64]) -> list[str]:
        """Format each period: D 2026-01-31, W its first day, M 2026-01, Q 2026Q1, A 2026."""
        first_days = self.first_days(ordinals).astype("M8[D]")
        firsts = np.datetime_as_string(first_days.astype("M8[M]") + self._shift if self._shift else first_days)
        if self.freq in ("D", "W"):
            return [str(first) for first in firsts]
        if self.freq == "Q":
            return [f"{first[:4]}Q{(int(first[5:7]) + 2) // 3}" for first in firsts]
        return [str(first[: 7 if self.freq == "M" else 4]) for first in firsts]

    def label(self, ordinal: int) -> str:
        """Format one period."""
        return self.labels(np.array([ordinal]))[0]

    def trailing_year(self, ordinal: int) -> int:
        """Return the first period that starts in the 12 months which end with period `ordinal`.

        Formula: the least p with first_day(p) > first_day(ordinal) − 12 months. For M, Q and A these are the
        last 12, 4 and 1 periods.
        """
        first = np.datetime64(int(self.first_days(np.array([ordinal]))[0]), "D")
        month = first.astype("M8[M]")
        year_before = (month - 12).astype("M8[D]") + (first - month.astype("M8[D]"))
        # A year before 29 February is 28 February.
        year_before = min(year_before, (month - 11).astype("M8[D]") - 1)
        return int(self.ordinals(np.array([int(year_before.astype(np.int64))]))[0]) + 1


@dataclass(frozen=True)
class TableCalendar:
    """Cut days to the periods of a table: period n begins on ``firsts[n]`` and ends before ``firsts[n + 1]``.

    Examples
    --------
    >>> calendar = TableCalendar((date(2026, 1, 5), date(2026, 2, 2), date(2026, 3, 2)), ("P1", "P2", ""))
    >>> calendar.label(calendar.ordinal(date(2026, 2, 3)))
    'P2'
    """

    firsts: tuple[date, ...]
    names: tuple[str, ...]

    @property
    def _days(self) -> NDArray[np.int64]:
        return np.array([epoch_day(first) for first in self.firsts], np.int64)

    def ordinals(self, days: NDArray[np.int64]) -> NDArray[np.int64]:
        """Cut days since 1970-01-01 to the numbers of their periods: −1 before the first, the last number after it."""
        return np.searchsorted(self._days, days, side="right").astype(np.int64) - 1

    def ordinal(self, day: date) -> int:
        """Cut one date to the number of its period."""
        return int(self.ordinals(np.array([epoch_day(day)]))[0])

    def first_days(self, ordinals: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the first day of each period, in days since 1970-01-01."""
        return self._days[np.clip(ordinals, 0, len(self.firsts) - 1)]

    def labels(self, ordinals: NDArray[np.int64]) -> list[str]:
        """Return the label of each period."""
        return [self.names[int(ordinal)] for ordinal in ordinals]

    def label(self, ordinal: int) -> str:
        """Return the label of one period."""
        return self.names[ordinal]


def epoch_day(day: date) -> int:
    """Return a date as days since 1970-01-01."""
    return day.toordinal() - date(1970, 1, 1).toordinal()


def date_of(days: int) -> date:
    """Return the date of a number of days since 1970-01-01."""
    return date.fromordinal(date(1970, 1, 1).toordinal() + days)


def span(name: str, value: str | date | datetime) -> tuple[date, date]:
    """Parse the argument `name`, a date or a period's label, and return its first and last day.

    >>> span("end", "2026Q1")
    (datetime.date(2026, 1, 1), datetime.date(2026, 3, 31))
    """
    if isinstance(value, datetime):
        return value.date(), value.date()
    if isinstance(value, date):
        return value, value
    match = _LABEL.fullmatch(value) if isinstance(value, str) else None
    try:
        if match is None:
            raise ValueError
        year = int(match["year"])
        if match["day"]:
            day = date(year, int(match["month"]), int(match["day"]))
            return day, day
        quarter, month = match["quarter"], match["month"]
        first = int(month or (int(quarter) * 3 - 2 if quarter else 1))
        last = int(month or (int(quarter) * 3 if quarter else 12))
        after = date(year + last // 12, last % 12 + 1, 1) if (year, last) != (9999, 12) else None
        end = date.fromordinal(after.toordinal() - 1) if after else date(9999, 12, 31)
        return date(year, first, 1), end
    except ValueError:
        raise SettingError(
            (Arg(name, value), " is not a date or a period"),
            value=value,
            expected="a date such as '2026-01-31', or a label such as '2026-01', '2026Q1' or '2026'",
        ) from None


@lru_cache(maxsize=64)
def offsets(zone: str, low: int, high: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the offsets from UTC of a time zone between two instants.

    Parameters
    ----------
    zone
        IANA name, such as ``"America/New_York"``.
    low, high
        The instants, in seconds since 1970-01-01 UTC; both are included.

    Returns
    -------
    starts, shifts
        The instants (int64 seconds, sorted, the first is `low`) from which each offset holds, and the seconds to add
        to UTC. The zone is sampled once a day, and each change is bisected to the second: in the time zone database,
        changes of a zone are at least three days apart. The arrays are cached and read-only.
    """
    samples = np.append(np.arange(low, high, 86_400, dtype=np.int64), np.int64(high))
    shifts = _shifts(zone, samples)
    changes = np.flatnonzero(np.diff(shifts))
    before, after = samples[changes], samples[changes + 1]
    while (after - before > 1).any():
        middle = (before + after) // 2
        unchanged = _shifts(zone, middle) == shifts[changes]
        before, after = np.where(unchanged, middle, before), np.where(unchanged, after, middle)
    result = np.append(samples[:1], after), np.append(shifts[:1], shifts[changes + 1])
    for array in result:
        array.flags.writeable = False
    return result


def check_zone(zone: str, setting: str = "timezone") -> None:
    """Raise SettingError unless `zone`, the value of a setting, is in the time zone database."""
    if zone == "UTC":
        return
    try:
        if not zone[:1].isalpha():
            raise TypeError
        _shifts(zone, np.zeros(1, np.int64))
    except (pl.exceptions.PolarsError, TypeError):
        raise SettingError(
            (Arg(setting, zone), " is not a time zone"),
            value=zone,
            expected="an IANA name such as 'UTC' or 'Europe/Berlin'",
        ) from None


def _shifts(zone: str, seconds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the offset from UTC in seconds at each instant."""
    utc = pl.Series(seconds * 1000).cast(pl.Datetime("ms", "UTC"))
    local = utc.dt.convert_time_zone(zone).dt.replace_time_zone(None)
    return local.cast(pl.Int64).to_numpy() // 1000 - seconds

"""Calendar periods as integers.

A period is an ordinal: an integer that grows by one from one period to the next, so that an age is a
subtraction. Days count from 1970-01-01, weeks from the week that holds it, months, quarters and years from
the year 0. Everything here works on days; the clock ends at :func:`offsets`.
"""

import re
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.errors import SettingError, one_of

Freq = Literal["D", "W", "M", "Q", "A"]
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
FIRST_DAY, LAST_DAY = -719162, 2932896  # 0001-01-01 and 9999-12-31 as days since 1970-01-01
_EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday

# How labels are told that are no dates.
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
        The first day of a week, ``"monday"`` to ``"sunday"``; used by ``"W"`` alone.

    Examples
    --------
    >>> calendar = Calendar("Q")
    >>> calendar.label(calendar.ordinal(date(2026, 5, 31)))
    '2026Q2'
    """

    freq: Freq = "M"
    week_start: str = "monday"

    def __post_init__(self) -> None:
        one_of("freq", self.freq, ("D", "W", "M", "Q", "A"))
        one_of("week_start", self.week_start, WEEKDAYS)

    def ordinals(self, days: NDArray[np.int64]) -> NDArray[np.int64]:
        """Cut days since 1970-01-01 to the ordinals of their periods (int64 in, int64 out)."""
        if self.freq == "D":
            return days
        if self.freq == "W":
            return (days + (_EPOCH_WEEKDAY - WEEKDAYS.index(self.week_start)) % 7) // 7
        months = days.astype("M8[D]").astype("M8[M]").astype(np.int64) + 1970 * 12
        return months // {"M": 1, "Q": 3, "A": 12}[self.freq]

    def ordinal(self, day: date) -> int:
        """Cut one date to the ordinal of its period."""
        return int(self.ordinals(np.array([epoch_day(day)]))[0])

    def first_days(self, ordinals: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the first day of each period, as days since 1970-01-01."""
        if self.freq == "D":
            return ordinals
        if self.freq == "W":
            return ordinals * 7 - (_EPOCH_WEEKDAY - WEEKDAYS.index(self.week_start)) % 7
        months = ordinals * {"M": 1, "Q": 3, "A": 12}[self.freq] - 1970 * 12
        return months.astype("M8[M]").astype("M8[D]").astype(np.int64)

    def labels(self, ordinals: NDArray[np.int64]) -> list[str]:
        """Name each period: D 2026-01-31, W its first day, M 2026-01, Q 2026Q1, A 2026."""
        firsts = np.datetime_as_string(self.first_days(ordinals).astype("M8[D]"))
        if self.freq in ("D", "W"):
            return [str(first) for first in firsts]
        if self.freq == "Q":
            return [f"{first[:4]}Q{(int(first[5:7]) + 2) // 3}" for first in firsts]
        return [str(first[: 7 if self.freq == "M" else 4]) for first in firsts]

    def label(self, ordinal: int) -> str:
        """Name one period."""
        return self.labels(np.array([ordinal]))[0]

    def trailing_year(self, ordinal: int) -> int:
        """Give the first period whose first day is within the 12 months that end with period `ordinal`.

        Formula: the least p with first_day(p) > first_day(ordinal) − 12 months. For M, Q and A these are the
        last 12, 4 and 1 periods.
        """
        first = np.datetime64(int(self.first_days(np.array([ordinal]))[0]), "D")
        month = first.astype("M8[M]")
        # A year before 29 February is 28 February.
        back = (month - 12).astype("M8[D]") + (first - month.astype("M8[D]"))
        back = min(back, (month - 11).astype("M8[D]") - 1)
        day = int(back.astype(np.int64))
        before = self.ordinals(np.array([day]))[0]
        return int(before) + 1


def epoch_day(day: date) -> int:
    """Count the days from 1970-01-01 to `day`."""
    return day.toordinal() - date(1970, 1, 1).toordinal()


def day_of(days: int) -> date:
    """Give the date that lies some days after 1970-01-01."""
    return date.fromordinal(date(1970, 1, 1).toordinal() + days)


def span(name: str, value: str | date | datetime) -> tuple[date, date]:
    """Read the argument `name`, a date or a period's label, as the first and last day that it covers.

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
            f"{name}={value!r} is not a date or a period; expected a date such as '2026-01-31', or a label "
            "such as '2026-01', '2026Q1' or '2026'"
        ) from None


@lru_cache(maxsize=64)
def offsets(zone: str, low: int, high: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """List the offsets from UTC that a zone has between two instants.

    Parameters
    ----------
    zone
        IANA name, such as ``"America/New_York"``.
    low, high
        Instants in whole seconds since 1970-01-01 UTC, both ends within.

    Returns
    -------
    starts, shifts
        Sorted instants (seconds, int64; the first is `low`) and the seconds to add to UTC from each on.
        Sampled every day and then bisected to the second: in the time zone database no two changes of a zone are
        less than three days apart. The arrays are kept for the next call, and cannot be written to.
    """
    samples = np.append(np.arange(low, high, 86_400, dtype=np.int64), np.int64(high))
    shifts = _shifts(zone, samples)
    turns = np.flatnonzero(np.diff(shifts))
    before, after = samples[turns], samples[turns + 1]
    while (after - before > 1).any():
        middle = (before + after) // 2
        old = _shifts(zone, middle) == shifts[turns]
        before, after = np.where(old, middle, before), np.where(old, after, middle)
    found = np.append(samples[:1], after), np.append(shifts[:1], shifts[turns + 1])
    for array in found:
        array.flags.writeable = False
    return found


def check_zone(zone: str) -> None:
    """Refuse a zone that the calendar does not know."""
    try:
        if not zone[:1].isalpha():
            raise TypeError
        _shifts(zone, np.zeros(1, np.int64))
    except (pl.exceptions.PolarsError, TypeError):
        raise SettingError(
            f"timezone={zone!r} is not a time zone; expected an IANA name such as 'UTC' or 'Europe/Berlin'"
        ) from None


def _shifts(zone: str, seconds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the offset from UTC, in seconds, at each instant."""
    utc = pl.Series(seconds * 1000).cast(pl.Datetime("ms", "UTC"))
    local = utc.dt.convert_time_zone(zone).dt.replace_time_zone(None)
    return local.cast(pl.Int64).to_numpy() // 1000 - seconds

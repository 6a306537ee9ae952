"""What the caller of a Termina table asked for, checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import Any, Literal

import numpy as np

from cohortlib.engine import memory
from cohortlib.engine.progress import Progress, check_progress
from cohortlib.engine.threads import workers_for
from cohortlib.errors import SettingError, listed, one_of
from cohortlib.periods import Calendar, Freq, check_zone, span
from cohortlib.read.nulls import Nulls
from cohortlib.read.tables import Source

Refunds = Literal["net", "signed", "drop"]
BeforeJoined = Literal["error", "clip", "drop"]


@dataclass(frozen=True)
class Settings:
    """What the caller asked for, checked.

    The fields are the arguments of :func:`cohortlib.termina.cohorts`, under their names.
    """

    user: str = "user_id"
    timestamp: str = "timestamp"
    amount: str = "amount"
    freq: Freq = "M"
    timezone: str = "UTC"
    week_start: str = "monday"
    refunds: Refunds = "net"
    joined: Source | None = None
    before_joined: BeforeJoined = "error"
    start: str | date | datetime | None = None
    end: str | date | datetime | None = None
    complete_only: bool = False
    nulls: Nulls = "error"
    decimals: int = 6
    threads: int | None = None
    progress: Progress | None = None
    max_memory: int | str | None = None

    def __post_init__(self) -> None:
        names = {"user": self.user, "timestamp": self.timestamp, "amount": self.amount}
        for role, name in names.items():
            if not isinstance(name, str):
                raise SettingError(f"{role}={name!r} is not a column's name; expected a string")
        if len(set(names.values())) < 3:
            raise SettingError(f"user, timestamp and amount name {listed(names.values())}; expected three columns")
        Calendar(self.freq, self.week_start)
        one_of("refunds", self.refunds, ("net", "signed", "drop"))
        one_of("before_joined", self.before_joined, ("error", "clip", "drop"))
        one_of("nulls", self.nulls, ("error", "drop"))
        one_of("complete_only", self.complete_only, (True, False))
        one_of("decimals", self.decimals, range(10))
        workers_for(self.threads)
        check_progress(self.progress)
        check_zone(self.timezone)
        if self.max_memory is not None:  # what is free is looked up when it is asked for
            memory.budget(self.max_memory)
        first, last = self.edges()
        if first is not None and last is not None and first > last:
            raise SettingError(f"start={self.start!r} lies after end={self.end!r}; expected start before end")

    @property
    def calendar(self) -> Calendar:
        """How days become periods."""
        return Calendar(self.freq, self.week_start)

    @property
    def roles(self) -> list[str]:
        """The columns of users, instants and amounts."""
        return [self.user, self.timestamp, self.amount]

    @property
    def reading(self) -> dict[str, Any]:
        """Arguments of :func:`cohortlib.read.transactions.parse_transactions` other than the columns."""
        return {"nulls": self.nulls, "decimals": self.decimals, "zone": self.timezone, "calendar": self.calendar}

    def joined_in(self, columns: Sequence[str]) -> bool:
        """Tell whether `joined` names one of some columns."""
        return isinstance(self.joined, str) and self.joined in columns

    def wanted(self, columns: Sequence[str]) -> list[str]:
        """Name what is to be read of some columns."""
        return [*self.roles, *([str(self.joined)] if self.joined_in(columns) else [])]

    @property
    def scale(self) -> int:
        """Units of money in one."""
        return int(10**self.decimals)

    @property
    def workers(self) -> int:
        """Number of threads."""
        return workers_for(self.threads)

    def ordinal(self, day: int) -> int:
        """Give the period of a day (since 1970-01-01)."""
        return int(self.calendar.ordinals(np.array([day]))[0])

    @cached_property
    def budget(self) -> int:
        """Bytes that may be taken."""
        return memory.budget(self.max_memory)

    def edges(self) -> tuple[int | None, int | None]:
        """Give the ordinals that `start` and `end` name."""
        first = None if self.start is None else self.calendar.ordinal(span("start", self.start)[0])
        last = None if self.end is None else self.calendar.ordinal(span("end", self.end)[1])
        return first, last

    def bounds(self, last_day: int | None) -> tuple[int | None, int | None]:
        """Give the ordinals of the first cohort to show and of the right edge, where the last row is of `last_day`."""
        first, last = self.edges()
        if last_day is None:
            return first, last
        told, after = self.calendar.ordinals(last_day + np.arange(2)).tolist()
        last = told if last is None else last
        return first, last - 1 if self.complete_only and told == after == last else last

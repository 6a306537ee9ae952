"""Install dates of all profiles, sorted for lookup."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.adapty import filters
from cohortlib.adapty.arrays import Days, People, bits_of
from cohortlib.adapty.question import Question, Segments
from cohortlib.engine.partitions import Partitions, WriteColumns
from cohortlib.engine.threads import workers_for
from cohortlib.errors import DataError
from cohortlib.read.arrays import Ints, Keys
from cohortlib.read.nulls import Dropped
from cohortlib.read.users import Users


class Listed(NamedTuple):
    """The columns of installs in `Partitions`."""

    keys: Keys
    keys2: Keys
    days: NDArray[np.int32]
    passes: NDArray[np.int32]


def copy_of(columns: Sequence[NDArray[Any]], order: NDArray[np.intp], out: Sequence[NDArray[Any]]) -> None:
    """Write columns in an order, those that are there."""
    for values, place in zip(columns, out, strict=True):
        if place.size:
            np.take(values, order, out=place, mode="clip")


@dataclass(frozen=True)
class Installs:
    """Who installed, and when: a table of users, ready counts by date, or what the events say."""

    frame: pl.DataFrame | None
    dropped: Dropped = field(default_factory=Dropped)
    """The rows left out for nulls, and the columns in which these are."""

    @property
    def users(self) -> pl.Series | None:
        """The users, where they are told one by one."""
        return self.frame["user"] if self.frame is not None and "user" in self.frame.columns else None

    def counts(self, segments: Segments, question: Question) -> Ints:
        """Add up ready counts, where there are any."""
        total = np.zeros(len(segments), np.int64)
        if self.frame is None or self.users is not None:
            return total
        passing = filters.installs(self.frame, question.request.filters)
        frame = self.frame if passing is None else self.frame.filter(passing)
        everybody, most = sum(frame["installs"].to_list()), 2**63 // 10**question.decimals
        if everybody >= most:
            raise DataError(
                f"column 'installs' adds up to {everybody:,}; expected fewer than {most:,}, the range of 64-bit "
                f"integers with decimals={question.decimals}"
            )
        days = Days.of(frame["install_date"], question.timezone)(0, frame.height)
        inside = (days >= segments.first) & (days <= segments.last)
        np.add.at(total, segments.of_day[days[inside] - segments.first], frame["installs"].to_numpy()[inside])
        return total

    def partitions(self, users: Users | None, bits: int, question: Question) -> Partitions:
        """Order the table of users."""
        types = ((np.uint64, True), (np.uint64, users is not None and users.wide), (np.int32, True), (np.int32, True))
        if self.frame is None or users is None or not len(users):
            return Partitions.empty(bits, types)
        days = Days.of(self.frame["install_date"], question.timezone)
        passes = bits_of(filters.installs(self.frame, question.request.filters))
        people = People.of(users)

        def block(first: int, size: int) -> tuple[Keys, WriteColumns]:
            passing = np.ones(size, np.int32)
            if passes is not None:
                passing = passes[first : first + size].astype(np.int32)
            lines = np.arange(first, first + size, dtype=np.uint32)
            keys, keys2 = people(first, size, lines)
            return keys, partial(copy_of, (keys, keys2, days(first, size), passing))

        return Partitions.of(len(users), bits, workers_for(question.threads), block, types)

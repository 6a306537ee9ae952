"""Whose money, and of which days, is the difference between two cohort tables.

The money of a segment is the sum over its users, and over days, whatever the columns are. So what one side lacks or
has twice shows in the totals of the segments: these are compared with the sums of each user, and of each run of days.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NEAR = 0.011  # of a sum of amounts that one side may have rounded to cents
LONGEST = 45  # days of a run that is looked for by its segments
MOST_PAIRED = 4000  # users of a segment of whom every two are tried
MONEY = ("revenue", "proceeds", "net_revenue")


@dataclass(frozen=True)
class Amounts:
    """The money of every user and day, by segment.

    Attributes
    ----------
    rows
        A row for each movement of money of a member: `user`, `day` and `day of UTC` (since 1970-01-01), `segment`, and
        the moneys, those of refunds below 0.
    segments
        The number of segments.
    """

    rows: pl.DataFrame
    segments: int

    @cached_property
    def users(self) -> pl.DataFrame:
        """The sums of each user."""
        return self.rows.group_by("segment", "user").agg(pl.col(MONEY).sum()).sort("segment", "user")

    def _by_day(self, clock: str) -> tuple[int, Floats]:
        """Give the first day, and the revenue by day and segment."""
        if self.rows.is_empty():
            return 0, np.zeros((0, self.segments))
        days = self.rows[clock].to_numpy()
        first, count = int(days.min()), int(days.max() - days.min()) + 1
        revenue = np.zeros((count, self.segments))
        np.add.at(revenue, (days - first, self.rows["segment"].to_numpy()), self.rows["revenue"].to_numpy())
        return first, revenue

    def users_of(self, segment: int, amounts: Floats) -> list[tuple[object, ...]]:
        """Find the users of a segment who have these amounts: single ones, the nearest first, or else two together."""
        users = self.users.filter(pl.col("segment") == segment)
        sums, names = users.select(MONEY).to_numpy(), users["user"].to_list()
        apart = np.abs(sums - amounts)
        alone = np.flatnonzero((apart <= NEAR).all(axis=1))
        alone = alone[np.argsort(apart[alone].sum(axis=1), kind="stable")]
        if alone.size or not 2 <= len(names) <= MOST_PAIRED:
            return [(names[at],) for at in alone]
        return [(names[one], names[other]) for one, other in _pairs(sums, amounts)]

    def runs_of(self, wanted: Floats, most: int, clock: str = "day") -> list[tuple[int, int]]:
        """Find the runs of days whose revenue by segment is nearest to what is wanted, first and last day of each.

        Judged is in how many segments a run comes to what is wanted, less those where it comes to something else.
        """
        first, revenue = self._by_day(clock)
        if not len(revenue) or not (np.abs(wanted) > NEAR).any():
            return []
        sums = np.concatenate([np.zeros((1, self.segments)), revenue.cumsum(axis=0)])
        found: dict[tuple[int, int], int] = {}
        for begin, end in _spans(sums, wanted):
            run = sums[end] - sums[begin]
            hits = (np.abs(run - wanted) <= NEAR) & (np.abs(wanted) > NEAR)
            misses = (np.abs(run - wanted) > NEAR) & (np.abs(run) > NEAR)
            scores = hits.sum(axis=1) - misses.sum(axis=1)
            best = np.argsort(-scores, kind="stable")[:most]
            found |= {(int(begin[at]), int(end[at])): int(scores[at]) for at in best if hits[at].any()}
        likeliest = sorted(found, key=lambda run: (-found[run], run[1] - run[0], run))
        # A run that begins or ends with days without money is one of fewer days.
        busy = np.asarray(revenue.any(axis=1))
        runs = (_trimmed(run, busy) for run in likeliest if found[run] > 0)
        return [(first + begin, first + end - 1) for begin, end in dict.fromkeys(runs) if begin < end][:most]


def _trimmed(run: tuple[int, int], busy: NDArray[np.bool_]) -> tuple[int, int]:
    places = np.flatnonzero(busy[run[0] : run[1]])
    return (run[0] + int(places[0]), run[0] + int(places[-1]) + 1) if places.size else (run[0], run[0])


def _spans(sums: Floats, wanted: Floats) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Give the runs worth a look, where they begin and end: short ones, last ones, and those of the whole sum."""
    days = np.arange(len(sums) - 1)
    for length in range(1, min(LONGEST, days.size) + 1):
        yield days[: days.size - length + 1], days[: days.size - length + 1] + length
    yield days, np.full(days.size, days.size)
    # Whole runs of any length that make up the sum of all segments.
    whole = sums.sum(axis=1)
    order = np.argsort(whole, kind="stable")
    low = np.searchsorted(whole[order], whole + wanted.sum() - NEAR, side="left")
    high = np.searchsorted(whole[order], whole + wanted.sum() + NEAR, side="right")
    begin = np.repeat(np.arange(whole.size), np.minimum(high - low, 8))
    end = np.concatenate([order[a : a + 8][: b - a] for a, b in zip(low, high, strict=True)] or [order[:0]])
    later = end > begin
    if later.any():
        yield begin[later], end[later]


def _pairs(sums: Floats, amounts: Floats) -> list[tuple[int, int]]:
    """Find two rows that make up some amounts together."""
    known: defaultdict[int, list[int]] = defaultdict(list)
    cents = np.rint(sums[:, 0] * 100).astype(np.int64)
    for at, cent in enumerate(cents.tolist()):
        known[cent].append(at)
    target = round(float(amounts[0]) * 100)
    found = []
    for one, cent in enumerate(cents.tolist()):
        for other in (at for near in (-1, 0, 1) for at in known.get(target - cent + near, ()) if at > one):
            if (np.abs(sums[one] + sums[other] - amounts) <= NEAR).all():
                found.append((one, other))
                if len(found) >= 20:
                    return found
    return found

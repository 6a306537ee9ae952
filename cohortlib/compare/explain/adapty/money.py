"""Find the users and the days whose money equals the difference of a segment.

A segment's total is the sum of its users, and also the sum of its days, for any columns of the table. So rows that are
missing or duplicated on one side change the totals of segments, which are compared with the sums of users and of runs
of days.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.fields import MONEY

Floats = NDArray[np.float64]

CLOSE = 0.011  # difference of equal sums, one of which may be rounded to cents
_LONGEST_RUN = 45  # days of a run that may lie anywhere
_MAX_USERS_PAIRED = 4000  # users of a segment; above it pairs are not searched
_MAX_PAIRS = 20
_MAX_ENDS = 8  # runs per first day that have the right sum over all segments


@dataclass(frozen=True)
class UserMoney:
    """The money of each user and day, by segment."""

    # One row per payment or refund: `user`, `day` and `utc_day` (since 1970-01-01), `segment`, the number of the `row`
    # in the events, and the money columns, negative for refunds.
    rows: pl.DataFrame
    segments: int

    @cached_property
    def by_user(self) -> pl.DataFrame:
        """The money of each user and segment."""
        return self.rows.group_by("segment", "user").agg(pl.col(MONEY).sum()).sort("segment", "user")

    def _by_day(self, day: str) -> tuple[int, Floats]:
        """Return the first day, and the revenue by day and segment."""
        if self.rows.is_empty():
            return 0, np.zeros((0, self.segments))
        days = self.rows[day].to_numpy()
        first, count = int(days.min()), int(days.max() - days.min()) + 1
        revenue = np.zeros((count, self.segments))
        np.add.at(revenue, (days - first, self.rows["segment"].to_numpy()), self.rows["revenue"].to_numpy())
        return first, revenue

    def users_with(self, segment: int, amounts: Floats) -> list[tuple[object, ...]]:
        """Find the users of a segment with these amounts, closest first; without any, pairs of users."""
        users = self.by_user.filter(pl.col("segment") == segment)
        sums, names = users.select(MONEY).to_numpy(), users["user"].to_list()
        distance = np.abs(sums - amounts)
        single = np.flatnonzero((distance <= CLOSE).all(axis=1))
        single = single[np.argsort(distance[single].sum(axis=1), kind="stable")]
        if single.size or not 2 <= len(names) <= _MAX_USERS_PAIRED:
            return [(names[index],) for index in single]
        return [(names[first], names[second]) for first, second in _pairs(sums, amounts)]

    def runs_with(self, target: Floats, limit: int, day: str = "day") -> list[tuple[int, int]]:
        """Find the runs of days, as first and last day, whose revenue by segment is closest to a target.

        The score of a run is the number of segments in which it equals the target, minus those in which it has revenue
        but does not.
        """
        first, revenue = self._by_day(day)
        if not len(revenue) or not (np.abs(target) > CLOSE).any():
            return []
        cumulative = np.concatenate([np.zeros((1, self.segments)), revenue.cumsum(axis=0)])
        scores: dict[tuple[int, int], int] = {}
        for begin, end in _ranges(cumulative, target):
            sums = cumulative[end] - cumulative[begin]
            hits = (np.abs(sums - target) <= CLOSE) & (np.abs(target) > CLOSE)
            misses = (np.abs(sums - target) > CLOSE) & (np.abs(sums) > CLOSE)
            score = hits.sum(axis=1) - misses.sum(axis=1)
            best = np.argsort(-score, kind="stable")[:limit]
            scores |= {(int(begin[index]), int(end[index])): int(score[index]) for index in best if hits[index].any()}
        ranked = sorted(scores, key=lambda run: (-scores[run], run[1] - run[0], run))
        # Runs that differ only by days without revenue are the same.
        has_revenue = np.asarray(revenue.any(axis=1))
        runs = (_trimmed(run, has_revenue) for run in ranked if scores[run] > 0)
        return [(first + begin, first + end - 1) for begin, end in dict.fromkeys(runs) if begin < end][:limit]


def _trimmed(run: tuple[int, int], has_revenue: NDArray[np.bool_]) -> tuple[int, int]:
    indices = np.flatnonzero(has_revenue[run[0] : run[1]])
    return (run[0] + int(indices[0]), run[0] + int(indices[-1]) + 1) if indices.size else (run[0], run[0])


def _ranges(cumulative: Floats, target: Floats) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield the ranges to check, as begins and ends: short ones, those up to the last day, those with the right sum."""
    days = np.arange(len(cumulative) - 1)
    for length in range(1, min(_LONGEST_RUN, days.size) + 1):
        yield days[: days.size - length + 1], days[: days.size - length + 1] + length
    yield days, np.full(days.size, days.size)
    # Ranges of any length whose sum over all segments equals that of the target.
    total = cumulative.sum(axis=1)
    order = np.argsort(total, kind="stable")
    low = np.searchsorted(total[order], total + target.sum() - CLOSE, side="left")
    high = np.searchsorted(total[order], total + target.sum() + CLOSE, side="right")
    begin = np.repeat(np.arange(total.size), np.minimum(high - low, _MAX_ENDS))
    end = np.concatenate([order[a : a + _MAX_ENDS][: b - a] for a, b in zip(low, high, strict=True)] or [order[:0]])
    forward = end > begin
    if forward.any():
        yield begin[forward], end[forward]


def _pairs(sums: Floats, amounts: Floats) -> list[tuple[int, int]]:
    """Find pairs of rows that add up to amounts, by a hash table of the first amount in cents."""
    indices: defaultdict[int, list[int]] = defaultdict(list)
    cents = np.rint(sums[:, 0] * 100).astype(np.int64)
    for index, cent in enumerate(cents.tolist()):
        indices[cent].append(index)
    target = round(float(amounts[0]) * 100)
    pairs = []
    for first, cent in enumerate(cents.tolist()):
        for second in (at for near in (-1, 0, 1) for at in indices.get(target - cent + near, ()) if at > first):
            if (np.abs(sums[first] + sums[second] - amounts) <= CLOSE).all():
                pairs.append((first, second))
                if len(pairs) >= _MAX_PAIRS:
                    return pairs
    return pairs

"""Concentration: how the amount of a period is spread over its active users.

Percentiles and the Gini coefficient need all amounts of a period, sorted; they do not follow from sums. Amounts are
gathered for as many periods at a time as memory allows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import polars as pl

from cohortlib.engine import ratios
from cohortlib.engine.threads import on_threads
from cohortlib.fields import CONCENTRATION, ENDPOINT_CDF, ENDPOINT_TOP_USERS, TIME_SERIES_METRICS, schema
from cohortlib.read.arrays import Ints
from cohortlib.transactions.activity import Activity
from cohortlib.transactions.doubts import warn_of_years
from cohortlib.transactions.grid import Grid
from cohortlib.transactions.kernels.concentration import count_active, gather_amounts
from cohortlib.transactions.loaded import LoadedRows
from cohortlib.transactions.settings import Settings

_Result = TypeVar("_Result")

TOP_USERS = 100  # of the last period
_SHARE = 4  # amounts take at most 1 / _SHARE of the memory
RANKED: dict[str, Any] = {"user_id": pl.String, "units": pl.Int64}


def concentration_frames(loaded: LoadedRows) -> dict[str, pl.DataFrame]:
    """Return the three frames of concentration by name."""
    if not loaded.span:
        return frames_of(loaded.settings, loaded.grid, np.empty(0, np.int64), iter(()), pl.DataFrame(schema=RANKED))
    users = _Users(loaded)
    counts, top = users.summary()
    return frames_of(loaded.settings, loaded.grid, counts, users.sorted_amounts(counts), top)


def frames_of(
    settings: Settings, grid: Grid, counts: Ints, amounts: Iterator[Ints], top: pl.DataFrame
) -> dict[str, pl.DataFrame]:
    """Return the three frames.

    Parameters
    ----------
    counts
        Active users of each period of the grid.
    amounts
        Yields the amounts of each period that has active users, ascending.
    top
        The largest users of the last period: `user_id` as text and `units`, in order.
    """
    warn_of_years(counts, grid, settings)
    first = int(np.argmax(counts > 0)) if counts.any() else counts.size
    last = np.empty(0, np.int64)
    rows: list[dict[str, float]] = []
    for count in counts[first:].tolist():
        last = next(amounts) if count else last[:0]
        rows.append(_spread(last, settings.scale) if count else {})
    columns = {name: [row.get(name) for row in rows] for name in TIME_SERIES_METRICS}
    columns["date"] = grid.labels(settings.calendar)[first:].to_list()
    series = pl.DataFrame(columns, schema=schema(TIME_SERIES_METRICS))[max(grid.first - first, 0) :]
    return dict(zip(CONCENTRATION, (series, _top_users(last, top, settings), _cdf(last, settings)), strict=True))


def _spread(amounts: Ints, scale: int) -> dict[str, float]:
    """Return the metrics of a period. Each is a quotient of two integers, rounded once.

    >>> spread = _spread(np.array([1, 1, 2, 6]), 1)
    >>> spread["top_10_percent"], spread["median"], spread["p75"], spread["gini_coefficient"]
    (0.6, 1.5, 3.0, 0.4)
    """
    users = amounts.size
    sums = np.cumsum(amounts)  # the sum of all fits 64 bits
    total = int(sums[-1])

    def top(count: int) -> float:
        return (total - int(sums[users - count - 1]) if count < users else total) / total

    def percentile(percent: int) -> int:
        """Return a percentile in hundredths of a unit."""
        below, part = divmod((users - 1) * percent, 100)
        low, high = amounts[below : below + 2].tolist() if part else (int(amounts[below]), 0)
        return int(low) * (100 - part) + int(high) * part

    # Σ i · x = (n + 1) · Σ x − Σ of the cumulative sums, here from halves that cannot overflow.
    cumulative = (int((sums >> 32).sum()) << 32) + int((sums & 0xFFFFFFFF).sum())
    return {
        **{f"top_{count}_count": top(count) for count in (5, 10, 20)},
        **{f"top_{percent}_percent": top(-(-users * percent // 100)) for percent in (10, 20)},
        "mean": total / (users * scale),
        **{f"p{percent}": percentile(percent) / (100 * scale) for percent in (25, 75, 90)},
        "median": percentile(50) / (100 * scale),
        "average_to_median": 100 * total / (users * percentile(50)),
        "gini_coefficient": ((users + 1) * total - 2 * cumulative) / (users * total),
    }


def _top_users(amounts: Ints, top: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    """Return the largest users of a period, with their shares of its amounts."""
    units = top["units"].to_numpy()
    total = amounts.sum(keepdims=True) if amounts.size else np.ones(1, np.int64)
    return pl.DataFrame(
        {
            "user_id": top["user_id"],
            "amount": ratios.money(units, settings.scale),
            "amount_percent": ratios.quotient(units, np.repeat(total, units.size)),
        },
        schema=schema(ENDPOINT_TOP_USERS),
    )


def _cdf(amounts: Ints, settings: Settings) -> pl.DataFrame:
    """Return the cumulative distribution of a period's amounts: at each percent of users, and at each top user."""
    users = amounts.size
    quantiles = np.unique(-(-users * np.arange(1, 101, dtype=np.int64) // 100)) if users else amounts
    tops = np.arange(max(users - TOP_USERS, 0), users, dtype=np.int64) + 1
    index = np.concatenate([quantiles, tops])
    order = np.argsort(index, kind="stable")  # at one index the quantile comes first
    index = index[order]
    sums = np.cumsum(amounts)
    return pl.DataFrame(
        {
            "method": np.where(order < quantiles.size, "distribution_quantile", "top_user").tolist(),
            "amount": ratios.money(amounts[index - 1], settings.scale),
            "cdf_users": ratios.quotient(index, np.full(index.size, users)),
            "cdf_amount": ratios.quotient(sums[index - 1], np.repeat(sums[-1:], index.size)),
        },
        schema=schema(ENDPOINT_CDF),
    )


@dataclass(frozen=True)
class _Users:
    """The netted users, part by part."""

    loaded: LoadedRows

    @cached_property
    def _single(self) -> tuple[Activity, pl.Series]:
        """The users of the only part, which are netted once."""
        return self.loaded.activity()

    def _each_part(self, work: Callable[[Activity, pl.Series], _Result]) -> list[_Result]:
        """Call `work` for the users of each part and the column of their ids."""
        if self.loaded.parts == 1:
            return [work(*self._single)]
        workers = self.loaded.settings.workers
        results = on_threads(workers, lambda part: work(*self.loaded.activity(part)), range(self.loaded.parts))
        self.loaded.finish()
        return results

    def summary(self) -> tuple[Ints, pl.DataFrame]:
        """Count the active users of each period, and return the largest users of the last one."""
        span = self.loaded.span

        def work(users: Activity, user_ids: pl.Series) -> tuple[Ints, pl.DataFrame]:
            counts = np.zeros(span, np.int64)
            count_active(users.period, users.active, counts)
            return counts, largest(users, user_ids, span - 1)

        counts, top = zip(*self._each_part(work), strict=True)
        return np.sum(counts, axis=0), ranked(pl.concat(top))

    def sorted_amounts(self, counts: Ints) -> Iterator[Ints]:
        """Yield the amounts of each period that has active users, ascending."""
        most = max(1, self.loaded.settings.budget // _SHARE // counts.itemsize)
        ends = np.cumsum(counts)
        first = 0
        while first < counts.size:
            before = int(ends[first] - counts[first])
            end = max(first + 1, int(np.searchsorted(ends, before + most, side="right")))
            edges = np.append(before, ends[first:end]) - before
            amounts = self._amounts(first, end, edges)
            pieces = [amounts[begin:until] for begin, until in pairwise(edges.tolist()) if until > begin]
            on_threads(self.loaded.settings.workers, np.ndarray.sort, pieces)
            yield from pieces
            first = end

    def _amounts(self, first: int, end: int, edges: Ints) -> Ints:
        """Return the active amounts of the periods `first` to `end` - 1, each between two edges, in any order."""
        amounts = np.empty(int(edges[-1]), np.int64)
        free = np.zeros(self.loaded.span, np.int64)
        free[first:end] = edges[:-1]
        lock = Lock()

        def work(users: Activity, _: pl.Series) -> None:
            counts = np.zeros(free.size, np.int64)
            count_active(users.period, users.active, counts)
            with lock:
                own = free.copy()
                free[first:end] += counts[first:end]
            gather_amounts(users.period, users.active, users.amount, first, end, own, amounts)

        self._each_part(work)
        return amounts


def largest(users: Activity, user_ids: pl.Series, period: int) -> pl.DataFrame:
    """Return the largest users of a period: ids as text and units, in order."""
    cells = np.flatnonzero((users.period == period) & users.active)
    units = users.amount[cells]
    if units.size > TOP_USERS:  # only these need ids; equal amounts are ranked by id
        cells = cells[units >= np.partition(units, -TOP_USERS)[-TOP_USERS]]
    rows = users.row[np.searchsorted(users.start, cells, side="right") - 1]
    ids = user_ids.gather(rows).cast(pl.String)
    return ranked(pl.DataFrame({"user_id": ids, "units": users.amount[cells]}, schema=RANKED))


def ranked(users: pl.DataFrame) -> pl.DataFrame:
    """Return the largest users, largest first; ties by id as text."""
    return users.sort("units", "user_id", descending=[True, False]).head(TOP_USERS)

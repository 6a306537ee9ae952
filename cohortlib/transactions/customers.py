"""The customer table: sums and rank of each customer, and the table itself, as a whole or in batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine import ratios
from cohortlib.engine.partitions import check_size
from cohortlib.engine.threads import on_threads
from cohortlib.errors import Arg, SettingError, listed
from cohortlib.fields import CUSTOMER_COHORTS, schema
from cohortlib.read.arrays import Ints
from cohortlib.transactions.activity import Activity, Histogram
from cohortlib.transactions.kernels.customers import customer_sums, write_customers
from cohortlib.transactions.keywords import Basis
from cohortlib.transactions.loaded import LoadedRows
from cohortlib.transactions.string_pool import StringPool

Floats = NDArray[np.float64]

_CHUNK = 1 << 10  # customers that a thread writes at a time; their data fits in the second-level cache
_BATCH_ROWS = 1 << 19  # about the rows of a batch


@dataclass(frozen=True)
class Customers:
    """Customers with their sums, and the amounts that each is measured against."""

    loaded: LoadedRows
    users: Activity
    user_ids: StringPool
    total: Ints  # amount in all
    recent: Ints  # amount in the trailing 12 months
    active: Ints  # number of active periods
    factor: Ints
    divisor: Ints  # amount_retention is amount · factor / divisor
    sizes: Floats  # cohort_size_amount: divisor / scale
    offsets: Ints
    means: Floats  # the mean ltv of cohort c at each age, from means[offsets[c]] on; empty for the customer's own ltv

    @classmethod
    def of(
        cls, loaded: LoadedRows, basis: Basis, totals: Histogram | None = None, part: int | None = None
    ) -> "Customers":
        """Net all users, or those of one part, and sum up each.

        `totals` are the sums of the cohorts, if they include users that are not among these.
        """
        users, id_column = loaded.activity(part)
        calendar, scale = loaded.settings.calendar, loaded.settings.scale
        since = calendar.trailing_year(loaded.last) - loaded.grid.origin
        first, total, recent, active = (np.empty(users.cohort.size, np.int64) for _ in range(4))
        user_ids: list[StringPool] = []

        def copy_ids() -> None:
            user_ids.append(StringPool.of(id_column, users.row))

        def sum_up() -> None:
            customer_sums(*users.cells, since, first, total, recent, active)

        on_threads(loaded.settings.workers, lambda work: work(), (copy_ids, sum_up))
        factor, divisor = np.ones(users.cohort.size, np.int64), first
        offsets, means = np.empty(0, np.int64), np.empty(0)
        if basis != "single_customer":
            sums = totals
            if sums is None:
                sums = Histogram.zeros(loaded.span, np.bincount(users.cohort, minlength=loaded.span) > 0)
                sums.add(users)
            divisor = sums.first_amount[users.cohort]
            cohort, _, at = sums.shown_cells(0)
            # One mean per cell, also of cohorts without users, so that a cohort's offset finds its means.
            offsets, means = sums.offsets, np.zeros(sums.active.size)
            means[at] = ratios.ltv(sums.cumulative()[at], sums.size[cohort], scale).to_numpy()
            if basis == "cohort_mean":
                factor = sums.size[users.cohort]
        sizes = ratios.money(divisor, scale).to_numpy(writable=True)
        return cls(loaded, users, user_ids[0], total, recent, active, factor, divisor, sizes, offsets, means)

    @cached_property
    def id_column(self) -> pl.Series:
        """The user ids as a column."""
        return self.user_ids.column("user_id", self.user_ids.views)

    def select(self, top_n: int | None, rank_by: str | pl.Expr | None) -> Ints:
        """Return the customers of the table, in its order: all, or the `top_n`."""
        return self.in_order() if top_n is None else self.top(top_n, rank_by)

    def in_order(self, among: NDArray[np.bool_] | None = None) -> Ints:
        """Return the customers in the order of the table, without cohorts before the first shown."""
        shown = self.users.cohort >= self.loaded.first
        chosen = np.flatnonzero(shown if among is None else shown & among)
        cohort = self.users.cohort[chosen]
        # Sort integers, with the cohort in the high bits and the customer in the low ones.
        order = np.sort(cohort.astype(np.uint64) << np.uint64(32) | chosen.astype(np.uint64))
        chosen = (order & np.uint64(0xFFFFFFFF)).astype(np.int64)
        ends = np.cumsum(np.bincount(cohort, minlength=1))

        def sort(cohort: int) -> None:
            members = chosen[ends[cohort - 1] if cohort else 0 : ends[cohort]]
            members[:] = members[np.argsort(-self.sizes[members])]
            sizes = self.sizes[members]
            self.user_ids.sort(members, np.append(True, sizes[1:] != sizes[:-1]))

        on_threads(self.loaded.settings.workers, sort, np.unique(cohort).tolist())
        return chosen

    def top(self, count: int, rank_by: str | pl.Expr | None) -> Ints:
        """Return the `count` customers that rank highest, in the order of the table."""
        # Sorted by user id, so that expressions that depend on the order of rows (ranks, say) are reproducible.
        customers = np.arange(self.users.cohort.size)
        self.user_ids.sort(customers, customers == 0)
        summary = self.summary(customers)
        if rank_by is None:
            # In 128 bits, because the sum of two sums can exceed 64.
            total, recent = (pl.Series(sums[customers]).cast(pl.Int128) for sums in (self.total, self.recent))
            score = total + recent
        else:
            score = _score(summary, rank_by)
        ranking = pl.DataFrame({"score": score, "customer": customers})
        ranking = ranking.filter(pl.Series(self.users.cohort[customers] >= self.loaded.first))
        # A stable sort: customers with equal scores stay in the order of their ids.
        ranking = ranking.sort("score", descending=True, nulls_last=True, maintain_order=True)
        best = ranking["customer"].head(min(count, len(ranking)))
        among = np.zeros(len(summary), np.bool_)
        among[best.to_numpy()] = True
        return self.in_order(among)

    def summary(self, customers: Ints) -> pl.DataFrame:
        """Return the frame of ids and sums that `rank_by` ranks customers by."""
        scale = self.loaded.settings.scale
        return pl.DataFrame(
            {
                "cohort": self.loaded.labels.gather(self.users.cohort[customers]),
                "user_id": self.id_column.gather(customers),
                "cohort_size_amount": self.sizes[customers],
                "ltv": ratios.money(self.total[customers], scale),
                "acv": ratios.money(self.recent[customers], scale),
                "active_periods": self.active[customers],
            }
        )

    def table(self, chosen: Ints, *, dense: bool) -> pl.DataFrame:
        """Return the table of some customers, in their order."""
        counts = self._row_counts(chosen, dense=dense)
        check_size(int(counts.sum()), (Arg("rows", "active"), ", a coarser ", Arg("freq"), " or ", Arg("top_n")))
        return self._write(chosen, counts, dense=dense)

    def batches(self, chosen: Ints, *, dense: bool) -> Iterator[pl.DataFrame]:
        """Yield the same table in batches."""
        counts = self._row_counts(chosen, dense=dense)
        ends = np.cumsum(counts)
        rows = int(ends[-1]) if ends.size else 0
        cuts = np.unique(np.searchsorted(ends, np.arange(0, rows + _BATCH_ROWS, _BATCH_ROWS)))
        cuts = np.unique(np.append(cuts, chosen.size))
        for begin, end in pairwise(cuts):
            yield self._write(chosen[begin:end], counts[begin:end], dense=dense)

    def _row_counts(self, chosen: Ints, *, dense: bool) -> Ints:
        return self.loaded.span - self.users.cohort[chosen].astype(np.int64) if dense else self.active[chosen]

    def _write(self, chosen: Ints, counts: Ints, *, dense: bool) -> pl.DataFrame:
        span, settings = self.loaded.span, self.loaded.settings
        labels = StringPool.of(self.loaded.labels, np.arange(span, dtype=np.uint32))
        places = np.cumsum(counts) - counts
        height = int(counts.sum())
        cohorts, ids = np.empty(2 * height, np.uint64), np.empty(2 * height, np.uint64)
        age = np.empty(height, np.int64)
        columns = [np.empty(height) for _ in range(5)]

        def write(first: int) -> None:
            chunk = slice(first, first + _CHUNK)
            write_customers(
                chosen[chunk], places[chunk], counts[chunk], *self.users.cells, dense, settings.scale,
                self.factor, self.divisor, self.offsets, self.means, labels.views, self.user_ids.views,
                cohorts, ids, age, *columns,
            )  # fmt: skip

        on_threads(settings.workers, write, range(0, chosen.size, _CHUNK))
        size, logo, money, retention, ltv = columns
        return pl.DataFrame(
            {
                "cohort": labels.column("cohort", cohorts),
                "user_id": self.user_ids.column("user_id", ids),
                "period": age,
                "cohort_size_amount": size,
                "logo_retention": logo,
                "amount": money,
                "amount_retention": pl.Series(retention, nan_to_null=bool((self.divisor == 0).any())),
                "ltv": ltv,
            },
            schema=schema(CUSTOMER_COHORTS),
        )


def _score(summary: pl.DataFrame, rank_by: str | pl.Expr) -> pl.Series:
    """Return the column of the summary to rank by, or evaluate an expression on it."""
    if isinstance(rank_by, str):
        if rank_by not in summary.columns:
            raise SettingError(
                (Arg("rank_by", rank_by), " is not in the summary of customers"),
                value=rank_by, expected=f"one of {listed(summary.columns)}",
            )  # fmt: skip
        return summary[rank_by]
    rank = (Arg("rank_by"), str(rank_by))
    try:
        scores = summary.select(rank_by)
    except Exception as error:
        what = f" cannot be computed on the summary of customers: {error}"
        raise SettingError((*rank, what), value=rank_by) from error
    if scores.width > 1:
        raise SettingError((*rank, f" returned {scores.width} columns"), value=rank_by, expected="one column")
    if scores.height != summary.height:
        what = f" returned {scores.height} values for {summary.height} customers"
        raise SettingError((*rank, what), value=rank_by, expected="one value per customer")
    return scores.to_series()

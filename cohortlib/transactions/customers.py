"""The customer table: sums and rank of each customer, and the table itself, as a whole or in batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine import ratios
from cohortlib.engine.buffers import empty
from cohortlib.engine.partitions import check_size
from cohortlib.engine.threads import on_threads
from cohortlib.errors import Arg, SettingError, listed
from cohortlib.fields import CUSTOMER_COHORTS, schema
from cohortlib.read.arrays import Ints, Keys
from cohortlib.transactions.activity import Activity, Histogram
from cohortlib.transactions.kernels.customers import (
    Comparison,
    CustomerRows,
    CustomerSums,
    customer_sums,
    write_customers,
)
from cohortlib.transactions.keywords import Basis
from cohortlib.transactions.loaded import LoadedRows
from cohortlib.transactions.ordering import descending, texts_of, user_order

Floats = NDArray[np.float64]

_CHUNK = 1 << 9  # customers that a thread writes at a time; their data fits in the second-level cache
_SLICE = 1 << 16  # customers that a thread sums up at a time
_BATCH_ROWS = 1 << 19  # about the rows of a batch


@dataclass(frozen=True)
class Customers:
    """Customers with their sums, and the amounts that each is measured against."""

    loaded: LoadedRows
    users: Activity
    ids: pl.Series  # the id of each user
    sums: CustomerSums
    comparison: Comparison

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
        count = users.cohort.size
        customers = CustomerSums(*(empty(count, np.int64) for _ in range(4)))

        def sum_up(first: int) -> None:
            customer_sums(first, min(first + _SLICE, count), users.cells, since, customers)

        on_threads(loaded.settings.workers, sum_up, range(0, count, _SLICE))
        factor, divisor = np.ones(count, np.int64), customers.first
        offsets, means = np.empty(0, np.int64), np.empty(0)
        if basis != "single_customer":
            sums = totals
            if sums is None:
                sums = Histogram.zeros(loaded.span, np.bincount(users.cohort, minlength=loaded.span) > 0)
                sums.add(users)
            divisor = sums.first_amount[users.cohort]
            cohort, _, at = sums.cells_of(sums.shown(0))
            # One mean per cell, also of cohorts without users, so that a cohort's offset finds its means.
            offsets, means = sums.offsets, np.zeros(sums.active.size)
            means[at] = ratios.ltv(sums.cumulative()[at], sums.size[cohort], scale).to_numpy()
            if basis == "cohort_mean":
                factor = sums.size[users.cohort]
        comparison = Comparison(factor, divisor, offsets, means)
        return cls(loaded, users, id_column.gather(users.row), customers, comparison)

    @cached_property
    def names(self) -> pl.Series:
        """The user ids as text."""
        if self.ids.dtype != pl.String:
            return self.ids.cast(pl.String)
        return self.ids + ""  # a copy, as the ids of a few users refer to the text of all rows

    @property
    def user_ids(self) -> pl.Series:
        """The user ids as they are shown."""
        native = self.loaded.settings.ids == "native" and self.ids.dtype in (pl.Int64, pl.UInt64)
        return self.ids if native else self.names

    @cached_property
    def labels(self) -> pl.Series:
        """The labels of the periods as they are shown."""
        labels = self.loaded.labels
        return labels.cast(pl.Enum(labels)) if self.loaded.settings.ids == "native" else labels

    @property
    def schema(self) -> dict[str, pl.DataType | type[pl.DataType]]:
        """The types of the table's columns."""
        return schema(CUSTOMER_COHORTS) | {"cohort": self.labels.dtype, "user_id": self.user_ids.dtype}

    @cached_property
    def sizes(self) -> Floats:
        """cohort_size_amount of each customer."""
        return ratios.money(self.comparison.divisor, self.loaded.settings.scale).to_numpy(writable=True)

    def _order(self, chosen: NDArray[np.bool_], cohort: NDArray[np.int32], sizes: Keys) -> Ints:
        return user_order(cohort, chosen, sizes, texts_of(self.names), self.loaded.settings.workers)

    def select(self, top_n: int | None, rank_by: str | pl.Expr | None) -> Ints:
        """Return the customers of the table, in its order: all, or the `top_n`."""
        return self.in_order() if top_n is None else self.top(top_n, rank_by)

    def in_order(self, among: NDArray[np.bool_] | None = None) -> Ints:
        """Return the customers in the order of the table, without cohorts before the first shown."""
        shown = self.users.cohort >= self.loaded.first
        sizes = descending(self.comparison.divisor, lambda: self.sizes)
        return self._order(shown if among is None else shown & among, self.users.cohort, sizes)

    def top(self, count: int, rank_by: str | pl.Expr | None) -> Ints:
        """Return the `count` customers that rank highest, in the order of the table."""
        # Sorted by user id, so that expressions that depend on the order of rows (ranks, say) are reproducible.
        everyone = np.ones(self.users.cohort.size, np.bool_)
        customers = self._order(everyone, np.zeros(everyone.size, np.int32), np.zeros(everyone.size, np.uint64))
        summary = self.summary(customers)
        if rank_by is None:
            # In 128 bits, because the sum of two sums can exceed 64.
            total, recent = (pl.Series(sums[customers]).cast(pl.Int128) for sums in (self.sums.total, self.sums.recent))
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
                "user_id": self.names.gather(customers),
                "cohort_size_amount": self.sizes[customers],
                "ltv": ratios.money(self.sums.total[customers], scale),
                "acv": ratios.money(self.sums.recent[customers], scale),
                "active_periods": self.sums.active[customers],
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
        return self.loaded.span - self.users.cohort[chosen].astype(np.int64) if dense else self.sums.active[chosen]

    def _write(self, chosen: Ints, counts: Ints, *, dense: bool) -> pl.DataFrame:
        settings = self.loaded.settings
        places = np.zeros(chosen.size + 1, np.int64)
        np.cumsum(counts, out=places[1:])
        height = int(places[-1])
        rows = CustomerRows(
            empty(height, np.uint32), empty(height, np.int64), *(empty(height, np.float64) for _ in range(5))
        )

        def write(first: int) -> None:
            last = min(first + _CHUNK, chosen.size)
            write_customers(first, last, chosen, places, self.users.cells, self.comparison, dense, settings.scale, rows)

        on_threads(settings.workers, write, range(0, chosen.size, _CHUNK))
        labels = self.labels.gather(self.users.cohort[chosen])
        customer = pl.Series(rows.customer)

        def spread(values: pl.Series) -> pl.Series:
            return values.gather(customer)

        cohorts, names = on_threads(settings.workers, spread, (labels, self.user_ids.gather(chosen)))
        nulls = bool((self.comparison.divisor == 0).any())
        return pl.DataFrame(
            {
                "cohort": cohorts,
                "user_id": names,
                "period": rows.age,
                "cohort_size_amount": rows.size,
                "logo_retention": rows.logo,
                "amount": rows.amount,
                "amount_retention": pl.Series(rows.retention, nan_to_null=nulls),
                "ltv": rows.ltv,
            },
            schema=self.schema,
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

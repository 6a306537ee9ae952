"""The customers one by one: their sums, their order, and their table, written once or piece by piece."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine import ratios
from cohortlib.engine.partitions import check_size
from cohortlib.engine.threads import on_threads
from cohortlib.errors import SettingError, listed
from cohortlib.fields import CUSTOMER_COHORTS, schema
from cohortlib.read.arrays import Ints
from cohortlib.transactions.activity import Activity, Histogram
from cohortlib.transactions.kernels.customers import customer_sums, lay_out
from cohortlib.transactions.loaded import LoadedRows
from cohortlib.transactions.names import Texts

Basis = Literal["single_customer", "cohort_total", "cohort_mean"]
Rows = Literal["dense", "active"]
Floats = NDArray[np.float64]

_RUN = 1 << 10  # customers that one thread writes at a time; what is known of them fits in the second-level cache
_PIECE = 1 << 19  # rows of a piece, about


@dataclass(frozen=True)
class Customers:
    """All customers, the sums of each, and what each is measured against."""

    loaded: LoadedRows
    users: Activity
    names: Texts
    total: Ints
    recent: Ints
    active: Ints
    factor: Ints
    divisor: Ints
    sizes: Floats
    offsets: Ints
    means: Floats

    @classmethod
    def of(
        cls, loaded: LoadedRows, basis: Basis, totals: Histogram | None = None, part: int | None = None
    ) -> "Customers":
        """Net everybody, or one part, and add up each.

        `totals` are those of the cohorts, where there are other users than here.
        """
        users, texts = loaded.activity(part)
        calendar, scale = loaded.settings.calendar, loaded.settings.scale
        since = calendar.trailing_year(loaded.last) - loaded.grid.origin
        first, total, recent, active = (np.empty(users.cohort.size, np.int64) for _ in range(4))
        names: list[Texts] = []

        def name() -> None:
            names.append(Texts.of(texts, users.row))

        def add() -> None:
            customer_sums(*users.cells, since, first, total, recent, active)

        on_threads(loaded.settings.workers, lambda work: work(), (name, add))
        factor, divisor = np.ones(users.cohort.size, np.int64), first
        offsets, means = np.empty(0, np.int64), np.empty(0)
        if basis != "single_customer":
            sums = totals
            if sums is None:
                sums = Histogram.zero(loaded.span, np.bincount(users.cohort, minlength=loaded.span) > 0)
                sums.add(users)
            divisor = sums.first_amount[users.cohort]
            cohort, _, at = sums.grid(0)
            # One for each cell, also of cohorts that nobody is in: a user's is found by the offset of the cohort.
            offsets, means = sums.offsets, np.zeros(sums.active.size)
            means[at] = ratios.ltv(sums.cumulative()[at], sums.size[cohort], scale).to_numpy()
            if basis == "cohort_mean":
                factor = sums.size[users.cohort]
        sizes = ratios.money(divisor, scale).to_numpy(writable=True)
        return cls(loaded, users, names[0], total, recent, active, factor, divisor, sizes, offsets, means)

    @cached_property
    def text(self) -> pl.Series:
        """The names as a column."""
        return self.names.column("user_id", self.names.views)

    def chosen(self, top_n: int | None, rank_by: str | pl.Expr | None) -> Ints:
        """Give the customers of the table, in its order: all, or those that rank highest."""
        return self.ranked() if top_n is None else self.top(top_n, rank_by)

    def ranked(self, among: NDArray[np.bool_] | None = None) -> Ints:
        """Give the customers in the order of the table, those of cohorts before the first shown left out."""
        shown = self.users.cohort >= self.loaded.first
        chosen = np.flatnonzero(shown if among is None else shown & among)
        cohort = self.users.cohort[chosen]
        # A sort of whole numbers: the cohort above, the customer below.
        order = np.sort(cohort.astype(np.uint64) << np.uint64(32) | chosen.astype(np.uint64))
        chosen = (order & np.uint64(0xFFFFFFFF)).astype(np.int64)
        ends = np.cumsum(np.bincount(cohort, minlength=1))

        def sort(cohort: int) -> None:
            mine = chosen[ends[cohort - 1] if cohort else 0 : ends[cohort]]
            mine[:] = mine[np.argsort(-self.sizes[mine])]
            sizes = self.sizes[mine]
            self.names.sort(mine, np.append(True, sizes[1:] != sizes[:-1]))

        on_threads(self.loaded.settings.workers, sort, np.unique(cohort).tolist())
        return chosen

    def top(self, count: int, rank_by: str | pl.Expr | None) -> Ints:
        """Give the `count` customers that rank highest, in the order of the table."""
        # By user, so that an expression that looks at the order of rows (a rank, say) sees always the same.
        customers = np.arange(self.users.cohort.size)
        self.names.sort(customers, customers == 0)
        summary = self.summary(customers)
        if isinstance(rank_by, str):
            if rank_by not in summary.columns:
                raise SettingError(
                    f"rank_by={rank_by!r} is not in the summary of customers; columns are {listed(summary.columns)}"
                )
            score = summary[rank_by]
        elif rank_by is None:
            # The sum of two sums may leave 64 bits.
            total, recent = (pl.Series(sums[customers]).cast(pl.Int128) for sums in (self.total, self.recent))
            score = total + recent
        else:
            try:
                scores = summary.select(rank_by)
            except Exception as error:
                raise SettingError(f"rank_by= cannot be computed on the summary of customers: {error}") from error
            score = scores.to_series()
            if scores.width > 1:
                raise SettingError(f"rank_by={rank_by} gives {scores.width} columns; expected one")
            if len(score) != len(summary):
                raise SettingError(f"rank_by={rank_by} gives {len(score)} values for {len(summary)} customers")
        ranking = pl.DataFrame({"score": score, "customer": customers})
        ranking = ranking.filter(pl.Series(self.users.cohort[customers] >= self.loaded.first))
        # Customers of one score stay in the order of their texts.
        ranking = ranking.sort("score", descending=True, nulls_last=True, maintain_order=True)
        best = ranking["customer"].head(min(count, len(ranking)))
        among = np.zeros(len(summary), np.bool_)
        among[best.to_numpy()] = True
        return self.ranked(among)

    def summary(self, customers: Ints) -> pl.DataFrame:
        """Sum up some customers, one row for each."""
        scale = self.loaded.settings.scale
        return pl.DataFrame(
            {
                "cohort": self.loaded.labels.gather(self.users.cohort[customers]),
                "user_id": self.text.gather(customers),
                "cohort_size_amount": self.sizes[customers],
                "ltv": ratios.money(self.total[customers], scale),
                "acv": ratios.money(self.recent[customers], scale),
                "active_periods": self.active[customers],
            }
        )

    def written(self, chosen: Ints, *, dense: bool) -> pl.DataFrame:
        """Write the table of some customers, in their order."""
        ages = self._ages(chosen, dense=dense)
        check_size(int(ages.sum()), "rows='active', a coarser freq, or top_n=")
        return self._lay_out(chosen, ages, dense=dense)

    def pieces(self, chosen: Ints, *, dense: bool) -> Iterator[pl.DataFrame]:
        """Write the same table piece by piece."""
        ages = self._ages(chosen, dense=dense)
        ends = np.cumsum(ages)
        rows = int(ends[-1]) if ends.size else 0
        cuts = np.unique(np.searchsorted(ends, np.arange(0, rows + _PIECE, _PIECE)))
        cuts = np.unique(np.append(cuts, chosen.size))
        for begin, end in pairwise(cuts):
            yield self._lay_out(chosen[begin:end], ages[begin:end], dense=dense)

    def _ages(self, chosen: Ints, *, dense: bool) -> Ints:
        """Count the rows of each customer."""
        return self.loaded.span - self.users.cohort[chosen].astype(np.int64) if dense else self.active[chosen]

    def _lay_out(self, chosen: Ints, ages: Ints, *, dense: bool) -> pl.DataFrame:
        span, settings = self.loaded.span, self.loaded.settings
        labels = Texts.of(self.loaded.labels, np.arange(span, dtype=np.uint32))
        places = np.cumsum(ages) - ages
        count = int(ages.sum())
        cohorts, ids = np.empty(2 * count, np.uint64), np.empty(2 * count, np.uint64)
        age = np.empty(count, np.int64)
        columns = [np.empty(count) for _ in range(5)]

        def write(first: int) -> None:
            run = slice(first, first + _RUN)
            lay_out(
                chosen[run], places[run], ages[run], *self.users.cells, dense, settings.scale,
                self.factor, self.divisor, self.offsets, self.means, labels.views, self.names.views,
                cohorts, ids, age, *columns,
            )  # fmt: skip

        on_threads(settings.workers, write, range(0, chosen.size, _RUN))
        size, logo, money, retention, ltv = columns
        return pl.DataFrame(
            {
                "cohort": labels.column("cohort", cohorts),
                "user_id": self.names.column("user_id", ids),
                "period": age,
                "cohort_size_amount": size,
                "logo_retention": logo,
                "amount": money,
                "amount_retention": pl.Series(retention, nan_to_null=bool((self.divisor == 0).any())),
                "ltv": ltv,
            },
            schema=schema(CUSTOMER_COHORTS),
        )

"""Termina's tables, field for field: product cohorts and customer cohorts.

The definitions are those of Termina's published schema and SDK; what these leave open is a setting here. See
``docs/definitions.md`` for the formulas.
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib import kernels, metrics
from cohortlib.cohorts import (
    Activity,
    BeforeJoined,
    Question,
    Refunds,
    Settings,
    Sums,
)
from cohortlib.errors import SettingError, listed, one_of
from cohortlib.partitions import Progress, check_size, on_threads
from cohortlib.periods import Freq
from cohortlib.schema import Ints, Nulls
from cohortlib.sources import Source

__all__ = ["cohorts", "customer_cohorts"]

Basis = Literal["single_customer", "cohort_total", "cohort_mean"]
Rows = Literal["dense", "active"]

_COHORTS = {
    "cohort": pl.String,
    "period": pl.Int64,
    "cohort_size": pl.Int64,
    "cohort_size_amount": pl.Float64,
    "active_users": pl.Int64,
    "logo_retention": pl.Float64,
    "amount": pl.Float64,
    "amount_retention": pl.Float64,
    "ltv": pl.Float64,
}
_CUSTOMERS = {
    "cohort": pl.String,
    "user_id": pl.String,
    "period": pl.Int64,
    "cohort_size_amount": pl.Float64,
    "logo_retention": pl.Float64,
    "amount": pl.Float64,
    "amount_retention": pl.Float64,
    "ltv": pl.Float64,
}
_PIECE = 1 << 12  # customers that one thread writes at a time


def cohorts(
    transactions: Source,
    *,
    user: str = "user_id",
    timestamp: str = "timestamp",
    amount: str = "amount",
    freq: Freq = "M",
    timezone: str = "UTC",
    week_start: str = "monday",
    refunds: Refunds = "net",
    joined: Source | None = None,
    before_joined: BeforeJoined = "error",
    start: str | date | datetime | None = None,
    end: str | date | datetime | None = None,
    complete_only: bool = False,
    nulls: Nulls = "error",
    decimals: int = 6,
    threads: int | None = None,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Compute the cohort table: one row for each cohort and age.

    A user's cohort is the first period in which the user's net amount is positive. Every cohort has a row for each
    age from 0 to the last period in which the table has a row.

    Parameters
    ----------
    transactions
        One row per money movement: a polars DataFrame or LazyFrame, the path or glob of Parquet or CSV files, or an
        object with the Arrow PyCapsule interface (pandas, pyarrow, a DuckDB relation).
    user, timestamp, amount
        Names of the columns: the user (integer, string or categorical), the instant (Date or Datetime), the amount
        (float, integer or Decimal; negative is a refund).
    freq
        Period unit: ``"D"`` day, ``"W"`` week, ``"M"`` month, ``"Q"`` quarter, ``"A"`` calendar year.
    timezone
        IANA name. Instants with a zone are converted to it before they are cut; naive ones and dates stand as they are.
    week_start
        First day of a week, ``"monday"`` to ``"sunday"``.
    refunds
        ``"net"``: a period whose net is not positive counts as inactive, with amount 0. ``"signed"``: its negative net
        stays in ``amount`` and ``ltv``. ``"drop"``: rows that are not positive are removed first.
    joined
        Dates that set the users' cohorts from outside: a table with the user column and ``joined``, or the name of a
        column of `transactions`.
    before_joined
        What to do with activity before that date: ``"error"``, ``"clip"`` (count it at age 0) or ``"drop"``.
    start, end
        First cohort to show and last period to use, both inclusive: a date, or a label such as ``"2026-01"``. Rows
        after `end` are ignored.
    complete_only
        Leave out the last period where the table's last row lies before its last day.
    nulls
        ``"error"``, or ``"drop"`` to leave out rows with a null, with a warning that counts them.
    decimals
        Places of money that are exact, 0 to 9; amounts are rounded to them, half to even.
    threads
        Number of threads; all cores by default. The result does not depend on it.
    progress
        Called with the number of rows done and of all rows, now and then, one call at a time, from any thread.

    Returns
    -------
    polars.DataFrame
        Ordered by cohort and period, with the columns

        - ``cohort`` (String): label of the cohort's period
        - ``period`` (Int64): age, 0 first
        - ``cohort_size`` (Int64): users in the cohort
        - ``cohort_size_amount`` (Float64): Σ active amount at age 0
        - ``active_users`` (Int64): distinct users active at this age
        - ``logo_retention`` (Float64): active_users / cohort_size
        - ``amount`` (Float64): Σ active amount at this age
        - ``amount_retention`` (Float64): amount / cohort_size_amount
        - ``ltv`` (Float64): Σ amount over ages 0 to this one, inclusive / cohort_size

        A ratio is null where its denominator is 0.

    Raises
    ------
    SettingError
        Where an argument is not one of the values it may take.
    SourceError
        Where a file is missing or cannot be read.
    SchemaError
        Where a column is missing or of the wrong type.
    DataError
        Where there are nulls, NaN, amounts out of range, or activity before `joined`.

    Notes
    -----
    The fields are those of Termina's ``cohorts`` endpoint. Weekly and daily periods are not Termina's.

    Examples
    --------
    >>> import cohortlib as cl
    >>> import polars as pl
    >>> from datetime import date
    >>> rows = pl.DataFrame({
    ...     "user_id": ["a", "a", "b"],
    ...     "timestamp": [date(2026, 1, 5), date(2026, 2, 10), date(2026, 1, 20)],
    ...     "amount": [100, 80, 50],
    ... })
    >>> cl.termina.cohorts(rows).select("cohort", "period", "active_users", "logo_retention", "ltv").rows()
    [('2026-01', 0, 2, 1.0, 75.0), ('2026-01', 1, 1, 0.5, 115.0)]
    """
    settings = Settings(
        user=user, timestamp=timestamp, amount=amount, freq=freq, timezone=timezone, week_start=week_start,
        refunds=refunds, joined=joined, before_joined=before_joined, start=start, end=end,
        complete_only=complete_only, nulls=nulls, decimals=decimals, threads=threads, progress=progress,
    )  # fmt: skip
    question = Question.of(transactions, settings, whole=False)
    if not question.span:
        return pl.DataFrame(schema=_COHORTS)
    sums = question.sums()
    cohort, age, at = sums.grid(question.first)
    active, money = sums.active[at], sums.amount[at]
    size, first, cumulative = sums.size[cohort], sums.first_amount[cohort], sums.cumulative()[at]
    return pl.DataFrame(
        {
            "cohort": question.labels().gather(cohort),
            "period": age,
            "cohort_size": size,
            "cohort_size_amount": metrics.money(first, settings.scale),
            "active_users": active,
            "logo_retention": metrics.logo_retention(active, size),
            "amount": metrics.money(money, settings.scale),
            "amount_retention": metrics.amount_retention(money, first),
            "ltv": metrics.ltv(cumulative, size, settings.scale),
        },
        schema=_COHORTS,
    )


def customer_cohorts(
    transactions: Source,
    *,
    user: str = "user_id",
    timestamp: str = "timestamp",
    amount: str = "amount",
    freq: Freq = "M",
    basis: Basis = "single_customer",
    rows: Rows = "dense",
    top_n: int | None = None,
    rank_by: str | pl.Expr | None = None,
    timezone: str = "UTC",
    week_start: str = "monday",
    refunds: Refunds = "net",
    joined: Source | None = None,
    before_joined: BeforeJoined = "error",
    start: str | date | datetime | None = None,
    end: str | date | datetime | None = None,
    complete_only: bool = False,
    nulls: Nulls = "error",
    decimals: int = 6,
    threads: int | None = None,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Compute the customer table: one row for each customer and age.

    Parameters
    ----------
    transactions, user, timestamp, amount, freq
        As for :func:`cohorts`.
    basis
        What a customer is measured against. ``"single_customer"``: the customer alone, a cohort of one.
        ``"cohort_total"``: ``cohort_size_amount`` is the total of the customer's cohort at age 0, ``amount_retention``
        the own amount / that total, ``ltv`` the cohort's mean. ``"cohort_mean"``: the same, but ``amount_retention``
        is the own amount / (that total / cohort size).
    rows
        ``"dense"``: every age from 0 to the last period. ``"active"``: those in which the customer was active.
    top_n
        Keep the customers that rank highest; all by default.
    rank_by
        With `top_n`: a column of the summary of customers, or a polars expression on it, greatest first. The summary
        has ``cohort``, ``user_id``, ``cohort_size_amount``, ``ltv`` (total amount), ``acv`` (amount of the trailing 12
        months at the last period) and ``active_periods``. The default is ``acv + ltv``. Ties go by user_id.
    timezone, week_start, refunds, joined, before_joined, start, end, complete_only, nulls, decimals, threads, progress
        As for :func:`cohorts`.

    Returns
    -------
    polars.DataFrame
        Ordered by cohort, cohort_size_amount (descending), user_id (as text) and period, with the columns

        - ``cohort`` (String): label of the customer's cohort
        - ``user_id`` (String): the user, as text
        - ``period`` (Int64): age, 0 first
        - ``cohort_size_amount`` (Float64): the customer's own active amount at age 0
        - ``logo_retention`` (Float64): 1.0 if active at this age, else 0.0
        - ``amount`` (Float64): own active amount at this age
        - ``amount_retention`` (Float64): amount / cohort_size_amount, null where that is 0
        - ``ltv`` (Float64): own cumulative amount over ages 0 to this one, inclusive

    Raises
    ------
    SettingError, SourceError, SchemaError, DataError
        As for :func:`cohorts`.

    Notes
    -----
    The fields are those of Termina's ``customer-cohorts`` endpoint. Its texts allow more than one reading: hence
    `basis`. Termina returns the 25 customers of the highest rank: ``top_n=25``.

    Examples
    --------
    >>> import cohortlib as cl
    >>> import polars as pl
    >>> from datetime import date
    >>> rows = pl.DataFrame({
    ...     "user_id": ["a", "a", "b"],
    ...     "timestamp": [date(2026, 1, 5), date(2026, 2, 10), date(2026, 1, 20)],
    ...     "amount": [100, 80, 50],
    ... })
    >>> cl.termina.customer_cohorts(rows).select("user_id", "period", "amount", "amount_retention", "ltv").rows()
    [('a', 0, 100.0, 1.0, 100.0), ('a', 1, 80.0, 0.8, 180.0), ('b', 0, 50.0, 1.0, 50.0), ('b', 1, 0.0, 0.0, 50.0)]
    """
    settings = Settings(
        user=user, timestamp=timestamp, amount=amount, freq=freq, timezone=timezone, week_start=week_start,
        refunds=refunds, joined=joined, before_joined=before_joined, start=start, end=end,
        complete_only=complete_only, nulls=nulls, decimals=decimals, threads=threads, progress=progress,
    )  # fmt: skip
    one_of("basis", basis, ("single_customer", "cohort_total", "cohort_mean"))
    one_of("rows", rows, ("dense", "active"))
    if top_n is not None and (type(top_n) is not int or top_n < 1):
        raise SettingError(f"top_n={top_n!r} is not a number of customers; expected 1 or more, or None for all")
    if rank_by is not None and top_n is None:
        raise SettingError("rank_by= has no effect without top_n=; expected both, or neither")
    question = Question.of(transactions, settings, whole=True)
    if not question.span:
        return pl.DataFrame(schema=_CUSTOMERS)
    everybody = _Customers.of(question, basis)
    chosen = everybody.ranked() if top_n is None else everybody.top(top_n, rank_by)
    return everybody.written(chosen, dense=rows == "dense")


@dataclass(frozen=True)
class _Customers:
    """All customers, the sums of each, and what each is measured against."""

    question: Question
    users: Activity
    text: pl.Series
    total: Ints
    recent: Ints
    active: Ints
    factor: Ints
    divisor: Ints
    offsets: Ints
    means: NDArray[np.float64]

    @classmethod
    def of(cls, question: Question, basis: Basis) -> "_Customers":
        users = question.activity()
        calendar, scale = question.settings.calendar, question.settings.scale
        since = calendar.trailing_year(question.origin + question.span - 1) - question.origin
        first, total, recent, active = (np.empty(users.cohort.size, np.int64) for _ in range(4))
        kernels.customer_sums(*users.cells, since, first, total, recent, active)
        factor, divisor = np.ones(users.cohort.size, np.int64), first
        offsets, means = np.empty(0, np.int64), np.empty(0)
        if basis != "single_customer":
            sums = Sums.zero(question.span, np.bincount(users.cohort, minlength=question.span) > 0)
            sums.add(users)
            divisor = sums.first_amount[users.cohort]
            cohort, _, at = sums.grid(0)
            offsets, means = (
                sums.offsets,
                metrics.ltv(sums.cumulative()[at], sums.size[cohort], scale).to_numpy(writable=True),
            )
            if basis == "cohort_mean":
                factor = sums.size[users.cohort]
        text = question.text(users.row)
        return cls(question, users, text, total, recent, active, factor, divisor, offsets, means)

    def ranked(self, among: NDArray[np.bool_] | None = None) -> Ints:
        """Give the customers in the order of the table, those of cohorts before the first shown left out."""
        shown = self.users.cohort >= self.question.first
        chosen = np.flatnonzero(shown if among is None else shown & among)
        frame = pl.DataFrame(
            {
                "customer": chosen,
                "cohort": self.users.cohort[chosen],
                "first": metrics.money(self.divisor[chosen], self.question.settings.scale),
                "user_id": self.text.gather(chosen),
            }
        )
        order = frame.sort("cohort", "first", "user_id", descending=[False, True, False])["customer"]
        return order.to_numpy(writable=True)

    def top(self, count: int, rank_by: str | pl.Expr | None) -> Ints:
        """Give the `count` customers that rank highest, in the order of the table."""
        scale = self.question.settings.scale
        # By user, so that an expression that looks at the order of rows (a rank, say) sees always the same.
        customers = self.text.arg_sort().to_numpy()
        total, recent = self.total[customers], self.recent[customers]
        summary = pl.DataFrame(
            {
                "cohort": self.question.labels().gather(self.users.cohort[customers]),
                "user_id": self.text.gather(customers),
                "cohort_size_amount": metrics.money(self.divisor[customers], scale),
                "ltv": metrics.money(total, scale),
                "acv": metrics.money(recent, scale),
                "active_periods": self.active[customers],
            }
        )
        if isinstance(rank_by, str):
            if rank_by not in summary.columns:
                raise SettingError(
                    f"rank_by={rank_by!r} is not in the summary of customers; columns are {listed(summary.columns)}"
                )
            score = summary[rank_by]
        elif rank_by is None:
            # The sum of two sums may leave 64 bits.
            score = pl.Series(total).cast(pl.Int128) + pl.Series(recent).cast(pl.Int128)
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
        ranking = pl.DataFrame({"score": score, "user_id": summary["user_id"], "customer": customers})
        ranking = ranking.filter(pl.Series(self.users.cohort[customers] >= self.question.first))
        best = ranking.sort("score", "user_id", descending=[True, False], nulls_last=True)["customer"].head(
            min(count, len(ranking))
        )
        among = np.zeros(len(summary), np.bool_)
        among[best.to_numpy()] = True
        return self.ranked(among)

    def written(self, chosen: Ints, *, dense: bool) -> pl.DataFrame:
        """Write the table of some customers, in their order."""
        span, settings = self.question.span, self.question.settings
        cohort = self.users.cohort[chosen]
        ages = span - cohort.astype(np.int64) if dense else self.active[chosen]
        ends = np.cumsum(ages)
        count = int(ends[-1]) if ends.size else 0
        check_size(count, "rows='active', a coarser freq, or top_n=")
        age = np.empty(count, np.int64)
        columns = [np.empty(count) for _ in range(4)]

        def write(first: int) -> None:
            piece = slice(first, first + _PIECE)
            kernels.lay_out(
                chosen[piece], (ends - ages)[piece], *self.users.cells, dense, span, settings.scale,
                self.factor, self.divisor, self.offsets, self.means, age, *columns,
            )  # fmt: skip

        on_threads(settings.workers, write, range(0, chosen.size, _PIECE))
        logo, money, retention, ltv = columns
        return pl.DataFrame(
            {
                "cohort": self.question.labels().gather(np.repeat(cohort, ages)),
                "user_id": self.text.gather(np.repeat(chosen, ages)),
                "period": age,
                "cohort_size_amount": metrics.money(self.divisor[chosen], settings.scale).gather(
                    np.repeat(np.arange(chosen.size), ages)
                ),
                "logo_retention": logo,
                "amount": money,
                "amount_retention": pl.Series(retention, nan_to_null=bool((self.divisor == 0).any())),
                "ltv": ltv,
            },
            schema=_CUSTOMERS,
        )

"""Termina's accountings and concentration, computed from transactions."""

from typing import Unpack

import polars as pl

from cohortlib.read.tables import Source
from cohortlib.termina.frames import Concentration
from cohortlib.transactions.accounting import accounting_sums_of
from cohortlib.transactions.concentration import concentration_frames
from cohortlib.transactions.keywords import AccountingKeywords, with_settings
from cohortlib.transactions.load import load
from cohortlib.transactions.settings import Settings

__all__ = ["concentration", "growth_accounting", "user_accounting"]


@with_settings
def user_accounting(transactions: Source, **settings: Unpack[AccountingKeywords]) -> pl.DataFrame:
    """Compute how many users came, stayed and left: one row for each period.

    A user is active in a period if the user's net amount in it is positive. The first row is the first period with an
    active user, the last row the last period with any row in the data. Periods without activity between them are rows.

    Parameters
    ----------
    transactions, user, timestamp, amount, freq, timezone, week_start, nulls, timestamp_format, decimal, assume_zone, \
    normalize, encoding, sheet, storage_options, decimals, threads, progress, max_memory
        As for :func:`cohorts`.
    refunds
        As for :func:`cohorts`; ``"signed"`` does not change which users are active.
    start, end
        First period to show and last period to use, both inclusive. Rows before `start` count as history.
    complete_only
        As for :func:`cohorts`.

    Returns
    -------
    polars.DataFrame
        Ordered by date, with the columns

        - ``date`` (String): label of the period
        - ``active_users`` (Int64): users who are active
        - ``retained`` (Int64): of these, the users active in the previous period as well
        - ``new`` (Int64): of these, the users active for the first time
        - ``resurrected`` (Int64): of these, the users active before, but not in the previous period
        - ``churned`` (Int64): -1 × the users active in the previous period and not in this one
        - ``cmgr3``, ``cmgr6``, ``cmgr12`` (Float64): compound growth of active_users per month over 3, 6 and 12
          months; null unless `freq` is ``"M"``
        - ``cqgr1``, ``cqgr2``, ``cqgr4`` (Float64): the same per quarter over 1, 2 and 4 quarters; null unless `freq`
          is ``"Q"``
        - ``logo_retention`` (Float64): retained / active_users of the previous period
        - ``quick_ratio`` (Float64): ``(new + resurrected) / |churned|``

        A ratio is null where its denominator is 0, a growth rate where either of its two periods has no active user.

    Raises
    ------
    SettingError, SourceError, SchemaError, DataError
        As for :func:`cohorts`.

    Notes
    -----
    The fields are those of Termina's ``user-accounting`` endpoint. Join dates (``joined``) have no effect on activity
    and are not taken.

    Examples
    --------
    >>> import cohortlib as cl
    >>> import polars as pl
    >>> from datetime import date
    >>> rows = pl.DataFrame({
    ...     "user_id": ["a", "a", "b", "b"],
    ...     "timestamp": [date(2026, 1, 5), date(2026, 2, 10), date(2026, 1, 20), date(2026, 3, 1)],
    ...     "amount": [100, 80, 50, 70],
    ... })
    >>> cl.termina.user_accounting(rows).select("date", "retained", "new", "resurrected", "churned").rows()
    [('2026-01', 0, 2, 0, 0), ('2026-02', 1, 0, 0, -1), ('2026-03', 0, 0, 1, -1)]
    """
    return _table("user_accounting", transactions, Settings.of(**settings))


@with_settings
def growth_accounting(transactions: Source, **settings: Unpack[AccountingKeywords]) -> pl.DataFrame:
    """Compute how the amount grew and shrank: one row for each period.

    The periods are those of :func:`user_accounting`. For a user with amount p in the previous period and c in this one,
    both positive, min(p, c) is retained, c - p is expansion and p - c contraction, each where positive.

    Parameters
    ----------
    transactions, user, timestamp, amount, freq, timezone, week_start, start, end, complete_only, nulls, \
    timestamp_format, decimal, assume_zone, normalize, encoding, sheet, storage_options, decimals, threads, progress, \
    max_memory
        As for :func:`user_accounting`.
    refunds
        As for :func:`cohorts`; with ``"signed"`` the negative net of an inactive user counts in ``amount`` alone, from
        the user's first active period on.

    Returns
    -------
    polars.DataFrame
        Ordered by date, with the columns

        - ``date`` (String): label of the period
        - ``amount`` (Float64): sum of the active users' net amounts
        - ``retained`` (Float64): sum of min(p, c) over the users active in both periods
        - ``new`` (Float64): amount of users active for the first time
        - ``resurrected`` (Float64): amount of users active before, but not in the previous period
        - ``expansion`` (Float64): increase of users active in both periods
        - ``contraction`` (Float64): -1 × the decrease of users active in both periods
        - ``churned`` (Float64): -1 × the previous amount of users who are no longer active
        - ``cmgr3``, ``cmgr6``, ``cmgr12``, ``cqgr1``, ``cqgr2``, ``cqgr4`` (Float64): compound growth of the active
          amount, as for :func:`user_accounting`
        - ``quick_ratio`` (Float64): ``(new + resurrected + expansion) / (|churned| + |contraction|)``
        - ``gross_retention`` (Float64): retained / amount of the previous period
        - ``net_churn`` (Float64): ``(|churned| + |contraction| - resurrected - expansion)`` / amount of the previous
          period
        - ``lifetime_quick_ratio``, ``lifetime_gross_retention``, ``lifetime_net_churn`` (Float64): the same three, with
          numerator and denominator summed from the second period to this one

        A ratio is null where its denominator is 0.

    Raises
    ------
    SettingError, SourceError, SchemaError, DataError
        As for :func:`cohorts`.

    Notes
    -----
    The fields are those of Termina's ``growth-accounting`` endpoint.

    Examples
    --------
    >>> import cohortlib as cl
    >>> import polars as pl
    >>> from datetime import date
    >>> rows = pl.DataFrame({
    ...     "user_id": ["a", "a", "b", "b"],
    ...     "timestamp": [date(2026, 1, 5), date(2026, 2, 10), date(2026, 1, 20), date(2026, 3, 1)],
    ...     "amount": [100, 80, 50, 70],
    ... })
    >>> cl.termina.growth_accounting(rows).select("date", "amount", "retained", "contraction", "churned").rows()
    [('2026-01', 150.0, 0.0, 0.0, 0.0), ('2026-02', 80.0, 80.0, -20.0, -50.0), ('2026-03', 70.0, 0.0, 0.0, -80.0)]
    """
    return _table("growth_accounting", transactions, Settings.of(**settings))


@with_settings
def concentration(transactions: Source, **settings: Unpack[AccountingKeywords]) -> Concentration:
    """Compute how much of the amount the largest users hold: by period, and for each top user of the last one.

    Only users who are active in a period count in it.

    Parameters
    ----------
    transactions, user, timestamp, amount, freq, timezone, week_start, complete_only, nulls, timestamp_format, \
    decimal, assume_zone, normalize, encoding, sheet, storage_options, decimals, threads, progress, max_memory
        As for :func:`user_accounting`.
    refunds
        As for :func:`cohorts`; ``"signed"`` has no effect, as inactive users do not count.
    start, end
        First period of the time series and last period to use, both inclusive.

    Returns
    -------
    Concentration
        Three frames. ``time_series_metrics`` has the periods of :func:`user_accounting`, with the columns

        - ``date`` (String): label of the period
        - ``top_5_count``, ``top_10_count``, ``top_20_count`` (Float64): share of the period's amount from its top 5,
          10, 20 users; 1 if there are fewer
        - ``top_10_percent``, ``top_20_percent`` (Float64): share from its top 10 %, 20 % of users, rounded up
        - ``mean``, ``p25``, ``median``, ``p75``, ``p90`` (Float64): mean and percentiles of the period's amounts, with
          linear interpolation
        - ``average_to_median`` (Float64): mean / median
        - ``gini_coefficient`` (Float64): 0 if all users have the same amount, close to 1 if one user has all of it

        All are null in a period without active users. ``endpoint_top_users`` has the at most 100 largest users of the
        last period, largest first, ties by user_id as text:

        - ``user_id`` (String): the user, as text
        - ``amount`` (Float64): amount of the user
        - ``amount_percent`` (Float64): share of the amount of all users, as a fraction

        ``endpoint_cdf`` has the distribution of the last period, from the smallest user up: a point for each percent of
        users, and one for each top user. Both are empty if the last period has no active user.

        - ``method`` (String): ``distribution_quantile`` or ``top_user``
        - ``amount`` (Float64): amount of the user at the point
        - ``cdf_users`` (Float64): share of users up to this one
        - ``cdf_amount`` (Float64): share of the amount of these users

    Raises
    ------
    SettingError, SourceError, SchemaError, DataError
        As for :func:`cohorts`.

    Notes
    -----
    The fields are those of Termina's ``concentration`` endpoint. They do not follow from sums: percentiles need the
    amount of each user. With `max_memory`, rows are spilled, and amounts are gathered for as many periods at a time as
    fit; those of one period must fit.

    Examples
    --------
    >>> import cohortlib as cl
    >>> import polars as pl
    >>> from datetime import date
    >>> rows = pl.DataFrame({"user_id": ["a", "b", "c"], "timestamp": [date(2026, 1, 5)] * 3, "amount": [70, 20, 10]})
    >>> found = cl.termina.concentration(rows)
    >>> found
    Concentration(1 periods, 3 top users, 6 points)
    >>> found.time_series_metrics.select("top_10_percent", "median", "gini_coefficient").rows()
    [(0.7, 20.0, 0.4)]
    >>> found.endpoint_top_users.rows()
    [('a', 70.0, 0.7), ('b', 20.0, 0.2), ('c', 10.0, 0.1)]
    """
    with load(transactions, Settings.of(**settings), keep_users=True) as loaded:
        return Concentration(**concentration_frames(loaded))


def _table(name: str, transactions: Source, settings: Settings) -> pl.DataFrame:
    """Compute the table that a method of the sums returns."""
    with load(transactions, settings, keep_users=False) as loaded:
        sums = accounting_sums_of(loaded)
    table: pl.DataFrame = getattr(sums, name)(
        start=settings.start, end=settings.end, complete_only=settings.complete_only
    )
    return table

"""The calls: product cohorts and customer cohorts.

The definitions are those of Termina's published schema and SDK; what these leave open is a setting here. See
``docs/definitions.md`` for the formulas.
"""

from datetime import date, datetime
from pathlib import Path

import polars as pl

from cohortlib.engine.files import atomic_folder, atomic_write, file_errors, is_folder
from cohortlib.engine.progress import Progress
from cohortlib.errors import SettingError, one_of
from cohortlib.fields import COHORTS, CUSTOMER_COHORTS, schema
from cohortlib.periods import Freq
from cohortlib.read.nulls import Nulls
from cohortlib.read.tables import Source
from cohortlib.transactions.customers import Basis, CustomerRows, Customers
from cohortlib.transactions.load import load
from cohortlib.transactions.loaded import LoadedRows
from cohortlib.transactions.settings import BeforeJoined, Refunds, Settings
from cohortlib.transactions.sink import holds_only_parts, part_name, write_parquet
from cohortlib.transactions.sums import added_up, tabulated

__all__ = ["cohorts", "customer_cohorts", "sink_customer_cohorts"]

_NOBODY = [pl.DataFrame(schema=schema(CUSTOMER_COHORTS))]


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
    max_memory: int | str | None = None,
) -> pl.DataFrame:
    """Compute the cohort table: one row for each cohort and age.

    A user's cohort is the first period in which the user's net amount is positive. Every cohort has a row for each
    age from 0 to the last period in which the table has a row.

    Parameters
    ----------
    transactions
        One row per money movement: a polars DataFrame or LazyFrame, the path or glob of Parquet or CSV files, an object
        with the Arrow PyCapsule interface (pandas, pyarrow, a DuckDB relation), or what :func:`cohortlib.prepare` made
        of these, or the path of its folder.
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
    max_memory
        Bytes that may be taken, or a text such as ``"4GB"`` or ``"512MiB"``; 60 % of what is free by default. Rows that
        would take more go to the folder of temporary files (``TMPDIR``) for the time being, by partition of users. The
        result does not depend on it.

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
        max_memory=max_memory,
    )  # fmt: skip
    with load(transactions, settings, keep_users=False) as loaded:
        return cohort_table(loaded)


def cohort_table(loaded: LoadedRows) -> pl.DataFrame:
    """Compute the cohort table of loaded rows."""
    settings = loaded.settings
    if not loaded.span:
        return pl.DataFrame(schema=schema(COHORTS))
    if loaded.filter_deferred:
        return added_up(loaded).cohorts(start=settings.start, end=settings.end, complete_only=settings.complete_only)
    return tabulated(loaded.sums(), loaded.grid, settings)


def customer_cohorts(
    transactions: Source,
    *,
    user: str = "user_id",
    timestamp: str = "timestamp",
    amount: str = "amount",
    freq: Freq = "M",
    basis: Basis = "single_customer",
    rows: CustomerRows = "dense",
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
    check_customers(basis, rows, top_n, rank_by)
    with load(transactions, settings, keep_users=True, may_spill=False) as loaded:
        if not loaded.span:
            return pl.DataFrame(schema=schema(CUSTOMER_COHORTS))
        customers = Customers.of(loaded, basis)
    return customers.table(customers.select(top_n, rank_by), dense=rows == "dense")


def sink_customer_cohorts(
    transactions: Source,
    path: str | Path,
    *,
    user: str = "user_id",
    timestamp: str = "timestamp",
    amount: str = "amount",
    freq: Freq = "M",
    basis: Basis = "single_customer",
    rows: CustomerRows = "dense",
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
    max_memory: int | str | None = None,
) -> None:
    """Write the customer table to a Parquet file, or to a folder of them, without ever holding all of it.

    The rows are those of :func:`customer_cohorts`: in a file in the same order; in a folder part by part, each in that
    order, and no user is in two parts. Rows and users may then be more than memory holds. The file or the folder is put
    in its place once it is complete: until then, and where anything fails, what was there before stays.

    Parameters
    ----------
    transactions
        As for :func:`cohorts`.
    path
        The file to write, in a folder that exists. Or a folder, told by a slash at the end or because it is there: a
        new one, an empty one, or one that this function wrote, which is replaced. Its files are ``part-00000.parquet``
        and so on; read them with a glob.
    user, timestamp, amount, freq, basis, rows, top_n, rank_by, timezone, week_start, refunds, joined, before_joined, \
    start, end, complete_only, nulls, decimals, threads, progress
        As for :func:`customer_cohorts`. A folder takes no `top_n`: these few are ranked among all.
    max_memory
        As for :func:`cohorts`; what goes to a file is held in memory all the same.

    Raises
    ------
    SettingError, SourceError, SchemaError, DataError
        As for :func:`cohorts`.
    OSError
        Where a file cannot be written; the error names it.

    Examples
    --------
    >>> import cohortlib as cl
    >>> import polars as pl
    >>> from datetime import date
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> days = [date(2026, 1, 5), date(2026, 2, 10)]
    >>> rows = pl.DataFrame({"user_id": ["a", "a"], "timestamp": days, "amount": [100, 80]})
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder) / "customers.parquet"
    ...     cl.termina.sink_customer_cohorts(rows, file)
    ...     pl.read_parquet(file).select("user_id", "period", "ltv").rows()
    [('a', 0, 100.0), ('a', 1, 180.0)]
    """
    settings = Settings(
        user=user, timestamp=timestamp, amount=amount, freq=freq, timezone=timezone, week_start=week_start,
        refunds=refunds, joined=joined, before_joined=before_joined, start=start, end=end,
        complete_only=complete_only, nulls=nulls, decimals=decimals, threads=threads, progress=progress,
        max_memory=max_memory,
    )  # fmt: skip
    check_customers(basis, rows, top_n, rank_by)
    dense = rows == "dense"
    if not is_folder(path):
        with (
            atomic_write(Path(path)) as stream,
            load(transactions, settings, keep_users=True, may_spill=False) as loaded,
        ):
            customers = Customers.of(loaded, basis) if loaded.span else None
            batches = customers.batches(customers.select(top_n, rank_by), dense=dense) if customers else _NOBODY
            write_parquet(batches, schema(CUSTOMER_COHORTS), stream)
        return
    if top_n is not None:
        raise SettingError(
            f"top_n={top_n} goes with a file, not with the folder {str(path)!r}. Hint: path='top.parquet'"
        )
    with (
        atomic_folder(Path(path), holds_only_parts) as folder,
        load(transactions, settings, keep_users=True) as loaded,
    ):
        # The totals of cohorts are those of all parts, so they come first.
        totals = loaded.sums() if loaded.span and basis != "single_customer" else None
        for part in range(loaded.parts):
            customers = Customers.of(loaded, basis, totals, part)
            batches = customers.batches(customers.in_order(), dense=dense)
            with file_errors(folder / part_name(part)), (folder / part_name(part)).open("wb") as stream:
                write_parquet(batches, schema(CUSTOMER_COHORTS), stream)
        if not loaded.span:
            with (folder / part_name(0)).open("wb") as stream:
                write_parquet(_NOBODY, schema(CUSTOMER_COHORTS), stream)
        elif totals is None:
            loaded.finish()


def check_customers(basis: Basis, rows: CustomerRows, top_n: int | None, rank_by: str | pl.Expr | None) -> None:
    """Refuse what the customer table cannot be asked for."""
    one_of("basis", basis, ("single_customer", "cohort_total", "cohort_mean"))
    one_of("rows", rows, ("dense", "active"))
    if top_n is not None and (type(top_n) is not int or top_n < 1):
        raise SettingError(f"top_n={top_n!r} is not a number of customers; expected 1 or more, or None for all")
    if rank_by is not None and top_n is None:
        raise SettingError("rank_by= has no effect without top_n=; expected both, or neither")

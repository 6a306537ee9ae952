"""Termina's cohort tables, computed from transactions.

The definitions are those of Termina's published schema and SDK; where these are open, a setting chooses. See
``docs/definitions.md`` for the formulas.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Unpack

import polars as pl

from cohortlib.engine.files import atomic_folder, atomic_write, file_errors, is_folder
from cohortlib.errors import Arg, SettingError
from cohortlib.fields import COHORTS, CUSTOMER_COHORTS, schema
from cohortlib.read.tables import Source
from cohortlib.transactions.customers import Customers
from cohortlib.transactions.doubts import active_by_period, warn_of_years
from cohortlib.transactions.keywords import CohortsKeywords, CustomerKeywords, SinkKeywords, with_settings
from cohortlib.transactions.load import load
from cohortlib.transactions.loaded import LoadedRows
from cohortlib.transactions.settings import Settings
from cohortlib.transactions.sink import PolarsType, holds_only_parts, part_name, write_parquet
from cohortlib.transactions.sums import cohort_frame, sums_of

__all__ = ["cohorts", "customer_cohorts", "sink_customer_cohorts"]

_NO_CUSTOMERS = [pl.DataFrame(schema=schema(CUSTOMER_COHORTS))]


@with_settings
def cohorts(transactions: Source, **settings: Unpack[CohortsKeywords]) -> pl.DataFrame:
    """Compute the cohort table: one row for each cohort and age.

    A user's cohort is the first period in which the user's net amount is positive. Every cohort has a row for each
    age from 0 to the last period with any row in the data.

    Parameters
    ----------
    transactions
        One row per payment or refund: a polars DataFrame or LazyFrame; a path, glob, folder or URL of Parquet, CSV,
        TSV, JSON lines or Excel files, or a list of these; a table of pandas, pyarrow, DuckDB, ibis, narwhals, Delta or
        Iceberg, or any other with the Arrow PyCapsule interface; or the result of :func:`cohortlib.prepare` or the
        path of its folder.
    user, timestamp, amount
        Names of the columns: the user (integer, string, categorical or 16-byte UUID), the instant (Date, Datetime or
        text), the amount (float, integer, Decimal or text; negative is a refund).
    freq
        Period unit: ``"D"`` day, ``"W"`` week, ``"M"`` month, ``"Q"`` quarter, ``"A"`` calendar year.
    timezone
        IANA name. Instants with a zone are converted to it; dates and instants without a zone are used as they are.
    week_start
        First day of a week, ``"monday"`` to ``"sunday"``.
    refunds
        ``"net"``: a user's period whose net is not positive is inactive, with amount 0. ``"signed"``: its negative
        net stays in ``amount`` and ``ltv``. ``"drop"``: rows that are not positive are removed first.
    joined
        Join dates, which set the users' cohorts: a table with the user column and ``joined``, or the name of a column
        of `transactions`.
    before_joined
        What to do with activity before that date: ``"error"``, ``"clip"`` (count it at age 0) or ``"drop"``.
    start, end
        First cohort to show and last period to use, both inclusive: a date, or a label such as ``"2026-01"``. Rows
        after `end` are ignored.
    complete_only
        Leave out the periods that are not over by the day of the last row or, where earlier, the last day of `end`.
    nulls
        ``"error"``, or ``"drop"`` to leave out rows with a null, with a warning that counts them.
    timestamp_format
        How text writes instants: a strftime format such as ``"%d/%m/%Y"``, or ``"epoch_s"``, ``"epoch_ms"``,
        ``"epoch_us"``, ``"excel"`` (also for numbers); ISO 8601 by default.
    decimal
        Decimal mark of amounts in text, ``"."`` or ``","``.
    assume_zone
        IANA name: the zone of dates, and of instants without one.
    normalize
        ``"strip"`` or ``"casefold"``: text ids that differ only in blanks around them, or also in case, are one user.
    encoding
        Encoding of text files, such as ``"latin-1"``; UTF-8, or UTF-16 with a byte order mark, by default.
    sheet
        Sheet of an Excel file: its name, or its number from 1.
    storage_options
        Options for URLs, such as ``{"aws_region": "eu-central-1"}``, which polars hands on to the store.
    decimals
        Decimal places of money that are exact, 0 to 9; amounts are rounded to them, half to even.
    threads
        Number of threads; all cores by default. The result does not depend on it.
    progress
        Function that is called with the rows done and the number of all rows, at intervals, one call at a time, from
        any thread.
    max_memory
        Bytes to use, or a text such as ``"4GB"`` or ``"512MiB"``; 60 % of free memory by default. Rows that need more
        are spilled to temporary files (in ``TMPDIR``), partitioned by user. The result does not depend on it.

    Returns
    -------
    polars.DataFrame
        Ordered by cohort and period, with the columns

        - ``cohort`` (String): label of the cohort's period
        - ``period`` (Int64): age, 0 first
        - ``cohort_size`` (Int64): users in the cohort
        - ``cohort_size_amount`` (Float64): active amount at age 0
        - ``active_users`` (Int64): distinct users active at this age
        - ``logo_retention`` (Float64): active_users / cohort_size
        - ``amount`` (Float64): sum of the active users' net amounts at this age
        - ``amount_retention`` (Float64): amount / cohort_size_amount
        - ``ltv`` (Float64): sum of amount over ages 0 to this one / cohort_size

        A ratio is null where its denominator is 0.

    Raises
    ------
    SettingError
        An argument has a value it cannot take.
    SourceError
        A file is missing or cannot be read.
    SchemaError
        A column is missing or has the wrong type.
    DataError
        There are nulls, NaN, amounts out of range, or activity before the join date.

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
    with load(transactions, Settings.of(**settings), keep_users=False) as loaded:
        return cohort_table(loaded)


def cohort_table(loaded: LoadedRows) -> pl.DataFrame:
    """Return the cohort table of loaded rows, in Termina's fields."""
    settings = loaded.settings
    if not loaded.span:
        return pl.DataFrame(schema=schema(COHORTS))
    if loaded.filter_deferred:
        return sums_of(loaded).cohorts(start=settings.start, end=settings.end, complete_only=settings.complete_only)
    histogram = loaded.sums()
    warn_of_years(active_by_period(histogram), loaded.grid, settings)
    return cohort_frame(histogram, loaded.grid, settings)


@with_settings
def customer_cohorts(transactions: Source, **settings: Unpack[CustomerKeywords]) -> pl.DataFrame:
    """Compute the customer table: one row for each customer and age.

    Parameters
    ----------
    transactions, user, timestamp, amount, freq, timezone, week_start, refunds, joined, before_joined, start, end, \
    complete_only
        As for :func:`cohorts`.
    basis
        What a customer is compared with. ``"single_customer"``: itself, a cohort of one. ``"cohort_total"``:
        ``cohort_size_amount`` is the total of the customer's cohort at age 0, ``amount_retention`` the customer's
        amount / that total, ``ltv`` the cohort's mean. ``"cohort_mean"``: the same, but ``amount_retention`` is the
        customer's amount / (that total / cohort size).
    rows
        ``"dense"``: every age from 0 to the last period. ``"active"``: only ages in which the customer was active.
    top_n
        Keep the customers that rank highest; all by default.
    rank_by
        With `top_n`: a column of the summary of customers, or a polars expression on it, highest first. The summary
        has ``cohort``, ``user_id``, ``cohort_size_amount``, ``ltv`` (total amount), ``acv`` (amount of the trailing 12
        months at the last period) and ``active_periods``. The default is ``acv + ltv``. Ties go by user_id.
    ids
        ``"text"``: ``cohort`` and ``user_id`` are text. ``"native"``: ``cohort`` is an Enum of the labels of all
        periods, and ``user_id`` is Int64 or UInt64 where users are integers of up to 64 bits. The rows, and their
        order by user_id as text, are the same. A table without any cohort has text columns.
    nulls, timestamp_format, decimal, assume_zone, normalize, encoding, sheet, storage_options, decimals, threads, \
    progress
        As for :func:`cohorts`.

    Returns
    -------
    polars.DataFrame
        Ordered by cohort, cohort_size_amount (descending), user_id (as text) and period, with the columns

        - ``cohort`` (String): label of the customer's cohort
        - ``user_id`` (String): the user, as text
        - ``period`` (Int64): age, 0 first
        - ``cohort_size_amount`` (Float64): the customer's active amount at age 0
        - ``logo_retention`` (Float64): 1.0 if active at this age, else 0.0
        - ``amount`` (Float64): the customer's active amount at this age
        - ``amount_retention`` (Float64): amount / cohort_size_amount, null where that is 0
        - ``ltv`` (Float64): sum of the customer's amount over ages 0 to this one

    Raises
    ------
    SettingError, SourceError, SchemaError, DataError
        As for :func:`cohorts`.

    Notes
    -----
    The fields are those of Termina's ``customer-cohorts`` endpoint. Its documentation can be read in more than one way,
    which `basis` chooses. Termina returns the 25 customers that rank highest: ``top_n=25``.

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
    checked = Settings.of(**settings)
    with load(transactions, checked, keep_users=True, may_spill=False) as loaded:
        if not loaded.span:
            return pl.DataFrame(schema=schema(CUSTOMER_COHORTS))
        customers = Customers.of(loaded, checked.basis)
    return customers.table(customers.select(checked.top_n, checked.rank_by), dense=checked.rows == "dense")


@with_settings
def sink_customer_cohorts(transactions: Source, path: str | Path, **settings: Unpack[SinkKeywords]) -> None:
    """Write the customer table to a Parquet file, or to a folder of them, without holding all of it in memory.

    The rows are those of :func:`customer_cohorts`. A file has them in the same order. A folder has one file per
    partition of users, each in that order; rows and users may then exceed memory. The file or folder replaces an
    earlier one only once it is complete; if anything fails, the earlier one stays.

    Parameters
    ----------
    transactions
        As for :func:`cohorts`.
    path
        The file to write, in a folder that exists. Or a folder: a path that ends with a slash, or an existing folder
        that is empty or that this function wrote, which is replaced. Its files are ``part-00000.parquet`` and so on;
        read them with a glob.
    user, timestamp, amount, freq, timezone, week_start, refunds, joined, before_joined, start, end, complete_only, \
    basis, rows, top_n, rank_by, ids, nulls, timestamp_format, decimal, assume_zone, normalize, encoding, sheet, \
    storage_options, decimals, threads, progress
        As for :func:`customer_cohorts`. A folder does not take `top_n`, which ranks over all customers.
    max_memory
        As for :func:`cohorts`; rows that go to a single file are held in memory regardless.

    Raises
    ------
    SettingError, SourceError, SchemaError, DataError
        As for :func:`cohorts`.
    OSError
        A file cannot be written; the error has its name.

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
    checked = Settings.of(**settings)
    if not is_folder(path):
        _sink_file(transactions, Path(path), checked)
    elif checked.top_n is None:
        _sink_folder(transactions, Path(path), checked)
    else:
        raise SettingError(
            (Arg("top_n", checked.top_n), f" needs a file, but {str(path)!r} is a folder"),
            value=checked.top_n, hint="write to a file such as 'top.parquet'",
        )  # fmt: skip


def _sink_file(transactions: Source, path: Path, settings: Settings) -> None:
    with atomic_write(path) as stream, load(transactions, settings, keep_users=True, may_spill=False) as loaded:
        if loaded.span:
            customers = Customers.of(loaded, settings.basis)
            chosen = customers.select(settings.top_n, settings.rank_by)
            write_parquet(customers.batches(chosen, dense=settings.rows == "dense"), customers.schema, stream)
        else:
            write_parquet(_NO_CUSTOMERS, schema(CUSTOMER_COHORTS), stream)


def _sink_folder(transactions: Source, path: Path, settings: Settings) -> None:
    with atomic_folder(path, holds_only_parts) as folder, load(transactions, settings, keep_users=True) as loaded:
        if not loaded.span:
            _write_part(folder, 0, _NO_CUSTOMERS, schema(CUSTOMER_COHORTS))
            return
        # Cohort totals are over all partitions, so they are computed first.
        totals = loaded.sums() if settings.basis != "single_customer" else None
        for part in range(loaded.parts):
            customers = Customers.of(loaded, settings.basis, totals, part)
            batches = customers.batches(customers.in_order(), dense=settings.rows == "dense")
            _write_part(folder, part, batches, customers.schema)
        if totals is None:
            loaded.finish()


def _write_part(folder: Path, part: int, batches: Iterable[pl.DataFrame], columns: Mapping[str, PolarsType]) -> None:
    path = folder / part_name(part)
    with file_errors(path), path.open("wb") as stream:
        write_parquet(batches, columns, stream)

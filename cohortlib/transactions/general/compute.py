"""Compute the general table, and the users of one of its cells."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import polars as pl
from polars.selectors import by_name

from cohortlib.engine import ratios
from cohortlib.engine.threads import run_workers
from cohortlib.errors import Arg, SettingError, listed
from cohortlib.fields import COHORTS, schema
from cohortlib.periods import TableCalendar, epoch_day, span
from cohortlib.read.arrays import Ints
from cohortlib.read.tables import Source
from cohortlib.transactions.doubts import active_by_period, warn_of_years
from cohortlib.transactions.general.cells import Counter, Grid, check_fit, count_cells, lay_out
from cohortlib.transactions.general.load import load_for_counting, load_rows
from cohortlib.transactions.general.packed import PackedRows
from cohortlib.transactions.general.parts import part_count
from cohortlib.transactions.general.question import AnyCalendar, Question
from cohortlib.transactions.general.rows import TableRows
from cohortlib.transactions.general.table import column_order, empty_table, segment_columns, write_table
from cohortlib.transactions.keywords import TABLE_SETTINGS, UsersKeywords, with_settings
from cohortlib.transactions.load import load
from cohortlib.transactions.settings import Settings
from cohortlib.transactions.store.parts import USER
from cohortlib.transactions.sums import cohort_frame, sums_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["cohorts", "users"]


@with_settings
def cohorts(transactions: Source, **settings: Unpack[UsersKeywords]) -> pl.DataFrame:
    """Compute the cohort table: by segment, with any clock for ages, with or without money.

    Without the settings below, its common columns are those of :func:`cohortlib.termina.cohorts`.

    Parameters
    ----------
    transactions, user, timestamp, freq, timezone, week_start, refunds, joined, before_joined, start, end, \
    complete_only, nulls, timestamp_format, decimal, assume_zone, normalize, encoding, sheet, storage_options, \
    decimals, threads, progress, max_memory
        As for :func:`cohortlib.termina.cohorts`.
    amount
        As there; None for activity without money: a user is active in a period with any row.
    by
        Columns of segments, of the transactions or of `users`. A column of the transactions gives a user the value of
        the user's first row with a positive amount in the user's first active period; of rows at one instant, the
        smallest value. Each user is in one segment, so the segments add up to the table without `by`.
    split
        In place of `by`: the rows of each value as if no others were there, so that a user can be in several.
    users
        A table with one row per user, with columns for `by`. Users that it does not have are in the segment null.
    age
        The unit of ages: ``"D"``, ``"W"``, ``"M"``, ``"Q"`` or ``"A"``; or days since each user's first day, such as
        ``"7d"`` or ``"30d"``. By default that of `freq`.
    calendar
        In place of `freq`, a table with the first day and the label of each period, ascending; its last row only ends
        the period before.
    fiscal_start
        The month in which quarters and years begin, for `freq` ``"Q"`` and ``"A"``. They are labelled by the year in
        which they end. Labels in `start` and `end` are of calendar quarters and years.
    retention
        The users who count at an age: ``"exact"``, those active at it; ``"unbounded"``, those active at it or at a
        later one; ``"consecutive"``, those active at every age up to it.
    brackets
        The first ages of brackets, such as ``[0, 1, 3, 7]``: 0, 1 to 2, 3 to 6, 7 and later. A user counts once in a
        bracket, amounts add, and ``ltv`` is cumulative up to the bracket's end.
    amounts
        Further columns of amounts, summed over the same ages of the same users: ``margin`` and ``margin_ltv``.
    confidence
        The level of intervals, such as 0.95: Wilson's score interval for logo retention, normal intervals for the
        means. Users are assumed to be independent.

    Returns
    -------
    polars.DataFrame
        Ordered by segment (null last), cohort and period: the columns of segments, then those of
        :func:`cohortlib.termina.cohorts`, then

        - ``observed`` (Int64): users whose age lies before the end of the data; only these count at the age
        - ``complete`` (Boolean): the age is over for every user of the cohort
        - ``period_end`` (Int64), with `brackets`: the last age of the bracket, null for the open one
        - ``logo_low``, ``logo_high``, ``amount_retention_low``, ``amount_retention_high``, ``ltv_low``, ``ltv_high``
          (Float64), with `confidence`; null for fewer than 2 users
        - for each column of `amounts` its sum, and ``…_ltv`` (Float64)

    Raises
    ------
    SettingError, SourceError, SchemaError, DataError
        As for :func:`cohortlib.termina.cohorts`.

    Examples
    --------
    >>> import cohortlib as cl
    >>> import polars as pl
    >>> from datetime import date
    >>> rows = pl.DataFrame({
    ...     "user_id": ["a", "a", "b"],
    ...     "timestamp": [date(2026, 1, 5), date(2026, 2, 10), date(2026, 1, 20)],
    ...     "amount": [100, 80, 50],
    ...     "country": ["DE", "FR", "FR"],
    ... })
    >>> cl.cohorts(rows, by="country").select("country", "cohort", "period", "active_users", "ltv").rows()
    [('DE', '2026-01', 0, 1, 100.0), ('DE', '2026-01', 1, 1, 180.0), ('FR', '2026-01', 0, 1, 50.0), \
('FR', '2026-01', 1, 0, 50.0)]
    """
    question = Question.of(**settings)
    if question.plain:
        values: dict[str, Any] = {name: value for name, value in settings.items() if name not in TABLE_SETTINGS}
        return _plain_table(transactions, question, Settings.of(**values))
    with load_for_counting(transactions, question) as rows:
        grid = lay_out(rows)
        if grid is None:
            return empty_table(question)
        cells = rows.count_cells(grid) if isinstance(rows, PackedRows) else count_cells(rows, grid)
        return write_table(rows, cells, grid)


def _plain_table(transactions: Source, question: Question, settings: Settings) -> pl.DataFrame:
    """Compute the table without settings of its own: Termina's, and what it adds."""
    with load(transactions, settings, keep_users=False) as loaded:
        if not loaded.span:
            table = pl.DataFrame(schema=schema(COHORTS))
        elif loaded.filter_deferred:
            table = sums_of(loaded).cohorts(
                start=settings.start, end=settings.end, complete_only=settings.complete_only
            )
        else:
            histogram = loaded.sums()
            warn_of_years(active_by_period(histogram), loaded.grid, settings)
            table = cohort_frame(histogram, loaded.grid, settings)
        last_row = loaded.final_day if loaded.span else None
    labels = table["cohort"].unique()
    first_days = np.array([epoch_day(span("cohort", label)[0]) for label in labels], np.int64)
    ordinals = pl.DataFrame({"cohort": labels, "ordinal": question.calendar.ordinals(first_days)})
    period = table.join(ordinals, on="cohort", how="left", maintain_order="left")["ordinal"] + table["period"]
    edges = question.edges(last_row)
    last_day = -(2**40) if edges is None or edges.last_day is None else edges.last_day
    next_days = question.calendar.first_days(period.to_numpy() + 1)
    more = [table["cohort_size"].alias("observed"), pl.Series("complete", next_days - 1 <= last_day, dtype=pl.Boolean)]
    return table.with_columns(more).select(by_name(*column_order(question)))


@with_settings
def users(
    transactions: Source,
    *,
    cohort: str,
    period: int,
    active: bool | None = True,
    segment: Mapping[str, object] | None = None,
    **settings: Unpack[UsersKeywords],
) -> pl.DataFrame:
    """List the users behind a cell of :func:`cohorts`.

    Parameters
    ----------
    transactions
        As for :func:`cohorts`.
    cohort, period
        The label of the cohort and the age, or the first age of a bracket.
    active
        True for the active users of the cell, False for those who are observed and not active, None for both.
    segment
        Values of columns of `by` or `split`, such as ``{"country": "DE"}``; users of all segments by default.
    user, timestamp, amount, by, split, users, freq, timezone, week_start, refunds, joined, before_joined, start, end, \
    complete_only, age, calendar, fiscal_start, retention, brackets, amounts, confidence, nulls, timestamp_format, \
    decimal, assume_zone, normalize, encoding, sheet, storage_options, decimals, threads, progress, max_memory
        As for :func:`cohorts`, with which the cell was computed.

    Returns
    -------
    polars.DataFrame
        Ordered by amount (descending) and user, with the columns

        - ``user_id``: the user, in the type of the transactions
        - the columns of segments
        - ``first_day`` (Date): the first day of the user, at which ages begin
        - ``amount`` (Float64): the amount at the age, and ``ltv`` (Float64), the amount up to it
        - for each column of `amounts` the same two

    Raises
    ------
    SettingError, SourceError, SchemaError, DataError
        As for :func:`cohorts`.

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
    >>> cl.users(rows, cohort="2026-01", period=1, active=False)["user_id"].to_list()
    ['b']
    """
    question = Question.of(**settings)
    _check_cell(question, cohort, period, active, segment)
    with load_rows(transactions, question, keep_ids=True) as rows:
        grid = lay_out(rows)
        if grid is None:
            return _users_frame(rows, None, [])
        members = _members(rows, grid, cohort, period, active, segment or {})
        return _users_frame(rows, grid, members)


def _check_cell(
    question: Question, cohort: object, period: object, active: object, segment: Mapping[str, object] | None
) -> None:
    """Raise SettingError for a cell that no table with these settings can have."""
    if not isinstance(cohort, str) or _label_of(question.calendar, cohort) != cohort:
        example = question.calendar.label(0 if isinstance(question.calendar, TableCalendar) else _example(question))
        raise SettingError((Arg("cohort", cohort), " is not the label of a cohort"), value=cohort,
                           expected=f"a label such as {example!r}")  # fmt: skip
    if type(period) is not int or period < 0 or (question.brackets is not None and period not in question.brackets):
        expected = "an age, 0 or more" if question.brackets is None else f"one of {listed(question.brackets)}"
        raise SettingError((Arg("period", period), " is not an age of the table"), value=period, expected=expected)
    if active is not None and type(active) is not bool:
        raise SettingError((Arg("active", active), " is unknown"), value=active, expected="True, False or None")
    names = (*question.by, *question.split)
    for name in segment or {}:
        if name not in names:
            what = (Arg("segment", dict(segment or {})), f" has {name!r}, which is not in ", Arg("by"))
            raise SettingError(what, value=name, expected=f"columns of {listed(names)}" if names else "no segment")


def _example(question: Question) -> int:
    return int(question.calendar.ordinals(np.array([20_454]))[0])  # 2026-01-01


def _label_of(calendar: AnyCalendar, cohort: str) -> str | None:
    """Return the label of the period with a label, None if there is none."""
    if isinstance(calendar, TableCalendar):
        return cohort if cohort in calendar.names[:-1] else None
    try:
        days = span("cohort", cohort)
    except SettingError:
        return None
    # Labels of fiscal years and quarters are not those of their first days.
    near = range(calendar.ordinal(days[0]) - 4, calendar.ordinal(days[0]) + 5)
    return next((label for label in calendar.labels(np.array(near)) if label == cohort), None)


def _members(
    rows: TableRows, grid: Grid, cohort: str, period: int, active: bool | None, segment: Mapping[str, object]
) -> list[tuple[pl.Series, Ints, list[Ints]]]:
    """Return the ids, the segments and the numbers of the users of a cell, by part."""
    labels = rows.question.calendar.labels(grid.origin + np.arange(grid.rules.cohort_count))
    target = next((at for at, first in enumerate(grid.firsts) if first == period and at >= grid.hidden), -1)
    wanted = {name: rows.values[name].rank_of(value) for name, value in segment.items()}
    if cohort not in labels or target < 0 or None in wanted.values():
        return []
    number = labels.index(cohort)

    def work(parts: Iterator[int]) -> tuple[Counter, list[tuple[int, tuple[pl.Series, Ints, list[Ints]]]]]:
        counter = Counter(rows, grid, members=True)
        found = []
        for part in parts:
            part_users, each = counter.add(part, target)
            chosen = (each.keys >= 0) & (each.keys % grid.rules.cohort_count == number) & (each.seen >= target)
            if active is not None:
                chosen &= each.active == active
            ranks = segment_ranks(grid, rows, each.keys // grid.rules.cohort_count)
            for name, rank in wanted.items():
                chosen &= ranks[name] == rank
            at = np.flatnonzero(chosen)
            numbers: list[NDArray[Any]] = [each.days, each.amounts, each.totals]
            numbers += [array for m in range(each.more.shape[0]) for array in (each.more[m], each.more_totals[m])]
            found.append((part, (part_users[USER][at], each.keys[at] // grid.rules.cohort_count,
                                 [array[at] for array in numbers])))  # fmt: skip
        return counter, found

    done = run_workers(part_count(rows), rows.question.settings.workers, work)
    check_fit(rows, [counter for counter, _ in done])
    return [found for _, found in sorted((each for _, founds in done for each in founds), key=lambda each: each[0])]


def segment_ranks(grid: Grid, rows: TableRows, segment: Ints) -> dict[str, Ints]:
    """Return the rank of each column of segments, from the numbers of segments."""
    ranks = {}
    names = (*rows.question.by, *rows.question.split)
    for name, count in reversed(list(zip(names, grid.counts, strict=True))):
        ranks[name] = segment % count
        segment = segment // count
    return ranks


def _users_frame(rows: TableRows, grid: Grid | None, members: list[tuple[pl.Series, Ints, list[Ints]]]) -> pl.DataFrame:
    question, scale = rows.question, rows.question.settings.scale
    names = (*question.by, *question.split)
    if members:
        ids = pl.concat([each[0] for each in members])
        segments = np.concatenate([each[1] for each in members])
        arrays = [each[2] for each in members]
        numbers = [np.concatenate(each) for each in zip(*arrays, strict=True)]
    else:
        ids, segments = pl.Series([], dtype=rows.user_type), np.empty(0, np.int64)
        numbers = [np.empty(0, np.int32)] + [np.empty(0, np.int64) for _ in range(2 + 2 * len(question.amounts))]
    columns = [ids.cast(rows.user_type).alias("user_id")]
    if grid is None:
        columns += [pl.Series(name, [], dtype=rows.values[name].dtype) for name in names]
    else:
        columns += [column.alias(name) for name, column in segment_columns(rows, segments, grid).items()]
    columns.append(pl.Series("first_day", numbers[0], dtype=pl.Int32).cast(pl.Date))
    if question.money:
        columns += [ratios.money(numbers[1], scale).alias("amount"), ratios.money(numbers[2], scale).alias("ltv")]
    for at, name in enumerate(question.amounts):
        amount, total = numbers[3 + 2 * at : 5 + 2 * at]
        columns += [ratios.money(amount, scale).alias(name), ratios.money(total, scale).alias(f"{name}_ltv")]
    units = numbers[1] if question.money else np.zeros(ids.len(), np.int64)
    keys = pl.DataFrame([pl.Series("units", units), ids.alias("id")])
    order = keys.select(pl.arg_sort_by("units", "id", descending=[True, False])).to_series()
    return pl.DataFrame(columns)[order]

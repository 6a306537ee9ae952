"""Sums over (cohort, age): the additive value behind a cohort table."""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Unpack

import numpy as np
import polars as pl

from cohortlib.engine.threads import on_threads
from cohortlib.errors import warn
from cohortlib.fields import COHORTS, schema
from cohortlib.read.tables import Source
from cohortlib.transactions.activity import Histogram
from cohortlib.transactions.additive import AdditiveTable, SumsSettings
from cohortlib.transactions.doubts import active_by_period, warn_of_years
from cohortlib.transactions.grid import Grid
from cohortlib.transactions.kernels.cohorts import CohortColumns, write_cohorts
from cohortlib.transactions.keywords import Edges, SumsKeywords, with_settings
from cohortlib.transactions.load import load
from cohortlib.transactions.loaded import LoadedRows
from cohortlib.transactions.saved_sums import KEYS, TABLE, check_cohorts
from cohortlib.transactions.settings import Settings

_ROWS = 1 << 16  # of a cohort table, that a thread writes at a time
_COLUMN_TYPES = np.uint32, *([np.int64] * 2), np.float64, np.int64, *([np.float64] * 4)


@dataclass(frozen=True, eq=False)
class Sums(AdditiveTable):
    """Sums over (cohort, age) for a set of users: a small table of integers, from which a cohort table is made.

    Sums of disjoint users add: ``a + b`` is exactly the sums over both. So partitions of users can be computed
    separately: on another day, machine or engine. :func:`sums` computes them.

    Attributes
    ----------
    settings
        The settings that change sums. Only sums with equal settings add.
    table
        One row for each cohort and age with a value other than 0, sorted by both. All columns are Int64: ``cohort``,
        the ordinal of its period (for months, the months since the year 0); ``age``; ``size``, the users of the
        cohort, and ``first_amount``, Σ active amount at age 0, both stored at age 0 and 0 elsewhere; ``active``
        users; Σ ``amount``, in units of ``10 ** -decimals``.
    last_day
        Local day of the last row, in days since 1970-01-01; None without rows. It sets the last period.
    magnitude
        Sum of all absolute amounts, which bounds every sum.
    """

    columns = TABLE
    keys = KEYS
    mark = "cohortlib.sums"
    noun = "sums"
    check = staticmethod(check_cohorts)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in asdict(self.settings).items())
        cohorts = self.table["cohort"].n_unique()
        return f"Sums({settings}; {self.table['size'].sum():,} users in {cohorts:,} cohorts)"

    @with_settings
    def cohorts(self, **edges: Unpack[Edges]) -> pl.DataFrame:
        """Return the cohort table, with the arguments and columns of :func:`cohortlib.termina.cohorts`."""
        settings = self.settings.with_edges(**edges)
        first, last = settings.bounds(self.last_day)
        if last is None:
            return pl.DataFrame(schema=schema(COHORTS))
        shown = self.table.filter(pl.col("cohort") + pl.col("age") <= last)
        late = self.table.filter(pl.col("cohort") > last)["size"].sum()
        if late and self.settings.joined != "no" and settings.end is None:
            warn(f"{late:,} users in joined have a date after the last period: they were left out")
        if shown.is_empty():
            return pl.DataFrame(schema=schema(COHORTS))
        origin = int(shown["cohort"].to_numpy().min())
        grid = Grid.between(origin, last, first)
        histogram = self.on_grid(grid)
        warn_of_years(active_by_period(histogram), grid, settings)
        return cohort_frame(histogram, grid, settings)

    def on_grid(self, grid: Grid) -> Histogram:
        """Return the sums as a dense histogram, without cells outside of the grid."""
        cohort = pl.col("cohort") - grid.origin
        inside = self.table.filter((cohort >= grid.first) & (cohort + pl.col("age") < grid.span))
        cohorts, age, size, first_amount, active, amount = (inside[name].to_numpy() for name in TABLE)
        positions = cohorts - grid.origin
        kept = np.zeros(grid.span, np.bool_)
        kept[positions] = True
        dense = Histogram.zeros(grid.span, kept)
        cells = dense.offsets[positions] + age
        dense.active[cells], dense.amount[cells] = active, amount
        start = age == 0
        dense.size[positions[start]] = size[start]
        dense.first_amount[positions[start]] = first_amount[start]
        return dense


@with_settings
def sums(transactions: Source, **settings: Unpack[SumsKeywords]) -> Sums:
    """Compute the sums behind the cohort table of some users, to add to the sums of others.

    All rows of a user must be in one table.

    Parameters
    ----------
    transactions, user, timestamp, amount, freq, timezone, week_start, refunds, joined, before_joined, nulls, \
    decimals, threads, progress, max_memory
        As for :func:`cohortlib.termina.cohorts`. Its `start`, `end` and `complete_only` are arguments of
        :meth:`Sums.cohorts`.

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
    ... })
    >>> one, other = rows.filter(user_id="a"), rows.filter(user_id="b")
    >>> both = cl.termina.sums(one) + cl.termina.sums(other)
    >>> both.cohorts().select("cohort", "period", "active_users", "ltv").rows()
    [('2026-01', 0, 2, 75.0), ('2026-01', 1, 1, 115.0)]
    """
    checked = Settings.of(**settings)
    with load(transactions, checked, keep_users=False, full_grid=checked.joined is not None) as loaded:
        return sums_of(loaded)


def sums_of(loaded: LoadedRows) -> Sums:
    """Return the sums over all users of loaded rows."""
    settings = SumsSettings.of(loaded.settings)
    if not loaded.span:
        return Sums(settings, pl.DataFrame(schema=TABLE), loaded.last_day, loaded.magnitude)
    table = histogram_table(loaded.sums(), loaded.grid.origin)
    return Sums(settings, table, loaded.final_day, loaded.magnitude)


def histogram_table(histogram: Histogram, origin: int) -> pl.DataFrame:
    """Return the cells of a histogram that are not 0; its first cohort is period `origin`."""
    cohort, age, at = histogram.cells_of(np.flatnonzero(histogram.offsets >= 0))
    start = age == 0
    table = pl.DataFrame(
        {
            "cohort": cohort + origin,
            "age": age,
            "size": np.where(start, histogram.size[cohort], 0),
            "first_amount": np.where(start, histogram.first_amount[cohort], 0),
            "active": histogram.active[at],
            "amount": histogram.amount[at],
        },
        schema=TABLE,
    )
    return Sums.without_zero_rows(table)


def cohort_frame(histogram: Histogram, grid: Grid, settings: Settings) -> pl.DataFrame:
    """Return the cohort table of a histogram."""
    shown = histogram.shown(grid.first)
    ages = grid.span - shown
    places = np.cumsum(ages) - ages
    columns = CohortColumns(*(np.empty(int(ages.sum()), dtype) for dtype in _COLUMN_TYPES))
    edges = np.searchsorted(places, np.arange(0, int(ages.sum()) + _ROWS, _ROWS))

    def write(block: tuple[int, int]) -> None:
        write_cohorts(*block, shown, places, grid.span, histogram.arrays, settings.scale, columns)

    on_threads(settings.workers, write, list(pairwise(edges.tolist())))
    no_amount = bool((histogram.first_amount[shown] == 0).any())
    series = [
        pl.Series(name, column, nan_to_null=no_amount and name == "amount_retention")
        for name, column in columns._asdict().items()
    ]
    series[0] = grid.labels(settings.calendar).gather(series[0]).alias("cohort")
    return pl.DataFrame(series, schema=schema(COHORTS))

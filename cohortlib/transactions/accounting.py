"""Sums by period of new, retained and resurrected users and their amounts: the additive value behind both accountings.

Who left follows from these: the users of the period before who were not retained.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Unpack

import numpy as np
import polars as pl

from cohortlib.engine import ratios
from cohortlib.fields import GROWTH_ACCOUNTING, USER_ACCOUNTING, Fields, schema
from cohortlib.literals import Freq
from cohortlib.read.arrays import Ints
from cohortlib.read.tables import Source
from cohortlib.transactions.activity import Activity
from cohortlib.transactions.additive import AdditiveTable, SumsSettings
from cohortlib.transactions.doubts import warn_of_years
from cohortlib.transactions.grid import Grid
from cohortlib.transactions.kernels.accounting import ENTRIES, account
from cohortlib.transactions.keywords import Edges, StateKeywords, with_settings
from cohortlib.transactions.load import load
from cohortlib.transactions.loaded import LoadedRows
from cohortlib.transactions.saved_sums import check_periods
from cohortlib.transactions.settings import Settings

_VALUES = (  # in the order of the kernel's entries
    "new", "retained", "resurrected", "new_amount", "retained_amount", "resurrected_amount", "expansion", "contraction",
    "refunded",
)  # fmt: skip
_RATES: dict[Freq, str] = {"M": "cmgr", "Q": "cqgr"}


@dataclass(frozen=True, eq=False)
class AccountingSums(AdditiveTable):
    """Sums by period behind the user accounting and the growth accounting of a set of users.

    Sums of disjoint users add: ``a + b`` is exactly the sums over both. :func:`accounting_sums` computes them.
    Concentration does not follow from them: it needs the amount of each user.

    Attributes
    ----------
    settings
        The settings that change sums. Only sums with equal settings add.
    table
        One row for each period with a value other than 0, sorted. All columns are Int64: ``period``, its ordinal (for
        months, the months since the year 0); the users who are ``new``, ``retained`` or ``resurrected``; and in units
        of ``10 ** -decimals`` ``new_amount``, ``retained_amount``, ``resurrected_amount``, ``expansion``,
        ``contraction`` (positive) and ``refunded`` (the negative nets of inactive users under ``refunds="signed"``).
    last_day
        Local day of the last row, in days since 1970-01-01; None without rows. It sets the last period.
    magnitude
        Sum of all absolute amounts, which bounds every sum.
    """

    columns = dict.fromkeys(("period", *_VALUES), pl.Int64)
    keys = ("period",)
    mark = "cohortlib.accounting_sums"
    noun = "accounting sums"
    check = staticmethod(check_periods)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in asdict(self.settings).items() if name != "joined")
        return f"AccountingSums({settings}; {self.table['new'].sum():,} users in {self.table.height:,} periods)"

    @with_settings
    def user_accounting(self, **edges: Unpack[Edges]) -> pl.DataFrame:
        """Return the table of :func:`cohortlib.termina.user_accounting`, with its arguments and columns."""
        periods = self._periods(**edges)
        if periods is None:
            return pl.DataFrame(schema=schema(USER_ACCOUNTING))
        before = _shifted(periods.active, 1)
        churned = periods.retained - before
        columns: dict[str, Ints | pl.Series] = {
            "active_users": periods.active,
            "retained": periods.retained,
            "new": periods.new,
            "resurrected": periods.resurrected,
            "churned": churned,
            "logo_retention": ratios.quotient(periods.retained, before),
            "quick_ratio": ratios.quotient(periods.new + periods.resurrected, -churned),
        }
        return periods.frame(USER_ACCOUNTING, columns, periods.active)

    @with_settings
    def growth_accounting(self, **edges: Unpack[Edges]) -> pl.DataFrame:
        """Return the table of :func:`cohortlib.termina.growth_accounting`, with its arguments and columns."""
        periods = self._periods(**edges)
        if periods is None:
            return pl.DataFrame(schema=schema(GROWTH_ACCOUNTING))
        before = _shifted(periods.active_amount, 1)
        churned = before - periods.retained_amount - periods.contraction
        gained = periods.new_amount + periods.resurrected_amount + periods.expansion
        lost = churned + periods.contraction
        net_lost = lost - periods.resurrected_amount - periods.expansion
        quotients = {
            "quick_ratio": (gained, lost),
            "gross_retention": (periods.retained_amount, before),
            "net_churn": (net_lost, before),
        }
        amounts = {
            "amount": periods.active_amount + periods.refunded,
            "retained": periods.retained_amount,
            "new": periods.new_amount,
            "resurrected": periods.resurrected_amount,
            "expansion": periods.expansion,
            "contraction": -periods.contraction,
            "churned": -churned,
        }
        columns = {
            **{name: ratios.money(units, periods.settings.scale) for name, units in amounts.items()},
            **{name: ratios.quotient(above, below) for name, (above, below) in quotients.items()},
            **{
                f"lifetime_{name}": ratios.quotient(_lifetime(above), _lifetime(below))
                for name, (above, below) in quotients.items()
            },
        }
        return periods.frame(GROWTH_ACCOUNTING, columns, periods.active_amount)

    def _periods(self, **edges: Unpack[Edges]) -> "_Periods | None":
        """Return the sums from the first period with an active user to the right edge; None if there is none."""
        settings = self.settings.with_edges(**edges)
        first, last = settings.bounds(self.last_day)
        if last is None:
            return None
        table = self.table.filter(pl.col("period") <= last)
        if table.is_empty():
            return None
        ordinals = table["period"].to_numpy()
        origin = int(ordinals[0])
        grid = Grid.between(origin, last, first)
        dense = np.zeros((len(_VALUES), grid.span), np.int64)
        dense[:, ordinals - origin] = table.select(_VALUES).to_numpy().T
        periods = _Periods(settings, grid, *dense)
        warn_of_years(periods.active, grid, settings)
        return periods


@dataclass(frozen=True)
class _Periods:
    """The sums of consecutive periods, from the first with an active user on."""

    settings: Settings
    grid: Grid
    new: Ints
    retained: Ints
    resurrected: Ints
    new_amount: Ints
    retained_amount: Ints
    resurrected_amount: Ints
    expansion: Ints
    contraction: Ints
    refunded: Ints

    @cached_property
    def active(self) -> Ints:
        """Active users of each period."""
        return self.new + self.retained + self.resurrected

    @cached_property
    def active_amount(self) -> Ints:
        """Their amount."""
        return self.new_amount + self.retained_amount + self.resurrected_amount + self.expansion

    def frame(self, fields: Fields, columns: Mapping[str, Ints | pl.Series], growing: Ints) -> pl.DataFrame:
        """Return a table of the periods to show, with the growth rates of `growing`."""
        own = _RATES.get(self.settings.freq)
        rates = {
            name: _growth(growing, int(name[4:])) if name[:4] == own else [None] * self.grid.span
            for name in fields
            if name[:4] in _RATES.values()
        }
        every = {"date": self.grid.labels(self.settings.calendar), **columns, **rates}
        return pl.DataFrame({name: every[name] for name in fields}, schema=schema(fields))[self.grid.first :]


def _shifted(values: Ints, periods: int) -> Ints:
    """Return the values of some periods earlier; 0 before the first.

    >>> _shifted(np.array([5, 6, 7]), 1).tolist()
    [0, 5, 6]
    """
    return np.concatenate([np.zeros(periods, np.int64), values])[: values.size]


def _lifetime(values: Ints) -> Ints:
    """Return the sums from the second period on.

    >>> _lifetime(np.array([5, 6, 7])).tolist()
    [0, 6, 13]
    """
    return np.cumsum(np.append(0, values[1:]))


def _growth(values: Ints, periods: int) -> list[float | None]:
    """Return the compound growth rate over some periods: (x_t / x_(t − n)) ** (1 / n) − 1.

    >>> _growth(np.array([100, 0, 400]), 2)
    [None, None, 1.0]
    """
    # Python's own arithmetic: its quotient of integers is rounded once, and its powers are the same on all machines.
    pairs = zip(values.tolist(), _shifted(values, periods).tolist(), strict=True)
    return [(now / before) ** (1 / periods) - 1 if now > 0 < before else None for now, before in pairs]


@with_settings
def accounting_sums(transactions: Source, **settings: Unpack[StateKeywords]) -> AccountingSums:
    """Compute the sums behind both accountings of some users, to add to the sums of others.

    All rows of a user must be in one table. One pass over the rows serves both tables.

    Parameters
    ----------
    transactions, user, timestamp, amount, freq, timezone, week_start, refunds, nulls, timestamp_format, decimal, \
    assume_zone, normalize, encoding, sheet, storage_options, decimals, threads, progress, max_memory
        As for :func:`cohortlib.termina.cohorts`. Its `start`, `end` and `complete_only` are arguments of
        :meth:`AccountingSums.user_accounting` and :meth:`AccountingSums.growth_accounting`.

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
    >>> both = cl.termina.accounting_sums(one) + cl.termina.accounting_sums(other)
    >>> both.user_accounting().select("date", "active_users", "churned").rows()
    [('2026-01', 2, 0), ('2026-02', 1, -1)]
    """
    with load(transactions, Settings.of(**settings), keep_users=False) as loaded:
        return accounting_sums_of(loaded)


def accounting_sums_of(loaded: LoadedRows) -> AccountingSums:
    """Return the sums over all users of loaded rows."""
    settings = SumsSettings.of(loaded.settings)
    if not loaded.span:
        return AccountingSums(settings, pl.DataFrame(schema=AccountingSums.columns), loaded.last_day, loaded.magnitude)

    def work(groups: Iterator[Activity]) -> Ints:
        sums = np.zeros(ENTRIES * loaded.span, np.int64)
        for users in groups:
            account(users.start, users.period, users.active, users.amount, sums)
        return sums

    by_period = np.sum(loaded.map_groups(work), axis=0).reshape(loaded.span, ENTRIES)
    ordinals = loaded.grid.origin + np.arange(loaded.span, dtype=np.int64)
    table = pl.DataFrame(np.column_stack([ordinals, by_period]), schema=AccountingSums.columns)
    return AccountingSums(settings, AccountingSums.without_zero_rows(table), loaded.final_day, loaded.magnitude)

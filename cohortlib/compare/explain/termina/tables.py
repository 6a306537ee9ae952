"""Tables of cohorts and customers as arrays, their cells, and how two of them stand to each other."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.compare.explain.evidence import Places, Standing, difference_bits
from cohortlib.compare.explain.termina.ledger import Bools, boundaries
from cohortlib.compare.reconcile.tolerances import Tolerance
from cohortlib.fields import COHORTS
from cohortlib.periods import Calendar
from cohortlib.read.arrays import Ints

Floats = NDArray[np.float64]

MARGIN_AGES = 1  # ages before 0 in a table, for shifted ones
_CENT = 0.01
MONEY = tuple(name for name, field in COHORTS.items() if field.kind == "money")
SHARES = tuple(name for name, field in COHORTS.items() if field.kind == "share")


@dataclass(frozen=True)
class Grid:
    """The periods that tables are laid out on: numbered from 0, which is the ordinal `origin`."""

    calendar: Calendar
    origin: int
    periods: int

    def first_day(self, index: int) -> int:
        """Return the first day of a period."""
        return int(self.calendar.first_days(np.array([self.origin + index], np.int64))[0])

    def index(self, day: date) -> int:
        """Return the number of a date's period."""
        return self.calendar.ordinal(day) - self.origin

    def label(self, index: int) -> str:
        """Format a period."""
        return self.calendar.label(self.origin + index)

    def edges(self, zone: str | None, low: int, high: int) -> Ints:
        """Return the instants at which the periods begin, and the last one ends."""
        ordinals = np.arange(self.origin, self.origin + self.periods + 1, dtype=np.int64)
        return boundaries(self.calendar.first_days(ordinals), zone, low, high)

    def day_edges(self, zone: str | None, low: int, high: int) -> Ints:
        """Return the instants at which the days of the grid begin."""
        return boundaries(np.arange(self.first_day(0), self.first_day(self.periods)), zone, low, high)

    def trailing_year(self, index: int) -> int:
        """Return the first period of the 12 months that end with a period."""
        return self.calendar.trailing_year(self.origin + index) - self.origin


@dataclass(frozen=True, eq=False)
class Table:
    """A table of cohorts or customers: one line for each, one column for each age from -1 on."""

    grid: Grid
    cohort: Ints  # of each line
    present: Bools
    values: Mapping[str, Floats]  # by field; NaN is null
    outside: int = 0  # cells of customers that have no line

    @classmethod
    def of_cohorts(cls, grid: Grid, present: Bools, count: Floats, money: Floats, size: Ints) -> "Table":
        """Compute the fields of cohorts."""
        sizes, firsts = size.astype(float)[:, None], money[:, :1]
        ones = np.ones_like(money)
        values = {
            "cohort_size": sizes * ones,
            "cohort_size_amount": firsts * ones,
            "active_users": count,
            "logo_retention": _quotient(count, sizes),
            "amount": money,
            "amount_retention": _quotient(money, firsts),
            "ltv": _quotient(money.cumsum(axis=1), sizes),
        }
        return cls.padded(grid, np.arange(grid.periods), present, values)

    @classmethod
    def of_customers(
        cls,
        grid: Grid,
        present: Bools,
        cohort: Ints,
        amount: Floats,
        active: Bools,
        basis: str,
        sums: Any,  # noqa: ANN401
    ) -> "Table":
        """Compute the fields of customers. `sums` are active users, amounts and sizes of the cohorts."""
        first, ltv = amount[:, :1], amount.cumsum(axis=1)
        divisor = first
        if basis != "single_customer":
            _, money, size = sums
            first = money[cohort, :1]
            divisor = _quotient(first, size[cohort][:, None].astype(float)) if basis == "cohort_mean" else first
            ltv = _quotient(money.cumsum(axis=1), size.astype(float)[:, None])[cohort]
        values = {
            "cohort_size_amount": first * np.ones_like(amount),
            "logo_retention": active.astype(float),
            "amount": amount,
            "amount_retention": _quotient(amount, divisor),
            "ltv": ltv,
        }
        return cls.padded(grid, cohort, present, values)

    @classmethod
    def padded(cls, grid: Grid, cohort: Ints, present: Bools, values: Mapping[str, Floats]) -> "Table":
        """Add the columns of ages before 0."""
        before = ((0, 0), (MARGIN_AGES, MARGIN_AGES))
        return cls(grid, cohort, np.pad(present, before), {name: np.pad(each, before) for name, each in values.items()})

    @classmethod
    def of_frame(cls, grid: Grid, frame: pl.DataFrame, ordinals: Ints, users: Mapping[str, int]) -> "Table":
        """Arrange a frame as arrays; `ordinals` are those of its cohorts."""
        cohorts, ages = ordinals - grid.origin, frame["period"].to_numpy() + MARGIN_AGES
        lines = cohorts
        if users:
            lines = np.array([users[name] for name in frame["user_id"].cast(pl.String)], np.int64)
        shape = (len(users) or grid.periods, grid.periods + 2 * MARGIN_AGES)
        inside = (ages >= 0) & (ages < shape[1])
        at = lines[inside], ages[inside]
        present = np.zeros(shape, np.bool_)
        present[at] = True
        values = {}
        for name in frame.columns:
            if name not in ("cohort", "user_id", "period"):
                values[name] = np.full(shape, np.nan)
                values[name][at] = frame[name].cast(pl.Float64).to_numpy()[inside]
        cohort = np.arange(grid.periods)
        if users:
            cohort = np.full(len(users), -1, np.int64)
            cohort[lines] = cohorts
        return cls(grid, cohort, present, values)

    def with_values(self, **values: Floats) -> "Table":
        """Replace some fields."""
        return replace(self, values={**self.values, **values})


def _quotient(above: Floats, below: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below != 0, above / np.where(below != 0, below, 1.0), np.nan)


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells to compare: the keys of either table at the start, and the fields that both have."""

    remote: Table
    start: Table
    fields: tuple[str, ...]
    tolerances: Mapping[str, Tolerance]
    sparse: bool = False  # the remote table leaves out rows of zeros

    @cached_property
    def _own(self) -> Bools:
        """The keys that only the local table had at the start."""
        same = self.remote.present & self._same_cohorts(self.start, self.remote)
        own: Bools = self._shown(self.start) & ~same
        return own

    @staticmethod
    def _same_cohorts(table: Table, other: Table) -> Bools:
        """Return whether each line has the same cohort in two tables; weeks from another day have other labels."""
        same: Bools = (table.cohort == other.cohort) & (table.grid.calendar == other.grid.calendar)
        return same[:, None]

    def _shown(self, table: Table) -> Bools:
        """Return the keys of a table, without rows of zeros that the remote table leaves out."""
        if not self.sparse:
            return table.present
        idle = np.ones(table.present.shape, np.bool_)
        for name in ("active_users", "logo_retention", "amount"):
            if name in self.fields:
                idle &= np.nan_to_num(table.values[name]) == 0
        same = self.remote.present & self._same_cohorts(table, self.remote)
        shown: Bools = table.present & (~idle | same)
        return shown

    @cached_property
    def _customers(self) -> bool:
        return "cohort_size" not in self.start.values

    @cached_property
    def _units(self) -> dict[str, float | Floats]:
        """The unit that the values of each field are multiples of, or twice its tolerance if that is more."""
        one_user: float | Floats = 1.0
        if not self._customers:
            one_user = 1.0 / np.maximum(self.start.values["cohort_size"], 1.0)
        of_first = _CENT / np.maximum(np.abs(self.start.values["cohort_size_amount"]), 1.0)
        units: dict[str, float | Floats] = {
            "active_users": 1.0, "cohort_size": 1.0, "amount": _CENT, "cohort_size_amount": _CENT,
            "logo_retention": one_user, "ltv": _CENT * one_user, "amount_retention": of_first,
        }  # fmt: skip
        return {name: np.maximum(units[name], 2.0 * self.tolerances[name].absolute) for name in self.fields}

    @cached_property
    def _parents(self) -> dict[str, tuple[str, ...]]:
        """The fields that another is computed from: a difference of both is stated once."""
        counts = ("amount",) if self._customers else ("active_users", "cohort_size")
        parents = {
            "logo_retention": counts,
            "amount_retention": ("amount", "cohort_size_amount"),
            "ltv": ("amount", *counts[1:]),
            "cohort_size": ("active_users", "logo_retention"),
            "cohort_size_amount": ("amount", "ltv"),
        }
        return {
            name: tuple(parent for parent in parents.get(name, ()) if parent in self.fields) for name in self.fields
        }

    @cached_property
    def _widest(self) -> dict[str, float]:
        """The spread of the remote values of each field."""
        spread = {}
        for name in self.fields:
            values = np.abs(self.remote.values[name][self.remote.present])
            values = values[~np.isnan(values)]
            spread[name] = float(np.quantile(values, 0.9)) if values.size else 1.0
        return spread

    @cached_property
    def places(self) -> Places:
        """The cohort, the date and the customer of each cell."""
        ages = np.arange(self.remote.present.shape[1]) - MARGIN_AGES
        result: dict[str, Ints] = {}
        lines = np.arange(self.remote.cohort.size)[:, None] + 0 * ages
        parts = ((self.remote.present, self.remote.cohort), (self._own, self.start.cohort))
        cohorts = [(np.maximum(cohort, 0)[:, None] + 0 * ages)[mask] for mask, cohort in parts]
        dates = [np.maximum(cohort[:, None] + ages, 0)[mask] for mask, cohort in parts]
        times = len(self.fields)
        result["cohorts"] = np.tile(np.concatenate(cohorts), times)
        result["dates"] = np.tile(np.concatenate(dates), times)
        if self._customers:
            result["customers"] = np.tile(np.concatenate([lines[mask] for mask, _ in parts]), times)
        return result

    def compare(self, table: Table) -> Standing:
        """Compare the cells with those of a table.

        That a row is not there is stated with a bit for each of its cells.
        """
        present = self._shown(table)
        same = present & self._same_cohorts(table, self.remote)
        still = present & self._same_cohorts(table, self.start)
        mask, own = self.remote.present, self._own
        here, gone = same[mask], ~still[own]
        agrees = {name: self._agrees(name, table, here) for name in self.fields}
        bits = []
        for name in self.fields:
            stated = ~agrees[name]
            for parent in self._parents[name]:
                stated &= self._agree_with(parent, name, agrees)
            bits += [self._bits(name, table, same, stated), np.where(gone, 0.0, 1.0)]
        known = (self.remote.present & same) | (own & still)
        extra = (int((present & ~known).sum()) + table.outside) * len(self.fields)
        every = np.concatenate([part for name in self.fields for part in (agrees[name], gone)])
        own_cells = np.tile(np.repeat([False, True], [here.size, gone.size]), len(self.fields))
        return Standing(every, np.concatenate(bits), extra, own_cells)

    def _agrees(self, name: str, table: Table, here: Bools) -> Bools:
        mask, tolerance = self.remote.present, self.tolerances[name]
        local, remote = table.values[name][mask], self.remote.values[name][mask]
        limit = np.maximum(tolerance.absolute, tolerance.relative * np.abs(remote))
        # The limit allows for numbers that end on half a cent.
        near = np.abs(local - remote) <= limit * (1 + 1e-9) + 1e-9
        agrees: Bools = here & (near | (np.isnan(local) & np.isnan(remote)))
        return agrees

    def _agree_with(self, parent: str, name: str, agrees: Mapping[str, Bools]) -> Bools:
        """Return where the parent of a field agrees; that of a constant field is the one at age 0."""
        if name not in ("cohort_size", "cohort_size_amount"):
            return agrees[parent]
        whole = np.ones(self.remote.present.shape, np.bool_)
        whole[self.remote.present] = agrees[parent]
        return np.repeat(whole[:, MARGIN_AGES], self.remote.present.sum(axis=1))

    def _bits(self, name: str, table: Table, same: Bools, stated: Bools) -> Floats:
        mask = self.remote.present
        local = np.where(same, np.nan_to_num(table.values[name]), 0.0)
        remote = np.where(mask, np.nan_to_num(self.remote.values[name]), 0.0)
        bits = difference_bits(local - remote, self._units[name], self._widest[name], self._usual[name])[mask]
        return np.where(stated, bits, 0.0)

    @cached_property
    def _usual(self) -> dict[str, float]:
        """The median of the differences of each field of money at the start; 0 for counts, which differ by few."""
        usual = {}
        same = self.remote.present & self.start.present & self._same_cohorts(self.start, self.remote)
        for name in self.fields:
            gap = np.abs(self.start.values[name] - self.remote.values[name])[same]
            gap = gap[gap > self.tolerances[name].absolute]
            usual[name] = float(np.median(gap)) if gap.size and name in MONEY else 0.0
        return usual


@lru_cache(maxsize=4)
def ordinals(calendar: Calendar, labels: tuple[str, ...]) -> dict[str, int]:
    """Parse labels of periods."""
    from cohortlib.periods import span

    return {label: calendar.ordinal(span("cohort", label)[0]) for label in labels}

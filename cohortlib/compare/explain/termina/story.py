"""The local table under causes, computed from the ledger."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from cohortlib.compare.explain.causes import Cause
from cohortlib.compare.explain.kernels import replay
from cohortlib.compare.explain.termina.edits import JoinedDates, RowEdit
from cohortlib.compare.explain.termina.ledger import DAY, Bools, Ledger, Rows, boundaries
from cohortlib.compare.explain.termina.table_edits import TableEdit
from cohortlib.compare.explain.termina.tables import Grid, Table
from cohortlib.errors import DataError
from cohortlib.periods import Calendar, epoch_day, span
from cohortlib.read.arrays import Ints

_REFUNDS = {"net": replay.NET, "signed": replay.SIGNED, "drop": replay.DROP}
_NO_INTS = np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class Replay:
    """The cells of all users: those of user u end at ends[u]."""

    cohort: Ints  # -1 for users without one
    ends: Ints
    period: Ints
    amount: Ints
    active: Bools

    @cached_property
    def user(self) -> Ints:
        """The user of each cell."""
        return np.repeat(np.arange(self.ends.size, dtype=np.int64), np.diff(self.ends, prepend=0))

    @cached_property
    def firsts(self) -> Ints:
        """The active amount of each user in the first period."""
        return np.asarray(np.bincount(
            self.user, self.amount * (self.active & (self.period == self.cohort[self.user])), self.ends.size
        )).astype(np.int64)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Story:
    """Causes, and the table under them."""

    rows: Rows
    grid: Grid
    settings: Mapping[str, Any]  # under the causes
    row_edits: tuple[RowEdit, ...] = ()
    table_edits: tuple[TableEdit, ...] = ()
    users: Mapping[str, int] = field(default_factory=dict)  # of customer tables: the place of each customer

    @classmethod
    def of(
        cls, rows: Rows, grid: Grid, settings: Mapping[str, Any], causes: tuple[Cause, ...], users: Mapping[str, int]
    ) -> "Story":
        """Apply causes to the settings and collect their edits."""
        changed = dict(settings)
        for cause in causes:
            changed.update(cause.settings)
        values = [cause.value for cause in causes]
        row_edits = [value for value in values if isinstance(value, RowEdit)]
        table_edits = [value for value in values if isinstance(value, TableEdit)]
        dates = [value for value in values if isinstance(value, JoinedDates)]
        if dates:
            changed["joined"] = dates[0]
        elif isinstance(changed["joined"], str) and changed["joined"] in rows.frame.columns:
            changed["joined"] = JoinedDates(changed["joined"])
        elif changed["joined"] is not None:
            changed["joined"] = JoinedDates(None, external=True)
        if grid.calendar.freq == "W":
            grid = replace(grid, calendar=Calendar("W", changed["week_start"]))
        return cls(
            rows, grid, changed, tuple(sorted(row_edits, key=lambda edit: edit.stage)), tuple(table_edits), users
        )

    # --------------------------------------------------------------------------------------------------------- rows

    @cached_property
    def ledger(self) -> Ledger:
        """The rows under the causes."""
        ledger = self.rows.ledger
        for edit in self.row_edits:
            ledger = edit.apply(ledger, self.rows, self.zone)
        return ledger

    @property
    def zone(self) -> str | None:
        """The zone that instants are converted to; None if they stand as they are."""
        as_utc = self.rows.zoned or self.settings.get("taken_as_utc")
        return self.settings["timezone"] if as_utc else None

    @cached_property
    def bounds(self) -> tuple[int, int]:
        """The first and last instant of the rows."""
        at = self.rows.ledger.at
        return (int(at.min()), int(at.max())) if at.size else (0, 0)

    @cached_property
    def edges(self) -> Ints:
        """The instants at which the periods of the grid begin, up to the end."""
        return self.grid.edges(self.zone, *self.bounds)[: self.grid.periods + 1]

    @cached_property
    def plan(self) -> replay.Plan:
        """The input of the kernels."""
        ledger = self.ledger
        return replay.Plan(
            ledger.starts, ledger.at, ledger.units, ledger.weight, self.edges[: self.last_cut + 2],
            _REFUNDS[self.settings["refunds"]], self.joined,
            replay.SKIP if self.settings["before_joined"] == "drop" else replay.CLIP,
        )  # fmt: skip

    @cached_property
    def joined(self) -> Ints:
        """The period that each user joined in, by `joined`; -1 without one."""
        source = self.settings["joined"]
        if source is None:
            return _NO_INTS
        dates: JoinedDates = source
        periods = np.full(self.ledger.users, -1, np.int64)
        at, zone = dates.of_users(self.ledger, self.rows, self.zone)
        known = at != np.iinfo(np.int64).min
        if known.any():
            edges = self.grid.edges(zone, int(at[known].min()), int(at[known].max()))
            periods[known] = np.searchsorted(edges, at[known], side="right") - 1
        if (periods[known] < 0).any():
            raise DataError("a joined date lies before the periods compared", expected="a later date")
        periods[periods > self.last_cut] = self.grid.periods  # after the last period: not shown
        return periods

    # -------------------------------------------------------------------------------------------------------- edges

    @cached_property
    def last_cut(self) -> int:
        """The last period of `end`; that of the grid without one."""
        end = self.settings["end"]
        last = self.grid.periods - 1
        return last if end is None else min(self.grid.index(span("end", end)[1]), last)

    @cached_property
    def last(self) -> int:
        """The last period of the table, -1 without rows."""
        ledger = self.ledger
        at = ledger.at[ledger.counts]
        inside = at[at < self.edges[self.last_cut + 1]] if at.size else at
        if not at.size:
            return -1
        end = self.settings["end"]
        if end is None and not inside.size:
            return -1
        last = self.last_cut if end is not None else int(np.searchsorted(self.edges, inside.max(), side="right") - 1)
        if self.settings["complete_only"]:
            day_after = self._last_day(at, end)
            while last >= 0 and self.grid.first_day(last + 1) > day_after:
                last -= 1
        return last

    def _last_day(self, at: Ints, end: Any) -> int:  # noqa: ANN401 - a date or a label
        """Return the day after the last day of the data."""
        starts = self.grid.day_edges(self.zone, *self.bounds)
        day = int(np.searchsorted(starts, at.max(), side="right")) + self.grid.first_day(0)
        return day if end is None else min(day, epoch_day(span("end", end)[1]) + 1)

    @cached_property
    def first(self) -> int:
        """The first cohort that is shown."""
        start = self.settings["start"]
        return 0 if start is None else max(0, self.grid.index(span("start", start)[0]))

    # -------------------------------------------------------------------------------------------------------- cells

    @cached_property
    def replay(self) -> Replay:
        """The cells of all users."""
        users, rows = self.ledger.users, self.ledger.at.size + self.ledger.users
        cohort, ends = np.empty(users, np.int64), np.empty(users, np.int64)
        period, amount, active = np.empty(rows, np.int64), np.empty(rows, np.int64), np.empty(rows, np.bool_)
        cells = replay.net_all(self.plan, cohort, ends, period, amount, active)
        return Replay(cohort, ends, period[:cells], amount[:cells], active[:cells])

    @cached_property
    def sums(self) -> tuple[np.ndarray, np.ndarray, Ints]:
        """Active users and amounts by cohort and age, and the sizes of the cohorts."""
        count, money = (np.zeros((self.grid.periods, self.grid.periods)) for _ in range(2))
        size = np.zeros(self.grid.periods, np.int64)
        cells = self.replay
        replay.add_cells(cells.cohort, cells.ends, cells.period, cells.amount, cells.active, count, money, size)
        return count, money, size

    @cached_property
    def table(self) -> Table:
        """The table under the causes."""
        table = self._customers() if self.users else self._cohorts()
        for edit in self.table_edits:
            table = edit.apply(table)
        return table

    def _cohorts(self) -> Table:
        count, money, size = self.sums
        ages = np.arange(self.grid.periods)
        cohorts = np.arange(self.grid.periods)
        shown = (size > 0) & (cohorts >= self.first) & (cohorts <= self.last)
        present = shown[:, None] & (ages <= self.last - cohorts[:, None])
        return Table.of_cohorts(self.grid, present, count, money / self.rows.scale, size)

    def _customers(self) -> Table:
        cells, places = self.replay, self.places
        grid, users = self.grid, len(self.users)
        shape = users, grid.periods
        amount, active = np.zeros(shape), np.zeros(shape, np.bool_)
        age = cells.period - cells.cohort[cells.user]
        inside = (age >= 0) & (places[cells.user] >= 0)
        outside = int((places[cells.user] < 0).sum())
        at = places[cells.user[inside]], age[inside]
        np.add.at(amount, at, cells.amount[inside] / self.rows.scale)
        active[at] |= cells.active[inside]
        cohort = np.full(users, -1, np.int64)
        known = places >= 0
        cohort[places[known]] = cells.cohort[known]
        shown = (cohort >= self.first) & (cohort <= self.last)
        if self.settings["top_n"] is not None:
            shown &= self._top(cohort)
        present = shown[:, None] & (np.arange(grid.periods) <= self.last - cohort[:, None])
        if self.settings["rows"] == "active":
            present &= active
        sums = tuple(each / scale for each, scale in zip(self.sums, (1, self.rows.scale, 1), strict=True))
        table = Table.of_customers(grid, present, cohort, amount, active, self.settings["basis"], sums)
        return replace(table, outside=outside)

    @cached_property
    def places(self) -> Ints:
        """The place of each user in the table of customers."""
        return np.array([self.users.get(name, -1) for name in self.ledger.names], np.int64)

    def _top(self, cohort: Ints) -> Bools:
        """Return the customers that rank highest."""
        scores = self.scores(self.settings["rank_by"])
        names = self.ledger.names
        ranking = pl.DataFrame({"score": scores, "name": names, "place": self.places})
        ranking = ranking.filter(pl.Series(self.replay.cohort >= self.first))
        best = ranking.sort("score", "name", descending=[True, False]).head(self.settings["top_n"])
        chosen = np.zeros(cohort.size, np.bool_)
        chosen[best["place"].to_numpy()] = True
        return chosen

    def scores(self, rank_by: str | None) -> Ints:
        """Return what each user is ranked by."""
        cells = self.replay
        if rank_by == "active_periods":
            return np.bincount(cells.user, cells.active, cells.ends.size).astype(np.int64)
        if rank_by == "cohort_size_amount":
            return cells.firsts
        total = np.bincount(cells.user, cells.amount, cells.ends.size)
        if rank_by == "ltv":
            return total.astype(np.int64)
        recent = cells.amount * (cells.period >= self.grid.trailing_year(self.last))
        acv = np.bincount(cells.user, recent, cells.ends.size)
        return (acv if rank_by == "acv" else acv + total).astype(np.int64)

    # ----------------------------------------------------------------------------------------------- public settings

    def arguments(self, names: frozenset[str]) -> tuple[pl.DataFrame, dict[str, Any]]:
        """Return the rows and settings for the public call that computes the same table, before its edits."""
        settings = {name: value for name, value in self.settings.items() if name in names}
        joined = self.settings["joined"]
        if joined is not None:
            settings["joined"] = joined.frame(self.ledger, self.rows)
        return self.rows.text(self.ledger, settings=self.settings), settings


def day_of(at: Ints, zone: str | None, low: int, high: int) -> Ints:
    """Return the local days of instants."""
    if zone is None:
        return at // DAY
    first, last = low // DAY - 2, high // DAY + 3
    return first - 1 + np.searchsorted(boundaries(np.arange(first, last), zone, low, high), at, side="right")


def date_text(day: int) -> str:
    """Format a day since 1970-01-01."""
    return str(date(1970, 1, 1).fromordinal(day + date(1970, 1, 1).toordinal()))

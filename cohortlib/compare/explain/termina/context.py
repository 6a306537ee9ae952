"""What families of candidates look at: the story so far against the remote table."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cohortlib.compare.explain.causes import Cause
from cohortlib.compare.explain.termina.edits import RowEdit
from cohortlib.compare.explain.termina.ledger import Ledger, Rows
from cohortlib.compare.explain.termina.screen import Groups, Screen
from cohortlib.compare.explain.termina.story import Story, day_of
from cohortlib.compare.explain.termina.tables import Grid, Table
from cohortlib.read.arrays import Ints

Floats = NDArray[np.float64]
Ranked = Iterable[tuple[float, Cause]]

BEST = 3  # causes of a family that are tried
_MOST_SUMS = 20_000_000


@dataclass(frozen=True, eq=False)
class Context:
    """A story, and the remote table without the story's edits of tables."""

    story: Story
    remote: Table
    kinds: frozenset[str]  # of the causes so far
    in_time: Callable[[], bool]

    @cached_property
    def screen(self) -> Screen:
        """Measures candidates."""
        return Screen(self.story, self.remote)

    @property
    def rows(self) -> Rows:
        """The rows as read."""
        return self.story.rows

    @property
    def ledger(self) -> Ledger:
        """The rows of the story."""
        return self.story.ledger

    @property
    def grid(self) -> Grid:
        """The periods."""
        return self.story.grid

    @cached_property
    def days(self) -> Ints:
        """The local day of each row."""
        return day_of(self.ledger.at, self.story.zone, *self._bounds)

    @property
    def _bounds(self) -> tuple[int, int]:
        at = self.ledger.at
        return (int(at.min()), int(at.max())) if at.size else (0, 0)

    def utc_days(self) -> Ints:
        """Return the UTC day of each row."""
        return day_of(self.ledger.at, None, *self._bounds)

    def counts(self, groups: Groups) -> Ints:
        """Return how many rows of each group count."""
        weights = np.append(0, np.cumsum(np.maximum(self.ledger.weight[groups.rows], 0)))
        return np.diff(weights[groups.ends], prepend=0)

    def with_edit(self, edit: RowEdit) -> "Context":
        """Return the context after a further edit."""
        edits = sorted((*self.story.row_edits, edit), key=lambda each: each.stage)
        return replace(self, story=replace(self.story, row_edits=tuple(edits)))

    def best(self, ranked: Ranked, count: int = BEST) -> Iterator[Cause]:
        """Yield the causes with the fewest bits, theirs included, if these are fewer than without a cause."""
        scored = [(float(bits) + cause.bits, at, cause) for at, (bits, cause) in enumerate(ranked)]
        for bits, _, cause in sorted(scored, key=lambda each: each[:2])[:count]:
            if bits < self.screen.bits:
                yield cause

    # ---------------------------------------------------------------------------------------------------- the money

    @cached_property
    def cents(self) -> float:
        """How far a remote amount may be from the exact one."""
        return 0.501 * self.screen.unit / self.rows.scale

    def cell_money(self) -> tuple[Floats, Ints] | None:
        """Return by how much each remote amount is higher, in units, and the cell of each row; -1 without one.

        A cell is a cohort and age, or a customer and period.
        """
        ledger, story, periods = self.ledger, self.story, self.grid.periods
        period = np.searchsorted(story.plan.edges, ledger.at, side="right") - 1
        if story.users:
            target, cells = self.screen.user_target, story.replay
            if not target.by_money:
                return None
            local = np.bincount(cells.user * periods + cells.period, cells.amount, ledger.users * periods)
            users = np.repeat(np.arange(ledger.users), np.diff(target.ends, prepend=0))
            remote = np.bincount(users * periods + target.period, target.amount, ledger.users * periods)
            cell = ledger.user * periods + period
            excess = np.where(np.repeat(target.counted, periods), remote - local, 0.0)
            return excess, np.where((period >= 0) & (period <= target.last), cell, -1)
        if self.screen.money is None:
            return None
        cohort = story.replay.cohort[ledger.user]
        known = (cohort >= 0) & (cohort < periods) & (period >= cohort)
        excess = np.where(self.screen.known, self.screen.money - story.sums[1], 0.0).ravel()
        return excess, np.where(known, cohort * periods + period - cohort, -1)

    def cell_sums(self, groups: Groups, cell_of: Ints, cells: int) -> Floats | None:
        """Sum up the amounts of each group by cell; None if these are too many."""
        ledger = self.ledger
        units = (ledger.units * ledger.weight).astype(float)
        if self.story.settings["refunds"] == "drop":
            units = np.maximum(units, 0.0)
        group = np.repeat(np.arange(len(groups)), np.diff(groups.ends, prepend=0))
        cell = cell_of[groups.rows]
        inside = cell >= 0
        if cells * len(groups) <= _MOST_SUMS:
            at = group[inside] * cells + cell[inside]
            sums = np.bincount(at, units[groups.rows[inside]], cells * len(groups)).astype(float)
            return sums.reshape(len(groups), cells)
        return None

"""Measure many candidates at once by the bits that the remote sums need, given the local ones under a candidate."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cohortlib.compare.explain.kernels import replay
from cohortlib.compare.explain.termina.story import Story
from cohortlib.compare.explain.termina.tables import MARGIN_AGES, Table
from cohortlib.read.arrays import Ints

Floats = NDArray[np.float64]
_CENT = 0.01


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups of rows: those of group g, ascending, end at ends[g]."""

    ends: Ints
    rows: Ints

    @classmethod
    def of_codes(cls, codes: Ints, count: int) -> "Groups":
        """Group rows by a number from 0 on; negative ones are in no group."""
        order = np.argsort(codes, kind="stable")
        return cls(np.cumsum(np.bincount(codes[codes >= 0], minlength=count)), order[(codes < 0).sum() :])

    @classmethod
    def of_lists(cls, lists: Sequence[Ints]) -> "Groups":
        """Take the rows of each group."""
        ends = np.cumsum([rows.size for rows in lists])
        return cls(ends.astype(np.int64), np.concatenate([*lists, np.empty(0, np.int64)]).astype(np.int64))

    def __len__(self) -> int:
        return self.ends.size

    def rows_of(self, group: int) -> Ints:
        """Return the rows of a group."""
        return self.rows[self.ends[group - 1] if group else 0 : self.ends[group]]


@dataclass(frozen=True, eq=False)
class Screen:
    """The sums of a story against those of the remote table, in the presentation of the local one."""

    story: Story
    remote: Table

    @cached_property
    def bits(self) -> float:
        """The bits of the sums without a further cause."""
        if self.story.users:
            return float(self._user_bits.sum())
        count, money, _ = self.story.sums
        return float(replay.table_bits(self.target, count, money))

    def bits_of(self, story: Story) -> float:
        """Return the bits of the sums of another story."""
        return Screen(story, self.remote).bits

    def change(self, groups: Groups, weight: int, *, factors: Floats | None = None, alone: bool = False) -> Floats:
        """Return the bits if the rows of each group had another weight or factor, or counted alone."""
        weights = np.full(len(groups), weight, np.int64)
        factors = np.ones(len(groups)) if factors is None else factors
        plan, cells = self.story.plan, self.story.replay
        if self.story.users:
            arguments = (plan, self.user_target, self._user_bits)
            return np.asarray(replay.screen_users(*arguments, groups.ends, groups.rows, weights, alone, factors))
        return np.asarray(replay.screen_groups(
            plan, self.target, cells.cohort, cells.ends, cells.period, cells.amount, cells.active,
            groups.ends, groups.rows, weights, alone, factors,
        ))  # fmt: skip

    # ------------------------------------------------------------------------------------------------------- cohorts

    @cached_property
    def seen(self) -> tuple[int, int]:
        """The first cohort and the last period of the remote table; (0, -1) if it is empty."""
        lines, ages = np.nonzero(self.remote.present[:, MARGIN_AGES:-MARGIN_AGES])
        cohorts = self.remote.cohort[lines]
        return (int(cohorts.min()), int((cohorts + ages).max())) if lines.size else (0, -1)

    @property
    def last(self) -> int:
        """The last period of the remote table."""
        return self.seen[1]

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """The cells, by cohort and age, that the remote table could have: up to its last period."""
        first, last = self.seen
        cohorts, ages = np.indices((self.story.grid.periods, self.story.grid.periods))
        return (cohorts + ages <= last) & (cohorts >= first)

    def _field(self, name: str) -> Floats | None:
        values = self.remote.values.get(name)
        return None if values is None else np.nan_to_num(values[:, MARGIN_AGES:-MARGIN_AGES])

    @cached_property
    def _sizes(self) -> Floats:
        sizes = self._field("cohort_size")
        return self.story.sums[2].astype(float)[:, None] if sizes is None else sizes.max(axis=1, keepdims=True)

    @cached_property
    def counts(self) -> Floats | None:
        """The remote active users by cohort and age."""
        count, share = self._field("active_users"), self._field("logo_retention")
        return np.rint(share * self._sizes) if count is None and share is not None else count

    @cached_property
    def money(self) -> Floats | None:
        """The remote amounts by cohort and age, in units."""
        amount, ltv, share = (self._field(name) for name in ("amount", "ltv", "amount_retention"))
        if amount is None and ltv is not None:
            amount = np.diff(ltv, axis=1, prepend=0.0) * self._sizes
        if amount is None and share is not None:
            first = self._field("cohort_size_amount")
            first = self.story.sums[1][:, :1] / self.story.rows.scale if first is None else first[:, :1]
            amount = share * first
        return None if amount is None else amount * self.story.rows.scale

    @cached_property
    def unit(self) -> float:
        """The unit that remote amounts are multiples of."""
        size = 1.0 if "amount" in self.remote.values else max(1.0, float(np.median(self._sizes[self._sizes > 0])))
        return _CENT * size * self.story.rows.scale

    @cached_property
    def target(self) -> replay.Target:
        """The remote sums for the kernels."""
        count, money = (
            np.full(self.known.shape, np.nan) if each is None else np.where(self.known, each, np.nan)
            for each in (self.counts, self.money)
        )
        return replay.Target(count, money, self.unit, 0.51 * self.unit)

    # ----------------------------------------------------------------------------------------------------- customers

    @cached_property
    def user_target(self) -> replay.UserTarget:
        """The remote cells of each user for the kernels."""
        places = self.story.places
        amount, active = self._field("amount"), self._field("logo_retention")
        by_money = amount is not None
        values = amount * self.story.rows.scale if amount is not None else active
        if values is None:
            values = np.zeros(self.remote.present.shape)[:, MARGIN_AGES:-MARGIN_AGES]
        values = np.where(self.remote.present[:, MARGIN_AGES:-MARGIN_AGES], values, 0.0)
        listed = (self.remote.cohort >= 0)[places] & (places >= 0)
        users, ages = np.nonzero(values[places] * listed[:, None])
        ends = np.cumsum(np.bincount(users, minlength=places.size))
        counted = np.ones(places.size, np.bool_) if self.story.settings["top_n"] is None else listed
        unit = _CENT * self.story.rows.scale if by_money else 1.0
        return replay.UserTarget(
            counted, ends, self.remote.cohort[places[users]] + ages, values[places[users], ages], self.last, by_money,
            unit, 0.51 * unit if by_money else 0.0,
        )  # fmt: skip

    @cached_property
    def _user_bits(self) -> Floats:
        cells = self.story.replay
        bits = np.empty(cells.ends.size)
        replay.all_user_bits(self.user_target, cells.ends, cells.period, cells.amount, cells.active, bits)
        return bits

    # --------------------------------------------------------------------------------------------------- by calendar

    @cached_property
    def by_period(self) -> tuple[Floats, Floats] | None:
        """The local and the remote amounts of each calendar period, in units; counts if there are no amounts."""
        if self.story.users:
            return self._users_by_period()
        remote = self.money if self.money is not None else self.counts
        if remote is None:
            return None
        local = self.story.sums[1] if self.money is not None else self.story.sums[0]
        # Users may begin in other cohorts there, so all cohorts count, up to the last period of the remote table.
        sums = _by_period(local), _by_period(np.where(self.known, remote, 0.0))
        for side in sums:
            side[self.last + 1 :] = 0.0
        return sums

    def _users_by_period(self) -> tuple[Floats, Floats]:
        target, cells, periods = self.user_target, self.story.replay, self.story.grid.periods
        values = cells.amount if target.by_money else cells.active
        inside = target.counted[cells.user] & (cells.period <= target.last)
        local = np.bincount(cells.period[inside], values[inside], periods)
        return local.astype(float), np.bincount(target.period, target.amount, periods).astype(float)


def _by_period(values: Floats) -> Floats:
    """Sum values by cohort and age over the calendar period, cohort + age."""
    periods = len(values)
    at = np.add.outer(np.arange(periods), np.arange(periods))
    return np.bincount(at[at < periods], values[at < periods], periods).astype(float)

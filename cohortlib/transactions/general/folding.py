"""Fold sums by first day into the cells of a table, whose edges are known by then."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.errors import warn
from cohortlib.read.arrays import Ints
from cohortlib.transactions.general.additive import LIMBS, MORE, SEGMENT, limbs_of
from cohortlib.transactions.general.cells import Cells, Grid, lay_out
from cohortlib.transactions.general.question import Question
from cohortlib.transactions.general.rows import UserTable
from cohortlib.transactions.general.table import empty_table, write_table
from cohortlib.transactions.general.values import Values
from cohortlib.transactions.kernels import general as kernel


@dataclass
class SavedFrame:
    """What a table needs of rows that are summed up."""

    question: Question
    days: tuple[int, int]
    last_day: int | None
    values: dict[str, Values]
    row_columns: tuple[str, ...] = ()
    joined: UserTable | None = None
    joined_days: tuple[int, int] | None = None


def table_of(sums: pl.DataFrame, question: Question, last_day: int | None, *, joined: bool) -> pl.DataFrame:
    """Return the table of sums, with the edges of `question`."""
    values = {name: Values(name) for name in (*question.by, *question.split)}
    codes = {name: each.encode(sums[f"{SEGMENT}{name}"]) for name, each in values.items()}
    first_day = sums["first_day"].to_numpy()
    days = (int(first_day.min()), int(first_day.max())) if sums.height else (0, -1)
    frame = SavedFrame(question, days, last_day, values)
    grid = lay_out(frame)
    if grid is None:
        empty = empty_table(question)
        known = values.items() if last_day is not None else ()
        return empty.with_columns(pl.col(name).cast(each.dtype) for name, each in known)
    segment = np.zeros(sums.height, np.int64)
    for (name, each), count in zip(values.items(), grid.counts, strict=True):
        segment = segment * count + each.ranks()[codes[name]]
    cells = _Fold(sums, question, grid, segment, joined=joined).cells(warn_of_late=joined and question.end is None)
    return write_table(frame, cells, grid)


class _Fold:
    """Sums, with the cohort and the observed ages of each row."""

    def __init__(self, sums: pl.DataFrame, question: Question, grid: Grid, segment: Ints, *, joined: bool) -> None:
        self._question, self._grid = question, grid
        first_day = sums["first_day"].to_numpy()
        rules, edges = grid.rules, grid.edges
        cohort = question.calendar.ordinals(first_day) - grid.origin
        self._late = int(sums.filter(cohort > rules.last_cohort)["size"].sum())
        shown = (cohort >= rules.first_cohort) & (cohort <= rules.last_cohort)
        if not question.width and not joined:  # users of periods that are cut off have no rows
            shown &= question.ages.ordinals(first_day) <= edges.age
        self._sums, first_day, cohort = sums.filter(shown), first_day[shown], cohort[shown]
        if question.width:
            never = edges.last_day is None
            last = np.full(cohort.size, -1) if never else (rules.last_day - first_day + 1) // question.width - 1
            over = last
        else:
            period = question.ages.ordinals(first_day)
            last = edges.age - period
            over = np.full(cohort.size, -1) if edges.over is None else edges.over - period
        self._last = last
        self._seen, self._over = (self._columns(rules.seen_of, ages) for ages in (last, over))
        keys = segment[shown] * rules.cohort_count + cohort
        self._keys, self._group = np.unique(keys, return_inverse=True)
        width = grid.widths[self._keys % rules.cohort_count]
        self._ends = np.cumsum(width)
        self._offsets = self._ends - width
        self._base = self._offsets[self._group]

    @staticmethod
    def _columns(table: NDArray[np.int32], ages: Ints) -> Ints:
        """Return the column of each age, −1 for ages below 0."""
        return np.where(ages >= 0, table[np.clip(ages, 0, table.size - 1)], -1).astype(np.int64)

    def cells(self, *, warn_of_late: bool) -> Cells:
        """Return the cells, with the entries of ``kernels.general``."""
        if self._late and warn_of_late:
            warn(f"{self._late:,} users in joined have a date after the last period: they were left out")
        question = self._question
        age = self._sums["age"].to_numpy()
        column = self._columns(self._grid.rules.column_of, age)
        shown = (age <= self._last) & (column <= self._seen)
        at, end = self._base + column, self._base + self._seen
        is_seen = self._seen >= 0
        height = int(self._ends[-1]) if self._ends.size else 0
        cells = np.zeros((height, kernel.MORE + 2 * len(question.amounts)), np.int64)

        def add(entry: int, rows: NDArray[np.bool_], where: Ints, values: Ints) -> None:
            np.add.at(cells[:, entry], where[rows], values[rows])

        size, first, active, amount = (
            self._sums[name].to_numpy() for name in ("size", "first_amount", "active", "amount")
        )  # fmt: skip
        if question.retention == "consecutive":  # runs that go on beyond the last age end at it
            add(kernel.ACTIVE, is_seen, self._base + np.minimum(age, self._last), active)
        else:
            add(kernel.ACTIVE, shown & self._counts(age, column), at, active)
        add(kernel.AMOUNT, shown, at, amount)
        add(kernel.LAST, is_seen, end, size)
        add(kernel.OVER, self._over >= 0, self._base + self._over, size)
        add(kernel.LAST_FIRST, is_seen, end, first)
        add(kernel.LAST_TOTAL, shown, end, amount)
        for m, name in enumerate(question.amounts):
            more = self._sums[f"{MORE}{name}"].to_numpy()
            add(kernel.MORE + 2 * m, shown, at, more)
            add(kernel.MORE + 2 * m + 1, shown, end, more)
        squares = np.zeros((height if question.confidence else 0, kernel.WORDS), np.uint64)
        if limbs_of(question):
            for name, places in (
                ("squares", ((kernel.SQUARES, shown, at),)), ("products", ((kernel.PRODUCTS, shown, at),)),
                ("growth", ((kernel.TOTALS, shown, at), (kernel.LAST_TOTALS, shown, end))),
                ("first_squares", ((kernel.LAST_FIRSTS, is_seen, end),)),
            ):  # fmt: skip
                for entry, rows, where in places:
                    squares[:, entry : entry + 2] = self._wide(name, rows, where, height)
        sizes, firsts = (np.zeros(self._keys.size, np.int64) for _ in range(2))
        np.add.at(sizes, self._group, size)
        np.add.at(firsts, self._group, first)
        return Cells(self._keys, self._offsets, sizes, firsts, cells, squares)

    def _counts(self, age: Ints, column: Ints) -> NDArray[np.bool_]:
        """Return which active users count at their age: once in a bracket, or at the last age at which they are."""
        if "next_age" not in self._sums.columns:
            return np.ones(age.size, np.bool_)
        following = self._sums["next_age"].to_numpy()
        counts: NDArray[np.bool_] = (following < 0) | (following > self._last)
        if self._question.brackets is not None:
            counts |= self._columns(self._grid.rules.column_of, following) != column
        return counts

    def _wide(self, name: str, rows: NDArray[np.bool_], where: Ints, height: int) -> NDArray[np.uint64]:
        """Return the sums of 128-bit numbers, two words each."""
        limbs = np.zeros((LIMBS, height), np.int64)
        for limb in range(LIMBS):
            np.add.at(limbs[limb], where[rows], self._sums[f"{name}.{limb}"].to_numpy()[rows])
        for limb in range(1, LIMBS):
            limbs[limb] += limbs[limb - 1] >> 32
            limbs[limb - 1] &= 2**32 - 1
        words = limbs.view(np.uint64)
        shift = np.uint64(32)
        return np.stack([words[1] << shift | words[0], words[3] << shift | words[2]], axis=1)

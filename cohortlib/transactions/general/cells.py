"""The cells of the general table: sums over (segment, cohort, column of ages), which add over disjoint users."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine.partitions import check_size
from cohortlib.engine.threads import run_workers
from cohortlib.errors import Arg, DataError
from cohortlib.read.arrays import Ints
from cohortlib.transactions.general.parts import part_count, part_of
from cohortlib.transactions.general.question import Edges
from cohortlib.transactions.general.rows import TableFrame, TableRows
from cohortlib.transactions.joined import JoinedFit
from cohortlib.transactions.kernels import counters
from cohortlib.transactions.kernels import general as kernel
from cohortlib.transactions.store.parts import USER

_SMALLER = "fewer segments, a coarser ", Arg("freq"), " or ", Arg("age")
_RETENTION = {"exact": kernel.EXACT, "unbounded": kernel.UNBOUNDED, "consecutive": kernel.CONSECUTIVE}
_MOST_KEYS = 2**62
_NEVER = -(2**40)


@dataclass(frozen=True)
class Grid:
    """How days and ages are laid out: the edges, the rules of the kernel, and the columns of ages.

    `firsts` and `lasts` are the ages at which each column begins and ends, −1 for the open one; the column before the
    first bracket has none that is shown.
    """

    edges: Edges
    rules: kernel.Rules
    origin: int  # ordinal of cohort 0
    widths: Ints  # columns that each cohort can have
    firsts: Ints
    lasts: Ints
    hidden: int  # columns before the first that is shown
    counts: tuple[int, ...]  # ranks of each column of segments
    span: int  # periods of ages


@dataclass(frozen=True)
class Cells:
    """Sums of groups, each a segment and a cohort; see ``kernels.general`` for the entries."""

    keys: Ints
    offsets: Ints
    sizes: Ints
    firsts: Ints
    cells: Ints
    squares: NDArray[np.uint64]

    def merge(self, other: "Cells", widths: Ints, cohorts: int) -> "Cells":
        """Add the sums of other users."""
        keys = np.union1d(self.keys, other.keys)
        width = widths[keys % cohorts]
        ends = np.cumsum(width)
        offsets = ends - width
        height = int(ends[-1]) if ends.size else 0
        check_size(height, _SMALLER)
        sizes, firsts = np.zeros(keys.size, np.int64), np.zeros(keys.size, np.int64)
        cells = np.zeros((height, self.cells.shape[1]), np.int64)
        squares = np.zeros((height if self.squares.size or other.squares.size else 0, kernel.WORDS), np.uint64)
        for part in (self, other):
            if not part.keys.size:
                continue
            at = np.searchsorted(keys, part.keys)
            sizes[at] += part.sizes
            firsts[at] += part.firsts
            count = width[at]
            steps = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
            source, target = np.repeat(part.offsets, count) + steps, np.repeat(offsets[at], count) + steps
            cells[target] += part.cells[source]
            if squares.shape[0]:
                _add_wide(squares, target, part.squares[source])
        return Cells(keys, offsets, sizes, firsts, cells, squares)


def _add_wide(squares: NDArray[np.uint64], at: NDArray[np.intp], more: NDArray[np.uint64]) -> None:
    """Add numbers of 128 bits, the lower word first."""
    low = squares[at, 0::2] + more[:, 0::2]
    carry = (low < more[:, 0::2]).astype(np.uint64)
    squares[at, 1::2] += more[:, 1::2] + carry
    squares[at, 0::2] = low


def lay_out(rows: TableFrame) -> Grid | None:
    """Return the grid, or None if there is nothing to count."""
    question = rows.question
    edges = question.edges(rows.last_day)
    joined_days = rows.joined_days or ()
    days = [*(rows.days if rows.days[0] <= rows.days[1] else ()), *joined_days]
    if edges is None or not days:
        return None
    first = min(*days, edges.cut)
    table = np.arange(first, max(edges.cut, *joined_days, edges.cut) + 1, dtype=np.int64)
    cohorts, ages = (calendar.ordinals(table) for calendar in (question.calendar, question.ages))
    origin, age_origin = int(cohorts[0]), int(ages[0])
    cohort_count = int(cohorts[-1]) - origin + 1
    last_age = edges.age - age_origin
    span = (edges.cut - first) // question.width + 3 if question.width else max(last_age, 0) + 1
    firsts, lasts, column_of, seen_of, hidden = _columns(question.brackets, span)
    first_days = np.maximum(question.calendar.first_days(origin + np.arange(cohort_count)), first)
    if question.width:
        deepest = ((_NEVER if edges.last_day is None else edges.last_day) - first_days + 1) // question.width - 1
    else:
        deepest = last_age - (question.ages.ordinals(first_days) - age_origin)
    widths = np.where(deepest >= 0, seen_of[np.clip(deepest, 0, span - 1)] + 1, 0)
    widths = np.maximum(widths, 1).astype(np.int64)
    counts = tuple(rows.values[name].count for name in (*question.by, *question.split))
    strides = np.cumprod([1, *reversed(counts)])[:-1][::-1].astype(np.int64) if counts else np.empty(0, np.int64)
    if cohort_count * int(np.prod([float(count) for count in counts] or [1.0])) >= _MOST_KEYS:
        raise DataError("the columns of segments have too many combinations of values", hint=_SMALLER)
    in_rows = [name in rows.row_columns and not question.split for name in (*question.by, *question.split)]
    nulls = np.array(counts, np.int64) - 1
    check_size(int(widths.max()), _SMALLER)
    rules = kernel.Rules(
        width=question.width, first_day=first, cut=edges.cut,
        last_day=_NEVER if edges.last_day is None else edges.last_day,
        edge=last_age, over=_NEVER if edges.over is None else edges.over - age_origin,
        first_cohort=0 if edges.first_cohort is None else max(0, edges.first_cohort - origin),
        last_cohort=edges.cohort - origin, cohort_count=cohort_count,
        above=0 if question.settings.refunds == "drop" else np.iinfo(np.int64).min,
        signed=question.settings.refunds == "signed", clip=question.settings.before_joined == "clip",
        same_unit=question.same_unit, has_joined=rows.joined is not None,
        needs_first=bool(any(in_rows)) or not question.same_unit,
        retention=_RETENTION[question.retention],
        ages=(ages - age_origin).astype(np.int32), cohorts=(cohorts - origin).astype(np.int32),
        column_of=column_of, seen_of=seen_of,
        row_strides=strides[np.array(in_rows, np.bool_)], row_nulls=nulls[np.array(in_rows, np.bool_)],
        user_strides=strides[~np.array(in_rows, np.bool_)],
    )  # fmt: skip
    return Grid(edges, rules, origin, widths, firsts, lasts, hidden, counts, span)


def _columns(
    brackets: tuple[int, ...] | None, span: int
) -> tuple[Ints, Ints, NDArray[np.int32], NDArray[np.int32], int]:
    """Return the first and the last age of each column, and the tables of ages that the kernel needs."""
    ages = np.arange(span, dtype=np.int32)
    if brackets is None:
        return ages.astype(np.int64), ages.astype(np.int64), ages, ages, 0
    hidden = int(brackets[0] > 0)
    starts = np.array([*[0] * hidden, *brackets], np.int64)
    lasts = np.append(starts[1:] - 1, -1)
    column_of = (np.searchsorted(starts, ages, side="right") - 1).astype(np.int32)
    # A column is seen once its last age is; the open one at its first.
    needed = np.where(lasts < 0, starts, lasts)
    seen_of = (np.searchsorted(needed, ages, side="right") - 1).astype(np.int32)
    seen_of[seen_of < hidden] = -1
    return starts, lasts, column_of, seen_of, hidden


class Counter:
    """Add users to cells, on one thread."""

    def __init__(self, rows: TableRows, grid: Grid, *, members: bool = False) -> None:
        self._rows, self._grid = rows, grid
        question = rows.question
        rules = grid.rules
        if members and not rules.needs_first:
            rules = rules._replace(needs_first=True)
        self._rules = rules
        self._more = len(question.amounts)
        self._scratch = kernel.Scratch(
            np.zeros(grid.span, np.int64), np.zeros(grid.span // 64 + 1, np.uint64),
            np.zeros((self._more, grid.span), np.int64),
            *(np.zeros(self._more, np.int64) for _ in range(3)),
        )  # fmt: skip
        height = int(grid.widths.max()) * 4
        self._groups = kernel.Groups(
            np.full(64, -1, np.int32), np.zeros(32, np.int64), np.zeros(32, np.int64), grid.widths,
            np.zeros(2, np.int64), np.zeros(32, np.int64), np.zeros(32, np.int64),
            np.zeros((height, kernel.MORE + 2 * self._more), np.int64),
            np.zeros((height if question.confidence else 0, kernel.WORDS), np.uint64),
        )  # fmt: skip
        self.tally = np.zeros(counters.COUNTERS, np.int64)
        self.early_users: list[str] = []

    def add(self, index: int, target: int = -1) -> tuple[pl.DataFrame, kernel.Members]:
        """Add the users of a part; with a target, return them too."""
        part, rows, columns = part_of(self._rows, index)
        count = rows.ends.size
        members = _members(count if target >= 0 else 0, self._more)
        self.tally[counters.EARLY_ROW] = 0
        reached = 0
        while reached < count:
            reached = int(kernel.add_users(
                reached, count, rows, columns, self._rules, self._groups, self._scratch, self.tally, target, members
            ))  # fmt: skip
            if reached < count:
                self._grow()
        if self.tally[counters.EARLY_ROW]:
            self.early_users.append(str(part.users[USER][int(self.tally[counters.EARLY_ROW]) - 1]))
        return part.users, members

    def _grow(self) -> None:
        groups = self._groups
        count, used = groups.counts.tolist()
        most = 2 * max(count, 16)
        height = max(2 * used, used + 4 * int(groups.widths.max()))
        check_size(height, _SMALLER)

        def grown(array: NDArray[Any], size: int, filled: int) -> NDArray[Any]:
            larger = np.zeros((size, *array.shape[1:]), array.dtype)
            larger[:filled] = array[:filled]
            return larger

        slots = np.full(1 << (4 * most).bit_length(), -1, np.int32)
        kernel.index_groups(groups.keys[:count], slots)
        self._groups = groups._replace(
            slots=slots, keys=grown(groups.keys, most, count), offsets=grown(groups.offsets, most, count),
            sizes=grown(groups.sizes, most, count), firsts=grown(groups.firsts, most, count),
            cells=grown(groups.cells, height, used),
            squares=grown(groups.squares, height, used) if groups.squares.shape[0] else groups.squares,
        )  # fmt: skip

    def cells(self) -> Cells:
        """Return the sums."""
        groups = self._groups
        count, used = groups.counts.tolist()
        order = np.argsort(groups.keys[:count])
        squares = groups.squares[:used] if groups.squares.shape[0] else groups.squares
        return Cells(
            groups.keys[order], groups.offsets[order], groups.sizes[order], groups.firsts[order],
            groups.cells[:used], squares,
        )  # fmt: skip


def _members(count: int, more: int) -> kernel.Members:
    return kernel.Members(
        np.full(count, -1, np.int64), np.zeros(count, np.int32), np.full(count, -1, np.int32),
        np.zeros(count, np.bool_), *(np.zeros(count, np.int64) for _ in range(2)),
        *(np.zeros((more, count), np.int64) for _ in range(2)),
    )  # fmt: skip


def count_cells(rows: TableRows, grid: Grid) -> Cells:
    """Add all users up, on threads."""

    def work(parts: Iterator[int]) -> Counter:
        counter = Counter(rows, grid)
        for part in parts:
            counter.add(part)
            rows.meter.add(rows.store.size(part) if part < rows.store.count else 0)
        return counter

    done = run_workers(part_count(rows), rows.question.settings.workers, work)
    check_fit(rows, done)
    empty = Counter(rows, grid).cells()
    merged = reduce(
        lambda a, b: a.merge(b, grid.widths, grid.rules.cohort_count), [counter.cells() for counter in done], empty
    )
    rows.meter.done()
    return merged


def check_fit(rows: TableRows, counters_of: list[Counter]) -> None:
    """Report how a joined table fits the rows."""
    joined = rows.joined
    if joined is None:
        return
    sums = [0] * 5
    for counter in counters_of:
        sums = [a + int(b) for a, b in zip(sums, counter.tally[:5], strict=True)]
    early, late, _, unlisted, listed = sums
    early_users = [user for counter in counters_of for user in counter.early_users]
    user = joined.conflicting_user if joined.conflicts else min(early_users, default=None)
    fit = JoinedFit(early, late, joined.conflicts, unlisted, listed, user)
    if rows.fits is None:
        fit.check(rows.question.settings.before_joined)
    else:
        rows.fits.append(fit)

"""Sums of the general table by segment, first day and age, which add over disjoint users.

Which users are observed at an age, and in which cohort they are, depends on their first day and on the last day of the
data. Users whose first days are in one period of cohorts and in one of ages have both in common; with an own clock,
those with the same first day. So these sums stay additive, and the cells of any edges follow from them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cohortlib.engine.threads import run_workers
from cohortlib.errors import DataError
from cohortlib.read.arrays import Ints, read_only
from cohortlib.transactions.general.cells import Cells, Counter, Grid, check_fit, count_cells, lay_out
from cohortlib.transactions.general.packed import PackedRows
from cohortlib.transactions.general.parts import part_count, part_of
from cohortlib.transactions.general.question import Question
from cohortlib.transactions.general.rows import TableFrame, TableRows
from cohortlib.transactions.general.table import Rows, segment_columns
from cohortlib.transactions.kernels import counters
from cohortlib.transactions.kernels import general as kernel
from cohortlib.transactions.kernels.general_sums import square_records
from cohortlib.transactions.store.parts import USER

SEGMENT, MORE = "segment.", "amounts."
"""Before the names of segments' columns and of further amounts."""
SQUARES = ("first_squares", "squares", "products", "growth")
"""Σ amount² at age 0, Σ amount², Σ amount · amount at age 0, and the growth of Σ cumulative amount²."""
LIMBS = 4  # of 32 bits each, the lowest first, so that their sums do not overflow
_MASK = 2**32 - 1
_CELLS = 1 << 18  # of single users at a time


def segments_of(question: Question) -> list[str]:
    """Return the columns of segments."""
    return [f"{SEGMENT}{name}" for name in (*question.by, *question.split)]


def has_next(question: Question) -> bool:
    """Return whether counts depend on the age at which a user is active again."""
    return question.brackets is not None or question.retention == "unbounded"


def limbs_of(question: Question) -> list[str]:
    """Return the columns of squares."""
    wide = question.confidence is not None and question.money
    return [f"{name}.{limb}" for name in SQUARES for limb in range(LIMBS)] if wide else []


def keys_of(question: Question) -> list[str]:
    """Return the columns by which sums are grouped."""
    return [*segments_of(question), "first_day", "age", *["next_age"] * has_next(question)]


def values_of(question: Question) -> list[str]:
    """Return the columns of sums."""
    names = ["size", "first_amount", "active", "amount", *(f"{MORE}{name}" for name in question.amounts)]
    return names + limbs_of(question)


def empty_sums(question: Question) -> pl.DataFrame:
    """Return sums without rows; the types of segments are unknown."""
    kinds: dict[str, Any] = dict.fromkeys((*keys_of(question), *values_of(question)), pl.Int64)
    return pl.DataFrame(schema=kinds | dict.fromkeys(segments_of(question), pl.Null))


@dataclass(frozen=True)
class Pieces:
    """The groups of first days: a grid whose cohorts they are, and the day at which each begins."""

    grid: Grid
    starts: Ints


def sums_table(rows: TableRows | PackedRows) -> pl.DataFrame:
    """Return the sums of all users."""
    question = rows.question
    pieces = lay_out_pieces(rows)
    if pieces is None:
        return empty_sums(question)
    if isinstance(rows, PackedRows):
        return _table_of(rows, rows.count_cells(pieces.grid), pieces)
    if has_next(question):
        return _by_user(rows, pieces)
    return _table_of(rows, count_cells(replace(rows, question=_plain(question)), pieces.grid), pieces)


def _plain(question: Question) -> Question:
    """Return the question whose columns are ages; only runs from age 0 on are counted otherwise than activity."""
    consecutive = question.retention == "consecutive"
    return replace(question, brackets=None, retention="consecutive" if consecutive else "exact")


def lay_out_pieces(rows: TableRows | PackedRows) -> Pieces | None:
    """Return the groups of first days, or None if there is nothing to count; every user is observed at every age."""
    question, joined_days = _plain(rows.question), rows.joined_days
    last_day = rows.last_day if rows.last_day is not None or joined_days is None else joined_days[1]
    grid = lay_out(replace(rows, question=question, last_day=last_day))
    if grid is None:
        return None
    rules, width = grid.rules, question.width
    first, count = rules.first_day, rules.ages.size
    days = np.arange(first, first + count, dtype=np.int64)
    if width:
        starts, piece = days, np.arange(count)
        deepest = (days[-1] - days + 1) // width
        span = count // width + 3
    else:
        starts = question.ages.first_days(question.ages.ordinals(days))
        if not question.same_unit:
            starts = np.maximum(starts, question.calendar.first_days(question.calendar.ordinals(days)))
        starts, begins, piece = np.unique(starts, return_index=True, return_inverse=True)
        span = int(rules.ages[-1]) + 1
        deepest = rules.ages[-1] - rules.ages[begins]
    segments = float(np.prod([float(count) for count in grid.counts] or [1.0]))
    if starts.size * segments * _CELLS >= 2**62:  # the keys of users, too
        raise DataError("the columns of segments have too many combinations of values", hint="fewer segments")
    ages = np.arange(span, dtype=np.int32)
    rules = rules._replace(
        last_day=int(days[-1]) + width, edge=int(rules.ages[-1]), over=-(2**40), first_cohort=0,
        last_cohort=starts.size - 1, cohort_count=starts.size, cohorts=piece.astype(np.int32),
        column_of=ages, seen_of=ages,
    )  # fmt: skip
    # The strides of segments count groups of first days from here on: a segment's number is above them.
    grid = replace(grid, rules=rules, widths=(deepest + 1).astype(np.int64), span=span)
    return Pieces(grid, starts)


def _table_of(rows: TableFrame, cells: Cells, pieces: Pieces) -> pl.DataFrame:
    """Return the sums of groups as a table."""
    question, grid = rows.question, pieces.grid
    table = Rows(cells, grid)
    start = table.column == 0
    columns = {
        "size": np.where(start, cells.sizes[table.group], 0),
        "first_amount": np.where(start, cells.firsts[table.group], 0),
        "active": table.entry(kernel.ACTIVE), "amount": table.entry(kernel.AMOUNT),
    }  # fmt: skip
    columns |= {f"{MORE}{name}": table.entry(kernel.MORE + 2 * at) for at, name in enumerate(question.amounts)}
    if limbs_of(question):
        words = cells.squares[table.at]
        of_group = cells.squares[cells.offsets + grid.widths[cells.keys % grid.rules.cohort_count] - 1]
        firsts = of_group[:, kernel.LAST_FIRSTS : kernel.LAST_FIRSTS + 2]
        columns |= _limbs("first_squares", np.where(start[:, None], firsts[table.group], np.uint64(0)))
        for name, at in (("squares", kernel.SQUARES), ("products", kernel.PRODUCTS), ("growth", kernel.TOTALS)):
            columns |= _limbs(name, words[:, at : at + 2])
    return _keyed(rows, pieces, cells.keys[table.group], {"age": table.column}, columns)


def _limbs(name: str, words: NDArray[np.uint64]) -> dict[str, Ints]:
    """Split 128-bit numbers, the lower word first; the highest limb has the sign."""
    low, high = words[:, 0], words[:, 1]
    mask, shift = np.uint64(_MASK), np.uint64(32)
    parts = [low & mask, low >> shift, high & mask, high.view(np.int64) >> 32]
    return {f"{name}.{limb}": part.astype(np.int64) for limb, part in enumerate(parts)}


def carried(table: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """Carry what limbs have beyond 32 bits, so that equal sums are equal tables."""
    for low, high in pairwise(names):
        if low.endswith(f".{LIMBS - 1}"):
            continue  # the highest limb of a number, and the lowest of the next one
        table = table.with_columns(pl.col(high) + pl.col(low) // 2**32, pl.col(low) & _MASK)
    return table


def without_zero_rows(table: pl.DataFrame, question: Question) -> pl.DataFrame:
    """Remove rows whose sums are all 0."""
    return table.filter(pl.any_horizontal(pl.col(name) != 0 for name in values_of(question)))


def _keyed(
    rows: TableFrame, pieces: Pieces, keys: Ints, more_keys: dict[str, Ints], columns: dict[str, Ints]
) -> pl.DataFrame:
    """Return a table of sums with its keys."""
    question, grid = rows.question, pieces.grid
    count = grid.rules.cohort_count
    segments = segment_columns(rows, keys // count, grid)
    if not question.money:  # amounts of 1, in the units of the way that they were read
        columns |= {name: np.zeros_like(columns[name]) for name in ("amount", "first_amount")}
    series = [_plain_type(segments[name]).alias(f"{SEGMENT}{name}") for name in (*question.by, *question.split)]
    series.append(pl.Series("first_day", pieces.starts[keys % count]))
    series += [pl.Series(name, values.astype(np.int64)) for name, values in (more_keys | columns).items()]
    return without_zero_rows(pl.DataFrame(series), question)


def _plain_type(column: pl.Series) -> pl.Series:
    """Return text for categories, whose types do not add."""
    return column.cast(pl.String) if isinstance(column.dtype, pl.Categorical | pl.Enum) else column


# ---- the users one by one


class _Taken(NamedTuple):
    """The records of some users, by user and age: numbers of groups, and their columns."""

    keys: Ints
    more_keys: dict[str, Ints]
    columns: dict[str, Ints]


def _by_user(rows: TableRows, pieces: Pieces) -> pl.DataFrame:
    """Return the sums, with the age at which users are active again; each user is a group of its own first."""
    question = rows.question

    def work(parts: Iterator[int]) -> tuple[Counter, list[pl.DataFrame]]:
        counter, found = Counter(plain, pieces.grid), []
        taker = _Taker(plain, pieces, question, counter)
        for part in parts:
            found += [_summed(each) for each in taker.take(part)]
            rows.meter.add(rows.store.size(part) if part < rows.store.count else 0)
        return counter, found

    plain = replace(rows, question=_plain(question))
    done = run_workers(part_count(rows), question.settings.workers, work)
    check_fit(rows, [counter for counter, _ in done])
    rows.meter.done()
    frames = [frame for _, found in done for frame in found]
    names = [name for name in keys_of(question) if not name.startswith(SEGMENT) and name != "first_day"]
    if not frames:
        frames = [pl.DataFrame(schema=dict.fromkeys(("key", *names, *values_of(question)), pl.Int64))]
    sums = carried(pl.concat(frames).group_by("key", *names).sum(), limbs_of(question)).sort("key", *names)
    arrays = {column.name: column.to_numpy() for column in sums.get_columns()}
    return _keyed(
        rows, pieces, arrays["key"], {name: arrays[name] for name in names},
        {name: arrays[name] for name in values_of(question)},
    )  # fmt: skip


def _summed(taken: _Taken) -> pl.DataFrame:
    frame = pl.DataFrame({"key": taken.keys} | taken.more_keys | taken.columns)
    return frame.group_by("key", *taken.more_keys).sum()


class _Taker:
    """List the ages of single users, on one thread: whether they are active there, and their amounts."""

    def __init__(self, rows: TableRows, pieces: Pieces, question: Question, counter: Counter) -> None:
        self._rows, self._pieces, self._question, self._counter = rows, pieces, question, counter
        grid = pieces.grid
        more, span = len(question.amounts), grid.span
        self._segments = int(np.prod(grid.counts)) if grid.counts else 1
        rules = grid.rules
        self._rules = rules._replace(user_strides=np.append(rules.user_strides, self._segments).astype(np.int64))
        self._scratch = kernel.Scratch(
            np.zeros(span, np.int64), np.zeros(span // 64 + 1, np.uint64), np.zeros((more, span), np.int64),
            *(np.zeros(more, np.int64) for _ in range(3)),
        )  # fmt: skip
        widest = int(grid.widths.max())
        self._users = users = max(1, _CELLS // widest)
        self._groups = kernel.Groups(
            np.full(1 << (4 * users + 4).bit_length(), -1, np.int32), np.zeros(users + 1, np.int64),
            np.zeros(users + 1, np.int64), grid.widths, np.zeros(2, np.int64), np.zeros(users + 1, np.int64),
            np.zeros(users + 1, np.int64), np.zeros(((users + 1) * widest, kernel.MORE + 2 * more), np.int64),
            np.zeros((0, kernel.WORDS), np.uint64),
        )  # fmt: skip
        self._members = kernel.Members(
            np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.bool_),
            np.empty(0, np.int64), np.empty(0, np.int64), np.empty((more, 0), np.int64), np.empty((more, 0), np.int64),
        )  # fmt: skip

    def take(self, index: int) -> Iterator[_Taken]:
        """Yield the records of a part's users."""
        part, rows, columns = part_of(self._rows, index)
        numbers = np.arange(rows.ends.size, dtype=np.uint32) % np.uint32(self._users)
        columns = columns._replace(user_codes=read_only(np.vstack([columns.user_codes, numbers[None]])))
        tally = self._counter.tally
        tally[counters.EARLY_ROW] = 0
        for begin in range(0, rows.ends.size, self._users):
            until = min(begin + self._users, rows.ends.size)
            kernel.add_users(
                begin, until, rows, columns, self._rules, self._groups, self._scratch, tally, -1, self._members
            )  # fmt: skip
            yield self._records()
            groups, used = self._groups, int(self._groups.counts[1])
            groups.slots[:], groups.cells[:used], groups.counts[:] = -1, 0, 0
            groups.sizes[:], groups.firsts[:] = 0, 0
        if tally[counters.EARLY_ROW]:
            self._counter.early_users.append(str(part.users[USER][int(tally[counters.EARLY_ROW]) - 1]))

    def _records(self) -> _Taken:
        groups, question = self._groups, self._question
        count, used = groups.counts.tolist()
        pieces = groups.keys[:count] % self._rules.cohort_count
        owner = np.repeat(np.arange(count), self._pieces.grid.widths[pieces])
        age = np.arange(used) - groups.offsets[:count][owner]
        entries = [kernel.ACTIVE, kernel.AMOUNT, *(kernel.MORE + 2 * at for at in range(len(question.amounts)))]
        kept = np.flatnonzero((groups.cells[:used, entries] != 0).any(axis=1) | (age == 0))
        owner, age, cells = owner[kept], age[kept], groups.cells[kept]
        active = cells[:, kernel.ACTIVE] != 0
        start = age == 0
        columns = {
            "size": start.astype(np.int64), "first_amount": np.where(start, groups.firsts[owner], 0),
            "active": cells[:, kernel.ACTIVE], "amount": cells[:, kernel.AMOUNT],
        }  # fmt: skip
        columns |= {f"{MORE}{name}": cells[:, kernel.MORE + 2 * at] for at, name in enumerate(question.amounts)}
        if limbs_of(question):
            words = np.zeros((age.size, 2 * len(SQUARES)), np.uint64)
            bracket = self._bracket(age) if question.brackets is not None else age
            square_records(owner, bracket, columns["amount"], columns["first_amount"], words)
            for at, name in enumerate(SQUARES):
                columns |= _limbs(name, words[:, 2 * at : 2 * at + 2])
        places = np.flatnonzero(active)
        again = np.full(places.size, -1, np.int64)
        same = owner[places[1:]] == owner[places[:-1]]
        if question.brackets is not None:  # only what is in the same bracket counts once
            bracket = self._bracket(age[places])
            same &= bracket[1:] == bracket[:-1]
        again[:-1][same] = age[places[1:]][same]
        following = np.full(age.size, -1, np.int64)
        following[places] = again
        segment = groups.keys[:count] // self._rules.cohort_count % self._segments
        keys = segment[owner] * self._rules.cohort_count + pieces[owner]
        return _Taken(keys, {"age": age, "next_age": following}, columns)

    def _bracket(self, ages: Ints) -> NDArray[np.int64]:
        firsts = np.array(self._question.brackets or (0,), np.int64)
        brackets: NDArray[np.int64] = np.searchsorted(firsts, ages, side="right")
        return brackets

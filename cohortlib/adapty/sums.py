"""The engine of the Adapty table: from events and installs to sums over (segment, column).

Rows are ordered by partition of users as in the Termina tables, and each partition is settled by itself. Money and
counts are whole numbers, so the sums of disjoint users add, and neither the order of rows nor the threads matter.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cohortlib.adapty.installs import Installs, Listed
from cohortlib.adapty.kernels.add import add_days, add_renewals
from cohortlib.adapty.kernels.records import Scratch, slots_for
from cohortlib.adapty.kernels.settle import link, number
from cohortlib.adapty.kernels.users import arrange, name_users, sort
from cohortlib.adapty.question import Question
from cohortlib.adapty.read.events import Events
from cohortlib.adapty.rows import Columns, Rows
from cohortlib.engine.partitions import Partitions, check_size, partition_bits
from cohortlib.engine.progress import Meter
from cohortlib.engine.threads import run_workers, workers_for
from cohortlib.read.arrays import Ints, Keys
from cohortlib.read.users import SECRET, Users


@dataclass(frozen=True)
class Sums:
    """Sums over (segment, column), whole numbers: tables of disjoint users add.

    ``cells[plane, segment, column]`` and ``heads[plane, segment]``, with the planes that
    :mod:`cohortlib.adapty.kernels.records` names. Of the columns, `columns` are to be shown; the rest serve the totals.
    """

    columns: int
    cells: Ints
    heads: Ints

    def __add__(self, other: "Sums") -> "Sums":
        width = max(self.cells.shape[2], other.cells.shape[2])
        return Sums(
            max(self.columns, other.columns),
            _widened(self.cells, width) + _widened(other.cells, width),
            self.heads + other.heads,
        )

    def with_total(self) -> "Sums":
        """Put the sum of all segments before them."""
        return Sums(
            self.columns,
            np.concatenate([self.cells.sum(axis=1, keepdims=True), self.cells], axis=1),
            np.concatenate([self.heads.sum(axis=1, keepdims=True), self.heads], axis=1),
        )


_COARSER = "a coarser period_unit, or a shorter date"


def _widened(cells: Ints, width: int) -> Ints:
    return cells if width == cells.shape[2] else np.pad(cells, ((0, 0), (0, 0), (0, width - cells.shape[2])))


class Settled(NamedTuple):
    """Number of users of a partition, largest ordinal to show, and the largest of all."""

    users: int
    widest: int
    farthest: int


class Adder(Protocol):
    """What a worker does with each partition once it is settled."""

    def add(self, columns: Columns, settled: Settled, scratch: Scratch) -> None:
        """Add the users of a partition."""


Added = TypeVar("Added", bound=Adder)


class _Summing(Adder, Protocol):
    def sums(self) -> Sums:
        """Give what has been added."""


class _Renewals:
    """Add up payments by ordinal."""

    def __init__(self, question: Question) -> None:
        self._columns, self._stamps = 0, np.zeros(1, np.int64)
        self._cells, self._heads = _zeros(len(question.segments), 1)

    def add(self, columns: Columns, settled: Settled, scratch: Scratch) -> None:
        _, segments, width = self._cells.shape
        if settled.farthest >= width:
            width = max(settled.farthest + 1, 2 * width)
            check_size(segments * width, _COARSER)
            self._cells, self._stamps = _widened(self._cells, width), np.zeros(width, np.int64)
        self._columns = max(self._columns, settled.widest)
        add_renewals(settled.users, columns.rows, self._stamps, self._cells, self._heads, scratch)

    def sums(self) -> Sums:
        return Sums(self._columns, self._cells, self._heads)


class _Days:
    """Add up what happened by days since the install; the last column has no end."""

    def __init__(self, question: Question) -> None:
        days = question.request.renewal_days
        self._columns, self._column_of_age = len(days), column_of_age(days)
        self._cells, self._heads = _zeros(len(question.segments), len(days) + 1)

    def add(self, columns: Columns, settled: Settled, scratch: Scratch) -> None:
        add_days(settled.users, columns.rows, self._column_of_age, self._cells, self._heads, scratch)

    def sums(self) -> Sums:
        return Sums(self._columns, self._cells, self._heads)


def _zeros(segments: int, width: int) -> tuple[Ints, Ints]:
    check_size(segments * width, _COARSER)
    return np.zeros((8, segments, width), np.int64), np.zeros((3, segments), np.int64)


def column_of_age(days: Sequence[int]) -> NDArray[np.int32]:
    """Give the first of some days, as its place among them, that counts an age: for ages up to the last day."""
    return np.searchsorted(np.array(days), np.arange(days[-1] + 1)).astype(np.int32)


@dataclass(frozen=True)
class Ledger:
    """Events and installs, ordered by partition, ready to be settled."""

    question: Question
    rows: Partitions
    listed: Partitions
    is_list: bool
    texts: tuple[tuple[NDArray[Any], ...], ...]
    report: dict[str, int]
    magnitudes: tuple[int, ...]
    """The sum of the magnitudes of each kind of money."""
    meter: Meter

    @classmethod
    def of(
        cls, events: Events, installs: Installs, question: Question, *, durations: bool = False, secret: Keys = SECRET
    ) -> "Ledger":
        """Order the rows of all users; with the durations of products where they are asked for.

        The keys of chains are drawn by `secret`, which processes may share.
        """
        users, listed_users = Users.of(events.frame["user"]), None
        if not users.wide:
            # Only rows that do not count have no user.
            users = replace(users, series=users.series.alias("").fill_null(0).alias(users.series.name))
        if installs.users is not None:
            users, listed_users = Users.align(users, Users.of(installs.users), ("the events", "installs"))
        report = dict(events.report)
        rows = Rows.of(events, users, question, installs=installs.frame is None, durations=durations, secret=secret)
        bits = partition_bits(len(users), len(listed_users or ()))
        meter = Meter(question.progress, len(users))
        ordered, magnitudes = rows.partitions(bits, question.segments.last, meter, report)
        return cls(
            question,
            ordered,
            installs.partitions(listed_users, bits, question),
            listed_users is not None,
            (rows.transactions.views, rows.chains.views),
            report,
            magnitudes,
            meter,
        )

    def _arrange(self, p: int, columns: Columns, listed: Listed, scratch: Scratch) -> int:
        """Bring the rows of each user together and in order; returns how many users there are."""
        slots = scratch.slots[: slots_for(int(self.rows.sizes[p] + self.listed.sizes[p]))]
        slots.fill(-1)
        users, codes, none = scratch.users, scratch.codes, np.empty(0, np.int32)
        count = name_users(p, self.listed.starts, *listed, 0, slots, users, codes)
        count = name_users(p, self.rows.starts, columns.keys, columns.keys2, none, none, count, slots, users, codes)
        mixed = arrange(p, self.rows.starts, columns.rows, codes, count, users, scratch.position, scratch.mixed)
        if mixed:
            sort(
                scratch.mixed[:mixed], columns.rows, columns.extras, columns.lines, *self.texts, users,
                scratch.position, scratch.spare,
            )  # fmt: skip
        return int(count)

    def settle(self, make: Callable[[Question], Added]) -> tuple[list[Added], Keys]:
        """Settle all partitions; each worker makes what adds them up. Count in `report` what was met.

        The keys of chains are given too, one for each chain of each user.
        """
        tallies: list[Ints] = []
        chains: list[Keys] = []

        def work(parts: Iterator[int]) -> Added:
            adder, tally, segments = make(self.question), np.zeros(5, np.int64), self.question.segments
            tallies.append(tally)
            scratch = Scratch.of(int(max(1, self.rows.sizes.max())), int(self.listed.sizes.max()))
            columns, listed = Columns(*self.rows.columns), Listed(*self.listed.columns)
            for p in parts:
                users = self._arrange(p, columns, listed, scratch)
                named = link(
                    users, columns.rows, columns.extras, self.is_list, segments.first, segments.of_day, tally, scratch
                )
                chains.append(scratch.seen_chains[:named].copy())
                widest, farthest = number(
                    users, columns.rows, columns.extras, self.question.restarts, self.question.consecutive,
                    self.question.as_of, tally, scratch,
                )  # fmt: skip
                adder.add(columns, Settled(users, widest, farthest), scratch)
                self.meter.add(int(self.rows.sizes[p]))
            return adder

        added = run_workers(self.rows.count, workers_for(self.question.threads), work)
        self.meter.done()
        repeats, orphans, undated, unlisted, early = np.sum(tallies, axis=0).tolist()
        self.report.update({
            "duplicates": repeats,
            "refunds_without_payment": orphans,
            "without_install": undated,
            "not_in_installs": unlisted,
            "before_install": early,
        })  # fmt: skip
        return added, np.concatenate(chains)

    def add_up(self) -> tuple[Sums, Keys]:
        """Add up all users, and give the keys of their chains."""
        make: Callable[[Question], _Summing] = _Days
        if self.question.request.period_type == "renewals":
            make = _Renewals
        added, chains = self.settle(make)
        return reduce(add, (adder.sums() for adder in added)), chains

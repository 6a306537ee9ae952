"""Aggregate events and installs into sums over (segment, column).

Rows are partitioned by user and each partition is aggregated on its own. Money and counts are integers, so sums of
disjoint users add exactly, and neither the order of rows nor the number of threads matters.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cohortlib.adapty.findings import Findings
from cohortlib.adapty.installs import Installs
from cohortlib.adapty.kernels.add import add_days, add_renewals
from cohortlib.adapty.kernels.chains import sort_hashes
from cohortlib.adapty.kernels.prepare import EventTable, InstallTable, Rules, prepare
from cohortlib.adapty.kernels.records import (
    BEFORE_INSTALL,
    COUNTED,
    DUPLICATES,
    INSTALLS,
    LACKING,
    LACKING_UNITS,
    NOT_IN_INSTALLS,
    PASSES,
    REFUNDS_WITHOUT_PAYMENT,
    SEEN,
    WITHOUT_INSTALL,
    EventColumns,
    InstallColumns,
    Scratch,
    slots_for,
)
from cohortlib.adapty.plan import RequestPlan
from cohortlib.adapty.read.events import Events
from cohortlib.adapty.rows import EventRows
from cohortlib.engine.partitions import Partitions, check_size, partition_bits
from cohortlib.engine.progress import Meter
from cohortlib.engine.threads import run_workers, workers_for
from cohortlib.read.arrays import Ints, Keys
from cohortlib.read.users import SECRET, Users


@dataclass(frozen=True)
class SegmentSums:
    """Integer sums over (segment, column); those of disjoint users add.

    The arrays are ``cells[plane, segment, column]`` and ``heads[plane, segment]``; the planes are named in
    :mod:`cohortlib.adapty.kernels.records`. The answer shows the first `columns` columns; the others only count in
    totals.
    """

    columns: int
    cells: Ints
    heads: Ints

    def __add__(self, other: "SegmentSums") -> "SegmentSums":
        width = max(self.cells.shape[2], other.cells.shape[2])
        return SegmentSums(
            max(self.columns, other.columns),
            _widened(self.cells, width) + _widened(other.cells, width),
            self.heads + other.heads,
        )

    def __neg__(self) -> "SegmentSums":
        return SegmentSums(0, -self.cells, -self.heads)

    def with_total(self) -> "SegmentSums":
        """Return the sums with the total over all segments as the first segment."""
        return SegmentSums(
            self.columns,
            np.concatenate([self.cells.sum(axis=1, keepdims=True), self.cells], axis=1),
            np.concatenate([self.heads.sum(axis=1, keepdims=True), self.heads], axis=1),
        )


COUNTED_ROWS = "counted"
"""The events that count in the table; not in the report of an answer."""
MISSING_REVENUE = "missing_money_revenue"
"""The revenue, in units, of the rows that lack proceeds or net revenue."""

_PARTITION = 1 << 12  # rows: with all that is worked out of them, they fit into the second-level cache
_COARSER = "a coarser period_unit, or a shorter date"
# The counters of the kernels, and their names in the report.
_REPORTED = {
    DUPLICATES: "duplicates",
    REFUNDS_WITHOUT_PAYMENT: "refunds_without_payment",
    WITHOUT_INSTALL: "without_install",
    NOT_IN_INSTALLS: "not_in_installs",
    BEFORE_INSTALL: "before_install",
    COUNTED: COUNTED_ROWS,
    LACKING: "missing_money",
    LACKING_UNITS: MISSING_REVENUE,
}


def _widened(cells: Ints, width: int) -> Ints:
    return cells if width == cells.shape[2] else np.pad(cells, ((0, 0), (0, 0), (0, width - cells.shape[2])))


class Linked(NamedTuple):
    """What adders are given of a partition.

    Attributes
    ----------
    users, total
        The number of users with events, and with those after them who only have an install.
    widest, farthest
        The largest ordinal to show, and the largest of all.
    """

    users: int
    total: int
    widest: int
    farthest: int


class Adder(Protocol):
    """Accumulates the partitions of one worker, once their payments are linked and numbered."""

    installed: Ints
    """By segment, the users who count as installs and have no events."""

    def add(self, columns: EventColumns, linked: Linked, scratch: Scratch) -> None:
        """Add the users of a partition."""


AdderT = TypeVar("AdderT", bound=Adder)


class _SegmentAdder(Adder, Protocol):
    def sums(self) -> SegmentSums:
        """Return the sums so far."""


class RenewalAdder:
    """Add up payments by ordinal; the arrays grow with the largest ordinal."""

    def __init__(self, plan: RequestPlan) -> None:
        self._columns, self._stamps = 0, np.zeros(1, np.int64)
        self._cells, self._heads = _zeros(len(plan.segments), 1)
        self.installed = self._heads[INSTALLS]

    def add(self, columns: EventColumns, linked: Linked, scratch: Scratch) -> None:
        """Add the users of a partition."""
        _, segments, width = self._cells.shape
        if linked.farthest >= width:
            width = max(linked.farthest + 1, 2 * width)
            check_size(segments * width, _COARSER)
            self._cells, self._stamps = _widened(self._cells, width), np.zeros(width, np.int64)
        self._columns = max(self._columns, linked.widest)
        add_renewals(linked.users, columns.rows, self._stamps, self._cells, self._heads, scratch)

    def sums(self) -> SegmentSums:
        """Return the sums so far."""
        return SegmentSums(self._columns, self._cells, self._heads)


class DayAdder:
    """Add up events by days since the install; the last column is open-ended."""

    def __init__(self, plan: RequestPlan) -> None:
        days = plan.request.renewal_days
        self._columns, self._column_of_age = len(days), column_of_age(days)
        self._cells, self._heads = _zeros(len(plan.segments), len(days) + 1)
        self.installed = self._heads[INSTALLS]

    def add(self, columns: EventColumns, linked: Linked, scratch: Scratch) -> None:
        """Add the users of a partition."""
        add_days(linked.users, columns.rows, self._column_of_age, self._cells, self._heads, scratch)

    def sums(self) -> SegmentSums:
        """Return the sums so far."""
        return SegmentSums(self._columns, self._cells, self._heads)


def _zeros(segments: int, width: int) -> tuple[Ints, Ints]:
    check_size(segments * width, _COARSER)
    return np.zeros((8, segments, width), np.int64), np.zeros((3, segments), np.int64)


def column_of_age(days: Sequence[int]) -> NDArray[np.int32]:
    """Return, for each age up to the last day, the index of the first day that is not below it."""
    return np.searchsorted(np.array(days), np.arange(days[-1] + 1)).astype(np.int32)


@dataclass(frozen=True)
class Aggregation:
    """Events and installs, partitioned by user, and the counters of their report."""

    plan: RequestPlan
    rows: Partitions
    installs: Partitions
    has_installs: bool
    texts: tuple[tuple[NDArray[Any], ...], ...]
    report: dict[str, int]
    magnitudes: tuple[int, ...]
    """The sum of absolute amounts, for each kind of money."""
    meter: Meter
    findings: Findings

    @classmethod
    def of(
        cls, events: Events, installs: Installs, plan: RequestPlan, *, durations: bool = False, secret: Keys = SECRET
    ) -> "Aggregation":
        """Partition the rows of all users.

        Parameters
        ----------
        durations
            Whether the rows carry the durations of products, as predictions need.
        secret
            The secret that the keys of chains depend on.
        """
        users, install_users = Users.of(events.frame["user"]), None
        if installs.users is not None:
            users, install_users = Users.align(users, Users.of(installs.users), ("the events", "installs"))
        report = dict(events.report)
        rows = EventRows.of(events, users, plan, installs=installs.frame is None, durations=durations, secret=secret)
        bits = partition_bits(len(users), len(install_users or ()), size=_PARTITION)
        meter = Meter(plan.progress, len(users))
        ordered, magnitudes = rows.partitions(bits, plan.segments.last, meter, report)
        return cls(
            plan,
            ordered,
            installs.partitions(install_users, bits, plan),
            install_users is not None,
            (rows.transactions.views, rows.chains.views),
            report,
            magnitudes,
            meter,
            events.findings + rows.findings(events),
        )

    def select_none(self, *, users: bool, installs: bool) -> None:
        """Mark that no row passes the filters; nor counts as a user seen (`users`), or as an install (`installs`)."""
        rows = EventColumns(*self.rows.columns).rows
        rows["marks"] &= ~(PASSES | (SEEN if users else 0))
        if installs:
            InstallColumns(*self.installs.columns).passes[:] = False

    def run(self, make: Callable[[RequestPlan], AdderT]) -> tuple[list[AdderT], Keys]:
        """Aggregate all partitions: each worker makes an adder and feeds it its partitions.

        Returns the adders, and one key per chain and user, sorted. Updates `report`.
        """
        all_counters: list[Ints] = []
        chains: list[Keys] = []

        segments, plan = self.plan.segments, self.plan
        events = EventTable(self.rows.starts, EventColumns(*self.rows.columns), *self.texts)
        installs = InstallTable(self.installs.starts, InstallColumns(*self.installs.columns), self.has_installs)
        rules = Rules(segments.first, segments.of_day, plan.restarts, plan.consecutive, plan.as_of)
        sizes = [slots_for(rows) for rows in (self.rows.sizes + self.installs.sizes).tolist()]

        def work(parts: Iterator[int]) -> AdderT:
            adder, counters = make(plan), np.zeros(len(_REPORTED), np.int64)
            all_counters.append(counters)
            scratch = Scratch.of(int(max(1, self.rows.sizes.max())), int(self.installs.sizes.max()))
            for p in parts:
                *linked, chain_count = prepare(p, sizes[p], events, installs, rules, counters, adder.installed, scratch)
                chains.append(scratch.seen_chains[:chain_count].copy())
                adder.add(events.columns, Linked(*linked), scratch)
                self.meter.add(int(self.rows.sizes[p]))
            return adder

        adders = run_workers(self.rows.count, workers_for(self.plan.threads), work)
        self.meter.done()
        total = np.sum(all_counters, axis=0)
        self.report.update({name: int(total[counter]) for counter, name in _REPORTED.items()})
        return adders, sorted_keys(chains)

    def sums(self) -> tuple[SegmentSums, Keys]:
        """Aggregate all users. Returns the sums, and one key per chain and user, sorted."""
        make: Callable[[RequestPlan], _SegmentAdder] = DayAdder
        if self.plan.request.period_type == "renewals":
            make = RenewalAdder
        adders, chains = self.run(make)
        return reduce(add, (adder.sums() for adder in adders)), chains


def sorted_keys(pieces: Sequence[Keys]) -> Keys:
    """Concatenate keys, which are hashes, and sort them."""
    keys = np.concatenate(pieces)
    bits = max(1, keys.size.bit_length() - 3)
    result = np.empty_like(keys)
    if not sort_hashes(keys, bits, np.empty(1 << bits, np.int64), result):
        return np.sort(keys)
    return result
